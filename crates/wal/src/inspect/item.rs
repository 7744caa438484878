//! What stands in a log, as somebody sees it who looks at the files.

use std::path::PathBuf;

use bytes::Bytes;

use crate::error::{Finding, OpenError};
use crate::record::{Extent, RawEntry, RawLogId};
use crate::typed::vote_fields;
use crate::verdict::{Acknowledged, Verdict};

/// One thing in the log, in the order of the files and of the places in them.
#[derive(Clone, Debug)]
pub enum Item {
    /// A segment file begins.
    Segment(SegmentItem),
    /// A batch begins.
    Batch(BatchItem),
    /// A record of the batch before.
    Record(RecordItem),
    /// A mark: everything before it is durable, and nothing follows yet. At this offset.
    Mark(u64),
    /// A seal: the log goes on in the next segment. At this offset.
    Seal(u64),
    /// Something is not as it was written.
    Damage(Finding),
    /// A segment is missing, or cannot be read at all; what stands in it is unknown.
    Lost(OpenError),
}

/// What a segment says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentItem {
    /// The file.
    pub path: PathBuf,
    /// Its number.
    pub sequence: u32,
    /// Its length in bytes.
    pub size: u64,
    /// Number of its first batch.
    pub first_batch: u64,
    /// Outline of the log when the segment was begun.
    pub extent: Extent,
    /// Commit index that was known then.
    pub committed: Option<u64>,
    /// The vote that held then.
    pub vote: Option<Bytes>,
}

/// What is written and synced at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchItem {
    /// Where it begins in its file.
    pub offset: u64,
    /// Its number; each has the number after that of the one before.
    pub number: u64,
    /// Its length in bytes, without padding.
    pub len: u32,
    /// How many records it has.
    pub records: u32,
    /// The last batch that was durable when it was written.
    pub durable_through: u64,
    /// Whether somebody may have been told that it is durable.
    pub acknowledged: Acknowledged,
    /// Outline of the log behind it, if its trailer can be read.
    pub extent: Option<Extent>,
    /// Commit index that was known then, if its trailer can be read and names one.
    pub committed: Option<u64>,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordItem {
    /// Where its own head begins in its file.
    pub offset: u64,
    /// What it says; `None` if no copy of its head can be read.
    pub content: Option<Content>,
    /// What recovery makes of it.
    pub verdict: Verdict,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// The vote from here on; `None` if its bytes are damaged.
    Vote(Option<Bytes>),
    /// An entry whose payload is as it was written.
    Entry(RawEntry),
    /// An entry whose payload is damaged: kind, identity and length are known.
    DamagedEntry {
        /// Kind of the payload.
        kind: u8,
        /// Identity of the entry.
        log_id: RawLogId,
        /// Length of the payload in bytes.
        len: u32,
    },
    /// Entries from this index on are removed.
    Truncate(u64),
    /// Entries up to this one are removed.
    Purge(RawLogId),
    /// As a purge, and nothing behind it stays.
    Replace(RawLogId),
}

impl Content {
    /// Term and candidate of a vote, and whether it is that of an elected leader, for votes as [`crate::WalLog`] writes
    /// them.
    pub fn vote_of(vote: &[u8]) -> Option<(u64, u64, bool)> {
        vote_fields(vote).map(|(committed, term, node)| (term, node, committed))
    }

    /// Index of the entry, if it is one.
    pub fn entry_index(&self) -> Option<u64> {
        match self {
            Self::Entry(entry) => Some(entry.log_id.index),
            Self::DamagedEntry { log_id, .. } => Some(log_id.index),
            Self::Vote(_) | Self::Truncate(_) | Self::Purge(_) | Self::Replace(_) => None,
        }
    }
}
