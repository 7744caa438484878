//! The checking wrapper: each rule broken once, and nothing said where none is.

use std::io::Cursor;
use std::ops::Bound;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use raftwright_core::WriteId;
use raftwright_traits::testing::{Suite, TestMachine, TestShelf};
use raftwright_traits::{
    Defensive, DefensiveError, DefensiveSwitch, Entry, ErrorSubject, ErrorVerb, FlushSink, IOFlushed, LogIndex,
    LogState, MemLogStore, RaftLogReader, RaftLogStorage, RaftSnapshotBuilder, RaftStateMachine, RaftStorageDebug,
    Rules, Snapshot, SnapshotMeta, StorageError, StorageErrorKind, StorageIOError, StoreExt, StoredMembership,
    Violation, Vote, VoteOf,
};

use crate::{AdvancedConfig, Id, TestConfig, entry, id};

type LogExt = StoreExt<TestConfig, MemLogStore<TestConfig>>;
type MachineExt = StoreExt<TestConfig, TestMachine<TestConfig>>;

#[derive(Default)]
struct Told(Mutex<Vec<Result<(), StorageError>>>);

impl FlushSink for Told {
    fn flushed(&self, _: WriteId, result: Result<(), StorageError>) {
        self.0.lock().unwrap().push(result);
    }
}

/// A wrapped pair that has been read as a node reads it at its start, and what its tokens say.
struct Pair {
    log: LogExt,
    machine: MachineExt,
    switch: DefensiveSwitch<TestConfig>,
    told: Arc<Told>,
}

impl Pair {
    async fn new() -> Self {
        let (mut log, mut machine) = StoreExt::pair(MemLogStore::new(), TestMachine::default());
        let switch = log.switch();
        switch.set_defensive(Defensive::On);
        log.read_vote().await.unwrap();
        log.get_log_state().await.unwrap();
        machine.applied_state().await.unwrap();
        Self { log, machine, switch, told: Arc::default() }
    }

    /// One with entries of these terms, from index 1 on.
    async fn with(terms: &[u64]) -> Self {
        let mut pair = Self::new().await;
        pair.append(terms.iter().zip(1..).map(|(term, index)| entry(*term, index)).collect());
        assert_eq!(pair.broken(), None);
        pair
    }

    fn token(&self) -> IOFlushed {
        IOFlushed::new(WriteId(0), Arc::clone(&self.told) as Arc<dyn FlushSink>)
    }

    fn append(&mut self, entries: Vec<Entry<TestConfig>>) {
        let token = self.token();
        self.log.append(entries, token);
    }

    fn truncate(&mut self, since: LogIndex) {
        let token = self.token();
        self.log.truncate(since, token);
    }

    fn purge(&mut self, upto: Id) {
        let token = self.token();
        self.log.purge(upto, token);
    }

    fn save_vote(&mut self, vote: VoteOf<TestConfig>) {
        let token = self.token();
        self.log.save_vote(&vote, token);
    }

    fn broken(&self) -> Option<Violation<TestConfig>> {
        self.switch.violation().map(|broken| broken.violation)
    }

    /// The last write was stopped with this violation, and so is every later one.
    fn is_stopped(&mut self, violation: Violation<TestConfig>) {
        assert_eq!(self.broken(), Some(violation));
        let last = self.told.0.lock().unwrap().last().cloned().unwrap();
        let expected: StorageError = self.switch.violation().unwrap().into();
        assert_eq!(last, Err(expected.clone()));
        self.save_vote(Vote::new(1_000, 1));
        assert_eq!(self.told.0.lock().unwrap().last(), Some(&Err(expected)));
    }
}

#[tokio::test]
async fn a_vote_of_an_earlier_term_is_stopped() {
    let mut pair = Pair::new().await;
    pair.save_vote(Vote::new(3, 1));
    pair.save_vote(Vote::new(2, 1));
    pair.is_stopped(Violation::TermNotAscending { curr: 3, to: 2 });
    assert_eq!(pair.log.read_vote().await.unwrap(), Some(Vote::new(3, 1)), "it was not passed on");
}

#[tokio::test]
async fn a_vote_that_is_changed_within_its_term_is_stopped() {
    let mut pair = Pair::new().await;
    let (curr, to) = (Vote::new(3, 1), Vote::new(3, 2));
    pair.save_vote(curr);
    pair.save_vote(to);
    pair.is_stopped(Violation::NonIncrementalVote { curr, to });
}

#[tokio::test]
async fn a_leaders_vote_that_is_taken_back_is_stopped() {
    let mut pair = Pair::new().await;
    let (curr, to) = (Vote::new_committed(3, 1), Vote::new(3, 1));
    pair.save_vote(Vote::new(3, 1));
    pair.save_vote(curr);
    pair.save_vote(curr);
    pair.save_vote(to);
    pair.is_stopped(Violation::VoteNotAscending { curr, to });
}

#[test]
fn advanced_leader_ids_may_change_within_a_term_and_only_upwards() {
    let mut log: StoreExt<AdvancedConfig, MemLogStore<AdvancedConfig>> = StoreExt::new(MemLogStore::new());
    log.switch().set_defensive(Defensive::On);
    let told = Arc::new(Told::default());
    for node in [1, 2, 1] {
        log.save_vote(&Vote::new(3, node), IOFlushed::new(WriteId(0), Arc::clone(&told) as Arc<dyn FlushSink>));
    }
    let (curr, to) = (Vote::new(3, 2), Vote::new(3, 1));
    assert_eq!(log.switch().violation().unwrap().violation, Violation::VoteNotAscending { curr, to });
}

#[tokio::test]
async fn entries_with_a_gap_are_stopped() {
    for (terms, gap, prev) in
        [(&[1, 1][..], entry(1, 4), Some(2)), (&[1, 1], entry(1, 2), Some(2)), (&[], entry(1, 2), None)]
    {
        let mut pair = Pair::with(terms).await;
        let next = gap.log_id;
        pair.append(vec![gap]);
        pair.is_stopped(Violation::LogsNonConsecutive { prev, next });
    }
    let mut pair = Pair::with(&[1, 1]).await;
    pair.append(vec![entry(1, 3), entry(1, 5)]);
    pair.is_stopped(Violation::LogsNonConsecutive { prev: Some(3), next: id(1, 5) });
    assert_eq!(pair.log.get_log_state().await.unwrap().last_log_id, Some(id(1, 2)), "none of it was passed on");
}

#[tokio::test]
async fn entries_of_an_earlier_leader_are_stopped() {
    let mut pair = Pair::with(&[1, 3]).await;
    pair.append(vec![entry(2, 3)]);
    pair.is_stopped(Violation::DirtyLog { higher_index_log_id: id(2, 3), lower_index_log_id: id(3, 2) });
    // After a truncation, the leader before it counts again.
    let mut pair = Pair::with(&[1, 2, 3, 3]).await;
    pair.truncate(3);
    pair.append(vec![entry(2, 3)]);
    assert_eq!(pair.broken(), None);
    pair.append(vec![entry(1, 4)]);
    pair.is_stopped(Violation::DirtyLog { higher_index_log_id: id(1, 4), lower_index_log_id: id(2, 3) });
}

#[tokio::test]
async fn truncating_what_stays_is_stopped() {
    let mut pair = Pair::with(&[1, 1, 1, 1]).await;
    pair.machine.apply(vec![entry(1, 1), entry(1, 2)]).await.unwrap();
    pair.truncate(2);
    pair.is_stopped(Violation::AppliedWontConflict { last_applied: id(1, 2), first_conflict_index: 2 });

    let mut pair = Pair::with(&[1, 1, 1, 1]).await;
    pair.log.save_committed(Some(id(1, 3)));
    pair.truncate(4);
    assert_eq!(pair.broken(), None);
    pair.truncate(3);
    pair.is_stopped(Violation::CommittedWontConflict { committed: id(1, 3), first_conflict_index: 3 });

    let mut pair = Pair::with(&[1, 1, 1, 1]).await;
    pair.machine.apply(vec![entry(1, 1), entry(1, 2)]).await.unwrap();
    pair.purge(id(1, 2));
    pair.truncate(2);
    pair.is_stopped(Violation::PurgedWontConflict { purged: id(1, 2), first_conflict_index: 2 });
}

#[tokio::test]
async fn purging_what_is_not_applied_is_stopped() {
    let mut pair = Pair::with(&[1, 1, 1]).await;
    pair.machine.apply(vec![entry(1, 1), entry(1, 2)]).await.unwrap();
    pair.purge(id(1, 2));
    assert_eq!(pair.broken(), None);
    pair.purge(id(1, 3));
    pair.is_stopped(Violation::PurgeNonApplied { last_applied: Some(id(1, 2)), purge_upto: id(1, 3) });
    // What an installed snapshot holds is as good as applied.
    let mut pair = Pair::with(&[1]).await;
    let mut from = Pair::with(&[1]).await;
    from.machine.apply(vec![entry(1, 1), entry(1, 2)]).await.unwrap();
    let snapshot = from.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    pair.machine.install_snapshot(&snapshot.meta, snapshot.snapshot).await.unwrap();
    pair.purge(id(1, 2));
    pair.append(vec![entry(1, 3)]);
    assert_eq!(pair.broken(), None);
}

#[tokio::test]
async fn applying_with_a_gap_or_twice_is_refused() {
    for (next, prev) in [(entry(1, 4), Some(id(1, 2))), (entry(1, 2), Some(id(1, 2)))] {
        let mut pair = Pair::new().await;
        pair.machine.apply(vec![entry(1, 1), entry(1, 2)]).await.unwrap();
        let refused = pair.machine.apply(vec![next.clone()]).await.unwrap_err();
        assert_eq!(refused.kind, StorageErrorKind::StateMachine);
        assert_eq!(pair.broken(), Some(Violation::ApplyNonConsecutive { prev, next: next.log_id }));
        assert_eq!(pair.machine.applied_state().await.unwrap().0, prev, "it was not passed on");
    }
    let mut pair = Pair::new().await;
    pair.machine.apply(vec![entry(3, 1)]).await.unwrap();
    pair.machine.apply(vec![entry(2, 2)]).await.unwrap_err();
    assert_eq!(
        pair.broken(),
        Some(Violation::DirtyLog { higher_index_log_id: id(2, 2), lower_index_log_id: id(3, 1) })
    );
}

#[tokio::test]
async fn a_snapshot_of_an_older_state_is_refused() {
    let mut from = Pair::new().await;
    from.machine.apply(vec![entry(1, 1), entry(1, 2)]).await.unwrap();
    let snapshot = from.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    let mut pair = Pair::new().await;
    pair.machine.apply(vec![entry(1, 1), entry(1, 2), entry(1, 3)]).await.unwrap();
    pair.machine.install_snapshot(&snapshot.meta, snapshot.snapshot).await.unwrap_err();
    let expected = Violation::SnapshotBehind { last_applied: id(1, 3), snapshot: Some(id(1, 2)) };
    assert_eq!(pair.broken(), Some(expected));
}

/// A range that a store may not allow is refused where the rules say so.
#[tokio::test]
async fn empty_and_open_ranges_are_refused_for_stores_that_cannot_allow_them() {
    let mut pair = Pair::with(&[1, 1, 1]).await;
    assert_eq!(pair.log.try_get_log_entries(..).await.unwrap().len(), 3);
    assert!(pair.log.try_get_log_entries(2..2).await.unwrap().is_empty());
    pair.append(Vec::new());
    assert_eq!(pair.broken(), None);

    pair.switch.set_rules(Rules::HalfOpenRanges);
    assert_eq!(pair.log.try_get_log_entries(1..3).await.unwrap().len(), 2);
    assert_eq!(pair.broken(), None);
    pair.log.try_get_log_entries(2..).await.unwrap_err();
    let (start, end) = (Bound::Included(2), Bound::Unbounded);
    assert_eq!(pair.broken(), Some(Violation::RangeNotHalfOpen { start, end }));

    let mut pair = Pair::with(&[1, 1, 1]).await;
    pair.switch.set_rules(Rules::HalfOpenRanges);
    pair.log.get_log_reader().await.limited_get_log_entries(2, 2, 100).await.unwrap_err();
    assert_eq!(pair.broken(), Some(Violation::RangeEmpty { start: 2, end: 2 }));

    let mut pair = Pair::with(&[1, 1, 1]).await;
    pair.switch.set_rules(Rules::HalfOpenRanges);
    pair.append(Vec::new());
    pair.is_stopped(Violation::LogsEmpty);
}

/// A store that answers with other entries than it has, and with other votes.
#[derive(Clone, Default)]
struct Liar {
    honest: MemLogStore<TestConfig>,
    entries: Option<Vec<Entry<TestConfig>>>,
    vote: Option<Option<VoteOf<TestConfig>>>,
    state: Option<LogState<TestConfig>>,
}

impl RaftLogReader<TestConfig> for Liar {
    async fn try_get_log_entries<RB: std::ops::RangeBounds<LogIndex> + Clone + std::fmt::Debug + Send>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry<TestConfig>>, StorageError> {
        match &self.entries {
            Some(entries) => Ok(entries.clone()),
            None => self.honest.try_get_log_entries(range).await,
        }
    }
}

impl RaftLogStorage<TestConfig> for Liar {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TestConfig>, StorageError> {
        match &self.state {
            Some(state) => Ok(state.clone()),
            None => self.honest.get_log_state().await,
        }
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn read_vote(&mut self) -> Result<Option<VoteOf<TestConfig>>, StorageError> {
        match self.vote {
            Some(vote) => Ok(vote),
            None => self.honest.read_vote().await,
        }
    }

    fn save_vote(&mut self, vote: &VoteOf<TestConfig>, flushed: IOFlushed) {
        self.honest.save_vote(vote, flushed);
    }

    fn append(&mut self, entries: Vec<Entry<TestConfig>>, flushed: IOFlushed) {
        self.honest.append(entries, flushed);
    }

    fn truncate(&mut self, since: LogIndex, flushed: IOFlushed) {
        self.honest.truncate(since, flushed);
    }

    fn purge(&mut self, upto: Id, flushed: IOFlushed) {
        self.honest.purge(upto, flushed);
    }
}

/// A wrapped liar whose log has entries 1 to 4, and which then reads as these.
async fn lies(entries: Option<Vec<Entry<TestConfig>>>) -> StoreExt<TestConfig, Liar> {
    let honest = MemLogStore::new();
    let mut log = StoreExt::new(Liar { honest: honest.clone(), entries, ..Liar::default() });
    log.switch().set_defensive(Defensive::On);
    log.get_log_state().await.unwrap();
    let told: Arc<dyn FlushSink> = Arc::new(Told::default());
    log.append((1..=4).map(|index| entry(1, index)).collect(), IOFlushed::new(WriteId(0), told));
    log
}

#[tokio::test]
async fn a_read_that_does_not_give_what_is_there_is_an_error() {
    let gap = Violation::LogsNonConsecutive { prev: Some(2), next: id(1, 4) };
    let dirty = Violation::DirtyLog { higher_index_log_id: id(1, 3), lower_index_log_id: id(2, 2) };
    for (lie, violation) in [
        (vec![], Violation::StoreLogsEmpty { start: 2, end: 4 }),
        (vec![entry(1, 2), entry(1, 4)], gap),
        (vec![entry(2, 2), entry(1, 3)], dirty),
        (vec![entry(1, 3)], Violation::LogIndexNotFound { want: 2, got: Some(3) }),
        (vec![entry(1, 2)], Violation::LogIndexNotFound { want: 3, got: Some(2) }),
        (vec![entry(1, 2), entry(1, 3), entry(1, 4)], Violation::LogIndexNotFound { want: 2, got: Some(4) }),
    ] {
        let mut log = lies(Some(lie)).await;
        log.try_get_log_entries(2..4).await.unwrap_err();
        assert_eq!(log.switch().violation().unwrap().violation, violation);
        let mut log = lies(None).await;
        let mut reader = log.get_log_reader().await;
        assert_eq!(reader.try_get_log_entries(2..4).await.unwrap().len(), 2, "the truth is no violation");
    }
    let mut log = lies(Some(vec![entry(1, 2)])).await;
    assert_eq!(log.limited_get_log_entries(2, 4, 1).await.unwrap().len(), 1, "a limited read may end early");
    assert_eq!(log.switch().violation(), None);
}

#[tokio::test]
async fn a_vote_that_is_lost_or_changed_is_an_error() {
    for read in [None, Some(Vote::new(9, 9))] {
        let mut log = StoreExt::new(Liar { vote: Some(read), ..Liar::default() });
        log.switch().set_defensive(Defensive::On);
        let saved = Vote::new(3, 1);
        log.save_vote(&saved, IOFlushed::new(WriteId(0), Arc::new(Told::default())));
        log.read_vote().await.unwrap_err();
        let broken = log.switch().violation().unwrap();
        assert_eq!(broken, DefensiveError::new(ErrorSubject::Vote, Violation::VoteChanged { saved, read }));
    }
}

#[tokio::test]
async fn a_log_that_ends_before_what_was_purged_is_an_error() {
    let state = LogState { last_purged_log_id: Some(id(2, 5)), last_log_id: Some(id(1, 9)), incarnation: None };
    let mut log = StoreExt::new(Liar { state: Some(state), ..Liar::default() });
    log.switch().set_defensive(Defensive::On);
    log.get_log_state().await.unwrap_err();
    let dirty = Violation::DirtyLog { higher_index_log_id: id(1, 9), lower_index_log_id: id(2, 5) };
    assert_eq!(log.switch().violation().unwrap().violation, dirty);
}

/// A state machine that claims more than it was given, and answers less.
#[derive(Default)]
struct Boaster(TestMachine<TestConfig>);

impl RaftStateMachine<TestConfig> for Boaster {
    type SnapshotBuilder = BoastingBuilder;

    async fn applied_state(&mut self) -> Result<(Option<Id>, StoredMembership<TestConfig>), StorageError> {
        let (applied, membership) = self.0.applied_state().await?;
        Ok((applied.map(|applied| id(1, applied.index + 1)), membership))
    }

    async fn apply(&mut self, entries: Vec<Entry<TestConfig>>) -> Result<Vec<Bytes>, StorageError> {
        Ok(self.0.apply(entries).await?.into_iter().skip(1).collect())
    }

    async fn get_snapshot_builder(&mut self) -> BoastingBuilder {
        BoastingBuilder
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Cursor<Vec<u8>>, StorageError> {
        self.0.begin_receiving_snapshot().await
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<TestConfig>,
        snapshot: Cursor<Vec<u8>>,
    ) -> Result<(), StorageError> {
        self.0.install_snapshot(meta, snapshot).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TestConfig>>, StorageError> {
        self.0.get_current_snapshot().await
    }
}

struct BoastingBuilder;

impl RaftSnapshotBuilder<TestConfig> for BoastingBuilder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TestConfig>, StorageError> {
        let last_membership = StoredMembership::default();
        let meta = SnapshotMeta { last_log_id: Some(id(1, 70)), last_membership, snapshot_id: "70".to_owned() };
        Ok(Snapshot { meta, snapshot: Cursor::new(Vec::new()) })
    }
}

#[tokio::test]
async fn a_state_machine_that_claims_what_it_was_not_given_is_an_error() {
    let new = || {
        let machine = StoreExt::new(Boaster::default());
        machine.switch().set_defensive(Defensive::On);
        machine
    };
    let mut machine = new();
    machine.apply(vec![entry(1, 1), entry(1, 2)]).await.unwrap_err();
    let unequal = Violation::AnswersUnequal { entries: 2, answers: 1 };
    assert_eq!(machine.switch().violation().unwrap().violation, unequal);

    let mut machine = new();
    machine.applied_state().await.unwrap();
    let _ = machine.apply(vec![entry(1, 1)]).await;
    machine.applied_state().await.unwrap_err();

    let mut machine = new();
    machine.applied_state().await.unwrap();
    machine.get_snapshot_builder().await.build_snapshot().await.unwrap_err();
    let ahead = Violation::AppliedAhead { last_applied: None, claims: id(1, 70) };
    let expected = DefensiveError::new(ErrorSubject::Snapshot(Some(id(1, 70))), ahead);
    assert_eq!(machine.switch().violation(), Some(expected));
}

/// Switched off, everything passes; switched on again, what was done meanwhile is known.
#[tokio::test]
async fn checks_are_switched_while_the_store_is_in_use() {
    let mut pair = Pair::with(&[1, 1]).await;
    pair.switch.set_defensive(Defensive::Off);
    pair.append(vec![entry(1, 7)]);
    pair.save_vote(Vote::new(8, 1));
    assert_eq!(pair.broken(), None);
    pair.switch.set_defensive(Defensive::On);
    pair.append(vec![entry(1, 8)]);
    assert_eq!(pair.broken(), None);
    pair.save_vote(Vote::new(7, 1));
    pair.is_stopped(Violation::TermNotAscending { curr: 8, to: 7 });
    pair.switch.set_defensive(Defensive::Off);
    pair.save_vote(Vote::new(9, 1));
    assert!(pair.told.0.lock().unwrap().last().unwrap().is_err(), "what was stopped stays so");
}

#[test]
fn checks_are_on_by_default_where_debug_assertions_are() {
    let store: LogExt = StoreExt::new(MemLogStore::new());
    assert_eq!(store.switch().defensive() == Defensive::On, cfg!(debug_assertions));
}

async fn wrapped() -> (LogExt, MachineExt) {
    let (log, machine) = StoreExt::pair(MemLogStore::new(), TestMachine::default());
    log.switch().set_defensive(Defensive::On);
    (log, machine)
}

/// A store that keeps the contract keeps it with the wrapper around it, and the suite breaks no rule.
#[test]
fn a_wrapped_store_passes_the_suite() {
    Suite::test_all(wrapped).unwrap();
}

/// A state machine with something to look at.
struct Showing(u64);

impl RaftStorageDebug<u64> for Showing {
    async fn get_state_machine(&mut self) -> u64 {
        self.0
    }
}

#[tokio::test]
async fn a_state_machine_can_be_looked_at_through_the_wrapper() {
    let mut machine: StoreExt<TestConfig, Showing> = StoreExt::new(Showing(17));
    assert_eq!(machine.get_state_machine().await, 17);
    let mut machine = TestMachine::<TestConfig>::new(TestShelf::default());
    machine.apply(vec![entry(1, 1)]).await.unwrap();
    assert_eq!(machine.get_state_machine().await.0, 1, "one entry was counted");
}

#[test]
fn errors_say_what_could_not_be_done_to_what() {
    let source = std::io::Error::other("disk on fire");
    let error = StorageIOError::<TestConfig>::new(ErrorSubject::Log(id(2, 7)), ErrorVerb::Write, &source);
    let expected = StorageError::new(StorageErrorKind::Write, "cannot write log entry T2.7: disk on fire");
    assert_eq!(StorageError::from(error), expected);
    let error = StorageIOError::<TestConfig>::new(ErrorSubject::Vote, ErrorVerb::Read, &source);
    assert_eq!(StorageError::from(error).kind, StorageErrorKind::Read);
}
