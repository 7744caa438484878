//! The writer: a plain machine that turns queued writes into batches. A thread drives it in production
//! ([`crate::WalThread`]), a task with its own idea of time in a simulator.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

use bytes::Bytes;

use crate::aligned::Memory;
use crate::answers::{Answers, tell_all};
use crate::data_dir::{DataDir, LogRight};
use crate::disk::{Disk, DiskFile};
use crate::end::EndSignal;
use crate::error::{DiskError, Finding, OpenError, WalError, shown};
use crate::format::{Encoder, RecordKind, Role, SECTOR, SegmentHeader, Trailer};
use crate::index::Index;
use crate::index_files::{IndexJobs, remove_index, remove_orphans};
use crate::ledger::Ledger;
use crate::log::{Completion, Log, Phase, Queued, Segment, Shared, State, Work};
use crate::metrics::Counters;
use crate::options::WalOptions;
use crate::record::{Extent, RawEntry, RawLogId};
use crate::recovery::{Indexes, Recovered, recover, segment_name, sole_sector};
use crate::segments::{Chore, Spare, make_segment, remove_leftovers};

/// The end of the log, where the next batch goes.
struct Active<F> {
    sequence: u32,
    header: SegmentHeader,
    position: u64,
    /// Checksum that the next batch is chained to.
    before: u32,
    segment: Arc<Segment<F>>,
    ledger: Ledger,
}

/// How far the batch in hand has come. The steps of a batch come in this order and no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Idle,
    Written,
    Durable,
}

/// Why a batch is not written.
enum Unwritten {
    /// There is no room for the segment that it would go to. Nothing has changed.
    NoRoom,
    /// The media failed.
    Failed(DiskError),
}

/// A write that was taken from the queue; its token is in hand.
struct Taken {
    work: Work,
    payload: usize,
    extent: Extent,
    first: u64,
}

/// Where an entry of the batch in hand was written.
struct Placed {
    index: u64,
    number: u64,
    offset: u32,
    crc: u32,
}

/// What was found and decided when a log was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Everything that was not as it should be, and what was done about it. Empty after a clean stop.
    pub findings: Vec<Finding>,
}

/// Writes batches. Call [`write_batch`](Self::write_batch), [`sync`](Self::sync), [`complete`](Self::complete) in turn,
/// and [`housekeep`](Self::housekeep) when there is time.
pub struct Writer<D: Disk, T: Completion> {
    right: LogRight<D>,
    shared: Arc<Shared<D::File, T>>,
    active: Active<D::File>,
    next_batch: u64,
    durable_through: u64,
    /// The state as of the last batch, for the next trailer.
    vote: Option<Bytes>,
    committed: Option<u64>,
    extent: Extent,
    first_index: u64,
    step: Step,
    encoder: Encoder,
    in_hand: Vec<T>,
    /// A batch whose tokens are in hand and that found no room, with the commit index that goes along.
    held: Option<(Vec<Taken>, Option<u64>)>,
    placed: Vec<Placed>,
    spare: Spare<D::File>,
    /// Takes the zeroes of the next segment; without it, whoever calls [`housekeep`](Self::housekeep) writes them.
    chores: Option<SyncSender<Chore<D::File>>>,
    /// Where memory for entries to come will arrive, if it was asked for.
    memory: Option<Receiver<Memory>>,
    /// Tells callers of batches that are durable; without it, [`complete`](Self::complete) tells them all.
    answers: Option<Arc<Answers<T>>>,
    indexes: IndexJobs<D::File>,
    /// A mark stands at the end of the log.
    marked: bool,
    /// The chain is broken at the end of the active segment: go on in a fresh one.
    must_roll: bool,
    /// Goes last, behind the right to write.
    _end: EndSignal,
}

/// Without a writer nothing becomes durable any more: whoever waits is told, also when the writer's thread panicked.
impl<D: Disk, T: Completion> Drop for Writer<D, T> {
    fn drop(&mut self) {
        self.shared.close();
        // A panic of a caller's code may be what drops this; a second one on its way would end the process.
        let _ = catch_unwind(AssertUnwindSafe(|| self.fail_all(&WalError::Closed)));
    }
}

impl<D: Disk, T: Completion> fmt::Debug for Writer<D, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Active { sequence, position, .. } = &self.active;
        write!(f, "Writer(segment {sequence}, position {position}, batch {}, {:?})", self.next_batch, self.step)
    }
}

/// A log that was opened.
#[derive(Debug)]
pub struct Opened<D: Disk, T: Completion> {
    /// Submits and reads.
    pub log: Log<D, T>,
    /// Writes. Whoever drives it decides when.
    pub writer: Writer<D, T>,
    /// What was found.
    pub report: RecoveryReport,
}

/// Opens the log of a data directory, or makes it if the directory never had one.
///
/// Everything in the log that is returned is durable. Nothing is driven yet: the caller owns the writer.
pub fn open<D: Disk, T: Completion>(dir: Arc<DataDir<D>>, options: WalOptions) -> Result<Opened<D, T>, OpenError> {
    options.check()?;
    let right = LogRight::take(dir)?;
    let dir = right.dir();
    let (disk, wal, meta) = (dir.disk().clone(), dir.wal_path(), dir.meta());
    let recovered = match recover(&disk, &wal, &meta, Indexes::Used)? {
        Some(recovered) => recovered,
        None if meta.log_made => {
            let what = "there is no segment, although a log was made here".into();
            return Err(OpenError::DataLoss { path: shown(&wal), what });
        }
        None => create(dir, &options)?,
    };
    if !meta.log_made {
        dir.set_log_made()?;
    }
    remove_leftovers(&disk, &wal)?;
    remove_orphans(&disk, &wal)?;
    let Recovered {
        index,
        vote,
        committed,
        segments,
        active,
        position,
        before,
        next_batch,
        ledger,
        unindexed,
        findings,
    } = recovered;
    let (extent, first_index) = (index.extent(), index.first());
    let segments: BTreeMap<_, _> =
        segments.into_iter().map(|(sequence, segment)| (sequence, Arc::new(segment))).collect();
    let Some((sequence, segment)) = segments.last_key_value().map(|(sequence, last)| (*sequence, Arc::clone(last)))
    else {
        return Err(OpenError::DataLoss { path: shown(&wal), what: "there is no segment".into() });
    };
    let state = State {
        phase: Phase::Open,
        queue: VecDeque::new(),
        queued_bytes: 0,
        full: false,
        wakes_at: None,
        asleep: false,
        on_work: None,
        next_number: 0,
        index,
        vote: vote.clone(),
        committed,
        segments,
    };
    let end = EndSignal::default();
    let shared = Arc::new(Shared::new(state, options, end.end()));
    let writer = Writer {
        right,
        shared: Arc::clone(&shared),
        active: Active { sequence, header: active, position, before: before.unwrap_or(0), segment, ledger },
        indexes: IndexJobs::new(unindexed),
        next_batch,
        durable_through: next_batch.saturating_sub(1),
        vote,
        committed,
        extent,
        first_index,
        step: Step::Idle,
        encoder: Encoder::new(),
        in_hand: Vec::new(),
        held: None,
        placed: Vec::new(),
        spare: Spare::None,
        chores: None,
        memory: None,
        answers: None,
        marked: false,
        must_roll: before.is_none(),
        _end: end,
    };
    Ok(Opened { log: Log { shared }, writer, report: RecoveryReport { findings } })
}

/// The first segment of a new log.
fn create<D: Disk>(dir: &DataDir<D>, options: &WalOptions) -> Result<Recovered<D::File>, OpenError> {
    let meta = dir.meta();
    let header = SegmentHeader {
        node_id: meta.node_id,
        incarnation: meta.incarnation,
        salt: salt(dir.random(), 1),
        sequence: 1,
        size: options.segment_bytes.min(options.first_segment_bytes),
        before: 0,
        first_batch: 1,
        durable_through: 0,
        vote: None,
        committed: None,
        extent: Extent::default(),
        first_index: 0,
    };
    let segment = make_segment(dir.disk(), &dir.wal_path(), Spare::None, &header, true)?;
    Ok(Recovered {
        index: Index::default(),
        vote: None,
        committed: None,
        segments: vec![(1, segment)],
        position: SegmentHeader::area_len(0) as u64,
        active: header,
        before: Some(0),
        next_batch: 1,
        ledger: Ledger::default(),
        unindexed: Vec::new(),
        findings: Vec::new(),
    })
}

/// A salt that no other segment of this node has had (mixing after Steele, Lea and Flood's SplitMix).
fn salt(random: u64, sequence: u64) -> u64 {
    let mut z = random.wrapping_add(sequence.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl<D: Disk, T: Completion> Writer<D, T> {
    /// Calls `wake` whenever the queue stops being empty, and when the log is closed: for a driver that cannot wait on a
    /// thread. It is called on the thread that submits, and must not block.
    pub fn on_work(&self, wake: Arc<dyn Fn() + Send + Sync>) {
        self.shared.lock().on_work = Some(wake);
    }

    /// From now on the zeroes of the next segment go to the thread that holds the other end.
    pub(crate) fn hand_chores_to(&mut self, chores: SyncSender<Chore<D::File>>) {
        self.chores = Some(chores);
    }

    /// From now on callers of batches that are durable may also be told so by these.
    pub(crate) fn leave_answers_to(&mut self, answers: Arc<Answers<T>>) {
        self.answers = Some(answers);
    }

    /// True when writes are queued.
    pub fn has_work(&self) -> bool {
        !self.shared.lock().queue.is_empty()
    }

    /// Takes what is queued, up to the bound of a batch, and writes it with one contiguous write. Returns the number of
    /// writes taken; 0 means that there was nothing to do, or no room: see [`is_held_up`](Self::is_held_up).
    ///
    /// # Errors
    /// The media failed. The log is poisoned, and all tokens have been completed with this error.
    pub fn write_batch(&mut self) -> Result<usize, WalError> {
        self.begin_batch(Step::Written)
    }

    /// As [`write_batch`](Self::write_batch) and [`sync`](Self::sync), with one call of the operating system where it has one
    /// for both.
    ///
    /// # Errors
    /// As those of both.
    pub fn write_batch_durably(&mut self) -> Result<usize, WalError> {
        self.begin_batch(Step::Durable)
    }

    fn begin_batch(&mut self, step: Step) -> Result<usize, WalError> {
        debug_assert_eq!(self.step, Step::Idle, "the batch before is complete");
        self.require_running()?;
        let (batch, committed) = self.held.take().unwrap_or_else(|| self.take_queued());
        if batch.is_empty() {
            return Ok(0);
        }
        match self.write(&batch, committed, step) {
            Ok(()) => Ok(batch.len()),
            Err(Unwritten::NoRoom) => {
                self.held = Some((batch, committed));
                self.set_full(true);
                Ok(0)
            }
            Err(Unwritten::Failed(error)) => Err(self.poison(error)),
        }
    }

    /// True while a batch cannot be written because the disk is full. Nothing of it is on the media, and its tokens wait;
    /// the next [`write_batch`](Self::write_batch) tries again.
    pub fn is_held_up(&self) -> bool {
        self.held.is_some()
    }

    /// True while the disk is full, held up or not: whoever drives the writer looks again after a while, with
    /// [`write_batch`](Self::write_batch) and [`housekeep`](Self::housekeep).
    pub fn is_full(&self) -> bool {
        self.shared.lock().full
    }

    fn set_full(&self, full: bool) {
        self.shared.lock().full = full;
    }

    /// Makes the batch in hand durable.
    ///
    /// # Errors
    /// The media failed. The log is poisoned, and all tokens have been completed with this error. The sync is not tried
    /// again: after a failure the operating system may forget what it could not write and call the next sync a success.
    pub fn sync(&mut self) -> Result<(), WalError> {
        debug_assert_eq!(self.step, Step::Written, "a batch is written before it is synced");
        self.require_running()?;
        let segment = Arc::clone(&self.active.segment);
        match segment.file.sync_data() {
            Ok(()) => {
                self.durable_through = self.next_batch - 1;
                self.step = Step::Durable;
                Ok(())
            }
            Err(error) => Err(self.poison(DiskError::new("sync", &segment.path, &error))),
        }
    }

    /// Completes the tokens of the batch in hand, in the order of their submission, and returns their number.
    pub fn complete(&mut self) -> usize {
        let count = self.in_hand.len();
        if !self.settle_batch() {
            return 0;
        }
        tell_all(self.in_hand.drain(..), &Ok(()));
        count
    }

    /// As [`complete`](Self::complete), but the tokens, all of which are to be completed with `Ok`, are left to the caller.
    pub(crate) fn take_durable(&mut self) -> Vec<T> {
        if self.settle_batch() { std::mem::take(&mut self.in_hand) } else { Vec::new() }
    }

    /// Number of tokens in hand.
    pub(crate) fn in_hand(&self) -> usize {
        self.in_hand.len()
    }

    /// Ends a batch that is durable; false if there is none. Its tokens are still in hand.
    fn settle_batch(&mut self) -> bool {
        if self.step != Step::Durable {
            return false;
        }
        self.step = Step::Idle;
        let mut state = self.shared.lock();
        Counters::add(&self.shared.counters.entries, self.placed.len());
        for Placed { index, number, offset, crc } in self.placed.drain(..) {
            state.index.written(index, number, self.active.sequence, offset, crc);
        }
        state.index.evict(self.shared.options.recent_bytes_max);
        drop(state);
        Counters::add(&self.shared.counters.batches, 1);
        Counters::add(&self.shared.counters.writes, self.in_hand.len());
        true
    }

    /// Writes, syncs and completes one batch, if anything is queued.
    ///
    /// # Errors
    /// As those of [`write_batch_durably`](Self::write_batch_durably).
    pub fn run_batch(&mut self) -> Result<usize, WalError> {
        self.write_batch_durably()?;
        Ok(self.complete())
    }

    /// One small piece of work that no caller waits for: removing a segment that is purged, or preparing a part of the
    /// next one. Returns true when something was done. Failing is no harm: it is tried again, or done without. A log that is
    /// being closed prepares nothing: the next start would only remove it.
    pub fn housekeep(&mut self) -> bool {
        if self.step != Step::Idle || self.require_running().is_err() {
            return false;
        }
        self.fetch_memory();
        self.remove_purged() || !self.is_closing() && (self.catch_up() || self.prepare() || self.write_index())
    }

    /// Has memory for entries to come got from the system by the thread that takes chores, if there is one.
    fn fetch_memory(&mut self) {
        match self.memory.as_ref().map(Receiver::try_recv) {
            Some(Err(TryRecvError::Empty)) => return,
            Some(Ok(memory)) => self.shared.lock().index.take_spare(memory),
            None | Some(Err(TryRecvError::Disconnected)) => {}
        }
        self.memory = None;
        if let Some(chores) = self.chores.as_ref().filter(|_| self.shared.lock().index.lacks_spare()) {
            let (made, memory) = sync_channel(1);
            // Should the thread be busy, there is a next time.
            self.memory = chores.try_send(Chore::Memory(made)).is_ok().then_some(memory);
        }
    }

    fn is_closing(&self) -> bool {
        matches!(self.shared.lock().phase, Phase::Closing)
    }

    /// Says on the media that everything so far is durable, so that later damage to the last batch cannot pass for a
    /// torn write. It is not synced, and the next batch overwrites it.
    pub fn mark(&mut self) {
        if self.marked || self.step != Step::Idle || self.must_roll || self.require_running().is_err() {
            return;
        }
        let Active { position, before, header, segment, .. } = &self.active;
        let sector = sole_sector(Role::Mark, self.next_batch, *before, header.salt, *position);
        if let Err(error) = segment.file.write_at(sector.content(), *position) {
            let error = DiskError::new("write", &segment.path, &error);
            self.poison(error);
        }
        self.marked = true;
    }

    /// Leaves the log in the state of a clean stop: marked and synced. What is still queued is completed as closed.
    ///
    /// # Errors
    /// The media failed.
    pub fn close(&mut self) -> Result<(), WalError> {
        self.shared.close();
        self.require_running()?;
        self.mark();
        self.require_running()?;
        let segment = Arc::clone(&self.active.segment);
        let synced = segment.file.sync_data().map_err(|error| DiskError::new("sync", &segment.path, &error));
        self.fail_all(&WalError::Closed);
        synced.map_err(|error| self.poison(error))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared<D::File, T>> {
        &self.shared
    }

    /// Fails once the log is poisoned, by this writer or by the handle; whatever is in hand then fails with it.
    fn require_running(&mut self) -> Result<(), WalError> {
        let error = match &self.shared.lock().phase {
            Phase::Open | Phase::Closing => return Ok(()),
            Phase::Poisoned(error) => error.clone(),
        };
        self.fail_all(&error);
        Err(error)
    }

    /// The end of this log, for this handle: every token is completed with the error, now and later.
    fn poison(&mut self, error: DiskError) -> WalError {
        let error = WalError::Poisoned(error);
        // Nor does who submits now hear of it before those whose writes are durable hear of theirs.
        self.settle_answers();
        self.shared.lock().phase = Phase::Poisoned(error.clone());
        self.fail_all(&error);
        error
    }

    /// Tells everybody whose write is in hand or queued, behind those whose writes are durable.
    fn fail_all(&mut self, error: &WalError) {
        self.settle_answers();
        self.step = Step::Idle;
        self.held = None;
        self.placed.clear();
        let queued = self.shared.give_up_queued();
        tell_all(self.in_hand.drain(..).chain(queued), &Err(error.clone()));
    }

    /// Waits until all are told whose writes are durable.
    fn settle_answers(&self) {
        if let Some(answers) = &self.answers {
            answers.settle();
        }
    }

    /// The writes of the next batch, and the commit index that is true of the log once they have taken effect. One that
    /// was noted later may speak of entries that a write still in the queue puts in the place of these.
    fn take_queued(&mut self) -> (Vec<Taken>, Option<u64>) {
        let mut state = self.shared.lock();
        let mut bytes = 0;
        let mut known = None;
        let mut batch = Vec::with_capacity(state.queue.len());
        while bytes < self.shared.options.batch_bytes_max
            && let Some(queued) = state.queue.pop_front()
        {
            // A single write may be as long as it is allowed to be; it then is the last one of its batch, so that no
            // batch is much longer than the longer of the two bounds.
            bytes += queued.bytes;
            state.queued_bytes -= queued.bytes;
            let Queued { work, payload, extent, first, committed, bytes: _, token } = queued;
            known = committed;
            self.in_hand.push(token);
            batch.push(Taken { work, payload, extent, first });
        }
        self.shared.queued.store(state.queue.len(), Ordering::Release);
        if state.queue.is_empty() {
            known = state.committed;
        }
        drop(state);
        let last = batch.last().and_then(|queued| queued.extent.last).map(|last| last.index);
        (batch, known.min(last))
    }

    /// Writes a batch as far as this step.
    fn write(&mut self, batch: &[Taken], committed: Option<u64>, step: Step) -> Result<(), Unwritten> {
        let records = batch.iter().map(|queued| queued.work.records()).sum();
        let payload = batch.iter().map(|queued| queued.payload).sum();
        let vote = batch.iter().rev().find_map(|queued| match &queued.work {
            Work::Vote(vote) => Some(vote.clone()),
            Work::Append { .. } | Work::Truncate { .. } | Work::Purge { .. } => None,
        });
        let vote = vote.or_else(|| self.vote.clone());
        let len = Encoder::batch_len(records, payload, vote.as_ref().map_or(0, Bytes::len)) as u64;
        // The last sector of a segment is kept for its seal.
        if self.must_roll || self.active.position + len + SECTOR as u64 > self.active.header.size {
            self.roll(len)?;
        }
        // Not before: the header of a new segment says what holds without this batch.
        self.vote = vote;
        self.committed = self.committed.max(committed);
        self.encode(batch, records, len as usize, step).map_err(Unwritten::Failed)
    }

    fn encode(&mut self, batch: &[Taken], records: usize, len: usize, step: Step) -> Result<(), DiskError> {
        let Active { position, before, .. } = self.active;
        self.encoder.begin(records, len, self.active.header.salt, position, before);
        for queued in batch {
            match &queued.work {
                Work::Vote(vote) => {
                    self.encoder.record(RecordKind::Vote, 0, NO_ID, vote);
                }
                Work::Append { entries, number } => {
                    let leader = |entry: &RawEntry| (entry.log_id.term, entry.log_id.node);
                    for run in entries.chunk_by(|one, next| leader(one) == leader(next)) {
                        run.first().into_iter().for_each(|first| self.active.ledger.append(first.log_id, run.len()));
                    }
                    for (entry, number) in entries.iter().zip(*number..) {
                        let (offset, crc) =
                            self.encoder.record(RecordKind::Entry, entry.kind, entry.log_id, &entry.payload);
                        let offset = position as u32 + offset;
                        self.placed.push(Placed { index: entry.log_id.index, number, offset, crc });
                    }
                }
                Work::Truncate { from } => {
                    let id = RawLogId { index: *from, ..NO_ID };
                    self.encoder.record(RecordKind::Truncate, 0, id, &[]);
                    self.active.ledger.record(RecordKind::Truncate, id);
                }
                Work::Purge { up_to, replace } => {
                    let kind = if *replace { RecordKind::Replace } else { RecordKind::Purge };
                    self.encoder.record(kind, 0, *up_to, &[]);
                    self.active.ledger.record(kind, *up_to);
                }
            }
            (self.extent, self.first_index) = (queued.extent, queued.first);
        }
        let trailer = Trailer {
            vote: self.vote.clone(),
            committed: self.committed,
            extent: self.extent,
            number: self.next_batch,
            durable_through: self.durable_through,
        };
        let (bytes, after) = self.encoder.end(&trailer);
        let segment = &self.active.segment;
        let (action, written) = match step {
            Step::Durable => ("write and sync", segment.file.write_durably_at(bytes, position)),
            Step::Idle | Step::Written => ("write", segment.file.write_at(bytes, position)),
        };
        written.map_err(|error| DiskError::new(action, &segment.path, &error))?;
        Counters::add(&self.shared.counters.bytes, bytes.len());
        self.active.position += bytes.len() as u64;
        self.active.before = after;
        if step == Step::Durable {
            self.durable_through = self.next_batch;
        }
        self.step = step;
        self.next_batch += 1;
        self.marked = false;
        Ok(())
    }

    /// Goes on in a new segment that has room for a batch of `len` bytes. The old one is whole and durable: no batch is
    /// in hand, the new one carries its state, and only then the old one gets its seal.
    ///
    /// Until the new one has its name nothing has changed, so a full disk is no failure: all of it can be done again.
    fn roll(&mut self, len: u64) -> Result<(), Unwritten> {
        let meta = self.right.dir().meta();
        let wal = self.right.dir().wal_path();
        let sequence = self.active.sequence + 1;
        let area = SegmentHeader::area_len(self.vote.as_ref().map_or(0, Bytes::len)) as u64;
        let needed = area + len + SECTOR as u64;
        let spare = std::mem::replace(&mut self.spare, Spare::None).settle();
        let size = spare.ready_size().unwrap_or_else(|| self.next_size()).max(needed);
        let header = SegmentHeader {
            node_id: meta.node_id,
            incarnation: meta.incarnation,
            salt: salt(self.right.dir().random(), sequence.into()),
            sequence: sequence.into(),
            size,
            before: self.active.before,
            first_batch: self.next_batch,
            durable_through: self.durable_through,
            vote: self.vote.clone(),
            committed: self.committed,
            extent: self.extent,
            first_index: self.first_index,
        };
        let made = make_segment(self.right.dir().disk(), &wal, spare, &header, false);
        let segment = Arc::new(made.map_err(|error| match error.kind {
            io::ErrorKind::StorageFull => Unwritten::NoRoom,
            _ => Unwritten::Failed(error),
        })?);
        let ledger = std::mem::take(&mut self.active.ledger);
        if !self.must_roll {
            self.seal().map_err(Unwritten::Failed)?;
            let Active { header, position, before, .. } = &self.active;
            self.indexes.push(ledger.close(header, *position, self.next_batch, *before));
        }
        Counters::add(&self.shared.counters.segments_begun, 1);
        self.shared.lock().segments.insert(sequence, Arc::clone(&segment));
        let before = header.before;
        self.active = Active { sequence, header, position: area, before, segment, ledger: Ledger::default() };
        self.must_roll = false;
        self.marked = false;
        Ok(())
    }

    fn seal(&self) -> Result<(), DiskError> {
        let Active { position, before, header, segment, .. } = &self.active;
        let sector = sole_sector(Role::Seal, self.next_batch, *before, header.salt, *position);
        let failed = |action, error| DiskError::new(action, &segment.path, &error);
        segment.file.write_at(sector.content(), *position).map_err(|error| failed("write", error))?;
        segment.file.sync_data().map_err(|error| failed("sync", error))
    }

    /// Size of the segment after the active one.
    fn next_size(&self) -> u64 {
        (self.active.header.size.saturating_mul(2)).min(self.shared.options.segment_bytes)
    }

    /// Removes the oldest segment, if no live entry is in it or before it and what took its entries is durable. Votes and
    /// all else that it holds stand in the header of the segment behind it.
    fn remove_purged(&mut self) -> bool {
        let state = self.shared.lock();
        let Some(oldest) = state.segments.first_key_value().map(|(sequence, _)| *sequence) else { return false };
        // What memory says is ahead of the media by what is queued. The purge itself must be on the media, if there was
        // one, and so must the first live entry be, or everything.
        let first = state.index.first_segment();
        let settled = state.index.extent().purged == self.extent.purged
            && (first.is_some() || state.queue.is_empty() && self.held.is_none());
        let live = first.unwrap_or(self.active.sequence).min(self.active.sequence);
        if !settled || oldest >= live {
            return false;
        }
        drop(state);
        let wal = self.right.dir().wal_path();
        let path = wal.join(segment_name(oldest));
        // First the index: one without its segment says nothing to anybody, and would stay for ever.
        self.indexes.forget(oldest);
        if remove_index(self.right.dir().disk(), &wal, oldest).is_err() {
            return false;
        }
        let spare = std::mem::replace(&mut self.spare, Spare::None);
        let (spare, gone) = spare.recycle(self.right.dir().disk(), &wal, &path, self.next_size());
        self.spare = spare;
        if gone {
            Counters::add(&self.shared.counters.segments_removed, 1);
            self.shared.lock().segments.remove(&oldest);
        }
        gone
    }

    /// Several steps at once towards indexes, where more segments are closed than they are made for: with long batches, there are
    /// fewer batches than steps.
    fn catch_up(&mut self) -> bool {
        (0..CATCH_UP_STEPS).take_while(|_| self.indexes.are_many() && self.write_index()).count() > 0
    }

    /// Makes a part of the index of a segment that was closed.
    fn write_index(&mut self) -> bool {
        if self.indexes.lacks_places() {
            self.indexes.look_up(&self.shared.lock().index);
            return true;
        }
        let dir = self.right.dir();
        self.indexes.step(dir.disk(), &dir.wal_path(), self.shared.options.prepare_step_bytes)
    }

    /// A piece of work for when nothing has been written for a while: preparing the next segment. Returns true while there is
    /// more of it.
    pub(crate) fn use_leisure(&mut self) -> bool {
        let Active { position, header: SegmentHeader { size, .. }, .. } = self.active;
        if self.step != Step::Idle || position < size / 4 || self.require_running().is_err() || self.is_closing() {
            return false;
        }
        // The thread that takes chores may be busy with memory, and takes no zeroes then.
        let more = self.prepare_up_to(self.next_size());
        more || matches!(self.spare, Spare::Zeroing { .. }) || self.memory.is_some()
    }

    /// Prepares the next segment: overwriting blocks that were written before saves each flush a change of the file's
    /// metadata. Its room is reserved at once; it is zeroed when the log has leisure, and at the latest, while the second
    /// half of the active one fills, a little faster than that. One that had another use cannot be used before all of it is zeroed, and
    /// has to be ready in any case: it is, when the active one is half full.
    fn prepare(&mut self) -> bool {
        let Active { position, header: SegmentHeader { size, .. }, .. } = self.active;
        let target = self.next_size();
        let used = matches!(self.spare, Spare::Growing { used: true, .. } | Spare::Zeroing { used: true, .. });
        let share = if used { 2 * position } else { (2 * position).saturating_sub(size) * 5 / 4 };
        let wanted = (u128::from(target) * u128::from(share) / u128::from(size)) as u64;
        let reserve = matches!(self.spare, Spare::None | Spare::NoRoom);
        self.prepare_up_to(if reserve { 1 } else { wanted.min(target) })
    }

    fn prepare_up_to(&mut self, wanted: u64) -> bool {
        let Active { position, header: SegmentHeader { size, .. }, .. } = self.active;
        let target = self.next_size();
        let spare = std::mem::replace(&mut self.spare, Spare::None);
        let (spare, done) = spare.step(
            self.right.dir().disk(),
            &self.right.dir().wal_path(),
            target,
            wanted,
            self.shared.options.prepare_step_bytes,
            self.chores.as_ref(),
        );
        self.spare = spare;
        // While there is no room for the next segment, what is left of this one is kept for votes, truncations and purges.
        let no_room = matches!(self.spare, Spare::NoRoom);
        self.set_full(self.held.is_some() || no_room && position > size / 2);
        done
    }
}

/// How many steps are taken at once towards indexes that are late: about what one of a long segment takes.
const CATCH_UP_STEPS: usize = 16;

/// Log id of records that have none.
const NO_ID: RawLogId = RawLogId { term: 0, node: None, index: 0 };
