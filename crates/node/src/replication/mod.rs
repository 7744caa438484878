//! Replication to one target: the task, and the queue into the network.

mod lane;
mod replication_core;

pub(crate) use replication_core::{ReplicationCore, Target};
