//! Starting a server.

use std::collections::BTreeMap;
use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use raftwright_net::{Dialer, Limits, Listener, RaftHandler, TcpNetworkFactory};
use raftwright_node::Raft;
use raftwright_traits::{
    AsyncRuntime, BasicNode, Config, ConfigError, Fatal, Incarnation, InitializeError, LogIdOption, RaftError,
    SnapshotPolicy, TokioRuntime,
};
use raftwright_wal::{DataDir, DataDirOptions, Identity, RealDisk, SnapshotDir, WalLog, WalOptions};

use super::{Server, watch_membership};
use crate::cluster_id::ClusterId;
use crate::easy_config::EasyConfig;
use crate::gate::NodeGate;
use crate::replicated::Replicated;
use crate::service::{COMMAND_BYTES_MAX, Peers, Service, check_addr};
use crate::start_error::StartError;
use crate::state_machine::StateMachine;

/// Settings of a server; made by [`Server::builder`].
///
/// Needed are [`id`](Self::id), [`data_dir`](Self::data_dir) and [`listen`](Self::listen). How the cluster comes into
/// being is one of:
///
/// * [`initial_cluster`](Self::initial_cluster), the same on each of the first members;
/// * [`Server::init`] on one blank server;
/// * neither, on a server that a leader adds to a cluster that exists.
#[must_use = "a builder does nothing until `start`"]
pub struct ServerBuilder<SM> {
    id: Option<u64>,
    data_dir: Option<PathBuf>,
    listen: Option<Listen>,
    advertise: Option<String>,
    initial_cluster: Vec<(u64, String)>,
    cluster_name: String,
    config: Config,
    snapshot_policy: Option<SnapshotPolicy>,
    wal: WalOptions,
    limits: Limits,
    types: PhantomData<fn() -> SM>,
}

enum Listen {
    At(String),
    On(std::net::TcpListener),
}

impl<SM> std::fmt::Debug for ServerBuilder<SM> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("id", &self.id)
            .field("data_dir", &self.data_dir)
            .field("initial_cluster", &self.initial_cluster)
            .finish_non_exhaustive()
    }
}

impl<SM: StateMachine> ServerBuilder<SM> {
    pub(super) fn new() -> Self {
        let config = Config::default();
        Self {
            id: None,
            data_dir: None,
            listen: None,
            advertise: None,
            initial_cluster: Vec::new(),
            cluster_name: config.cluster_name.clone(),
            config,
            snapshot_policy: None,
            wal: WalOptions::default(),
            limits: Limits::default(),
            types: PhantomData,
        }
    }

    /// The server's id, unique in its cluster for ever.
    pub fn id(self, id: u64) -> Self {
        Self { id: Some(id), ..self }
    }

    /// Where the server keeps its log and its identity: an empty or missing directory, or one that this server has used.
    pub fn data_dir(self, path: impl AsRef<Path>) -> Self {
        Self { data_dir: Some(path.as_ref().to_owned()), ..self }
    }

    /// Where the server listens for peers and clients: `host:port`; port 0 takes a free one.
    pub fn listen(self, addr: impl Into<String>) -> Self {
        Self { listen: Some(Listen::At(addr.into())), ..self }
    }

    /// As [`listen`](Self::listen), on a socket that is bound already.
    pub fn socket(self, socket: std::net::TcpListener) -> Self {
        Self { listen: Some(Listen::On(socket)), ..self }
    }

    /// Where others reach the server: `host:port`. The default is what the initial cluster says, else where it listens.
    pub fn advertise(self, addr: impl Into<String>) -> Self {
        Self { advertise: Some(addr.into()), ..self }
    }

    /// The first members of the cluster, this server among them: ids and `host:port`. Each of them is given the same list
    /// and, if its log is blank, makes it the first entry. Once a server belongs to a cluster the list is not looked at
    /// any more, so it may stay in the configuration for ever.
    pub fn initial_cluster<A: Into<String>>(self, members: impl IntoIterator<Item = (u64, A)>) -> Self {
        let initial_cluster = members.into_iter().map(|(id, addr)| (id, addr.into())).collect();
        Self { initial_cluster, ..self }
    }

    /// Tells clusters apart that begin with the same list of members. Part of the cluster's id when it begins.
    pub fn cluster_name(self, name: impl Into<String>) -> Self {
        Self { cluster_name: name.into(), ..self }
    }

    /// Timing and bounds of the node.
    pub fn config(self, config: Config) -> Self {
        Self { config, ..self }
    }

    /// When a snapshot is built by itself, whatever [`config`](Self::config) says. The log that it stands for goes then, less
    /// what the settings keep.
    pub fn snapshot_policy(self, policy: SnapshotPolicy) -> Self {
        Self { snapshot_policy: Some(policy), ..self }
    }

    /// Sizes and bounds of the log.
    pub fn wal(self, wal: WalOptions) -> Self {
        Self { wal, ..self }
    }

    /// Bounds of the transport.
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Starts the server on the tokio runtime of the caller: locks and reads the data directory, listens, joins in. Returns
    /// as soon as it serves; whether there is a leader shows later.
    ///
    /// # Errors
    /// [`StartError`]. Nothing is left running.
    pub async fn start(self, machine: SM) -> Result<Server<SM>, StartError> {
        let runtime = TokioRuntime::current().map_err(StartError::Runtime)?;
        let id = self.id.ok_or(StartError::Missing("id"))?;
        let path = self.data_dir.clone().ok_or(StartError::Missing("data_dir"))?;
        let listen_on = self.listen.ok_or(StartError::Missing("listen"))?;
        let snapshot_policy = self.snapshot_policy.unwrap_or(self.config.snapshot_policy);
        let config = Config { cluster_name: self.cluster_name.clone(), snapshot_policy, ..self.config.clone() };
        let config = config.validate()?;
        check_queues(&config, &self.wal)?;
        check_frames(&config, &self.limits)?;
        let initial = check_initial_cluster(id, &self.initial_cluster)?;

        let options = DataDirOptions { node_id: id, random: runtime.random_u64() };
        let dir = blocking(move || DataDir::open(RealDisk, &path, options)).await??;
        let dir = Arc::new(dir);
        let gate = Arc::new(NodeGate::new(Arc::clone(&dir)));
        let socket = listen(listen_on).await?;
        let founds = !initial.is_empty() && found(&gate, ClusterId::of_initial(&self.cluster_name, &initial))?;

        let (log_dir, wal) = (Arc::clone(&dir), self.wal);
        let (log, report) = blocking(move || WalLog::open(log_dir, wal)).await??;
        let Identity { cluster_id, node_id: _, incarnation, boot_epoch } = dir.identity();
        let cluster = cluster_id.map_or_else(|| "none yet".to_owned(), |id| ClusterId(id).to_string());
        let incarnation = Incarnation(incarnation);
        tracing::info!(node = id, %cluster, %incarnation, boot_epoch, ?report, "log opened");
        let log_end = log.end();
        let snapshots_path = dir.snapshots_path();
        let snapshots = match blocking(move || SnapshotDir::open(snapshots_path)).await? {
            Ok(snapshots) => snapshots,
            Err(error) => {
                drop(log);
                super::log_ended(log_end, id).await;
                return Err(StartError::Snapshots(error));
            }
        };
        for damaged in snapshots.damaged() {
            tracing::error!(node = id, error = %damaged.error, "a snapshot is damaged and set aside");
        }
        let listener = Listener::from_socket(socket, Arc::clone(&gate) as _, self.limits);
        let addr = listener.local_addr().map_err(|error| StartError::Runtime(error.to_string()))?;
        let advertise = self.advertise.or_else(|| initial.get(&id).cloned()).unwrap_or_else(|| addr.to_string());

        let dialer = Dialer::new(Arc::clone(&gate) as _, self.limits, runtime.random_u64());
        let network = TcpNetworkFactory::<EasyConfig>::new(dialer);
        let stopping = Arc::new(AtomicBool::new(false));
        let state = Replicated::new(machine, snapshots, Arc::clone(&stopping));
        let raft = match Raft::new(id, Arc::new(config), network, log, state).await {
            Ok(raft) => raft,
            Err(fatal) => {
                super::log_ended(log_end, id).await;
                return Err(fatal.into());
            }
        };
        let service = Arc::new(Service::<SM>::new(dir.identity(), raft, Arc::clone(&gate)));
        // Whoever connects is judged by the membership that the log holds, from the first connection on.
        let stored = service.raft().with_raft_state(|replica| replica.membership().clone()).await?;
        gate.on_membership(stored.log_id.index_or_zero(), &stored.membership);
        let watcher =
            tokio::spawn(watch_membership(service.raft().server_metrics(), Arc::clone(&gate), dir.identity()));
        let listener = listener.serve(RaftHandler::new(Peers(Arc::clone(&service))));
        drop(dir);
        let server = Server::new(service, gate, listener, watcher, addr, advertise, (log_end, stopping));
        match founds {
            true => server.found(initial).await,
            false => Ok(server),
        }
    }
}

/// The node refuses work before the log's queue is full, for a full queue stops the log: it has no way to refuse.
fn check_queues(config: &Config, wal: &WalOptions) -> Result<(), ConfigError> {
    let no = |setting: &str, why| Err(ConfigError { setting: setting.to_owned(), why });
    // A follower's queue holds what a leader has on the way to it, and more when leaders change.
    let bytes_max = wal.queue_bytes_max / 2;
    if config.uncommitted_bytes_max > bytes_max {
        return no("uncommitted_bytes_max", format!("is more than {bytes_max}, half of the log's queue_bytes_max"));
    }
    if config.inflight_bytes_max > bytes_max {
        return no("inflight_bytes_max", format!("is more than {bytes_max}, half of the log's queue_bytes_max"));
    }
    if config.log_writes_max > wal.queue_ops_max / 2 {
        let ops_max = wal.queue_ops_max / 2;
        return no("log_writes_max", format!("is more than {ops_max}, half of the log's queue_ops_max"));
    }
    Ok(())
}

/// What a frame has besides the entries of an append: their heads among it, of which there are thousands at most.
const FRAME_ROOM: usize = 1 << 20;

/// Whatever gets into the log must fit into a frame, or it reaches no follower, and nothing behind it does.
fn check_frames(config: &Config, limits: &Limits) -> Result<(), ConfigError> {
    let least = COMMAND_BYTES_MAX.max(config.append_bytes_max).saturating_add(FRAME_ROOM);
    if (limits.body_len_max as usize) < least {
        let why = format!("is less than {least}: the longest command, or append_bytes_max, and {FRAME_ROOM} more");
        return Err(ConfigError { setting: "body_len_max".to_owned(), why });
    }
    Ok(())
}

fn check_initial_cluster(id: u64, list: &[(u64, String)]) -> Result<BTreeMap<u64, String>, StartError> {
    let members: BTreeMap<u64, String> = list.iter().cloned().collect();
    if members.len() < list.len() {
        return Err(StartError::InitialCluster("names a server twice: give each id once".to_owned()));
    }
    if let Some(why) = members.values().find_map(|addr| check_addr(addr).err()) {
        return Err(StartError::InitialCluster(format!("has {why}")));
    }
    if !members.is_empty() && !members.contains_key(&id) {
        let text = format!("does not name server {id} itself: add it, or leave the list out to join a cluster");
        return Err(StartError::InitialCluster(text));
    }
    Ok(members)
}

impl<SM: StateMachine> Server<SM> {
    /// Writes the first membership, unless the log holds one already.
    async fn found(self, members: BTreeMap<u64, String>) -> Result<Self, StartError> {
        let members = members.into_iter().map(|(id, addr)| (id, BasicNode::new(addr))).collect::<BTreeMap<_, _>>();
        let error = match self.raft().initialize(members).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::AlreadyInitialized)) => return Ok(self),
            Err(RaftError::APIError(error)) => StartError::InitialCluster(format!("cannot be made: {error}")),
            Err(RaftError::Fatal(fatal)) => StartError::Node(fatal),
        };
        self.shutdown().await;
        Err(error)
    }
}

/// Whether the initial cluster is this server's to found: its data directory belongs to none yet, or to that one.
fn found(gate: &NodeGate, cluster: ClusterId) -> Result<bool, StartError> {
    match gate.cluster_id() {
        Some(known) if known == cluster => Ok(true),
        Some(known) => {
            tracing::info!(%known, initial = %cluster, "the initial cluster is not looked at: this server has joined one");
            Ok(false)
        }
        None => {
            gate.join_cluster(cluster)?;
            Ok(true)
        }
    }
}

async fn listen(listen: Listen) -> Result<tokio::net::TcpListener, StartError> {
    let (address, bound) = match listen {
        Listen::At(address) => {
            let bound = tokio::net::TcpListener::bind(&address).await;
            (address, bound)
        }
        Listen::On(socket) => {
            let address = socket.local_addr().map_or_else(|_| "a socket".to_owned(), |address| address.to_string());
            (address, socket.set_nonblocking(true).and_then(|()| tokio::net::TcpListener::from_std(socket)))
        }
    };
    bound.map_err(|error: io::Error| StartError::listen(address, &error))
}

/// Runs what waits for the disk beside the tasks of the runtime.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StartError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| StartError::Node(Fatal::Panicked(error.to_string())))
}
