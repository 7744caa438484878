//! A channel: one lane to one peer, shared by many tasks. A task of its own drives the connection.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use crate::body::Body;
use crate::dialer::{Dialer, Target};
use crate::error::CallError;
use crate::frame::{Kind, RequestId};
use crate::identity::Lane;
use crate::link::Link;

struct Asked {
    kind: Kind,
    body: Body,
    answer: oneshot::Sender<Result<Bytes, CallError>>,
    /// Who comes first, the driver to send it or the caller to give it up.
    fate: Arc<Fate>,
    /// Held until there is an answer: this is what bounds the requests under way.
    permit: OwnedSemaphorePermit,
}

/// What has become of a request. It is decided once, so that a caller who gives up knows for certain whether it was sent.
#[derive(Debug, Default)]
struct Fate(AtomicU8);

impl Fate {
    const OPEN: u8 = 0;
    const SENT: u8 = 1;
    const GIVEN_UP: u8 = 2;

    fn decide(&self, fate: u8) -> bool {
        self.0.compare_exchange(Self::OPEN, fate, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Whether it may be sent: then it counts as sent.
    fn send(&self) -> bool {
        self.decide(Self::SENT)
    }

    /// Whether it will surely not be sent.
    fn give_up(&self) -> bool {
        self.decide(Self::GIVEN_UP)
    }
}

struct Waiting {
    answer: oneshot::Sender<Result<Bytes, CallError>>,
    _permit: OwnedSemaphorePermit,
}

/// A handle to one lane to one peer; clones share the connection. It connects when first used and again when the
/// connection was lost. The connection is closed and its task ends when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Channel {
    requests: mpsc::Sender<Asked>,
    permits: Arc<Semaphore>,
}

impl Channel {
    /// A channel that has not connected yet. Spawns its task on the current Tokio runtime.
    pub fn spawn(dialer: Arc<Dialer>, target: Target, lane: Lane) -> Self {
        let in_flight_max = dialer.limits().in_flight_max(lane);
        let (requests, inbox) = mpsc::channel(in_flight_max);
        let driver = Driver {
            link: Link::new(dialer, target, lane),
            inbox,
            waiting: BTreeMap::new(),
            next: None,
            batch: Batch::Empty,
        };
        tokio::spawn(driver.run());
        Channel { requests, permits: Arc::new(Semaphore::new(in_flight_max)) }
    }

    /// Sends one request and waits for its answer for `deadline`, which covers connecting and waiting for a place among
    /// the requests under way.
    ///
    /// # Errors
    ///
    /// A [`CallError`]; [`is_surely_not_done`](CallError::is_surely_not_done) says whether the peer may have acted.
    pub async fn call(&self, kind: Kind, body: Body, deadline: Duration) -> Result<Bytes, CallError> {
        let fate = Arc::new(Fate::default());
        match timeout(deadline, self.call_without_deadline(kind, body, Arc::clone(&fate))).await {
            Ok(result) => result,
            Err(_) => Err(CallError::Deadline { sent: !fate.give_up() }),
        }
    }

    async fn call_without_deadline(&self, kind: Kind, body: Body, fate: Arc<Fate>) -> Result<Bytes, CallError> {
        let permits = Arc::clone(&self.permits);
        let permit = permits.acquire_owned().await.map_err(|_closed| CallError::ShutDown)?;
        let (answer, answered) = oneshot::channel();
        // The inbox has a place for each permit, so this does not wait; an error means that the driver is gone.
        let asked = Asked { kind, body, answer, fate, permit };
        self.requests.send(asked).await.map_err(|_gone| CallError::ShutDown)?;
        answered.await.unwrap_or(Err(CallError::ShutDown))
    }
}

/// The task behind a channel.
struct Driver {
    link: Link,
    inbox: mpsc::Receiver<Asked>,
    waiting: BTreeMap<RequestId, Waiting>,
    /// Taken from the inbox, not yet sent.
    next: Option<Asked>,
    batch: Batch,
}

/// Whether the write of queued requests is put off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Batch {
    Empty,
    /// Requests were queued beside others: let the tasks that are ready to ask do so first, then write once.
    Filling,
    /// They have had their turn.
    Ready,
}

impl Driver {
    async fn run(mut self) {
        poll_fn(|cx| self.poll(cx)).await;
    }

    /// Ready when no handle is left. Each caller holds one for as long as it waits, so nobody waits for an answer then.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.poll_send(cx).is_ready() {
                return Poll::Ready(());
            }
            if self.waiting.is_empty() {
                return Poll::Pending;
            }
            match self.batch {
                Batch::Filling => {
                    self.batch = Batch::Ready;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Batch::Empty | Batch::Ready => self.batch = Batch::Empty,
            }
            match self.link.poll_answer(cx) {
                Poll::Ready(Ok((id, answer))) => {
                    if let Some(waiting) = self.waiting.remove(&id) {
                        // Whoever asked may have given up meanwhile.
                        let _given_up = waiting.answer.send(answer.map_err(CallError::Fault));
                    }
                }
                Poll::Ready(Err(error)) => {
                    for (_, waiting) in std::mem::take(&mut self.waiting) {
                        let _given_up = waiting.answer.send(Err(error.clone()));
                    }
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Sends what is in the inbox, as far as there is room. Ready when the inbox has been closed.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.next.is_none() {
                match self.inbox.poll_recv(cx) {
                    Poll::Ready(Some(asked)) => self.next = Some(asked),
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
            if self.next.as_ref().is_some_and(|asked| asked.answer.is_closed()) {
                // Given up before it was sent: never send it.
                self.next = None;
                continue;
            }
            // While requests are under way the link is open, and its end must reach them through `poll_answer`.
            if self.waiting.is_empty() {
                match self.link.poll_open(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => {
                        self.refuse_all(&error);
                        continue;
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
            if self.link.is_full() {
                return Poll::Pending;
            }
            let Some(Asked { kind, body, answer, fate, permit }) = self.next.take() else { continue };
            if !fate.send() {
                continue;
            }
            // A lone caller gains nothing from waiting for others.
            if self.batch == Batch::Empty && !self.waiting.is_empty() {
                self.batch = Batch::Filling;
            }
            match self.link.push(kind, body) {
                Ok(id) => drop(self.waiting.insert(id, Waiting { answer, _permit: permit })),
                Err(error) => drop(answer.send(Err(error))),
            }
        }
    }

    /// There is no connection: everybody who waits for one learns why, none waits for the next attempt.
    fn refuse_all(&mut self, error: &CallError) {
        if let Some(asked) = self.next.take() {
            let _given_up = asked.answer.send(Err(error.clone()));
        }
        while let Ok(asked) = self.inbox.try_recv() {
            let _given_up = asked.answer.send(Err(error.clone()));
        }
    }
}
