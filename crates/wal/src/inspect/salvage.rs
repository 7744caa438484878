//! What can be saved of a log that a node refuses: everything before the first thing that cannot be read. What stands
//! behind it may be readable and is dropped all the same, for a log has no holes.

use std::io;
use std::path::Path;

use bytes::Bytes;
use raftwright_traits::crc32c;

use super::item::{Content, Item};
use super::read_only::{ReadOnly, ReadOnlyFile};
use super::{Inspector, RepairError};
use crate::disk::{Disk, DiskFile};
use crate::error::{DiskError, OpenError, shown};
use crate::index::{Index, Place};
use crate::record::{Extent, RawEntry};
use crate::recovery::{Opened, Replay, Walk, open_segment, read_segment, segment_name};

/// What a repair would leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Outline of the log.
    pub extent: Extent,
    /// Index of the first entry; of the next one while there is none.
    pub first: u64,
    /// Commit index that is known, no higher than the log is long.
    pub committed: Option<u64>,
    /// The last vote before the damage.
    pub vote: Option<Bytes>,
}

/// What a repair would drop, as far as it can be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// First and last index of the entries that are seen and dropped. Others may have stood in what cannot be read.
    pub entries: Option<(u64, u64)>,
    /// How many votes are seen and dropped.
    pub votes: u64,
    /// Highest commit index that is named anywhere: dropped entries up to it were committed, and only other nodes have
    /// them.
    pub committed: Option<u64>,
}

/// Why a node refuses the log, and what a repair would do about it.
#[derive(Clone, Debug)]
pub struct RepairPlan {
    /// What the node says.
    pub refusal: OpenError,
    /// What stays.
    pub kept: Kept,
    /// What goes.
    pub dropped: Dropped,
}

/// A log as far as it can be read.
pub(super) struct Salvage<F> {
    pub(super) index: Index,
    pub(super) kept: Kept,
    segments: Vec<Opened<ReadOnlyFile<F>>>,
    /// Segment and offset from which on nothing is kept.
    end: (u32, u64),
}

impl<D: Disk> Inspector<D> {
    /// What a repair would keep and drop; `None` if a node would open the directory as it is.
    ///
    /// # Errors
    /// [`RepairError::Impossible`] if cutting the log cannot help.
    pub fn plan_repair(&self) -> Result<Option<RepairPlan>, RepairError> {
        let refusal = match self.verify() {
            Ok(_) => return Ok(None),
            Err(refusal) => refusal,
        };
        match refusal {
            OpenError::Damaged(_) | OpenError::DataLoss { .. } => {}
            OpenError::DataDir(_)
            | OpenError::Disk(_)
            | OpenError::Foreign { .. }
            | OpenError::Version { .. }
            | OpenError::Features { .. }
            | OpenError::Options { .. }
            | OpenError::Thread(_) => return Err(RepairError::Impossible(refusal)),
        }
        let salvage = self.salvage()?;
        let dropped = self.dropped(&salvage)?;
        Ok(Some(RepairPlan { refusal, kept: salvage.kept, dropped }))
    }

    pub(super) fn salvage(&self) -> Result<Salvage<D::File>, RepairError> {
        let meta = self.meta.clone().map_err(OpenError::DataDir)?;
        let disk = ReadOnly(self.disk.clone());
        let numbers = self.numbers()?;
        let mut segments = Vec::new();
        let mut end = (0, 0);
        for (sequence, expected) in numbers.iter().copied().zip(numbers.first().copied().unwrap_or(0)..) {
            end = (expected, 0);
            if sequence != expected {
                break;
            }
            match open_segment(&disk, &self.wal().join(segment_name(sequence)), sequence, &meta) {
                Ok(segment) => segments.push(segment),
                Err(OpenError::Damaged(_)) => break,
                Err(error) => return Err(RepairError::Impossible(error)),
            }
            end = (expected.saturating_add(1), 0);
        }
        let blank = Index::carried(Extent::default(), 0);
        let Some(first) = segments.first().map(|segment| segment.header.clone()) else {
            let kept = Kept { extent: blank.extent(), first: 0, committed: None, vote: None };
            return Ok(Salvage { index: blank, kept, segments, end });
        };
        let mut replay = Replay::from(&first);
        for (at, segment) in segments.iter().enumerate() {
            let bytes = read_segment(segment)?;
            let next = segments.get(at + 1).map(|next| &next.header);
            match (Walk { segment, bytes: &bytes, next }).run(&mut replay) {
                Ok(()) => {}
                Err(OpenError::Damaged(finding)) => {
                    end = (segment.sequence, finding.offset);
                    break;
                }
                // A seal behind which nothing follows: all of this segment is good.
                Err(OpenError::DataLoss { .. }) => break,
                Err(error) => return Err(RepairError::Impossible(error)),
            }
        }
        let Replay { mut index, vote, committed, .. } = replay;
        if let Some(gone) = index.first_gone() {
            // What stood in a segment that is missing leaves a hole, behind which nothing can be kept.
            index.truncate(gone);
            end = (0, 0);
        }
        if vote.is_none() && index.extent().last.is_some_and(|last| last.term > 0) {
            index = blank;
            end = (0, 0);
        }
        let extent = index.extent();
        let last = extent.last.map(|last| last.index);
        let committed = committed.zip(last).map(|(committed, last)| committed.min(last));
        let kept = Kept { extent, first: index.first(), committed, vote };
        Ok(Salvage { index, kept, segments, end })
    }

    fn dropped(&self, salvage: &Salvage<D::File>) -> Result<Dropped, RepairError> {
        let mut dropped = Dropped::default();
        let mut segment = 0;
        let next = salvage.index.next();
        self.walk(&mut |item| match item {
            Item::Segment(item) => {
                segment = item.sequence;
                dropped.committed = dropped.committed.max(item.committed);
            }
            Item::Batch(item) => dropped.committed = dropped.committed.max(item.committed),
            Item::Record(item) if (segment, item.offset) >= salvage.end => match item.content {
                Some(Content::Vote(_)) => dropped.votes += 1,
                Some(content) => {
                    let index = content.entry_index().filter(|index| *index >= next);
                    if let Some(index) = index {
                        let (first, last) = dropped.entries.unwrap_or((index, index));
                        dropped.entries = Some((first.min(index), last.max(index)));
                    }
                }
                None => {}
            },
            Item::Record(_) | Item::Mark(_) | Item::Seal(_) | Item::Damage(_) | Item::Lost(_) => {}
        })?;
        Ok(dropped)
    }
}

impl<F: DiskFile> Salvage<F> {
    /// Reads an entry that is kept.
    pub(super) fn entry(&self, index: u64) -> Result<RawEntry, RepairError> {
        let found = self.index.slot(index).zip(self.index.log_id(index));
        let (slot, log_id) = found.ok_or(RepairError::Changed(index))?;
        let Place::Disk { segment, offset } = slot.place else { return Err(RepairError::Changed(index)) };
        let segment = self.segments.iter().find(|opened| opened.sequence == segment);
        let segment = segment.ok_or(RepairError::Changed(index))?;
        let mut payload = vec![0; slot.len as usize];
        let failed = |error: io::Error| DiskError::new("read", &segment.path, &error);
        let got = segment.file.read_at(&mut payload, offset.into()).map_err(failed)?;
        if got < payload.len() || crc32c::crc32c(&payload) != slot.crc {
            return Err(RepairError::Changed(index));
        }
        Ok(RawEntry { kind: slot.kind, log_id, payload: payload.into() })
    }
}

impl From<DiskError> for RepairError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

impl From<OpenError> for RepairError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Disk(error) => Self::Disk(error),
            other => Self::Impossible(other),
        }
    }
}

/// The path as an error shows it.
pub(super) fn named(path: &Path) -> Box<str> {
    shown(path)
}
