//! What servers say to each other. Every message names its sender with its incarnation, so that votes and
//! acknowledgements count only for the server that the membership means.

use alloc::vec::Vec;

use crate::{Identity, LogIdOf, ReadPolicy, Round, StoredMembership, Types, VoteOf};

/// What a request for votes asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum VoteKind {
    /// Would you vote for me? Changes nothing on either side (Thesis §9.6).
    PreVote,
    /// Vote for me (Raft §5.2).
    Vote,
    /// Vote for me although your leader lives: it has asked me to take over (Thesis §3.10).
    Transfer,
}

/// RequestVote (Raft, Figure 2).
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(bound = ""))]
pub struct VoteRequest<T: Types> {
    /// The candidate.
    pub from: Identity<T::NodeId>,
    /// The vote that is asked for: the candidate's term and id, not committed.
    pub vote: VoteOf<T>,
    /// The candidate's last log id: the voter refuses if its own log is more up-to-date (Raft §5.4.1).
    pub last_log_id: Option<LogIdOf<T>>,
    /// What is asked.
    pub kind: VoteKind,
    /// The vote of the leader that has asked the candidate to take over, if the kind is [`VoteKind::Transfer`]. It frees
    /// the voter from its promise to that leader, and to no later one.
    #[cfg_attr(feature = "serde", serde(default))]
    pub permit: Option<VoteOf<T>>,
}

/// The answer to a [`VoteRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(bound = ""))]
pub struct VoteResponse<T: Types> {
    /// The voter.
    pub from: Identity<T::NodeId>,
    /// What was asked for.
    pub kind: VoteKind,
    /// The vote that was asked for.
    pub asked: VoteOf<T>,
    /// Whether the voter grants it. Nothing else counts as a grant.
    pub granted: bool,
    /// The voter's own vote, so that a candidate of an older term learns of a newer one.
    pub vote: Option<VoteOf<T>>,
}

/// AppendEntries (Raft, Figure 2): entries to store after `prev_log_id`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(bound(serialize = "T::Entry: serde::Serialize", deserialize = "T::Entry: serde::de::DeserializeOwned"))
)]
pub struct AppendEntriesRequest<T: Types> {
    /// The leader.
    pub from: Identity<T::NodeId>,
    /// The leader's vote, committed.
    pub vote: VoteOf<T>,
    /// The entry before the first of `entries`; `None` if they start the log.
    pub prev_log_id: Option<LogIdOf<T>>,
    /// Contiguous entries; may be empty.
    pub entries: Vec<T::Entry>,
    /// The leader's commit index, with its leader id.
    pub committed: Option<LogIdOf<T>>,
}

/// The answer to an [`AppendEntriesRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(bound = ""))]
pub struct AppendEntriesResponse<T: Types> {
    /// The follower.
    pub from: Identity<T::NodeId>,
    /// What became of the entries.
    pub outcome: AppendOutcome<T>,
}

/// What became of the entries of an [`AppendEntriesRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(bound = ""))]
pub enum AppendOutcome<T: Types> {
    /// The follower's log equals the leader's up to here, durably.
    Success {
        /// The last log id of the request (its `prev_log_id` if it had no entries).
        matched: Option<LogIdOf<T>>,
    },
    /// The follower has no entry with the request's `prev_log_id` (Raft §5.3).
    Conflict {
        /// The `prev_log_id` of the request.
        prev: LogIdOf<T>,
        /// Where to look next: the last entry that the follower has before the conflicting term, or its last one if its
        /// log is too short; `None` if it has nothing. So each try skips a term, not an entry (Raft §5.3, end).
        hint: Option<LogIdOf<T>>,
    },
    /// The follower has promised itself to a newer leader or candidate.
    HigherVote(VoteOf<T>),
    /// The follower did not look at the request; it can be repeated.
    Refused(PeerRefusal),
}

/// Why a server does not look at a peer's request. Nothing has changed; repeating it later is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum PeerRefusal {
    /// More is under way than its bounds allow: its disk is behind.
    Busy,
    /// The request contradicts itself or what is committed.
    Malformed,
}

/// A leader's sign of life. It carries no entries and is never behind any: it has a lane of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(bound = ""))]
pub struct HeartbeatRequest<T: Types> {
    /// The leader.
    pub from: Identity<T::NodeId>,
    /// The leader's vote, committed.
    pub vote: VoteOf<T>,
    /// The round that this heartbeat belongs to. Rounds are counted by the leader, never chosen by a caller.
    pub round: Round,
    /// The leader's commit index. The follower believes it only as far as it has verified its own log.
    pub committed: Option<LogIdOf<T>>,
}

/// The answer to a [`HeartbeatRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(bound = ""))]
pub struct HeartbeatResponse<T: Types> {
    /// The follower.
    pub from: Identity<T::NodeId>,
    /// The round of the request.
    pub round: Round,
    /// The vote of the request: an answer counts for that leadership alone.
    pub asked: VoteOf<T>,
    /// Whether the follower follows that leader.
    pub accepted: bool,
    /// The follower's own vote.
    pub vote: Option<VoteOf<T>>,
}

/// A leader asks a server to take over at once (Thesis §3.10).
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(bound = ""))]
pub struct TransferLeaderRequest<T: Types> {
    /// The leader that gives way.
    pub from: Identity<T::NodeId>,
    /// Its vote, committed.
    pub vote: VoteOf<T>,
    /// The server that shall lead.
    pub to: T::NodeId,
    /// The leader's last log id, which the target must have.
    pub last_log_id: Option<LogIdOf<T>>,
}

/// InstallSnapshot (Raft §7), less its content, which travels beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(bound = ""))]
pub struct InstallSnapshotRequest<T: Types> {
    /// The leader.
    pub from: Identity<T::NodeId>,
    /// The leader's vote, committed.
    pub vote: VoteOf<T>,
    /// The last entry that is in the snapshot (`lastIncludedIndex`, `lastIncludedTerm`).
    pub last_log_id: LogIdOf<T>,
    /// The last membership at or before it.
    pub last_membership: StoredMembership<T>,
}

/// The answer to an [`InstallSnapshotRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(bound = ""))]
pub struct InstallSnapshotResponse<T: Types> {
    /// The follower.
    pub from: Identity<T::NodeId>,
    /// What became of the snapshot.
    pub outcome: InstallOutcome<T>,
}

/// What became of a snapshot that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(bound = ""))]
pub enum InstallOutcome<T: Types> {
    /// The follower has everything up to the snapshot's last entry, durably: it was installed, or was not needed.
    Installed,
    /// The follower has promised itself to a newer leader or candidate.
    HigherVote(VoteOf<T>),
    /// The follower did not look at the snapshot; it can be sent again.
    Refused(PeerRefusal),
}

/// A server that does not lead asks the leader how far its state machine must be before it serves a read (Thesis §6.4).
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(bound = ""))]
pub struct ReadIndexRequest<T: Types> {
    /// The server that asks.
    pub from: Identity<T::NodeId>,
    /// What the leader must know before it answers.
    pub policy: ReadPolicy,
}

/// The answer to a [`ReadIndexRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(bound = ""))]
pub struct ReadIndexResponse<T: Types> {
    /// The server that was asked.
    pub from: Identity<T::NodeId>,
    /// Its answer.
    pub answer: ReadIndexAnswer<T>,
}

/// What a leader says to a server that wants to read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(bound = ""))]
pub enum ReadIndexAnswer<T: Types> {
    /// A state machine that has applied up to here may serve the read.
    Confirmed {
        /// The entry.
        read_log_id: LogIdOf<T>,
    },
    /// The server that was asked does not lead.
    NotLeader {
        /// Who does, as far as it knows.
        leader: Option<T::NodeId>,
    },
    /// A bound is reached.
    Busy,
    /// The leadership was lost before a quorum had confirmed it.
    NotConfirmed,
}

/// A message on a target's control lane. Votes never wait behind anything, the newest heartbeat replaces an unsent one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<T: Types> {
    /// A request for a vote or pre-vote.
    Vote(VoteRequest<T>),
    /// A heartbeat.
    Heartbeat(HeartbeatRequest<T>),
    /// Take over.
    TransferLeader(TransferLeaderRequest<T>),
}
