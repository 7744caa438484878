//! Runs one check to its end on the calling thread.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// For how long a check waits without being woken before the store is taken for stuck. No promise about speed: a store that
/// neither completes nor drops a token would otherwise hang the suite instead of failing it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Why there is no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoResult {
    /// Nothing happened any more.
    Stuck,
    /// Something panicked, with this message.
    Panicked(String),
}

#[derive(Default)]
struct Alarm {
    rung: Mutex<bool>,
    bell: Condvar,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.bell.notify_one();
    }
}

/// Runs a future to its end; panics on the way are caught.
pub(super) fn run<F: Future>(future: F, patience: Duration) -> Result<F::Output, NoResult> {
    catch_unwind(AssertUnwindSafe(|| block_on(future, patience))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(NoResult::Panicked(text.unwrap_or_else(|| "no message".to_owned())))
    })
}

fn block_on<F: Future>(future: F, patience: Duration) -> Result<F::Output, NoResult> {
    let mut future = pin!(future);
    let alarm = Arc::new(Alarm::default());
    let waker = Waker::from(Arc::clone(&alarm));
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Ok(output);
        }
        let rung = alarm.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut rung, waited) =
            alarm.bell.wait_timeout_while(rung, patience, |rung| !*rung).unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return Err(NoResult::Stuck);
        }
        *rung = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_wakes_is_stuck() {
        assert_eq!(run(std::future::pending::<()>(), Duration::from_millis(1)), Err(NoResult::Stuck));
    }

    #[test]
    fn a_panic_is_a_result() {
        let panicked = run(async { panic!("told {}", "so") }, PATIENCE);
        assert_eq!(panicked, Err::<(), _>(NoResult::Panicked("told so".to_owned())));
    }

    #[test]
    fn a_future_that_waits_is_woken() {
        let mut left = 3;
        let counted = std::future::poll_fn(|cx| {
            cx.waker().wake_by_ref();
            left -= 1;
            if left == 0 { Poll::Ready("done") } else { Poll::Pending }
        });
        assert_eq!(run(counted, PATIENCE), Ok("done"));
    }
}
