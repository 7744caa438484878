//! A state machine that is right, and wrong in one way on demand.

use std::io::Cursor;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use raftwright_traits::testing::{TestMachine, TestShelf, TestSnapshotBuilder};
use raftwright_traits::{
    Entry, EntryPayload, RaftSnapshotBuilder, RaftStateMachine, Snapshot, SnapshotMeta, StorageError, StoredMembership,
};

use super::flaw::Flaw;
use crate::{Id, TestConfig};

/// A right one with a wrong one around it.
pub(crate) struct Machine {
    right: TestMachine<TestConfig>,
    shelf: TestShelf<TestConfig>,
    flaw: Flaw,
    first_membership: Option<StoredMembership<TestConfig>>,
    last_ordinary: Option<Id>,
    /// Snapshots of an earlier life are lost.
    has_snapshot: bool,
    built_last: BuiltLast,
}

impl Machine {
    pub(crate) fn new(shelf: TestShelf<TestConfig>, flaw: Flaw) -> Self {
        let right = TestMachine::new(shelf.clone());
        Self {
            right,
            shelf,
            flaw,
            first_membership: None,
            last_ordinary: None,
            has_snapshot: false,
            built_last: BuiltLast::default(),
        }
    }
}

/// The snapshot that was built last, whatever it is of.
type BuiltLast = Arc<Mutex<Option<(SnapshotMeta<TestConfig>, Vec<u8>)>>>;

/// A builder, or what it takes to make one when it is too late.
pub(crate) struct Builder {
    right: TestSnapshotBuilder<TestConfig>,
    shelf: TestShelf<TestConfig>,
    built_last: BuiltLast,
    flaw: Flaw,
}

impl RaftSnapshotBuilder<TestConfig> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TestConfig>, StorageError> {
        match self.flaw {
            Flaw::BuildsOfTheStateAsItIsLater => {
                let mut now = TestMachine::new(self.shelf.clone());
                now.get_snapshot_builder().await.build_snapshot().await
            }
            Flaw::LetsALateBuilderWin => {
                let built = self.right.build_snapshot().await?;
                *self.built_last.lock().unwrap() = Some((built.meta.clone(), built.snapshot.get_ref().clone()));
                Ok(built)
            }
            _ => self.right.build_snapshot().await,
        }
    }
}

impl RaftStateMachine<TestConfig> for Machine {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<Id>, StoredMembership<TestConfig>), StorageError> {
        let (applied, membership) = self.right.applied_state().await?;
        let applied = match self.flaw {
            Flaw::CountsOrdinaryEntriesAlone => self.last_ordinary,
            _ => applied,
        };
        let kept = self.first_membership.clone();
        let membership = match self.flaw {
            Flaw::KeepsTheFirstMembership | Flaw::KeepsItsOwnMembershipUnderASnapshot => kept.unwrap_or(membership),
            _ => membership,
        };
        Ok((applied, membership))
    }

    async fn apply(&mut self, entries: Vec<Entry<TestConfig>>) -> Result<Vec<Bytes>, StorageError> {
        let mut ordinary = Vec::new();
        for entry in &entries {
            match &entry.payload {
                EntryPayload::Normal(_) => {
                    self.last_ordinary = Some(entry.log_id);
                    ordinary.push(true);
                }
                EntryPayload::Membership(membership) => {
                    let stored = StoredMembership { log_id: Some(entry.log_id), membership: membership.clone() };
                    if self.flaw != Flaw::KeepsTheFirstMembership || self.first_membership.is_none() {
                        self.first_membership = Some(stored);
                    }
                    ordinary.push(false);
                }
                EntryPayload::Blank => ordinary.push(false),
            }
        }
        let answers = self.right.apply(entries).await?;
        Ok(match self.flaw {
            Flaw::AnswersOrdinaryEntriesAlone => {
                answers.into_iter().zip(ordinary).filter(|(_, ordinary)| *ordinary).map(|(answer, _)| answer).collect()
            }
            _ => answers,
        })
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        self.has_snapshot = true;
        Builder {
            right: self.right.get_snapshot_builder().await,
            shelf: self.shelf.clone(),
            built_last: Arc::clone(&self.built_last),
            flaw: self.flaw,
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Cursor<Vec<u8>>, StorageError> {
        self.right.begin_receiving_snapshot().await
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<TestConfig>,
        snapshot: Cursor<Vec<u8>>,
    ) -> Result<(), StorageError> {
        self.has_snapshot = self.flaw != Flaw::DoesNotKeepAnInstalledSnapshot;
        let content = match self.flaw {
            Flaw::InstallsTheNameAlone => Cursor::new(vec![0; 16]),
            _ => snapshot,
        };
        self.right.install_snapshot(meta, content).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TestConfig>>, StorageError> {
        let lost = match self.flaw {
            Flaw::DoesNotKeepAnInstalledSnapshot | Flaw::LosesBuiltSnapshotsWhenClosed => !self.has_snapshot,
            _ => false,
        };
        if let (Flaw::LetsALateBuilderWin, Some((meta, content))) = (self.flaw, self.built_last.lock().unwrap().clone())
        {
            return Ok(Some(Snapshot { meta, snapshot: Cursor::new(content) }));
        }
        if lost { Ok(None) } else { self.right.get_current_snapshot().await }
    }
}
