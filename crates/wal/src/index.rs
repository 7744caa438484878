//! The log in memory: where each entry stands, who proposed it, and the payloads of the recent ones.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::aligned::Memory;
use crate::recent::Recent;
use crate::record::{Extent, RawEntry, RawLogId};
use crate::slots::Slots;

/// Where the payload of an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Not yet written; the number tells apart two entries that had the same index in turn.
    Queued(u64),
    /// In this segment, at this offset.
    Disk { segment: u32, offset: u32 },
}

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) place: Place,
    pub(crate) len: u32,
    pub(crate) crc: u32,
    pub(crate) kind: u8,
}

/// Entries from `first` on that one leader proposed.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: u64,
    term: u64,
    node: Option<u64>,
}

/// The entries behind the purged one, without a gap.
#[derive(Debug, Default)]
pub(crate) struct Index {
    purged: Option<RawLogId>,
    /// Index of the first entry. Says nothing while there is none.
    first: u64,
    /// How many entries from the first one on stood in segments that were removed. Recovery may meet such entries on its
    /// way, none may be left at its end. They are counted and take no room: a header may speak of any number of them.
    gone: u64,
    /// The entries behind those.
    slots: Slots,
    runs: VecDeque<Run>,
    /// Payloads of the last entries.
    recent: Recent,
}

impl Index {
    /// An index in which everything from `first` up to `last` stood in segments that are gone.
    pub(crate) fn carried(extent: Extent, first: u64) -> Self {
        let mut index = Self { purged: extent.purged, ..Self::default() };
        if let Some(last) = extent.last.filter(|last| extent.purged.is_none_or(|purged| purged.index < last.index)) {
            index.first = first.min(last.index);
            index.gone = (last.index - index.first).saturating_add(1);
            index.runs.push_back(Run { first: index.first, term: last.term, node: last.node });
        }
        index
    }

    /// Index that the next entry has; `None` in `extent` means that any may be the first.
    pub(crate) fn next(&self) -> u64 {
        match (self.count(), self.purged) {
            (0, None) => 0,
            (0, Some(purged)) => purged.index.saturating_add(1),
            (count, Some(_) | None) => self.first.saturating_add(count),
        }
    }

    /// How many entries there are, those that are gone included.
    fn count(&self) -> u64 {
        self.gone.saturating_add(self.slots.len())
    }

    /// True when the log never held an entry, so that the next one may have any index.
    pub(crate) fn is_blank(&self) -> bool {
        self.count() == 0 && self.purged.is_none()
    }

    /// Index of the first entry, or of the one that will be the first.
    pub(crate) fn first(&self) -> u64 {
        if self.count() == 0 { self.next() } else { self.first }
    }

    pub(crate) fn extent(&self) -> Extent {
        let last = if self.count() == 0 { self.purged } else { self.log_id(self.next() - 1) };
        Extent { purged: self.purged, last }
    }

    /// Identity of the entry at `index`; the purged one is known too.
    pub(crate) fn log_id(&self, index: u64) -> Option<RawLogId> {
        if self.purged.is_some_and(|purged| purged.index == index) {
            return self.purged;
        }
        if self.count() == 0 || index < self.first || index >= self.next() {
            return None;
        }
        let run = self.runs.partition_point(|run| run.first <= index).checked_sub(1)?;
        let run = self.runs.get(run)?;
        Some(RawLogId { term: run.term, node: run.node, index })
    }

    /// The first entry of every leader in `first..=last`.
    pub(crate) fn leaders(&self, first: u64, last: u64) -> Vec<RawLogId> {
        let begin = first.max(self.first());
        let heads = self.runs.iter().map(|run| run.first.max(begin)).filter(|index| *index <= last);
        let mut leaders: Vec<_> = heads.filter_map(|index| self.log_id(index)).collect();
        leaders.dedup();
        leaders
    }

    pub(crate) fn slot(&self, index: u64) -> Option<Slot> {
        self.slots.get(self.place_of(index)?)
    }

    fn place_of(&self, index: u64) -> Option<u64> {
        index.checked_sub(self.first)?.checked_sub(self.gone)
    }

    /// Index of the first entry whose payload is among the recent ones; as high as can be if there is none.
    pub(crate) fn first_recent(&self) -> u64 {
        self.recent.first()
    }

    /// The payloads from `index` on that are among the recent ones, in order; none if that one is not.
    pub(crate) fn payloads(&self, index: u64) -> impl Iterator<Item = &Bytes> {
        self.recent.from(index)
    }

    /// What the recent payloads cost.
    pub(crate) fn recent_bytes(&self) -> usize {
        self.recent.cost()
    }

    /// Adds an entry behind the last, whose payload is on the media only. The caller has checked that its index is the next one.
    pub(crate) fn append(&mut self, id: RawLogId, slot: Slot) {
        self.add([(id, slot)].into_iter());
        self.recent.clear();
    }

    /// Adds entries that are queued under this number and those that follow, and keeps their payloads. The caller has checked that
    /// their indexes are the next ones.
    pub(crate) fn append_queued(&mut self, entries: &Arc<Vec<RawEntry>>, number: u64) {
        self.add(entries.iter().zip(number..).map(|(entry, number)| {
            let (place, len) = (Place::Queued(number), entry.payload.len() as u32);
            (entry.log_id, Slot { place, len, crc: 0, kind: entry.kind })
        }));
        self.recent.append(Arc::clone(entries));
    }

    /// True when memory for more entries will be needed before long.
    pub(crate) fn lacks_spare(&self) -> bool {
        self.slots.lacks_spare()
    }

    /// Takes memory for more entries.
    pub(crate) fn take_spare(&mut self, memory: Memory) {
        self.slots.take_spare(memory);
    }

    fn add(&mut self, entries: impl Iterator<Item = (RawLogId, Slot)>) {
        let mut next = self.first.saturating_add(self.count());
        let mut any = self.count() > 0;
        let Self { first, runs, slots, .. } = self;
        slots.extend(entries.map(|(id, slot)| {
            if !std::mem::replace(&mut any, true) {
                (*first, next) = (id.index, id.index);
            }
            debug_assert_eq!(next, id.index, "entries are contiguous");
            next = next.wrapping_add(1);
            if runs.back().is_none_or(|run| (run.term, run.node) != (id.term, id.node)) {
                runs.push_back(Run { first: id.index, term: id.term, node: id.node });
            }
            slot
        }));
    }

    /// Removes the entries from `from` on.
    pub(crate) fn truncate(&mut self, from: u64) {
        if self.count() > 0 {
            self.slots.truncate(from.saturating_sub(self.first).saturating_sub(self.gone));
        }
        self.recent.truncate(from);
        if self.slots.is_empty() {
            self.gone = self.gone.min(from.saturating_sub(self.first));
        }
        while self.runs.back().is_some_and(|run| run.first >= from) {
            self.runs.pop_back();
        }
    }

    /// True when purging up to `up_to` cannot keep what stands behind it: the log has entries, and another one there or
    /// none.
    pub(crate) fn conflicts(&self, up_to: RawLogId) -> bool {
        up_to.index < self.next() && self.log_id(up_to.index) != Some(up_to)
    }

    /// Removes the entries up to `up_to`, and with `replace` all others too.
    pub(crate) fn purge(&mut self, up_to: RawLogId, replace: bool) {
        if replace {
            self.truncate(self.first());
        }
        if self.first <= up_to.index {
            let removed = self.gone.min((up_to.index - self.first).saturating_add(1));
            (self.gone, self.first) = (self.gone - removed, self.first.saturating_add(removed));
        }
        if self.gone == 0 && !self.slots.is_empty() && self.first <= up_to.index {
            let removed = self.slots.len().min((up_to.index - self.first).saturating_add(1));
            self.slots.remove_first(removed);
            self.first += removed;
        }
        while self.runs.get(1).is_some_and(|run| run.first <= up_to.index.saturating_add(1)) {
            self.runs.pop_front();
        }
        if self.count() == 0 {
            self.runs.clear();
        }
        self.purged = Some(up_to);
        self.recent.purge(up_to.index.saturating_add(1));
    }

    /// Takes over the identity of the last entry from a witness, where the entry itself is gone and only its index is
    /// known.
    pub(crate) fn assume_last(&mut self, last: Option<RawLogId>) {
        let Some(last) = last.filter(|last| last.index.saturating_add(1) == self.next()) else { return };
        if self.slots.is_empty() && self.gone > 0 {
            self.runs.clear();
            self.runs.push_back(Run { first: self.first, term: last.term, node: last.node });
        }
    }

    /// Notes where the entry that was queued under this number stands now. One that is gone meanwhile is left alone.
    pub(crate) fn written(&mut self, index: u64, number: u64, segment: u32, offset: u32, crc: u32) {
        let Some(place) = self.place_of(index) else { return };
        self.slots.update(place, |queued| {
            let place = Place::Disk { segment, offset };
            (queued.place == Place::Queued(number)).then_some(Slot { place, crc, ..queued })
        });
    }

    /// Forgets the oldest recent payloads above `bytes_max`, but none that is not yet on the media.
    pub(crate) fn evict(&mut self, bytes_max: usize) {
        let (slots, begin) = (&self.slots, self.first.saturating_add(self.gone));
        let slot = |index: u64| slots.get(index.checked_sub(begin)?);
        self.recent.evict(bytes_max, |index| slot(index).is_none_or(|slot| matches!(slot.place, Place::Queued(_))));
    }

    /// The first segment that holds a live entry, if one does.
    pub(crate) fn first_segment(&self) -> Option<u32> {
        match self.slots.get(0)?.place {
            Place::Disk { segment, .. } => Some(segment),
            Place::Queued(_) => None,
        }
    }

    /// The first live entry whose segment is gone.
    pub(crate) fn first_gone(&self) -> Option<u64> {
        (self.gone > 0).then_some(self.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(term: u64, index: u64) -> RawLogId {
        RawLogId { term, node: None, index }
    }

    /// One piece for each, queued under the numbers from 0 on.
    fn filled(terms: &[u64]) -> Index {
        let mut index = Index::default();
        for (at, term) in (0..).zip(terms) {
            index.append_queued(&Arc::new(vec![entry(*term, at + 1)]), at);
        }
        index
    }

    fn entry(term: u64, index: u64) -> RawEntry {
        RawEntry { kind: 0, log_id: id(term, index), payload: Bytes::from_static(b"x") }
    }

    fn is_recent(log: &Index, index: u64) -> bool {
        assert_eq!(log.payloads(index).next().is_some(), index >= log.first_recent() && index < log.next());
        index >= log.first_recent()
    }

    #[test]
    fn log_ids_survive_truncation_and_purge() {
        let mut index = filled(&[1, 1, 2, 2, 5]);
        index.truncate(5);
        assert_eq!(index.extent().last, Some(id(2, 4)));
        index.purge(id(1, 2), false);
        assert_eq!((index.first(), index.log_id(2), index.log_id(1)), (3, Some(id(1, 2)), None));
        assert_eq!(index.log_id(3), Some(id(2, 3)));
        index.purge(id(7, 9), false);
        assert_eq!((index.next(), index.extent().last), (10, Some(id(7, 9))));
    }

    #[test]
    fn a_conflicting_purge_takes_the_whole_log() {
        let mut index = filled(&[1, 1, 1]);
        assert!(index.conflicts(id(2, 2)));
        index.purge(id(2, 2), true);
        assert_eq!((index.first(), index.next(), index.extent().last), (3, 3, Some(id(2, 2))));
    }

    #[test]
    fn a_purge_before_the_first_entry_leaves_no_gap() {
        let mut index = Index::default();
        index.append_queued(&Arc::new(vec![entry(1, 5), entry(1, 6)]), 5);
        assert!(index.conflicts(id(1, 3)));
        index.purge(id(1, 3), true);
        assert_eq!((index.first(), index.next(), index.extent().last), (4, 4, Some(id(1, 3))));
    }

    /// What is added together is what it would be one by one: to a log that never held anything or of which nothing is left, behind the
    /// same leader's entries or another's, and behind some that are gone.
    #[test]
    fn entries_are_added_together_as_one_by_one() {
        let changed = |terms: &[u64], change: fn(&mut Index)| {
            let mut log = filled(terms);
            change(&mut log);
            log
        };
        let gone = || Index::carried(Extent { purged: None, last: Some(id(1, 9)) }, 4);
        let logs: [(&dyn Fn() -> Index, u64, u64); 7] = [
            (&Index::default, 5, 5),
            (&|| changed(&[1, 2], |log| log.truncate(1)), 7, 7),
            (&|| changed(&[1, 1, 2], |log| log.purge(id(2, 3), false)), 4, 4),
            (&|| changed(&[1, 3], |log| log.truncate(2)), 1, 2),
            (&|| filled(&[1, 2]), 1, 3),
            (&gone, 4, 10),
            (&|| changed(&[1, 1, 1], |log| log.purge(id(1, 2), false)), 3, 4),
        ];
        for (number, (log, first, next)) in logs.into_iter().enumerate() {
            let entries: Vec<_> = (next..).zip([1, 1, 3, 1, 4, 4]).map(|(index, term)| entry(term, index)).collect();
            let (mut together, mut one_by_one) = (log(), log());
            together.append_queued(&Arc::new(entries.clone()), 70);
            for (entry, queued) in entries.iter().zip(70..) {
                one_by_one.append_queued(&Arc::new(vec![entry.clone()]), queued);
            }
            for log in [&together, &one_by_one] {
                assert_eq!((log.first(), log.next(), log.runs.len()), (first, next + 6, log.leaders(0, 99).len()));
                assert_eq!(log.leaders(next, next + 6).len(), 4, "log {number}");
                for (entry, queued) in entries.iter().zip(70..) {
                    let index = entry.log_id.index;
                    assert_eq!(log.log_id(index), Some(entry.log_id), "log {number}");
                    assert_eq!(log.slot(index).map(|slot| slot.place), Some(Place::Queued(queued)), "log {number}");
                }
            }
            assert_eq!(together.leaders(0, 99), one_by_one.leaders(0, 99), "log {number}");
        }
    }

    /// A term may have several leaders.
    #[test]
    fn leaders_of_one_term_are_told_apart() {
        let by = |node, index| RawEntry { log_id: RawLogId { node: Some(node), ..id(1, index) }, ..entry(1, index) };
        let mut log = Index::default();
        log.append_queued(&Arc::new(vec![by(1, 1), by(2, 2), by(2, 3)]), 0);
        assert_eq!(log.leaders(0, 9), [by(1, 1).log_id, by(2, 2).log_id]);
        assert_eq!(log.log_id(3), Some(by(2, 3).log_id));
    }

    #[test]
    fn what_is_not_written_is_not_evicted() {
        let mut index = filled(&[1, 1, 1]);
        index.written(1, 0, 1, 4096, 7);
        index.evict(0);
        assert!(!is_recent(&index, 1) && is_recent(&index, 2));
        index.written(2, 77, 1, 5000, 7);
        index.evict(0);
        assert!(is_recent(&index, 2), "another entry of this index was written, not this one");
    }
}
