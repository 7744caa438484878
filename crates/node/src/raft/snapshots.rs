//! Snapshots, from outside: looking at the newest, taking in a leader's, starting what otherwise starts by itself.

use raftwright_core::LogIdOption;
use raftwright_traits::{
    Fatal, InstallOutcome, InstallSnapshotRequest, InstallSnapshotResponse, LogIndex, RaftTypeConfig, Snapshot,
};
use tokio::sync::oneshot;

use super::{Raft, Trigger};
use crate::msg::RaftMsg;
use crate::sm::SnapshotCall;

impl<C: RaftTypeConfig> Raft<C> {
    /// The newest snapshot, built here or installed; `None` if there is none yet. Waits for its turn between two batches of
    /// entries.
    ///
    /// # Errors
    /// [`Fatal`], if the node has stopped.
    #[tracing::instrument(level = "debug", skip_all, fields(id = %self.id()))]
    pub async fn get_snapshot(&self) -> Result<Option<Snapshot<C>>, Fatal> {
        self.ask_worker(SnapshotCall::Get).await
    }

    /// A place for the content of a snapshot that a leader is about to send. Waits for its turn between two batches of
    /// entries.
    ///
    /// # Errors
    /// [`Fatal`], if the node has stopped.
    #[tracing::instrument(level = "debug", skip_all, fields(id = %self.id()))]
    pub async fn begin_receiving_snapshot(&self) -> Result<C::SnapshotData, Fatal> {
        self.ask_worker(SnapshotCall::Receive).await
    }

    /// Looks at a snapshot before its content is moved: an answer if it is not needed, because its sender is outvoted here,
    /// or because what it holds was purged here. `None` if it is to come; [`install_full_snapshot`](Self::install_full_snapshot)
    /// decides in the end.
    ///
    /// # Errors
    /// [`Fatal`], if the node has stopped.
    pub async fn check_snapshot(
        &self,
        head: &InstallSnapshotRequest<C>,
    ) -> Result<Option<InstallSnapshotResponse<C>>, Fatal> {
        let (vote, last_log_id) = (head.vote, head.last_log_id);
        self.with_raft_state(move |replica| {
            let outcome = match replica.vote() {
                Some(own) if *own > vote => InstallOutcome::<C>::HigherVote(*own),
                Some(_) if replica.purged().index_or_zero() >= last_log_id.index => InstallOutcome::<C>::Installed,
                Some(_) | None => return None,
            };
            Some(InstallSnapshotResponse::<C> { from: replica.identity(), outcome })
        })
        .await
    }

    /// A leader has sent a whole snapshot (Raft §7). If this returns `Installed`, then all that is in it is durable here: it
    /// was installed, or was here before.
    ///
    /// # Errors
    /// [`Fatal`], if the node has stopped. A snapshot that the state machine cannot install stops it.
    #[tracing::instrument(level = "debug", skip_all, fields(id = %self.id()))]
    pub async fn install_full_snapshot(
        &self,
        request: InstallSnapshotRequest<C>,
        snapshot: Snapshot<C>,
    ) -> Result<InstallSnapshotResponse<C>, Fatal> {
        let mut snapshot = Box::new(snapshot);
        // What the replica agrees to is what is installed.
        snapshot.meta.last_log_id = Some(request.last_log_id);
        snapshot.meta.last_membership = request.last_membership.clone();
        self.ask(|tx| RaftMsg::InstallSnapshot { request, snapshot, tx }).await
    }

    async fn ask_worker<V>(&self, call: impl FnOnce(oneshot::Sender<V>) -> SnapshotCall<C>) -> Result<V, Fatal> {
        self.check()?;
        let (tx, rx) = oneshot::channel();
        self.shared().snapshot_calls.send(call(tx)).await.map_err(|_| self.shared().end())?;
        rx.await.map_err(|_| self.shared().end())
    }
}

impl<C: RaftTypeConfig> Trigger<'_, C> {
    /// Has a snapshot built, unless one is being built or nothing was applied since the last. Returns at once:
    /// [`Wait::snapshot_at_least`](crate::Wait::snapshot_at_least) waits for it.
    ///
    /// # Errors
    /// [`Fatal`], if the node has stopped.
    #[tracing::instrument(level = "debug", skip_all, fields(id = %self.raft.id()))]
    pub async fn snapshot(&self) -> Result<(), Fatal> {
        self.raft.send(RaftMsg::BuildSnapshot).await
    }

    /// Deletes this node's log up to this index, or as far as it is in a snapshot. On a leader also what members still lack:
    /// they will get a snapshot.
    ///
    /// # Errors
    /// [`Fatal`], if the node has stopped.
    #[tracing::instrument(level = "debug", skip_all, fields(id = %self.raft.id()))]
    pub async fn purge_log(&self, upto: LogIndex) -> Result<(), Fatal> {
        self.raft.send(RaftMsg::Purge { upto }).await
    }
}
