//! How a command that fails ends.

use std::fmt::{Display, Formatter};

use crate::api::ErrorKind;
use crate::client::ClientError;

const FAILED: u8 = 1;
pub(super) const USAGE: u8 = 2;
const NO_SUCH_KEY: u8 = 3;
const CONFLICT: u8 = 4;
const UNKNOWN: u8 = 5;
const DAMAGED: u8 = 6;
const INTERRUPTED: u8 = 130;

/// Why a command failed, in a sentence that says what to do, and the exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    /// An ordinary failure.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: FAILED }
    }

    /// Arguments that do not fit together.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: USAGE }
    }

    /// A signal ended it.
    pub fn interrupted() -> Self {
        Self { message: "interrupted".to_owned(), code: INTERRUPTED }
    }

    /// A data directory that no server opens.
    pub fn damaged(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: DAMAGED }
    }

    /// A key that is not there.
    pub fn no_such_key(key: &str) -> Self {
        Self { message: format!("there is no key {key:?}"), code: NO_SUCH_KEY }
    }

    /// The sentence.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        self.code
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let kind = error.kind();
        let (code, advice) = match kind {
            ErrorKind::Conflict => (CONFLICT, "read it again, then decide"),
            ErrorKind::Unknown => (UNKNOWN, "it may have been done: read before you try again"),
            ErrorKind::NotApplied if matches!(error, ClientError::Transport(_)) => {
                (FAILED, "is a server running there? name others with --endpoints")
            }
            ErrorKind::Unavailable if matches!(error, ClientError::Unanswered(_)) => {
                (FAILED, "nothing was changed: try again, or name others with --endpoints")
            }
            ErrorKind::NotApplied | ErrorKind::Unavailable => {
                (FAILED, "nothing was changed: try again, or look at `raftwright status`")
            }
            ErrorKind::Internal => (FAILED, "look into the server's log"),
            ErrorKind::BadRequest | ErrorKind::TooLarge | ErrorKind::NotFound | ErrorKind::MethodNotAllowed => {
                (FAILED, "nothing was changed")
            }
        };
        Self { message: format!("{error} ({advice})"), code }
    }
}
