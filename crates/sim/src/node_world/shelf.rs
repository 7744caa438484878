//! Where a simulated node keeps its newest snapshot: beside its log, on a disk of its own that loses nothing and tears nothing.

use std::fmt::{Debug, Formatter};
use std::io::Cursor;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use raftwright_traits::{LogIdOption, RaftSnapshotBuilder, RaftTypeConfig, Snapshot, SnapshotMeta, StorageError};

/// The newest snapshot of a node. It survives the node's process.
pub struct Shelf<C: RaftTypeConfig>(Arc<Mutex<Option<Kept<C>>>>);

struct Kept<C: RaftTypeConfig> {
    meta: SnapshotMeta<C>,
    content: Vec<u8>,
}

impl<C: RaftTypeConfig> Clone for Shelf<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C: RaftTypeConfig> Default for Shelf<C> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<C: RaftTypeConfig> Debug for Shelf<C> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shelf").field("newest", &self.lock().as_ref().map(|kept| &kept.meta)).finish()
    }
}

impl<C: RaftTypeConfig<SnapshotData = Cursor<Vec<u8>>>> Shelf<C> {
    /// Keeps a snapshot, unless a newer one is there: at once, or not at all.
    pub fn keep(&self, meta: &SnapshotMeta<C>, content: Vec<u8>) {
        let mut kept = self.lock();
        if kept.as_ref().is_none_or(|old| old.meta.last_log_id < meta.last_log_id) {
            *kept = Some(Kept { meta: meta.clone(), content });
        }
    }

    /// The newest.
    pub fn newest(&self) -> Option<Snapshot<C>> {
        self.lock()
            .as_ref()
            .map(|kept| Snapshot { meta: kept.meta.clone(), snapshot: Cursor::new(kept.content.clone()) })
    }
}

impl<C: RaftTypeConfig> Shelf<C> {
    fn lock(&self) -> MutexGuard<'_, Option<Kept<C>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A state that was taken, on its way to the shelf.
#[derive(Debug)]
pub struct ShelfBuilder<C: RaftTypeConfig> {
    shelf: Shelf<C>,
    meta: SnapshotMeta<C>,
    content: Vec<u8>,
}

impl<C: RaftTypeConfig> ShelfBuilder<C> {
    /// With the state as it is now.
    pub fn new(shelf: &Shelf<C>, meta: SnapshotMeta<C>, content: Vec<u8>) -> Self {
        Self { shelf: shelf.clone(), meta, content }
    }
}

/// The id of a snapshot: one of the same entry is the same.
pub fn snapshot_id<C: RaftTypeConfig>(meta_of: &Option<raftwright_traits::LogIdOf<C>>) -> String {
    format!("to-{}", meta_of.index_or_zero())
}

impl<C: RaftTypeConfig<SnapshotData = Cursor<Vec<u8>>>> RaftSnapshotBuilder<C> for ShelfBuilder<C> {
    async fn build_snapshot(&mut self) -> Result<Snapshot<C>, StorageError> {
        self.shelf.keep(&self.meta, self.content.clone());
        Ok(Snapshot { meta: self.meta.clone(), snapshot: Cursor::new(self.content.clone()) })
    }
}

/// Puts numbers and bytes one behind the other.
#[derive(Debug, Default)]
pub struct Pack(pub Vec<u8>);

impl Pack {
    /// A number.
    pub fn word(&mut self, word: u64) {
        self.0.extend(word.to_le_bytes());
    }

    /// Bytes, with their length.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64);
        self.0.extend(bytes);
    }
}

/// Takes them apart again. `None` where there is something else.
#[derive(Debug)]
pub struct Unpack<'a>(pub &'a [u8]);

impl<'a> Unpack<'a> {
    /// A number.
    pub fn word(&mut self) -> Option<u64> {
        let (word, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*word))
    }

    /// Bytes.
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.word()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    /// How many things follow: no more than there are bytes for.
    pub fn count(&mut self) -> Option<u64> {
        self.word().filter(|count| *count <= self.0.len() as u64)
    }
}
