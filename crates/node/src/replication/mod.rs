//! Replication to one target: the task, the queue into the network, and what sends snapshots.

mod lane;
mod replication_core;
mod snapshot_sender;

pub(crate) use replication_core::{ReplicationCore, Target};
