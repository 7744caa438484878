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

mod config;
mod effect;
mod ids;
mod input;
mod leader_id;
mod log_id;
mod membership;
mod message;
mod rng;
mod time;
mod types;
mod vote;

pub use config::{ReplicaConfig, StreamConfig};
pub use effect::{Effect, Note, Refusal, Reply, StepDown, Tail, Write};
pub use ids::{Round, StreamId, Ticket, WriteId};
pub use input::{Input, Report};
pub use leader_id::{AdvancedLeaderId, CommittedLeaderId, CommittedTerm, LeaderId, StandardLeaderId};
pub use log_id::{CommittedLeaderIdOf, LogId, LogIdOf, LogIdOption};
pub use membership::{Membership, MembershipError, MembershipOf, StoredMembership};
pub use message::{
    AppendEntriesRequest, AppendEntriesResponse, AppendOutcome, HeartbeatRequest, HeartbeatResponse, Message,
    PeerRefusal, TransferLeaderRequest, VoteKind, VoteRequest, VoteResponse,
};
pub use rng::Rng;
pub use time::{Span, Time};
pub use types::{Identity, Incarnation, LogIndex, MaybeSerde, Node, NodeId, RaftEntry, Term, Types};
pub use vote::{Vote, VoteOf};
