//! What a log has done so far, as plain numbers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Number of buckets of a [`FlushTimes`].
pub const FLUSH_BUCKETS: usize = 24;

/// How long it took to write batches and flush them: bucket `i` counts those below 2^i microseconds that are in no bucket before, the last one all
/// that took longer. Empty where whoever drives the writer does not measure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlushTimes {
    /// Counts.
    pub buckets: [u64; FLUSH_BUCKETS],
    /// Sum of all times, in microseconds.
    pub total_micros: u64,
}

impl FlushTimes {
    /// Number of flushes that were measured.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The time, as the upper end of a bucket, that this share of the flushes stayed below; `None` if there were none.
    /// Shares are in 1/1000: 500 is the median.
    pub fn quantile(&self, per_mille: u32) -> Option<Duration> {
        let count = self.count();
        let wanted = u128::from(count) * u128::from(per_mille.min(1000)) / 1000;
        let mut seen = 0;
        for (bucket, flushes) in self.buckets.iter().enumerate() {
            seen += u128::from(*flushes);
            if *flushes > 0 && seen >= wanted {
                return Some(Duration::from_micros(1 << bucket));
            }
        }
        None
    }
}

/// What a log has done since it was opened, and what waits. See [`Log::metrics`](crate::Log::metrics).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalMetrics {
    /// Batches that were made durable, each with one flush.
    pub batches: u64,
    /// Writes in them: votes, appends, truncations, purges.
    pub writes: u64,
    /// Entries in them.
    pub entries: u64,
    /// Bytes that were written for them, with heads, checksums and padding.
    pub bytes: u64,
    /// Segments that were begun.
    pub segments_begun: u64,
    /// Segments that were removed or used again.
    pub segments_removed: u64,
    /// How long it took to write batches and flush them.
    pub flush_times: FlushTimes,
    /// Writes that wait for the writer now.
    pub queue_writes: usize,
    /// Bytes that wait for the writer now.
    pub queue_bytes: usize,
    /// Bytes of recent entries in memory now, with what it costs to keep them.
    pub recent_bytes: usize,
    /// Segment files now.
    pub segments: usize,
    /// The disk is full now, and appends are refused.
    pub full: bool,
}

/// Counts as the writer goes.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) batches: AtomicU64,
    pub(crate) writes: AtomicU64,
    pub(crate) entries: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) segments_begun: AtomicU64,
    pub(crate) segments_removed: AtomicU64,
    flushes: [AtomicU64; FLUSH_BUCKETS],
    flush_micros: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Batches that were made durable so far.
    pub(crate) fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }

    pub(crate) fn flush_took(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = (u64::BITS - micros.leading_zeros()) as usize;
        let last = FLUSH_BUCKETS - 1;
        if let Some(bucket) = self.flushes.get(bucket.min(last)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.flush_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// The counts; what waits is left at zero.
    pub(crate) fn read(&self) -> WalMetrics {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut flush_times = FlushTimes { total_micros: get(&self.flush_micros), ..FlushTimes::default() };
        for (to, from) in flush_times.buckets.iter_mut().zip(&self.flushes) {
            *to = get(from);
        }
        WalMetrics {
            batches: get(&self.batches),
            writes: get(&self.writes),
            entries: get(&self.entries),
            bytes: get(&self.bytes),
            segments_begun: get(&self.segments_begun),
            segments_removed: get(&self.segments_removed),
            flush_times,
            ..WalMetrics::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fall_into_their_buckets() {
        let counters = Counters::default();
        for micros in [0, 1, 3, 100, 127, 128, u64::MAX >> 12] {
            counters.flush_took(Duration::from_micros(micros));
        }
        let times = counters.read().flush_times;
        assert_eq!((times.buckets[0], times.buckets[1], times.buckets[2]), (1, 1, 1));
        assert_eq!((times.buckets[7], times.buckets[8], times.buckets[FLUSH_BUCKETS - 1]), (2, 1, 1));
        assert_eq!(times.count(), 7);
        assert_eq!(times.quantile(500), Some(Duration::from_micros(4)), "below 4, the third of seven");
        assert_eq!(times.quantile(1000), Some(Duration::from_micros(1 << (FLUSH_BUCKETS - 1))));
        assert_eq!(FlushTimes::default().quantile(500), None);
    }
}
