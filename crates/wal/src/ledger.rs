//! What the segment that is being written has done to the log so far, for the index that it gets when it is closed. Where its entries
//! stand is in memory already, and is looked up there once the segment is closed.

use std::collections::VecDeque;

use crate::format::{IndexEntry, IndexRun, RecordKind, SegmentHeader, SegmentIndex};
use crate::index::{Index, Place, Slot};
use crate::record::RawLogId;

/// The entries of one segment that are still live, and what else it took away.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    /// Entries of earlier segments from here on are gone.
    cut: u64,
    /// The first of its entries, and how many there are, without a gap.
    first: u64,
    count: u64,
    runs: VecDeque<IndexRun>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { cut: u64::MAX, first: 0, count: 0, runs: VecDeque::new() }
    }
}

impl Ledger {
    /// A record other than an entry took effect.
    pub(crate) fn record(&mut self, kind: RecordKind, id: RawLogId) {
        match kind {
            RecordKind::Vote | RecordKind::Entry => {}
            RecordKind::Truncate => self.truncate(id.index),
            RecordKind::Purge => self.purge(id.index),
            RecordKind::Replace => self.truncate(0),
        }
    }

    /// So many entries were written that one leader proposed, this one the first.
    pub(crate) fn append(&mut self, first: RawLogId, count: usize) {
        let RawLogId { term, node, index } = first;
        if self.count == 0 {
            self.first = index;
            self.runs.clear();
        }
        if self.runs.back().is_none_or(|run| (run.term, run.node) != (term, node)) {
            self.runs.push_back(IndexRun { first: index, term, node });
        }
        self.count += count as u64;
    }

    fn truncate(&mut self, from: u64) {
        self.cut = self.cut.min(from);
        self.count = self.count.min(from.saturating_sub(self.first));
        while self.runs.back().is_some_and(|run| run.first >= from) {
            self.runs.pop_back();
        }
    }

    fn purge(&mut self, up_to: u64) {
        let gone = self.count.min(up_to.saturating_add(1).saturating_sub(self.first));
        (self.first, self.count) = (self.first + gone, self.count - gone);
        while self.runs.get(1).is_some_and(|run| run.first <= self.first) {
            self.runs.pop_front();
        }
        if let Some(run) = self.runs.front_mut() {
            run.first = run.first.max(self.first);
        }
    }

    /// The segment is closed, with a seal there.
    pub(crate) fn close(self, header: &SegmentHeader, seal_at: u64, next_batch: u64, before: u32) -> Closed {
        let runs = if self.count == 0 { Vec::new() } else { self.runs.into() };
        let index = SegmentIndex {
            incarnation: header.incarnation,
            salt: header.salt,
            sequence: header.sequence,
            seal_at,
            next_batch,
            before,
            cut: self.cut,
            first: self.first,
            entries: Vec::new(),
            runs,
        };
        Closed { index, count: self.count }
    }
}

/// A closed segment whose index is being put together.
#[derive(Debug)]
pub(crate) struct Closed {
    /// Without some of its entries.
    index: SegmentIndex,
    /// How many it has in the end.
    count: u64,
}

impl Closed {
    pub(crate) fn sequence(&self) -> u64 {
        self.index.sequence
    }

    /// The index, if nothing is missing from it.
    pub(crate) fn whole(&self) -> Option<&SegmentIndex> {
        (self.index.entries.len() as u64 == self.count).then_some(&self.index)
    }

    /// Looks up the places of at most so many more entries. False if memory does not know one of them any more, because it was
    /// truncated or purged meanwhile: then the segment does without an index.
    pub(crate) fn gather(&mut self, log: &Index, most: usize) -> bool {
        let missing = self.count - self.index.entries.len() as u64;
        let begin = self.index.first + self.index.entries.len() as u64;
        for at in begin..begin + missing.min(most as u64) {
            match log.slot(at) {
                Some(Slot { place: Place::Disk { segment, offset }, len, crc, kind })
                    if u64::from(segment) == self.index.sequence =>
                {
                    self.index.entries.push(IndexEntry { offset, len, crc, kind });
                }
                Some(_) | None => return false,
            }
        }
        true
    }
}

/// Lets a closed segment take effect by its index, instead of its records. `next` is the header of the segment behind it,
/// the witness of what must hold then. False if it does not: the index is wrong, and `log` is of no use any more.
pub(crate) fn replay(log: &mut Index, closed: &SegmentIndex, next: &SegmentHeader) -> bool {
    if closed.cut < u64::MAX {
        log.truncate(closed.cut);
    }
    // What was purged in the segment is gone from its entries already, so the order of the two does not matter to them.
    if let Some(purged) = next.extent.purged.filter(|purged| Some(*purged) != log.extent().purged) {
        log.purge(purged, false);
    }
    if !closed.entries.is_empty() && !log.is_blank() && log.next() != closed.first {
        return false;
    }
    let Ok(segment) = u32::try_from(closed.sequence) else { return false };
    let mut runs = closed.runs.iter().peekable();
    let mut leader = None;
    for (entry, index) in closed.entries.iter().zip(closed.first..) {
        leader = runs.next_if(|run| run.first == index).or(leader);
        let Some(run) = leader else { return false };
        let place = Place::Disk { segment, offset: entry.offset };
        let slot = Slot { place, len: entry.len, crc: entry.crc, kind: entry.kind };
        log.append(RawLogId { term: run.term, node: run.node, index }, slot);
    }
    log.assume_last(next.extent.last);
    log.extent() == next.extent && log.first() == next.first_index
}
