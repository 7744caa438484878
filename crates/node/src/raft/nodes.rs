//! The members of a first membership.

use std::collections::{BTreeMap, BTreeSet};

use raftwright_traits::{Node, NodeId};

/// Members, with what is stored about them or without.
pub trait IntoNodes<NID: NodeId, N: Node> {
    /// The members.
    fn into_nodes(self) -> BTreeMap<NID, N>;
}

impl<NID: NodeId, N: Node> IntoNodes<NID, N> for BTreeMap<NID, N> {
    fn into_nodes(self) -> BTreeMap<NID, N> {
        self
    }
}

impl<NID: NodeId, N: Node> IntoNodes<NID, N> for BTreeSet<NID> {
    fn into_nodes(self) -> BTreeMap<NID, N> {
        self.into_iter().map(|id| (id, N::default())).collect()
    }
}
