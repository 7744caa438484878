//! What a server is at the moment, and the data that it has only while it is that.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;

use crate::leader::Leading;
use crate::{StepDown, Time, Types, VoteKind, VoteOf};

/// A server's role (Raft §5.1), each with its own data. Stored in one place, changed by one function.
#[derive(Clone, Debug)]
pub(crate) enum Role<T: Types> {
    /// Receives the log and does not vote.
    Learner(Following<T>),
    /// Follows a leader, or waits for one.
    Follower(Following<T>),
    /// Asks whether it could win (Thesis §9.6).
    PreCandidate(Candidacy<T>),
    /// Asks for votes (Raft §5.2).
    Candidate(Candidacy<T>),
    /// Leads.
    Leader(Box<Leading<T>>),
}

/// The data of a follower or learner.
#[derive(Clone, Debug)]
pub(crate) struct Following<T: Types> {
    /// The leader, once it has shown itself.
    pub(crate) leader: Option<T::NodeId>,
    /// When to start an election. A learner never does.
    pub(crate) election_at: Time,
}

/// The data of a candidate or pre-candidate.
#[derive(Clone, Debug)]
pub(crate) struct Candidacy<T: Types> {
    /// The vote that is asked for.
    pub(crate) asked: VoteOf<T>,
    /// Who has granted it. This server is in here if it votes and, when votes are real, its own is durable.
    pub(crate) granted: BTreeSet<T::NodeId>,
    /// Whether our vote for ourselves is durable. Without it no quorum makes us leader.
    pub(crate) own_vote_durable: bool,
    /// When to try again.
    pub(crate) ends_at: Time,
}

/// What comes next, as the handlers say it. Only `Replica::transition` acts on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Next<T: Types> {
    /// The role stays.
    Stay,
    /// Follow that leader, or wait for one.
    Follow(Option<T::NodeId>),
    /// Ask for votes, or whether they would be given.
    Campaign(VoteKind),
    /// A quorum has granted the vote.
    Lead,
    /// Lead no more.
    StepDown(StepDown),
}

/// A server's role, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum ServerState {
    /// Receives the log and does not vote.
    #[default]
    Learner,
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks whether it could win an election.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

impl core::fmt::Display for ServerState {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            ServerState::Learner => "learner",
            ServerState::Follower => "follower",
            ServerState::PreCandidate => "pre-candidate",
            ServerState::Candidate => "candidate",
            ServerState::Leader => "leader",
        })
    }
}
