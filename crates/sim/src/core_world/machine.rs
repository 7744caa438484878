//! The replicated map of the simulated cluster.

use std::collections::BTreeMap;

use crate::lin::{KvModel, KvOp, KvRet, Model};
use crate::world::TraceHash;

use super::types::{KvCommand, LogId, Payload, SimEntry};

/// The sequential object that the map implements: used both to apply and, by the checker, to judge.
pub type MapModel = KvModel<u8, u64>;

/// A map and how far it has applied the log.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    values: BTreeMap<u8, u64>,
    applied: Option<LogId>,
    /// Changes with every change of the map, the same way everywhere.
    hash: u64,
}

impl Machine {
    /// The last entry that was applied.
    pub fn applied(&self) -> Option<LogId> {
        self.applied
    }

    /// A hash of the state.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The value of a key.
    pub fn get(&self, key: u8) -> Option<u64> {
        self.values.get(&key).copied()
    }

    /// Applies the next entry.
    pub fn apply(&mut self, entry: &SimEntry) -> KvRet<u64> {
        self.applied = Some(entry.log_id);
        match &entry.payload {
            Payload::Blank | Payload::Membership(_) => KvRet::Done,
            Payload::Command(_, op) => self.execute(op),
        }
    }

    fn execute(&mut self, op: &KvCommand) -> KvRet<u64> {
        let key = MapModel::key(op);
        let before = self.get(key);
        let answer = match op {
            KvOp::Put { .. } | KvOp::Delete { .. } => KvRet::Done,
            KvOp::Get { .. } => KvRet::Value(before),
            KvOp::CompareAndSet { expected, .. } if *expected == before => KvRet::Swapped,
            KvOp::CompareAndSet { .. } => KvRet::Mismatch(before),
        };
        let after = match op {
            KvOp::Put { value, .. } => Some(*value),
            KvOp::Delete { .. } => None,
            KvOp::Get { .. } => before,
            KvOp::CompareAndSet { new, .. } if answer == KvRet::Swapped => *new,
            KvOp::CompareAndSet { .. } => before,
        };
        match after {
            Some(value) => self.values.insert(key, value),
            None => self.values.remove(&key),
        };
        let mut hash = TraceHash::default();
        for word in [self.hash, u64::from(key), u64::from(after.is_some()), after.unwrap_or(0)] {
            hash.word(word);
        }
        self.hash = hash.value();
        answer
    }
}
