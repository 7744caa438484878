//! The handle: what users and peers call.

mod client;
mod handle;
mod nodes;
mod peer;
mod start;

pub use handle::{Raft, Trigger};
pub use nodes::IntoNodes;
