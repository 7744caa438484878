//! The servers together.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::api::{NodeState, Role};
use crate::cli::{Failure, Table, status_table};
use crate::client::Client;
use crate::demo::process::{Process, Spec};
use crate::demo::{PATIENCE, POLL};

/// How long a server may take to say how it is.
const STATE_TIMEOUT: Duration = Duration::from_secs(2);

/// How often the start of a server is tried: where its port cannot be kept while it is down, it may be lent out for a
/// moment.
const START_ATTEMPTS: u32 = 10;

/// How long between two of those.
const START_PAUSE: Duration = Duration::from_millis(200);

/// Where each server takes HTTP, by its place. It changes when a server is started again.
#[derive(Clone, Default)]
pub(super) struct Endpoints(Arc<Mutex<Vec<String>>>);

impl Endpoints {
    pub(super) fn of(all: Vec<String>) -> Self {
        Self(Arc::new(Mutex::new(all)))
    }

    pub(super) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn make_room(&self, at: usize) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() <= at {
            all.resize(at + 1, String::new());
        }
    }

    fn set(&self, at: usize, endpoint: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = all.get_mut(at) {
            endpoint.clone_into(entry);
        }
    }
}

pub(super) struct Cluster {
    directory: TempDir,
    specs: BTreeMap<u64, Spec>,
    running: BTreeMap<u64, Process>,
    endpoints: Endpoints,
    /// The place of each server among the endpoints. One that takes another's place has another id.
    places: BTreeMap<u64, usize>,
    name: String,
    flags: Vec<String>,
    /// The id that the next server gets.
    next_id: u64,
}

impl Cluster {
    /// A cluster that is yet to be started.
    pub(super) fn new(nodes: u64, flags: Vec<String>) -> Result<Self, Failure> {
        let directory = tempfile::Builder::new()
            .prefix("raftwright-demo-")
            .tempdir()
            .map_err(|error| Failure::new(format!("cannot make a temporary directory: {error}: set TMPDIR to one")))?;
        let name = directory.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let endpoints = Endpoints::of(Vec::new());
        let (specs, running, places) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut cluster = Self { directory, specs, running, endpoints, places, name, flags, next_id: 1 };
        for place in 0..nodes {
            cluster.add(usize::try_from(place).unwrap_or(usize::MAX))?;
        }
        Ok(cluster)
    }

    /// A new server, yet to be started, in this place among the endpoints.
    pub(super) fn add(&mut self, place: usize) -> Result<u64, Failure> {
        let id = self.next_id;
        let spec = Spec::new(id, self.directory.path(), &self.name);
        let mut spec = spec.map_err(|error| Failure::new(format!("cannot get a port on 127.0.0.1: {error}")))?;
        spec.flags.clone_from(&self.flags);
        self.next_id += 1;
        self.specs.insert(id, spec);
        self.places.insert(id, place);
        self.endpoints.make_room(place);
        Ok(id)
    }

    /// Kills a server and removes all that it has stored. Returns its place, which another may take.
    pub(super) async fn wipe(&mut self, id: u64) -> Result<usize, Failure> {
        if self.running.contains_key(&id) {
            self.kill(id).await?;
        }
        if let Some(spec) = self.specs.remove(&id) {
            let data = spec.data();
            std::fs::remove_dir_all(&data)
                .map_err(|error| Failure::new(format!("cannot remove {}: {error}", data.display())))?;
        }
        Ok(self.places.remove(&id).unwrap_or_default())
    }

    pub(super) fn spec_mut(&mut self, id: u64) -> Option<&mut Spec> {
        self.specs.get_mut(&id)
    }

    /// Where the peers of a server reach it.
    pub(super) fn reached_at(&self, id: u64) -> Option<String> {
        self.specs.get(&id).map(|spec| spec.reached_at().to_owned())
    }

    /// Where a server that runs listens for its peers.
    pub(super) fn listens_at(&self, id: u64) -> Option<SocketAddr> {
        self.running.get(&id)?.peer.parse().ok()
    }

    /// Where a server stores what it stores.
    pub(super) fn data_of(&self, id: u64) -> PathBuf {
        self.specs.get(&id).map(Spec::data).unwrap_or_default()
    }

    /// The servers that run, with their places and the memory that they hold.
    pub(super) fn resident(&self) -> Vec<(usize, Option<u64>)> {
        let place = |id| self.places.get(id).copied().unwrap_or_default();
        self.running.iter().map(|(id, process)| (place(id), process.resident())).collect()
    }

    /// The first server that should run and does not.
    pub(super) fn fallen(&mut self) -> Option<u64> {
        self.running.iter_mut().find_map(|(id, process)| (!process.is_running()).then_some(*id))
    }

    /// What the servers have said of panics.
    pub(super) fn panics(&self) -> Vec<String> {
        let logs = std::fs::read_dir(self.directory.path()).into_iter().flatten().flatten();
        let texts = logs.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "log"));
        let texts = texts.filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
        texts
            .flat_map(|text| {
                text.lines().filter(|line| line.contains("panicked")).map(str::to_owned).collect::<Vec<_>>()
            })
            .collect()
    }

    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// From now on the files stay.
    pub(super) fn keep_files(&mut self) -> PathBuf {
        self.directory.disable_cleanup(true);
        self.directory.path().to_owned()
    }

    pub(super) fn endpoints(&self) -> Endpoints {
        self.endpoints.clone()
    }

    pub(super) async fn start(&mut self, id: u64) -> Result<(), Failure> {
        let Some(spec) = self.specs.get_mut(&id) else { return Ok(()) };
        let mut attempt = 1;
        let process = loop {
            match Process::start(spec).await {
                Ok(process) => break process,
                Err(failure) if attempt == START_ATTEMPTS => return Err(failure),
                Err(_) => attempt += 1,
            }
            tokio::time::sleep(START_PAUSE).await;
        };
        spec.peer.clone_from(&process.peer);
        self.endpoints.set(self.places.get(&id).copied().unwrap_or(usize::MAX), &process.http);
        self.running.insert(id, process);
        Ok(())
    }

    pub(super) async fn start_all(&mut self) -> Result<(), Failure> {
        let ids: Vec<u64> = self.specs.keys().copied().collect();
        for id in ids {
            self.start(id).await?;
        }
        Ok(())
    }

    /// Makes the blank servers a cluster.
    pub(super) async fn initialize(&self) -> Result<(), Failure> {
        let members: Vec<(u64, String)> =
            self.specs.values().map(|spec| (spec.id, spec.reached_at().to_owned())).collect();
        Client::new(self.endpoints.all(), PATIENCE).init(&members).await?;
        Ok(())
    }

    /// Waits until a running server leads, and says so in a term that no other running server has left behind.
    pub(super) async fn leader(&self) -> Result<NodeState, Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let states = self.states().await;
            let newest = states.iter().map(|state| state.term).max().unwrap_or(0);
            let leads = |state: &&NodeState| state.role == Role::Leader && state.term == newest;
            if let Some(leader) = states.iter().find(leads) {
                return Ok(leader.clone());
            }
            wait_or_give_up(deadline, "no server was elected").await?;
        }
    }

    /// Waits until all servers run and have applied what the leader knows to be committed at the first look.
    pub(super) async fn caught_up(&self) -> Result<(), Failure> {
        let goal = self.leader().await?.committed;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let states = self.states().await;
            if states.len() == self.specs.len() && states.iter().all(|state| state.applied >= goal) {
                return Ok(());
            }
            wait_or_give_up(deadline, "a server did not catch up").await?;
        }
    }

    /// A client of the server in this place, or of all if it has none.
    pub(super) fn client_of(&self, id: u64) -> Client {
        let one = self.running.get(&id).map(|process| vec![process.http.clone()]);
        Client::new(one.unwrap_or_else(|| self.endpoints.all()), PATIENCE)
    }

    pub(super) async fn states(&self) -> Vec<NodeState> {
        let mut states = Vec::new();
        for process in self.running.values() {
            if let Ok(state) = Client::new([process.http.clone()], STATE_TIMEOUT).state().await {
                states.push(state);
            }
        }
        states
    }

    /// The servers as they are now.
    pub(super) async fn table(&self) -> Result<Table, Failure> {
        Ok(status_table(&Client::new(self.endpoints.all(), STATE_TIMEOUT).status().await?))
    }

    /// SIGKILL to one.
    pub(super) async fn kill(&mut self, id: u64) -> Result<(), Failure> {
        match self.running.remove(&id) {
            Some(process) => process.kill().await,
            None => return Err(Failure::new(format!("server {id} does not run"))),
        }
        Ok(())
    }

    /// SIGKILL to all that still run.
    pub(super) async fn kill_all(&mut self) {
        while let Some((_, process)) = self.running.pop_first() {
            process.kill().await;
        }
    }

    /// SIGTERM to all, all at once; each must end in order.
    pub(super) async fn stop_all(&mut self) -> Result<(), Failure> {
        let mut stopping = tokio::task::JoinSet::new();
        for (id, process) in std::mem::take(&mut self.running) {
            stopping.spawn(async move { process.stop().await.map_err(|what| format!("server {id} {what}")) });
        }
        while let Some(stopped) = stopping.join_next().await {
            stopped.map_err(|error| Failure::new(error.to_string()))?.map_err(Failure::new)?;
        }
        Ok(())
    }

    /// For whoever wants to play with it.
    pub(super) fn lines_to_try(&self) -> String {
        let all = self.endpoints.all();
        let (first, last) = (all.first().cloned().unwrap_or_default(), all.last().cloned().unwrap_or_default());
        let program = std::env::current_exe().unwrap_or_else(|_| "raftwright".into());
        format!(
            "Try:\n  curl -X PUT --data-binary hello http://{first}/kv/greeting\n  curl http://{last}/kv/greeting\n  \
             curl 'http://{first}/kv?prefix=demo/&limit=3'\n  curl http://{first}/state\n  \
             {} status --endpoints {}\n\n",
            program.display(),
            all.join(",")
        )
    }
}

async fn wait_or_give_up(deadline: Instant, what: &str) -> Result<(), Failure> {
    if Instant::now() > deadline {
        return Err(Failure::new(format!("{what} within {} seconds", PATIENCE.as_secs())));
    }
    tokio::time::sleep(POLL).await;
    Ok(())
}
