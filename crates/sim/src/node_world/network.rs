//! Calls between simulated nodes. A call is mail: the world decides when it arrives, how often, and whether.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use raftwright_node::Raft;
use raftwright_traits::{
    AppendEntriesRequest, AppendEntriesResponse, AsyncRuntime, BasicNode, Fatal, HeartbeatRequest, HeartbeatResponse,
    RPCError, RPCOption, RaftNetworkFactory, RaftNetworkV2, ReadIndexRequest, ReadIndexResponse, TransferLeaderRequest,
    VoteRequest, VoteResponse,
};
use tokio::sync::oneshot;

use super::types::App;
use crate::runtime::SimRuntime;
use crate::world::{Lane, NodeId};

/// Handles a request on the node that it has reached. May be done more than once: a network can double a message.
pub type Handle = dyn Fn(Raft<App>, &SimRuntime) + Send + Sync;

/// What happens when mail arrives.
#[derive(Clone)]
pub enum Job {
    /// A request: handled by the node, in a task of its own.
    Call(Arc<Handle>),
    /// An answer: given to whoever waits, if anybody still does.
    Return(Arc<dyn Fn() + Send + Sync>),
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Job::Call(_) => "Call",
            Job::Return(_) => "Return",
        })
    }
}

/// A message that a node wants to be carried.
#[derive(Debug, Clone)]
pub struct Post {
    /// The sender.
    pub from: NodeId,
    /// The receiver.
    pub to: NodeId,
    /// On which connection.
    pub lane: Lane,
    /// About how large it is.
    pub bytes: usize,
    /// What it does.
    pub job: Job,
}

/// Where nodes put their messages; the world empties it.
#[derive(Debug, Clone, Default)]
pub struct Mail(Arc<Mutex<Vec<Post>>>);

impl Mail {
    fn post(&self, post: Post) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(post);
    }

    /// Takes everything that was posted since the last call.
    pub fn take(&self) -> Vec<Post> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Makes the clients of one node.
#[derive(Debug, Clone)]
pub struct Factory {
    /// The node.
    pub from: NodeId,
    /// Where its messages go.
    pub mail: Mail,
    /// Its runtime.
    pub runtime: SimRuntime,
}

impl RaftNetworkFactory<App> for Factory {
    type Network = Client;

    async fn new_client(&mut self, target: NodeId, _: &BasicNode) -> Client {
        Client { factory: self.clone(), to: target }
    }
}

/// Calls one target.
#[derive(Debug, Clone)]
pub struct Client {
    factory: Factory,
    to: NodeId,
}

/// About how large a message without entries is.
const MESSAGE_BYTES: usize = 100;

impl Client {
    async fn call<A, F>(
        &self,
        lane: Lane,
        bytes: usize,
        option: RPCOption,
        handle: impl Fn(Raft<App>) -> F + Send + Sync + 'static,
    ) -> Result<A, RPCError>
    where
        A: Send + 'static,
        F: Future<Output = Result<A, Fatal>> + Send + 'static,
    {
        let Factory { from, mail, runtime } = self.factory.clone();
        let to = self.to;
        let (answer, answered) = oneshot::channel();
        let answer = Arc::new(Mutex::new(Some(answer)));
        let back = mail.clone();
        let job = Job::Call(Arc::new(move |raft: Raft<App>, server: &SimRuntime| {
            let (work, back, answer) = (handle(raft), back.clone(), Arc::clone(&answer));
            server.spawn(async move {
                let Ok(result) = work.await else { return };
                let result = Mutex::new(Some(result));
                let job = Job::Return(Arc::new(move || {
                    let result = result.lock().unwrap_or_else(PoisonError::into_inner).take();
                    let waiting = answer.lock().unwrap_or_else(PoisonError::into_inner).take();
                    if let (Some(result), Some(waiting)) = (result, waiting) {
                        // Whoever asked may have given up.
                        let _ = waiting.send(result);
                    }
                }));
                back.post(Post { from: to, to: from, lane, bytes: MESSAGE_BYTES, job });
            });
        }));
        mail.post(Post { from, to, lane, bytes, job });
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
}

impl RaftNetworkV2<App> for Client {
    async fn vote(&mut self, rpc: VoteRequest<App>, option: RPCOption) -> Result<VoteResponse<App>, RPCError> {
        let handle = move |raft: Raft<App>| {
            let rpc = rpc.clone();
            async move { raft.vote(rpc).await }
        };
        self.call(Lane::Control, MESSAGE_BYTES, option, handle).await
    }

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<App>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<App>, RPCError> {
        let bytes = MESSAGE_BYTES * (1 + rpc.entries.len());
        let handle = move |raft: Raft<App>| {
            let rpc = rpc.clone();
            async move { raft.append_entries(rpc).await }
        };
        self.call(Lane::Bulk, bytes, option, handle).await
    }

    async fn heartbeat(
        &mut self,
        rpc: HeartbeatRequest<App>,
        option: RPCOption,
    ) -> Result<HeartbeatResponse<App>, RPCError> {
        let handle = move |raft: Raft<App>| {
            let rpc = rpc.clone();
            async move { raft.heartbeat(rpc).await }
        };
        self.call(Lane::Control, MESSAGE_BYTES, option, handle).await
    }

    async fn read_index(
        &mut self,
        rpc: ReadIndexRequest<App>,
        option: RPCOption,
    ) -> Result<ReadIndexResponse<App>, RPCError> {
        let handle = move |raft: Raft<App>| {
            let rpc = rpc.clone();
            async move { raft.read_index(rpc).await }
        };
        self.call(Lane::Control, MESSAGE_BYTES, option, handle).await
    }

    async fn transfer_leader(&mut self, rpc: TransferLeaderRequest<App>, option: RPCOption) -> Result<(), RPCError> {
        let handle = move |raft: Raft<App>| {
            let rpc = rpc.clone();
            async move { raft.handle_transfer_leader(rpc).await }
        };
        self.call(Lane::Control, MESSAGE_BYTES, option, handle).await
    }
}
