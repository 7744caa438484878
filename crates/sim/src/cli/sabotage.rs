//! `raftwright-sim sabotage`.

use std::time::Duration;

use clap::Args;

#[derive(Debug, Args)]
pub(super) struct Sabotage {
    /// Only the variant of this name.
    #[arg(long)]
    only: Option<String>,
    /// A variant that is not caught within so long is a failure.
    #[arg(long, default_value = "60s", value_parser = super::parse_duration)]
    budget: Duration,
    /// How many seeds run at a time. All cores if not said.
    #[arg(long)]
    threads: Option<usize>,
    /// Hunt nothing, but tell these scenario files under every variant, and show which of them fail.
    #[arg(long, num_args = 1..)]
    stories: Vec<std::path::PathBuf>,
}

#[cfg(not(feature = "sabotage"))]
impl Sabotage {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        let Self { only: _, budget: _, threads: _, stories: _ } = self;
        anyhow::bail!(
            "this build cannot be sabotaged. Build one that can, into a target directory of its own:\n  \
             cargo run --release -p raftwright-sim --features sabotage --target-dir target/sabotage -- sabotage"
        )
    }
}

#[cfg(feature = "sabotage")]
mod hunt {
    use std::panic::{catch_unwind, set_hook, take_hook};
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::sync::{Mutex, PoisonError};
    use std::time::{Duration, Instant};

    use anyhow::bail;
    use raftwright_core::sabotage::{Bug, set};
    use raftwright_sim::core_world::{ProfileName, run_seed};
    use raftwright_sim::exhaustive::{Bounds, search};

    use super::Sabotage;

    /// The mixes in which variants are hunted; a seed runs under one of them, in turn.
    const PROFILES: [ProfileName; 4] =
        [ProfileName::Mixed, ProfileName::Crashes, ProfileName::Membership, ProfileName::Network];
    /// So many seeds of the protocol as it should be must find nothing: a checker that cries always is worth nothing either.
    const CONTROL_SEEDS: u64 = 40;
    /// Chance has this part of the budget; then the exhaustive searches look.
    const CHANCE: u32 = 2;
    /// What is wrong with leases shows where clocks are wrong by just so much.
    const LEASES: [Bug; 6] = [
        Bug::LeaseFromReceipt,
        Bug::LeaseIgnoresDrift,
        Bug::LeaseFromElection,
        Bug::LeaseSurvivesTransfer,
        Bug::PromiseForgotten,
        Bug::PromiseLostByRestart,
    ];
    /// What chance does not show: the search that is about it looks first.
    const AIMED: [(Bug, &str); 6] = [
        (Bug::PreVoteBinds, "pre-vote"),
        (Bug::AppliesBeforeDisk, "disk"),
        (Bug::MembershipStays, "joint-3"),
        (Bug::ReadsJoinOldRound, "reads"),
        (Bug::RoundsConfirmTooMuch, "reads"),
        (Bug::RefusedHeartbeatCounts, "refused-reads"),
    ];
    /// A search is left when it has found so many states.
    const STATES_MAX: u64 = 1_000_000;

    /// How a variant was caught.
    struct Caught {
        by: String,
        seeds: u64,
        simulated: Duration,
    }

    impl Sabotage {
        pub(in super::super) fn run(self) -> anyhow::Result<bool> {
            let bugs: Vec<Bug> = Bug::ALL
                .iter()
                .copied()
                .filter(|bug| self.only.as_ref().is_none_or(|only| bug.name() == only))
                .collect();
            if bugs.is_empty() {
                bail!("one of: {}", Bug::ALL.iter().map(|bug| bug.name()).collect::<Vec<_>>().join(", "));
            }
            if !self.stories.is_empty() {
                return super::super::stories::tell_all(&self.stories, &bugs);
            }
            let begun = Instant::now();
            // A variant that trips over an assertion is caught by it; the table says so, nobody needs the message as well.
            let hook = take_hook();
            set_hook(Box::new(|_| {}));
            let clean = self.control();
            println!("{:<26} {:<52} {:>7} {:>12} {:>8}", "broken", "caught by", "seeds", "simulated", "seconds");
            let mut missed = Vec::new();
            for bug in &bugs {
                set(Some(*bug));
                let at = Instant::now();
                let aimed = AIMED.iter().find(|(aim, _)| aim == bug).map(|(_, name)| *name);
                let caught = aimed
                    .and_then(|name| everything(at, self.budget, Some(name)))
                    .or_else(|| self.chance(*bug, self.budget / CHANCE))
                    .or_else(|| everything(at, self.budget, None));
                set(None);
                let took = at.elapsed().as_secs_f64();
                match caught {
                    Some(Caught { by, seeds, simulated }) => {
                        let simulated = simulated.as_secs_f64();
                        println!("{:<26} {by:<52} {seeds:>7} {simulated:>10.1} s {took:>8.1}", bug.name());
                    }
                    None => {
                        println!("{:<26} NOT CAUGHT: {:<64} {took:>8.1}", bug.name(), bug.what().trim());
                        missed.push(bug.name());
                    }
                }
            }
            set_hook(hook);
            if let Some(by) = &clean {
                println!("the protocol as it should be is caught, too: {by}");
            }
            let blind = if self.only.is_none() { super::super::stories::check_the_classic() } else { 0 };
            println!(
                "broken variants: {}  caught: {}  missed: {}  seconds: {:.0}",
                bugs.len(),
                bugs.len() - missed.len(),
                if missed.is_empty() { "none".to_owned() } else { missed.join(" ") },
                begun.elapsed().as_secs_f64()
            );
            Ok(missed.is_empty() && clean.is_none() && blind == 0)
        }

        /// The protocol as it should be.
        fn control(&self) -> Option<String> {
            set(None);
            let both = [&PROFILES[..], &[ProfileName::Leases]].concat();
            self.hunt(&both, Duration::MAX, Some(CONTROL_SEEDS)).map(|caught| caught.by)
        }

        fn chance(&self, bug: Bug, budget: Duration) -> Option<Caught> {
            let profiles = if LEASES.contains(&bug) { &[ProfileName::Leases][..] } else { &PROFILES };
            self.hunt(profiles, budget, None)
        }

        /// Runs seeds, under one profile after the other, until one fails.
        fn hunt(&self, profiles: &[ProfileName], budget: Duration, seeds_max: Option<u64>) -> Option<Caught> {
            let begun = Instant::now();
            let (next, simulated) = (AtomicU64::new(0), AtomicU64::new(0));
            let (over, found) = (AtomicBool::new(false), Mutex::new(None));
            let threads = self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
            let work = || {
                while !over.load(Ordering::Relaxed) && begun.elapsed() < budget {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if seeds_max.is_some_and(|max| number >= max) {
                        return;
                    }
                    let profile = profiles[number as usize % profiles.len()];
                    let failure = match catch_unwind(|| run_seed(number, profile, false)) {
                        Ok(outcome) => {
                            simulated.fetch_add(outcome.simulated.as_millis() as u64, Ordering::Relaxed);
                            outcome.failure.map(|failure| failure.broken.property.to_owned())
                        }
                        Err(_) => Some("an assertion of the protocol's own".to_owned()),
                    };
                    if let Some(by) = failure {
                        over.store(true, Ordering::Relaxed);
                        let caught = (number, by);
                        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                        if found.as_ref().is_none_or(|(first, _)| number < *first) {
                            *found = Some(caught);
                        }
                    }
                }
            };
            std::thread::scope(|scope| {
                for _ in 0..threads.max(1) {
                    scope.spawn(work);
                }
            });
            let (seed, by) = found.into_inner().unwrap_or_else(PoisonError::into_inner)?;
            Some(Caught { by, seeds: seed + 1, simulated: Duration::from_millis(simulated.into_inner()) })
        }
    }

    /// Runs the exhaustive searches, each up to a bound, until one finds something.
    fn everything(begun: Instant, budget: Duration, only: Option<&str>) -> Option<Caught> {
        let mut all = Bounds::all();
        all.retain(|bounds| only.is_none_or(|only| bounds.name == only));
        // The small ones find most.
        all.reverse();
        all.into_iter().take_while(|_| begun.elapsed() < budget).find_map(|bounds| {
            let caught =
                |by: &str| Caught { by: format!("{by} (search {})", bounds.name), seeds: 0, simulated: Duration::ZERO };
            match catch_unwind(|| search(&bounds, STATES_MAX)) {
                Ok(report) => report.violation.map(|violation| caught(violation.broken.property)),
                Err(_) => Some(caught("an assertion of the protocol's own")),
            }
        })
    }
}
