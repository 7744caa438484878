//! How long the disk takes.

use std::collections::BTreeMap;

use raftwright_core::WriteId;
use raftwright_traits::{Span, Time};

/// When each log write was submitted that is not durable yet. Bounded as those are (`log_writes_max`).
pub(super) struct Flushes {
    submitted: BTreeMap<WriteId, Time>,
    last: Option<Span>,
}

impl Flushes {
    pub(super) fn new() -> Self {
        Self { submitted: BTreeMap::new(), last: None }
    }

    pub(super) fn submitted(&mut self, write: WriteId, now: Time) {
        self.submitted.insert(write, now);
    }

    /// The write is durable; how long that took.
    pub(super) fn done(&mut self, write: WriteId, now: Time) -> Option<Span> {
        let took = now.since(self.submitted.remove(&write)?);
        self.last = Some(took);
        Some(took)
    }

    /// How long the last one took.
    pub(super) fn last(&self) -> Option<Span> {
        self.last
    }
}
