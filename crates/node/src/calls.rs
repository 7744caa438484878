//! Short tasks: one call to a peer each, behind nothing else.

use std::sync::Arc;

use raftwright_core::Message;
use raftwright_traits::{
    AsyncRuntime, HeartbeatRequest, Of, RPCError, RPCOption, RaftNetworkFactory, RaftNetworkV2, RaftTypeConfig,
    ReadIndexRequest, Span,
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

/// A client of the leader that was asked last, for the next question: one is under way at a time.
pub(crate) type ReadLane<C, N> =
    Arc<tokio::sync::Mutex<Option<(<C as RaftTypeConfig>::NodeId, <N as RaftNetworkFactory<C>>::Network)>>>;

/// Asks the leader how far a state machine must be to serve a read, and brings the answer back. Ends when `stop` is closed.
pub(crate) async fn ask_leader<C: RaftTypeConfig, N: RaftNetworkFactory<C>>(
    shared: Arc<Shared<C>>,
    factory: Arc<tokio::sync::Mutex<N>>,
    lane: ReadLane<C, N>,
    leader: C::NodeId,
    node: C::Node,
    request: ReadIndexRequest<C>,
    stop: Arc<Slot<()>>,
) {
    let timeout = Span::from_millis(shared.config().rpc_timeout);
    let late = shared.runtime.sleep_until(shared.runtime.now() + timeout);
    let exchange = async {
        let mut lane = lane.lock().await;
        let mut network = match lane.take() {
            Some((id, network)) if id == leader => network,
            Some(_) | None => factory.lock().await.new_client(leader, &node).await,
        };
        let answered = network.read_index(request, RPCOption { timeout }).await;
        if answered.is_ok() {
            // After a failure, and for a server whose address has changed, a new one is made.
            *lane = Some((leader, network));
        }
        answered
    };
    let answered = tokio::select! {
        biased;
        () = stop.closed() => return,
        answered = exchange => answered,
        () = late => Err(RPCError::Timeout),
    };
    shared.notify.push(Notify::ReadIndex(answered));
}
