//! What the paths do when something is wrong: a status that fits, and JSON that says what.

use raftwright_kv::api::ErrorKind;
use raftwright_kv::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use serde_json::json;
use std::sync::Arc;
use tokio::sync::Notify;

use crate::double::site;
use crate::raw::{Answer, exchange, get, send};

const JSON: &str = "content-type: application/json\r\n";

fn assert_error(answer: &Answer, status: u16, kind: &str, what: &str) {
    let body = answer.json();
    assert_eq!((answer.status, body["kind"].as_str()), (status, Some(kind)), "{what}: {body}");
    assert!(body["error"].as_str().is_some_and(|sentence| !sentence.is_empty()), "{what}: {body}");
    assert_eq!(body["leader"], json!({ "id": 1, "addr": "peer:1" }), "{what}");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let site = site().await;
    for (line, headers, body) in [
        ("PUT /kv/a", JSON, "{"),
        ("PUT /kv/a", JSON, r#"{"valu": "x"}"#),
        ("PUT /kv/a", JSON, r#"{"value": 1}"#),
        ("PUT /kv/a", JSON, r#"{"value": "x"} trailing"#),
        ("PUT /kv/a?if_revision=x", "", "v"),
        ("PUT /kv/a?if_revision=1&if_value=v", "", "v"),
        ("PUT /kv/a?unknown=1", "", "v"),
        ("DELETE /kv/a?if_revision=-1", "", ""),
        ("GET /kv/a?consistency=sloppy", "", ""),
        ("GET /kv?limit=0", "", ""),
        ("GET /kv?limit=1000000", "", ""),
        ("GET /kv?limit=x", "", ""),
        ("GET /kv/%ff", "", ""),
        ("POST /write", JSON, r#"{"Set": {"key": "a"}}"#),
        ("POST /write", JSON, r#"{"Set": {"key": "", "value": "x"}}"#),
        ("POST /write", JSON, r#"{"Get": {"key": "a"}}"#),
        ("POST /write", JSON, "\u{0}"),
        ("POST /read", JSON, "a"),
        ("POST /read", JSON, r#"["a"]"#),
        ("POST /init", JSON, "7"),
        ("POST /init", JSON, r#"[[1, "here"]]"#),
        ("POST /init", JSON, r#"[[1, "h:1"], [1, "h:2"]]"#),
        ("POST /add-learner", JSON, "[2]"),
        ("POST /add-learner", JSON, r#"[2, "h:0"]"#),
        ("POST /add-learner", JSON, r#"[-2, "h:1"]"#),
        ("POST /change-membership", JSON, "[]"),
        ("POST /change-membership", JSON, r#"["1"]"#),
        ("POST /change-membership?retan=true", JSON, "[1]"),
        ("POST /transfer-leader", JSON, "two"),
        ("POST /add-learner", JSON, r#"[0, "h:1"]"#),
        ("POST /init", JSON, r#"[[0, "h:1"]]"#),
        ("POST /member", JSON, r#"{"id": 2}"#),
        ("POST /member", JSON, r#"{"id": 0, "addr": "h:1"}"#),
        ("POST /member", JSON, r#"{"id": 1, "addr": "peer:1"}"#),
        ("POST /member", JSON, r#"{"id": 2, "addr": "h:1"}"#),
        ("POST /member", JSON, r#"{"id": 3, "addr": "peer:2"}"#),
        ("PUT /member/2", JSON, r#"{"id": 2, "addr": "h:1"}"#),
        ("PUT /member/2", JSON, r#"{"addr": "h:0"}"#),
        ("PUT /member/2", JSON, r#"{"addr": "peer:1"}"#),
        ("DELETE /member/two", "", ""),
    ] {
        let answer = send(&site.address, line, headers, body.as_bytes()).await;
        assert_error(&answer, 400, "bad_request", &format!("{line} {body}"));
    }
    assert!(site.node.calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn deep_json_does_not_overflow_the_stack() {
    let site = site().await;
    let body = "[".repeat(100_000);
    assert_error(&send(&site.address, "POST /init", JSON, body.as_bytes()).await, 400, "bad_request", "depth");
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let site = site().await;
    assert_error(&get(&site.address, "/nowhere").await, 404, "not_found", "path");
    let paths = get(&site.address, "/nowhere").await.json()["error"].as_str().unwrap().to_owned();
    assert!(paths.contains("/status") && paths.contains("/metrics"), "{paths}");
    let empty = get(&site.address, "/kv/").await.json()["error"].as_str().unwrap().to_owned();
    assert!(empty.contains("the key is empty"), "{empty}");
    assert_error(&get(&site.address, "/kv/").await, 404, "not_found", "empty key");
    assert_error(&get(&site.address, "/kv/missing").await, 404, "not_found", "key");
    let wrong = send(&site.address, "PATCH /kv/a", "", b"").await;
    assert_error(&wrong, 405, "method_not_allowed", "method");
    assert!(wrong.header("allow").is_some_and(|allow| allow.contains("PUT")), "{}", wrong.head);
}

#[tokio::test]
async fn what_is_too_long_is_refused() {
    let site = site().await;
    let (key, value) = ("k".repeat(KEY_BYTES_MAX), "v".repeat(VALUE_BYTES_MAX));
    let longest = send(&site.address, &format!("PUT /kv/{key}"), "", value.as_bytes()).await;
    assert_eq!(longest.status, 200, "the longest that is allowed");
    let set = |key: &str, value: &str| format!(r#"{{"Set": {{"key": "{key}", "value": "{value}"}}}}"#);
    for (line, headers, body, what) in [
        (format!("GET /kv/{key}k"), "", String::new(), "key in the path"),
        ("POST /write".to_owned(), JSON, set(&format!("{key}k"), "v"), "key in JSON"),
        ("POST /write".to_owned(), JSON, format!(r#"{{"Delete": {{"key": "{key}k"}}}}"#), "key of a deletion"),
        ("POST /read".to_owned(), JSON, format!(r#""{key}k""#), "key of a read"),
        ("PUT /kv/a".to_owned(), JSON, format!(r#"{{"value": "{value}v"}}"#), "value in JSON"),
        ("POST /write".to_owned(), JSON, set("a", &format!("{value}v")), "value in a write in JSON"),
    ] {
        // Whatever reaches the state machine comes to this, though it would refuse it too.
        site.node.fail_next(ErrorKind::Internal);
        assert_error(&send(&site.address, &line, headers, body.as_bytes()).await, 413, "too_large", what);
    }
}

#[tokio::test]
async fn a_body_that_announces_too_much_is_refused_before_it_comes() {
    let site = site().await;
    let head = format!("PUT /kv/a HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", VALUE_BYTES_MAX + 1);
    // Not a byte of the body is ever sent: a server that waited for it would never answer.
    assert_error(&exchange(&site.address, head.as_bytes()).await, 413, "too_large", "announced");
    let head = "POST /write HTTP/1.1\r\nhost: test\r\ncontent-length: 99999999999\r\n\r\n";
    assert_error(&exchange(&site.address, head.as_bytes()).await, 413, "too_large", "announced JSON");
}

#[tokio::test]
async fn a_body_of_no_announced_length_is_cut_at_the_limit() {
    let site = site().await;
    let mut request = b"PUT /kv/a HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let chunk = vec![b'v'; 64 << 10];
    for _ in 0..(VALUE_BYTES_MAX / chunk.len() + 1) {
        request.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        request.extend(&chunk);
        request.extend(b"\r\n");
    }
    // The last chunk never comes.
    assert_error(&exchange(&site.address, &request).await, 413, "too_large", "chunked");
}

#[tokio::test]
async fn each_outcome_of_the_cluster_has_its_status() {
    let site = site().await;
    for (kind, status, name) in [
        (ErrorKind::NotApplied, 503, "not_applied"),
        (ErrorKind::Unknown, 504, "unknown"),
        (ErrorKind::Unavailable, 503, "unavailable"),
        (ErrorKind::Internal, 500, "internal"),
        (ErrorKind::BadRequest, 400, "bad_request"),
        (ErrorKind::Conflict, 412, "conflict"),
    ] {
        site.node.fail_next(kind);
        let answer = send(&site.address, "PUT /kv/a", "", b"v").await;
        assert_error(&answer, status, name, "write");
        assert_eq!(answer.header("retry-after"), (status == 503).then_some("1"), "{name}");
        site.node.fail_next(kind);
        assert_error(&get(&site.address, "/kv/a").await, status, name, "read");
        site.node.fail_next(kind);
        assert_error(&send(&site.address, "POST /change-membership", JSON, b"[1]").await, status, name, "change");
    }
}

#[tokio::test]
async fn what_is_not_http_disturbs_nobody() {
    let site = site().await;
    for garbage in [&b"\x00\x01\x02\xff\xff\r\n\r\n"[..], b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"] {
        let answer = exchange(&site.address, garbage).await;
        assert_eq!(answer.status, 400, "{garbage:?}");
    }
    assert_eq!(get(&site.address, "/livez").await.status, 200);
}

#[tokio::test]
async fn stopping_lets_the_request_under_way_end() {
    let mut site = site().await;
    let hold = Arc::new(Notify::new());
    *site.node.hold.lock().unwrap() = Some(hold.clone());
    let address = site.address.clone();
    let writing = tokio::spawn(async move { send(&address, "PUT /kv/a", "", b"v").await });
    site.node.writes_seen.notified().await;
    site.stop.take().unwrap().stop();
    hold.notify_one();
    assert_eq!(writing.await.unwrap().status, 200);
    site.serving.await.unwrap();
    assert!(tokio::net::TcpStream::connect(&site.address).await.is_err(), "nothing is accepted any more");
}
