//! The state machine's task: the worker, and what it is asked.

mod inbox;
mod worker;

pub(crate) use inbox::Inbox;
pub(crate) use worker::{Closure, Worker};
