//! A snapshot and what it says about itself.

use std::fmt::{Debug, Formatter};
use std::io::{Cursor, Error, ErrorKind, Result};
use std::sync::Arc;

use raftwright_core::Identity;

use crate::{InstallSnapshotRequest, LogIdOf, RaftTypeConfig, StoredMembership, VoteOf};

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
pub struct Snapshot<C: RaftTypeConfig> {
    /// What it stands for.
    pub meta: SnapshotMeta<C>,
    /// Its content.
    pub snapshot: C::SnapshotData,
}

impl<C: RaftTypeConfig> Debug for Snapshot<C> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("meta", &self.meta).finish_non_exhaustive()
    }
}

/// The content of a snapshot as a network sends it in pieces, and puts it together again. Calls may block; whoever makes
/// them does so where that harms nobody.
///
/// It is up to the type what the bytes are. A directory of many files, say, is a table of their names and lengths and then
/// the files, one behind the other.
pub trait SnapshotContent: Send + Sync + 'static {
    /// How many bytes there are. It stays the same for as long as the content is sent.
    ///
    /// # Errors
    /// It cannot be found out.
    fn size(&self) -> Result<u64>;

    /// Reads bytes at `offset`, and says how many: 0 only at the end or if `buffer` is empty.
    ///
    /// # Errors
    /// They cannot be read.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize>;

    /// Writes all of `bytes` at `offset`. A transfer writes from the start on, without gaps; after a break it may write the
    /// last bytes again.
    ///
    /// # Errors
    /// They cannot be written.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()>;
}

impl SnapshotContent for Cursor<Vec<u8>> {
    fn size(&self) -> Result<u64> {
        Ok(self.get_ref().len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|at| self.get_ref().get(at..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let at = usize::try_from(offset).ok().filter(|at| *at <= self.get_ref().len());
        let at = at.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "a snapshot is written without gaps"))?;
        let content = self.get_mut();
        content.truncate(at);
        content.extend_from_slice(bytes);
        Ok(())
    }
}

/// A snapshot on its way to a server that needs it (Raft §7).
#[derive(Debug)]
pub struct SnapshotRequest<C: RaftTypeConfig> {
    /// The leader.
    pub from: Identity<C::NodeId>,
    /// The leader's vote, committed.
    pub vote: VoteOf<C>,
    /// What is sent. The same one is sent again after a break, so that the transfer can go on where it broke.
    pub snapshot: Arc<Snapshot<C>>,
}

impl<C: RaftTypeConfig> Clone for SnapshotRequest<C> {
    fn clone(&self) -> Self {
        Self { from: self.from, vote: self.vote, snapshot: Arc::clone(&self.snapshot) }
    }
}

impl<C: RaftTypeConfig> SnapshotRequest<C> {
    /// What the receiver's replica gets to see of it. `None` for the state before the first entry, which is never sent.
    pub fn head(&self) -> Option<InstallSnapshotRequest<C>> {
        let meta = &self.snapshot.meta;
        meta.last_log_id.map(|last_log_id| InstallSnapshotRequest::<C> {
            from: self.from,
            vote: self.vote,
            last_log_id,
            last_membership: meta.last_membership.clone(),
        })
    }
}
