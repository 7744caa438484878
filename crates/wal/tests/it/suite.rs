//! The conformance suite of log stores over this one, on the simulated disk, with its thread.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use raftwright_traits::testing::{
    Loss as PowerLoss, NotOffered, PowerSwitch, StoreBuilder, Suite, Survives, TestData, TestMachine, Work,
};
use raftwright_traits::{Defensive, StorageError, StorageErrorKind, StoreExt};
use raftwright_wal::testing::{Loss, SimDisk};
use raftwright_wal::{DataDir, DataDirOptions, WalEnd, WalLog};

use crate::harness::{OPTIONS, ROOT};

raftwright_traits::declare_raft_types!(
    /// The types of the suite's state machine.
    Types: D = Bytes, R = Bytes,
);

struct Power(SimDisk);

impl PowerSwitch for Power {
    fn cut(&self, loss: PowerLoss) {
        self.0.power_cut(match loss {
            PowerLoss::Everything => Loss::Everything,
            PowerLoss::Part { seed } if seed % 2 == 0 => Loss::Sectors,
            PowerLoss::Part { .. } => Loss::Prefix,
        });
    }

    fn fail_next_sync(&self) -> Result<(), NotOffered> {
        self.0.fail_sync(0);
        Ok(())
    }
}

/// A disk, and the end of the log that was opened on it last.
struct Shelf {
    disk: SimDisk,
    end: Option<WalEnd>,
}

/// Logs on simulated disks, each with an incarnation of its own.
#[derive(Default)]
struct OnSimDisk {
    opened: AtomicU64,
}

fn refused(error: impl std::error::Error) -> StorageError {
    StorageError::new(StorageErrorKind::Corrupt, format!("the log does not open: {error}"))
}

impl StoreBuilder<Types> for OnSimDisk {
    type LogStore = WalLog<Types, SimDisk>;
    type StateMachine = TestMachine<Types>;
    type Media = Shelf;

    async fn media(&self) -> Result<Shelf, StorageError> {
        Ok(Shelf { disk: SimDisk::new(self.opened.fetch_add(1, Ordering::Relaxed)), end: None })
    }

    async fn open(&self, shelf: &mut Shelf) -> Result<(Self::LogStore, Self::StateMachine), StorageError> {
        if let Some(end) = shelf.end.take() {
            end.await;
        }
        let options = DataDirOptions { node_id: 1, random: self.opened.fetch_add(1, Ordering::Relaxed) };
        let dir = DataDir::open(shelf.disk.clone(), Path::new(ROOT), options).map_err(refused)?;
        let (log, _) = WalLog::open(Arc::new(dir), OPTIONS).map_err(refused)?;
        shelf.end = Some(log.end());
        Ok((log, TestMachine::default()))
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

    fn power(&self, shelf: &Shelf) -> Option<Arc<dyn PowerSwitch>> {
        Some(Arc::new(Power(shelf.disk.clone())))
    }

    fn spawn(&self, work: Work) -> Result<(), NotOffered> {
        std::thread::spawn(work);
        Ok(())
    }
}

/// The same, with the checking wrapper around each log.
#[derive(Default)]
struct Watched(OnSimDisk);

impl StoreBuilder<Types> for Watched {
    type LogStore = StoreExt<Types, WalLog<Types, SimDisk>>;
    type StateMachine = TestMachine<Types>;
    type Media = Shelf;

    async fn media(&self) -> Result<Shelf, StorageError> {
        self.0.media().await
    }

    async fn open(&self, shelf: &mut Shelf) -> Result<(Self::LogStore, Self::StateMachine), StorageError> {
        let (log, machine) = self.0.open(shelf).await?;
        let log = StoreExt::new(log);
        log.switch().set_defensive(Defensive::On);
        Ok((log, machine))
    }

    fn survives(&self) -> Survives {
        self.0.survives()
    }

    fn data(&self, number: u64) -> Bytes {
        self.0.data(number)
    }

    fn node_id(&self, number: u64) -> u64 {
        self.0.node_id(number)
    }

    fn power(&self, shelf: &Shelf) -> Option<Arc<dyn PowerSwitch>> {
        self.0.power(shelf)
    }

    fn spawn(&self, work: Work) -> Result<(), NotOffered> {
        self.0.spawn(work)
    }
}

#[test]
fn the_log_keeps_the_contract_while_it_is_watched() {
    Suite::test_all(Watched::default()).unwrap();
}

#[test]
fn the_log_keeps_the_contract() {
    let report = Suite::test_all(OnSimDisk::default()).unwrap();
    assert_eq!(report.skipped, []);
}
