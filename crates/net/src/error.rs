//! What a request can meet with.

use std::fmt;

use bytes::Bytes;

use crate::body::{Body, BodyReader, DecodeError};
use crate::frame::FrameError;
use crate::frame_io::LinkError;
use crate::handshake::{HandshakeError, Refusal};

/// Longest text of a fault, in bytes.
pub const FAULT_TEXT_LEN_MAX: usize = 512;

/// Stands in a text for what was left out of it.
const LEFT_OUT: &str = " ... ";

/// The text within `len_max` bytes. Of a longer one the middle is left out: it says at its beginning what has failed, and at its end why.
pub(crate) fn shortened(mut text: String, len_max: usize) -> String {
    if text.len() <= len_max {
        return text;
    }
    let kept = len_max.saturating_sub(LEFT_OUT.len());
    let (from, to) = (text.floor_char_boundary(kept / 2), text.ceil_char_boundary(text.len() - kept.div_ceil(2)));
    text.replace_range(from..to, LEFT_OUT);
    text
}

/// A peer's text as it may stand in a log: control characters come out escaped, so that it is one line.
pub(crate) fn harmless(text: &[u8]) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    String::from_utf8_lossy(text).chars().map(escape).collect()
}

/// What kind of failure a handler reports instead of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultCode {
    /// The request's body could not be read, or its kind has no place on the lane. Nothing was done.
    BadRequest,
    /// The node is too busy to look at the request. Nothing was done.
    Busy,
    /// The node is stopping or has failed. Whether the request took effect is unknown.
    Stopped,
    /// The node does not serve this kind of request. Nothing was done.
    Unsupported,
    /// The request was handled, and the answer is longer than a frame may be. What was to be done is done.
    AnswerTooLong,
    /// A code of a later version, or one of the embedder's own.
    Other(u8),
}

impl FaultCode {
    const fn code(self) -> u8 {
        match self {
            FaultCode::BadRequest => 1,
            FaultCode::Busy => 2,
            FaultCode::Stopped => 3,
            FaultCode::Unsupported => 4,
            FaultCode::AnswerTooLong => 5,
            FaultCode::Other(code) => code,
        }
    }

    const fn from_code(code: u8) -> Self {
        match code {
            1 => FaultCode::BadRequest,
            2 => FaultCode::Busy,
            3 => FaultCode::Stopped,
            4 => FaultCode::Unsupported,
            5 => FaultCode::AnswerTooLong,
            other => FaultCode::Other(other),
        }
    }
}

/// A handler's failure, sent in place of an answer. The connection goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code:?}: {text}")]
pub struct Fault {
    /// For programs.
    pub code: FaultCode,
    /// For people. At most [`FAULT_TEXT_LEN_MAX`] bytes.
    text: String,
}

impl Fault {
    /// A fault. A text of more than [`FAULT_TEXT_LEN_MAX`] bytes keeps its beginning and its end, which is where the cause stands.
    pub fn new(code: FaultCode, text: impl fmt::Display) -> Self {
        Fault { code, text: shortened(text.to_string(), FAULT_TEXT_LEN_MAX) }
    }

    /// For people: what has failed, and why.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// As it goes over the wire.
    pub fn encode(&self) -> Body {
        let mut body = Body::with_capacity(self.text.len() + 1);
        body.put_u8(self.code.code());
        body.put_slice(self.text.as_bytes());
        body
    }

    /// Reads one. Text beyond [`FAULT_TEXT_LEN_MAX`] bytes is not looked at: nobody who keeps to the bound sends it. What is no UTF-8
    /// is replaced, and control characters come out escaped, so that the text is harmless in a log.
    ///
    /// # Errors
    /// The body is empty.
    pub fn decode(body: Bytes) -> Result<Self, DecodeError> {
        let mut body = BodyReader::new(body);
        let code = FaultCode::from_code(body.u8("fault code")?);
        let text = body.rest();
        Ok(Fault::new(code, harmless(&text[..text.len().min(FAULT_TEXT_LEN_MAX)])))
    }
}

impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Self {
        Fault::new(FaultCode::BadRequest, error)
    }
}

/// Why there is no connection to a peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The address could not be resolved, or nobody accepts connections there.
    #[error("cannot connect to {address}: {reason}")]
    Unreachable {
        /// The address as configured, `host:port`.
        address: String,
        /// What the operating system says.
        reason: String,
    },
    /// Connection and handshake were not complete in time.
    #[error("no handshake with {address} in time")]
    Deadline {
        /// The address as configured, `host:port`.
        address: String,
    },
    /// The peer was reached, and the connection ended in the handshake.
    #[error("handshake with {address}: {error}")]
    Link {
        /// The address as configured, `host:port`.
        address: String,
        /// How it ended.
        error: LinkError,
    },
    /// The peer was reached, and one of the two sides refuses the other.
    #[error("handshake with {address}: {error}")]
    Handshake {
        /// The address as configured, `host:port`.
        address: String,
        /// Who refused, and why.
        error: HandshakeError,
    },
}

impl DialError {
    /// The refusal, when one of the two sides refused the other.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            DialError::Handshake { error, .. } => match error {
                HandshakeError::RefusedByPeer(refusal) | HandshakeError::RefusedPeer(refusal) => Some(refusal),
                HandshakeError::Unexpected(_) | HandshakeError::Malformed(..) => None,
            },
            DialError::Unreachable { .. } | DialError::Deadline { .. } | DialError::Link { .. } => None,
        }
    }
}

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// There is no connection. The request was not sent.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The request is longer than a frame may be. It was not sent.
    #[error(transparent)]
    TooLong(FrameError),
    /// The connection ended while the request was under way. Whether it took effect is unknown.
    #[error("connection lost: {0}")]
    Lost(#[from] LinkError),
    /// The peer broke the protocol and the connection was closed. Whether the request took effect is unknown.
    #[error("the peer broke the protocol: {0}")]
    Protocol(&'static str),
    /// The peer ended the connection with a reason. Whether the request took effect is unknown.
    #[error("the peer ended the connection: {0}")]
    Refused(Refusal),
    /// The peer gave no sign of life for too long and the connection was closed. Whether the request took effect is unknown.
    #[error("the peer is silent")]
    Silent,
    /// No answer in time. Whether the request took effect is unknown, unless `sent` is false.
    #[error("no answer in time")]
    Deadline {
        /// Whether the request was handed to a connection.
        sent: bool,
    },
    /// The peer answered with a failure.
    #[error("the peer failed: {0}")]
    Fault(#[from] Fault),
    /// This side of the channel has been shut down.
    #[error("the channel is closed")]
    ShutDown,
}

impl CallError {
    /// Whether it is certain that the peer has not acted on the request.
    pub fn is_surely_not_done(&self) -> bool {
        match self {
            CallError::Dial(_) | CallError::TooLong(_) => true,
            CallError::Deadline { sent } => !sent,
            CallError::Fault(fault) => match fault.code {
                FaultCode::BadRequest | FaultCode::Busy | FaultCode::Unsupported => true,
                FaultCode::Stopped | FaultCode::AnswerTooLong | FaultCode::Other(_) => false,
            },
            CallError::Lost(_)
            | CallError::Protocol(_)
            | CallError::Refused(_)
            | CallError::Silent
            | CallError::ShutDown => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_fault_is_bounded_where_it_is_made_and_where_it_is_read() {
        let longest = "x".repeat(FAULT_TEXT_LEN_MAX);
        assert_eq!(Fault::new(FaultCode::Busy, &longest).text(), longest);
        // Two bytes each, and an odd number around them: both cuts would fall into the middle of a character.
        let text = format!("!{}?", "\u{e9}".repeat(FAULT_TEXT_LEN_MAX));
        let fault = Fault::new(FaultCode::Busy, &text);
        assert!((FAULT_TEXT_LEN_MAX - 2..=FAULT_TEXT_LEN_MAX).contains(&fault.text().len()), "{}", fault.text());
        assert_eq!(Fault::decode(fault.encode().into_bytes()).unwrap(), fault);
        // Who keeps to no bound is read no further than it.
        let foreign = [&[2][..], longest.as_bytes(), b"and more"].concat();
        assert_eq!(Fault::decode(foreign.into()).unwrap().text(), longest);
        // Nor do escapes and replacements make it longer.
        for byte in [0x07, 0xff] {
            let foreign = [&[2][..], &[byte; FAULT_TEXT_LEN_MAX]].concat();
            let fault = Fault::decode(foreign.into()).unwrap();
            assert!(fault.text().len() <= FAULT_TEXT_LEN_MAX && !fault.text().contains('\u{7}'), "{fault}");
        }
    }

    /// An error says at its end what all the rest follows from.
    #[test]
    fn a_text_that_is_too_long_keeps_what_failed_and_why() {
        let path = "directory/".repeat(FAULT_TEXT_LEN_MAX);
        let fault =
            Fault::new(FaultCode::Stopped, format_args!("the log failed: writing /{path}: No space left on device"));
        assert!(fault.text().starts_with("the log failed: writing /directory"), "{fault}");
        assert!(fault.text().ends_with("No space left on device"), "{fault}");
        assert!(fault.text().contains(LEFT_OUT), "{fault}");
    }

    /// What may have been done is never told as surely not done.
    #[test]
    fn only_what_was_not_sent_or_was_refused_by_a_handler_is_surely_not_done() {
        use crate::handshake::RefusalReason;
        let fault = |code| CallError::Fault(Fault::new(code, "why"));
        let surely = [
            CallError::Dial(DialError::Deadline { address: "a:1".to_owned() }),
            CallError::TooLong(FrameError::TooLong { len: 2, max: 1 }),
            CallError::Deadline { sent: false },
            fault(FaultCode::BadRequest),
            fault(FaultCode::Busy),
            fault(FaultCode::Unsupported),
        ];
        let unknown = [
            CallError::Deadline { sent: true },
            CallError::Lost(LinkError::Closed),
            CallError::Protocol("what"),
            CallError::Refused(Refusal::new(RefusalReason::Overloaded, "in the middle of it")),
            CallError::Silent,
            CallError::ShutDown,
            fault(FaultCode::Stopped),
            fault(FaultCode::AnswerTooLong),
            fault(FaultCode::Other(9)),
        ];
        assert!(surely.iter().all(CallError::is_surely_not_done), "{surely:?}");
        assert!(!unknown.iter().any(CallError::is_surely_not_done), "{unknown:?}");
    }
}
