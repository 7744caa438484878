//! What callers who write themselves leave to the log's thread, and what they must not do in its place. Here, since these tests
//! wait until that thread sleeps, which nobody outside can see.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

use bytes::Bytes;

use super::WalThread;
use crate::data_dir::{DataDir, DataDirOptions};
use crate::error::WalError;
use crate::log::{Completion, Log};
use crate::options::WalOptions;
use crate::platform::Bell;
use crate::record::{Op, RawEntry, RawLogId};
use crate::testing::SimDisk;
use crate::writer::{Opened, open};

/// A write, and what became of it.
type Said = (u64, Result<(), WalError>);
type Wal = WalThread<SimDisk, Token>;

/// Does this when it is told.
struct Token(Box<dyn FnOnce(Result<(), WalError>) + Send>);

impl Completion for Token {
    fn complete(self, result: Result<(), WalError>) {
        self.0(result);
    }
}

fn token(index: u64, told: &SyncSender<Said>) -> Token {
    let told = told.clone();
    Token(Box::new(move |result| told.send((index, result)).unwrap()))
}

/// A token whose owner's code panics.
fn panics() -> Token {
    Token(Box::new(|_| panic!("on purpose")))
}

fn append(index: u64, len: usize) -> Op {
    let log_id = RawLogId { term: 0, node: None, index };
    Op::Append(vec![RawEntry { kind: 0, log_id, payload: Bytes::from(vec![7; len]) }])
}

fn opened(disk: &SimDisk) -> (Log<SimDisk, Token>, Wal) {
    let options = WalOptions { segment_bytes: 64 << 10, first_segment_bytes: 64 << 10, ..WalOptions::default() };
    let dir = DataDir::open(disk.clone(), Path::new("/node"), DataDirOptions { node_id: 1, random: 42 }).unwrap();
    let Opened { log, writer, .. } = open(Arc::new(dir), options).unwrap();
    (log, WalThread::spawn(writer).unwrap())
}

/// What is said next. Whoever is forgotten waits for ever; a minute is for ever here.
fn hear(heard: &Receiver<Said>) -> Said {
    heard.recv_timeout(Duration::from_secs(60)).expect("nobody is forgotten")
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let held = (0..10_000_000).any(|_| {
        thread::yield_now();
        holds()
    });
    assert!(held, "{what}");
}

/// Waits until the log's thread has nothing to do and nothing wakes it but a write.
fn until_asleep(log: &Log<SimDisk, Token>) {
    until("it sleeps", || log.shared.lock().asleep);
}

/// Submits and writes, as a caller does who waits.
fn write(wal: &Wal, op: Op, token: Token) {
    wal.submit(op, token).map_err(|refused| refused.error).unwrap().write();
}

fn submit(log: &Log<SimDisk, Token>, op: Op, token: Token) {
    log.submit(op, token).map_err(|refused| refused.error).unwrap();
}

/// A caller finds no room for its batch, which is longer than what was prepared. The log's thread, which sleeps and has seen
/// no reason to look at the disk again, looks from then on.
#[test]
fn a_batch_for_which_a_caller_found_no_room_is_tried_again() {
    let disk = SimDisk::new(1);
    let (log, wal) = opened(&disk);
    let (told, heard) = sync_channel(2);
    write(&wal, append(1, 300), token(1, &told));
    hear(&heard).1.unwrap();
    until_asleep(&log);
    disk.set_capacity(Some(0));
    write(&wal, append(2, 100_000), token(2, &told));
    assert!(log.is_full() && log.metrics().queue_writes == 0, "the caller has tried it");
    assert!(matches!(heard.try_recv(), Err(TryRecvError::Empty)), "and waits for room");
    disk.set_capacity(None);
    let (index, result) = hear(&heard);
    result.unwrap();
    assert_eq!(index, 2);
    until("there is room", || !log.is_full());
}

/// A caller takes its turn when room has come for a batch that waited for it, and writes that one; its own waits no longer for that.
#[test]
fn a_caller_that_writes_what_waited_for_room_does_not_forget_its_own() {
    let disk = SimDisk::new(1);
    let (log, wal) = opened(&disk);
    let (told, heard) = sync_channel(3);
    for round in 0..5 {
        let index = 1 + 2 * round;
        until_asleep(&log);
        disk.set_capacity(Some(0));
        write(&wal, append(index, 100_000), token(index, &told));
        disk.set_capacity(None);
        // Nobody refuses a vote while the disk is full.
        write(&wal, Op::Vote(Bytes::from_static(b"vote")), token(index + 1, &told));
        for index in [index, index + 1] {
            let (said, result) = hear(&heard);
            result.unwrap();
            assert_eq!(said, index);
        }
        until("there is room", || !log.is_full());
        submit(&log, append(index + 1, 10), token(0, &told));
        hear(&heard).1.unwrap();
    }
}

/// The media fails under a caller. The log ends, although nobody has closed it and its thread sleeps: whoever waits for the
/// right to open it again gets it.
#[test]
fn the_log_ends_when_the_media_fails_under_a_caller() {
    let disk = SimDisk::new(1);
    let (log, wal) = opened(&disk);
    let (told, heard) = sync_channel(1);
    until_asleep(&log);
    disk.fail_sync(0);
    write(&wal, append(1, 300), token(1, &told));
    assert!(matches!(hear(&heard), (1, Err(WalError::Poisoned(_)))));
    until("the log ends", || log.end().is_over());
    drop(wal);
}

/// Errors overtake nobody: the media fails, or somebody's code panics, while callers of the batch before are still being told that
/// theirs are durable.
#[test]
fn errors_are_told_behind_what_was_durable_before_them() {
    const MANY: u64 = 12;
    for media_fails in [true, false] {
        let disk = SimDisk::new(1);
        let (log, wal) = opened(&disk);
        let (told, heard) = sync_channel(MANY as usize + 2);
        let (open_gate, gate) = sync_channel(1);
        wal.seat.turn(|_| {
            let tell = told.clone();
            let slow = move |result| {
                gate.recv().unwrap();
                tell.send((1, result)).unwrap();
            };
            submit(&log, append(1, 10), Token(Box::new(slow)));
            (2..=MANY).for_each(|index| submit(&log, append(index, 10), token(index, &told)));
        });
        until("they are durable", || log.metrics().batches == 1);
        until_asleep(&log);
        let last = token(MANY + 1, &told);
        if media_fails {
            disk.fail_sync(0);
            submit(&log, append(MANY + 1, 10), last);
            until("the media fails", || disk.counts().faults == 1);
        } else {
            let (seat, others) = (Arc::clone(&wal.seat), log.clone());
            thread::spawn(move || {
                seat.turn(|_| {
                    submit(&others, append(MANY + 1, 10), last);
                    panic!("on purpose");
                })
            });
            until("the log is closed", || log.failure().is_some());
        }
        (0..10_000).for_each(|_| thread::yield_now());
        if media_fails {
            // Nor does who comes now, and is not even written.
            submit(&log, append(MANY + 2, 10), token(MANY + 2, &told));
        }
        assert!(matches!(heard.try_recv(), Err(TryRecvError::Empty)), "nobody overtakes the first");
        open_gate.send(()).unwrap();
        for index in 1..=MANY + 1 + u64::from(media_fails) {
            let (said, result) = hear(&heard);
            assert_eq!((said, result.is_ok()), (index, index <= MANY));
        }
        until("the log ends", || log.end().is_over());
    }
}

/// Who is told on the thread that tells, and writes then, never does it there: that thread would wait for itself as soon as as many
/// batches wait for it as may.
#[test]
fn who_is_told_and_writes_then_does_not_hold_up_the_thread_that_tells() {
    const MANY: u64 = 12;
    let (log, wal) = opened(&SimDisk::new(1));
    let wal = Arc::new(wal);
    let (told, heard) = sync_channel(2 * MANY as usize);
    let queue_many = |_: &mut _| {
        for index in 1..=MANY {
            let (told, seen, again) = (told.clone(), log.clone(), Arc::clone(&wal));
            let and_again = move |result| {
                told.send((index, result)).unwrap();
                // Asleep, or too many batches wait to be told already.
                until("nothing is written", || seen.shared.lock().wakes_at.is_some() || again.seat.untold() > 5);
                write(&again, append(MANY + index, 10), token(MANY + index, &told));
            };
            submit(&log, append(index, 10), Token(Box::new(and_again)));
        }
    };
    // In one batch: nobody takes it before all are queued.
    wal.seat.turn(queue_many);
    for index in 1..=2 * MANY {
        let (said, result) = hear(&heard);
        result.unwrap();
        assert_eq!(said, index, "in order");
    }
}

/// The code of some callers panics when they are told. Whoever shares their batch is told all the same, and what became of it,
/// whichever thread does it.
#[test]
fn nobody_is_forgotten_behind_a_caller_whose_code_panics() {
    for callers in [4, 10] {
        let (log, wal) = opened(&SimDisk::new(1));
        let (told, heard) = sync_channel(callers as usize);
        wal.seat.turn(|_| {
            submit(&log, append(1, 10), panics());
            submit(&log, append(2, 10), panics());
            (3..=callers).for_each(|index| submit(&log, append(index, 10), token(index, &told)));
        });
        for index in 3..=callers {
            let (said, result) = hear(&heard);
            result.unwrap();
            assert_eq!(said, index);
        }
    }
}

/// Nor when the log ends, by the media or by the panic itself.
#[test]
fn nobody_is_forgotten_behind_a_panic_when_the_log_ends() {
    for media_fails in [true, false] {
        let disk = SimDisk::new(1);
        let (log, wal) = opened(&disk);
        let (told, heard) = sync_channel(1);
        let others = log.clone();
        let tell = told.clone();
        let first = move |_| {
            if !media_fails {
                submit(&others, append(2, 10), panics());
                submit(&others, append(3, 10), token(3, &tell));
            }
            panic!("on purpose");
        };
        wal.seat.turn(|_| {
            submit(&log, append(1, 10), Token(Box::new(first)));
            if media_fails {
                disk.fail_sync(0);
                submit(&log, append(2, 10), panics());
                submit(&log, append(3, 10), token(3, &told));
            }
        });
        let (said, result) = hear(&heard);
        assert!(said == 3 && result.is_err());
        until("the log ends", || log.end().is_over());
    }
}

/// The thread that takes chores gets it, whoever adds entries does not wait for it, and without that thread the log goes on.
#[test]
fn memory_for_entries_to_come_is_got_by_another_thread() {
    let dir = DataDir::open(SimDisk::new(1), Path::new("/node"), DataDirOptions { node_id: 1, random: 42 }).unwrap();
    let Opened { log, mut writer, .. } = open::<_, Token>(Arc::new(dir), WalOptions::default()).unwrap();
    let (chores, jobs) = sync_channel(1);
    writer.hand_chores_to(chores);
    let mut add = |entries: std::ops::Range<u64>| {
        let entry =
            |index| RawEntry { kind: 0, log_id: RawLogId { term: 0, node: None, index }, payload: Bytes::new() };
        submit(&log, Op::Append(entries.map(entry).collect()), Token(Box::new(|result| assert!(result.is_ok()))));
        writer.run_batch().unwrap();
        writer.housekeep();
        log.shared.lock().index.lacks_spare()
    };
    assert!(!add(1..16_000), "a short log needs none");
    assert!(add(16_000..17_000) && add(17_000..17_001), "it comes later");
    for job in jobs.try_iter() {
        job.run();
    }
    assert!(!add(17_001..17_002));
    drop(jobs);
    assert!((1..=100).any(|at| add(17_002 * at..17_002 * (at + 1))), "nobody gets it any more, and the log goes on");
}

/// While memory is on its way, the zeroes of the next segment may have to wait for it: there is more to do.
#[test]
fn leisure_is_not_over_while_memory_is_on_its_way() {
    let dir = DataDir::open(SimDisk::new(1), Path::new("/node"), DataDirOptions { node_id: 1, random: 42 }).unwrap();
    let options = WalOptions { segment_bytes: 4 << 20, first_segment_bytes: 4 << 20, ..WalOptions::default() };
    let Opened { log, mut writer, .. } = open::<_, Token>(Arc::new(dir), options).unwrap();
    let (chores, jobs) = sync_channel(1);
    writer.hand_chores_to(chores);
    let entry = |index| RawEntry { kind: 0, log_id: RawLogId { term: 0, node: None, index }, payload: Bytes::new() };
    submit(&log, Op::Append((1..20_000).map(entry).collect()), Token(Box::new(|result| assert!(result.is_ok()))));
    writer.run_batch().unwrap();
    writer.housekeep();
    let mut chores_done = 0;
    let more = (0..100).take_while(|at| {
        // For a while that thread has other things to do.
        if *at > 10 {
            chores_done += jobs.try_iter().map(|job| job.run()).count();
        }
        writer.housekeep();
        writer.use_leisure()
    });
    assert!((11..100).contains(&more.count()), "it comes to an end, and not before");
    assert_eq!(chores_done, 3, "memory, and a segment in two pieces");
    assert!(!log.shared.lock().index.lacks_spare());
}

/// Whoever waits is woken by the first ring behind what it waits for, however the two fall together.
#[test]
fn nobody_misses_a_bell() {
    const ROUNDS: usize = 20_000;
    const WAITING: usize = 3;
    let (bell, round) = (Arc::new(Bell::default()), Arc::new(AtomicUsize::new(0)));
    let (heard, all) = sync_channel(WAITING);
    for _ in 0..WAITING {
        let (bell, round, heard) = (Arc::clone(&bell), Arc::clone(&round), heard.clone());
        thread::spawn(move || {
            for number in 1..=ROUNDS {
                bell.wait_until(|| (round.load(Ordering::Acquire) >= number).then_some(()));
                heard.send(number).unwrap();
            }
        });
    }
    for number in 1..=ROUNDS {
        round.store(number, Ordering::Release);
        bell.ring();
        for _ in 0..WAITING {
            // A minute is for ever here.
            assert_eq!(all.recv_timeout(Duration::from_secs(60)), Ok(number), "somebody was forgotten");
        }
    }
}

/// A ring between a look that was in vain and the wait behind it is heard. Elsewhere than here, a lock keeps the two together.
#[cfg(target_os = "linux")]
#[test]
fn a_bell_that_rings_between_look_and_wait_is_heard() {
    let (bell, looks) = (Bell::default(), AtomicUsize::new(0));
    let (heard, found) = sync_channel(1);
    thread::spawn(move || {
        let look = || {
            let looks = looks.fetch_add(1, Ordering::Relaxed);
            bell.ring();
            (looks == 9).then_some(looks)
        };
        heard.send(bell.wait_until(look)).unwrap();
    });
    assert_eq!(found.recv_timeout(Duration::from_secs(60)), Ok(9));
}
