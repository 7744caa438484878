//! The nodes, their disks, and the loop that lets time pass.

use core::time::Duration;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use raftwright_node::{Raft, RaftMetrics, ServerState};
use raftwright_traits::{AsyncRuntime, Config, Fatal, LogIdOf};
use raftwright_wal::testing::{Loss, SimDisk};
use raftwright_wal::{DataDir, DataDirOptions, FlushToken, WalLog, WalOptions, Writer};

use super::machine::Map;
use super::network::{Factory, Job, Mail};
use super::types::App;
use crate::runtime::{Executor, SimRuntime};
use crate::world::{EventQueue, Fate, FaultLog, LinkProfile, Network, NodeId, Parcel, Rng, SimTime, TraceHash};

/// How long a flush of a healthy disk takes.
const FLUSH: (Duration, Duration) = (Duration::from_micros(100), Duration::from_millis(2));
/// How long a sender waits before it takes a message for lost when its way was cut.
const LOST_AFTER: Duration = Duration::from_millis(200);
/// Where a node's log lies on its disk.
const DIRECTORY: &str = "/node";

#[derive(Debug)]
enum Event {
    Deliver(Parcel, Job),
    /// The sender of a message that went nowhere notices.
    Drop(#[expect(dead_code, reason = "held until it is dropped")] Job),
    Flushed(NodeId, u64),
}

/// The outcome of a start, once there is one.
type Started = Option<Result<Raft<App>, Fatal>>;

/// One node.
pub struct Node {
    disk: SimDisk,
    /// How often its process was started.
    boot: u64,
    running: Option<Running>,
    /// Why the last start failed, if it did.
    pub refused: Option<String>,
    /// Whether flushes complete.
    pub hung: bool,
}

/// A node whose process runs.
pub struct Running {
    /// The handle.
    pub raft: Raft<App>,
    /// The state machine.
    pub map: Map,
    /// What it runs on.
    pub runtime: SimRuntime,
    writer: Writer<SimDisk, FlushToken>,
    flushing: bool,
    checked: usize,
}

impl core::fmt::Debug for Node {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Node")
            .field("boot", &self.boot)
            .field("running", &self.running.is_some())
            .finish_non_exhaustive()
    }
}

/// A world of whole nodes.
#[derive(Debug)]
pub struct NodeWorld {
    /// The runtime of all.
    pub executor: Executor,
    queue: EventQueue<Event>,
    /// The network between them.
    pub network: Network,
    /// What went wrong so far.
    pub faults: FaultLog,
    mail: Mail,
    /// The nodes by id.
    pub nodes: BTreeMap<NodeId, Node>,
    /// The settings of every node.
    pub config: Config,
    rng: Rng,
    trace: TraceHash,
    applied: BTreeMap<u64, (LogIdOf<App>, u64)>,
    leaders: BTreeMap<u64, NodeId>,
}

impl NodeWorld {
    /// A world without nodes.
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        Self {
            executor: Executor::new(rng.fork(1)),
            queue: EventQueue::default(),
            network: Network::new(LinkProfile::default(), rng.fork(2)),
            faults: FaultLog::default(),
            mail: Mail::default(),
            nodes: BTreeMap::new(),
            config: Config { cluster_name: "simulated".to_owned(), ..Config::default() },
            rng,
            trace: TraceHash::default(),
            applied: BTreeMap::new(),
            leaders: BTreeMap::new(),
        }
    }

    /// The present moment.
    pub fn now(&self) -> SimTime {
        self.executor.now()
    }

    /// A running node.
    pub fn running(&self, id: NodeId) -> Option<&Running> {
        self.nodes.get(&id)?.running.as_ref()
    }

    /// What a running node says about itself.
    pub fn metrics(&self, id: NodeId) -> Option<RaftMetrics<App>> {
        Some(self.running(id)?.raft.metrics().borrow().clone())
    }

    /// Starts a node, with an empty disk if it is new.
    ///
    /// # Errors
    ///
    /// What its log or the node itself refuses, in words.
    pub fn start(&mut self, id: NodeId) -> Result<(), String> {
        let (disk_seed, random) = (self.rng.next_u64(), self.rng.next_u64());
        let node = self.nodes.entry(id).or_insert_with(|| Node {
            disk: SimDisk::new(disk_seed),
            boot: 0,
            running: None,
            refused: None,
            hung: false,
        });
        node.boot += 1;
        node.hung = false;
        let started = Self::open(&mut self.executor, node, id, random, &self.config, &self.mail);
        match started {
            Ok(running) => {
                node.running = Some(running);
                node.refused = None;
                Ok(())
            }
            Err(why) => {
                self.executor.kill_node(id);
                node.disk.kill();
                node.refused = Some(why.clone());
                Err(why)
            }
        }
    }

    fn open(
        executor: &mut Executor,
        node: &Node,
        id: NodeId,
        random: u64,
        config: &Config,
        mail: &Mail,
    ) -> Result<Running, String> {
        let runtime = executor.start_node(id);
        let options = DataDirOptions { node_id: id, random };
        let dir = DataDir::open(node.disk.clone(), Path::new(DIRECTORY), options).map_err(|error| error.to_string())?;
        let small = WalOptions { segment_bytes: 4 << 20, ..WalOptions::default() };
        let (log, writer, _) =
            WalLog::<App, SimDisk>::open_with_writer(Arc::new(dir), small).map_err(|error| error.to_string())?;
        let map = Map::default();
        let network = Factory { from: id, mail: mail.clone(), runtime: runtime.clone() };
        let started: Arc<Mutex<Started>> = Arc::default();
        let (slot, machine, on, config) =
            (Arc::clone(&started), map.clone(), runtime.clone(), Arc::new(config.clone()));
        runtime.spawn(async move {
            let raft = Raft::with_runtime(on, id, config, network, log, machine).await;
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(raft);
        });
        executor.run_ready().map_err(|livelock| livelock.to_string())?;
        let raft = started.lock().unwrap_or_else(PoisonError::into_inner).take();
        match raft {
            Some(Ok(raft)) => Ok(Running { raft, map, runtime, writer, flushing: false, checked: 0 }),
            Some(Err(fatal)) => Err(fatal.to_string()),
            None => Err("the start waits for something".to_owned()),
        }
    }

    /// A process dies. `loss` says what becomes of what was not synced; without it the machine lives on.
    pub fn kill(&mut self, id: NodeId, loss: Option<Loss>) -> bool {
        let Some(node) = self.nodes.get_mut(&id) else { return false };
        let Some(running) = node.running.take() else { return false };
        self.executor.kill_node(id);
        drop(running);
        match loss {
            None => node.disk.kill(),
            Some(loss) => node.disk.power_cut(loss),
        }
        true
    }

    /// Empties the disk of a node that is down.
    pub fn wipe(&mut self, id: NodeId) -> bool {
        let seed = self.rng.next_u64();
        match self.nodes.get_mut(&id) {
            Some(node) if node.running.is_none() => {
                node.disk = SimDisk::new(seed);
                true
            }
            Some(_) | None => false,
        }
    }

    /// A node's disk, for faults.
    pub fn disk(&self, id: NodeId) -> Option<&SimDisk> {
        self.nodes.get(&id).map(|node| &node.disk)
    }

    /// Does the next thing that happens not after `until`. Answers whether there was one.
    ///
    /// # Errors
    ///
    /// A property that is broken, in words.
    pub fn step(&mut self, until: SimTime) -> Result<bool, String> {
        self.settle()?;
        let next = [self.executor.next_wake(), self.queue.next_at()].into_iter().flatten().min();
        let Some(next) = next.filter(|next| *next <= until) else {
            self.executor.advance(until);
            self.settle()?;
            return Ok(false);
        };
        self.executor.advance(next);
        while self.queue.next_at().is_some_and(|at| at <= next) {
            if let Some((_, event)) = self.queue.pop() {
                self.handle(event);
            }
        }
        self.settle()?;
        Ok(true)
    }

    /// Lets everything happen that needs no time.
    fn settle(&mut self) -> Result<(), String> {
        loop {
            self.executor.run_ready().map_err(|livelock| livelock.to_string())?;
            let posts = self.mail.take();
            let idle = posts.is_empty();
            for post in posts {
                self.carry(post);
            }
            if !self.pump_disks() && idle {
                break;
            }
        }
        if let Some((node, what)) = self.executor.take_panics().into_iter().next() {
            return Err(format!("a task of node {node} panicked: {what}"));
        }
        self.check_safety()
    }

    fn carry(&mut self, post: super::network::Post) {
        let now = self.now();
        let super::network::Post { from, to, lane, bytes, job } = post;
        match self.network.send(now, from, to, lane, bytes, &mut self.faults) {
            Fate::Cut | Fate::Lost => self.queue.push(now.after(LOST_AFTER), Event::Drop(job)),
            Fate::Sent { first, copy } => {
                if let Some(copy) = copy {
                    self.queue.push(copy.at, Event::Deliver(copy, job.clone()));
                }
                self.queue.push(first.at, Event::Deliver(first, job));
            }
        }
    }

    /// The hash of every message and flush so far, with its moment.
    pub fn trace_hash(&self) -> u64 {
        self.trace.value()
    }

    fn handle(&mut self, event: Event) {
        let what = match &event {
            Event::Deliver(parcel, _) => [1, parcel.from, parcel.to],
            Event::Drop(_) => [2, 0, 0],
            Event::Flushed(id, boot) => [3, *id, *boot],
        };
        for word in what {
            self.trace.word(word);
        }
        self.trace.word(self.now().0);
        self.trace.word(self.executor.polls());
        match event {
            Event::Deliver(parcel, job) if !self.network.arrives(&parcel) => {
                self.queue.push(self.now().after(LOST_AFTER), Event::Drop(job));
            }
            Event::Deliver(parcel, job) => {
                if let Some(running) = self.running(parcel.to) {
                    match &job {
                        Job::Call(handle) => handle(running.raft.clone(), &running.runtime),
                        Job::Return(give) => give(),
                    }
                }
            }
            Event::Drop(_) => {}
            Event::Flushed(id, boot) => self.flushed(id, boot),
        }
    }

    // ---- disks ----

    /// Begins a flush at every disk that has something to write. Answers whether anything was begun.
    fn pump_disks(&mut self) -> bool {
        let now = self.now();
        let mut begun = false;
        for (id, node) in &mut self.nodes {
            let Some(running) = node.running.as_mut() else { continue };
            if running.flushing || !running.writer.has_work() {
                continue;
            }
            // A failure completes all tokens with the error; the node then stops itself.
            if running.writer.write_batch().is_ok_and(|taken| taken > 0) {
                running.flushing = true;
                let at = now.after(self.rng.duration(FLUSH.0, FLUSH.1));
                self.queue.push(at, Event::Flushed(*id, node.boot));
                begun = true;
            }
        }
        begun
    }

    fn flushed(&mut self, id: NodeId, boot: u64) {
        /// How often a hung disk is looked at again.
        const HUNG_STEP: Duration = Duration::from_millis(10);
        let now = self.now();
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if node.boot != boot {
            return;
        }
        if node.hung {
            self.queue.push(now.after(HUNG_STEP), Event::Flushed(id, boot));
            return;
        }
        let Some(running) = node.running.as_mut() else { return };
        running.flushing = false;
        if running.writer.sync().is_ok() {
            running.writer.complete();
            while running.writer.housekeep() {}
        }
    }

    // ---- what must be true ----

    /// Two nodes never apply different entries at one index, none twice or out of order, and no term has two leaders.
    fn check_safety(&mut self) -> Result<(), String> {
        for (id, node) in &mut self.nodes {
            let Some(running) = node.running.as_mut() else { continue };
            let state = running.map.state();
            for (place, (log_id, hash)) in state.applied.iter().enumerate().skip(running.checked) {
                if log_id.index != place as u64 + 1 {
                    return Err(format!("node {id} applied {log_id} as its entry number {}", place + 1));
                }
                let known = self.applied.entry(log_id.index).or_insert((*log_id, *hash));
                if *known != (*log_id, *hash) {
                    return Err(format!("node {id} applied {log_id} where another node applied {}", known.0));
                }
            }
            running.checked = state.applied.len();
            drop(state);
            let metrics = running.raft.metrics();
            let metrics = metrics.borrow();
            if metrics.state == ServerState::Leader {
                let leader = *self.leaders.entry(metrics.current_term).or_insert(*id);
                if leader != *id {
                    return Err(format!("nodes {leader} and {id} both lead in term {}", metrics.current_term));
                }
            }
        }
        Ok(())
    }

    /// A leader that a quorum of its own membership knows.
    pub fn leader(&self) -> Option<NodeId> {
        self.nodes.keys().copied().find(|id| {
            let Some(metrics) = self.metrics(*id) else { return false };
            let knows = |other: &NodeId| self.metrics(*other).is_some_and(|theirs| theirs.current_leader == Some(*id));
            metrics.state == ServerState::Leader && metrics.membership_config.membership.is_quorum(knows)
        })
    }
}
