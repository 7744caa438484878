//! `raftwright-sim replay`.

use clap::Args;
use raftwright_sim::core_world::{ProfileName, run_seed};

#[derive(Debug, Args)]
pub(super) struct Replay {
    /// The seed.
    #[arg(long)]
    seed: u64,
    /// The mix of faults that it ran under.
    #[arg(long, default_value = "mixed", value_parser = super::parse_profile)]
    profile: ProfileName,
    /// Print a line an event: time, node, what, details.
    #[arg(long)]
    trace: bool,
    /// Only the last so many lines.
    #[arg(long)]
    last: Option<usize>,
}

impl Replay {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        let outcome = run_seed(self.seed, self.profile, self.trace);
        let from = self.last.map_or(0, |last| outcome.trace.len().saturating_sub(last));
        for line in &outcome.trace[from..] {
            println!("{line}");
        }
        println!(
            "seed {}  trace {:016x}  events {}  simulated {:.1} s  elections {}  committed {}  faults {} kinds  ops {}",
            outcome.seed,
            outcome.trace_hash,
            outcome.events,
            outcome.simulated.as_secs_f64(),
            outcome.elections,
            outcome.committed,
            outcome.faults.kinds(),
            outcome.operations
        );
        match &outcome.failure {
            None => println!("passed"),
            Some(failure) => println!("FAILED {failure}"),
        }
        Ok(outcome.failure.is_none())
    }
}
