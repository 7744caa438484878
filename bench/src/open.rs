//! How long opening a log takes, by its length: segments that are closed are known by their index, and only the last one is read.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use raftwright_wal::{
    Completion, DataDir, DataDirOptions, Op, Opened, RawEntry, RawLogId, RealDisk, WalError, WalOptions, WalThread,
    open,
};

/// Lengths of the logs, in MiB of payload.
const LENGTHS: [u64; 4] = [16, 64, 256, 1024];
const ENTRY_BYTES: usize = 1024;
/// Entries in a batch.
const BATCH: u64 = 1024;

struct Told(SyncSender<()>);

impl Completion for Told {
    fn complete(self, result: Result<(), WalError>) {
        result.expect("the disk works");
        let _ = self.0.send(());
    }
}

/// Runs the measurement and prints its table.
pub fn run(args: &[String]) -> Result<(), String> {
    let dir = match args {
        [] => PathBuf::from("."),
        [name, dir] if name == "--dir" => PathBuf::from(dir),
        _ => return Err(crate::USAGE.to_owned()),
    };
    println!("| log | with indexes | all segments read |\n|---|---|---|");
    for length in LENGTHS {
        let root = tempfile::tempdir_in(&dir).map_err(|error| error.to_string())?;
        fill(root.path(), length << 20);
        let with = median(|| opened(root.path()));
        let without = median(|| {
            remove_indexes(root.path());
            opened(root.path())
        });
        println!("| {length} MiB | {:.1} ms | {:.1} ms |", millis(with), millis(without));
    }
    Ok(())
}

fn start(path: &Path) -> Opened<RealDisk, Told> {
    let data =
        DataDir::open(RealDisk, &path.join("node"), DataDirOptions { node_id: 1, random: 1 }).expect("a directory");
    open(Arc::new(data), WalOptions::default()).expect("a log")
}

fn fill(path: &Path, bytes: u64) {
    let Opened { log, writer, .. } = start(path);
    let end = log.end();
    let thread = WalThread::spawn(writer).expect("a thread");
    let payload = Bytes::from(vec![7; ENTRY_BYTES]);
    for batch in 0..bytes / ENTRY_BYTES as u64 / BATCH {
        let entry =
            |index| RawEntry { kind: 1, log_id: RawLogId { term: 0, node: None, index }, payload: payload.clone() };
        let (told, heard) = sync_channel(1);
        let op = Op::Append((batch * BATCH..(batch + 1) * BATCH).map(entry).collect());
        log.submit(op, Told(told)).map_err(|refused| refused.error).expect("room");
        heard.recv().expect("durable");
    }
    drop(thread);
    end.wait();
}

/// How long opening takes. Nothing is driven, so that nothing is written but what opening itself writes.
fn opened(path: &Path) -> Duration {
    let begin = Instant::now();
    let opened = start(path);
    let took = begin.elapsed();
    drop(opened);
    took
}

fn remove_indexes(path: &Path) {
    for file in std::fs::read_dir(path.join("node/wal")).expect("a directory") {
        let path = file.expect("a file").path();
        if path.extension().is_some_and(|extension| extension == "idx") {
            std::fs::remove_file(path).expect("it can go");
        }
    }
}

fn median(mut measure: impl FnMut() -> Duration) -> Duration {
    let mut times: Vec<Duration> = (0..5).map(|_| measure()).collect();
    times.sort();
    times[2]
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
