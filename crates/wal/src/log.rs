//! The handle of a log: submitting writes and reading entries. Nothing here waits for the media but reads of old
//! entries.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::answers::tell_all;
use crate::disk::Disk;
use crate::end::WalEnd;
use crate::error::{ReadError, SubmitError, WalError};
use crate::format::HEAD_LEN;
use crate::index::Index;
use crate::metrics::{Counters, WalMetrics};
use crate::options::WalOptions;
use crate::plan::{Failed, Plan};
use crate::platform::Bell;
use crate::record::{APPEND_ENTRIES_MAX, Extent, Op, PAYLOAD_BYTES_MAX, RawEntry, RawLogId, VOTE_BYTES_MAX};

/// Writes other than appends may exceed the bound of the queue by this factor: a vote must not wait behind a burst of
/// appends, and who submits votes does so one at a time.
const RESERVE_FACTOR: usize = 2;

/// What a caller hands over with a write and gets back when its fate is known. It is completed exactly once: with
/// `Ok` only after a flush that covers the write and every write submitted before it.
pub trait Completion: Send + 'static {
    /// Called by the writer.
    fn complete(self, result: Result<(), WalError>);

    /// As [`complete`](Self::complete), for one of several that are completed together: what can be done once for all of them is
    /// left until then. It must not wait for another caller, who may not have been woken yet.
    fn complete_with(self, result: Result<(), WalError>, afterwards: &mut Afterwards)
    where
        Self: Sized,
    {
        let _ = afterwards;
        self.complete(result);
    }
}

/// What is done once all tokens of a batch are completed.
#[derive(Debug)]
pub struct Afterwards {
    bells: Vec<Arc<Bell>>,
}

impl Afterwards {
    /// Nothing so far. Only those who complete tokens make one, so that none can be kept in the place of another.
    pub(crate) fn new() -> Self {
        Self { bells: Vec::new() }
    }

    /// Rings this bell then; false if it is rung anyway.
    pub(crate) fn ring(&mut self, bell: &Arc<Bell>) -> bool {
        let new = !self.bells.iter().any(|other| Arc::ptr_eq(other, bell));
        if new {
            self.bells.push(Arc::clone(bell));
        }
        new
    }
}

impl Drop for Afterwards {
    fn drop(&mut self) {
        self.bells.iter().for_each(|bell| bell.ring());
    }
}

impl<F: FnOnce(Result<(), WalError>) + Send + 'static> Completion for F {
    fn complete(self, result: Result<(), WalError>) {
        self(result);
    }
}

/// A write that was not taken, with the token given back: it will not be completed.
#[derive(Debug)]
pub struct Refused<T> {
    /// The token.
    pub token: T,
    /// Why.
    pub error: SubmitError,
}

/// What is to be written. It has taken effect in memory.
pub(crate) enum Work {
    Vote(Bytes),
    /// The entries are those that readers see. The number is that of the first; the others follow.
    Append {
        entries: Arc<Vec<RawEntry>>,
        number: u64,
    },
    Truncate {
        from: u64,
    },
    /// With `replace`, also of what stands behind it.
    Purge {
        up_to: RawLogId,
        replace: bool,
    },
}

impl Work {
    /// How many records it is on the media.
    pub(crate) fn records(&self) -> usize {
        match self {
            Self::Append { entries, .. } => entries.len(),
            Self::Vote(_) | Self::Truncate { .. } | Self::Purge { .. } => 1,
        }
    }

    /// Bytes of vote or payloads that it carries.
    fn payload_bytes(&self) -> usize {
        match self {
            Self::Vote(vote) => vote.len(),
            Self::Append { entries, .. } => entries.iter().map(|entry| entry.payload.len()).sum(),
            Self::Truncate { .. } | Self::Purge { .. } => 0,
        }
    }
}

/// A write that waits to be written.
pub(crate) struct Queued<T> {
    pub(crate) work: Work,
    /// Bytes of vote or payloads that it carries.
    pub(crate) payload: usize,
    /// The outline of the log once this write has taken effect.
    pub(crate) extent: Extent,
    /// Index of the first entry of the log then.
    pub(crate) first: u64,
    /// The commit index that was known before this write. It speaks of the log as the writes before this one leave it,
    /// and of no earlier one.
    pub(crate) committed: Option<u64>,
    /// Bytes that it takes in the queue, its heads included.
    pub(crate) bytes: usize,
    pub(crate) token: T,
}

/// Which appends are taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Admission {
    /// Those for which there is room on the media.
    WithRoom,
    /// All.
    Always,
}

/// Whether writes are taken.
#[derive(Clone)]
pub(crate) enum Phase {
    Open,
    Closing,
    Poisoned(WalError),
}

/// An open segment file.
pub(crate) struct Segment<F> {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<F>,
}

pub(crate) struct State<F, T> {
    pub(crate) phase: Phase,
    pub(crate) queue: VecDeque<Queued<T>>,
    pub(crate) queued_bytes: usize,
    /// The media has no room for the segment after the active one, and that has not much left.
    pub(crate) full: bool,
    /// How many queued writes wake the thread that waits for [`Shared::wake`]; `None` while none waits.
    pub(crate) wakes_at: Option<usize>,
    /// The writer's thread waits, and what can wait has been done.
    pub(crate) asleep: bool,
    /// Told when the queue stops being empty, and when the log is closed.
    pub(crate) on_work: Option<Arc<dyn Fn() + Send + Sync>>,
    pub(crate) next_number: u64,
    pub(crate) index: Index,
    pub(crate) vote: Option<Bytes>,
    pub(crate) committed: Option<u64>,
    pub(crate) segments: BTreeMap<u32, Arc<Segment<F>>>,
}

pub(crate) struct Shared<F, T> {
    state: Mutex<State<F, T>>,
    /// Signalled when as much is queued as the writer's thread waits for, and when the log is closed.
    pub(crate) wake: Condvar,
    /// Length of the queue, to be looked at without the lock.
    pub(crate) queued: AtomicUsize,
    pub(crate) counters: Counters,
    pub(crate) options: WalOptions,
    pub(crate) end: WalEnd,
}

impl<F, T> Shared<F, T> {
    pub(crate) fn new(state: State<F, T>, options: WalOptions, end: WalEnd) -> Self {
        Self {
            state: Mutex::new(state),
            wake: Condvar::new(),
            queued: AtomicUsize::new(0),
            counters: Counters::default(),
            options,
            end,
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State<F, T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes no further write; the writer finishes what is queued and ends.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        if matches!(state.phase, Phase::Open) {
            state.phase = Phase::Closing;
        }
        self.tell(state);
    }

    /// Tells the driver of the writer that the log is closed.
    fn tell(&self, mut state: MutexGuard<'_, State<F, T>>) {
        state.wakes_at = None;
        let on_work = state.on_work.clone();
        drop(state);
        self.wake.notify_all();
        if let Some(on_work) = on_work {
            on_work();
        }
    }

    /// Tells the writer's thread that a caller has had the writer, if it knows no work any more: what follows from batches when
    /// there is time is its own, and so is what follows when one finds no room or fails.
    pub(crate) fn tell_written(&self) {
        let asleep = self.lock().asleep;
        if asleep {
            self.wake.notify_one();
        }
    }

    /// Tells the driver of the writer what was queued, if it waits for that.
    fn tell_queued(&self, state: MutexGuard<'_, State<F, T>>, was_empty: bool) {
        let on_work = state.on_work.as_ref().filter(|_| was_empty).map(Arc::clone);
        self.wake_for_queued(state);
        if let Some(on_work) = on_work {
            on_work();
        }
    }

    /// Wakes the writer's thread if it waits for as much as is queued.
    fn wake_for_queued(&self, mut state: MutexGuard<'_, State<F, T>>) {
        let wakes = state.wakes_thread();
        if wakes {
            state.wakes_at = None;
        }
        drop(state);
        if wakes {
            self.wake.notify_one();
        }
    }

    /// Tells the writer's thread of what was submitted unheard.
    pub(crate) fn tell_submitted(&self) {
        self.wake_for_queued(self.lock());
    }
}

impl<F, T: Completion> Shared<F, T> {
    /// The tokens of everything that is queued, in order: none of it will be written.
    pub(crate) fn give_up_queued(&self) -> impl Iterator<Item = T> + use<F, T> {
        let mut state = self.lock();
        state.queued_bytes = 0;
        let queue = std::mem::take(&mut state.queue);
        self.queued.store(0, Ordering::Release);
        drop(state);
        queue.into_iter().map(|queued| queued.token)
    }
}

/// The state with a write in its queue, and whether that was empty before.
type Behind<'a, D, T> = (MutexGuard<'a, State<<D as Disk>::File, T>>, bool);

/// A log. Clones are handles of the same log.
pub struct Log<D: Disk, T: Completion> {
    pub(crate) shared: Arc<Shared<D::File, T>>,
}

impl<D: Disk, T: Completion> Clone for Log<D, T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<D: Disk, T: Completion> fmt::Debug for Log<D, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("extent", &self.extent()).finish_non_exhaustive()
    }
}

impl<D: Disk, T: Completion> Log<D, T> {
    /// Queues a write. When this returns, the write is visible to readers; it is durable when its token is completed.
    ///
    /// A write that cannot be taken is refused with its token and has no effect. Once the log has failed or is closed,
    /// the token is completed with that error before this returns.
    pub fn submit(&self, op: Op, token: T) -> Result<(), Refused<T>> {
        self.submit_as(op, token, Admission::WithRoom)
    }

    fn submit_as(&self, op: Op, token: T, admission: Admission) -> Result<(), Refused<T>> {
        let Some((state, was_empty)) = self.queue(op, token, admission)? else { return Ok(()) };
        self.shared.tell_queued(state, was_empty);
        Ok(())
    }

    /// As [`submit`](Self::submit), by a caller that writes it itself or calls [`Shared::tell_submitted`]; false if it need do
    /// neither, since the writer's thread is awake.
    pub(crate) fn submit_unheard(&self, op: Op, token: T) -> Result<bool, Refused<T>> {
        let queued = self.queue(op, token, Admission::WithRoom)?;
        Ok(queued.is_some_and(|(state, _)| state.wakes_thread()))
    }

    /// Queues a write, and tells nobody. `None` if it was completed with an error; otherwise the state, and whether the queue was
    /// empty.
    fn queue(&self, op: Op, token: T, admission: Admission) -> Result<Option<Behind<'_, D, T>>, Refused<T>> {
        let mut state = self.shared.lock();
        let stopped = match &state.phase {
            Phase::Open => None,
            Phase::Closing => Some(WalError::Closed),
            Phase::Poisoned(error) => Some(error.clone()),
        };
        if let Some(error) = stopped {
            drop(state);
            token.complete(Err(error));
            return Ok(None);
        }
        if let Err(error) = state.check(&op, &self.shared.options, admission) {
            return Err(Refused { token, error });
        }
        let was_empty = state.queue.is_empty();
        state.take(op, token, &self.shared.options);
        self.shared.queued.store(state.queue.len(), Ordering::Release);
        Ok(Some((state, was_empty)))
    }

    /// As [`submit`](Self::submit), for callers that have no way to be refused: the order of writes is a promise, so a
    /// write that cannot be taken stops the log, and its token and all others are completed with that error. A full disk
    /// is no reason: then the write waits, and all that come behind it, until there is room.
    pub fn submit_or_stop(&self, op: Op, token: T) {
        if let Err(Refused { token, error }) = self.submit_as(op, token, Admission::Always) {
            let error = WalError::Refused(error);
            let mut state = self.shared.lock();
            if !matches!(state.phase, Phase::Poisoned(_)) {
                state.phase = Phase::Poisoned(error.clone());
            }
            self.shared.tell(state);
            tell_all(self.shared.give_up_queued().chain([token]), &Err(error));
        }
    }

    /// The first entry of every leader from `first` up to `last`, in order.
    pub fn leaders(&self, first: u64, last: u64) -> Vec<RawLogId> {
        self.shared.lock().index.leaders(first, last)
    }

    /// Remembers how far the log is committed. It is written along with the next batch and forces none; a restart may
    /// see an older one.
    pub fn note_committed(&self, index: u64) {
        let mut state = self.shared.lock();
        state.committed = state.committed.max(Some(index));
    }

    /// The highest commit index that was noted.
    pub fn committed(&self) -> Option<u64> {
        self.shared.lock().committed
    }

    /// The last vote that was submitted.
    pub fn vote(&self) -> Option<Bytes> {
        self.shared.lock().vote.clone()
    }

    /// Where the log begins and ends, with all that was submitted.
    pub fn extent(&self) -> Extent {
        self.shared.lock().index.extent()
    }

    /// Index of the first entry, or of the one that will be the first.
    pub(crate) fn first_index(&self) -> u64 {
        self.shared.lock().index.first()
    }

    /// Identity of the entry at `index`, if the log holds it or it is the last purged one.
    pub fn log_id(&self, index: u64) -> Option<RawLogId> {
        self.shared.lock().index.log_id(index)
    }

    /// Tells when the writer is gone, and with it the lock on the data directory.
    pub fn end(&self) -> WalEnd {
        self.shared.end.clone()
    }

    /// True while the disk is full: appends should not be submitted, and [`submit`](Self::submit) refuses them. What is left
    /// of the active segment is for votes, truncations and purges. It ends by itself once there is room, by purging or
    /// otherwise.
    pub fn is_full(&self) -> bool {
        self.shared.lock().full
    }

    /// What the log has done since it was opened, and what waits now. Costs a short lock.
    pub fn metrics(&self) -> WalMetrics {
        let mut metrics = self.shared.counters.read();
        let state = self.shared.lock();
        metrics.queue_writes = state.queue.len();
        metrics.queue_bytes = state.queued_bytes;
        metrics.recent_bytes = state.index.recent_bytes();
        metrics.segments = state.segments.len();
        metrics.full = state.full;
        metrics
    }

    /// Why the log takes no more writes, if so.
    pub fn failure(&self) -> Option<WalError> {
        match &self.shared.lock().phase {
            Phase::Open => None,
            Phase::Closing => Some(WalError::Closed),
            Phase::Poisoned(error) => Some(error.clone()),
        }
    }

    /// Entries of `range` in order, from its first on without a gap, until the range or the log ends or payloads of
    /// `bytes_max` bytes are reached. At least one entry is returned if the log holds the first, however long it is.
    ///
    /// Every payload that comes from the media has been verified against its checksum. Entries that are no longer in
    /// memory are read from the media by the calling thread, for as long as that takes.
    pub fn read(&self, range: Range<u64>, bytes_max: usize) -> Result<Vec<RawEntry>, ReadError> {
        loop {
            match self.plan(range.clone(), bytes_max)?.run() {
                Ok(entries) => return Ok(entries),
                Err(failed) if self.is_still_at(&failed) => return Err(failed.error),
                Err(_) => {}
            }
        }
    }

    /// As [`read`](Self::read) if all of it is in memory, and `None` if it is not: never waits for the media.
    pub fn read_recent(&self, range: Range<u64>, bytes_max: usize) -> Result<Option<Vec<RawEntry>>, ReadError> {
        Ok(self.plan(range, bytes_max)?.in_memory())
    }

    /// A segment may be purged, and its file used again, between planning and reading. Places are never given twice, so
    /// an entry that still has its place had it all the time, and what was read there is what the media holds.
    fn is_still_at(&self, failed: &Failed) -> bool {
        self.shared.lock().index.slot(failed.index).is_some_and(|slot| slot.place == failed.place)
    }

    fn plan(&self, range: Range<u64>, bytes_max: usize) -> Result<Plan<D::File>, ReadError> {
        let state = self.shared.lock();
        let first = state.index.first();
        if range.start < first && !state.index.is_blank() && range.start < range.end {
            return Err(ReadError::Purged { index: range.start, first });
        }
        Ok(Plan::new(&state.index, &state.segments, range, bytes_max))
    }
}

impl<F, T> State<F, T> {
    /// The writer's thread waits for as much as is queued.
    fn wakes_thread(&self) -> bool {
        self.wakes_at.is_some_and(|at| self.queue.len() >= at)
    }

    fn check(&self, op: &Op, options: &WalOptions, admission: Admission) -> Result<(), SubmitError> {
        let (ops, bytes) = (self.queue.len(), self.queued_bytes);
        let factor = if matches!(op, Op::Append(_)) { 1 } else { RESERVE_FACTOR };
        if ops >= options.queue_ops_max.saturating_mul(factor)
            || bytes >= options.queue_bytes_max.saturating_mul(factor)
        {
            return Err(SubmitError::Busy { ops, bytes });
        }
        if self.full && admission == Admission::WithRoom && matches!(op, Op::Append(_)) {
            return Err(SubmitError::Full);
        }
        match op {
            Op::Vote(vote) => at_most("a vote", vote.len(), VOTE_BYTES_MAX),
            Op::Append(entries) => self.check_append(entries),
            Op::Truncate { from } => match self.index.extent().purged {
                Some(purged) if *from <= purged.index => {
                    Err(SubmitError::TruncatePurged { from: *from, purged: purged.index })
                }
                Some(_) | None => Ok(()),
            },
            Op::Purge { .. } => Ok(()),
        }
    }

    fn check_append(&self, entries: &[RawEntry]) -> Result<(), SubmitError> {
        let first = entries.first().ok_or(SubmitError::Empty)?;
        at_most("an append in entries", entries.len(), APPEND_ENTRIES_MAX)?;
        let begin = if self.index.is_blank() { first.log_id.index } else { self.index.next() };
        let mut bytes = 0usize;
        for (expected, entry) in (begin..=u64::MAX).zip(entries) {
            let RawLogId { term, node: _, index } = entry.log_id;
            if index != expected || index == u64::MAX {
                return Err(SubmitError::Gap { expected, got: index });
            }
            if term > 0 && self.vote.is_none() {
                return Err(SubmitError::NoVote { term });
            }
            bytes += entry.payload.len();
            at_most("a payload", entry.payload.len(), PAYLOAD_BYTES_MAX)?;
        }
        at_most("the payloads of an append", bytes, PAYLOAD_BYTES_MAX)
    }

    /// Lets a checked write take effect in memory and queues it for the media.
    fn take(&mut self, op: Op, token: T, options: &WalOptions) {
        let work = self.apply(op, options);
        let payload = work.payload_bytes();
        let bytes = payload + 2 * HEAD_LEN * work.records();
        self.queued_bytes += bytes;
        let (extent, first) = (self.index.extent(), self.index.first());
        let committed = self.committed;
        self.queue.push_back(Queued { work, payload, extent, first, committed, bytes, token });
    }

    fn apply(&mut self, op: Op, options: &WalOptions) -> Work {
        match op {
            Op::Vote(vote) => {
                self.vote = Some(vote.clone());
                Work::Vote(vote)
            }
            Op::Append(entries) => {
                let (entries, number) = (Arc::new(entries), self.next_number);
                self.next_number += entries.len() as u64;
                self.index.append_queued(&entries, number);
                self.index.evict(options.recent_bytes_max);
                Work::Append { entries, number }
            }
            Op::Truncate { from } => {
                self.index.truncate(from);
                Work::Truncate { from }
            }
            Op::Purge { up_to } => {
                let purged = self.index.extent().purged;
                match purged.filter(|purged| purged.index >= up_to.index) {
                    // What is purged stays purged: the write becomes one that changes nothing.
                    Some(purged) => Work::Purge { up_to: purged, replace: false },
                    None => {
                        let replace = self.index.conflicts(up_to);
                        self.index.purge(up_to, replace);
                        Work::Purge { up_to, replace }
                    }
                }
            }
        }
    }
}

fn at_most(what: &'static str, len: usize, max: usize) -> Result<(), SubmitError> {
    if len > max { Err(SubmitError::TooLarge { what, len, max }) } else { Ok(()) }
}
