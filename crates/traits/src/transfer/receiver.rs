//! The receiving side.

use bytes::Bytes;
use raftwright_core::{Span, Time};

use super::message::{ReceiptId, Rejection, SnapshotFinish, SnapshotOffer, SnapshotPiece, TransferAnswer};
use crate::RaftTypeConfig;
use crate::crc32c;

/// Time after which a receipt that hears nothing is dropped, and its content with it.
pub const RECEIPT_IDLE_MAX: Span = Span::from_secs(600);

/// Longest content that is accepted, in bytes: what a file can have. The offer of a longer one is refused as malformed.
const CONTENT_BYTES_MAX: u64 = i64::MAX as u64;

/// What one server receives: at most one content at a time. A plain machine; the content is its driver's, who must
///
/// * carry out requests one at a time, in the order in which each connection brought them;
/// * drop the content it has when told to, before it makes another one;
/// * say what it wrote, or that it could not, before the next request.
#[derive(Debug)]
pub struct SnapshotReceiver<C: RaftTypeConfig> {
    next_receipt: u64,
    state: State<C>,
}

#[derive(Debug)]
enum State<C: RaftTypeConfig> {
    Idle,
    Receiving(Receipt<C>),
    Installing(ReceiptId),
    Installed(ReceiptId),
}

#[derive(Debug)]
struct Receipt<C: RaftTypeConfig> {
    id: ReceiptId,
    offer: SnapshotOffer<C>,
    /// Everything before it is verified and written.
    offset: u64,
    /// CRC32C of that.
    checksum: u32,
    heard: Time,
}

/// What to do about an offer.
#[derive(Debug)]
pub enum OfferVerdict<C: RaftTypeConfig> {
    /// Drop the content of an earlier receipt, if there is one, make a place for this one, and then
    /// [`begin`](SnapshotReceiver::begin). If that cannot be done, nothing has to be said: there is no receipt.
    Begin(NewReceipt<C>),
    /// Give this answer.
    Answer(TransferAnswer<C>),
}

/// A receipt that may begin.
#[derive(Debug)]
pub struct NewReceipt<C: RaftTypeConfig> {
    offer: SnapshotOffer<C>,
}

/// A piece that may be written at its place. Its content becomes part of the receipt when
/// [`written`](SnapshotReceiver::written) is told.
#[derive(Debug)]
pub struct VerifiedPiece {
    receipt: ReceiptId,
    offset: u64,
    bytes: Bytes,
}

impl VerifiedPiece {
    /// Where to write, in bytes.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// What to write.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// What to do about a finish.
#[derive(Debug)]
pub enum FinishVerdict<C: RaftTypeConfig> {
    /// The content is whole: install it, as what this offer says it is, and then say
    /// [`installed`](SnapshotReceiver::installed), however it went.
    Install(SnapshotOffer<C>),
    /// It is being installed, or has been: answer with what comes of it.
    Wait,
    /// Give this answer. When it is [`Rejection::Damaged`], drop the content.
    Reject(Rejection),
}

impl<C: RaftTypeConfig> SnapshotReceiver<C> {
    /// A receiver without a receipt. `first` is the number of its first one: a random one, so that a sender who remembers
    /// an earlier life of this server is not taken for somebody else.
    pub fn new(first: ReceiptId) -> Self {
        Self { next_receipt: first.0, state: State::Idle }
    }

    /// Whether a content is under way whose receipt has not been finished.
    pub fn is_receiving(&self) -> bool {
        matches!(self.state, State::Receiving(_))
    }

    /// A sender offers a snapshot. The caller has asked the server before whether it wants one at all.
    pub fn on_offer(&mut self, now: Time, offer: SnapshotOffer<C>) -> OfferVerdict<C> {
        if offer.meta.last_log_id.is_none() || offer.size > CONTENT_BYTES_MAX {
            return OfferVerdict::Answer(TransferAnswer::Rejected(Rejection::Malformed));
        }
        match &mut self.state {
            State::Idle | State::Installed(_) => {}
            State::Installing(_) => return OfferVerdict::Answer(TransferAnswer::Rejected(Rejection::Busy)),
            State::Receiving(receipt) => {
                // Votes are ordered partially: only one that is surely not older may take the place.
                let newer_or_same = offer.vote >= receipt.offer.vote;
                if !newer_or_same {
                    return OfferVerdict::Answer(TransferAnswer::Outvoted(receipt.offer.vote));
                }
                if receipt.offer.is_of_same_content(&offer) && !offer.anew {
                    // A number of its own, so that what an earlier connection still delivers is turned away.
                    receipt.id = Self::number(&mut self.next_receipt);
                    receipt.offer = offer;
                    receipt.heard = now;
                    return OfferVerdict::Answer(receipt.accepted());
                }
            }
        }
        self.state = State::Idle;
        OfferVerdict::Begin(NewReceipt { offer })
    }

    fn number(next_receipt: &mut u64) -> ReceiptId {
        let id = ReceiptId(*next_receipt);
        *next_receipt = next_receipt.wrapping_add(1);
        id
    }

    /// There is an empty place for the content: the receipt begins.
    pub fn begin(&mut self, now: Time, new: NewReceipt<C>) -> TransferAnswer<C> {
        let id = Self::number(&mut self.next_receipt);
        let receipt = Receipt { id, offer: new.offer, offset: 0, checksum: 0, heard: now };
        let answer = receipt.accepted();
        self.state = State::Receiving(receipt);
        answer
    }

    /// A piece has come. To be written if it is good.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] to answer with. When it is [`Rejection::Damaged`], the content is to be dropped.
    pub fn on_piece(&mut self, now: Time, piece: SnapshotPiece) -> Result<VerifiedPiece, Rejection> {
        let receipt = self.receipt(piece.receipt)?;
        receipt.heard = now;
        let len = piece.bytes.len() as u64;
        let end = piece.offset.checked_add(len).filter(|end| len > 0 && *end <= receipt.offer.size);
        if end.is_none() {
            return Err(Rejection::Malformed);
        }
        if piece.offset != receipt.offset {
            return Err(Rejection::OutOfPlace);
        }
        if !piece.is_sound() {
            self.state = State::Idle;
            return Err(Rejection::Damaged);
        }
        Ok(VerifiedPiece { receipt: piece.receipt, offset: piece.offset, bytes: piece.bytes })
    }

    /// The piece has been written.
    pub fn written(&mut self, piece: &VerifiedPiece) -> TransferAnswer<C> {
        match self.receipt(piece.receipt) {
            Ok(receipt) if receipt.offset == piece.offset => {
                receipt.offset += piece.bytes.len() as u64;
                receipt.checksum = crc32c::crc32c_append(receipt.checksum, &piece.bytes);
                TransferAnswer::Verified { receipt: receipt.id, offset: receipt.offset }
            }
            Ok(_) => TransferAnswer::Rejected(Rejection::OutOfPlace),
            Err(rejection) => TransferAnswer::Rejected(rejection),
        }
    }

    /// The content cannot be written. The receipt ends; the driver drops the content.
    pub fn failed(&mut self) {
        if self.is_receiving() {
            self.state = State::Idle;
        }
    }

    /// The sender says that this was all.
    pub fn on_finish(&mut self, now: Time, finish: &SnapshotFinish) -> FinishVerdict<C> {
        match &self.state {
            State::Installing(id) | State::Installed(id) if *id == finish.receipt => return FinishVerdict::Wait,
            State::Idle | State::Receiving(_) | State::Installing(_) | State::Installed(_) => {}
        }
        let receipt = match self.receipt(finish.receipt) {
            Ok(receipt) => receipt,
            Err(rejection) => return FinishVerdict::Reject(rejection),
        };
        receipt.heard = now;
        if finish.size != receipt.offer.size || receipt.offset != finish.size {
            return FinishVerdict::Reject(Rejection::Malformed);
        }
        let (sound, offer) = (receipt.checksum == finish.checksum, receipt.offer.clone());
        if !sound {
            self.state = State::Idle;
            return FinishVerdict::Reject(Rejection::Damaged);
        }
        self.state = State::Installing(finish.receipt);
        FinishVerdict::Install(offer)
    }

    /// The installation has ended, well or not.
    pub fn installed(&mut self) {
        if let State::Installing(id) = self.state {
            self.state = State::Installed(id);
        }
    }

    /// When to call [`expire`](Self::expire): not before this.
    pub fn deadline(&self) -> Option<Time> {
        match &self.state {
            State::Receiving(receipt) => Some(receipt.heard + RECEIPT_IDLE_MAX),
            State::Idle | State::Installing(_) | State::Installed(_) => None,
        }
    }

    /// Ends a receipt that has heard nothing for [`RECEIPT_IDLE_MAX`]. Whether it did: then the content is to be dropped.
    pub fn expire(&mut self, now: Time) -> bool {
        let expired = self.deadline().is_some_and(|deadline| deadline <= now);
        if expired {
            self.state = State::Idle;
        }
        expired
    }

    fn receipt(&mut self, id: ReceiptId) -> Result<&mut Receipt<C>, Rejection> {
        match &mut self.state {
            State::Receiving(receipt) if receipt.id == id => Ok(receipt),
            State::Idle | State::Receiving(_) | State::Installing(_) | State::Installed(_) => {
                Err(Rejection::Superseded)
            }
        }
    }
}

impl<C: RaftTypeConfig> Receipt<C> {
    fn accepted(&self) -> TransferAnswer<C> {
        TransferAnswer::Accepted { receipt: self.id, offset: self.offset, checksum: self.checksum }
    }
}
