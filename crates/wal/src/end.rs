//! The end of a log: when its writer is gone, and with it the lock on the data directory.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

#[derive(Default)]
struct State {
    over: bool,
    waiting: Vec<Waker>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    bell: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells when the writer of a log is gone: from then on nothing of it is written, and its data directory can be opened
/// again, once nobody else holds the directory.
///
/// It is a future for tasks; threads have [`wait`](Self::wait). Neither ends while the disk hangs.
#[derive(Clone)]
pub struct WalEnd(Arc<Shared>);

impl WalEnd {
    /// True when the writer is gone.
    pub fn is_over(&self) -> bool {
        self.0.lock().over
    }

    /// Blocks until the writer is gone.
    pub fn wait(&self) {
        let mut state = self.0.lock();
        while !state.over {
            state = self.0.bell.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl fmt::Debug for WalEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WalEnd").field("over", &self.is_over()).finish()
    }
}

impl Future for WalEnd {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if state.over {
            return Poll::Ready(());
        }
        if !state.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            state.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// Held by the writer, as the last thing that it lets go of.
#[derive(Default)]
pub(crate) struct EndSignal(Arc<Shared>);

impl EndSignal {
    pub(crate) fn end(&self) -> WalEnd {
        WalEnd(Arc::clone(&self.0))
    }
}

impl Drop for EndSignal {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.over = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        self.0.bell.notify_all();
        waiting.into_iter().for_each(Waker::wake);
    }
}
