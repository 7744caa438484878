//! The calling side of Raft over this transport.

use std::collections::VecDeque;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use raftwright_traits::{
    AppendEntriesRequest, AppendEntriesResponse, BasicNode, HeartbeatRequest, HeartbeatResponse, Identity,
    InstallSnapshotResponse, RPCError, RPCOption, RaftNetworkFactory, RaftNetworkV2, ReadIndexRequest,
    ReadIndexResponse, SnapshotRequest, TransferLeaderRequest, VoteRequest, VoteResponse, WireNodeId,
};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::body::Body;
use crate::dialer::{Dialer, Target};
use crate::error::{CallError, Fault, FaultCode};
use crate::frame::{Kind, RequestId};
use crate::handshake::RefusalReason;
use crate::identity::Lane;
use crate::link::Link;
use crate::message::{WireMessage, WireTypes};
use crate::send_snapshot::{Unfinished, send_snapshot};

/// What a membership stores about a node, as far as this transport needs it.
pub trait PeerAddress {
    /// Where peers reach the node: `host:port`.
    fn peer_address(&self) -> String;
}

impl PeerAddress for BasicNode {
    fn peer_address(&self) -> String {
        self.addr.clone()
    }
}

/// Makes a [`TcpNetwork`] for each target. Connections are opened when they are used.
#[derive(Debug)]
pub struct TcpNetworkFactory<C> {
    dialer: Arc<Dialer>,
    types: PhantomData<fn() -> C>,
}

impl<C> TcpNetworkFactory<C> {
    /// A factory whose connections are opened by `dialer`.
    pub fn new(dialer: Arc<Dialer>) -> Self {
        TcpNetworkFactory { dialer, types: PhantomData }
    }
}

impl<C> Clone for TcpNetworkFactory<C> {
    fn clone(&self) -> Self {
        TcpNetworkFactory::new(Arc::clone(&self.dialer))
    }
}

impl<C: WireTypes<Node: PeerAddress>> RaftNetworkFactory<C> for TcpNetworkFactory<C> {
    type Network = TcpNetwork<C>;

    async fn new_client(&mut self, target: C::NodeId, node: &C::Node) -> TcpNetwork<C> {
        TcpNetwork::new(Arc::clone(&self.dialer), target, node)
    }
}

/// Calls one target: votes, heartbeats and transfers of leadership on the control lane, appends on the bulk lane, snapshots
/// on the snapshot lane. Each lane is a connection of its own, opened when first used. Nothing runs in the background:
/// whoever calls drives the socket.
#[derive(Debug)]
pub struct TcpNetwork<C: WireTypes> {
    control: Link,
    bulk: Link,
    snapshot: Link,
    /// The snapshot that did not get there yet.
    unfinished: Option<Unfinished<C>>,
}

impl<C: WireTypes> TcpNetwork<C> {
    /// A client for this target. It does not connect yet; the control lane may take over the connection of an earlier client.
    pub fn new(dialer: Arc<Dialer>, target: C::NodeId, node: &C::Node) -> Self
    where
        C::Node: PeerAddress,
    {
        let target = Target { address: node.peer_address(), node: Some(target.to_u64()) };
        let mut control = Link::new(Arc::clone(&dialer), target.clone(), Lane::Control);
        control.unpark();
        TcpNetwork {
            control,
            bulk: Link::new(Arc::clone(&dialer), target.clone(), Lane::Bulk),
            snapshot: Link::new(dialer, target, Lane::Snapshot),
            unfinished: None,
        }
    }
}

/// Votes are asked by clients that are made for one call each; they should not have to shake hands each time.
impl<C: WireTypes> Drop for TcpNetwork<C> {
    fn drop(&mut self) {
        self.control.park();
    }
}

impl<C: WireTypes> RaftNetworkV2<C> for TcpNetwork<C> {
    async fn vote(&mut self, rpc: VoteRequest<C>, option: RPCOption) -> Result<VoteResponse<C>, RPCError> {
        let answer: VoteResponse<C> = call(&mut self.control, Kind::Vote, &rpc, option).await?;
        check_sender(&self.control, &answer.from)?;
        Ok(answer)
    }

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<C>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<C>, RPCError> {
        let answer: AppendEntriesResponse<C> = call(&mut self.bulk, Kind::AppendEntries, &rpc, option).await?;
        check_sender(&self.bulk, &answer.from)?;
        Ok(answer)
    }

    async fn heartbeat(
        &mut self,
        rpc: HeartbeatRequest<C>,
        option: RPCOption,
    ) -> Result<HeartbeatResponse<C>, RPCError> {
        let answer: HeartbeatResponse<C> = call(&mut self.control, Kind::Heartbeat, &rpc, option).await?;
        check_sender(&self.control, &answer.from)?;
        Ok(answer)
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> impl Stream<Item = Result<AppendEntriesResponse<C>, RPCError>> + Send + Unpin + 's
    where
        S: Stream<Item = AppendEntriesRequest<C>> + Send + Unpin + 's,
    {
        let timeout = Duration::from(option.timeout);
        AppendStream {
            link: &mut self.bulk,
            input: Some(input),
            opening: None,
            under_way: VecDeque::new(),
            timeout,
            timer: Box::pin(sleep_until(Instant::now() + timeout)),
            ended: false,
            types: PhantomData::<fn() -> C>,
        }
    }

    async fn full_snapshot(
        &mut self,
        rpc: SnapshotRequest<C>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<C>, RPCError> {
        send_snapshot(&mut self.snapshot, &mut self.unfinished, rpc, option).await
    }

    async fn read_index(
        &mut self,
        rpc: ReadIndexRequest<C>,
        option: RPCOption,
    ) -> Result<ReadIndexResponse<C>, RPCError> {
        let answer: ReadIndexResponse<C> = call(&mut self.control, Kind::ReadIndex, &rpc, option).await?;
        check_sender(&self.control, &answer.from)?;
        Ok(answer)
    }

    async fn transfer_leader(&mut self, rpc: TransferLeaderRequest<C>, option: RPCOption) -> Result<(), RPCError> {
        call(&mut self.control, Kind::TransferLeader, &rpc, option).await
    }
}

async fn call<Q, A>(link: &mut Link, kind: Kind, request: &Q, option: RPCOption) -> Result<A, RPCError>
where
    Q: WireMessage,
    A: WireMessage,
{
    let answer = link.call(kind, request.encode(), option.timeout.into()).await?;
    decode(answer)
}

pub(crate) fn decode<A: WireMessage>(answer: Bytes) -> Result<A, RPCError> {
    A::decode(answer).map_err(|error| RPCError::Network(format!("the answer cannot be read: {error}")))
}

/// An answer counts only for the node that the handshake named.
pub(crate) fn check_sender<I: WireNodeId>(link: &Link, from: &Identity<I>) -> Result<(), RPCError> {
    match link.session() {
        Some(session) if session.peer.node != Some(from.id.to_u64()) => {
            Err(RPCError::Network(format!("{} answers in the name of node {from}", session.peer)))
        }
        Some(_) | None => Ok(()),
    }
}

/// Some refusals concern who speaks, and stay; others what happened to one connection, and pass.
fn refused(reason: RefusalReason, error: &CallError) -> RPCError {
    match reason {
        RefusalReason::WrongCluster
        | RefusalReason::WrongTarget
        | RefusalReason::StaleIncarnation
        | RefusalReason::VersionMismatch
        | RefusalReason::NotAPeer
        | RefusalReason::Other(_) => RPCError::Refused(error.to_string()),
        RefusalReason::Overloaded => RPCError::Unreachable(error.to_string()),
        RefusalReason::Malformed => RPCError::Network(error.to_string()),
    }
}

impl From<CallError> for RPCError {
    fn from(error: CallError) -> Self {
        match &error {
            CallError::Deadline { .. } => RPCError::Timeout,
            CallError::Dial(dial) => match dial.refusal() {
                Some(refusal) => refused(refusal.reason, &error),
                None => RPCError::Unreachable(error.to_string()),
            },
            CallError::Refused(refusal) => refused(refusal.reason, &error),
            CallError::Fault(Fault { code, .. }) => match code {
                FaultCode::Unsupported | FaultCode::BadRequest | FaultCode::AnswerTooLong => {
                    RPCError::Refused(error.to_string())
                }
                FaultCode::Stopped => RPCError::Unreachable(error.to_string()),
                FaultCode::Busy | FaultCode::Other(_) => RPCError::Network(error.to_string()),
            },
            CallError::TooLong(_)
            | CallError::Lost(_)
            | CallError::Protocol(_)
            | CallError::Silent
            | CallError::ShutDown => RPCError::Network(error.to_string()),
        }
    }
}

/// Pipelined appends. Polling it takes requests from its input as they come, writes them together, and yields the answers
/// in the order of the requests; there is no task and no channel between the caller and the socket.
struct AppendStream<'s, C, S> {
    link: &'s mut Link,
    /// `None` once it has ended.
    input: Option<S>,
    /// The request for whose sake the link is being opened, and until when that may take.
    opening: Option<(Body, Instant)>,
    /// Sent and not answered, with the time until when the answer may come.
    under_way: VecDeque<(RequestId, Instant)>,
    timeout: Duration,
    /// Fires no later than the deadline of the oldest request; set anew when it has fired, not with each request.
    timer: Pin<Box<Sleep>>,
    ended: bool,
    types: PhantomData<fn() -> C>,
}

impl<C, S> AppendStream<'_, C, S>
where
    C: WireTypes,
    S: Stream<Item = AppendEntriesRequest<C>> + Unpin,
{
    /// Takes requests from the input while there is room and writes none yet.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Result<(), RPCError> {
        loop {
            if let Some((request, due)) = self.opening.take() {
                match self.link.poll_open(cx) {
                    Poll::Ready(opened) => opened?,
                    Poll::Pending => {
                        self.opening = Some((request, due));
                        return Ok(());
                    }
                }
                self.send(request, due)?;
            }
            if !self.under_way.is_empty() && self.link.is_full() {
                return Ok(());
            }
            let Some(input) = &mut self.input else { return Ok(()) };
            match Pin::new(input).poll_next(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(None) => self.input = None,
                Poll::Ready(Some(request)) => {
                    let due = Instant::now() + self.timeout;
                    // With nothing under way the link may be closed, or have been closed by the peer meanwhile.
                    match self.under_way.is_empty() {
                        true => self.opening = Some((request.encode(), due)),
                        false => self.send(request.encode(), due)?,
                    }
                }
            }
        }
    }

    fn send(&mut self, request: Body, due: Instant) -> Result<(), RPCError> {
        let id = self.link.push(Kind::AppendEntries, request)?;
        self.under_way.push_back((id, due));
        Ok(())
    }

    /// The answer to the oldest request. Answers to requests of an abandoned stream on the same link are passed over.
    fn poll_answers(&mut self, cx: &mut Context<'_>) -> Poll<Result<AppendEntriesResponse<C>, RPCError>> {
        while let Some(&(oldest, _)) = self.under_way.front() {
            let (id, answer) = match self.link.poll_answer(cx) {
                Poll::Ready(answered) => answered?,
                Poll::Pending => return Poll::Pending,
            };
            if id < oldest {
                continue;
            }
            if id > oldest {
                return Poll::Ready(Err(RPCError::Network("the peer answers out of order".to_owned())));
            }
            self.under_way.pop_front();
            let body = answer.map_err(|fault| RPCError::from(CallError::Fault(fault)))?;
            let answer: AppendEntriesResponse<C> = decode(body)?;
            check_sender(self.link, &answer.from)?;
            return Poll::Ready(Ok(answer));
        }
        Poll::Pending
    }

    fn is_overdue(&mut self, cx: &mut Context<'_>) -> bool {
        let oldest = self.under_way.front().map(|&(_, due)| due);
        let Some(due) = oldest.or(self.opening.as_ref().map(|&(_, due)| due)) else { return false };
        while self.timer.as_mut().poll(cx).is_ready() {
            if due <= Instant::now() {
                return true;
            }
            self.timer.as_mut().reset(due);
        }
        false
    }
}

impl<C, S> Stream for AppendStream<'_, C, S>
where
    C: WireTypes,
    S: Stream<Item = AppendEntriesRequest<C>> + Unpin,
{
    type Item = Result<AppendEntriesResponse<C>, RPCError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let answered = match this.poll_input(cx) {
            Ok(()) => this.poll_answers(cx),
            Err(error) => Poll::Ready(Err(error)),
        };
        match answered {
            Poll::Ready(Ok(answer)) => Poll::Ready(Some(Ok(answer))),
            Poll::Ready(Err(error)) => {
                this.ended = true;
                Poll::Ready(Some(Err(error)))
            }
            Poll::Pending if this.is_overdue(cx) => {
                this.ended = true;
                Poll::Ready(Some(Err(RPCError::Timeout)))
            }
            Poll::Pending if this.input.is_none() && this.opening.is_none() && this.under_way.is_empty() => {
                this.ended = true;
                Poll::Ready(None)
            }
            Poll::Pending => Poll::Pending,
        }
    }
}
