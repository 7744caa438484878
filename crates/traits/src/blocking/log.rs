//! The handles of a log on a thread of its own.

use std::fmt::{self, Debug, Formatter};
use std::io;
use std::ops::{Range, RangeBounds};
use std::sync::{Arc, PoisonError};

use super::BlockingLogStore;
use super::answer::{Answer, answer};
use super::queue::{BlockingLogOptions, READS_MAX, Read, Shared, State, Write};
use super::worker::{Ending, is_of_a_log, run};
use crate::log_storage::half_open;
use crate::{
    IOFlushed, Incarnation, LogIdOf, LogIdOption, LogIndex, LogState, Of, RaftEntry, RaftLogReader, RaftLogStorage,
    RaftTypeConfig, StorageError, StorageErrorKind, VoteOf,
};
use raftwright_core::LogShape;

/// A [`RaftLogStorage`] made of a [`BlockingLogStore`].
///
/// Dropping it finishes and flushes what was submitted, and waits until the store is closed; then the store can be opened
/// again.
///
/// ```
/// # use raftwright_traits::{BlockingLog, BlockingLogStore, RaftTypeConfig, StorageError};
/// fn open<C: RaftTypeConfig>(store: impl BlockingLogStore<C>) -> Result<BlockingLog<C>, StorageError> {
///     BlockingLog::start(store, Default::default(), |work| std::thread::Builder::new().name("raft-log".into()).spawn(work).map(drop))
/// }
/// ```
pub struct BlockingLog<C: RaftTypeConfig> {
    reader: BlockingLogReader<C>,
    incarnation: Option<Incarnation>,
}

/// Reads a [`BlockingLog`] beside its writer.
pub struct BlockingLogReader<C: RaftTypeConfig> {
    shared: Arc<Shared<C>>,
}

impl<C: RaftTypeConfig> Clone for BlockingLogReader<C> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<C: RaftTypeConfig> Debug for BlockingLogReader<C> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let state = self.shared.lock();
        f.debug_struct("BlockingLogReader").field("shape", &state.shape).finish()
    }
}

impl<C: RaftTypeConfig> Debug for BlockingLog<C> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockingLog").field("reader", &self.reader).field("incarnation", &self.incarnation).finish()
    }
}

impl<C: RaftTypeConfig> BlockingLog<C> {
    /// Reads what the store holds, on the calling thread, and starts a thread for it: `spawn` is given the thread's work,
    /// which ends when the log is dropped. Who spawns it names it, pins it, or runs it in a runtime's pool.
    ///
    /// # Errors
    /// The store cannot be read, or there is no thread.
    pub fn start<S, F>(mut store: S, options: BlockingLogOptions, spawn: F) -> Result<Self, StorageError>
    where
        S: BlockingLogStore<C>,
        F: FnOnce(Box<dyn FnOnce() + Send>) -> io::Result<()>,
    {
        let found = store.get_log_state()?;
        let shape = shape(&mut store, &found)?;
        let state = State::new(options, shape, store.read_vote()?, store.read_committed()?);
        let shared = Shared::new(state);
        let ending = Ending(Arc::clone(&shared));
        spawn(Box::new(move || run(store, ending))).map_err(|error| {
            StorageError::new(StorageErrorKind::Write, format!("there is no thread for the log: {error}"))
        })?;
        Ok(Self { reader: BlockingLogReader { shared }, incarnation: found.incarnation })
    }

    fn submit(&self, write: Write<C>, flushed: IOFlushed) {
        let shared = &self.reader.shared;
        let mut state = shared.lock();
        let submitted = state.submit(write, flushed);
        drop(state);
        match submitted {
            Ok(()) => shared.work.notify_one(),
            Err(refused) => {
                let (error, flushed) = *refused;
                flushed.io_completed(Err(error));
            }
        }
    }
}

impl<C: RaftTypeConfig> Drop for BlockingLog<C> {
    fn drop(&mut self) {
        let shared = &self.reader.shared;
        let mut state = shared.lock();
        state.closing = true;
        shared.work.notify_one();
        // A token that is completed may be what drops the log, on the very thread that would have to end first.
        while !state.ended && !is_of_a_log() {
            state = shared.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Which entries a store holds: the first one of every leader, found by halving, for leaders ascend along the log.
fn shape<C, S>(store: &mut S, found: &LogState<C>) -> Result<LogShape<Of<C>>, StorageError>
where
    C: RaftTypeConfig,
    S: BlockingLogStore<C>,
{
    let purged = found.last_purged_log_id;
    let mut id_at = |index: LogIndex| match store.read(index, index.saturating_add(1), 0)?.first() {
        Some(entry) => Ok(entry.log_id()),
        None => Err(StorageError::missing_entry(index)),
    };
    let mut runs = Vec::new();
    let (mut at, last) = (purged.next_index(), found.last_log_id.index_or_zero());
    while at <= last {
        let run = id_at(at)?;
        let (mut low, mut high) = (at, last);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if id_at(middle)?.leader_id == run.leader_id { low = middle } else { high = middle - 1 }
        }
        runs.push(run);
        at = low.saturating_add(1);
    }
    LogShape::restore(purged, runs, found.last_log_id).ok_or_else(|| {
        StorageError::new(StorageErrorKind::Corrupt, "the entries of the log contradict what it says of itself")
    })
}

fn ended() -> StorageError {
    StorageError::new(StorageErrorKind::Read, "the thread of the log has ended")
}

/// What a read has to do next.
enum Step<C: RaftTypeConfig> {
    /// Nothing.
    Done,
    /// Wait for the store's thread, which reads these.
    Wait(Range<LogIndex>, Answer<Result<Vec<C::Entry>, StorageError>>),
    /// Begin again: the log was cut meanwhile, for the so many-th time.
    Again(u64),
}

impl<C: RaftTypeConfig> BlockingLogReader<C> {
    /// The entries of `start..end`, those in memory at once, older ones from the store's thread.
    async fn entries(&self, start: LogIndex, end: LogIndex, bytes_max: usize) -> Result<Vec<C::Entry>, StorageError> {
        let mut taken: Vec<C::Entry> = Vec::new();
        let mut cuts = self.shared.lock().cuts;
        loop {
            let (asked, answer) = match self.step(start..end, bytes_max, cuts, &mut taken)? {
                Step::Done => return Ok(taken),
                Step::Again(now) => {
                    taken.clear();
                    cuts = now;
                    continue;
                }
                Step::Wait(asked, answer) => (asked, answer),
            };
            let read = answer.await.ok_or_else(ended)?;
            if self.shared.lock().cuts != cuts {
                // What was asked for may be gone, and an error is no error then.
                continue;
            }
            let read = read?;
            let next = read.last().map(|last| last.log_id().index.saturating_add(1));
            taken.extend(read);
            match next {
                None => return Err(StorageError::missing_entry(asked.start)),
                // The store has stopped at the limit.
                Some(next) if next < asked.end && bytes_max < usize::MAX => return Ok(taken),
                Some(_) => {}
            }
        }
    }

    fn step(
        &self,
        range: Range<LogIndex>,
        bytes_max: usize,
        cuts: u64,
        taken: &mut Vec<C::Entry>,
    ) -> Result<Step<C>, StorageError> {
        let mut state = self.shared.lock();
        if state.cuts != cuts {
            return Ok(Step::Again(state.cuts));
        }
        let first = state.shape.purged().next_index().max(range.start);
        let at = taken.last().map_or(first, |last| last.log_id().index.saturating_add(1));
        let end = range.end.min(state.next());
        let bytes: usize = taken.iter().map(RaftEntry::size).sum();
        if at >= end || !taken.is_empty() && bytes >= bytes_max {
            return Ok(Step::Done);
        }
        let left = bytes_max.saturating_sub(bytes);
        let recent_first = state.recent_first();
        if at >= recent_first {
            let recent = state.recent(at, end, left);
            // The first entry of a second part is not given whatever its size.
            if taken.is_empty() || recent.first().is_some_and(|entry| entry.size() <= left) {
                taken.extend(recent);
            }
            return Ok(Step::Done);
        }
        if state.ended {
            return Err(ended());
        }
        if state.reads.len() >= READS_MAX {
            state.reads.retain(|read| !read.sender.is_abandoned());
        }
        if state.reads.len() >= READS_MAX {
            return Err(StorageError::new(StorageErrorKind::Read, "too many reads wait for the disk"));
        }
        let asked = at..end.min(recent_first);
        let (sender, answer) = answer();
        state.reads.push_back(Read { start: asked.start, end: asked.end, bytes_max: left, sender });
        drop(state);
        self.shared.work.notify_one();
        Ok(Step::Wait(asked, answer))
    }
}

impl<C: RaftTypeConfig> RaftLogReader<C> for BlockingLogReader<C> {
    async fn try_get_log_entries<RB: RangeBounds<LogIndex> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> Result<Vec<C::Entry>, StorageError> {
        let (start, end) = half_open(&range);
        self.entries(start, end, usize::MAX).await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: LogIndex,
        end: LogIndex,
        bytes_max: usize,
    ) -> Result<Vec<C::Entry>, StorageError> {
        self.entries(start, end, bytes_max).await
    }

    async fn log_id_at(&mut self, index: LogIndex) -> Result<LogIdOf<C>, StorageError> {
        let state = self.shared.lock();
        state.shape.log_id_at(index).ok_or_else(|| StorageError::missing_entry(index))
    }
}

impl<C: RaftTypeConfig> RaftLogReader<C> for BlockingLog<C> {
    async fn try_get_log_entries<RB: RangeBounds<LogIndex> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> Result<Vec<C::Entry>, StorageError> {
        self.reader.try_get_log_entries(range).await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: LogIndex,
        end: LogIndex,
        bytes_max: usize,
    ) -> Result<Vec<C::Entry>, StorageError> {
        self.reader.limited_get_log_entries(start, end, bytes_max).await
    }

    async fn log_id_at(&mut self, index: LogIndex) -> Result<LogIdOf<C>, StorageError> {
        self.reader.log_id_at(index).await
    }
}

impl<C: RaftTypeConfig> RaftLogStorage<C> for BlockingLog<C> {
    type LogReader = BlockingLogReader<C>;

    async fn get_log_state(&mut self) -> Result<LogState<C>, StorageError> {
        let state = self.reader.shared.lock();
        let (last_purged_log_id, last_log_id) = (state.shape.purged(), state.shape.last());
        Ok(LogState { last_purged_log_id, last_log_id, incarnation: self.incarnation })
    }

    async fn get_log_reader(&mut self) -> BlockingLogReader<C> {
        self.reader.clone()
    }

    async fn read_vote(&mut self) -> Result<Option<VoteOf<C>>, StorageError> {
        Ok(self.reader.shared.lock().vote)
    }

    fn save_vote(&mut self, vote: &VoteOf<C>, flushed: IOFlushed) {
        self.submit(Write::Vote(*vote), flushed);
    }

    fn append(&mut self, entries: Vec<C::Entry>, flushed: IOFlushed) {
        self.submit(Write::Append(entries), flushed);
    }

    fn truncate(&mut self, since: LogIndex, flushed: IOFlushed) {
        self.submit(Write::Truncate(since), flushed);
    }

    fn purge(&mut self, upto: LogIdOf<C>, flushed: IOFlushed) {
        self.submit(Write::Purge(upto), flushed);
    }

    fn save_committed(&mut self, committed: Option<LogIdOf<C>>) {
        let mut state = self.reader.shared.lock();
        if committed > state.committed {
            state.committed = committed;
            state.committed_unsaved = true;
        }
    }

    async fn read_committed(&mut self) -> Result<Option<LogIdOf<C>>, StorageError> {
        Ok(self.reader.shared.lock().committed)
    }
}
