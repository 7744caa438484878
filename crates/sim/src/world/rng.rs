//! Chance from one seed.

use core::time::Duration;

/// One step of SplitMix64 (Steele, Lea, Flood 2014): spreads a counter over all 64 bits.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A stream of chance: xoshiro256++ (Blackman and Vigna 2019), seeded by SplitMix64.
///
/// Each part of the world draws from a stream of its own, made by [`Rng::fork`], so that one more draw in one part does
/// not change what the others see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rng {
    state: [u64; 4],
}

impl Rng {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        let mut counter = seed;
        Self { state: core::array::from_fn(|_| split_mix(&mut counter)) }
    }

    /// A new stream that depends on this one's seed and on `label`, and on nothing drawn later from either.
    pub fn fork(&mut self, label: u64) -> Self {
        let mut counter = self.next_u64() ^ label.wrapping_mul(0xff51_afd7_ed55_8ccd);
        Self { state: core::array::from_fn(|_| split_mix(&mut counter)) }
    }

    /// 64 bits, all equally likely.
    pub fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let result = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let mut next = [a, b, c ^ a, d ^ b];
        next[1] ^= next[2];
        next[0] ^= next[3];
        next[2] ^= b << 17;
        next[3] = next[3].rotate_left(45);
        self.state = next;
        result
    }

    /// A number below `bound`; 0 if `bound` is 0. The bias of 2^-64 per unit of `bound` does not matter to a test.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included; `low` if the range is empty.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        match high.checked_sub(low) {
            None => low,
            Some(width) => low + self.below(width.saturating_add(1)),
        }
    }

    /// A length of time from `low` to `high`, to the nanosecond.
    pub fn duration(&mut self, low: Duration, high: Duration) -> Duration {
        Duration::from_nanos(self.between(nanos(low), nanos(high)))
    }

    /// True with a chance of `parts` in a million.
    pub fn chance_ppm(&mut self, parts: u32) -> bool {
        parts != 0 && self.below(1_000_000) < u64::from(parts)
    }

    /// True once in `n` times; never if `n` is 0.
    pub fn one_in(&mut self, n: u64) -> bool {
        n != 0 && self.below(n) == 0
    }

    /// One of the items, or `None` if there are none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len() as u64) as usize)
    }

    /// Puts the items in a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last as u64 + 1) as usize;
            items.swap(last, other);
        }
    }
}

/// Nanoseconds of a duration, saturating.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_stream_and_another_seed_another() {
        let draw = |seed| {
            let mut rng = Rng::new(seed);
            (0..8).map(|_| rng.next_u64()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    /// The first outputs for the state 1, 2, 3, 4, worked out by hand from the published recurrence.
    #[test]
    fn the_generator_is_the_published_one() {
        let mut rng = Rng { state: [1, 2, 3, 4] };
        assert_eq!(rng.next_u64(), 41_943_041);
        assert_eq!(rng.next_u64(), 58_720_359);
    }

    #[test]
    fn draws_from_a_fork_do_not_change_its_siblings() {
        let mut one = Rng::new(7);
        let mut two = Rng::new(7);
        let mut first = one.fork(1);
        let _ = two.fork(1);
        for _ in 0..100 {
            first.next_u64();
        }
        assert_eq!(one.fork(2), two.fork(2));
    }

    #[test]
    fn bounds_hold_and_are_reached() {
        let mut rng = Rng::new(3);
        let drawn: Vec<u64> = (0..1000).map(|_| rng.between(5, 9)).collect();
        assert_eq!((drawn.iter().min(), drawn.iter().max()), (Some(&5), Some(&9)));
        assert_eq!(rng.below(0), 0);
        assert_eq!(rng.between(9, 5), 9);
        assert!(!rng.chance_ppm(0));
        assert!(rng.chance_ppm(1_000_000));
    }
}
