//! Clients of whole nodes: what they want, what they are waiting for, and what they saw.

use std::sync::{Arc, Mutex, PoisonError};

use raftwright_core::ReadPolicy;
use raftwright_node::Raft;
use raftwright_traits::{AsyncRuntime, ClientWriteError, LinearizableReadError, RaftError};

use super::drive::{Drive, Due};
use super::kv::{KvApp, KvMachine, Order};
use super::tap::{Act, Reporter};
use crate::checkers::Fact;
use crate::core_world::types::KvCommand;
use crate::lin::{History, KvOp, KvRet, Operation, Outcome, Stamp};
use crate::world::{Fault, NodeId, Rng};

/// Everything that clients did and saw.
pub(super) type ClientHistory = History<KvCommand, KvRet<u64>>;

/// The key that no client of the history uses.
const BURST_KEY: u8 = 255;

/// What became of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Answer(KvRet<u64>),
    /// Surely nothing; somebody else may lead.
    Elsewhere(Option<NodeId>),
    Busy,
    Unknown,
}

/// Where attempts say how they ended.
#[derive(Debug, Clone, Default)]
pub(super) struct Answers(Arc<Mutex<Vec<(usize, u64, Told)>>>);

/// Says how an attempt ended, also if its task was dropped with the process that it ran in.
struct Attempt {
    answers: Answers,
    client: usize,
    number: u64,
    told: Option<Told>,
}

impl Attempt {
    fn end(mut self, told: Told) {
        self.told = Some(told);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let told = self.told.take().unwrap_or(Told::Unknown);
        let mut answers = self.answers.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.push((self.client, self.number, told));
    }
}

/// What a client is waiting for.
#[derive(Debug, Clone)]
struct Waiting {
    number: u64,
    op: KvCommand,
    /// Read at the leader instead of through the log.
    by_read_index: bool,
    invoked: Stamp,
    /// An earlier attempt may have taken effect.
    uncertain: bool,
    /// Attempts that have not ended.
    open: u64,
}

/// A client: one operation at a time, sent again until it is answered or too late.
#[derive(Debug)]
pub(super) struct Client {
    number: u64,
    waiting: Option<Waiting>,
    operations: u64,
    guess: NodeId,
    former: NodeId,
    rng: Rng,
}

impl Client {
    pub(super) fn new(number: u64, rng: Rng) -> Self {
        Self { number, waiting: None, operations: 0, guess: 1, former: 1, rng }
    }

    fn choose(&mut self, keys: u64) -> KvCommand {
        let value = self.number << 32 | self.operations;
        let key = self.rng.below(keys) as u8;
        match self.rng.below(20) {
            0..=8 => KvOp::Put { key, value },
            9..=16 => KvOp::Get { key },
            17 => KvOp::Delete { key },
            18 => KvOp::CompareAndSet { key, expected: None, new: Some(value) },
            _ => KvOp::CompareAndSet { key, expected: Some(value.saturating_sub(1)), new: Some(value) },
        }
    }
}

impl Drive {
    pub(super) fn start_clients(&mut self) {
        for client in 0..self.clients.len() {
            self.think(client);
        }
    }

    fn think(&mut self, client: usize) {
        let (low, high) = self.profile.think;
        let after = self.clients[client].rng.duration(low, high);
        self.later(after, Due::Begin(client));
    }

    pub(super) fn begin_operation(&mut self, client: usize) {
        if !self.clients_active || self.begun >= self.omit.operations_after {
            return;
        }
        self.begun += 1;
        self.stamp += 1;
        let (invoked, keys, deadline) = (self.stamp, self.profile.keys, self.profile.client_deadline);
        let mine = &mut self.clients[client];
        mine.operations += 1;
        let op = mine.choose(keys);
        let by_read_index = matches!(op, KvOp::Get { .. }) && !mine.rng.one_in(3);
        let number = mine.operations;
        mine.waiting = Some(Waiting { number, op, by_read_index, invoked, uncertain: false, open: 0 });
        // One in fifty is impatient.
        let deadline = if mine.rng.one_in(50) { deadline / 20 } else { deadline };
        let doubled = mine.rng.one_in(30);
        let (guess, former) = (mine.guess, mine.former);
        let at = if by_read_index && mine.rng.one_in(10) { former } else { guess };
        self.later(deadline, Due::GiveUp(client, number));
        if at != guess {
            self.world.faults.hit(Fault::ReadAtFormerLeader);
        }
        self.attempt(client, at);
        if doubled && !by_read_index {
            let other = self.clients[client].rng.between(1, self.profile.voters);
            self.world.faults.hit(Fault::DoubledCommand);
            self.attempt(client, other);
        }
    }

    pub(super) fn ask_again(&mut self, client: usize, number: u64) {
        let mine = &self.clients[client];
        if mine.waiting.as_ref().is_some_and(|waiting| waiting.number == number && waiting.open == 0) {
            let at = mine.guess;
            self.attempt(client, at);
        }
    }

    fn attempt(&mut self, client: usize, node: NodeId) {
        let committed = self.world.judge().ledger().last_index();
        let mine = &mut self.clients[client];
        let Some(waiting) = mine.waiting.as_mut() else { return };
        waiting.open += 1;
        let number = waiting.number;
        let attempt = Attempt { answers: self.answers.clone(), client, number, told: None };
        let Some(running) = self.world.running(node) else {
            return attempt.end(Told::Elsewhere(None));
        };
        let raft = running.raft.clone();
        if let (true, KvOp::Get { key }) = (waiting.by_read_index, &waiting.op) {
            let boot = self.world.nodes.get(&node).map_or(0, |node| node.boot);
            let reporter = Reporter { node, boot, tap: self.world.tap().clone() };
            let (probe, key) = (running.probe.clone(), *key);
            running.runtime.spawn(async move {
                attempt.end(read(raft, probe, key, reporter, committed).await);
            });
        } else {
            let order = Order { client: mine.number, number, op: waiting.op.clone() };
            running.runtime.spawn(async move {
                attempt.end(write(raft, order).await);
            });
        }
    }

    /// Takes up how attempts have ended.
    pub(super) fn hear_answers(&mut self) {
        let answers = std::mem::take(&mut *self.answers.0.lock().unwrap_or_else(PoisonError::into_inner));
        for (client, number, told) in answers {
            self.hear(client, number, told);
        }
    }

    fn hear(&mut self, client: usize, number: u64, told: Told) {
        let servers = self.profile.voters + self.profile.spares;
        let Some(mine) = self.clients.get_mut(client) else {
            // One of a burst: nobody waits for it.
            if told == Told::Busy {
                self.world.faults.hit(Fault::Refused);
            }
            return;
        };
        let Some(waiting) = mine.waiting.as_mut().filter(|waiting| waiting.number == number) else { return };
        waiting.open = waiting.open.saturating_sub(1);
        match told {
            Told::Answer(ret) => {
                let Some(waiting) = mine.waiting.take() else { return };
                self.stamp += 1;
                self.answered += 1;
                let outcome = Outcome::Returned { at: self.stamp, ret };
                let operation = Operation { client: mine.number, invoked: waiting.invoked, op: waiting.op, outcome };
                self.history.push(operation);
                return self.think(client);
            }
            Told::Elsewhere(leader) => {
                let next = leader.unwrap_or_else(|| mine.rng.between(1, servers));
                if next != mine.guess {
                    mine.former = std::mem::replace(&mut mine.guess, next);
                }
            }
            Told::Busy => self.world.faults.hit(Fault::Refused),
            Told::Unknown => {
                waiting.uncertain = true;
                mine.guess = mine.rng.between(1, servers);
                if !waiting.by_read_index {
                    self.world.faults.hit(Fault::ClientRetry);
                }
            }
        }
        let pause = self.clients[client]
            .rng
            .duration(core::time::Duration::from_millis(5), core::time::Duration::from_millis(60));
        self.later(pause, Due::Again(client, number));
    }

    pub(super) fn give_up(&mut self, client: usize, number: u64) {
        let Some(mine) = self.clients.get_mut(client) else { return };
        if mine.waiting.as_ref().is_none_or(|waiting| waiting.number != number) {
            return;
        }
        let Some(waiting) = mine.waiting.take() else { return };
        // What surely took no effect leaves no trace in the history.
        if waiting.uncertain || waiting.open > 0 {
            self.world.faults.hit(Fault::ClientTimeout);
            let operation =
                Operation { client: mine.number, invoked: waiting.invoked, op: waiting.op, outcome: Outcome::Unknown };
            self.history.push(operation);
        }
        self.think(client);
    }

    /// What is not answered at the end may have taken effect.
    pub(super) fn close_history(&mut self) {
        for mine in &mut self.clients {
            let Some(waiting) = mine.waiting.take() else { continue };
            let operation =
                Operation { client: mine.number, invoked: waiting.invoked, op: waiting.op, outcome: Outcome::Unknown };
            self.history.push(operation);
        }
    }

    /// More writes at once than a queue holds, by clients that ask once and that no history knows.
    pub(super) fn burst(&mut self, node: NodeId, count: u64) {
        let Some(running) = self.world.running(node) else { return };
        let raft = running.raft.clone();
        for number in 0..count {
            let client = 1 << 40 | self.begun << 16 | number;
            let order = Order { client, number: 1, op: KvOp::Put { key: BURST_KEY, value: number } };
            let (raft, answers) = (raft.clone(), self.answers.clone());
            running.runtime.spawn(async move {
                let told = write(raft, order).await;
                drop(Attempt { answers, client: usize::MAX, number: 0, told: Some(told) });
            });
        }
        self.begun += 1;
    }
}

async fn write(raft: Raft<KvApp>, order: Order) -> Told {
    match raft.client_write(order).await {
        Ok(response) => Told::Answer(response.data),
        Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => Told::Elsewhere(forward.leader_id),
        Err(RaftError::APIError(ClientWriteError::Busy | ClientWriteError::DiskFull)) => Told::Busy,
        Err(RaftError::APIError(ClientWriteError::Unknown(_))) => Told::Unknown,
        // Each says that the command is surely not applied.
        Err(
            RaftError::APIError(
                ClientWriteError::Superseded | ClientWriteError::Expired | ClientWriteError::LeaderChanged,
            )
            | RaftError::Fatal(_),
        ) => Told::Elsewhere(None),
    }
}

async fn read(raft: Raft<KvApp>, probe: KvMachine, key: u8, reporter: Reporter, committed_at_call: u64) -> Told {
    match raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
        Ok(log_id) => {
            let read_log_id = log_id.unwrap_or_default();
            reporter.report(Act::Did(Fact::ReadAnswered { committed_at_call, read_log_id }));
            Told::Answer(KvRet::Value(probe.state().get(key)))
        }
        Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => Told::Elsewhere(forward.leader_id),
        Err(RaftError::APIError(LinearizableReadError::Busy)) => Told::Busy,
        Err(RaftError::APIError(LinearizableReadError::NotConfirmed) | RaftError::Fatal(_)) => Told::Elsewhere(None),
    }
}
