//! What runs the tasks and tells the time.

use std::fmt::Debug;
use std::future::Future;

use raftwright_core::Time;

/// A task ended without its result: it panicked, or the runtime was shut down.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a task ended without its result: {0}")]
pub struct JoinError(pub String);

/// A runtime. Small on purpose: channels do not belong to it. A value of it is a handle, cheap to clone; in a simulator
/// each node has one of its own, with its own clock.
pub trait AsyncRuntime: Clone + Debug + Send + Sync + 'static {
    /// Yields a task's result.
    type JoinHandle<R: Send + 'static>: Future<Output = Result<R, JoinError>> + Send + Sync + Unpin + 'static;
    /// Ends at a point in time.
    type Sleep: Future<Output = ()> + Send + 'static;

    /// The runtime that the calling code runs on.
    ///
    /// # Errors
    /// What is missing, if there is none.
    fn current() -> Result<Self, String>
    where
        Self: Sized;

    /// Runs a task. Dropping the handle does not end it.
    fn spawn<F>(&self, future: F) -> Self::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static;

    /// The time, on a monotonic clock.
    fn now(&self) -> Time;

    /// Waits until that time.
    fn sleep_until(&self, deadline: Time) -> Self::Sleep;

    /// A random number: for seeds, not for secrets.
    fn random_u64(&self) -> u64;
}
