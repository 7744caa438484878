//! A connection with several requests under way, as a stream of bytes would carry them: requests are handled in the
//! order in which they were sent, answers come in the order of the requests, and where one is missing nothing behind it
//! is seen.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_core::Stream;
use raftwright_traits::{AppendEntriesRequest, AppendEntriesResponse, AsyncRuntime, RPCError};

use super::application::SimConfig;
use super::network::{Client, Job, MESSAGE_BYTES, Mail, Post, Served, acknowledged};
use super::tap::{Act, Reporter};
use crate::world::{Lane, NodeId};

/// Both ends of a connection, and what has arrived out of its turn.
struct Connection<C: SimConfig> {
    client: NodeId,
    server: NodeId,
    mail: Mail<C>,
    ends: Mutex<Ends<C>>,
}

struct Ends<C: SimConfig> {
    /// Something that was under way will never arrive.
    broken: bool,
    /// The process at the other end, once it has heard anything: another one knows nothing of this connection.
    accepted_by: Option<u64>,
    requests: InOrder<AppendEntriesRequest<C>>,
    results: InOrder<AppendEntriesResponse<C>>,
    answers: InOrder<AppendEntriesResponse<C>>,
    waker: Option<Waker>,
}

/// Holds back what came too early.
struct InOrder<T> {
    next: u64,
    early: BTreeMap<u64, T>,
}

impl<T> InOrder<T> {
    fn new() -> Self {
        Self { next: 0, early: BTreeMap::new() }
    }

    fn put(&mut self, number: u64, value: T) {
        if number >= self.next {
            self.early.insert(number, value);
        }
    }

    fn take(&mut self) -> Option<(u64, T)> {
        let value = self.early.remove(&self.next)?;
        self.next += 1;
        Some((self.next - 1, value))
    }
}

impl<C: SimConfig> Connection<C> {
    fn ends(&self) -> MutexGuard<'_, Ends<C>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn break_down(&self) {
        let mut ends = self.ends();
        ends.broken = true;
        let waker = ends.waker.take();
        drop(ends);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Sends a request.
    fn send(self: &Arc<Self>, number: u64, request: AppendEntriesRequest<C>) {
        let bytes = MESSAGE_BYTES * (1 + request.entries.len());
        let label = self.mail.label("append?", &request);
        let carried = Carried::new(self);
        let job = Job::Call(Arc::new(move |served: &Served<C>| carried.arrived().arrive(number, &request, served)));
        self.mail.post(Post { from: self.client, to: self.server, lane: Lane::Bulk, bytes, label, job });
    }

    /// A request has reached the server, perhaps not for the first time.
    fn arrive(self: &Arc<Self>, number: u64, request: &AppendEntriesRequest<C>, served: &Served<C>) {
        let mut ends = self.ends();
        let boot = *ends.accepted_by.get_or_insert(served.reporter.boot);
        if boot != served.reporter.boot {
            // The process that knew this connection has died, and the machine says so.
            drop(ends);
            return self.break_down();
        }
        if number < ends.requests.next {
            drop(ends);
            return stray(request.clone(), served);
        }
        ends.requests.put(number, request.clone());
        while let Some((number, request)) = ends.requests.take() {
            let (connection, raft, reporter) = (Arc::clone(self), served.raft.clone(), served.reporter.clone());
            served.runtime.spawn(async move {
                match raft.append_entries(request).await {
                    Ok(response) => connection.answer(number, response, &reporter),
                    // The node has stopped, and its connections end with it.
                    Err(_) => connection.break_down(),
                }
            });
        }
    }

    /// The server has an answer; those before it go first.
    fn answer(self: &Arc<Self>, number: u64, response: AppendEntriesResponse<C>, reporter: &Reporter) {
        let mut ends = self.ends();
        ends.results.put(number, response);
        while let Some((number, response)) = ends.results.take() {
            if let Some(fact) = acknowledged::<C>(&response) {
                reporter.report(Act::Did(fact));
            }
            let label = self.mail.label("append!", &response);
            let (carried, response) = (Carried::new(self), Mutex::new(Some(response)));
            let job = Job::Return(Arc::new(move || {
                let connection = carried.arrived();
                if let Some(response) = response.lock().unwrap_or_else(PoisonError::into_inner).take() {
                    connection.answered(number, response);
                }
            }));
            let (from, to) = (self.server, self.client);
            self.mail.post(Post { from, to, lane: Lane::Bulk, bytes: MESSAGE_BYTES, label, job });
        }
    }

    /// An answer has reached the client.
    fn answered(&self, number: u64, response: AppendEntriesResponse<C>) {
        let mut ends = self.ends();
        ends.answers.put(number, response);
        let waker = ends.waker.take();
        drop(ends);
        waker.into_iter().for_each(Waker::wake);
    }
}

/// An old request comes once more, outside of any connection: whatever it is answered, nobody hears it.
fn stray<C: SimConfig>(request: AppendEntriesRequest<C>, served: &Served<C>) {
    let raft = served.raft.clone();
    served.runtime.spawn(async move {
        let _ = raft.append_entries(request).await;
    });
}

/// Something under way. Its connection breaks if it is dropped without having arrived.
struct Carried<C: SimConfig> {
    connection: Arc<Connection<C>>,
    arrived: AtomicBool,
}

impl<C: SimConfig> Carried<C> {
    fn new(connection: &Arc<Connection<C>>) -> Self {
        Self { connection: Arc::clone(connection), arrived: AtomicBool::new(false) }
    }

    fn arrived(&self) -> &Arc<Connection<C>> {
        self.arrived.store(true, Ordering::Relaxed);
        &self.connection
    }
}

impl<C: SimConfig> Drop for Carried<C> {
    fn drop(&mut self) {
        if !self.arrived.load(Ordering::Relaxed) {
            self.connection.break_down();
        }
    }
}

/// The client's end.
pub(super) struct Pipeline<'s, C: SimConfig, S> {
    connection: Arc<Connection<C>>,
    input: S,
    sent: u64,
    ended: bool,
    client: std::marker::PhantomData<&'s mut Client<C>>,
}

impl<'s, C: SimConfig, S> Pipeline<'s, C, S> {
    pub(super) fn new(client: &'s mut Client<C>, input: S) -> Self {
        let ends = Ends {
            broken: false,
            accepted_by: None,
            requests: InOrder::new(),
            results: InOrder::new(),
            answers: InOrder::new(),
            waker: None,
        };
        let connection = Connection {
            client: client.factory.reporter.node,
            server: client.to,
            mail: client.factory.mail.clone(),
            ends: Mutex::new(ends),
        };
        Self { connection: Arc::new(connection), input, sent: 0, ended: false, client: std::marker::PhantomData }
    }
}

impl<C, S> Stream for Pipeline<'_, C, S>
where
    C: SimConfig,
    S: Stream<Item = AppendEntriesRequest<C>> + Unpin,
{
    type Item = Result<AppendEntriesResponse<C>, RPCError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        while let Poll::Ready(Some(request)) = Pin::new(&mut this.input).poll_next(cx) {
            this.connection.send(this.sent, request);
            this.sent += 1;
        }
        let mut ends = this.connection.ends();
        if let Some((_, response)) = ends.answers.take() {
            return Poll::Ready(Some(Ok(response)));
        }
        if ends.broken {
            this.ended = true;
            return Poll::Ready(Some(Err(RPCError::Network("the connection broke".to_owned()))));
        }
        ends.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}
