//! True time, which only the world knows, and the clocks of the nodes, which may be wrong.

use core::fmt;
use core::time::Duration;

use super::rng::nanos;

/// A moment of true time: nanoseconds since the world began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SimTime(pub u64);

impl SimTime {
    /// When the world began.
    pub const ZERO: SimTime = SimTime(0);

    /// The moment `duration` later, saturating.
    pub fn after(self, duration: Duration) -> SimTime {
        SimTime(self.0.saturating_add(nanos(duration)))
    }

    /// How long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: SimTime) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for SimTime {
    /// Seconds with six digits after the point: a microsecond is the finest that a person compares.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0 / 1_000;
        f.pad(&format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000))
    }
}

/// One node's monotonic clock. It may run fast or slow and may jump ahead; like every monotonic clock it never goes
/// back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeClock {
    /// True time and local time at the last change of the rate.
    base: (SimTime, u64),
    /// Local nanoseconds in a million true ones.
    rate_ppm: u64,
}

/// The rate of a clock that is right.
pub const RATE_RIGHT_PPM: u64 = 1_000_000;

impl NodeClock {
    /// A clock that is right from `now` on and shows `local` nanoseconds.
    pub fn new(now: SimTime, local: u64) -> Self {
        Self { base: (now, local), rate_ppm: RATE_RIGHT_PPM }
    }

    /// What the clock shows.
    pub fn read(&self, now: SimTime) -> u64 {
        let elapsed = u128::from(now.0.saturating_sub(self.base.0.0));
        let local = u128::from(self.base.1) + elapsed * u128::from(self.rate_ppm) / u128::from(RATE_RIGHT_PPM);
        u64::try_from(local).unwrap_or(u64::MAX)
    }

    /// The earliest true moment, not before `now`, at which the clock shows `local` or more.
    pub fn when(&self, now: SimTime, local: u64) -> SimTime {
        let missing = u128::from(local.saturating_sub(self.base.1));
        let elapsed = (missing * u128::from(RATE_RIGHT_PPM)).div_ceil(u128::from(self.rate_ppm.max(1)));
        let true_nanos = u128::from(self.base.0.0) + elapsed;
        SimTime(u64::try_from(true_nanos).unwrap_or(u64::MAX)).max(now)
    }

    /// From `now` on the clock runs at `rate_ppm`: 1,050,000 is 5 % fast. At least 1.
    pub fn set_rate(&mut self, now: SimTime, rate_ppm: u64) {
        self.base = (now, self.read(now));
        self.rate_ppm = rate_ppm.max(1);
    }

    /// The clock goes ahead at once.
    pub fn jump(&mut self, now: SimTime, ahead: Duration) {
        self.base = (now, self.read(now).saturating_add(nanos(ahead)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_clock_shows_a_moment_early() {
        let mut clock = NodeClock::new(SimTime(1_000), 0);
        clock.set_rate(SimTime(1_000), 2_000_000);
        assert_eq!(clock.read(SimTime(1_500)), 1_000);
        assert_eq!(clock.when(SimTime(1_000), 1_000), SimTime(1_500));
    }

    /// A deadline is met exactly: at `when` the clock shows it, one nanosecond before it does not.
    #[test]
    fn when_is_the_inverse_of_read() {
        for rate in [1, 333_333, 999_999, 1_000_000, 1_000_001, 1_500_000] {
            let mut clock = NodeClock::new(SimTime(17), 5);
            clock.set_rate(SimTime(23), rate);
            for local in [6, 11, 1_000, 1_234_567] {
                let when = clock.when(SimTime(23), local);
                assert!(clock.read(when) >= local, "rate {rate}, local {local}");
                if when > SimTime(23) {
                    assert!(clock.read(SimTime(when.0 - 1)) < local, "rate {rate}, local {local}");
                }
            }
        }
    }

    #[test]
    fn changes_never_set_a_clock_back() {
        let mut clock = NodeClock::new(SimTime::ZERO, 0);
        clock.jump(SimTime(10), Duration::from_nanos(100));
        assert_eq!(clock.read(SimTime(10)), 110);
        clock.set_rate(SimTime(20), 500_000);
        assert_eq!(clock.read(SimTime(20)), 120);
        assert_eq!(clock.read(SimTime(40)), 130);
    }

    #[test]
    fn moments_are_printed_in_seconds() {
        assert_eq!(SimTime(12_345_678_900).to_string(), "12.345678");
    }
}
