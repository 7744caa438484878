//! What a node shows of itself, and how to wait for it.

mod raft_metrics;
mod wait;

pub use raft_metrics::{RaftDataMetrics, RaftMetrics, RaftServerMetrics};
pub use wait::{Wait, WaitError};
