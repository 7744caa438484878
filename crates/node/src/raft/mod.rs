//! The handle: what users and peers call.

mod client;
mod handle;
mod nodes;
mod observe;
mod peer;
mod read;
mod runtime_config;
mod snapshots;
mod start;
mod stream_append;
mod write;

pub use handle::{Raft, Trigger};
pub use nodes::IntoNodes;
pub use observe::{LeaderChangeHandle, TooManyObservers};
pub use runtime_config::RuntimeConfig;
pub use stream_append::StreamAppend;
pub use write::{WriteMany, WriteRequest};
