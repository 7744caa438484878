//! The asynchronous shell around the Raft core: the [`Raft`] handle and the tasks behind it.
//!
//! * `RaftCore` owns the [`Replica`](raftwright_core::Replica) and the log's writing end. It takes up calls and events many
//!   at a time, and waits for nothing but its inbox and its deadline.
//! * `ReplicationCore`, one for each target while this server leads, runs a [`Stream`](raftwright_core::Stream).
//! * `HeartbeatWorker`, one for each target while this server leads, owns the target's control lane.
//! * `sm::Worker` owns the state machine: applies, answers clients, lets closures at it.
//! * A short task for each vote or transfer call.
//!
//! Everything is spawned on, timed by and seeded from the [`AsyncRuntime`](raftwright_traits::AsyncRuntime), so that on a
//! deterministic one a whole cluster runs the same twice. Of `tokio` only the channels are used.

mod alarm;
mod calls;
mod heartbeat;
mod intake;
mod limits;
mod metrics;
mod msg;
mod notify;
mod pending;
mod proposal;
mod raft;
mod raft_core;
mod replication;
mod responder;
mod shared;
mod sm;
mod storage_helper;
mod sync;
mod tickets;

pub use metrics::{MetricsRecorder, RaftDataMetrics, RaftMetrics, RaftServerMetrics, Wait, WaitError};
pub use msg::ClientWriteResponse;
pub use proposal::Priority;
pub use raft::{
    IntoNodes, LeaderChangeHandle, Raft, RuntimeConfig, StreamAppend, TooManyObservers, Trigger, WriteMany,
    WriteRequest,
};
pub use raftwright_core::{ReadPolicy, ServerState};
pub use responder::{Responder, WriteResult};
