//! Many small writes, in one process: three servers with real sockets and real files, one of them behind a slow link, with
//! snapshots and purges all the time. What the process holds in memory must not grow.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use raftwright::{Config, Server, SnapshotPolicy};
use tokio::task::JoinSet;

use crate::cli::{Failure, Table};
use crate::demo::memory::{Curve, resident};
use crate::demo::proxy::Proxy;
use crate::demo::story::Story;
use crate::demo::{Interrupts, PATIENCE, POLL};
use crate::store::{Command, Condition, KvStateMachine};

/// How many keys are written over and over.
const KEYS: u64 = 50_000;

/// How many writes are under way at a time.
const UNDER_WAY: u64 = 2_048;

/// Bytes a second that the link to the slow follower lets pass: less than what is written.
const SLOW_RATE: u64 = 1 << 20;

const SNAPSHOT_EVERY: u64 = 100_000;
const LOG_KEEP: u64 = 10_000;
const LOG_KEEP_FOR_FOLLOWERS: u64 = 300_000;

/// Most rows of the table.
const ROWS_SHOWN: u64 = 40;

type Servers = [Arc<Server<KvStateMachine>>; 3];

/// Makes so many writes.
///
/// # Errors
/// Memory grows, or a server fails; the sentence says what.
pub(super) async fn run(writes: u64) -> Result<(), Failure> {
    let mut interrupts = Interrupts::new()?;
    let story = Story::new();
    let failed = |error: std::io::Error| Failure::new(format!("cannot make a temporary directory: {error}"));
    let directory = tempfile::Builder::new().prefix("raftwright-memory-").tempdir().map_err(failed)?;
    let proxy = Proxy::new().await.map_err(|error| Failure::new(format!("cannot listen: {error}")))?;
    let servers = start(directory.path(), &proxy).await?;
    proxy.slow_to(SLOW_RATE);
    let outcome = tokio::select! {
        biased;
        () = interrupts.next() => Err(Failure::interrupted()),
        outcome = play(writes, &servers, directory.path(), &story) => outcome,
    };
    story.end();
    proxy.slow_to(0);
    for server in servers {
        server.shutdown().await;
    }
    outcome
}

async fn start(directory: &Path, proxy: &Proxy) -> Result<Servers, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new(format!("cannot start: {error}"));
    let mut sockets = Vec::new();
    let mut members = Vec::new();
    for id in 1..=3 {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").map_err(|error| failed(&error))?;
        let addr = socket.local_addr().map_err(|error| failed(&error))?;
        if id == 3 {
            proxy.lead_to(addr);
        }
        members.push((id, if id == 3 { proxy.addr() } else { addr.to_string() }));
        sockets.push(socket);
    }
    let config = Config {
        max_in_snapshot_log_to_keep: LOG_KEEP,
        log_keep_for_followers_max: LOG_KEEP_FOR_FOLLOWERS,
        ..Config::default()
    };
    let mut servers = Vec::new();
    for (id, socket) in (1..).zip(sockets) {
        let builder = Server::<KvStateMachine>::builder()
            .id(id)
            .data_dir(directory.join(id.to_string()))
            .socket(socket)
            .initial_cluster(members.clone())
            .config(config.clone())
            .snapshot_policy(SnapshotPolicy::LogsSinceLast(SNAPSHOT_EVERY));
        servers.push(Arc::new(builder.start(KvStateMachine::new()).await.map_err(|error| failed(&error))?));
    }
    // There are three of them.
    servers.try_into().map_err(|_| failed(&"not all servers"))
}

async fn play(writes: u64, servers: &Servers, directory: &Path, story: &Story) -> Result<(), Failure> {
    story.plain(&format!(
        "{writes} writes to 3 servers in this process, a snapshot every {SNAPSHOT_EVERY} entries; one follower behind a link \
         of {} KiB/s; files in {}\n",
        SLOW_RATE >> 10,
        directory.display()
    ));
    let [first, _, slow] = servers;
    let wait = first.raft().wait(Some(PATIENCE)).leader("somebody leads").await;
    if wait.map_err(|error| Failure::new(error.to_string()))?.current_leader == Some(slow.id()) {
        // It is slow to be reached, not to reach others.
        slow.raft().transfer_leader(first.id()).await.map_err(|error| Failure::new(error.to_string()))?;
    }
    let (next, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut writers = JoinSet::new();
    for _ in 0..UNDER_WAY {
        writers.spawn(write(servers.clone(), Arc::clone(&next), Arc::clone(&done), writes));
    }
    let begun = Instant::now();
    let mut curve = Curve::default();
    let mut table =
        Table::new(["SECONDS", "WRITES", "MIB HELD", "LOG MIB", "SNAPSHOT AT", "PURGED TO", "SLOW ONE BEHIND"]);
    let (mut row_at, mut look_at) = (0, Duration::ZERO);
    while let Some(ended) = next_ended(&mut writers, look_at, begun).await {
        if let Some(ended) = ended {
            ended.map_err(|error| Failure::new(error.to_string()))?.map_err(Failure::new)?;
            continue;
        }
        look_at = begun.elapsed() + Duration::from_millis(500);
        let (elapsed, acknowledged) = (begun.elapsed(), done.load(Ordering::Relaxed));
        let held = resident(std::process::id());
        curve.add(elapsed, acknowledged, 1, &[(0, held)]);
        if acknowledged >= row_at {
            row_at += (writes / ROWS_SHOWN).max(1);
            table.row(row(elapsed, acknowledged, held, servers, directory));
        }
    }
    let elapsed = begun.elapsed();
    let rate = writes as f64 / elapsed.as_secs_f64();
    table.row(row(elapsed, writes, resident(std::process::id()), servers, directory));
    story.plain(&format!("\n{table}\n"));
    let verdict = curve.judge();
    let word = if verdict.is_ok() { "flat" } else { "growing" };
    story.plain(&format!(
        "writes: {writes}  seconds: {:.0}  a second: {rate:.0}  memory: {word}\n",
        elapsed.as_secs_f64()
    ));
    verdict.map_err(|why| Failure::new(format!("memory is not flat: {why}")))
}

type Ended = Result<Result<(), String>, tokio::task::JoinError>;

/// The end of a writer, or `Some(None)` when it is time to look; `None` when all have ended.
async fn next_ended(
    writers: &mut JoinSet<Result<(), String>>,
    look_at: Duration,
    begun: Instant,
) -> Option<Option<Ended>> {
    tokio::select! {
        biased;
        () = tokio::time::sleep(look_at.saturating_sub(begun.elapsed())) => Some(None),
        ended = writers.join_next() => ended.map(Some),
    }
}

fn row(elapsed: Duration, acknowledged: u64, held: Option<u64>, servers: &Servers, directory: &Path) -> Vec<String> {
    let statuses: Vec<_> = servers.iter().map(|server| server.raft().metrics().borrow().clone()).collect();
    let index = |id: Option<raftwright::LogIdOf<raftwright::EasyConfig>>| id.map_or(0, |id| id.index);
    let leader = statuses.iter().max_by_key(|metrics| index(metrics.last_log_id));
    let last = leader.map_or(0, |metrics| index(metrics.last_log_id));
    let slow = statuses.last().map_or(0, |metrics| index(metrics.last_applied));
    let log: u64 = (1..=3).map(|id| bytes_in(&directory.join(id.to_string()).join("wal"))).sum();
    vec![
        elapsed.as_secs().to_string(),
        acknowledged.to_string(),
        held.map_or_else(|| "-".to_owned(), |held| (held >> 20).to_string()),
        (log >> 20).to_string(),
        leader.map_or(0, |metrics| index(metrics.snapshot)).to_string(),
        leader.map_or(0, |metrics| index(metrics.purged)).to_string(),
        last.saturating_sub(slow).to_string(),
    ]
}

fn bytes_in(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|data| data.len()).sum()
}

/// Writes until enough is written, at whichever server leads.
async fn write(servers: Servers, next: Arc<AtomicU64>, done: Arc<AtomicU64>, writes: u64) -> Result<(), String> {
    let mut at = 0;
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= writes {
            return Ok(());
        }
        let begun = Instant::now();
        loop {
            let command = Command::Put {
                key: format!("key{:06}", number % KEYS),
                value: Bytes::from(number.to_le_bytes().to_vec()),
                condition: Condition::Always,
            };
            let Some(server) = servers.get(at) else {
                at = 0;
                continue;
            };
            match server.write(command).await {
                Ok(_) => break,
                Err(error) if begun.elapsed() > PATIENCE => return Err(error.to_string()),
                // The same key with the same value: doing it twice does no harm.
                Err(_) => at += 1,
            }
            tokio::time::sleep(POLL).await;
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
}
