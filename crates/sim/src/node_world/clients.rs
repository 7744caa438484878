//! Clients of whole nodes: what they are waiting for, whom they ask, and what they saw.

use std::sync::{Arc, Mutex, PoisonError};

use raftwright_traits::AsyncRuntime;

use super::drive::{Drive, Due};
use super::tap::Reporter;
use super::workload::{Ask, NO_SESSION, Told, Workload};
use crate::lin::{Operation, Outcome, Stamp};
use crate::world::{Fault, NodeId, Rng};

/// Where attempts say how they ended.
#[derive(Debug)]
pub(super) struct Answers<R>(Arc<Mutex<Vec<Ended<R>>>>);

/// Of which client, which operation, and how.
type Ended<R> = (usize, u64, Told<R>);

impl<R> Clone for Answers<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<R> Default for Answers<R> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

/// Says how an attempt ended, also if its task was dropped with the process that it ran in.
struct Attempt<R> {
    answers: Answers<R>,
    client: usize,
    number: u64,
    told: Option<Told<R>>,
}

impl<R> Attempt<R> {
    fn end(mut self, told: Told<R>) {
        self.told = Some(told);
    }
}

impl<R> Drop for Attempt<R> {
    fn drop(&mut self) {
        let told = self.told.take().unwrap_or(Told::Unknown);
        let mut answers = self.answers.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.push((self.client, self.number, told));
    }
}

/// What a client is waiting for.
#[derive(Debug, Clone)]
struct Waiting<O> {
    number: u64,
    op: O,
    /// Read at the leader instead of through the log.
    by_read: bool,
    /// And by its lease, if it has one.
    by_lease: bool,
    invoked: Stamp,
    /// An earlier attempt may have taken effect.
    uncertain: bool,
    /// Attempts that have not ended.
    open: u64,
}

/// A client: one operation at a time, sent again until it is answered or too late.
#[derive(Debug)]
pub(super) struct Client<W: Workload> {
    number: u64,
    waiting: Option<Waiting<W::Op>>,
    operations: u64,
    guess: NodeId,
    former: NodeId,
    rng: Rng,
}

impl<W: Workload> Client<W> {
    pub(super) fn new(number: u64, rng: Rng) -> Self {
        Self { number, waiting: None, operations: 0, guess: 1, former: 1, rng }
    }
}

impl<W: Workload> Drive<W> {
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
        let (invoked, deadline) = (self.stamp, self.profile.client_deadline);
        let scripted = self.nemesis_is_scripted();
        let mine = &mut self.clients[client];
        mine.operations += 1;
        let number = mine.operations;
        let op = self.world.application().next(mine.number, number, &mut mine.rng);
        let by_read = W::is_read(&op) && !mine.rng.one_in(3);
        // A lease is only as good as the clocks.
        let by_lease = mine.rng.one_in(2) && self.profile.lease_reads;
        let text = scripted.then(|| format!("{op:?}"));
        mine.waiting = Some(Waiting { number, op, by_read, by_lease, invoked, uncertain: false, open: 0 });
        // One in fifty is impatient.
        let deadline = if mine.rng.one_in(50) { deadline / 20 } else { deadline };
        let doubled = mine.rng.one_in(30);
        let (guess, former) = (mine.guess, mine.former);
        let at = if by_read && mine.rng.one_in(10) { former } else { guess };
        if let Some(text) = text {
            let client = mine.number;
            self.tell(|| format!("# client {client} asks n{at}: {text}"));
        }
        self.later(deadline, Due::GiveUp(client, number));
        if at != guess {
            self.world.faults.hit(Fault::ReadAtFormerLeader);
        }
        self.attempt(client, at);
        if doubled && !by_read && W::REPEATABLE {
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
        let boot = self.world.nodes.get(&node).map_or(0, |node| node.boot);
        let reporter = Reporter { node, boot, tap: self.world.tap().clone() };
        let Waiting { by_read, by_lease, .. } = *waiting;
        let ask = Ask { client: mine.number, number, by_read, by_lease, committed_at_call: committed };
        let (raft, probe) = (running.raft.clone(), running.probe.clone());
        let work = self.world.application().attempt(ask, waiting.op.clone(), raft, probe, reporter);
        running.runtime.spawn(async move {
            attempt.end(work.await);
        });
    }

    /// Takes up how attempts have ended.
    pub(super) fn hear_answers(&mut self) {
        let answers = std::mem::take(&mut *self.answers.0.lock().unwrap_or_else(PoisonError::into_inner));
        for (client, number, told) in answers {
            self.hear(client, number, told);
        }
    }

    fn hear(&mut self, client: usize, number: u64, told: Told<W::Ret>) {
        let servers = self.profile.voters + self.profile.spares;
        let Some(mine) = self.clients.get_mut(client) else {
            // One of a burst: nobody waits for it.
            if matches!(told, Told::Busy) {
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
                if !W::REPEATABLE && !waiting.by_read {
                    // Asking again could do it twice.
                    return self.give_up(client, number);
                }
                if !waiting.by_read {
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
        let boot = self.world.nodes.get(&node).map_or(0, |node| node.boot);
        for number in 0..count {
            let client = NO_SESSION | self.begun << 16 | number;
            let ask = Ask { client, number: 1, by_read: false, by_lease: false, committed_at_call: 0 };
            let reporter = Reporter { node, boot, tap: self.world.tap().clone() };
            let (raft, probe) = (running.raft.clone(), running.probe.clone());
            let op = self.world.application().noise(number);
            let work = self.world.application().attempt(ask, op, raft, probe, reporter);
            let answers = self.answers.clone();
            running.runtime.spawn(async move {
                let told = work.await;
                drop(Attempt { answers, client: usize::MAX, number: 0, told: Some(told) });
            });
        }
        self.begun += 1;
    }
}
