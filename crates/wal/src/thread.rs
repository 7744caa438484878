//! The threads of a log: one drives the writer, one zeroes the next segment, one tells the callers of large batches, and one
//! reads what has left the memory.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SendError, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::disk::Disk;
use crate::error::OpenError;
use crate::log::{Completion, Log, Phase, Shared};
use crate::read_queue::{Asker, ReadQueue};
use crate::segments::Chore;
use crate::writer::Writer;

/// The writer's thread. Dropping this closes the log: the thread finishes what is queued, syncs it, and ends. It is not
/// waited for, since the disk may hang; [`Log::end`] tells when it is over.
pub struct WalThread<D: Disk, T: Completion> {
    shared: Arc<Shared<D::File, T>>,
}

impl<D: Disk, T: Completion> fmt::Debug for WalThread<D, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WalThread").finish_non_exhaustive()
    }
}

impl<D: Disk, T: Completion> WalThread<D, T> {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system has no thread to give.
    pub fn spawn(mut writer: Writer<D, T>) -> Result<Self, OpenError> {
        let shared = Arc::clone(writer.shared());
        // One at a time: the writer begins the next when it has seen the end of the one before.
        let (chores, jobs) = sync_channel::<Chore<D::File>>(1);
        spawn("raftwright-zero", move || jobs.into_iter().for_each(Chore::run))?;
        writer.hand_chores_to(chores);
        let answers = Answers::spawn()?;
        spawn("raftwright-wal", move || run(&mut writer, &answers))?;
        Ok(Self { shared })
    }
}

impl<D: Disk, T: Completion> Drop for WalThread<D, T> {
    fn drop(&mut self) {
        self.shared.close();
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), OpenError> {
    let spawned = thread::Builder::new().name(name.into()).spawn(work);
    spawned.map(drop).map_err(|error| OpenError::Thread(error.to_string().into()))
}

/// Starts the thread that reads old entries. It ends when nobody can ask it any more.
pub(crate) fn spawn_reader<D: Disk, T: Completion>(log: Log<D, T>) -> Result<Asker, OpenError> {
    let queue = Arc::new(ReadQueue::default());
    let asker = Asker(Arc::clone(&queue));
    spawn("raftwright-read", move || {
        // A panic of a read has been reported by the panic hook; whoever waits or comes later is answered all the same.
        let closed = Asker(queue);
        while let Some(job) = closed.0.next() {
            if !job.is_abandoned() {
                let read = log.read(job.range.clone(), job.bytes_max);
                job.answer(read);
            }
        }
    })?;
    Ok(asker)
}

fn run<D: Disk, T: Completion>(writer: &mut Writer<D, T>, answers: &Answers<T>) {
    let shared = Arc::clone(writer.shared());
    let mut pace = Pace::default();
    // An error means that the store is poisoned and everybody knows.
    loop {
        let begin = now();
        let Ok(taken) = writer.write_batch() else { return };
        if taken > 0 {
            let written = now();
            if writer.sync().is_err() {
                return;
            }
            let durable = now();
            shared.counters.flush_took(durable - written);
            if answers.take(writer.in_hand()) {
                answers.complete(writer.take_durable());
                writer.housekeep();
            } else {
                let answered = writer.complete();
                writer.housekeep();
                pace.gather(&shared, answered, durable - begin);
            }
            continue;
        }
        if writer.housekeep() {
            continue;
        }
        if !writer.is_held_up() {
            if rests(&shared) {
                continue;
            }
            writer.mark();
            if writer.use_leisure() {
                continue;
            }
        }
        if !wait(&shared, writer.is_held_up()) {
            // Failing to close cleanly loses nothing: the next start does without the mark.
            let _ = writer.close();
            return;
        }
    }
}

/// How long nothing was written when the writer turns to what can wait, a mark first: the next batch would have to wait for it.
const LEISURE_AFTER: Duration = Duration::from_millis(20);

/// Waits a moment for the next write; false if none came, or the log is closed.
fn rests<F, T>(shared: &Shared<F, T>) -> bool {
    let mut state = shared.lock();
    if state.queue.is_empty() && matches!(state.phase, Phase::Open) {
        state.wakes_at = Some(1);
        state = shared.wake.wait_timeout(state, LEISURE_AFTER).unwrap_or_else(PoisonError::into_inner).0;
        state.wakes_at = None;
    }
    !state.queue.is_empty()
}

/// Most batches whose callers wait to be told. With so many the writer waits, and so does every batch behind them.
const UNTOLD_MAX: usize = 4;

/// A thread that tells the callers of large batches. Waking a caller can take longer than its share of a flush; so while some
/// are told, the next batch is already being written.
struct Answers<T> {
    batches: SyncSender<Vec<T>>,
    untold: Arc<AtomicUsize>,
}

impl<T: Completion> Answers<T> {
    fn spawn() -> Result<Self, OpenError> {
        let (batches, durable) = sync_channel::<Vec<T>>(UNTOLD_MAX);
        let untold = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&untold);
        spawn("raftwright-told", move || {
            for batch in durable {
                batch.into_iter().for_each(|token| token.complete(Ok(())));
                count.fetch_sub(1, Ordering::Release);
            }
        })?;
        Ok(Self { batches, untold })
    }

    /// Whether a batch with so many callers goes this way. A small one does if it would overtake another.
    fn take(&self, callers: usize) -> bool {
        callers >= MANY || self.untold.load(Ordering::Acquire) > 0
    }

    fn complete(&self, batch: Vec<T>) {
        self.untold.fetch_add(1, Ordering::Relaxed);
        if let Err(SendError(batch)) = self.batches.send(batch) {
            // The thread ended in a panic of a caller's code.
            batch.into_iter().for_each(|token| token.complete(Ok(())));
        }
    }
}

/// How often a full disk is looked at again.
const FULL_RETRY: Duration = Duration::from_millis(100);

/// Waits until something is queued, or a full disk is to be looked at again; false when the log is closed and nothing is
/// queued, or nothing can be done about what is.
fn wait<F, T>(shared: &Shared<F, T>, held_up: bool) -> bool {
    let mut state = shared.lock();
    loop {
        if !state.queue.is_empty() && !held_up {
            return true;
        }
        match state.phase {
            Phase::Open => {}
            Phase::Closing | Phase::Poisoned(_) => return false,
        }
        state.wakes_at = (!held_up).then_some(1);
        if state.full {
            let (mut state, _) = shared.wake.wait_timeout(state, FULL_RETRY).unwrap_or_else(PoisonError::into_inner);
            state.wakes_at = None;
            return true;
        }
        state = shared.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}

/// How long a flush is put off at most for those who were just answered. Past it, it begins without them.
const GATHER_MAX: Duration = Duration::from_millis(4);
/// How long the writer looks for a single caller's next write before its thread goes to sleep: about what waking it costs.
const SPIN_MAX: Duration = Duration::from_micros(40);
/// From how many callers on a batch's callers are told by a thread of their own.
const MANY: usize = 8;
/// Most flushes in a row that begin at once after callers did not come back. Then it is looked once more whether they do.
const SKIPS_MAX: u32 = 64;

/// Group commit when everybody waits for an answer: who was just answered is likely to come back with the next write. To
/// flush at once would split them into two halves that wait for each other's flushes, and each flush costs the same
/// however many share it. So the writer waits a moment for them, no longer than a flush takes, and gives up for a while
/// where they do not come. Of many it does not wait for any: while some are told, others are written.
#[derive(Default)]
struct Pace {
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
    fn gather<F, T>(&mut self, shared: &Shared<F, T>, answered: usize, took: Duration) {
        let waiting = shared.queued.load(Ordering::Acquire);
        let wanted = waiting + answered;
        let queued = match self.patience(answered, took) {
            Patience::None => return,
            Patience::Spin(longest) => spin(shared, wanted, longest),
            Patience::Sleep(longest) => sleep(shared, wanted, longest),
        };
        self.learn(answered, queued.saturating_sub(waiting));
    }

    /// How to wait for so many callers, after a flush that took so long.
    fn patience(&mut self, answered: usize, took: Duration) -> Patience {
        self.flush = (self.flush * 3 + took) / 4;
        if self.skips > 0 {
            self.skips -= 1;
            return Patience::None;
        }
        match answered {
            0 => Patience::None,
            1 => Patience::Spin(SPIN_MAX.min(self.flush)),
            _ => Patience::Sleep(GATHER_MAX.min(self.flush)),
        }
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

#[expect(clippy::disallowed_methods, reason = "how long flushes take here; the writer itself knows no time")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::WalError;

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

    /// While the first batch's callers are being told, so many others may wait; the writer waits with the next one.
    #[test]
    fn batches_whose_callers_wait_are_bounded() {
        use std::sync::mpsc::TrySendError;
        type Told = Box<dyn FnOnce(Result<(), WalError>) + Send>;
        let answers = Answers::<Told>::spawn().unwrap();
        let ((entered, has_entered), (leave, may_leave), (tell, told)) =
            (sync_channel(1), sync_channel(1), sync_channel(4));
        let first: Told = Box::new(move |_| {
            entered.send(()).unwrap();
            may_leave.recv().unwrap();
        });
        answers.complete(vec![first]);
        has_entered.recv().unwrap();
        for number in 1..=4 {
            let tell = tell.clone();
            answers.complete(vec![Box::new(move |_| tell.send(number).unwrap())]);
        }
        assert!(matches!(answers.batches.try_send(Vec::new()), Err(TrySendError::Full(_))));
        leave.send(()).unwrap();
        drop(tell);
        assert!(told.iter().eq(1..=4), "in their order");
    }
}
