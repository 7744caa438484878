//! What clients and servers say to each other: JSON in the frames of the transport's lane for clients.

use std::collections::BTreeSet;

use raftwright_traits::Outcome;
use serde::{Deserialize, Serialize};

/// What a client asks of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call {
    /// Make this server a cluster of itself.
    Init,
    /// Add a member that receives the log and has no vote.
    AddLearner {
        /// Its id.
        id: u64,
        /// Where it is reached.
        addr: String,
    },
    /// Change the voters to these, which must be members. Voters that are no longer leave the cluster.
    ChangeMembership(BTreeSet<u64>),
    /// Set a key.
    Set {
        /// The key.
        key: String,
        /// Its new value.
        value: String,
    },
    /// The value of a key, with all that was acknowledged before. Any server answers from its own database.
    Get(String),
    /// Where this server stands.
    Status,
}

/// What it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It is done.
    Done,
    /// The value that the key had before.
    Previous(Option<String>),
    /// The value of the key.
    Value(Option<String>),
    /// Where the server stands.
    Status {
        /// Its id.
        id: u64,
        /// Who leads, as far as it knows.
        leader: Option<u64>,
        /// The voters, as far as it knows.
        voters: BTreeSet<u64>,
        /// Index of the last entry in its newest snapshot.
        snapshot: Option<u64>,
        /// Index of the last entry that its log has given up.
        purged: Option<u64>,
    },
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// The server does not lead: ask the one at this address, if it is known. Surely not done.
    NotLeader(Option<String>),
    /// Not now: ask again. Surely not done.
    Later(String),
    /// Never. Surely not done.
    Refused(String),
    /// Whether it is done is unknown.
    Unknown(String),
}

impl Refusal {
    /// Whether it may have been done.
    pub fn outcome(&self) -> Outcome {
        match self {
            Refusal::NotLeader(_) | Refusal::Later(_) | Refusal::Refused(_) => Outcome::NotApplied,
            Refusal::Unknown(_) => Outcome::Unknown,
        }
    }
}
