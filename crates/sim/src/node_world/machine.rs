//! A map of strings that the world can look into.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use raftwright_traits::{
    EntryPayload, LogIdOf, RaftStateMachine, Snapshot, SnapshotMeta, StorageError, StorageErrorKind, StoredMembership,
};

use super::shelf::{Pack, Shelf, ShelfBuilder, Unpack, snapshot_id};
use super::types::App;
use crate::core_world::types::{log_id, term_of};
use crate::world::TraceHash;

/// What a state machine holds.
#[derive(Debug, Default)]
pub struct MapState {
    /// The values.
    pub values: BTreeMap<String, String>,
    /// Every entry that was applied, in order, with a hash of its content.
    pub applied: Vec<(LogIdOf<App>, u64)>,
    membership: StoredMembership<App>,
}

/// A state machine in memory. A new process starts with an empty one, gets the newest snapshot, and applies its log from there.
#[derive(Debug, Clone, Default)]
pub struct Map {
    state: Arc<Mutex<MapState>>,
    shelf: Shelf<App>,
}

impl Map {
    /// An empty one whose snapshots are kept there.
    pub fn new(shelf: Shelf<App>) -> Self {
        Self { state: Arc::default(), shelf }
    }

    /// A look at the state.
    pub fn state(&self) -> MutexGuard<'_, MapState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MapState {
    fn pack(&self) -> Vec<u8> {
        let mut pack = Pack::default();
        pack.word(self.values.len() as u64);
        for (key, value) in &self.values {
            pack.bytes(key.as_bytes());
            pack.bytes(value.as_bytes());
        }
        pack.word(self.applied.len() as u64);
        for (log_id, hash) in &self.applied {
            for word in [term_of(log_id), log_id.index, *hash] {
                pack.word(word);
            }
        }
        pack.0
    }

    fn unpack(content: &[u8], membership: StoredMembership<App>) -> Option<Self> {
        let mut from = Unpack(content);
        let mut state = Self { membership, ..Self::default() };
        for _ in 0..from.count()? {
            let (key, value) = (from.bytes()?, from.bytes()?);
            state.values.insert(String::from_utf8(key.to_vec()).ok()?, String::from_utf8(value.to_vec()).ok()?);
        }
        for _ in 0..from.count()? {
            let (term, index, hash) = (from.word()?, from.word()?, from.word()?);
            state.applied.push((log_id(term, index), hash));
        }
        Some(state)
    }
}

impl RaftStateMachine<App> for Map {
    type SnapshotBuilder = ShelfBuilder<App>;

    async fn applied_state(&mut self) -> Result<(Option<LogIdOf<App>>, StoredMembership<App>), StorageError> {
        let state = self.state();
        Ok((state.applied.last().map(|(id, _)| *id), state.membership.clone()))
    }

    async fn apply(
        &mut self,
        entries: Vec<<App as raftwright_traits::RaftTypeConfig>::Entry>,
    ) -> Result<Vec<Option<String>>, StorageError> {
        let mut state = self.state();
        let mut answers = Vec::with_capacity(entries.len());
        for entry in entries {
            let mut hash = TraceHash::default();
            let answer = match entry.payload {
                EntryPayload::Blank => None,
                EntryPayload::Membership(membership) => {
                    hash.bytes(membership.to_string().as_bytes());
                    state.membership = StoredMembership::<App> { log_id: Some(entry.log_id), membership };
                    None
                }
                EntryPayload::Normal(command) => {
                    hash.bytes(&command);
                    let text = String::from_utf8_lossy(&command).into_owned();
                    let (key, value) = text.split_once('=').unwrap_or((&text, ""));
                    state.values.insert(key.to_owned(), value.to_owned())
                }
            };
            state.applied.push((entry.log_id, hash.value()));
            answers.push(answer);
        }
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> ShelfBuilder<App> {
        let state = self.state();
        let last_log_id = state.applied.last().map(|(id, _)| *id);
        let snapshot_id = snapshot_id::<App>(&last_log_id);
        let meta = SnapshotMeta { last_log_id, last_membership: state.membership.clone(), snapshot_id };
        ShelfBuilder::new(&self.shelf, meta, state.pack())
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Cursor<Vec<u8>>, StorageError> {
        Ok(Cursor::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<App>,
        snapshot: Cursor<Vec<u8>>,
    ) -> Result<(), StorageError> {
        let content = snapshot.into_inner();
        let Some(state) = MapState::unpack(&content, meta.last_membership.clone()) else {
            return Err(StorageError::new(StorageErrorKind::Corrupt, "the snapshot is damaged"));
        };
        self.shelf.keep(meta, content);
        *self.state() = state;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<App>>, StorageError> {
        Ok(self.shelf.newest())
    }
}
