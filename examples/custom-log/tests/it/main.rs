//! The conformance suite over the log, on real files and on storage whose power is cut.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod storage;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use raftwright_traits::testing::{
    Mode, NotOffered, PowerSwitch, StoreBuilder, Suite, Survives, TestData, TestMachine, Work,
};
use raftwright_traits::{BlockingLog, StorageError, StorageErrorKind};

use storage::Storage;

raftwright_traits::declare_raft_types!(
    /// The types of the suite's state machine.
    Types: D = Bytes, R = Bytes,
);

type Stores = (BlockingLog<Types>, TestMachine<Types>);

fn opened(log: Result<BlockingLog<Types>, StorageError>) -> Result<Stores, StorageError> {
    log.map(|log| (log, TestMachine::default()))
}

/// Logs in files.
#[derive(Default)]
struct InFiles {
    made: AtomicU64,
}

impl StoreBuilder<Types> for InFiles {
    type LogStore = BlockingLog<Types>;
    type StateMachine = TestMachine<Types>;
    type Media = tempfile::TempDir;

    async fn media(&self) -> Result<tempfile::TempDir, StorageError> {
        tempfile::tempdir().map_err(|error| StorageError::new(StorageErrorKind::Write, error.to_string()))
    }

    async fn open(&self, dir: &mut tempfile::TempDir) -> Result<Stores, StorageError> {
        let random = self.made.fetch_add(1, Ordering::Relaxed);
        opened(custom_log::open(&dir.path().join("log.redb"), random))
    }

    fn survives(&self) -> Survives {
        Survives::Log
    }

    fn data(&self, number: u64) -> Bytes {
        Bytes::test_data(number)
    }

    fn node_id(&self, number: u64) -> u64 {
        number
    }

    fn spawn(&self, work: Work) -> Result<(), NotOffered> {
        std::thread::spawn(work);
        Ok(())
    }
}

/// Logs on storage whose power is cut.
#[derive(Default)]
struct OnStorage {
    made: AtomicU64,
}

impl StoreBuilder<Types> for OnStorage {
    type LogStore = BlockingLog<Types>;
    type StateMachine = TestMachine<Types>;
    type Media = Storage;

    async fn media(&self) -> Result<Storage, StorageError> {
        Ok(Storage::default())
    }

    async fn open(&self, storage: &mut Storage) -> Result<Stores, StorageError> {
        opened(custom_log::open_on(storage.plug_in(), self.made.fetch_add(1, Ordering::Relaxed)))
    }

    fn survives(&self) -> Survives {
        Survives::Log
    }

    fn data(&self, number: u64) -> Bytes {
        Bytes::test_data(number)
    }

    fn node_id(&self, number: u64) -> u64 {
        number
    }

    fn power(&self, storage: &Storage) -> Option<Arc<dyn PowerSwitch>> {
        Some(Arc::new(storage.clone()))
    }

    fn spawn(&self, work: Work) -> Result<(), NotOffered> {
        std::thread::spawn(work);
        Ok(())
    }
}

#[test]
fn the_log_in_a_file_keeps_the_contract() {
    let report = Suite::test_all(InFiles::default()).unwrap();
    assert!(report.passed.iter().any(|passed| passed.mode == Mode::Reopened));
    assert!(report.skipped.iter().all(|skipped| skipped.needs.contains("power")), "{:?}", report.skipped);
}

#[test]
fn the_log_keeps_the_contract_when_the_power_goes() {
    let report = Suite::test_all(OnStorage::default()).unwrap();
    assert_eq!(report.skipped, []);
    println!("{} checks passed, {} power cuts", report.passed.len(), storage::cuts());
}
