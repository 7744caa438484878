//! Reads that must not block their caller: a bounded queue of them, and an answer that a task of any runtime can await.

use std::collections::VecDeque;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::error::ReadError;
use crate::record::RawEntry;

/// Most reads of old entries that wait for the media. A reader has one at a time; past it, a read is refused.
pub const READS_MAX: usize = 1 << 10;

type Answered = Result<Vec<RawEntry>, ReadError>;

enum Slot {
    Empty(Option<Waker>),
    Full(Answered),
    /// The other side is gone.
    Closed,
}

fn lock<X>(mutex: &Mutex<X>) -> MutexGuard<'_, X> {
    // Nothing panics half way through a change, so what a poisoned lock guards is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for the answer to a read.
struct Answer(Arc<Mutex<Slot>>);

impl Drop for Answer {
    fn drop(&mut self) {
        *lock(&self.0) = Slot::Closed;
    }
}

impl Future for Answer {
    type Output = Answered;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answered> {
        let mut slot = lock(&self.0);
        match std::mem::replace(&mut *slot, Slot::Closed) {
            Slot::Full(answer) => Poll::Ready(answer),
            Slot::Closed => Poll::Ready(Err(ReadError::Stopped)),
            Slot::Empty(_) => {
                *slot = Slot::Empty(Some(cx.waker().clone()));
                Poll::Pending
            }
        }
    }
}

/// A read that waits.
pub(crate) struct Job {
    pub(crate) range: Range<u64>,
    pub(crate) bytes_max: usize,
    slot: Arc<Mutex<Slot>>,
}

impl Job {
    /// Gives the answer to whoever waits for it.
    pub(crate) fn answer(self, answer: Answered) {
        self.put(Slot::Full(answer));
    }

    /// True when nobody waits for it any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        matches!(*lock(&self.slot), Slot::Closed)
    }

    fn put(&self, new: Slot) {
        let mut slot = lock(&self.slot);
        let waiting = match &mut *slot {
            Slot::Empty(waiting) => waiting.take(),
            Slot::Full(_) | Slot::Closed => return,
        };
        *slot = new;
        drop(slot);
        if let Some(waker) = waiting {
            waker.wake();
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.put(Slot::Closed);
    }
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    closed: bool,
}

/// The queue between readers and whoever reads for them.
#[derive(Default)]
pub(crate) struct ReadQueue {
    state: Mutex<State>,
    work: Condvar,
}

impl ReadQueue {
    /// The next read; waits for one, and ends with `None` once nobody can ask any more.
    pub(crate) fn next(&self) -> Option<Job> {
        let mut state = lock(&self.state);
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes no further read; those that wait are answered with [`ReadError::Stopped`].
    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        let jobs = std::mem::take(&mut state.jobs);
        drop(state);
        self.work.notify_all();
        drop(jobs);
    }

    fn push(&self, job: Job) -> Result<(), ReadError> {
        let mut state = lock(&self.state);
        if state.closed {
            return Err(ReadError::Stopped);
        }
        if state.jobs.len() >= READS_MAX {
            // Behind a disk that hangs, readers that were given up and made anew leave their questions behind.
            state.jobs.retain(|waiting| !waiting.is_abandoned());
        }
        if state.jobs.len() >= READS_MAX {
            return Err(ReadError::Busy { reads: READS_MAX });
        }
        state.jobs.push_back(job);
        drop(state);
        self.work.notify_one();
        Ok(())
    }
}

/// Asks for reads. The queue is closed when the last one of these is gone.
pub(crate) struct Asker(pub(crate) Arc<ReadQueue>);

impl Asker {
    /// What [`Log::read`](crate::Log::read) gives, read by another thread.
    pub(crate) async fn read(&self, range: Range<u64>, bytes_max: usize) -> Answered {
        let slot = Arc::new(Mutex::new(Slot::Empty(None)));
        let answer = Answer(Arc::clone(&slot));
        self.0.push(Job { range, bytes_max, slot })?;
        answer.await
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    fn poll<X>(future: Pin<&mut impl Future<Output = X>>) -> Poll<X> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn reads_beyond_the_bound_are_refused_and_abandoned_ones_make_room() {
        // As docs/limits.md says, once more on purpose.
        const MAX: usize = 1024;
        let asker = Asker(Arc::default());
        let mut waiting: Vec<_> = (0..MAX).map(|_| Box::pin(asker.read(1..2, 1))).collect();
        assert!(waiting.iter_mut().all(|read| poll(read.as_mut()).is_pending()));
        let refused = poll(pin!(asker.read(1..2, 1)));
        assert!(matches!(refused, Poll::Ready(Err(ReadError::Busy { reads: MAX }))), "{refused:?}");
        waiting.pop();
        let mut taken = pin!(asker.read(7..9, 1));
        assert!(poll(taken.as_mut()).is_pending());
        let asked: Vec<_> = (0..MAX).filter_map(|_| asker.0.next()).map(|job| job.range.start).collect();
        assert_eq!((asked.len(), asked.last()), (MAX, Some(&7)));
    }

    #[test]
    fn a_read_whose_reader_ends_is_answered() {
        let asker = Asker(Arc::default());
        let (mut first, mut second) = (pin!(asker.read(1..2, 1)), pin!(asker.read(1..2, 1)));
        assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
        drop(asker.0.next());
        assert!(matches!(poll(first), Poll::Ready(Err(ReadError::Stopped))));
        asker.0.close();
        assert!(matches!(poll(second), Poll::Ready(Err(ReadError::Stopped))));
        assert!(asker.0.next().is_none());
    }
}
