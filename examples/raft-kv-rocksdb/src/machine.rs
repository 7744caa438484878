//! The state machine: keys and values, how far the log is applied to them, and the newest snapshot.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::Arc;

use raftwright_traits::{
    Entry, EntryPayload, LogIdOf, RaftSnapshotBuilder, RaftStateMachine, Snapshot, SnapshotMeta, StorageError,
    StoredMembership,
};
use rocksdb::{DB, IteratorMode, WriteBatch, WriteOptions};
use serde::{Deserialize, Serialize};

use crate::thread::{Answer, DbThread};
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

/// What waits for the disk. All of it runs on the thread of the state machine, one call after the other.
pub(crate) struct Shelf {
    db: Arc<DB>,
}

impl Shelf {
    pub(crate) fn new(db: Arc<DB>) -> Self {
        Self { db }
    }

    fn applied(&self) -> Result<Applied, StorageError> {
        Ok(get(&self.db, MACHINE, APPLIED)?.unwrap_or_default())
    }

    fn value(&self, key: &str) -> Result<Option<String>, StorageError> {
        let value = self.db.get_cf(family(&self.db, DATA)?, key).map_err(read_failed)?;
        value.map(|value| String::from_utf8(value).map_err(corrupt)).transpose()
    }

    fn apply(&self, entries: Vec<Entry<TypeConfig>>) -> Result<Vec<Response>, StorageError> {
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
                        None => self.value(&key)?,
                    };
                    fresh.insert(key, value);
                }
            }
            answers.push(Response { previous });
        }
        let mut batch = WriteBatch::default();
        for (key, value) in fresh {
            batch.put_cf(family(&self.db, DATA)?, key, value);
        }
        batch.put_cf(family(&self.db, MACHINE)?, APPLIED, json(&applied)?);
        // No sync: what a power loss takes is applied again from the log. The log is purged behind a snapshot alone, which was
        // synced, and with it everything that this database was told before.
        self.db.write(batch).map_err(write_failed)?;
        Ok(answers)
    }

    /// The whole state as it is now.
    fn take(&self) -> Result<Kept, StorageError> {
        let applied = self.applied()?;
        let mut content = BTreeMap::new();
        for found in self.db.iterator_cf(family(&self.db, DATA)?, IteratorMode::Start) {
            let (key, value) = found.map_err(read_failed)?;
            let text = |bytes: Box<[u8]>| String::from_utf8(bytes.into_vec()).map_err(corrupt);
            content.insert(text(key)?, text(value)?);
        }
        let id = applied.last.map_or_else(|| "empty".to_owned(), |last| last.to_string());
        Ok(Kept { id, applied, content })
    }

    fn kept(&self) -> Result<Option<Kept>, StorageError> {
        get(&self.db, MACHINE, SNAPSHOT)
    }

    /// Keeps a snapshot durably, unless a newer one is there.
    fn keep(&self, kept: &Kept) -> Result<(), StorageError> {
        if self.kept()?.is_some_and(|newest| newest.applied.last > kept.applied.last) {
            return Ok(());
        }
        let mut batch = WriteBatch::default();
        batch.put_cf(family(&self.db, MACHINE)?, SNAPSHOT, json(kept)?);
        self.write_durably(batch)
    }

    fn install(&self, kept: &Kept) -> Result<(), StorageError> {
        let db = &self.db;
        let mut batch = WriteBatch::default();
        for found in db.iterator_cf(family(db, DATA)?, IteratorMode::Start) {
            batch.delete_cf(family(db, DATA)?, found.map_err(read_failed)?.0);
        }
        for (key, value) in &kept.content {
            batch.put_cf(family(db, DATA)?, key, value);
        }
        batch.put_cf(family(db, MACHINE)?, APPLIED, json(&kept.applied)?);
        batch.put_cf(family(db, MACHINE)?, SNAPSHOT, json(kept)?);
        // All of it or nothing: this is the commit point.
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
    thread: Arc<DbThread>,
}

impl RocksMachine {
    pub(crate) fn new(thread: DbThread) -> Self {
        Self { thread: Arc::new(thread) }
    }

    /// A handle for reads beside the node.
    pub fn reader(&self) -> RocksReader {
        RocksReader { thread: Arc::clone(&self.thread) }
    }
}

/// Reads the map as it is, at any time.
#[derive(Clone)]
pub struct RocksReader {
    thread: Arc<DbThread>,
}

impl RocksReader {
    /// The value of a key: as of all entries that were applied before this call, or a later one.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn get(&self, key: String) -> Result<Option<String>, StorageError> {
        self.thread.call(move |shelf| shelf.value(&key)).await
    }
}

impl RaftStateMachine<TypeConfig> for RocksMachine {
    type SnapshotBuilder = RocksBuilder;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogIdOf<TypeConfig>>, StoredMembership<TypeConfig>), StorageError> {
        let Applied { last, membership } = self.thread.call(Shelf::applied).await?;
        Ok((last, membership))
    }

    async fn apply(&mut self, entries: Vec<Entry<TypeConfig>>) -> Result<Vec<Response>, StorageError> {
        self.thread.call(|shelf| shelf.apply(entries)).await
    }

    /// The state is taken by the thread, before whatever is applied next; nobody waits for it here.
    async fn get_snapshot_builder(&mut self) -> RocksBuilder {
        RocksBuilder { taken: Some(self.thread.begin(Shelf::take).await), thread: Arc::clone(&self.thread) }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Cursor<Vec<u8>>, StorageError> {
        Ok(Cursor::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<TypeConfig>,
        snapshot: Cursor<Vec<u8>>,
    ) -> Result<(), StorageError> {
        let applied = Applied { last: meta.last_log_id, membership: meta.last_membership.clone() };
        let id = meta.snapshot_id.clone();
        let install = move |shelf: &Shelf| {
            let content = serde_json::from_slice(snapshot.get_ref()).map_err(corrupt)?;
            shelf.install(&Kept { id, applied, content })
        };
        self.thread.call(install).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        self.thread.call(|shelf| shelf.kept()?.map(Kept::into_snapshot).transpose()).await
    }
}

/// Keeps and hands out the state that was taken when it was made.
pub struct RocksBuilder {
    taken: Option<Answer<Kept>>,
    thread: Arc<DbThread>,
}

impl RaftSnapshotBuilder<TypeConfig> for RocksBuilder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError> {
        let taken = self.taken.take().ok_or_else(|| corrupt("a snapshot builder builds one snapshot"))?;
        let kept = taken.get().await?;
        let keep = move |shelf: &Shelf| {
            shelf.keep(&kept)?;
            kept.into_snapshot()
        };
        self.thread.call(keep).await
    }
}
