//! A node's log and state machine, with the checkers looking on.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex, PoisonError};

use raftwright_core::{Incarnation, Write, WriteId};
use raftwright_traits::{
    FlushSink, IOFlushed, LogIdOf, LogIndex, LogState, RaftLogReader, RaftLogStorage, RaftSnapshotBuilder,
    RaftStateMachine, RaftTypeConfig, Snapshot, SnapshotMeta, StorageError, StoredMembership, VoteOf,
};

use super::application::{Application, SimConfig, seen, seen_membership};
use super::tap::{Act, Reporter};
use crate::core_world::store::Found;
use crate::world::TraceHash;

/// A log that reports what is asked of it and what it answers.
#[derive(Debug)]
pub struct WatchedLog<A, L> {
    log: L,
    reporter: Reporter,
    writes: u64,
    application: PhantomData<fn() -> A>,
}

/// Passes a completion on, and reports it.
struct Sink {
    reporter: Reporter,
    token: Mutex<Option<IOFlushed>>,
}

impl FlushSink for Sink {
    fn flushed(&self, write: WriteId, result: Result<(), StorageError>) {
        if result.is_ok() {
            self.reporter.report(Act::Flushed(write));
        }
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(token) = token {
            token.io_completed(result);
        }
    }
}

/// How many entries of a log are read at a time when it is looked through.
const LOOK_STEP: u64 = 1_000;

impl<A: Application, L: RaftLogStorage<A::C>> WatchedLog<A, L> {
    /// Watches a log that was just opened, and reports what is in it.
    ///
    /// # Errors
    ///
    /// The log cannot be read.
    pub async fn new(mut log: L, reporter: Reporter) -> Result<Self, StorageError> {
        let state = log.get_log_state().await?;
        let vote = log.read_vote().await?;
        let mut entries = Vec::new();
        let first = state.last_purged_log_id.map_or(0, |id| id.index + 1);
        if let Some(last) = state.last_log_id {
            let mut at = first;
            while at <= last.index {
                let some = log.try_get_log_entries(at..(at + LOOK_STEP).min(last.index + 1)).await?;
                at += LOOK_STEP;
                entries.extend(some.iter().map(|entry| seen::<A>(entry)));
            }
        }
        let found = Found { vote, purged: state.last_purged_log_id, entries };
        let incarnation = state.incarnation.unwrap_or(Incarnation(0));
        reporter.report(Act::Opened { incarnation, found });
        Ok(Self { log, reporter, writes: 0, application: PhantomData })
    }

    fn watch(&mut self, write: Write<crate::core_world::types::SimTypes>, token: IOFlushed) -> IOFlushed {
        self.writes += 1;
        let id = WriteId(self.writes);
        self.reporter.report(Act::Submitted(id, write));
        let sink = Sink { reporter: self.reporter.clone(), token: Mutex::new(Some(token)) };
        IOFlushed::new(id, Arc::new(sink))
    }
}

impl<A: Application, L: RaftLogStorage<A::C>> RaftLogReader<A::C> for WatchedLog<A, L> {
    async fn try_get_log_entries<RB: RangeBounds<LogIndex> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> Result<Vec<<A::C as RaftTypeConfig>::Entry>, StorageError> {
        self.log.try_get_log_entries(range).await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: LogIndex,
        end: LogIndex,
        bytes_max: usize,
    ) -> Result<Vec<<A::C as RaftTypeConfig>::Entry>, StorageError> {
        self.log.limited_get_log_entries(start, end, bytes_max).await
    }

    async fn get_key_log_ids(
        &mut self,
        first: LogIndex,
        last: LogIdOf<A::C>,
    ) -> Result<Vec<LogIdOf<A::C>>, StorageError> {
        self.log.get_key_log_ids(first, last).await
    }
}

impl<A: Application, L: RaftLogStorage<A::C>> RaftLogStorage<A::C> for WatchedLog<A, L> {
    type LogReader = L::LogReader;

    async fn get_log_state(&mut self) -> Result<LogState<A::C>, StorageError> {
        self.log.get_log_state().await
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.log.get_log_reader().await
    }

    async fn read_vote(&mut self) -> Result<Option<VoteOf<A::C>>, StorageError> {
        self.log.read_vote().await
    }

    fn save_vote(&mut self, vote: &VoteOf<A::C>, flushed: IOFlushed) {
        let flushed = self.watch(Write::Vote(*vote), flushed);
        self.log.save_vote(vote, flushed);
    }

    fn append(&mut self, entries: Vec<<A::C as RaftTypeConfig>::Entry>, flushed: IOFlushed) {
        let flushed = self.watch(Write::Append(entries.iter().map(|entry| seen::<A>(entry)).collect()), flushed);
        self.log.append(entries, flushed);
    }

    fn truncate(&mut self, since: LogIndex, flushed: IOFlushed) {
        let flushed = self.watch(Write::Truncate { since }, flushed);
        self.log.truncate(since, flushed);
    }

    fn purge(&mut self, upto: LogIdOf<A::C>, flushed: IOFlushed) {
        let flushed = self.watch(Write::Purge { upto }, flushed);
        self.log.purge(upto, flushed);
    }

    fn save_committed(&mut self, committed: Option<LogIdOf<A::C>>) {
        self.log.save_committed(committed);
    }

    async fn read_committed(&mut self) -> Result<Option<LogIdOf<A::C>>, StorageError> {
        self.log.read_committed().await
    }
}

/// A state machine that reports what it applies.
#[derive(Debug)]
pub struct WatchedMachine<A: Application> {
    machine: A::Machine,
    reporter: Reporter,
    /// The hash of the log and of the answers so far.
    hashes: (u64, u64),
}

impl<A: Application> WatchedMachine<A> {
    /// Watches the state machine of a process that starts.
    pub fn new(machine: A::Machine, reporter: Reporter) -> Self {
        Self { machine, reporter, hashes: (0, 0) }
    }

    /// The machine inside.
    pub fn inner(&self) -> &A::Machine {
        &self.machine
    }
}

fn hash_of(before: u64, answer: &impl Debug) -> u64 {
    let mut hash = TraceHash::default();
    hash.word(before);
    // Writing to a hash cannot fail.
    let _ = std::fmt::write(&mut hash, format_args!("{answer:?}"));
    hash.value()
}

impl<A: Application> RaftStateMachine<A::C> for WatchedMachine<A> {
    type SnapshotBuilder = WatchedBuilder<<A::Machine as RaftStateMachine<A::C>>::SnapshotBuilder>;

    async fn applied_state(&mut self) -> Result<(Option<LogIdOf<A::C>>, StoredMembership<A::C>), StorageError> {
        self.machine.applied_state().await
    }

    async fn apply(
        &mut self,
        entries: Vec<<A::C as RaftTypeConfig>::Entry>,
    ) -> Result<Vec<<A::C as RaftTypeConfig>::R>, StorageError> {
        let seen: Vec<_> = entries.iter().map(|entry| seen::<A>(entry)).collect();
        let answers = self.machine.apply(entries).await?;
        for (entry, answer) in seen.iter().zip(&answers) {
            let (chain, state) = (entry.chained(self.hashes.0), hash_of(self.hashes.1, answer));
            self.hashes = (chain, state);
            self.reporter.report(Act::Applied { log_id: entry.log_id, chain, state });
        }
        if let (Some(last), Some(hash)) = (seen.last(), A::fingerprint(&self.machine)) {
            self.reporter.report(Act::Fingerprint { index: last.log_id.index, hash });
        }
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        WatchedBuilder { builder: self.machine.get_snapshot_builder().await, reporter: self.reporter.clone() }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<<A::C as RaftTypeConfig>::SnapshotData, StorageError> {
        self.machine.begin_receiving_snapshot().await
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<A::C>,
        snapshot: <A::C as RaftTypeConfig>::SnapshotData,
    ) -> Result<(), StorageError> {
        self.machine.install_snapshot(meta, snapshot).await?;
        if let Some(log_id) = meta.last_log_id {
            self.hashes = self.reporter.tap.hashes(log_id.index).unwrap_or_default();
            let StoredMembership::<A::C> { log_id: entry, membership } = &meta.last_membership;
            let membership = entry.zip(seen_membership(membership).map(Arc::new));
            self.reporter.report(Act::Installed { log_id, membership, hashes: self.hashes });
            if let Some(hash) = A::fingerprint(&self.machine) {
                self.reporter.report(Act::Fingerprint { index: log_id.index, hash });
            }
        }
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<A::C>>, StorageError> {
        self.machine.get_current_snapshot().await
    }
}

/// Builds the watched machine's snapshots.
#[derive(Debug)]
pub struct WatchedBuilder<B> {
    builder: B,
    reporter: Reporter,
}

impl<C: SimConfig, B: RaftSnapshotBuilder<C>> RaftSnapshotBuilder<C> for WatchedBuilder<B> {
    async fn build_snapshot(&mut self) -> Result<Snapshot<C>, StorageError> {
        let snapshot = self.builder.build_snapshot().await?;
        if let Some(log_id) = snapshot.meta.last_log_id {
            let hashes = self.reporter.tap.hashes(log_id.index).unwrap_or_default();
            self.reporter.report(Act::Kept { log_id, hashes });
        }
        Ok(snapshot)
    }
}
