//! Runs scenario files on a cluster of whole nodes.

use core::fmt;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use raftwright_node::{ReadPolicy, ServerState};
use raftwright_traits::{
    AsyncRuntime, BasicNode, ChangeMembershipError, ClientWriteError, LinearizableReadError, LogIdOption, RaftError,
    Span, TransferLeaderError, UnknownReason,
};
use raftwright_wal::testing::Loss;

use super::damage::corrupt;
use super::settings::set_config;
use super::types::{App, Story as Application, set};
use super::world::NodeWorld;
use crate::lin::{Checker, History, KvModel, KvOp, KvRet, Operation as HistoryOperation, Outcome, Verdict};
use crate::scenario::ast::{LEADER_WAIT_MAX, OPERATION_DEADLINE_DEFAULT, UNTIL_DEFAULT};
use crate::scenario::{
    Command, Condition, ConfigSetting, DiskState, Ending, Expected, Failure, LeaderIs, Link, LinkChange, MemberKind,
    NodeRef, Number, Operation, OperationCall, ReadVia, RoleName, Scenario, Target,
};
use crate::world::{NodeId, SimTime};

/// Where and why a scenario failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoryError {
    /// The line.
    pub line: usize,
    /// What was not as the file says.
    pub what: String,
}

impl fmt::Display for StoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for StoryError {}

/// How an operation failed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Failed {
    Forward(Option<NodeId>),
    Unknown,
    Busy,
    Refused(String),
}

type Answer = Result<Option<String>, Failed>;
type Slot = Arc<Mutex<Option<Answer>>>;

/// An operation that was begun.
#[derive(Debug)]
struct Begun {
    slot: Slot,
    call: Operation,
    deadline: SimTime,
    node: NodeId,
    boot_of: Option<u64>,
    invoked: u64,
    answer: Option<Answer>,
}

/// The state of a run.
struct Story {
    world: NodeWorld<Application>,
    begun: BTreeMap<String, Begun>,
    history: History<KvOp<String, String>, KvRet<String>>,
    stamp: u64,
    mark: Option<(Option<NodeId>, u64)>,
    configured: bool,
}

/// Runs a scenario under its own seed, or under `seed` if one is given.
///
/// # Errors
///
/// The first line that is not as it says, or cannot be carried out.
pub fn run_story(scenario: &Scenario, seed: Option<u64>) -> Result<(), StoryError> {
    tell_story(scenario, seed).0
}

/// The same, and the world as it is at the end.
pub fn tell_story(scenario: &Scenario, seed: Option<u64>) -> (Result<(), StoryError>, NodeWorld<Application>) {
    /// The seed of a file that names none.
    const SEED_DEFAULT: u64 = 1;
    let seed = seed.or_else(|| scenario.seed()).unwrap_or(SEED_DEFAULT);
    let mut story = Story {
        world: NodeWorld::new(seed),
        begun: BTreeMap::new(),
        history: History::new(),
        stamp: 0,
        mark: None,
        configured: false,
    };
    for statement in &scenario.statements {
        if let Err(what) = story.command(&statement.command) {
            return (Err(StoryError { line: statement.line, what }), story.world);
        }
    }
    (Ok(()), story.world)
}

type Told<T> = Result<T, String>;

impl Story {
    fn command(&mut self, command: &Command) -> Told<()> {
        match command {
            Command::Seed(_) => Ok(()),
            Command::Config(settings) => self.configure(settings),
            Command::Cluster(ids) => self.cluster(ids),
            Command::Start(id) => self.start(*id),
            Command::Run(time) => self.pass(*time),
            Command::Until { condition, within } => self.until(condition, within.unwrap_or(UNTIL_DEFAULT)),
            Command::Partition(groups) => self.partition(groups),
            Command::Cut(link) => self.each_way(link, |world, from, to| world.network.cut(from, to)),
            Command::Heal(None) => {
                self.world.network.heal_all();
                Ok(())
            }
            Command::Heal(Some(link)) => self.each_way(link, |world, from, to| world.network.heal(from, to)),
            Command::LinkChange { link, change } => self.link_change(link, *change),
            Command::Crash(target) => self.bring_down(*target, None),
            Command::PowerLoss(target) => self.bring_down(*target, Some(Loss::Sectors)),
            Command::Restart(target) => self.restart(*target),
            Command::Wipe(node) => {
                let id = self.node(*node)?;
                if self.world.wipe(id) {
                    Ok(())
                } else {
                    Err(format!("node {id} runs; only a node that is down is wiped"))
                }
            }
            Command::Pause(target) => self.each_running(*target, |world, id| world.executor.pause_node(id)),
            Command::Resume(target) => self.each_running(*target, |world, id| world.executor.resume_node(id)),
            Command::Disk { node, state } => self.disk(*node, *state),
            Command::Corrupt { node, index } => {
                let id = self.node(*node)?;
                require(self.world.running(id).is_none(), || {
                    format!("node {id} runs; only a node that is down is damaged")
                })?;
                let disk = self.world.disk(id).ok_or_else(|| format!("node {id} has no disk"))?;
                corrupt(disk, *index).map_err(|why| format!("node {id}: {why}"))
            }
            Command::ClockRate { node, ppm } => {
                let (id, ppm) = (self.node(*node)?, *ppm);
                self.world.executor.change_clock(id, |clock, now| clock.set_rate(now, ppm));
                Ok(())
            }
            Command::ClockJump { node, ahead } => {
                let (id, ahead) = (self.node(*node)?, *ahead);
                self.world.executor.change_clock(id, |clock, now| clock.jump(now, ahead));
                Ok(())
            }
            Command::Do { call, ending } => {
                let begun = self.begin(call)?;
                self.finish(begun, *ending)
            }
            Command::Begin { name, call } => {
                let begun = self.begin(call)?;
                if self.begun.insert(name.clone(), begun).is_some() {
                    return Err(format!("an operation {name} was begun already"));
                }
                Ok(())
            }
            Command::End { name, expected } => self.end(name, *expected),
            Command::Elect(node) => self.elect(*node),
            Command::Mark => {
                self.mark = Some((self.world.leader(), self.term()));
                Ok(())
            }
            Command::Expect(condition) => self.check(condition),
        }
    }

    // ---- time ----

    fn pass(&mut self, time: Duration) -> Told<()> {
        let until = self.world.now().after(time);
        while self.world.step(until).map_err(|broken| broken.to_string())? {}
        Ok(())
    }

    /// Lets time pass until something is so. Answers whether it came to be.
    fn wait(&mut self, within: Duration, mut so: impl FnMut(&mut Self) -> bool) -> Told<bool> {
        let until = self.world.now().after(within);
        loop {
            if so(self) {
                return Ok(true);
            }
            if !self.world.step(until).map_err(|broken| broken.to_string())? {
                return Ok(so(self));
            }
        }
    }

    fn until(&mut self, condition: &Condition, within: Duration) -> Told<()> {
        if self.wait(within, |story| story.check(condition).is_ok())? {
            return Ok(());
        }
        let why = self.check(condition).err().unwrap_or_default();
        Err(format!("not within {} ms: {why}", within.as_millis()))
    }

    // ---- nodes ----

    fn node(&mut self, node: NodeRef) -> Told<NodeId> {
        match node {
            NodeRef::Id(id) if self.world.nodes.contains_key(&id) => Ok(id),
            NodeRef::Id(id) => Err(format!("there is no node {id}")),
            NodeRef::Leader => {
                self.wait(LEADER_WAIT_MAX, |story| story.world.leader().is_some())?;
                self.world.leader().ok_or_else(|| "there is no leader".to_owned())
            }
        }
    }

    fn cluster(&mut self, ids: &[NodeId]) -> Told<()> {
        for id in ids {
            self.start(*id)?;
        }
        let Some(first) = ids.first().and_then(|id| self.world.running(*id)) else {
            return Err("a cluster has at least one node".to_owned());
        };
        let (raft, slot) = (first.raft.clone(), Slot::default());
        let members: BTreeMap<NodeId, BasicNode> = ids.iter().map(|id| (*id, address(*id))).collect();
        let told = Arc::clone(&slot);
        first.runtime.spawn(async move {
            let answer =
                raft.initialize(members).await.map(|()| None).map_err(|error| Failed::Refused(error.to_string()));
            put(&told, answer);
        });
        self.wait(UNTIL_DEFAULT, |_| is_full(&slot))?;
        match take(&slot) {
            Some(Ok(_)) => {
                self.until(&Condition::Leader(LeaderIs::Known), UNTIL_DEFAULT)?;
                // A story begins with a cluster that stands: everybody knows the members, and the leader's first entry.
                let formed = self.wait(UNTIL_DEFAULT, |story| story.is_formed(ids))?;
                require(formed, || "not all nodes have learned of the cluster".to_owned())
            }
            Some(Err(failed)) => Err(format!("the cluster is not initialized: {failed:?}")),
            None => Err("the cluster is not initialized in time".to_owned()),
        }
    }

    fn is_formed(&self, ids: &[NodeId]) -> bool {
        let Some(last) = self.world.leader().and_then(|leader| self.world.metrics(leader)?.last_log_id) else {
            return false;
        };
        ids.iter().all(|id| self.world.metrics(*id).is_some_and(|metrics| metrics.last_applied >= Some(last)))
    }

    fn start(&mut self, id: NodeId) -> Told<()> {
        self.configured = true;
        if self.world.nodes.contains_key(&id) {
            return Err(format!("there is a node {id} already; `restart` starts it again"));
        }
        self.world.start(id).map_err(|why| format!("node {id} does not start: {why}"))
    }

    fn configure(&mut self, settings: &[ConfigSetting]) -> Told<()> {
        if self.configured {
            return Err("`config` comes before the first node".to_owned());
        }
        for ConfigSetting { name, value } in settings {
            set_config(&mut self.world.config, name, value)?;
        }
        Ok(())
    }

    /// The running nodes that a target names.
    fn running(&mut self, target: Target) -> Told<Vec<NodeId>> {
        match target {
            Target::All => {
                Ok(self.world.nodes.keys().copied().filter(|id| self.world.running(*id).is_some()).collect())
            }
            Target::Node(node) => {
                let id = self.node(node)?;
                if self.world.running(id).is_some() { Ok(vec![id]) } else { Err(format!("node {id} is down")) }
            }
        }
    }

    fn each_running(&mut self, target: Target, act: impl Fn(&mut NodeWorld<Application>, NodeId)) -> Told<()> {
        for id in self.running(target)? {
            act(&mut self.world, id);
        }
        Ok(())
    }

    fn bring_down(&mut self, target: Target, loss: Option<Loss>) -> Told<()> {
        self.each_running(target, |world, id| {
            world.kill(id, loss);
        })
    }

    fn restart(&mut self, target: Target) -> Told<()> {
        let down: Vec<NodeId> = match target {
            Target::All => self.world.nodes.keys().copied().filter(|id| self.world.running(*id).is_none()).collect(),
            Target::Node(node) => {
                let id = self.node(node)?;
                // A node that has stopped itself is still a process; restarting it ends that first.
                self.world.kill(id, None);
                vec![id]
            }
        };
        for id in down {
            // A node that refuses to start is a node that has stopped; the file says whether it expects that.
            let _ = self.world.start(id);
        }
        Ok(())
    }

    fn disk(&mut self, node: NodeRef, state: DiskState) -> Told<()> {
        let id = self.node(node)?;
        let Some(found) = self.world.nodes.get_mut(&id) else { return Err(format!("there is no node {id}")) };
        found.hung = state == DiskState::Hang;
        let Some(disk) = self.world.disk(id) else { return Err(format!("there is no node {id}")) };
        match state {
            DiskState::Ok => disk.set_capacity(None),
            DiskState::Hang => {}
            DiskState::Fail => disk.fail_sync(0),
            DiskState::Full => disk.set_capacity(Some(0)),
        }
        Ok(())
    }

    // ---- network ----

    fn each_way(&mut self, link: &Link, act: impl Fn(&mut NodeWorld<Application>, NodeId, NodeId)) -> Told<()> {
        let (from, to) = (self.node(link.from)?, self.node(link.to)?);
        act(&mut self.world, from, to);
        if link.both {
            act(&mut self.world, to, from);
        }
        Ok(())
    }

    fn partition(&mut self, groups: &[Vec<NodeRef>]) -> Told<()> {
        let mut group_of: BTreeMap<NodeId, usize> = BTreeMap::new();
        for (number, group) in groups.iter().enumerate() {
            for node in group {
                let id = self.node(*node)?;
                if group_of.insert(id, number).is_some() {
                    return Err(format!("node {id} is in two groups"));
                }
            }
        }
        let last = groups.len().saturating_sub(1);
        let all: Vec<NodeId> = self.world.nodes.keys().copied().collect();
        for from in &all {
            for to in &all {
                if group_of.get(from).unwrap_or(&last) != group_of.get(to).unwrap_or(&last) {
                    self.world.network.cut(*from, *to);
                }
            }
        }
        Ok(())
    }

    fn link_change(&mut self, link: &Link, change: LinkChange) -> Told<()> {
        self.each_way(link, |world, from, to| {
            let profile = world.network.profile_mut(from, to);
            match change {
                LinkChange::Delay(delay) => (profile.delay_min, profile.delay_max) = (delay, delay),
                LinkChange::Loss(ppm) => profile.loss_ppm = ppm,
                LinkChange::Duplicate(ppm) => profile.duplicate_ppm = ppm,
                LinkChange::Reorder(on) => profile.reorder = on,
            }
        })
    }

    // ---- operations ----

    fn begin(&mut self, call: &OperationCall) -> Told<Begun> {
        let within = call.within.unwrap_or(OPERATION_DEADLINE_DEFAULT);
        let at = match &call.operation {
            Operation::Write { node, .. } | Operation::Read { node, .. } | Operation::Snapshot(node) => *node,
            Operation::Purge { node, .. } => *node,
            Operation::Transfer { from, .. } => *from,
            Operation::AddLearner { .. } | Operation::Members { .. } => NodeRef::Leader,
        };
        let node = self.node(at)?;
        let slot = Slot::default();
        self.submit(&call.operation, node, within, &slot)?;
        self.stamp += 1;
        let boot_of = self.world.running(node).map(|_| 0);
        Ok(Begun {
            slot,
            call: call.operation.clone(),
            deadline: self.world.now().after(within),
            node,
            boot_of,
            invoked: self.stamp,
            answer: None,
        })
    }

    fn submit(&mut self, operation: &Operation, node: NodeId, within: Duration, slot: &Slot) -> Told<()> {
        let to = match operation {
            Operation::Transfer { to, .. } => Some(self.node(*to)?),
            _ => None,
        };
        let Some(running) = self.world.running(node) else { return Err(format!("node {node} is down")) };
        let (raft, map, told) = (running.raft.clone(), running.probe.clone(), Arc::clone(slot));
        match operation.clone() {
            Operation::Write { key, value, .. } => {
                running.runtime.spawn(async move {
                    let answer = raft.client_write_with_deadline(set(&key, &value), Span::from(within)).await;
                    put(&told, answer.map(|response| response.data).map_err(write_failed));
                });
            }
            Operation::Read { key, via: via @ (ReadVia::ReadIndex | ReadVia::Lease), .. } => {
                let policy = if via == ReadVia::Lease { ReadPolicy::Lease } else { ReadPolicy::ReadIndex };
                running.runtime.spawn(async move {
                    // Only a leader answers: that a request is passed on is another way to read.
                    let read = async {
                        let read_log_id = raft.get_read_log_id(policy).await.map_err(read_failed)?;
                        let waited = raft.ensure_applied(read_log_id.index, Some(Span::from(within))).await;
                        waited.map_err(|error| Failed::Refused(error.to_string()))
                    };
                    put(&told, read.await.map(|()| map.state().values.get(&key).cloned()));
                });
            }
            Operation::Read { key, via: ReadVia::Follower, .. } => {
                running.runtime.spawn(async move {
                    let answer = raft.ensure_linearizable(ReadPolicy::ReadIndex).await;
                    put(&told, answer.map(|_| map.state().values.get(&key).cloned()).map_err(read_failed));
                });
            }
            Operation::Read { key, via: ReadVia::Stale, .. } => put(slot, Ok(map.state().values.get(&key).cloned())),
            Operation::Transfer { .. } => {
                let Some(to) = to else { return Err("nobody to hand over to".to_owned()) };
                running.runtime.spawn(async move {
                    put(&told, raft.transfer_leader(to).await.map(|()| None).map_err(transfer_failed));
                });
            }
            Operation::AddLearner { node, nowait } => {
                running.runtime.spawn(async move {
                    let answer = raft.add_learner(node, address(node), !nowait).await;
                    put(&told, answer.map(|_| None).map_err(change_failed));
                });
            }
            Operation::Members { voters, retain } => {
                running.runtime.spawn(async move {
                    let answer = raft.change_membership(voters.into_iter().collect(), retain).await;
                    put(&told, answer.map(|_| None).map_err(change_failed));
                });
            }
            Operation::Snapshot(_) => {
                running.runtime.spawn(async move {
                    let applied = raft.metrics().borrow().last_applied.index_or_zero();
                    let built = async {
                        raft.trigger().snapshot().await.map_err(|fatal| fatal.to_string())?;
                        let waiting = raft.wait(Some(within)).snapshot_at_least(applied, "a snapshot");
                        waiting.await.map(|_| None).map_err(|error| error.to_string())
                    };
                    put(&told, built.await.map_err(Failed::Refused));
                });
            }
            Operation::Purge { to: upto, .. } => {
                running.runtime.spawn(async move {
                    let answer = raft.trigger().purge_log(upto).await;
                    put(&told, answer.map(|()| None).map_err(|fatal| Failed::Refused(fatal.to_string())));
                });
            }
        }
        Ok(())
    }

    /// Waits for the end of an operation.
    fn await_end(&mut self, begun: &mut Begun) -> Told<Answer> {
        if let Some(answer) = &begun.answer {
            return Ok(answer.clone());
        }
        let left = begun.deadline.since(self.world.now());
        let (slot, node) = (Arc::clone(&begun.slot), begun.node);
        self.wait(left, |story| is_full(&slot) || story.world.running(node).is_none())?;
        let answer = take(&begun.slot).unwrap_or(Err(Failed::Unknown));
        begun.answer = Some(answer.clone());
        self.record(begun, &answer);
        Ok(answer)
    }

    /// Writes a client's operation into the history. What surely had no effect does not belong there.
    fn record(&mut self, begun: &Begun, answer: &Answer) {
        self.stamp += 1;
        let at = self.stamp;
        let (op, ret) = match &begun.call {
            Operation::Write { key, value, .. } => (KvOp::Put { key: key.clone(), value: value.clone() }, KvRet::Done),
            Operation::Read { key, via, .. } if *via != ReadVia::Stale => {
                (KvOp::Get { key: key.clone() }, KvRet::Value(answer.clone().ok().flatten()))
            }
            _ => return,
        };
        let outcome = match answer {
            Ok(_) => Outcome::Returned { at, ret },
            Err(Failed::Unknown) => Outcome::Unknown,
            Err(Failed::Forward(_) | Failed::Busy | Failed::Refused(_)) => return,
        };
        self.history.push(HistoryOperation { client: at, invoked: begun.invoked, op, outcome });
    }

    fn finish(&mut self, mut begun: Begun, ending: Ending) -> Told<()> {
        let answer = self.await_end(&mut begun)?;
        match (&answer, ending) {
            (Ok(found), Ending::Ok) => match &begun.call {
                Operation::Read { expected: Some(expected), key, .. } if expected != found => {
                    Err(format!("{key} is {}, not {}", shown(found), shown(expected)))
                }
                _ => Ok(()),
            },
            (Err(failed), Ending::Fails(failure)) if fits(failed, failure) => Ok(()),
            (Err(failed), Ending::Fails(failure)) => Err(format!("fails as {failed:?}, not as {failure:?}")),
            (Ok(_), Ending::Fails(_)) => Err("succeeds".to_owned()),
            (Err(failed), Ending::Ok) => Err(format!("fails: {failed:?}")),
        }
    }

    fn end(&mut self, name: &str, expected: Expected) -> Told<()> {
        let Some(begun) = self.begun.remove(name) else { return Err(format!("no operation {name} was begun")) };
        match expected {
            Expected::Ended(ending) => self.finish(begun, ending),
            Expected::Pending => {
                let over = is_full(&begun.slot) || self.world.now() >= begun.deadline;
                let lost = begun.boot_of.is_some() && self.world.running(begun.node).is_none();
                self.begun.insert(name.to_owned(), begun);
                if over || lost { Err(format!("operation {name} has ended")) } else { Ok(()) }
            }
        }
    }

    fn elect(&mut self, node: NodeRef) -> Told<()> {
        let id = self.node(node)?;
        let Some(running) = self.world.running(id) else { return Err(format!("node {id} is down")) };
        let raft = running.raft.clone();
        running.runtime.spawn(async move {
            // A node that has stopped cannot stand; `expect` will tell.
            let _ = raft.trigger().elect().await;
        });
        self.pass(Duration::ZERO)
    }

    // ---- conditions ----

    fn term(&self) -> u64 {
        let terms =
            self.world.nodes.keys().filter_map(|id| self.world.metrics(*id)).map(|metrics| metrics.current_term);
        terms.max().unwrap_or(0)
    }

    fn check(&mut self, condition: &Condition) -> Told<()> {
        match condition {
            Condition::Leader(LeaderIs::Known) => some_leader(self.world.leader()).map(drop),
            Condition::Leader(LeaderIs::OneOf(ids)) => {
                let leader = some_leader(self.world.leader())?;
                require(ids.contains(&leader), || format!("node {leader} leads"))
            }
            Condition::NoLeader => match self.world.leader() {
                None => Ok(()),
                Some(leader) => Err(format!("node {leader} leads")),
            },
            Condition::Role { node, role } => self.check_role(*node, *role),
            Condition::SameLeader => {
                let (leader, now) = (self.marked()?.0, self.world.leader());
                require(leader == now, || format!("the leader was {leader:?} and is {now:?}"))
            }
            Condition::SameTerm => {
                let (term, now) = (self.marked()?.1, self.term());
                require(term == now, || format!("the term was {term} and is {now}"))
            }
            Condition::Number { number, node, comparison, to } => {
                let value = self.number(*node, *number)?;
                require(comparison.holds(value, *to), || format!("{number} is {value}"))
            }
            Condition::Value { who, key, value } => {
                for id in self.running(*who)? {
                    let found = self.world.running(id).and_then(|node| node.probe.state().values.get(key).cloned());
                    require(found == *value, || format!("on node {id} {key} is {}", shown(&found)))?;
                }
                Ok(())
            }
            Condition::Voters { node, sets } => {
                let wanted: Vec<BTreeSet<NodeId>> = sets.iter().map(|set| set.iter().copied().collect()).collect();
                let metrics = self.metrics(*node)?;
                let membership = &metrics.membership_config.membership;
                require(membership.configs() == wanted, || format!("the membership is {membership}"))
            }
            Condition::Learners { node, ids } => {
                let wanted: BTreeSet<NodeId> = ids.iter().copied().collect();
                let metrics = self.metrics(*node)?;
                let membership = &metrics.membership_config.membership;
                let found: BTreeSet<NodeId> = membership.learner_ids().collect();
                require(found == wanted, || format!("the membership is {membership}"))
            }
            Condition::Member { id, kind } => {
                let leader = some_leader(self.world.leader())?;
                let metrics = self.metrics(NodeRef::Id(leader))?;
                let membership = &metrics.membership_config.membership;
                let found = match kind {
                    MemberKind::Voter => membership.configs().iter().all(|voters| voters.contains(id)),
                    MemberKind::Learner => membership.contains(id) && !membership.is_voter(id),
                };
                require(found, || format!("the membership is {membership}"))
            }
            Condition::Agree => self.check_agreement(),
            Condition::Linearizable => self.check_history(),
            Condition::Up(node) => self.metrics(*node).and_then(|metrics| match metrics.running_state {
                Ok(()) => Ok(()),
                Err(fatal) => Err(format!("it has stopped: {fatal}")),
            }),
            Condition::Stopped(node) => self.check_role(*node, RoleName::Stopped),
        }
    }

    fn marked(&self) -> Told<(Option<NodeId>, u64)> {
        self.mark.ok_or_else(|| "there was no `mark`".to_owned())
    }

    fn metrics(&mut self, node: NodeRef) -> Told<raftwright_node::RaftMetrics<App>> {
        let id = self.node(node)?;
        self.world.metrics(id).ok_or_else(|| format!("node {id} is down"))
    }

    fn check_role(&mut self, node: NodeRef, role: RoleName) -> Told<()> {
        let id = self.node(node)?;
        // A node that refused to start has stopped before it began.
        let refused = self.world.nodes.get(&id).and_then(|node| node.refused.clone());
        let found = match (self.world.metrics(id), refused) {
            (Some(metrics), _) if metrics.running_state.is_err() => RoleName::Stopped,
            (Some(metrics), _) => match metrics.state {
                ServerState::Learner => RoleName::Learner,
                ServerState::Follower => RoleName::Follower,
                ServerState::PreCandidate | ServerState::Candidate => RoleName::Candidate,
                ServerState::Leader => RoleName::Leader,
            },
            (None, Some(_)) => RoleName::Stopped,
            (None, None) => return Err(format!("node {id} is down")),
        };
        require(found == role, || format!("node {id} is {found}"))
    }

    fn number(&mut self, node: NodeRef, number: Number) -> Told<u64> {
        let metrics = self.metrics(node)?;
        Ok(match number {
            Number::Term => metrics.current_term,
            Number::Applied => metrics.last_applied.index_or_zero(),
            Number::Committed => metrics.committed.index_or_zero(),
            Number::LastLog => metrics.last_log_id.index_or_zero(),
            Number::Snapshot => metrics.snapshot.index_or_zero(),
            Number::Purged => metrics.purged.index_or_zero(),
        })
    }

    /// All running members have applied the same entries, as far as anybody has.
    fn check_agreement(&mut self) -> Told<()> {
        let leader = some_leader(self.world.leader())?;
        let metrics = self.metrics(NodeRef::Id(leader))?;
        let mut first: Option<(NodeId, u64, BTreeMap<String, String>)> = None;
        for id in metrics.membership_config.membership.nodes().keys() {
            let Some(running) = self.world.running(*id) else { continue };
            let state = running.probe.state();
            let here = (*id, state.applied.len() as u64, state.values.clone());
            match &first {
                None => first = Some(here),
                Some((other, applied, values)) => {
                    require((applied, values) == (&here.1, &here.2), || {
                        format!("node {other} has applied {applied} entries and node {id} {}", here.1)
                    })?;
                }
            }
        }
        Ok(())
    }

    fn check_history(&self) -> Told<()> {
        let mut history = self.history.clone();
        // What was begun and has not ended may take effect at any time.
        for begun in self.begun.values() {
            if let Operation::Write { key, value, .. } = &begun.call {
                let op = KvOp::Put { key: key.clone(), value: value.clone() };
                history.push(HistoryOperation { client: 0, invoked: begun.invoked, op, outcome: Outcome::Unknown });
            }
        }
        match Checker::default().check::<KvModel<String, String>>(&history).0 {
            Verdict::Linearizable => Ok(()),
            Verdict::NotLinearizable(violation) => Err(violation.explanation),
            Verdict::GaveUp { key } => Err(format!("the history of {key} is too hard to judge")),
        }
    }
}

fn put(slot: &Slot, answer: Answer) {
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
}

fn take(slot: &Slot) -> Option<Answer> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

fn is_full(slot: &Slot) -> bool {
    slot.lock().unwrap_or_else(PoisonError::into_inner).is_some()
}

fn address(id: NodeId) -> BasicNode {
    BasicNode::new(format!("n{id}"))
}

fn shown(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or("none")
}

fn some_leader(leader: Option<NodeId>) -> Told<NodeId> {
    leader.ok_or_else(|| "no leader is known to a majority".to_owned())
}

fn require(holds: bool, what: impl FnOnce() -> String) -> Told<()> {
    if holds { Ok(()) } else { Err(what()) }
}

fn fits(failed: &Failed, failure: Failure) -> bool {
    match failure {
        Failure::Any => true,
        Failure::Forward(None) => matches!(failed, Failed::Forward(_)),
        Failure::Forward(leader) => *failed == Failed::Forward(leader),
        Failure::Unknown => *failed == Failed::Unknown,
        Failure::Busy => *failed == Failed::Busy,
    }
}

fn write_failed(error: RaftError<ClientWriteError<App>>) -> Failed {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => Failed::Forward(forward.leader_id),
        RaftError::APIError(ClientWriteError::Busy) => Failed::Busy,
        RaftError::APIError(ClientWriteError::Unknown(_)) => Failed::Unknown,
        RaftError::APIError(
            error @ (ClientWriteError::DiskFull
            | ClientWriteError::Superseded
            | ClientWriteError::Expired
            | ClientWriteError::LeaderChanged),
        ) => Failed::Refused(error.to_string()),
        RaftError::Fatal(fatal) => Failed::Refused(fatal.to_string()),
    }
}

fn read_failed(error: RaftError<LinearizableReadError<App>>) -> Failed {
    match error {
        RaftError::APIError(LinearizableReadError::ForwardToLeader(forward)) => Failed::Forward(forward.leader_id),
        RaftError::APIError(LinearizableReadError::Busy) => Failed::Busy,
        RaftError::APIError(error @ LinearizableReadError::NotConfirmed) => Failed::Refused(error.to_string()),
        RaftError::Fatal(fatal) => Failed::Refused(fatal.to_string()),
    }
}

fn change_failed(error: RaftError<ChangeMembershipError<App>>) -> Failed {
    match error {
        RaftError::APIError(ChangeMembershipError::ForwardToLeader(forward)) => Failed::Forward(forward.leader_id),
        RaftError::APIError(ChangeMembershipError::Busy) => Failed::Busy,
        RaftError::APIError(ChangeMembershipError::Unknown(
            UnknownReason::Deadline | UnknownReason::LeadershipLost | UnknownReason::Snapshot | UnknownReason::Stopped,
        )) => Failed::Unknown,
        RaftError::APIError(
            error @ (ChangeMembershipError::InProgress
            | ChangeMembershipError::Membership(_)
            | ChangeMembershipError::IsVoter(_)
            | ChangeMembershipError::NotApplicable(_)
            | ChangeMembershipError::ConditionFailed
            | ChangeMembershipError::NothingToCancel
            | ChangeMembershipError::Cancelled),
        ) => Failed::Refused(error.to_string()),
        RaftError::Fatal(fatal) => Failed::Refused(fatal.to_string()),
    }
}

fn transfer_failed(error: RaftError<TransferLeaderError<App>>) -> Failed {
    match error {
        RaftError::APIError(TransferLeaderError::ForwardToLeader(forward)) => Failed::Forward(forward.leader_id),
        RaftError::APIError(error) => Failed::Refused(error.to_string()),
        RaftError::Fatal(fatal) => Failed::Refused(fatal.to_string()),
    }
}
