//! Calls between simulated nodes. A call is mail: the world decides when it arrives, how often, and whether.

use std::fmt::{self, Debug};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use futures_core::Stream;
use raftwright_node::Raft;
use raftwright_traits::{
    AppendEntriesRequest, AppendEntriesResponse, AppendOutcome, AsyncRuntime, BasicNode, Fatal, HeartbeatRequest,
    HeartbeatResponse, InstallSnapshotResponse, RPCError, RPCOption, RaftNetworkFactory, RaftNetworkV2,
    ReadIndexRequest, ReadIndexResponse, SnapshotRequest, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use tokio::sync::oneshot;

use super::application::SimConfig;
use super::connection::Pipeline;
use super::tap::{Act, Reporter};
use super::transfer::{Receipts, Unfinished, send_snapshot};
use crate::checkers::Fact;
use crate::runtime::SimRuntime;
use crate::world::{Lane, NodeId};

/// The process that a request has reached.
#[derive(Debug, Clone)]
pub struct Served<C: SimConfig> {
    /// Its handle.
    pub raft: Raft<C>,
    /// What it runs on.
    pub runtime: SimRuntime,
    /// Where its acts are reported.
    pub reporter: Reporter,
    /// The snapshots that it receives.
    pub receipts: Receipts<C>,
}

/// Handles a request on the process that it has reached. May be done more than once: a network can double a message.
pub type Handle<C> = dyn Fn(&Served<C>) + Send + Sync;

/// What happens when mail arrives.
pub enum Job<C: SimConfig> {
    /// A request: handled by the node, in a task of its own.
    Call(Arc<Handle<C>>),
    /// An answer: given to whoever waits, if anybody still does.
    Return(Arc<dyn Fn() + Send + Sync>),
}

impl<C: SimConfig> Clone for Job<C> {
    fn clone(&self) -> Self {
        match self {
            Job::Call(handle) => Job::Call(Arc::clone(handle)),
            Job::Return(give) => Job::Return(Arc::clone(give)),
        }
    }
}

impl<C: SimConfig> Debug for Job<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Job::Call(_) => "Call",
            Job::Return(_) => "Return",
        })
    }
}

/// What a trace says about a message.
#[derive(Debug, Clone, Default)]
pub struct Label {
    /// What kind of message it is.
    pub name: &'static str,
    /// What is in it; empty unless somebody reads traces.
    pub text: String,
}

/// A message that a node wants to be carried.
#[derive(Debug, Clone)]
pub struct Post<C: SimConfig> {
    /// The sender.
    pub from: NodeId,
    /// The receiver.
    pub to: NodeId,
    /// On which connection.
    pub lane: Lane,
    /// About how large it is.
    pub bytes: usize,
    /// What it is called.
    pub label: Label,
    /// What it does.
    pub job: Job<C>,
}

/// Where nodes put their messages; the world empties it.
#[derive(Debug)]
pub struct Mail<C: SimConfig> {
    posts: Arc<Mutex<Vec<Post<C>>>>,
    /// Whether messages carry a text.
    pub wordy: bool,
}

impl<C: SimConfig> Clone for Mail<C> {
    fn clone(&self) -> Self {
        Self { posts: Arc::clone(&self.posts), wordy: self.wordy }
    }
}

impl<C: SimConfig> Default for Mail<C> {
    fn default() -> Self {
        Self { posts: Arc::default(), wordy: false }
    }
}

impl<C: SimConfig> Mail<C> {
    pub(super) fn post(&self, post: Post<C>) {
        self.posts.lock().unwrap_or_else(PoisonError::into_inner).push(post);
    }

    /// Takes everything that was posted since the last call. `empty` is what is left in its place.
    pub fn take(&self, empty: Vec<Post<C>>) -> Vec<Post<C>> {
        std::mem::replace(&mut self.posts.lock().unwrap_or_else(PoisonError::into_inner), empty)
    }

    pub(super) fn label(&self, name: &'static str, content: &dyn Debug) -> Label {
        Label { name, text: if self.wordy { format!("{content:?}") } else { String::new() } }
    }
}

/// Makes the clients of one node.
#[derive(Debug)]
pub struct Factory<C: SimConfig> {
    /// Where its messages go.
    pub mail: Mail<C>,
    /// Its runtime.
    pub runtime: SimRuntime,
    /// Where its acts are reported.
    pub reporter: Reporter,
}

impl<C: SimConfig> Clone for Factory<C> {
    fn clone(&self) -> Self {
        Self { mail: self.mail.clone(), runtime: self.runtime.clone(), reporter: self.reporter.clone() }
    }
}

impl<C: SimConfig> RaftNetworkFactory<C> for Factory<C> {
    type Network = Client<C>;

    async fn new_client(&mut self, target: NodeId, _: &BasicNode) -> Client<C> {
        Client { factory: self.clone(), to: target, unfinished: None }
    }
}

/// Calls one target.
#[derive(Debug)]
pub struct Client<C: SimConfig> {
    pub(super) factory: Factory<C>,
    pub(super) to: NodeId,
    /// A snapshot of which a part has been sent.
    unfinished: Option<Unfinished<C>>,
}

/// About how large a message without entries is.
pub(super) const MESSAGE_BYTES: usize = 100;

/// What a trace calls a request and its answer.
type Names = (&'static str, &'static str);

/// How a request travels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    pub(super) names: Names,
    pub(super) lane: Lane,
    /// About how large it is.
    pub(super) bytes: usize,
    /// It is part of a connection, which delivers nothing twice.
    pub(super) once: bool,
}

impl Way {
    fn control(names: Names) -> Self {
        Self { names, lane: Lane::Control, bytes: MESSAGE_BYTES, once: false }
    }
}

/// Sends a request and waits for the answer. `vouch` sees the answer when it leaves the node that gives it.
pub(super) async fn call<C, Q, A, F>(
    factory: &Factory<C>,
    to: NodeId,
    way: Way,
    request: Q,
    option: RPCOption,
    handle: impl Fn(&Served<C>, Q) -> F + Send + Sync + 'static,
    vouch: impl Fn(&A) -> Option<Fact> + Copy + Send + Sync + 'static,
) -> Result<A, RPCError>
where
    C: SimConfig,
    Q: Debug + Clone + Send + Sync + 'static,
    A: Debug + Send + 'static,
    F: Future<Output = Result<A, Fatal>> + Send + 'static,
{
    let Factory { mail, runtime, reporter } = factory.clone();
    let Way { names, lane, bytes, once } = way;
    let from = reporter.node;
    let (answer, answered) = oneshot::channel();
    let answer = Arc::new(Mutex::new(Some(answer)));
    let back = mail.clone();
    let label = mail.label(names.0, &request);
    let delivered = AtomicBool::new(false);
    let job = Job::Call(Arc::new(move |served: &Served<C>| {
        if once && delivered.swap(true, Ordering::Relaxed) {
            return;
        }
        let (work, back, answer) = (handle(served, request.clone()), back.clone(), Arc::clone(&answer));
        let reporter = served.reporter.clone();
        served.runtime.spawn(async move {
            let Ok(result) = work.await else { return };
            if let Some(fact) = vouch(&result) {
                reporter.report(Act::Did(fact));
            }
            let label = back.label(names.1, &result);
            let result = Mutex::new(Some(result));
            let job = Job::Return(Arc::new(move || {
                let result = result.lock().unwrap_or_else(PoisonError::into_inner).take();
                let waiting = answer.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let (Some(result), Some(waiting)) = (result, waiting) {
                    // Whoever asked may have given up.
                    let _ = waiting.send(result);
                }
            }));
            back.post(Post { from: to, to: from, lane, bytes: MESSAGE_BYTES, label, job });
        });
    }));
    mail.post(Post { from, to, lane, bytes, label, job });
    let mut late = pin!(runtime.sleep_until(runtime.now() + option.timeout));
    let mut answered = pin!(answered);
    poll_fn(|cx| {
        if let Poll::Ready(result) = answered.as_mut().poll(cx) {
            return Poll::Ready(result.map_err(|_| RPCError::Network("the connection broke".to_owned())));
        }
        late.as_mut().poll(cx).map(|()| Err(RPCError::Timeout))
    })
    .await
}

impl<C: SimConfig> Client<C> {
    /// A request on the control lane, handled by the target's handle alone.
    async fn ask<Q, A, F>(
        &self,
        names: Names,
        request: Q,
        option: RPCOption,
        handle: impl Fn(Raft<C>, Q) -> F + Send + Sync + 'static,
        vouch: fn(&A) -> Option<Fact>,
    ) -> Result<A, RPCError>
    where
        Q: Debug + Clone + Send + Sync + 'static,
        A: Debug + Send + 'static,
        F: Future<Output = Result<A, Fatal>> + Send + 'static,
    {
        let handle = move |served: &Served<C>, request| handle(served.raft.clone(), request);
        call(&self.factory, self.to, Way::control(names), request, option, handle, vouch).await
    }
}

/// What an acknowledgement of entries promises.
pub(super) fn acknowledged<C: SimConfig>(response: &AppendEntriesResponse<C>) -> Option<Fact> {
    match &response.outcome {
        AppendOutcome::<C>::Success { matched: Some(matched) } => Some(Fact::Acknowledged { matched: *matched }),
        AppendOutcome::<C>::Success { matched: None }
        | AppendOutcome::<C>::Conflict { .. }
        | AppendOutcome::<C>::HigherVote(_)
        | AppendOutcome::<C>::Refused(_) => None,
    }
}

impl<C: SimConfig> RaftNetworkV2<C> for Client<C> {
    async fn vote(&mut self, rpc: VoteRequest<C>, option: RPCOption) -> Result<VoteResponse<C>, RPCError> {
        self.factory.reporter.report(Act::Did(Fact::AskedForVote { vote: rpc.vote, kind: rpc.kind }));
        let handle = |raft: Raft<C>, rpc| async move { raft.vote(rpc).await };
        let vouch = |response: &VoteResponse<C>| {
            response.granted.then_some(Fact::Granted { vote: response.asked, kind: response.kind })
        };
        self.ask(("vote?", "vote!"), rpc, option, handle, vouch).await
    }

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<C>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<C>, RPCError> {
        let handle = |raft: Raft<C>, rpc| async move { raft.append_entries(rpc).await };
        self.ask(("append?", "append!"), rpc, option, handle, acknowledged::<C>).await
    }

    async fn heartbeat(
        &mut self,
        rpc: HeartbeatRequest<C>,
        option: RPCOption,
    ) -> Result<HeartbeatResponse<C>, RPCError> {
        let handle = |raft: Raft<C>, rpc| async move { raft.heartbeat(rpc).await };
        self.ask(("beat?", "beat!"), rpc, option, handle, |_| None).await
    }

    async fn read_index(
        &mut self,
        rpc: ReadIndexRequest<C>,
        option: RPCOption,
    ) -> Result<ReadIndexResponse<C>, RPCError> {
        let handle = |raft: Raft<C>, rpc| async move { raft.read_index(rpc).await };
        self.ask(("read-index?", "read-index!"), rpc, option, handle, |_| None).await
    }

    async fn full_snapshot(
        &mut self,
        rpc: SnapshotRequest<C>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<C>, RPCError> {
        let Self { factory, to, unfinished } = self;
        send_snapshot(factory, *to, unfinished, rpc, option).await
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> impl Stream<Item = Result<AppendEntriesResponse<C>, RPCError>> + Send + Unpin + 's
    where
        S: Stream<Item = AppendEntriesRequest<C>> + Send + Unpin + 's,
    {
        Pipeline::new(self, input)
    }

    async fn transfer_leader(&mut self, rpc: TransferLeaderRequest<C>, option: RPCOption) -> Result<(), RPCError> {
        let handle = |raft: Raft<C>, rpc| async move { raft.handle_transfer_leader(rpc).await };
        self.ask(("transfer?", "transfer!"), rpc, option, handle, |()| None).await
    }
}
