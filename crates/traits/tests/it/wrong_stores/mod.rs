//! Stores that are wrong in one way each, and the check of the suite that is meant for it.

pub(crate) mod disk;
mod flaw;
mod log;
mod machine;

use std::sync::Arc;

use bytes::Bytes;
use raftwright_traits::StorageError;
use raftwright_traits::testing::{NotOffered, PowerSwitch, StoreBuilder, Suite, Survives, TestData, TestShelf, Work};

use crate::TestConfig;
use disk::Disk;
use flaw::Flaw;
use log::{Log, Record};
use machine::Machine;

/// Builds stores with this flaw.
struct Flawed(Flaw);

impl StoreBuilder<TestConfig> for Flawed {
    type LogStore = Log;
    type StateMachine = Machine;
    type Media = (Disk<Record>, TestShelf<TestConfig>);

    async fn media(&self) -> Result<Self::Media, StorageError> {
        Ok((Disk::new(), TestShelf::default()))
    }

    async fn open(&self, (disk, shelf): &mut Self::Media) -> Result<(Log, Machine), StorageError> {
        let (handle, records) = disk.open();
        Ok((Log::open(handle, records, self.0), Machine::new(shelf.clone(), self.0)))
    }

    fn survives(&self) -> Survives {
        Survives::Everything
    }

    fn data(&self, number: u64) -> Bytes {
        Bytes::test_data(number)
    }

    fn node_id(&self, number: u64) -> u64 {
        number
    }

    fn power(&self, (disk, _): &Self::Media) -> Option<Arc<dyn PowerSwitch>> {
        Some(Arc::new(disk.clone()))
    }

    fn spawn(&self, work: Work) -> Result<(), NotOffered> {
        std::thread::spawn(work);
        Ok(())
    }
}

/// The stores are right but for their flaw: otherwise it would show nothing that they fail.
#[test]
fn without_a_flaw_everything_passes() {
    let report = Suite::test_all(Flawed(Flaw::None)).unwrap();
    assert_eq!(report.skipped, []);
}

#[test]
fn each_flaw_is_caught_by_the_check_meant_for_it() {
    for (flaw, meant) in Flaw::ALL {
        let report = Suite::report(Flawed(flaw));
        let caught: Vec<&str> = report.failed.iter().map(|failed| failed.check).collect();
        println!("{flaw:?}: {} failures of {}", caught.len(), caught.len() + report.passed.len());
        assert!(caught.contains(&meant), "{flaw:?} is caught by {caught:?}, and not by {meant}");
    }
}

/// A failure says which check it was, how it was run, what was done, and what the store did.
#[test]
fn a_failure_tells_the_story() {
    let failed = Suite::test_all(Flawed(Flaw::TruncatesBehindTheIndex)).unwrap_err();
    let of_interest = failed.failed.iter().find(|failed| failed.check == "a_truncation_takes_the_end").unwrap();
    let text = of_interest.to_string();
    for part in ["a_truncation_takes_the_end (straight through)", "the last log id is T2.3, not T1.2", "truncate(3)"] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    assert!(failed.to_string().contains(&text));
}

/// A store that panics fails the check at hand, and the suite goes on.
#[test]
fn a_store_that_panics_fails_by_name() {
    async fn none() -> (Log, Machine) {
        panic!("no store today")
    }
    let report = Suite::<TestConfig>::report(none);
    assert!(report.passed.is_empty());
    assert!(report.failed.len() > 45);
    assert!(report.failed.iter().all(|failed| failed.what.contains("no store today")), "{:?}", report.failed.first());
}
