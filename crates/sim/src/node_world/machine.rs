//! A map of strings that the world can look into.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use raftwright_traits::{
    EntryPayload, LogIdOf, RaftSnapshotBuilder, RaftStateMachine, Snapshot, SnapshotMeta, StorageError,
    StorageErrorKind, StoredMembership,
};

use super::types::App;
use crate::world::TraceHash;

/// What a state machine holds.
#[derive(Debug, Default)]
pub struct MapState {
    /// The values.
    pub values: BTreeMap<String, String>,
    /// Every entry that was applied in this life of the process, in order, with a hash of its content.
    pub applied: Vec<(LogIdOf<App>, u64)>,
    membership: StoredMembership<App>,
}

/// A state machine in memory. A new process starts with an empty one and applies its log again.
#[derive(Debug, Clone, Default)]
pub struct Map(Arc<Mutex<MapState>>);

impl Map {
    /// A look at the state.
    pub fn state(&self) -> MutexGuard<'_, MapState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Snapshots are not simulated yet.
#[derive(Debug)]
pub struct NoSnapshots;

fn no_snapshots() -> StorageError {
    StorageError::new(StorageErrorKind::StateMachine, "the simulated state machine has no snapshots")
}

impl RaftSnapshotBuilder<App> for NoSnapshots {
    async fn build_snapshot(&mut self) -> Result<Snapshot<App>, StorageError> {
        Err(no_snapshots())
    }
}

impl RaftStateMachine<App> for Map {
    type SnapshotBuilder = NoSnapshots;

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

    async fn get_snapshot_builder(&mut self) -> NoSnapshots {
        NoSnapshots
    }

    async fn begin_receiving_snapshot(
        &mut self,
    ) -> Result<<App as raftwright_traits::RaftTypeConfig>::SnapshotData, StorageError> {
        Err(no_snapshots())
    }

    async fn install_snapshot(
        &mut self,
        _: &SnapshotMeta<App>,
        _: <App as raftwright_traits::RaftTypeConfig>::SnapshotData,
    ) -> Result<(), StorageError> {
        Err(no_snapshots())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<App>>, StorageError> {
        Ok(None)
    }
}
