//! What must be known before a state machine is read.

use raftwright_core::ReadPolicy;
use raftwright_traits::{
    Fatal, LinearizableReadError, LogIdOf, LogIndex, RaftError, RaftTypeConfig, ReadIndexAnswer, ReadIndexRequest,
    ReadIndexResponse, Span,
};

use super::Raft;
use crate::metrics::WaitError;
use crate::msg::RaftMsg;

impl<C: RaftTypeConfig> Raft<C> {
    /// Makes sure that the state machine of *this* server is fresh enough to be read after this returns, whether it leads or
    /// not (Thesis §6.4). By policy:
    ///
    /// * [`ReadPolicy::ReadIndex`]: the read sees every write that was acknowledged before this call. A quorum has confirmed the
    ///   leadership after it; reads that come together share a round.
    /// * [`ReadPolicy::Lease`]: the same, as long as clocks drift no more than `Config::clock_drift_max`; usually without a round.
    /// * [`ReadPolicy::AckedWithin`]: the read sees every write that was acknowledged so long before this call; usually without a
    ///   message.
    ///
    /// A server that does not lead asks the leader, in one message for all reads that wait. Returns the entry up to which this
    /// server has applied the log at least. For reads of an own write on any server, see [`ensure_applied`](Self::ensure_applied).
    ///
    /// # Errors
    /// [`LinearizableReadError`]; a read changes nothing, and asking again is always safe.
    #[tracing::instrument(level = "debug", skip_all, fields(id = %self.id()))]
    pub async fn ensure_linearizable(
        &self,
        policy: ReadPolicy,
    ) -> Result<Option<LogIdOf<C>>, RaftError<LinearizableReadError<C>>> {
        let answer = self.submit(|tx| RaftMsg::Read { policy, tx }, LinearizableReadError::Busy)?;
        self.answer(answer).await
    }

    /// The entry that a state machine, anywhere, must have applied before it serves a read that came before this call. Only
    /// the leader knows it; nothing is waited for but its confirmation.
    ///
    /// # Errors
    /// As [`ensure_linearizable`](Self::ensure_linearizable); [`LinearizableReadError::ForwardToLeader`] on any server that
    /// does not lead.
    #[tracing::instrument(level = "debug", skip_all, fields(id = %self.id()))]
    pub async fn get_read_log_id(&self, policy: ReadPolicy) -> Result<LogIdOf<C>, RaftError<LinearizableReadError<C>>> {
        let answer = self.submit(|tx| RaftMsg::ReadLogId { policy, tx }, LinearizableReadError::Busy)?;
        self.answer(answer).await
    }

    /// A server that does not lead wants to read: what a network does with a peer's
    /// [`ReadIndexRequest`](raftwright_core::ReadIndexRequest).
    ///
    /// # Errors
    /// [`Fatal`], if the node has stopped.
    #[tracing::instrument(level = "debug", skip_all, fields(id = %self.id()))]
    pub async fn read_index(&self, request: ReadIndexRequest<C>) -> Result<ReadIndexResponse<C>, Fatal> {
        let answer = match self.get_read_log_id(request.policy).await {
            Ok(read_log_id) => ReadIndexAnswer::<C>::Confirmed { read_log_id },
            Err(RaftError::APIError(error)) => match error {
                LinearizableReadError::ForwardToLeader(forward) => {
                    ReadIndexAnswer::<C>::NotLeader { leader: forward.leader_id }
                }
                LinearizableReadError::Busy => ReadIndexAnswer::<C>::Busy,
                LinearizableReadError::NotConfirmed => ReadIndexAnswer::<C>::NotConfirmed,
            },
            Err(RaftError::Fatal(fatal)) => return Err(fatal),
        };
        Ok(ReadIndexResponse::<C> { from: self.inner().identity, answer })
    }

    /// Returns once this server has applied the log up to this index at least: a read after it sees the write that was
    /// acknowledged with that index, on any server and without asking anybody. With a `timeout`, gives up after it.
    ///
    /// # Errors
    /// [`WaitError`]: the time is over, or the node has stopped.
    #[tracing::instrument(level = "debug", skip_all, fields(id = %self.id()))]
    pub async fn ensure_applied(&self, index: LogIndex, timeout: Option<Span>) -> Result<(), WaitError> {
        self.wait(timeout.map(Into::into)).applied_index_at_least(index, "applied far enough").await.map(drop)
    }
}
