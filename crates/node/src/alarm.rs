//! A deadline that moves.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use raftwright_traits::{AsyncRuntime, Time};

/// Waits for a deadline that is set anew all the time. A deadline that moves away, as they mostly do, costs nothing: the
/// sleep under way ends early and is started again.
pub(crate) struct Alarm<RT: AsyncRuntime> {
    runtime: RT,
    sleep: Option<Pin<Box<RT::Sleep>>>,
    /// When the sleep under way ends.
    armed: Option<Time>,
    wanted: Option<Time>,
}

impl<RT: AsyncRuntime> Alarm<RT> {
    pub(crate) fn new(runtime: RT) -> Self {
        Self { runtime, sleep: None, armed: None, wanted: None }
    }

    /// Sets the deadline; `None` is never.
    pub(crate) fn set(&mut self, deadline: Option<Time>) {
        self.wanted = deadline;
    }

    /// Ready once the deadline has come.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(wanted) = self.wanted else { return Poll::Pending };
        loop {
            if self.armed.is_none_or(|armed| armed > wanted) {
                if self.runtime.now() >= wanted {
                    return Poll::Ready(());
                }
                self.arm(wanted);
            }
            if let Some(sleep) = &mut self.sleep {
                std::task::ready!(sleep.as_mut().poll(cx));
            }
            self.armed = None;
        }
    }

    /// Starts a sleep, in the place of the last one.
    fn arm(&mut self, until: Time) {
        let sleep = self.runtime.sleep_until(until);
        match &mut self.sleep {
            Some(place) => place.set(sleep),
            None => self.sleep = Some(Box::pin(sleep)),
        }
        self.armed = Some(until);
    }
}
