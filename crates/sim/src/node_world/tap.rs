//! What nodes do, in the order in which they do it, for the checkers.
//!
//! Stores, state machines and the network report here while tasks are polled; the world takes the reports up between two
//! polls of the cluster and shows them to the checkers one by one. So a checker sees each act with everything as it was
//! at that moment, although it judges later.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use raftwright_core::{Incarnation, Write, WriteId};

use crate::checkers::Fact;
use crate::core_world::store::Found;
use crate::core_world::types::{LogId, Membership, SimTypes};
use crate::world::NodeId;

/// Something that a node did.
#[derive(Debug)]
pub enum Act {
    /// Its process starts, and has found this in its log.
    Opened {
        /// Of its disk.
        incarnation: Incarnation,
        /// What is in the log.
        found: Found,
    },
    /// It has submitted a write to its log.
    Submitted(WriteId, Write<SimTypes>),
    /// Its log says that a write, and so every one before it, is durable.
    Flushed(WriteId),
    /// Its state machine has applied an entry.
    Applied {
        /// The entry.
        log_id: LogId,
        /// The hash of the log up to the entry, as the state machine has seen it.
        chain: u64,
        /// The hash of all answers up to the entry.
        state: u64,
    },
    /// It has a snapshot of its own on its disk.
    Kept {
        /// The last entry that is in it.
        log_id: LogId,
        /// The hash of the log up to the entry, and of all answers.
        hashes: (u64, u64),
    },
    /// Its state machine has become what a snapshot says.
    Installed {
        /// The last entry that is in it.
        log_id: LogId,
        /// The last membership at or before it.
        membership: Option<(LogId, Arc<Membership>)>,
        /// The hash of the log up to the entry, and of all answers.
        hashes: (u64, u64),
    },
    /// The hash of its state machine's whole content after an entry.
    Fingerprint {
        /// The index of the entry.
        index: u64,
        /// The hash.
        hash: u64,
    },
    /// Anything else, told as the checkers want it.
    Did(Fact),
}

/// An act, and whose.
#[derive(Debug)]
pub struct Report {
    /// The node.
    pub node: NodeId,
    /// Which life of its process.
    pub boot: u64,
    /// What.
    pub act: Act,
}

/// Where acts are reported.
#[derive(Debug, Clone, Default)]
pub struct Tap {
    reports: Arc<Mutex<Vec<Report>>>,
    /// By index: the hash of the log, and of all answers, up to it.
    hashes: Arc<Mutex<BTreeMap<u64, (u64, u64)>>>,
}

impl Tap {
    /// Reports an act.
    pub fn report(&self, node: NodeId, boot: u64, act: Act) {
        if let Act::Applied { log_id, chain, state } = &act {
            let mut hashes = self.hashes.lock().unwrap_or_else(PoisonError::into_inner);
            hashes.entry(log_id.index).or_insert((*chain, *state));
        }
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).push(Report { node, boot, act });
    }

    /// The hashes after an index, as the first state machine that applied it had them: what one that gets a snapshot of it goes on
    /// with.
    pub fn hashes(&self, index: u64) -> Option<(u64, u64)> {
        self.hashes.lock().unwrap_or_else(PoisonError::into_inner).get(&index).copied()
    }

    /// Takes everything that was reported since the last call, in order. `empty` is what is left in its place.
    pub fn take(&self, empty: Vec<Report>) -> Vec<Report> {
        std::mem::replace(&mut self.reports.lock().unwrap_or_else(PoisonError::into_inner), empty)
    }
}

/// Reports in the name of one life of one node.
#[derive(Debug, Clone)]
pub struct Reporter {
    /// The node.
    pub node: NodeId,
    /// Which life of its process.
    pub boot: u64,
    /// Where to.
    pub tap: Tap,
}

impl Reporter {
    /// Reports an act.
    pub fn report(&self, act: Act) {
        self.tap.report(self.node, self.boot, act);
    }
}
