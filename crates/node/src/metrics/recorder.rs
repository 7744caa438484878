//! Counting what a node does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use raftwright_traits::{LogIndex, Span, Term};

use crate::ServerState;
use crate::responder::quietly;
use crate::sync::lock;

/// Is told of everything that is worth counting, as it happens: for counters and histograms of a metrics library. Called
/// from the node's own tasks: it must be quick and never block. A panic of it is caught and noted.
///
/// Every method does nothing unless it is written.
pub trait MetricsRecorder: Send + Sync + 'static {
    /// So many writes were proposed in one go.
    fn record_proposals(&self, writes: usize) {
        let _ = writes;
    }

    /// So many entries were handed to the log in one write.
    fn record_append(&self, entries: usize) {
        let _ = entries;
    }

    /// A log write became durable so long after it was submitted.
    fn record_flush(&self, took: Span) {
        let _ = took;
    }

    /// A request with so many entries was sent to one target. None is a probe, or tells the commit index.
    fn record_replicate(&self, entries: usize) {
        let _ = entries;
    }

    /// The state machine has applied so many entries in one batch, in this time.
    fn record_apply(&self, entries: usize, took: Span) {
        let _ = (entries, took);
    }

    /// Entries up to this index are known to be committed.
    fn record_committed(&self, index: LogIndex) {
        let _ = index;
    }

    /// The node's role or term has changed.
    fn record_state(&self, state: ServerState, term: Term) {
        let _ = (state, term);
    }
}

/// The recorder of a node, if it has one.
pub(crate) struct Recorder {
    set: AtomicBool,
    recorder: Mutex<Option<Arc<dyn MetricsRecorder>>>,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Self { set: AtomicBool::new(false), recorder: Mutex::new(None) }
    }

    pub(crate) fn set(&self, recorder: Option<Arc<dyn MetricsRecorder>>) {
        let mut place = lock(&self.recorder);
        self.set.store(recorder.is_some(), Ordering::Release);
        *place = recorder;
    }

    /// Tells the recorder. Costs next to nothing if there is none.
    pub(crate) fn tell(&self, tell: impl FnOnce(&dyn MetricsRecorder)) {
        if !self.set.load(Ordering::Acquire) {
            return;
        }
        let recorder = lock(&self.recorder).clone();
        if let Some(recorder) = recorder {
            quietly(|| tell(recorder.as_ref()));
        }
    }
}
