//! The checks around a log store.

use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use super::StoreExt;
use super::watch::Watch;
use crate::log_storage::half_open;
use crate::{
    IOFlushed, LogIdOf, LogIndex, LogSpace, LogState, RaftLogReader, RaftLogStorage, RaftTypeConfig, StorageError,
    VoteOf,
};

/// A log reader, and checks around it.
pub struct ReaderExt<C: RaftTypeConfig, R> {
    reader: R,
    watch: Arc<Watch<C>>,
}

async fn checked_read<C, R, RB>(watch: &Watch<C>, reader: &mut R, range: RB) -> Result<Vec<C::Entry>, StorageError>
where
    C: RaftTypeConfig,
    R: RaftLogReader<C>,
    RB: RangeBounds<LogIndex> + Clone + Debug + Send,
{
    watch.range(range.start_bound().cloned(), range.end_bound().cloned())?;
    let bounds = half_open(&range);
    let version = watch.version();
    let entries = reader.try_get_log_entries(range).await?;
    watch.entries(bounds, &entries, false, version)?;
    Ok(entries)
}

async fn checked_limited_read<C, R>(
    watch: &Watch<C>,
    reader: &mut R,
    (start, end): (LogIndex, LogIndex),
    bytes_max: usize,
) -> Result<Vec<C::Entry>, StorageError>
where
    C: RaftTypeConfig,
    R: RaftLogReader<C>,
{
    watch.range(Bound::Included(start), Bound::Excluded(end))?;
    let version = watch.version();
    let entries = reader.limited_get_log_entries(start, end, bytes_max).await?;
    watch.entries((start, end), &entries, true, version)?;
    Ok(entries)
}

impl<C: RaftTypeConfig, R: RaftLogReader<C>> RaftLogReader<C> for ReaderExt<C, R> {
    async fn try_get_log_entries<RB: RangeBounds<LogIndex> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> Result<Vec<C::Entry>, StorageError> {
        checked_read(&self.watch, &mut self.reader, range).await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: LogIndex,
        end: LogIndex,
        bytes_max: usize,
    ) -> Result<Vec<C::Entry>, StorageError> {
        checked_limited_read(&self.watch, &mut self.reader, (start, end), bytes_max).await
    }

    async fn get_key_log_ids(&mut self, first: LogIndex, last: LogIdOf<C>) -> Result<Vec<LogIdOf<C>>, StorageError> {
        self.reader.get_key_log_ids(first, last).await
    }

    async fn log_id_at(&mut self, index: LogIndex) -> Result<LogIdOf<C>, StorageError> {
        self.reader.log_id_at(index).await
    }
}

impl<C: RaftTypeConfig, LS: RaftLogStorage<C>> RaftLogReader<C> for StoreExt<C, LS> {
    async fn try_get_log_entries<RB: RangeBounds<LogIndex> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> Result<Vec<C::Entry>, StorageError> {
        checked_read(&self.watch, &mut self.store, range).await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: LogIndex,
        end: LogIndex,
        bytes_max: usize,
    ) -> Result<Vec<C::Entry>, StorageError> {
        checked_limited_read(&self.watch, &mut self.store, (start, end), bytes_max).await
    }

    async fn get_key_log_ids(&mut self, first: LogIndex, last: LogIdOf<C>) -> Result<Vec<LogIdOf<C>>, StorageError> {
        self.store.get_key_log_ids(first, last).await
    }

    async fn log_id_at(&mut self, index: LogIndex) -> Result<LogIdOf<C>, StorageError> {
        self.store.log_id_at(index).await
    }
}

impl<C: RaftTypeConfig, LS: RaftLogStorage<C>> RaftLogStorage<C> for StoreExt<C, LS> {
    type LogReader = ReaderExt<C, LS::LogReader>;

    async fn get_log_state(&mut self) -> Result<LogState<C>, StorageError> {
        let state = self.store.get_log_state().await?;
        self.watch.log_state(&state)?;
        Ok(state)
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        ReaderExt { reader: self.store.get_log_reader().await, watch: Arc::clone(&self.watch) }
    }

    async fn read_vote(&mut self) -> Result<Option<VoteOf<C>>, StorageError> {
        let version = self.watch.version();
        let vote = self.store.read_vote().await?;
        self.watch.read_vote(vote, version)?;
        Ok(vote)
    }

    fn save_vote(&mut self, vote: &VoteOf<C>, flushed: IOFlushed) {
        match self.watch.save_vote(vote) {
            Ok(_passing_on) => self.store.save_vote(vote, flushed),
            Err(broken) => flushed.io_completed(Err(broken)),
        }
    }

    fn append(&mut self, entries: Vec<C::Entry>, flushed: IOFlushed) {
        match self.watch.append(&entries) {
            Ok(_passing_on) => self.store.append(entries, flushed),
            Err(broken) => flushed.io_completed(Err(broken)),
        }
    }

    fn truncate(&mut self, since: LogIndex, flushed: IOFlushed) {
        match self.watch.truncate(since) {
            Ok(_passing_on) => self.store.truncate(since, flushed),
            Err(broken) => flushed.io_completed(Err(broken)),
        }
    }

    fn purge(&mut self, upto: LogIdOf<C>, flushed: IOFlushed) {
        match self.watch.purge(upto) {
            Ok(_passing_on) => self.store.purge(upto, flushed),
            Err(broken) => flushed.io_completed(Err(broken)),
        }
    }

    fn space(&self) -> LogSpace {
        self.store.space()
    }

    fn save_committed(&mut self, committed: Option<LogIdOf<C>>) {
        self.watch.save_committed(committed);
        self.store.save_committed(committed);
    }

    async fn read_committed(&mut self) -> Result<Option<LogIdOf<C>>, StorageError> {
        self.store.read_committed().await
    }
}
