//! Clusters of whole nodes: a few seeds of every profile, twice, and the properties of the simulator itself.

#![allow(clippy::panic, clippy::expect_used, clippy::unwrap_used)] // a test fails by panicking

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use raftwright_sim::core_world::{Outcome, ProfileName};
use raftwright_sim::node_world::types::{Story, set};
use raftwright_sim::node_world::{NodeWorld, WalStores, run_part, run_seed, script};
use raftwright_sim::scenario::parse;
use raftwright_sim::shrink::{Omit, Tried, shrink};
use raftwright_sim::world::{Fault, FaultLog};
use raftwright_traits::{AsyncRuntime, BasicNode};
use raftwright_wal::WalOptions;

/// Runs seeds of a profile; a failing one names the command that repeats it.
fn pass(profile: ProfileName, seeds: std::ops::Range<u64>) -> Vec<Outcome> {
    seeds
        .map(|seed| {
            let outcome = run_seed(seed, profile, false);
            if let Some(failure) = &outcome.failure {
                panic!(
                    "raftwright-sim replay --world nodes --profile {} --seed {seed} --trace\n{failure}",
                    profile.name()
                );
            }
            outcome
        })
        .collect()
}

#[test]
fn calm_clusters_elect_once_and_serve() {
    for outcome in pass(ProfileName::Calm, 0..2) {
        assert_eq!(outcome.elections, 1, "seed {}", outcome.seed);
        assert_eq!(outcome.faults.count(Fault::Loss), 0, "seed {}", outcome.seed);
        assert!(outcome.operations > 100, "seed {}: {}", outcome.seed, outcome.operations);
    }
}

#[test]
fn clusters_survive_a_bad_network() {
    pass(ProfileName::Network, 0..2);
}

#[test]
fn clusters_survive_crashes_and_bad_disks() {
    pass(ProfileName::Crashes, 0..3);
}

#[test]
fn clusters_survive_changes_of_their_membership() {
    pass(ProfileName::Membership, 0..3);
}

#[test]
fn mixed_seeds_differ_in_kind_and_their_faults_really_happen() {
    let mut faults = FaultLog::default();
    for outcome in pass(ProfileName::Mixed, 0..8) {
        faults.merge(&outcome.faults);
    }
    assert!(faults.kinds() >= 40, "only {} kinds", faults.kinds());
    let impossible: Vec<_> = Fault::ALL.iter().filter(|fault| !fault.in_nodes() && faults.count(**fault) > 0).collect();
    assert!(impossible.is_empty(), "{impossible:?} are not in the table of whole nodes");
}

/// A flush fails while the node is paused, and its disk is right again when it goes on: it stops then, and has a reason.
#[test]
fn a_paused_node_hears_late_that_its_disk_has_failed() {
    pass(ProfileName::Crashes, 28..29);
}

/// A batch becomes durable as on Linux, by the write alone, or by a sync behind it as elsewhere; in most clusters there are both.
#[test]
fn machines_flush_in_both_ways() {
    let (mut alone, mut synced) = (0, 0);
    for seed in 0..4 {
        let (_, drive) = run_part(seed, ProfileName::Calm, Omit::default(), false);
        for node in drive.ids() {
            let counts = drive.world.disk(node).expect("it was started").counts();
            // Of the other syncs there are a few for each segment.
            let by_itself = counts.durable_writes > counts.syncs / 2;
            assert!(
                by_itself || counts.durable_writes == 0 && counts.syncs > 20,
                "seed {seed}, node {node}: {counts:?}"
            );
            if by_itself { alone += 1 } else { synced += 1 }
        }
    }
    assert!(alone > synced && synced > 2, "{alone} {synced}");
}

/// A full disk is looked at again, as the log's own thread does it: what waits for room goes on when there is some, although nothing
/// else is written meanwhile.
#[test]
fn what_waits_for_room_goes_on_when_there_is_some() {
    let options = WalOptions { segment_bytes: 64 << 10, ..WalOptions::default() };
    let mut world = NodeWorld::of(1, Story::default(), WalStores::new(1, options));
    world.start(1).unwrap();
    let node = world.running(1).unwrap();
    let (raft, runtime, written) = (node.raft.clone(), node.runtime.clone(), Arc::new(AtomicBool::new(false)));
    let founder = raft.clone();
    runtime.spawn(async move { founder.initialize(BTreeMap::from([(1, BasicNode::new("n1"))])).await.unwrap() });
    let run = |world: &mut NodeWorld<Story>| {
        let until = world.now().after(Duration::from_secs(3));
        while world.step(until).unwrap() {}
    };
    run(&mut world);
    assert_eq!(world.leader(), Some(1));
    let disk = world.disk(1).unwrap().clone();
    disk.set_capacity(Some(0));
    let done = Arc::clone(&written);
    // Longer than what is left of the first segment.
    let value = "v".repeat(64 << 10);
    runtime.spawn(async move {
        raft.client_write(set("key", &value)).await.unwrap();
        done.store(true, Ordering::Relaxed);
    });
    run(&mut world);
    assert!(!written.load(Ordering::Relaxed) && disk.counts().faults > 0, "there is no room");
    disk.set_capacity(None);
    run(&mut world);
    assert!(written.load(Ordering::Relaxed));
}

#[test]
fn the_same_seed_gives_the_same_run_to_the_bit() {
    for profile in [ProfileName::Crashes, ProfileName::Membership] {
        let (first, second) = (run_seed(3, profile, true), run_seed(3, profile, true));
        assert_eq!(first.trace, second.trace);
        assert_eq!(first, second);
        assert_ne!(first.trace_hash, run_seed(4, profile, false).trace_hash);
    }
}

#[test]
fn whether_a_trace_is_kept_changes_nothing() {
    let (kept, not_kept) = (run_seed(3, ProfileName::Mixed, true), run_seed(3, ProfileName::Mixed, false));
    assert_eq!(kept.trace_hash, not_kept.trace_hash);
    assert!(kept.trace.len() > 1_000 && not_kept.trace.is_empty());
}

/// Of ten seeds each trace is the same, line by line.
#[test]
fn ten_seeds_are_replayed_to_the_letter() {
    for seed in 0..10 {
        let [first, second] = [(); 2].map(|()| run_seed(seed, ProfileName::Mixed, true).trace);
        assert!(!first.is_empty() && first == second, "seed {seed}");
    }
}

/// A run that was shrunk is written down; what is written must be a scenario.
#[test]
fn a_run_is_a_scenario_file() {
    for seed in 0..3 {
        let (_, drive) = run_part(seed, ProfileName::Mixed, Omit::default(), true);
        let text = script(seed, &drive);
        let scenario = parse(&text).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(scenario.statements.len() > 20, "seed {seed}");
    }
}

/// Shrinking works on real runs: of all that goes wrong, what is looked for is left.
#[test]
fn a_run_is_shrunk_to_what_it_needs() {
    let dark = |seed, omit: &Omit| {
        let (outcome, drive) = run_part(seed, ProfileName::Crashes, omit.clone(), false);
        let lost = outcome.faults.count(Fault::PowerLoss) > 0;
        Tried { broken: lost.then_some("a node loses power"), faults: drive.ticks(), operations: drive.operations() }
    };
    let seed = (0..20).find(|seed| dark(*seed, &Omit::default()).broken.is_some()).expect("one does in twenty runs");
    let tried = |omit: &Omit| dark(seed, omit);
    let shrunk = shrink(60, tried).expect("it does in this run");
    assert_eq!((shrunk.faults.0, shrunk.operations.0), (1, 0), "of {:?}", shrunk.faults);
    assert_eq!(tried(&shrunk.omit).broken, Some(shrunk.broken));
    let (_, drive) = run_part(seed, ProfileName::Crashes, shrunk.omit, true);
    let text = script(seed, &drive);
    assert!(text.lines().any(|line| line.starts_with("powerloss ")), "{text}");
    parse(&text).unwrap_or_else(|error| panic!("{error}"));
}

/// Leaving faults out leaves the others as they were, and without any there is none.
#[test]
fn faults_can_be_left_out_one_by_one() {
    let kinds = |omit| run_part(5, ProfileName::Crashes, omit, false).0.faults;
    let all = kinds(Omit::default());
    let none = kinds(Omit { faults: (1..10_000).collect(), ..Omit::default() });
    for fault in [Fault::Crash, Fault::PowerLoss, Fault::Pause, Fault::BitFlip, Fault::CrashAtAwait] {
        assert_eq!(none.count(fault), 0, "{fault}");
    }
    assert!(all.kinds() > none.kinds() + 3, "{} and {}", all.kinds(), none.kinds());
}
