//! The clients of the network in memory: its calls, and streams with what may be wrong with them.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures_core::Stream;
use raftwright_traits::{
    AppendEntriesRequest, AppendEntriesResponse, BasicNode, HeartbeatRequest, HeartbeatResponse, Identity,
    InstallSnapshotResponse, RPCError, RPCOption, RaftNetworkFactory, RaftNetworkV2, SnapshotRequest, Span,
    TransferLeaderRequest, Vote, VoteKind, VoteRequest, VoteResponse,
};

use super::flaw::Flaw;
use super::memory::{Hub, Memory};
use crate::TestConfig;

/// Makes the clients.
pub(crate) struct Factory {
    pub(super) hub: Hub,
    pub(super) flaw: Flaw,
}

impl RaftNetworkFactory<TestConfig> for Factory {
    type Network = Client;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Client {
        let mut client = Client(Memory::new(self.hub.clone(), target, node.addr.clone(), self.flaw));
        if self.flaw == Flaw::ConnectsWhenItIsMade {
            let from = Identity { id: 1, incarnation: None };
            let kind = VoteKind::PreVote;
            let hello =
                VoteRequest::<TestConfig> { from, vote: Vote::new(1, 1), last_log_id: None, kind, permit: None };
            let _ = client.vote(hello, RPCOption { timeout: Span::from_secs(9) }).await;
        }
        client
    }
}

/// A client of the network in memory.
pub(crate) struct Client(Memory);

type Answer = Result<AppendEntriesResponse<TestConfig>, RPCError>;
type Answers<'s> = Pin<Box<dyn Stream<Item = Answer> + Send + 's>>;

impl RaftNetworkV2<TestConfig> for Client {
    async fn vote(
        &mut self,
        rpc: VoteRequest<TestConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TestConfig>, RPCError> {
        self.0.vote(rpc, option).await
    }

    async fn append_entries(&mut self, rpc: AppendEntriesRequest<TestConfig>, option: RPCOption) -> Answer {
        self.0.append_entries(rpc, option).await
    }

    async fn heartbeat(
        &mut self,
        rpc: HeartbeatRequest<TestConfig>,
        option: RPCOption,
    ) -> Result<HeartbeatResponse<TestConfig>, RPCError> {
        self.0.heartbeat(rpc, option).await
    }

    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        option: RPCOption,
    ) -> impl Stream<Item = Answer> + Send + Unpin + 's
    where
        S: Stream<Item = AppendEntriesRequest<TestConfig>> + Send + Unpin + 's,
    {
        let flaw = self.0.flaw;
        let answers: Answers<'s> = match flaw {
            Flaw::StreamsAnswersTwice => Box::pin(Twice { answers: self.0.stream_append(input, option), again: None }),
            Flaw::StreamsOnAfterAnError => {
                Box::pin(Stubborn { answers: self.0.stream_append(input, option), error: None })
            }
            Flaw::StreamsBeforeItIsPolled => {
                let first = Pin::new(&mut input).poll_next(&mut Context::from_waker(Waker::noop()));
                let first = if let Poll::Ready(first) = first { first } else { None };
                Box::pin(self.0.stream_append(Behind { first, rest: input }, option))
            }
            _ => Box::pin(self.0.stream_append(input, option)),
        };
        answers
    }

    async fn full_snapshot(
        &mut self,
        rpc: SnapshotRequest<TestConfig>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<TestConfig>, RPCError> {
        self.0.full_snapshot(rpc, option).await
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<TestConfig>,
        option: RPCOption,
    ) -> Result<(), RPCError> {
        self.0.transfer_leader(rpc, option).await
    }
}

/// Every answer twice.
struct Twice<S> {
    answers: S,
    again: Option<Answer>,
}

impl<S: Stream<Item = Answer> + Unpin> Stream for Twice<S> {
    type Item = Answer;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Answer>> {
        if let Some(again) = self.again.take() {
            return Poll::Ready(Some(again));
        }
        let next = Pin::new(&mut self.answers).poll_next(cx);
        if let Poll::Ready(Some(answer)) = &next {
            self.again = Some(answer.clone());
        }
        next
    }
}

/// The first error again and again.
struct Stubborn<S> {
    answers: S,
    error: Option<RPCError>,
}

impl<S: Stream<Item = Answer> + Unpin> Stream for Stubborn<S> {
    type Item = Answer;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Answer>> {
        if let Some(error) = self.error.clone() {
            return Poll::Ready(Some(Err(error)));
        }
        let next = Pin::new(&mut self.answers).poll_next(cx);
        if let Poll::Ready(Some(Err(error))) = &next {
            self.error = Some(error.clone());
        }
        next
    }
}

/// Requests behind one that was taken too early.
struct Behind<S> {
    first: Option<AppendEntriesRequest<TestConfig>>,
    rest: S,
}

impl<S: Stream<Item = AppendEntriesRequest<TestConfig>> + Unpin> Stream for Behind<S> {
    type Item = AppendEntriesRequest<TestConfig>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => Pin::new(&mut self.rest).poll_next(cx),
        }
    }
}
impl<S> Unpin for Twice<S> {}
impl<S> Unpin for Stubborn<S> {}
impl<S> Unpin for Behind<S> {}
