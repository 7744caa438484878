//! How fast content may leave.

use raftwright_core::{Span, Time};

/// Nanoseconds in a second.
const SECOND: u128 = 1_000_000_000;

/// A bound on bytes a second, for all that one node sends at once. A token bucket whose level is kept as the time at which
/// it was, or will be, empty: no tick is needed, and no rounding adds up to more than a nanosecond a call.
#[derive(Clone, Debug)]
pub struct Throttle {
    /// 0: no bound.
    bytes_per_second: u64,
    /// What may leave at once after a rest.
    burst: Span,
    /// When all that was taken has been paid for.
    paid: Time,
}

impl Throttle {
    /// At most so many bytes a second, 0 for no bound; `burst_bytes` may leave at once after a rest.
    pub fn new(bytes_per_second: u64, burst_bytes: u64) -> Self {
        let burst = Self::cost(bytes_per_second, burst_bytes);
        Self { bytes_per_second, burst, paid: Time::from_nanos(0) }
    }

    /// Changes the bound. What has been taken stays taken.
    pub fn set_rate(&mut self, bytes_per_second: u64, burst_bytes: u64) {
        self.bytes_per_second = bytes_per_second;
        self.burst = Self::cost(bytes_per_second, burst_bytes);
    }

    fn cost(bytes_per_second: u64, bytes: u64) -> Span {
        match u128::from(bytes) * SECOND {
            _ if bytes_per_second == 0 => Span::from_nanos(0),
            nanos => Span::from_nanos(u64::try_from(nanos / u128::from(bytes_per_second)).unwrap_or(u64::MAX)),
        }
    }

    /// Takes `bytes` and says when they may leave: `now` or later. They count as sent whether they are or not.
    pub fn take(&mut self, now: Time, bytes: u64) -> Time {
        if self.bytes_per_second == 0 {
            return now;
        }
        // A rest longer than the burst earns nothing more.
        let earliest = Time::from_nanos(now.as_nanos().saturating_sub(self.burst.as_nanos()));
        let paid = self.paid.max(earliest).as_nanos();
        let paid = paid.saturating_add(Self::cost(self.bytes_per_second, bytes).as_nanos());
        self.paid = Time::from_nanos(paid);
        self.paid.max(now)
    }
}
