//! Raft's calls over real sockets: what one side asks is what the other side's service sees.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use raftwright_net::{
    Body, Channel, Fault, Handler, Kind, Lane, Limits, RaftHandler, RaftService, Session, TcpNetworkFactory,
};
use raftwright_traits::{
    AppendEntriesRequest, AppendEntriesResponse, AppendOutcome, BasicNode, CommittedLeaderId, CommittedLeaderIdOf,
    Entry, EntryPayload, HeartbeatRequest, HeartbeatResponse, Identity, Incarnation, LogId, LogIdOf, RPCError,
    RPCOption, RaftNetworkFactory, RaftNetworkV2, Round, Span, TransferLeaderRequest, Vote, VoteKind, VoteOf,
    VoteRequest, VoteResponse,
};

use crate::support::{PATIENCE, body, client, dialer, eventually, node, open_gate, serve, target};

raftwright_traits::declare_raft_types!(
    /// Bytes in, bytes out.
    pub(crate) Config: D = Bytes, R = Bytes
);

const OPTION: RPCOption = RPCOption { timeout: Span::from_secs(120) };

fn me(id: u64) -> Identity<u64> {
    Identity { id, incarnation: Some(Incarnation(id * 100)) }
}

fn log_id(term: u64, index: u64) -> LogIdOf<Config> {
    LogId::new(CommittedLeaderIdOf::<Config>::new(term, None), index)
}

fn leader(term: u64, id: u64) -> VoteOf<Config> {
    Vote::new_committed(term, id)
}

fn append(from: u64, prev: u64, payloads: &[Bytes]) -> AppendEntriesRequest<Config> {
    let entries = (prev + 1..)
        .zip(payloads)
        .map(|(index, payload)| Entry { log_id: log_id(3, index), payload: EntryPayload::Normal(payload.clone()) });
    AppendEntriesRequest::<Config> {
        from: me(from),
        vote: leader(3, from),
        prev_log_id: (prev > 0).then(|| log_id(3, prev)),
        entries: entries.collect(),
        committed: Some(log_id(3, prev)),
    }
}

/// Node 2: grants every vote, follows every leader, keeps what was appended.
#[derive(Debug, Default)]
struct Follower {
    appended: Mutex<Vec<AppendEntriesRequest<Config>>>,
    transfers: Mutex<Vec<TransferLeaderRequest<Config>>>,
}

impl RaftService<Config> for Follower {
    async fn vote(&self, rpc: VoteRequest<Config>) -> Result<VoteResponse<Config>, Fault> {
        Ok(VoteResponse::<Config> { from: me(2), kind: rpc.kind, asked: rpc.vote, granted: true, vote: Some(rpc.vote) })
    }

    async fn append_entries(&self, rpc: AppendEntriesRequest<Config>) -> Result<AppendEntriesResponse<Config>, Fault> {
        let matched = rpc.entries.last().map(|entry| entry.log_id).or(rpc.prev_log_id);
        self.appended.lock().unwrap().push(rpc);
        Ok(AppendEntriesResponse::<Config> { from: me(2), outcome: AppendOutcome::<Config>::Success { matched } })
    }

    async fn heartbeat(&self, rpc: HeartbeatRequest<Config>) -> Result<HeartbeatResponse<Config>, Fault> {
        let vote = Some(rpc.vote);
        Ok(HeartbeatResponse::<Config> { from: me(2), round: rpc.round, asked: rpc.vote, accepted: true, vote })
    }

    async fn transfer_leader(&self, rpc: TransferLeaderRequest<Config>) -> Result<(), Fault> {
        self.transfers.lock().unwrap().push(rpc);
        Ok(())
    }

    async fn on_client(&self, _: &Session, request: Bytes) -> Result<Bytes, Fault> {
        Ok(request)
    }
}

/// Requests that the test pushes; the stream ends with `None`.
#[derive(Clone, Default)]
struct Requests(Arc<Mutex<VecDeque<Option<AppendEntriesRequest<Config>>>>>);

impl Stream for Requests {
    type Item = AppendEntriesRequest<Config>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.0.lock().unwrap().pop_front() {
            Some(request) => Poll::Ready(request),
            // The test polls again after it has pushed.
            None => Poll::Pending,
        }
    }
}

async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    poll_fn(|cx| Pin::new(&mut *stream).poll_next(cx)).await
}

#[tokio::test]
async fn every_call_arrives_and_comes_back() {
    let handler = RaftHandler::new(Follower::default());
    let (address, server) = serve(open_gate(node(2)), Limits::default(), Arc::clone(&handler)).await;
    let mut factory = TcpNetworkFactory::<Config>::new(dialer(node(1)));
    let mut network = factory.new_client(2, &BasicNode::new(address.clone())).await;

    let vote = VoteRequest::<Config> {
        from: me(1),
        vote: Vote::new(3, 1),
        last_log_id: Some(log_id(2, 9)),
        kind: VoteKind::PreVote,
        permit: None,
    };
    let answer = network.vote(vote.clone(), OPTION).await.unwrap();
    assert!(answer.granted);
    assert_eq!((answer.kind, answer.asked), (VoteKind::PreVote, vote.vote));

    let heartbeat =
        HeartbeatRequest::<Config> { from: me(1), vote: leader(3, 1), round: Round(41), committed: Some(log_id(2, 9)) };
    assert_eq!(network.heartbeat(heartbeat, OPTION).await.unwrap().round, Round(41));

    let payloads = [Bytes::from_static(b"short"), Bytes::from(vec![8; 100_000]), Bytes::new()];
    let request = append(1, 9, &payloads);
    let answer = network.append_entries(request.clone(), OPTION).await.unwrap();
    assert_eq!(answer.outcome, AppendOutcome::<Config>::Success { matched: Some(log_id(3, 12)) });
    assert_eq!(*handler.service().appended.lock().unwrap(), [request]);

    let transfer =
        TransferLeaderRequest::<Config> { from: me(1), vote: leader(3, 1), to: 2, last_log_id: Some(log_id(3, 12)) };
    network.transfer_leader(transfer.clone(), OPTION).await.unwrap();
    assert_eq!(*handler.service().transfers.lock().unwrap(), [transfer]);

    let clients = Channel::spawn(dialer(client()), target(&address, 2), Lane::Client);
    assert_eq!(clients.call(Kind::Client, body("opaque"), PATIENCE).await.unwrap(), "opaque");
    assert_eq!(server.counters().accepted(), 3, "control, bulk and client are three connections");
    server.shutdown().await;
}

#[tokio::test]
async fn streamed_appends_are_answered_in_their_order() {
    let handler = RaftHandler::new(Follower::default());
    let (address, server) = serve(open_gate(node(2)), Limits::default(), Arc::clone(&handler)).await;
    let mut network = TcpNetworkFactory::<Config>::new(dialer(node(1))).new_client(2, &BasicNode::new(address)).await;
    let requests = Requests::default();
    let payload = Bytes::from_static(b"payload");
    // Many more than may be under way at once.
    let count = 1000;
    (0..count).for_each(|i| requests.0.lock().unwrap().push_back(Some(append(1, i, std::slice::from_ref(&payload)))));
    let mut answers = network.stream_append(requests.clone(), OPTION);
    for i in 0..count {
        let answer = next(&mut answers).await.unwrap().unwrap();
        assert_eq!(answer.outcome, AppendOutcome::<Config>::Success { matched: Some(log_id(3, i + 1)) });
    }
    // The stream goes on after a rest, and ends when its input does.
    requests.0.lock().unwrap().extend([Some(append(1, count, &[payload])), None]);
    assert!(next(&mut answers).await.unwrap().is_ok());
    assert!(next(&mut answers).await.is_none());
    let appended = handler.service().appended.lock().unwrap().len();
    assert_eq!(appended as u64, count + 1);
    drop(answers);
    server.shutdown().await;
}

#[tokio::test]
async fn a_stream_ends_with_the_connection_and_the_next_one_connects_again() {
    let handler = RaftHandler::new(Follower::default());
    let (address, server) = serve(open_gate(node(2)), Limits::default(), Arc::clone(&handler)).await;
    let mut network =
        TcpNetworkFactory::<Config>::new(dialer(node(1))).new_client(2, &BasicNode::new(address.clone())).await;
    let requests = Requests::default();
    requests.0.lock().unwrap().push_back(Some(append(1, 0, &[])));
    let mut answers = network.stream_append(requests.clone(), OPTION);
    assert!(next(&mut answers).await.unwrap().is_ok());
    server.shutdown().await;
    requests.0.lock().unwrap().push_back(Some(append(1, 0, &[])));
    // Whether the end is noticed before or after sending, the stream ends with one error.
    let error = next(&mut answers).await.unwrap().unwrap_err();
    assert!(matches!(error, RPCError::Unreachable(_) | RPCError::Network(_)), "{error}");
    assert!(next(&mut answers).await.is_none());
    drop(answers);

    let socket = tokio::net::TcpListener::bind(&address).await.unwrap();
    let server = raftwright_net::Listener::from_socket(socket, open_gate(node(2)), Limits::default()).serve(handler);
    requests.0.lock().unwrap().extend([Some(append(1, 0, &[])), None]);
    let mut answers = network.stream_append(requests, OPTION);
    assert!(next(&mut answers).await.unwrap().is_ok());
    assert!(next(&mut answers).await.is_none());
    drop(answers);
    server.shutdown().await;
}

/// Begins every request and finishes none until it is let go.
struct Stuck {
    let_go: tokio::sync::Semaphore,
    inner: Arc<RaftHandler<Config, Follower>>,
}

impl Handler for Stuck {
    async fn handle(self: Arc<Self>, session: Arc<Session>, kind: Kind, body: Bytes) -> Result<Body, Fault> {
        let _permit = self.let_go.acquire().await.unwrap();
        Arc::clone(&self.inner).handle(session, kind, body).await
    }
}

#[tokio::test]
async fn a_stream_gives_up_a_peer_that_does_not_answer_in_time_and_late_answers_are_passed_over() {
    let inner = RaftHandler::new(Follower::default());
    let stuck = Arc::new(Stuck { let_go: tokio::sync::Semaphore::new(0), inner: Arc::clone(&inner) });
    let (address, server) = serve(open_gate(node(2)), Limits::default(), Arc::clone(&stuck)).await;
    let mut network = TcpNetworkFactory::<Config>::new(dialer(node(1))).new_client(2, &BasicNode::new(address)).await;
    // The connection is there, so that the time runs out for want of answers alone.
    stuck.let_go.add_permits(1);
    network.append_entries(append(1, 0, &[]), OPTION).await.unwrap();
    stuck.let_go.forget_permits(1);
    let requests = Requests::default();
    requests.0.lock().unwrap().extend([Some(append(1, 0, &[])), Some(append(1, 1, &[]))]);
    let mut answers = network.stream_append(requests, RPCOption { timeout: Span::from_millis(50) });
    assert_eq!(next(&mut answers).await, Some(Err(RPCError::Timeout)));
    assert_eq!(next(&mut answers).await, None);
    drop(answers);
    stuck.let_go.add_permits(100);
    // The answers to the first two come before these and must not be taken for them.
    let requests = Requests::default();
    requests.0.lock().unwrap().extend([Some(append(1, 7, &[])), Some(append(1, 8, &[])), None]);
    let mut answers = network.stream_append(requests, OPTION);
    for index in [7, 8] {
        let answer = next(&mut answers).await.unwrap().unwrap();
        assert_eq!(answer.outcome, AppendOutcome::<Config>::Success { matched: Some(log_id(3, index)) });
    }
    assert_eq!(next(&mut answers).await, None);
    drop(answers);
    assert_eq!(server.counters().accepted(), 1, "all on one connection");
    server.shutdown().await;
}

#[tokio::test]
async fn a_message_in_the_name_of_another_node_is_refused() {
    let handler = RaftHandler::new(Follower::default());
    let (address, server) = serve(open_gate(node(2)), Limits::default(), Arc::clone(&handler)).await;
    let mut network = TcpNetworkFactory::<Config>::new(dialer(node(1))).new_client(2, &BasicNode::new(address)).await;
    let error = network.append_entries(append(3, 0, &[]), OPTION).await.unwrap_err();
    assert!(matches!(&error, RPCError::Refused(text) if text.contains("speaks in the name of node 3")), "{error}");
    assert!(handler.service().appended.lock().unwrap().is_empty());
    // The connection is still good.
    network.append_entries(append(1, 0, &[]), OPTION).await.unwrap();
    server.shutdown().await;
}

#[tokio::test]
async fn nobody_there_and_nobody_answering_are_different_errors() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap().to_string();
    let mut factory = TcpNetworkFactory::<Config>::new(dialer(node(1)));
    let mut network = factory.new_client(2, &BasicNode::new(address)).await;
    // The kernel completes the connection and nobody shakes hands.
    let short = RPCOption { timeout: Span::from_millis(30) };
    assert_eq!(network.append_entries(append(1, 0, &[]), short).await.unwrap_err(), RPCError::Timeout);
    let requests = Requests::default();
    requests.0.lock().unwrap().push_back(Some(append(1, 0, &[])));
    let mut answers = network.stream_append(requests, short);
    assert_eq!(next(&mut answers).await.unwrap().unwrap_err(), RPCError::Timeout);
    drop(answers);
    drop(closed);
    let mut answered = Err(RPCError::Timeout);
    while answered == Err(RPCError::Timeout) {
        answered = network.append_entries(append(1, 0, &[]), OPTION).await.map(drop);
    }
    assert!(matches!(answered, Err(RPCError::Unreachable(_))), "{answered:?}");
}

fn vote_request() -> VoteRequest<Config> {
    VoteRequest::<Config> { from: me(1), vote: Vote::new(3, 1), last_log_id: None, kind: VoteKind::Vote, permit: None }
}

#[tokio::test]
async fn clients_made_for_one_call_each_share_a_connection() {
    let handler = RaftHandler::new(Follower::default());
    let (address, server) = serve(open_gate(node(2)), Limits::default(), Arc::clone(&handler)).await;
    let mut factory = TcpNetworkFactory::<Config>::new(dialer(node(1)));
    for _ in 0..20 {
        let mut network = factory.new_client(2, &BasicNode::new(address.clone())).await;
        network.vote(vote_request(), OPTION).await.unwrap();
    }
    assert_eq!(server.counters().accepted(), 1);
    // Two at a time are two connections, of which one is kept.
    let mut one = factory.new_client(2, &BasicNode::new(address.clone())).await;
    let mut two = factory.new_client(2, &BasicNode::new(address.clone())).await;
    one.vote(vote_request(), OPTION).await.unwrap();
    two.vote(vote_request(), OPTION).await.unwrap();
    drop((one, two));
    assert_eq!(server.counters().accepted(), 2);
    eventually(|| server.counters().open() == 1).await;
    server.shutdown().await;

    // A connection that has ended meanwhile costs no call.
    let socket = tokio::net::TcpListener::bind(&address).await.unwrap();
    let server = raftwright_net::Listener::from_socket(socket, open_gate(node(2)), Limits::default()).serve(handler);
    let mut network = factory.new_client(2, &BasicNode::new(address.clone())).await;
    network.vote(vote_request(), OPTION).await.unwrap();
    assert_eq!(server.counters().accepted(), 1);
    server.shutdown().await;
}

#[tokio::test]
async fn a_connection_with_an_unanswered_call_is_not_kept() {
    let inner = RaftHandler::new(Follower::default());
    let stuck = Arc::new(Stuck { let_go: tokio::sync::Semaphore::new(0), inner });
    let (address, server) = serve(open_gate(node(2)), Limits::default(), Arc::clone(&stuck)).await;
    let mut factory = TcpNetworkFactory::<Config>::new(dialer(node(1)));
    let mut network = factory.new_client(2, &BasicNode::new(address.clone())).await;
    // The connection is there, so that the time runs out for want of an answer alone.
    stuck.let_go.add_permits(1);
    network.vote(vote_request(), OPTION).await.unwrap();
    stuck.let_go.forget_permits(1);
    let short = RPCOption { timeout: Span::from_millis(50) };
    assert_eq!(network.vote(vote_request(), short).await.unwrap_err(), RPCError::Timeout);
    drop(network);
    stuck.let_go.add_permits(100);
    let mut network = factory.new_client(2, &BasicNode::new(address.clone())).await;
    network.vote(vote_request(), OPTION).await.unwrap();
    assert_eq!(server.counters().accepted(), 2);
    server.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_nobody_used_for_long_is_not_trusted() {
    let handler = RaftHandler::new(Follower::default());
    let (address, server) = serve(open_gate(node(2)), Limits::default(), handler).await;
    let mut factory = TcpNetworkFactory::<Config>::new(dialer(node(1)));
    let later = raftwright_net::limits::PARKED_TIME_MAX;
    for (accepted, wait) in [(1, later / 2), (1, later / 2), (1, later), (2, later / 2)] {
        let mut network = factory.new_client(2, &BasicNode::new(address.clone())).await;
        while network.vote(vote_request(), OPTION).await.is_err() {}
        assert!(server.counters().accepted() >= accepted);
        drop(network);
        tokio::time::advance(wait).await;
    }
    assert_eq!(server.counters().accepted(), 2);
    server.shutdown().await;
}
