//! The conformance suite over the log and the state machine, on real files.

use std::sync::atomic::{AtomicU64, Ordering};

use raft_kv_rocksdb::{Request, RocksMachine, TypeConfig, open};
use raftwright_traits::testing::{Mode, NotOffered, StoreBuilder, Suite, Survives, TestData, Work};
use raftwright_traits::{BlockingLog, StorageError, StorageErrorKind};
use tempfile::TempDir;

#[derive(Default)]
struct OnDisk {
    made: AtomicU64,
}

impl StoreBuilder<TypeConfig> for OnDisk {
    type LogStore = BlockingLog<TypeConfig>;
    type StateMachine = RocksMachine;
    type Media = TempDir;

    async fn media(&self) -> Result<TempDir, StorageError> {
        tempfile::tempdir().map_err(|error| StorageError::new(StorageErrorKind::Write, error.to_string()))
    }

    async fn open(&self, dir: &mut TempDir) -> Result<(Self::LogStore, Self::StateMachine), StorageError> {
        open(dir.path(), self.made.fetch_add(1, Ordering::Relaxed))
    }

    fn survives(&self) -> Survives {
        Survives::Everything
    }

    /// A few keys, so that answers tell what was applied before.
    fn data(&self, number: u64) -> Request {
        Request::Set { key: format!("key {}", number % 2), value: String::test_data(number) }
    }

    fn node_id(&self, number: u64) -> u64 {
        number
    }

    fn spawn(&self, work: Work) -> Result<(), NotOffered> {
        std::thread::spawn(work);
        Ok(())
    }
}

#[test]
fn log_and_state_machine_keep_the_contract() {
    let report = Suite::test_all(OnDisk::default()).unwrap();
    assert!(report.passed.iter().any(|passed| passed.mode == Mode::Reopened));
    assert!(report.skipped.iter().all(|skipped| skipped.needs.contains("power")), "{:?}", report.skipped);
    println!("{} checks passed", report.passed.len());
}
