//! The thread on which the state machine uses the database: a call of RocksDB may wait for the disk, and no task of the runtime
//! shall wait with it.

use std::thread::JoinHandle;

use raftwright_traits::{StorageError, StorageErrorKind};
use tokio::sync::{mpsc, oneshot};

use crate::machine::Shelf;

/// Most calls that wait for the thread. Past it, callers wait for a place.
const CALLS_MAX: usize = 64;

type Call = Box<dyn FnOnce(&Shelf) + Send>;

/// A thread that owns the state machine's part of the database. Dropping it waits until all calls are done and the database
/// is let go of.
pub(crate) struct DbThread {
    calls: Option<mpsc::Sender<Call>>,
    thread: Option<JoinHandle<()>>,
}

impl DbThread {
    pub(crate) fn start(shelf: Shelf) -> Result<Self, StorageError> {
        let (calls, mut waiting) = mpsc::channel::<Call>(CALLS_MAX);
        let work = move || {
            while let Some(call) = waiting.blocking_recv() {
                call(&shelf);
            }
        };
        let thread = std::thread::Builder::new().name("rocks-machine".into()).spawn(work).map_err(|error| {
            let text = format!("there is no thread for the state machine: {error}");
            StorageError::new(StorageErrorKind::StateMachine, text)
        })?;
        Ok(Self { calls: Some(calls), thread: Some(thread) })
    }

    /// Has this done behind all that was asked for before.
    pub(crate) async fn begin<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shelf) -> Result<T, StorageError> + Send + 'static,
    ) -> Answer<T> {
        let (tell, told) = oneshot::channel();
        let call: Call = Box::new(move |shelf| {
            // Nobody waits for it any more: then nobody misses it.
            let _ = tell.send(work(shelf));
        });
        if let Some(calls) = &self.calls {
            // A thread that is gone drops the call, and the answer says so.
            let _ = calls.send(call).await;
        }
        Answer(told)
    }

    /// Has this done and waits for it.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shelf) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        self.begin(work).await.get().await
    }
}

impl Drop for DbThread {
    fn drop(&mut self) {
        self.calls = None;
        if let Some(thread) = self.thread.take() {
            // A call that panicked has told its caller, who got no answer.
            let _ = thread.join();
        }
    }
}

/// What will come of a call.
pub(crate) struct Answer<T>(oneshot::Receiver<Result<T, StorageError>>);

impl<T> Answer<T> {
    pub(crate) async fn get(self) -> Result<T, StorageError> {
        let gone = || StorageError::new(StorageErrorKind::StateMachine, "the thread of the state machine has ended");
        self.0.await.unwrap_or_else(|_| Err(gone()))
    }
}
