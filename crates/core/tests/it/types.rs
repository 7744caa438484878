//! The types under test: both kinds of leader id, entries whose payload one can read.

use raftwright_core::{
    AdvancedLeaderId, CommittedLeaderId, CommittedLeaderIdOf, Incarnation, LogId, LogIdOf, MembershipOf, Node,
    RaftEntry, StandardLeaderId, Term, Types, Vote, VoteOf,
};

/// At most one leader a term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Standard;

impl Types for Standard {
    type NodeId = u64;
    type Node = Member;
    type LeaderId = StandardLeaderId<u64>;
    type Entry = Item<Self>;
}

/// Leader ids that are totally ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Advanced;

impl Types for Advanced {
    type NodeId = u64;
    type Node = Member;
    type LeaderId = AdvancedLeaderId<u64>;
    type Entry = Item<Self>;
}

/// What the harness needs of a set of types.
pub(crate) trait Kind: Types<NodeId = u64, Node = Member, Entry = Item<Self>> {}
impl<T: Types<NodeId = u64, Node = Member, Entry = Item<T>>> Kind for T {}

/// What a membership stores about a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Member {
    /// Stands for an address.
    pub(crate) address: u64,
    /// The incarnation it is bound to.
    pub(crate) incarnation: Option<Incarnation>,
}

impl Node for Member {
    fn incarnation(&self) -> Option<Incarnation> {
        self.incarnation
    }

    fn bind_incarnation(&mut self, incarnation: Incarnation) -> bool {
        self.incarnation = Some(incarnation);
        true
    }
}

/// A log entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item<T: Types> {
    pub(crate) log_id: LogIdOf<T>,
    pub(crate) payload: Payload<T>,
}

/// What an entry carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Payload<T: Types> {
    Blank,
    Data(String),
    Membership(MembershipOf<T>),
}

impl<T: Kind> Item<T> {
    /// A command of a client; the replica gives it its log id.
    pub(crate) fn data(text: &str) -> Self {
        Self { log_id: LogId::default(), payload: Payload::Data(text.to_owned()) }
    }

    /// A command at a place in the log.
    pub(crate) fn at(log_id: LogIdOf<T>, text: &str) -> Self {
        Self { log_id, payload: Payload::Data(text.to_owned()) }
    }
}

impl<T: Kind> RaftEntry<T> for Item<T> {
    fn blank(log_id: LogIdOf<T>) -> Self {
        Self { log_id, payload: Payload::Blank }
    }

    fn of_membership(log_id: LogIdOf<T>, membership: MembershipOf<T>) -> Self {
        Self { log_id, payload: Payload::Membership(membership) }
    }

    fn log_id(&self) -> LogIdOf<T> {
        self.log_id
    }

    fn set_log_id(&mut self, log_id: LogIdOf<T>) {
        self.log_id = log_id;
    }

    fn membership(&self) -> Option<&MembershipOf<T>> {
        match &self.payload {
            Payload::Membership(membership) => Some(membership),
            Payload::Blank | Payload::Data(_) => None,
        }
    }

    /// One byte a letter, so that windows in bytes can be set to the letter.
    fn size(&self) -> usize {
        match &self.payload {
            Payload::Blank | Payload::Membership(_) => 1,
            Payload::Data(text) => text.len(),
        }
    }
}

/// The log id of a term's leader; for the advanced kind, server 1 is the leader.
pub(crate) fn id<T: Kind>(term: Term, index: u64) -> LogIdOf<T> {
    // Term 0 belongs to the entry that initialized the cluster, and to no server.
    let leader =
        if term == 0 { CommittedLeaderIdOf::<T>::default() } else { CommittedLeaderIdOf::<T>::new(term, Some(1)) };
    LogId::new(leader, index)
}

/// A candidate's vote.
pub(crate) fn vote<T: Kind>(term: Term, node: u64) -> VoteOf<T> {
    Vote::new(term, node)
}

/// A leader's vote.
pub(crate) fn led<T: Kind>(term: Term, node: u64) -> VoteOf<T> {
    Vote::new_committed(term, node)
}

/// A log from the terms of its entries, from index 2 on; index 1 is the entry that initialized the cluster, added by the
/// harness. Every entry says where it is from.
pub(crate) fn items<T: Kind>(terms: &[Term]) -> Vec<Item<T>> {
    terms.iter().zip(2..).map(|(term, index)| Item::at(id::<T>(*term, index), &format!("{term}/{index}"))).collect()
}
