//! What a server has promised: whom it voted for, or which leader it follows.

use core::cmp::Ordering;
use core::fmt::{Display, Formatter, Result};

use crate::{LeaderId, Term, Types};

/// The `currentTerm` and `votedFor` of the paper's Figure 2 in one value, so that they can only be written together.
///
/// `committed` says that a quorum granted it: the candidate has become leader. A server that accepts entries of a
/// leader keeps the leader's committed vote, and can no longer grant any other vote in that term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Vote<L> {
    /// The candidate or leader.
    pub leader_id: L,
    /// Whether a quorum granted it.
    pub committed: bool,
}

/// The vote for a set of types.
pub type VoteOf<T> = Vote<<T as Types>::LeaderId>;

impl<L: LeaderId> Vote<L> {
    /// A candidate's vote for itself.
    pub fn new(term: Term, node_id: L::NodeId) -> Self {
        Self { leader_id: L::new(term, node_id), committed: false }
    }

    /// The vote of an elected leader.
    pub fn new_committed(term: Term, node_id: L::NodeId) -> Self {
        Self { leader_id: L::new(term, node_id), committed: true }
    }

    /// The same vote, granted by a quorum.
    #[must_use]
    pub fn commit(self) -> Self {
        Self { committed: true, ..self }
    }

    /// The term.
    pub fn term(&self) -> Term {
        self.leader_id.term()
    }

    /// The candidate or leader.
    pub fn node_id(&self) -> L::NodeId {
        self.leader_id.node_id()
    }
}

impl<L: LeaderId> PartialOrd for Vote<L> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.leader_id.partial_cmp(&other.leader_id) {
            Some(Ordering::Equal) => self.committed.partial_cmp(&other.committed),
            Some(unequal) => Some(unequal),
            // Two candidates of one term: an elected leader stands above one that was not elected, since no other of that
            // term can be any more. Two elected ones cannot be; if a peer claims so, they stay incomparable and refused.
            None => match (self.committed, other.committed) {
                (true, false) => Some(Ordering::Greater),
                (false, true) => Some(Ordering::Less),
                (true, true) | (false, false) => None,
            },
        }
    }
}

impl<L: Display> Display for Vote<L> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{}{}", self.leader_id, if self.committed { ":leader" } else { "" })
    }
}
