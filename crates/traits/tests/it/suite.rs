//! The suite over the stores of this crate, and what it says of itself.

use std::collections::BTreeSet;

use raftwright_traits::MemLogStore;
use raftwright_traits::testing::{Mode, StoreBuilder, Suite, TestMachine};

use crate::TestConfig;

async fn in_memory() -> (MemLogStore<TestConfig>, TestMachine<TestConfig>) {
    (MemLogStore::new(), TestMachine::default())
}

#[test]
fn the_log_in_memory_passes() {
    let report = Suite::test_all(in_memory).unwrap();
    assert!(report.passed.len() >= 70, "{} checks were run", report.passed.len());
    assert!(report.passed.iter().all(|passed| passed.mode == Mode::Straight), "nothing survives in memory");
    let skipped: Vec<&str> = report.skipped.iter().map(|skipped| skipped.check).collect();
    assert_eq!(skipped.len(), 7, "{skipped:?}");
}

/// The suite has as many checks as it says, each under a name of its own.
#[test]
fn every_check_has_a_name_of_its_own() {
    fn names<B: StoreBuilder<TestConfig>>(_: B) -> Vec<&'static str> {
        Suite::names::<B>()
    }
    let names = names(in_memory);
    println!("{} checks: {names:#?}", names.len());
    assert!(names.len() >= 100, "{}", names.len());
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
}
