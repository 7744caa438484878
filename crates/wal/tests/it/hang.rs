//! The disk hangs. Nobody but the log's own threads waits for it.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use raftwright_core::WriteId;
use raftwright_traits::{
    CommittedLeaderId, CommittedTerm, Entry, EntryPayload, FlushSink, IOFlushed, LogId, RaftLogReader, RaftLogStorage,
    StorageError, Vote,
};
use raftwright_wal::testing::SimDisk;
use raftwright_wal::{DataDir, DataDirOptions, Disk, DiskFile, Op, Opened, RawEntry, ReadError, WalLog, open};

use crate::harness::{Ack, OPTIONS, ROOT, entry as raw_entry};

raftwright_traits::declare_raft_types!(
    /// Bytes are what is asked.
    Standard: D = Bytes, R = (),
);

/// What a disk does when it is asked to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Hangs {
    #[default]
    Nowhere,
    AtReads,
    AtSyncs,
}

/// How far a write of zeroes has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Zeroes {
    /// None is held, and none will be.
    #[default]
    Pass,
    /// The next one will be.
    HoldNext,
    Held,
    Released,
    Written,
}

#[derive(Default)]
struct Gate {
    hangs: Mutex<Hangs>,
    changed: Condvar,
    /// One write of zeroes that is held.
    zeroes: Mutex<Zeroes>,
    /// What happens between the decision to read and the read, once each.
    before_reads: Mutex<VecDeque<Box<dyn FnOnce() + Send>>>,
}

/// A simulated disk whose reads or syncs do not return for as long as a test wants it.
#[derive(Clone)]
pub(crate) struct HangDisk {
    disk: SimDisk,
    gate: Arc<Gate>,
}

impl HangDisk {
    fn set_zeroes(&self, zeroes: Zeroes) {
        *self.gate.zeroes.lock().unwrap() = zeroes;
        self.gate.changed.notify_all();
    }

    fn wait_for_zeroes(&self, zeroes: Zeroes) {
        let now = self.gate.zeroes.lock().unwrap();
        drop(self.gate.changed.wait_while(now, |now| *now != zeroes).unwrap());
    }

    pub(crate) fn new() -> Self {
        Self { disk: SimDisk::new(1), gate: Arc::default() }
    }

    pub(crate) fn set(&self, hangs: Hangs) {
        *self.gate.hangs.lock().unwrap() = hangs;
        self.gate.changed.notify_all();
    }
}

pub(crate) struct HangFile {
    file: <SimDisk as Disk>::File,
    gate: Arc<Gate>,
}

impl HangFile {
    fn pass(&self, at: Hangs) {
        let hangs = self.gate.hangs.lock().unwrap();
        drop(self.gate.changed.wait_while(hangs, |hangs| *hangs == at).unwrap());
    }
}

impl Disk for HangDisk {
    type File = HangFile;
    type Lock = <SimDisk as Disk>::Lock;

    fn create(&self, path: &Path) -> io::Result<HangFile> {
        Ok(HangFile { file: self.disk.create(path)?, gate: Arc::clone(&self.gate) })
    }

    fn open(&self, path: &Path) -> io::Result<HangFile> {
        Ok(HangFile { file: self.disk.open(path)?, gate: Arc::clone(&self.gate) })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Self::Lock> {
        self.disk.lock(path)
    }
}

impl DiskFile for HangFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut zeroes = self.gate.zeroes.lock().unwrap();
        if *zeroes != Zeroes::HoldNext || bytes.iter().any(|byte| *byte != 0) {
            drop(zeroes);
            return self.file.write_at(bytes, offset);
        }
        *zeroes = Zeroes::Held;
        self.gate.changed.notify_all();
        let mut zeroes = self.gate.changed.wait_while(zeroes, |zeroes| *zeroes != Zeroes::Released).unwrap();
        let written = self.file.write_at(bytes, offset);
        *zeroes = Zeroes::Written;
        self.gate.changed.notify_all();
        written
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.pass(Hangs::AtReads);
        let before = self.gate.before_reads.lock().unwrap().pop_front();
        if let Some(before) = before {
            before();
        }
        self.file.read_at(buffer, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.pass(Hangs::AtSyncs);
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.file.allocate(len)
    }
}

/// Rings when a task is woken, or a write is told.
#[derive(Default)]
struct Bell {
    rung: Mutex<usize>,
    changed: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock().unwrap() += 1;
        self.changed.notify_all();
    }

    fn times(&self) -> usize {
        *self.rung.lock().unwrap()
    }

    fn wait_for(&self, times: usize) {
        let rung = self.rung.lock().unwrap();
        drop(self.changed.wait_while(rung, |rung| *rung < times).unwrap());
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }
}

impl FlushSink for Bell {
    fn flushed(&self, _: WriteId, result: Result<(), StorageError>) {
        result.unwrap();
        self.ring();
    }
}

fn poll<X>(future: Pin<&mut impl Future<Output = X>>, bell: &Arc<Bell>) -> Poll<X> {
    future.poll(&mut Context::from_waker(&Waker::from(Arc::clone(bell))))
}

fn entry(index: u64) -> Entry<Standard> {
    let log_id = LogId { leader_id: CommittedTerm::new(1, None), index };
    Entry { log_id, payload: EntryPayload::Normal(Bytes::from(vec![index as u8; 100])) }
}

/// A log with three durable entries, none of them in memory.
fn log(disk: &HangDisk) -> WalLog<Standard, HangDisk> {
    let options = DataDirOptions { node_id: 1, random: 5 };
    let dir = DataDir::open(disk.clone(), Path::new(ROOT), options).unwrap();
    let mut log = WalLog::<Standard, _>::open(Arc::new(dir), OPTIONS).unwrap().0;
    let bell = Arc::new(Bell::default());
    let token = |write| IOFlushed::new(WriteId(write), Arc::clone(&bell) as Arc<_>);
    log.save_vote(&Vote::new_committed(1, 1), token(0));
    log.append((1..=3).map(entry).collect(), token(1));
    bell.wait_for(2);
    log
}

/// The thread that polls is what a runtime of one thread is: it comes back from each read at once, and goes on with other
/// work, with what is in memory among it.
#[test]
fn a_reader_whose_disk_hangs_blocks_no_task() {
    let disk = HangDisk::new();
    let mut log = log(&disk);
    disk.set(Hangs::AtReads);
    let bell = Arc::new(Bell::default());
    let mut reader = {
        let mut future = pin!(log.get_log_reader());
        let Poll::Ready(reader) = poll(future.as_mut(), &bell) else { panic!("a reader is at hand") };
        reader
    };
    let mut second = reader.clone();
    let mut old = Box::pin(reader.try_get_log_entries(1..4));
    assert!(poll(old.as_mut(), &bell).is_pending(), "this waits, and its thread does not");
    let mut given_up = Box::pin(second.try_get_log_entries(2..3));
    assert!(poll(given_up.as_mut(), &bell).is_pending());
    drop(given_up);

    let written = Arc::new(Bell::default());
    log.save_vote(&Vote::new_committed(2, 1), IOFlushed::new(WriteId(2), Arc::clone(&written) as Arc<_>));
    written.wait_for(1);
    assert!(poll(pin!(log.read_vote()), &bell).is_ready(), "what is in memory is given at once");

    disk.set(Hangs::Nowhere);
    bell.wait_for(1);
    let Poll::Ready(entries) = poll(old.as_mut(), &bell) else { panic!("woken with the answer") };
    assert_eq!(entries.unwrap(), (1..=3).map(entry).collect::<Vec<_>>());
}

#[test]
fn dropping_a_log_whose_disk_hangs_returns() {
    let disk = HangDisk::new();
    let mut log = log(&disk);
    disk.set(Hangs::AtSyncs);
    let bell = Arc::new(Bell::default());
    log.append(vec![entry(4)], IOFlushed::new(WriteId(9), Arc::clone(&bell) as Arc<_>));
    let end = log.end();
    let mut ending = Box::pin(end.clone());
    assert!(poll(ending.as_mut(), &bell).is_pending());
    drop(log);
    assert!(!end.is_over(), "the writer is still in its sync");
    let options = DataDirOptions { node_id: 1, random: 5 };
    let second = DataDir::open(disk.clone(), Path::new(ROOT), options);
    assert!(second.is_err_and(|error| error.to_string().contains("locked")), "nobody else may write there yet");
    disk.set(Hangs::Nowhere);
    end.wait();
    bell.wait_for(2);
    assert!(poll(ending.as_mut(), &bell).is_ready(), "tasks are told, too");
    let dir = DataDir::open(disk.clone(), Path::new(ROOT), options).unwrap();
    let log = WalLog::<Standard, _>::open(Arc::new(dir), OPTIONS).unwrap().0;
    assert_eq!(log.raw().extent().last.unwrap().index, 4, "what was submitted was finished");
}

/// A segment whose entries are gone is used again, and a reader that is on its way there finds other bytes: as often as
/// that happens, it looks where the entries are now. Only what is still in its place is damaged.
#[test]
fn a_read_is_overtaken_again_and_again() {
    let disk = HangDisk::new();
    let dir = DataDir::open(disk.clone(), Path::new(ROOT), DataDirOptions { node_id: 1, random: 5 }).unwrap();
    let Opened { log, writer, .. } = open::<_, Ack>(Arc::new(dir), OPTIONS).unwrap();
    let writer = Arc::new(Mutex::new(writer));
    let done = {
        let (log, writer) = (log.clone(), Arc::clone(&writer));
        move |op| {
            log.submit(op, Ack::silent()).map_err(|refused| refused.error).unwrap();
            writer.lock().unwrap().run_batch().unwrap();
        }
    };
    let entries = |term| -> Vec<RawEntry> { (1..=3).map(|index| raw_entry(term, index, 100)).collect() };
    done(Op::Vote(vec![1].into()));
    done(Op::Append(entries(1)));
    let segment = Path::new(ROOT).join("wal/0000000001.seg");
    let gate = &disk.gate;
    for term in 2..=4 {
        let (done, disk, segment) = (done.clone(), disk.disk.clone(), segment.clone());
        let overtake = move || {
            let used = disk.content(&segment).unwrap().iter().rposition(|byte| *byte != 0).unwrap();
            done(Op::Truncate { from: 1 });
            done(Op::Append(entries(term)));
            disk.overwrite(&segment, 2048, &vec![0; used.saturating_sub(2048)]);
        };
        gate.before_reads.lock().unwrap().push_back(Box::new(overtake));
    }
    assert_eq!(log.read(1..4, usize::MAX).unwrap(), entries(4));
    assert!(gate.before_reads.lock().unwrap().is_empty(), "all of them came in between");

    disk.disk.overwrite(&segment, 1024, &vec![0; 7000]);
    let damaged = log.read(1..4, usize::MAX).unwrap_err();
    assert!(matches!(damaged, ReadError::Damaged { index: 1, .. }), "{damaged}");
}

/// Zeroes for the next segment hang in the disk when it is needed. It is waited for, and used: a file that is made in its place would
/// have no block that was written before.
#[test]
fn a_segment_to_which_zeroes_are_written_is_waited_for() {
    let disk = HangDisk::new();
    let dir = DataDir::open(disk.clone(), Path::new(ROOT), DataDirOptions { node_id: 1, random: 5 }).unwrap();
    let mut log = WalLog::<Standard, _>::open(Arc::new(dir), OPTIONS).unwrap().0;
    let bell = Arc::new(Bell::default());
    let token = |write| IOFlushed::new(WriteId(write), Arc::clone(&bell) as Arc<_>);
    disk.set_zeroes(Zeroes::HoldNext);
    log.save_vote(&Vote::new_committed(1, 1), token(0));
    log.append((1..=20).map(entry).collect(), token(1));
    bell.wait_for(2);
    disk.wait_for_zeroes(Zeroes::Held);
    log.append((21..=40).map(entry).collect(), token(2));
    (0..20_000).for_each(|_| std::thread::yield_now());
    assert_eq!(bell.times(), 2, "another segment was made");
    disk.set_zeroes(Zeroes::Released);
    bell.wait_for(3);
    assert_eq!(log.raw().metrics().segments, 2);
}

/// A log is dropped while zeroes for its next segment hang in the disk, and opened again. When the disk goes on, they land on nothing
/// that the second log has written, though it has made and filled segments under the same names.
#[test]
fn zeroes_of_a_log_that_is_gone_land_on_nothing() {
    let disk = HangDisk::new();
    let options = DataDirOptions { node_id: 1, random: 5 };
    let opened = || {
        let dir = DataDir::open(disk.clone(), Path::new(ROOT), options).unwrap();
        WalLog::<Standard, _>::open(Arc::new(dir), OPTIONS).unwrap().0
    };
    let bell = Arc::new(Bell::default());
    let token = |write| IOFlushed::new(WriteId(write), Arc::clone(&bell) as Arc<_>);
    let mut first = opened();
    disk.set_zeroes(Zeroes::HoldNext);
    first.save_vote(&Vote::new_committed(1, 1), token(0));
    // More than the half of a segment: the next one is zeroed.
    first.append((1..=20).map(entry).collect(), token(1));
    bell.wait_for(2);
    disk.wait_for_zeroes(Zeroes::Held);
    let end = first.end();
    drop(first);
    end.wait();

    let mut second = opened();
    for (write, from) in (21..200).step_by(10).enumerate() {
        second.append((from..from + 10).map(entry).collect(), token(write as u64));
        bell.wait_for(3 + write);
    }
    let segments =
        |disk: &SimDisk| disk.files().iter().filter(|path| path.extension().is_some_and(|end| end == "seg")).count();
    assert!(segments(&disk.disk) > 3, "the name of the spare was used again and again");
    disk.set_zeroes(Zeroes::Released);
    disk.wait_for_zeroes(Zeroes::Written);
    let held = |log: &WalLog<Standard, HangDisk>| log.raw().read(1..201, usize::MAX).unwrap().len();
    assert_eq!(held(&second), 200, "each with the checksum that it was written with");
    let end = second.end();
    drop(second);
    end.wait();
    assert_eq!(held(&opened()), 200);
}
