//! Durable logs: entries of 1 KiB, appended and synced. All competitors take turns in every round, so that what else the
//! machine does hits all of them; a figure is the median of the rounds.

mod bare;
mod engine;
mod ours;
mod raftlog;

use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

/// Size of an entry's payload.
const ENTRY_BYTES: usize = 1024;
/// Payloads that take turns.
const PAYLOADS: usize = 1024;

/// How a log is used.
#[derive(Clone, Copy)]
struct Load {
    callers: usize,
    batch: usize,
}

const LOADS: [Load; 4] = [
    Load { callers: 1, batch: 1 },
    Load { callers: 1, batch: 16 },
    Load { callers: 1, batch: 256 },
    Load { callers: 64, batch: 1 },
];

/// A log that is open.
trait Session: Sync {
    /// Appends so many entries and returns when they are durable. Called by one thread for each caller.
    fn append(&self, caller: usize, batch: usize);
}

/// A system that is measured.
struct Competitor {
    name: &'static str,
    open: fn(&Path, Load) -> Box<dyn Session>,
}

const COMPETITORS: [Competitor; 9] = [
    Competitor { name: "raftwright-wal", open: ours::open },
    Competitor { name: "raftwright-wal, zeroed before", open: ours::open_zeroed },
    Competitor { name: "raftwright-wal, by its thread", open: ours::open_submitting },
    Competitor { name: "raftwright-wal, by its thread, zeroed before", open: ours::open_zeroed_submitting },
    Competitor { name: "bare loop", open: bare::open },
    Competitor { name: "bare loop, zeroing counted", open: bare::open_unzeroed },
    Competitor { name: "raft-engine, no compression", open: engine::open_plain },
    Competitor { name: "raft-engine, lz4, text", open: engine::open_compressing },
    Competitor { name: "raft-log", open: raftlog::open },
];

/// Bytes that do not compress, different for each number.
fn noise() -> Vec<Bytes> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..PAYLOADS).map(|_| (0..ENTRY_BYTES / 8).flat_map(|_| next().to_le_bytes()).collect::<Vec<u8>>().into()).collect()
}

struct Options {
    rounds: usize,
    measured: Duration,
    dir: PathBuf,
    /// Parts of the names of those that are measured; all of them if none is said.
    only: Vec<String>,
    /// The column that is measured, counted from 1; all of them if not said.
    load: Option<usize>,
}

fn options(args: &[String]) -> Result<Options, String> {
    let mut options =
        Options { rounds: 15, measured: Duration::from_millis(300), dir: ".".into(), only: Vec::new(), load: None };
    let mut args = args.iter();
    while let Some(name) = args.next() {
        let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
        let number = || value.parse::<usize>().map_err(|error| format!("{name} {value}: {error}"));
        match name.as_str() {
            "--rounds" => options.rounds = number()?.max(1),
            "--millis" => options.measured = Duration::from_millis(number()? as u64),
            "--dir" => options.dir = value.into(),
            "--only" => options.only.push(value.clone()),
            "--load" => options.load = Some(number()?),
            _ => return Err(format!("{name} is unknown\n{}", crate::USAGE)),
        }
    }
    Ok(options)
}

/// Runs the measurement and prints its table.
pub fn run(args: &[String]) -> Result<(), String> {
    let options = options(args)?;
    let wanted = |name: &str| options.only.is_empty() || options.only.iter().any(|only| name.contains(only.as_str()));
    let competitors: Vec<&Competitor> = COMPETITORS.iter().filter(|competitor| wanted(competitor.name)).collect();
    let mut rates = vec![vec![Vec::new(); LOADS.len()]; competitors.len()];
    for round in 0..options.rounds {
        for (column, load) in LOADS.into_iter().enumerate() {
            if options.load.is_some_and(|only| only != column + 1) {
                continue;
            }
            for (row, competitor) in competitors.iter().enumerate() {
                let dir = tempfile::tempdir_in(&options.dir).map_err(|error| error.to_string())?;
                rates[row][column].push(measure(competitor, dir.path(), load, options.measured));
            }
        }
        eprintln!("round {} of {} done", round + 1, options.rounds);
    }
    println!("entries/s of {ENTRY_BYTES} bytes, durable; median of {} rounds (lowest to highest)\n", options.rounds);
    let heads = LOADS.map(|load| match load.callers {
        1 => format!("1 caller, batches of {}", load.batch),
        callers => format!("{callers} callers, batches of {}", load.batch),
    });
    println!("| log | {} |\n|---|{}", heads.join(" | "), "---|".repeat(LOADS.len()));
    for (row, competitor) in competitors.iter().enumerate() {
        let cells: Vec<String> = rates[row].iter_mut().map(|rates| cell(rates)).collect();
        println!("| {} | {} |", competitor.name, cells.join(" | "));
    }
    Ok(())
}

fn cell(rates: &mut [f64]) -> String {
    if rates.is_empty() {
        return "-".into();
    }
    rates.sort_by(f64::total_cmp);
    let [low, middle, high] = [rates[0], rates[rates.len() / 2], rates[rates.len() - 1]];
    format!("{middle:.0} ({low:.0} to {high:.0})")
}

/// Entries per second that become durable, after a warm-up.
fn measure(competitor: &Competitor, dir: &Path, load: Load, measured: Duration) -> f64 {
    let session = (competitor.open)(dir, load);
    let (counting, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let calls = AtomicU64::new(0);
    let ready = Barrier::new(load.callers + 1);
    let mut took = Duration::ZERO;
    thread::scope(|scope| {
        for caller in 0..load.callers {
            let (session, counting, stop, calls, ready) = (&session, &counting, &stop, &calls, &ready);
            scope.spawn(move || {
                ready.wait();
                while !stop.load(Ordering::Relaxed) {
                    session.append(caller, load.batch);
                    if counting.load(Ordering::Relaxed) {
                        calls.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        ready.wait();
        thread::sleep(measured / 3);
        counting.store(true, Ordering::Relaxed);
        let begin = Instant::now();
        thread::sleep(measured);
        stop.store(true, Ordering::Relaxed);
        took = begin.elapsed();
    });
    (calls.into_inner() * load.batch as u64) as f64 / took.as_secs_f64()
}
