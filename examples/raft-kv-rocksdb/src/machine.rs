//! The state machine: keys and values, how far the log is applied to them, and the newest snapshot.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::{Arc, Mutex, PoisonError};

use raftwright_traits::{
    Entry, EntryPayload, LogIdOf, RaftSnapshotBuilder, RaftStateMachine, Snapshot, SnapshotMeta, StorageError,
    StoredMembership,
};
use rocksdb::{DB, IteratorMode, WriteBatch, WriteOptions};
use serde::{Deserialize, Serialize};

use crate::{DATA, MACHINE, Request, Response, TypeConfig, corrupt, family, get, json, read_failed, write_failed};

const APPLIED: &str = "applied";
const SNAPSHOT: &str = "snapshot";

/// How far the log is applied.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Applied {
    last: Option<LogIdOf<TypeConfig>>,
    membership: StoredMembership<TypeConfig>,
}

/// A snapshot as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    id: String,
    applied: Applied,
    content: BTreeMap<String, String>,
}

impl Kept {
    fn into_snapshot(self) -> Result<Snapshot<TypeConfig>, StorageError> {
        let Applied { last, membership } = self.applied;
        let meta = SnapshotMeta { last_log_id: last, last_membership: membership, snapshot_id: self.id };
        Ok(Snapshot { meta, snapshot: Cursor::new(json(&self.content)?) })
    }
}

/// The database, and a lock on its newest snapshot.
struct Shelf {
    db: Arc<DB>,
    newest: Mutex<()>,
}

impl Shelf {
    fn kept(&self) -> Result<Option<Kept>, StorageError> {
        get(&self.db, MACHINE, SNAPSHOT)
    }

    /// Keeps a snapshot durably, unless a newer one is there.
    fn keep(&self, kept: &Kept) -> Result<(), StorageError> {
        let _newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if self.kept()?.is_some_and(|newest| newest.applied.last > kept.applied.last) {
            return Ok(());
        }
        let mut batch = WriteBatch::default();
        batch.put_cf(family(&self.db, MACHINE)?, SNAPSHOT, json(kept)?);
        self.write_durably(batch)
    }

    fn write_durably(&self, batch: WriteBatch) -> Result<(), StorageError> {
        let mut durably = WriteOptions::default();
        durably.set_sync(true);
        self.db.write_opt(batch, &durably).map_err(write_failed)
    }
}

/// A map in a database.
pub struct RocksMachine {
    shelf: Arc<Shelf>,
}

impl RocksMachine {
    pub(crate) fn new(db: Arc<DB>) -> Self {
        Self { shelf: Arc::new(Shelf { db, newest: Mutex::new(()) }) }
    }

    fn applied(&self) -> Result<Applied, StorageError> {
        Ok(get(&self.shelf.db, MACHINE, APPLIED)?.unwrap_or_default())
    }

    /// The value of a key.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn get(&self, key: &str) -> Result<Option<String>, StorageError> {
        let db = &self.shelf.db;
        let value = db.get_cf(family(db, DATA)?, key).map_err(read_failed)?;
        value.map(|value| String::from_utf8(value).map_err(corrupt)).transpose()
    }

    /// The whole state as it is now.
    fn take(&self) -> Result<Kept, StorageError> {
        let applied = self.applied()?;
        let db = &self.shelf.db;
        let mut content = BTreeMap::new();
        for found in db.iterator_cf(family(db, DATA)?, IteratorMode::Start) {
            let (key, value) = found.map_err(read_failed)?;
            let text = |bytes: Box<[u8]>| String::from_utf8(bytes.into_vec()).map_err(corrupt);
            content.insert(text(key)?, text(value)?);
        }
        let id = applied.last.map_or_else(|| "empty".to_owned(), |last| last.to_string());
        Ok(Kept { id, applied, content })
    }
}

impl RaftStateMachine<TypeConfig> for RocksMachine {
    type SnapshotBuilder = RocksBuilder;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogIdOf<TypeConfig>>, StoredMembership<TypeConfig>), StorageError> {
        let Applied { last, membership } = self.applied()?;
        Ok((last, membership))
    }

    async fn apply(&mut self, entries: Vec<Entry<TypeConfig>>) -> Result<Vec<Response>, StorageError> {
        let mut applied = self.applied()?;
        let mut fresh: BTreeMap<String, String> = BTreeMap::new();
        let mut answers = Vec::with_capacity(entries.len());
        for entry in entries {
            applied.last = Some(entry.log_id);
            let mut previous = None;
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Membership(membership) => {
                    applied.membership = StoredMembership { log_id: Some(entry.log_id), membership };
                }
                EntryPayload::Normal(Request::Set { key, value }) => {
                    previous = match fresh.get(&key) {
                        Some(value) => Some(value.clone()),
                        None => self.get(&key)?,
                    };
                    fresh.insert(key, value);
                }
            }
            answers.push(Response { previous });
        }
        let db = &self.shelf.db;
        let mut batch = WriteBatch::default();
        for (key, value) in fresh {
            batch.put_cf(family(db, DATA)?, key, value);
        }
        batch.put_cf(family(db, MACHINE)?, APPLIED, json(&applied)?);
        // No sync: what a power loss takes is applied again from the log.
        db.write(batch).map_err(write_failed)?;
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> RocksBuilder {
        RocksBuilder { taken: Some(self.take()), shelf: Arc::clone(&self.shelf) }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Cursor<Vec<u8>>, StorageError> {
        Ok(Cursor::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<TypeConfig>,
        snapshot: Cursor<Vec<u8>>,
    ) -> Result<(), StorageError> {
        let content: BTreeMap<String, String> = serde_json::from_slice(snapshot.get_ref()).map_err(corrupt)?;
        let applied = Applied { last: meta.last_log_id, membership: meta.last_membership.clone() };
        let db = &self.shelf.db;
        let mut batch = WriteBatch::default();
        for found in db.iterator_cf(family(db, DATA)?, IteratorMode::Start) {
            batch.delete_cf(family(db, DATA)?, found.map_err(read_failed)?.0);
        }
        for (key, value) in &content {
            batch.put_cf(family(db, DATA)?, key, value);
        }
        batch.put_cf(family(db, MACHINE)?, APPLIED, json(&applied)?);
        let kept = Kept { id: meta.snapshot_id.clone(), applied, content };
        batch.put_cf(family(db, MACHINE)?, SNAPSHOT, json(&kept)?);
        // All of it or nothing: this is the commit point.
        let _newest = self.shelf.newest.lock().unwrap_or_else(PoisonError::into_inner);
        self.shelf.write_durably(batch)
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        self.shelf.kept()?.map(Kept::into_snapshot).transpose()
    }
}

/// Keeps and hands out the state that was taken when it was made.
pub struct RocksBuilder {
    taken: Option<Result<Kept, StorageError>>,
    shelf: Arc<Shelf>,
}

impl RaftSnapshotBuilder<TypeConfig> for RocksBuilder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError> {
        let kept = self.taken.take().ok_or_else(|| corrupt("a snapshot builder builds one snapshot"))??;
        self.shelf.keep(&kept)?;
        kept.into_snapshot()
    }
}
