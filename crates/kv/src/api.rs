//! What goes over HTTP, as both sides see it.

use std::fmt::{Display, Formatter};

use serde::{Deserialize, Serialize};

/// What an error means for whoever asked. It decides the status of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The request makes no sense; asking again changes nothing.
    BadRequest,
    /// The key, the value or the body is too long.
    TooLarge,
    /// There is no such path or key.
    NotFound,
    /// The path is there, the method is not.
    MethodNotAllowed,
    /// The key is not as the request wants it. Surely not applied.
    Conflict,
    /// Surely not applied, now or later. Asking again is safe, and may succeed.
    NotApplied,
    /// It may have been applied, or may be later. Asking again may do it twice.
    Unknown,
    /// A read found nobody to answer it. Asking again is safe, and may succeed.
    Unavailable,
    /// This server is broken, or an answer makes no sense. Its log says more.
    Internal,
}

impl ErrorKind {
    /// The status that goes with it.
    pub fn status(self) -> u16 {
        match self {
            ErrorKind::BadRequest => 400,
            ErrorKind::TooLarge => 413,
            ErrorKind::NotFound => 404,
            ErrorKind::MethodNotAllowed => 405,
            ErrorKind::Conflict => 412,
            ErrorKind::NotApplied | ErrorKind::Unavailable => 503,
            ErrorKind::Unknown => 504,
            ErrorKind::Internal => 500,
        }
    }
}

/// A server that leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderInfo {
    /// Its id.
    pub id: u64,
    /// The address at which its peers reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addr: Option<String>,
}

/// The body of every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What happened, and what to do about it.
    pub error: String,
    /// What it means.
    pub kind: ErrorKind,
    /// The leader, as far as the answering server knows.
    pub leader: Option<LeaderInfo>,
    /// With `conflict`: the revision that was found, or null when the key does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<Option<u64>>,
}

/// Where the answering server stands, as it last told its observers: it may be further by now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Its term.
    pub term: u64,
    /// Index of the last log entry that it has applied.
    pub applied: u64,
    /// The leader, as far as it knows.
    pub leader: Option<LeaderInfo>,
}

/// The answer to a write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteAnswer {
    /// The key.
    pub key: String,
    /// The revision of this write.
    pub revision: u64,
    /// The revision at which the key was written before, if it existed.
    pub previous: Option<u64>,
    /// Where the answering server stands.
    #[serde(flatten)]
    pub position: Position,
}

/// A pair. Exactly one of `value` and `value_base64` is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// The key.
    pub key: String,
    /// The value, if it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The value, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_base64: Option<String>,
    /// The revision of the write that set it.
    pub revision: u64,
}

/// The answer to a read of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadAnswer {
    /// The pair.
    #[serde(flatten)]
    pub pair: Pair,
    /// Where the answering server stands.
    #[serde(flatten)]
    pub position: Position,
}

/// The answer to a scan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanAnswer {
    /// The pairs, in the order of their keys.
    pub pairs: Vec<Pair>,
    /// Whether there are more: ask again with `after` set to the last key.
    pub more: bool,
    /// Where the answering server stands.
    #[serde(flatten)]
    pub position: Position,
}

/// The answer to a change of the membership.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeAnswer {
    /// Index of the change in the log.
    pub log_index: u64,
    /// Where the answering server stands.
    #[serde(flatten)]
    pub position: Position,
}

/// The answer to `POST /snapshot`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotAnswer {
    /// Index of the last log entry in the snapshot.
    pub snapshot: u64,
    /// Where the answering server stands.
    #[serde(flatten)]
    pub position: Position,
}

/// The body of `PUT /kv/{key}` when its content type is JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PutBody {
    /// The value.
    pub value: String,
}

/// The body of `POST /write`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WriteBody {
    /// Sets a key.
    #[serde(rename_all = "snake_case")]
    Set {
        /// The key.
        key: String,
        /// Its new value.
        value: String,
    },
    /// Removes a key.
    Delete {
        /// The key.
        key: String,
    },
}

/// The body of `POST /member`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddBody {
    /// Id of the new server.
    pub id: u64,
    /// The address at which its peers reach it.
    pub addr: String,
}

/// The body of `PUT /member/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoveBody {
    /// The address at which its peers reach the member from now on.
    pub addr: String,
}

/// What a server does in its cluster at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It gets the log and does not vote.
    Learner,
    /// It follows a leader, or waits for one.
    Follower,
    /// It asks whether it would be elected.
    PreCandidate,
    /// It asks for votes.
    Candidate,
    /// It leads.
    Leader,
}

impl Display for Role {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Role::Learner => "learner",
            Role::Follower => "follower",
            Role::PreCandidate => "pre-candidate",
            Role::Candidate => "candidate",
            Role::Leader => "leader",
        })
    }
}

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: u64,
    /// The address at which its peers reach it.
    pub addr: String,
    /// Whether it votes.
    pub voter: bool,
    /// On the leader: index of the last log entry that the member is known to hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matched: Option<u64>,
}

/// A member, and what it said when it was asked how it is: an element of the answer to `GET /status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Its id.
    pub id: u64,
    /// The address at which its peers reach it.
    pub addr: String,
    /// Whether it votes, as far as the asking server knows.
    pub voter: bool,
    /// What it said; `None` if it did not answer.
    pub progress: Option<Progress>,
    /// Why it did not answer, or why it has stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How far a server is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What it does at the moment.
    pub role: Role,
    /// Its term.
    pub term: u64,
    /// Index of the last entry in its log.
    pub last_log: u64,
    /// Index of the last entry that it knows to be committed.
    pub committed: u64,
    /// Index of the last entry that it has applied.
    pub applied: u64,
    /// Index of the last entry in its newest snapshot; 0 if it has none.
    #[serde(default)]
    pub snapshot: u64,
}

/// What a server knows of itself and of its cluster: the answer to `GET /state`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeState {
    /// Its id.
    pub id: u64,
    /// Version of the program.
    pub version: String,
    /// The cluster, once it belongs to one.
    pub cluster_id: Option<String>,
    /// Minted with its data directory.
    pub incarnation: Option<String>,
    /// The address at which its peers reach it.
    pub peer_addr: String,
    /// What it does at the moment.
    pub role: Role,
    /// Its term.
    pub term: u64,
    /// The leader, as far as it knows.
    pub leader: Option<LeaderInfo>,
    /// Index of the last entry in its log.
    pub last_log: u64,
    /// Index of the last entry that it knows to be committed.
    pub committed: u64,
    /// Index of the last entry that it has applied.
    pub applied: u64,
    /// Index of the last entry in its newest snapshot; 0 if it has none.
    #[serde(default)]
    pub snapshot: u64,
    /// Index of the last entry that it has dropped behind a snapshot.
    pub purged: u64,
    /// Whether a change of the voters is under way.
    pub joint: bool,
    /// The members, by their ids.
    pub members: Vec<Member>,
    /// Why the server has stopped, if it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
}

impl NodeState {
    /// Whether it can serve: it knows a leader, and has applied what it knows to be committed.
    pub fn is_ready(&self) -> bool {
        self.stopped.is_none() && self.leader.is_some() && self.applied >= self.committed
    }
}
