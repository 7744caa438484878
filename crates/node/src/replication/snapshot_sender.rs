//! Sending a snapshot to one target.

use std::sync::Arc;

use raftwright_traits::{
    InstallOutcome, InstallSnapshotResponse, LogIdOf, RPCOption, RaftNetworkV2, RaftTypeConfig, Snapshot,
    SnapshotRequest, Span,
};
use tokio::sync::oneshot;

use crate::replication::Target;
use crate::shared::Shared;
use crate::sm::SnapshotCall;

/// What became of a snapshot that was to be sent.
pub(super) enum Sent<C: RaftTypeConfig> {
    /// The target has answered.
    Answered { last_log_id: LogIdOf<C>, response: InstallSnapshotResponse<C> },
    /// No answer came.
    Failed,
    /// There is no snapshot, or none from which the log goes on.
    NoneToSend,
}

/// Sends snapshots to one target. It keeps the one that it has begun to send until the target has it, so that a transfer
/// which breaks goes on where it broke instead of beginning anew with every new snapshot.
pub(super) struct SnapshotSender<C: RaftTypeConfig> {
    shared: Arc<Shared<C>>,
    begun: Option<Arc<Snapshot<C>>>,
}

impl<C: RaftTypeConfig> SnapshotSender<C> {
    pub(super) fn new(shared: Arc<Shared<C>>) -> Self {
        Self { shared, begun: None }
    }

    /// Sends one, and waits until the target has installed it. Dropping the future gives the transfer up for now.
    pub(super) async fn send<N: RaftNetworkV2<C>>(&mut self, network: &mut N, target: &Target<C>) -> Sent<C> {
        let Some((snapshot, last_log_id)) = self.choose().await else { return Sent::NoneToSend };
        let Target { id: target, leader, vote, .. } = *target;
        tracing::info!(%target, %last_log_id, "a snapshot is sent");
        let _shown = Shown::new(&self.shared, target, last_log_id);
        let option = RPCOption { timeout: Span::from_millis(self.shared.config().install_snapshot_timeout) };
        match network.full_snapshot(SnapshotRequest { from: leader, vote, snapshot }, option).await {
            Ok(response) if response.from.id != target => {
                tracing::warn!(%target, from = %response.from, "another server answers for a target");
                Sent::Failed
            }
            Ok(response) => {
                if matches!(response.outcome, InstallOutcome::<C>::Installed) {
                    tracing::info!(%target, %last_log_id, "a snapshot was installed");
                    self.begun = None;
                }
                Sent::Answered { last_log_id, response }
            }
            Err(error) => {
                tracing::info!(%target, %last_log_id, %error, "the transfer of a snapshot is interrupted");
                Sent::Failed
            }
        }
    }

    /// The snapshot that was begun, or that is being sent to another target, or the newest: the first of them behind which
    /// the log goes on. One that was purged past would only have to be followed by another.
    async fn choose(&mut self) -> Option<(Arc<Snapshot<C>>, LogIdOf<C>)> {
        let purged = self.shared.purged();
        let leads_on = |snapshot: &Arc<Snapshot<C>>| snapshot.meta.last_log_id >= purged;
        let begun = self.begun.take().or_else(|| self.shared.snapshot_being_sent()).filter(leads_on);
        let snapshot = match begun {
            Some(snapshot) => snapshot,
            None => {
                let (tx, rx) = oneshot::channel();
                self.shared.snapshot_calls.send(SnapshotCall::Get(tx)).await.ok()?;
                let snapshot = Arc::new(rx.await.ok()??);
                // The log may have been purged meanwhile.
                if snapshot.meta.last_log_id < self.shared.purged() {
                    return None;
                }
                self.shared.set_snapshot_being_sent(&snapshot);
                snapshot
            }
        };
        let last_log_id = snapshot.meta.last_log_id?;
        self.begun = Some(Arc::clone(&snapshot));
        Some((snapshot, last_log_id))
    }
}

/// Shows in the metrics that a snapshot is on its way, for as long as it is.
struct Shown<'a, C: RaftTypeConfig> {
    shared: &'a Shared<C>,
    target: C::NodeId,
}

impl<'a, C: RaftTypeConfig> Shown<'a, C> {
    fn new(shared: &'a Shared<C>, target: C::NodeId, last_log_id: LogIdOf<C>) -> Self {
        shared.tell(|metrics| _ = metrics.snapshots_sending.insert(target, last_log_id));
        Self { shared, target }
    }
}

impl<C: RaftTypeConfig> Drop for Shown<'_, C> {
    fn drop(&mut self) {
        self.shared.tell(|metrics| _ = metrics.snapshots_sending.remove(&self.target));
    }
}
