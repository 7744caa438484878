//! Driving the writer with a thread of its own.

use std::fmt;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crate::disk::Disk;
use crate::error::OpenError;
use crate::log::{Completion, Phase, Shared};
use crate::writer::Writer;

/// The writer's thread. Dropping this finishes what is queued, syncs it, and waits for the thread to end.
pub struct WalThread<D: Disk, T: Completion> {
    shared: Arc<Shared<D::File, T>>,
    thread: Option<JoinHandle<()>>,
}

impl<D: Disk, T: Completion> fmt::Debug for WalThread<D, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WalThread").finish_non_exhaustive()
    }
}

impl<D: Disk, T: Completion> WalThread<D, T> {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system has no thread to give.
    pub fn spawn(mut writer: Writer<D, T>) -> Result<Self, OpenError> {
        let shared = Arc::clone(writer.shared());
        let thread = thread::Builder::new()
            .name("raftwright-wal".into())
            .spawn(move || run(&mut writer))
            .map_err(|error| OpenError::Thread(error.to_string().into()))?;
        Ok(Self { shared, thread: Some(thread) })
    }
}

impl<D: Disk, T: Completion> Drop for WalThread<D, T> {
    fn drop(&mut self) {
        self.shared.close();
        // A token's completion may drop the last handle on the writer's own thread, which cannot wait for itself.
        if let Some(thread) = self.thread.take().filter(|thread| thread.thread().id() != thread::current().id()) {
            // A panic of the writer has already been reported by the panic hook; its tokens were dropped with it.
            let _ = thread.join();
        }
    }
}

fn run<D: Disk, T: Completion>(writer: &mut Writer<D, T>) {
    let shared = Arc::clone(writer.shared());
    loop {
        match writer.run_batch() {
            // The store is poisoned and everybody knows.
            Err(_) => return,
            Ok(0) => {
                writer.mark();
                if writer.housekeep() {
                    continue;
                }
                if !wait(&shared) {
                    // Failing to close cleanly loses nothing: the next start does without the mark.
                    let _ = writer.close();
                    return;
                }
            }
            Ok(_) => {
                writer.housekeep();
            }
        }
    }
}

/// Waits until something is queued; false when the log is closed and nothing is.
fn wait<F, T>(shared: &Shared<F, T>) -> bool {
    let mut state = shared.lock();
    loop {
        if !state.queue.is_empty() {
            return true;
        }
        match state.phase {
            Phase::Open => {}
            Phase::Closing | Phase::Poisoned(_) => return false,
        }
        state = shared.wake.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
    }
}
