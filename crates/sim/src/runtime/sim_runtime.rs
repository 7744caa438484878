//! What a simulated node runs on.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use raftwright_traits::{AsyncRuntime, JoinError, Time};

use super::executor::{Shared, spawn};
use crate::world::NodeId;

/// A handle of one life of one node's process.
#[derive(Clone)]
pub struct SimRuntime {
    shared: Arc<Shared>,
    node: NodeId,
    boot: u64,
}

impl fmt::Debug for SimRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimRuntime(node {}, boot {})", self.node, self.boot)
    }
}

thread_local! {
    /// On behalf of which node the executor of this thread polls.
    static CURRENT: RefCell<Option<SimRuntime>> = const { RefCell::new(None) };
}

/// While it lives, [`SimRuntime::current`] answers this handle.
pub(super) struct Entered(Option<SimRuntime>);

impl Entered {
    pub(super) fn enter(runtime: SimRuntime) -> Self {
        Entered(CURRENT.with(|current| current.replace(Some(runtime))))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.with(|current| current.replace(self.0.take()));
    }
}

impl SimRuntime {
    pub(super) fn new(shared: Arc<Shared>, node: NodeId, boot: u64) -> Self {
        Self { shared, node, boot }
    }

    /// The node.
    pub fn node(&self) -> NodeId {
        self.node
    }
}

impl AsyncRuntime for SimRuntime {
    type JoinHandle<R: Send + 'static> = SimJoinHandle<R>;
    type Sleep = SimSleep;

    fn current() -> Result<Self, String> {
        CURRENT.with(|current| current.borrow().clone()).ok_or_else(|| "not inside a task of the simulator".to_owned())
    }

    fn spawn<F>(&self, future: F) -> SimJoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let slot = Arc::new(Slot(Mutex::new(JoinState { result: None, waker: None, ended: false })));
        let finish = Finish(Arc::clone(&slot));
        let task = async move {
            let result = future.await;
            finish.0.lock().result = Some(result);
            drop(finish);
        };
        // A process that has died drops the task at once, and `Finish` with it.
        drop(spawn(&self.shared, self.node, self.boot, Box::pin(task)));
        SimJoinHandle(slot)
    }

    fn now(&self) -> Time {
        let state = self.shared.lock();
        let local = state.nodes.get(&self.node).map_or(0, |node| node.clock.read(state.now));
        Time::from_nanos(local)
    }

    fn sleep_until(&self, deadline: Time) -> SimSleep {
        SimSleep { runtime: self.clone(), deadline, registered: None }
    }

    fn random_u64(&self) -> u64 {
        self.shared.lock().nodes.get_mut(&self.node).map_or(0, |node| node.rng.next_u64())
    }
}

/// Ends at a moment of the node's own clock.
#[derive(Debug)]
pub struct SimSleep {
    runtime: SimRuntime,
    deadline: Time,
    registered: Option<(u64, u64)>,
}

impl SimSleep {
    fn unregister(&mut self) {
        if let Some(key) = self.registered.take() {
            let waker = self.runtime.shared.lock().forget_sleeper(self.runtime.node, key);
            drop(waker);
        }
    }
}

impl Future for SimSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.unregister();
        let (node, deadline) = (self.runtime.node, self.deadline.as_nanos());
        let registered = self.runtime.shared.lock().sleep(node, deadline, cx.waker());
        self.registered = registered;
        if registered.is_some() { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl Drop for SimSleep {
    fn drop(&mut self) {
        self.unregister();
    }
}

#[derive(Debug)]
struct JoinState<R> {
    result: Option<R>,
    waker: Option<Waker>,
    ended: bool,
}

#[derive(Debug)]
struct Slot<R>(Mutex<JoinState<R>>);

impl<R> Slot<R> {
    fn lock(&self) -> std::sync::MutexGuard<'_, JoinState<R>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lives in a task; when the task ends, in whatever way, whoever joins it learns of it.
struct Finish<R>(Arc<Slot<R>>);

impl<R> Drop for Finish<R> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.ended = true;
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }
}

/// Yields a task's result.
#[derive(Debug)]
pub struct SimJoinHandle<R>(Arc<Slot<R>>);

impl<R> Future for SimJoinHandle<R> {
    type Output = Result<R, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.0.lock();
        match state.result.take() {
            Some(result) => Poll::Ready(Ok(result)),
            None if state.ended => Poll::Ready(Err(JoinError("the task panicked or its process died".to_owned()))),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
