//! What the HTTP interface needs of a server of the cluster.
//!
//! The trait stands between the two so that the whole HTTP interface can be tested with every outcome that a cluster
//! can have, at will: a write whose fate is unknown cannot be had from a real cluster on demand.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use crate::api::{ErrorKind, NodeState, Position, ServerStatus};
use crate::store::{Answer, Command, Query};

/// A call that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CallError {
    /// What it means for the caller.
    pub kind: ErrorKind,
    /// What happened, and what to do about it.
    pub message: String,
}

impl CallError {
    /// An error of that kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// A server of the cluster. Writes, linearizable reads and changes of the cluster may be asked of any server: those that
/// do not lead forward them.
pub trait Node: Send + Sync + 'static {
    /// Replicates and applies a write, exactly once.
    fn write(&self, command: Command) -> impl Future<Output = Result<Answer, CallError>> + Send;

    /// Reads what every write acknowledged before the call has left (linearizable).
    fn read(&self, query: Query) -> impl Future<Output = Result<Answer, CallError>> + Send;

    /// Reads what this server has applied, which may be old.
    fn read_stale(&self, query: Query) -> impl Future<Output = Result<Answer, CallError>> + Send;

    /// Where this server stands. Cheap: each answer carries it.
    fn position(&self) -> Position;

    /// Everything that this server knows of itself and of the cluster.
    fn state(&self) -> NodeState;

    /// Asks every member how it is, all at a time and not for long. A server that belongs to no cluster answers for itself.
    fn cluster_status(&self) -> impl Future<Output = Vec<ServerStatus>> + Send;

    /// The metrics of the `Raft` handle, as JSON.
    ///
    /// # Errors
    /// When they cannot be written as JSON.
    fn raft_metrics(&self) -> Result<serde_json::Value, CallError>;

    /// Makes a blank server the first of a cluster: of itself alone if `members` is empty, else of those, which name it.
    fn initialize(&self, members: BTreeMap<u64, String>) -> impl Future<Output = Result<(), CallError>> + Send;

    /// Adds a server that gets the log and does not vote. Answers the index of the change in the log.
    fn add_learner(&self, id: u64, addr: String) -> impl Future<Output = Result<u64, CallError>> + Send;

    /// Makes these the voters; each is a learner or a voter already. `retain` keeps the removed ones as learners.
    /// Answers the index of the change in the log.
    fn change_membership(
        &self,
        voters: BTreeSet<u64>,
        retain: bool,
    ) -> impl Future<Output = Result<u64, CallError>> + Send;

    /// Lets a member vote, beside those that vote when it is done. Answers the index of the change in the log.
    fn add_voter(&self, id: u64) -> impl Future<Output = Result<u64, CallError>> + Send;

    /// Takes a voter out of the cluster, and nobody else. Answers the index of the change in the log.
    fn remove_voter(&self, id: u64) -> impl Future<Output = Result<u64, CallError>> + Send;

    /// Removes a learner. Answers the index of the change in the log.
    fn remove_learner(&self, id: u64) -> impl Future<Output = Result<u64, CallError>> + Send;

    /// Has a snapshot of this server's own state built. Answers the index of the last log entry in it, once it is durable.
    fn snapshot(&self) -> impl Future<Output = Result<u64, CallError>> + Send;

    /// Hands the leadership over.
    fn transfer_leader(&self, to: u64) -> impl Future<Output = Result<(), CallError>> + Send;
}
