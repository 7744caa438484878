use super::*;
use crate::sessions::SessionId;
use crate::{BoxError, decode, encode};
use raftwright_traits::{BasicNode, CommittedLeaderId, CommittedTerm, LogId, Membership};

/// Sums what it is given.
#[derive(Default, Debug, PartialEq)]
struct Sum(u64);

impl StateMachine for Sum {
    type Command = u64;
    type Query = ();
    type Answer = u64;

    fn apply(&mut self, add: u64) -> u64 {
        self.0 += add;
        self.0
    }

    fn query(&self, (): ()) -> u64 {
        self.0
    }

    fn snapshot(&self) -> Result<Vec<u8>, BoxError> {
        encode(&self.0)
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), BoxError> {
        self.0 = decode(snapshot)?;
        Ok(())
    }
}

fn id(index: u64) -> LogIdOf<EasyConfig> {
    LogId::new(CommittedTerm::new(1, None), index)
}

fn entry(index: u64, bytes: Bytes) -> Entry<EasyConfig> {
    Entry { log_id: id(index), payload: EntryPayload::Normal(bytes) }
}

async fn apply(state: &mut Replicated<Sum>, index: u64, bytes: Bytes) -> Applied {
    let answers = state.apply(vec![entry(index, bytes)]).await.unwrap();
    Applied::decode(answers[0].clone()).unwrap()
}

fn command<T: serde::Serialize>(session: SessionId, sequence: u64, command: &T) -> Bytes {
    Envelope::in_session(Envelope::with_room(command).unwrap(), session, sequence, 0)
}

async fn open(state: &mut Replicated<Sum>, index: u64) -> SessionId {
    match apply(state, index, Envelope::open_session(index)).await {
        Applied::Opened(session) => session,
        other => panic!("{other:?}"),
    }
}

fn sum(answer: &Applied) -> u64 {
    match answer {
        Applied::Answer(bytes) => decode(bytes).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_command_delivered_twice_changes_the_state_once() {
    let mut state = Replicated::new(Sum::default());
    let session = open(&mut state, 1).await;
    let bytes = command(session, 1, &5u64);
    assert_eq!(sum(&apply(&mut state, 2, bytes.clone()).await), 5);
    assert_eq!(sum(&apply(&mut state, 3, bytes.clone()).await), 5);
    assert_eq!(state.machine().0, 5);
    assert_eq!(sum(&apply(&mut state, 4, Envelope::alone(&5u64).unwrap()).await), 10);
}

#[tokio::test]
async fn bytes_that_are_no_command_are_answered_and_change_nothing() {
    let mut state = Replicated::new(Sum::default());
    let session = open(&mut state, 1).await;
    for bytes in [&b""[..], b"\xff", b"\x01", b"\x01\x05\x05", b"\x02\x01", b"\x03\x01"] {
        assert_eq!(apply(&mut state, 2, Bytes::from_static(bytes)).await, Applied::Undecodable, "{bytes:?}");
    }
    let text = command(session, 1, &"not a number");
    assert_eq!(apply(&mut state, 3, text).await, Applied::Undecodable);
    assert_eq!(state.machine().0, 0);
}

#[tokio::test]
async fn a_command_of_an_unknown_session_is_not_applied() {
    let mut state = Replicated::new(Sum::default());
    let bytes = command(SessionId(99), 1, &5u64);
    assert_eq!(apply(&mut state, 1, bytes).await, Applied::Expired);
    assert_eq!(state.machine().0, 0);
}

#[tokio::test]
async fn each_entry_has_an_answer_and_membership_is_kept() {
    let mut state = Replicated::new(Sum::default());
    let membership = Membership::new(vec![[1].into()], [(1, BasicNode::new("a:1"))].into()).unwrap();
    let entries = vec![
        Entry { log_id: id(1), payload: EntryPayload::Membership(membership.clone()) },
        Entry { log_id: id(2), payload: EntryPayload::Blank },
        entry(3, Envelope::alone(&1u64).unwrap()),
    ];
    assert_eq!(state.apply(entries).await.unwrap().len(), 3);
    let (applied, stored) = state.applied_state().await.unwrap();
    assert_eq!((applied, stored.log_id, stored.membership), (Some(id(3)), Some(id(1)), membership));
}

#[tokio::test]
async fn a_snapshot_carries_state_and_sessions_to_another_node() {
    let mut old = Replicated::new(Sum::default());
    let session = open(&mut old, 1).await;
    let bytes = command(session, 1, &5u64);
    apply(&mut old, 2, bytes.clone()).await;
    let mut builder = old.get_snapshot_builder().await;
    apply(&mut old, 3, Envelope::alone(&100u64).unwrap()).await;
    let snapshot = builder.build_snapshot().await.unwrap();
    assert_eq!(snapshot.meta.last_log_id, Some(id(2)), "the state as it was when the builder was made");
    assert!(builder.build_snapshot().await.is_err());

    let mut new = Replicated::new(Sum::default());
    new.install_snapshot(&snapshot.meta, snapshot.snapshot).await.unwrap();
    assert_eq!((new.machine().0, new.applied_state().await.unwrap().0), (5, Some(id(2))));
    assert_eq!(sum(&apply(&mut new, 3, bytes).await), 5, "a repetition after the snapshot");
    assert_eq!(new.machine().0, 5);
    let kept = new.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!(kept.meta, snapshot.meta);
}

/// Nodes of different releases send each other snapshots: their form must never change under its version.
#[tokio::test]
async fn golden_snapshot() {
    let mut state = Replicated::new(Sum::default());
    apply(&mut state, 1, Envelope::open_session(7)).await;
    apply(&mut state, 2, command(SessionId(1 << 64 | 7), 1, &5u64)).await;
    let content = state.get_snapshot_builder().await.build_snapshot().await.unwrap().snapshot.into_inner();
    // Version; one session: its id, last use and floor; one answer: sequence and bytes; the state machine's bytes.
    let id = [0x87, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02];
    assert_eq!(content, [&[1, 1], &id[..], &[2, 0, 1, 1, 2, 0, 5], &[1, 5]].concat());
}

#[tokio::test]
async fn a_damaged_snapshot_changes_nothing() {
    let mut old = Replicated::new(Sum::default());
    apply(&mut old, 1, Envelope::alone(&7u64).unwrap()).await;
    let snapshot = old.get_snapshot_builder().await.build_snapshot().await.unwrap();
    let whole = snapshot.snapshot.into_inner();
    for len in 0..whole.len() {
        let mut state = Replicated::new(Sum(3));
        let cut = Cursor::new(whole[..len].to_vec());
        assert!(state.install_snapshot(&snapshot.meta, cut).await.is_err());
        assert_eq!((state.machine().0, state.applied), (3, None));
        assert!(state.get_current_snapshot().await.unwrap().is_none());
    }
}

#[tokio::test]
async fn an_older_snapshot_does_not_displace_a_newer_one() {
    let mut state = Replicated::new(Sum::default());
    apply(&mut state, 1, Envelope::alone(&1u64).unwrap()).await;
    let mut early = state.get_snapshot_builder().await;
    apply(&mut state, 2, Envelope::alone(&1u64).unwrap()).await;
    let late = state.get_snapshot_builder().await.build_snapshot().await.unwrap();
    early.build_snapshot().await.unwrap();
    assert_eq!(state.get_current_snapshot().await.unwrap().unwrap().meta, late.meta);
}
