//! Callers that wait for their writes on threads of their own, many of them beside each other.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::error::WalError;
use crate::log::{Afterwards, Completion};
use crate::platform::Bell;

/// Number of bells. More than batches are on their way at a time, so that whoever comes now does not wait for the bell of one that is
/// about to ring.
const BELLS: usize = 8;

/// The callers of a log that wait for their writes, each on its own thread. Those of one batch are woken by one call of the operating
/// system, which costs far less than to wake one after the other. Clones are of the same callers.
#[derive(Clone, Debug, Default)]
pub struct Callers(Arc<Bells>);

#[derive(Debug, Default)]
struct Bells {
    bells: [Arc<Bell>; BELLS],
    /// How often one was rung.
    rung: AtomicUsize,
}

impl Callers {
    /// A token for one write, and what waits for it.
    pub fn caller(&self) -> (Waiter, Waiting) {
        let at = self.0.rung.load(Ordering::Relaxed) % BELLS;
        let bell = self.0.bells.get(at).map(Arc::clone).unwrap_or_default();
        let told = Arc::new(Told { bell, result: OnceLock::new() });
        (Waiter { told: Arc::clone(&told), bells: Arc::clone(&self.0) }, Waiting(told))
    }
}

#[derive(Debug)]
struct Told {
    bell: Arc<Bell>,
    result: OnceLock<Result<(), WalError>>,
}

/// The token of a write that somebody waits for. Dropping it says that the log is closed.
pub struct Waiter {
    told: Arc<Told>,
    bells: Arc<Bells>,
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiter").finish_non_exhaustive()
    }
}

impl Completion for Waiter {
    fn complete(self, result: Result<(), WalError>) {
        self.complete_with(result, &mut Afterwards::new());
    }

    fn complete_with(self, result: Result<(), WalError>, afterwards: &mut Afterwards) {
        // It is set here or nowhere: nobody else has this token.
        let _ = self.told.result.set(result);
        if afterwards.ring(&self.told.bell) {
            // Whoever comes from now on waits for another one.
            self.bells.rung.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Whoever waits does not wait for ever.
impl Drop for Waiter {
    fn drop(&mut self) {
        if self.told.result.set(Err(WalError::Closed)).is_ok() {
            self.told.bell.ring();
        }
    }
}

/// What waits for a write.
#[derive(Debug)]
#[must_use = "the write is durable only when this says so"]
pub struct Waiting(Arc<Told>);

impl Waiting {
    /// Blocks until it is known what became of the write.
    ///
    /// # Errors
    /// As the write's token is completed with.
    pub fn wait(self) -> Result<(), WalError> {
        self.0.bell.wait_until(|| self.0.result.get().cloned())
    }
}
