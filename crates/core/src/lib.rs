//! The Raft protocol as two pure machines, without IO, clock or async.
//!
//! * [`Replica`] owns what *safety* needs: vote, shape of the log, commit index, what each server has matched,
//!   membership, read rounds. One per group.
//! * [`Stream`] owns what *speed* needs: next index, probing and pipelining, the window, retries. One per target.
//!
//! A shell feeds a machine [`Input`]s with the present time, executes the [`Effect`]s in their order, and wakes it at
//! its deadline. The shell owes two things only: it submits log writes in the order given, and makes them readable once
//! submitted. See `ARCHITECTURE.md`.
#![no_std]

extern crate alloc;

mod candidate;
mod canonical;
mod change;
mod config;
mod effect;
mod effects;
mod ids;
mod input;
pub mod invariants;
mod leader;
mod leader_id;
mod log_id;
mod log_shape;
mod membership;
mod membership_log;
mod message;
mod outbox;
mod pace;
mod peer;
mod replica;
mod rng;
mod role;
mod rounds;
#[doc(hidden)]
pub mod sabotage;
mod snapshot;
mod state;
mod stream;
mod time;
mod types;
mod vote;
mod write_tracker;

pub use canonical::Canonical;
pub use change::{ChangeConditions, ChangeMembers};
pub use config::{ClockDrift, ElectionPriority, ReplicaConfig, StreamConfig};
pub use effect::{Effect, Note, Refusal, Reply, StepDown, Tail, Write};
pub use effects::Effects;
pub use ids::{Round, StreamId, Ticket, WriteId};
pub use input::{Input, ReadPolicy, Report};
pub use leader_id::{AdvancedLeaderId, CommittedLeaderId, CommittedTerm, LeaderId, StandardLeaderId};
pub use log_id::{CommittedLeaderIdOf, LogId, LogIdOf, LogIdOption};
pub use log_shape::LogShape;
pub use membership::{Membership, MembershipError, MembershipOf, StoredMembership};
pub use message::{
    AppendEntriesRequest, AppendEntriesResponse, AppendOutcome, HeartbeatRequest, HeartbeatResponse, InstallOutcome,
    InstallSnapshotRequest, InstallSnapshotResponse, Message, PeerRefusal, ReadIndexAnswer, ReadIndexRequest,
    ReadIndexResponse, TransferLeaderRequest, VoteKind, VoteRequest, VoteResponse,
};
pub use replica::{Load, Replica, RestoreError, Restored};
pub use rng::Rng;
pub use role::ServerState;
pub use snapshot::SnapshotPolicy;
pub use stream::{Stream, StreamEffect, StreamInput};
pub use time::{Span, Time};
pub use types::{Identity, Incarnation, LogIndex, MaybeSerde, Node, NodeId, RaftEntry, Term, Types};
pub use vote::{Vote, VoteOf};
