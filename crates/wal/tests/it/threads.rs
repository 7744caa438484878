//! The threads of a log on a real disk: what one of them does beside the writer is never seen in what the log says.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use bytes::Bytes;
use raftwright_wal::{
    Completion, DataDir, DataDirOptions, Log, Op, Opened, RawEntry, RawLogId, RealDisk, WalError, WalOptions,
    WalThread, open,
};

/// Says its number, behind a gate if it has one.
struct Numbered {
    number: u64,
    told: SyncSender<u64>,
    gate: Option<Receiver<()>>,
}

impl Completion for Numbered {
    fn complete(self, result: Result<(), WalError>) {
        result.expect("the disk works");
        if let Some(gate) = self.gate {
            let _ = gate.recv();
        }
        let _ = self.told.send(self.number);
    }
}

type Opening = Opened<RealDisk, Numbered>;

fn opening(path: &std::path::Path, options: WalOptions) -> Opening {
    let dir = DataDir::open(RealDisk, path, DataDirOptions { node_id: 1, random: 42 }).unwrap();
    open(Arc::new(dir), options).unwrap()
}

fn payload(index: u64) -> Bytes {
    (0..1000).map(|at| (index * 31 + at) as u8).collect::<Vec<u8>>().into()
}

fn append(log: &Log<RealDisk, Numbered>, index: u64, told: &SyncSender<u64>, gate: Option<Receiver<()>>) {
    let log_id = RawLogId { term: 0, node: None, index };
    let entry = RawEntry { kind: 1, log_id, payload: payload(index) };
    let token = Numbered { number: index, told: told.clone(), gate };
    log.submit(Op::Append(vec![entry]), token).map_err(|refused| refused.error).unwrap();
}

/// A caller that is slow to hear of its write holds up neither the next batches nor the order in which callers are told, and
/// what is durable and untold is bounded.
#[test]
fn callers_are_told_in_order_while_the_next_batches_are_written() {
    let root = tempfile::tempdir().unwrap();
    let Opened { log, writer, .. } = opening(root.path(), WalOptions::default());
    let (told, heard) = sync_channel(200);
    let (open_gate, gate) = sync_channel(200);
    // All in one batch, since nobody writes yet.
    append(&log, 0, &told, Some(gate));
    (1..20).for_each(|index| append(&log, index, &told, None));
    let wal = WalThread::spawn(writer).unwrap();
    let batches_are = |count| {
        while log.metrics().batches < count {
            thread::yield_now();
        }
    };
    batches_are(1);
    // A single write behind them becomes durable, and is not told before them.
    append(&log, 20, &told, None);
    batches_are(2);
    assert!(heard.try_recv().is_err(), "nobody overtakes the first");
    // 4 batches wait besides the one that is being told and the one that was written last.
    for index in 21..200 {
        append(&log, index, &told, None);
        (0..100).for_each(|_| thread::yield_now());
        assert!(log.metrics().batches <= 4 + 2);
    }
    open_gate.send(()).unwrap();
    let order: Vec<u64> = heard.iter().take(200).collect();
    assert_eq!(order, (0..200).collect::<Vec<_>>());
    let end = log.end();
    drop(wal);
    end.wait();
}

/// Who waits for the end of a log finds that everybody was told whose write is durable.
#[test]
fn the_end_comes_when_all_are_told() {
    let root = tempfile::tempdir().unwrap();
    let Opened { log, writer, .. } = opening(root.path(), WalOptions::default());
    let (told, heard) = sync_channel(20);
    let (open_gate, gate) = sync_channel(1);
    append(&log, 0, &told, Some(gate));
    (1..20).for_each(|index| append(&log, index, &told, None));
    let (wal, end) = (WalThread::spawn(writer).unwrap(), log.end());
    while log.metrics().batches < 1 {
        thread::yield_now();
    }
    drop(wal);
    (0..20_000).for_each(|_| thread::yield_now());
    assert!(!end.is_over(), "somebody is still being told");
    open_gate.send(()).unwrap();
    end.wait();
    assert!(heard.try_iter().eq(0..20));
}

/// Segments follow each other so fast that each is begun while zeroes are still being written to the next. None of them lands on an entry.
#[test]
fn zeroes_never_land_on_entries() {
    let root = tempfile::tempdir().unwrap();
    let options = WalOptions {
        segment_bytes: 128 << 10,
        first_segment_bytes: 32 << 10,
        recent_bytes_max: 0,
        prepare_step_bytes: 4 << 10,
        ..WalOptions::default()
    };
    let Opened { log, writer, .. } = opening(root.path(), options);
    let wal = WalThread::spawn(writer).unwrap();
    let next = Arc::new(Mutex::new(0));
    thread::scope(|scope| {
        for _ in 0..12 {
            let (log, next) = (&log, Arc::clone(&next));
            scope.spawn(move || {
                let (told, heard) = sync_channel(200);
                for _ in 0..150 {
                    let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
                    append(log, *next, &told, None);
                    *next += 1;
                    drop(next);
                    heard.recv().unwrap();
                }
            });
        }
    });
    let check = |log: &Log<RealDisk, Numbered>| {
        let entries = log.read(0..1800, usize::MAX).unwrap();
        assert_eq!(entries.len(), 1800);
        entries.iter().zip(0..).for_each(|(entry, index)| assert_eq!(entry.payload, payload(index), "entry {index}"));
    };
    check(&log);
    let end = log.end();
    drop(wal);
    end.wait();
    drop(log);
    let Opened { log, report, .. } = opening(root.path(), options);
    assert_eq!(report.findings, []);
    check(&log);
}
