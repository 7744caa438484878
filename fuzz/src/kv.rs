//! The key-value server: its commands, its snapshots, and what comes over HTTP.

use std::cell::RefCell;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use raftwright::{decode, encode};
use raftwright_kv::http::{App, router};
use raftwright_kv::store::{Answer, Command, Condition, KvStateMachine, Query};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[allow(dead_code, unused_imports, reason = "shared with the server's own tests, which use all of it")]
#[path = "../../crates/kv/tests/it/double.rs"]
mod double;

/// Most bytes of an answer that are waited for.
const ANSWER_LEN_MAX: u64 = 1 << 20;

pub(crate) fn command(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    match kind % 3 {
        0 => {
            let Ok(command) = decode::<Command>(bytes) else { return };
            let again: Command = decode(&encode(&command).expect("it was decoded")).expect("it was encoded");
            assert_eq!(again, command);
            // Whatever a client sends, the state machine answers to it.
            KvStateMachine::default().apply(command);
        }
        1 => {
            let Ok(query) = decode::<Query>(bytes) else { return };
            let again: Query = decode(&encode(&query).expect("it was decoded")).expect("it was encoded");
            assert_eq!(again, query);
            KvStateMachine::default().query(&query);
        }
        _ => {
            let Ok(answer) = decode::<Answer>(bytes) else { return };
            let again: Answer = decode(&encode(&answer).expect("it was decoded")).expect("it was encoded");
            assert_eq!(again, answer);
        }
    }
}

fn put(key: &str, value: &'static [u8]) -> Command {
    Command::Put { key: key.to_owned(), value: value.into(), condition: Condition::Revision(0) }
}

pub(crate) fn command_seeds() -> Vec<Vec<u8>> {
    let put = encode(&put("key", b"value")).expect("it is short");
    let scan = Query::Scan { prefix: "k".to_owned(), after: Some("key".to_owned()), limit: 10 };
    let scan = encode(&scan).expect("it is short");
    vec![[&[0], &put[..]].concat(), [&[1], &scan[..]].concat(), vec![2, 0, 1, 0]]
}

pub(crate) fn snapshot(data: &[u8]) {
    let Ok(machine) = KvStateMachine::read_snapshot(&mut &*data) else { return };
    let mut bytes = Vec::new();
    machine.write_snapshot(&mut bytes).expect("memory can be written");
    let again = KvStateMachine::read_snapshot(&mut &*bytes).expect("it was written");
    assert_eq!(again.revision(), machine.revision());
    let mut twice = Vec::new();
    again.write_snapshot(&mut twice).expect("memory can be written");
    assert_eq!(twice, bytes, "a state has one snapshot");
}

pub(crate) fn snapshot_seeds() -> Vec<Vec<u8>> {
    let mut machine = KvStateMachine::default();
    let mut seeds = Vec::new();
    for key in ["", "a", "b", "longer"] {
        machine.apply(put(key, b"value"));
        let mut bytes = Vec::new();
        machine.write_snapshot(&mut bytes).expect("memory can be written");
        seeds.push(bytes);
    }
    seeds
}

thread_local! {
    static RUNTIME: RefCell<tokio::runtime::Runtime> = RefCell::new(
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"),
    );
}

/// Bytes on a connection. There are answers, or the connection is closed; the server stands.
pub(crate) fn http(data: &[u8]) {
    RUNTIME.with_borrow(|runtime| runtime.block_on(serve(data)));
}

async fn serve(data: &[u8]) {
    let node = Arc::new(double::Double::default());
    let service = TowerToHyperService::new(router(App::new(node)));
    let (mut client, server) = tokio::io::duplex(1 << 16);
    let serving = async {
        // A connection may end in any way.
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), service).await;
    };
    let asking = async {
        let written = client.write_all(data).await.is_ok();
        let ended = client.shutdown().await.is_ok();
        let mut answer = Vec::new();
        let read = (&mut client).take(ANSWER_LEN_MAX).read_to_end(&mut answer).await;
        if written && ended && read.is_ok() && !answer.is_empty() {
            assert!(answer.starts_with(b"HTTP/1."), "{:?}", String::from_utf8_lossy(&answer));
        }
        drop(client);
    };
    tokio::join!(serving, asking);
}

pub(crate) fn http_seeds() -> Vec<Vec<u8>> {
    let request = |line: &str, body: &str| {
        let head = format!("{line} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n");
        let len = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
        format!("{head}{len}\r\n{body}").into_bytes()
    };
    vec![
        request("PUT /kv/key?if_revision=0", "value"),
        request("GET /kv/%6bey?consistency=stale", ""),
        request("GET /kv?prefix=k&limit=10&after=a", ""),
        request("POST /write", r#"{"Set":{"key":"a","value":"b"}}"#),
        request("POST /read", r#""a""#),
        request("POST /init", "{}"),
        request("POST /add-learner", r#"[4,"127.0.0.1:1"]"#),
        request("POST /change-membership", "[1,2,3]"),
        request("DELETE /member/4", ""),
        request("GET /state", ""),
    ]
}
