//! Which leader created which stretch of the log.

use alloc::vec::Vec;

use crate::{LogId, LogIdOf, LogIdOption, LogIndex, Types};

/// The terms of the log as runs: the first entry of every leader, and where the log ends. Memory is O(leaders seen), and
/// conflict, truncation and up-to-date checks need no IO.
///
/// Invariants: runs ascend strictly in leader *and* index; the first run starts right behind what was purged, whenever
/// there is an entry at all; `last` belongs to the last run, or is the purged log id if there is no entry.
#[derive(Clone, Debug)]
pub struct LogShape<T: Types> {
    purged: Option<LogIdOf<T>>,
    runs: Vec<LogIdOf<T>>,
    last: Option<LogIdOf<T>>,
}

impl<T: Types> Default for LogShape<T> {
    fn default() -> Self {
        Self { purged: None, runs: Vec::new(), last: None }
    }
}

impl<T: Types> LogShape<T> {
    /// The shape of a log that was read back. `None` if the parts contradict each other.
    pub fn restore(purged: Option<LogIdOf<T>>, runs: Vec<LogIdOf<T>>, last: Option<LogIdOf<T>>) -> Option<Self> {
        let ascending = runs.windows(2).all(|w| w[0].leader_id < w[1].leader_id && w[0].index < w[1].index);
        let starts = match (runs.first(), last) {
            (Some(first), Some(_)) => {
                first.index == purged.next_index() && purged.is_none_or(|p| p.leader_id <= first.leader_id)
            }
            (None, last) => last == purged,
            (Some(_), None) => false,
        };
        let ends = match (runs.last(), last) {
            (Some(run), Some(last)) => run.leader_id == last.leader_id && run.index <= last.index,
            _ => true,
        };
        (ascending && starts && ends).then_some(Self { purged, runs, last })
    }

    /// The last entry, or what was purged last if there is none behind it.
    pub fn last(&self) -> Option<LogIdOf<T>> {
        self.last
    }

    /// The last entry that was purged.
    pub fn purged(&self) -> Option<LogIdOf<T>> {
        self.purged
    }

    /// The first entry of every leader behind `purged`, ascending.
    pub fn runs(&self) -> &[LogIdOf<T>] {
        &self.runs
    }

    /// The log id at an index: of an entry that is there, or of the last one that was purged.
    pub fn log_id_at(&self, index: LogIndex) -> Option<LogIdOf<T>> {
        if let Some(purged) = self.purged
            && purged.index == index
        {
            return Some(purged);
        }
        if index > self.last.index_or_zero() || index <= self.purged.index_or_zero() {
            return None;
        }
        Some(LogId { leader_id: self.runs[self.run_of(index)?].leader_id, index })
    }

    /// Whether the log has this entry, as far as the shape still knows it.
    pub fn contains(&self, log_id: LogIdOf<T>) -> bool {
        self.log_id_at(log_id.index) == Some(log_id)
    }

    /// The last log id before the run that `index` is in, or before the end of the log if it is behind that: where a
    /// leader that conflicts at `index` should look next (Raft §5.3, end).
    pub fn conflict_hint(&self, index: LogIndex) -> Option<LogIdOf<T>> {
        if index > self.last.index_or_zero() {
            return self.last;
        }
        match self.run_of(index) {
            Some(run) => self.log_id_at(self.runs[run].index.saturating_sub(1)).or(self.purged),
            None => self.purged,
        }
    }

    /// Adds an entry. It is the next one, of the last leader or a greater one.
    pub fn append(&mut self, log_id: LogIdOf<T>) {
        assert_eq!(log_id.index, self.last.next_index(), "entries are appended without a gap");
        let last_leader = self.runs.last().map(|run| run.leader_id);
        assert!(self.last.is_none_or(|last| last.leader_id <= log_id.leader_id), "leaders ascend along the log");
        if last_leader != Some(log_id.leader_id) {
            self.runs.push(log_id);
        }
        self.last = Some(log_id);
    }

    /// Removes the entries from `since` on. Nothing that was purged comes back.
    pub fn truncate(&mut self, since: LogIndex) {
        let since = since.max(self.purged.next_index());
        if since > self.last.index_or_zero() {
            return;
        }
        self.last = self.log_id_at(since - 1);
        self.runs.retain(|run| run.index < since);
    }

    /// Forgets the entries up to this one, included. If the log has another entry in its place, or none, it forgets all.
    pub fn purge(&mut self, upto: LogIdOf<T>) {
        if upto.index <= self.purged.index_or_zero() {
            return;
        }
        if !self.contains(upto) {
            *self = Self { purged: Some(upto), runs: Vec::new(), last: Some(upto) };
            return;
        }
        let next = upto.index.saturating_add(1);
        let first_kept = self.log_id_at(next);
        self.runs.retain(|run| run.index > next);
        if let Some(first) = first_kept {
            self.runs.insert(0, first);
        }
        self.purged = Some(upto);
    }

    /// Which run an index that is in the log belongs to.
    fn run_of(&self, index: LogIndex) -> Option<usize> {
        self.runs.partition_point(|run| run.index <= index).checked_sub(1)
    }

    /// Whether the invariants of the type hold.
    pub(crate) fn is_sound(&self) -> bool {
        Self::restore(self.purged, self.runs.clone(), self.last).is_some()
    }
}
