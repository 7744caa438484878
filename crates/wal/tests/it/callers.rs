//! Callers that wait for their writes, and write them themselves where nobody else does.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use raftwright_wal::testing::SimDisk;
use raftwright_wal::{
    Afterwards, Callers, Completion, DataDir, DataDirOptions, Disk, Log, Op, Opened, RawEntry, RealDisk, Waiter,
    Waiting, WalError, WalOptions, WalThread, open,
};

use crate::hang::{HangDisk, Hangs};
use crate::harness::{OPTIONS, ROOT, entry};

/// What became of a write, and on which thread that was said.
type Said = (u64, ThreadId, Result<(), WalError>);

/// Says what became of its write, and does something else then, if so.
struct Token {
    index: u64,
    told: SyncSender<Said>,
    then: Option<Box<dyn FnOnce() + Send>>,
}

impl Completion for Token {
    fn complete(self, result: Result<(), WalError>) {
        let _ = self.told.send((self.index, thread::current().id(), result));
        if let Some(then) = self.then {
            then();
        }
    }
}

/// What is said next. Whoever is forgotten waits for ever; a minute is for ever here.
fn hear(heard: &Receiver<Said>) -> Said {
    heard.recv_timeout(Duration::from_secs(60)).expect("nobody is forgotten")
}

/// Waits until this holds.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let held = (0..1_000_000).any(|_| {
        thread::yield_now();
        holds()
    });
    assert!(held, "{what}");
}

fn token(index: u64, told: &SyncSender<Said>) -> Token {
    Token { index, told: told.clone(), then: None }
}

fn append(index: u64) -> Op {
    Op::Append(vec![entry(0, index, 300)])
}

fn opened<D: Disk>(disk: D, path: &Path, options: WalOptions) -> (Log<D, Token>, WalThread<D, Token>) {
    let dir = DataDir::open(disk, path, DataDirOptions { node_id: 1, random: 42 }).unwrap();
    let Opened { log, writer, .. } = open(Arc::new(dir), options).unwrap();
    (log, WalThread::spawn(writer).unwrap())
}

/// Appends until the calling thread has written one by itself, and returns the index behind it. The log's thread may be at
/// work when a write comes, of its own; then it is asked once more.
fn write_until_alone<D: Disk>(wal: &WalThread<D, Token>, first: u64) -> u64 {
    let (told, heard) = sync_channel(1);
    for index in first..first + 5_000 {
        wal.submit(append(index), token(index, &told)).map_err(|refused| refused.error).unwrap().write();
        let (said, by, result) = hear(&heard);
        assert_eq!(said, index);
        result.unwrap();
        if by == thread::current().id() {
            return index + 1;
        }
    }
    panic!("a caller that is alone never wrote by itself");
}

fn check<D: Disk>(log: &Log<D, Token>, end: u64) {
    let entries = log.read(1..end, usize::MAX).unwrap();
    assert_eq!(entries.len() as u64, end - 1);
    entries.iter().zip(1..).for_each(|(read, index)| assert_eq!(*read, entry(0, index, 300)));
}

#[test]
fn a_caller_that_is_alone_writes_by_itself_and_what_it_wrote_is_there() {
    let root = tempfile::tempdir().unwrap();
    let (log, wal) = opened(RealDisk, root.path(), OPTIONS);
    let mut next = 1;
    for _ in 0..100 {
        next = write_until_alone(&wal, next);
    }
    check(&log, next);
    let metrics = log.metrics();
    assert_eq!((metrics.writes, metrics.flush_times.count(), metrics.queue_writes), (next - 1, metrics.batches, 0));
    let end = log.end();
    drop(wal);
    end.wait();
    drop(log);
    check(&opened(RealDisk, root.path(), OPTIONS).0, next);
}

/// Callers of all kinds at once: those who wait, those who do not, and those who change their minds. Nobody is forgotten,
/// nobody is told out of turn, and segments are changed under all of them.
#[test]
fn callers_of_all_kinds_share_a_log() {
    let root = tempfile::tempdir().unwrap();
    let options = WalOptions { first_segment_bytes: 16 << 10, segment_bytes: 64 << 10, ..OPTIONS };
    let (log, wal) = opened(RealDisk, root.path(), options);
    let (next, (all, order)) = (Mutex::new(1), sync_channel(12 * 150));
    thread::scope(|scope| {
        for kind in 0..12 {
            let (log, wal, next, all) = (&log, &wal, &next, all.clone());
            scope.spawn(move || {
                let (told, heard) = sync_channel(1);
                for round in 0..150 {
                    let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
                    let (op, index, all) = (append(*next), *next, all.clone());
                    let then = Box::new(move || all.send(index).unwrap());
                    let token = Token { then: Some(then), ..token(index, &told) };
                    *next += 1;
                    if kind % 3 == 0 {
                        log.submit(op, token).map_err(|refused| refused.error).unwrap();
                        drop(next);
                    } else {
                        let submitted = wal.submit(op, token).map_err(|refused| refused.error).unwrap();
                        drop(next);
                        if kind % 3 == 1 || round % 2 == 0 {
                            submitted.write();
                        }
                    }
                    let (said, _, result) = hear(&heard);
                    assert_eq!(said, index);
                    result.unwrap();
                }
            });
        }
    });
    drop(all);
    assert_eq!(order.iter().collect::<Vec<_>>(), (1..=12 * 150).collect::<Vec<_>>(), "in the order of submission");
    check(&log, 12 * 150 + 1);
    // Whoever is alone again writes alone again.
    write_until_alone(&wal, 12 * 150 + 1);
}

/// A log of one long segment on a simulated disk.
fn on_sim_disk() -> (SimDisk, Log<SimDisk, Token>, WalThread<SimDisk, Token>) {
    let disk = SimDisk::new(7);
    let (log, wal) = opened(disk.clone(), Path::new(ROOT), WalOptions { segment_bytes: 4 << 20, ..OPTIONS });
    (disk, log, wal)
}

/// True when the log's thread has said on the media that nothing comes behind the last batch: the last thing that it does
/// before it sleeps.
fn is_marked(disk: &SimDisk) -> bool {
    let content = disk.content(&Path::new(ROOT).join("wal/0000000001.seg")).unwrap();
    // The head of the last sector that was written: a mark has role 2.
    let mut heads = content.chunks(512).filter(|sector| sector.starts_with(b"RWBH"));
    heads.next_back().is_some_and(|sector| sector[4] == 2)
}

/// The log's thread does what follows from a caller's batch.
#[test]
fn what_can_wait_is_done_after_a_callers_batch_too() {
    let (disk, _log, wal) = on_sim_disk();
    let mut next = 1;
    for _ in 0..3 {
        next = write_until_alone(&wal, next);
        until("the end is marked", || is_marked(&disk));
    }
}

#[test]
fn a_write_that_its_caller_leaves_alone_is_written_all_the_same() {
    let (disk, _log, wal) = on_sim_disk();
    let (told, heard) = sync_channel(1);
    for index in 1..=20 {
        drop(wal.submit(append(index), token(index, &told)).map_err(|refused| refused.error).unwrap());
        let (said, by, result) = hear(&heard);
        result.unwrap();
        assert!(said == index && by != thread::current().id(), "not by the caller");
        if index % 2 == 0 {
            // Then the thread sleeps, and nothing but a caller wakes it.
            until("the end is marked", || is_marked(&disk));
        }
    }
}

/// The disk hangs under a caller that writes. It alone hangs, with the log's thread.
#[test]
fn a_caller_that_hangs_in_its_write_holds_up_nobody_who_submits() {
    let disk = HangDisk::new();
    let (log, wal) = opened(disk.clone(), Path::new(ROOT), OPTIONS);
    let next = write_until_alone(&wal, 1);
    let (told, heard) = sync_channel(3);
    disk.set(Hangs::AtSyncs);
    thread::scope(|scope| {
        let first = wal.submit(append(next), token(next, &told)).map_err(|refused| refused.error).unwrap();
        scope.spawn(move || first.write());
        log.submit(append(next + 1), token(next + 1, &told)).map_err(|refused| refused.error).unwrap();
        // Returns at once, since somebody else writes or is about to.
        until("somebody takes what is queued", || log.metrics().queue_writes <= 1);
        let last = wal.submit(append(next + 2), token(next + 2, &told)).map_err(|refused| refused.error).unwrap();
        last.write();
        assert!(heard.try_recv().is_err() && !log.is_full());
        disk.set(Hangs::Nowhere);
        assert_eq!([0; 3].map(|_| hear(&heard).0), [next, next + 1, next + 2]);
    });
}

/// A caller's code that panics when it is told takes the log with it, as it does on the log's own thread: everybody else is told so,
/// and nobody waits for ever.
#[test]
fn a_panic_in_a_caller_that_writes_ends_the_log() {
    let root = tempfile::tempdir().unwrap();
    let (log, wal) = opened(RealDisk, root.path(), OPTIONS);
    let mut next = write_until_alone(&wal, 1);
    let (told, heard) = sync_channel(1);
    let panicked = (0..5_000).any(|_| {
        let caller = thread::current().id();
        let then =
            Box::new(move || assert_ne!(thread::current().id(), caller, "panics on purpose, where it writes itself"));
        let token = Token { then: Some(then), ..token(next, &told) };
        next += 1;
        let submitted = wal.submit(append(next - 1), token).map_err(|refused| refused.error).unwrap();
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| submitted.write())).is_err() || {
            hear(&heard).2.unwrap();
            false
        }
    });
    assert!(panicked, "it never wrote by itself");
    hear(&heard).2.unwrap();
    until("the log ends", || log.end().is_over());
    for way in 0..2 {
        match way {
            0 => log.submit(append(next), token(next, &told)).map_err(|refused| refused.error).unwrap(),
            _ => wal.submit(append(next), token(next, &told)).map_err(|refused| refused.error).unwrap().write(),
        }
        assert!(matches!(hear(&heard).2, Err(WalError::Closed)));
    }
    drop((log, wal));
    check(&opened(RealDisk, root.path(), OPTIONS).0, next);
}

/// The media fails under a caller that writes: it is told like everybody else, and the log takes nothing more.
#[test]
fn a_caller_whose_write_fails_is_told() {
    let disk = SimDisk::new(3);
    let (log, wal) = opened(disk.clone(), Path::new(ROOT), OPTIONS);
    let next = write_until_alone(&wal, 1);
    let (told, heard): (_, Receiver<Said>) = sync_channel(1);
    disk.fail_sync(0);
    for index in [next, next + 1] {
        wal.submit(append(index), token(index, &told)).map_err(|refused| refused.error).unwrap().write();
        assert!(matches!(hear(&heard), (said, _, Err(WalError::Poisoned(_))) if said == index));
    }
    assert!(log.failure().is_some());
}

/// Waits on a thread of its own, so that whoever is forgotten does not make this test wait for ever.
fn wait(waiting: Waiting, said: &SyncSender<Result<(), WalError>>) {
    let said = said.clone();
    thread::spawn(move || said.send(waiting.wait()));
}

/// What was said to one who waits.
fn hear_one(heard: &Receiver<Result<(), WalError>>) -> Result<(), WalError> {
    heard.recv_timeout(Duration::from_secs(60)).expect("nobody is forgotten")
}

/// Many callers, each waiting for one write after the other, by themselves and by the log's thread: all are told, and all that they were
/// told of is there.
#[test]
fn callers_that_are_woken_together_are_all_woken() {
    const THREADS: u64 = 24;
    const EACH: u64 = 60;
    let dir = tempfile::tempdir().unwrap();
    let data = DataDir::open(RealDisk, &dir.path().join("node"), DataDirOptions { node_id: 1, random: 42 }).unwrap();
    let Opened { log, writer, .. } = open(Arc::new(data), WalOptions::default()).unwrap();
    let wal = Arc::new(WalThread::<RealDisk, Waiter>::spawn(writer).unwrap());
    let (callers, next) = (Callers::default(), Arc::new(Mutex::new(1)));
    let (said, heard) = sync_channel(THREADS as usize);
    for number in 0..THREADS {
        let (wal, callers, next, said) = (Arc::clone(&wal), callers.clone(), Arc::clone(&next), said.clone());
        thread::spawn(move || {
            for _ in 0..EACH {
                let (token, waiting) = callers.caller();
                let mut next = next.lock().unwrap();
                let submitted = wal.submit(append(*next), token).map_err(|refused| refused.error).unwrap();
                *next += 1;
                drop(next);
                if number % 3 == 0 {
                    drop(submitted)
                } else {
                    submitted.write()
                }
                waiting.wait().unwrap();
            }
            said.send(Ok(())).unwrap();
        });
    }
    for _ in 0..THREADS {
        hear_one(&heard).unwrap();
    }
    assert_eq!(log.extent().last.map(|last| last.index), Some(THREADS * EACH));
}

/// A log that fails or ends tells those who wait, and so does a token that nobody completes.
#[test]
fn callers_that_wait_are_told_of_every_end() {
    let disk = SimDisk::new(1);
    let data = DataDir::open(disk.clone(), Path::new(ROOT), DataDirOptions { node_id: 1, random: 42 }).unwrap();
    let Opened { mut writer, log, .. } = open::<_, Waiter>(Arc::new(data), OPTIONS).unwrap();
    let (callers, (said, heard)) = (Callers::default(), sync_channel(8));
    let submit = |index| {
        let (token, waiting) = callers.caller();
        wait(waiting, &said);
        log.submit(append(index), token).map_err(|refused| refused.error)
    };
    submit(1).unwrap();
    submit(2).unwrap();
    assert_eq!(writer.run_batch().unwrap(), 2);
    hear_one(&heard).unwrap();
    hear_one(&heard).unwrap();
    assert!(submit(9).is_err(), "there is a gap");
    assert!(matches!(hear_one(&heard), Err(WalError::Closed)), "its token is dropped");
    submit(3).unwrap();
    disk.fail_write(0);
    assert!(writer.run_batch().is_err());
    assert!(matches!(hear_one(&heard), Err(WalError::Poisoned(_))));
    submit(4).unwrap();
    assert!(matches!(hear_one(&heard), Err(WalError::Poisoned(_))), "who comes later is told at once");
}

/// A token that panics, or waits.
enum Mixed {
    Panics,
    Waits(Waiter),
}

impl Completion for Mixed {
    fn complete(self, result: Result<(), WalError>) {
        match self {
            Self::Panics => panic!("on purpose"),
            Self::Waits(waiter) => waiter.complete(result),
        }
    }

    fn complete_with(self, result: Result<(), WalError>, afterwards: &mut Afterwards) {
        match self {
            Self::Panics => panic!("on purpose"),
            Self::Waits(waiter) => waiter.complete_with(result, afterwards),
        }
    }
}

/// A panic of one caller's code takes the bell from nobody.
#[test]
fn callers_are_woken_beside_one_that_panics() {
    let disk = SimDisk::new(1);
    let data = DataDir::open(disk, Path::new(ROOT), DataDirOptions { node_id: 1, random: 42 }).unwrap();
    let Opened { mut writer, log, .. } = open(Arc::new(data), OPTIONS).unwrap();
    let (callers, (said, heard)) = (Callers::default(), sync_channel(8));
    for index in 1..=3 {
        let (token, waiting) = callers.caller();
        let token = if index == 2 {
            Mixed::Panics
        } else {
            wait(waiting, &said);
            Mixed::Waits(token)
        };
        log.submit(append(index), token).map_err(|refused| refused.error).unwrap();
    }
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| writer.run_batch()));
    assert!(panicked.is_err());
    hear_one(&heard).unwrap();
    hear_one(&heard).unwrap();
}

/// Callers who write for themselves do a little of what follows from their batches. What they leave is done before there is too much of
/// it: no segment that they close stays without its index, which the next start would have to read for want of it.
#[test]
fn callers_who_never_pause_leave_no_segment_without_its_index() {
    const EACH: u64 = 7000;
    const SEGMENTS: usize = 30;
    let root = tempfile::tempdir().unwrap();
    let data = DataDir::open(RealDisk, &root.path().join("node"), DataDirOptions { node_id: 1, random: 42 }).unwrap();
    let options = WalOptions { segment_bytes: 4 << 20, ..WalOptions::default() };
    let Opened { log, writer, .. } = open(Arc::new(data), options).unwrap();
    let wal = WalThread::<RealDisk, Waiter>::spawn(writer).unwrap();
    let (callers, payload) = (Callers::default(), entry(0, 1, 64).payload);
    let mut next = 1;
    while log.metrics().segments < SEGMENTS {
        let one = |index| RawEntry { payload: payload.clone(), ..entry(0, index, 0) };
        let (token, waiting) = callers.caller();
        let op = Op::Append((next..next + EACH).map(one).collect());
        next += EACH;
        wal.submit(op, token).map_err(|refused| refused.error).unwrap().write();
        waiting.wait().unwrap();
    }
    let is_index = |path: &Path| path.extension().is_some_and(|end| end == "idx");
    let mut made = 0;
    let all = (0..200_000).any(|_| {
        thread::yield_now();
        let names = std::fs::read_dir(root.path().join("node/wal")).unwrap();
        made = names.filter(|name| is_index(&name.as_ref().unwrap().path())).count();
        made + 1 >= SEGMENTS
    });
    assert!(all, "{made} indexes of {SEGMENTS} segments, the last of which needs none");
}
