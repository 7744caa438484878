//! The handle: what users and peers call.

mod client;
mod handle;
mod nodes;
mod peer;
mod runtime_config;
mod snapshots;
mod start;
mod write;

pub use handle::{Raft, Trigger};
pub use nodes::IntoNodes;
pub use runtime_config::RuntimeConfig;
pub use write::{WriteMany, WriteRequest};
