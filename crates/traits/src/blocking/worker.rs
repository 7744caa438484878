//! The store's thread.

use std::cell::Cell;
use std::sync::{Arc, PoisonError};

use super::BlockingLogStore;
use super::queue::{Queued, Read, Shared, State, Write};
use crate::{IOFlushed, LogIdOf, RaftTypeConfig, StorageError, StorageErrorKind};

thread_local! {
    /// Whether this is the thread of a log: it cannot wait for its own end.
    static OF_A_LOG: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread is one that [`run`] runs on.
pub(super) fn is_of_a_log() -> bool {
    OF_A_LOG.get()
}

/// What is taken from the queue at once.
struct Batch<C: RaftTypeConfig> {
    writes: Vec<Queued<C>>,
    reads: Vec<Read<C>>,
    committed: Option<LogIdOf<C>>,
}

/// Tells everybody that the thread has ended: also when the store has panicked, and when its work was never begun.
pub(super) struct Ending<C: RaftTypeConfig>(pub(super) Arc<Shared<C>>);

impl<C: RaftTypeConfig> Drop for Ending<C> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.ended = true;
        let ended = || StorageError::new(StorageErrorKind::Write, "the thread of the log has ended");
        let error = state.stopped.get_or_insert_with(ended).clone();
        let writes = std::mem::take(&mut state.writes);
        state.reads.clear();
        drop(state);
        self.0.ended.notify_all();
        fail(writes.into_iter().map(|queued| queued.flushed), &error);
        OF_A_LOG.set(false);
    }
}

fn fail(tokens: impl Iterator<Item = IOFlushed>, error: &StorageError) {
    tokens.for_each(|token| token.io_completed(Err(error.clone())));
}

/// Runs the store until its handle is gone and everything is done.
pub(super) fn run<C: RaftTypeConfig, S: BlockingLogStore<C>>(store: S, ending: Ending<C>) {
    OF_A_LOG.set(true);
    let shared = Arc::clone(&ending.0);
    // Declared behind `ending`, so closed before it: the store may be opened again as soon as its end is told.
    let mut store = store;
    while let Some(batch) = next(&shared) {
        for Read { start, end, bytes_max, sender } in batch.reads {
            if sender.is_abandoned() {
                continue;
            }
            sender.send(store.read(start, end, bytes_max));
        }
        write(&mut store, &shared, batch.writes, batch.committed);
    }
}

/// Waits for something to do; `None` when there will be nothing more.
fn next<C: RaftTypeConfig>(shared: &Shared<C>) -> Option<Batch<C>> {
    let mut state = shared.lock();
    loop {
        if !state.writes.is_empty() || !state.reads.is_empty() || state.closing && state.committed_unsaved {
            return Some(take(&mut state));
        }
        if state.closing {
            return None;
        }
        state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}

fn take<C: RaftTypeConfig>(state: &mut State<C>) -> Batch<C> {
    let mut bytes = 0;
    let mut writes = Vec::new();
    while bytes < state.options.batch_bytes_max.max(1)
        && let Some(queued) = state.writes.pop_front()
    {
        bytes += queued.bytes;
        writes.push(queued);
    }
    state.queued_bytes = state.queued_bytes.saturating_sub(bytes);
    // The hint goes along with writes, or at the end; it causes no flush of its own. A store that has failed gets neither.
    let goes_along = state.committed_unsaved && (!writes.is_empty() || state.closing);
    state.committed_unsaved &= !goes_along;
    let committed = state.committed.filter(|_| goes_along && !(writes.is_empty() && state.stopped.is_some()));
    Batch { writes, reads: state.reads.drain(..).collect(), committed }
}

/// Writes a batch, flushes it, and completes its tokens: in this order.
fn write<C: RaftTypeConfig, S: BlockingLogStore<C>>(
    store: &mut S,
    shared: &Shared<C>,
    writes: Vec<Queued<C>>,
    committed: Option<LogIdOf<C>>,
) {
    if writes.is_empty() && committed.is_none() {
        return;
    }
    let (tokens, writes): (Vec<IOFlushed>, Vec<Write<C>>) =
        writes.into_iter().map(|queued| (queued.flushed, queued.write)).unzip();
    let written = writes.iter().try_for_each(|write| match write {
        Write::Vote(vote) => store.save_vote(vote),
        Write::Append(entries) => store.append(entries),
        Write::Truncate(since) => store.truncate(*since),
        Write::Purge(upto) => store.purge(*upto),
        Write::Replace(upto) => store.truncate(upto.index).and_then(|()| store.purge(*upto)),
        Write::Nothing => Ok(()),
    });
    let hinted = written.and_then(|()| committed.map_or(Ok(()), |committed| store.save_committed(committed)));
    match hinted.and_then(|()| store.flush()) {
        Ok(()) => {
            shared.lock().flushed(tokens.len());
            tokens.into_iter().for_each(|token| token.io_completed(Ok(())));
        }
        Err(error) => {
            let mut state = shared.lock();
            // Whatever comes after it must fail, what is queued included; entries that are not written stay in memory.
            state.stopped = Some(error.clone());
            let queued = std::mem::take(&mut state.writes);
            state.queued_bytes = 0;
            drop(state);
            fail(tokens.into_iter().chain(queued.into_iter().map(|queued| queued.flushed)), &error);
        }
    }
}
