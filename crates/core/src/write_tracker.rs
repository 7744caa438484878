//! What has been submitted to the disk and what it has made durable.

use alloc::collections::VecDeque;

use crate::{Canonical, LogIndex, Time, Types, WriteId};

/// Gives out [`WriteId`]s, takes completions in any order, and knows the durable prefix.
///
/// Writes are one ordered sequence, so only a *prefix* of completed writes is durable in the sense that counts: a write
/// that completed before an earlier one waits for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct WriteTracker {
    last_id: u64,
    pending: VecDeque<Pending>,
    durable_index: LogIndex,
}

#[derive(Clone, Debug)]
struct Pending {
    id: WriteId,
    done: bool,
    submitted: Time,
    /// The last index of the log once this write is durable, as far as the log of *now* agrees with it: a truncation
    /// submitted later lowers it. So an index that this covers is the entry that the log has there now.
    covers: LogIndex,
}

impl WriteTracker {
    /// For a log whose entries up to `durable_index` were read back from the disk.
    pub(crate) fn new(durable_index: LogIndex) -> Self {
        Self { last_id: 0, pending: VecDeque::new(), durable_index }
    }

    /// A write that leaves the log ending at `last_index`.
    pub(crate) fn submit(&mut self, now: Time, last_index: LogIndex) -> WriteId {
        self.last_id += 1;
        let id = WriteId(self.last_id);
        self.pending.push_back(Pending { id, done: false, submitted: now, covers: last_index });
        id
    }

    /// The last write was extended by more entries before it was handed out.
    pub(crate) fn extend(&mut self, last_index: LogIndex) {
        if let Some(last) = self.pending.back_mut() {
            assert!(!last.done && last.covers < last_index, "only an open append grows");
            last.covers = last_index;
        }
    }

    /// The log of now ends before `since`. What was or will be durable behind that is another log's.
    pub(crate) fn truncate(&mut self, since: LogIndex) {
        let keep = since.saturating_sub(1);
        self.durable_index = self.durable_index.min(keep);
        for write in &mut self.pending {
            write.covers = write.covers.min(keep);
        }
    }

    /// The log of now shares nothing with what was submitted before: it starts over, behind a snapshot. Up to there it is
    /// durable once the write that starts it over is.
    pub(crate) fn reset(&mut self) {
        self.truncate(0);
    }

    /// The disk has completed a write. Returns whether the durable prefix has grown. A completion that nobody waits for
    /// (a second one) changes nothing.
    pub(crate) fn complete(&mut self, id: WriteId) -> bool {
        if let Some(write) = self.pending.iter_mut().find(|write| write.id == id) {
            write.done = true;
        }
        let mut grown = false;
        while let Some(write) = self.pending.pop_front_if(|write| write.done) {
            self.durable_index = self.durable_index.max(write.covers);
            grown = true;
        }
        grown
    }

    /// Whether this write, and all before it, are durable.
    pub(crate) fn is_durable(&self, id: WriteId) -> bool {
        id.0 <= self.last_id && self.pending.front().is_none_or(|first| id < first.id)
    }

    /// The write that will make this index durable; `None` if it is so already.
    pub(crate) fn covering(&self, index: LogIndex) -> Option<WriteId> {
        if index <= self.durable_index {
            return None;
        }
        self.pending.iter().find(|write| write.covers >= index).map(|write| write.id)
    }

    /// The last entry of the log of now that is durable here.
    pub(crate) fn durable_index(&self) -> LogIndex {
        self.durable_index
    }

    /// How many writes are submitted and not yet part of the durable prefix.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// How many writes must complete before this one is durable, itself included; 0 if it is.
    pub(crate) fn rank(&self, id: WriteId) -> u64 {
        self.pending.iter().take_while(|write| write.id <= id).count() as u64
    }

    /// What is under way and durable, as words.
    pub(crate) fn canonical<T: Types>(&self, words: &mut Canonical<'_, T>) {
        let Self { last_id: _, pending, durable_index } = self;
        words.word(*durable_index);
        words.word(pending.len() as u64);
        for Pending { id: _, done, submitted: _, covers } in pending {
            words.flag(*done);
            words.word(*covers);
        }
    }

    /// When the oldest write that is not durable was submitted.
    pub(crate) fn oldest_pending(&self) -> Option<Time> {
        self.pending.front().map(|write| write.submitted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BUGS 38: completions in any order make exactly the contiguous prefix durable.
    #[test]
    fn only_a_prefix_is_durable() {
        let mut writes = WriteTracker::new(0);
        let (a, b, c) = (writes.submit(Time::ZERO, 1), writes.submit(Time::ZERO, 2), writes.submit(Time::ZERO, 3));
        assert!(!writes.complete(c));
        assert_eq!(writes.durable_index(), 0);
        assert!(writes.complete(a));
        assert_eq!(writes.durable_index(), 1);
        assert!(writes.is_durable(a) && !writes.is_durable(b) && !writes.is_durable(c));
        assert!(writes.complete(b));
        assert_eq!(writes.durable_index(), 3);
        assert!(!writes.complete(b), "a second completion changes nothing");
    }

    /// BUGS 16: a completion that was submitted before a truncation says nothing about what came after.
    #[test]
    fn a_truncation_takes_back_what_earlier_writes_cover() {
        let mut writes = WriteTracker::new(0);
        let append = writes.submit(Time::ZERO, 20);
        writes.truncate(16);
        let cut = writes.submit(Time::ZERO, 15);
        let again = writes.submit(Time::ZERO, 18);
        writes.complete(append);
        assert_eq!(writes.durable_index(), 15);
        assert_eq!(writes.covering(17), Some(again));
        writes.complete(cut);
        assert_eq!(writes.durable_index(), 15);
        writes.complete(again);
        assert_eq!(writes.durable_index(), 18);
    }
}
