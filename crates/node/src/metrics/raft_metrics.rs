//! What a node shows of itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use raftwright_core::{Replica, ServerState};
use raftwright_traits::{
    Fatal, Incarnation, LogIdOf, LogIdOption, LogIndex, Of, RaftTypeConfig, StoredMembership, Term, Vote, VoteOf,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The state of a node, for observers. It is a little behind the node itself: what must not be asks the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct RaftMetrics<C: RaftTypeConfig> {
    /// `Ok` while the node runs, then why it stopped.
    pub running_state: Result<(), Fatal>,
    /// The node's id.
    pub id: C::NodeId,
    /// The incarnation of its log store, if that has one.
    pub incarnation: Option<Incarnation>,
    /// The present term.
    pub current_term: Term,
    /// The node's vote.
    pub vote: Option<VoteOf<C>>,
    /// The last entry of its log.
    pub last_log_id: Option<LogIdOf<C>>,
    /// The last index that is durable on its disk.
    pub durable: LogIndex,
    /// How long the last log write took that became durable, in microseconds.
    pub flush_micros: Option<u64>,
    /// The last entry that it knows to be committed.
    pub committed: Option<LogIdOf<C>>,
    /// The last entry that its state machine has applied.
    pub last_applied: Option<LogIdOf<C>>,
    /// The last entry in its newest snapshot.
    pub snapshot: Option<LogIdOf<C>>,
    /// The last entry that was purged.
    pub purged: Option<LogIdOf<C>>,
    /// Its role.
    pub state: ServerState,
    /// The leader that it knows, itself included.
    pub current_leader: Option<C::NodeId>,
    /// The newest membership in its log.
    #[serde(serialize_with = "write_membership::<C, _>", deserialize_with = "read_membership::<C, _>")]
    pub membership_config: Arc<StoredMembership<C>>,
    /// On a leader: what each target is known to have.
    pub replication: Option<BTreeMap<C::NodeId, Option<LogIdOf<C>>>>,
    /// On a leader: how many milliseconds ago each target last answered a heartbeat; `None` for one that has not yet.
    /// Brought up to date with every heartbeat.
    pub heartbeat: Option<BTreeMap<C::NodeId, Option<u64>>>,
    /// The targets that are being sent a snapshot, with the last entry in it.
    pub snapshots_sending: BTreeMap<C::NodeId, LogIdOf<C>>,
    /// On a leader: how many milliseconds ago it sent the newest heartbeat that a quorum has answered: how old its knowledge
    /// is that it still leads. Brought up to date with every heartbeat.
    pub millis_since_quorum_ack: Option<u64>,
}

impl<C: RaftTypeConfig> RaftMetrics<C> {
    /// The metrics of a node that is about to start.
    pub(crate) fn of(replica: &Replica<Of<C>>, last_applied: Option<LogIdOf<C>>, snapshot: Option<LogIdOf<C>>) -> Self {
        let identity = replica.identity();
        Self {
            running_state: Ok(()),
            id: identity.id,
            incarnation: identity.incarnation,
            current_term: replica.vote().map_or(0, Vote::term),
            vote: replica.vote().copied(),
            last_log_id: replica.last_log_id(),
            durable: replica.durable_index(),
            flush_micros: None,
            committed: replica.committed(),
            last_applied,
            snapshot,
            purged: replica.purged(),
            state: replica.server_state(),
            current_leader: replica.leader(),
            membership_config: Arc::new(replica.membership().clone()),
            replication: None,
            heartbeat: None,
            snapshots_sending: BTreeMap::new(),
            millis_since_quorum_ack: None,
        }
    }

    /// On a leader: by how many entries each target lacks behind, as far as the leader knows.
    pub fn replication_lag(&self) -> Option<BTreeMap<C::NodeId, u64>> {
        lag::<C>(self.last_log_id, self.replication.as_ref())
    }

    /// By how many entries the disk lacks behind the log.
    pub fn flush_lag(&self) -> u64 {
        self.last_log_id.index_or_zero().saturating_sub(self.durable)
    }

    /// By how many entries the state machine lacks behind what is committed.
    pub fn apply_lag(&self) -> u64 {
        self.committed.index_or_zero().saturating_sub(self.last_applied.index_or_zero())
    }

    /// The part about the log.
    pub fn data(&self) -> RaftDataMetrics<C> {
        RaftDataMetrics {
            last_log: self.last_log_id,
            durable: self.durable,
            flush_micros: self.flush_micros,
            committed: self.committed,
            last_applied: self.last_applied,
            snapshot: self.snapshot,
            purged: self.purged,
            replication: self.replication.clone(),
            heartbeat: self.heartbeat.clone(),
            snapshots_sending: self.snapshots_sending.clone(),
            millis_since_quorum_ack: self.millis_since_quorum_ack,
        }
    }

    /// The part about the server.
    pub fn server(&self) -> RaftServerMetrics<C> {
        RaftServerMetrics {
            id: self.id,
            vote: self.vote,
            state: self.state,
            current_leader: self.current_leader,
            membership_config: Arc::clone(&self.membership_config),
        }
    }
}

/// The part of [`RaftMetrics`] that changes with every write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct RaftDataMetrics<C: RaftTypeConfig> {
    /// The last entry of the log.
    pub last_log: Option<LogIdOf<C>>,
    /// The last index that is durable.
    pub durable: LogIndex,
    /// How long the last log write took that became durable, in microseconds.
    pub flush_micros: Option<u64>,
    /// The last entry that is known to be committed.
    pub committed: Option<LogIdOf<C>>,
    /// The last entry that the state machine has applied.
    pub last_applied: Option<LogIdOf<C>>,
    /// The last entry in the newest snapshot.
    pub snapshot: Option<LogIdOf<C>>,
    /// The last entry that was purged.
    pub purged: Option<LogIdOf<C>>,
    /// On a leader: what each target is known to have.
    pub replication: Option<BTreeMap<C::NodeId, Option<LogIdOf<C>>>>,
    /// On a leader: how many milliseconds ago each target last answered a heartbeat.
    pub heartbeat: Option<BTreeMap<C::NodeId, Option<u64>>>,
    /// The targets that are being sent a snapshot, with the last entry in it.
    pub snapshots_sending: BTreeMap<C::NodeId, LogIdOf<C>>,
    /// On a leader: how many milliseconds ago it sent the newest heartbeat that a quorum has answered.
    pub millis_since_quorum_ack: Option<u64>,
}

impl<C: RaftTypeConfig> RaftDataMetrics<C> {
    /// On a leader: by how many entries each target lacks behind, as far as the leader knows.
    pub fn replication_lag(&self) -> Option<BTreeMap<C::NodeId, u64>> {
        lag::<C>(self.last_log, self.replication.as_ref())
    }
}

fn lag<C: RaftTypeConfig>(
    last: Option<LogIdOf<C>>,
    replication: Option<&BTreeMap<C::NodeId, Option<LogIdOf<C>>>>,
) -> Option<BTreeMap<C::NodeId, u64>> {
    let last = last.index_or_zero();
    replication.map(|targets| {
        targets.iter().map(|(id, matched)| (*id, last.saturating_sub(matched.index_or_zero()))).collect()
    })
}

/// The part of [`RaftMetrics`] that changes with leaders and memberships.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct RaftServerMetrics<C: RaftTypeConfig> {
    /// The node's id.
    pub id: C::NodeId,
    /// The node's vote.
    pub vote: Option<VoteOf<C>>,
    /// Its role.
    pub state: ServerState,
    /// The leader that it knows, itself included.
    pub current_leader: Option<C::NodeId>,
    /// The newest membership in its log.
    #[serde(serialize_with = "write_membership::<C, _>", deserialize_with = "read_membership::<C, _>")]
    pub membership_config: Arc<StoredMembership<C>>,
}

fn write_membership<C: RaftTypeConfig, S: Serializer>(
    stored: &Arc<StoredMembership<C>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    stored.serialize(serializer)
}

fn read_membership<'de, C: RaftTypeConfig, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Arc<StoredMembership<C>>, D::Error> {
    StoredMembership::<C>::deserialize(deserializer).map(Arc::new)
}
