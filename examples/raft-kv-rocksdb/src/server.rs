//! A node: the stores, the transport and the `Raft` between them, and what its clients ask.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use raftwright::net::{
    Dialer, Fault, FaultCode, Limits, Listener, OpenGate, PeerIdentity, RaftHandler, RaftService, ServerHandle,
    Session, TcpNetworkFactory,
};
use raftwright::traits::{
    AppendEntriesRequest, AppendEntriesResponse, AsyncRuntime, BasicNode, ChangeMembershipError, ClientWriteError,
    Config, Fatal, ForwardToLeader, HeartbeatRequest, HeartbeatResponse, InitializeError, InstallSnapshotRequest,
    InstallSnapshotResponse, LinearizableReadError, Outcome, RaftError, RaftLogStorage, ReadIndexRequest,
    ReadIndexResponse, ReadPolicy, Snapshot, SnapshotPolicy, TokioRuntime, TransferLeaderRequest, VoteRequest,
    VoteResponse,
};
use raftwright::{ClusterId, Raft};

use crate::machine::RocksReader;
use crate::protocol::{Answer, Call, Refusal};
use crate::{Request, TypeConfig};

/// Settings of a server.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its id, unique in its cluster for ever.
    pub id: u64,
    /// Where its database is: an empty or missing directory, or one that this server has used.
    pub dir: PathBuf,
    /// Where it listens for peers and clients: `host:port`; port 0 takes a free one. Others reach it there.
    pub listen: String,
    /// Servers of clusters of other names are refused.
    pub cluster: String,
    /// A snapshot is built after so many entries, and so many entries behind it stay in the log.
    pub snapshot_every: u64,
}

/// A server that runs.
pub struct Server {
    raft: Raft<TypeConfig>,
    listener: ServerHandle,
    addr: SocketAddr,
}

impl Server {
    /// Opens the database and starts the node.
    ///
    /// # Errors
    /// The database cannot be opened, the port is taken, or the node does not start. Nothing is left running.
    pub async fn start(options: Options) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let Options { id, dir, listen, cluster, snapshot_every } = options;
        let random = TokioRuntime::current()?.random_u64();
        let (mut log, machine) = tokio::task::spawn_blocking(move || crate::open(&dir, random)).await??;
        let incarnation = log.get_log_state().await?.incarnation.map(|incarnation| incarnation.0);
        let name = ClusterId::of_initial(&cluster, &BTreeMap::new());
        // The gate lets every node of this cluster pass; whose votes and acknowledgements count is decided by the incarnation
        // that the membership names.
        let identity =
            PeerIdentity { cluster: Some(name.into()), node: Some(id), incarnation, ..PeerIdentity::default() };
        let gate = Arc::new(OpenGate { identity });
        let listener = Listener::bind(&listen, Arc::clone(&gate) as _, Limits::default()).await?;
        let addr = listener.local_addr()?;
        let network = TcpNetworkFactory::<TypeConfig>::new(Dialer::new(gate, Limits::default(), random));
        let config = Config {
            cluster_name: cluster,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(snapshot_every),
            max_in_snapshot_log_to_keep: snapshot_every,
            ..Config::default()
        };
        let reader = machine.reader();
        let raft = Raft::new(id, Arc::new(config.validate()?), network, log, machine).await?;
        let node = Node { raft: raft.clone(), reader, addr };
        Ok(Self { raft, listener: listener.serve(RaftHandler::new(node)), addr })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns when the node has stopped by itself, and why: its disk has failed.
    pub async fn failed(&self) -> String {
        let mut metrics = self.raft.metrics();
        loop {
            if let Err(fatal) = &metrics.borrow_and_update().running_state {
                return fatal.to_string();
            }
            if metrics.changed().await.is_err() {
                return "the node is gone".to_owned();
            }
        }
    }

    /// Stops the server and closes its database.
    pub async fn shutdown(self) {
        self.listener.shutdown().await;
        if let Err(error) = self.raft.shutdown().await {
            eprintln!("the node did not end as it should: {error:?}");
        }
    }
}

/// What the listener hands requests to.
struct Node {
    raft: Raft<TypeConfig>,
    reader: RocksReader,
    addr: SocketAddr,
}

impl Node {
    async fn answer(&self, call: Call) -> Result<Answer, Refusal> {
        match call {
            Call::Init => {
                let members = BTreeMap::from([(self.raft.id(), BasicNode::new(self.addr.to_string()))]);
                match self.raft.initialize(members).await {
                    Ok(()) | Err(RaftError::APIError(InitializeError::AlreadyInitialized)) => Ok(Answer::Done),
                    Err(error) if error.outcome() == Outcome::Unknown => Err(Refusal::Unknown(error.to_string())),
                    Err(error) => Err(Refusal::Refused(error.to_string())),
                }
            }
            Call::AddLearner { id, addr } => {
                self.raft.add_learner(id, BasicNode::new(addr), true).await.map_err(not_changed)?;
                Ok(Answer::Done)
            }
            Call::ChangeMembership(voters) => {
                self.raft.change_membership(voters, false).await.map_err(not_changed)?;
                Ok(Answer::Done)
            }
            Call::Set { key, value } => {
                let written = self.raft.client_write(Request::Set { key, value }).await.map_err(not_written)?;
                Ok(Answer::Previous(written.data.previous))
            }
            Call::Get(key) => {
                self.raft.ensure_linearizable(ReadPolicy::ReadIndex).await.map_err(not_read)?;
                let value = self.reader.get(key).await.map_err(|error| Refusal::Refused(error.to_string()))?;
                Ok(Answer::Value(value))
            }
            Call::Status => Ok(self.status()),
        }
    }

    fn status(&self) -> Answer {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let membership = &metrics.membership_config.membership;
        let voters: BTreeSet<u64> = membership.nodes().keys().copied().filter(|id| membership.is_voter(id)).collect();
        let (snapshot, purged) = (metrics.snapshot.map(|id| id.index), metrics.purged.map(|id| id.index));
        Answer::Status { id: self.raft.id(), leader: metrics.current_leader, voters, snapshot, purged }
    }
}

fn not_leader(forward: ForwardToLeader<TypeConfig>) -> Refusal {
    Refusal::NotLeader(forward.leader_node.map(|node| node.addr))
}

/// Another server may do it.
fn stopped(fatal: Fatal) -> Refusal {
    Refusal::Later(fatal.to_string())
}

fn not_written(error: RaftError<ClientWriteError<TypeConfig>>) -> Refusal {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => not_leader(forward),
        RaftError::APIError(error @ ClientWriteError::Unknown(_)) => Refusal::Unknown(error.to_string()),
        RaftError::APIError(error) => Refusal::Later(error.to_string()),
        RaftError::Fatal(fatal) => stopped(fatal),
    }
}

fn not_read(error: RaftError<LinearizableReadError<TypeConfig>>) -> Refusal {
    match error {
        RaftError::APIError(LinearizableReadError::ForwardToLeader(forward)) => not_leader(forward),
        RaftError::APIError(error) => Refusal::Later(error.to_string()),
        RaftError::Fatal(fatal) => stopped(fatal),
    }
}

fn not_changed(error: RaftError<ChangeMembershipError<TypeConfig>>) -> Refusal {
    match error {
        RaftError::APIError(ChangeMembershipError::ForwardToLeader(forward)) => not_leader(forward),
        RaftError::APIError(error @ (ChangeMembershipError::InProgress | ChangeMembershipError::Busy)) => {
            Refusal::Later(error.to_string())
        }
        RaftError::APIError(error @ ChangeMembershipError::Unknown(_)) => Refusal::Unknown(error.to_string()),
        RaftError::APIError(error) => Refusal::Refused(error.to_string()),
        RaftError::Fatal(fatal) => stopped(fatal),
    }
}

fn fault(fatal: Fatal) -> Fault {
    Fault::new(FaultCode::Stopped, fatal)
}

impl RaftService<TypeConfig> for Node {
    async fn vote(&self, rpc: VoteRequest<TypeConfig>) -> Result<VoteResponse<TypeConfig>, Fault> {
        self.raft.vote(rpc).await.map_err(fault)
    }

    async fn append_entries(
        &self,
        rpc: AppendEntriesRequest<TypeConfig>,
    ) -> Result<AppendEntriesResponse<TypeConfig>, Fault> {
        self.raft.append_entries(rpc).await.map_err(fault)
    }

    async fn heartbeat(&self, rpc: HeartbeatRequest<TypeConfig>) -> Result<HeartbeatResponse<TypeConfig>, Fault> {
        self.raft.heartbeat(rpc).await.map_err(fault)
    }

    async fn transfer_leader(&self, rpc: TransferLeaderRequest<TypeConfig>) -> Result<(), Fault> {
        self.raft.handle_transfer_leader(rpc).await.map_err(fault)
    }

    async fn read_index(&self, rpc: ReadIndexRequest<TypeConfig>) -> Result<ReadIndexResponse<TypeConfig>, Fault> {
        self.raft.read_index(rpc).await.map_err(fault)
    }

    async fn check_snapshot(
        &self,
        head: &InstallSnapshotRequest<TypeConfig>,
    ) -> Result<Option<InstallSnapshotResponse<TypeConfig>>, Fault> {
        self.raft.check_snapshot(head).await.map_err(fault)
    }

    async fn begin_receiving_snapshot(&self) -> Result<std::io::Cursor<Vec<u8>>, Fault> {
        self.raft.begin_receiving_snapshot().await.map_err(fault)
    }

    async fn install_full_snapshot(
        &self,
        head: InstallSnapshotRequest<TypeConfig>,
        snapshot: Snapshot<TypeConfig>,
    ) -> Result<InstallSnapshotResponse<TypeConfig>, Fault> {
        self.raft.install_full_snapshot(head, snapshot).await.map_err(fault)
    }

    async fn on_client(&self, _: &Session, request: Bytes) -> Result<Bytes, Fault> {
        let call = serde_json::from_slice(&request).map_err(|error| Fault::new(FaultCode::BadRequest, error))?;
        let answer = self.answer(call).await;
        serde_json::to_vec(&answer).map(Bytes::from).map_err(|error| Fault::new(FaultCode::Stopped, error))
    }
}
