//! The requests on their way into the network.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures_core::Stream;
use raftwright_traits::{AppendEntriesRequest, RaftTypeConfig};

use crate::sync::{Reader, lock};

/// A queue from a replication task to the network's end of one connection. It holds no more than the window of the
/// [`Stream`](raftwright_core::Stream) (`inflight_requests_max`, `inflight_bytes_max`), whose requests it carries.
pub(crate) struct Lane<C: RaftTypeConfig> {
    inner: Arc<Mutex<Inner<C>>>,
}

/// The network's end. It never ends: a connection is given up by dropping it.
pub(crate) struct LaneOut<C: RaftTypeConfig> {
    inner: Arc<Mutex<Inner<C>>>,
}

struct Inner<C: RaftTypeConfig> {
    requests: VecDeque<AppendEntriesRequest<C>>,
    reader: Reader,
}

impl<C: RaftTypeConfig> Lane<C> {
    pub(crate) fn new() -> Self {
        Self { inner: Arc::new(Mutex::new(Inner { requests: VecDeque::new(), reader: Reader::new() })) }
    }

    pub(crate) fn push(&self, request: AppendEntriesRequest<C>) {
        let mut inner = lock(&self.inner);
        inner.requests.push_back(request);
        inner.reader.wake();
    }

    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.inner).requests.is_empty()
    }

    /// Drops what was not taken: the connection that it was for has gone.
    pub(crate) fn clear(&self) {
        lock(&self.inner).requests.clear();
    }

    /// The other end, for a new connection.
    pub(crate) fn out(&self) -> LaneOut<C> {
        LaneOut { inner: Arc::clone(&self.inner) }
    }
}

impl<C: RaftTypeConfig> Stream for LaneOut<C> {
    type Item = AppendEntriesRequest<C>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut inner = lock(&self.inner);
        match inner.requests.pop_front() {
            Some(request) => Poll::Ready(Some(request)),
            None => {
                inner.reader.wait(cx);
                Poll::Pending
            }
        }
    }
}
