//! Keys that are written over and over, and what may be found under them.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

/// The keys of a run, by number. Each is written by one client, with versions that ascend from 1.
#[derive(Clone)]
pub(super) struct Versions(Arc<Inner>);

struct Inner {
    run: u64,
    /// By key: the highest version of which the write was begun, and of which it was acknowledged.
    keys: Vec<(AtomicU64, AtomicU64)>,
    acknowledged: AtomicU64,
}

/// What is wrong with what was found under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// A write that was acknowledged is not there, nor a later one.
    Lost,
    /// It was never written.
    Foreign,
}

impl Versions {
    pub(super) fn new(count: u64) -> Self {
        let keys = (0..count).map(|_| (AtomicU64::new(0), AtomicU64::new(0))).collect();
        // The standard hasher's keys are random: a value of an earlier run cannot pass for one of this run.
        let run = RandomState::new().hash_one(count);
        Self(Arc::new(Inner { run, keys, acknowledged: AtomicU64::new(0) }))
    }

    pub(super) fn count(&self) -> u64 {
        self.0.keys.len() as u64
    }

    /// How many writes were acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        self.0.acknowledged.load(Ordering::SeqCst)
    }

    /// A write of the next version begins.
    pub(super) fn begin(&self, number: u64) -> u64 {
        self.at(number).map_or(0, |(begun, _)| begun.fetch_add(1, Ordering::SeqCst) + 1)
    }

    pub(super) fn value(&self, number: u64, version: u64) -> Bytes {
        format!("version {version} of {number} in run {:016x}", self.0.run).into()
    }

    pub(super) fn acknowledge(&self, number: u64, version: u64) {
        if let Some((_, acknowledged)) = self.at(number) {
            acknowledged.fetch_max(version, Ordering::SeqCst);
            self.0.acknowledged.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Judges what a server holds under a key, while nobody writes.
    pub(super) fn judge(&self, number: u64, found: Option<&[u8]>) -> Option<Wrong> {
        let (begun, acknowledged) = self.at(number)?;
        let (begun, acknowledged) = (begun.load(Ordering::SeqCst), acknowledged.load(Ordering::SeqCst));
        let Some(found) = found else { return (acknowledged > 0).then_some(Wrong::Lost) };
        let text = std::str::from_utf8(found).unwrap_or_default();
        let version = text.split(' ').nth(1).and_then(|version| version.parse().ok()).unwrap_or(0);
        if version == 0 || version > begun || found != self.value(number, version) {
            return Some(Wrong::Foreign);
        }
        (version < acknowledged).then_some(Wrong::Lost)
    }

    fn at(&self, number: u64) -> Option<&(AtomicU64, AtomicU64)> {
        self.0.keys.get(usize::try_from(number).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_acknowledged_version_or_a_later_one_must_be_there() {
        let (versions, others) = (Versions::new(2), Versions::new(2));
        assert_eq!(versions.judge(0, None), None, "nothing was written");
        for version in 1..=3 {
            assert_eq!(versions.begin(0), version);
        }
        versions.acknowledge(0, 2);
        let found = |version| versions.judge(0, Some(&versions.value(0, version)));
        assert_eq!([found(1), found(2), found(3), found(4)], [Some(Wrong::Lost), None, None, Some(Wrong::Foreign)]);
        assert_eq!(versions.judge(0, None), Some(Wrong::Lost));
        assert_eq!(versions.judge(0, Some(&others.value(0, 2))), Some(Wrong::Foreign));
        assert_eq!(versions.judge(0, Some(&versions.value(1, 2))), Some(Wrong::Foreign));
        assert_eq!(versions.acknowledged(), 1);
    }
}
