//! The state machine's task: the worker, and what it is asked.

mod inbox;
mod snapshots;
mod worker;

pub(crate) use inbox::Inbox;
pub(crate) use snapshots::{Install, SnapshotCall};
pub(crate) use worker::{Closure, Worker};
