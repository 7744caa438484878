//! The life of a server, and of those that start it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::process::{PATIENCE, Process, insist, raftwright, run, said, until};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_command_line_goes_all_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(1, dir.path(), &[]);
    let at = |args: &[&str]| run(&[args, &["--endpoints", &server.http]].concat());
    for early in [&["put", "a", "1"][..], &["get", "a"], &["member", "add", "2", "127.0.0.1:1"]] {
        let early = at(early);
        assert_eq!(early.status.code(), Some(1), "a blank server takes no writes");
        assert!(text(&early.stderr).contains("`raftwright init`"), "{}", text(&early.stderr));
    }
    let peer = run(&["get", "a", "--endpoints", &server.peer]);
    assert!(text(&peer.stderr).contains("--http-listen"), "{}", text(&peer.stderr));
    assert!(at(&["init"]).status.success());
    let again = at(&["init"]);
    assert_eq!((again.status.code(), text(&again.stderr).contains("already")), (Some(1), true));

    assert_eq!(text(&at(&["put", "a", "one"]).stdout), "revision 1\n");
    assert_eq!(text(&at(&["get", "a"]).stdout), "one\n");
    let json: Value = serde_json::from_slice(&at(&["get", "a", "-o", "json"]).stdout).unwrap();
    assert_eq!((&json["value"], &json["revision"]), (&"one".into(), &1.into()));
    assert_eq!(at(&["get", "b"]).status.code(), Some(3));
    assert_eq!(at(&["put", "a", "two", "--if-revision", "7"]).status.code(), Some(4));
    assert_eq!(text(&at(&["put", "a", "two", "--if-revision", "1"]).stdout), "revision 2\n");
    assert_eq!(text(&at(&["scan", "-o", "simple"]).stdout), "a two 2\n");
    assert!(at(&["del", "a"]).status.success());
    assert_eq!(at(&["del", "a"]).status.code(), Some(3));

    let status = text(&at(&["status"]).stdout);
    let (heading, row) = status.split_once('\n').unwrap();
    assert_eq!(heading.split_whitespace().collect::<String>(), "IDADDRESSROLETERMLASTLOGCOMMITAPPLIEDSNAPSHOTLAG");
    assert!(row.contains("leader") && row.contains(&server.peer), "{row}");
    let members = text(&at(&["member", "list", "-o", "simple"]).stdout);
    assert_eq!(members, format!("1 {} yes\n", server.peer));
    let bytes = [0xff, 0xfe, 0];
    let mut put = raftwright();
    put.args(["put", "bytes", "-", "--endpoints", &server.http]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut put = put.spawn().unwrap();
    put.stdin.take().unwrap().write_all(&bytes).unwrap();
    assert!(put.wait().unwrap().success());
    let json: Value = serde_json::from_slice(&at(&["get", "bytes", "-o", "json"]).stdout).unwrap();
    assert_eq!((&json["value_base64"], &json["value"]), (&"//4A".into(), &Value::Null), "not a byte is lost");
    assert!(text(&at(&["get", "bytes", "-o", "table"]).stdout).contains("base64://4A"));
    assert_eq!(at(&["get", "bytes"]).stdout, [&bytes[..], b"\n"].concat());
    let nobody = run(&["get", "a", "--endpoints", "127.0.0.1:1"]);
    assert_eq!((nobody.status.code(), text(&nobody.stderr).contains("--endpoints")), (Some(1), true));
}

#[test]
fn what_was_written_is_there_after_a_stop_and_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(1, dir.path(), &[]);
    assert!(run(&["init", "--endpoints", &server.http]).status.success());
    assert!(run(&["put", "a", "1", "--endpoints", &server.http]).status.success());
    server.stop();
    let server = Process::start(1, dir.path(), &[]);
    assert_eq!(text(&run(&["get", "a", "--endpoints", &server.http]).stdout), "1\n");
    assert!(run(&["put", "b", "2", "--endpoints", &server.http]).status.success());
    server.signal("-KILL");
    server.wait();
    let server = Process::start(1, dir.path(), &[]);
    assert_eq!(text(&run(&["get", "a", "--endpoints", &server.http]).stdout), "1\n");
    assert_eq!(text(&run(&["get", "b", "--endpoints", &server.http]).stdout), "2\n");
    server.stop();
}

/// On a busy machine a leader may lose its place at any moment, and a command may end without knowing what has become of it. So
/// each is given until it succeeds, and what follows from it is awaited.
#[test]
fn members_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let mut servers: Vec<Process> =
        (1..=3).map(|id| Process::start(id, &dir.path().join(id.to_string()), &[])).collect();
    let endpoints: Vec<&str> = servers.iter().map(|server| server.http.as_str()).collect();
    // The second server is asked, which seldom leads: it forwards.
    let (first, all) = (endpoints[0].to_owned(), endpoints[1..].join(","));
    let at = |args: &[&str]| insist(&[args, &["--endpoints", &all]].concat());
    assert!(run(&["init", "--endpoints", &first]).status.success());
    for id in ["2", "3"] {
        let peer = &servers[id.parse::<usize>().unwrap() - 1].peer;
        insist(&["member", "add", id, peer, "--endpoints", &first]);
        // Until the learner has been reached, it is not promoted.
        insist(&["member", "promote", id, "--endpoints", &first]);
    }
    at(&["put", "a", "1"]);
    // A voter takes over, if it has not been elected anyhow.
    until(&mut || {
        let status = at(&["status", "-o", "simple"]);
        match status.lines().any(|line| line.starts_with("3 ") && line.contains(" leader ")) {
            true => Ok(()),
            false => Err(format!("{status}{}", said(&["transfer-leader", "3", "--endpoints", &all]))),
        }
    });
    at(&["put", "a", "2"]);
    let members = format!("2 {} yes\n3 {} yes\n", servers[1].peer, servers[2].peer);
    until(&mut || {
        let list = at(&["member", "list", "-o", "simple"]);
        match list == members {
            true => Ok(()),
            false => Err(format!("{list}{}", said(&["member", "remove", "1", "--endpoints", &all]))),
        }
    });
    servers.remove(0).stop();
    let status = at(&["status", "-o", "simple"]);
    assert_eq!(status.lines().count(), 2, "server 1 is no member any more: {status}");
    assert_eq!(at(&["get", "a"]), "2\n");

    // A learner is started at another address, with what it had.
    let fourth = Process::start(4, &dir.path().join("4"), &[]);
    at(&["member", "add", "4", &fourth.peer]);
    let fourth_becomes = |state: &str| {
        until(&mut || {
            let status = at(&["status", "-o", "simple"]);
            match status.lines().any(|line| line.starts_with("4 ") && line.contains(state)) {
                true => Ok(()),
                false => Err(format!("the fourth server is not {state}:\n{status}")),
            }
        });
    };
    fourth_becomes(" learner ");
    fourth.stop();
    fourth_becomes(" unreachable ");
    assert!(at(&["status"]).lines().any(|line| line.starts_with("server 4: ")), "and why");
    let fourth = Process::start(4, &dir.path().join("4"), &[]);
    at(&["member", "move", "4", &fourth.peer]);
    fourth_becomes(" learner ");
    servers.push(fourth);
    for server in servers {
        server.stop();
    }
}

/// It is connected to, and never says a word.
#[test]
fn a_question_that_nobody_answers_has_changed_nothing() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = silent.local_addr().unwrap().to_string();
    // Where the machine stands still before the connection is there, nothing is sent: that is another story.
    let at = |args: &[&str]| {
        let mut outputs = (0..100).map(|_| run(&[args, &["--endpoints", &addr, "--timeout", "50ms"]].concat()));
        outputs.find(|output| !text(&output.stderr).contains("cannot connect")).expect("one of a hundred is sent")
    };
    for question in [&["get", "a"][..], &["scan"], &["status"], &["member", "list"]] {
        let output = at(question);
        let said = text(&output.stderr);
        assert_eq!(
            (output.status.code(), said.contains("nothing was changed")),
            (Some(1), true),
            "{question:?}: {said}"
        );
    }
    for change in [&["put", "a", "1"][..], &["del", "a"], &["member", "remove", "1"], &["member", "move", "1", "h:1"]] {
        let output = at(change);
        let said = text(&output.stderr);
        assert_eq!((output.status.code(), said.contains("may have been done")), (Some(5), true), "{change:?}: {said}");
    }
}

#[test]
fn a_server_dies_with_whoever_started_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Process::start(1, dir.path(), &[]);
    server.close_stdin();
    let (code, log) = server.wait();
    assert_eq!(code, 1, "{log}");
}

#[test]
fn the_demo_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let output = raftwright().args(["demo", "--writes", "400"]).env("TMPDIR", dir.path()).output().unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    let last = stdout.lines().last().unwrap();
    assert!(last.starts_with("acknowledged: 400  lost: 0  wrong: 0  failover: "), "{last}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "it leaves no file behind");
}

#[test]
fn a_snapshot_is_built_by_hand_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(1, dir.path(), &["--snapshot-every", "1000000", "--snapshot-log-keep", "0"]);
    let at = |args: &[&str]| text(&run(&[args, &["--endpoints", &server.http]].concat()).stdout);
    assert!(run(&["init", "--endpoints", &server.http]).status.success());
    for number in 0..5 {
        at(&["put", "a", &number.to_string()]);
    }
    let said = at(&["snapshot"]);
    let index: u64 = said.trim_end().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(index >= 6, "{said}");
    let status = at(&["status", "-o", "simple"]);
    assert_eq!(status.split_whitespace().rev().nth(1), Some(index.to_string().as_str()), "{status}");
    server.signal("-KILL");
    server.wait();
    let server = Process::start(1, dir.path(), &[]);
    assert_eq!(text(&run(&["get", "a", "--endpoints", &server.http]).stdout), "4\n");
}

/// The last line of a demonstration that must end well.
fn demo(args: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let output = raftwright().arg("demo").args(args).env("TMPDIR", dir.path()).output().unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "it leaves no file behind");
    stdout.lines().last().unwrap().to_owned()
}

#[test]
fn a_short_soak_ends_well() {
    // An election shows that a leader was not heard although it runs. A machine that stands still for a second or two is not to
    // look like that.
    let last = demo(&["--soak", "16s", "--snapshot-every", "500", "--election-timeout", "10s"]);
    assert_eq!(last, "lost: 0  wrong: 0  elections: 0  panics: 0  memory: flat");
}

#[test]
fn a_snapshot_arrives_over_a_link_that_is_cut() {
    // How long writes take is no matter of a test: the machine may be busy with others. And it is the first leader that builds
    // the snapshot: whoever is elected because the machine stood still has none to send.
    let args = ["--big-snapshot", "24MiB", "--cuts", "5", "--snapshot-rate", "64MiB", "--no-latency-bound"];
    let last = demo(&[&args[..], &["--election-timeout", "10s"]].concat());
    assert!(last.starts_with("p99 without: "), "{last}");
}

#[test]
fn the_curve_of_a_short_run_is_printed() {
    let last = demo(&["--memory-run", "30000"]);
    assert!(last.starts_with("writes: 30000  seconds: ") && last.ends_with("  memory: flat"), "{last}");
}

#[test]
fn an_interrupted_demo_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut demo = raftwright()
        .args(["demo", "--writes", "10000000"])
        .env("TMPDIR", dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("started")));
    assert!(Command::new("kill").args(["-INT", &demo.id().to_string()]).status().unwrap().success());
    let mut stderr = String::new();
    demo.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!((demo.wait().unwrap().code(), stderr.as_str()), (Some(130), "raftwright: interrupted\n"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn the_demo_s_servers_die_when_it_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut demo = raftwright()
        .args(["demo", "--writes", "100", "--keep"])
        .env("TMPDIR", dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let endpoints = lines.map(Result::unwrap).find_map(|line| Some(line.split_once("--endpoints ")?.1.to_owned()));
    let endpoints = endpoints.expect("the demo prints where its servers are");
    let mut connections: Vec<TcpStream> = endpoints.split(',').map(|at| TcpStream::connect(at).unwrap()).collect();
    assert_eq!(connections.len(), 3);
    demo.kill().unwrap();
    demo.wait().unwrap();
    for connection in &mut connections {
        // The connection ends when the process at its other end does.
        let _ = connection.read(&mut [0]);
    }
    // The system closes the sockets of a dead process one after the other: the listening one may be the last.
    let deadline = Instant::now() + PATIENCE;
    for at in endpoints.split(',') {
        while TcpStream::connect(at).is_ok() {
            assert!(Instant::now() < deadline, "a server still listens at {at}");
        }
    }
}
