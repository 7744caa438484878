//! The default runtime.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};

use raftwright_core::Time;

use crate::{AsyncRuntime, JoinError};

/// Runs on the tokio runtime that it was made on.
#[derive(Clone, Debug)]
pub struct TokioRuntime {
    handle: tokio::runtime::Handle,
}

/// Where this process's clock starts.
fn start() -> tokio::time::Instant {
    static START: OnceLock<tokio::time::Instant> = OnceLock::new();
    *START.get_or_init(tokio::time::Instant::now)
}

/// The result of a task on tokio.
pub struct TokioJoinHandle<R>(tokio::task::JoinHandle<R>);

impl<R: Send + 'static> Future for TokioJoinHandle<R> {
    type Output = Result<R, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map_err(|e| JoinError(e.to_string()))
    }
}

impl AsyncRuntime for TokioRuntime {
    type JoinHandle<R: Send + 'static> = TokioJoinHandle<R>;
    type Sleep = tokio::time::Sleep;

    fn current() -> Result<Self, String> {
        // The clock starts before the first deadline is computed from it.
        let _ = start();
        tokio::runtime::Handle::try_current().map(|handle| Self { handle }).map_err(|e| e.to_string())
    }

    fn spawn<F>(&self, future: F) -> TokioJoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        TokioJoinHandle(self.handle.spawn(future))
    }

    fn now(&self) -> Time {
        Time::from_nanos(u64::try_from(start().elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn sleep_until(&self, deadline: Time) -> tokio::time::Sleep {
        // A deadline past all clocks is a wait of a year at a time.
        const YEAR: std::time::Duration = std::time::Duration::from_secs(365 * 24 * 3600);
        let wait = std::time::Duration::from_nanos(deadline.since(self.now()).as_nanos()).min(YEAR);
        tokio::time::sleep(wait)
    }

    fn random_u64(&self) -> u64 {
        // The standard library seeds every `RandomState` differently, from the operating system.
        RandomState::new().hash_one(0u64)
    }
}
