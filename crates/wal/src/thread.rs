//! The two threads of a log: one drives the writer, one reads what has left the memory.

use std::fmt;
use std::sync::Arc;
use std::thread;

use crate::disk::Disk;
use crate::error::OpenError;
use crate::log::{Completion, Log, Phase, Shared};
use crate::read_queue::{Asker, ReadQueue};
use crate::writer::Writer;

/// The writer's thread. Dropping this closes the log: the thread finishes what is queued, syncs it, and ends. It is not
/// waited for, since the disk may hang; [`Log::end`] tells when it is over.
pub struct WalThread<D: Disk, T: Completion> {
    shared: Arc<Shared<D::File, T>>,
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
        spawn("raftwright-wal", move || run(&mut writer))?;
        Ok(Self { shared })
    }
}

impl<D: Disk, T: Completion> Drop for WalThread<D, T> {
    fn drop(&mut self) {
        self.shared.close();
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), OpenError> {
    let spawned = thread::Builder::new().name(name.into()).spawn(work);
    spawned.map(drop).map_err(|error| OpenError::Thread(error.to_string().into()))
}

/// Starts the thread that reads old entries. It ends when nobody can ask it any more.
pub(crate) fn spawn_reader<D: Disk, T: Completion>(log: Log<D, T>) -> Result<Asker, OpenError> {
    let queue = Arc::new(ReadQueue::default());
    let asker = Asker(Arc::clone(&queue));
    spawn("raftwright-read", move || {
        // A panic of a read has been reported by the panic hook; whoever waits or comes later is answered all the same.
        let closed = Asker(queue);
        while let Some(job) = closed.0.next() {
            if !job.is_abandoned() {
                let read = log.read(job.range.clone(), job.bytes_max);
                job.answer(read);
            }
        }
    })?;
    Ok(asker)
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
