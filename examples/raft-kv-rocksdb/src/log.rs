//! The log.

use std::sync::Arc;

use raftwright_traits::{
    BlockingLogStore, Entry, Incarnation, LogIdOf, LogIndex, LogState, RaftEntry, StorageError, VoteOf,
};
use rocksdb::{DB, Direction, IteratorMode, WriteBatch, WriteOptions};

use crate::{LOG, STATE, TypeConfig, corrupt, family, get, json, read_failed, write_failed};

const VOTE: &str = "vote";
const PURGED: &str = "purged";
const COMMITTED: &str = "committed";
const INCARNATION: &str = "incarnation";

/// Behind every index.
const END: [u8; 9] = [0xFF; 9];

/// The store itself: entries by index, and beside them the vote and what is purged.
pub struct RocksLog {
    db: Arc<DB>,
    /// What was written since the last flush.
    batch: WriteBatch,
}

impl RocksLog {
    pub(crate) fn new(db: Arc<DB>, incarnation: u64) -> Result<Self, StorageError> {
        let mut log = Self { db, batch: WriteBatch::default() };
        if get::<u64>(&log.db, STATE, INCARNATION)?.is_none() {
            log.set(INCARNATION, json(&incarnation)?)?;
            log.flush()?;
        }
        Ok(log)
    }

    fn set(&mut self, name: &str, value: Vec<u8>) -> Result<(), StorageError> {
        self.batch.put_cf(family(&self.db, STATE)?, name, value);
        Ok(())
    }

    fn delete(&mut self, from: &[u8], to: &[u8]) -> Result<(), StorageError> {
        self.batch.delete_range_cf(family(&self.db, LOG)?, from, to);
        Ok(())
    }
}

fn entry(bytes: &[u8]) -> Result<Entry<TypeConfig>, StorageError> {
    serde_json::from_slice(bytes).map_err(corrupt)
}

impl BlockingLogStore<TypeConfig> for RocksLog {
    fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let purged: Option<LogIdOf<TypeConfig>> = get(&self.db, STATE, PURGED)?;
        let last = match self.db.iterator_cf(family(&self.db, LOG)?, IteratorMode::End).next() {
            Some(found) => Some(entry(&found.map_err(read_failed)?.1)?.log_id()),
            None => purged,
        };
        let incarnation = get(&self.db, STATE, INCARNATION)?.map(Incarnation);
        Ok(LogState { last_purged_log_id: purged, last_log_id: last, incarnation })
    }

    fn read_vote(&mut self) -> Result<Option<VoteOf<TypeConfig>>, StorageError> {
        get(&self.db, STATE, VOTE)
    }

    fn read(
        &mut self,
        start: LogIndex,
        end: LogIndex,
        bytes_max: usize,
    ) -> Result<Vec<Entry<TypeConfig>>, StorageError> {
        let from = start.to_be_bytes();
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for found in self.db.iterator_cf(family(&self.db, LOG)?, IteratorMode::From(&from, Direction::Forward)) {
            let (index, value) = found.map_err(read_failed)?;
            bytes += value.len();
            if index[..] >= end.to_be_bytes()[..] || bytes > bytes_max && !entries.is_empty() {
                break;
            }
            entries.push(entry(&value)?);
        }
        Ok(entries)
    }

    fn save_vote(&mut self, vote: &VoteOf<TypeConfig>) -> Result<(), StorageError> {
        self.set(VOTE, json(vote)?)
    }

    fn append(&mut self, entries: &[Entry<TypeConfig>]) -> Result<(), StorageError> {
        for entry in entries {
            let value = json(entry)?;
            self.batch.put_cf(family(&self.db, LOG)?, entry.log_id.index.to_be_bytes(), value);
        }
        Ok(())
    }

    fn truncate(&mut self, since: LogIndex) -> Result<(), StorageError> {
        self.delete(&since.to_be_bytes(), &END)
    }

    fn purge(&mut self, upto: LogIdOf<TypeConfig>) -> Result<(), StorageError> {
        self.delete(&[], &upto.index.saturating_add(1).to_be_bytes())?;
        self.set(PURGED, json(&upto)?)
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        let mut durably = WriteOptions::default();
        durably.set_sync(true);
        self.db.write_opt(std::mem::take(&mut self.batch), &durably).map_err(write_failed)
    }

    fn save_committed(&mut self, committed: LogIdOf<TypeConfig>) -> Result<(), StorageError> {
        self.set(COMMITTED, json(&committed)?)
    }

    fn read_committed(&mut self) -> Result<Option<LogIdOf<TypeConfig>>, StorageError> {
        get(&self.db, STATE, COMMITTED)
    }
}
