//! What clients and servers say to each other on the client lane, version 1.
//!
//! ```text
//! request   version u8 | op u8 | wait u32, milliseconds, little endian | payload
//! answer    version u8 | 0 | payload          or        version u8 | 1 | a RequestError, postcard
//! ```
//!
//! | op | | payload | answer |
//! |---|---|---|---|
//! | 1 | write | a log entry's bytes (`envelope.rs`) | what applying it came to (`envelope.rs`) |
//! | 2 | linearizable read | a query, postcard | an answer, postcard |
//! | 3 | stale read | a query, postcard | an answer, postcard |
//! | 4 | membership | none | [`Members`], postcard |
//! | 5 | status | none | [`NodeStatus`], postcard |
//! | 6 | administration | [`AdminRequest`], postcard | index of the change in the log, or 0, postcard |

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::{Buf, Bytes};
use raftwright_net::Body;
use raftwright_traits::{Outcome, UnknownReason};
use serde::{Deserialize, Serialize};

use crate::state_machine::decode_exactly;

/// The version of requests and answers.
const VERSION: u8 = 1;

const DONE: u8 = 0;
const FAILED: u8 = 1;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Write,
    Read,
    StaleRead,
    Members,
    Status,
    Admin,
}

impl Op {
    const fn code(self) -> u8 {
        match self {
            Op::Write => 1,
            Op::Read => 2,
            Op::StaleRead => 3,
            Op::Members => 4,
            Op::Status => 5,
            Op::Admin => 6,
        }
    }

    /// Whether it can change anything.
    pub(crate) const fn changes(self) -> bool {
        match self {
            Op::Write | Op::Admin => true,
            Op::Read | Op::StaleRead | Op::Members | Op::Status => false,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Op::Write,
            2 => Op::Read,
            3 => Op::StaleRead,
            4 => Op::Members,
            5 => Op::Status,
            6 => Op::Admin,
            _ => return None,
        })
    }
}

/// A request of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) op: Op,
    /// How long the client will wait. The server gives up then too.
    pub(crate) wait: Duration,
    pub(crate) payload: Bytes,
}

impl Request {
    /// The body of its frame. A long payload is referred to, not copied.
    pub(crate) fn encode(&self) -> Body {
        let mut body = Body::with_capacity(64);
        body.put_u8(VERSION);
        body.put_u8(self.op.code());
        body.put_u32(u32::try_from(self.wait.as_millis()).unwrap_or(u32::MAX));
        body.put_bytes(self.payload.clone());
        body
    }

    /// Reads a request; the payload is a slice of `bytes`.
    pub(crate) fn decode(mut bytes: Bytes) -> Result<Self, RequestError> {
        let malformed = |what: &str| RequestError::Malformed(what.to_owned());
        let short = |_| malformed("the request is too short");
        let version = bytes.try_get_u8().map_err(short)?;
        if version != VERSION {
            return Err(RequestError::Malformed(format!("request version {version}; this server speaks {VERSION}")));
        }
        let op = Op::from_code(bytes.try_get_u8().map_err(short)?).ok_or_else(|| malformed("an unknown operation"))?;
        let wait = Duration::from_millis(bytes.try_get_u32_le().map_err(short)?.into());
        Ok(Self { op, wait, payload: bytes })
    }
}

/// A server that leads, or is believed to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leader {
    /// Its id.
    pub id: u64,
    /// Where peers and clients reach it: `host:port`.
    pub addr: String,
}

/// Why a server did not do what it was asked. [`outcome`](RequestError::outcome) says whether it may have been done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum RequestError {
    /// Ask the leader. *Surely not applied.*
    #[error("this server does not lead; {}", match .leader {
        Some(leader) => format!("ask server {} at {}", leader.id, leader.addr),
        None => "it knows no leader, try again soon".to_owned(),
    })]
    NotLeader {
        /// Which server to ask, if this one knows.
        leader: Option<Leader>,
    },
    /// A bound is reached. *Surely not applied.*
    #[error("too much is under way; try again later")]
    Busy,
    /// Another leader's entry took its place. *Surely not applied.*
    #[error("a new leader has replaced the entry; ask again")]
    Superseded,
    /// A read that no quorum confirmed.
    #[error("no quorum confirmed the leadership; try again")]
    NotConfirmed,
    /// Another membership change or hand-over is under way, or the leader is too new. *Surely not applied.*
    #[error("another change of the cluster is under way, or its leader has just been elected; try again soon")]
    InProgress,
    /// The request is not one that this server can obey, now or later. *Surely not applied.*
    #[error("refused: {0}")]
    Refused(String),
    /// The bytes are no request, no command or no query of this state machine. *Surely not applied.*
    #[error("malformed: {0}")]
    Malformed(String),
    /// *Unknown.*
    #[error("whether it was applied is unknown: {0}")]
    Unknown(UnknownReason),
    /// The server is stopping or has failed. *Unknown.*
    #[error("{0}")]
    Stopped(String),
    /// The session has expired; this delivery was not applied, an earlier one of the same command may have been.
    #[error("the session has expired")]
    SessionExpired,
    /// Applied; but the answer cannot be encoded or decoded, so what it is stays unknown.
    #[error("applied, but the answer cannot be read: {0}")]
    Unreadable(String),
    /// The leader's disk is full. *Surely not applied.*
    #[error("the leader's disk is full: free space on it, or hand the leadership over")]
    DiskFull,
}

impl RequestError {
    /// Whether what was asked for may have been done.
    pub fn outcome(&self) -> Outcome {
        match self {
            RequestError::NotLeader { .. }
            | RequestError::Busy
            | RequestError::DiskFull
            | RequestError::Superseded
            | RequestError::NotConfirmed
            | RequestError::InProgress
            | RequestError::Refused(_)
            | RequestError::Malformed(_) => Outcome::NotApplied,
            RequestError::Unknown(_)
            | RequestError::Stopped(_)
            | RequestError::SessionExpired
            | RequestError::Unreadable(_) => Outcome::Unknown,
        }
    }
}

/// The bytes of an answer.
pub(crate) fn encode_answer(answer: Result<Bytes, RequestError>) -> Bytes {
    let with_head = |status, rest: &[u8]| Bytes::from([&[VERSION, status], rest].concat());
    match answer {
        Ok(payload) => with_head(DONE, &payload),
        // Strings and numbers can always be encoded; were it otherwise, the client would see an answer cut off.
        Err(error) => with_head(FAILED, &postcard::to_allocvec(&error).unwrap_or_default()),
    }
}

/// Reads an answer. The outer error says that the bytes are none.
pub(crate) fn decode_answer(mut bytes: Bytes) -> Result<Result<Bytes, RequestError>, String> {
    let cut_off = |_| "the answer is cut off".to_owned();
    let version = bytes.try_get_u8().map_err(cut_off)?;
    if version != VERSION {
        return Err(format!("the answer has version {version}, this client reads {VERSION}"));
    }
    match bytes.try_get_u8().map_err(cut_off)? {
        DONE => Ok(Ok(bytes)),
        FAILED => decode_exactly(&bytes).map(Err).map_err(|e| format!("the answer cannot be read: {e}")),
        status => Err(format!("the answer has the unknown status {status}")),
    }
}

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: u64,
    /// Where peers and clients reach it: `host:port`.
    pub addr: String,
    /// Whether it votes; otherwise it is a learner.
    pub voter: bool,
    /// The incarnation of its data directory, once a leader has met it.
    pub incarnation: Option<u64>,
}

/// The cluster, as a server sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// Index of the log entry that carries this membership; `None` if the server has none.
    pub log_index: Option<u64>,
    /// Who leads, as far as the server knows.
    pub leader: Option<u64>,
    /// All members, by id.
    pub members: Vec<Member>,
}

/// Where a server stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The server.
    pub id: u64,
    /// Its cluster, once it belongs to one.
    pub cluster_id: Option<u128>,
    /// The incarnation of its data directory.
    pub incarnation: u64,
    /// How many times that directory was opened.
    pub boot_epoch: u64,
    /// `Leader`, `Follower`, `Learner` and so on.
    pub state: String,
    /// Its current term.
    pub term: u64,
    /// Who leads, as far as it knows.
    pub leader: Option<Leader>,
    /// Index of its last log entry.
    pub last_log_index: Option<u64>,
    /// Its commit index.
    pub committed_index: Option<u64>,
    /// Index of the last entry that it has applied.
    pub applied_index: Option<u64>,
    /// Index of the last entry in its newest snapshot.
    pub snapshot_index: Option<u64>,
    /// Why it has stopped, if it has.
    pub failure: Option<String>,
}

/// A change of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AdminRequest {
    /// Add a server that gets the log and does not vote.
    AddLearner {
        /// Its id.
        id: u64,
        /// Where peers reach it: `host:port`.
        addr: String,
    },
    /// Make these the voters; each is a member already.
    ChangeMembership {
        /// Their ids.
        voters: BTreeSet<u64>,
        /// Whether removed voters stay as learners.
        retain: bool,
    },
    /// Remove learners.
    RemoveLearners {
        /// Their ids.
        ids: BTreeSet<u64>,
    },
    /// Hand the leadership over.
    TransferLeader {
        /// The voter that shall lead.
        to: u64,
    },
    /// Make voters of these members, beside those that vote when it is done.
    AddVoters {
        /// Their ids.
        ids: BTreeSet<u64>,
    },
    /// Take the vote from these voters, and from nobody else.
    RemoveVoters {
        /// Their ids.
        ids: BTreeSet<u64>,
        /// Whether they stay as learners.
        retain: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn requests_come_back_as_they_went() {
        for op in [Op::Write, Op::Read, Op::StaleRead, Op::Members, Op::Status, Op::Admin] {
            let request = Request { op, wait: Duration::from_millis(1500), payload: Bytes::from(vec![7; 5000]) };
            assert_eq!(Request::decode(request.encode().into_bytes()), Ok(request));
        }
    }

    #[test]
    fn answers_come_back_as_they_went() {
        let leader = Some(Leader { id: 3, addr: "host:1".into() });
        let cases = [
            Ok(Bytes::from_static(b"x")),
            Err(RequestError::NotLeader { leader }),
            Err(RequestError::Unknown(UnknownReason::Deadline)),
            Err(RequestError::Stopped("disk".into())),
        ];
        for case in cases {
            assert_eq!(decode_answer(encode_answer(case.clone())), Ok(case));
        }
    }

    /// Clients and servers of different releases talk to each other: numbers and fields must never change.
    #[test]
    fn golden_bytes() {
        let request = Request { op: Op::Read, wait: Duration::from_millis(0x0102), payload: Bytes::from_static(b"q") };
        assert_eq!(request.encode().into_bytes(), &[1, 2, 2, 1, 0, 0, b'q'][..]);
        let leader = Some(Leader { id: 300, addr: "h:1".into() });
        let errors: [(RequestError, &[u8]); 13] = [
            (RequestError::NotLeader { leader: None }, &[0, 0]),
            (RequestError::NotLeader { leader }, &[0, 1, 0xac, 2, 3, b'h', b':', b'1']),
            (RequestError::Busy, &[1]),
            (RequestError::Superseded, &[2]),
            (RequestError::NotConfirmed, &[3]),
            (RequestError::InProgress, &[4]),
            (RequestError::Refused("r".into()), &[5, 1, b'r']),
            (RequestError::Malformed("m".into()), &[6, 1, b'm']),
            (RequestError::Unknown(UnknownReason::LeadershipLost), &[7, 1]),
            (RequestError::Stopped("s".into()), &[8, 1, b's']),
            (RequestError::SessionExpired, &[9]),
            (RequestError::Unreadable("u".into()), &[10, 1, b'u']),
            (RequestError::DiskFull, &[11]),
        ];
        for (error, golden) in errors {
            assert_eq!(encode_answer(Err(error)), [&[1, 1], golden].concat());
        }
        let admin = [
            (AdminRequest::AddLearner { id: 4, addr: "h:1".into() }, vec![0, 4, 3, b'h', b':', b'1']),
            (AdminRequest::ChangeMembership { voters: [1, 2].into(), retain: true }, vec![1, 2, 1, 2, 1]),
            (AdminRequest::RemoveLearners { ids: [4].into() }, vec![2, 1, 4]),
            (AdminRequest::TransferLeader { to: 2 }, vec![3, 2]),
            (AdminRequest::AddVoters { ids: [4].into() }, vec![4, 1, 4]),
            (AdminRequest::RemoveVoters { ids: [1, 2].into(), retain: true }, vec![5, 2, 1, 2, 1]),
        ];
        for (request, golden) in admin {
            assert_eq!(crate::encode(&request).unwrap(), golden);
        }
    }

    #[test]
    fn another_version_is_named_in_the_refusal() {
        let error = Request::decode(Bytes::from_static(&[9, 1, 0, 0, 0, 0])).unwrap_err();
        assert!(error.to_string().contains("version 9"), "{error}");
        assert!(decode_answer(Bytes::from_static(&[9, 0])).unwrap_err().contains("version 9"));
    }

    proptest! {
        #[test]
        fn random_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Request::decode(bytes.clone().into());
            let _ = decode_answer(bytes.into());
        }
    }
}
