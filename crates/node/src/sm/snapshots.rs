//! Snapshots, as the state machine's worker sees them: what is asked for, what is built, what is installed.

use std::future::Future;
use std::sync::Arc;

use raftwright_core::Ticket;
use raftwright_traits::{
    AsyncRuntime, LogIdOf, RaftSnapshotBuilder, RaftStateMachine, RaftTypeConfig, Snapshot, StorageError,
    StorageErrorKind,
};
use tokio::sync::oneshot;
use tracing::Instrument;

use crate::notify::Notify;
use crate::shared::Shared;
use crate::sync::{catch_panic, has_ended};

/// Asks the worker about snapshots, between two batches of entries. A caller that has gone needs no answer.
pub(crate) enum SnapshotCall<C: RaftTypeConfig> {
    /// The newest snapshot.
    Get(oneshot::Sender<Option<Snapshot<C>>>),
    /// A place for the content of one that is about to arrive.
    Receive(oneshot::Sender<C::SnapshotData>),
}

/// A snapshot that a leader has sent, to be installed.
pub(crate) struct Install<C: RaftTypeConfig> {
    pub(crate) ticket: Ticket,
    pub(crate) snapshot: Box<Snapshot<C>>,
}

impl<C: RaftTypeConfig> SnapshotCall<C> {
    pub(crate) async fn run<SM: RaftStateMachine<C>>(self, state_machine: &mut SM) -> Result<(), StorageError> {
        match self {
            SnapshotCall::Get(tx) => drop(tx.send(state_machine.get_current_snapshot().await?)),
            SnapshotCall::Receive(tx) => drop(tx.send(state_machine.begin_receiving_snapshot().await?)),
        }
        Ok(())
    }
}

/// The task that builds a snapshot. There is one at a time, but the last one may not quite have ended yet.
pub(crate) struct Builds<C: RaftTypeConfig> {
    shared: Arc<Shared<C>>,
    /// What the next snapshot is to hold at least; built once that is applied.
    wanted: Option<LogIdOf<C>>,
    tasks: Vec<<C::AsyncRuntime as AsyncRuntime>::JoinHandle<()>>,
}

impl<C: RaftTypeConfig> Builds<C> {
    pub(crate) fn new(shared: Arc<Shared<C>>) -> Self {
        Self { shared, wanted: None, tasks: Vec::new() }
    }

    /// Build one once this entry is applied.
    pub(crate) fn want(&mut self, at: LogIdOf<C>) {
        self.wanted = Some(at);
    }

    /// Starts the build that is due, if one is. The builder is taken here, between two batches of entries, and so sees a
    /// state between two entries; what takes time happens in a task of its own, while entries go on being applied.
    pub(crate) async fn start_if_due<SM>(&mut self, applied: Option<LogIdOf<C>>, state_machine: &mut SM)
    where
        SM: RaftStateMachine<C>,
    {
        if self.wanted.is_none() || applied < self.wanted {
            return;
        }
        self.wanted = None;
        self.tasks.retain_mut(|task| !has_ended(task));
        let builder = state_machine.get_snapshot_builder().await;
        let span = tracing::info_span!("snapshot", id = %self.shared.id);
        let task = build(Arc::clone(&self.shared), builder).instrument(span);
        self.tasks.push(self.shared.runtime.spawn(task));
    }

    /// Waits for the build that is under way. It is built to the end, so that nothing of the node works on its files when
    /// it has stopped.
    pub(crate) fn finish(&mut self) -> impl Future<Output = ()> + Send + use<C> {
        let tasks = std::mem::take(&mut self.tasks);
        async move {
            for task in tasks {
                // How it ended it has said itself.
                let _ = task.await;
            }
        }
    }
}

/// Builds a snapshot, and says how that ended. A failure, or a panic, costs this snapshot alone: the builder has nothing
/// that the state machine goes on with.
async fn build<C: RaftTypeConfig, B: RaftSnapshotBuilder<C>>(shared: Arc<Shared<C>>, mut builder: B) {
    let built = match catch_panic(builder.build_snapshot()).await {
        Ok(built) => built.and_then(|snapshot| {
            let empty = || StorageError::new(StorageErrorKind::StateMachine, "the builder gave a snapshot of nothing");
            snapshot.meta.last_log_id.ok_or_else(empty)
        }),
        Err(panic) => Err(StorageError::new(StorageErrorKind::StateMachine, format!("the builder panicked: {panic}"))),
    };
    drop(builder);
    match built {
        Ok(last_log_id) => {
            tracing::info!(%last_log_id, "a snapshot was built");
            shared.set_snapshot(last_log_id);
            shared.notify.push(Notify::SnapshotBuilt { last_log_id });
        }
        Err(error) => {
            tracing::warn!(%error, "a snapshot could not be built; the node goes on without it");
            shared.notify.push(Notify::SnapshotFailed);
        }
    }
}
