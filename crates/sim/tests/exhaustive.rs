//! The exhaustive search on its smaller bounds; the command line runs all of them.

#![allow(clippy::panic, clippy::expect_used, clippy::unwrap_used)] // a test fails by panicking

use raftwright_sim::exhaustive::{Bounds, Report, search};

fn look(name: &str, states_max: u64) -> Report {
    let all = Bounds::all();
    let bounds = all.iter().find(|bounds| bounds.name == name).expect("there is a search of that name");
    let report = search(bounds, states_max);
    if let Some(violation) = &report.violation {
        panic!("{name}\n{violation}");
    }
    report
}

#[test]
fn small_bounds_are_covered() {
    for name in ["disk-2", "joint-2"] {
        let report = look(name, u64::MAX);
        assert!(report.closed, "{name}");
        assert!(report.states > 50_000, "{name}: {} states", report.states);
        // Servers that differ in nothing but their names are interchangeable; few states are their own twins.
        assert!(report.with_twins > report.states * 19 / 10, "{name}: {} with twins", report.with_twins);
    }
}

#[test]
fn a_search_is_the_same_every_time() {
    assert_eq!(look("transfers", 20_000), look("transfers", 20_000));
}

#[test]
fn names_of_searches_are_unique() {
    let mut names: Vec<_> = Bounds::all().iter().map(|bounds| bounds.name).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
}

/// A search that cannot fail is worth nothing: the command `sabotage` shows more, in a build of its own.
#[cfg(feature = "sabotage")]
#[test]
fn a_joint_membership_that_asks_only_one_side_is_found() {
    use raftwright_core::sabotage::{Bug, set};
    let all = Bounds::all();
    let bounds = all.iter().find(|bounds| bounds.name == "joint-1").expect("there is a search of that name");
    set(Some(Bug::JointAsksNewOnly));
    let report = search(bounds, u64::MAX);
    set(None);
    let violation = report.violation.expect("found");
    assert_eq!(violation.broken.property, "election safety");
    assert!(!violation.steps.is_empty());
}
