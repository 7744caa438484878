//! A stream of appends of one peer.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use raftwright_traits::{AppendEntriesRequest, AppendEntriesResponse, Fatal, RaftTypeConfig};
use tokio::sync::mpsc::{OwnedPermit, error::SendError};
use tokio::sync::oneshot;

use super::Raft;
use crate::limits::STREAM_APPENDS_MAX;
use crate::msg::RaftMsg;

type Place<C> = Result<OwnedPermit<RaftMsg<C>>, SendError<()>>;

/// Answers to a stream of appends, one a request, in their order: see [`Raft::stream_append`].
#[must_use = "nothing moves unless it is polled"]
pub struct StreamAppend<C: RaftTypeConfig, S> {
    raft: Raft<C>,
    /// `None` once it has ended.
    input: Option<S>,
    /// A request that waits for a place in the queue.
    waiting: Option<Waiting<C>>,
    answers: VecDeque<oneshot::Receiver<AppendEntriesResponse<C>>>,
}

/// A request, and the place that it waits for.
type Waiting<C> = (AppendEntriesRequest<C>, Pin<Box<dyn Future<Output = Place<C>> + Send>>);

impl<C: RaftTypeConfig> Raft<C> {
    /// A leader sends many appends without waiting between them ([`append_entries`](Self::append_entries)): they are taken
    /// up in their order, and answered in it. Nothing moves unless the answers are polled; dropping them takes no request
    /// back that was taken up. Ends when the input does, or after the first error.
    ///
    /// Items are [`Fatal`] if the node has stopped.
    pub fn stream_append<S>(&self, input: S) -> StreamAppend<C, S>
    where
        S: Stream<Item = AppendEntriesRequest<C>> + Unpin,
    {
        StreamAppend { raft: self.clone(), input: Some(input), waiting: None, answers: VecDeque::new() }
    }
}

// No field is ever pinned in its place.
impl<C: RaftTypeConfig, S: Unpin> Unpin for StreamAppend<C, S> {}

impl<C: RaftTypeConfig, S: Stream<Item = AppendEntriesRequest<C>> + Unpin> StreamAppend<C, S> {
    /// Hands over what the input has and the queue and the bound have room for. Pending once that is done.
    fn poll_hand_over(&mut self, cx: &mut Context<'_>) -> Poll<Fatal> {
        loop {
            if let Some((_, place)) = &mut self.waiting {
                let place = ready!(place.as_mut().poll(cx));
                let Some((request, _)) = self.waiting.take() else { return Poll::Pending };
                let Ok(place) = place else { return Poll::Ready(self.raft.shared().end()) };
                let (tx, rx) = oneshot::channel();
                place.send(RaftMsg::AppendEntries { request, tx });
                self.answers.push_back(rx);
            }
            if self.answers.len() >= STREAM_APPENDS_MAX {
                return Poll::Pending;
            }
            let Some(input) = &mut self.input else { return Poll::Pending };
            match ready!(Pin::new(input).poll_next(cx)) {
                Some(request) => {
                    let api = self.raft.inner().outlet.api.clone();
                    self.waiting = Some((request, Box::pin(api.reserve_owned())));
                }
                None => self.input = None,
            }
        }
    }

    fn end(&mut self) {
        (self.input, self.waiting) = (None, None);
        self.answers.clear();
    }
}

impl<C: RaftTypeConfig, S: Stream<Item = AppendEntriesRequest<C>> + Unpin> Stream for StreamAppend<C, S> {
    type Item = Result<AppendEntriesResponse<C>, Fatal>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Poll::Ready(fatal) = this.poll_hand_over(cx) {
            this.end();
            return Poll::Ready(Some(Err(fatal)));
        }
        let Some(first) = this.answers.front_mut() else {
            return if this.input.is_none() && this.waiting.is_none() { Poll::Ready(None) } else { Poll::Pending };
        };
        match ready!(Pin::new(first).poll(cx)) {
            Ok(answer) => {
                this.answers.pop_front();
                if this.input.is_some() {
                    // There is room for another now.
                    cx.waker().wake_by_ref();
                }
                Poll::Ready(Some(Ok(answer)))
            }
            Err(_) => {
                let fatal = this.raft.shared().end();
                this.end();
                Poll::Ready(Some(Err(fatal)))
            }
        }
    }
}
