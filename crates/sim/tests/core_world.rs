//! Clusters of pure replicas: a few seeds of every profile, twice, and the properties of the simulator itself.

#![allow(clippy::panic, clippy::expect_used, clippy::unwrap_used)] // a test fails by panicking

use raftwright_sim::core_world::{Outcome, ProfileName, run_seed};
use raftwright_sim::world::{Fault, FaultLog};

/// Runs seeds of a profile; a failing one names the command that repeats it.
fn pass(profile: ProfileName, seeds: std::ops::Range<u64>) -> Vec<Outcome> {
    seeds
        .map(|seed| {
            let outcome = run_seed(seed, profile, false);
            if let Some(failure) = &outcome.failure {
                panic!("raftwright-sim replay --profile {} --seed {seed} --trace\n{failure}", profile.name());
            }
            outcome
        })
        .collect()
}

#[test]
fn calm_clusters_elect_once_and_serve() {
    for outcome in pass(ProfileName::Calm, 0..2) {
        assert_eq!(outcome.elections, 1, "seed {}", outcome.seed);
        assert!(outcome.operations > 100, "seed {}: {}", outcome.seed, outcome.operations);
    }
}

#[test]
fn clusters_survive_a_bad_network() {
    pass(ProfileName::Network, 0..2);
}

#[test]
fn clusters_survive_crashes_and_bad_disks() {
    pass(ProfileName::Crashes, 0..2);
}

#[test]
fn clusters_survive_changes_of_their_membership() {
    pass(ProfileName::Membership, 0..2);
}

#[test]
fn leases_hold_while_clocks_are_wrong_within_the_bound() {
    pass(ProfileName::Leases, 0..2);
}

#[test]
fn mixed_seeds_differ_in_kind_and_their_faults_really_happen() {
    let mut faults = FaultLog::default();
    for outcome in pass(ProfileName::Mixed, 0..9) {
        faults.merge(&outcome.faults);
    }
    let silent: Vec<_> =
        Fault::ALL.iter().filter(|fault| faults.count(**fault) == 0).map(|fault| fault.name()).collect();
    assert!(faults.kinds() >= 40, "only {} kinds; silent: {silent:?}", faults.kinds());
}

#[test]
fn the_same_seed_gives_the_same_run_to_the_bit() {
    for profile in [ProfileName::Mixed, ProfileName::Membership] {
        let (first, second) = (run_seed(7, profile, true), run_seed(7, profile, true));
        assert_eq!(first.trace, second.trace);
        assert_eq!(first, second);
        assert_ne!(first.trace_hash, run_seed(8, profile, false).trace_hash);
    }
}

/// Of ten seeds each trace is the same, line by line.
#[test]
fn ten_seeds_are_replayed_to_the_letter() {
    for seed in 0..10 {
        let [first, second] = [(); 2].map(|()| run_seed(seed, ProfileName::Crashes, true).trace);
        assert!(!first.is_empty() && first == second, "seed {seed}");
    }
}

#[test]
fn whether_a_trace_is_kept_changes_nothing() {
    let (kept, not_kept) = (run_seed(3, ProfileName::Mixed, true), run_seed(3, ProfileName::Mixed, false));
    assert_eq!(kept.trace_hash, not_kept.trace_hash);
    assert!(kept.trace.len() > 1_000 && not_kept.trace.is_empty());
}
