//! A state machine to test log stores with, and to test the suite with.

use std::io::Cursor;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::{
    Entry, EntryPayload, LogIdOf, RaftSnapshotBuilder, RaftStateMachine, RaftStorageDebug, RaftTypeConfig, Snapshot,
    SnapshotMeta, StorageError, StorageErrorKind, StoredMembership,
};

/// What a [`TestMachine`] keeps: the number of what it was asked and the sum of their bytes. It outlives the machine, and is
/// as durable as the memory that it is in.
pub struct TestShelf<C: RaftTypeConfig>(Arc<Mutex<Content<C>>>);

impl<C: RaftTypeConfig> Clone for TestShelf<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C: RaftTypeConfig> Default for TestShelf<C> {
    fn default() -> Self {
        let content =
            Content { applied: None, membership: StoredMembership::<C>::default(), count: 0, sum: 0, newest: None };
        Self(Arc::new(Mutex::new(content)))
    }
}

impl<C: RaftTypeConfig> TestShelf<C> {
    fn lock(&self) -> MutexGuard<'_, Content<C>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Content<C: RaftTypeConfig> {
    applied: Option<LogIdOf<C>>,
    membership: StoredMembership<C>,
    count: u64,
    sum: u64,
    newest: Option<(SnapshotMeta<C>, Vec<u8>)>,
}

impl<C: RaftTypeConfig> Content<C> {
    /// The state as it is now.
    fn snapshot(&self) -> (SnapshotMeta<C>, Vec<u8>) {
        let snapshot_id = self.applied.map_or_else(|| "empty".to_owned(), |applied| applied.to_string());
        let meta = SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone(), snapshot_id };
        (meta, [self.count.to_be_bytes(), self.sum.to_be_bytes()].concat())
    }
}

/// A state machine that counts and sums. It answers with both, so that an answer tells what was applied before.
pub struct TestMachine<C: RaftTypeConfig> {
    shelf: TestShelf<C>,
}

impl<C: RaftTypeConfig> Default for TestMachine<C> {
    fn default() -> Self {
        Self::new(TestShelf::default())
    }
}

impl<C: RaftTypeConfig> TestMachine<C> {
    /// A machine with what is on this shelf.
    pub fn new(shelf: TestShelf<C>) -> Self {
        Self { shelf }
    }
}

impl<C> RaftStateMachine<C> for TestMachine<C>
where
    C: RaftTypeConfig<D = Bytes, R = Bytes, Entry = Entry<C>, SnapshotData = Cursor<Vec<u8>>>,
{
    type SnapshotBuilder = TestSnapshotBuilder<C>;

    async fn applied_state(&mut self) -> Result<(Option<LogIdOf<C>>, StoredMembership<C>), StorageError> {
        let content = self.shelf.lock();
        Ok((content.applied, content.membership.clone()))
    }

    async fn apply(&mut self, entries: Vec<Entry<C>>) -> Result<Vec<Bytes>, StorageError> {
        let mut content = self.shelf.lock();
        let mut answers = Vec::with_capacity(entries.len());
        for entry in entries {
            content.applied = Some(entry.log_id);
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Membership(membership) => {
                    content.membership = StoredMembership::<C> { log_id: Some(entry.log_id), membership };
                }
                EntryPayload::Normal(data) => {
                    content.count += 1;
                    content.sum = data.iter().fold(content.sum, |sum, byte| {
                        // Not a plain sum: the order of what is applied must show.
                        sum.wrapping_mul(31).wrapping_add(u64::from(*byte))
                    });
                }
            }
            answers.push(Bytes::from(format!("{} {}", content.count, content.sum)));
        }
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> TestSnapshotBuilder<C> {
        let (meta, bytes) = self.shelf.lock().snapshot();
        TestSnapshotBuilder { shelf: self.shelf.clone(), meta, bytes }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Cursor<Vec<u8>>, StorageError> {
        Ok(Cursor::new(Vec::new()))
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<C>,
        snapshot: Cursor<Vec<u8>>,
    ) -> Result<(), StorageError> {
        let bytes = snapshot.into_inner();
        let number = |at: usize| bytes.get(at..at + 8)?.try_into().ok().map(u64::from_be_bytes);
        let (Some(count), Some(sum), 16) = (number(0), number(8), bytes.len()) else {
            return Err(StorageError::new(StorageErrorKind::Corrupt, "a snapshot of this machine has 16 bytes"));
        };
        let mut content = self.shelf.lock();
        content.count = count;
        content.sum = sum;
        content.applied = meta.last_log_id;
        content.membership = meta.last_membership.clone();
        content.newest = Some((meta.clone(), bytes));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<C>>, StorageError> {
        let newest = self.shelf.lock().newest.clone();
        Ok(newest.map(|(meta, bytes)| Snapshot { meta, snapshot: Cursor::new(bytes) }))
    }
}

/// The number of what was asked, and the sum.
impl<C: RaftTypeConfig> RaftStorageDebug<(u64, u64)> for TestMachine<C> {
    async fn get_state_machine(&mut self) -> (u64, u64) {
        let content = self.shelf.lock();
        (content.count, content.sum)
    }
}

/// Builds a snapshot of the state as it was when the builder was made.
pub struct TestSnapshotBuilder<C: RaftTypeConfig> {
    shelf: TestShelf<C>,
    meta: SnapshotMeta<C>,
    bytes: Vec<u8>,
}

impl<C> RaftSnapshotBuilder<C> for TestSnapshotBuilder<C>
where
    C: RaftTypeConfig<SnapshotData = Cursor<Vec<u8>>>,
{
    async fn build_snapshot(&mut self) -> Result<Snapshot<C>, StorageError> {
        let mut content = self.shelf.lock();
        if content.newest.as_ref().is_none_or(|(newest, _)| newest.last_log_id <= self.meta.last_log_id) {
            content.newest = Some((self.meta.clone(), self.bytes.clone()));
        }
        Ok(Snapshot { meta: self.meta.clone(), snapshot: Cursor::new(self.bytes.clone()) })
    }
}
