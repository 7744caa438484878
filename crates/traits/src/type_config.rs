//! The types that an application chooses, in one place.

use std::fmt::Debug;
use std::hash::Hash;
use std::marker::PhantomData;

use raftwright_core as core_types;
use raftwright_core::{LeaderId, LogId, Membership, Node, NodeId, RaftEntry, Types, Vote};

use crate::AsyncRuntime;

/// What a client asks the state machine to do: any owned, cloneable type. A clone should be cheap (a reference-counted
/// buffer), since entries are kept in memory while they are sent.
pub trait AppData: Clone + Debug + Send + Sync + 'static {}
impl<X: Clone + Debug + Send + Sync + 'static> AppData for X {}

/// What the state machine answers.
pub trait AppDataResponse: Debug + Send + Sync + 'static {}
impl<X: Debug + Send + Sync + 'static> AppDataResponse for X {}

/// The types of an application. [`declare_raft_types!`](crate::declare_raft_types) writes the implementation; only `D`
/// and `R` have no default.
pub trait RaftTypeConfig: Copy + Debug + Default + Eq + Ord + Hash + Send + Sync + 'static {
    /// What clients ask.
    type D: AppData;
    /// What the state machine answers.
    type R: AppDataResponse;
    /// A server's id.
    type NodeId: NodeId;
    /// What the membership stores about a server.
    type Node: Node;
    /// Standard or advanced leader ids.
    type LeaderId: LeaderId<NodeId = Self::NodeId>;
    /// A log entry, usually [`Entry<Self>`](crate::Entry).
    type Entry: RaftEntry<Of<Self>> + FromAppData<Self::D> + Clone;
    /// How a snapshot's content travels and is stored. The networks that come with this project send anything that is
    /// [`SnapshotContent`](crate::SnapshotContent).
    type SnapshotData: Send + Sync + 'static;
    /// What runs the tasks and tells the time.
    type AsyncRuntime: AsyncRuntime;

    /// About how many bytes `data` takes on disk and on the wire: windows and admission count with it. The default is
    /// the size of the value itself; data with buffers behind it should say so.
    fn data_size(data: &Self::D) -> usize {
        std::mem::size_of_val(data)
    }
}

/// An entry that can be made from what a client asks; its log id is set later.
pub trait FromAppData<D> {
    /// The entry.
    fn from_app_data(data: D) -> Self;
}

/// The core's view of an application's types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Of<C>(PhantomData<C>);

impl<C: RaftTypeConfig> Types for Of<C> {
    type NodeId = C::NodeId;
    type Node = C::Node;
    type LeaderId = C::LeaderId;
    type Entry = C::Entry;
}

/// The vote of an application's types.
pub type VoteOf<C> = Vote<<C as RaftTypeConfig>::LeaderId>;
/// The committed leader id of an application's types.
pub type CommittedLeaderIdOf<C> = <<C as RaftTypeConfig>::LeaderId as LeaderId>::Committed;
/// The log id of an application's types.
pub type LogIdOf<C> = LogId<CommittedLeaderIdOf<C>>;
/// The membership of an application's types.
pub type MembershipOf<C> = Membership<<C as RaftTypeConfig>::NodeId, <C as RaftTypeConfig>::Node>;
/// A membership and the entry that carries it.
pub type StoredMembership<C> = core_types::StoredMembership<Of<C>>;
/// RequestVote.
pub type VoteRequest<C> = core_types::VoteRequest<Of<C>>;
/// The answer to it.
pub type VoteResponse<C> = core_types::VoteResponse<Of<C>>;
/// AppendEntries.
pub type AppendEntriesRequest<C> = core_types::AppendEntriesRequest<Of<C>>;
/// The answer to it.
pub type AppendEntriesResponse<C> = core_types::AppendEntriesResponse<Of<C>>;
/// What became of the entries.
pub type AppendOutcome<C> = core_types::AppendOutcome<Of<C>>;
/// A heartbeat.
pub type HeartbeatRequest<C> = core_types::HeartbeatRequest<Of<C>>;
/// The answer to it.
pub type HeartbeatResponse<C> = core_types::HeartbeatResponse<Of<C>>;
/// A server that does not lead wants to read.
pub type ReadIndexRequest<C> = core_types::ReadIndexRequest<Of<C>>;
/// The answer to it.
pub type ReadIndexResponse<C> = core_types::ReadIndexResponse<Of<C>>;
/// What the leader says.
pub type ReadIndexAnswer<C> = core_types::ReadIndexAnswer<Of<C>>;
/// InstallSnapshot, less its content.
pub type InstallSnapshotRequest<C> = core_types::InstallSnapshotRequest<Of<C>>;
/// The answer to it.
pub type InstallSnapshotResponse<C> = core_types::InstallSnapshotResponse<Of<C>>;
/// What became of a snapshot that was sent.
pub type InstallOutcome<C> = core_types::InstallOutcome<Of<C>>;
/// A change of the membership.
pub type ChangeMembers<C> = core_types::ChangeMembers<Of<C>>;
/// What it depends on.
pub type ChangeConditions<C> = core_types::ChangeConditions<Of<C>>;
/// Take over.
pub type TransferLeaderRequest<C> = core_types::TransferLeaderRequest<Of<C>>;

/// Declares the types of an application. `D` and `R` must be named; the rest has defaults.
///
/// ```
/// raftwright_traits::declare_raft_types!(
///     /// The types of a counter.
///     pub TypeConfig:
///         D = u64,
///         R = u64,
/// );
/// ```
///
/// Defaults: `NodeId = u64`, `Node = BasicNode`, `LeaderId = StandardLeaderId<u64>`, `Entry = Entry<Self>`,
/// `SnapshotData = std::io::Cursor<Vec<u8>>`, `AsyncRuntime = TokioRuntime`. They may be given in this order, any left
/// out.
#[macro_export]
macro_rules! declare_raft_types {
    ($(#[$meta:meta])* $vis:vis $name:ident : D = $d:ty, R = $r:ty
        $(, NodeId = $nid:ty)? $(, Node = $node:ty)? $(, LeaderId = $lid:ty)? $(, Entry = $entry:ty)?
        $(, SnapshotData = $snap:ty)? $(, AsyncRuntime = $rt:ty)? $(,)?) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis struct $name;

        impl $crate::RaftTypeConfig for $name {
            type D = $d;
            type R = $r;
            type NodeId = $crate::declare_raft_types!(@or $($nid)?; u64);
            type Node = $crate::declare_raft_types!(@or $($node)?; $crate::BasicNode);
            type LeaderId = $crate::declare_raft_types!(@or $($lid)?; $crate::StandardLeaderId<Self::NodeId>);
            type Entry = $crate::declare_raft_types!(@or $($entry)?; $crate::Entry<$name>);
            type SnapshotData = $crate::declare_raft_types!(@or $($snap)?; ::std::io::Cursor<::std::vec::Vec<u8>>);
            type AsyncRuntime = $crate::declare_raft_types!(@or $($rt)?; $crate::TokioRuntime);
        }
    };
    (@or $given:ty; $default:ty) => { $given };
    (@or ; $default:ty) => { $default };
}
