//! A plain blocking store behind the adapter: what it owes, and what happens when it fails.

use std::future::poll_fn;
use std::io;
use std::ops::Deref;
use std::panic::resume_unwind;
use std::pin::{Pin, pin};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use raftwright_core::{RaftEntry, WriteId};
use raftwright_traits::testing::{
    NotOffered, PowerSwitch, StoreBuilder, Suite, Survives, TestData, TestMachine, TestShelf, Work,
};
use raftwright_traits::{
    BlockingLog, BlockingLogOptions, BlockingLogStore, Entry, FlushSink, IOFlushed, Incarnation, LogIndex, LogState,
    RaftLogReader, RaftLogStorage, StorageError, StorageErrorKind, Vote, VoteOf,
};

use crate::wrong_stores::disk::{Disk, Handle};
use crate::{Id, TestConfig, entry, id};

#[derive(Clone)]
enum Record {
    Vote(VoteOf<TestConfig>),
    Append(Vec<Entry<TestConfig>>),
    Truncate(LogIndex),
    Purge(Id),
    Committed(Id),
    Born(Incarnation),
}

/// A gate that a store waits at.
#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    moved: Condvar,
}

#[derive(Default)]
struct GateState {
    shut: bool,
    /// Whether the store waits at it.
    waits: bool,
}

impl Gate {
    fn set(&self, shut: bool) {
        self.state.lock().unwrap().shut = shut;
        self.moved.notify_all();
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.waits = true;
        self.moved.notify_all();
        state = self.moved.wait_while(state, |state| state.shut).unwrap();
        state.waits = false;
    }

    /// Waits until the store waits at it.
    fn reached(&self) {
        drop(self.moved.wait_while(self.state.lock().unwrap(), |state| !state.waits).unwrap());
    }
}

/// The test's hold on a gate, which is open when this is gone. A log waits for its store when it is dropped, so a test that fails
/// with the gate shut would hang instead: this is to be dropped before the log, that is, declared after it.
struct Hold(Arc<Gate>);

impl Deref for Hold {
    type Target = Gate;

    fn deref(&self) -> &Gate {
        &self.0
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// As plain as it gets. What is written it keeps as records; what it reads it plays back.
struct Plain {
    handle: Handle<Record>,
    vote: Option<VoteOf<TestConfig>>,
    purged: Option<Id>,
    committed: Option<Id>,
    incarnation: Option<Incarnation>,
    entries: Vec<Entry<TestConfig>>,
    /// Before it flushes.
    gate: Arc<Gate>,
    /// Before it reads.
    read_gate: Arc<Gate>,
    /// Most entries that one read gives.
    read_max: usize,
    /// Panics instead of the next flush.
    panics: bool,
    /// How many appends each flush was for.
    batches: Arc<Mutex<Vec<usize>>>,
    appends: usize,
    /// Told when the store is closed.
    closed: Arc<Mutex<bool>>,
}

impl Plain {
    fn open(disk: &Disk<Record>, incarnation: u64) -> Self {
        let (handle, records) = disk.open();
        let mut store = Self {
            handle,
            vote: None,
            purged: None,
            committed: None,
            incarnation: None,
            entries: Vec::new(),
            gate: Arc::default(),
            read_gate: Arc::default(),
            read_max: usize::MAX,
            panics: false,
            batches: Arc::default(),
            appends: 0,
            closed: Arc::default(),
        };
        if records.is_empty() {
            store.keep(Record::Born(Incarnation(incarnation))).unwrap();
            store.flush().unwrap();
        }
        records.into_iter().for_each(|record| store.play(record));
        store
    }

    fn play(&mut self, record: Record) {
        match record {
            Record::Vote(vote) => self.vote = Some(vote),
            Record::Append(entries) => {
                let next = entries[0].log_id.index;
                assert!(self.entries.last().is_none_or(|last| last.log_id.index + 1 == next), "a gap before {next}");
                self.entries.extend(entries);
            }
            Record::Truncate(since) => self.entries.retain(|entry| entry.log_id.index < since),
            Record::Purge(upto) => {
                assert!(self.purged < Some(upto), "purged back");
                self.entries.retain(|entry| entry.log_id.index > upto.index);
                self.purged = Some(upto);
            }
            Record::Committed(committed) => self.committed = Some(committed),
            Record::Born(incarnation) => self.incarnation = Some(incarnation),
        }
    }

    fn keep(&mut self, record: Record) -> Result<(), StorageError> {
        self.handle.write(record.clone())?;
        self.play(record);
        Ok(())
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        *self.closed.lock().unwrap() = true;
    }
}

impl BlockingLogStore<TestConfig> for Plain {
    fn get_log_state(&mut self) -> Result<LogState<TestConfig>, StorageError> {
        Ok(LogState {
            last_purged_log_id: self.purged,
            last_log_id: self.entries.last().map(RaftEntry::log_id).or(self.purged),
            incarnation: self.incarnation,
        })
    }

    fn read_vote(&mut self) -> Result<Option<VoteOf<TestConfig>>, StorageError> {
        Ok(self.vote)
    }

    fn read(
        &mut self,
        start: LogIndex,
        end: LogIndex,
        bytes_max: usize,
    ) -> Result<Vec<Entry<TestConfig>>, StorageError> {
        self.read_gate.pass();
        let mut bytes = 0;
        let entries = self.entries.iter().filter(|entry| (start..end).contains(&entry.log_id.index));
        let fitting = entries.enumerate().take_while(|(i, entry)| {
            bytes += entry.size();
            *i == 0 || bytes <= bytes_max
        });
        Ok(fitting.take(self.read_max).map(|(_, entry)| entry.clone()).collect())
    }

    fn save_vote(&mut self, vote: &VoteOf<TestConfig>) -> Result<(), StorageError> {
        self.keep(Record::Vote(*vote))
    }

    fn append(&mut self, entries: &[Entry<TestConfig>]) -> Result<(), StorageError> {
        self.appends += 1;
        self.keep(Record::Append(entries.to_vec()))
    }

    fn truncate(&mut self, since: LogIndex) -> Result<(), StorageError> {
        self.keep(Record::Truncate(since))
    }

    fn purge(&mut self, upto: Id) -> Result<(), StorageError> {
        self.keep(Record::Purge(upto))
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        self.gate.pass();
        assert!(!self.panics, "told to panic");
        self.batches.lock().unwrap().push(std::mem::take(&mut self.appends));
        self.handle.sync()
    }

    fn save_committed(&mut self, committed: Id) -> Result<(), StorageError> {
        self.keep(Record::Committed(committed))
    }

    fn read_committed(&mut self) -> Result<Option<Id>, StorageError> {
        Ok(self.committed)
    }
}

fn on_a_thread(work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
    std::thread::Builder::new().name("raft-log".into()).spawn(work).map(drop)
}

fn start(store: Plain) -> BlockingLog<TestConfig> {
    BlockingLog::start(store, BlockingLogOptions::default(), on_a_thread).unwrap()
}

/// A test that comes to its end, or fails. Where the log is wrong, whoever uses it may wait for ever, and a test that does is noticed by
/// nobody; so each is run on a thread of its own, which is given up after a minute. A minute is for ever here.
fn ends<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let (end, ended) = sync_channel(1);
    let run = std::thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(test());
        end.send(()).unwrap();
    });
    match ended.recv_timeout(Duration::from_secs(60)) {
        Ok(()) => {}
        Err(RecvTimeoutError::Timeout) => panic!("somebody waits for ever"),
        Err(RecvTimeoutError::Disconnected) => resume_unwind(run.join().unwrap_err()),
    }
}

/// Plain stores behind the adapter, on disks whose power can be cut.
#[derive(Default)]
struct Adapted {
    options: BlockingLogOptions,
    opened: Mutex<u64>,
}

impl StoreBuilder<TestConfig> for Adapted {
    type LogStore = BlockingLog<TestConfig>;
    type StateMachine = TestMachine<TestConfig>;
    type Media = (Disk<Record>, TestShelf<TestConfig>);

    async fn media(&self) -> Result<Self::Media, StorageError> {
        Ok((Disk::new(), TestShelf::default()))
    }

    async fn open(
        &self,
        (disk, shelf): &mut Self::Media,
    ) -> Result<(Self::LogStore, Self::StateMachine), StorageError> {
        let mut opened = self.opened.lock().unwrap();
        *opened += 1;
        let log = BlockingLog::start(Plain::open(disk, *opened), self.options, on_a_thread)?;
        Ok((log, TestMachine::new(shelf.clone())))
    }

    fn survives(&self) -> Survives {
        Survives::Everything
    }

    fn data(&self, number: u64) -> Bytes {
        Bytes::test_data(number)
    }

    fn node_id(&self, number: u64) -> u64 {
        number
    }

    fn power(&self, (disk, _): &Self::Media) -> Option<Arc<dyn PowerSwitch>> {
        Some(Arc::new(disk.clone()))
    }

    fn spawn(&self, work: Work) -> Result<(), NotOffered> {
        std::thread::spawn(work);
        Ok(())
    }
}

/// The adapter adds to a plain store what a node needs, and takes nothing from it.
#[test]
fn a_plain_store_behind_the_adapter_passes_the_suite() {
    let report = Suite::test_all(Adapted::default()).unwrap();
    assert_eq!(report.skipped, []);
}

/// The same with nothing in memory but what is not flushed, and batches of one write: everything else comes from the
/// store's thread.
#[test]
fn a_plain_store_behind_the_adapter_passes_the_suite_with_nothing_in_memory() {
    let options = BlockingLogOptions { recent_bytes_max: 0, batch_bytes_max: 1, ..BlockingLogOptions::default() };
    Suite::test_all(Adapted { options, ..Adapted::default() }).unwrap();
}

/// The bounds of the queue hold while the disk hangs: an append beyond them stops the log, and all that was taken before
/// is completed.
#[test]
fn an_append_beyond_the_bound_of_the_queue_stops_the_log() {
    ends(|| async {
        let store = Plain::open(&Disk::new(), 1);
        let (gate, told) = (Arc::clone(&store.gate), Arc::new(Told::default()));
        gate.set(true);
        let options = BlockingLogOptions { queue_writes_max: 10, ..BlockingLogOptions::default() };
        let mut log = BlockingLog::start(store, options, on_a_thread).unwrap();
        let gate = Hold(gate);
        let mut taken = 0;
        while told.count() == 0 {
            taken += 1;
            log.append(vec![entry(1, taken)], told.token(taken));
            assert!(taken < 100, "the queue is not bounded");
        }
        log.save_vote(&Vote::new(2, 1), told.token(1000));
        gate.set(false);
        let told = told.wait(taken as usize + 1);
        let failed: Vec<u64> = told.iter().filter(|(_, result)| result.is_err()).map(|(write, _)| *write).collect();
        assert_eq!(failed, [taken, 1000], "{told:?}");
    });
}

#[derive(Default)]
struct Told {
    told: Mutex<Vec<(u64, Result<(), StorageErrorKind>)>>,
    more: Condvar,
}

impl FlushSink for Told {
    fn flushed(&self, write: WriteId, result: Result<(), StorageError>) {
        self.told.lock().unwrap().push((write.0, result.map_err(|error| error.kind)));
        self.more.notify_all();
    }
}

impl Told {
    fn token(self: &Arc<Self>, write: u64) -> IOFlushed {
        IOFlushed::new(WriteId(write), Arc::clone(self) as Arc<dyn FlushSink>)
    }

    fn count(&self) -> usize {
        self.told.lock().unwrap().len()
    }

    /// Waits until that many writes were told of.
    fn wait(&self, count: usize) -> Vec<(u64, Result<(), StorageErrorKind>)> {
        self.more.wait_while(self.told.lock().unwrap(), |told| told.len() < count).unwrap().clone()
    }
}

/// While a flush hangs, nothing is completed, everything can be read, and nobody waits.
#[test]
fn a_hanging_flush_holds_up_tokens_and_nothing_else() {
    ends(|| async {
        let store = Plain::open(&Disk::new(), 1);
        let (gate, told) = (Arc::clone(&store.gate), Arc::new(Told::default()));
        gate.set(true);
        let mut log = start(store);
        let gate = Hold(gate);
        log.save_vote(&Vote::new_committed(1, 1), told.token(0));
        gate.reached();
        for index in 1..=100 {
            log.append(vec![entry(1, index)], told.token(index));
        }
        log.truncate(51, told.token(101));
        let mut reader = log.get_log_reader().await;
        assert_eq!(reader.try_get_log_entries(..).await.unwrap().len(), 50);
        assert_eq!(log.get_log_state().await.unwrap().last_log_id, Some(id(1, 50)));
        assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new_committed(1, 1)));
        assert_eq!(told.count(), 0);
        gate.set(false);
        let told = told.wait(102);
        assert_eq!(told, (0..=101).map(|write| (write, Ok(()))).collect::<Vec<_>>(), "in the order of submission");
    });
}

/// Dropping the log finishes what was submitted and closes the store, so that it can be opened again.
#[test]
fn dropping_the_log_finishes_what_was_submitted() {
    ends(|| async {
        let (disk, told) = (Disk::new(), Arc::new(Told::default()));
        let store = Plain::open(&disk, 1);
        let closed = Arc::clone(&store.closed);
        let mut log = start(store);
        for index in 1..=500 {
            log.append(vec![entry(1, index)], told.token(index));
        }
        log.save_committed(Some(id(1, 400)));
        let mut reader = log.get_log_reader().await;
        drop(log);
        assert!(*closed.lock().unwrap());
        assert_eq!(told.count(), 500);
        disk.cut(raftwright_traits::testing::Loss::Everything);
        let mut log = start(Plain::open(&disk, 2));
        assert_eq!(log.get_log_state().await.unwrap().last_log_id, Some(id(1, 500)));
        assert_eq!(log.read_committed().await.unwrap(), Some(id(1, 400)));
        assert_eq!(log.get_log_state().await.unwrap().incarnation, Some(Incarnation(1)));
        assert_eq!(log.try_get_log_entries(..).await.unwrap().len(), 500, "from the store's thread");
        assert_eq!(reader.try_get_log_entries(..).await.unwrap().len(), 500, "what is in memory outlives the store");
    });
}

/// After a store has panicked, every token that it held or gets is an error, and dropping the log does not hang.
#[test]
fn a_store_that_panics_fails_every_write() {
    ends(|| async {
        let mut store = Plain::open(&Disk::new(), 1);
        store.panics = true;
        let (gate, told) = (Arc::clone(&store.gate), Arc::new(Told::default()));
        gate.set(true);
        let mut log = start(store);
        log.append(vec![entry(1, 1)], told.token(1));
        gate.set(false);
        told.wait(1);
        log.append(vec![entry(1, 2)], told.token(2));
        let told = told.wait(2);
        assert!(told.iter().all(|(_, result)| result.is_err()), "{told:?}");
        drop(log);
    });
}

/// An append that leaves a gap stops the log: the order of writes is a promise.
#[test]
fn an_append_that_leaves_a_gap_stops_the_log() {
    ends(|| async {
        let told = Arc::new(Told::default());
        let mut log = start(Plain::open(&Disk::new(), 1));
        log.append(vec![entry(1, 1)], told.token(0));
        told.wait(1);
        log.append(vec![entry(1, 3)], told.token(1));
        log.append(vec![entry(1, 2)], told.token(2));
        let told = told.wait(3);
        assert_eq!(told, [(0, Ok(())), (1, Err(StorageErrorKind::Write)), (2, Err(StorageErrorKind::Write))]);
        assert_eq!(log.try_get_log_entries(..).await.unwrap().len(), 1);
    });
}

/// The last log id after a truncation into what is no longer in memory is read from the store.
#[test]
fn a_truncation_into_what_is_not_in_memory_finds_the_last_log_id() {
    ends(|| async {
        let (disk, told) = (Disk::new(), Arc::new(Told::default()));
        let mut log = start(Plain::open(&disk, 1));
        log.append((1..=9).map(|index| entry(index, index)).collect(), told.token(0));
        drop(log);
        let mut log = start(Plain::open(&disk, 1));
        log.truncate(5, told.token(1));
        assert_eq!(log.get_log_state().await.unwrap().last_log_id, Some(id(4, 4)));
        log.append(vec![entry(20, 5), entry(20, 6)], told.token(2));
        let ids: Vec<Id> = log.try_get_log_entries(3..).await.unwrap().iter().map(RaftEntry::log_id).collect();
        assert_eq!(ids, [id(3, 3), id(4, 4), id(20, 5), id(20, 6)], "half from the store, half from memory");
    });
}

/// Without a thread there is no log, and nothing hangs.
#[test]
fn without_a_thread_there_is_no_log() {
    ends(|| async {
        let refused = BlockingLog::start(Plain::open(&Disk::new(), 1), BlockingLogOptions::default(), |_| {
            Err(io::Error::other("no threads left"))
        });
        assert!(refused.unwrap_err().message.contains("no threads left"));
        // A thread that never begins is one that has ended.
        let told = Arc::new(Told::default());
        let mut log = BlockingLog::start(Plain::open(&Disk::new(), 1), BlockingLogOptions::default(), |work| {
            drop(work);
            Ok(())
        })
        .unwrap();
        log.append(vec![entry(1, 1)], told.token(0));
        assert_eq!(told.wait(1), [(0, Err(StorageErrorKind::Write))]);
    });
}

/// A log whose entries 1 to 9, of term 1, are in the store alone, and 10 and 11 in memory, too; and the gate before the
/// store's reads.
fn half_in_memory(read_max: usize, told: &Arc<Told>) -> (BlockingLog<TestConfig>, Hold) {
    let disk = Disk::new();
    let mut log = start(Plain::open(&disk, 1));
    log.append((1..=9).map(|index| entry(1, index)).collect(), told.token(0));
    drop(log);
    let mut store = Plain::open(&disk, 1);
    store.read_max = read_max;
    let gate = Hold(Arc::clone(&store.read_gate));
    let mut log = start(store);
    log.append((10..=11).map(|index| entry(1, index)).collect(), told.token(1));
    told.wait(2);
    (log, gate)
}

/// Begins to read; what comes from the store's thread is not waited for.
async fn begun<F: Future>(read: Pin<&mut F>) {
    let mut read = Some(read);
    poll_fn(|_| {
        let begun = read.take().map(|read| read.poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_ne!(begun, Some(false), "it has to wait for the store");
        Poll::Ready(())
    })
    .await;
}

/// A read that takes its first part from the store, and finds the second one replaced, begins again.
#[test]
fn a_read_that_a_truncation_overtakes_begins_again() {
    ends(|| async {
        let told = Arc::default();
        let (mut log, gate) = half_in_memory(usize::MAX, &told);
        gate.set(true);
        let mut reader = log.get_log_reader().await;
        let mut read = pin!(reader.try_get_log_entries(6..));
        begun(read.as_mut()).await;
        log.truncate(8, told.token(2));
        log.append((8..=12).map(|index| entry(2, index)).collect(), told.token(3));
        gate.set(false);
        told.wait(4);
        let ids: Vec<Id> = read.await.unwrap().iter().map(RaftEntry::log_id).collect();
        assert_eq!(ids, [id(1, 6), id(1, 7), id(2, 8), id(2, 9), id(2, 10), id(2, 11), id(2, 12)]);
    });
}

/// A read that takes several steps, and finds the next one purged, begins again behind it.
#[test]
fn a_read_that_a_purge_overtakes_begins_again() {
    ends(|| async {
        let told = Arc::default();
        let (mut log, gate) = half_in_memory(3, &told);
        gate.set(true);
        let mut reader = log.get_log_reader().await;
        let mut read = pin!(reader.try_get_log_entries(1..));
        begun(read.as_mut()).await;
        log.purge(id(1, 8), told.token(2));
        gate.set(false);
        told.wait(3);
        let ids: Vec<Id> = read.await.unwrap().iter().map(RaftEntry::log_id).collect();
        assert_eq!(ids, [id(1, 9), id(1, 10), id(1, 11)]);
    });
}

/// A limit counts what comes from the store and what comes from memory together.
#[test]
fn a_limit_counts_both_parts_of_a_read() {
    ends(|| async {
        let told = Arc::default();
        let (mut log, _) = half_in_memory(usize::MAX, &told);
        let size = entry(1, 1).size();
        for (start, count) in [(8, 2), (1, 3), (8, 3), (9, 1), (10, 1)] {
            let found = log.limited_get_log_entries(start, 12, count * size + 1).await.unwrap();
            assert_eq!(found.len(), count, "from {start} on");
        }
        let (mut in_steps, _) = half_in_memory(2, &Arc::default());
        assert_eq!(in_steps.try_get_log_entries(..).await.unwrap().len(), 11);
    });
}

/// A log whose store's thread hangs in the flush of a vote: nothing else waits for it.
fn hanging(options: BlockingLogOptions, told: &Arc<Told>) -> (BlockingLog<TestConfig>, Hold, Arc<Mutex<Vec<usize>>>) {
    let store = Plain::open(&Disk::new(), 1);
    store.batches.lock().unwrap().clear();
    let (gate, batches) = (Hold(Arc::clone(&store.gate)), Arc::clone(&store.batches));
    let mut log = BlockingLog::start(store, options, on_a_thread).unwrap();
    gate.set(true);
    log.save_vote(&Vote::new(2, 1), told.token(0));
    gate.reached();
    (log, gate, batches)
}

/// `queue_bytes_max`: while so many bytes wait, an append stops the log. Votes have a reserve as large again.
#[test]
fn an_append_beyond_the_bytes_of_the_queue_stops_the_log() {
    ends(|| async {
        let size = entry(1, 1).size();
        for (bytes, fit) in [(10 * size, 10), (10 * size + 1, 11), (size, 1)] {
            let told = Arc::new(Told::default());
            let options = BlockingLogOptions { queue_bytes_max: bytes, ..BlockingLogOptions::default() };
            let (mut log, gate, _) = hanging(options, &told);
            for index in 1..=fit {
                log.append(vec![entry(1, index)], told.token(index));
            }
            log.save_vote(&Vote::new(3, 1), told.token(100));
            assert_eq!(told.count(), 0, "{fit} fit into {bytes} bytes, and a vote besides");
            log.append(vec![entry(1, fit + 1)], told.token(101));
            assert_eq!(*told.told.lock().unwrap(), [(101, Err(StorageErrorKind::Write))], "one more does not");
            gate.set(false);
            let told = told.wait(fit as usize + 3);
            assert!(told[1..].iter().all(|(_, result)| result.is_ok()), "what was taken is written: {told:?}");
        }
    });
}

/// `batch_bytes_max`: a batch that holds so much takes no further write, however many wait.
#[test]
fn a_batch_takes_no_further_write_once_it_is_full() {
    ends(|| async {
        let size = entry(1, 1).size();
        for (bytes, expected) in
            [(3 * size, [0, 3, 3, 3, 1].as_slice()), (3 * size + 1, &[0, 4, 4, 2]), (1 << 30, &[0, 10])]
        {
            let told = Arc::new(Told::default());
            let options = BlockingLogOptions { batch_bytes_max: bytes, ..BlockingLogOptions::default() };
            let (mut log, gate, batches) = hanging(options, &told);
            for index in 1..=10 {
                log.append(vec![entry(1, index)], told.token(index));
            }
            gate.set(false);
            told.wait(11);
            assert_eq!(*batches.lock().unwrap(), expected, "{bytes} bytes");
        }
    });
}

/// `recent_bytes_max`: so much of what is flushed is in memory, and what is older comes from the store.
#[test]
fn older_entries_are_not_kept_in_memory() {
    ends(|| async {
        let told = Arc::new(Told::default());
        let size = entry(1, 1).size();
        let options = BlockingLogOptions { recent_bytes_max: 5 * size, ..BlockingLogOptions::default() };
        let store = Plain::open(&Disk::new(), 1);
        let gate = Arc::clone(&store.read_gate);
        let mut log = BlockingLog::start(store, options, on_a_thread).unwrap();
        let gate = Hold(gate);
        for index in 1..=20 {
            log.append(vec![entry(1, index)], told.token(index));
        }
        told.wait(20);
        gate.set(true);
        assert_eq!(log.try_get_log_entries(16..).await.unwrap().len(), 5, "without the store");
        let mut reader = log.get_log_reader().await;
        let mut read = pin!(reader.try_get_log_entries(15..));
        begun(read.as_mut()).await;
        gate.set(false);
        assert_eq!(read.await.unwrap().len(), 6);
    });
}

/// `READS_MAX`: reads beyond the bound are refused while the disk hangs, and those that nobody waits for any more make room.
#[test]
fn reads_that_wait_for_the_disk_are_bounded() {
    ends(|| async {
        const MAX: usize = 1 << 10;
        let told = Arc::default();
        let (mut log, gate) = half_in_memory(usize::MAX, &told);
        gate.set(true);
        let mut first = log.get_log_reader().await;
        let mut first = pin!(first.try_get_log_entries(1..=9));
        begun(first.as_mut()).await;
        gate.reached();
        let mut readers = Vec::new();
        for _ in 0..MAX {
            readers.push(log.get_log_reader().await);
        }
        let mut reads: Vec<_> = readers.iter_mut().map(|reader| Box::pin(reader.try_get_log_entries(1..=9))).collect();
        for read in &mut reads {
            begun(read.as_mut()).await;
        }
        // It is refused at once: one that was taken would wait for the store.
        let refused = pin!(log.try_get_log_entries(1..=9)).poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(&refused, Poll::Ready(Err(error)) if error.kind == StorageErrorKind::Read), "{refused:?}");
        assert_eq!(log.try_get_log_entries(10..).await.unwrap().len(), 2, "what is in memory is read all the same");
        drop(reads.pop());
        let mut another = log.get_log_reader().await;
        let mut another = pin!(another.try_get_log_entries(1..=9));
        begun(another.as_mut()).await;
        gate.set(false);
        for read in reads {
            assert_eq!(read.await.unwrap().len(), 9);
        }
        assert_eq!((first.await.unwrap().len(), another.await.unwrap().len()), (9, 9));
    });
}
