//! How a server reaches the others.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use raftwright_core::Span;

use crate::{
    AppendEntriesRequest, AppendEntriesResponse, AppendOutcome, HeartbeatRequest, HeartbeatResponse,
    InstallSnapshotResponse, RPCError, RaftTypeConfig, ReadIndexRequest, ReadIndexResponse, SnapshotRequest,
    TransferLeaderRequest, VoteRequest, VoteResponse,
};

/// How long a call may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RPCOption {
    /// After this long, nobody waits for the answer any more.
    pub timeout: Span,
}

/// Makes clients. One for each node.
pub trait RaftNetworkFactory<C: RaftTypeConfig>: Send + Sync + 'static {
    /// The client.
    type Network: RaftNetworkV2<C>;

    /// A client for this target. It does not connect: it connects when it is used, and again after a failure.
    fn new_client(&mut self, target: C::NodeId, node: &C::Node) -> impl Future<Output = Self::Network> + Send;
}

/// Calls one target. A failed call may or may not have reached it; every call is safe to repeat.
pub trait RaftNetworkV2<C: RaftTypeConfig>: Send + 'static {
    /// Asks for a vote or a pre-vote: the remote `Raft::vote`. On the control lane.
    ///
    /// # Errors
    /// No answer came.
    fn vote(
        &mut self,
        rpc: VoteRequest<C>,
        option: RPCOption,
    ) -> impl Future<Output = Result<VoteResponse<C>, RPCError>> + Send;

    /// Sends entries: the remote `Raft::append_entries`. On the bulk lane.
    ///
    /// # Errors
    /// No answer came.
    fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<C>,
        option: RPCOption,
    ) -> impl Future<Output = Result<AppendEntriesResponse<C>, RPCError>> + Send;

    /// Sends a heartbeat: the remote `Raft::heartbeat`. On the control lane. The default sends an append without entries,
    /// for networks that know no other message.
    ///
    /// # Errors
    /// No answer came.
    fn heartbeat(
        &mut self,
        rpc: HeartbeatRequest<C>,
        option: RPCOption,
    ) -> impl Future<Output = Result<HeartbeatResponse<C>, RPCError>> + Send {
        async move {
            let append = AppendEntriesRequest {
                from: rpc.from,
                vote: rpc.vote,
                prev_log_id: None,
                entries: Vec::new(),
                committed: rpc.committed,
            };
            let answer = self.append_entries(append, option).await?;
            let (accepted, vote) = match answer.outcome {
                AppendOutcome::<C>::Success { .. } | AppendOutcome::<C>::Conflict { .. } => (true, Some(rpc.vote)),
                AppendOutcome::<C>::HigherVote(vote) => (false, Some(vote)),
                AppendOutcome::<C>::Refused(_) => (false, None),
            };
            Ok(HeartbeatResponse { from: answer.from, round: rpc.round, asked: rpc.vote, accepted, vote })
        }
    }

    /// Sends many appends without waiting between them. Yields one answer a request, in their order; ends after the
    /// first error. Nothing moves unless it is polled. The default sends one after the other.
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> impl Stream<Item = Result<AppendEntriesResponse<C>, RPCError>> + Send + Unpin + 's
    where
        S: Stream<Item = AppendEntriesRequest<C>> + Send + Unpin + 's,
        Self: Sized,
    {
        SequentialAppend::new(self, input, option)
    }

    /// Sends a whole snapshot, and waits until the target has installed it: the remote `Raft::begin_receiving_snapshot`, the
    /// content, then the remote `Raft::install_full_snapshot`. On a lane of its own, so that it delays nothing else.
    ///
    /// `option.timeout` is how long the target may be silent, not how long the whole may take. Dropping the future gives the
    /// transfer up. Sent again, the same snapshot goes on where it broke, if the network can do that.
    ///
    /// The default is for a network that carries no snapshots: it refuses.
    ///
    /// # Errors
    /// No answer came. The target may have part of it, or have installed it.
    fn full_snapshot(
        &mut self,
        rpc: SnapshotRequest<C>,
        option: RPCOption,
    ) -> impl Future<Output = Result<InstallSnapshotResponse<C>, RPCError>> + Send {
        let _ = (rpc, option);
        async { Err(RPCError::Refused("this network carries no snapshots".into())) }
    }

    /// Asks the leader how far a state machine must be to serve a read: the remote `Raft::read_index`. On the control lane. The
    /// default is for networks that know no such message: reads are then served by the leader alone.
    ///
    /// # Errors
    /// No answer came.
    fn read_index(
        &mut self,
        rpc: ReadIndexRequest<C>,
        option: RPCOption,
    ) -> impl Future<Output = Result<ReadIndexResponse<C>, RPCError>> + Send {
        let _ = (rpc, option);
        async { Err(RPCError::Refused("this network carries no reads".into())) }
    }

    /// Asks the target to take over: the remote `Raft::transfer_leader`. On the control lane.
    ///
    /// # Errors
    /// No answer came.
    fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<C>,
        option: RPCOption,
    ) -> impl Future<Output = Result<(), RPCError>> + Send;
}

type Call<'s, C, N> =
    Pin<Box<dyn Future<Output = (Result<AppendEntriesResponse<C>, RPCError>, &'s mut N)> + Send + 's>>;

/// One append after the other: the default of [`RaftNetworkV2::stream_append`].
pub struct SequentialAppend<'s, C: RaftTypeConfig, N, S> {
    input: S,
    option: RPCOption,
    state: SequentialState<'s, C, N>,
}

enum SequentialState<'s, C: RaftTypeConfig, N> {
    Idle(&'s mut N),
    Calling(Call<'s, C, N>),
    Ended,
}

impl<'s, C, N, S> SequentialAppend<'s, C, N, S>
where
    C: RaftTypeConfig,
    N: RaftNetworkV2<C>,
    S: Stream<Item = AppendEntriesRequest<C>> + Send + Unpin + 's,
{
    fn new(network: &'s mut N, input: S, option: RPCOption) -> Self {
        Self { input, option, state: SequentialState::Idle(network) }
    }
}

impl<'s, C, N, S> Stream for SequentialAppend<'s, C, N, S>
where
    C: RaftTypeConfig,
    N: RaftNetworkV2<C>,
    S: Stream<Item = AppendEntriesRequest<C>> + Send + Unpin + 's,
{
    type Item = Result<AppendEntriesResponse<C>, RPCError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            match std::mem::replace(&mut this.state, SequentialState::Ended) {
                SequentialState::Ended => return Poll::Ready(None),
                SequentialState::Idle(network) => match Pin::new(&mut this.input).poll_next(cx) {
                    Poll::Pending => {
                        this.state = SequentialState::Idle(network);
                        return Poll::Pending;
                    }
                    Poll::Ready(None) => return Poll::Ready(None),
                    Poll::Ready(Some(request)) => {
                        let option = this.option;
                        this.state = SequentialState::Calling(Box::pin(async move {
                            (network.append_entries(request, option).await, network)
                        }));
                    }
                },
                SequentialState::Calling(mut call) => match call.as_mut().poll(cx) {
                    Poll::Pending => {
                        this.state = SequentialState::Calling(call);
                        return Poll::Pending;
                    }
                    Poll::Ready((result, network)) => {
                        if result.is_ok() {
                            this.state = SequentialState::Idle(network);
                        }
                        return Poll::Ready(Some(result));
                    }
                },
            }
        }
    }
}
