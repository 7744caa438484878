//! The log on a real disk.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use bytes::Bytes;
use raftwright_wal::testing::SimDisk;
use raftwright_wal::{
    Completion, DataDir, DataDirError, DataDirOptions, Log, Op, OpenError, Opened, RawEntry, RawLogId, RealDisk,
    SubmitError, WalError, WalOptions, WalThread, open,
};

#[derive(Debug)]
struct Told(std::sync::mpsc::SyncSender<Result<(), WalError>>);

impl Completion for Told {
    fn complete(self, result: Result<(), WalError>) {
        let _ = self.0.send(result);
    }
}

struct Node {
    log: Log<RealDisk, Told>,
    thread: WalThread<RealDisk, Told>,
}

fn start(path: &Path) -> Node {
    start_with(path, WalOptions::default())
}

fn start_with(path: &Path, options: WalOptions) -> Node {
    let dir = DataDir::open(RealDisk, path, DataDirOptions { node_id: 1, random: 42 }).unwrap();
    let Opened { log, writer, report } = open(Arc::new(dir), options).unwrap();
    assert_eq!(report.findings, [], "a clean stop leaves nothing to find");
    Node { log, thread: WalThread::spawn(writer).unwrap() }
}

impl Node {
    fn submit(&self, op: Op) -> Receiver<Result<(), WalError>> {
        let (sender, receiver) = sync_channel(1);
        self.log.submit(op, Told(sender)).map_err(|refused| refused.error).unwrap();
        receiver
    }

    fn done(&self, op: Op) {
        self.submit(op).recv().unwrap().unwrap();
    }

    fn stop(self) {
        let end = self.log.end();
        drop(self.thread);
        end.wait();
    }
}

fn entry(term: u64, index: u64, payload: &str) -> RawEntry {
    let log_id = RawLogId { term, node: Some(7), index };
    RawEntry { kind: 2, log_id, payload: Bytes::copy_from_slice(payload.as_bytes()) }
}

#[test]
fn a_log_comes_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node");
    let node = start(&path);
    node.done(Op::Vote(Bytes::from_static(b"term 1, me")));
    node.done(Op::Append(vec![entry(1, 1, "a"), entry(1, 2, ""), entry(1, 3, "c")]));
    node.done(Op::Truncate { from: 3 });
    node.done(Op::Vote(Bytes::from_static(b"term 2, you")));
    node.done(Op::Append(vec![entry(2, 3, "d"), entry(2, 4, "e")]));
    node.log.note_committed(3);
    node.done(Op::Purge { up_to: entry(1, 1, "").log_id });
    node.stop();

    let node = start(&path);
    assert_eq!(node.log.vote().unwrap(), "term 2, you");
    assert_eq!(node.log.extent().purged, Some(entry(1, 1, "").log_id));
    let expected = vec![entry(1, 2, ""), entry(2, 3, "d"), entry(2, 4, "e")];
    assert_eq!(node.log.read(2..100, usize::MAX).unwrap(), expected);
    assert_eq!(node.log.read(2..100, 1).unwrap(), expected[..2], "the limit counts payload bytes");
    assert_eq!(node.log.committed(), Some(3));
    assert!(node.log.read(1..3, 10).is_err(), "entry 1 is purged");
    node.stop();
}

#[test]
fn entries_are_readable_as_soon_as_they_are_submitted() {
    let dir = tempfile::tempdir().unwrap();
    let data = DataDir::open(RealDisk, dir.path(), DataDirOptions { node_id: 1, random: 1 }).unwrap();
    let Opened { log, mut writer, .. } = open(Arc::new(data), WalOptions::default()).unwrap();
    let (sender, receiver) = sync_channel(1);
    log.submit(Op::Append(vec![entry(0, 0, "x")]), Told(sender)).map_err(|refused| refused.error).unwrap();
    assert_eq!(log.read(0..9, 1000).unwrap(), [entry(0, 0, "x")]);
    writer.write_batch().unwrap();
    assert!(receiver.try_recv().is_err(), "written is not durable");
    writer.sync().unwrap();
    writer.complete();
    receiver.try_recv().unwrap().unwrap();
}

#[test]
fn segments_roll_over_and_go_when_purged() {
    let dir = tempfile::tempdir().unwrap();
    let options = WalOptions { segment_bytes: 64 << 10, recent_bytes_max: 0, ..WalOptions::default() };
    let segments = || {
        let names = std::fs::read_dir(dir.path().join("wal")).unwrap();
        names.filter(|name| name.as_ref().unwrap().file_name().to_string_lossy().ends_with(".seg")).count()
    };
    let node = start_with(dir.path(), options);
    node.done(Op::Vote(Bytes::from_static(b"v")));
    let big = "x".repeat(200 << 10);
    for index in 1..=300 {
        let payload = if index == 150 { big.as_str() } else { "0123456789abcdef".repeat(64).leak() };
        node.done(Op::Append(vec![entry(1, index, payload)]));
    }
    assert!(segments() > 5, "{}", segments());
    let all = node.log.read(1..301, usize::MAX).unwrap();
    assert_eq!((all.len(), all[149].payload.len()), (300, 200 << 10));
    node.stop();
    let node = start_with(dir.path(), options);
    assert_eq!(node.log.read(1..301, usize::MAX).unwrap(), all);
    node.done(Op::Purge { up_to: entry(1, 299, "").log_id });
    node.done(Op::Append(vec![entry(1, 301, "y")]));
    node.stop();
    assert!(segments() <= 2, "{}", segments());
    let node = start_with(dir.path(), options);
    assert_eq!(node.log.read(300..302, usize::MAX).unwrap().len(), 2);
    node.stop();
}

#[test]
fn what_cannot_be_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path());
    let refused = |op| {
        let (sender, _receiver) = sync_channel(1);
        node.log.submit(op, Told(sender)).unwrap_err().error
    };
    assert_eq!(refused(Op::Append(vec![entry(3, 1, "")])), SubmitError::NoVote { term: 3 });
    assert_eq!(refused(Op::Append(vec![])), SubmitError::Empty);
    node.done(Op::Vote(Bytes::from_static(b"v")));
    node.done(Op::Append(vec![entry(1, 1, ""), entry(1, 2, "")]));
    assert_eq!(refused(Op::Append(vec![entry(1, 4, "")])), SubmitError::Gap { expected: 3, got: 4 });
    node.done(Op::Purge { up_to: entry(1, 1, "").log_id });
    assert_eq!(refused(Op::Truncate { from: 1 }), SubmitError::TruncatePurged { from: 1, purged: 1 });
    assert!(matches!(refused(Op::Vote(vec![0; 65537].into())), SubmitError::TooLarge { .. }));
    node.stop();
}

#[test]
fn a_data_directory_that_is_not_ours_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d");
    let options = DataDirOptions { node_id: 1, random: 5 };
    let node = start(&path);
    let locked = DataDir::open(RealDisk, &path, options).unwrap_err();
    assert!(matches!(locked, DataDirError::Locked { .. }), "{locked}");
    node.stop();
    let wrong = DataDir::open(RealDisk, &path, DataDirOptions { node_id: 2, random: 5 }).unwrap_err();
    assert!(matches!(wrong, DataDirError::WrongNode { found: 1, asked: 2, .. }), "{wrong}");

    let open_dir = || DataDir::open(RealDisk, &path, options).unwrap();
    let first = open_dir();
    first.set_cluster_id(9).unwrap();
    first.set_cluster_id(9).unwrap();
    assert!(matches!(first.set_cluster_id(8), Err(DataDirError::WrongCluster { found: 9, asked: 8, .. })));
    let before = first.identity();
    drop(first);
    let after = open_dir().identity();
    assert_eq!((after.cluster_id, after.incarnation), (Some(9), 42));
    assert_eq!(after.boot_epoch, before.boot_epoch + 1);

    std::fs::remove_dir_all(path.join("wal")).unwrap();
    let lost = open::<_, Told>(Arc::new(open_dir()), WalOptions::default()).unwrap_err();
    assert!(matches!(lost, OpenError::DataLoss { .. }), "{lost}");

    let foreign = dir.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("letter.txt"), "dear").unwrap();
    let refused = DataDir::open(RealDisk, &foreign, options).unwrap_err();
    assert!(matches!(refused, DataDirError::NotOurs { .. }), "{refused}");
    assert!(std::fs::read_dir(&foreign).unwrap().count() == 1, "nothing was made in it");

    let path = dir.path().join("e");
    start(&path).stop();
    std::fs::remove_file(path.join("meta")).unwrap();
    let refused = DataDir::open(RealDisk, &path, options).unwrap_err();
    assert!(matches!(refused, DataDirError::MetaMissing { .. }), "{refused}");
}

#[test]
fn one_log_has_one_writer() {
    let root = tempfile::tempdir().unwrap();
    let dir = Arc::new(DataDir::open(RealDisk, root.path(), DataDirOptions { node_id: 1, random: 1 }).unwrap());
    let first = open::<_, Told>(Arc::clone(&dir), WalOptions::default()).unwrap();
    let second = open::<_, Told>(Arc::clone(&dir), WalOptions::default()).unwrap_err();
    assert!(matches!(second, OpenError::DataDir(DataDirError::Locked { .. })), "{second}");
    drop(first);
    open::<_, Told>(dir, WalOptions::default()).unwrap();
}

#[test]
fn a_driver_is_told_of_work() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::open(RealDisk, root.path(), DataDirOptions { node_id: 1, random: 1 }).unwrap();
    let Opened { log, mut writer, .. } = open(Arc::new(dir), WalOptions::default()).unwrap();
    let told = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&told);
    writer.on_work(Arc::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
    }));
    for round in 1..=3 {
        for _ in 0..5 {
            let (sender, _receiver) = sync_channel(1);
            log.submit(Op::Vote(Bytes::from_static(b"v")), Told(sender)).map_err(|refused| refused.error).unwrap();
        }
        assert_eq!(told.load(Ordering::Relaxed), round, "once for each time that the queue was empty");
        assert_eq!(writer.run_batch().unwrap(), 5);
    }
}

/// Of two that join it to different clusters at once, one is told that it has, and that one is right.
#[test]
fn a_data_directory_joins_one_cluster() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    const ROUNDS: usize = 2500;
    let open_dir = |seed| {
        let options = DataDirOptions { node_id: 1, random: 1 };
        DataDir::open(SimDisk::new(seed), std::path::Path::new("/node"), options).unwrap()
    };
    let dirs: Vec<_> = (0..ROUNDS as u64).map(open_dir).collect();
    let arrived = AtomicUsize::new(0);
    let join_all = |cluster: u128| -> Vec<bool> {
        let join = |(round, dir): (usize, &DataDir<SimDisk>)| {
            // Both threads leave together, as closely as can be.
            arrived.fetch_add(1, Ordering::AcqRel);
            for spin in 1u32.. {
                match arrived.load(Ordering::Acquire) < 2 * (round + 1) {
                    true if spin.is_multiple_of(1 << 14) => std::thread::yield_now(),
                    true => std::hint::spin_loop(),
                    false => break,
                }
            }
            dir.set_cluster_id(cluster).is_ok()
        };
        dirs.iter().enumerate().map(join).collect()
    };
    let (first, second) = std::thread::scope(|scope| {
        let other = scope.spawn(|| join_all(2));
        (join_all(1), other.join().unwrap())
    });
    for ((dir, first), second) in dirs.iter().zip(first).zip(second) {
        assert!(first != second, "one of them, and only one");
        assert_eq!(dir.identity().cluster_id, Some(if first { 1 } else { 2 }));
    }
}

/// What the log has done can be read by anybody, while it is done.
#[test]
fn a_log_counts_what_it_does() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path());
    node.done(Op::Vote(Bytes::from_static(b"v")));
    node.done(Op::Append((1..=10).map(|index| entry(1, index, "0123456789")).collect()));
    let metrics = node.log.metrics();
    assert_eq!((metrics.batches, metrics.writes, metrics.entries), (2, 2, 10));
    assert_eq!((metrics.flush_times.count(), metrics.queue_writes, metrics.queue_bytes), (2, 0, 0));
    assert!(metrics.bytes >= 10 * (10 + 2 * 44) && metrics.bytes.is_multiple_of(512), "{metrics:?}");
    assert!(metrics.recent_bytes >= 100 && metrics.segments == 1, "{metrics:?}");
    node.stop();
}
