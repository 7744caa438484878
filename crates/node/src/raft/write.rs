//! Writing: one command or many, with whatever is asked about it.

use std::collections::VecDeque;
use std::fmt::{Debug, Formatter};
use std::future::{IntoFuture, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use raftwright_core::RaftEntry;
use raftwright_traits::{
    AsyncRuntime, ClientWriteError, CommittedLeaderIdOf, FromAppData, LogIdOf, RaftError, RaftTypeConfig, Span,
    UnknownReason,
};
use tokio::sync::mpsc::Permit;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;

use super::Raft;
use crate::msg::RaftMsg;
use crate::proposal::{Claim, Priority, Proposal};
use crate::responder::{Responder, WriteResult, WriteTx};

type WriteFailed<C> = RaftError<ClientWriteError<C>>;
type Answer<C> = oneshot::Receiver<WriteResult<C>>;

/// What a caller is told whose answer was dropped: the node stopped while it had the write.
const STOPPED: UnknownReason = UnknownReason::Stopped;

impl<C: RaftTypeConfig> Raft<C> {
    /// Appends a command to the log, and returns what the state machine answers once it is committed and applied.
    ///
    /// # Errors
    /// [`ClientWriteError`] says whether the command is surely not applied, or whether that is unknown.
    /// [`RaftError::Fatal`]: the node had stopped before, and the command is surely not applied.
    pub async fn client_write(&self, data: C::D) -> WriteResult<C> {
        self.write(data).send().await
    }

    /// [`client_write`](Self::client_write) for a caller that does not wait for ever.
    ///
    /// # Errors
    /// As [`WriteRequest::deadline`].
    pub async fn client_write_with_deadline(&self, data: C::D, timeout: Span) -> WriteResult<C> {
        self.write(data).deadline(timeout).send().await
    }

    /// Appends a command to the log, and does not wait: returns once the node has taken charge of it. What becomes of it,
    /// nobody is told.
    ///
    /// # Errors
    /// The command is surely not applied.
    pub fn client_write_ff(&self, data: C::D) -> Result<(), WriteFailed<C>> {
        self.write(data).send_ff()
    }

    /// Appends commands to the log, all in one go: they stand there side by side, in this order. If one of them finds no
    /// room, it and all behind it are refused as busy. The results come in the same order, each as soon as it is known.
    ///
    /// # Errors
    /// [`ClientWriteError::Busy`] if more writes would wait to be taken up, in calls like this one, than
    /// [`Config::api_queue_max`](raftwright_traits::Config::api_queue_max) allows. None of the commands is applied then.
    pub fn client_write_many(&self, data: impl IntoIterator<Item = C::D>) -> Result<WriteMany<C>, WriteFailed<C>> {
        self.check()?;
        let (answers, proposals): (VecDeque<Answer<C>>, Vec<Proposal<C>>) = data
            .into_iter()
            .map(|data| {
                let (tx, rx) = oneshot::channel();
                (rx, self.write(data).into_proposal(WriteTx::Caller(tx), None))
            })
            .unzip();
        let count = proposals.len();
        if count == 0 {
            return Ok(WriteMany { answers });
        }
        let place = self.reserve(Priority::Normal)?;
        if !self.shared().let_many_in(count) {
            return Err(RaftError::APIError(ClientWriteError::Busy));
        }
        place.send(RaftMsg::ClientWriteMany(proposals));
        Ok(WriteMany { answers })
    }

    /// A write about which more can be said before it is sent: in which leadership, until when, how much it matters, who is
    /// told.
    pub fn write(&self, data: C::D) -> WriteRequest<'_, C> {
        self.write_entry(C::Entry::from_app_data(data))
    }

    /// A write of a blank entry: it changes nothing, and shows by its answer that this leader can commit.
    pub fn write_blank(&self) -> WriteRequest<'_, C> {
        self.write_entry(C::Entry::blank(LogIdOf::<C>::default()))
    }

    fn write_entry(&self, entry: C::Entry) -> WriteRequest<'_, C> {
        WriteRequest { raft: self, entry, expected: None, deadline: None, priority: Priority::Normal }
    }

    /// A place in the queue, if there is one.
    fn reserve(&self, priority: Priority) -> Result<Permit<'_, RaftMsg<C>>, WriteFailed<C>> {
        self.check()?;
        let outlet = &self.inner().outlet;
        let queue = match priority {
            Priority::High => &outlet.urgent,
            Priority::Low if outlet.api.capacity() <= outlet.api.max_capacity() / 2 => {
                return Err(RaftError::APIError(ClientWriteError::Busy));
            }
            Priority::Low | Priority::Normal => &outlet.api,
        };
        queue.try_reserve().map_err(|refused| match refused {
            TrySendError::Full(()) => RaftError::APIError(ClientWriteError::Busy),
            TrySendError::Closed(()) => RaftError::Fatal(self.shared().end()),
        })
    }
}

/// A write that was not sent yet. Await it, or send it in another way.
#[must_use = "a write does nothing until it is awaited or sent"]
pub struct WriteRequest<'a, C: RaftTypeConfig> {
    raft: &'a Raft<C>,
    entry: C::Entry,
    expected: Option<CommittedLeaderIdOf<C>>,
    deadline: Option<Span>,
    priority: Priority,
}

impl<'a, C: RaftTypeConfig> WriteRequest<'a, C> {
    /// Propose it in this leadership or not at all: whoever decided on the command by what an earlier leader said is fenced
    /// off. The id is that of a [`LogId`](raftwright_traits::LogId), as in an earlier answer, or of the leader's vote
    /// (`to_committed`). Under another leadership of the same server the answer is [`ClientWriteError::LeaderChanged`].
    pub fn expected_leader(mut self, leader_id: CommittedLeaderIdOf<C>) -> Self {
        self.expected = Some(leader_id);
        self
    }

    /// How long to wait. If the write was not even proposed by then, it will not be: [`ClientWriteError::Expired`], surely
    /// not applied. If it was, it may be applied after the deadline all the same: [`UnknownReason::Deadline`].
    ///
    /// A write without a waiting caller only expires; once proposed, its responder is told the end whenever that comes.
    pub fn deadline(mut self, timeout: Span) -> Self {
        self.deadline = Some(timeout);
        self
    }

    /// How much it matters while there is more to do than can be done.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Sends it, and waits for the answer.
    ///
    /// # Errors
    /// As [`Raft::client_write`] and [`deadline`](Self::deadline).
    #[tracing::instrument(level = "trace", name = "client_write", skip_all, fields(id = %self.raft.id()))]
    pub async fn send(self) -> WriteResult<C> {
        let (tx, answer) = oneshot::channel();
        let raft = self.raft;
        let Some(timeout) = self.deadline else {
            self.hand_over(|| WriteTx::Caller(tx), None)?;
            return answer.await.unwrap_or(Err(RaftError::APIError(ClientWriteError::Unknown(STOPPED))));
        };
        let runtime = &raft.shared().runtime;
        let expires_at = runtime.now() + timeout;
        let claim = Arc::new(Claim::new(expires_at));
        let mut late = pin!(runtime.sleep_until(expires_at));
        self.hand_over(|| WriteTx::Caller(tx), Some(Arc::clone(&claim)))?;
        tokio::select! {
            biased;
            answer = answer => answer.unwrap_or(Err(RaftError::APIError(ClientWriteError::Unknown(STOPPED)))),
            () = &mut late => Err(RaftError::APIError(match claim.withdraw() {
                true => ClientWriteError::Expired,
                false => ClientWriteError::Unknown(UnknownReason::Deadline),
            })),
        }
    }

    /// Sends it. The responder is told when it is committed, and how it ends.
    ///
    /// # Errors
    /// The write is surely not applied; the responder is dropped, and not told.
    pub fn responder(self, responder: impl Responder<C>) -> Result<(), WriteFailed<C>> {
        let claim = self.claim();
        self.hand_over(|| WriteTx::responder(Box::new(responder)), claim)
    }

    /// Sends it, and lets nobody wait for the answer.
    ///
    /// # Errors
    /// The write is surely not applied.
    pub fn send_ff(self) -> Result<(), WriteFailed<C>> {
        let claim = self.claim();
        self.hand_over(|| WriteTx::Nobody, claim)
    }

    fn claim(&self) -> Option<Arc<Claim>> {
        self.deadline.map(|timeout| Arc::new(Claim::new(self.raft.shared().runtime.now() + timeout)))
    }

    fn hand_over(self, tx: impl FnOnce() -> WriteTx<C>, claim: Option<Arc<Claim>>) -> Result<(), WriteFailed<C>> {
        let place = self.raft.reserve(self.priority)?;
        place.send(RaftMsg::ClientWrite(self.into_proposal(tx(), claim)));
        Ok(())
    }

    fn into_proposal(self, tx: WriteTx<C>, claim: Option<Arc<Claim>>) -> Proposal<C> {
        Proposal { entry: self.entry, tx, expected: self.expected, claim, priority: self.priority }
    }
}

impl<'a, C: RaftTypeConfig> IntoFuture for WriteRequest<'a, C> {
    type Output = WriteResult<C>;
    type IntoFuture = Pin<Box<dyn Future<Output = WriteResult<C>> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

impl<C: RaftTypeConfig> Debug for WriteRequest<'_, C> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let Self { raft, entry: _, expected, deadline, priority } = self;
        f.debug_struct("WriteRequest")
            .field("raft", raft)
            .field("expected", expected)
            .field("deadline", deadline)
            .field("priority", priority)
            .finish_non_exhaustive()
    }
}

/// The results of [`Raft::client_write_many`], in the order of the commands: a stream. Dropping it changes nothing about
/// the writes.
#[must_use = "the results say which of the writes were applied"]
pub struct WriteMany<C: RaftTypeConfig> {
    answers: VecDeque<Answer<C>>,
}

impl<C: RaftTypeConfig> WriteMany<C> {
    /// The next result; `None` after the last. It may be awaited again after it was dropped: no result is lost.
    pub async fn next(&mut self) -> Option<WriteResult<C>> {
        poll_fn(|cx| self.poll_answer(cx)).await
    }

    /// How many results are still to come.
    pub fn len(&self) -> usize {
        self.answers.len()
    }

    /// Whether all results have been handed out.
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Option<WriteResult<C>>> {
        let Some(first) = self.answers.front_mut() else { return Poll::Ready(None) };
        let answer = std::task::ready!(Pin::new(first).poll(cx));
        self.answers.pop_front();
        Poll::Ready(Some(answer.unwrap_or(Err(RaftError::APIError(ClientWriteError::Unknown(STOPPED))))))
    }
}

impl<C: RaftTypeConfig> Stream for WriteMany<C> {
    type Item = WriteResult<C>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_answer(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), Some(self.len()))
    }
}
