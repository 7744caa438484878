//! Pauses between attempts to connect.

use std::time::Duration;

/// Exponential backoff with jitter from a seeded source: each failure doubles the pause up to a bound, and the pause taken
/// is drawn from its upper half, so that nodes that lost the same peer do not come back in step.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
    state: u64,
}

impl Backoff {
    /// A backoff without failures. Equal seeds give equal pauses.
    pub fn new(min: Duration, max: Duration, seed: u64) -> Self {
        Backoff { min, max: max.max(min), failures: 0, state: seed }
    }

    /// Counts a failure and returns the pause to make before the next attempt.
    pub fn on_failure(&mut self) -> Duration {
        let doubled = self.min.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1).min(31);
        let full = doubled.min(self.max);
        let half = full / 2;
        half + Duration::from_nanos(self.draw() % (u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1)))
    }

    /// Forgets the failures, after a sign that the peer is well.
    pub fn on_success(&mut self) {
        self.failures = 0;
    }

    /// SplitMix64: small, seeded, and good enough to spread attempts.
    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_start_over_after_a_success() {
        let (min, max) = (Duration::from_millis(20), Duration::from_secs(2));
        let mut backoff = Backoff::new(min, max, 7);
        let mut full = min;
        for _ in 0..100 {
            let pause = backoff.on_failure();
            assert!(pause >= full / 2 && pause <= full, "{pause:?} is outside the upper half of {full:?}");
            full = (full * 2).min(max);
        }
        backoff.on_success();
        assert!(backoff.on_failure() <= min);
    }

    #[test]
    fn equal_seeds_give_equal_pauses_and_others_differ() {
        let pauses = |seed| {
            let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(2), seed);
            (0..20).map(|_| backoff.on_failure()).collect::<Vec<_>>()
        };
        assert_eq!(pauses(1), pauses(1));
        assert_ne!(pauses(1), pauses(2));
    }
}
