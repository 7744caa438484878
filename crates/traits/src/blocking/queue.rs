//! What the handles and the store's thread share: the queue between them, and the log as it is with all that was
//! submitted.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use raftwright_core::{LogIdOption, LogShape, RaftEntry};

use super::answer::Sender;
use crate::{IOFlushed, LogIdOf, LogIndex, Of, RaftTypeConfig, StorageError, StorageErrorKind, VoteOf};

/// Most reads that wait for the store's thread; a reader has one at a time. Past it, a read is refused.
pub(super) const READS_MAX: usize = 1 << 10;

/// Bounds of a [`BlockingLog`](super::BlockingLog). What a node has under way is bounded by less than the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockingLogOptions {
    /// Most writes that wait for the store's thread. An append beyond it stops the log: the order of writes is a promise,
    /// and nobody may wait here.
    pub queue_writes_max: usize,
    /// Bytes of entries at which no further append may wait for the store's thread, and what happens there is the same.
    pub queue_bytes_max: usize,
    /// Bytes of entries after which a batch takes no further write: more would only make everybody wait for its flush.
    pub batch_bytes_max: usize,
    /// Bytes of recent entries that are kept in memory besides those that are not flushed yet. Older ones are read on the
    /// store's thread.
    pub recent_bytes_max: usize,
}

impl Default for BlockingLogOptions {
    fn default() -> Self {
        Self {
            queue_writes_max: 64 << 10,
            queue_bytes_max: 256 << 20,
            batch_bytes_max: 4 << 20,
            recent_bytes_max: 16 << 20,
        }
    }
}

/// By how much votes, truncations and purges may exceed the bounds: they must not be refused because of a burst of appends,
/// and who submits them does so one at a time.
const RESERVE_FACTOR: usize = 2;

/// A write that waits.
pub(super) enum Write<C: RaftTypeConfig> {
    Vote(VoteOf<C>),
    Append(Vec<C::Entry>),
    Truncate(LogIndex),
    Purge(LogIdOf<C>),
    /// A purge of a log that holds another entry there: what the store has from there on goes first.
    Replace(LogIdOf<C>),
    /// Changes nothing, and is completed in its turn.
    Nothing,
}

/// A write, its token, and the bytes of its entries.
pub(super) struct Queued<C: RaftTypeConfig> {
    pub(super) write: Write<C>,
    pub(super) flushed: IOFlushed,
    pub(super) bytes: usize,
}

/// A read that waits.
pub(super) struct Read<C: RaftTypeConfig> {
    pub(super) start: LogIndex,
    pub(super) end: LogIndex,
    pub(super) bytes_max: usize,
    pub(super) sender: Sender<Result<Vec<C::Entry>, StorageError>>,
}

/// An entry in memory, and the number of the write that brought it.
struct Recent<C: RaftTypeConfig> {
    write: u64,
    entry: C::Entry,
}

pub(super) struct State<C: RaftTypeConfig> {
    pub(super) options: BlockingLogOptions,
    pub(super) writes: VecDeque<Queued<C>>,
    pub(super) queued_bytes: usize,
    pub(super) reads: VecDeque<Read<C>>,
    /// Why no write is taken any more.
    pub(super) stopped: Option<StorageError>,
    /// The handle is gone: the thread ends when everything is done.
    pub(super) closing: bool,
    /// The thread has ended, or has never begun.
    pub(super) ended: bool,
    /// Writes that were submitted, and how many of them are flushed.
    submitted: u64,
    done: u64,
    /// Counts what takes entries away. A read that it overtakes begins again.
    pub(super) cuts: u64,
    pub(super) vote: Option<VoteOf<C>>,
    pub(super) committed: Option<LogIdOf<C>>,
    pub(super) committed_unsaved: bool,
    /// Which entry stands where.
    pub(super) shape: LogShape<Of<C>>,
    /// The last entries: at least all that are not flushed.
    recent: VecDeque<Recent<C>>,
    recent_bytes: usize,
}

impl<C: RaftTypeConfig> State<C> {
    pub(super) fn new(
        options: BlockingLogOptions,
        shape: LogShape<Of<C>>,
        vote: Option<VoteOf<C>>,
        committed: Option<LogIdOf<C>>,
    ) -> Self {
        Self {
            options,
            writes: VecDeque::new(),
            queued_bytes: 0,
            reads: VecDeque::new(),
            stopped: None,
            closing: false,
            ended: false,
            submitted: 0,
            done: 0,
            cuts: 0,
            vote,
            committed,
            committed_unsaved: false,
            shape,
            recent: VecDeque::new(),
            recent_bytes: 0,
        }
    }

    /// The index behind the last entry.
    pub(super) fn next(&self) -> LogIndex {
        self.shape.last().next_index()
    }

    /// Index of the first entry that is in memory, or `next`.
    pub(super) fn recent_first(&self) -> LogIndex {
        self.next().saturating_sub(self.recent.len() as u64)
    }

    /// Entries of `start..end` that are in memory, from `start` on, up to the limit; the first one whatever its size.
    pub(super) fn recent(&self, start: LogIndex, end: LogIndex, bytes_max: usize) -> Vec<C::Entry> {
        let first = self.recent_first();
        let offset =
            |index: LogIndex| usize::try_from(index.saturating_sub(first)).unwrap_or(usize::MAX).min(self.recent.len());
        let (from, to) = (offset(start), offset(end));
        let mut bytes = 0usize;
        let some = self.recent.range(from..to.max(from)).enumerate().take_while(|(i, recent)| {
            bytes = bytes.saturating_add(recent.entry.size());
            *i == 0 || bytes <= bytes_max
        });
        some.map(|(_, recent)| recent.entry.clone()).collect()
    }

    /// Why this write cannot be taken.
    fn refusal(&self, write: &Write<C>) -> Option<StorageError> {
        let refused = |why: String| Some(StorageError::new(StorageErrorKind::Write, why));
        if let Some(stopped) = &self.stopped {
            return Some(stopped.clone());
        }
        if self.ended {
            return refused("the thread of the log has ended".to_owned());
        }
        let factor = if matches!(write, Write::Append(_)) { 1 } else { RESERVE_FACTOR };
        if self.writes.len() >= self.options.queue_writes_max.saturating_mul(factor)
            || self.queued_bytes >= self.options.queue_bytes_max.saturating_mul(factor)
        {
            let (writes, bytes) = (self.writes.len(), self.queued_bytes);
            return refused(format!("{writes} writes of {bytes} bytes wait for the disk: it cannot keep up"));
        }
        if let Write::Append(entries) = write {
            let mut last = self.shape.last();
            for id in entries.iter().map(RaftEntry::log_id) {
                let next = last.next_index();
                if id.index != next {
                    return refused(format!("entry {id} was appended where {next} belongs"));
                }
                if let Some(before) = last.filter(|before| before.leader_id > id.leader_id) {
                    return refused(format!("entry {id} was appended behind {before}, of a later leader"));
                }
                last = Some(id);
            }
        }
        None
    }

    /// Takes a write: from now on it can be read. One that cannot be taken stops the log.
    pub(super) fn submit(&mut self, write: Write<C>, flushed: IOFlushed) -> Result<(), Box<(StorageError, IOFlushed)>> {
        if let Some(error) = self.refusal(&write) {
            self.stopped.get_or_insert_with(|| error.clone());
            return Err(Box::new((error, flushed)));
        }
        let number = self.submitted;
        self.submitted += 1;
        let mut bytes = 0;
        let write = match write {
            Write::Vote(vote) => {
                self.vote = Some(vote);
                Write::Vote(vote)
            }
            Write::Append(entries) if entries.is_empty() => Write::Nothing,
            Write::Append(entries) => {
                bytes = self.remember(number, &entries);
                Write::Append(entries)
            }
            Write::Truncate(since) => {
                let since = since.max(self.shape.purged().next_index());
                if since < self.next() {
                    self.truncate(since);
                    Write::Truncate(since)
                } else {
                    Write::Nothing
                }
            }
            // What is purged stays purged.
            Write::Purge(upto) | Write::Replace(upto) if upto.index <= self.shape.purged().index_or_zero() => {
                Write::Nothing
            }
            Write::Purge(upto) | Write::Replace(upto) => {
                let other = self.shape.log_id_at(upto.index).is_some_and(|there| there != upto);
                self.purge(upto);
                if other { Write::Replace(upto) } else { Write::Purge(upto) }
            }
            Write::Nothing => Write::Nothing,
        };
        self.queued_bytes = self.queued_bytes.saturating_add(bytes);
        self.writes.push_back(Queued { write, flushed, bytes });
        Ok(())
    }

    /// Returns the bytes of the entries.
    fn remember(&mut self, write: u64, entries: &[C::Entry]) -> usize {
        let mut bytes = 0usize;
        for entry in entries {
            bytes = bytes.saturating_add(entry.size());
            self.shape.append(entry.log_id());
            self.recent.push_back(Recent { write, entry: entry.clone() });
        }
        self.recent_bytes = self.recent_bytes.saturating_add(bytes);
        bytes
    }

    fn truncate(&mut self, since: LogIndex) {
        self.cuts += 1;
        while self.recent.back().is_some_and(|recent| recent.entry.log_id().index >= since) {
            self.forget(VecDeque::pop_back);
        }
        self.shape.truncate(since);
    }

    fn purge(&mut self, upto: LogIdOf<C>) {
        self.cuts += 1;
        // Where another entry stands at this index, nothing stays.
        let upto_index = if self.shape.contains(upto) { upto.index } else { LogIndex::MAX };
        while self.recent.front().is_some_and(|recent| recent.entry.log_id().index <= upto_index) {
            self.forget(VecDeque::pop_front);
        }
        self.shape.purge(upto);
    }

    fn forget(&mut self, pop: fn(&mut VecDeque<Recent<C>>) -> Option<Recent<C>>) {
        if let Some(recent) = pop(&mut self.recent) {
            self.recent_bytes = self.recent_bytes.saturating_sub(recent.entry.size());
        }
    }

    /// So many writes more are flushed: what is in memory can be read from the store now, and the oldest of it need not stay.
    pub(super) fn flushed(&mut self, count: usize) {
        self.done = self.done.saturating_add(count as u64);
        while self.recent_bytes > self.options.recent_bytes_max
            && self.recent.front().is_some_and(|recent| recent.write < self.done)
        {
            self.forget(VecDeque::pop_front);
        }
    }
}

pub(super) struct Shared<C: RaftTypeConfig> {
    state: Mutex<State<C>>,
    /// Signalled when the thread has something to do.
    pub(super) work: Condvar,
    /// Signalled when the thread has ended.
    pub(super) ended: Condvar,
}

impl<C: RaftTypeConfig> Shared<C> {
    pub(super) fn new(state: State<C>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(state), work: Condvar::new(), ended: Condvar::new() })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State<C>> {
        // Nothing panics half way through a change of the state, so what a poisoned lock guards is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
