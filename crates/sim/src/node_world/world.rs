//! The nodes, their disks, and the loop that lets time pass.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use raftwright_node::{Raft, RaftMetrics, ServerState};
use raftwright_traits::{AsyncRuntime, Config, Fatal};
use raftwright_wal::testing::{Loss, SimDisk};
use tokio::sync::watch;

use super::application::{Application, Stores};
use super::judge::Judge;
use super::network::{Factory, Job, Label, Mail, Post, Served};
use super::tap::{Report, Reporter, Tap};
use super::transfer::Receipts;
use super::watched::{WatchedLog, WatchedMachine};
use crate::checkers::Broken;
use crate::core_world::trace::{Kind, Trace};
use crate::core_world::types::LogId;
use crate::runtime::{Executor, SimRuntime};
use crate::world::{EventQueue, Fate, Fault, FaultLog, LinkProfile, Network, NodeId, Parcel, Rng, SimTime};

/// How long a flush of a healthy disk takes.
const FLUSH: (Duration, Duration) = (Duration::from_micros(100), Duration::from_millis(2));
/// How often a full disk is looked at again, as the log's own thread does it.
const FULL_RETRY: Duration = Duration::from_millis(100);
/// How long a sender waits before it takes a message for lost when its way was cut.
const LOST_AFTER: Duration = Duration::from_millis(200);

#[derive(Debug)]
enum Event<C: super::application::SimConfig> {
    Deliver(Parcel, Label, Job<C>),
    /// The sender of a message that went nowhere notices.
    Drop(#[expect(dead_code, reason = "held until it is dropped")] Job<C>),
    Flushed(NodeId, u64),
    /// A disk that was full is looked at again.
    LookForRoom(NodeId, u64),
}

/// The outcome of a start, once there is one.
type Started<C> = Option<Result<Raft<C>, Fatal>>;

/// One node.
pub struct Node<A: Application> {
    /// How often its process was started.
    pub boot: u64,
    running: Option<Running<A>>,
    /// Why the last start failed, if it did.
    pub refused: Option<String>,
    /// Whether flushes complete.
    pub hung: bool,
    /// Flushes take that many times as long.
    pub slowness: u32,
}

/// A node whose process runs.
pub struct Running<A: Application> {
    /// The handle.
    pub raft: Raft<A::C>,
    /// Looks into the state machine.
    pub probe: A::Probe,
    /// What it runs on.
    pub runtime: SimRuntime,
    served: Served<A::C>,
    metrics: watch::Receiver<RaftMetrics<A::C>>,
    flushing: bool,
    /// Its disk was full, and will be looked at again.
    seeks_room: bool,
    /// Its role, its term, and whether it has stopped itself, when it was last looked at.
    role: (ServerState, u64, bool),
    committed: u64,
}

impl<A: Application> core::fmt::Debug for Node<A> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Node")
            .field("boot", &self.boot)
            .field("running", &self.running.is_some())
            .finish_non_exhaustive()
    }
}

/// A world of whole nodes.
#[derive(Debug)]
pub struct NodeWorld<A: Application> {
    /// The runtime of all.
    pub executor: Executor,
    queue: EventQueue<Event<A::C>>,
    /// The network between them.
    pub network: Network,
    /// What went wrong so far.
    pub faults: FaultLog,
    mail: Mail<A::C>,
    /// The nodes by id.
    pub nodes: BTreeMap<NodeId, Node<A>>,
    /// The settings of every node.
    pub config: Config,
    /// How long a flush of a healthy disk takes.
    pub flush: (Duration, Duration),
    application: A,
    stores: A::Stores,
    rng: Rng,
    /// What happened.
    pub trace: Trace,
    tap: Tap,
    /// An empty buffer.
    reports: Vec<Report>,
    /// What nodes take for committed, as far as the judge does not know it yet.
    commits: Vec<(NodeId, LogId)>,
    judge: Judge,
    /// Which process dies at the next await, and what its disk loses.
    doomed: Option<(NodeId, Option<Loss>)>,
    /// Nodes that died by themselves since the last look: their machines went down, or they were doomed.
    fallen: Vec<NodeId>,
    /// Nodes that have stopped themselves since the last look, and why.
    stopped: Vec<(NodeId, String)>,
}

impl<A: Application> NodeWorld<A> {
    /// A world without nodes.
    pub fn of(seed: u64, application: A, stores: A::Stores) -> Self {
        let mut rng = Rng::new(seed);
        Self {
            executor: Executor::new(rng.fork(1)),
            queue: EventQueue::default(),
            network: Network::new(LinkProfile::default(), rng.fork(2)),
            faults: FaultLog::default(),
            mail: Mail::default(),
            nodes: BTreeMap::new(),
            config: Config { cluster_name: "simulated".to_owned(), ..Config::default() },
            flush: FLUSH,
            application,
            stores,
            rng,
            trace: Trace::default(),
            tap: Tap::default(),
            reports: Vec::new(),
            commits: Vec::new(),
            judge: Judge::default(),
            doomed: None,
            fallen: Vec::new(),
            stopped: Vec::new(),
        }
    }

    /// Keeps the lines of the trace from now on.
    pub fn record(&mut self) {
        self.trace = Trace::new(true);
        self.mail.wordy = true;
    }

    /// The present moment.
    pub fn now(&self) -> SimTime {
        self.executor.now()
    }

    /// A running node.
    pub fn running(&self, id: NodeId) -> Option<&Running<A>> {
        self.nodes.get(&id)?.running.as_ref()
    }

    /// What a running node says about itself.
    pub fn metrics(&self, id: NodeId) -> Option<RaftMetrics<A::C>> {
        Some(self.running(id)?.metrics.borrow().clone())
    }

    /// A look at what a running node says about itself.
    pub fn look<R>(&self, id: NodeId, look: impl FnOnce(&RaftMetrics<A::C>) -> R) -> Option<R> {
        Some(look(&self.running(id)?.metrics.borrow()))
    }

    /// What is replicated.
    pub fn application(&self) -> &A {
        &self.application
    }

    /// The checkers, and what they know.
    pub fn judge(&self) -> &Judge {
        &self.judge
    }

    /// The same, to be told something.
    pub fn judge_mut(&mut self) -> &mut Judge {
        &mut self.judge
    }

    /// Where acts of nodes are reported.
    pub fn tap(&self) -> &Tap {
        &self.tap
    }

    /// Nodes that died by themselves since the last call.
    pub fn take_fallen(&mut self) -> Vec<NodeId> {
        std::mem::take(&mut self.fallen)
    }

    /// Nodes that have stopped themselves since the last call, and why. Their processes are still there.
    pub fn take_stopped(&mut self) -> Vec<(NodeId, String)> {
        std::mem::take(&mut self.stopped)
    }

    /// Starts a node, with an empty disk if it is new.
    ///
    /// # Errors
    ///
    /// What its log or the node itself refuses, in words.
    pub fn start(&mut self, id: NodeId) -> Result<(), String> {
        let random = self.rng.next_u64();
        let node = self.nodes.entry(id).or_insert_with(|| Node {
            boot: 0,
            running: None,
            refused: None,
            hung: false,
            slowness: 1,
        });
        node.boot += 1;
        node.hung = false;
        let boot = node.boot;
        let started = self.open(id, boot, random);
        let now = self.now();
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        match started {
            Ok(running) => {
                node.running = Some(running);
                node.refused = None;
                self.trace.note(now, id, Kind("START"), [boot, 0], || format!("boot {boot}"));
                Ok(())
            }
            Err(why) => {
                self.executor.kill_node(id);
                let fell = self.stores.disk(id).is_some_and(SimDisk::is_down);
                let loss = fell.then(|| Loss::ALL[self.rng.below(Loss::ALL.len() as u64) as usize]);
                self.stores.kill(id, loss);
                if fell {
                    self.fallen.push(id);
                } else {
                    node.refused = Some(why.clone());
                }
                self.trace.note(now, id, Kind("REFUSED"), [boot, 0], || why.clone());
                Err(why)
            }
        }
    }

    fn open(&mut self, id: NodeId, boot: u64, random: u64) -> Result<Running<A>, String> {
        let runtime = self.executor.start_node(id);
        let log = self.stores.open(id, random)?;
        let (machine, probe) = self.application.machine(id);
        let reporter = Reporter { node: id, boot, tap: self.tap.clone() };
        let network = Factory { mail: self.mail.clone(), runtime: runtime.clone(), reporter: reporter.clone() };
        let started: Arc<Mutex<Started<A::C>>> = Arc::default();
        let (slot, on, config) = (Arc::clone(&started), runtime.clone(), Arc::new(self.config.clone()));
        let reports = reporter.clone();
        runtime.spawn(async move {
            let machine = WatchedMachine::<A>::new(machine, reports.clone());
            let raft = match WatchedLog::<A, _>::new(log, reports).await {
                Ok(log) => Raft::with_runtime(on, id, config, network, log, machine).await,
                Err(error) => Err(error.into()),
            };
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(raft);
        });
        self.executor.run_ready().map_err(|livelock| livelock.to_string())?;
        let raft = started.lock().unwrap_or_else(PoisonError::into_inner).take();
        match raft {
            Some(Ok(raft)) => {
                let receipts = Receipts::new(runtime.random_u64());
                let served = Served { raft: raft.clone(), runtime: runtime.clone(), reporter, receipts };
                let role = (ServerState::Learner, 0, false);
                let metrics = raft.metrics();
                Ok(Running {
                    metrics,
                    raft,
                    probe,
                    runtime,
                    served,
                    flushing: false,
                    seeks_room: false,
                    role,
                    committed: 0,
                })
            }
            Some(Err(fatal)) => Err(fatal.to_string()),
            None => Err("the start waits for something".to_owned()),
        }
    }

    /// A process dies. `loss` says what becomes of what was not synced; without it the machine lives on.
    pub fn kill(&mut self, id: NodeId, loss: Option<Loss>) -> bool {
        let now = self.now();
        let Some(node) = self.nodes.get_mut(&id) else { return false };
        let Some(running) = node.running.take() else { return false };
        self.executor.kill_node(id);
        drop(running);
        self.stores.kill(id, loss);
        self.application.gone(id, false);
        self.trace.note(now, id, Kind("DOWN"), [loss.map_or(0, |loss| 1 + loss as u64), 0], || match loss {
            None => "killed".to_owned(),
            Some(loss) => format!("power loss, {loss:?}"),
        });
        true
    }

    /// A process dies after so many more polls of its tasks, at whatever await it then is.
    pub fn doom(&mut self, id: NodeId, polls: u64, loss: Option<Loss>) {
        self.doomed = Some((id, loss));
        self.executor.doom_node(id, polls);
    }

    /// Empties the disk of a node that is down.
    pub fn wipe(&mut self, id: NodeId) -> bool {
        let seed = self.rng.next_u64();
        let now = self.now();
        match self.nodes.get_mut(&id) {
            Some(node) if node.running.is_none() => {
                node.refused = None;
                self.stores.wipe(id, seed);
                self.application.gone(id, true);
                self.judge.wiped(id);
                self.trace.note(now, id, Kind("WIPED"), [0, 0], String::new);
                true
            }
            Some(_) | None => false,
        }
    }

    /// A node's disk, for faults.
    pub fn disk(&self, id: NodeId) -> Option<&SimDisk> {
        self.stores.disk(id)
    }

    /// The moment of the next thing that happens, if anything does.
    pub fn next_at(&self) -> Option<SimTime> {
        [self.executor.next_wake(), self.queue.next_at()].into_iter().flatten().min()
    }

    /// Does the next thing that happens not after `until`. Answers whether there was one.
    ///
    /// # Errors
    ///
    /// A property that is broken, in words.
    pub fn step(&mut self, until: SimTime) -> Result<bool, Broken> {
        self.settle()?;
        let Some(next) = self.next_at().filter(|next| *next <= until) else {
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
    ///
    /// # Errors
    ///
    /// A property that is broken, in words.
    pub fn settle(&mut self) -> Result<(), Broken> {
        let mut posts = Vec::new();
        loop {
            self.executor.run_ready().map_err(|livelock| own("time passes", livelock.to_string()))?;
            self.bury_the_doomed();
            posts = self.mail.take(posts);
            let idle = posts.is_empty();
            for post in posts.drain(..) {
                self.carry(post);
            }
            if !self.pump_disks() && idle {
                break;
            }
        }
        if let Some((node, what)) = self.executor.take_panics().into_iter().next() {
            return Err(own("no task panics", format!("a task of node {node} panicked: {what}")));
        }
        self.judge_reports()
    }

    fn judge_reports(&mut self) -> Result<(), Broken> {
        let mut reports: Vec<Report> = self.tap.take(std::mem::take(&mut self.reports));
        self.look_at_metrics();
        let commits = std::mem::take(&mut self.commits);
        if !reports.is_empty() || !commits.is_empty() {
            let gone = self.nodes.iter().filter(|(_, node)| node.running.is_none()).map(|(id, _)| *id);
            let gone: Vec<NodeId> = gone.collect();
            self.judge.hear(reports.drain(..), &commits, &gone)?;
        }
        self.reports = reports;
        Ok(())
    }

    /// Learns what each node takes for committed that has something new to tell.
    fn look_at_metrics(&mut self) {
        let now = self.executor.now();
        for (id, node) in &mut self.nodes {
            let Some(running) = node.running.as_mut() else { continue };
            if !running.metrics.has_changed().unwrap_or(false) {
                continue;
            }
            let metrics = running.metrics.borrow_and_update();
            let role = (metrics.state, metrics.current_term, metrics.running_state.is_err());
            if role != running.role {
                running.role = role;
                if let Err(fatal) = &metrics.running_state {
                    self.stopped.push((*id, fatal.to_string()));
                }
                let numbers = [metrics.state as u64, metrics.current_term];
                self.trace.note(now, *id, Kind("ROLE"), numbers, || match &metrics.running_state {
                    Ok(()) => format!("{:?} in term {}", metrics.state, metrics.current_term),
                    Err(fatal) => format!("stopped: {fatal}"),
                });
            }
            if let Some(committed) = metrics.committed {
                if running.committed != committed.index {
                    running.committed = committed.index;
                    self.trace.note(now, *id, Kind("commit"), [committed.index, 0], || committed.to_string());
                }
                // The newest word of a node counts.
                self.commits.retain(|(other, _)| other != id);
                self.commits.push((*id, committed));
            }
        }
    }

    fn bury_the_doomed(&mut self) {
        let Some(id) = self.executor.take_doomed() else { return };
        // What it has said until now still counts.
        self.look_at_metrics();
        if let Some((_, loss)) = self.doomed.take_if(|(doomed, _)| *doomed == id)
            && self.kill(id, loss)
        {
            self.fallen.push(id);
        }
    }

    fn carry(&mut self, post: Post<A::C>) {
        let now = self.now();
        let Post { from, to, lane, bytes, label, job } = post;
        match self.network.send(now, from, to, lane, bytes, &mut self.faults) {
            Fate::Cut | Fate::Lost => self.queue.push(now.after(LOST_AFTER), Event::Drop(job)),
            Fate::Sent { first, copy } => {
                if let Some(copy) = copy {
                    self.queue.push(copy.at, Event::Deliver(copy, label.clone(), job.clone()));
                }
                self.queue.push(first.at, Event::Deliver(first, label, job));
            }
        }
    }

    /// The hash of everything that happened so far, with its moment.
    pub fn trace_hash(&self) -> u64 {
        self.trace.hash()
    }

    fn handle(&mut self, event: Event<A::C>) {
        let now = self.now();
        match event {
            Event::Deliver(parcel, _, job) if !self.network.arrives(&parcel) => {
                self.queue.push(now.after(LOST_AFTER), Event::Drop(job));
            }
            Event::Deliver(parcel, label, job) => {
                let numbers = [parcel.from, self.executor.polls()];
                self.trace.note(now, parcel.to, Kind(label.name), numbers, || {
                    format!("from n{}: {}", parcel.from, label.text)
                });
                if label.name == "snapshot?" {
                    self.faults.hit(Fault::SnapshotSent);
                }
                if let Some(running) = self.running(parcel.to) {
                    match &job {
                        Job::Call(handle) => handle(&running.served),
                        Job::Return(give) => give(),
                    }
                }
            }
            Event::Drop(_) => {}
            Event::Flushed(id, boot) => {
                self.trace.note(now, id, Kind("flushed"), [boot, self.executor.polls()], String::new);
                self.flushed(id, boot);
            }
            Event::LookForRoom(id, boot) => self.look_for_room(id, boot),
        }
    }

    // ---- disks ----

    /// Begins a flush at every disk that has something to write. Answers whether anything was begun.
    fn pump_disks(&mut self) -> bool {
        let busy =
            |id: &NodeId| self.running(*id).is_some_and(|running| !running.flushing) && self.stores.has_work(*id);
        let busy: Vec<NodeId> = self.nodes.keys().copied().filter(busy).collect();
        let mut begun = false;
        for id in busy {
            let wrote = self.stores.write(id);
            begun |= self.wrote(id, wrote);
        }
        begun
    }

    /// A node has written, or has tried to. Answers whether anything follows from it.
    fn wrote(&mut self, id: NodeId, wrote: bool) -> bool {
        let now = self.now();
        let Some(node) = self.nodes.get_mut(&id) else { return false };
        let Some(running) = node.running.as_mut() else { return false };
        if wrote {
            running.flushing = true;
            let takes = self.rng.duration(self.flush.0, self.flush.1) * node.slowness;
            self.queue.push(now.after(takes), Event::Flushed(id, node.boot));
        } else if self.stores.disk(id).is_some_and(SimDisk::is_down) {
            self.fall(id);
        } else {
            self.seek_room(id);
            return false;
        }
        true
    }

    /// A full disk is looked at again after a while.
    fn seek_room(&mut self, id: NodeId) {
        let now = self.now();
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Some(running) = node.running.as_mut() else { return };
        if self.stores.is_full(id) && !running.seeks_room {
            running.seeks_room = true;
            self.queue.push(now.after(FULL_RETRY), Event::LookForRoom(id, node.boot));
        }
    }

    fn look_for_room(&mut self, id: NodeId, boot: u64) {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.boot == boot) else { return };
        let Some(running) = node.running.as_mut() else { return };
        running.seeks_room = false;
        // The end of a flush looks, too.
        if !running.flushing {
            let wrote = self.stores.look_for_room(id);
            self.wrote(id, wrote);
        }
    }

    /// A machine went down in the middle of a write or a flush.
    fn fall(&mut self, id: NodeId) {
        let loss = Loss::ALL[self.rng.below(Loss::ALL.len() as u64) as usize];
        if self.kill(id, Some(loss)) {
            self.fallen.push(id);
        }
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
        self.stores.flush(id);
        if self.stores.disk(id).is_some_and(SimDisk::is_down) {
            self.fall(id);
        } else {
            self.seek_room(id);
        }
    }

    /// A leader that a quorum of its own membership knows.
    pub fn leader(&self) -> Option<NodeId> {
        let running = || self.nodes.iter().filter_map(|(id, node)| Some((*id, node.running.as_ref()?)));
        let knows = |other: &NodeId, leader: NodeId| {
            self.running(*other).is_some_and(|running| running.metrics.borrow().current_leader == Some(leader))
        };
        running().map(|(id, running)| (id, running.metrics.borrow())).find_map(|(id, metrics)| {
            let membership = &metrics.membership_config.membership;
            let leads = metrics.state == ServerState::Leader && membership.is_quorum(|other| knows(other, id));
            leads.then_some(id)
        })
    }
}

/// A rule of the world itself that is broken.
fn own(property: &'static str, what: String) -> Broken {
    Broken { property, source: "the simulator", what }
}
