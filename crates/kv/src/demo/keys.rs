//! What is written, what was acknowledged, and what was found afterwards.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use bytes::Bytes;

const ACKNOWLEDGED: u8 = 1;
const LOST: u8 = 2;
const WRONG: u8 = 4;

/// The keys of a run, by number. Each is written by one client, with one value that no other key or run has.
#[derive(Clone)]
pub(super) struct Keys(Arc<Inner>);

struct Inner {
    run: u64,
    marks: Vec<AtomicU8>,
    acknowledged: AtomicU64,
}

impl Keys {
    pub(super) fn new(count: u64) -> Self {
        let marks = (0..count).map(|_| AtomicU8::new(0)).collect();
        // The standard hasher's keys are random: a value of an earlier run cannot pass for one of this run.
        let run = RandomState::new().hash_one(count);
        Self(Arc::new(Inner { run, marks, acknowledged: AtomicU64::new(0) }))
    }

    pub(super) fn count(&self) -> u64 {
        self.0.marks.len() as u64
    }

    pub(super) const PREFIX: &str = "demo/";

    pub(super) fn key(number: u64) -> String {
        format!("{}{number:08}", Self::PREFIX)
    }

    pub(super) fn value(&self, number: u64) -> Bytes {
        format!("value {number} of run {:016x}", self.0.run).into()
    }

    /// Its write was acknowledged. Returns how many are.
    pub(super) fn acknowledge(&self, number: u64) -> u64 {
        self.mark(number, ACKNOWLEDGED);
        self.0.acknowledged.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// How many writes were acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        self.0.acknowledged.load(Ordering::SeqCst)
    }

    /// Judges what a server holds under a key. A write that nobody acknowledged may be there or not; whatever is there
    /// must be what was written.
    pub(super) fn judge(&self, number: u64, found: Option<&[u8]>) {
        match found {
            Some(value) if value == self.value(number) => {}
            Some(_) => self.mark(number, WRONG),
            None if self.is_acknowledged(number) => self.mark(number, LOST),
            None => {}
        }
    }

    /// How many keys were lost and how many wrong, on any server.
    pub(super) fn verdict(&self) -> (u64, u64) {
        let count = |bit| self.0.marks.iter().filter(|mark| mark.load(Ordering::SeqCst) & bit != 0).count() as u64;
        (count(LOST), count(WRONG))
    }

    fn is_acknowledged(&self, number: u64) -> bool {
        self.at(number).is_some_and(|mark| mark.load(Ordering::SeqCst) & ACKNOWLEDGED != 0)
    }

    fn mark(&self, number: u64, bit: u8) {
        if let Some(mark) = self.at(number) {
            mark.fetch_or(bit, Ordering::SeqCst);
        }
    }

    fn at(&self, number: u64) -> Option<&AtomicU8> {
        self.0.marks.get(usize::try_from(number).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::Keys;

    #[test]
    fn an_acknowledged_key_must_be_there() {
        let keys = Keys::new(3);
        assert_eq!(keys.acknowledge(0), 1);
        assert_eq!(keys.acknowledge(2), 2);
        keys.judge(0, Some(&keys.value(0)));
        keys.judge(1, None);
        keys.judge(2, None);
        keys.judge(2, None);
        assert_eq!(keys.verdict(), (1, 0), "one key, found missing twice");
    }

    #[test]
    fn what_is_there_must_be_what_was_written() {
        let (keys, others) = (Keys::new(3), Keys::new(3));
        keys.acknowledge(0);
        keys.judge(0, Some(&others.value(0)));
        keys.judge(1, Some(&keys.value(2)));
        keys.judge(2, Some(&keys.value(2)));
        assert_eq!(keys.verdict(), (0, 2), "whether acknowledged or not");
    }
}
