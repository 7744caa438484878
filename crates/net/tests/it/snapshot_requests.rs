//! The receiving side, asked one request at a time: also what no honest sender would ask.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use raftwright_net::{Channel, Fault, FaultCode, Kind, Lane, Limits, RaftHandler, ServerHandle, WireMessage};
use raftwright_traits::crc32c;
use raftwright_traits::transfer::{
    RECEIPT_IDLE_MAX, ReceiptId, Rejection, SnapshotFinish, SnapshotOffer, SnapshotPiece, TransferAnswer,
    TransferRequest,
};
use raftwright_traits::{Span, VoteOf};

use crate::snapshot_fixture::{Config, Target, all_different, leader, me, meta};
use crate::support::{PATIENCE, dialer, eventually, node, open_gate, serve, target};

struct Asking {
    handler: Arc<RaftHandler<Config, Target>>,
    server: ServerHandle,
    address: String,
    channel: Channel,
}

async fn asking() -> Asking {
    let handler = RaftHandler::new(Target::new());
    let (address, server) = serve(open_gate(node(2)), Limits::default(), Arc::clone(&handler)).await;
    let channel = Channel::spawn(dialer(node(1)), target(&address, 2), Lane::Snapshot);
    Asking { handler, server, address, channel }
}

impl Asking {
    async fn ask(&self, request: TransferRequest<Config>) -> TransferAnswer<Config> {
        ask(&self.channel, request).await
    }

    async fn offer(&self, offer: SnapshotOffer<Config>) -> (ReceiptId, u64, u32) {
        accepted(self.ask(TransferRequest::Offer(offer)).await)
    }

    async fn piece(&self, receipt: ReceiptId, offset: u64, bytes: &'static [u8]) -> TransferAnswer<Config> {
        let piece = SnapshotPiece::new(receipt, offset, Bytes::from_static(bytes));
        self.ask(TransferRequest::Piece(piece)).await
    }

    async fn finish(&self, receipt: ReceiptId, size: u64, checksum: u32) -> TransferAnswer<Config> {
        let wait = Span::from_secs(1);
        self.ask(TransferRequest::Finish(SnapshotFinish { receipt, size, checksum, wait })).await
    }

    fn contents(&self) -> usize {
        self.handler.service().disk.alive.load(Ordering::SeqCst)
    }
}

async fn ask(channel: &Channel, request: TransferRequest<Config>) -> TransferAnswer<Config> {
    let answer = channel.call(Kind::Snapshot, request.encode(), PATIENCE).await.unwrap();
    TransferAnswer::decode(answer).unwrap()
}

fn offer(vote: VoteOf<Config>, size: u64) -> SnapshotOffer<Config> {
    SnapshotOffer { from: me(1), vote, meta: meta(9), size, anew: false }
}

fn accepted(answer: TransferAnswer<Config>) -> (ReceiptId, u64, u32) {
    let TransferAnswer::Accepted { receipt, offset, checksum } = answer else { panic!("{answer:?}") };
    (receipt, offset, checksum)
}

fn rejected(why: Rejection) -> TransferAnswer<Config> {
    TransferAnswer::Rejected(why)
}

const CONTENT: &[u8] = b"the whole content";

#[tokio::test]
async fn a_damaged_piece_is_refused_and_the_next_offer_begins_from_nothing() {
    let asking = asking().await;
    let (receipt, offset, _) = asking.offer(offer(leader(3, 1), 17)).await;
    assert_eq!(offset, 0);
    let verified = TransferAnswer::Verified { receipt, offset: 9 };
    assert_eq!(asking.piece(receipt, 0, &CONTENT[..9]).await, verified);
    let mut piece = SnapshotPiece::new(receipt, 9, Bytes::from_static(&CONTENT[9..]));
    piece.bytes = Bytes::from_static(b" confent");
    assert_eq!(asking.ask(TransferRequest::Piece(piece)).await, rejected(Rejection::Damaged));
    assert_eq!(asking.contents(), 0, "what was there is gone");
    assert_eq!(asking.piece(receipt, 9, &CONTENT[9..]).await, rejected(Rejection::Superseded));
    let (again, offset, checksum) = asking.offer(offer(leader(3, 1), 17)).await;
    assert_eq!((offset, checksum), (0, 0));
    assert_ne!(again, receipt);
    asking.server.shutdown().await;
}

#[tokio::test]
async fn a_piece_for_another_place_or_another_receipt_is_damaged() {
    let asking = asking().await;
    let (receipt, _, _) = asking.offer(offer(leader(3, 1), 17)).await;
    // The checksum is that of the same bytes elsewhere.
    let mut piece = SnapshotPiece::new(receipt, 9, Bytes::from_static(&CONTENT[..9]));
    piece.offset = 0;
    assert_eq!(asking.ask(TransferRequest::Piece(piece)).await, rejected(Rejection::Damaged));
    let (receipt, _, _) = asking.offer(offer(leader(3, 1), 17)).await;
    let mut piece = SnapshotPiece::new(ReceiptId(receipt.0 ^ 1), 0, Bytes::from_static(CONTENT));
    piece.receipt = receipt;
    assert_eq!(asking.ask(TransferRequest::Piece(piece)).await, rejected(Rejection::Damaged));
    asking.server.shutdown().await;
}

#[tokio::test]
async fn a_whole_that_is_not_what_was_sent_is_refused_and_dropped() {
    let asking = asking().await;
    let (receipt, _, _) = asking.offer(offer(leader(3, 1), 17)).await;
    asking.piece(receipt, 0, CONTENT).await;
    let checksum = crc32c::crc32c(CONTENT);
    assert_eq!(asking.finish(receipt, 17, checksum ^ 1).await, rejected(Rejection::Damaged));
    assert_eq!(asking.contents(), 0);
    assert_eq!(asking.finish(receipt, 17, checksum).await, rejected(Rejection::Superseded));
    assert!(asking.handler.service().installed.lock().unwrap().is_empty());
    let (receipt, offset, _) = asking.offer(offer(leader(3, 1), 17)).await;
    assert_eq!(offset, 0);
    asking.piece(receipt, 0, CONTENT).await;
    assert!(matches!(asking.finish(receipt, 17, checksum).await, TransferAnswer::Done(_)));
    // Its answer may have been lost: it is there again.
    assert!(matches!(asking.finish(receipt, 17, checksum).await, TransferAnswer::Done(_)));
    assert_eq!(asking.handler.service().last_installed(), CONTENT);
    asking.server.shutdown().await;
}

#[tokio::test]
async fn places_and_lengths_that_cannot_be_are_refused_and_change_nothing() {
    let asking = asking().await;
    for size in [u64::MAX, 1 << 63] {
        let answer = asking.ask(TransferRequest::Offer(offer(leader(3, 1), size))).await;
        assert_eq!(answer, rejected(Rejection::Malformed), "{size}");
    }
    assert_eq!(asking.handler.service().begun.load(Ordering::SeqCst), 0);
    // Nobody sets memory aside for what is only promised.
    let (receipt, _, _) = asking.offer(offer(leader(3, 1), (1 << 63) - 1)).await;
    assert_eq!(asking.piece(receipt, u64::MAX, b"x").await, rejected(Rejection::Malformed));
    assert_eq!(asking.piece(receipt, 1 << 63, b"x").await, rejected(Rejection::Malformed));
    assert_eq!(asking.piece(receipt, 1, b"x").await, rejected(Rejection::OutOfPlace));
    assert_eq!(asking.finish(receipt, 17, 0).await, rejected(Rejection::Malformed));
    let (receipt, offset, _) = asking.offer(offer(leader(3, 1), 17)).await;
    assert_eq!(offset, 0);
    assert_eq!(asking.piece(receipt, 0, b"longer than it said").await, rejected(Rejection::Malformed));
    assert_eq!(asking.finish(receipt, 17, 0).await, rejected(Rejection::Malformed));
    let verified = TransferAnswer::Verified { receipt, offset: 17 };
    assert_eq!(asking.piece(receipt, 0, CONTENT).await, verified);
    assert_eq!(asking.piece(receipt, 0, CONTENT).await, rejected(Rejection::OutOfPlace));
    let fault = |body: Vec<u8>| {
        let channel = asking.channel.clone();
        async move {
            let error = channel.call(Kind::Snapshot, body.into(), PATIENCE).await.unwrap_err();
            let raftwright_net::CallError::Fault(Fault { code, .. }) = error else { panic!("{error}") };
            assert_eq!(code, FaultCode::BadRequest);
        }
    };
    fault(vec![]).await;
    fault(vec![9]).await;
    let too_long = SnapshotPiece::new(receipt, 0, vec![0; raftwright_net::limits::SNAPSHOT_PIECE_BYTES_MAX + 1].into());
    fault(TransferRequest::<Config>::Piece(too_long).encode().into_bytes().to_vec()).await;
    asking.server.shutdown().await;
}

#[tokio::test]
async fn every_offer_gets_a_receipt_of_its_own_and_only_the_newest_counts() {
    let asking = asking().await;
    let other = Channel::spawn(dialer(node(1)), target(&asking.address, 2), Lane::Snapshot);
    let (first, _, _) = asking.offer(offer(leader(3, 1), 17)).await;
    asking.piece(first, 0, &CONTENT[..9]).await;
    // The same leader through a new connection, while the old one is thought to be open.
    let (second, offset, checksum) = accepted(ask(&other, TransferRequest::Offer(offer(leader(3, 1), 17))).await);
    assert_eq!((offset, checksum), (9, crc32c::crc32c(&CONTENT[..9])));
    assert_eq!(asking.piece(first, 9, &CONTENT[9..]).await, rejected(Rejection::Superseded));
    // Elected again, it has the same snapshot.
    let (third, offset, _) = asking.offer(offer(leader(5, 1), 17)).await;
    assert_eq!(offset, 9);
    // What it was before does not count any more.
    let late = ask(&other, TransferRequest::Offer(offer(leader(3, 1), 17))).await;
    assert_eq!(late, TransferAnswer::Outvoted(leader(5, 1)));
    // Another snapshot, and one that is to begin anew, begin from nothing.
    let mut newer = offer(leader(5, 1), 17);
    newer.meta = meta(10);
    let (fourth, offset, _) = asking.offer(newer.clone()).await;
    assert_eq!(offset, 0);
    asking.piece(fourth, 0, &CONTENT[..9]).await;
    let (fifth, offset, _) = asking.offer(SnapshotOffer { anew: true, ..newer }).await;
    assert_eq!(offset, 0);
    assert_eq!(asking.contents(), 1, "one content at a time");
    assert!(all_different(&[first.0, second.0, third.0, fourth.0, fifth.0]));
    asking.server.shutdown().await;
}

#[tokio::test]
async fn an_offer_in_the_name_of_another_node_is_refused() {
    let asking = asking().await;
    let mut foreign = offer(leader(3, 3), 17);
    foreign.from = me(3);
    let request = TransferRequest::<Config>::Offer(foreign).encode();
    let error = asking.channel.call(Kind::Snapshot, request, PATIENCE).await.unwrap_err();
    assert!(error.to_string().contains("speaks in the name of node 3"), "{error}");
    assert_eq!(asking.handler.service().begun.load(Ordering::SeqCst), 0);
    asking.server.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_nobody_goes_on_with_is_dropped_in_the_end() {
    let asking = asking().await;
    let (receipt, _, _) = asking.offer(offer(leader(3, 1), 17)).await;
    asking.piece(receipt, 0, &CONTENT[..9]).await;
    assert_eq!(asking.contents(), 1);
    tokio::time::advance(Duration::from(RECEIPT_IDLE_MAX) + Duration::from_secs(1)).await;
    eventually(|| asking.contents() == 0).await;
    // And the next one is looked after as well.
    let channel = Channel::spawn(dialer(node(1)), target(&asking.address, 2), Lane::Snapshot);
    let (_, offset, _) = accepted(ask(&channel, TransferRequest::Offer(offer(leader(3, 1), 17))).await);
    assert_eq!((offset, asking.contents()), (0, 1));
    tokio::time::advance(Duration::from(RECEIPT_IDLE_MAX) + Duration::from_secs(1)).await;
    eventually(|| asking.contents() == 0).await;
    asking.server.shutdown().await;
}
