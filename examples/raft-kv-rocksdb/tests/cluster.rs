//! Servers as processes: what they acknowledged is there after a kill, after all of them were killed, and on a server that got it
//! as a snapshot.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use raft_kv_rocksdb::{Answer, Call, Client};
use raftwright_traits::Outcome;
use tempfile::TempDir;
use tokio::net::TcpSocket;

/// A bound on waiting for what must happen. Reaching it fails a test; nothing depends on its length.
const PATIENCE: Duration = Duration::from_secs(60);
/// Few, so that snapshots are built and sent.
const SNAPSHOT_EVERY: u64 = 20;

/// A server. It ends with the test, however the test ends.
struct Process {
    running: Running,
    id: u64,
    dir: PathBuf,
    addr: String,
    /// Holds the port while the server does not run, or the system might lend it to a connection of another one. The system lets
    /// a socket listen there as well, since this one never does.
    _port: TcpSocket,
}

/// A process. It ends when this is dropped; and when the test is killed, for then its stdin closes.
struct Running {
    child: Child,
    _stdin: Option<ChildStdin>,
}

impl Running {
    /// Waits until the server serves.
    fn start(id: u64, dir: &Path, listen: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_raft-kv-rocksdb"))
            .args(["serve", "--exit-on-stdin-close", "--id", &id.to_string(), "--dir", dir.to_str().unwrap()])
            .args(["--listen", listen, "--snapshot-every", &SNAPSHOT_EVERY.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().unwrap());
        let running = Self { child, _stdin: stdin };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert_eq!(line, format!("ready {listen}\n"), "server {id}");
        running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    /// A blank server, on a port that the system gives.
    fn start(base: &Path, id: u64) -> Self {
        let dir = base.join(format!("server-{id}"));
        let port = TcpSocket::new_v4().unwrap();
        port.set_reuseaddr(true).unwrap();
        port.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let addr = port.local_addr().unwrap().to_string();
        Self { running: Running::start(id, &dir, &addr), id, dir, addr, _port: port }
    }

    /// Ends it as a crash would.
    fn kill(&mut self) {
        self.running.child.kill().unwrap();
        assert_eq!(self.running.child.wait().unwrap().signal(), Some(9), "server {} had ended by itself", self.id);
    }

    /// Starts it again on its database, where it was.
    fn restart(&mut self) {
        self.running = Running::start(self.id, &self.dir, &self.addr);
    }

    /// Asks this one alone.
    fn client(&self) -> Client {
        Client::new([self.addr.clone()], PATIENCE, self.id)
    }
}

/// Three servers, one made a cluster of itself, the others added and given a vote.
async fn cluster(base: &Path) -> Vec<Process> {
    let servers: Vec<Process> = (1..=3).map(|id| Process::start(base, id)).collect();
    let mut first = servers[0].client();
    assert_eq!(first.call(&Call::Init).await, Ok(Answer::Done));
    for server in &servers[1..] {
        add(&mut first, server).await;
    }
    first.change_membership(BTreeSet::from([1, 2, 3])).await.unwrap();
    servers
}

async fn add(client: &mut Client, server: &Process) {
    let call = Call::AddLearner { id: server.id, addr: server.addr.clone() };
    assert_eq!(client.call(&call).await, Ok(Answer::Done), "server {}", server.id);
}

fn client_of(servers: &[Process]) -> Client {
    Client::new(servers.iter().map(|server| server.addr.clone()), PATIENCE, 7)
}

/// Nobody else writes these keys, so a write whose fate is unknown may be made again.
async fn write(client: &mut Client, keys: std::ops::Range<u64>) {
    for number in keys {
        let (key, value) = (format!("key {number}"), format!("value {number}"));
        while let Err(error) = client.set(&key, &value).await {
            assert_eq!(error.outcome, Outcome::Unknown, "{key}: {error}");
        }
    }
}

/// The place of the one that leads.
async fn leader(servers: &[Process], client: &mut Client) -> usize {
    loop {
        // Whoever has acknowledged a write leads, or did a moment ago; it is the one that is asked.
        write(client, 0..1).await;
        if let Ok(Answer::Status { id, leader: Some(leader), .. }) = client.call(&Call::Status).await
            && id == leader
        {
            return servers.iter().position(|server| server.id == id).unwrap();
        }
    }
}

/// Each server holds all of it, in its own database.
async fn all_is_there<'s>(servers: impl IntoIterator<Item = &'s Process>, count: u64) {
    for server in servers {
        let mut client = server.client();
        for number in 0..count {
            let found = client.get(&format!("key {number}")).await;
            assert_eq!(found, Ok(Some(format!("value {number}"))), "key {number} at server {}", server.id);
        }
        assert_eq!(client.get("no key").await, Ok(None));
    }
}

/// The voters that a server knows of.
async fn voters(client: &mut Client) -> BTreeSet<u64> {
    match client.call(&Call::Status).await {
        Ok(Answer::Status { voters, .. }) => voters,
        other => panic!("{other:?}"),
    }
}

/// What the log of the server that answered last has given up: that is the leader, once it was asked to write.
async fn purged(client: &mut Client) -> Option<u64> {
    match client.call(&Call::Status).await {
        Ok(Answer::Status { purged, .. }) => purged,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_kills() {
    let base = TempDir::new().unwrap();
    let mut servers = cluster(base.path()).await;
    let mut client = client_of(&servers);
    write(&mut client, 0..30).await;
    assert_eq!(client.set("key 0", "value 0").await, Ok(Some("value 0".to_owned())));

    let leads = leader(&servers, &mut client).await;
    servers[leads].kill();
    write(&mut client, 30..60).await;
    assert_ne!(leader(&servers, &mut client).await, leads, "another one leads");
    servers[leads].restart();
    all_is_there(&servers, 60).await;

    servers.iter_mut().for_each(Process::kill);
    servers.iter_mut().for_each(Process::restart);
    all_is_there(&servers, 60).await;
}

#[tokio::test]
async fn a_server_takes_the_place_of_another() {
    let base = TempDir::new().unwrap();
    let mut servers = cluster(base.path()).await;
    let mut client = client_of(&servers);
    let mut count = 0;
    while purged(&mut client).await.is_none() {
        write(&mut client, count..count + 10).await;
        count += 10;
    }

    // The leader's log does not begin at its beginning any more, so a blank server gets a snapshot.
    let fourth = Process::start(base.path(), 4);
    add(&mut client, &fourth).await;
    client.change_membership(BTreeSet::from([1, 2, 4])).await.unwrap();
    servers[2].kill();
    servers.push(fourth);

    // Two of the three voters are a quorum, and the new one is needed for it.
    servers[1].kill();
    write(&mut client, count..count + 10).await;
    all_is_there([&servers[0], &servers[3]], count + 10).await;
    assert_eq!(voters(&mut servers[3].client()).await, BTreeSet::from([1, 2, 4]));

    // From its own database, which it got as a snapshot.
    servers[3].kill();
    servers[3].restart();
    servers[1].restart();
    all_is_there([&servers[0], &servers[1], &servers[3]], count + 10).await;
}
