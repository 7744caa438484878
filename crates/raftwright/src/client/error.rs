//! What a client's call can end with.

use raftwright_net::{CallError, FaultCode};
use raftwright_traits::{Outcome, UnknownReason};

use crate::protocol::RequestError;

/// Why a call of a client has no answer. [`outcome`](ClientError::outcome) says whether it may have been applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// No server answered in time.
    #[error("no answer until the deadline ({}); the last trouble was: {last}", outcome_text(.outcome))]
    Deadline {
        /// Whether it may have been applied.
        outcome: Outcome,
        /// What the last attempt met with.
        last: String,
    },
    /// The servers are overloaded, and asking again and again would make it worse. *Surely not applied.*
    #[error("given up after too many retries, surely not applied; the last trouble was: {last}")]
    RetriesExhausted {
        /// What the last attempt met with.
        last: String,
    },
    /// A server's final word.
    #[error(transparent)]
    Server(#[from] RequestError),
    /// An attempt may have been applied, and asking again cannot tell or would risk doing it twice. *Unknown.*
    #[error("whether it was applied is unknown; the last trouble was: {last}")]
    Unknown {
        /// What the last attempt met with.
        last: String,
    },
    /// The command or query cannot be encoded. *Surely not applied.*
    #[error("the command or query cannot be encoded: {0}")]
    Unencodable(String),
    /// The client was given no server to ask. *Surely not applied.*
    #[error("no server to ask: give the client at least one host:port")]
    NoEndpoint,
}

impl ClientError {
    /// Whether what was asked for may have been applied.
    pub fn outcome(&self) -> Outcome {
        match self {
            ClientError::Deadline { outcome, .. } => *outcome,
            ClientError::Server(error) => error.outcome(),
            ClientError::Unknown { .. } => Outcome::Unknown,
            ClientError::RetriesExhausted { .. } | ClientError::Unencodable(_) | ClientError::NoEndpoint => {
                Outcome::NotApplied
            }
        }
    }
}

fn outcome_text(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::NotApplied => "surely not applied",
        Outcome::Unknown => "whether it was applied is unknown",
    }
}

/// What a single attempt met with.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error(transparent)]
    Server(RequestError),
    #[error(transparent)]
    Call(CallError),
    #[error("{0}")]
    Garbage(String),
}

/// What to do after a failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The server said whom to ask.
    Redirect(crate::protocol::Leader),
    /// Ask the same server again, a little later.
    Pause,
    /// Ask another server, a little later.
    Elsewhere,
    /// The server has too much to do: ask it again, as long as there is budget.
    Ease,
    /// Nothing else will come of it.
    Final,
}

impl Trouble {
    /// Whether the attempt may have been applied.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Trouble::Server(error) => error.outcome(),
            Trouble::Call(error) if error.is_surely_not_done() => Outcome::NotApplied,
            Trouble::Call(_) | Trouble::Garbage(_) => Outcome::Unknown,
        }
    }

    pub(super) fn next(&self) -> Next {
        match self {
            Trouble::Server(error) => next_after_refusal(error),
            Trouble::Call(CallError::TooLong(_)) => Next::Final,
            Trouble::Call(
                CallError::Dial(_)
                | CallError::Deadline { .. }
                | CallError::Lost(_)
                | CallError::Protocol(_)
                | CallError::Refused(_)
                | CallError::Silent
                | CallError::ShutDown,
            ) => Next::Elsewhere,
            // Done, and every server would give the same answer.
            Trouble::Call(CallError::Fault(fault)) if fault.code == FaultCode::AnswerTooLong => Next::Final,
            Trouble::Call(CallError::Fault(_)) => Next::Elsewhere,
            Trouble::Garbage(_) => Next::Elsewhere,
        }
    }

    /// As the error of the whole call, for an attempt that was the last.
    pub(super) fn into_error(self) -> ClientError {
        match self {
            Trouble::Server(error) => ClientError::Server(error),
            Trouble::Call(error) if error.is_surely_not_done() => {
                ClientError::Server(RequestError::Refused(error.to_string()))
            }
            Trouble::Call(error) => ClientError::Unknown { last: error.to_string() },
            Trouble::Garbage(what) => ClientError::Server(RequestError::Unreadable(what)),
        }
    }
}

fn next_after_refusal(error: &RequestError) -> Next {
    match error {
        RequestError::NotLeader { leader: Some(leader) } => Next::Redirect(leader.clone()),
        RequestError::Superseded
        | RequestError::InProgress
        | RequestError::Unknown(UnknownReason::LeadershipLost | UnknownReason::Snapshot) => Next::Pause,
        // Room may come back while the call's time lasts.
        RequestError::Busy | RequestError::DiskFull => Next::Ease,
        // One that cannot commit or confirm in time may be cut off from the others: ask those.
        RequestError::NotLeader { leader: None }
        | RequestError::NotConfirmed
        | RequestError::Stopped(_)
        | RequestError::Unknown(UnknownReason::Deadline | UnknownReason::Stopped) => Next::Elsewhere,
        RequestError::Refused(_)
        | RequestError::Malformed(_)
        | RequestError::SessionExpired
        | RequestError::Unreadable(_) => Next::Final,
    }
}
