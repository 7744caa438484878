//! The one type parameter of this crate, and what its parts must be able to do.

use core::fmt::{Debug, Display};
use core::hash::Hash;

use crate::{LeaderId, LogIdOf, Membership, MembershipOf};

/// Position of an entry in the log. The first entry has index 1, as in the paper (Raft, Figure 2).
pub type LogIndex = u64;

/// An election term (Raft §5.1). The first election of a cluster has term 1; term 0 belongs to the entry that
/// initialized the cluster, before any election.
pub type Term = u64;

/// With the feature `serde`: can be serialized. Without it: nothing.
#[cfg(feature = "serde")]
pub trait MaybeSerde: serde::Serialize + serde::de::DeserializeOwned {}
#[cfg(feature = "serde")]
impl<X: serde::Serialize + serde::de::DeserializeOwned> MaybeSerde for X {}

/// With the feature `serde`: can be serialized. Without it: nothing.
#[cfg(not(feature = "serde"))]
pub trait MaybeSerde {}
#[cfg(not(feature = "serde"))]
impl<X> MaybeSerde for X {}

/// Identifies a server within its cluster.
pub trait NodeId: MaybeSerde + Copy + Debug + Display + Default + Eq + Ord + Hash + Send + Sync + 'static {}

impl<X> NodeId for X where X: MaybeSerde + Copy + Debug + Display + Default + Eq + Ord + Hash + Send + Sync + 'static {}

/// A number minted when a data directory is made. A server whose disk was emptied comes back with another one, and is
/// thus a stranger to everybody who knew it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

/// In text, 16 hexadecimal digits: not every reader of JSON can hold a number of 64 bits.
#[cfg(feature = "serde")]
impl serde::Serialize for Incarnation {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { serializer.serialize_u64(self.0) }
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Incarnation {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return u64::deserialize(deserializer).map(Self);
        }
        let text = <alloc::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map(Self).map_err(serde::de::Error::custom)
    }
}

impl Display for Incarnation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Who sends a message: the server and the incarnation of its storage. `None` is a store that cannot tell its
/// incarnations apart (one in memory, say); it is then matched by its id alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Identity<NID> {
    /// The server's id.
    pub id: NID,
    /// The incarnation of its data directory.
    pub incarnation: Option<Incarnation>,
}

impl<NID: Display> Display for Identity<NID> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.incarnation {
            Some(incarnation) => write!(f, "{}@{incarnation}", self.id),
            None => write!(f, "{}", self.id),
        }
    }
}

/// What the membership stores about a server besides its id: its address, usually.
pub trait Node: MaybeSerde + Clone + Debug + Default + Eq + Send + Sync + 'static {
    /// The incarnation that votes and acknowledgements of this server must carry, once it is known.
    fn incarnation(&self) -> Option<Incarnation>;

    /// Binds the server to an incarnation. Called by a leader on first contact with a member whose incarnation the
    /// membership does not name yet. A type that cannot store it ignores the call and answers `false`.
    fn bind_incarnation(&mut self, incarnation: Incarnation) -> bool;
}

impl Node for () {
    fn incarnation(&self) -> Option<Incarnation> {
        None
    }

    fn bind_incarnation(&mut self, _: Incarnation) -> bool {
        false
    }
}

/// The types that an embedder chooses. Everything in this crate is generic over this one parameter.
pub trait Types: Copy + Debug + Default + Eq + Ord + Hash + Send + Sync + 'static {
    /// A server's id.
    type NodeId: NodeId;
    /// What the membership stores about a server.
    type Node: Node;
    /// Standard (one leader a term) or advanced (totally ordered) leader ids.
    type LeaderId: LeaderId<NodeId = Self::NodeId>;
    /// A log entry. Moved through this crate, never cloned.
    type Entry: RaftEntry<Self>;
}

/// What the protocol looks at in a log entry: its log id, a membership if it carries one, its size. Nothing else.
pub trait RaftEntry<T: Types>: Sized + Debug + Send + Sync + 'static {
    /// The blank entry that a new leader appends (Raft §8).
    fn blank(log_id: LogIdOf<T>) -> Self;

    /// An entry that changes the membership (Raft §6).
    fn of_membership(log_id: LogIdOf<T>, membership: MembershipOf<T>) -> Self;

    /// The entry's log id.
    fn log_id(&self) -> LogIdOf<T>;

    /// Gives a proposed entry its place in the log.
    fn set_log_id(&mut self, log_id: LogIdOf<T>);

    /// The membership, if this entry carries one.
    fn membership(&self) -> Option<&Membership<T::NodeId, T::Node>>;

    /// About how many bytes the entry takes on disk and on the wire. Windows and admission count with it.
    fn size(&self) -> usize;
}
