//! The task that shows one target that its leader lives.

use std::sync::Arc;

use raftwright_traits::{
    AsyncRuntime, HeartbeatRequest, RPCOption, RaftNetworkFactory, RaftNetworkV2, RaftTypeConfig, Span,
};

use crate::notify::Notify;
use crate::shared::Shared;
use crate::sync::Slot;

/// Owns the target's control lane while this server leads. Its mailbox holds one heartbeat, the newest; nothing else is
/// ever in front of it, neither entries nor snapshots nor a disk.
pub(crate) struct HeartbeatWorker<C: RaftTypeConfig, N> {
    shared: Arc<Shared<C>>,
    target: C::NodeId,
    node: C::Node,
    factory: Arc<tokio::sync::Mutex<N>>,
    mailbox: Arc<Slot<HeartbeatRequest<C>>>,
}

impl<C: RaftTypeConfig, N: RaftNetworkFactory<C>> HeartbeatWorker<C, N> {
    pub(crate) fn new(
        shared: Arc<Shared<C>>,
        target: C::NodeId,
        node: C::Node,
        factory: Arc<tokio::sync::Mutex<N>>,
        mailbox: Arc<Slot<HeartbeatRequest<C>>>,
    ) -> Self {
        Self { shared, target, node, factory, mailbox }
    }

    /// Runs until its mailbox is closed.
    pub(crate) async fn run(self) {
        tokio::select! {
            biased;
            () = self.closed() => {}
            () = self.beat() => {}
        }
    }

    /// Waits for the close. The mailbox wakes one task, and this is the same task that waits for its values.
    async fn closed(&self) {
        self.mailbox.closed().await;
    }

    async fn beat(&self) {
        let mut network = self.factory.lock().await.new_client(self.target, &self.node).await;
        while let Some(request) = self.mailbox.take().await {
            let timeout = heartbeat_timeout(&self.shared.config());
            let runtime = &self.shared.runtime;
            let late = runtime.sleep_until(runtime.now() + timeout);
            let answer = tokio::select! {
                biased;
                answer = network.heartbeat(request, RPCOption { timeout }) => answer,
                () = late => continue,
            };
            match answer {
                Ok(response) if response.from.id != self.target => {
                    tracing::warn!(target = %self.target, from = %response.from, "another server answers for a target");
                }
                Ok(response) => self.shared.notify.push(Notify::HeartbeatResponse(response)),
                Err(error) => tracing::debug!(target = %self.target, %error, "a heartbeat got no answer"),
            }
        }
    }
}

/// How long to wait for an answer before the next heartbeat is sent. Half an election timeout, so that one lost message
/// does not make the target start an election; more than a round trip, or no answer would ever come.
fn heartbeat_timeout(config: &raftwright_traits::Config) -> Span {
    let half = config.election_timeout_min / 2;
    Span::from_millis(half.max(config.heartbeat_interval).min(config.rpc_timeout.max(1)))
}
