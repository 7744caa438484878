//! Errors: small enums, one a kind of call. Each says whether what was asked is *surely not applied* or *unknown*.

use std::fmt::{Display, Formatter};

use raftwright_core::{LogIndex, MembershipError};

use crate::{AnyError, ConfigError, RaftTypeConfig};

/// What a failed call may have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Surely nothing, now or later. Asking again is safe.
    NotApplied,
    /// It may have been applied, or may be later. Asking again may do it twice.
    Unknown,
}

/// What went wrong in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum StorageErrorKind {
    /// Reading failed.
    Read,
    /// Writing or flushing failed. The store takes no more writes.
    Write,
    /// Stored bytes are not what was written.
    Corrupt,
    /// Something that should be there is missing.
    Missing,
    /// There is no space left.
    NoSpace,
    /// The store dropped a write's token without completing it.
    TokenDropped,
    /// The state machine cannot go on.
    StateMachine,
}

/// A store failed. It stops the node, unless the call says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[error("{message}")]
pub struct StorageError {
    /// What went wrong.
    pub kind: StorageErrorKind,
    /// What and where, and what to do about it.
    pub message: String,
    /// The error behind it, if one was given; with the feature `bt` also where it was made.
    pub source: Option<Box<AnyError>>,
}

impl StorageError {
    /// An error of that kind.
    pub fn new(kind: StorageErrorKind, message: impl Into<String>) -> Self {
        let message = message.into();
        let source = cfg!(feature = "bt").then(|| Box::new(AnyError::error(&message)));
        Self { kind, message, source }
    }

    /// An error of that kind, made of the one behind it. Says what that one says.
    pub fn from_error<E: std::error::Error + 'static>(kind: StorageErrorKind, error: &E) -> Self {
        Self { kind, message: error.to_string(), source: Some(Box::new(AnyError::new(error))) }
    }

    /// An entry that should be in the log is not.
    pub fn missing_entry(index: LogIndex) -> Self {
        Self::new(StorageErrorKind::Missing, format!("log entry {index} is missing"))
    }
}

/// A call to a peer got no answer. It may or may not have reached the peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub enum RPCError {
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The peer cannot be reached; retry later rather than soon.
    #[error("cannot reach the peer: {0}")]
    Unreachable(String),
    /// The connection broke.
    #[error("connection lost: {0}")]
    Network(String),
    /// The peer refuses to talk to this server: a wrong cluster, node, incarnation or version.
    #[error("the peer refuses: {0}")]
    Refused(String),
}

/// The node has stopped and answers no more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub enum Fatal {
    /// It was shut down.
    #[error("the node is shut down")]
    Stopped,
    /// A store failed.
    #[error("the node stopped: {0}")]
    Storage(#[from] StorageError),
    /// A task of it panicked.
    #[error("the node stopped: a task ended unexpectedly: {0}")]
    Panicked(String),
    /// It could not start.
    #[error("the node cannot start: {0}")]
    Start(String),
}

/// An error of a call, or the end of the node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub enum RaftError<E> {
    /// The call failed.
    #[error(transparent)]
    APIError(E),
    /// The node had stopped before it took the call up. *Surely not applied.* A node that stops later says so by the call's
    /// own error, if it matters.
    #[error(transparent)]
    Fatal(#[from] Fatal),
}

impl<E> RaftError<E> {
    /// The call's error, if the node has not stopped.
    pub fn api_error(&self) -> Option<&E> {
        match self {
            RaftError::APIError(error) => Some(error),
            RaftError::Fatal(_) => None,
        }
    }

    /// Why the node has stopped, if it has.
    pub fn fatal(&self) -> Option<&Fatal> {
        match self {
            RaftError::APIError(_) => None,
            RaftError::Fatal(fatal) => Some(fatal),
        }
    }
}

/// An error that says what the failed call may have done.
pub trait HasOutcome {
    /// What the call may have done.
    fn outcome(&self) -> Outcome;
}

impl<E: HasOutcome> RaftError<E> {
    /// Whether what was asked is surely not applied.
    pub fn outcome(&self) -> Outcome {
        match self {
            RaftError::APIError(error) => error.outcome(),
            RaftError::Fatal(_) => Outcome::NotApplied,
        }
    }
}

/// Ask the leader instead.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(bound = "")]
pub struct ForwardToLeader<C: RaftTypeConfig> {
    /// The leader, as far as this server knows.
    pub leader_id: Option<C::NodeId>,
    /// What the membership stores about it.
    pub leader_node: Option<C::Node>,
}

impl<C: RaftTypeConfig> Display for ForwardToLeader<C> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match &self.leader_id {
            Some(id) => write!(f, "this server does not lead; ask server {id}"),
            None => f.write_str("this server does not lead, and knows no leader; try again soon"),
        }
    }
}

impl<C: RaftTypeConfig> std::error::Error for ForwardToLeader<C> {}

/// Why nobody can say whether a write was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub enum UnknownReason {
    /// The deadline passed.
    #[error("the deadline passed")]
    Deadline,
    /// The leadership was lost.
    #[error("the leadership was lost")]
    LeadershipLost,
    /// A snapshot took the place of the entry before its answer was known.
    #[error("a snapshot took the entry's place")]
    Snapshot,
    /// The node stopped.
    #[error("the node stopped")]
    Stopped,
}

/// Why a write was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[serde(bound = "")]
pub enum ClientWriteError<C: RaftTypeConfig> {
    /// Ask the leader. *Surely not applied.*
    #[error(transparent)]
    ForwardToLeader(ForwardToLeader<C>),
    /// A bound is reached. *Surely not applied.*
    #[error("too much is under way; try again later")]
    Busy,
    /// The leader's disk is full (see [`RaftLogStorage::space`](crate::RaftLogStorage::space)): it takes no entries until there
    /// is room. *Surely not applied.*
    #[error("the leader's disk is full: free space on it, or hand the leadership over")]
    DiskFull,
    /// Another leader's entry was committed in its place. *Surely not applied.*
    #[error("a new leader has replaced the entry; ask again")]
    Superseded,
    /// The deadline passed before the write was proposed. *Surely not applied.*
    #[error("the deadline passed before it was proposed")]
    Expired,
    /// This server leads, but not in the leadership that the caller expects: what the caller knows may be out of date.
    /// *Surely not applied.*
    #[error("the expected leadership has ended, and another has begun here")]
    LeaderChanged,
    /// *Unknown.*
    #[error("whether it was applied is unknown: {0}")]
    Unknown(UnknownReason),
}

impl<C: RaftTypeConfig> ClientWriteError<C> {
    /// Whether the write is surely not applied.
    pub fn outcome(&self) -> Outcome {
        match self {
            ClientWriteError::ForwardToLeader(_)
            | ClientWriteError::Busy
            | ClientWriteError::DiskFull
            | ClientWriteError::Superseded
            | ClientWriteError::Expired
            | ClientWriteError::LeaderChanged => Outcome::NotApplied,
            ClientWriteError::Unknown(_) => Outcome::Unknown,
        }
    }
}

impl<C: RaftTypeConfig> HasOutcome for ClientWriteError<C> {
    fn outcome(&self) -> Outcome {
        ClientWriteError::outcome(self)
    }
}

/// Why a linearizable read cannot be served here. Reads change nothing: asking again is always safe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[serde(bound = "")]
pub enum LinearizableReadError<C: RaftTypeConfig> {
    /// Ask the leader.
    #[error(transparent)]
    ForwardToLeader(ForwardToLeader<C>),
    /// A bound is reached.
    #[error("too much is under way; try again later")]
    Busy,
    /// The leadership was lost, or no quorum answered in time.
    #[error("no quorum confirmed the leadership; try again")]
    NotConfirmed,
}

/// Why a server was not initialized.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[serde(bound = "")]
pub enum InitializeError<C: RaftTypeConfig> {
    /// It has a log or a vote already. *Surely not applied.*
    #[error("this server belongs to a cluster already; it is never initialized again")]
    AlreadyInitialized,
    /// The membership does not name this server as a voter. *Surely not applied.*
    #[error("the first membership must name this server as a voter")]
    NotInMembership,
    /// The membership is not possible. *Surely not applied.*
    #[error("{0}")]
    Membership(MembershipError<C::NodeId>),
    /// A bound is reached. *Surely not applied.*
    #[error("too much is under way; try again later")]
    Busy,
    /// The node stopped before the first entry was known to be durable. *Unknown.*
    #[error("whether it is initialized is unknown: {0}")]
    Unknown(UnknownReason),
}

impl<C: RaftTypeConfig> HasOutcome for InitializeError<C> {
    fn outcome(&self) -> Outcome {
        match self {
            InitializeError::AlreadyInitialized
            | InitializeError::NotInMembership
            | InitializeError::Membership(_)
            | InitializeError::Busy => Outcome::NotApplied,
            InitializeError::Unknown(_) => Outcome::Unknown,
        }
    }
}

/// Why the membership was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[serde(bound = "")]
pub enum ChangeMembershipError<C: RaftTypeConfig> {
    /// Ask the leader. *Surely not applied.*
    #[error(transparent)]
    ForwardToLeader(ForwardToLeader<C>),
    /// Another change is under way, or the leader is too new. *Surely not applied.*
    #[error("another membership change is under way, or the leader has just been elected; try again soon")]
    InProgress,
    /// The membership is not possible. *Surely not applied.*
    #[error("{0}")]
    Membership(MembershipError<C::NodeId>),
    /// A server to be removed is a voter. *Surely not applied.*
    #[error("server {0} is a voter: take it out of the voters first")]
    IsVoter(C::NodeId),
    /// A server to be changed is no member, or one that should be a voter is none. *Surely not applied.*
    #[error("the change does not apply to server {0}: it is no member, or no voter")]
    NotApplicable(C::NodeId),
    /// What the change depends on is not so: somebody else was faster. *Surely not applied.*
    #[error("the membership, the leader or the log is not what the change depends on")]
    ConditionFailed,
    /// No change is under way, or it is committed already, or an earlier leader began it. *Surely not applied.*
    #[error("there is no change that could be cancelled")]
    NothingToCancel,
    /// Somebody has cancelled it, and the membership from before is committed. *Surely not applied.*
    #[error("the change was cancelled")]
    Cancelled,
    /// A bound is reached. *Surely not applied.*
    #[error("too much is under way; try again later")]
    Busy,
    /// *Unknown.*
    #[error("whether the membership changes is unknown: {0}")]
    Unknown(UnknownReason),
}

impl<C: RaftTypeConfig> ChangeMembershipError<C> {
    /// Whether the change is surely not applied.
    pub fn outcome(&self) -> Outcome {
        match self {
            ChangeMembershipError::ForwardToLeader(_)
            | ChangeMembershipError::InProgress
            | ChangeMembershipError::Membership(_)
            | ChangeMembershipError::IsVoter(_)
            | ChangeMembershipError::NotApplicable(_)
            | ChangeMembershipError::ConditionFailed
            | ChangeMembershipError::NothingToCancel
            | ChangeMembershipError::Cancelled
            | ChangeMembershipError::Busy => Outcome::NotApplied,
            ChangeMembershipError::Unknown(_) => Outcome::Unknown,
        }
    }
}

impl<C: RaftTypeConfig> HasOutcome for ChangeMembershipError<C> {
    fn outcome(&self) -> Outcome {
        ChangeMembershipError::outcome(self)
    }
}

/// Why the leadership is not handed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[serde(bound = "")]
pub enum TransferLeaderError<C: RaftTypeConfig> {
    /// Ask the leader.
    #[error(transparent)]
    ForwardToLeader(ForwardToLeader<C>),
    /// The target is no voter, or leads already.
    #[error("server {0} cannot take over: it is no voter, or leads already")]
    NotApplicable(C::NodeId),
    /// A hand-over is under way.
    #[error("the leadership is being handed over already")]
    InProgress,
    /// The target did not take over in time; this server leads on.
    #[error("the target did not take over in time")]
    Deadline,
}

/// Why the settings of a running node were not changed. Nothing is changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub enum ReloadError {
    /// This setting is fixed while the node runs.
    #[error("{setting} cannot change while the node runs: restart it with the new value")]
    Fixed {
        /// The setting.
        setting: String,
    },
    /// The settings cannot work.
    #[error(transparent)]
    Invalid(#[from] ConfigError),
    /// A bound is reached; try again later.
    #[error("too much is under way; try again later")]
    Busy,
}
