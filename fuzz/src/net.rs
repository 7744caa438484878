//! What comes over the wire.

use std::fmt::Debug;

use bytes::Bytes;
use raftwright::net::{
    BODY_LEN_MAX, Body, ClusterId, FAULT_TEXT_LEN_MAX, Fault, FaultCode, Features, FrameDecoder, FrameHead, HEADER_LEN,
    Hello, Kind, Lane, PeerIdentity, Refusal, RefusalReason, RequestId, Role, VersionRange, Welcome, WireMessage,
    encode_frame,
};
use raftwright::traits::transfer::{ReceiptId, SnapshotOffer, SnapshotPiece, TransferAnswer, TransferRequest};
use raftwright::traits::{
    AppendEntriesRequest, AppendEntriesResponse, BasicNode, Entry, EntryCodec, EntryKind, EntryPayload,
    HeartbeatRequest, HeartbeatResponse, Identity, Incarnation, InstallOutcome, InstallSnapshotResponse, LogIdOf,
    Membership, Round, SnapshotMeta, StoredMembership, TransferLeaderRequest, Vote, VoteRequest, VoteResponse,
};

raftwright::declare_raft_types!(
    /// The types of the messages.
    pub Types: D = Bytes, R = Bytes,
);

/// Longest body that the decoder takes here.
const LEN_MAX: u32 = 1 << 16;

/// Frames come out as they would when they are read byte by byte, and are encoded to what was read.
pub(crate) fn frames(data: &[u8]) {
    let mut whole = FrameDecoder::new(LEN_MAX);
    whole.feed(data);
    let mut pieces = FrameDecoder::new(LEN_MAX);
    let mut fed = 0;
    let mut read = 0;
    loop {
        let frame = whole.next_frame();
        let again = loop {
            match pieces.next_frame() {
                Ok(None) if fed < data.len() => {
                    let piece = (1 + fed % 7).min(data.len() - fed);
                    pieces.feed(&data[fed..fed + piece]);
                    fed += piece;
                }
                other => break other,
            }
        };
        assert_eq!(format!("{frame:?}"), format!("{again:?}"), "it does not matter in which pieces bytes come");
        let Ok(Some(frame)) = frame else { return };
        let mut body = Body::new();
        body.put_slice(&frame.body);
        let head = FrameHead { kind: frame.kind, role: frame.role, id: frame.id };
        let head = encode_frame(head, &body, BODY_LEN_MAX).expect("it was short enough to be read");
        assert_eq!(data[read..read + HEADER_LEN], head[..], "there is one form of each frame");
        read += HEADER_LEN + frame.body.len();
    }
}

pub(crate) fn frames_seeds() -> Vec<Vec<u8>> {
    let frame = |kind, role, id, bytes: &[u8]| {
        let mut body = Body::new();
        body.put_slice(bytes);
        let head = FrameHead { kind, role, id: RequestId(id) };
        let head = encode_frame(head, &body, LEN_MAX).expect("short");
        [&head[..], bytes].concat()
    };
    let first = frame(Kind::Vote, Role::Request, 1, b"a body");
    let second = frame(Kind::AppendEntries, Role::Answer, u64::MAX, &[7; 300]);
    vec![first.clone(), [first, second].concat()]
}

fn comes_back<M: Debug + PartialEq>(decoded: M, encoded: Body, decode: impl Fn(Bytes) -> Option<M>) {
    assert_eq!(decode(encoded.into_bytes()).as_ref(), Some(&decoded), "it comes back as it went");
}

pub(crate) fn handshake(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    let bytes = Bytes::copy_from_slice(bytes);
    match kind % 4 {
        0 => {
            if let Ok(hello) = Hello::decode(bytes) {
                comes_back(hello.clone(), hello.encode(), |bytes| Hello::decode(bytes).ok());
            }
        }
        1 => {
            if let Ok(welcome) = Welcome::decode(bytes) {
                comes_back(welcome.clone(), welcome.encode(), |bytes| Welcome::decode(bytes).ok());
            }
        }
        2 => {
            if let Ok(refusal) = Refusal::decode(bytes) {
                // The text is for a log: it may be escaped, and then it is longer than what is sent.
                assert!(!refusal.text.contains(char::is_control), "{:?}", refusal.text);
                let again = Refusal::decode(refusal.encode().into_bytes()).map(|again| again.reason);
                assert_eq!(again.as_ref(), Ok(&refusal.reason));
            }
        }
        _ => {
            if let Ok(fault) = Fault::decode(bytes) {
                let again = Fault::decode(fault.encode().into_bytes()).map(|again| again.code);
                assert_eq!(again, Ok(fault.code));
                assert!(fault.encode().into_bytes().len() <= 1 + FAULT_TEXT_LEN_MAX);
            }
        }
    }
}

fn message<M: WireMessage + Debug + PartialEq>(bytes: Bytes) {
    if let Ok(message) = M::decode(bytes) {
        let encoded = message.encode();
        comes_back(message, encoded, |bytes| M::decode(bytes).ok());
    }
}

pub(crate) fn messages(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    let bytes = Bytes::copy_from_slice(bytes);
    match kind % 10 {
        0 => message::<VoteRequest<Types>>(bytes),
        1 => message::<VoteResponse<Types>>(bytes),
        2 => message::<HeartbeatRequest<Types>>(bytes),
        3 => message::<HeartbeatResponse<Types>>(bytes),
        4 => message::<TransferLeaderRequest<Types>>(bytes),
        5 => message::<AppendEntriesRequest<Types>>(bytes),
        6 => message::<AppendEntriesResponse<Types>>(bytes),
        7 => message::<()>(bytes),
        8 => message::<TransferRequest<Types>>(bytes),
        _ => message::<TransferAnswer<Types>>(bytes),
    }
}

fn log_id(term: u64, index: u64) -> LogIdOf<Types> {
    use raftwright::traits::{CommittedLeaderId, CommittedLeaderIdOf};
    LogIdOf::<Types>::new(CommittedLeaderIdOf::<Types>::new(term, None), index)
}

pub(crate) fn members() -> Membership<u64, BasicNode> {
    let nodes = (1..=3).map(|id| (id, BasicNode::new(format!("host{id}:1")))).collect();
    Membership::new(vec![[1, 2].into(), [2, 3].into()], nodes).expect("all voters are nodes")
}

pub(crate) fn messages_seeds() -> Vec<Vec<u8>> {
    let from = Identity { id: 5, incarnation: Some(Incarnation(0x1122)) };
    let vote = Vote::new_committed(3, 5);
    let entries = vec![
        Entry { log_id: log_id(2, 8), payload: EntryPayload::Blank },
        Entry { log_id: log_id(2, 9), payload: EntryPayload::Membership(members()) },
        Entry { log_id: log_id(3, 10), payload: EntryPayload::Normal(Bytes::from_static(b"what a client asked")) },
    ];
    let append =
        AppendEntriesRequest::<Types> { from, vote, prev_log_id: Some(log_id(2, 7)), entries, committed: None };
    let heartbeat = HeartbeatRequest::<Types> { from, vote, round: Round(4), committed: Some(log_id(2, 7)) };
    let stored = StoredMembership::<Types> { log_id: Some(log_id(2, 9)), membership: members() };
    let meta =
        SnapshotMeta::<Types> { last_log_id: Some(log_id(3, 10)), last_membership: stored, snapshot_id: "3-10".into() };
    let offer = TransferRequest::Offer(SnapshotOffer::<Types> { from, vote, meta, size: 1 << 20, anew: true });
    let piece = SnapshotPiece::new(ReceiptId(7), 4096, Bytes::from_static(b"a part of a snapshot"));
    let piece = TransferRequest::<Types>::Piece(piece);
    let response = InstallSnapshotResponse::<Types> { from, outcome: InstallOutcome::<Types>::HigherVote(vote) };
    let accepted = TransferAnswer::<Types>::Accepted { receipt: ReceiptId(7), offset: 4096, checksum: 5 };
    vec![
        [&[8], &offer.encode().into_bytes()[..]].concat(),
        [&[8], &piece.encode().into_bytes()[..]].concat(),
        [&[9], &TransferAnswer::Done(response).encode().into_bytes()[..]].concat(),
        [&[9], &accepted.encode().into_bytes()[..]].concat(),
        [&[5], &append.encode().into_bytes()[..]].concat(),
        [&[2], &heartbeat.encode().into_bytes()[..]].concat(),
        [&[0], &[0; 60][..]].concat(),
    ]
}

pub(crate) fn handshake_seeds() -> Vec<Vec<u8>> {
    let cluster = Some(ClusterId([7; 16]));
    let identity = PeerIdentity { cluster, node: Some(1), incarnation: Some(7), boot_epoch: 3, membership: 9 };
    let (versions, features) = (VersionRange::CURRENT, Features::CURRENT);
    let hello = Hello { versions, features, lane: Lane::Bulk, identity, target: Some(2) }.encode().into_bytes();
    let refusal = Refusal::new(RefusalReason::WrongCluster, "another cluster").encode().into_bytes();
    let fault = Fault::new(FaultCode::Busy, "too many requests").encode().into_bytes();
    vec![
        [&[3], &fault[..]].concat(),
        [&[2], &refusal[..]].concat(),
        [&[0], &hello[..]].concat(),
        [&[1], &[0; 60][..]].concat(),
    ]
}

pub(crate) fn entry(data: &[u8]) {
    let Some((kind, payload)) = data.split_first() else { return };
    let Some(kind) = EntryKind::from_u8(kind % 4) else { return };
    let decode = |payload| <Entry<Types> as EntryCodec<Types>>::decode(log_id(1, 2), kind, payload);
    if let Ok(entry) = decode(Bytes::copy_from_slice(payload)) {
        assert_eq!(EntryCodec::<Types>::kind(&entry), kind);
        let again = decode(EntryCodec::<Types>::payload_bytes(&entry));
        assert_eq!(again.as_ref(), Ok(&entry), "it comes back as it went");
    }
}

pub(crate) fn entry_seeds() -> Vec<Vec<u8>> {
    let members = serde_json::to_vec(&members()).expect("maps and sets");
    vec![vec![0], [&[1], &b"payload"[..]].concat(), [&[2], &members[..]].concat()]
}
