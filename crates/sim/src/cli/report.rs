//! `raftwright-sim report`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use raftwright_sim::core_world::ProfileName;
use raftwright_sim::report::page;

use super::World;

#[derive(Debug, Args)]
pub(super) struct Report {
    /// The seed.
    #[arg(long)]
    seed: u64,
    /// The mix of faults that it runs under.
    #[arg(long, default_value = "mixed", value_parser = super::parse_profile)]
    profile: ProfileName,
    /// Which world it runs in.
    #[arg(long, value_enum, default_value = "nodes")]
    world: World,
    /// Where to write the page.
    #[arg(short, long)]
    output: PathBuf,
}

impl Report {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        let outcome = self.world.run_seed(self.seed, self.profile, true);
        let title = format!("{}, profile {}, seed {}", self.world.name(), self.profile.name(), self.seed);
        let shown = self.output.display();
        std::fs::write(&self.output, page(&title, &outcome)).with_context(|| format!("writing {shown}"))?;
        println!("{shown}: {:.1} s of {title}", outcome.simulated.as_secs_f64());
        Ok(outcome.failure.is_none())
    }
}
