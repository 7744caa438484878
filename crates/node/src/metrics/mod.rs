//! What a node shows of itself, and how to wait for it.

mod raft_metrics;
mod recorder;
mod wait;

pub use raft_metrics::{RaftDataMetrics, RaftMetrics, RaftServerMetrics};
pub use recorder::MetricsRecorder;
pub(crate) use recorder::Recorder;
pub use wait::{Wait, WaitError};
