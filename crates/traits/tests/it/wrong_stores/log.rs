//! A log store that is right, and wrong in one way on demand.

use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard};

use raftwright_traits::{
    Entry, IOFlushed, LogIndex, LogState, RaftEntry, RaftLogReader, RaftLogStorage, StorageError, Vote, VoteOf,
};

use super::disk::Handle;
use super::flaw::Flaw;
use crate::{Id, TestConfig};

type Vt = VoteOf<TestConfig>;

/// What is on the disk.
#[derive(Clone)]
pub(crate) enum Record {
    Vote(Vt),
    Append(Vec<Entry<TestConfig>>),
    Truncate(LogIndex),
    Purge(Id),
}

#[derive(Clone, Default)]
struct State {
    vote: Option<Vt>,
    purged: Option<Id>,
    entries: Vec<Entry<TestConfig>>,
    /// How many of the entries are flushed.
    flushed: usize,
    committed: Option<Id>,
}

impl State {
    fn apply(&mut self, record: Record, flaw: Flaw) {
        match record {
            Record::Vote(vote) if flaw == Flaw::ForgetsThatAVoteIsCommitted => {
                self.vote = Some(Vote { committed: false, ..vote });
            }
            Record::Vote(vote) => self.vote = Some(vote),
            Record::Append(entries) => self.entries.extend(entries),
            Record::Truncate(since) => {
                let keeps = u64::from(flaw == Flaw::TruncatesBehindTheIndex);
                self.entries.retain(|entry| entry.log_id.index < since + keeps);
            }
            Record::Purge(upto) => {
                let older = self.purged.is_some_and(|purged| upto.index <= purged.index);
                let keeps = older
                    || flaw == Flaw::KeepsTheTailOfAnotherLog
                    || self.entries.iter().any(|entry| entry.log_id == upto);
                self.entries.retain(|entry| keeps && entry.log_id.index > upto.index);
                self.purged = match flaw {
                    Flaw::MovesThePurgeMarkBack => Some(upto),
                    _ => self.purged.max(Some(upto)),
                };
            }
        }
    }
}

struct Shared {
    handle: Handle<Record>,
    state: Mutex<State>,
    flaw: Flaw,
    poisoned: Mutex<Option<StorageError>>,
    /// Writes that wait for the next one.
    held: Mutex<Vec<IOFlushed>>,
}

#[derive(Clone)]
pub(crate) struct Reader {
    shared: Arc<Shared>,
    /// What the log was when the reader was made.
    copy: Option<Vec<Entry<TestConfig>>>,
}

pub(crate) struct Log(Reader);

impl Log {
    pub(crate) fn open(handle: Handle<Record>, records: Vec<Record>, flaw: Flaw) -> Self {
        let mut state = State::default();
        for record in records {
            let skipped = match record {
                Record::Vote(_) => flaw == Flaw::LosesTheVoteWhenClosed,
                Record::Truncate(_) => flaw == Flaw::BringsTruncatedEntriesBack,
                Record::Purge(_) => flaw == Flaw::ForgetsThePurgeMark,
                Record::Append(_) => false,
            };
            if let Record::Append(entries) = &record {
                // As a store by index would: what is written later replaces what was there.
                let first = entries.first().map_or(u64::MAX, |entry| entry.log_id.index);
                state.entries.retain(|entry| entry.log_id.index < first);
            }
            if !skipped {
                state.apply(record, flaw);
            } else if let Record::Purge(upto) = record {
                state.entries.retain(|entry| entry.log_id.index > upto.index);
            }
        }
        state.flushed = state.entries.len();
        let (state, poisoned, held) = (Mutex::new(state), Mutex::default(), Mutex::default());
        Self(Reader { shared: Arc::new(Shared { handle, state, flaw, poisoned, held }), copy: None })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.shared.state.lock().unwrap()
    }

    fn write(&self, record: Record, flushed: IOFlushed) {
        let shared = &self.0.shared;
        let flaw = shared.flaw;
        let changes_nothing = match &record {
            Record::Purge(upto) => self.state().purged >= Some(*upto),
            Record::Append(entries) => entries.is_empty(),
            Record::Vote(_) | Record::Truncate(_) => false,
        };
        if changes_nothing && flaw == Flaw::DropsTheTokenOfAWriteWithoutEffect {
            return;
        }
        let failed = shared.poisoned.lock().unwrap().clone();
        if let Some(error) = failed {
            flushed.io_completed(Err(error));
            return;
        }
        self.state().apply(record.clone(), flaw);
        let before_its_time = flaw == Flaw::CompletesBeforeTheSync
            || flaw == Flaw::CompletesVotesBeforeTheSync && matches!(record, Record::Vote(_));
        // One that other writes follow, in every check that has it.
        let held_back = matches!(&record, Record::Vote(vote) if vote.term() == 13);
        let result = shared.handle.write(record);
        if before_its_time {
            flushed.io_completed(result);
            let _ = shared.handle.sync();
            return;
        }
        let result = match flaw {
            Flaw::NeverSyncs => result,
            _ => result.and_then(|()| shared.handle.sync()),
        };
        if let Err(error) = &result
            && flaw != Flaw::GoesOnAfterAFailedSync
        {
            *shared.poisoned.lock().unwrap() = Some(error.clone());
        }
        {
            let mut state = self.state();
            state.flushed = state.entries.len();
        }
        if flaw == Flaw::LetsAVoteBeOvertaken && held_back {
            shared.held.lock().unwrap().push(flushed);
            return;
        }
        self.complete(flushed, result);
    }

    /// Completes the write, and those that were held back.
    fn complete(&self, flushed: IOFlushed, result: Result<(), StorageError>) {
        let held = std::mem::take(&mut *self.0.shared.held.lock().unwrap());
        flushed.io_completed(result);
        held.into_iter().for_each(|flushed| flushed.io_completed(Ok(())));
    }
}

fn bounds<RB: RangeBounds<LogIndex>>(range: &RB, flaw: Flaw) -> (LogIndex, LogIndex) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) if flaw == Flaw::TakesEveryRangeForHalfOpen => *end,
        Bound::Included(end) => end.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => LogIndex::MAX,
    };
    (start, end)
}

impl RaftLogReader<TestConfig> for Reader {
    async fn try_get_log_entries<RB: RangeBounds<LogIndex> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry<TestConfig>>, StorageError> {
        let (start, end) = bounds(&range, self.shared.flaw);
        let state = self.shared.state.lock().unwrap();
        let count = match self.shared.flaw {
            Flaw::ReadsOnlyWhatIsFlushed => state.flushed.saturating_sub(1),
            _ => state.entries.len(),
        };
        let entries = self.copy.as_ref().map_or(&state.entries[..count.min(state.entries.len())], Vec::as_slice);
        Ok(entries.iter().filter(|entry| (start..end).contains(&entry.log_id.index)).cloned().collect())
    }

    async fn limited_get_log_entries(
        &mut self,
        start: LogIndex,
        end: LogIndex,
        bytes_max: usize,
    ) -> Result<Vec<Entry<TestConfig>>, StorageError> {
        let entries = self.try_get_log_entries(start..end).await?;
        let mut bytes = 0;
        let mut fits = |entry: &Entry<TestConfig>| {
            bytes += entry.size();
            bytes <= bytes_max
        };
        let count = entries.iter().take_while(|entry| fits(entry)).fold(0, |count, _| count + 1);
        let count = match self.shared.flaw {
            Flaw::IgnoresTheLimit => entries.len(),
            Flaw::GivesNothingUnderASmallLimit => count,
            _ => count.max(1),
        };
        Ok(entries.into_iter().take(count).collect())
    }

    async fn get_key_log_ids(&mut self, first: LogIndex, last: Id) -> Result<Vec<Id>, StorageError> {
        let entries = self.try_get_log_entries(first..=last.index).await?;
        let mut ids: Vec<Id> = entries.iter().map(RaftEntry::log_id).collect();
        if self.shared.flaw == Flaw::NamesTheLastEntryOfEveryLeader {
            ids.reverse();
        }
        ids.dedup_by_key(|id| id.leader_id);
        ids.sort();
        Ok(ids)
    }
}

impl RaftLogReader<TestConfig> for Log {
    async fn try_get_log_entries<RB: RangeBounds<LogIndex> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry<TestConfig>>, StorageError> {
        self.0.try_get_log_entries(range).await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: LogIndex,
        end: LogIndex,
        bytes_max: usize,
    ) -> Result<Vec<Entry<TestConfig>>, StorageError> {
        self.0.limited_get_log_entries(start, end, bytes_max).await
    }

    async fn get_key_log_ids(&mut self, first: LogIndex, last: Id) -> Result<Vec<Id>, StorageError> {
        self.0.get_key_log_ids(first, last).await
    }
}

impl RaftLogStorage<TestConfig> for Log {
    type LogReader = Reader;

    async fn get_log_state(&mut self) -> Result<LogState<TestConfig>, StorageError> {
        let state = self.state();
        let last = state.entries.last().map(RaftEntry::log_id);
        let last_log_id = match self.0.shared.flaw {
            Flaw::HasNoLastLogIdWithoutEntries => last,
            _ => last.or(state.purged),
        };
        Ok(LogState { last_purged_log_id: state.purged, last_log_id, incarnation: None })
    }

    async fn get_log_reader(&mut self) -> Reader {
        let copy = (self.0.shared.flaw == Flaw::GivesReadersACopy).then(|| self.state().entries.clone());
        Reader { copy, ..self.0.clone() }
    }

    async fn read_vote(&mut self) -> Result<Option<Vt>, StorageError> {
        Ok(self.state().vote)
    }

    fn save_vote(&mut self, vote: &Vt, flushed: IOFlushed) {
        self.write(Record::Vote(*vote), flushed);
    }

    fn append(&mut self, entries: Vec<Entry<TestConfig>>, flushed: IOFlushed) {
        self.write(Record::Append(entries), flushed);
    }

    fn truncate(&mut self, since: LogIndex, flushed: IOFlushed) {
        self.write(Record::Truncate(since), flushed);
    }

    fn purge(&mut self, upto: Id, flushed: IOFlushed) {
        self.write(Record::Purge(upto), flushed);
    }

    fn save_committed(&mut self, committed: Option<Id>) {
        self.state().committed = committed;
    }

    async fn read_committed(&mut self) -> Result<Option<Id>, StorageError> {
        let state = self.state();
        Ok(match self.0.shared.flaw {
            Flaw::TakesTheLastEntryForCommitted => state.entries.last().map(RaftEntry::log_id),
            _ => state.committed,
        })
    }
}
