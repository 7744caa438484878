//! The bytes of a log entry of the easy layer, and of its answer. Both are replicated, so their form never changes; a new
//! kind of command needs a feature bit that every node has.
//!
//! ```text
//! command   1 | command                                                      without a session: at most once, no retry
//!           2 | nonce u64                                                    opens a session
//!           3 | session u128 | sequence u64 | settled u64 | command          once, however often it is delivered
//! answer    0 | answer        1 | session u128        2 expired        3 forgotten        4 undecodable
//!           5 applied, answer unencodable                                (all numbers little endian)
//! ```
//!
//! The answer to an entry that carries no command (blank, membership) has no bytes.

use bytes::{Buf, Bytes, BytesMut};
use serde::Serialize;

use crate::sessions::SessionId;
use crate::state_machine::encode_behind;

const ALONE: u8 = 1;
const OPEN_SESSION: u8 = 2;
const IN_SESSION: u8 = 3;

/// Kind, session, sequence and settled.
const SESSION_HEAD_LEN: usize = 1 + 16 + 8 + 8;

const ANSWER: u8 = 0;
const OPENED: u8 = 1;
const EXPIRED: u8 = 2;
const FORGOTTEN: u8 = 3;
const UNDECODABLE: u8 = 4;
const UNENCODABLE: u8 = 5;

/// What a log entry of the easy layer asks: for programs that look at a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Envelope {
    /// Apply the command, without a session.
    Alone(Bytes),
    /// Open a session.
    OpenSession {
        /// Drawn by the client.
        nonce: u64,
    },
    /// Apply the command unless it was applied.
    InSession {
        /// The session.
        session: SessionId,
        /// Which command of the session: from 1 on.
        sequence: u64,
        /// The client waits for no answer up to this one any more.
        settled: u64,
        /// The command.
        command: Bytes,
    },
}

impl Envelope {
    /// The entry's bytes for a command without a session.
    pub(crate) fn alone<T: Serialize>(command: &T) -> Result<Bytes, postcard::Error> {
        encode_behind(vec![ALONE], command).map(Bytes::from)
    }

    /// The entry's bytes that open a session.
    pub(crate) fn open_session(nonce: u64) -> Bytes {
        let mut bytes = vec![OPEN_SESSION];
        bytes.extend_from_slice(&nonce.to_le_bytes());
        Bytes::from(bytes)
    }

    /// A command behind the room that [`in_session`](Self::in_session) needs before it.
    pub(crate) fn with_room<T: Serialize>(command: &T) -> Result<BytesMut, postcard::Error> {
        encode_behind(vec![0; SESSION_HEAD_LEN], command).map(|bytes| BytesMut::from(Bytes::from(bytes)))
    }

    /// The entry's bytes for a command in a session. The command stays where it is; only the room before it is written.
    pub(crate) fn in_session(mut room: BytesMut, session: SessionId, sequence: u64, settled: u64) -> Bytes {
        let mut head = Vec::with_capacity(SESSION_HEAD_LEN);
        head.push(IN_SESSION);
        head.extend_from_slice(&session.0.to_le_bytes());
        head.extend_from_slice(&sequence.to_le_bytes());
        head.extend_from_slice(&settled.to_le_bytes());
        room[..SESSION_HEAD_LEN].copy_from_slice(&head);
        room.freeze()
    }

    /// Reads an entry's bytes; `None` if they are no envelope. Commands are slices of them.
    pub fn decode(mut bytes: Bytes) -> Option<Self> {
        match bytes.try_get_u8().ok()? {
            ALONE => Some(Envelope::Alone(bytes)),
            OPEN_SESSION => {
                let nonce = bytes.try_get_u64_le().ok()?;
                bytes.is_empty().then_some(Envelope::OpenSession { nonce })
            }
            IN_SESSION => {
                let session = SessionId(bytes.try_get_u128_le().ok()?);
                let sequence = bytes.try_get_u64_le().ok()?;
                let settled = bytes.try_get_u64_le().ok()?;
                Some(Envelope::InSession { session, sequence, settled, command: bytes })
            }
            _ => None,
        }
    }
}

/// What applying an entry came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// The state machine's answer, encoded.
    Answer(Bytes),
    /// A session was opened.
    Opened(SessionId),
    /// The session is not in the table any more. The command was not applied by this entry.
    Expired,
    /// The command is too far behind in its session. It was not applied by this entry.
    Forgotten,
    /// The command's bytes are not a command. It was not applied.
    Undecodable,
    /// The command was applied; the state machine's answer cannot be encoded.
    Unencodable,
}

impl Applied {
    /// The bytes of a state machine's answer.
    pub(crate) fn encode_answer<T: Serialize>(answer: &T) -> Bytes {
        encode_behind(vec![ANSWER], answer).map_or_else(|_| Bytes::from_static(&[UNENCODABLE]), Bytes::from)
    }

    /// The bytes of any other outcome.
    pub(crate) fn encode(&self) -> Bytes {
        let tagged = |tag, rest: &[u8]| Bytes::from([&[tag], rest].concat());
        match self {
            Applied::Answer(answer) => tagged(ANSWER, answer),
            Applied::Opened(session) => tagged(OPENED, &session.0.to_le_bytes()),
            Applied::Expired => Bytes::from_static(&[EXPIRED]),
            Applied::Forgotten => Bytes::from_static(&[FORGOTTEN]),
            Applied::Undecodable => Bytes::from_static(&[UNDECODABLE]),
            Applied::Unencodable => Bytes::from_static(&[UNENCODABLE]),
        }
    }

    /// Reads an outcome; `None` if the bytes are none.
    pub(crate) fn decode(mut bytes: Bytes) -> Option<Self> {
        let outcome = match bytes.try_get_u8().ok()? {
            ANSWER => return Some(Applied::Answer(bytes)),
            OPENED => Applied::Opened(SessionId(bytes.try_get_u128_le().ok()?)),
            EXPIRED => Applied::Expired,
            FORGOTTEN => Applied::Forgotten,
            UNDECODABLE => Applied::Undecodable,
            UNENCODABLE => Applied::Unencodable,
            _ => return None,
        };
        bytes.is_empty().then_some(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn envelopes_come_back_as_they_went() {
        let session = SessionId(u128::MAX - 7);
        let command = Bytes::from(crate::encode("buy").unwrap());
        let cases = [
            (Envelope::alone(&"buy").unwrap(), Envelope::Alone(command.clone())),
            (Envelope::open_session(9), Envelope::OpenSession { nonce: 9 }),
            (
                Envelope::in_session(Envelope::with_room(&"buy").unwrap(), session, 3, 2),
                Envelope::InSession { session, sequence: 3, settled: 2, command },
            ),
        ];
        for (bytes, envelope) in cases {
            assert_eq!(Envelope::decode(bytes), Some(envelope));
        }
    }

    #[test]
    fn outcomes_come_back_as_they_went() {
        let cases = [
            Applied::Answer(Bytes::from_static(b"yes")),
            Applied::Opened(SessionId(1 << 100)),
            Applied::Expired,
            Applied::Forgotten,
            Applied::Undecodable,
            Applied::Unencodable,
        ];
        for case in cases {
            assert_eq!(Applied::decode(case.encode()), Some(case));
        }
        assert_eq!(Applied::encode_answer(&5u8), Applied::Answer(Bytes::from_static(&[5])).encode());
    }

    /// The form is replicated and stored: it must never change.
    #[test]
    fn golden_bytes() {
        let bytes = Envelope::in_session(Envelope::with_room(&7u8).unwrap(), SessionId(0x0102), 3, 2);
        let mut golden = vec![3, 2, 1];
        golden.extend([0; 14]);
        golden.extend([3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(bytes, golden);
    }

    proptest! {
        #[test]
        fn random_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let bytes = Bytes::from(bytes);
            if let Some(applied) = Applied::decode(bytes.clone()) {
                prop_assert_eq!(applied.encode(), bytes.clone());
            }
            let _ = Envelope::decode(bytes);
        }
    }
}
