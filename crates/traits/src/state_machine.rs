//! The state machine that the log is applied to.

use std::future::Future;

use crate::{LogIdOf, RaftTypeConfig, Snapshot, SnapshotMeta, StorageError, StoredMembership};

/// An application's replicated state. Owned by one task; entries come to it once, in order, without gaps.
pub trait RaftStateMachine<C: RaftTypeConfig>: Send + 'static {
    /// Builds snapshots while entries go on being applied.
    type SnapshotBuilder: RaftSnapshotBuilder<C>;

    /// The last entry that was applied durably, and the last membership at or before it. After a restart, entries are
    /// applied from the one behind it on; a state machine in memory answers `(None, default)` and gets all of them.
    ///
    /// # Errors
    /// Stop the node.
    fn applied_state(
        &mut self,
    ) -> impl Future<Output = Result<(Option<LogIdOf<C>>, StoredMembership<C>), StorageError>> + Send;

    /// Applies committed entries, and answers each: one answer an entry, in their order, also for blank and membership
    /// entries. An answer that says "no" is an answer; an error is for a state machine that cannot go on.
    ///
    /// # Errors
    /// Stop the node.
    fn apply(&mut self, entries: Vec<C::Entry>) -> impl Future<Output = Result<Vec<C::R>, StorageError>> + Send;

    /// A builder that sees the state as it is now, whatever is applied later.
    fn get_snapshot_builder(&mut self) -> impl Future<Output = Self::SnapshotBuilder> + Send;

    /// Where to put the content of a snapshot that is about to arrive.
    ///
    /// # Errors
    /// Stop the node.
    fn begin_receiving_snapshot(&mut self) -> impl Future<Output = Result<C::SnapshotData, StorageError>> + Send;

    /// Replaces the state by that of a snapshot, at one commit point: a crash leaves the old state or the new.
    ///
    /// # Errors
    /// Stop the node.
    fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<C>,
        snapshot: C::SnapshotData,
    ) -> impl Future<Output = Result<(), StorageError>> + Send;

    /// The newest snapshot, if there is one.
    ///
    /// # Errors
    /// Stop the node.
    fn get_current_snapshot(&mut self) -> impl Future<Output = Result<Option<Snapshot<C>>, StorageError>> + Send;
}

/// Builds a snapshot in a task of its own.
pub trait RaftSnapshotBuilder<C: RaftTypeConfig>: Send + 'static {
    /// Builds it, keeps it durably, and hands it out.
    ///
    /// # Errors
    /// Are noted; the node goes on without this snapshot.
    fn build_snapshot(&mut self) -> impl Future<Output = Result<Snapshot<C>, StorageError>> + Send;
}
