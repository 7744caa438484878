//! The small pieces that tasks share: a lock that cannot be poisoned, a one-value mailbox, a guard against panics, a pause.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Locks. What these locks guard is changed by plain assignments, so it is whole even if a holder panicked.
pub(crate) fn lock<V>(mutex: &Mutex<V>) -> MutexGuard<'_, V> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A mailbox for one value and one reader: a newer value replaces the one that was not taken. So the writer never waits,
/// and the reader never works on what is out of date.
pub(crate) struct Slot<V> {
    inner: Mutex<Inner<V>>,
    /// Beside the lock, so that it can be looked at for nothing.
    closed: AtomicBool,
}

struct Inner<V> {
    value: Option<V>,
    reader: Reader,
}

impl<V> Slot<V> {
    pub(crate) fn new() -> Self {
        Self { inner: Mutex::new(Inner { value: None, reader: Reader::new() }), closed: AtomicBool::new(false) }
    }

    /// Puts a value in place of whatever is there.
    pub(crate) fn put(&self, value: V) {
        let mut inner = lock(&self.inner);
        inner.value = Some(value);
        inner.reader.wake();
    }

    /// Tells the reader to end. Once this has returned, [`is_closed`](Self::is_closed) is true for everybody.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        lock(&self.inner).reader.wake();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// The value, or `None` once the slot is closed.
    pub(crate) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Option<V>> {
        let mut inner = lock(&self.inner);
        // Under the lock: `close` sets the flag before it looks for a reader to wake.
        if self.is_closed() {
            return Poll::Ready(None);
        }
        match inner.value.take() {
            Some(value) => Poll::Ready(Some(value)),
            None => {
                inner.reader.wait(cx);
                Poll::Pending
            }
        }
    }

    /// Waits for a value; `None` once the slot is closed.
    pub(crate) async fn take(&self) -> Option<V> {
        poll_fn(|cx| self.poll_take(cx)).await
    }

    /// Ready once the slot is closed, whether there is a value or not.
    pub(crate) fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = lock(&self.inner);
        if self.is_closed() {
            return Poll::Ready(());
        }
        inner.reader.wait(cx);
        Poll::Pending
    }

    /// Waits until the slot is closed.
    pub(crate) async fn closed(&self) {
        poll_fn(|cx| self.poll_closed(cx)).await;
    }
}

/// The one task that waits for what a lock guards. Its waker is kept, since it is the same task every time, and is called
/// under the lock: a waker only makes its task runnable.
pub(crate) struct Reader {
    waker: Waker,
    waits: bool,
}

impl Reader {
    pub(crate) fn new() -> Self {
        Self { waker: Waker::noop().clone(), waits: false }
    }

    /// The task has found nothing and waits from now on.
    pub(crate) fn wait(&mut self, cx: &Context<'_>) {
        self.waker.clone_from(cx.waker());
        self.waits = true;
    }

    /// Wakes the task, if it waits.
    pub(crate) fn wake(&mut self) {
        if std::mem::replace(&mut self.waits, false) {
            self.waker.wake_by_ref();
        }
    }
}

/// Runs a future to its end; a panic in it is an error with the panic's message, whatever the runtime does with panics.
///
/// What the future has borrowed may be half changed after a panic; callers only close and drop it.
pub(crate) async fn catch_panic<F: Future>(future: F) -> Result<F::Output, String> {
    let mut future = pin!(future);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Err(panic) => Poll::Ready(Err(message(panic.as_ref()))),
    })
    .await
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a message".to_owned())
}

/// Lets other tasks run once.
pub(crate) async fn pause() {
    let mut paused = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut paused, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Whether the task has ended. Its handle is not to be used again if so.
pub(crate) fn has_ended<J: Future + Unpin>(join: &mut J) -> bool {
    Pin::new(join).poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What waits for a target is a summary, not a queue: a newer heartbeat takes the place of one that was not sent.
    #[test]
    fn a_slot_keeps_the_newest_alone_and_ends_when_it_is_closed() {
        let slot = Slot::new();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(slot.poll_take(&mut cx).is_pending());
        for round in 1..=1000 {
            slot.put(round);
        }
        assert_eq!(slot.poll_take(&mut cx), Poll::Ready(Some(1000)));
        assert!(slot.poll_take(&mut cx).is_pending(), "there was one");
        slot.put(1001);
        slot.close();
        assert_eq!(slot.poll_take(&mut cx), Poll::Ready(None), "who is to end sends nothing more");
    }
}
