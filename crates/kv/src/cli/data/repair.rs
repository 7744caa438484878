//! `data repair`: cuts a log before its first damage.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use raftwright::traits::AsyncRuntime;
use raftwright::wal::{RepairIdentity, RepairPlan, WalOptions};
use raftwright::{Incarnation, TokioRuntime};
use serde::Serialize;

use super::snapshots::Verdict;
use super::{LogIdJson, WhoJson, open};
use crate::cli::Failure;
use crate::cli::args::{Format, RemoteArgs};
use crate::cli::keys::{print_json, print_text};

/// What `data repair` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct RepairArgs {
    /// The data directory
    dir: PathBuf,
    /// Do it. Without this, only what would be kept and dropped is said
    #[arg(long)]
    yes: bool,
    /// Leave the server its incarnation, so that its votes count at once. Only when the cluster has no majority without it
    #[arg(long)]
    keep_identity: bool,
}

#[derive(Debug, Serialize)]
struct RepairJson {
    repaired: bool,
    error: Option<String>,
    kept_last: Option<LogIdJson>,
    dropped_entries: Option<(u64, u64)>,
    dropped_votes: u64,
    committed: Option<u64>,
    copy: Option<String>,
    identity: Option<WhoJson>,
}

impl RepairJson {
    fn new(plan: Option<&RepairPlan>) -> Self {
        Self {
            repaired: false,
            error: plan.map(|plan| plan.refusal.to_string()),
            kept_last: plan.and_then(|plan| plan.kept.extent.last).map(Into::into),
            dropped_entries: plan.and_then(|plan| plan.dropped.entries),
            dropped_votes: plan.map_or(0, |plan| plan.dropped.votes),
            committed: plan.and_then(|plan| plan.dropped.committed),
            copy: None,
            identity: None,
        }
    }
}

pub(super) fn repair(remote: &RemoteArgs, args: &RepairArgs) -> Result<(), Failure> {
    let mut inspector = open(&args.dir)?;
    let json = remote.format_or(Format::Table) == Format::Json;
    let plan = inspector.plan_repair().map_err(|error| Failure::damaged(error.to_string()))?;
    let verdict = Verdict::of(&inspector);
    let Some(plan) = plan else {
        // No log can make up for a state that is lost, however it is cut.
        verdict
            .sound()
            .map_err(|why| Failure::damaged(format!("the log is sound, and this cannot be repaired: {why}")))?;
        return match json {
            true => print_json(&RepairJson::new(None)),
            false => print_text("nothing to repair: a server would open this directory\n"),
        };
    };
    verdict
        .reaches(&plan.kept.extent)
        .map_err(|why| Failure::damaged(format!("this cannot be repaired by cutting the log: {why}")))?;
    if !json {
        print_text(&describe(&plan))?;
    }
    if !args.yes {
        if json {
            print_json(&RepairJson::new(Some(&plan)))?;
        }
        return Err(Failure::damaged("nothing was changed: say --yes to do this".to_owned()));
    }
    let random = TokioRuntime::current().map_err(|error| Failure::new(error.to_string()))?.random_u64();
    let identity = match args.keep_identity {
        true => RepairIdentity::Kept(random),
        false => RepairIdentity::New(random),
    };
    let done = inspector.repair(identity, WalOptions::default()).map_err(|error| Failure::new(error.to_string()))?;
    let Some((plan, repaired)) = done else { return Err(Failure::new("the directory has changed meanwhile")) };
    let copy = repaired.copy.display().to_string();
    if json {
        let identity = Some(repaired.identity.into());
        return print_json(&RepairJson { repaired: true, copy: Some(copy), identity, ..RepairJson::new(Some(&plan)) });
    }
    let next = match args.keep_identity {
        true => "the server keeps its identity: start it".to_owned(),
        false => format!(
            "the server is a stranger now (incarnation {}): remove server {id} from the cluster, start it, and add it again",
            Incarnation(repaired.identity.incarnation),
            id = repaired.identity.node_id
        ),
    };
    print_text(&format!("done; the damaged files are in {copy}\n{next}\n"))
}

/// What is wrong, what stays and what goes.
fn describe(plan: &RepairPlan) -> String {
    let RepairPlan { refusal, kept, dropped } = plan;
    let mut text = format!("a server refuses this directory: {refusal}\n\n");
    let line = match kept.extent.last.filter(|last| last.index >= kept.first) {
        Some(last) => format!("kept:    entries {} to {}", kept.first, last.index),
        None => "kept:    no entry".to_owned(),
    };
    text += &line;
    text += if kept.vote.is_some() { ", and the last vote before the damage\n" } else { ", and no vote\n" };
    let line = match dropped.entries {
        Some((first, last)) => format!("dropped: entries {first} to {last}"),
        None => "dropped: no entry that can be seen".to_owned(),
    };
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}, {} votes, and whatever stood in what cannot be read", dropped.votes);
    match dropped.committed {
        Some(committed) => {
            let _ = writeln!(
                text,
                "         entries up to {committed} were committed: other servers have what goes of them"
            );
        }
        None => text += "         how far the log was committed is not known\n",
    }
    text
}
