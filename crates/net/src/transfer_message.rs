//! The messages of a snapshot's transfer as bodies of frames, version 1. `docs/wire-format.md` draws them.

use bytes::Bytes;
use raftwright_traits::transfer::{
    ReceiptId, Rejection, SnapshotFinish, SnapshotOffer, SnapshotPiece, TransferAnswer, TransferRequest,
};
use raftwright_traits::{
    InstallOutcome, InstallSnapshotResponse, SnapshotMeta, Span, StoredMembership, membership_from_bytes,
    membership_to_bytes,
};

use crate::body::{Body, BodyReader, DecodeError};
use crate::limits::{SNAPSHOT_ID_LEN_MAX, SNAPSHOT_PIECE_BYTES_MAX};
use crate::message::{
    FIXED_ROOM, WireMessage, WireTypes, put_bool, put_identity, put_optional_log_id, put_refusal, put_vote, take_bool,
    take_identity, take_log_id, take_optional_log_id, take_refusal, take_vote,
};

const OFFER: u8 = 0;
const PIECE: u8 = 1;
const FINISH: u8 = 2;

impl<C: WireTypes> WireMessage for TransferRequest<C> {
    fn encode(&self) -> Body {
        match self {
            TransferRequest::Offer(offer) => encode_offer(offer),
            TransferRequest::Piece(piece) => {
                let mut body = Body::with_capacity(FIXED_ROOM);
                body.put_u8(PIECE);
                body.put_u64(piece.receipt.0);
                body.put_u64(piece.offset);
                body.put_u32(piece.checksum);
                body.put_bytes(piece.bytes.clone());
                body
            }
            TransferRequest::Finish(finish) => {
                let mut body = Body::with_capacity(FIXED_ROOM);
                body.put_u8(FINISH);
                body.put_u64(finish.receipt.0);
                body.put_u64(finish.size);
                body.put_u32(finish.checksum);
                body.put_u32(u32::try_from(finish.wait.as_millis()).unwrap_or(u32::MAX));
                body
            }
        }
    }

    fn decode(body: Bytes) -> Result<Self, DecodeError> {
        let mut body = BodyReader::new(body);
        match body.u8("part of a transfer")? {
            OFFER => Ok(TransferRequest::Offer(decode_offer::<C>(body)?)),
            PIECE => {
                let receipt = ReceiptId(body.u64("receipt")?);
                let offset = body.u64("offset of a piece")?;
                let checksum = body.u32("checksum of a piece")?;
                let bytes = body.rest();
                if bytes.is_empty() || bytes.len() > SNAPSHOT_PIECE_BYTES_MAX {
                    return Err(DecodeError::Value("length of a piece"));
                }
                Ok(TransferRequest::Piece(SnapshotPiece { receipt, offset, checksum, bytes }))
            }
            FINISH => {
                let receipt = ReceiptId(body.u64("receipt")?);
                let size = body.u64("size of a snapshot")?;
                let checksum = body.u32("checksum of a snapshot")?;
                let wait = Span::from_millis(u64::from(body.u32("time to wait")?));
                body.finish()?;
                Ok(TransferRequest::Finish(SnapshotFinish { receipt, size, checksum, wait }))
            }
            _ => Err(DecodeError::Value("part of a transfer")),
        }
    }
}

fn encode_offer<C: WireTypes>(offer: &SnapshotOffer<C>) -> Body {
    let SnapshotOffer { from, vote, meta, size, anew } = offer;
    let mut body = Body::with_capacity(2 * FIXED_ROOM);
    body.put_u8(OFFER);
    put_identity(&mut body, from);
    put_vote::<C>(&mut body, vote);
    // An offer without a last log id is never made; it would not be read.
    put_optional_log_id::<C>(&mut body, meta.last_log_id.as_ref());
    let StoredMembership::<C> { log_id, membership } = &meta.last_membership;
    put_optional_log_id::<C>(&mut body, log_id.as_ref());
    if log_id.is_some() {
        let membership = membership_to_bytes::<C>(membership);
        body.put_u32(u32::try_from(membership.len()).unwrap_or(u32::MAX));
        body.put_bytes(membership);
    }
    body.put_u16(u16::try_from(meta.snapshot_id.len()).unwrap_or(u16::MAX));
    body.put_slice(meta.snapshot_id.as_bytes());
    body.put_u64(*size);
    put_bool(&mut body, *anew);
    body
}

fn decode_offer<C: WireTypes>(mut body: BodyReader) -> Result<SnapshotOffer<C>, DecodeError> {
    let from = take_identity(&mut body)?;
    let vote = take_vote::<C>(&mut body)?;
    let last_log_id = Some(take_log_id::<C>(&mut body)?);
    let log_id = take_optional_log_id::<C>(&mut body)?;
    let last_membership = match log_id {
        Some(_) => {
            let bytes = body.bytes_u32("membership")?;
            let membership = membership_from_bytes::<C>(&bytes).map_err(|_| DecodeError::Value("membership"))?;
            StoredMembership::<C> { log_id, membership }
        }
        None => StoredMembership::<C>::default(),
    };
    let len = usize::from(body.u16("length of a snapshot's id")?);
    if len > SNAPSHOT_ID_LEN_MAX {
        return Err(DecodeError::Value("length of a snapshot's id"));
    }
    let snapshot_id = body.bytes(len, "snapshot's id")?;
    let snapshot_id = std::str::from_utf8(&snapshot_id).map_err(|_| DecodeError::Value("snapshot's id"))?.to_owned();
    let size = body.u64("size of a snapshot")?;
    let anew = take_bool(&mut body, "anew")?;
    body.finish()?;
    Ok(SnapshotOffer { from, vote, meta: SnapshotMeta { last_log_id, last_membership, snapshot_id }, size, anew })
}

const ACCEPTED: u8 = 0;
const VERIFIED: u8 = 1;
const INSTALLING: u8 = 2;
const DONE: u8 = 3;
const OUTVOTED: u8 = 4;
const REJECTED: u8 = 5;

const INSTALLED: u8 = 0;
const HIGHER_VOTE: u8 = 1;
const REFUSED: u8 = 2;

impl<C: WireTypes> WireMessage for TransferAnswer<C> {
    fn encode(&self) -> Body {
        let mut body = Body::with_capacity(FIXED_ROOM);
        match self {
            TransferAnswer::Accepted { receipt, offset, checksum } => {
                body.put_u8(ACCEPTED);
                body.put_u64(receipt.0);
                body.put_u64(*offset);
                body.put_u32(*checksum);
            }
            TransferAnswer::Verified { receipt, offset } => {
                body.put_u8(VERIFIED);
                body.put_u64(receipt.0);
                body.put_u64(*offset);
            }
            TransferAnswer::Installing(receipt) => {
                body.put_u8(INSTALLING);
                body.put_u64(receipt.0);
            }
            TransferAnswer::Done(response) => {
                body.put_u8(DONE);
                put_response(&mut body, response);
            }
            TransferAnswer::Outvoted(vote) => {
                body.put_u8(OUTVOTED);
                put_vote::<C>(&mut body, vote);
            }
            TransferAnswer::Rejected(rejection) => {
                body.put_u8(REJECTED);
                body.put_u8(code_of(*rejection));
            }
        }
        body
    }

    fn decode(body: Bytes) -> Result<Self, DecodeError> {
        let mut body = BodyReader::new(body);
        let answer = match body.u8("answer of a transfer")? {
            ACCEPTED => {
                let receipt = ReceiptId(body.u64("receipt")?);
                let offset = body.u64("offset")?;
                TransferAnswer::Accepted { receipt, offset, checksum: body.u32("checksum")? }
            }
            VERIFIED => {
                let receipt = ReceiptId(body.u64("receipt")?);
                TransferAnswer::Verified { receipt, offset: body.u64("offset")? }
            }
            INSTALLING => TransferAnswer::Installing(ReceiptId(body.u64("receipt")?)),
            DONE => TransferAnswer::Done(take_response::<C>(&mut body)?),
            OUTVOTED => TransferAnswer::Outvoted(take_vote::<C>(&mut body)?),
            REJECTED => TransferAnswer::Rejected(rejection_of(body.u8("rejection")?)?),
            _ => return Err(DecodeError::Value("answer of a transfer")),
        };
        body.finish()?;
        Ok(answer)
    }
}

fn put_response<C: WireTypes>(body: &mut Body, response: &InstallSnapshotResponse<C>) {
    put_identity(body, &response.from);
    match &response.outcome {
        InstallOutcome::<C>::Installed => body.put_u8(INSTALLED),
        InstallOutcome::<C>::HigherVote(vote) => {
            body.put_u8(HIGHER_VOTE);
            put_vote::<C>(body, vote);
        }
        InstallOutcome::<C>::Refused(reason) => {
            body.put_u8(REFUSED);
            put_refusal(body, *reason);
        }
    }
}

fn take_response<C: WireTypes>(body: &mut BodyReader) -> Result<InstallSnapshotResponse<C>, DecodeError> {
    let from = take_identity(body)?;
    let outcome = match body.u8("outcome")? {
        INSTALLED => InstallOutcome::<C>::Installed,
        HIGHER_VOTE => InstallOutcome::<C>::HigherVote(take_vote::<C>(body)?),
        REFUSED => InstallOutcome::<C>::Refused(take_refusal(body)?),
        _ => return Err(DecodeError::Value("outcome")),
    };
    Ok(InstallSnapshotResponse::<C> { from, outcome })
}

const fn code_of(rejection: Rejection) -> u8 {
    match rejection {
        Rejection::Busy => 1,
        Rejection::Superseded => 2,
        Rejection::OutOfPlace => 3,
        Rejection::Damaged => 4,
        Rejection::Malformed => 5,
        Rejection::Storage => 6,
    }
}

const fn rejection_of(code: u8) -> Result<Rejection, DecodeError> {
    Ok(match code {
        1 => Rejection::Busy,
        2 => Rejection::Superseded,
        3 => Rejection::OutOfPlace,
        4 => Rejection::Damaged,
        5 => Rejection::Malformed,
        6 => Rejection::Storage,
        _ => return Err(DecodeError::Value("rejection")),
    })
}
