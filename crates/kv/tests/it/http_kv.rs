//! What the paths do when all goes well.

use raftwright_kv::client::{Client, WriteCondition};
use serde_json::json;
use std::time::Duration;

use crate::double::site;
use crate::raw::{get, send};

const JSON: &str = "content-type: application/json\r\n";

#[tokio::test]
async fn a_value_goes_in_raw_or_as_json_and_comes_back_with_its_revision() {
    let site = site().await;
    let put = send(&site.address, "PUT /kv/a", "", b"hello").await;
    assert_eq!(put.status, 200);
    let leader = json!({ "id": 1, "addr": "peer:1" });
    assert_eq!(
        put.json(),
        json!({ "key": "a", "revision": 1, "previous": null, "term": 3, "applied": 1, "leader": leader })
    );
    let put = send(&site.address, "PUT /kv/a", JSON, br#"{"value": "hello again"}"#).await;
    assert_eq!((put.status, &put.json()["previous"]), (200, &json!(1)));
    let answer = get(&site.address, "/kv/a?consistency=linearizable").await;
    assert_eq!(answer.json()["value"], "hello again");
    assert_eq!(answer.json()["revision"], 2);
    let stale = get(&site.address, "/kv/a?consistency=stale").await;
    assert_eq!(stale.body, answer.body);
}

#[tokio::test]
async fn every_answer_tells_where_the_server_stands() {
    let site = site().await;
    for path in ["/kv", "/state", "/nowhere", "/kv/missing", "/version"] {
        let answer = get(&site.address, path).await;
        let stands = ["raftwright-term", "raftwright-applied", "raftwright-leader"].map(|name| answer.header(name));
        assert_eq!(stands, [Some("3"), Some("0"), Some("1")], "{path}");
    }
}

#[tokio::test]
async fn a_value_that_is_not_text_comes_back_as_it_is_or_in_base64() {
    let site = site().await;
    send(&site.address, "PUT /kv/bin", "", &[0xff, 0xfe, 0x00]).await;
    let answer = get(&site.address, "/kv/bin").await.json();
    assert_eq!((answer.get("value"), &answer["value_base64"]), (None, &json!("//4A")));
    let raw = send(&site.address, "GET /kv/bin", "accept: application/octet-stream\r\n", b"").await;
    assert_eq!((raw.body.as_slice(), raw.header("raftwright-revision")), (&[0xff, 0xfe, 0x00][..], Some("1")));
}

#[tokio::test]
async fn keys_are_any_text() {
    let site = site().await;
    let mut client = Client::new([site.address.clone()], Duration::from_secs(60));
    for key in ["a/b/c", "with space", "?&=#%", "ключ", ".."] {
        client.put(key, "1".into(), WriteCondition::default()).await.unwrap();
        assert_eq!(client.get(key, false).await.unwrap().map(|(value, _)| value), Some("1".into()), "{key}");
    }
    let page = client.scan("", None, 10, false).await.unwrap();
    assert_eq!(page.pairs.len(), 5);
    assert_eq!(client.get("a/b", false).await.unwrap(), None);
}

#[tokio::test]
async fn a_write_can_be_conditional() {
    let site = site().await;
    let put = async |query: &str| send(&site.address, &format!("PUT /kv/a{query}"), "", b"x").await;
    assert_eq!(put("?if_revision=0").await.status, 200);
    let refused = put("?if_revision=0").await;
    assert_eq!(
        (refused.status, &refused.json()["kind"], &refused.json()["found"]),
        (412, &json!("conflict"), &json!(1))
    );
    assert_eq!(put("?if_value=y").await.status, 412);
    assert_eq!(put("?if_value=x").await.status, 200);
    assert_eq!(send(&site.address, "DELETE /kv/a?if_revision=1", "", b"").await.status, 412);
    assert_eq!(send(&site.address, "DELETE /kv/a?if_revision=2", "", b"").await.status, 200);
    let refused = put("?if_revision=2").await;
    assert_eq!((refused.status, &refused.json()["found"]), (412, &json!(null)));
}

#[tokio::test]
async fn a_scan_goes_in_pages() {
    let site = site().await;
    for key in ["a/1", "a/2", "a/3", "b/1"] {
        send(&site.address, &format!("PUT /kv/{key}"), "", b"v").await;
    }
    let page = get(&site.address, "/kv?prefix=a/&limit=2").await.json();
    assert_eq!((page["pairs"].as_array().unwrap().len(), &page["more"]), (2, &json!(true)));
    let page = get(&site.address, "/kv?prefix=a/&limit=2&after=a/2").await.json();
    assert_eq!((&page["pairs"][0]["key"], &page["more"]), (&json!("a/3"), &json!(false)));
}

#[tokio::test]
async fn the_reference_s_paths_do_what_the_guide_says() {
    let site = site().await;
    let post = async |path: &str, body: &str| send(&site.address, &format!("POST {path}"), JSON, body.as_bytes()).await;
    for (path, body) in [
        ("/init", ""),
        ("/init", r#"[[1, "127.0.0.1:21001"], [2, "127.0.0.1:21002"]]"#),
        ("/add-learner", r#"[2, "127.0.0.1:21002"]"#),
        ("/change-membership", "[1, 2]"),
        ("/change-membership?retain=true", "[1]"),
        ("/transfer-leader", "2"),
    ] {
        assert_eq!(post(path, body).await.status, 200, "{path} {body}");
    }
    assert_eq!(
        *site.node.calls.lock().unwrap(),
        [
            "initialize {}",
            r#"initialize {1: "127.0.0.1:21001", 2: "127.0.0.1:21002"}"#,
            "add_learner 2 127.0.0.1:21002",
            "change_membership {1, 2} false",
            "change_membership {1} true",
            "transfer_leader 2",
        ]
    );
    assert_eq!(post("/write", r#"{"Set": {"key": "foo", "value": "bar"}}"#).await.status, 200);
    assert_eq!(post("/read", r#""foo""#).await.json(), json!("bar"));
    assert_eq!(post("/write", r#"{"Delete": {"key": "foo"}}"#).await.status, 200);
    assert_eq!(post("/read", r#""foo""#).await.status, 404);
    let nodes = json!({ "1": { "addr": "peer:1", "voter": true }, "2": { "addr": "peer:2", "voter": false } });
    assert_eq!(post("/list-nodes", "").await.json(), nodes);
    assert_eq!(get(&site.address, "/list-nodes").await.json(), nodes);
}

#[tokio::test]
async fn members_are_promoted_and_removed_by_what_they_are() {
    let site = site().await;
    let send = async |line: &str| send(&site.address, line, "", b"").await.status;
    assert_eq!(send("POST /member/2/promote").await, 503, "it was never reached");
    *site.node.matched.lock().unwrap() = 7;
    assert_eq!(send("POST /member/2/promote").await, 200);
    assert_eq!(send("POST /member/1/promote").await, 200, "it votes already: said twice is said");
    assert_eq!(send("POST /member/9/promote").await, 404);
    assert_eq!(send("DELETE /member/2").await, 200);
    assert_eq!(send("DELETE /member/1").await, 400, "it is the last voter");
    assert_eq!(send("DELETE /member/9").await, 404);
    assert_eq!(*site.node.calls.lock().unwrap(), ["add_voter 2", "add_voter 1", "remove_learner 2"]);
}

/// The asked server may have missed changes. To tell the leader all the voters that it has heard of would undo those.
#[tokio::test]
async fn a_change_of_one_member_names_no_other() {
    let site = site().await;
    *site.node.matched.lock().unwrap() = 7;
    *site.node.voters.lock().unwrap() = 3;
    let send = async |line: &str| send(&site.address, line, "", b"").await.status;
    assert_eq!(send("DELETE /member/1").await, 200);
    assert_eq!(send("POST /member/4/promote").await, 200);
    assert_eq!(*site.node.calls.lock().unwrap(), ["remove_voter 1", "add_voter 4"]);
}

#[tokio::test]
async fn a_member_that_moves_stays_what_it_is() {
    let site = site().await;
    let send = async |line: &str, body: &str| send(&site.address, line, JSON, body.as_bytes()).await.status;
    assert_eq!(send("PUT /member/1", r#"{"addr": "h:1"}"#).await, 200);
    assert_eq!(send("PUT /member/9", r#"{"addr": "h:1"}"#).await, 404);
    assert_eq!(send("POST /member", r#"{"id": 2, "addr": "peer:2"}"#).await, 200, "said twice is said");
    assert_eq!(send("POST /member", r#"{"id": 3, "addr": "h:3"}"#).await, 200);
    let calls = ["add_learner 1 h:1", "add_learner 2 peer:2", "add_learner 3 h:3"];
    assert_eq!(*site.node.calls.lock().unwrap(), calls);
}

#[tokio::test]
async fn metrics_are_json_or_what_prometheus_reads() {
    let site = site().await;
    assert_eq!(get(&site.address, "/metrics").await.json(), json!({ "id": 1 }));
    let text = send(&site.address, "GET /metrics", "accept: text/plain;version=0.0.4, */*\r\n", b"").await;
    let text = String::from_utf8(text.body).unwrap();
    for line in ["raftwright_is_leader 1", "raftwright_term 3", "raftwright_replication_lag_entries{peer=\"2\"} 0"] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn health_says_what_is_wrong() {
    let site = site().await;
    for path in ["/livez", "/readyz", "/readyz?verbose", "/health"] {
        assert_eq!(get(&site.address, path).await.status, 200, "{path}");
    }
    assert_eq!(get(&site.address, "/readyz?verbose").await.json()["checks"].as_array().unwrap().len(), 3);
}
