//! One value, from the store's thread to a task.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

enum Slot<X> {
    Empty(Option<Waker>),
    Full(X),
    /// The sender is gone, or the value was taken.
    Closed,
}

fn lock<X>(slot: &Mutex<Slot<X>>) -> MutexGuard<'_, Slot<X>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives the value, once.
pub(super) struct Sender<X>(Arc<Mutex<Slot<X>>>);

/// Waits for the value; `None` if the sender is gone without one.
pub(super) struct Answer<X>(Arc<Mutex<Slot<X>>>);

pub(super) fn answer<X>() -> (Sender<X>, Answer<X>) {
    let slot = Arc::new(Mutex::new(Slot::Empty(None)));
    (Sender(Arc::clone(&slot)), Answer(slot))
}

impl<X> Sender<X> {
    /// Gives the value.
    pub(super) fn send(self, value: X) {
        self.put(Slot::Full(value));
    }

    /// Whether nobody waits for the value any more.
    pub(super) fn is_abandoned(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    fn put(&self, new: Slot<X>) {
        let mut slot = lock(&self.0);
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

impl<X> Drop for Sender<X> {
    fn drop(&mut self) {
        self.put(Slot::Closed);
    }
}

impl<X> Future for Answer<X> {
    type Output = Option<X>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<X>> {
        let mut slot = lock(&self.0);
        match std::mem::replace(&mut *slot, Slot::Closed) {
            Slot::Full(value) => Poll::Ready(Some(value)),
            Slot::Closed => Poll::Ready(None),
            Slot::Empty(_) => {
                *slot = Slot::Empty(Some(cx.waker().clone()));
                Poll::Pending
            }
        }
    }
}
