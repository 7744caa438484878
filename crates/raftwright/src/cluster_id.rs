//! Which cluster a node belongs to: a number of 128 bits, the same on every node, kept in the data directory.

use std::collections::BTreeMap;
use std::fmt;

use raftwright_traits::{AsyncRuntime, TokioRuntime};

/// Names a cluster. Nodes of different clusters never talk to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u128);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl From<ClusterId> for raftwright_net::ClusterId {
    fn from(id: ClusterId) -> Self {
        Self(id.0.to_be_bytes())
    }
}

impl From<raftwright_net::ClusterId> for ClusterId {
    fn from(id: raftwright_net::ClusterId) -> Self {
        Self(u128::from_be_bytes(id.0))
    }
}

impl ClusterId {
    /// The id of the cluster of that name that begins with these members. Nodes that were given the same come to the
    /// same id, each for itself.
    pub fn of_initial(name: &str, members: &BTreeMap<u64, String>) -> Self {
        let mut hash = Fnv::new();
        hash.field(b"raftwright initial cluster 1");
        hash.field(name.as_bytes());
        for (id, addr) in members {
            hash.field(&id.to_be_bytes());
            hash.field(addr.as_bytes());
        }
        Self(hash.0)
    }

    /// The id of the cluster that this server is made the first of by a call. It follows from the data directory, so that the
    /// call may be made again after a crash in the middle of it.
    pub fn of_founder(id: u64, incarnation: u64) -> Self {
        let mut hash = Fnv::new();
        hash.field(b"raftwright founder 1");
        hash.field(&id.to_be_bytes());
        hash.field(&incarnation.to_be_bytes());
        Self(hash.0)
    }

    /// A random id, for a cluster that is begun anew from what is left of another.
    pub fn random(runtime: &TokioRuntime) -> Self {
        Self(u128::from(runtime.random_u64()) << 64 | u128::from(runtime.random_u64()))
    }
}

/// FNV-1a with 128 bits: enough to tell clusters apart by accident; nobody is to be kept from forging an id, since ids are
/// no secret.
struct Fnv(u128);

impl Fnv {
    fn new() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }

    /// The length goes first, so that no two lists of fields run together to the same bytes.
    fn field(&mut self, bytes: &[u8]) {
        for byte in (bytes.len() as u64).to_be_bytes().iter().chain(bytes) {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str, members: &[(u64, &str)]) -> ClusterId {
        ClusterId::of_initial(name, &members.iter().map(|(id, addr)| (*id, (*addr).to_owned())).collect())
    }

    #[test]
    fn the_same_list_in_any_order_gives_the_same_id() {
        assert_eq!(id("a", &[(1, "x:1"), (2, "y:2")]), id("a", &[(2, "y:2"), (1, "x:1")]));
    }

    #[test]
    fn any_difference_gives_another_id() {
        let ids = [
            id("a", &[(1, "x:1"), (2, "y:2")]),
            id("b", &[(1, "x:1"), (2, "y:2")]),
            id("a", &[(1, "x:1"), (3, "y:2")]),
            id("a", &[(1, "x:1"), (2, "y:3")]),
            id("a", &[(1, "x:1")]),
            id("", &[]),
        ];
        let distinct: std::collections::BTreeSet<ClusterId> = ids.into_iter().collect();
        assert_eq!(distinct.len(), ids.len());
    }

    /// Nodes compute it for themselves, maybe with different releases: it must never change.
    #[test]
    fn golden() {
        assert_eq!(id("raftwright", &[(1, "127.0.0.1:1")]).to_string(), "b4271f4f7d355352706e3a2d09f31b74");
        assert_eq!(ClusterId::of_founder(1, 2).to_string(), "ccbfc5906e5f55ca8241a0b5855bf27e");
        assert_ne!(ClusterId::of_founder(1, 2), ClusterId::of_founder(2, 1));
    }
}
