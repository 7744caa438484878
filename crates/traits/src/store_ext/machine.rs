//! The checks around a state machine.

use std::sync::Arc;

use raftwright_core::RaftEntry;

use super::StoreExt;
use super::watch::Watch;
use crate::{
    LogIdOf, RaftSnapshotBuilder, RaftStateMachine, RaftTypeConfig, Snapshot, SnapshotMeta, StorageError,
    StoredMembership,
};

impl<C: RaftTypeConfig, SM: RaftStateMachine<C>> RaftStateMachine<C> for StoreExt<C, SM> {
    type SnapshotBuilder = SnapshotBuilderExt<C, SM::SnapshotBuilder>;

    async fn applied_state(&mut self) -> Result<(Option<LogIdOf<C>>, StoredMembership<C>), StorageError> {
        let (applied, membership) = self.store.applied_state().await?;
        self.watch.applied_state(applied, membership.log_id)?;
        Ok((applied, membership))
    }

    async fn apply(&mut self, entries: Vec<C::Entry>) -> Result<Vec<C::R>, StorageError> {
        self.watch.before_apply(&entries)?;
        let (count, last) = (entries.len(), entries.last().map(RaftEntry::log_id));
        let answers = self.store.apply(entries).await?;
        self.watch.applied(count, last, answers.len())?;
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        SnapshotBuilderExt { builder: self.store.get_snapshot_builder().await, watch: Arc::clone(&self.watch) }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<C::SnapshotData, StorageError> {
        self.store.begin_receiving_snapshot().await
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<C>,
        snapshot: C::SnapshotData,
    ) -> Result<(), StorageError> {
        self.watch.before_install(meta)?;
        self.store.install_snapshot(meta, snapshot).await?;
        self.watch.installed(meta);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<C>>, StorageError> {
        let current = self.store.get_current_snapshot().await?;
        if let Some(snapshot) = &current {
            self.watch.built(&snapshot.meta)?;
        }
        Ok(current)
    }
}

/// A snapshot builder, and checks around it.
pub struct SnapshotBuilderExt<C: RaftTypeConfig, B> {
    builder: B,
    watch: Arc<Watch<C>>,
}

impl<C: RaftTypeConfig, B: RaftSnapshotBuilder<C>> RaftSnapshotBuilder<C> for SnapshotBuilderExt<C, B> {
    async fn build_snapshot(&mut self) -> Result<Snapshot<C>, StorageError> {
        let snapshot = self.builder.build_snapshot().await?;
        self.watch.built(&snapshot.meta)?;
        Ok(snapshot)
    }
}
