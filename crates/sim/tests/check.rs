//! An application's own state machine under faults: a right one passes, wrong ones are caught.

#![allow(clippy::panic, clippy::expect_used, clippy::unwrap_used)] // a test fails by panicking

use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use raftwright_sim::check;
use raftwright_sim::check::Chance;
use raftwright_sim::runtime::SimRuntime;
use raftwright_traits::{
    BasicNode, Entry, EntryPayload, LogIdOf, RaftSnapshotBuilder, RaftStateMachine, Snapshot, SnapshotMeta,
    StorageError, StoredMembership, declare_raft_types,
};

declare_raft_types!(
    App: D = Bytes, R = u64, NodeId = u64, Node = BasicNode, AsyncRuntime = SimRuntime
);

/// Counts the bytes that it was given.
#[derive(Debug, Default)]
struct Counter {
    sum: u64,
    /// What a right one does not have: something of this process alone.
    salt: u64,
    applied: Option<LogIdOf<App>>,
    membership: StoredMembership<App>,
}

impl Counter {
    fn snapshot(&self) -> Snapshot<App> {
        let meta = SnapshotMeta::<App> {
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
            snapshot_id: self.sum.to_string(),
        };
        Snapshot { meta, snapshot: Cursor::new(self.sum.to_be_bytes().to_vec()) }
    }
}

struct Builder(Option<Snapshot<App>>);

impl RaftSnapshotBuilder<App> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<App>, StorageError> {
        Ok(self.0.take().expect("built once"))
    }
}

impl RaftStateMachine<App> for Counter {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogIdOf<App>>, StoredMembership<App>), StorageError> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply(&mut self, entries: Vec<Entry<App>>) -> Result<Vec<u64>, StorageError> {
        let apply = |entry: Entry<App>| {
            self.applied = Some(entry.log_id);
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(bytes) => self.sum += bytes.len() as u64 + self.salt,
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::<App> { log_id: Some(entry.log_id), membership };
                }
            }
            self.sum
        };
        Ok(entries.into_iter().map(apply).collect())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder(Some(self.snapshot()))
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Cursor<Vec<u8>>, StorageError> {
        Ok(Cursor::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<App>,
        snapshot: Cursor<Vec<u8>>,
    ) -> Result<(), StorageError> {
        self.sum = u64::from_be_bytes(snapshot.into_inner().try_into().expect("eight bytes"));
        (self.applied, self.membership) = (meta.last_log_id, meta.last_membership.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<App>>, StorageError> {
        Ok(None)
    }
}

fn workload(chance: &mut Chance) -> Bytes {
    Bytes::from(vec![0; chance.below(9) as usize])
}

#[test]
fn a_right_state_machine_passes() {
    check(Counter::default, workload).seeds(0..4).run();
}

#[test]
fn a_state_machine_that_depends_on_its_process_is_caught() {
    let processes = Arc::new(AtomicU64::new(0));
    let wrong = move || Counter { salt: processes.fetch_add(1, Ordering::Relaxed), ..Counter::default() };
    let failed = check(wrong, workload).run_seed(3).expect_err("no two nodes agree");
    assert!(failed.what.contains("state machine safety"), "{}", failed.what);
}
