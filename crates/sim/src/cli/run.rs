//! `raftwright-sim run`.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use raftwright_sim::core_world::{Outcome, ProfileName};
use raftwright_sim::world::{Fault, FaultLog};

use super::World;

/// How many failures are shown in full; all are counted.
const FAILURES_SHOWN_MAX: usize = 20;

#[derive(Debug, Args)]
pub(super) struct Run {
    /// The seeds, the last one not included.
    #[arg(long, default_value = "0..1000", value_parser = parse_seeds)]
    seeds: Range<u64>,
    /// The mix of faults: mixed, calm, network, crashes, membership, leases.
    #[arg(long, default_value = "mixed", value_parser = super::parse_profile)]
    profile: ProfileName,
    /// Which world: clusters of pure replicas, of whole nodes, or each seed in both.
    #[arg(long, value_enum, default_value = "both")]
    world: World,
    /// Begin no further seed after so long.
    #[arg(long, value_parser = super::parse_duration)]
    time: Option<Duration>,
    /// Run each seed twice and compare.
    #[arg(long)]
    twice: bool,
    /// How many threads; a seed runs on one. All cores if not said.
    #[arg(long)]
    threads: Option<usize>,
    /// Show how often each class of fault happened.
    #[arg(long)]
    faults: bool,
}

fn parse_seeds(text: &str) -> anyhow::Result<Range<u64>> {
    let (from, to) = text.split_once("..").context("A..B")?;
    let seeds: Range<u64> = from.parse().context("the first seed")?..to.parse().context("the seed after the last")?;
    // A run of no seed finds nothing wrong, and shows nothing.
    if seeds.is_empty() {
        anyhow::bail!("no seed is in {text}: the last one is not included");
    }
    Ok(seeds)
}

/// In so many seeds of the mixed profile every class of fault must have happened: one that never does tests nothing.
const SEEDS_FOR_EVERY_FAULT: u64 = 1000;

/// What all seeds so far came to.
#[derive(Default)]
struct Total {
    seeds: u64,
    failures: Vec<(u64, World, String)>,
    seeds_failed: BTreeSet<u64>,
    simulated: Duration,
    faults: FaultLog,
    operations: u64,
    events: u64,
    slowest: Duration,
}

impl Total {
    fn fail(&mut self, seed: u64, world: World, what: String) {
        self.seeds_failed.insert(seed);
        self.failures.push((seed, world, what));
    }

    fn add(&mut self, world: World, outcome: &Outcome, repeated: Option<&Outcome>) {
        self.simulated += outcome.simulated;
        self.faults.merge(&outcome.faults);
        self.operations += outcome.operations;
        self.events += outcome.events;
        self.slowest = self.slowest.max(outcome.recovered_in.unwrap_or_default());
        if let Some(failure) = &outcome.failure {
            self.fail(outcome.seed, world, failure.to_string());
        } else if repeated.is_some_and(|repeated| repeated != outcome) {
            self.fail(outcome.seed, world, "the second run of this seed differs from the first".to_owned());
        }
    }
}

impl Run {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        let count = self.seeds.end.saturating_sub(self.seeds.start);
        let bar = ProgressBar::new(count);
        bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} seeds  {per_sec}  {eta} left  {msg}")?);
        let next = AtomicU64::new(self.seeds.start);
        let total = Mutex::new(Total::default());
        let begun = Instant::now();
        let threads = self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        std::thread::scope(|scope| {
            for _ in 0..threads.max(1) {
                scope.spawn(|| self.work(&next, &total, &bar, begun));
            }
        });
        bar.finish_and_clear();
        let mut total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
        total.failures.sort_unstable_by_key(|(seed, world, _)| (*seed, world.name()));
        self.report(&total, begun.elapsed());
        Ok(total.failures.is_empty() && self.all_faults_happened(&total))
    }

    fn work(&self, next: &AtomicU64, total: &Mutex<Total>, bar: &ProgressBar, begun: Instant) {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= self.seeds.end || self.time.is_some_and(|limit| begun.elapsed() >= limit) {
                return;
            }
            for world in self.world.parts() {
                let outcome = run_caught(*world, seed, self.profile);
                let repeated = self.twice.then(|| run_caught(*world, seed, self.profile));
                let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
                match (&outcome, &repeated) {
                    (Ok(outcome), None) => total.add(*world, outcome, None),
                    (Ok(outcome), Some(Ok(repeated))) => total.add(*world, outcome, Some(repeated)),
                    (Ok(_), Some(Err(panic))) | (Err(panic), _) => {
                        total.fail(seed, *world, format!("panic: {panic}"));
                    }
                }
            }
            let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
            total.seeds += 1;
            if !total.failures.is_empty() {
                bar.set_message(format!("{} failed", total.seeds_failed.len()));
            }
            bar.inc(1);
        }
    }

    fn all_faults_happened(&self, total: &Total) -> bool {
        if self.profile != ProfileName::Mixed || total.seeds < SEEDS_FOR_EVERY_FAULT {
            return true;
        }
        let silent: Vec<&str> =
            self.expected_faults().filter(|fault| total.faults.count(*fault) == 0).map(Fault::name).collect();
        if !silent.is_empty() {
            eprintln!("error: in {} seeds these never happened: {}", total.seeds, silent.join(", "));
        }
        silent.is_empty()
    }

    /// The classes that the worlds of this run have.
    fn expected_faults(&self) -> impl Iterator<Item = Fault> {
        let world = self.world;
        Fault::ALL.iter().copied().filter(move |fault| match world {
            World::Core => fault.in_core(),
            World::Nodes => fault.in_nodes(),
            World::Both => true,
        })
    }

    fn report(&self, total: &Total, took: Duration) {
        for (seed, world, what) in total.failures.iter().take(FAILURES_SHOWN_MAX) {
            let (world, profile) = (world.name(), self.profile.name());
            println!("seed {seed}: {world}: {what}");
            println!("  raftwright-sim replay --world {world} --profile {profile} --seed {seed} --trace");
        }
        if self.faults {
            for fault in Fault::ALL {
                println!("{:>10}  {fault}", total.faults.count(*fault));
            }
        }
        let hours = total.simulated.as_secs_f64() / 3600.0;
        println!(
            "{:.0} times real time, {:.0} events a second, slowest recovery {} ms",
            total.simulated.as_secs_f64() / took.as_secs_f64(),
            total.events as f64 / took.as_secs_f64(),
            total.slowest.as_millis()
        );
        println!(
            "seeds: {}  failed: {}  simulated: {hours:.1} h  faults: {} kinds, {} injected  ops: {} checked",
            total.seeds,
            total.seeds_failed.len(),
            total.faults.kinds(),
            total.faults.total(),
            total.operations
        );
    }
}

/// A seed in which the protocol panics has failed like any other.
fn run_caught(world: World, seed: u64, profile: ProfileName) -> Result<Outcome, String> {
    std::panic::catch_unwind(|| world.run_seed(seed, profile, false)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    })
}
