//! The requests of one connection that are being handled: many futures inside one task, each with a waker of its own.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Slots that were woken and wait to be polled, first woken first.
#[derive(Debug, Default)]
struct Woken {
    slots: VecDeque<usize>,
    /// The task that owns the slots.
    owner: Option<Waker>,
}

#[derive(Debug, Default)]
struct Shared(Mutex<Woken>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Woken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct SlotWaker {
    slot: usize,
    /// Whether the slot stands in the queue of woken ones already: each stands there at most once.
    queued: AtomicBool,
    shared: Arc<Shared>,
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let owner = {
            let mut woken = self.shared.lock();
            woken.slots.push_back(self.slot);
            woken.owner.take()
        };
        if let Some(owner) = owner {
            owner.wake();
        }
    }
}

struct Slot<F, K> {
    /// The box stays when the future is done, so that a steady flow of requests allocates nothing.
    future: Pin<Box<Option<F>>>,
    key: Option<K>,
    waker: Arc<SlotWaker>,
}

/// Futures of one type, polled when woken. New ones are polled first in the order in which they came.
pub(crate) struct Slots<F, K> {
    slots: Vec<Slot<F, K>>,
    free: Vec<usize>,
    shared: Arc<Shared>,
}

impl<F: Future, K: Copy> Slots<F, K> {
    pub(crate) fn new() -> Self {
        Slots { slots: Vec::new(), free: Vec::new(), shared: Arc::default() }
    }

    /// Futures that are not done.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Takes in a future; `key` comes back with its result. The caller polls afterwards.
    pub(crate) fn insert(&mut self, key: K, future: F) {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                let slot = self.slots.len();
                let waker = SlotWaker { slot, queued: AtomicBool::new(false), shared: Arc::clone(&self.shared) };
                self.slots.push(Slot { future: Box::pin(None), key: None, waker: Arc::new(waker) });
                slot
            }
        };
        let place = &mut self.slots[slot];
        place.future.set(Some(future));
        place.key = Some(key);
        // Queued without waking the task: it is running now and polls next. A wake would make it run once more for nothing.
        if !place.waker.queued.swap(true, Ordering::AcqRel) {
            self.shared.lock().slots.push_back(slot);
        }
    }

    /// The result of a future that is done. Pending when none is; the task is woken when that changes.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(K, F::Output)> {
        loop {
            let slot = {
                let mut woken = self.shared.lock();
                match woken.slots.pop_front() {
                    Some(slot) => slot,
                    None => {
                        match &mut woken.owner {
                            Some(owner) => owner.clone_from(cx.waker()),
                            None => woken.owner = Some(cx.waker().clone()),
                        }
                        return Poll::Pending;
                    }
                }
            };
            let place = &mut self.slots[slot];
            // Cleared before the poll: a wake during the poll must put the slot into the queue again.
            place.waker.queued.store(false, Ordering::Release);
            let waker = Waker::from(Arc::clone(&place.waker));
            let Some(future) = place.future.as_mut().as_pin_mut() else { continue };
            if let Poll::Ready(output) = future.poll(&mut Context::from_waker(&waker)) {
                place.future.set(None);
                self.free.push(slot);
                if let Some(key) = place.key.take() {
                    return Poll::Ready((key, output));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn results_come_as_futures_finish_and_slots_are_used_again() {
        let mut slots = Slots::new();
        for round in 0..3 {
            let mut senders = Vec::new();
            for key in 0..10 {
                let (sender, receiver) = oneshot::channel::<usize>();
                senders.push(sender);
                slots.insert(key, receiver);
            }
            for (key, sender) in senders.into_iter().enumerate().rev() {
                sender.send(key * 10).unwrap();
                let (done, result) = poll_fn(|cx| slots.poll(cx)).await;
                assert_eq!((done, result.unwrap()), (key, key * 10), "round {round}");
            }
            assert_eq!(slots.len(), 0);
        }
        assert_eq!(slots.slots.len(), 10);
    }

    #[tokio::test]
    async fn first_polls_happen_in_the_order_of_insertion() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut slots = Slots::new();
        for key in 0..100 {
            let order = Arc::clone(&order);
            slots.insert(key, async move { order.lock().unwrap().push(key) });
        }
        while slots.len() > 0 {
            poll_fn(|cx| slots.poll(cx)).await;
        }
        assert_eq!(*order.lock().unwrap(), (0..100).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_future_that_wakes_itself_is_polled_again() {
        let mut slots = Slots::new();
        slots.insert((), tokio::task::yield_now());
        poll_fn(|cx| slots.poll(cx)).await;
        assert_eq!(slots.len(), 0);
    }
}
