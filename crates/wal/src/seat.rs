//! Whose turn it is to write: the log's thread's, or that of a caller who waits anyway.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use crate::answers::Answers;
use crate::disk::Disk;
use crate::error::{OpenError, WalError};
use crate::log::{Completion, Log, Refused};
use crate::record::Op;
use crate::thread::now;
use crate::writer::Writer;

/// The writer, while nobody has it; `None` when the log has ended.
type Sitting<D, T> = Option<Box<Writer<D, T>>>;

/// The writer, for one at a time. Whoever has it finishes what they begin: between two turns nothing is in hand but a batch
/// that waits for room on the media.
pub(crate) struct Seat<D: Disk, T: Completion> {
    log: Log<D, T>,
    writer: Mutex<Sitting<D, T>>,
    answers: Arc<Answers<T>>,
    /// There are callers who write themselves.
    callers_write: AtomicBool,
    /// The last batch had several callers. They are back soon, and are better off with batches in common.
    several: AtomicBool,
    /// The last caller who wrote has left some housekeeping to do.
    behind: AtomicBool,
}

/// A batch that is durable, and whose callers are told.
pub(crate) struct Told {
    /// How many callers were told by whoever wrote it; `None` if they are left to the thread that tells.
    pub(crate) callers: Option<usize>,
    /// From taking it from the queue to the end of its flush.
    pub(crate) took: Duration,
}

impl<D: Disk, T: Completion> Seat<D, T> {
    pub(crate) fn new(mut writer: Writer<D, T>) -> Result<Self, OpenError> {
        let log = Log { shared: writer.shared().clone() };
        let answers = Arc::new(Answers::spawn()?);
        writer.leave_answers_to(Arc::clone(&answers));
        let writer = Mutex::new(Some(Box::new(writer)));
        let [callers_write, several, behind] = [const { AtomicBool::new(false) }; 3];
        Ok(Self { log, writer, answers, callers_write, several, behind })
    }

    pub(crate) fn log(&self) -> &Log<D, T> {
        &self.log
    }

    /// Batches whose callers are being told by a thread of their own, or wait for it.
    pub(crate) fn untold(&self) -> usize {
        self.answers.untold()
    }

    /// True once a caller has written.
    pub(crate) fn callers_write(&self) -> bool {
        self.callers_write.load(Ordering::Relaxed)
    }

    /// True if the last caller who wrote has left some housekeeping to do.
    pub(crate) fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Relaxed)
    }

    /// Waits for the turn and works with the writer; `None` if the log has ended.
    pub(crate) fn turn<R>(&self, work: impl FnOnce(&mut Writer<D, T>) -> R) -> Option<R> {
        hold(self.writer.lock().unwrap_or_else(PoisonError::into_inner), work)
    }

    /// Ends the log, for all who wait for it and all who come later. Whoever waits for the end finds that all were told.
    pub(crate) fn vacate(&self) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(writer);
    }

    /// Writes, flushes and answers one batch, if anything is queued and there is room for it.
    pub(crate) fn batch(&self, writer: &mut Writer<D, T>) -> Result<Option<Told>, WalError> {
        let begin = now();
        if writer.write_batch_durably()? == 0 {
            return Ok(None);
        }
        let took = now() - begin;
        self.log.shared.counters.flush_took(took);
        self.several.store(writer.in_hand() > 1, Ordering::Relaxed);
        let callers = if self.answers.take(writer.in_hand()) {
            self.answers.complete(writer.take_durable());
            None
        } else {
            Some(writer.complete())
        };
        Ok(Some(Told { callers, took }))
    }

    /// Submits a write that the caller may write itself.
    pub(crate) fn submit(&self, op: Op, token: T) -> Result<Submitted<'_, D, T>, Refused<T>> {
        self.callers_write.store(true, Ordering::Relaxed);
        let unheard = self.log.submit_unheard(op, token)?;
        Ok(Submitted { seat: self, unheard })
    }

    /// Writes the one write that is queued, unless somebody else has the seat, or has queued something too or is about to. False
    /// then, and if something is still queued.
    fn write_alone(&self) -> bool {
        let shared = &self.log.shared;
        let queued = || shared.queued.load(Ordering::Acquire);
        // While callers are being told, this may be the thread that tells them: it cannot wait until it has told one more.
        let alone = queued() == 1 && !self.several.load(Ordering::Relaxed) && self.untold() == 0;
        let Some(free) = alone.then(|| self.free()).flatten() else { return false };
        let wrote = hold(free, |writer| {
            // That it failed, every caller has been told by now.
            let Ok(Some(_)) = self.batch(writer) else { return false };
            self.behind.store(writer.housekeep(), Ordering::Relaxed);
            true
        });
        shared.tell_written();
        // What was written may have been a batch that waited for room, and no other.
        wrote == Some(true) && queued() == 0
    }

    /// The seat, if nobody has it.
    fn free(&self) -> Option<MutexGuard<'_, Sitting<D, T>>> {
        match self.writer.try_lock() {
            Ok(free) => Some(free),
            Err(TryLockError::Poisoned(free)) => Some(free.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// A write that was submitted, and of which the log's thread may not have heard yet: it will when this is dropped.
#[must_use = "dropped at once, it is a write like any other"]
pub struct Submitted<'a, D: Disk, T: Completion> {
    seat: &'a Seat<D, T>,
    unheard: bool,
}

impl<D: Disk, T: Completion> Submitted<'_, D, T> {
    /// For a caller that does nothing until its token is completed: if nobody else has anything to write, writes and flushes
    /// the batch on this thread, which saves waking another and being woken. Otherwise returns at once, and the log's thread
    /// writes it with the others.
    ///
    /// It blocks for as long as a flush takes, and without end on a disk that hangs; a thread that has anything else to do, an
    /// event loop above all, drops this instead. Whether the token was completed when it returns is not said.
    pub fn write(mut self) {
        self.unheard = self.unheard && !self.seat.write_alone();
    }
}

impl<D: Disk, T: Completion> Drop for Submitted<'_, D, T> {
    fn drop(&mut self) {
        if self.unheard {
            self.seat.log.shared.tell_submitted();
        }
    }
}

impl<D: Disk, T: Completion> fmt::Debug for Submitted<'_, D, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submitted").finish_non_exhaustive()
    }
}

/// Works with the writer. If that panics, in a caller's code that is told something, the writer is dropped, and whoever waits
/// for it is told.
fn hold<D: Disk, T: Completion, R>(
    mut seat: MutexGuard<'_, Sitting<D, T>>,
    work: impl FnOnce(&mut Writer<D, T>) -> R,
) -> Option<R> {
    let mut writer = seat.take()?;
    let result = work(&mut writer);
    *seat = Some(writer);
    Some(result)
}
