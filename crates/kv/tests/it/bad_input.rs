//! What a server is given and cannot use: it ends with a code other than 0 and one sentence that says what and where; or,
//! if it comes over the network, the connection is closed and nothing else happens.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use crate::process::{Process, refused, run, serve_args};

const ANY: &str = "127.0.0.1:0";

#[test]
fn a_port_in_use_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind(ANY).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (peer, http) in [(ANY, address.as_str()), (address.as_str(), ANY)] {
        let (code, sentence) = refused(&serve_args(1, &dir.path().join("d"), peer, http));
        assert_eq!(code, 1, "{sentence}");
        assert!(sentence.contains(&address) && sentence.contains("in use"), "{sentence}");
    }
}

/// An address that is none, and one that another machine has (RFC 5737 gives it to none).
#[test]
fn an_address_that_cannot_be_listened_on_is_named_with_what_would_do() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("d");
    for (peer, http) in [(ANY, "192.0.2.1:8001"), ("192.0.2.1:21001", ANY)] {
        let (code, sentence) = refused(&serve_args(1, &data, peer, http));
        assert_eq!(code, 1, "{sentence}");
        assert!(sentence.contains("192.0.2.1") && sentence.contains("0.0.0.0:PORT"), "{sentence}");
        assert!(!sentence.contains("process that uses it"), "nobody does: {sentence}");
    }
    for (peer, http) in [(ANY, "localhost:8001"), ("127.0.0.1", ANY)] {
        let output = run(&serve_args(1, &data, peer, http).iter().map(String::as_str).collect::<Vec<_>>());
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), text.contains("like 127.0.0.1:21001")), (Some(2), true), "{text}");
    }
}

#[test]
fn a_data_directory_in_use_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("d");
    let first = Process::start(1, &data, &[]);
    let (code, sentence) = refused(&serve_args(1, &data, ANY, ANY));
    assert_eq!(code, 1, "{sentence}");
    assert!(sentence.contains(data.to_str().unwrap()) && sentence.contains("locked"), "{sentence}");
    first.stop();
}

#[test]
fn a_directory_of_something_else_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.tex"), "do not touch").unwrap();
    let (code, sentence) = refused(&serve_args(1, dir.path(), ANY, ANY));
    assert_eq!(code, 1, "{sentence}");
    assert!(sentence.contains("thesis.tex"), "{sentence}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was added");
}

#[test]
fn another_server_s_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    Process::start(1, dir.path(), &[]).stop();
    let (code, sentence) = refused(&serve_args(2, dir.path(), ANY, ANY));
    assert_eq!(code, 1, "{sentence}");
    assert!(sentence.contains("node 1") && sentence.contains("node 2"), "{sentence}");
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let data = file.join("d");
    let (code, sentence) = refused(&serve_args(1, &data, ANY, ANY));
    assert_eq!(code, 1, "{sentence}");
    assert!(sentence.contains(data.to_str().unwrap()), "{sentence}");
    let (code, sentence) = refused(&serve_args(1, &file, ANY, ANY));
    assert_eq!((code, sentence.contains("is a file")), (1, true), "{sentence}");
}

#[test]
fn a_damaged_log_is_refused_with_file_and_offset() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(1, dir.path(), &[]);
    assert!(run(&["init", "--endpoints", &server.http]).status.success());
    let mark = "a value that can be found again";
    for key in ["a", "b", "c"] {
        assert!(run(&["put", key, &format!("{mark} {key}"), "--endpoints", &server.http]).status.success());
    }
    server.stop();
    let segment = damage(&dir.path().join("wal"), format!("{mark} a").as_bytes());
    let (code, sentence) = refused(&serve_args(1, dir.path(), ANY, ANY));
    assert_eq!(code, 1, "{sentence}");
    assert!(sentence.contains(&segment) && sentence.contains("offset"), "{sentence}");
}

/// Flips a bit in the first of these bytes in a segment, and returns the segment's file name.
fn damage(wal: &Path, bytes: &[u8]) -> String {
    for entry in fs::read_dir(wal).unwrap() {
        let path = entry.unwrap().path();
        let mut contents = fs::read(&path).unwrap();
        if let Some(at) = contents.windows(bytes.len()).position(|window| window == bytes) {
            contents[at] ^= 1;
            fs::write(&path, contents).unwrap();
            return path.file_name().unwrap().to_str().unwrap().to_owned();
        }
    }
    panic!("no segment holds the entry");
}

#[test]
fn flags_that_do_not_fit_together_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let base = serve_args(1, &dir.path().join("d"), ANY, ANY);
    for (more, named) in [
        (&["--initial-cluster", "2=h:1,3=h:2"][..], "1=HOST:PORT"),
        (&["--initial-cluster", "1=h:1,1=h:2"], "twice"),
        (&["--heartbeat-interval", "100ms", "--election-timeout", "499ms"], "--election-timeout"),
    ] {
        let args: Vec<String> = base.iter().cloned().chain(more.iter().map(|arg| (*arg).to_owned())).collect();
        let (code, sentence) = refused(&args);
        assert_eq!(code, 2, "{sentence}");
        assert!(sentence.contains(named), "{sentence}");
    }
    assert!(!dir.path().join("d").exists(), "a wrong flag must not leave a data directory");
}

#[test]
fn garbage_on_the_peer_port_closes_the_connection_and_disturbs_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(1, dir.path(), &[]);
    assert!(run(&["init", "--endpoints", &server.http]).status.success());
    let mut froms = Vec::new();
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], &[0; 64], b"RWF"] {
        let mut stream = TcpStream::connect(&server.peer).unwrap();
        froms.push(stream.local_addr().unwrap().to_string());
        // The server may close before all is sent.
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        // It ends: with the end of the stream, or a reset if bytes were left unread.
        let _ = stream.read_to_end(&mut Vec::new());
    }
    let put = run(&["put", "still", "here", "--endpoints", &server.http]);
    assert!(put.status.success(), "{}", String::from_utf8_lossy(&put.stderr));
    let log = server.stop();
    assert!(log.contains(&froms[0]), "the peer's address {} is not in the log:\n{log}", froms[0]);
    assert!(!log.contains("panicked"), "{log}");
}
