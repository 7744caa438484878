use super::*;
use crate::sessions::{IMAGE_BYTES_MAX, SessionId};
use crate::{BoxError, decode, encode};
use raftwright_traits::{BasicNode, CommittedLeaderId, CommittedTerm, LogId, Membership, SnapshotContent};

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

/// A state machine with a directory of its own.
struct Home {
    state: Replicated<Sum>,
    directory: tempfile::TempDir,
}

impl std::ops::Deref for Home {
    type Target = Replicated<Sum>;
    fn deref(&self) -> &Replicated<Sum> {
        &self.state
    }
}

impl std::ops::DerefMut for Home {
    fn deref_mut(&mut self) -> &mut Replicated<Sum> {
        &mut self.state
    }
}

impl Home {
    fn of(sum: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let state = Self::open(&directory, sum);
        Self { state, directory }
    }

    fn open(directory: &tempfile::TempDir, sum: u64) -> Replicated<Sum> {
        let dir = SnapshotDir::open(directory.path()).unwrap();
        let mut state = Replicated::new(Sum(sum), dir, Arc::new(AtomicBool::new(false)));
        // The first entry of a real log is a membership.
        let membership = Membership::new(vec![[1].into()], [(1, BasicNode::new("a:1"))].into()).unwrap();
        state.membership = StoredMembership { log_id: Some(self::id(1)), membership };
        state
    }

    /// As after a restart: memory is empty, the disk as it was.
    fn reopened(self) -> Self {
        drop(self.state);
        Self { state: Self::open(&self.directory, 0), directory: self.directory }
    }

    /// Puts a content where a snapshot is received.
    async fn received(&mut self, content: &[u8]) -> EasySnapshot {
        let mut place = self.begin_receiving_snapshot().await.unwrap();
        place.write_at(0, content).unwrap();
        place
    }
}

fn bytes_of(snapshot: &EasySnapshot) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(snapshot.size().unwrap()).unwrap()];
    assert_eq!(snapshot.read_at(0, &mut bytes).unwrap(), bytes.len());
    bytes
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
    let mut state = Home::of(0);
    let session = open(&mut state, 1).await;
    let bytes = command(session, 1, &5u64);
    assert_eq!(sum(&apply(&mut state, 2, bytes.clone()).await), 5);
    assert_eq!(sum(&apply(&mut state, 3, bytes.clone()).await), 5);
    assert_eq!(state.machine().0, 5);
    assert_eq!(sum(&apply(&mut state, 4, Envelope::alone(&5u64).unwrap()).await), 10);
}

#[tokio::test]
async fn bytes_that_are_no_command_are_answered_and_change_nothing() {
    let mut state = Home::of(0);
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
    let mut state = Home::of(0);
    let bytes = command(SessionId(99), 1, &5u64);
    assert_eq!(apply(&mut state, 1, bytes).await, Applied::Expired);
    assert_eq!(state.machine().0, 0);
}

#[tokio::test]
async fn each_entry_has_an_answer_and_membership_is_kept() {
    let mut state = Home::of(0);
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
    let mut old = Home::of(0);
    let session = open(&mut old, 1).await;
    let bytes = command(session, 1, &5u64);
    apply(&mut old, 2, bytes.clone()).await;
    let mut builder = old.get_snapshot_builder().await;
    apply(&mut old, 3, Envelope::alone(&100u64).unwrap()).await;
    let snapshot = builder.build_snapshot().await.unwrap();
    assert_eq!(snapshot.meta.last_log_id, Some(id(2)), "the state as it was when the builder was made");
    assert!(builder.build_snapshot().await.is_err());

    let mut new = Home::of(0);
    let received = new.received(&bytes_of(&snapshot.snapshot)).await;
    new.install_snapshot(&snapshot.meta, received).await.unwrap();
    assert_eq!((new.machine().0, new.applied_state().await.unwrap().0), (5, Some(id(2))));
    assert_eq!(sum(&apply(&mut new, 3, bytes).await), 5, "a repetition after the snapshot");
    assert_eq!(new.machine().0, 5);
    let kept = new.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!(kept.meta, snapshot.meta);
}

/// Nodes of different releases send each other snapshots: their form must never change under its version.
#[tokio::test]
async fn golden_snapshot() {
    let mut state = Home::of(0);
    apply(&mut state, 1, Envelope::open_session(7)).await;
    apply(&mut state, 2, command(SessionId(1 << 64 | 7), 1, &5u64)).await;
    let snapshot = state.get_snapshot_builder().await.build_snapshot().await.unwrap();
    // Name and version; one session: its id, last use and floor; one answer: sequence and bytes; the state machine's bytes.
    let id = [0x87, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02];
    let sessions = [&[1], &id[..], &[2, 0, 1, 1, 2, 0, 5]].concat();
    let head = [&b"RWES"[..], &[1, 0, 0, 0], &(sessions.len() as u64).to_le_bytes()].concat();
    assert_eq!(bytes_of(&snapshot.snapshot), [head, sessions, vec![5]].concat());
    // Version; the last entry; the membership and its entry; its name.
    let about = content::encode_meta(&snapshot.meta).unwrap();
    let membership = br#"{"configs":[[1]],"nodes":{"1":{"addr":"a:1"}}}"#;
    let length = u8::try_from(membership.len()).unwrap();
    assert_eq!(about, [&[1, 1, 1, 2, 1, 1, 1, length][..], membership, &[4], b"T1.2"].concat());
    assert_eq!(content::decode_meta(&about), Some(snapshot.meta));
}

#[tokio::test]
async fn a_damaged_snapshot_changes_nothing() {
    let mut old = Home::of(0);
    apply(&mut old, 1, Envelope::alone(&7u64).unwrap()).await;
    let snapshot = old.get_snapshot_builder().await.build_snapshot().await.unwrap();
    let whole = bytes_of(&snapshot.snapshot);
    for len in 0..whole.len() {
        let mut state = Home::of(3);
        let cut = state.received(&whole[..len]).await;
        assert!(state.install_snapshot(&snapshot.meta, cut).await.is_err());
        assert_eq!((state.machine().0, state.applied), (3, None));
        assert!(state.get_current_snapshot().await.unwrap().is_none());
    }
}

#[tokio::test]
async fn an_older_snapshot_does_not_displace_a_newer_one() {
    let mut state = Home::of(0);
    apply(&mut state, 1, Envelope::alone(&1u64).unwrap()).await;
    let mut early = state.get_snapshot_builder().await;
    apply(&mut state, 2, Envelope::alone(&1u64).unwrap()).await;
    let late = state.get_snapshot_builder().await.build_snapshot().await.unwrap();
    early.build_snapshot().await.unwrap();
    assert_eq!(state.get_current_snapshot().await.unwrap().unwrap().meta, late.meta);
}

#[tokio::test]
async fn a_restart_begins_with_the_newest_snapshot() {
    let mut home = Home::of(0);
    apply(&mut home, 1, Envelope::alone(&5u64).unwrap()).await;
    let built = home.get_snapshot_builder().await.build_snapshot().await.unwrap();
    drop(built.snapshot);
    let mut home = home.reopened();
    assert_eq!(home.applied_state().await.unwrap().0, None);
    let Snapshot { meta, snapshot } = home.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!(meta, built.meta);
    home.install_snapshot(&meta, snapshot).await.unwrap();
    assert_eq!((home.machine().0, home.applied_state().await.unwrap().0), (5, Some(id(1))));
    assert_eq!(home.get_current_snapshot().await.unwrap().unwrap().meta, meta, "and keeps it");
}

#[tokio::test]
async fn what_was_received_and_not_installed_is_gone_after_a_restart() {
    let mut old = Home::of(0);
    apply(&mut old, 1, Envelope::alone(&5u64).unwrap()).await;
    let built = old.get_snapshot_builder().await.build_snapshot().await.unwrap();
    let mut home = Home::of(0);
    std::mem::forget(home.received(&bytes_of(&built.snapshot)).await);
    let mut home = home.reopened();
    assert!(home.get_current_snapshot().await.unwrap().is_none());
    assert_eq!(std::fs::read_dir(home.directory.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_server_that_stops_gives_up_what_it_writes() {
    let mut home = Home::of(0);
    apply(&mut home, 1, Envelope::alone(&5u64).unwrap()).await;
    let mut builder = home.get_snapshot_builder().await;
    home.stopping.store(true, Ordering::Relaxed);
    assert!(builder.build_snapshot().await.is_err());
    assert_eq!(std::fs::read_dir(home.directory.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn old_snapshots_go_when_new_ones_come() {
    let mut home = Home::of(0);
    for index in 1..=5 {
        apply(&mut home, index, Envelope::alone(&1u64).unwrap()).await;
        home.get_snapshot_builder().await.build_snapshot().await.unwrap();
    }
    assert_eq!(std::fs::read_dir(home.directory.path()).unwrap().count(), 1);
}

/// Gives what it has, and counts what is wanted of it.
struct Counting<'a> {
    bytes: &'a [u8],
    wanted: usize,
}

impl io::Read for Counting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wanted += buffer.len();
        self.bytes.read(buffer)
    }
}

#[test]
fn a_session_table_that_is_impossibly_long_is_refused_by_its_length_alone() {
    let read = |length: u64| {
        let head = [&b"RWES"[..], &[1, 0, 0, 0], &length.to_le_bytes()].concat();
        let mut from = Counting { bytes: &head, wanted: 0 };
        let error = content::read(&mut from, &mut Sum(0)).unwrap_err().to_string();
        (error, from.wanted - head.len())
    };
    let (error, wanted) = read(IMAGE_BYTES_MAX + 1);
    assert!(error.contains("impossibly long"), "{error}");
    assert_eq!(wanted, 0, "nothing behind the length was asked for");
    let (error, wanted) = read(IMAGE_BYTES_MAX);
    assert!(error.contains("ends in its session table"), "{error}");
    assert!(wanted < 1 << 20, "memory for what is there, not for what is promised: {wanted}");
}
