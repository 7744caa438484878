//! Messages as bodies: golden bytes, round trips, and bodies that are no messages.

use bytes::Bytes;
use proptest::prelude::*;
use raftwright_net::WireMessage;
use raftwright_traits::{
    AdvancedLeaderId, AppendEntriesRequest, AppendEntriesResponse, AppendOutcome, BasicNode, CommittedLeaderId,
    CommittedLeaderIdOf, Entry, EntryPayload, HeartbeatRequest, HeartbeatResponse, Identity, Incarnation, LogId,
    LogIdOf, Membership, PeerRefusal, RaftTypeConfig, ReadIndexAnswer, ReadIndexRequest, ReadIndexResponse, ReadPolicy,
    Round, Span, TransferLeaderRequest, Vote, VoteKind, VoteOf, VoteRequest, VoteResponse,
};

raftwright_traits::declare_raft_types!(
    /// The default leader id: a committed one is the term alone.
    pub(crate) Standard: D = Bytes, R = Bytes
);
raftwright_traits::declare_raft_types!(
    /// A committed leader id names the node too.
    pub(crate) Advanced: D = Bytes, R = Bytes, LeaderId = AdvancedLeaderId<u64>
);

fn log_id<C: RaftTypeConfig<NodeId = u64>>(term: u64, index: u64) -> LogIdOf<C> {
    LogId::new(CommittedLeaderIdOf::<C>::new(term, Some(5)), index)
}

fn vote<C: RaftTypeConfig<NodeId = u64>>(term: u64) -> VoteOf<C> {
    Vote::new_committed(term, 5)
}

const FROM: Identity<u64> = Identity { id: 5, incarnation: Some(Incarnation(0x1122)) };
const FROM_NO_DISK: Identity<u64> = Identity { id: 6, incarnation: None };

fn append<C>(payloads: &[Vec<u8>]) -> AppendEntriesRequest<C>
where
    C: RaftTypeConfig<NodeId = u64, D = Bytes, Node = BasicNode, Entry = Entry<C>>,
{
    let membership = Membership::new(
        vec![[1, 2].into(), [2, 3].into()],
        (1..=4).map(|id| (id, BasicNode::new(format!("host{id}:1")))).collect(),
    );
    let mut entries = vec![
        Entry { log_id: log_id::<C>(2, 8), payload: EntryPayload::Blank },
        Entry { log_id: log_id::<C>(2, 9), payload: EntryPayload::Membership(membership.unwrap()) },
    ];
    let normal = (10..).zip(payloads).map(|(index, payload)| Entry {
        log_id: log_id::<C>(3, index),
        payload: EntryPayload::Normal(Bytes::from(payload.clone())),
    });
    entries.extend(normal);
    let (prev_log_id, committed) = (Some(log_id::<C>(2, 7)), None);
    AppendEntriesRequest::<C> { from: FROM, vote: vote::<C>(3), prev_log_id, entries, committed }
}

/// Comes back whole; and no shorter or longer body is taken for the same kind of message.
fn comes_back<M: WireMessage + PartialEq + std::fmt::Debug>(message: M) {
    let bytes = message.encode().into_bytes();
    assert_eq!(M::decode(bytes.clone()).as_ref(), Ok(&message));
    for cut in 0..bytes.len() {
        assert!(M::decode(bytes.slice(..cut)).is_err(), "{message:?} cut at {cut}");
    }
    let mut longer = bytes.to_vec();
    longer.push(0);
    assert!(M::decode(longer.into()).is_err(), "{message:?} and a byte");
}

fn all_messages_come_back<C>()
where
    C: RaftTypeConfig<
            NodeId = u64,
            D = Bytes,
            Node = BasicNode,
            Entry = Entry<C>,
            SnapshotData = std::io::Cursor<Vec<u8>>,
        >,
{
    for kind in [VoteKind::PreVote, VoteKind::Vote, VoteKind::Transfer] {
        let last_log_id = Some(log_id::<C>(2, 9));
        let permit = (kind == VoteKind::Transfer).then(|| vote::<C>(2));
        comes_back(VoteRequest::<C> { from: FROM, vote: vote::<C>(3), last_log_id, kind, permit });
        let asked = vote::<C>(3);
        let vote = Some(vote::<C>(u64::MAX));
        comes_back(VoteResponse::<C> { from: FROM_NO_DISK, kind, asked, granted: true, vote });
    }
    comes_back(HeartbeatRequest::<C> { from: FROM, vote: vote::<C>(3), round: Round(9), committed: None });
    comes_back(HeartbeatResponse::<C> {
        from: FROM,
        round: Round(u64::MAX),
        asked: vote::<C>(1),
        accepted: false,
        vote: None,
    });
    let last_log_id = Some(log_id::<C>(u64::MAX, u64::MAX));
    comes_back(TransferLeaderRequest::<C> { from: FROM, vote: vote::<C>(3), to: 8, last_log_id });
    for policy in [ReadPolicy::ReadIndex, ReadPolicy::Lease, ReadPolicy::AckedWithin(Span::from_nanos(u64::MAX))] {
        comes_back(ReadIndexRequest::<C> { from: FROM, policy });
    }
    for answer in [
        ReadIndexAnswer::<C>::Confirmed { read_log_id: log_id::<C>(3, 7) },
        ReadIndexAnswer::<C>::NotLeader { leader: None },
        ReadIndexAnswer::<C>::NotLeader { leader: Some(u64::MAX) },
        ReadIndexAnswer::<C>::Busy,
        ReadIndexAnswer::<C>::NotConfirmed,
    ] {
        comes_back(ReadIndexResponse::<C> { from: FROM, answer });
    }
    comes_back(append::<C>(&[vec![], vec![1], vec![2; 5000]]));
    let (first, second) = (log_id::<C>(1, 1), log_id::<C>(2, 2));
    for outcome in [
        AppendOutcome::<C>::Success { matched: Some(first) },
        AppendOutcome::<C>::Success { matched: None },
        AppendOutcome::<C>::Conflict { prev: second, hint: Some(first) },
        AppendOutcome::<C>::Conflict { prev: second, hint: None },
        AppendOutcome::<C>::HigherVote(vote::<C>(8)),
        AppendOutcome::<C>::Refused(PeerRefusal::Busy),
        AppendOutcome::<C>::Refused(PeerRefusal::Malformed),
    ] {
        comes_back(AppendEntriesResponse::<C> { from: FROM, outcome });
    }
}

#[test]
fn messages_of_standard_leader_ids_come_back() {
    all_messages_come_back::<Standard>();
}

#[test]
fn messages_of_advanced_leader_ids_come_back() {
    all_messages_come_back::<Advanced>();
}

#[test]
fn nodes_built_with_different_leader_ids_do_not_understand_each_other() {
    let body = append::<Advanced>(&[]).encode().into_bytes();
    assert!(AppendEntriesRequest::<Standard>::decode(body).is_err());
    let body = append::<Standard>(&[]).encode().into_bytes();
    assert!(AppendEntriesRequest::<Advanced>::decode(body).is_err());
}

#[test]
fn version_1_of_the_messages_is_these_bytes() {
    let entry = Entry { log_id: log_id::<Standard>(3, 10), payload: EntryPayload::Normal(Bytes::from_static(b"set")) };
    let request = AppendEntriesRequest::<Standard> {
        from: FROM,
        vote: vote::<Standard>(3),
        prev_log_id: Some(log_id::<Standard>(2, 9)),
        entries: vec![entry],
        committed: None,
    };
    let golden = [
        &[5, 0, 0, 0, 0, 0, 0, 0][..],                         // node
        &[1, 0x22, 0x11, 0, 0, 0, 0, 0, 0],                    // its incarnation
        &[1, 3, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0],  // vote: committed, term, node
        &[1, 2, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0],  // previous log id: term, index
        &[0],                                                  // nothing committed
        &[1, 0, 0, 0],                                         // one entry
        &[1],                                                  // normal
        &[1, 3, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0], // its log id
        &[3, 0, 0, 0, b's', b'e', b't'],                       // its payload
    ]
    .concat();
    assert_eq!(request.encode().into_bytes(), golden);

    let advanced = VoteRequest::<Advanced> {
        from: FROM_NO_DISK,
        vote: Vote::new(4, 6),
        last_log_id: Some(log_id::<Advanced>(3, 2)),
        kind: VoteKind::Vote,
        permit: None,
    };
    let golden = [
        &[6, 0, 0, 0, 0, 0, 0, 0, 0][..],                     // node, no incarnation
        &[1],                                                 // a vote, not a pre-vote
        &[0, 4, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0], // not committed, term, node
        &[2, 3, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0], // term, node, index
    ]
    .concat();
    assert_eq!(advanced.encode().into_bytes(), golden);
}

#[test]
fn payloads_are_slices_of_the_frame() {
    let body = append::<Standard>(&[vec![3; 100]]).encode().into_bytes();
    let range = body.as_ptr_range();
    let request = AppendEntriesRequest::<Standard>::decode(body.clone()).unwrap();
    let EntryPayload::Normal(payload) = &request.entries[2].payload else { panic!("{request:?}") };
    assert!(range.contains(&payload.as_ptr()));
}

#[test]
fn a_count_that_lies_sets_no_memory_aside() {
    let mut body = append::<Standard>(&[]).encode().into_bytes().to_vec();
    // Identity 17, vote 17, previous log id 17, no commit 1.
    body[52..56].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(AppendEntriesRequest::<Standard>::decode(body.into()).is_err());
}

fn decode_as_everything(body: &Bytes) {
    let _any = VoteRequest::<Standard>::decode(body.clone());
    let _any = VoteResponse::<Standard>::decode(body.clone());
    let _any = HeartbeatRequest::<Standard>::decode(body.clone());
    let _any = HeartbeatResponse::<Advanced>::decode(body.clone());
    let _any = TransferLeaderRequest::<Advanced>::decode(body.clone());
    let _any = AppendEntriesRequest::<Advanced>::decode(body.clone());
    let _any = AppendEntriesResponse::<Advanced>::decode(body.clone());
}

proptest! {
    #[test]
    fn random_bodies_never_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
        decode_as_everything(&body.into());
    }

    #[test]
    fn damaged_appends_never_panic(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..5),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut body = append::<Advanced>(&payloads).encode().into_bytes().to_vec();
        for (at, value) in damage {
            let at = at.index(body.len());
            body[at] = value;
        }
        decode_as_everything(&body.into());
    }

    #[test]
    fn appends_come_back(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 0..5)) {
        let request = append::<Standard>(&payloads);
        let decoded = AppendEntriesRequest::<Standard>::decode(request.encode().into_bytes());
        prop_assert_eq!(decoded, Ok(request));
    }
}
