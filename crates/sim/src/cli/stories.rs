//! Scenario files told under broken variants of the protocol: a story that is true whatever is broken shows nothing.

use std::panic::{catch_unwind, set_hook, take_hook};
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use raftwright_core::sabotage::{Bug, set};
use raftwright_sim::node_world::run_story;
use raftwright_sim::scenario::{Scenario, parse};

/// A file of the project, and a variant under which it must fail.
macro_rules! classic {
    ($($name:literal: $bug:ident,)*) => {
        &[$(($name, include_str!(concat!("../../scenarios/", $name, ".scn")), Bug::$bug),)*]
    };
}

/// What each of the classic stories is about.
const CLASSIC: &[(&str, &str, Bug)] = classic! {
    "figure-8": CommitsEarlierTerms,
    "quorum-loss-one-sees-all": PreVoteBinds,
    "constrained-election": VotesForAnyLog,
    "chain-of-three": RefusalsCount,
    "bridge": PreVoteBinds,
    "change-interrupted-at-its-beginning": LearnersCount,
    "change-interrupted-while-joint": JointAsksOldOnly,
    "change-interrupted-near-its-end": MembershipAtCommit,
    "change-interrupted-by-power-loss": JointAsUnion,
    "change-interrupted-by-a-partition": CommitsUnverified,
    "removed-leader-steps-down": JointForever,
    "one-change-at-a-time": ChangesTwice,
    "learner-counts-for-nothing": LearnersCount,
    "power-loss-of-all": VoteForgotten,
    "power-loss-of-all-again-and-again": AppendSaidBeforeDisk,
    "lease-under-a-fast-clock": LeaseIgnoresDrift,
    "no-read-without-a-quorum": ReadsWithoutRound,
    "hung-disk-of-the-leader": CountsOwnBeforeDisk,
    "wiped-node-is-a-stranger": StrangersCount,
    "divergent-logs-are-repaired": PrevUnchecked,
    "uncommitted-change-is-rolled-back": FollowsEarlierLeader,
    "purge-never-passes-the-snapshot": PurgesBeyondSnapshot,
};

/// Tells one story under a variant. Answers why it fails, if it does.
fn tell(scenario: &Scenario, bug: Option<Bug>) -> Option<String> {
    set(bug);
    let told = catch_unwind(|| run_story(scenario, None));
    set(None);
    match told {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("an assertion of the protocol's own".to_owned()),
    }
}

/// Tells every file under every variant and shows which fail.
pub(super) fn tell_all(files: &[PathBuf], bugs: &[Bug]) -> anyhow::Result<bool> {
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    for file in files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(file).with_context(|| name.clone())?;
        let scenario = parse(&text).map_err(|error| anyhow!("{name}: {error}"))?;
        let failing: Vec<&str> =
            bugs.iter().filter(|bug| tell(&scenario, Some(**bug)).is_some()).map(|bug| bug.name()).collect();
        println!("{name:<44} {}", failing.join(" "));
    }
    set_hook(hook);
    Ok(true)
}

/// Tells each classic story under what it is about, and shows why it fails. Answers how many do not.
pub(super) fn check_the_classic() -> usize {
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let mut blind = 0;
    println!("{:<40} {:<24} fails", "story", "told under");
    for (name, text, bug) in CLASSIC {
        let why = match parse(text) {
            Ok(scenario) => tell(&scenario, Some(*bug)),
            Err(_) => None,
        };
        blind += usize::from(why.is_none());
        let why: String = why.unwrap_or_else(|| "NOT AT ALL".to_owned()).chars().take(WHY_MAX).collect();
        println!("{name:<40} {:<24} {why}", bug.name());
    }
    set_hook(hook);
    blind
}

/// So much of a reason is shown.
const WHY_MAX: usize = 110;
