//! A whole cluster in one process: for the first minutes, and for tests.

mod temp_dir;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use raftwright_node::WaitError;
use raftwright_traits::Config;
use tokio::net::TcpSocket;

use self::temp_dir::TempDir;
use crate::client::{Client, ClientError};
use crate::server::{Server, ServerBuilder};
use crate::start_error::StartError;
use crate::state_machine::StateMachine;

/// How long [`Cluster::add`] waits for the new server.
pub const CATCH_UP_MAX: Duration = Duration::from_secs(60);

/// How long [`Cluster::leader`] waits.
pub const LEADER_WAIT_MAX: Duration = Duration::from_secs(10);

/// A cluster in this process: real servers on real sockets of the loopback interface, with data directories under a
/// temporary one. All of it ends when it is dropped, and the directories go with it.
pub struct Cluster<SM: StateMachine> {
    places: BTreeMap<u64, Place<SM>>,
    /// The first members. One that was wiped stays in this list, which only a blank server looks at.
    founders: Vec<(u64, String)>,
    /// The id of the next server. None is ever used twice.
    next_id: u64,
    make: Box<dyn Fn() -> SM + Send + Sync>,
    config: Config,
    /// Last, so that the servers go first.
    temp: TempDir,
}

/// A server, running or not.
struct Place<SM: StateMachine> {
    addr: String,
    server: Option<Server<SM>>,
    /// Keeps the port while the server does not run.
    _kept: Option<TcpSocket>,
}

/// A port of the loopback interface: a listener, where it listens, and what keeps the port when the listener is gone.
///
/// A port that nobody holds may be lent to any socket of the system, for as long as that lives, and a server that was stopped
/// could not be started again. So on Linux a second socket binds it and never listens: the system lends out no port that is
/// bound, and lets others bind it and listen as long as all of them say SO_REUSEADDR and none of the others listens.
fn port() -> io::Result<(String, TcpListener, Option<TcpSocket>)> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (addr, kept) = if cfg!(target_os = "linux") {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(any)?;
        (socket.local_addr()?, Some(socket))
    } else {
        (any, None)
    };
    let listener = TcpListener::bind(addr)?;
    Ok((listener.local_addr()?.to_string(), listener, kept))
}

impl<SM: StateMachine> fmt::Debug for Cluster<SM> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("running", &self.running()).finish_non_exhaustive()
    }
}

/// Why something cannot be done with a local cluster.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClusterError {
    /// A server does not start.
    #[error("server {id} does not start: {error}")]
    Start {
        /// The server.
        id: u64,
        /// Why.
        error: StartError,
    },
    /// There is no such server.
    #[error("there is no server {0} in this cluster")]
    NoSuchServer(u64),
    /// No server runs.
    #[error("no server of this cluster runs")]
    NoneRunning,
    /// Nobody was elected in time.
    #[error("no leader: {0}")]
    NoLeader(WaitError),
    /// The membership was not changed, or nobody knows whether it was.
    #[error("server {id}: {error}")]
    Change {
        /// The server that was to come or go.
        id: u64,
        /// Why.
        error: ClientError,
    },
    /// A new server did not get what the others have in time.
    #[error("server {id} does not catch up: {error}")]
    NotCaughtUp {
        /// The server.
        id: u64,
        /// What was waited for.
        error: WaitError,
    },
    /// No directory or no port could be had for it.
    #[error("no room for a cluster: {0}")]
    NoRoom(String),
}

impl<SM: StateMachine> Cluster<SM> {
    /// Starts a cluster of `n` servers with ids from 1 on, each with a default state machine. Returns as soon as they
    /// serve; [`leader`](Self::leader) waits for the first election.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn local(n: u64) -> Result<Self, ClusterError>
    where
        SM: Default,
    {
        Self::local_with(n, Config::default(), SM::default).await
    }

    /// As [`local`](Self::local), with settings, and state machines made by `make`.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn local_with(
        n: u64,
        config: Config,
        make: impl Fn() -> SM + Send + Sync + 'static,
    ) -> Result<Self, ClusterError> {
        let no_room = |error: io::Error| ClusterError::NoRoom(error.to_string());
        let temp = TempDir::new().map_err(no_room)?;
        let mut sockets = BTreeMap::new();
        let mut places = BTreeMap::new();
        for id in 1..=n {
            let (addr, socket, kept) = port().map_err(no_room)?;
            places.insert(id, Place { addr, server: None, _kept: kept });
            sockets.insert(id, socket);
        }
        let founders = places.iter().map(|(id, place)| (*id, place.addr.clone())).collect();
        let mut cluster = Self { places, founders, next_id: n + 1, make: Box::new(make), config, temp };
        for (id, socket) in sockets {
            cluster.start_on(id, |builder, _| builder.socket(socket)).await?;
        }
        Ok(cluster)
    }

    /// A client that knows all servers.
    pub fn client(&self) -> Client<SM> {
        Client::connect(self.places.values().map(|place| place.addr.clone()))
    }

    /// The ids of the servers that run.
    pub fn running(&self) -> BTreeSet<u64> {
        self.places.iter().filter(|(_, place)| place.server.is_some()).map(|(id, _)| *id).collect()
    }

    /// A server that runs.
    pub fn server(&self, id: u64) -> Option<&Server<SM>> {
        self.places.get(&id)?.server.as_ref()
    }

    /// Where a server listens, running or not: `host:port`.
    pub fn addr(&self, id: u64) -> Option<&str> {
        self.places.get(&id).map(|place| place.addr.as_str())
    }

    /// Where a server keeps its log and identity, running or not.
    pub fn data_dir(&self, id: u64) -> std::path::PathBuf {
        self.temp.path().join(format!("node-{id}"))
    }

    /// Waits until one of the servers that run leads, and says which.
    ///
    /// # Errors
    /// [`ClusterError::NoLeader`] after [`LEADER_WAIT_MAX`]; [`ClusterError::NoneRunning`].
    pub async fn leader(&self) -> Result<u64, ClusterError> {
        let running = self.running();
        let observer = self.places.values().find_map(|place| place.server.as_ref()).ok_or(ClusterError::NoneRunning)?;
        let leads = |leader: Option<u64>| leader.filter(|leader| running.contains(leader));
        let wait = observer.raft().wait(Some(LEADER_WAIT_MAX));
        let metrics = wait
            .metrics(|metrics| leads(metrics.current_leader).is_some(), "one of the running servers leads")
            .await
            .map_err(ClusterError::NoLeader)?;
        leads(metrics.current_leader).ok_or(ClusterError::NoneRunning)
    }

    /// Shuts a server down; its data stays. Nothing happens if it does not run.
    ///
    /// # Errors
    /// [`ClusterError::NoSuchServer`].
    pub async fn stop(&mut self, id: u64) -> Result<(), ClusterError> {
        let place = self.places.get_mut(&id).ok_or(ClusterError::NoSuchServer(id))?;
        if let Some(server) = place.server.take() {
            server.shutdown().await;
        }
        Ok(())
    }

    /// Starts a server that was stopped, on its old address and data. Nothing happens if it runs.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn start(&mut self, id: u64) -> Result<(), ClusterError> {
        self.start_on(id, |builder, addr| builder.listen(addr)).await
    }

    async fn start_on(
        &mut self,
        id: u64,
        listen: impl FnOnce(ServerBuilder<SM>, &str) -> ServerBuilder<SM>,
    ) -> Result<(), ClusterError> {
        let place = self.places.get(&id).ok_or(ClusterError::NoSuchServer(id))?;
        if place.server.is_some() {
            return Ok(());
        }
        let mut builder = Server::builder().id(id).data_dir(self.data_dir(id)).config(self.config.clone());
        if self.founders.iter().any(|(founder, _)| *founder == id) {
            builder = builder.initial_cluster(self.founders.clone());
        }
        let started = listen(builder, &place.addr).start((self.make)()).await;
        let server = started.map_err(|error| ClusterError::Start { id, error })?;
        if let Some(place) = self.places.get_mut(&id) {
            place.server = Some(server);
        }
        Ok(())
    }

    /// Starts a new server and makes it a voter: it gets a snapshot, or the log, first. Returns its id, which no server of this
    /// cluster has had before.
    ///
    /// # Errors
    /// [`ClusterError`]. It may run and be a member all the same.
    pub async fn add(&mut self) -> Result<u64, ClusterError> {
        let no_room = |error: io::Error| ClusterError::NoRoom(error.to_string());
        let (addr, socket, kept) = port().map_err(no_room)?;
        let id = self.next_id;
        self.next_id += 1;
        self.places.insert(id, Place { addr: addr.clone(), server: None, _kept: kept });
        self.start_on(id, |builder, _| builder.socket(socket)).await?;
        let client = self.client();
        let change = |error| ClusterError::Change { id, error };
        let added = client.add_learner(id, addr).await.map_err(change)?;
        self.caught_up(id, added).await?;
        client.add_voters(BTreeSet::from([id])).await.map_err(change)?;
        Ok(id)
    }

    /// Waits until a server has applied the log up to there.
    async fn caught_up(&self, id: u64, index: u64) -> Result<(), ClusterError> {
        let server = self.server(id).ok_or(ClusterError::NoSuchServer(id))?;
        let wait = server.raft().wait(Some(CATCH_UP_MAX)).applied_index_at_least(index, "the new server catches up");
        wait.await.map(|_| ()).map_err(|error| ClusterError::NotCaughtUp { id, error })
    }

    /// Takes a server out of the cluster, shuts it down, and removes its data. Its id is not used again.
    ///
    /// # Errors
    /// [`ClusterError`]. It may be out of the cluster, and still run.
    pub async fn wipe(&mut self, id: u64) -> Result<(), ClusterError> {
        if !self.places.contains_key(&id) {
            return Err(ClusterError::NoSuchServer(id));
        }
        let client = self.client();
        let change = |error| ClusterError::Change { id, error };
        let members = client.members().await.map_err(change)?.members;
        match members.iter().find(|member| member.id == id) {
            Some(member) if member.voter => {
                client.remove_voters(BTreeSet::from([id]), false).await.map_err(change)?;
            }
            Some(_) => drop(client.remove_learners(BTreeSet::from([id])).await.map_err(change)?),
            None => {}
        }
        self.stop(id).await?;
        self.places.remove(&id);
        std::fs::remove_dir_all(self.data_dir(id)).map_err(|error| ClusterError::NoRoom(error.to_string()))
    }

    /// Shuts all servers down and removes their data. Unlike dropping the cluster, this waits until nothing runs any more.
    pub async fn shutdown(mut self) {
        for place in std::mem::take(&mut self.places).into_values() {
            if let Some(server) = place.server {
                server.shutdown().await;
            }
        }
    }
}
