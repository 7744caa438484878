//! `raftwright data` on the directories of real servers, whole and damaged.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::process::{Process, refused, run, serve_args, until};

/// A value that can be found in the file.
const MARKED: &str = "a value that the disk will not keep";

fn data(args: &[&str]) -> (i32, String, String) {
    let output = run(&[&["data"], args].concat());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// A directory beside which there is room for copies, in which a server has written and stopped.
fn written() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d1");
    let server = Process::start(1, &path, &[]);
    assert!(run(&["init", "--endpoints", &server.http]).status.success());
    for (key, value) in [("first", "1"), ("marked", MARKED), ("last", "3")] {
        assert!(run(&["put", key, value, "--endpoints", &server.http]).status.success());
    }
    server.stop();
    (dir, path)
}

fn segment(dir: &Path) -> PathBuf {
    dir.join("wal/0000000001.seg")
}

/// Changes a bit of the marked value.
fn damage(dir: &Path) {
    let mut bytes = fs::read(segment(dir)).unwrap();
    let at = bytes.windows(MARKED.len()).position(|window| window == MARKED.as_bytes()).unwrap();
    bytes[at + 3] ^= 1;
    fs::write(segment(dir), bytes).unwrap();
}

#[test]
fn a_sound_log_is_shown() {
    let (_guard, dir) = written();
    let path = dir.to_str().unwrap();
    let (code, text, _) = data(&["inspect", path]);
    assert_eq!(code, 0);
    assert!(text.contains("server 1") && text.contains("0000000001.seg") && text.contains("ends with entry"), "{text}");
    let (code, text, _) = data(&["verify", path]);
    assert!(code == 0 && text.contains("sound"), "{text}");
    let (code, text, _) = data(&["dump", path]);
    assert!(code == 0 && text.contains(MARKED) && text.contains(r#""put":"last""#), "{text}");

    let (code, text, _) = data(&["dump", path, "-o", "json"]);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let put = lines.iter().find(|line| line["content"]["put"] == "marked").unwrap();
    assert_eq!((code, &put["content"]["value"], &put["verdict"]), (0, &MARKED.into(), &"good".into()));
    let index = put["log_id"]["index"].to_string();
    let (_, text, _) = data(&["dump", path, "--from", &index, "--to", &index]);
    assert!(text.contains("marked") && !text.contains(r#""put":"first""#), "{text}");

    let (_, text, _) = data(&["inspect", path, "-o", "json"]);
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&json["identity"]["node_id"], &json["error"]), (&1.into(), &Value::Null));
    let (code, text, _) = data(&["repair", path, "--yes"]);
    assert!(code == 0 && text.contains("nothing to repair"), "{text}");
    assert!(!dir.with_file_name("d1.damaged-1").exists(), "and no copy is made");
    Process::start(1, &dir, &[]).stop();
}

#[test]
fn a_damaged_log_is_refused_shown_and_cut() {
    let (_guard, dir) = written();
    damage(&dir);
    let (path, before) = (dir.to_str().unwrap(), fs::read(segment(&dir)).unwrap());
    let (code, message) = refused(&serve_args(1, &dir, "127.0.0.1:0", "127.0.0.1:0"));
    for named in ["0000000001.seg", "at offset", "(entry ", "raftwright data verify", "raftwright data repair"] {
        assert!(code == 1 && message.contains(named), "{named}: {message}");
    }

    let (code, text, error) = data(&["verify", path]);
    assert!(code == 6 && text.contains("(entry ") && error.contains("would refuse"), "{text}{error}");
    let (code, text, _) = data(&["verify", path, "-o", "json"]);
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &json["sound"]), (6, &false.into()));
    let index = json["damage"][0]["index"].as_u64().unwrap();
    let (code, text, _) = data(&["dump", path]);
    assert!(code == 6 && text.contains("damaged") && text.contains(r#""put":"last""#), "behind damage, too: {text}");
    assert_eq!(data(&["inspect", path]).0, 0);

    let (code, text, error) = data(&["repair", path]);
    assert!(code == 6 && error.contains("--yes"), "{error}");
    assert!(text.contains(&format!("dropped: entries {index} to {}", index + 1)), "{text}");
    assert_eq!(fs::read(segment(&dir)).unwrap(), before, "nothing was changed");

    let (code, text, error) = data(&["repair", path, "--yes"]);
    assert!(code == 0 && text.contains("stranger"), "{text}{error}");
    let copy = dir.with_file_name("d1.damaged-1");
    assert_eq!(fs::read(segment(&copy)).unwrap(), before, "the copy is what was there");
    let (code, text, _) = data(&["dump", path]);
    assert!(code == 0 && text.contains(r#""put":"first""#) && !text.contains(r#""put":"last""#), "{text}");
}

/// The only server of its cluster has nobody to take it in again.
#[test]
fn a_server_that_keeps_its_identity_serves_what_is_left() {
    let (_guard, dir) = written();
    damage(&dir);
    let path = dir.to_str().unwrap();
    let (code, text, error) = data(&["repair", path, "--yes", "--keep-identity", "-o", "json"]);
    assert_eq!(code, 0, "{text}{error}");
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&json["repaired"], &json["identity"]["node_id"]), (&true.into(), &1.into()));
    let server = Process::start(1, &dir, &[]);
    let get = |key| run(&["get", key, "--endpoints", &server.http]);
    assert_eq!(get("first").stdout, b"1\n");
    assert_eq!((get("marked").status.code(), get("last").status.code()), (Some(3), Some(3)));
    assert!(run(&["put", "next", "4", "--endpoints", &server.http]).status.success());
    server.stop();
}

#[test]
fn a_survivor_begins_a_new_cluster() {
    let (_guard, dir) = written();
    let path = dir.to_str().unwrap();
    let cluster = |text: &str| {
        let json: Value = serde_json::from_str(text).unwrap();
        json["identity"]["cluster_id"].as_str().unwrap().to_owned()
    };
    let (_, text, _) = data(&["inspect", path, "-o", "json"]);
    let old = cluster(&text);
    let new_cluster = ["new-cluster", path, "--peer-addr", "127.0.0.1:1"];
    let (code, text, error) = data(&new_cluster);
    assert!(code == 1 && text.contains("lost: ") && error.contains("--yes"), "{text}{error}");
    let (_, text, _) = data(&["inspect", path, "-o", "json"]);
    assert_eq!(cluster(&text), old, "nothing was changed");
    let (code, text, error) = data(&[&new_cluster[..], &["--yes", "-o", "json"]].concat());
    assert_eq!(code, 0, "{text}{error}");
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&json["begun"], json["old_cluster"].as_str()), (&true.into(), Some(old.as_str())));
    assert_ne!(cluster(&text), old);
    let (code, _, error) = data(&["new-cluster", path, "--peer-addr", "nowhere"]);
    assert!(code == 2 && error.contains("host:port"), "{error}");

    let server = Process::start(1, &dir, &[]);
    let at = |args: &[&str]| run(&[args, &["--endpoints", &server.http]].concat());
    assert_eq!(at(&["get", "last"]).stdout, b"3\n");
    assert!(at(&["put", "next", "4"]).status.success());
    assert_eq!(at(&["member", "list", "-o", "simple"]).stdout, b"1 127.0.0.1:1 yes\n");
    server.stop();
}

/// A log that was purged behind a snapshot is worth nothing without it.
#[test]
fn a_lost_snapshot_is_found_before_a_server_finds_it() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("d1");
    let server = Process::start(1, &dir, &["--snapshot-log-keep", "0"]);
    let at = |args: &[&str]| run(&[args, &["--endpoints", &server.http]].concat());
    for line in [&["init"][..], &["put", "first", "1"], &["put", "last", "2"], &["snapshot"], &["put", "more", "3"]] {
        assert!(at(line).status.success(), "{line:?}");
    }
    until(&mut || if purged(&server.http) > 0 { Ok(()) } else { Err("nothing is purged".to_owned()) });
    server.stop();

    let path = dir.to_str().unwrap();
    let (code, text, _) = data(&["verify", path]);
    assert!(code == 0 && text.contains("; the newest snapshot ends with entry "), "{text}");
    let (_, text, _) = data(&["inspect", path]);
    assert!(text.contains(".snap") && text.contains("SNAPSHOT"), "{text}");
    let snapshot = fs::read_dir(dir.join("snapshots")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&snapshot).unwrap();
    bytes[600] ^= 1;
    fs::write(&snapshot, &bytes).unwrap();
    // As a crash in the middle of a snapshot leaves it: the next start removes it, and nobody before.
    let unfinished = dir.join("snapshots/0000000009.tmp");
    fs::write(&unfinished, "half").unwrap();

    let new_cluster = ["new-cluster", path, "--peer-addr", "127.0.0.1:1", "--yes"];
    for command in [&["verify", path][..], &["dump", path], &["repair", path, "--yes"], &new_cluster] {
        let (code, text, error) = data(command);
        assert!(code == 6 && error.contains("is purged up to"), "{command:?}: {code} {text}{error}");
        assert!(error.contains("remove this server from the cluster"), "{error}");
    }
    let (code, text, _) = data(&["verify", path]);
    assert!(code == 6 && text.contains(".snap is damaged") && !text.contains("sound"), "{text}");
    let (_, text, _) = data(&["verify", path, "-o", "json"]);
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["sound"], false);
    assert!(json["snapshots"][0]["damage"].as_str().unwrap().contains("damaged"), "{json}");
    assert_eq!(data(&["inspect", path]).0, 0);
    assert_eq!((fs::read(&snapshot).unwrap(), unfinished.exists()), (bytes, true), "nothing was changed");
    let (code, message) = refused(&serve_args(1, &dir, "127.0.0.1:0", "127.0.0.1:0"));
    assert!(code == 1 && message.contains("under a new id"), "{message}");

    fs::remove_file(snapshot).unwrap();
    let (code, _, error) = data(&["verify", path]);
    assert!(code == 6 && error.contains("there is no sound snapshot"), "{error}");
}

/// How far the log of a running server is purged.
fn purged(http: &str) -> u64 {
    let mut stream = TcpStream::connect(http).unwrap();
    stream.write_all(b"GET /state HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let json: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    json["purged"].as_u64().unwrap()
}

#[test]
fn a_running_server_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(1, dir.path(), &[]);
    for command in ["inspect", "verify", "dump", "repair"] {
        let (code, _, error) = data(&[command, dir.path().to_str().unwrap()]);
        assert!(code == 1 && error.contains("stop that node first"), "{command}: {error}");
    }
    server.stop();
}

#[test]
fn what_is_asked_wrongly_is_said() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("letter.txt"), "dear").unwrap();
    let (path, missing) = (dir.path().to_str().unwrap(), dir.path().join("no"));
    for (args, code, named) in [
        (vec!["verify"], 2, "<DIR>"),
        (vec!["cut", path], 2, "unrecognized"),
        (vec!["repair", path, "--force"], 2, "--force"),
        (vec!["inspect", path, "--yes"], 2, "--yes"),
        (vec!["dump", path, "--from", "x"], 2, "--from"),
        (vec!["dump", path, "--from", "9", "--to", "3"], 2, "--to"),
        (vec!["verify", path], 1, "--data-dir"),
        (vec!["dump", path, "-o", "xml"], 2, "json"),
        (vec!["verify", missing.to_str().unwrap()], 1, "cannot list"),
        (vec!["verify", path], 1, "letter.txt"),
        (vec!["repair", path, "--yes"], 1, "not a data directory"),
    ] {
        let (found, _, error) = data(&args);
        assert!(found == code && error.contains(named), "{args:?}: {found} {error}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "and nothing is left there");
}
