//! What the log is asked to keep, without types of any application.

use bytes::Bytes;

/// Longest vote that a store accepts, in bytes. A longer one is refused; where one seems to stand, the media is damaged.
pub const VOTE_BYTES_MAX: usize = 64 * 1024;
/// Longest payload of one entry, and most bytes of all payloads of one append. What is longer is refused.
pub const PAYLOAD_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Most entries in one append. A longer one is refused.
pub const APPEND_ENTRIES_MAX: usize = 1 << 20;

/// Identity of an entry: the leader that proposed it and its place (Raft §5.3: index and term determine an entry).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RawLogId {
    /// Term of the leader.
    pub term: u64,
    /// The leader, where the kind of leader id names it; `None` where a committed leader is its term alone.
    pub node: Option<u64>,
    /// Position in the log.
    pub index: u64,
}

/// One entry as the log keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawEntry {
    /// What the payload is; opaque here.
    pub kind: u8,
    /// Identity of the entry.
    pub log_id: RawLogId,
    /// The encoded payload; opaque here, at most [`PAYLOAD_BYTES_MAX`].
    pub payload: Bytes,
}

/// One write. All writes of a log stand in one order, that in which they were submitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Replaces the vote. Opaque here, at most [`VOTE_BYTES_MAX`].
    Vote(Bytes),
    /// Adds entries behind the last one; indexes without a gap.
    Append(Vec<RawEntry>),
    /// Removes all entries with an index of `from` and above.
    Truncate {
        /// First index to go.
        from: u64,
    },
    /// Removes all entries up to and with this one, which a snapshot covers. When the log holds another entry at this
    /// index, or none, the whole log goes and continues behind `up_to`.
    Purge {
        /// Last entry to go.
        up_to: RawLogId,
    },
}

/// The outline of a log: where it begins and ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Last entry that was purged.
    pub purged: Option<RawLogId>,
    /// Last entry; the purged one when nothing follows it.
    pub last: Option<RawLogId>,
}
