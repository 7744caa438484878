//! `raftwright-sim replay`.

use clap::Args;
use raftwright_sim::core_world::ProfileName;

use super::World;

#[derive(Debug, Args)]
pub(super) struct Replay {
    /// The seed.
    #[arg(long)]
    seed: u64,
    /// The mix of faults that it ran under.
    #[arg(long, default_value = "mixed", value_parser = super::parse_profile)]
    profile: ProfileName,
    /// Which world it ran in.
    #[arg(long, value_enum, default_value = "nodes")]
    world: World,
    /// Print a line an event: time, node, what, details.
    #[arg(long)]
    trace: bool,
    /// Only the last so many lines.
    #[arg(long)]
    last: Option<usize>,
}

impl Replay {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        let mut passed = true;
        for world in self.world.parts() {
            passed &= self.run_in(*world);
        }
        Ok(passed)
    }

    fn run_in(&self, world: World) -> bool {
        let outcome = world.run_seed(self.seed, self.profile, self.trace);
        let from = self.last.map_or(0, |last| outcome.trace.len().saturating_sub(last));
        for line in &outcome.trace[from..] {
            println!("{line}");
        }
        println!(
            "{} seed {}  trace {:016x}  events {}  simulated {:.1} s  elections {}  committed {}  faults {} kinds  ops {}",
            world.name(),
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
        outcome.failure.is_none()
    }
}
