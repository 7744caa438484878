//! The state machine of these tests, and small helpers.

use std::collections::BTreeMap;
use std::time::Duration;

use raftwright::{BoxError, Client, ClientError, Cluster, Config, Outcome, Server, StateMachine, decode, encode};

/// A bound on waiting for what must happen. Reaching it fails a test; nothing depends on its length.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Counts by name. Adding twice shows, so a command that is applied twice does.
#[derive(Default)]
pub(crate) struct Tally(BTreeMap<String, u64>);

impl StateMachine for Tally {
    type Command = (String, u64);
    type Query = String;
    type Answer = u64;

    fn apply(&mut self, (name, add): (String, u64)) -> u64 {
        let count = self.0.entry(name).or_default();
        *count += add;
        *count
    }

    fn query(&self, name: String) -> u64 {
        self.0.get(&name).copied().unwrap_or(0)
    }

    fn snapshot(&self) -> Result<Vec<u8>, BoxError> {
        encode(&self.0)
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), BoxError> {
        self.0 = decode(snapshot)?;
        Ok(())
    }
}

pub(crate) fn add(name: &str, count: u64) -> (String, u64) {
    (name.to_owned(), count)
}

/// Who leads. On a machine that stands still for a while, an election may take longer than the cluster waits by default.
pub(crate) async fn leader_of(cluster: &Cluster<Tally>) -> u64 {
    for _ in 0..20 {
        if let Ok(leader) = cluster.leader().await {
            return leader;
        }
    }
    panic!("nobody is elected");
}

pub(crate) async fn three() -> Cluster<Tally> {
    crate::logs::capture();
    Cluster::local(3).await.unwrap()
}

/// A client of the cluster that is as patient as the tests are: on a machine that stands still for a while, the time that calls
/// have by default is soon over.
pub(crate) fn patient_client<SM: StateMachine>(cluster: &Cluster<SM>) -> Client<SM> {
    cluster.client().with_deadline(PATIENCE)
}

/// Servers that elect only when told to, and lead on for a minute without anybody's answer.
fn patient() -> Config {
    Config { election_timeout_min: 60_000, election_timeout_max: 120_000, ..Config::default() }
}

/// Waits until this server has applied as much as that one has.
pub(crate) async fn catch_up(server: &Server<Tally>, with: &Server<Tally>) {
    let index = with.status().applied_index.unwrap();
    server.raft().wait(Some(PATIENCE)).applied_index_at_least(index, "the other's entries").await.unwrap();
}

/// Waits until the membership names the incarnation of every member.
pub(crate) async fn all_bound(server: &Server<Tally>) {
    let bound = |m: &raftwright::RaftMetrics<raftwright::EasyConfig>| {
        let nodes = m.membership_config.membership.nodes();
        !nodes.is_empty() && nodes.values().all(|node| node.incarnation.is_some())
    };
    server.raft().wait(Some(PATIENCE)).metrics(bound, "every member's incarnation is known").await.unwrap();
}

/// Makes a change of the cluster again as long as its fate is unknown: a leader may lose its place on a busy machine.
pub(crate) async fn insist<T>(change: impl AsyncFn() -> Result<T, ClientError>) -> T {
    for _ in 0..20 {
        match change().await {
            Ok(done) => return done,
            Err(error) => assert_eq!(error.outcome(), Outcome::Unknown, "{error}"),
        }
    }
    panic!("twenty leaders have come and gone");
}

/// A cluster whose server 1 leads and leads on, whoever else there is.
pub(crate) async fn led_by_one() -> Cluster<Tally> {
    crate::logs::capture();
    let cluster = Cluster::local_with(3, patient(), Tally::default).await.unwrap();
    let first = cluster.server(1).unwrap();
    // The others start after it, and an election that nobody hears is not won.
    loop {
        first.raft().trigger().elect().await.unwrap();
        let wait = first.raft().wait(Some(Duration::from_millis(500)));
        if wait.current_leader(1, "it leads").await.is_ok() {
            return cluster;
        }
    }
}
