//! What must be true of a cluster at every moment, one file a property, each with its source.
//!
//! A checker sees [`Fact`]s: what a node did, at the moment at which it did it. With each fact it sees everything else
//! ([`GodView`]): every disk, and the [`Ledger`] of what was ever committed. It judges the bytes on the simulated
//! disks, never what a node says about itself.

mod commit_quorum;
mod committed_immutable;
mod durable_promises;
mod election_safety;
mod leader_append_only;
mod leader_completeness;
mod lease_is_exclusive;
mod ledger;
mod log_matching;
mod membership_steps;
mod monotonic;
mod reads_see_commits;
mod snapshot_is_prefix;
mod state_machine_safety;

use core::fmt;
use std::collections::BTreeSet;

use raftwright_core::{Incarnation, Node, VoteKind};

pub use ledger::Ledger;

use crate::core_world::store::{LogView, SimStore};
use crate::core_world::types::{LogId, Membership, Vote};
use crate::world::NodeId;

/// Which life of which disk of which node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Who {
    /// The node.
    pub node: NodeId,
    /// Its disk.
    pub incarnation: Incarnation,
    /// How often its process was started on that disk.
    pub boot: u64,
}

/// Something that a node did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// Its process has started from its disk.
    Booted,
    /// It has become leader.
    BecameLeader {
        /// With this vote.
        vote: Vote,
    },
    /// It has submitted entries to its log.
    Appended {
        /// The first.
        first: u64,
        /// The last.
        last: u64,
        /// The vote under which it led before and after, if it did.
        leading: Option<Vote>,
    },
    /// It deletes entries from the end of its log; the log is as it was before.
    Truncating {
        /// The first index that goes.
        since: u64,
        /// The vote under which it led before and after, if it did.
        leading: Option<Vote>,
    },
    /// It deletes entries from the start of its log.
    Purging {
        /// The last to go.
        upto: LogId,
    },
    /// Its disk has finished a write.
    DiskChanged,
    /// It believes that everything up to here is committed.
    Committed {
        /// The last committed entry.
        upto: LogId,
    },
    /// It believes so, and has done whatever else it does in the same breath.
    CommitStands {
        /// The last committed entry.
        upto: LogId,
        /// The term in which it leads, or did before.
        leading: Option<u64>,
        /// The index of the membership that was in force when it began. Those that it appended since may have been.
        config_index: u64,
    },
    /// Its state machine has applied an entry.
    Applied {
        /// The entry.
        log_id: LogId,
        /// The hash of its log up to the entry.
        chain: u64,
        /// The hash of its state after the entry.
        state: u64,
    },
    /// It has a snapshot of its own on its disk.
    SnapshotKept {
        /// The last entry that is in it.
        log_id: LogId,
        /// The hash of the log up to that.
        chain: u64,
        /// The hash of the state in it.
        state: u64,
    },
    /// Its state machine has become what a snapshot of another says.
    Installed {
        /// The last entry that is in it.
        log_id: LogId,
        /// The hash of the log up to that.
        chain: u64,
        /// The hash of the state in it.
        state: u64,
    },
    /// It sends a request for votes.
    AskedForVote {
        /// The vote that it asks for.
        vote: Vote,
        /// What is asked.
        kind: VoteKind,
    },
    /// It grants a vote, by an answer that leaves now.
    Granted {
        /// The vote.
        vote: Vote,
        /// What was asked.
        kind: VoteKind,
    },
    /// It acknowledges entries, by an answer that leaves now.
    Acknowledged {
        /// The last entry that it says to hold.
        matched: LogId,
    },
    /// It answers a linearizable read.
    ReadAnswered {
        /// The last index that was committed anywhere when the read was asked.
        committed_at_call: u64,
        /// What its state machine will have applied when it reads.
        read_log_id: LogId,
    },
    /// It would answer a read by its lease at this moment.
    LeaseHeld {
        /// The vote under which it leads.
        vote: Vote,
    },
}

/// Everything there is to know.
#[derive(Debug, Clone, Copy)]
pub struct GodView<'a> {
    /// The disks of all nodes by id, also of those that are down.
    pub disks: &'a dyn Disks,
    /// What was ever committed.
    pub ledger: &'a Ledger,
}

/// The disks of all nodes.
pub trait Disks: fmt::Debug {
    /// One node's disk.
    fn disk(&self, node: NodeId) -> Option<&SimStore>;
    /// The incarnation of one node's disk.
    fn incarnation(&self, node: NodeId) -> Option<Incarnation>;
    /// The disk that a node had before its present one, as it was when it was emptied, with its incarnation.
    fn former(&self, node: NodeId) -> Option<(Incarnation, &LogView)>;
}

/// What is on the disk that a membership means by a member; also if that disk was emptied since. What once was on it
/// counts: it is the same as if the server had died with it.
pub(crate) fn meant_disk<'a>(disks: &'a dyn Disks, membership: &Membership, id: NodeId) -> Option<&'a LogView> {
    let meant = membership.node(&id).and_then(Node::incarnation);
    if meant.is_none() || meant == disks.incarnation(id) {
        return disks.disk(id).map(SimStore::durable);
    }
    disks.former(id).filter(|(incarnation, _)| Some(*incarnation) == meant).map(|(_, log)| log)
}

/// Whether these servers are a majority of every set of voters (Raft §6). Counted here and not by the membership itself:
/// what is to be judged must not be the judge.
pub(crate) fn is_quorum(membership: &Membership, holds: impl Fn(&NodeId) -> bool) -> bool {
    let majority = |voters: &BTreeSet<NodeId>| 2 * voters.iter().filter(|id| holds(id)).count() > voters.len();
    !membership.configs().is_empty() && membership.configs().iter().all(majority)
}

/// A property that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Which.
    pub property: &'static str,
    /// Where it comes from.
    pub source: &'static str,
    /// How.
    pub what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.property, self.source, self.what)
    }
}

/// A property.
pub trait Checker: fmt::Debug + Send {
    /// Its name.
    fn property(&self) -> &'static str;
    /// Where it comes from: paper, thesis, or the fault model's number.
    fn source(&self) -> &'static str;
    /// Takes notice of a fact.
    ///
    /// # Errors
    ///
    /// How the property was broken, in words.
    fn observe(&mut self, who: Who, fact: &Fact, view: &GodView<'_>) -> Result<(), String>;
}

/// All of them.
#[derive(Debug)]
pub struct Checkers {
    all: Vec<Box<dyn Checker>>,
}

impl Default for Checkers {
    fn default() -> Self {
        Self {
            all: vec![
                Box::<election_safety::ElectionSafety>::default(),
                Box::<leader_append_only::LeaderAppendOnly>::default(),
                Box::<log_matching::LogMatching>::default(),
                Box::<leader_completeness::LeaderCompleteness>::default(),
                Box::<state_machine_safety::StateMachineSafety>::default(),
                Box::<committed_immutable::CommittedImmutable>::default(),
                Box::<commit_quorum::CommitQuorum>::default(),
                Box::<durable_promises::DurablePromises>::default(),
                Box::<monotonic::Monotonic>::default(),
                Box::<membership_steps::MembershipSteps>::default(),
                Box::<snapshot_is_prefix::SnapshotIsPrefix>::default(),
                Box::<reads_see_commits::ReadsSeeCommits>::default(),
                Box::<lease_is_exclusive::LeaseIsExclusive>::default(),
            ],
        }
    }
}

impl Checkers {
    /// Shows a fact to every checker, in order.
    ///
    /// # Errors
    ///
    /// The first property that it breaks.
    pub fn observe(&mut self, who: Who, fact: &Fact, view: &GodView<'_>) -> Result<(), Broken> {
        for checker in &mut self.all {
            checker.observe(who, fact, view).map_err(|what| Broken {
                property: checker.property(),
                source: checker.source(),
                what,
            })?;
        }
        Ok(())
    }

    /// Every property with its source.
    pub fn properties(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.all.iter().map(|checker| (checker.property(), checker.source()))
    }
}
