//! Who leads: a term and a server. Two kinds, chosen by type, one rule for both.
//!
//! *Standard*: at most one leader a term. Two servers of one term cannot be compared, so a voter that gave its vote to
//! one of them refuses the other (Raft §5.2). Once a leader is established, the term alone says who it was.
//!
//! *Advanced*: (term, server) is totally ordered, so a voter may move on to a greater server within a term, and a split
//! vote needs no new term. There can be several leaders in a term, one after the other, so a log id keeps the server.
//!
//! The rule "grant if the asked vote is >= mine", over this **partial** order, serves both.

use core::cmp::Ordering;
use core::fmt::{Debug, Display, Formatter, Result};
use core::hash::Hash;
use core::marker::PhantomData;

use crate::{MaybeSerde, NodeId, Term};

/// A candidate or leader: the term and the server.
pub trait LeaderId: MaybeSerde + Copy + Debug + Display + Eq + PartialOrd + Hash + Send + Sync + 'static {
    /// A server's id.
    type NodeId: NodeId;

    /// What remains of a leader id in the log ids of its entries. Totally ordered.
    type Committed: CommittedLeaderId<NodeId = Self::NodeId>;

    /// The server as candidate in that term.
    fn new(term: Term, node_id: Self::NodeId) -> Self;

    /// The term.
    fn term(&self) -> Term;

    /// The server.
    fn node_id(&self) -> Self::NodeId;

    /// What its log ids carry once it is elected.
    fn to_committed(&self) -> Self::Committed;
}

/// The part of a leader id that identifies an *elected* leader: what stands in a log id.
pub trait CommittedLeaderId:
    MaybeSerde + Copy + Debug + Display + Default + Eq + Ord + Hash + Send + Sync + 'static
{
    /// A server's id.
    type NodeId: NodeId;

    /// From a term and, for the advanced kind, the server. `None` for the server where the kind needs one is taken for
    /// the default id, which only the entry that initialized a cluster carries.
    fn new(term: Term, node_id: Option<Self::NodeId>) -> Self;

    /// The term.
    fn term(&self) -> Term;

    /// The server, where this kind keeps it.
    fn node_id(&self) -> Option<Self::NodeId>;
}

/// The standard kind: at most one leader a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(bound = "NID: MaybeSerde"))]
pub struct StandardLeaderId<NID> {
    term: Term,
    node_id: NID,
}

/// An elected leader of the standard kind: its term says all.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent, bound = ""))]
pub struct CommittedTerm<NID> {
    term: Term,
    #[cfg_attr(feature = "serde", serde(skip))]
    node: PhantomData<fn() -> NID>,
}

impl<NID: NodeId> PartialOrd for StandardLeaderId<NID> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.term.cmp(&other.term) {
            Ordering::Equal if self.node_id == other.node_id => Some(Ordering::Equal),
            // Two candidates of one term: neither is greater, so a vote once given stays given (Raft §5.2).
            Ordering::Equal => None,
            unequal => Some(unequal),
        }
    }
}

impl<NID: NodeId> LeaderId for StandardLeaderId<NID> {
    type NodeId = NID;
    type Committed = CommittedTerm<NID>;

    fn new(term: Term, node_id: NID) -> Self {
        Self { term, node_id }
    }

    fn term(&self) -> Term {
        self.term
    }

    fn node_id(&self) -> NID {
        self.node_id
    }

    fn to_committed(&self) -> CommittedTerm<NID> {
        CommittedTerm { term: self.term, node: PhantomData }
    }
}

impl<NID> Default for CommittedTerm<NID> {
    fn default() -> Self {
        Self { term: 0, node: PhantomData }
    }
}

impl<NID: NodeId> CommittedLeaderId for CommittedTerm<NID> {
    type NodeId = NID;

    fn new(term: Term, _: Option<NID>) -> Self {
        Self { term, node: PhantomData }
    }

    fn term(&self) -> Term {
        self.term
    }

    fn node_id(&self) -> Option<NID> {
        None
    }
}

impl<NID: NodeId> Display for StandardLeaderId<NID> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "T{}-N{}", self.term, self.node_id)
    }
}

impl<NID> Display for CommittedTerm<NID> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "T{}", self.term)
    }
}

impl<NID> Debug for CommittedTerm<NID> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "T{}", self.term)
    }
}

/// The advanced kind: (term, server), totally ordered. Its log ids keep the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(bound = "NID: MaybeSerde"))]
pub struct AdvancedLeaderId<NID> {
    term: Term,
    node_id: NID,
}

impl<NID: NodeId> LeaderId for AdvancedLeaderId<NID> {
    type NodeId = NID;
    type Committed = Self;

    fn new(term: Term, node_id: NID) -> Self {
        Self { term, node_id }
    }

    fn term(&self) -> Term {
        self.term
    }

    fn node_id(&self) -> NID {
        self.node_id
    }

    fn to_committed(&self) -> Self {
        *self
    }
}

impl<NID: NodeId> CommittedLeaderId for AdvancedLeaderId<NID> {
    type NodeId = NID;

    fn new(term: Term, node_id: Option<NID>) -> Self {
        Self { term, node_id: node_id.unwrap_or_default() }
    }

    fn term(&self) -> Term {
        self.term
    }

    fn node_id(&self) -> Option<NID> {
        Some(self.node_id)
    }
}

impl<NID: NodeId> Display for AdvancedLeaderId<NID> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "T{}-N{}", self.term, self.node_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_candidates_of_one_term_cannot_be_compared() {
        let (a, b) = (StandardLeaderId::new(3, 1u64), StandardLeaderId::new(3, 2));
        assert_eq!(a.partial_cmp(&b), None);
        assert!(a < StandardLeaderId::new(4, 1));
    }

    #[test]
    fn advanced_candidates_are_totally_ordered() {
        let of = <AdvancedLeaderId<u64> as LeaderId>::new;
        assert!(of(3, 1) < of(3, 2));
        assert!(of(3, 9) < of(4, 1));
    }
}
