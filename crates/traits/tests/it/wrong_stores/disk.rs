//! A disk of records whose power can be cut: what was written and not synced is lost, in whole or in part from the end.

use std::sync::{Arc, Mutex, MutexGuard};

use raftwright_traits::testing::{Loss, NotOffered, PowerSwitch};
use raftwright_traits::{StorageError, StorageErrorKind};

struct Inner<R> {
    records: Vec<R>,
    durable: usize,
    failing_sync: bool,
    /// Who opened the disk in an earlier life gets errors.
    life: u64,
}

/// The media.
pub(crate) struct Disk<R>(Arc<Mutex<Inner<R>>>);

/// The media, opened.
pub(crate) struct Handle<R> {
    disk: Disk<R>,
    life: u64,
}

fn failed(what: &str) -> StorageError {
    StorageError::new(StorageErrorKind::Write, what)
}

impl<R> Clone for Disk<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<R: Clone> Disk<R> {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Inner { records: Vec::new(), durable: 0, failing_sync: false, life: 0 })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner<R>> {
        self.0.lock().unwrap()
    }

    /// Opens the disk, and reads what is on it. What a start reads it makes durable.
    pub(crate) fn open(&self) -> (Handle<R>, Vec<R>) {
        let mut inner = self.lock();
        inner.durable = inner.records.len();
        (Handle { disk: self.clone(), life: inner.life }, inner.records.clone())
    }
}

impl<R: Send + Clone> PowerSwitch for Disk<R> {
    fn cut(&self, loss: Loss) {
        let mut inner = self.lock();
        let unsynced = inner.records.len() - inner.durable;
        let kept = match loss {
            Loss::Everything => 0,
            Loss::Part { seed } => (seed as usize * 7 + 1) % (unsynced + 1),
        };
        let left = inner.durable + kept;
        inner.records.truncate(left);
        inner.failing_sync = false;
        inner.life += 1;
    }

    fn fail_next_sync(&self) -> Result<(), NotOffered> {
        self.lock().failing_sync = true;
        Ok(())
    }
}

impl<R: Clone> Handle<R> {
    fn lock(&self) -> Result<MutexGuard<'_, Inner<R>>, StorageError> {
        let inner = self.disk.lock();
        if inner.life == self.life { Ok(inner) } else { Err(failed("the power was cut")) }
    }

    pub(crate) fn write(&self, record: R) -> Result<(), StorageError> {
        self.lock()?.records.push(record);
        Ok(())
    }

    pub(crate) fn sync(&self) -> Result<(), StorageError> {
        let mut inner = self.lock()?;
        if std::mem::take(&mut inner.failing_sync) {
            return Err(failed("the sync failed"));
        }
        inner.durable = inner.records.len();
        Ok(())
    }
}
