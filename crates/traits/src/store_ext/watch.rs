//! What was seen of a store, and the rules that the next call must keep.

use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering as Atomic};
use std::sync::{Mutex, MutexGuard, PoisonError};

use raftwright_core::{LogIdOption, RaftEntry};

use super::violation::{DefensiveError, ErrorSubject, Violation};
use super::{Defensive, Rules};
use crate::{LogIdOf, LogIndex, LogState, RaftTypeConfig, SnapshotMeta, StorageError, VoteOf};

/// The result of a check.
pub(super) type Kept<C> = Result<(), DefensiveError<C>>;

/// What is known of a store. The outer `None` is "not seen yet": a wrapper begins knowing nothing, and learns from what the
/// node reads at its start.
struct Seen<C: RaftTypeConfig> {
    vote: Option<Option<VoteOf<C>>>,
    purged: Option<Option<LogIdOf<C>>>,
    /// Index of the last entry, purged or not; 0 for none at all.
    last: Option<LogIndex>,
    /// The first entry known of every leader that is known, in order. Small: one for each leader.
    leaders: Vec<LogIdOf<C>>,
    applied: Option<Option<LogIdOf<C>>>,
    committed: Option<LogIdOf<C>>,
    violation: Option<DefensiveError<C>>,
    /// Why no write is passed on any more.
    stopped: Option<StorageError>,
}

impl<C: RaftTypeConfig> Default for Seen<C> {
    fn default() -> Self {
        Self {
            vote: None,
            purged: None,
            last: None,
            leaders: Vec::new(),
            applied: None,
            committed: None,
            violation: None,
            stopped: None,
        }
    }
}

/// Shared by a log store, its readers, and the state machine that belongs to it.
pub(super) struct Watch<C: RaftTypeConfig> {
    defensive: AtomicU8,
    rules: AtomicU8,
    /// Odd while a write is passed on, and another number afterwards. A read is held against what was seen only if the log
    /// was the same all the while.
    version: AtomicU64,
    seen: Mutex<Seen<C>>,
}

impl<C: RaftTypeConfig> Default for Watch<C> {
    fn default() -> Self {
        let watch = Self {
            defensive: AtomicU8::new(0),
            rules: AtomicU8::new(0),
            version: AtomicU64::new(0),
            seen: Mutex::default(),
        };
        watch.set_defensive(Defensive::default());
        watch
    }
}

impl<C: RaftTypeConfig> Watch<C> {
    fn lock(&self) -> MutexGuard<'_, Seen<C>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_defensive(&self, defensive: Defensive) {
        self.defensive.store(defensive as u8, Atomic::Relaxed);
    }

    pub(super) fn defensive(&self) -> Defensive {
        if self.defensive.load(Atomic::Relaxed) == Defensive::On as u8 { Defensive::On } else { Defensive::Off }
    }

    fn is_on(&self) -> bool {
        self.defensive() == Defensive::On
    }

    pub(super) fn set_rules(&self, rules: Rules) {
        self.rules.store(rules as u8, Atomic::Relaxed);
    }

    pub(super) fn rules(&self) -> Rules {
        if self.rules.load(Atomic::Relaxed) == Rules::Contract as u8 { Rules::Contract } else { Rules::HalfOpenRanges }
    }

    pub(super) fn violation(&self) -> Option<DefensiveError<C>> {
        self.lock().violation.clone()
    }

    /// Makes a check of a call that answers, if checks are on.
    fn answer(&self, check: impl FnOnce(&mut Seen<C>) -> Kept<C>) -> Result<(), StorageError> {
        if !self.is_on() {
            return Ok(());
        }
        let mut seen = self.lock();
        check(&mut seen).map_err(|broken| {
            seen.violation.get_or_insert_with(|| broken.clone());
            broken.into()
        })
    }

    /// Checks a write of the log and notes what it does; or says why it must not be passed on.
    fn write(
        &self,
        check: impl FnOnce(&Seen<C>) -> Kept<C>,
        note: impl FnOnce(&mut Seen<C>),
    ) -> Result<PassingOn<'_>, StorageError> {
        let mut seen = self.lock();
        if let Some(stopped) = &seen.stopped {
            return Err(stopped.clone());
        }
        if self.is_on()
            && let Err(broken) = check(&seen)
        {
            seen.violation.get_or_insert_with(|| broken.clone());
            let error = StorageError::from(broken);
            seen.stopped = Some(error.clone());
            return Err(error);
        }
        self.version.fetch_add(1, Atomic::SeqCst);
        note(&mut seen);
        Ok(PassingOn(&self.version))
    }
}

/// While this is there, a write is on its way to the store, and readers may see it or not.
pub(super) struct PassingOn<'w>(&'w AtomicU64);

impl Drop for PassingOn<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Atomic::SeqCst);
    }
}

/// Writes of the log.
impl<C: RaftTypeConfig> Watch<C> {
    pub(super) fn save_vote(&self, to: &VoteOf<C>) -> Result<PassingOn<'_>, StorageError> {
        let check = |seen: &Seen<C>| {
            let Some(Some(curr)) = seen.vote else { return Ok(()) };
            let (curr, to) = (curr, *to);
            let violation = match to.partial_cmp(&curr) {
                Some(Ordering::Equal | Ordering::Greater) => return Ok(()),
                Some(Ordering::Less) if to.term() < curr.term() => {
                    Violation::TermNotAscending { curr: curr.term(), to: to.term() }
                }
                Some(Ordering::Less) => Violation::VoteNotAscending { curr, to },
                None => Violation::NonIncrementalVote { curr, to },
            };
            Err(DefensiveError::new(ErrorSubject::Vote, violation))
        };
        self.write(check, |seen| seen.vote = Some(Some(*to)))
    }

    pub(super) fn append(&self, entries: &[C::Entry]) -> Result<PassingOn<'_>, StorageError> {
        let rules = self.rules();
        let check = |seen: &Seen<C>| {
            if entries.is_empty() && rules == Rules::HalfOpenRanges {
                return Err(DefensiveError::new(ErrorSubject::Logs, Violation::LogsEmpty));
            }
            let mut prev = seen.last.map(|last| (last, seen.leader_at(last)));
            for next in entries.iter().map(RaftEntry::log_id) {
                if let Some((index, leader)) = prev {
                    follows::<C>(index, leader, next)?;
                }
                prev = Some((next.index, Some(next)));
            }
            Ok(())
        };
        let note = |seen: &mut Seen<C>| {
            for id in entries.iter().map(RaftEntry::log_id) {
                if seen.leaders.last().is_none_or(|last| last.leader_id != id.leader_id) {
                    seen.leaders.push(id);
                }
            }
            seen.last = entries.last().map(|last| last.log_id().index).or(seen.last);
        };
        self.write(check, note)
    }

    pub(super) fn truncate(&self, since: LogIndex) -> Result<PassingOn<'_>, StorageError> {
        let check = |seen: &Seen<C>| {
            let broken = |violation| Err(DefensiveError::new(ErrorSubject::Logs, violation));
            let first_conflict_index = since;
            if let Some(purged) = seen.purged.flatten().filter(|purged| since <= purged.index) {
                return broken(Violation::PurgedWontConflict { purged, first_conflict_index });
            }
            if let Some(last_applied) = seen.applied.flatten().filter(|applied| since <= applied.index) {
                return broken(Violation::AppliedWontConflict { last_applied, first_conflict_index });
            }
            if let Some(committed) = seen.committed.filter(|committed| since <= committed.index) {
                return broken(Violation::CommittedWontConflict { committed, first_conflict_index });
            }
            Ok(())
        };
        let note = |seen: &mut Seen<C>| {
            seen.leaders.retain(|id| id.index < since);
            seen.last = seen.last.map(|last| last.min(since.saturating_sub(1)));
        };
        self.write(check, note)
    }

    pub(super) fn purge(&self, upto: LogIdOf<C>) -> Result<PassingOn<'_>, StorageError> {
        let check = |seen: &Seen<C>| match seen.applied {
            Some(last_applied) if last_applied.index_or_zero() < upto.index => Err(DefensiveError::new(
                ErrorSubject::Log(upto),
                Violation::PurgeNonApplied { last_applied, purge_upto: upto },
            )),
            Some(_) | None => Ok(()),
        };
        let note = |seen: &mut Seen<C>| {
            if seen.purged.flatten().is_some_and(|purged| purged.index >= upto.index) {
                return;
            }
            seen.purged = Some(Some(upto));
            let ends_there = seen.last.is_none_or(|last| last <= upto.index);
            let is_held = seen.leader_at(upto.index).map(|id| id.leader_id) == Some(upto.leader_id);
            if ends_there || !is_held {
                // The purged entry is all that is known to be the log. If another one stood in its place, nothing else is
                // left; and whether one did, who has not seen the whole log cannot tell.
                seen.leaders = vec![upto];
                seen.last = seen.last.filter(|_| ends_there).map(|_| upto.index);
            }
        };
        self.write(check, note)
    }

    pub(super) fn save_committed(&self, committed: Option<LogIdOf<C>>) {
        let mut seen = self.lock();
        seen.committed = seen.committed.max(committed);
    }
}

impl<C: RaftTypeConfig> Seen<C> {
    /// The first entry known of the leader of this one, if it is known.
    fn leader_at(&self, index: LogIndex) -> Option<LogIdOf<C>> {
        self.leaders.iter().rev().find(|id| id.index <= index).copied()
    }
}

/// An entry right behind another, of the same leader or a later one.
fn follows<C: RaftTypeConfig>(prev: LogIndex, leader: Option<LogIdOf<C>>, next: LogIdOf<C>) -> Kept<C> {
    let broken = |violation| Err(DefensiveError::new(ErrorSubject::Log(next), violation));
    if prev.checked_add(1) != Some(next.index) {
        return broken(Violation::LogsNonConsecutive { prev: Some(prev).filter(|prev| *prev > 0), next });
    }
    match leader {
        Some(leader) if next.leader_id < leader.leader_id => broken(Violation::DirtyLog {
            higher_index_log_id: next,
            lower_index_log_id: LogIdOf::<C>::new(leader.leader_id, prev),
        }),
        Some(_) | None => Ok(()),
    }
}

/// Answers of the log.
impl<C: RaftTypeConfig> Watch<C> {
    pub(super) fn read_vote(&self, read: Option<VoteOf<C>>, version: u64) -> Result<(), StorageError> {
        let unchanged = self.version() == version;
        let mut seen = self.lock();
        let known = *seen.vote.get_or_insert(read);
        drop(seen);
        self.answer(|_| match known {
            Some(saved) if unchanged && read != Some(saved) => {
                Err(DefensiveError::new(ErrorSubject::Vote, Violation::VoteChanged { saved, read }))
            }
            Some(_) | None => Ok(()),
        })
    }

    pub(super) fn log_state(&self, state: &LogState<C>) -> Result<(), StorageError> {
        let mut seen = self.lock();
        seen.purged.get_or_insert(state.last_purged_log_id);
        if seen.last.is_none() {
            seen.last = Some(state.last_log_id.index_or_zero());
            seen.leaders.extend(state.last_log_id);
        }
        drop(seen);
        self.answer(|_| match (state.last_purged_log_id, state.last_log_id) {
            (Some(purged), last) if last < Some(purged) => Err(DefensiveError::new(
                ErrorSubject::Logs,
                Violation::DirtyLog { higher_index_log_id: last.unwrap_or_default(), lower_index_log_id: purged },
            )),
            (Some(_) | None, _) => Ok(()),
        })
    }

    /// The number of what was written so far, to be handed in with what was read.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Atomic::SeqCst)
    }

    /// A range that a store can be asked for.
    pub(super) fn range(&self, start: Bound<LogIndex>, end: Bound<LogIndex>) -> Result<(), StorageError> {
        if self.rules() == Rules::Contract {
            return Ok(());
        }
        self.answer(|_| {
            let violation = match (start, end) {
                (Bound::Included(start), Bound::Excluded(end)) if start < end => return Ok(()),
                (Bound::Included(start), Bound::Excluded(end)) => Violation::RangeEmpty { start, end },
                (start, end) => Violation::RangeNotHalfOpen { start, end },
            };
            Err(DefensiveError::new(ErrorSubject::Logs, violation))
        })
    }

    /// What was read of `start..end`: in order, without a gap, and from its first entry on to its last or, of a limited
    /// read, to any.
    pub(super) fn entries(
        &self,
        (start, end): (LogIndex, LogIndex),
        entries: &[C::Entry],
        limited: bool,
        version: u64,
    ) -> Result<(), StorageError> {
        self.answer(|seen| {
            let ids = || entries.iter().map(RaftEntry::log_id);
            for (prev, next) in ids().zip(ids().skip(1)) {
                follows::<C>(prev.index, Some(prev), next)?;
            }
            let outside = |id: &LogIdOf<C>| !(start..end).contains(&id.index);
            let not_found = |want, got| {
                Err(DefensiveError::new(ErrorSubject::Logs, Violation::LogIndexNotFound { want, got: Some(got) }))
            };
            if let Some(other) = ids().find(outside) {
                return not_found(start, other.index);
            }
            let (Some(purged), Some(last)) = (seen.purged, seen.last) else { return Ok(()) };
            if !version.is_multiple_of(2) || self.version() != version {
                return Ok(());
            }
            let (start, end) = (start.max(purged.next_index()), end.min(last.saturating_add(1)));
            let (Some(first), Some(last)) = (ids().next(), ids().last()) else {
                if start >= end {
                    return Ok(());
                }
                return Err(DefensiveError::new(ErrorSubject::Logs, Violation::StoreLogsEmpty { start, end }));
            };
            if first.index != start {
                return not_found(start, first.index);
            }
            if !limited && last.index.saturating_add(1) != end {
                return Err(DefensiveError::new(
                    ErrorSubject::Log(last),
                    Violation::LogIndexNotFound { want: end.saturating_sub(1), got: Some(last.index) },
                ));
            }
            Ok(())
        })
    }
}

/// The state machine.
impl<C: RaftTypeConfig> Watch<C> {
    /// Entries that are about to be applied.
    pub(super) fn before_apply(&self, entries: &[C::Entry]) -> Result<(), StorageError> {
        self.answer(|seen| {
            let mut prev = seen.applied;
            for next in entries.iter().map(RaftEntry::log_id) {
                let broken = |violation| Err(DefensiveError::new(ErrorSubject::Apply(next), violation));
                match prev {
                    Some(prev) if prev.next_index() != next.index => {
                        return broken(Violation::ApplyNonConsecutive { prev, next });
                    }
                    Some(Some(prev)) if next.leader_id < prev.leader_id => {
                        return broken(Violation::DirtyLog { higher_index_log_id: next, lower_index_log_id: prev });
                    }
                    Some(_) | None => {}
                }
                prev = Some(Some(next));
            }
            Ok(())
        })
    }

    /// Entries that were applied: how many, the last one, and how many answers there are.
    pub(super) fn applied(&self, entries: usize, last: Option<LogIdOf<C>>, answers: usize) -> Result<(), StorageError> {
        if last.is_some() {
            self.lock().applied = Some(last);
        }
        self.answer(|_| {
            if entries == answers {
                return Ok(());
            }
            let violation = Violation::AnswersUnequal { entries, answers };
            Err(DefensiveError::new(ErrorSubject::StateMachine, violation))
        })
    }

    /// The state machine says how far it has applied. It may say less than it was given: what is not durable yet.
    pub(super) fn applied_state(
        &self,
        applied: Option<LogIdOf<C>>,
        membership: Option<LogIdOf<C>>,
    ) -> Result<(), StorageError> {
        let known = *self.lock().applied.get_or_insert(applied);
        self.claims(ErrorSubject::StateMachine, known, applied)?;
        self.claims(ErrorSubject::StateMachine, applied, membership)
    }

    /// A snapshot of this state machine was built.
    pub(super) fn built(&self, meta: &SnapshotMeta<C>) -> Result<(), StorageError> {
        let subject = ErrorSubject::Snapshot(meta.last_log_id);
        let known = self.lock().applied;
        if let Some(known) = known {
            self.claims(subject.clone(), known, meta.last_log_id)?;
        }
        self.claims(subject, meta.last_log_id, meta.last_membership.log_id)
    }

    /// Nobody has more than was given.
    fn claims(
        &self,
        subject: ErrorSubject<C>,
        last_applied: Option<LogIdOf<C>>,
        claims: Option<LogIdOf<C>>,
    ) -> Result<(), StorageError> {
        match claims {
            Some(claims) if claims.index > last_applied.index_or_zero() => {
                self.answer(|_| Err(DefensiveError::new(subject, Violation::AppliedAhead { last_applied, claims })))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A snapshot is about to be installed.
    pub(super) fn before_install(&self, meta: &SnapshotMeta<C>) -> Result<(), StorageError> {
        let subject = ErrorSubject::Snapshot(meta.last_log_id);
        self.claims(subject.clone(), meta.last_log_id, meta.last_membership.log_id)?;
        self.answer(|seen| match seen.applied.flatten() {
            Some(last_applied) if meta.last_log_id.index_or_zero() < last_applied.index => Err(DefensiveError::new(
                subject,
                Violation::SnapshotBehind { last_applied, snapshot: meta.last_log_id },
            )),
            Some(_) | None => Ok(()),
        })
    }

    /// A snapshot was installed.
    pub(super) fn installed(&self, meta: &SnapshotMeta<C>) {
        self.lock().applied = Some(meta.last_log_id);
    }
}
