//! How entries become bytes, for logs and transports that store or send them. The bytes of what a client asked are made
//! once, before it is proposed; disk and wire share them.

use bytes::Bytes;
use raftwright_core::{NodeId, RaftEntry};

use crate::{Entry, EntryPayload, LogIdOf, MembershipOf, Of, RaftTypeConfig};

/// What an entry's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EntryKind {
    /// No bytes.
    Blank = 0,
    /// What a client asked, as the application encodes it.
    Normal = 1,
    /// A membership, as JSON: readable in a dump, and fields can be added later.
    Membership = 2,
}

impl EntryKind {
    /// From its number on disk or wire.
    pub fn from_u8(number: u8) -> Option<Self> {
        match number {
            0 => Some(EntryKind::Blank),
            1 => Some(EntryKind::Normal),
            2 => Some(EntryKind::Membership),
            _ => None,
        }
    }
}

/// Bytes that do not say what they should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot decode {what}: {why}")]
pub struct DecodeError {
    /// What should have been there.
    pub what: &'static str,
    /// What is wrong with it.
    pub why: String,
}

impl DecodeError {
    /// What should have been there, and what is wrong with it.
    pub fn new(what: &'static str, why: impl Into<String>) -> Self {
        Self { what, why: why.into() }
    }
}

/// An entry as a kind and bytes.
pub trait EntryCodec<C: RaftTypeConfig>: RaftEntry<Of<C>> + Clone {
    /// What the bytes are.
    fn kind(&self) -> EntryKind;

    /// The bytes: shared, not copied, for what a client asked.
    fn payload_bytes(&self) -> Bytes;

    /// Back from kind and bytes.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are not what the kind says.
    fn decode(log_id: LogIdOf<C>, kind: EntryKind, payload: Bytes) -> Result<Self, DecodeError>;
}

/// A membership as the bytes that stand for it in logs and messages: JSON.
pub fn membership_to_bytes<C: RaftTypeConfig>(membership: &MembershipOf<C>) -> Bytes {
    // A membership is made of maps, sets and strings, which JSON can always express; were a node type to refuse, the empty
    // bytes are refused by every decoder, here and at the peers, before they can be stored.
    serde_json::to_vec(membership).map(Bytes::from).unwrap_or_default()
}

/// Back from those bytes.
///
/// # Errors
/// [`DecodeError`] if they are not a membership.
pub fn membership_from_bytes<C: RaftTypeConfig>(bytes: &[u8]) -> Result<MembershipOf<C>, DecodeError> {
    serde_json::from_slice(bytes).map_err(|e| DecodeError::new("a membership", e.to_string()))
}

/// What a client asked, as bytes made once.
pub trait AppBytes: Sized {
    /// The bytes, shared.
    fn to_bytes(&self) -> Bytes;

    /// Back from the bytes.
    ///
    /// # Errors
    /// [`DecodeError`] if they are not the bytes of such a value.
    fn from_bytes(bytes: Bytes) -> Result<Self, DecodeError>;
}

impl AppBytes for Bytes {
    fn to_bytes(&self) -> Bytes {
        self.clone()
    }

    fn from_bytes(bytes: Bytes) -> Result<Self, DecodeError> {
        Ok(bytes)
    }
}

impl<C: RaftTypeConfig<Entry = Entry<C>>> EntryCodec<C> for Entry<C>
where
    C::D: AppBytes,
{
    fn kind(&self) -> EntryKind {
        match &self.payload {
            EntryPayload::Blank => EntryKind::Blank,
            EntryPayload::Normal(_) => EntryKind::Normal,
            EntryPayload::Membership(_) => EntryKind::Membership,
        }
    }

    fn payload_bytes(&self) -> Bytes {
        match &self.payload {
            EntryPayload::Blank => Bytes::new(),
            EntryPayload::Normal(data) => data.to_bytes(),
            EntryPayload::Membership(membership) => membership_to_bytes::<C>(membership),
        }
    }

    fn decode(log_id: LogIdOf<C>, kind: EntryKind, payload: Bytes) -> Result<Self, DecodeError> {
        let payload = match kind {
            EntryKind::Blank if payload.is_empty() => EntryPayload::Blank,
            EntryKind::Blank => return Err(DecodeError::new("a blank entry", "it has bytes")),
            EntryKind::Normal => EntryPayload::Normal(C::D::from_bytes(payload)?),
            EntryKind::Membership => EntryPayload::Membership(membership_from_bytes::<C>(&payload)?),
        };
        Ok(Entry { log_id, payload })
    }
}

/// Server ids that fit the 64 bits which the file and wire formats give them.
pub trait WireNodeId: NodeId {
    /// As 64 bits.
    fn to_u64(self) -> u64;

    /// From 64 bits; `None` if no such id exists.
    fn from_u64(bits: u64) -> Option<Self>;
}

macro_rules! wire_node_id {
    ($($int:ty),*) => {$(
        impl WireNodeId for $int {
            fn to_u64(self) -> u64 {
                u64::from(self)
            }

            fn from_u64(bits: u64) -> Option<Self> {
                <$int>::try_from(bits).ok()
            }
        }
    )*};
}
wire_node_id!(u8, u16, u32, u64);
