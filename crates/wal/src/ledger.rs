//! What the segment that is being written has done to the log so far: the index that it gets when it is closed.

use std::collections::VecDeque;

use crate::format::{IndexEntry, IndexRun, RecordKind, SegmentHeader, SegmentIndex};
use crate::index::{Index, Place, Slot};
use crate::record::RawLogId;

/// The entries of one segment that are still live, and what else it took away.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    /// Entries of earlier segments from here on are gone.
    cut: u64,
    first: u64,
    entries: VecDeque<IndexEntry>,
    runs: VecDeque<IndexRun>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { cut: u64::MAX, first: 0, entries: VecDeque::new(), runs: VecDeque::new() }
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

    /// An entry was written.
    pub(crate) fn append(&mut self, id: RawLogId, entry: IndexEntry) {
        if self.entries.is_empty() {
            self.first = id.index;
            self.runs.clear();
        }
        if self.runs.back().is_none_or(|run| (run.term, run.node) != (id.term, id.node)) {
            self.runs.push_back(IndexRun { first: id.index, term: id.term, node: id.node });
        }
        self.entries.push_back(entry);
    }

    fn truncate(&mut self, from: u64) {
        self.cut = self.cut.min(from);
        let keep = usize::try_from(from.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.entries.truncate(keep);
        while self.runs.back().is_some_and(|run| run.first >= from) {
            self.runs.pop_back();
        }
    }

    fn purge(&mut self, up_to: u64) {
        while !self.entries.is_empty() && self.first <= up_to {
            self.entries.pop_front();
            self.first += 1;
        }
        while self.runs.get(1).is_some_and(|run| run.first <= self.first) {
            self.runs.pop_front();
        }
        if let Some(run) = self.runs.front_mut() {
            run.first = run.first.max(self.first);
        }
    }

    /// The index of the segment, which is closed with a seal there.
    pub(crate) fn close(self, header: &SegmentHeader, seal_at: u64, next_batch: u64, before: u32) -> SegmentIndex {
        let runs = if self.entries.is_empty() { Vec::new() } else { self.runs.into() };
        SegmentIndex {
            incarnation: header.incarnation,
            salt: header.salt,
            sequence: header.sequence,
            seal_at,
            next_batch,
            before,
            cut: self.cut,
            first: self.first,
            entries: self.entries.into(),
            runs,
        }
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
        log.append(RawLogId { term: run.term, node: run.node, index }, slot, None);
    }
    log.assume_last(next.extent.last);
    log.extent() == next.extent && log.first() == next.first_index
}
