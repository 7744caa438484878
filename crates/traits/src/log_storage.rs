//! The log and the vote.

use std::fmt::Debug;
use std::future::Future;
use std::ops::{Bound, RangeBounds};

use raftwright_core::{Incarnation, LogIndex, RaftEntry};

use crate::{IOFlushed, LogIdOf, RaftTypeConfig, StorageError, VoteOf};

/// What a log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogState<C: RaftTypeConfig> {
    /// The last entry that was purged; `None` if none ever was.
    pub last_purged_log_id: Option<LogIdOf<C>>,
    /// The last entry, or `last_purged_log_id` if there is none behind it.
    pub last_log_id: Option<LogIdOf<C>>,
    /// The incarnation of the store, minted when it was made; `None` for a store that has none.
    pub incarnation: Option<Incarnation>,
}

impl<C: RaftTypeConfig> Default for LogState<C> {
    fn default() -> Self {
        Self { last_purged_log_id: None, last_log_id: None, incarnation: None }
    }
}

/// Whether a log has room for further entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogSpace {
    /// As far as is known.
    Free,
    /// The media is full. See [`RaftLogStorage::space`].
    Full,
}

/// Reads the log. Several readers may be in use while the log is written.
pub trait RaftLogReader<C: RaftTypeConfig>: Send + 'static {
    /// The entries in `range` that exist, contiguous, in order. An entry is there as soon as it was submitted.
    ///
    /// # Errors
    /// An entry that should be there cannot be read: stops the node.
    fn try_get_log_entries<RB: RangeBounds<LogIndex> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> impl Future<Output = Result<Vec<C::Entry>, StorageError>> + Send;

    /// Some of the entries of `start..end`, from `start` on: at least one if there is one, and no more than about
    /// `bytes_max` bytes of them.
    ///
    /// # Errors
    /// As [`try_get_log_entries`](Self::try_get_log_entries).
    fn limited_get_log_entries(
        &mut self,
        start: LogIndex,
        end: LogIndex,
        bytes_max: usize,
    ) -> impl Future<Output = Result<Vec<C::Entry>, StorageError>> + Send {
        async move {
            // Reads in small steps, so that a huge range is not all in memory before it is cut.
            const STEP: u64 = 64;
            let mut taken = Vec::new();
            let mut bytes = 0usize;
            let mut at = start;
            while at < end {
                let some = self.try_get_log_entries(at..end.min(at.saturating_add(STEP))).await?;
                if some.is_empty() {
                    break;
                }
                for entry in some {
                    bytes = bytes.saturating_add(entry.size());
                    if bytes > bytes_max && !taken.is_empty() {
                        return Ok(taken);
                    }
                    at = entry.log_id().index.saturating_add(1);
                    taken.push(entry);
                }
            }
            Ok(taken)
        }
    }

    /// The first entry of every leader in `first..=last`, in order: the shape of the log. The default finds them by
    /// binary search; a store that keeps an index can answer at once.
    ///
    /// # Errors
    /// As [`try_get_log_entries`](Self::try_get_log_entries), and if an entry of the range is missing.
    fn get_key_log_ids(
        &mut self,
        first: LogIndex,
        last: LogIdOf<C>,
    ) -> impl Future<Output = Result<Vec<LogIdOf<C>>, StorageError>> + Send {
        async move {
            let mut keys = Vec::new();
            let mut at = first;
            while at <= last.index {
                let key = self.log_id_at(at).await?;
                keys.push(key);
                // Leaders ascend along the log, so the last entry of this one is found by halving.
                let (mut low, mut high) = (at, last.index);
                while low < high {
                    let middle = low + (high - low).div_ceil(2);
                    if self.log_id_at(middle).await?.leader_id == key.leader_id {
                        low = middle
                    } else {
                        high = middle - 1
                    }
                }
                at = low.saturating_add(1);
            }
            Ok(keys)
        }
    }

    /// The log id of an entry that must exist.
    ///
    /// # Errors
    /// It does not, or cannot be read.
    fn log_id_at(&mut self, index: LogIndex) -> impl Future<Output = Result<LogIdOf<C>, StorageError>> + Send {
        async move {
            let entries = self.try_get_log_entries(index..=index).await?;
            match entries.first() {
                Some(entry) => Ok(entry.log_id()),
                None => Err(StorageError::missing_entry(index)),
            }
        }
    }
}

/// Writes the log and the vote.
///
/// Every write is *submitted*: the method returns at once, what was submitted can be read from then on, and its
/// [`IOFlushed`] is completed when it is durable. Writes take effect in the order in which they were submitted, votes,
/// entries, truncations and purges alike, so that what a crash leaves is always a prefix of that order.
pub trait RaftLogStorage<C: RaftTypeConfig>: RaftLogReader<C> {
    /// Reads the log beside its writer.
    type LogReader: RaftLogReader<C>;

    /// What the log holds.
    ///
    /// # Errors
    /// Stop the node.
    fn get_log_state(&mut self) -> impl Future<Output = Result<LogState<C>, StorageError>> + Send;

    /// Another reader.
    fn get_log_reader(&mut self) -> impl Future<Output = Self::LogReader> + Send;

    /// The vote that was saved last; `None` if none ever was.
    ///
    /// # Errors
    /// Stop the node.
    fn read_vote(&mut self) -> impl Future<Output = Result<Option<VoteOf<C>>, StorageError>> + Send;

    /// Saves the vote. Completed when durable.
    fn save_vote(&mut self, vote: &VoteOf<C>, flushed: IOFlushed);

    /// Appends entries, contiguous, right behind the last one. Completed when durable.
    fn append(&mut self, entries: Vec<C::Entry>, flushed: IOFlushed);

    /// Deletes the entries `[since, +oo)`. Completed when durable.
    fn truncate(&mut self, since: LogIndex, flushed: IOFlushed);

    /// Deletes the entries `(-oo, upto]`. Completed when it is durable that they are gone.
    ///
    /// A snapshot covers `upto` (Raft §7). If the log does not hold that very entry, because it ends before it or has another
    /// one at its index, then *all* entries go: what stands behind another entry is the tail of another log. Afterwards the
    /// last log id is `upto`, or the last entry behind it. A purge up to an index that is purged already changes nothing.
    fn purge(&mut self, upto: LogIdOf<C>, flushed: IOFlushed);

    /// Whether to append. A store that keeps room in reserve says [`LogSpace::Full`] while there is still enough of it for
    /// votes, truncations and purges, and [`LogSpace::Free`] again as soon as there is room for entries, without a restart.
    ///
    /// Asked before entries are accepted, since an append cannot be refused: its order is a promise. While a log is full, a
    /// leader refuses what clients propose (surely not applied), and a follower does not take a leader's entries; reads,
    /// heartbeats, votes, snapshots and purges go on. What is appended all the same is kept, readable and incomplete, until
    /// there is room, and every later write waits behind it.
    ///
    /// Cheap: asked for every batch of proposals. The default never is full.
    fn space(&self) -> LogSpace {
        LogSpace::Free
    }

    /// Remembers how far the log is committed, some time: a hint that saves a restarted node from waiting for a leader
    /// before it applies. Losing it is harmless.
    fn save_committed(&mut self, committed: Option<LogIdOf<C>>) {
        let _ = committed;
    }

    /// The hint, if there is one.
    ///
    /// # Errors
    /// Stop the node.
    fn read_committed(&mut self) -> impl Future<Output = Result<Option<LogIdOf<C>>, StorageError>> + Send {
        async { Ok(None) }
    }
}

/// The half-open range that the bounds mean.
pub(crate) fn half_open<RB: RangeBounds<LogIndex>>(range: &RB) -> (LogIndex, LogIndex) {
    let start = match range.start_bound() {
        Bound::Included(&i) => i,
        Bound::Excluded(&i) => i.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&i) => i.saturating_add(1),
        Bound::Excluded(&i) => i,
        Bound::Unbounded => LogIndex::MAX,
    };
    (start, end)
}
