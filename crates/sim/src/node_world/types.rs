//! The types of the simulated application.

use bytes::Bytes;
use raftwright_traits::{BasicNode, declare_raft_types};

use crate::runtime::SimRuntime;

declare_raft_types!(
    /// A map of strings, on the simulator's runtime.
    pub App: D = Bytes, R = Option<String>, NodeId = u64, Node = BasicNode, AsyncRuntime = SimRuntime
);

/// The command that sets a key.
pub fn set(key: &str, value: &str) -> Bytes {
    Bytes::from(format!("{key}={value}"))
}
