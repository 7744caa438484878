//! A large snapshot to a new server, over a link that is cut on the way, while writes go on.
//!
//! It must arrive, go on each time where it was cut, and delay the writes by no more than they can bear.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use indicatif::ProgressBar;
use raftwright::core::Rng;
use raftwright::net::Limits;
use tokio::task::JoinSet;

use crate::api::Role;
use crate::cli::{DemoArgs, Failure};
use crate::client::{Client, WriteCondition};
use crate::demo::cluster::{Cluster, Endpoints};
use crate::demo::proxy::Proxy;
use crate::demo::story::Story;
use crate::demo::{CALM, Interrupts, PATIENCE, POLL, flags};
use crate::limits::VALUE_BYTES_MAX;

/// How large a value is of which there are many.
const VALUE_BYTES: usize = 256 << 10;

/// How many clients fill the servers.
const FILLERS: u64 = 8;

/// How many clients write small values while it is measured, and how long each waits between two writes.
const WRITERS: u64 = 16;
const WRITER_PAUSE: Duration = Duration::from_millis(5);

/// How long it is measured without a transfer.
const BASELINE: Duration = Duration::from_secs(30);

/// Below this, it is not measured for long.
const SMALL: u64 = 128 << 20;

/// How long the whole transfer may take.
const TRANSFER_PATIENCE: Duration = Duration::from_secs(1_800);

/// Bytes a second that the snapshot may take of the link, if nothing else is said.
const RATE_DEFAULT: u64 = 32 << 20;

/// How many times as long the slowest hundredth of the writes may take while a snapshot is sent.
const SLOWDOWN_BORNE: f64 = 2.0;

/// Runs it with a state of so many bytes.
///
/// # Errors
/// Something that must not happen has happened; the sentence says what.
pub(super) async fn run(args: &DemoArgs, bytes: u64) -> Result<(), Failure> {
    let mut interrupts = Interrupts::new()?;
    let story = Story::new();
    let rate = args.snapshot_rate.unwrap_or(RATE_DEFAULT);
    let mut flags = flags(args, Some(CALM));
    flags.extend(["--snapshot-every=1000000000".to_owned(), "--snapshot-log-keep=0".to_owned()]);
    flags.push(format!("--snapshot-rate={rate}"));
    let mut cluster = Cluster::new(3, flags)?;
    let outcome = tokio::select! {
        biased;
        () = interrupts.next() => Err(Failure::interrupted()),
        outcome = play(args, bytes, rate, &mut cluster, &story) => outcome,
    };
    cluster.kill_all().await;
    story.end();
    if let Err(failure) = &outcome
        && *failure != Failure::interrupted()
    {
        story.say("kept", &format!("logs and data in {}", cluster.keep_files().display()));
    }
    outcome
}

async fn play(args: &DemoArgs, bytes: u64, rate: u64, cluster: &mut Cluster, story: &Story) -> Result<(), Failure> {
    let chunk = u64::from(Limits::default().snapshot_chunk_bytes);
    story.plain(&format!(
        "3 servers with {} MiB of state, a fourth behind a link that is cut {} times; a snapshot may take {} MiB/s; files in {}\n",
        bytes >> 20,
        args.cuts,
        rate >> 20,
        cluster.directory().display()
    ));
    cluster.start_all().await?;
    cluster.initialize().await?;
    let leader = cluster.leader().await?;
    fill(bytes, cluster.endpoints(), story.bar(bytes.div_ceil(VALUE_BYTES as u64), "filling")).await?;
    cluster.caught_up().await?;
    story.say("filled", &format!("{} values of {} KiB", bytes.div_ceil(VALUE_BYTES as u64), VALUE_BYTES >> 10));

    let load = Load::start(&cluster.endpoints());
    // A small one is a test of the way, and not of the time.
    let baseline = if bytes < SMALL { BASELINE / 15 } else { BASELINE };
    tokio::time::sleep(baseline / 6).await;
    load.take();
    tokio::time::sleep(baseline).await;
    let without = load.take();
    story.say("without", &format!("a transfer: {without}"));

    let begun = Instant::now();
    let mut at_leader = cluster.client_of(leader.id);
    let built = at_leader.snapshot().await?;
    let building = load.take();
    story.say(
        "built",
        &format!(
            "a snapshot up to entry {} in {:.1} s; meanwhile: {building}",
            built.snapshot,
            begun.elapsed().as_secs_f64()
        ),
    );

    let proxy = Proxy::new().await.map_err(|error| Failure::new(format!("cannot listen: {error}")))?;
    let new = cluster.add(3)?;
    if let Some(spec) = cluster.spec_mut(new) {
        spec.advertise = Some(proxy.addr());
    }
    cluster.start(new).await?;
    let behind = cluster.listens_at(new).ok_or_else(|| Failure::new("the new server has no address"))?;
    proxy.lead_to(behind);
    let part = bytes / (u64::from(args.cuts) + 1);
    proxy.cut_at((1..=u64::from(args.cuts)).map(|cut| cut * part).collect());

    load.take();
    let begun = Instant::now();
    at_leader.add_member(new, &proxy.addr()).await?;
    let mut at_new = cluster.client_of(new);
    let deadline = Instant::now() + TRANSFER_PATIENCE;
    loop {
        let state = at_new.state().await?;
        if state.snapshot >= built.snapshot && state.role == Role::Learner {
            break;
        }
        if Instant::now() > deadline {
            return Err(Failure::new(format!("the snapshot did not arrive within {} s", TRANSFER_PATIENCE.as_secs())));
        }
        tokio::time::sleep(POLL * 10).await;
    }
    let (with, took) = (load.take(), begun.elapsed());
    load.finish().await?;
    let sent = proxy.snapshot_bytes();
    let content = content_bytes(cluster, new)?;
    story.say("sent", &format!("in {:.1} s, over {} cuts; meanwhile: {with}", took.as_secs_f64(), proxy.cuts()));
    cluster.caught_up().await?;
    story.say("caught up", "the new server has the snapshot and what came behind it");
    story.plain(&format!("\n{}\n", cluster.table().await?));

    let twice = sent.saturating_sub(content);
    let ratio = with.p99.as_secs_f64() / without.p99.as_secs_f64().max(1e-6);
    story.plain(&format!(
        "snapshot: {content} bytes  sent: {sent}  more than once, with all heads: {twice} ({:.2} chunks of {} KiB a cut)  cuts: {}\n\
         p99 without: {:.1} ms  with: {:.1} ms  ratio: {ratio:.2}\n",
        twice as f64 / chunk as f64 / f64::from(args.cuts.max(1)),
        chunk >> 10,
        proxy.cuts(),
        without.p99.as_secs_f64() * 1e3,
        with.p99.as_secs_f64() * 1e3,
    ));
    // Every piece has a head, and so has every frame: less than a hundredth of what they carry.
    let heads = content / 100;
    if proxy.cuts() < u64::from(args.cuts) {
        return Err(Failure::new("the link was not cut as often as it was meant to be"));
    }
    if twice > u64::from(args.cuts) * chunk + heads {
        return Err(Failure::new("more than one chunk a cut was sent twice"));
    }
    if ratio > SLOWDOWN_BORNE && !args.no_latency_bound {
        return Err(Failure::new(format!("the slowest hundredth of the writes took {ratio:.2} times as long")));
    }
    Ok(())
}

/// The size of the newest snapshot that a server holds: of the largest file among its snapshots.
fn content_bytes(cluster: &Cluster, id: u64) -> Result<u64, Failure> {
    let directory = cluster.data_of(id).join("snapshots");
    let mut sizes = Vec::new();
    let mut places = vec![directory.clone()];
    while let Some(place) = places.pop() {
        for entry in std::fs::read_dir(&place).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(data) if data.is_dir() => places.push(entry.path()),
                Ok(data) => sizes.push(data.len()),
                Err(_) => {}
            }
        }
    }
    sizes.into_iter().max().ok_or_else(|| Failure::new(format!("there is no snapshot in {}", directory.display())))
}

/// Writes so many bytes of values that no compression makes smaller.
async fn fill(bytes: u64, endpoints: Endpoints, bar: ProgressBar) -> Result<(), Failure> {
    const { assert!(VALUE_BYTES <= VALUE_BYTES_MAX, "a value that is taken") };
    let count = bytes.div_ceil(VALUE_BYTES as u64);
    let mut fillers = JoinSet::new();
    for first in 0..FILLERS {
        let (endpoints, bar) = (endpoints.all(), bar.clone());
        fillers.spawn(async move {
            let mut client = Client::new(endpoints, PATIENCE);
            let mut rng = Rng::new(first);
            for number in (first..count).step_by(usize::try_from(FILLERS).unwrap_or(1)) {
                let value: Vec<u8> = (0..VALUE_BYTES / 8).flat_map(|_| rng.next_u64().to_le_bytes()).collect();
                let value = Bytes::from(value);
                let deadline = Instant::now() + PATIENCE;
                while let Err(error) =
                    client.put(&format!("big/{number:08}"), value.clone(), WriteCondition::default()).await
                {
                    if Instant::now() > deadline {
                        return Err(error.to_string());
                    }
                    tokio::time::sleep(POLL).await;
                }
                bar.inc(1);
            }
            Ok(())
        });
    }
    while let Some(ended) = fillers.join_next().await {
        ended.map_err(|error| Failure::new(error.to_string()))?.map_err(Failure::new)?;
    }
    bar.finish_and_clear();
    Ok(())
}

/// How long writes took.
struct Latencies {
    count: usize,
    p50: Duration,
    p99: Duration,
    max: Duration,
}

impl std::fmt::Display for Latencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        let (p50, p99, max) = (millis(self.p50), millis(self.p99), millis(self.max));
        write!(f, "{} writes, median {p50:.1} ms, p99 {p99:.1} ms, longest {max:.1} ms", self.count)
    }
}

/// Clients that write small values at their own pace.
struct Load {
    writers: JoinSet<Result<(), String>>,
    shared: Arc<LoadShared>,
}

#[derive(Default)]
struct LoadShared {
    stop: AtomicBool,
    /// In microseconds.
    latencies: std::sync::Mutex<Vec<u64>>,
    number: AtomicU64,
}

impl Load {
    fn start(endpoints: &Endpoints) -> Self {
        let shared = Arc::new(LoadShared::default());
        let mut writers = JoinSet::new();
        for _ in 0..WRITERS {
            let (shared, endpoints) = (Arc::clone(&shared), endpoints.all());
            writers.spawn(async move {
                let mut client = Client::new(endpoints, PATIENCE);
                while !shared.stop.load(Ordering::Relaxed) {
                    let number = shared.number.fetch_add(1, Ordering::Relaxed);
                    let begun = Instant::now();
                    let key = format!("small/{:04}", number % 1_000);
                    let written = client.put(&key, Bytes::from(number.to_string()), WriteCondition::default()).await;
                    written.map_err(|error| error.to_string())?;
                    let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                    shared.latencies.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(took);
                    tokio::time::sleep(WRITER_PAUSE).await;
                }
                Ok(())
            });
        }
        Self { writers, shared }
    }

    /// How long the writes took since the last look.
    fn take(&self) -> Latencies {
        let mut all =
            std::mem::take(&mut *self.shared.latencies.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        all.sort_unstable();
        let at = |part: f64| all.get((all.len() as f64 * part) as usize).copied().unwrap_or(0);
        Latencies {
            count: all.len(),
            p50: Duration::from_micros(at(0.5)),
            p99: Duration::from_micros(at(0.99)),
            max: Duration::from_micros(all.last().copied().unwrap_or(0)),
        }
    }

    async fn finish(mut self) -> Result<(), Failure> {
        self.shared.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.writers.join_next().await {
            ended.map_err(|error| Failure::new(error.to_string()))?.map_err(Failure::new)?;
        }
        Ok(())
    }
}
