//! How long one caller waits for one durable append, beside a bare write and sync of as many bytes over zeroed blocks, taken
//! in turns, since a disk is not the same from one moment to the next.
//!
//! `cargo run --release -p raftwright-wal --example wal_latency -- [DIRECTORY]`

use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Instant;

use bytes::Bytes;
use raftwright_wal::{
    Completion, DataDir, DataDirOptions, Log, Op, Opened, RawEntry, RawLogId, RealDisk, WalError, WalOptions,
    WalThread, open,
};

struct Told(SyncSender<Result<(), WalError>>);

impl Completion for Told {
    fn complete(self, result: Result<(), WalError>) {
        let _ = self.0.send(result);
    }
}

#[expect(clippy::disallowed_methods, reason = "this measures the real disk by the real clock")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let parent = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let path = parent.join(format!("wal-latency-{}", std::process::id()));
    let dir = DataDir::open(RealDisk, &path, DataDirOptions { node_id: 1, random: 7 })?;
    let Opened { log, writer, .. } = open(Arc::new(dir), WalOptions::default())?;
    let thread = WalThread::spawn(writer)?;
    submit(&log, Op::Vote(Bytes::from_static(b"vote")))?;
    println!(
        "{:>8} {:>6} {:>9} {:>9} {:>9} {:>12} {:>12}",
        "payload", "batch", "p50 µs", "p99 µs", "max µs", "bare p50 µs", "bare p99 µs"
    );
    let bare = Bare::new(&parent.join(format!("wal-latency-{}.bare", std::process::id())))?;
    let mut next = 1;
    for (payload, batch, rounds) in
        [(100, 1, 10_000), (100, 16, 5_000), (1024, 1, 5_000), (1024, 16, 5_000), (1024, 256, 1_000)]
    {
        let (mut times, mut bare_times) = (Vec::with_capacity(rounds), Vec::with_capacity(rounds));
        for round in 0..rounds {
            let entries = (next..next + batch).map(|index| entry(index, payload)).collect();
            next += batch;
            let begun = Instant::now();
            submit(&log, Op::Append(entries))?;
            times.push(begun.elapsed().as_secs_f64() * 1e6);
            let begun = Instant::now();
            bare.write(round, payload * batch as usize)?;
            bare_times.push(begun.elapsed().as_secs_f64() * 1e6);
        }
        let of = |times: &mut Vec<f64>| {
            times.sort_by(f64::total_cmp);
            [0.5, 0.99, 1.0].map(|share| times[((times.len() - 1) as f64 * share) as usize])
        };
        let ([p50, p99, max], [bare_p50, bare_p99, _]) = (of(&mut times), of(&mut bare_times));
        println!("{payload:>8} {batch:>6} {p50:>9.1} {p99:>9.1} {max:>9.1} {bare_p50:>12.1} {bare_p99:>12.1}");
    }
    drop(thread);
    std::fs::remove_dir_all(&path)?;
    std::fs::remove_file(&bare.path)?;
    Ok(())
}

fn entry(index: u64, payload: usize) -> RawEntry {
    let log_id = RawLogId { term: 1, node: None, index };
    let mixed = (0..payload as u64).map(|at| (at.wrapping_mul(index).wrapping_mul(0x9E37_79B9) >> 7) as u8);
    RawEntry { kind: 0, log_id, payload: mixed.collect() }
}

fn submit(log: &Log<RealDisk, Told>, op: Op) -> Result<(), Box<dyn std::error::Error>> {
    let (sender, receiver) = sync_channel(1);
    log.submit(op, Told(sender)).map_err(|refused| refused.error)?;
    Ok(receiver.recv()??)
}

/// A file of zeroed blocks that is written from front to back.
struct Bare {
    path: PathBuf,
    file: std::fs::File,
}

const BARE_BYTES: usize = 64 << 20;

impl Bare {
    fn new(path: &Path) -> std::io::Result<Self> {
        let file = std::fs::File::options().read(true).write(true).create_new(true).open(path)?;
        (&file).write_all(&vec![0; BARE_BYTES])?;
        file.sync_all()?;
        Ok(Self { path: path.into(), file })
    }

    fn write(&self, round: usize, len: usize) -> std::io::Result<()> {
        let len = len.next_multiple_of(512);
        let at = round * len % (BARE_BYTES - len);
        (&self.file).seek(SeekFrom::Start(at as u64 / 512 * 512))?;
        (&self.file).write_all(&vec![0x5A; len])?;
        self.file.sync_data()
    }
}
