//! What an embedder of Raft implements, and the types that it meets on the way: the full layer's vocabulary.
//!
//! Start at [`RaftTypeConfig`] and [`declare_raft_types!`]; then a log ([`RaftLogStorage`]), a state machine
//! ([`RaftStateMachine`]), a network ([`RaftNetworkFactory`], [`RaftNetworkV2`]) and, rarely, a runtime
//! ([`AsyncRuntime`]). The `raftwright` crate brings one of each.

mod any_error;
mod blocking;
mod codec;
mod config;
pub mod crc32c;
mod entry;
mod error;
mod flushed;
mod log_storage;
mod mem_log;
mod network;
mod node;
mod runtime;
mod snapshot;
mod state_machine;
mod store_ext;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "tokio-rt")]
mod tokio_runtime;
pub mod transfer;
mod type_config;

pub use any_error::{AnyError, CAUSES_MAX};
pub use blocking::{BlockingLog, BlockingLogOptions, BlockingLogReader, BlockingLogStore};
pub use codec::{AppBytes, DecodeError, EntryCodec, EntryKind, WireNodeId, membership_from_bytes, membership_to_bytes};
pub use config::{Config, ConfigError};
pub use entry::{Entry, EntryPayload};
pub use error::{
    ChangeMembershipError, ClientWriteError, Fatal, ForwardToLeader, HasOutcome, InitializeError,
    LinearizableReadError, Outcome, RPCError, RaftError, ReloadError, StorageError, StorageErrorKind,
    TransferLeaderError, UnknownReason,
};
pub use flushed::{FlushSink, IOFlushed};
pub use log_storage::{LogSpace, LogState, RaftLogReader, RaftLogStorage};
pub use mem_log::MemLogStore;
pub use network::{RPCOption, RaftNetworkFactory, RaftNetworkV2, SequentialAppend};
pub use node::{BasicNode, EmptyNode};
pub use runtime::{AsyncRuntime, JoinError};
pub use snapshot::{Snapshot, SnapshotContent, SnapshotMeta, SnapshotRequest};
pub use state_machine::{RaftSnapshotBuilder, RaftStateMachine};
pub use store_ext::{
    Defensive, DefensiveError, DefensiveSwitch, ErrorSubject, ErrorVerb, RaftStorageDebug, ReaderExt, Rules,
    SnapshotBuilderExt, StorageIOError, StoreExt, Violation,
};
#[cfg(feature = "tokio-rt")]
pub use tokio_runtime::TokioRuntime;
pub use type_config::{
    AppData, AppDataResponse, AppendEntriesRequest, AppendEntriesResponse, AppendOutcome, ChangeConditions,
    ChangeMembers, CommittedLeaderIdOf, FromAppData, HeartbeatRequest, HeartbeatResponse, InstallOutcome,
    InstallSnapshotRequest, InstallSnapshotResponse, LogIdOf, MembershipOf, Of, RaftTypeConfig, ReadIndexAnswer,
    ReadIndexRequest, ReadIndexResponse, StoredMembership, TransferLeaderRequest, VoteOf, VoteRequest, VoteResponse,
};

pub use raftwright_core::{
    AdvancedLeaderId, CommittedLeaderId, CommittedTerm, ElectionPriority, Identity, Incarnation, LeaderId, LogId,
    LogIdOption, LogIndex, Membership, MembershipError, Node, NodeId, PeerRefusal, RaftEntry, ReadPolicy, Round,
    SnapshotPolicy, Span, StandardLeaderId, Term, Time, Vote, VoteKind,
};

#[doc(hidden)]
pub mod macro_support {
    //! What `declare_raft_types!` expands to.
    pub use bytes::Bytes;
}
