//! A durable log of any plain store: one that blocks, does one thing at a time, and knows nothing of tokens.
//!
//! [`BlockingLogStore`] is the store, [`BlockingLog`] makes a [`RaftLogStorage`] of it. The store is moved to a thread of
//! its own, which writes what is queued, flushes once, and only then completes the tokens of all that it wrote. What was
//! submitted can be read at once, from memory; entries that have left the memory are read on that thread, between two
//! flushes.

mod answer;
mod log;
mod queue;
mod worker;

pub use log::{BlockingLog, BlockingLogReader};
pub use queue::BlockingLogOptions;

use crate::{LogIdOf, LogIndex, LogState, RaftTypeConfig, StorageError, VoteOf};

/// A plain log store: its calls block, come one at a time from one thread, and need not be durable when they return, but
/// for [`flush`](Self::flush).
///
/// What it owes: after a power loss it holds what some number of the calls that write have left, counted from the first
/// one, and at least of those before the last `flush` that returned `Ok`. A store with transactions keeps this by making
/// one of all calls up to each `flush`. After any error it is asked to write no more.
///
/// All errors stop the node.
pub trait BlockingLogStore<C: RaftTypeConfig>: Send + 'static {
    /// What the log holds. What is reported here must be durable.
    ///
    /// # Errors
    /// It cannot be read.
    fn get_log_state(&mut self) -> Result<LogState<C>, StorageError>;

    /// The vote that was saved last, durably; `None` if none ever was.
    ///
    /// # Errors
    /// It cannot be read.
    fn read_vote(&mut self) -> Result<Option<VoteOf<C>>, StorageError>;

    /// The entries `start..end`, from `start` on, without a gap: at least one, and no more than about `bytes_max` bytes of
    /// them. Only entries that are there are asked for.
    ///
    /// # Errors
    /// One of them cannot be read.
    fn read(&mut self, start: LogIndex, end: LogIndex, bytes_max: usize) -> Result<Vec<C::Entry>, StorageError>;

    /// Saves the vote.
    ///
    /// # Errors
    /// It cannot be written.
    fn save_vote(&mut self, vote: &VoteOf<C>) -> Result<(), StorageError>;

    /// Appends entries right behind the last one; there is at least one.
    ///
    /// # Errors
    /// They cannot be written.
    fn append(&mut self, entries: &[C::Entry]) -> Result<(), StorageError>;

    /// Deletes the entries `[since, +oo)`; there may be none.
    ///
    /// # Errors
    /// They cannot be deleted.
    fn truncate(&mut self, since: LogIndex) -> Result<(), StorageError>;

    /// Deletes the entries `(-oo, upto]` and remembers `upto` as purged. The log may end before `upto`; it is never less
    /// than what is purged already, and the log holds no other entry at its index: if it did, everything from there on was
    /// truncated just before.
    ///
    /// # Errors
    /// They cannot be deleted.
    fn purge(&mut self, upto: LogIdOf<C>) -> Result<(), StorageError>;

    /// Makes durable all that was written since the last flush.
    ///
    /// # Errors
    /// It may not be durable. There is no second try.
    fn flush(&mut self) -> Result<(), StorageError>;

    /// Remembers how far the log is committed, some time: a hint. It need not be flushed.
    ///
    /// # Errors
    /// It cannot be written.
    fn save_committed(&mut self, committed: LogIdOf<C>) -> Result<(), StorageError> {
        let _ = committed;
        Ok(())
    }

    /// The hint, if there is one.
    ///
    /// # Errors
    /// It cannot be read.
    fn read_committed(&mut self) -> Result<Option<LogIdOf<C>>, StorageError> {
        Ok(None)
    }
}
