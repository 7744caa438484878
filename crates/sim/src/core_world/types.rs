//! What the simulated cluster replicates: commands of a small map, in entries that are cheap to copy.

use std::fmt;
use std::sync::Arc;

use raftwright_core::{
    CommittedLeaderId, Incarnation, LeaderId, LogIdOf, MembershipOf, Node, RaftEntry, StandardLeaderId, Types, VoteOf,
};

use crate::lin::KvOp;
use crate::world::{NodeId, TraceHash};

/// The types of the simulated cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SimTypes;

impl Types for SimTypes {
    type NodeId = NodeId;
    type Node = SimNode;
    type LeaderId = StandardLeaderId<NodeId>;
    type Entry = SimEntry;
}

/// A log id of the simulated cluster.
pub type LogId = LogIdOf<SimTypes>;
/// A vote of the simulated cluster.
pub type Vote = VoteOf<SimTypes>;
/// A membership of the simulated cluster.
pub type Membership = MembershipOf<SimTypes>;

/// A log id from its two numbers.
pub fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(<<StandardLeaderId<NodeId> as LeaderId>::Committed as CommittedLeaderId>::new(term, None), index)
}

/// The term of a log id.
pub fn term_of(id: &LogId) -> u64 {
    id.leader_id.term()
}

/// What a membership stores about a server: which incarnation of its disk is meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SimNode {
    incarnation: Option<Incarnation>,
}

impl SimNode {
    /// A server of which this disk is meant and no other.
    pub fn bound(incarnation: Incarnation) -> Self {
        Self { incarnation: Some(incarnation) }
    }
}

impl Node for SimNode {
    fn incarnation(&self) -> Option<Incarnation> {
        self.incarnation
    }

    fn bind_incarnation(&mut self, incarnation: Incarnation) -> bool {
        self.incarnation = Some(incarnation);
        true
    }
}

/// The name of a command: the same in the client's history and in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CommandId(pub u64);

/// An operation on the map, as it stands in the log.
pub type KvCommand = KvOp<u8, u64>;

/// What an entry carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// Nothing.
    Blank,
    /// The membership from here on.
    Membership(Arc<Membership>),
    /// A client's command.
    Command(CommandId, KvCommand),
}

/// A log entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimEntry {
    /// Its place.
    pub log_id: LogId,
    /// What it carries.
    pub payload: Payload,
}

impl RaftEntry<SimTypes> for SimEntry {
    fn blank(log_id: LogId) -> Self {
        Self { log_id, payload: Payload::Blank }
    }

    fn of_membership(log_id: LogId, membership: Membership) -> Self {
        Self { log_id, payload: Payload::Membership(Arc::new(membership)) }
    }

    fn log_id(&self) -> LogId {
        self.log_id
    }

    fn set_log_id(&mut self, log_id: LogId) {
        self.log_id = log_id;
    }

    fn membership(&self) -> Option<&Membership> {
        match &self.payload {
            Payload::Membership(membership) => Some(membership),
            Payload::Blank | Payload::Command(..) => None,
        }
    }

    /// Every entry counts for as many bytes: what the simulated network and the windows need is an order of magnitude.
    fn size(&self) -> usize {
        ENTRY_BYTES
    }
}

/// How many bytes an entry counts for.
pub const ENTRY_BYTES: usize = 100;

impl SimEntry {
    /// A hash of this entry and, through `before`, of everything before it in its log.
    pub fn chained(&self, before: u64) -> u64 {
        let mut hash = TraceHash::default();
        hash.word(before);
        hash.word(term_of(&self.log_id));
        hash.word(self.log_id.index);
        match &self.payload {
            Payload::Blank => hash.word(0),
            Payload::Membership(membership) => {
                hash.word(1);
                // Writing to a hash cannot fail.
                let _ = fmt::write(&mut hash, format_args!("{membership}"));
            }
            Payload::Command(id, _) => {
                // The id names the operation: two commands with one id are one command.
                hash.word(2);
                hash.word(id.0);
            }
        }
        hash.value()
    }
}
