//! The server: a node on disk and network, with an application's state machine.

mod builder;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use raftwright_net::ServerHandle;
use raftwright_node::{Raft, RaftServerMetrics};
use raftwright_traits::{BasicNode, InitializeError, LogIdOption, Outcome, RaftError, Span, UnknownReason};
use raftwright_wal::WalEnd;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub use self::builder::ServerBuilder;
use crate::client::{Client, answer_of};
use crate::cluster_id::ClusterId;
use crate::easy_config::EasyConfig;
use crate::envelope::{Applied, Envelope};
use crate::gate::NodeGate;
use crate::protocol::{Members, NodeStatus, RequestError};
use crate::service::{Service, check_addr};
use crate::state_machine::StateMachine;

/// How long [`Server::write`] and [`Server::read`] wait.
pub const SERVER_DEADLINE: Duration = Duration::from_secs(5);

/// A running server: one member of a cluster, with its data directory, its listener and its copy of the state.
///
/// Its own [`write`](Server::write) and [`read`](Server::read) work on the leader alone; [`client`](Server::client) gives a
/// client that works on any server. [`raft`](Server::raft) is the full layer's handle.
///
/// End it with [`shutdown`](Server::shutdown), which waits until nothing of it runs any more. Dropping it ends it too,
/// without waiting.
pub struct Server<SM: StateMachine> {
    service: Arc<Service<SM>>,
    gate: Arc<NodeGate>,
    /// Locked by whoever waits for its end, so that everybody who asks for that waits.
    life: Mutex<Life>,
    addr: SocketAddr,
    advertise: String,
}

/// How far a server is.
enum Life {
    Running(Running),
    /// A task of its own ends it: whoever asked for that may lose patience.
    Ending(JoinHandle<()>),
    Ended,
}

struct Running {
    listener: ServerHandle,
    watcher: JoinHandle<()>,
    runtime: tokio::runtime::Handle,
    log: WalEnd,
    /// A snapshot that is being written is given up once this is true.
    stopping: Arc<AtomicBool>,
}

impl<SM: StateMachine> std::fmt::Debug for Server<SM> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("id", &self.id()).field("addr", &self.addr).finish_non_exhaustive()
    }
}

/// What a server's listener has seen since it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// Connections that exist now.
    pub open: usize,
    /// Connections of peers and clients that were let in.
    pub accepted: u64,
    /// Connections that were refused, by either side, with a reason.
    pub refused: u64,
    /// Connections closed because of bytes that are no frames, or came too slowly.
    pub malformed: u64,
}

/// Why a blank server was not made the first of a cluster. [`outcome`](InitError::outcome) says whether it may have been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InitError {
    /// It has a log, or it was made a member of a cluster.
    #[error("server {id} belongs to a cluster already; it is never initialized again")]
    BelongsToCluster {
        /// The server.
        id: u64,
    },
    /// The members do not contain the server.
    #[error("the first members must name server {id}, which is asked")]
    NotAmongMembers {
        /// The server.
        id: u64,
    },
    /// Anything else. *Surely not applied*; it may be tried again.
    #[error("{0}")]
    Failed(String),
    /// The server stopped before the first entry was known to be durable. *Unknown*: started again, it says which.
    #[error("whether the cluster has begun is unknown: {0}")]
    Unknown(UnknownReason),
}

impl InitError {
    /// Whether the server may be the first of a cluster all the same.
    pub fn outcome(&self) -> Outcome {
        match self {
            InitError::BelongsToCluster { .. } | InitError::NotAmongMembers { .. } | InitError::Failed(_) => {
                Outcome::NotApplied
            }
            InitError::Unknown(_) => Outcome::Unknown,
        }
    }

    fn of(error: RaftError<InitializeError<EasyConfig>>, id: u64) -> Self {
        match error {
            RaftError::APIError(InitializeError::AlreadyInitialized) => InitError::BelongsToCluster { id },
            RaftError::APIError(InitializeError::Unknown(reason)) => InitError::Unknown(reason),
            RaftError::APIError(
                error @ (InitializeError::NotInMembership | InitializeError::Membership(_) | InitializeError::Busy),
            ) => InitError::Failed(error.to_string()),
            // It had stopped before it was asked.
            RaftError::Fatal(error) => InitError::Failed(error.to_string()),
        }
    }
}

impl<SM: StateMachine> Server<SM> {
    /// The settings of a server that is about to start.
    pub fn builder() -> ServerBuilder<SM> {
        ServerBuilder::new()
    }

    fn new(
        service: Arc<Service<SM>>,
        gate: Arc<NodeGate>,
        listener: ServerHandle,
        watcher: JoinHandle<()>,
        addr: SocketAddr,
        advertise: String,
        (log, stopping): (WalEnd, Arc<AtomicBool>),
    ) -> Self {
        let runtime = tokio::runtime::Handle::current();
        let running = Running { listener, watcher, runtime, log, stopping };
        Self { service, gate, life: Mutex::new(Life::Running(running)), addr, advertise }
    }

    /// The server's id.
    pub fn id(&self) -> u64 {
        self.service.id()
    }

    /// Where it listens.
    pub fn peer_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where others are told to reach it: `host:port`.
    pub fn advertised_addr(&self) -> &str {
        &self.advertise
    }

    /// The cluster that it belongs to, once it belongs to one.
    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.gate.cluster_id()
    }

    /// The incarnation of its data directory, minted when that was made.
    pub fn incarnation(&self) -> u64 {
        self.service.incarnation()
    }

    /// The full layer's handle of this node.
    pub fn raft(&self) -> &Raft<EasyConfig> {
        self.service.raft()
    }

    /// Where this server stands.
    pub fn status(&self) -> NodeStatus {
        self.service.status()
    }

    /// The cluster, as this server sees it.
    pub fn members(&self) -> Members {
        self.service.members()
    }

    /// What its listener has seen; `None` once a shutdown has begun.
    pub fn connections(&self) -> Option<Connections> {
        let life = self.life.try_lock().ok()?;
        let Life::Running(running) = &*life else { return None };
        let counters = running.listener.counters();
        Some(Connections {
            open: counters.open(),
            accepted: counters.accepted(),
            refused: counters.refused(),
            malformed: counters.malformed(),
        })
    }

    /// A client that asks this server first, without a socket, and whoever leads otherwise.
    pub fn client(&self) -> Client<SM> {
        Client::at(Arc::clone(&self.service))
    }

    /// Has a command applied, if this server leads. At most once: a call whose fate is unknown must not be repeated unless
    /// doing it twice does no harm. [`client`](Self::client) repeats safely.
    ///
    /// # Errors
    /// [`RequestError`]; its `outcome` says whether the command is surely not applied.
    pub async fn write(&self, command: SM::Command) -> Result<SM::Answer, RequestError> {
        let envelope = Envelope::alone(&command).map_err(|error| RequestError::Malformed(error.to_string()))?;
        let outcome = self.service.write(envelope, Span::from(SERVER_DEADLINE)).await?;
        let unreadable = || RequestError::Unreadable("the state machine's bytes are no outcome".to_owned());
        answer_of(Applied::decode(outcome).ok_or_else(unreadable)?)
    }

    /// Asks this server's state machine, linearizably. A server that does not lead asks the leader first how far it must be.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn read(&self, query: SM::Query) -> Result<SM::Answer, RequestError> {
        timeout(SERVER_DEADLINE, self.service.read(query)).await.unwrap_or(Err(RequestError::NotConfirmed))
    }

    /// Asks this server's copy of the state as it is, which may be behind.
    ///
    /// # Errors
    /// [`RequestError::Stopped`].
    pub async fn stale(&self, query: SM::Query) -> Result<SM::Answer, RequestError> {
        self.service.stale(query).await
    }

    /// Has a snapshot of this server's state built, and returns the index of the last log entry in it once it is durable. The
    /// log up to it, less what the settings keep, goes then.
    ///
    /// # Errors
    /// [`RequestError`]. The server goes on.
    pub async fn snapshot(&self) -> Result<u64, RequestError> {
        self.service.snapshot().await
    }

    /// Makes this blank server the first of a new cluster with these voters, all of them blank, and gives the cluster its id.
    /// Call it on one server only: the others join when the first reaches them.
    ///
    /// # Errors
    /// [`InitError`]; its [`outcome`](InitError::outcome) says whether it is *surely not applied*. Then the log is as blank as it was,
    /// and the call may be made again, also after a restart; the server may have got the cluster's id by then, and joins no other.
    pub async fn init<A: Into<String>>(&self, members: impl IntoIterator<Item = (u64, A)>) -> Result<(), InitError> {
        let id = self.id();
        let members: BTreeMap<u64, BasicNode> =
            members.into_iter().map(|(id, addr)| (id, BasicNode::new(addr))).collect();
        if !members.contains_key(&id) {
            return Err(InitError::NotAmongMembers { id });
        }
        if let Some(why) = members.values().find_map(|node| check_addr(&node.addr).err()) {
            return Err(InitError::Failed(why));
        }
        let failed = |error: &dyn std::fmt::Display| InitError::Failed(error.to_string());
        if self.raft().is_initialized().await.map_err(|error| failed(&error))? {
            return Err(InitError::BelongsToCluster { id });
        }
        if !self.gate.found_cluster().map_err(|error| failed(&error))? {
            return Err(InitError::BelongsToCluster { id });
        }
        self.raft().initialize(members).await.map_err(|error| InitError::of(error, id))
    }

    /// Ends the server: stops listening, lets what is under way finish within a grace period, ends every task, and lets
    /// go of the data directory. Nothing of it runs any more when this returns, unless the disk hangs: then the writer of
    /// the log, and with it the lock on the directory, stays behind.
    ///
    /// Dropping this call does not stop what it has begun; the next one waits for the end of that. Once it has ended,
    /// doing it again does nothing.
    pub async fn shutdown(&self) {
        let mut life = self.life.lock().await;
        life.end(&self.service, &self.gate);
        if let Life::Ending(task) = &mut *life {
            // An error means that its runtime is gone, and everything that ran there with it.
            let _ended = task.await;
            self.gate.close();
            *life = Life::Ended;
        }
    }
}

impl Life {
    /// Begins the end of a server that runs.
    fn end<SM: StateMachine>(&mut self, service: &Arc<Service<SM>>, gate: &Arc<NodeGate>) {
        *self = match std::mem::replace(self, Life::Ended) {
            Life::Running(running) => {
                let (service, gate) = (Arc::clone(service), Arc::clone(gate));
                let runtime = running.runtime.clone();
                Life::Ending(runtime.spawn(async move { running.end(&service, &gate).await }))
            }
            life @ (Life::Ending(_) | Life::Ended) => life,
        };
    }
}

impl Running {
    async fn end<SM: StateMachine>(self, service: &Service<SM>, gate: &NodeGate) {
        self.stopping.store(true, Ordering::Relaxed);
        self.listener.shutdown().await;
        if let Err(error) = service.raft().shutdown().await {
            tracing::error!(node = service.id(), %error, "a task of the node had failed");
        }
        self.watcher.abort();
        // It was aborted, or has ended by itself: both are as wanted.
        let _ended = self.watcher.await;
        gate.close();
        log_ended(self.log, service.id()).await;
    }
}

/// How long a server that stops waits for the writer of its log. A disk that hangs keeps it longer, and nobody else.
const LOG_END_MAX: Duration = Duration::from_secs(5);

/// Waits until the log's writer is gone, so that the data directory can be opened again.
pub(crate) async fn log_ended(end: impl Future<Output = ()>, node: u64) {
    if timeout(LOG_END_MAX, end).await.is_err() {
        tracing::error!(node, "the disk does not answer: the log is still being closed, and its directory locked");
    }
}

impl<SM: StateMachine> Drop for Server<SM> {
    fn drop(&mut self) {
        self.life.get_mut().end(&self.service, &self.gate);
    }
}

/// Tells the gate of each new membership. Ends with the node.
async fn watch_membership(
    mut metrics: watch::Receiver<RaftServerMetrics<EasyConfig>>,
    gate: Arc<NodeGate>,
    own: raftwright_wal::Identity,
) {
    let mut warned = false;
    loop {
        let stored = Arc::clone(&metrics.borrow_and_update().membership_config);
        gate.on_membership(stored.log_id.index_or_zero(), &stored.membership);
        let named = stored.membership.node(&own.node_id).and_then(|node| node.incarnation);
        if let Some(named) = named.filter(|named| named.0 != own.incarnation && !warned) {
            warned = true;
            tracing::error!(
                node = own.node_id,
                "the cluster knows this server by its data directory of incarnation {named}, and this one is \
                 {:016x}: the disk was emptied or the id is taken; remove the server from the cluster and add it again",
                own.incarnation
            );
        }
        if metrics.changed().await.is_err() {
            return;
        }
    }
}
