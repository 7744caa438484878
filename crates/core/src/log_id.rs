//! Where an entry stands, and who put it there.

use core::fmt::{Debug, Display, Formatter, Result};

use crate::{CommittedLeaderId, LeaderId, LogIndex, Types};

/// Identifies a log entry: two entries with the same log id are the same entry, and so is all that comes before them
/// (the Log Matching Property, Raft §5.3).
///
/// Log ids are ordered by leader first, then by index: the greater of two last log ids belongs to the more up-to-date
/// log (Raft §5.4.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LogId<CLID> {
    /// The leader that created the entry.
    pub leader_id: CLID,
    /// The entry's index, from 1.
    pub index: LogIndex,
}

/// The log id for a set of types.
pub type LogIdOf<T> = LogId<CommittedLeaderIdOf<T>>;

/// The committed leader id for a set of types.
pub type CommittedLeaderIdOf<T> = <<T as Types>::LeaderId as LeaderId>::Committed;

impl<CLID: CommittedLeaderId> LogId<CLID> {
    /// The entry of that leader at that index.
    pub fn new(leader_id: CLID, index: LogIndex) -> Self {
        Self { leader_id, index }
    }
}

impl<CLID: Display> Display for LogId<CLID> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{}.{}", self.leader_id, self.index)
    }
}

impl<CLID: Display> Debug for LogId<CLID> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{}.{}", self.leader_id, self.index)
    }
}

/// The index of an optional log id, zero for none: the index before the first entry.
pub trait LogIdOption {
    /// The index, or 0.
    fn index_or_zero(&self) -> LogIndex;

    /// The index after it.
    fn next_index(&self) -> LogIndex {
        self.index_or_zero().saturating_add(1)
    }
}

impl<CLID> LogIdOption for Option<LogId<CLID>> {
    fn index_or_zero(&self) -> LogIndex {
        self.as_ref().map_or(0, |id| id.index)
    }
}
