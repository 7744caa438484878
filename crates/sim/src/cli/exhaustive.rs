//! `raftwright-sim exhaustive`.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Args;
use raftwright_sim::exhaustive::{Bounds, Report, search};

#[derive(Debug, Args)]
pub(super) struct Exhaustive {
    /// Only the search of this name.
    #[arg(long)]
    only: Option<String>,
    /// Leave a search when it has found so many states.
    #[arg(long, default_value_t = 5_000_000)]
    states: u64,
    /// How many searches at a time; each runs on one thread. All cores if not said.
    #[arg(long)]
    threads: Option<usize>,
    /// Fail if fewer states than that were found in all.
    #[arg(long, default_value_t = 0)]
    at_least: u64,
    /// Search a broken variant of the protocol, by its name in the table of `sabotage`: to see the shortest way to what it
    /// breaks.
    #[cfg(feature = "sabotage")]
    #[arg(long)]
    broken: Option<String>,
}

impl Exhaustive {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        let mut all = Bounds::all();
        if let Some(name) = &self.only {
            all.retain(|bounds| bounds.name == name);
            if all.is_empty() {
                let names: Vec<_> = Bounds::all().iter().map(|bounds| bounds.name).collect();
                bail!("one of: {}", names.join(", "));
            }
        }
        #[cfg(feature = "sabotage")]
        if let Some(name) = &self.broken {
            use raftwright_core::sabotage::{Bug, set};
            let Some(bug) = Bug::ALL.iter().find(|bug| bug.name() == name) else { bail!("no variant has this name") };
            set(Some(*bug));
        }
        let begun = Instant::now();
        println!(
            "{:<16} {:>10} {:>11} {:>5}  {:<6} {:>12} {:>8} {:>8} {:>9} {:>8}",
            "search",
            "states",
            "with twins",
            "depth",
            "closed",
            "transitions",
            "servers",
            "messages",
            "airs",
            "seconds"
        );
        let queue = Mutex::new(all.iter());
        let reports = Mutex::new(Vec::new());
        let threads = self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        std::thread::scope(|scope| {
            for _ in 0..threads.max(1) {
                scope.spawn(|| {
                    loop {
                        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                        let Some(bounds) = next else { return };
                        let at = Instant::now();
                        let report = search(bounds, self.states);
                        show(&report, at.elapsed());
                        reports.lock().unwrap_or_else(PoisonError::into_inner).push(report);
                    }
                });
            }
        });
        let reports = reports.into_inner().unwrap_or_else(PoisonError::into_inner);
        let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
        let states = sum(|report| report.states);
        println!(
            "states: {states}  with twins: {}  closed: {}/{}  transitions: {}  seconds: {:.0}  violations: {}",
            sum(|report| report.with_twins),
            sum(|report| u64::from(report.closed)),
            reports.len(),
            sum(|report| report.transitions),
            begun.elapsed().as_secs_f64(),
            sum(|report| u64::from(report.violation.is_some())),
        );
        Ok(states >= self.at_least && reports.iter().all(|report| report.violation.is_none()))
    }
}

fn show(report: &Report, took: Duration) {
    println!(
        "{:<16} {:>10} {:>11} {:>5}  {:<6} {:>12} {:>8} {:>8} {:>9} {:>8.1}",
        report.name,
        report.states,
        report.with_twins,
        report.depth,
        if report.closed { "yes" } else { "no" },
        report.transitions,
        report.servers,
        report.messages,
        report.airs,
        took.as_secs_f64()
    );
    if let Some(violation) = &report.violation {
        println!("{violation}");
    }
}
