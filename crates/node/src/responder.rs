//! Who is told what became of a write.

use std::panic::{AssertUnwindSafe, catch_unwind};

use raftwright_traits::{ClientWriteError, LogIdOf, RaftError, RaftTypeConfig, UnknownReason};
use tokio::sync::oneshot;

use crate::msg::ClientWriteResponse;

/// How a write ends, for the caller.
pub type WriteResult<C> = Result<ClientWriteResponse<C>, RaftError<ClientWriteError<C>>>;

/// Is told what becomes of a write, in place of a caller that waits. Called from the node's own tasks: it must be quick and
/// never block. A panic of it is caught and noted.
///
/// A closure that takes a [`WriteResult`] is a responder.
pub trait Responder<C: RaftTypeConfig>: Send + 'static {
    /// The entry is committed: it stands in the log for ever, and will be applied. Called at most once, before
    /// [`on_complete`](Self::on_complete), and only by a node that learns of the commitment while it has the entry.
    fn on_commit(&mut self, log_id: LogIdOf<C>) {
        let _ = log_id;
    }

    /// The end: the state machine has answered, or why it has not. Called exactly once, whatever happens to the node.
    fn on_complete(self: Box<Self>, result: WriteResult<C>);
}

impl<C, F> Responder<C> for F
where
    C: RaftTypeConfig,
    F: FnOnce(WriteResult<C>) + Send + 'static,
{
    fn on_complete(self: Box<Self>, result: WriteResult<C>) {
        self(result);
    }
}

/// Whoever waits for a write.
pub(crate) enum WriteTx<C: RaftTypeConfig> {
    /// A caller. Dropping it says that no answer will come.
    Caller(oneshot::Sender<WriteResult<C>>),
    /// A responder.
    Responder(Told<C>),
    /// Nobody.
    Nobody,
}

impl<C: RaftTypeConfig> WriteTx<C> {
    pub(crate) fn responder(responder: Box<dyn Responder<C>>) -> Self {
        WriteTx::Responder(Told { responder: Some(responder), committed: false })
    }

    /// Tells the end.
    pub(crate) fn answer(self, result: WriteResult<C>) {
        match self {
            // A caller that has gone needs no answer.
            WriteTx::Caller(tx) => drop(tx.send(result)),
            WriteTx::Responder(mut told) => told.complete(result),
            WriteTx::Nobody => {}
        }
    }

    /// Tells that there will be no answer, and why.
    pub(crate) fn refuse(self, error: ClientWriteError<C>) {
        self.answer(Err(RaftError::APIError(error)));
    }

    /// Whether it wants to know of the commitment, and has not been told.
    pub(crate) fn awaits_commit(&self) -> bool {
        match self {
            WriteTx::Caller(_) | WriteTx::Nobody => false,
            WriteTx::Responder(told) => !told.committed,
        }
    }

    /// The entry is committed.
    pub(crate) fn committed(&mut self, log_id: LogIdOf<C>) {
        match self {
            WriteTx::Caller(_) | WriteTx::Nobody => {}
            WriteTx::Responder(told) => told.commit(log_id),
        }
    }
}

/// A responder that is told the end, also if the node forgets it.
pub(crate) struct Told<C: RaftTypeConfig> {
    responder: Option<Box<dyn Responder<C>>>,
    committed: bool,
}

impl<C: RaftTypeConfig> Told<C> {
    fn commit(&mut self, log_id: LogIdOf<C>) {
        self.committed = true;
        if let Some(responder) = &mut self.responder {
            quietly(|| responder.on_commit(log_id));
        }
    }

    fn complete(&mut self, result: WriteResult<C>) {
        if let Some(responder) = self.responder.take() {
            quietly(|| responder.on_complete(result));
        }
    }
}

impl<C: RaftTypeConfig> Drop for Told<C> {
    fn drop(&mut self) {
        self.complete(Err(RaftError::APIError(ClientWriteError::Unknown(UnknownReason::Stopped))));
    }
}

/// A responder's mistakes are its own: they stop no node.
pub(crate) fn quietly(call: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(call)).is_err() {
        tracing::error!("a callback of the application panicked");
    }
}
