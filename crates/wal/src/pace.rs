//! Group commit: how long a flush waits for more writes.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::log::{Phase, Shared};
use crate::seat::Told;
use crate::thread::now;

/// How long a flush is put off at most for those who were just answered. Past it, it begins without them.
const GATHER_MAX: Duration = Duration::from_millis(4);
/// How long the writer looks for a single caller's next write before its thread goes to sleep: about what waking it costs.
const SPIN_MAX: Duration = Duration::from_micros(40);
/// Most flushes in a row that begin at once after callers did not come back. Then it is looked once more whether they do.
const SKIPS_MAX: u32 = 64;

/// Group commit when everybody waits for an answer: who was just answered is likely to come back with the next write. To
/// flush at once would split them into two halves that wait for each other's flushes, and each flush costs the same
/// however many share it. So the writer waits a moment for them, no longer than a flush takes, and gives up for a while
/// where they do not come. Of many it does not wait for any: while some are told, others are written.
#[derive(Default)]
pub(crate) struct Pace {
    /// About how long writing and flushing a batch takes.
    flush: Duration,
    /// How many flushes still begin at once.
    skips: u32,
    /// How many will, after the next time in vain.
    penalty: u32,
}

/// How to wait for those who were just answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    /// Not at all.
    None,
    /// At most so long, without giving up the processor.
    Spin(Duration),
    /// At most so long, asleep.
    Sleep(Duration),
}

impl Pace {
    /// Waits until as many writes are queued as the so many callers that were answered make with those that wait already.
    ///
    /// A single caller who can write for itself is not waited for: it would only have to be woken again.
    pub(crate) fn gather<F, T>(&mut self, shared: &Shared<F, T>, told: &Told, callers_write: bool) {
        let Some(answered) = told.callers else {
            // Nobody knows when they are told, and others are written meanwhile: the next flush begins at once.
            self.begins_at_once(told.took);
            return;
        };
        let waiting = shared.queued.load(Ordering::Acquire);
        if answered == 1 && waiting == 0 && callers_write {
            return;
        }
        let wanted = waiting + answered;
        let queued = match self.patience(answered, told.took) {
            Patience::None => return,
            Patience::Spin(longest) => spin(shared, wanted, longest),
            Patience::Sleep(longest) => sleep(shared, wanted, longest),
        };
        self.learn(answered, queued.saturating_sub(waiting));
    }

    /// How to wait for so many callers, after a flush that took so long.
    fn patience(&mut self, answered: usize, took: Duration) -> Patience {
        if self.begins_at_once(took) {
            return Patience::None;
        }
        match answered {
            0 => Patience::None,
            1 => Patience::Spin(SPIN_MAX.min(self.flush)),
            _ => Patience::Sleep(GATHER_MAX.min(self.flush)),
        }
    }

    /// A flush took so long. True if the next one still is among those that begin at once.
    fn begins_at_once(&mut self, took: Duration) -> bool {
        self.flush = (self.flush * 3 + took) / 4;
        let at_once = self.skips > 0;
        self.skips = self.skips.saturating_sub(1);
        at_once
    }

    /// Of those who were answered, so many came back.
    fn learn(&mut self, answered: usize, came: usize) {
        if came * 2 >= answered {
            self.penalty = 0;
        } else {
            self.penalty = (self.penalty * 2 + 1).min(SKIPS_MAX);
            self.skips = self.penalty;
        }
    }
}

/// Looks for so many queued writes without giving up the processor. Returns how many there are.
fn spin<F, T>(shared: &Shared<F, T>, wanted: usize, longest: Duration) -> usize {
    let begin = now();
    loop {
        let queued = shared.queued.load(Ordering::Acquire);
        if queued >= wanted || begin.elapsed() >= longest {
            return queued;
        }
        std::hint::spin_loop();
    }
}

/// Sleeps until so many writes are queued. Returns how many there are.
fn sleep<F, T>(shared: &Shared<F, T>, wanted: usize, longest: Duration) -> usize {
    let mut state = shared.lock();
    if state.queue.len() < wanted && matches!(state.phase, Phase::Open) {
        state.wakes_at = Some(wanted);
        state = shared.wake.wait_timeout(state, longest).unwrap_or_else(PoisonError::into_inner).0;
        state.wakes_at = None;
    }
    state.queue.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: Duration = Duration::from_secs(1);

    /// No longer than a flush takes, and no longer than the bounds: a slow disk makes nobody wait for those who may not come.
    #[test]
    fn the_patience_for_callers_is_bounded() {
        for (flush, spin, sleep) in [(SLOW, 40, 4000), (Duration::from_micros(20), 20, 20)] {
            let mut pace = Pace { flush, ..Pace::default() };
            assert_eq!(pace.patience(0, flush), Patience::None);
            assert_eq!(pace.patience(1, flush), Patience::Spin(Duration::from_micros(spin)));
            assert_eq!(pace.patience(2, flush), Patience::Sleep(Duration::from_micros(sleep)));
            assert_eq!(pace.patience(1000, flush), Patience::Sleep(Duration::from_micros(sleep)));
        }
    }

    /// A batch whose callers another thread tells is a flush like any other: it is known from it how long one takes, and it counts among
    /// those that begin at once.
    #[test]
    fn a_batch_that_another_thread_tells_counts() {
        let mut pace = Pace { skips: 1, ..Pace::default() };
        assert!(pace.begins_at_once(SLOW) && !pace.begins_at_once(SLOW));
        assert_eq!(pace.patience(1, SLOW), Patience::Spin(SPIN_MAX), "flushes are slow here");
    }

    /// Callers who do not come back are looked for more and more seldom, and never given up: they may have changed their ways.
    #[test]
    fn flushes_that_begin_at_once_are_bounded() {
        let mut pace = Pace::default();
        let mut skipped = Vec::new();
        for _ in 0..9 {
            let tried = (0..1000).position(|_| pace.patience(10, SLOW) != Patience::None);
            skipped.push(tried.expect("they are looked for again"));
            pace.learn(10, 4);
        }
        assert_eq!(skipped, [0, 1, 3, 7, 15, 31, 63, 64, 64]);
        let tried = (0..1000).position(|_| pace.patience(10, SLOW) != Patience::None);
        pace.learn(10, 5);
        assert_eq!((tried, pace.patience(10, SLOW) != Patience::None), (Some(64), true), "half of them are enough");
    }
}
