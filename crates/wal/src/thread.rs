//! The threads of a log: one drives the writer, one zeroes the next segment, one tells the callers of large batches, and one
//! reads what has left the memory.

use std::fmt;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::disk::Disk;
use crate::error::{OpenError, WalError};
use crate::log::{Completion, Log, Phase, Refused, Shared};
use crate::pace::Pace;
use crate::read_queue::{Asker, ReadQueue};
use crate::record::Op;
use crate::seat::{Seat, Submitted};
use crate::segments::Chore;
use crate::writer::Writer;

/// The writer's thread. Dropping this closes the log: the thread finishes what is queued, syncs it, and ends. It is not
/// waited for, since the disk may hang; [`Log::end`] tells when it is over.
pub struct WalThread<D: Disk, T: Completion> {
    seat: Arc<Seat<D, T>>,
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
        // One at a time: the writer begins the next when it has seen the end of the one before.
        let (chores, jobs) = sync_channel::<Chore<D::File>>(1);
        spawn("raftwright-zero", move || jobs.into_iter().for_each(Chore::run))?;
        writer.hand_chores_to(chores);
        let seat = Arc::new(Seat::new(writer)?);
        let at_end = Vacates(Arc::clone(&seat));
        spawn("raftwright-wal", move || run(&at_end.0))?;
        Ok(Self { seat })
    }

    /// As [`Log::submit`], for a caller that does nothing until its token is completed: see [`Submitted::write`].
    ///
    /// # Errors
    /// As those of [`Log::submit`]: the write surely has no effect.
    pub fn submit(&self, op: Op, token: T) -> Result<Submitted<'_, D, T>, Refused<T>> {
        self.seat.submit(op, token)
    }
}

impl<D: Disk, T: Completion> Drop for WalThread<D, T> {
    fn drop(&mut self) {
        self.seat.log().shared.close();
    }
}

/// Ends the log with the thread, also when that panics.
struct Vacates<D: Disk, T: Completion>(Arc<Seat<D, T>>);

impl<D: Disk, T: Completion> Drop for Vacates<D, T> {
    fn drop(&mut self) {
        self.0.vacate();
    }
}

pub(crate) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), OpenError> {
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

/// The writer has nothing to do.
struct Idle {
    /// A batch waits for room on the media.
    held_up: bool,
    /// Batches until then.
    batches: u64,
}

fn run<D: Disk, T: Completion>(seat: &Seat<D, T>) {
    let shared = Arc::clone(&seat.log().shared);
    let mut pace = Pace::default();
    // An error means that the store is poisoned and everybody knows.
    while let Some(Ok(idle)) = seat.turn(|writer| write_all(seat, writer, &mut pace)) {
        if !idle.held_up && (rests(seat, &idle) || seat.turn(|writer| use_leisure(writer, &idle)) == Some(true)) {
            continue;
        }
        if !wait(&shared, &idle) {
            // Failing to close cleanly loses nothing: the next start does without the mark.
            seat.turn(|writer| writer.close().ok());
            return;
        }
    }
}

/// Batch after batch, with what follows from them, until nothing is left to do.
fn write_all<D: Disk, T: Completion>(
    seat: &Seat<D, T>,
    writer: &mut Writer<D, T>,
    pace: &mut Pace,
) -> Result<Idle, WalError> {
    let shared = Arc::clone(writer.shared());
    loop {
        if let Some(told) = seat.batch(writer)? {
            writer.housekeep();
            pace.gather(&shared, &told, seat.callers_write());
        } else if !writer.housekeep() {
            return Ok(Idle { held_up: writer.is_held_up(), batches: shared.counters.batches() });
        }
    }
}

/// One piece of what can wait; false if nothing is left of it. A caller that wrote meanwhile shows that it can wait longer.
fn use_leisure<D: Disk, T: Completion>(writer: &mut Writer<D, T>, idle: &Idle) -> bool {
    if writer.shared().counters.batches() != idle.batches {
        return true;
    }
    writer.mark();
    writer.use_leisure()
}

/// How long nothing was written when the writer turns to what can wait, a mark first: the next batch would have to wait for it.
const LEISURE_AFTER: Duration = Duration::from_millis(20);

/// Waits for the next write, until nothing has been written for a moment or callers have left housekeeping to do; false if nothing was
/// written at all meanwhile, or the log is closed.
fn rests<D: Disk, T: Completion>(seat: &Seat<D, T>, idle: &Idle) -> bool {
    let shared = &seat.log().shared;
    let mut state = shared.lock();
    let mut batches = shared.counters.batches();
    while state.queue.is_empty() && matches!(state.phase, Phase::Open) {
        state.wakes_at = Some(1);
        state = shared.wake.wait_timeout(state, LEISURE_AFTER).unwrap_or_else(PoisonError::into_inner).0;
        state.wakes_at = None;
        let before = std::mem::replace(&mut batches, shared.counters.batches());
        // While callers write for themselves, a turn of this thread would only be in their way, unless it takes more than their one step
        // of housekeeping for each batch.
        if batches == before || seat.is_behind() {
            break;
        }
    }
    !state.queue.is_empty() || batches != idle.batches
}

/// How often a full disk is looked at again.
const FULL_RETRY: Duration = Duration::from_millis(100);

/// Waits until something is queued, or was written by a caller, or a full disk is to be looked at again; false when the log is
/// closed and nothing is queued, or nothing can be done about what is.
fn wait<F, T>(shared: &Shared<F, T>, idle: &Idle) -> bool {
    let mut state = shared.lock();
    let more = loop {
        if !state.queue.is_empty() && !idle.held_up || shared.counters.batches() != idle.batches {
            break true;
        }
        match state.phase {
            Phase::Open => {}
            Phase::Closing | Phase::Poisoned(_) => break false,
        }
        state.wakes_at = (!idle.held_up).then_some(1);
        state.asleep = true;
        if state.full {
            state = shared.wake.wait_timeout(state, FULL_RETRY).unwrap_or_else(PoisonError::into_inner).0;
            break true;
        }
        state = shared.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
    };
    state.asleep = false;
    state.wakes_at = None;
    more
}

#[expect(clippy::disallowed_methods, reason = "how long flushes take here; the writer itself knows no time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests;
