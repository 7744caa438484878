//! What sender and receiver say to each other.

use bytes::Bytes;
use raftwright_core::{Identity, Span};

use crate::crc32c;
use crate::{InstallSnapshotRequest, InstallSnapshotResponse, RaftTypeConfig, SnapshotMeta, SnapshotRequest, VoteOf};

/// Names one receipt of one receiver. A receiver never gives out the same twice, not even (but for chance) over a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReceiptId(pub u64);

/// A snapshot is there to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotOffer<C: RaftTypeConfig> {
    /// The leader.
    pub from: Identity<C::NodeId>,
    /// The leader's vote, committed.
    pub vote: VoteOf<C>,
    /// What the snapshot stands for. Its last log id is there.
    pub meta: SnapshotMeta<C>,
    /// Length of the content in bytes.
    pub size: u64,
    /// What the receiver has of it does not agree with what the sender has: begin from nothing.
    pub anew: bool,
}

impl<C: RaftTypeConfig> SnapshotOffer<C> {
    /// The offer of a snapshot whose content has `size` bytes.
    pub fn new(request: &SnapshotRequest<C>, size: u64) -> Self {
        let SnapshotRequest { from, vote, snapshot } = request;
        Self { from: *from, vote: *vote, meta: snapshot.meta.clone(), size, anew: false }
    }

    /// What the receiver's replica gets to see of it. `None` for the state before the first entry, which is never sent.
    pub fn head(&self) -> Option<InstallSnapshotRequest<C>> {
        let last_log_id = self.meta.last_log_id?;
        let last_membership = self.meta.last_membership.clone();
        Some(InstallSnapshotRequest::<C> { from: self.from, vote: self.vote, last_log_id, last_membership })
    }

    /// Whether both speak of the same content of the same sender, so that one receipt can serve both.
    pub(super) fn is_of_same_content(&self, other: &Self) -> bool {
        self.from == other.from && self.size == other.size && self.meta == other.meta
    }
}

/// A part of the content, in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotPiece {
    /// Which receipt it is for.
    pub receipt: ReceiptId,
    /// Where it begins in the content, in bytes.
    pub offset: u64,
    /// CRC32C of receipt, offset (both little endian, 8 bytes) and bytes.
    pub checksum: u32,
    /// The bytes; at least one.
    pub bytes: Bytes,
}

impl SnapshotPiece {
    /// A piece with its checksum.
    pub fn new(receipt: ReceiptId, offset: u64, bytes: Bytes) -> Self {
        let checksum = Self::checksum_of(receipt, offset, &bytes);
        Self { receipt, offset, checksum, bytes }
    }

    /// Whether the checksum is that of the rest.
    pub fn is_sound(&self) -> bool {
        self.checksum == Self::checksum_of(self.receipt, self.offset, &self.bytes)
    }

    fn checksum_of(receipt: ReceiptId, offset: u64, bytes: &[u8]) -> u32 {
        let place = crc32c::crc32c_append(crc32c::crc32c(&receipt.0.to_le_bytes()), &offset.to_le_bytes());
        crc32c::crc32c_append(place, bytes)
    }
}

/// That was all of it: install it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotFinish {
    /// Which receipt.
    pub receipt: ReceiptId,
    /// Length of the whole content in bytes.
    pub size: u64,
    /// CRC32C of the whole content.
    pub checksum: u32,
    /// How long the receiver may let this request wait for the end of the installation before it says that it still goes on.
    pub wait: Span,
}

/// What the sender says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransferRequest<C: RaftTypeConfig> {
    /// A snapshot is there to be had.
    Offer(SnapshotOffer<C>),
    /// A part of it.
    Piece(SnapshotPiece),
    /// That was all.
    Finish(SnapshotFinish),
}

/// What the receiver says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransferAnswer<C: RaftTypeConfig> {
    /// To an offer: send what is behind `offset`.
    Accepted {
        /// The number of this receipt.
        receipt: ReceiptId,
        /// How many bytes the receiver has.
        offset: u64,
        /// CRC32C of those.
        checksum: u32,
    },
    /// To a piece: everything before `offset` has been verified and written.
    Verified {
        /// The number of this receipt.
        receipt: ReceiptId,
        /// How many bytes the receiver has.
        offset: u64,
    },
    /// To a finish: the content is whole and is being installed. Ask again.
    Installing(ReceiptId),
    /// To an offer: there is nothing to send. To a finish: the end of the transfer.
    Done(InstallSnapshotResponse<C>),
    /// To an offer: the receiver is receiving from a leader with this vote, which is newer.
    Outvoted(VoteOf<C>),
    /// To anything: not like this.
    Rejected(Rejection),
}

/// Why the receiver does not go on. Nothing of the server has changed; the transfer may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// A snapshot is being installed. Its receipt was not touched.
    #[error("the receiver is installing a snapshot")]
    Busy,
    /// There is no such receipt any more: something newer took its place, it expired, or the receiver was restarted.
    #[error("the receipt was superseded")]
    Superseded,
    /// A piece does not begin where the last one ended. The receipt is kept.
    #[error("a piece is out of its place")]
    OutOfPlace,
    /// A checksum failed. The receipt was dropped; the next offer begins from nothing.
    #[error("a checksum failed, the receipt was dropped")]
    Damaged,
    /// A length or a place that cannot be. The receipt is kept.
    #[error("the request contradicts itself or the offer")]
    Malformed,
    /// The receiver could not write. The receipt was dropped.
    #[error("the receiver could not write the content")]
    Storage,
}
