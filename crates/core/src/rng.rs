//! The one source of randomness: seeded, so that a run can be repeated to the bit.

use crate::Span;

/// SplitMix64: small, fast, and good enough to spread election timeouts. Not for secrets.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator that yields the same numbers for the same seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, uniform over all of `u64`.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A length of time between the two, both included; `min` if they are in the wrong order.
    pub fn span(&mut self, min: Span, max: Span) -> Span {
        let width = max.saturating_sub(min).as_nanos();
        let offset = if width == u64::MAX { self.next_u64() } else { self.next_u64() % (width + 1) };
        min + Span::from_nanos(offset)
    }
}
