//! The sending side.

use std::collections::VecDeque;

use bytes::Bytes;
use raftwright_core::Span;

use super::message::{
    ReceiptId, Rejection, SnapshotFinish, SnapshotOffer, SnapshotPiece, TransferAnswer, TransferRequest,
};
use crate::crc32c;
use crate::{InstallSnapshotResponse, RaftTypeConfig, VoteOf};

/// How content is cut up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PieceSizes {
    /// Bytes that are sent and not acknowledged, at most: what a break can cost.
    pub chunk_bytes: u64,
    /// Bytes in one piece, at most. Several pieces to a chunk keep the line busy while acknowledgements travel.
    pub piece_bytes: u32,
}

impl PieceSizes {
    /// Chunks of so many bytes (at least one), cut into `pieces` pieces each (at least one).
    pub fn new(chunk_bytes: u64, pieces: u32) -> Self {
        let chunk_bytes = chunk_bytes.max(1);
        let piece_bytes = chunk_bytes.div_ceil(u64::from(pieces.max(1)));
        Self { chunk_bytes, piece_bytes: u32::try_from(piece_bytes).unwrap_or(u32::MAX) }
    }
}

/// What the sender's driver is to do next.
#[derive(Debug)]
pub enum SenderStep<C: RaftTypeConfig> {
    /// Send this. It is said once.
    Send(TransferRequest<C>),
    /// Read the content here and say [`on_read`](SnapshotSender::on_read). It is said until then.
    Read {
        /// Where, in bytes.
        offset: u64,
        /// How many bytes, all of which are there.
        len: u32,
    },
    /// Compute the CRC32C of the content's first bytes and say [`on_prefix`](SnapshotSender::on_prefix). It is said until then.
    Compare {
        /// How many bytes.
        upto: u64,
    },
    /// Nothing, until there is an answer.
    Wait,
    /// The transfer is over.
    Over(TransferOutcome<C>),
}

/// How a transfer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransferOutcome<C: RaftTypeConfig> {
    /// The target's replica has answered.
    Answered(InstallSnapshotResponse<C>),
    /// The target is receiving from a leader with this vote, which is newer.
    Outvoted(VoteOf<C>),
    /// The target does not go on. The next transfer begins with a sender of its own.
    Rejected(Rejection),
    /// The target broke the protocol.
    Confused(&'static str),
}

/// Sends one content to one target. A plain machine: its driver reads the content and owns the connection.
#[derive(Debug)]
pub struct SnapshotSender<C: RaftTypeConfig> {
    offer: SnapshotOffer<C>,
    sizes: PieceSizes,
    /// How long the target may sit on a finish.
    wait: Span,
    state: State<C>,
    /// Known checksums of the content's beginning, by length, ascending: where the target may say that it stands.
    marks: VecDeque<Mark>,
}

/// The first `offset` bytes of the content have this CRC32C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    offset: u64,
    checksum: u32,
}

/// No bytes.
const START: Mark = Mark { offset: 0, checksum: 0 };

#[derive(Debug)]
enum State<C: RaftTypeConfig> {
    /// The offer is to be sent.
    Greeting {
        anew: bool,
    },
    /// The offer was sent.
    Greeted {
        anew: bool,
    },
    /// The target claims to have this, and it is not known whether that is what is here.
    Comparing {
        receipt: ReceiptId,
        claim: Mark,
    },
    /// Accepted.
    Sending(Sending),
    /// Everything is acknowledged and the finish was sent.
    Finishing {
        receipt: ReceiptId,
    },
    Over(TransferOutcome<C>),
}

#[derive(Debug)]
struct Sending {
    receipt: ReceiptId,
    /// The target has everything before it.
    acked: u64,
    /// What has been sent, and the checksum of everything up to there.
    sent: Mark,
    /// Read, and not sent yet because so much is under way.
    ready: Option<SnapshotPiece>,
}

impl<C: RaftTypeConfig> SnapshotSender<C> {
    /// A sender that has said nothing yet. `wait` is how long the target may let a finish wait before it says that it is still
    /// installing.
    pub fn new(offer: SnapshotOffer<C>, sizes: PieceSizes, wait: Span) -> Self {
        Self { offer, sizes, wait, state: State::Greeting { anew: false }, marks: VecDeque::from([START]) }
    }

    /// The connection broke, or is another one: the transfer goes on with a new offer.
    pub fn reconnected(&mut self) {
        self.state = State::Greeting { anew: false };
    }

    /// What is to be done now.
    pub fn step(&mut self) -> SenderStep<C> {
        match &mut self.state {
            State::Greeting { anew } => {
                let anew = *anew;
                self.state = State::Greeted { anew };
                SenderStep::Send(TransferRequest::Offer(SnapshotOffer { anew, ..self.offer.clone() }))
            }
            State::Greeted { .. } | State::Finishing { .. } => SenderStep::Wait,
            State::Comparing { claim, .. } => SenderStep::Compare { upto: claim.offset },
            State::Sending(sending) => {
                let receipt = sending.receipt;
                if sending.acked == self.offer.size {
                    self.state = State::Finishing { receipt };
                    return SenderStep::Send(self.finish(receipt));
                }
                self.step_sending()
            }
            State::Over(outcome) => SenderStep::Over(outcome.clone()),
        }
    }

    fn step_sending(&mut self) -> SenderStep<C> {
        let State::Sending(sending) = &mut self.state else { return SenderStep::Wait };
        match sending.ready.take() {
            Some(piece) => {
                let end = sending.sent.offset + piece.bytes.len() as u64;
                if end - sending.acked > self.sizes.chunk_bytes {
                    sending.ready = Some(piece);
                    return SenderStep::Wait;
                }
                let checksum = crc32c::crc32c_append(sending.sent.checksum, &piece.bytes);
                sending.sent = Mark { offset: end, checksum };
                self.marks.push_back(sending.sent);
                SenderStep::Send(TransferRequest::Piece(piece))
            }
            None if sending.sent.offset < self.offer.size => {
                let left = self.offer.size - sending.sent.offset;
                let len = u32::try_from(left).unwrap_or(u32::MAX).min(self.sizes.piece_bytes.max(1));
                SenderStep::Read { offset: sending.sent.offset, len }
            }
            None => SenderStep::Wait,
        }
    }

    fn finish(&self, receipt: ReceiptId) -> TransferRequest<C> {
        let checksum = self.marks.back().map_or(0, |mark| mark.checksum);
        TransferRequest::Finish(SnapshotFinish { receipt, size: self.offer.size, checksum, wait: self.wait })
    }

    /// What was read where [`SenderStep::Read`] said, whole.
    pub fn on_read(&mut self, offset: u64, bytes: Bytes) {
        if let State::Sending(sending) = &mut self.state
            && sending.sent.offset == offset
            && sending.ready.is_none()
        {
            sending.ready = Some(SnapshotPiece::new(sending.receipt, offset, bytes));
        }
    }

    /// The CRC32C of the first `upto` bytes, as [`SenderStep::Compare`] asked.
    pub fn on_prefix(&mut self, upto: u64, checksum: u32) {
        if let State::Comparing { receipt, claim } = self.state
            && claim.offset == upto
        {
            self.compare(receipt, claim, Mark { offset: upto, checksum });
        }
    }

    fn compare(&mut self, receipt: ReceiptId, claim: Mark, ours: Mark) {
        self.state = match claim == ours {
            true => {
                self.marks = VecDeque::from([ours]);
                State::Sending(Sending { receipt, acked: ours.offset, sent: ours, ready: None })
            }
            false => State::Greeting { anew: true },
        };
    }

    /// The target has answered.
    pub fn on_answer(&mut self, answer: TransferAnswer<C>) {
        match answer {
            TransferAnswer::Accepted { receipt, offset, checksum } => {
                self.on_accepted(receipt, Mark { offset, checksum });
            }
            TransferAnswer::Verified { receipt, offset } => self.on_verified(receipt, offset),
            TransferAnswer::Installing(receipt) => self.on_installing(receipt),
            TransferAnswer::Done(response) => self.over(TransferOutcome::Answered(response)),
            TransferAnswer::Outvoted(vote) => self.over(TransferOutcome::Outvoted(vote)),
            TransferAnswer::Rejected(rejection) => self.over(TransferOutcome::Rejected(rejection)),
        }
    }

    fn on_accepted(&mut self, receipt: ReceiptId, claim: Mark) {
        let State::Greeted { anew } = self.state else { return self.confused("it accepts what was not offered") };
        if claim.offset > self.offer.size || (anew && claim.offset != 0) {
            return self.confused("it has more than was sent");
        }
        let known = [START].into_iter().chain(self.marks.iter().copied()).find(|mark| mark.offset == claim.offset);
        match known {
            Some(ours) if ours.offset == 0 && claim != ours => self.confused("nothing has a checksum"),
            Some(ours) => self.compare(receipt, claim, ours),
            None => self.state = State::Comparing { receipt, claim },
        }
    }

    fn on_verified(&mut self, receipt: ReceiptId, offset: u64) {
        let State::Sending(sending) = &mut self.state else { return self.confused("it verifies what was not sent") };
        let is_mark = self.marks.iter().any(|mark| mark.offset == offset);
        if receipt != sending.receipt || offset <= sending.acked || !is_mark {
            return self.confused("it verifies what was not sent");
        }
        sending.acked = offset;
        while self.marks.front().is_some_and(|mark| mark.offset < offset) {
            self.marks.pop_front();
        }
    }

    fn on_installing(&mut self, receipt: ReceiptId) {
        match self.state {
            State::Finishing { receipt: ours } if ours == receipt => {
                // Everything is acknowledged, so the next step asks again.
                let sent = self.marks.back().copied().unwrap_or(START);
                self.state = State::Sending(Sending { receipt, acked: sent.offset, sent, ready: None });
            }
            State::Greeting { .. }
            | State::Greeted { .. }
            | State::Comparing { .. }
            | State::Sending(_)
            | State::Finishing { .. }
            | State::Over(_) => self.confused("it installs what was not finished"),
        }
    }

    fn confused(&mut self, why: &'static str) {
        self.over(TransferOutcome::Confused(why));
    }

    fn over(&mut self, outcome: TransferOutcome<C>) {
        self.state = State::Over(outcome);
    }

    /// Bytes of content that are sent and not acknowledged.
    pub fn in_flight_bytes(&self) -> u64 {
        match &self.state {
            State::Sending(sending) => sending.sent.offset - sending.acked,
            State::Greeting { .. }
            | State::Greeted { .. }
            | State::Comparing { .. }
            | State::Finishing { .. }
            | State::Over(_) => 0,
        }
    }
}
