//! `data`: looking at a data directory while no server runs in it, cutting a damaged log, and beginning a new cluster with it.

mod dump;
mod inspect;
mod new_cluster;
mod repair;
mod snapshots;

use std::path::Path;

use clap::Subcommand;
use raftwright::wal::{DataDirError, Finding, Identity, Inspector, RawLogId, RealDisk};
use serde::Serialize;

use crate::cli::Failure;
use crate::cli::args::RemoteArgs;

const EXIT_CODES: &str = "\
Exit codes: 0 the directory is sound (or was repaired), 1 it cannot be looked at, 2 wrong usage, 6 a server would refuse it.
The server that lives in the directory must be stopped. `-o json` prints for programs.";

const REPAIR_NOTES: &str = "\
A log has no holes, so everything behind the first damage goes, readable or not. Some of it may have been committed; other
servers have that. Because this server may have forgotten votes and acknowledgements, it gets a new incarnation: to the
cluster it is a stranger, until it is removed and added again. --keep-identity leaves it the server that it was; that is
for a cluster which has no majority without it, and may lose what was committed.

The damaged files are copied to DIR.damaged-1 (or -2, ...) first. The copy and the new log need as much room as the log
has, each.";

const INSPECT_EXIT_CODES: &str = "\
Exit codes: 0 it was shown, sound or not (`data verify` judges), 1 it cannot be looked at, 2 wrong usage.
The server that lives in the directory must be stopped. `-o json` prints for programs.";

const NEW_CLUSTER_EXIT_CODES: &str = "\
Exit codes: 0 the new cluster is begun, 1 it is not, 2 wrong usage, 6 a server would refuse the directory.
The server that lives in the directory must be stopped. `-o json` prints for programs.";

const NEW_CLUSTER_NOTES: &str = "\
Only when more than half of the voters will never come back: what they had acknowledged and this server lacks is lost. Do it on
one server, the one whose log is longest (`data inspect` says how long it is). The cluster gets a new id, so that whoever is
left of the old one is refused; such servers are emptied and added as new ones.";

/// What `data` does.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum DataCommand {
    /// Show whose directory it is, its segments and snapshots, and where the log begins and ends
    #[command(after_help = INSPECT_EXIT_CODES)]
    Inspect {
        /// The data directory
        dir: std::path::PathBuf,
    },
    /// Say whether a server would start with this directory, and all that is damaged in log and snapshots
    #[command(after_help = EXIT_CODES)]
    Verify {
        /// The data directory
        dir: std::path::PathBuf,
    },
    /// Print every record of the log
    #[command(after_help = EXIT_CODES)]
    Dump(dump::DumpArgs),
    /// Cut a log that no server opens before its first damage
    #[command(after_help = format!("{REPAIR_NOTES}\n\n{EXIT_CODES}"))]
    Repair(repair::RepairArgs),
    /// Begin a new cluster with this server alone, when the majority of the old one is gone for good
    #[command(after_help = format!("{NEW_CLUSTER_NOTES}\n\n{NEW_CLUSTER_EXIT_CODES}"))]
    NewCluster(new_cluster::NewClusterArgs),
}

pub(in crate::cli) async fn run(remote: &RemoteArgs, command: DataCommand) -> Result<(), Failure> {
    match command {
        DataCommand::Inspect { dir } => inspect::inspect(remote, &dir),
        DataCommand::Verify { dir } => inspect::verify(remote, &dir),
        DataCommand::Dump(args) => dump::dump(remote, &args),
        DataCommand::Repair(args) => repair::repair(remote, &args),
        DataCommand::NewCluster(args) => new_cluster::new_cluster(remote, &args).await,
    }
}

fn open(dir: &Path) -> Result<Inspector<RealDisk>, Failure> {
    Inspector::open(RealDisk, dir).map_err(|error| match error {
        DataDirError::NotOurs { path, name } => Failure::new(format!(
            "{path} is not a data directory, it holds {name:?}: name the one that the server was given with --data-dir"
        )),
        error => Failure::new(error.to_string()),
    })
}

/// Who lives in a directory, for programs.
#[derive(Debug, Serialize)]
struct WhoJson {
    node_id: u64,
    cluster_id: Option<String>,
    incarnation: String,
    boot_epoch: u64,
}

impl From<Identity> for WhoJson {
    fn from(who: Identity) -> Self {
        Self {
            node_id: who.node_id,
            cluster_id: who.cluster_id.map(|id| format!("{id:032x}")),
            incarnation: format!("{:016x}", who.incarnation),
            boot_epoch: who.boot_epoch,
        }
    }
}

impl std::fmt::Display for WhoJson {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { node_id, cluster_id, incarnation, boot_epoch } = self;
        let cluster = cluster_id.as_deref().unwrap_or("none yet");
        write!(f, "server {node_id}, incarnation {incarnation}, opened {boot_epoch} times, cluster {cluster}")
    }
}

/// Identity of an entry, for programs.
#[derive(Debug, Serialize)]
struct LogIdJson {
    term: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<u64>,
    index: u64,
}

impl From<RawLogId> for LogIdJson {
    fn from(RawLogId { term, node, index }: RawLogId) -> Self {
        Self { term, node, index }
    }
}

/// Damage, for programs.
#[derive(Debug, Serialize)]
struct FindingJson {
    file: String,
    offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    what: &'static str,
    verdict: String,
}

impl From<&Finding> for FindingJson {
    fn from(finding: &Finding) -> Self {
        let Finding { path, offset, index, what, verdict } = finding;
        Self { file: path.display().to_string(), offset: *offset, index: *index, what, verdict: verdict.to_string() }
    }
}
