//! A log in memory: for tests, and for measuring everything but the disk.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use raftwright_core::{LogIdOption, LogIndex, RaftEntry};

use crate::log_storage::half_open;
use crate::{IOFlushed, LogIdOf, LogState, RaftLogReader, RaftLogStorage, RaftTypeConfig, StorageError, VoteOf};

/// A log that is lost when the process ends. What it "stores" is "durable" at once.
///
/// It has no incarnation, since it cannot outlive one: do not restart a member of a real cluster on it.
#[derive(Clone, Debug, Default)]
pub struct MemLogStore<C: RaftTypeConfig> {
    inner: Arc<Mutex<Inner<C>>>,
}

#[derive(Debug)]
struct Inner<C: RaftTypeConfig> {
    vote: Option<VoteOf<C>>,
    purged: Option<LogIdOf<C>>,
    committed: Option<LogIdOf<C>>,
    entries: VecDeque<C::Entry>,
}

impl<C: RaftTypeConfig> Default for Inner<C> {
    fn default() -> Self {
        Self { vote: None, purged: None, committed: None, entries: VecDeque::new() }
    }
}

impl<C: RaftTypeConfig> Inner<C> {
    /// Where in `entries` an index would be.
    fn offset(&self, index: LogIndex) -> usize {
        let first = self.purged.next_index();
        usize::try_from(index.saturating_sub(first)).unwrap_or(usize::MAX).min(self.entries.len())
    }

    fn purge(&mut self, upto: LogIdOf<C>) {
        if upto.index <= self.purged.index_or_zero() {
            return;
        }
        let at = self.offset(upto.index);
        let is_there = self.entries.get(at).is_some_and(|entry| entry.log_id() == upto);
        let count = if is_there { at + 1 } else { self.entries.len() };
        self.entries.drain(..count);
        self.purged = Some(upto);
    }
}

impl<C: RaftTypeConfig> MemLogStore<C> {
    /// An empty log.
    pub fn new() -> Self {
        Self { inner: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<C>> {
        // Nothing in here panics half way through a change, so what a poisoned lock guards is whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: RaftTypeConfig> RaftLogReader<C> for MemLogStore<C> {
    async fn try_get_log_entries<RB: RangeBounds<LogIndex> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> Result<Vec<C::Entry>, StorageError> {
        let (start, end) = half_open(&range);
        let inner = self.lock();
        let (from, to) = (inner.offset(start), inner.offset(end));
        Ok(inner.entries.range(from..to.max(from)).cloned().collect())
    }

    async fn limited_get_log_entries(
        &mut self,
        start: LogIndex,
        end: LogIndex,
        bytes_max: usize,
    ) -> Result<Vec<C::Entry>, StorageError> {
        let inner = self.lock();
        let (from, to) = (inner.offset(start), inner.offset(end));
        let mut bytes = 0usize;
        let some = inner.entries.range(from..to.max(from)).enumerate().take_while(|(i, entry)| {
            bytes = bytes.saturating_add(entry.size());
            *i == 0 || bytes <= bytes_max
        });
        Ok(some.map(|(_, entry)| entry.clone()).collect())
    }
}

impl<C: RaftTypeConfig> RaftLogStorage<C> for MemLogStore<C> {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<C>, StorageError> {
        let inner = self.lock();
        let last_log_id = inner.entries.back().map(RaftEntry::log_id).or(inner.purged);
        Ok(LogState { last_purged_log_id: inner.purged, last_log_id, incarnation: None })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn read_vote(&mut self) -> Result<Option<VoteOf<C>>, StorageError> {
        Ok(self.lock().vote)
    }

    fn save_vote(&mut self, vote: &VoteOf<C>, flushed: IOFlushed) {
        self.lock().vote = Some(*vote);
        flushed.io_completed(Ok(()));
    }

    fn append(&mut self, entries: Vec<C::Entry>, flushed: IOFlushed) {
        self.lock().entries.extend(entries);
        flushed.io_completed(Ok(()));
    }

    fn truncate(&mut self, since: LogIndex, flushed: IOFlushed) {
        let mut inner = self.lock();
        let keep = inner.offset(since);
        inner.entries.truncate(keep);
        drop(inner);
        flushed.io_completed(Ok(()));
    }

    fn purge(&mut self, upto: LogIdOf<C>, flushed: IOFlushed) {
        self.lock().purge(upto);
        flushed.io_completed(Ok(()));
    }

    fn save_committed(&mut self, committed: Option<LogIdOf<C>>) {
        self.lock().committed = committed;
    }

    async fn read_committed(&mut self) -> Result<Option<LogIdOf<C>>, StorageError> {
        Ok(self.lock().committed)
    }
}
