//! How fast a target takes what it is sent, and how much may be on its way to it.

use crate::{Span, Time};

/// The window is so many times what the target takes in one round trip: once what is on its way, and once more, so that it has
/// something to do while its answers travel, and so that a faster pace shows.
const GAIN: u64 = 2;

/// A slower pace is believed by and by, an eighth of the difference an answer: one slow flush is no slow target.
const FADE: u64 = 8;

/// How long the shortest round trip is believed. Then, since ways change, it is measured anew: for one round trip little is
/// sent, so that nothing waits in a queue, whose length would be taken for the way's.
const ROUND_TRIP_STANDS: Span = Span::from_secs(10);

/// Measures a target's pace (bytes a second, durably stored and answered) and its round trip, and makes a window of them: the
/// product of both is what is on its way when neither waits for the other. What is sent beyond it waits in queues, here, on
/// the way, or before the target's disk, where it takes memory and makes every later answer late.
///
/// The window doubles with each round trip until the pace does not grow with it any more.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    /// Bytes answered so far.
    answered: u64,
    /// Bytes a second; 0 before the first answer.
    rate: u64,
    round_trip: Option<Span>,
    /// When the shortest round trip was measured.
    measured_at: Time,
    /// Since when little is sent, to measure it anew.
    draining: Option<Time>,
    /// Whether the window has kept something back since the last answer: only then does a slow answer mean a slow target, and
    /// not that there was little to send.
    kept_back: bool,
}

/// What is remembered of a send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Departure {
    at: Time,
    /// What had been answered then.
    answered: u64,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self { answered: 0, rate: 0, round_trip: None, measured_at: Time::ZERO, draining: None, kept_back: false }
    }

    /// Something is sent.
    pub(crate) fn depart(&self, now: Time) -> Departure {
        Departure { at: now, answered: self.answered }
    }

    /// The window has kept something back.
    pub(crate) fn keep_back(&mut self) {
        self.kept_back = true;
    }

    /// What was sent is stored: `bytes` of entries.
    pub(crate) fn arrive(&mut self, now: Time, departure: Departure, bytes: usize) {
        self.answered = self.answered.saturating_add(bytes as u64);
        // A clock may be too coarse to see the round trip.
        let took = now.since(departure.at).max(Span::from_nanos(1));
        let drained = self.draining.is_some_and(|since| departure.at >= since);
        if drained || self.round_trip.is_none_or(|shortest| took <= shortest) {
            (self.round_trip, self.measured_at, self.draining) = (Some(took), now, None);
        } else if self.draining.is_none() && now.since(self.measured_at) >= ROUND_TRIP_STANDS {
            self.draining = Some(now);
        }
        let meanwhile = u128::from(self.answered - departure.answered);
        let rate = u64::try_from(meanwhile * 1_000_000_000 / u128::from(took.as_nanos())).unwrap_or(u64::MAX);
        if rate >= self.rate {
            self.rate = rate;
        } else if self.kept_back {
            self.rate -= (self.rate - rate) / FADE;
        }
        self.kept_back = false;
    }

    /// How many bytes may be on their way: what the pace says, from `min` to `max`.
    pub(crate) fn window(&self, min: usize, max: usize) -> usize {
        let Some(round_trip) = self.round_trip.filter(|_| self.draining.is_none()) else { return min.min(max) };
        let on_the_way = u128::from(self.rate) * u128::from(round_trip.as_nanos()) / 1_000_000_000;
        let window = usize::try_from(on_the_way.saturating_mul(u128::from(GAIN))).unwrap_or(usize::MAX);
        window.max(min).min(max)
    }
}

#[cfg(test)]
mod tests;
