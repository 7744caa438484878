//! A snapshot and what it says about itself.

use crate::{LogIdOf, RaftTypeConfig, StoredMembership};

/// What a snapshot stands for (Raft §7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotMeta<C: RaftTypeConfig> {
    /// The last entry that is in it; `None` for the state before the first entry.
    pub last_log_id: Option<LogIdOf<C>>,
    /// The last membership at or before that entry. Always a committed one.
    pub last_membership: StoredMembership<C>,
    /// Tells two snapshots of the same entry apart.
    pub snapshot_id: String,
}

/// A snapshot.
#[derive(Debug)]
pub struct Snapshot<C: RaftTypeConfig> {
    /// What it stands for.
    pub meta: SnapshotMeta<C>,
    /// Its content.
    pub snapshot: C::SnapshotData,
}
