//! The messages of a transfer as bodies: golden bytes, round trips, and bodies that are no messages.

use bytes::Bytes;
use proptest::prelude::*;
use raftwright_net::WireMessage;
use raftwright_net::limits::SNAPSHOT_ID_LEN_MAX;
use raftwright_traits::crc32c;
use raftwright_traits::transfer::{
    ReceiptId, Rejection, SnapshotFinish, SnapshotOffer, SnapshotPiece, TransferAnswer, TransferRequest,
};
use raftwright_traits::{InstallOutcome, InstallSnapshotResponse, PeerRefusal, Span, StoredMembership};

use crate::snapshot_fixture::{Config, leader, me, meta};

type Request = TransferRequest<Config>;
type Answer = TransferAnswer<Config>;

fn offer(anew: bool) -> SnapshotOffer<Config> {
    SnapshotOffer { from: me(1), vote: leader(3, 1), meta: meta(9), size: 70_000, anew }
}

fn requests() -> Vec<Request> {
    let mut bare = offer(true);
    bare.meta.last_membership = StoredMembership::<Config>::default();
    bare.meta.snapshot_id = String::new();
    let finish = SnapshotFinish { receipt: ReceiptId(u64::MAX), size: 1, checksum: 2, wait: Span::from_millis(700) };
    vec![Request::Offer(offer(false)), Request::Offer(bare), Request::Finish(finish)]
}

fn answers() -> Vec<Answer> {
    let done = |outcome| Answer::Done(InstallSnapshotResponse::<Config> { from: me(2), outcome });
    let rejections = [
        Rejection::Busy,
        Rejection::Superseded,
        Rejection::OutOfPlace,
        Rejection::Damaged,
        Rejection::Malformed,
        Rejection::Storage,
    ];
    let receipt = ReceiptId(7);
    let mut answers = vec![
        Answer::Accepted { receipt, offset: u64::MAX, checksum: u32::MAX },
        Answer::Verified { receipt, offset: 9 },
        Answer::Installing(receipt),
        done(InstallOutcome::<Config>::Installed),
        done(InstallOutcome::<Config>::HigherVote(leader(4, 3))),
        done(InstallOutcome::<Config>::Refused(PeerRefusal::Busy)),
        done(InstallOutcome::<Config>::Refused(PeerRefusal::Malformed)),
        Answer::Outvoted(leader(4, 3)),
    ];
    answers.extend(rejections.map(Answer::Rejected));
    answers
}

/// Comes back whole; and no shorter or longer body is taken for the same message.
fn comes_back<M: WireMessage + PartialEq + std::fmt::Debug>(message: &M) {
    let bytes = message.encode().into_bytes();
    assert_eq!(M::decode(bytes.clone()).as_ref(), Ok(message));
    for cut in 0..bytes.len() {
        assert!(M::decode(bytes.slice(..cut)).is_err(), "{message:?} cut at {cut}");
    }
    let mut longer = bytes.to_vec();
    longer.push(0);
    assert!(M::decode(longer.into()).is_err(), "{message:?} and a byte");
}

#[test]
fn messages_of_a_transfer_come_back() {
    requests().iter().for_each(comes_back);
    answers().iter().for_each(comes_back);
}

#[test]
fn a_piece_comes_back_as_a_slice_of_its_frame() {
    let piece = SnapshotPiece::new(ReceiptId(7), 5, Bytes::from(vec![3; 5000]));
    let body = Request::Piece(piece.clone()).encode().into_bytes();
    let range = body.as_ptr_range();
    let Request::Piece(decoded) = Request::decode(body.clone()).unwrap() else { panic!("no piece") };
    assert_eq!(decoded, piece);
    assert!(range.contains(&decoded.bytes.as_ptr()));
    // The length is that of the frame; a shorter one is a piece that its checksum does not fit, or none at all.
    for cut in 0..body.len() {
        match Request::decode(body.slice(..cut)) {
            Ok(Request::Piece(shorter)) => assert!(!shorter.is_sound(), "cut at {cut}"),
            Ok(other) => panic!("{other:?}"),
            Err(_) => {}
        }
    }
}

#[test]
fn an_offer_whose_id_is_too_long_is_not_read() {
    let mut offer = offer(false);
    offer.meta.snapshot_id = "x".repeat(SNAPSHOT_ID_LEN_MAX);
    comes_back(&Request::Offer(offer.clone()));
    offer.meta.snapshot_id.push('x');
    assert!(Request::decode(Request::Offer(offer).encode().into_bytes()).is_err());
}

#[test]
fn version_1_of_the_transfer_is_these_bytes() {
    let mut small = offer(true);
    small.meta.last_membership = StoredMembership::<Config>::default();
    let golden = [
        &[0][..],                                               // an offer
        &[1, 0, 0, 0, 0, 0, 0, 0, 1, 100, 0, 0, 0, 0, 0, 0, 0], // node, its incarnation
        &[1, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],   // vote: committed, term, node
        &[1, 2, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0],   // last log id: term, index
        &[0],                                                   // no membership
        &[3, 0, b'2', b'-', b'9'],                              // the snapshot's id
        &[0x70, 0x11, 1, 0, 0, 0, 0, 0],                        // size
        &[1],                                                   // anew
    ]
    .concat();
    assert_eq!(Request::Offer(small).encode().into_bytes(), golden);

    let piece = SnapshotPiece::new(ReceiptId(7), 5, Bytes::from_static(b"abc"));
    let covered = [&[7, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0][..], b"abc"].concat();
    let checksum = crc32c::crc32c(&covered).to_le_bytes();
    let golden = [&[1][..], &covered[..16], &checksum, b"abc"].concat();
    assert_eq!(Request::Piece(piece).encode().into_bytes(), golden);

    let finish = SnapshotFinish { receipt: ReceiptId(7), size: 8, checksum: 9, wait: Span::from_millis(10) };
    let golden = [
        &[2][..],                   // a finish
        &[7, 0, 0, 0, 0, 0, 0, 0],  // receipt
        &[8, 0, 0, 0, 0, 0, 0, 0],  // size
        &[9, 0, 0, 0, 10, 0, 0, 0], // checksum, time to wait in milliseconds
    ]
    .concat();
    assert_eq!(Request::Finish(finish).encode().into_bytes(), golden);

    let golden = [
        &[0][..],                                          // accepted
        &[7, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0], // receipt, offset
        &[9, 0, 0, 0],                                     // checksum
    ]
    .concat();
    let answer = Answer::Accepted { receipt: ReceiptId(7), offset: 5, checksum: 9 };
    assert_eq!(answer.encode().into_bytes(), golden);
    let higher = InstallOutcome::<Config>::HigherVote(leader(4, 3));
    let golden = [
        &[3][..],                                               // the end
        &[2, 0, 0, 0, 0, 0, 0, 0, 1, 200, 0, 0, 0, 0, 0, 0, 0], // node, its incarnation
        &[1],                                                   // a higher vote
        &[1, 4, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0],   // committed, term, node
    ]
    .concat();
    let answer = Answer::Done(InstallSnapshotResponse::<Config> { from: me(2), outcome: higher });
    assert_eq!(answer.encode().into_bytes(), golden);
    assert_eq!(Answer::Rejected(Rejection::Storage).encode().into_bytes(), [5, 6][..]);
}

proptest! {
    #[test]
    fn random_bodies_are_no_messages_and_never_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let body = Bytes::from(body);
        let _any = Request::decode(body.clone());
        let _any = Answer::decode(body);
    }

    #[test]
    fn damaged_messages_never_panic(
        which in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let requests = requests();
        let mut body = requests[which.index(requests.len())].encode().into_bytes().to_vec();
        for (at, value) in damage {
            let at = at.index(body.len());
            body[at] = value;
        }
        let _any = Request::decode(body.into());
    }
}
