//! `raftwright-sim shrink`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use raftwright_sim::core_world::ProfileName;
use raftwright_sim::node_world::{run_part, script};
use raftwright_sim::shrink::{Tried, shrink};

#[derive(Debug, Args)]
pub(super) struct Shrink {
    /// The seed, of whole nodes.
    #[arg(long)]
    seed: u64,
    /// The mix of faults that it runs under.
    #[arg(long, default_value = "mixed", value_parser = super::parse_profile)]
    profile: ProfileName,
    /// How many runs to make at most.
    #[arg(long, default_value = "300")]
    runs: u64,
    /// Where to write the scenario; `seed-S.scn` if not said.
    #[arg(short, long)]
    output: Option<PathBuf>,
}

impl Shrink {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        let Self { seed, profile, runs, output } = self;
        let shrunk = shrink(runs, |omit| {
            let (outcome, drive) = run_part(seed, profile, omit.clone(), false);
            let broken = outcome.failure.map(|failure| failure.broken.property);
            Tried { broken, faults: drive.ticks(), operations: drive.operations() }
        });
        let Some(shrunk) = shrunk else {
            println!("seed {seed} passes");
            return Ok(true);
        };
        let (_, drive) = run_part(seed, profile, shrunk.omit.clone(), true);
        let path = output.unwrap_or_else(|| PathBuf::from(format!("seed-{seed}.scn")));
        let shown = path.display().to_string();
        std::fs::write(&path, script(seed, &drive)).with_context(|| format!("writing {shown}"))?;
        println!(
            "{shown}: {}: {} of {} faults, {} of {} operations, after {} runs",
            shrunk.broken, shrunk.faults.0, shrunk.faults.1, shrunk.operations.0, shrunk.operations.1, shrunk.runs
        );
        Ok(true)
    }
}
