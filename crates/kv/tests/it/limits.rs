//! What happens at the bounds of the server.

use std::sync::Arc;

use raftwright_kv::limits::{HttpLimits, JSON_BODY_BYTES_MAX, SCAN_PAIRS_MAX};
use raftwright_kv::node::Node;
use raftwright_kv::store::{Command, Condition};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::double::{site, site_within};
use crate::raw::{exchange, get, send};

const JSON: &str = "content-type: application/json\r\n";

/// How many entries a learner may lack when it is promoted.
const LAG: u64 = 10_000;

/// How many members a request may name.
const MEMBERS: u64 = 64;

#[tokio::test]
async fn a_json_body_may_be_as_long_as_its_bound_and_no_longer() {
    let site = site().await;
    let write = r#"{"Set": {"key": "a", "value": "v"}}"#;
    let mut longest = write.as_bytes().to_vec();
    longest.resize(JSON_BODY_BYTES_MAX, b' ');
    assert_eq!(send(&site.address, "POST /write", JSON, &longest).await.status, 200);
    let head = format!("POST /write HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", JSON_BODY_BYTES_MAX + 1);
    // Not a byte of the body is sent: a server that waited for it would not answer.
    assert_eq!(exchange(&site.address, head.as_bytes()).await.status, 413);
}

#[tokio::test]
async fn a_scan_may_ask_for_as_many_pairs_as_its_bound_and_no_more() {
    let site = site().await;
    assert_eq!(get(&site.address, &format!("/kv?limit={SCAN_PAIRS_MAX}")).await.status, 200);
    assert_eq!(get(&site.address, &format!("/kv?limit={}", SCAN_PAIRS_MAX + 1)).await.status, 400);
}

#[tokio::test]
async fn an_address_may_be_as_long_as_a_name_with_its_port_and_no_longer() {
    let site = site().await;
    let longest = format!("{}:65535", "h".repeat(253));
    for (addr, status) in [(longest.clone(), 200), (format!("h{longest}"), 400)] {
        for (path, body) in [
            ("/add-learner", format!(r#"[2, "{addr}"]"#)),
            ("/member", format!(r#"{{"id": 2, "addr": "{addr}"}}"#)),
            ("/init", format!(r#"[[1, "{addr}"]]"#)),
        ] {
            let answer = send(&site.address, &format!("POST {path}"), JSON, body.as_bytes()).await;
            assert_eq!(answer.status, status, "{path} {}", addr.len());
        }
    }
    assert_eq!(site.node.calls.lock().unwrap().len(), 3, "what is refused changes nothing");
}

#[tokio::test]
async fn a_request_may_name_as_many_members_as_its_bound_and_no_more() {
    let site = site().await;
    for (count, status) in [(MEMBERS, 200), (MEMBERS + 1, 400)] {
        let members: Vec<(u64, String)> = (1..=count).map(|id| (id, format!("h:{id}"))).collect();
        let voters: Vec<u64> = (1..=count).collect();
        let init = serde_json::to_vec(&members).unwrap();
        assert_eq!(send(&site.address, "POST /init", JSON, &init).await.status, status, "{count}");
        let change = serde_json::to_vec(&voters).unwrap();
        assert_eq!(send(&site.address, "POST /change-membership", JSON, &change).await.status, status, "{count}");
    }
    assert_eq!(site.node.calls.lock().unwrap().len(), 2, "what is refused changes nothing");
}

#[tokio::test]
async fn a_learner_is_promoted_if_it_lacks_no_more_than_the_bound() {
    let site = site().await;
    let write = async || {
        let command = Command::Put { key: "k".into(), value: "v".into(), condition: Condition::Always };
        site.node.write(command).await.unwrap();
    };
    // It has the first entry, and the leader that and so many more.
    *site.node.matched.lock().unwrap() = 1;
    for _ in 0..1 + LAG {
        write().await;
    }
    assert_eq!(send(&site.address, "POST /member/2/promote", "", b"").await.status, 200);
    write().await;
    let refused = send(&site.address, "POST /member/2/promote", "", b"").await;
    assert_eq!((refused.status, refused.json()["kind"].as_str()), (503, Some("not_applied")));
    assert_eq!(*site.node.calls.lock().unwrap(), ["change_membership {1, 2} true"]);
}

#[tokio::test]
async fn a_request_beyond_the_bound_is_refused_as_busy_and_was_surely_not_applied() {
    let site = site_within(HttpLimits { requests_max: 2, ..HttpLimits::default() }).await;
    let hold = Arc::new(Notify::new());
    *site.node.hold.lock().unwrap() = Some(hold.clone());
    let mut writing = Vec::new();
    for _ in 0..2 {
        let address = site.address.clone();
        writing.push(tokio::spawn(async move { send(&address, "PUT /kv/a", "", b"v").await }));
        site.node.writes_seen.notified().await;
    }
    let refused = send(&site.address, "PUT /kv/b", "", b"v").await;
    assert_eq!((refused.status, refused.json()["kind"].as_str()), (503, Some("not_applied")));
    assert_eq!(refused.header("retry-after"), Some("1"));
    *site.node.hold.lock().unwrap() = None;
    hold.notify_waiters();
    for written in writing {
        assert_eq!(written.await.unwrap().status, 200);
    }
    assert_eq!(get(&site.address, "/kv/b").await.status, 404, "there is room again, and it was not applied");
}

/// One request on a connection that stays open, and its status.
async fn ask(stream: &mut TcpStream) -> u16 {
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(answer).unwrap().to_lowercase();
    let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    stream.read_exact(&mut vec![0; len]).await.unwrap();
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_connection_beyond_the_bound_waits_until_another_closes() {
    let site = site_within(HttpLimits { connections_max: 2, ..HttpLimits::default() }).await;
    let connect = || TcpStream::connect(&site.address);
    let (mut first, mut second) = (connect().await.unwrap(), connect().await.unwrap());
    assert_eq!((ask(&mut first).await, ask(&mut second).await), (200, 200));
    // The kernel has completed it, and nobody has taken it up.
    let mut third = connect().await.unwrap();
    let waiting = ask(&mut third);
    tokio::pin!(waiting);
    tokio::select! {
        biased;
        status = &mut waiting => panic!("answered {status} although there is no place"),
        () = async {
            for _ in 0..20 {
                assert_eq!((ask(&mut first).await, ask(&mut second).await), (200, 200));
            }
        } => {}
    }
    drop(first);
    assert_eq!(waiting.await, 200);
}
