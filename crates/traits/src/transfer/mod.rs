//! The transfer of a snapshot (Raft §7): what is said, and the two machines that say it.
//!
//! A [`SnapshotSender`] and a [`SnapshotReceiver`] decide; they hold no content, no socket and no clock. Whoever drives them
//! reads and writes the content, carries [`TransferRequest`]s one way and [`TransferAnswer`]s the other, and tells the
//! time: a connection in production, the simulator in a simulation.
//!
//! # What a transfer promises
//!
//! 1. **What is installed is what was read.** A piece is checked against a checksum over its receipt, its offset and its
//!    bytes before it is written; the whole is checked against a running checksum before it is handed over. When
//!    either check fails the receipt is dropped and the transfer starts anew.
//! 2. **No content moves in vain.** The offer comes first, with the sender's vote. A receiver that has promised itself to
//!    somebody newer, or has everything already, says so instead of asking for bytes.
//! 3. **A break costs at most one chunk.** At most `chunk_bytes` are sent and not acknowledged. After a break the
//!    receiver says how far it got, with the checksum up to there, and the sender goes on behind that, if its own bytes have
//!    the same checksum; so two snapshots are never glued together.
//! 4. **One receipt at a time.** Each accepted offer gets a [`ReceiptId`] of its own, which every later message names. A
//!    newer vote, another snapshot, or the same sender through another connection takes the place of what was under way,
//!    and what still arrives for the old receipt is turned away.
//! 5. **Nothing is half done.** Until the state machine installs the content, nothing of the server has changed; that
//!    installation has one commit point. A receipt that is replaced, fails, or hears nothing for
//!    [`RECEIPT_IDLE_MAX`] is dropped, and its content with it.
//!
//! # The sender's states
//!
//! | state | does | goes on when |
//! |---|---|---|
//! | greeting | sends the offer | accepted: to comparing or sending. Not needed, outvoted, rejected: over |
//! | comparing | reads again what the receiver says it has | same checksum: to sending. Another: offers anew, from the start |
//! | sending | reads pieces and sends them, at most a chunk ahead of the acknowledgements | all acknowledged: to finishing |
//! | finishing | sends the checksum of the whole, and again as long as the receiver says "installing" | the answer: over |
//!
//! A connection that breaks brings it back to greeting; a rejection ends it, and the next one begins from nothing.
//!
//! # The receiver's states
//!
//! | state | an offer | a piece, a finish |
//! |---|---|---|
//! | idle | begins a receipt | rejected as superseded |
//! | receiving | of the same content by the same sender: resumes it. With an older vote: outvoted. Else: replaces it | see above |
//! | installing | rejected as busy | the finish of this receipt waits with it |
//! | installed | begins a receipt | the finish of this receipt gets its answer again |

mod message;
mod receiver;
mod sender;
mod throttle;

pub use message::{
    ReceiptId, Rejection, SnapshotFinish, SnapshotOffer, SnapshotPiece, TransferAnswer, TransferRequest,
};
pub use receiver::{FinishVerdict, NewReceipt, OfferVerdict, RECEIPT_IDLE_MAX, SnapshotReceiver, VerifiedPiece};
pub use sender::{PieceSizes, SenderStep, SnapshotSender, TransferOutcome};
pub use throttle::Throttle;
