//! The arithmetic of the window, to the byte.

use super::Pace;
use crate::{Span, Time};

const MAX: usize = 1 << 40;

fn at(millis: u64) -> Time {
    Time::ZERO + Span::from_millis(millis)
}

/// Sends at one time and is answered at another.
fn trip(pace: &mut Pace, sent: u64, answered: u64, bytes: usize) {
    let departure = pace.depart(at(sent));
    pace.arrive(at(answered), departure, bytes);
}

/// A thousand bytes in ten milliseconds.
fn measured() -> Pace {
    let mut pace = Pace::new();
    trip(&mut pace, 0, 10, 1_000);
    pace
}

#[test]
fn the_window_is_twice_what_is_on_the_way() {
    assert_eq!((Pace::new().window(70, MAX), Pace::new().window(70, 50)), (70, 50), "nothing is known");
    let pace = measured();
    assert_eq!((pace.window(1, MAX), pace.window(3_000, MAX), pace.window(1, 1_500)), (2_000, 3_000, 1_500));
}

#[test]
fn what_is_answered_meanwhile_counts() {
    let mut pace = Pace::new();
    let (first, second) = (pace.depart(at(0)), pace.depart(at(0)));
    pace.arrive(at(10), first, 1_000);
    pace.arrive(at(20), second, 3_000);
    // Four thousand bytes in twenty milliseconds; the way takes ten.
    assert_eq!(pace.window(1, MAX), 4_000);
    trip(&mut pace, 20, 30, 1_000);
    assert_eq!(pace.window(1, MAX), 4_000, "what was answered before it left says nothing about this trip");
}

#[test]
fn a_slower_pace_is_believed_by_eighths_and_only_if_something_was_kept_back() {
    let mut pace = measured();
    trip(&mut pace, 10, 50, 1_000);
    assert_eq!(pace.window(1, MAX), 2_000, "there was little to send");
    pace.keep_back();
    trip(&mut pace, 50, 90, 1_000);
    // A hundred thousand bytes a second, less an eighth of seventy-five thousand.
    assert_eq!(pace.window(1, MAX), 1_812);
    trip(&mut pace, 90, 130, 1_000);
    assert_eq!(pace.window(1, MAX), 1_812, "it was kept back once");
    trip(&mut pace, 130, 140, 1_000);
    assert_eq!(pace.window(1, MAX), 2_000, "a faster one is believed at once");
}

#[test]
fn a_clock_that_is_too_coarse_to_see_the_trip_sees_the_shortest() {
    let mut pace = Pace::new();
    trip(&mut pace, 5, 5, 3);
    assert_eq!(pace.window(1, MAX), 6);
}

#[test]
fn a_shorter_way_is_believed_at_once() {
    let mut pace = measured();
    trip(&mut pace, 10, 15, 500);
    assert_eq!(pace.window(1, MAX), 1_000);
    trip(&mut pace, 20, 40, 2_000);
    assert_eq!(pace.window(1, MAX), 1_000, "a longer one is not");
}

/// After ten seconds the round trip is measured anew: little is sent until something that left after that is answered.
#[test]
fn a_longer_way_is_believed_when_nothing_can_wait_in_a_queue() {
    let mut pace = measured();
    trip(&mut pace, 9_979, 10_009, 3_000);
    assert_eq!(pace.window(1, MAX), 2_000, "it stands for ten seconds");
    let late = pace.depart(at(10_009));
    trip(&mut pace, 9_980, 10_010, 3_000);
    assert_eq!(pace.window(1, MAX), 1, "and is doubted then");
    pace.arrive(at(10_039), late, 0);
    assert_eq!(pace.window(1, MAX), 1, "that one has left before");
    trip(&mut pace, 10_010, 10_040, 3_000);
    assert_eq!(pace.window(1, MAX), 6_000, "thirty milliseconds it is now");
    trip(&mut pace, 20_009, 20_039, 3_000);
    assert_eq!(pace.window(1, MAX), 6_000, "as long is a confirmation");
    trip(&mut pace, 30_000, 30_031, 3_100);
    assert_eq!(pace.window(1, MAX), 6_000, "which stands for ten seconds as well");
    trip(&mut pace, 30_008, 30_039, 3_100);
    assert_eq!(pace.window(1, MAX), 1);
}
