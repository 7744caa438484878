//! A server of the key-value store: the easy layer's server, as the HTTP interface sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use raftwright::{
    Client, ClientError, EasyConfig, InitError, NodeStatus, Outcome, RaftMetrics, RequestError, Server, ServerState,
};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::api::{ErrorKind, LeaderInfo, Member, NodeState, Position, Progress, Role, ServerStatus};
use crate::limits::{HAND_OVER_TIMEOUT, REQUEST_TIMEOUT, STATUS_TIMEOUT};
use crate::node::{CallError, Node};
use crate::store::{Answer, Command, KvStateMachine, Query};

type Metrics = RaftMetrics<EasyConfig>;

/// A server, with a client inside that finds the leader wherever it is.
pub struct KvServer {
    server: Server<KvStateMachine>,
    client: Client<KvStateMachine>,
    metrics: watch::Receiver<Metrics>,
}

impl KvServer {
    /// Over a server that runs.
    pub fn new(server: Server<KvStateMachine>) -> Self {
        let client = server.client().with_deadline(REQUEST_TIMEOUT);
        let metrics = server.raft().metrics();
        Self { server, client, metrics }
    }

    /// Hands the leadership, if it has it, to the voter that holds most of the log, so that the cluster need not wait for an
    /// election when this server stops. Whether that works out is not awaited for long: the cluster helps itself.
    pub async fn hand_over(&self) {
        let state = self.state();
        let others = state.members.iter().filter(|member| member.voter && member.id != state.id);
        let Some(heir) = others.max_by_key(|member| member.matched) else { return };
        if state.role != Role::Leader {
            return;
        }
        match tokio::time::timeout(HAND_OVER_TIMEOUT, self.client.transfer_leader(heir.id)).await {
            Ok(Ok(())) => tracing::info!(to = heir.id, "handed the leadership over"),
            Ok(Err(error)) => tracing::info!(%error, "the leadership was not handed over"),
            Err(_) => tracing::info!("the leadership was not handed over in time"),
        }
    }

    /// Stops it: what was asked for and not yet done is answered, and what is durable stays so.
    pub async fn shutdown(self: Arc<Self>) {
        match Arc::try_unwrap(self) {
            Ok(alone) => alone.server.shutdown().await,
            // A request that was cut off still holds it. It is answered when the node stops, and lets go then.
            Err(shared) => {
                if let Err(error) = shared.server.raft().shutdown().await {
                    tracing::error!(%error, "a task of the node had failed");
                }
            }
        }
    }

    /// Where it listens for its peers.
    pub fn peer_addr(&self) -> SocketAddr {
        self.server.peer_addr()
    }

    /// Returns when it has stopped by itself, with the reason.
    pub async fn failed(&self) -> String {
        let mut metrics = self.metrics.clone();
        match metrics.wait_for(|metrics| metrics.running_state.is_err()).await {
            Ok(metrics) => stopped(&metrics).unwrap_or_default(),
            Err(_) => "its tasks have ended".to_owned(),
        }
    }
}

impl KvServer {
    /// A blank server knows nobody to pass a request on to, and never will by itself: to wait would be in vain.
    fn belongs_to_a_cluster(&self) -> Result<(), CallError> {
        match self.metrics.borrow().membership_config.membership.nodes().is_empty() {
            true => Err(CallError::new(ErrorKind::Unavailable, BELONGS_TO_NO_CLUSTER)),
            false => Ok(()),
        }
    }
}

impl Node for KvServer {
    async fn write(&self, command: Command) -> Result<Answer, CallError> {
        self.belongs_to_a_cluster()?;
        self.client.write(command).await.map_err(change_error)
    }

    async fn read(&self, query: Query) -> Result<Answer, CallError> {
        self.belongs_to_a_cluster()?;
        self.client.read(query).await.map_err(read_error)
    }

    async fn read_stale(&self, query: Query) -> Result<Answer, CallError> {
        self.server.stale(query).await.map_err(|error| CallError::new(ErrorKind::Unavailable, error.to_string()))
    }

    fn position(&self) -> Position {
        let metrics = self.metrics.borrow();
        Position { term: metrics.current_term, applied: index(metrics.last_applied), leader: leader(&metrics) }
    }

    fn state(&self) -> NodeState {
        let metrics = self.metrics.borrow();
        NodeState {
            id: metrics.id,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cluster_id: self.server.cluster_id().map(|id| id.to_string()),
            incarnation: metrics.incarnation.map(|incarnation| format!("{:016x}", incarnation.0)),
            peer_addr: self.server.advertised_addr().to_owned(),
            role: role(metrics.state),
            term: metrics.current_term,
            leader: leader(&metrics),
            last_log: index(metrics.last_log_id),
            committed: index(metrics.committed),
            applied: index(metrics.last_applied),
            snapshot: index(metrics.snapshot),
            purged: index(metrics.purged),
            joint: metrics.membership_config.membership.is_joint(),
            members: members(&metrics),
            stopped: stopped(&metrics),
        }
    }

    async fn cluster_status(&self) -> Vec<ServerStatus> {
        let state = self.state();
        let own = Progress {
            role: state.role,
            term: state.term,
            last_log: state.last_log,
            committed: state.committed,
            applied: state.applied,
            snapshot: state.snapshot,
        };
        let mut asking = JoinSet::new();
        for member in state.members.iter().filter(|member| member.id != state.id).cloned() {
            let client = self.client.with_deadline(STATUS_TIMEOUT);
            asking.spawn(async move {
                let asked = client.status_of(&member.addr).await;
                let (progress, error) = match asked {
                    Ok(status) => (progress(&status), status.failure),
                    Err(error) => (None, Some(error.to_string())),
                };
                ServerStatus { id: member.id, addr: member.addr, voter: member.voter, progress, error }
            });
        }
        let mut servers = asking.join_all().await;
        let voter = state.members.iter().any(|member| member.id == state.id && member.voter);
        let (id, addr, error) = (state.id, state.peer_addr, state.stopped);
        servers.push(ServerStatus { id, addr, voter, progress: Some(own), error });
        servers.sort_by_key(|server| server.id);
        servers
    }

    fn raft_metrics(&self) -> Result<serde_json::Value, CallError> {
        let metrics = self.metrics.borrow();
        serde_json::to_value(&*metrics).map_err(|error| CallError::new(ErrorKind::Internal, error.to_string()))
    }

    async fn initialize(&self, members: BTreeMap<u64, String>) -> Result<(), CallError> {
        let members = if members.is_empty() {
            BTreeMap::from([(self.server.id(), self.server.advertised_addr().to_owned())])
        } else {
            members
        };
        self.server.init(members).await.map_err(|error| {
            let kind = match error {
                InitError::BelongsToCluster { .. } | InitError::NotAmongMembers { .. } => ErrorKind::BadRequest,
                InitError::Failed(_) => ErrorKind::NotApplied,
                InitError::Unknown(_) => ErrorKind::Unknown,
            };
            CallError::new(kind, error.to_string())
        })
    }

    async fn add_learner(&self, id: u64, addr: String) -> Result<u64, CallError> {
        self.belongs_to_a_cluster()?;
        self.client.add_learner(id, addr).await.map_err(change_error)
    }

    async fn change_membership(&self, voters: BTreeSet<u64>, retain: bool) -> Result<u64, CallError> {
        self.client.change_membership(voters, retain).await.map_err(change_error)
    }

    async fn add_voter(&self, id: u64) -> Result<u64, CallError> {
        self.client.add_voters(BTreeSet::from([id])).await.map_err(change_error)
    }

    async fn remove_voter(&self, id: u64) -> Result<u64, CallError> {
        self.client.remove_voters(BTreeSet::from([id]), false).await.map_err(change_error)
    }

    async fn remove_learner(&self, id: u64) -> Result<u64, CallError> {
        self.client.remove_learners(BTreeSet::from([id])).await.map_err(change_error)
    }

    async fn snapshot(&self) -> Result<u64, CallError> {
        self.server.snapshot().await.map_err(|error| CallError::new(ErrorKind::Unavailable, error.to_string()))
    }

    async fn transfer_leader(&self, to: u64) -> Result<(), CallError> {
        self.client.transfer_leader(to).await.map_err(change_error)
    }
}

/// What an error means for something that changes the state or the cluster.
fn change_error(error: ClientError) -> CallError {
    let kind = match (&error, error.outcome()) {
        (ClientError::Server(RequestError::Refused(_) | RequestError::Malformed(_)), Outcome::NotApplied) => {
            ErrorKind::BadRequest
        }
        (_, Outcome::NotApplied) => ErrorKind::NotApplied,
        (_, Outcome::Unknown) => ErrorKind::Unknown,
    };
    CallError::new(kind, error.to_string())
}

/// What a blank server says to whoever asks for more than its state.
const BELONGS_TO_NO_CLUSTER: &str = "this server belongs to no cluster yet: begin one with it (`raftwright init`, or \
     --initial-cluster when it is started), or have it added to one (`raftwright member add`, at a server of that cluster)";

/// What it means for a read, which changes nothing.
fn read_error(error: ClientError) -> CallError {
    CallError::new(ErrorKind::Unavailable, error.to_string())
}

fn index(log_id: Option<raftwright::LogIdOf<EasyConfig>>) -> u64 {
    log_id.map_or(0, |log_id| log_id.index)
}

fn leader(metrics: &Metrics) -> Option<LeaderInfo> {
    let id = metrics.current_leader?;
    let addr = metrics.membership_config.membership.node(&id).map(|node| node.addr.clone());
    Some(LeaderInfo { id, addr })
}

fn members(metrics: &Metrics) -> Vec<Member> {
    let membership = &metrics.membership_config.membership;
    let nodes = membership.nodes().iter();
    nodes
        .map(|(id, node)| {
            let matched = match &metrics.replication {
                Some(_) if *id == metrics.id => Some(index(metrics.last_log_id)),
                Some(replication) => Some(index(replication.get(id).copied().flatten())),
                None => None,
            };
            Member { id: *id, addr: node.addr.clone(), voter: membership.is_voter(id), matched }
        })
        .collect()
}

fn stopped(metrics: &Metrics) -> Option<String> {
    metrics.running_state.as_ref().err().map(ToString::to_string)
}

/// `None` if the server names a role that this version does not know.
fn progress(status: &NodeStatus) -> Option<Progress> {
    let roles = [Role::Learner, Role::Follower, Role::PreCandidate, Role::Candidate, Role::Leader];
    let states = [
        ServerState::Learner,
        ServerState::Follower,
        ServerState::PreCandidate,
        ServerState::Candidate,
        ServerState::Leader,
    ];
    let named = states.iter().position(|state| format!("{state:?}") == status.state)?;
    Some(Progress {
        role: *roles.get(named)?,
        term: status.term,
        last_log: status.last_log_index.unwrap_or(0),
        committed: status.committed_index.unwrap_or(0),
        applied: status.applied_index.unwrap_or(0),
        snapshot: status.snapshot_index.unwrap_or(0),
    })
}

fn role(state: ServerState) -> Role {
    match state {
        ServerState::Learner => Role::Learner,
        ServerState::Follower => Role::Follower,
        ServerState::PreCandidate => Role::PreCandidate,
        ServerState::Candidate => Role::Candidate,
        ServerState::Leader => Role::Leader,
    }
}
