//! Subcommands, one a file.

mod exhaustive;
mod replay;
mod report;
mod run;
mod sabotage;
mod scenario;
mod shrink;
#[cfg(feature = "sabotage")]
mod stories;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use raftwright_sim::core_world::{self, Outcome, ProfileName};
use raftwright_sim::node_world;

/// Simulates whole clusters under every fault, reproducibly to the bit.
#[derive(Debug, Parser)]
#[command(name = "raftwright-sim", version)]
pub(crate) struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Looks at every state of three servers within bounds.
    Exhaustive(exhaustive::Exhaustive),
    /// Runs many seeds and counts what fails.
    Run(run::Run),
    /// Runs one seed again and shows what happened.
    Replay(replay::Replay),
    /// Makes a failing seed smaller and writes it as a scenario file.
    Shrink(shrink::Shrink),
    /// Writes a page about one run.
    Report(report::Report),
    /// Breaks the protocol in every known way, and sees whether that is found.
    Sabotage(sabotage::Sabotage),
    /// Runs scenario files.
    Scenario(scenario::Scenario),
}

impl Command {
    /// Does it. Answers whether everything was as it must be.
    pub(crate) fn run(self) -> anyhow::Result<bool> {
        match self.action {
            Action::Exhaustive(exhaustive) => exhaustive.run(),
            Action::Run(run) => run.run(),
            Action::Replay(replay) => replay.run(),
            Action::Shrink(shrink) => shrink.run(),
            Action::Report(report) => report.run(),
            Action::Sabotage(sabotage) => sabotage.run(),
            Action::Scenario(scenario) => scenario.run(),
        }
    }
}

/// What is simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum World {
    /// Clusters of pure replicas.
    Core,
    /// Clusters of whole nodes.
    Nodes,
    /// Each seed in both.
    Both,
}

impl World {
    /// One by one.
    fn parts(self) -> &'static [World] {
        match self {
            World::Core => &[World::Core],
            World::Nodes => &[World::Nodes],
            World::Both => &[World::Core, World::Nodes],
        }
    }

    fn name(self) -> &'static str {
        match self {
            World::Core => "core",
            World::Nodes => "nodes",
            World::Both => "both",
        }
    }

    /// Runs a seed in one world.
    fn run_seed(self, seed: u64, profile: ProfileName, record: bool) -> Outcome {
        match self {
            World::Core => core_world::run_seed(seed, profile, record),
            World::Nodes | World::Both => node_world::run_seed(seed, profile, record),
        }
    }
}

fn parse_profile(name: &str) -> anyhow::Result<ProfileName> {
    let names = || ProfileName::ALL.map(ProfileName::name).join(", ");
    ProfileName::ALL.into_iter().find(|profile| profile.name() == name).with_context(|| format!("one of: {}", names()))
}

/// `30s`, `5m`, `500ms`.
fn parse_duration(text: &str) -> anyhow::Result<std::time::Duration> {
    let digits = text.trim_end_matches(char::is_alphabetic);
    let number: u64 = digits.parse().context("a number and a unit, like 30s")?;
    Ok(match &text[digits.len()..] {
        "ms" => std::time::Duration::from_millis(number),
        "s" => std::time::Duration::from_secs(number),
        "m" => std::time::Duration::from_secs(number * 60),
        unit => bail!("the unit {unit:?} is not ms, s or m"),
    })
}
