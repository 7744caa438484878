//! Chance that can be repeated to the bit, and names of what is wrong.

use std::collections::BTreeSet;

use raftwright_core::sabotage::Bug;
use raftwright_core::{LogId, LogIdOf, LogIdOption, Rng, Span, Time};

use crate::types::Standard;

/// The first numbers of SplitMix64 as its authors published them, from seeds 0 and 1234567.
#[test]
fn chance_is_the_published_one() {
    let mut rng = Rng::new(0);
    for number in [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f, 0xf88b_b8a8_724c_81ec] {
        assert_eq!(rng.next_u64(), number);
    }
    let mut rng = Rng::new(1_234_567);
    for number in [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423] {
        assert_eq!(rng.next_u64(), number);
    }
}

#[test]
fn spans_are_drawn_from_all_that_are_asked_for() {
    let mut rng = Rng::new(3);
    let (min, max) = (Span::from_nanos(10), Span::from_nanos(13));
    let drawn: BTreeSet<u64> = (0..200).map(|_| rng.span(min, max).as_nanos()).collect();
    assert_eq!(drawn, (10..=13).collect(), "both ends are included");
    assert_eq!(rng.span(max, min), max, "in the wrong order, the first");
    assert_eq!(rng.span(min, min), min);
    let drawn: BTreeSet<Span> = (0..200).map(|_| rng.span(Span::ZERO, Span::from_nanos(u64::MAX))).collect();
    assert_eq!(drawn.len(), 200, "all spans there are");
}

/// Every variant can be called by its name and says what is wrong with it.
#[test]
fn bugs_are_told_apart() {
    let names: BTreeSet<&str> = Bug::ALL.iter().map(|bug| bug.name()).collect();
    let whats: BTreeSet<&str> = Bug::ALL.iter().map(|bug| bug.what()).collect();
    assert_eq!((names.len(), whats.len()), (Bug::ALL.len(), Bug::ALL.len()));
    assert_eq!(Bug::VotesTwice.name(), "VotesTwice");
    assert!(whats.iter().all(|what| what.ends_with('.')));
}

#[test]
fn spans_and_times_are_reckoned_with() {
    let (two, three) = (Span::from_millis(2), Span::from_millis(3));
    assert_eq!(
        (two + three, three * 4, three.saturating_sub(two)),
        (Span::from_millis(5), Span::from_millis(12), Span::from_millis(1))
    );
    assert_eq!((two.saturating_sub(three), three.divided_by(2)), (Span::ZERO, Span::from_micros(1_500)));
    let most = Span::from_nanos(u64::MAX);
    assert_eq!(
        (most + two, most * 2, Span::from_secs(u64::MAX), Span::from_millis(u64::MAX)),
        (most, most, most, most)
    );
    let mut now = Time::from_nanos(7);
    now += Span::from_nanos(5);
    assert_eq!((now.as_nanos(), now.since(Time::from_nanos(4)).as_nanos()), (12, 8));
    assert_eq!((now - Time::from_nanos(2), Time::from_nanos(2) - now), (Span::from_nanos(10), Span::ZERO));
    assert_eq!(now + most, Time::from_nanos(u64::MAX));
}

/// Indexes are counted from one, and nothing is before the first.
#[test]
fn the_index_after_nothing_is_one() {
    let last: Option<LogIdOf<Standard>> = None;
    assert_eq!((last.index_or_zero(), last.next_index()), (0, 1));
    let last = Some(LogIdOf::<Standard> { index: 41, ..LogId::default() });
    assert_eq!((last.index_or_zero(), last.next_index()), (41, 42));
    let last = Some(LogIdOf::<Standard> { index: u64::MAX, ..LogId::default() });
    assert_eq!(last.next_index(), u64::MAX);
}
