//! Storage for redb whose power can be cut: of the writes since the last sync, some are lost, in any order.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use raftwright_traits::testing::{Loss, NotOffered, PowerSwitch};
use redb::StorageBackend;

/// How often the power was cut, on all storage.
static CUTS: AtomicU64 = AtomicU64::new(0);

pub(crate) fn cuts() -> u64 {
    CUTS.load(Ordering::Relaxed)
}

/// What changes the content.
#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

#[derive(Debug, Default)]
struct Inner {
    /// What was synced.
    durable: Vec<u8>,
    /// What is read: all changes are in it.
    live: Vec<u8>,
    unsynced: Vec<Change>,
    failing_sync: bool,
    /// Who plugged in before the last cut gets errors.
    life: u64,
}

impl Inner {
    fn apply(content: &mut Vec<u8>, change: &Change) {
        match change {
            Change::Write(at, bytes) => {
                let (begin, end) = (*at as usize, *at as usize + bytes.len());
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[begin..end].copy_from_slice(bytes);
            }
            Change::SetLen(len) => content.resize(*len as usize, 0),
        }
    }
}

/// The storage.
#[derive(Clone, Debug, Default)]
pub(crate) struct Storage(Arc<Mutex<Inner>>);

/// The storage, in use.
#[derive(Debug)]
pub(crate) struct Plugged {
    storage: Storage,
    life: u64,
}

impl Storage {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    pub(crate) fn plug_in(&self) -> Plugged {
        Plugged { storage: self.clone(), life: self.lock().life }
    }
}

impl PowerSwitch for Storage {
    fn cut(&self, loss: Loss) {
        CUTS.fetch_add(1, Ordering::Relaxed);
        let mut inner = self.lock();
        let unsynced = std::mem::take(&mut inner.unsynced);
        for (number, change) in unsynced.iter().enumerate() {
            // Lengths are kept in order with each other and with everything: a file system's journal does that. Which
            // writes arrive is anybody's guess.
            let arrives = match (loss, change) {
                (Loss::Everything, _) => false,
                (Loss::Part { .. }, Change::SetLen(_)) => true,
                (Loss::Part { seed }, Change::Write(at, _)) => {
                    !(seed * 31 + number as u64 * 17 + at / 4096).is_multiple_of(3)
                }
            };
            if arrives {
                Inner::apply(&mut inner.durable, change);
            }
        }
        inner.live = inner.durable.clone();
        inner.failing_sync = false;
        inner.life += 1;
    }

    fn fail_next_sync(&self) -> Result<(), NotOffered> {
        self.lock().failing_sync = true;
        Ok(())
    }
}

impl Plugged {
    fn inner(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let inner = self.storage.lock();
        if inner.life == self.life { Ok(inner) } else { Err(io::Error::other("the power is gone")) }
    }

    fn change(&self, change: Change) -> io::Result<()> {
        let mut inner = self.inner()?;
        Inner::apply(&mut inner.live, &change);
        inner.unsynced.push(change);
        Ok(())
    }
}

impl StorageBackend for Plugged {
    fn len(&self) -> io::Result<u64> {
        Ok(self.inner()?.live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let inner = self.inner()?;
        let begin = offset as usize;
        let bytes = inner.live.get(begin..begin + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::SetLen(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.inner()?;
        if std::mem::take(&mut inner.failing_sync) {
            return Err(io::Error::other("the sync failed"));
        }
        for change in std::mem::take(&mut inner.unsynced) {
            Inner::apply(&mut inner.durable, &change);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Change::Write(offset, data.to_vec()))
    }
}
