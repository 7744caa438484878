//! Clients: what they want, what they are waiting for, and the history of what they saw.

use crate::lin::{History, KvRet, Operation, Outcome, Stamp};
use crate::world::{NodeId, Rng};

use super::profile::Profile;
use super::types::{CommandId, KvCommand};

/// Everything that clients did and saw.
pub type ClientHistory = History<KvCommand, KvRet<u64>>;

/// What a client is waiting for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Which operation of this client: an answer to an older one is too late.
    pub number: u64,
    /// Its name in the log.
    pub id: CommandId,
    /// What was asked.
    pub op: KvCommand,
    /// When.
    pub invoked: Stamp,
    /// Of whom.
    pub node: NodeId,
}

/// A client: one operation at a time.
#[derive(Debug, Clone)]
pub struct Client {
    /// Its number.
    pub number: u64,
    /// What it is waiting for.
    pub waiting: Option<Waiting>,
    /// Operations so far.
    pub operations: u64,
    /// Where it would ask next.
    pub guess: NodeId,
    rng: Rng,
}

impl Client {
    /// A client that starts by asking node 1.
    pub fn new(number: u64, rng: Rng) -> Self {
        Self { number, waiting: None, operations: 0, guess: 1, rng }
    }

    /// What it does next. Values are never repeated, so that a read tells which write it saw.
    pub fn choose(&mut self, profile: &Profile, invoked: Stamp) -> Waiting {
        self.operations += 1;
        let id = CommandId(self.number << 32 | self.operations);
        let key = self.rng.below(profile.keys) as u8;
        let op = match self.rng.below(20) {
            0..=8 => KvCommand::Put { key, value: id.0 },
            9..=16 => KvCommand::Get { key },
            17 => KvCommand::Delete { key },
            // Expecting absence succeeds often enough; expecting a value would need one that was just read.
            18 => KvCommand::CompareAndSet { key, expected: None, new: Some(id.0) },
            _ => KvCommand::CompareAndSet { key, expected: Some(id.0.saturating_sub(1)), new: Some(id.0) },
        };
        let waiting = Waiting { number: self.operations, id, op, invoked, node: self.guess };
        self.waiting = Some(waiting.clone());
        waiting
    }

    /// Whether it still waits for this operation.
    pub fn waits_for(&self, number: u64) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| waiting.number == number)
    }

    /// Asks somebody else next time: the one it was pointed to, or anybody.
    pub fn redirect(&mut self, to: Option<NodeId>, servers: u64) {
        self.guess = match to {
            Some(node) => node,
            None => self.rng.between(1, servers),
        };
    }

    /// How long it thinks before the next operation.
    pub fn think(&mut self, profile: &Profile) -> core::time::Duration {
        self.rng.duration(profile.think.0, profile.think.1)
    }

    /// Whether it gives up early this time.
    pub fn impatient(&mut self) -> bool {
        self.rng.one_in(50)
    }

    /// Ends the operation with an answer.
    pub fn answered(&mut self, history: &mut ClientHistory, at: Stamp, ret: KvRet<u64>) {
        self.finish(history, Outcome::Returned { at, ret });
    }

    /// Ends the operation without knowing whether it took effect.
    pub fn unknown(&mut self, history: &mut ClientHistory) {
        self.finish(history, Outcome::Unknown);
    }

    /// Ends an operation that surely took no effect: it leaves no trace in the history.
    pub fn refused(&mut self) {
        self.waiting = None;
    }

    fn finish(&mut self, history: &mut ClientHistory, outcome: Outcome<KvRet<u64>>) {
        if let Some(waiting) = self.waiting.take() {
            history.push(Operation { client: self.number, invoked: waiting.invoked, op: waiting.op, outcome });
        }
    }
}
