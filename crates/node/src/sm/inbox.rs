//! What `RaftCore` hands to the state machine's worker.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use raftwright_traits::{LogIdOf, RaftTypeConfig};

use crate::msg::ReadTx;
use crate::pending::{PendingWrites, Waiter};
use crate::sm::Install;
use crate::sync::{Reader, lock};

/// A read that waits for an entry to be applied.
pub(crate) type ReadWaiter<C> = (LogIdOf<C>, ReadTx<C>);

/// How far to apply, and who waits for it. `RaftCore` never waits here: "apply up to" is one value that grows, and those
/// who wait are counted before they are let in (`WRITES_WAITING_MAX`, `reads_max`). The replica wants one snapshot built at
/// a time, and one installed.
pub(crate) struct Inbox<C: RaftTypeConfig> {
    inner: Mutex<Orders<C>>,
    writes_waiting: AtomicUsize,
    reads_waiting: AtomicUsize,
}

struct Orders<C: RaftTypeConfig> {
    taken: Taken<C>,
    reader: Reader,
}

/// What has come in since the last look.
pub(crate) struct Taken<C: RaftTypeConfig> {
    pub(crate) upto: Option<LogIdOf<C>>,
    /// Ascending by index.
    pub(crate) writes: VecDeque<Waiter<C>>,
    pub(crate) reads: Vec<ReadWaiter<C>>,
    /// Build a snapshot that holds at least this entry.
    pub(crate) build: Option<LogIdOf<C>>,
    pub(crate) install: Option<Install<C>>,
    pub(crate) stop: bool,
}

impl<C: RaftTypeConfig> Taken<C> {
    pub(crate) fn new() -> Self {
        Self { upto: None, writes: VecDeque::new(), reads: Vec::new(), build: None, install: None, stop: false }
    }

    fn is_empty(&self) -> bool {
        self.upto.is_none() && self.reads.is_empty() && self.build.is_none() && self.install.is_none() && !self.stop
    }
}

impl<C: RaftTypeConfig> Inbox<C> {
    pub(crate) fn new() -> Self {
        Self {
            inner: Mutex::new(Orders { taken: Taken::new(), reader: Reader::new() }),
            writes_waiting: AtomicUsize::new(0),
            reads_waiting: AtomicUsize::new(0),
        }
    }

    fn change(&self, change: impl FnOnce(&mut Taken<C>)) {
        let mut inner = lock(&self.inner);
        change(&mut inner.taken);
        inner.reader.wake();
    }

    /// Apply up to here, and answer those of the writes whose entries that are.
    pub(crate) fn apply(&self, upto: LogIdOf<C>, pending: &mut PendingWrites<C>) {
        self.change(|taken| {
            taken.upto = Some(upto);
            let before = taken.writes.len();
            pending.take_upto(upto.index, &mut taken.writes);
            self.writes_waiting.fetch_add(taken.writes.len() - before, Ordering::Relaxed);
        });
    }

    /// Build a snapshot once this entry is applied.
    pub(crate) fn build(&self, at: LogIdOf<C>) {
        self.change(|taken| taken.build = Some(at));
    }

    /// Replace the state by that of a snapshot.
    pub(crate) fn install(&self, install: Install<C>) {
        self.change(|taken| taken.install = Some(install));
    }

    /// Answer this read once its entry is applied.
    pub(crate) fn read(&self, waiter: ReadWaiter<C>) {
        self.reads_waiting.fetch_add(1, Ordering::Relaxed);
        self.change(|taken| taken.reads.push(waiter));
    }

    /// Take nothing more up. Whoever waits in here sees that no answer will come.
    pub(crate) fn stop(&self) {
        let mut dropped = Taken::new();
        self.change(|taken| {
            std::mem::swap(taken, &mut dropped);
            taken.stop = true;
        });
    }

    /// Writes handed over and not answered.
    pub(crate) fn writes_waiting(&self) -> usize {
        self.writes_waiting.load(Ordering::Relaxed)
    }

    /// Reads handed over and not answered.
    pub(crate) fn reads_waiting(&self) -> usize {
        self.reads_waiting.load(Ordering::Relaxed)
    }

    pub(crate) fn writes_answered(&self, count: usize) {
        self.writes_waiting.fetch_sub(count, Ordering::Relaxed);
    }

    pub(crate) fn reads_answered(&self, count: usize) {
        self.reads_waiting.fetch_sub(count, Ordering::Relaxed);
    }

    /// Takes all there is into `into`, which must be empty.
    pub(crate) fn poll_take(&self, cx: &mut Context<'_>, into: &mut Taken<C>) -> Poll<()> {
        let mut inner = lock(&self.inner);
        if inner.taken.is_empty() {
            inner.reader.wait(cx);
            return Poll::Pending;
        }
        std::mem::swap(&mut inner.taken, into);
        Poll::Ready(())
    }
}
