//! Servers as processes: what they acknowledged is there after a kill, after all of them were killed, and on a server that got it
//! as a snapshot.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use raft_kv_rocksdb::{Answer, Call, Client};
use tempfile::TempDir;

/// A bound on waiting for what must happen. Reaching it fails a test; nothing depends on its length.
const PATIENCE: Duration = Duration::from_secs(60);
/// Few, so that snapshots are built and sent.
const SNAPSHOT_EVERY: u64 = 20;

/// A server. It ends with the test.
struct Process {
    child: Child,
    id: u64,
    dir: PathBuf,
    addr: String,
}

impl Process {
    fn start(base: &Path, id: u64) -> Self {
        let dir = base.join(format!("server-{id}"));
        let (child, addr) = spawn(id, &dir, "127.0.0.1:0");
        Self { child, id, dir, addr }
    }

    /// Ends it as a crash would.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on its database, where it was.
    fn restart(&mut self) {
        (self.child, self.addr) = spawn(self.id, &self.dir, &self.addr);
    }

    /// Asks this one alone.
    fn client(&self) -> Client {
        Client::new([self.addr.clone()], PATIENCE, self.id)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(id: u64, dir: &Path, listen: &str) -> (Child, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_raft-kv-rocksdb"))
        .args(["serve", "--id", &id.to_string(), "--dir", dir.to_str().unwrap(), "--listen", listen])
        .args(["--snapshot-every", &SNAPSHOT_EVERY.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let addr = line.strip_prefix("ready ").unwrap_or_else(|| panic!("server {id} says {line:?}")).trim().to_owned();
    (child, addr)
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

async fn write(client: &mut Client, keys: std::ops::Range<u64>) {
    for number in keys {
        client.set(&format!("key {number}"), &format!("value {number}")).await.unwrap();
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

    // The one that leads.
    servers[0].kill();
    write(&mut client, 30..60).await;
    servers[0].restart();
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
