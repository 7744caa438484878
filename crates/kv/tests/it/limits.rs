//! What happens at the bounds of the server.

use std::sync::Arc;

use raftwright_kv::limits::{
    CLIENT_ANSWER_BYTES_MAX, HttpLimits, JSON_BODY_BYTES_MAX, KEY_BYTES_MAX, SCAN_BYTES_MAX, SCAN_PAIRS_MAX,
    VALUE_BYTES_MAX,
};
use raftwright_kv::node::Node;
use raftwright_kv::store::{Command, Condition};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::double::{site, site_within};
use crate::process::run;
use crate::raw::{exchange, get, send};

const JSON: &str = "content-type: application/json\r\n";

/// How many entries a learner may lack when it is promoted.
const LAG: u64 = 10_000;

/// How many members a request may name.
const MEMBERS: u64 = 64;

/// What clients may rely on. The numbers stand here once more, on purpose: whoever changes one changes a promise.
#[test]
fn the_bounds_that_clients_meet_are_these() {
    assert_eq!((KEY_BYTES_MAX, VALUE_BYTES_MAX), (4_096, 1_048_576));
    assert_eq!(JSON_BODY_BYTES_MAX, 2_113_536);
    assert_eq!((SCAN_PAIRS_MAX, SCAN_BYTES_MAX), (10_000, 8_388_608));
    assert_eq!(CLIENT_ANSWER_BYTES_MAX, 67_108_864);
    assert_eq!(HttpLimits::default(), HttpLimits { connections_max: 4_096, requests_max: 2_048 });
}

#[tokio::test]
async fn a_json_body_may_be_as_long_as_its_bound_and_no_longer() {
    let site = site().await;
    let write = r#"{"Set": {"key": "a", "value": "v"}}"#;
    let mut longest = write.as_bytes().to_vec();
    longest.resize(JSON_BODY_BYTES_MAX, b' ');
    assert_eq!(send(&site.address, "POST /write", JSON, &longest).await.status, 200);
    // Not a byte of the body is sent: a server that waited for it would not answer so.
    let too_long = format!("{JSON}content-length: {}\r\n\r\n", JSON_BODY_BYTES_MAX + 1);
    let lines = [
        "PUT /kv/a",
        "POST /write",
        "POST /read",
        "POST /init",
        "POST /add-learner",
        "POST /member",
        "POST /change-membership",
        "POST /transfer-leader",
    ];
    for line in lines {
        let head = format!("{line} HTTP/1.1\r\nhost: test\r\n{too_long}");
        assert_eq!(exchange(&site.address, head.as_bytes()).await.status, 413, "{line}");
    }
}

#[tokio::test]
async fn a_scan_may_ask_for_as_many_pairs_as_its_bound_and_no_more() {
    let site = site().await;
    assert_eq!(get(&site.address, &format!("/kv?limit={SCAN_PAIRS_MAX}")).await.status, 200);
    assert_eq!(get(&site.address, &format!("/kv?limit={}", SCAN_PAIRS_MAX + 1)).await.status, 400);
}

/// Whoever asks the command line for more gets it in pages, since the server refuses a larger one.
#[tokio::test]
async fn a_longer_scan_goes_in_pages_of_the_bound() {
    let site = site().await;
    for key in 0..SCAN_PAIRS_MAX + 2 {
        let (key, value) = (format!("{key:05}"), "v".into());
        site.node.write(Command::Put { key, value, condition: Condition::Always }).await.unwrap();
    }
    let limit = (SCAN_PAIRS_MAX + 1).to_string();
    let args = ["scan", "--limit", &limit, "-o", "simple", "--endpoints", &site.address].map(str::to_owned);
    let scan = move || run(&args.each_ref().map(String::as_str));
    let output = tokio::task::spawn_blocking(scan).await.unwrap();
    let keys = String::from_utf8(output.stdout).unwrap();
    assert_eq!(keys.lines().count(), SCAN_PAIRS_MAX + 1, "{}", String::from_utf8_lossy(&output.stderr));
    assert!(keys.ends_with("10000 v 10001\n"), "{:?}", keys.lines().next_back());
}

#[tokio::test]
async fn an_address_may_be_as_long_as_a_name_with_its_port_and_no_longer() {
    let site = site().await;
    let longest = format!("{}:65535", "h".repeat(253));
    for (addr, status) in [(longest.clone(), 200), (format!("h{longest}"), 400)] {
        for (path, body) in [
            ("/add-learner", format!(r#"[2, "{addr}"]"#)),
            ("/member", format!(r#"{{"id": 3, "addr": "{addr}"}}"#)),
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
    assert_eq!(*site.node.calls.lock().unwrap(), ["add_voter 2"]);
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
    let refused = tokio::select! {
        biased;
        () = site.node.writes_seen.notified() => panic!("a request too many is let in"),
        refused = send(&site.address, "PUT /kv/b", "", b"v") => refused,
    };
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
