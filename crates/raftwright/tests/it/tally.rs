//! The state machine of these tests, and small helpers.

use std::collections::BTreeMap;
use std::time::Duration;

use raftwright::{BoxError, Cluster, Config, Server, StateMachine, decode, encode};

/// A bound on waiting for what must happen. Reaching it fails a test; nothing depends on its length.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

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

pub(crate) async fn three() -> Cluster<Tally> {
    crate::logs::capture();
    Cluster::local(3).await.unwrap()
}

/// Servers that elect only when told to, and lead on for a minute without anybody's answer.
pub(crate) fn patient() -> Config {
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
