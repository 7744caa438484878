//! `data new-cluster`: beginning a cluster of one server with what is left of one that has lost its majority.

use std::path::PathBuf;

use clap::Args;
use raftwright::begin_anew;
use raftwright::wal::Identity;
use serde::Serialize;

use super::snapshots::Verdict;
use super::{LogIdJson, WhoJson, open};
use crate::cli::Failure;
use crate::cli::args::{Format, RemoteArgs};
use crate::cli::keys::{print_json, print_text};
use crate::cli::parse;

/// What `data new-cluster` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct NewClusterArgs {
    /// The data directory
    dir: PathBuf,
    /// Where the peers of the server will reach it
    #[arg(long, value_name = "HOST:PORT", value_parser = parse::endpoint)]
    peer_addr: String,
    /// Do it. Without this, only what would be kept is said
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Serialize)]
struct NewClusterJson {
    begun: bool,
    identity: WhoJson,
    last: Option<LogIdJson>,
    committed: Option<u64>,
    old_cluster: Option<String>,
}

pub(super) async fn new_cluster(remote: &RemoteArgs, args: &NewClusterArgs) -> Result<(), Failure> {
    let json = remote.format_or(Format::Table) == Format::Json;
    // The inspector holds the lock of the directory; it is given up before the directory is opened to be changed.
    let (who, sound) = {
        let inspector = open(&args.dir)?;
        let who: Identity = inspector.identity().map_err(|error| Failure::new(error.to_string()))?;
        let verdict = Verdict::of(&inspector);
        let sound = verdict.sound().map_err(|why| Failure::damaged(format!("nothing was changed: {why}")))?;
        (who, sound.clone())
    };
    let old_cluster = who.cluster_id.map(|id| format!("{id:032x}"));
    let mut told = NewClusterJson {
        begun: false,
        identity: who.into(),
        last: sound.extent.last.map(Into::into),
        committed: sound.committed,
        old_cluster,
    };
    if !json {
        let last =
            sound.extent.last.map_or_else(|| "no entry".to_owned(), |last| format!("entries up to {}", last.index));
        let committed = match sound.committed {
            Some(index) => format!("those up to {index} were committed as far as it knows"),
            None => "how far they were committed is not known".to_owned(),
        };
        print_text(&format!(
            "{}\nkept: {last}; {committed}\nlost: whatever the cluster has acknowledged behind them\n",
            told.identity
        ))?;
    }
    if !args.yes {
        if json {
            print_json(&told)?;
        }
        return Err(Failure::new("nothing was changed: say --yes to do this"));
    }
    let begun = begin_anew(&args.dir, &args.peer_addr).await;
    let begun = begun.map_err(|error| Failure::new(error.to_string()))?;
    if json {
        told.begun = true;
        told.identity = Identity { cluster_id: Some(begun.new_cluster.0), ..who }.into();
        return print_json(&told);
    }
    print_text(&format!(
        "done: server {id} is the only member of the new cluster {cluster}\n\
         start it; empty the directories of the others, and add them to it as new servers, under new ids\n",
        id = begun.id,
        cluster = begun.new_cluster
    ))
}
