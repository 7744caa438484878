//! `raftwright-sim scenario`.

use std::path::PathBuf;

use clap::Args;
use raftwright_sim::node_world::run_story;
use raftwright_sim::scenario::parse;

#[derive(Debug, Args)]
pub(super) struct Scenario {
    /// The files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Run them under this seed instead of their own.
    #[arg(long)]
    seed: Option<u64>,
}

impl Scenario {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        let mut failed = 0;
        for file in &self.files {
            match self.tell(file) {
                Ok(()) => println!("ok      {}", file.display()),
                Err(why) => {
                    failed += 1;
                    println!("FAILED  {}: {why}", file.display());
                }
            }
        }
        println!("{} passed, {failed} failed", self.files.len() - failed);
        Ok(failed == 0)
    }

    fn tell(&self, file: &PathBuf) -> Result<(), String> {
        let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
        let scenario = parse(&text).map_err(|error| error.to_string())?;
        run_story(&scenario, self.seed).map_err(|error| error.to_string())
    }
}
