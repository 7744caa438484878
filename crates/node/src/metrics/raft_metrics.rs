//! What a node shows of itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use raftwright_core::{Replica, ServerState};
use raftwright_traits::{
    Fatal, Incarnation, LogIdOf, MembershipOf, Of, RaftTypeConfig, StoredMembership, Term, Vote, VoteOf,
};
use serde::{Serialize, Serializer};

/// The state of a node, for observers. It is a little behind the node itself: what must not be asks the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
    /// The last entry that it knows to be committed.
    pub committed: Option<LogIdOf<C>>,
    /// The last entry that its state machine has applied.
    pub last_applied: Option<LogIdOf<C>>,
    /// The last entry in its newest snapshot.
    pub snapshot: Option<LogIdOf<C>>,
    /// The last entry that was purged.
    pub purged: Option<LogIdOf<C>>,
    /// Its role.
    #[serde(serialize_with = "as_debug")]
    pub state: ServerState,
    /// The leader that it knows, itself included.
    pub current_leader: Option<C::NodeId>,
    /// The newest membership in its log.
    #[serde(serialize_with = "as_stored_membership::<C, _>")]
    pub membership_config: Arc<StoredMembership<C>>,
    /// On a leader: what each target is known to have.
    pub replication: Option<BTreeMap<C::NodeId, Option<LogIdOf<C>>>>,
    /// On a leader: how many milliseconds ago each target last answered a heartbeat; `None` for one that has not yet.
    pub heartbeat: Option<BTreeMap<C::NodeId, Option<u64>>>,
    /// The targets that are being sent a snapshot, with the last entry in it.
    pub snapshots_sending: BTreeMap<C::NodeId, LogIdOf<C>>,
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
        }
    }

    /// The part about the log.
    pub fn data(&self) -> RaftDataMetrics<C> {
        RaftDataMetrics {
            last_log: self.last_log_id,
            committed: self.committed,
            last_applied: self.last_applied,
            snapshot: self.snapshot,
            purged: self.purged,
            replication: self.replication.clone(),
            heartbeat: self.heartbeat.clone(),
            snapshots_sending: self.snapshots_sending.clone(),
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(bound = "")]
pub struct RaftDataMetrics<C: RaftTypeConfig> {
    /// The last entry of the log.
    pub last_log: Option<LogIdOf<C>>,
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
}

/// The part of [`RaftMetrics`] that changes with leaders and memberships.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(bound = "")]
pub struct RaftServerMetrics<C: RaftTypeConfig> {
    /// The node's id.
    pub id: C::NodeId,
    /// The node's vote.
    pub vote: Option<VoteOf<C>>,
    /// Its role.
    #[serde(serialize_with = "as_debug")]
    pub state: ServerState,
    /// The leader that it knows, itself included.
    pub current_leader: Option<C::NodeId>,
    /// The newest membership in its log.
    #[serde(serialize_with = "as_stored_membership::<C, _>")]
    pub membership_config: Arc<StoredMembership<C>>,
}

fn as_debug<S: Serializer>(state: &ServerState, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{state:?}"))
}

fn as_stored_membership<C: RaftTypeConfig, S: Serializer>(
    stored: &Arc<StoredMembership<C>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    #[serde(bound = "")]
    struct Shape<'a, C: RaftTypeConfig> {
        log_id: &'a Option<LogIdOf<C>>,
        membership: &'a MembershipOf<C>,
    }
    Shape::<C> { log_id: &stored.log_id, membership: &stored.membership }.serialize(serializer)
}
