//! Short tasks: one call to a peer each, behind nothing else.

use std::sync::Arc;

use raftwright_core::Message;
use raftwright_traits::{
    AsyncRuntime, HeartbeatRequest, Of, RPCError, RPCOption, RaftNetworkFactory, RaftNetworkV2, RaftTypeConfig, Span,
};

use crate::notify::Notify;
use crate::shared::Shared;
use crate::sync::Slot;

/// Makes the call and brings its answer back. It has a connection of its own, so a hung one delays no other. Ends when
/// `stop` is closed.
pub(crate) async fn call<C: RaftTypeConfig, N: RaftNetworkFactory<C>>(
    shared: Arc<Shared<C>>,
    factory: Arc<tokio::sync::Mutex<N>>,
    target: C::NodeId,
    node: C::Node,
    message: Message<Of<C>>,
    stop: Arc<Slot<()>>,
) {
    let timeout = Span::from_millis(shared.config().rpc_timeout);
    let late = shared.runtime.sleep_until(shared.runtime.now() + timeout);
    let answer = tokio::select! {
        biased;
        () = stop.closed() => return,
        answer = ask(&factory, target, &node, message, RPCOption { timeout }) => answer,
        () = late => Err(RPCError::Timeout),
    };
    match answer {
        Ok(Some(response)) if response.from() != Some(target) => {
            tracing::warn!(%target, "another server answers for a target");
        }
        Ok(Some(response)) => shared.notify.push(response),
        Ok(None) => {}
        Err(error) => tracing::debug!(%target, %error, "a call got no answer"),
    }
}

async fn ask<C: RaftTypeConfig, N: RaftNetworkFactory<C>>(
    factory: &tokio::sync::Mutex<N>,
    target: C::NodeId,
    node: &C::Node,
    message: Message<Of<C>>,
    option: RPCOption,
) -> Result<Option<Notify<C>>, RPCError> {
    let mut network = factory.lock().await.new_client(target, node).await;
    match message {
        Message::Vote(request) => Ok(Some(Notify::VoteResponse(network.vote(request, option).await?))),
        Message::Heartbeat(request) => {
            let request: HeartbeatRequest<C> = request;
            Ok(Some(Notify::HeartbeatResponse(network.heartbeat(request, option).await?)))
        }
        Message::TransferLeader(request) => {
            network.transfer_leader(request, option).await?;
            Ok(None)
        }
    }
}
