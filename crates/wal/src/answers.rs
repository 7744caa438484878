//! Telling callers what became of their writes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SendError, SyncSender, sync_channel};

use crate::error::{OpenError, WalError};
use crate::log::{Afterwards, Completion};
use crate::thread::spawn;

/// Most batches whose callers wait to be told. With so many the writer waits, and so does every batch behind them.
const UNTOLD_MAX: usize = 4;

/// From how many callers on a batch's callers are told by a thread of their own.
const MANY: usize = 8;

/// What the thread is asked.
enum Ask<T> {
    /// To tell these.
    Tell(Vec<T>),
    /// To say when all before this are told.
    Say(SyncSender<()>),
}

/// A thread that tells the callers of large batches. Waking a caller can take longer than its share of a flush; so while some
/// are told, the next batch is already being written.
pub(crate) struct Answers<T> {
    batches: SyncSender<Ask<T>>,
    untold: Arc<AtomicUsize>,
}

impl<T: Completion> Answers<T> {
    pub(crate) fn spawn() -> Result<Self, OpenError> {
        let (batches, durable) = sync_channel(UNTOLD_MAX);
        let untold = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&untold);
        spawn("raftwright-told", move || {
            for ask in durable {
                match ask {
                    Ask::Tell(batch) => {
                        // A panic of a caller's code has been reported by the panic hook; the others are told all the same.
                        let _ = catch_unwind(AssertUnwindSafe(|| tell_all(batch, &Ok(()))));
                        count.fetch_sub(1, Ordering::Release);
                    }
                    // Whoever asked has not waited: nothing is owed.
                    Ask::Say(done) => drop(done.send(())),
                }
            }
        })?;
        Ok(Self { batches, untold })
    }

    /// Whether a batch with so many callers goes this way. A small one does if it would overtake another.
    pub(crate) fn take(&self, callers: usize) -> bool {
        callers >= MANY || self.untold() > 0
    }

    /// Batches whose callers are being told, or wait for it.
    pub(crate) fn untold(&self) -> usize {
        self.untold.load(Ordering::Acquire)
    }

    pub(crate) fn complete(&self, batch: Vec<T>) {
        self.untold.fetch_add(1, Ordering::Relaxed);
        if let Err(SendError(Ask::Tell(batch))) = self.batches.send(Ask::Tell(batch)) {
            // Should the thread be gone in spite of all, they are told here.
            tell_all(batch, &Ok(()));
        }
    }

    /// Waits until all are told.
    pub(crate) fn settle(&self) {
        if self.untold() == 0 {
            return;
        }
        let (done, told) = sync_channel(1);
        if self.batches.send(Ask::Say(done)).is_ok() {
            // An error: the thread is gone, and tells nobody any more.
            let _ = told.recv();
        }
    }
}

/// Tells these callers, all of them, in order: also those behind one whose code panics. That panic goes on when they are told.
pub(crate) fn tell_all<T: Completion>(tokens: impl IntoIterator<Item = T>, result: &Result<(), WalError>) {
    let mut untold = Untold { tokens: tokens.into_iter(), result, afterwards: Afterwards::new() };
    for token in untold.tokens.by_ref() {
        token.complete_with(result.clone(), &mut untold.afterwards);
    }
}

/// Who is told even if a panic is on its way.
struct Untold<'a, T: Completion, I: Iterator<Item = T>> {
    tokens: I,
    result: &'a Result<(), WalError>,
    afterwards: Afterwards,
}

impl<T: Completion, I: Iterator<Item = T>> Drop for Untold<'_, T, I> {
    fn drop(&mut self) {
        for token in self.tokens.by_ref() {
            // A second panic on the way of the first would end the process.
            let complete = || token.complete_with(self.result.clone(), &mut self.afterwards);
            let _ = catch_unwind(AssertUnwindSafe(complete));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(matches!(answers.batches.try_send(Ask::Tell(Vec::new())), Err(TrySendError::Full(_))));
        leave.send(()).unwrap();
        drop(tell);
        assert!(told.iter().eq(1..=4), "in their order");
    }
}
