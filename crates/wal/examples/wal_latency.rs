//! How long one caller waits for one durable append, and how many entries a second go through.
//!
//! `cargo run --release -p raftwright-wal --example wal_latency -- [DIRECTORY]`

use std::path::PathBuf;
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

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let parent = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let path = parent.join(format!("wal-latency-{}", std::process::id()));
    let dir = DataDir::open(RealDisk, &path, DataDirOptions { node_id: 1, random: 7 })?;
    let Opened { log, writer, .. } = open(Arc::new(dir), WalOptions::default())?;
    let thread = WalThread::spawn(writer)?;
    submit(&log, Op::Vote(Bytes::from_static(b"vote")))?;
    println!("{:>8} {:>6} {:>9} {:>9} {:>9} {:>12}", "payload", "batch", "p50 µs", "p99 µs", "max µs", "entries/s");
    let mut next = 1;
    for (payload, batch, rounds) in
        [(100, 1, 20_000), (100, 16, 5_000), (1024, 1, 10_000), (1024, 16, 5_000), (1024, 256, 1_000)]
    {
        let begun = Instant::now();
        let mut times = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            let entries = (next..next + batch).map(|index| entry(index, payload)).collect();
            next += batch;
            let begun = Instant::now();
            submit(&log, Op::Append(entries))?;
            times.push(begun.elapsed().as_secs_f64() * 1e6);
        }
        let rate = (rounds as u64 * batch) as f64 / begun.elapsed().as_secs_f64();
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        println!("{payload:>8} {batch:>6} {:>9.1} {:>9.1} {:>9.1} {rate:>12.0}", at(0.5), at(0.99), at(1.0));
    }
    drop(thread);
    std::fs::remove_dir_all(&path)?;
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
