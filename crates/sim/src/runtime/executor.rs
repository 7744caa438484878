//! Polls the tasks of all nodes.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use super::sim_runtime::{Entered, SimRuntime};
use crate::world::{NodeClock, NodeId, Rng, SimTime};

/// How many polls may happen without time passing. A cluster that needs more spins.
pub const POLLS_PER_INSTANT_MAX: u64 = 1_000_000;

/// Tasks wake each other without end, and time does not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Livelock {
    /// When.
    pub at: SimTime,
}

impl fmt::Display for Livelock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {} more than {POLLS_PER_INSTANT_MAX} polls happened without time passing", self.at)
    }
}

pub(super) type BoxedTask = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The name of a task; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TaskId(u64);

struct TaskSlot {
    node: NodeId,
    /// Taken out while it is polled.
    future: Option<BoxedTask>,
    waker: Waker,
    /// Whether it stands in a queue already.
    queued: bool,
}

pub(super) struct NodeState {
    pub(super) clock: NodeClock,
    pub(super) rng: Rng,
    /// Which life of the process this is; handles of an earlier one do nothing.
    pub(super) boot: u64,
    running: bool,
    paused: bool,
    /// Tasks that were woken while the process was paused.
    held: VecDeque<TaskId>,
    /// Who waits for which moment of the node's clock.
    sleepers: BTreeMap<(u64, u64), Waker>,
}

pub(super) struct State {
    pub(super) now: SimTime,
    pub(super) nodes: BTreeMap<NodeId, NodeState>,
    tasks: BTreeMap<TaskId, TaskSlot>,
    ready: VecDeque<TaskId>,
    names: u64,
    polls: u64,
    panics: Vec<(NodeId, String)>,
    /// Whose process dies, and after how many more polls of its tasks.
    doom: Option<(NodeId, u64)>,
}

impl State {
    fn name(&mut self) -> u64 {
        self.names += 1;
        self.names
    }

    fn enqueue(&mut self, id: TaskId) {
        let Some(slot) = self.tasks.get_mut(&id) else { return };
        if slot.queued {
            return;
        }
        slot.queued = true;
        match self.nodes.get_mut(&slot.node) {
            Some(node) if node.paused => node.held.push_back(id),
            _ => self.ready.push_back(id),
        }
    }

    /// Registers a waker for a moment of a node's clock. `None`: the moment has come.
    pub(super) fn sleep(&mut self, node: NodeId, local: u64, waker: &Waker) -> Option<(u64, u64)> {
        let now = self.now;
        let name = self.name();
        let state = self.nodes.get_mut(&node)?;
        if state.clock.read(now) >= local {
            return None;
        }
        state.sleepers.insert((local, name), waker.clone());
        Some((local, name))
    }

    pub(super) fn forget_sleeper(&mut self, node: NodeId, key: (u64, u64)) -> Option<Waker> {
        self.nodes.get_mut(&node)?.sleepers.remove(&key)
    }
}

/// What the executor and its handles share. There is one thread; the lock is for the compiler, and is never contended.
pub(super) struct Shared {
    state: Mutex<State>,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic inside the lock would have been ours; the state is plain data, whatever happened.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

struct TaskWaker {
    shared: Arc<Shared>,
    id: TaskId,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.shared.lock().enqueue(self.id);
    }
}

/// Runs the tasks of all nodes.
#[derive(Debug)]
pub struct Executor {
    shared: Arc<Shared>,
    rng: Rng,
}

/// Tasks hold the runtime that holds them: a world that ends has to let go of them, or it would stay in memory for ever.
impl Drop for Executor {
    fn drop(&mut self) {
        let nodes: Vec<NodeId> = self.shared.lock().nodes.keys().copied().collect();
        for node in nodes {
            self.kill_node(node);
        }
    }
}

impl Executor {
    /// An executor at the start of time.
    pub fn new(rng: Rng) -> Self {
        let state = State {
            now: SimTime::ZERO,
            nodes: BTreeMap::new(),
            tasks: BTreeMap::new(),
            ready: VecDeque::new(),
            names: 0,
            polls: 0,
            panics: Vec::new(),
            doom: None,
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(state) }), rng }
    }

    /// The present moment.
    pub fn now(&self) -> SimTime {
        self.shared.lock().now
    }

    /// Starts a process on a node and gives out what it runs on. What was left of an earlier one is dropped.
    pub fn start_node(&mut self, node: NodeId) -> SimRuntime {
        self.kill_node(node);
        let rng = self.rng.fork(node);
        let mut state = self.shared.lock();
        let now = state.now;
        let entry = state.nodes.entry(node).or_insert_with(|| NodeState {
            clock: NodeClock::new(now, now.0),
            rng: rng.clone(),
            boot: 0,
            running: false,
            paused: false,
            held: VecDeque::new(),
            sleepers: BTreeMap::new(),
        });
        entry.boot += 1;
        entry.running = true;
        entry.rng = rng;
        let boot = entry.boot;
        drop(state);
        SimRuntime::new(Arc::clone(&self.shared), node, boot)
    }

    /// The process dies: its tasks are dropped where they stand, at whatever await they were.
    pub fn kill_node(&mut self, node: NodeId) {
        let mut dropped: Vec<BoxedTask> = Vec::new();
        let mut sleepers = BTreeMap::new();
        {
            let mut state = self.shared.lock();
            let ids: Vec<TaskId> =
                state.tasks.iter().filter(|(_, slot)| slot.node == node).map(|(id, _)| *id).collect();
            for id in ids {
                dropped.extend(state.tasks.remove(&id).and_then(|slot| slot.future));
            }
            if let Some(node) = state.nodes.get_mut(&node) {
                node.running = false;
                node.paused = false;
                node.held.clear();
                sleepers = std::mem::take(&mut node.sleepers);
            }
        }
        // Destructors run outside the lock: they may wake other tasks.
        drop(dropped);
        drop(sleepers);
    }

    /// Whether a process runs on the node, paused or not.
    pub fn is_running(&self, node: NodeId) -> bool {
        self.shared.lock().nodes.get(&node).is_some_and(|node| node.running)
    }

    /// The process stops where it is; what wakes its tasks is kept for later.
    pub fn pause_node(&mut self, node: NodeId) {
        if let Some(node) = self.shared.lock().nodes.get_mut(&node) {
            node.paused = true;
        }
    }

    /// The process goes on.
    pub fn resume_node(&mut self, node: NodeId) {
        let mut state = self.shared.lock();
        if let Some(node) = state.nodes.get_mut(&node) {
            node.paused = false;
            let held = std::mem::take(&mut node.held);
            state.ready.extend(held);
        }
    }

    /// Changes a node's clock.
    pub fn change_clock(&mut self, node: NodeId, change: impl FnOnce(&mut NodeClock, SimTime)) {
        let mut state = self.shared.lock();
        let now = state.now;
        if let Some(node) = state.nodes.get_mut(&node) {
            change(&mut node.clock, now);
        }
    }

    /// Dooms a process: after so many more polls of its tasks, [`Executor::run_ready`] returns, and
    /// [`Executor::take_doomed`] names it, to be killed where it stands. One process at a time.
    pub fn doom_node(&mut self, node: NodeId, polls: u64) {
        self.shared.lock().doom = Some((node, polls.max(1)));
    }

    /// Takes a process's doom back.
    pub fn undoom(&mut self, node: NodeId) {
        let _ = self.shared.lock().doom.take_if(|(doomed, _)| *doomed == node);
    }

    /// The process whose time has come, if there is one.
    pub fn take_doomed(&mut self) -> Option<NodeId> {
        Some(self.shared.lock().doom.take_if(|(_, left)| *left == 0)?.0)
    }

    fn doom_is_due(&self) -> bool {
        self.shared.lock().doom.is_some_and(|(_, left)| left == 0)
    }

    /// Polls woken tasks until there are none.
    ///
    /// # Errors
    ///
    /// [`Livelock`], if that does not end.
    pub fn run_ready(&mut self) -> Result<(), Livelock> {
        let mut polls = 0;
        while self.poll_next() {
            polls += 1;
            if self.doom_is_due() {
                break;
            }
            if polls > POLLS_PER_INSTANT_MAX {
                return Err(Livelock { at: self.now() });
            }
        }
        Ok(())
    }

    fn poll_next(&mut self) -> bool {
        let (id, node, boot, mut future, waker) = {
            let mut state = self.shared.lock();
            let Some(id) = state.ready.pop_front() else { return false };
            let Some(slot) = state.tasks.get_mut(&id) else { return true };
            let node = slot.node;
            if let Some(owner) = state.nodes.get_mut(&node)
                && owner.paused
            {
                // It was woken before the pause; it keeps its place in what is held.
                owner.held.push_back(id);
                return true;
            }
            let boot = state.nodes.get(&node).map_or(0, |node| node.boot);
            let Some(slot) = state.tasks.get_mut(&id) else { return true };
            slot.queued = false;
            let Some(future) = slot.future.take() else { return true };
            let waker = slot.waker.clone();
            state.polls += 1;
            if let Some((_, left)) = state.doom.as_mut().filter(|(doomed, _)| *doomed == node) {
                *left = left.saturating_sub(1);
            }
            (id, node, boot, future, waker)
        };
        let entered = Entered::enter(SimRuntime::new(Arc::clone(&self.shared), node, boot));
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut Context::from_waker(&waker))));
        drop(entered);
        let mut state = self.shared.lock();
        match polled {
            Ok(Poll::Pending) => {
                if let Some(slot) = state.tasks.get_mut(&id) {
                    slot.future = Some(future);
                    return true;
                }
            }
            Ok(Poll::Ready(())) => {
                state.tasks.remove(&id);
            }
            Err(panic) => {
                state.tasks.remove(&id);
                state.panics.push((node, panic_text(panic.as_ref())));
            }
        }
        drop(state);
        drop(future);
        true
    }

    /// The next moment at which somebody wants to wake up. Sleepers of a paused process count: their wakers are held.
    pub fn next_wake(&self) -> Option<SimTime> {
        let state = self.shared.lock();
        let wakes = state.nodes.values().filter_map(|node| {
            let ((local, _), _) = node.sleepers.first_key_value()?;
            Some(node.clock.when(state.now, *local))
        });
        wakes.min()
    }

    /// Lets time pass up to `to` and wakes everybody who waited for a moment until then, by moment and then by node.
    /// Tasks are not polled; see [`Executor::run_ready`].
    pub fn advance(&mut self, to: SimTime) {
        let mut due = Vec::new();
        {
            let mut state = self.shared.lock();
            state.now = state.now.max(to);
            let now = state.now;
            for node in state.nodes.values_mut() {
                let local = node.clock.read(now);
                while let Some(entry) = node.sleepers.first_entry()
                    && entry.key().0 <= local
                {
                    due.push(entry.remove());
                }
            }
        }
        due.into_iter().for_each(Waker::wake);
    }

    /// Takes the panics of tasks since the last call: the node and what it said.
    pub fn take_panics(&mut self) -> Vec<(NodeId, String)> {
        std::mem::take(&mut self.shared.lock().panics)
    }

    /// How many polls there were: two runs that are the same have the same number.
    pub fn polls(&self) -> u64 {
        self.shared.lock().polls
    }

    /// How many tasks there are, of one node or of all.
    pub fn tasks(&self, node: Option<NodeId>) -> usize {
        let state = self.shared.lock();
        state.tasks.values().filter(|slot| node.is_none_or(|node| node == slot.node)).count()
    }
}

/// Adds a task of a life of a node. A process that has died runs nothing: the future comes back, to be dropped outside
/// the lock.
pub(super) fn spawn(shared: &Arc<Shared>, node: NodeId, boot: u64, future: BoxedTask) -> Option<BoxedTask> {
    let mut state = shared.lock();
    if state.nodes.get(&node).is_none_or(|state| !state.running || state.boot != boot) {
        return Some(future);
    }
    let id = TaskId(state.name());
    let waker = Waker::from(Arc::new(TaskWaker { shared: Arc::clone(shared), id }));
    state.tasks.insert(id, TaskSlot { node, future: Some(future), waker, queued: false });
    state.enqueue(id);
    None
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        (None, None) => "a panic without text".to_owned(),
    }
}
