//! The token that a write carries. Only the flush can complete it.

use std::sync::Arc;

use raftwright_core::WriteId;

use crate::{StorageError, StorageErrorKind};

/// Who is told that a write is durable, or that it never will be. Implemented by the node; a store only ever sees
/// [`IOFlushed`].
pub trait FlushSink: Send + Sync + 'static {
    /// The write has ended. Called once for each write, from any thread; must not block.
    fn flushed(&self, write: WriteId, result: Result<(), StorageError>);
}

/// A promise to say when a write is durable. The store keeps it until its flush has returned, and then completes it.
///
/// Dropping it without completing it is an error that stops the node: a store that loses a token has lost a write.
#[must_use = "a write whose token is dropped stops the node"]
pub struct IOFlushed {
    write: WriteId,
    sink: Option<Arc<dyn FlushSink>>,
}

impl IOFlushed {
    /// A token for this write.
    pub fn new(write: WriteId, sink: Arc<dyn FlushSink>) -> Self {
        Self { write, sink: Some(sink) }
    }

    /// The write has ended: `Ok` if it is durable — it would survive a power loss at this moment — and an error if it
    /// may not be. After an error, every later write of the same store must fail too. A full disk need not be an error: while
    /// nothing of a write is on the media, a store may keep its token, and those of all writes behind it, until there is room
    /// ([`RaftLogStorage::space`](crate::RaftLogStorage::space)).
    pub fn io_completed(mut self, result: Result<(), StorageError>) {
        if let Some(sink) = self.sink.take() {
            sink.flushed(self.write, result);
        }
    }
}

impl Drop for IOFlushed {
    fn drop(&mut self) {
        if let Some(sink) = self.sink.take() {
            sink.flushed(
                self.write,
                Err(StorageError::new(
                    StorageErrorKind::TokenDropped,
                    "the log store dropped a write without completing it",
                )),
            );
        }
    }
}

impl std::fmt::Debug for IOFlushed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IOFlushed({})", self.write)
    }
}
