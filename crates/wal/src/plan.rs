//! Reading entries in two steps: a plan, made under the lock, of where they are, and its execution, which needs no lock.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use raftwright_traits::crc32c;

use crate::disk::DiskFile;
use crate::error::{DiskError, ReadError, shown};
use crate::index::{Index, Place, Slot};
use crate::log::Segment;
use crate::record::{RawEntry, RawLogId};

/// Most bytes that one read of old entries takes from the media at once. More are read one after the other, and an entry that
/// is longer alone.
const READ_BYTES_MAX: u64 = 4 << 20;

/// What a read found under the lock.
pub(crate) struct Plan<F> {
    entries: Vec<Planned<F>>,
}

struct Planned<F> {
    log_id: RawLogId,
    slot: Slot,
    source: Source<F>,
}

enum Source<F> {
    Memory(Bytes),
    Disk { segment: Arc<Segment<F>>, offset: u64 },
}

/// An entry that could not be read, and where it was looked for.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) index: u64,
    pub(crate) place: Place,
    pub(crate) error: ReadError,
}

impl<F: DiskFile> Plan<F> {
    /// Where the entries of `range` are, from its first on, up to `bytes_max` bytes of payloads.
    pub(crate) fn new(
        index: &Index,
        segments: &BTreeMap<u32, Arc<Segment<F>>>,
        range: Range<u64>,
        bytes_max: usize,
    ) -> Self {
        let mut entries = Vec::new();
        let mut bytes = 0;
        let first_recent = index.first_recent();
        let mut recent = index.payloads(range.start.max(first_recent));
        for at in range {
            let (Some(slot), Some(log_id)) = (index.slot(at), index.log_id(at)) else { break };
            let payload = if at < first_recent { None } else { recent.next() };
            let source = match (payload, slot.place) {
                (Some(payload), Place::Queued(_) | Place::Disk { .. }) => Source::Memory(payload.clone()),
                (None, Place::Disk { segment, offset }) => match segments.get(&segment) {
                    Some(segment) => Source::Disk { segment: Arc::clone(segment), offset: offset.into() },
                    None => break,
                },
                (None, Place::Queued(_)) => break,
            };
            entries.push(Planned { log_id, slot, source });
            bytes += slot.len as usize;
            if bytes >= bytes_max {
                break;
            }
        }
        Self { entries }
    }

    /// The entries, if none of them has to be read from the media.
    pub(crate) fn in_memory(self) -> Option<Vec<RawEntry>> {
        let entry = |planned: Planned<F>| match planned.source {
            Source::Memory(payload) => Some(RawEntry { kind: planned.slot.kind, log_id: planned.log_id, payload }),
            Source::Disk { .. } => None,
        };
        self.entries.into_iter().map(entry).collect()
    }

    /// Reads what is not in memory.
    pub(crate) fn run(&self) -> Result<Vec<RawEntry>, Failed> {
        let mut entries = Vec::with_capacity(self.entries.len());
        let mut at = 0;
        while let Some(planned) = self.entries.get(at) {
            match &planned.source {
                Source::Memory(payload) => {
                    entries.push(planned.entry(payload.clone()));
                    at += 1;
                }
                Source::Disk { segment, offset } => {
                    let count = self.run_of_neighbours(at, segment, *offset);
                    self.read_neighbours(&self.entries[at..at + count], segment, *offset, &mut entries)?;
                    at += count;
                }
            }
        }
        Ok(entries)
    }

    /// How many of the entries from `at` on stand so close behind each other that one read serves all.
    fn run_of_neighbours(&self, at: usize, first: &Arc<Segment<F>>, begin: u64) -> usize {
        let follows = |planned: &&Planned<F>| match &planned.source {
            Source::Disk { segment, offset } => {
                let end = offset + u64::from(planned.slot.len);
                Arc::ptr_eq(segment, first) && *offset >= begin && end - begin <= READ_BYTES_MAX
            }
            Source::Memory(_) => false,
        };
        self.entries[at..].iter().take_while(follows).count().max(1)
    }

    fn read_neighbours(
        &self,
        neighbours: &[Planned<F>],
        segment: &Segment<F>,
        begin: u64,
        entries: &mut Vec<RawEntry>,
    ) -> Result<(), Failed> {
        let end = neighbours.iter().fold(begin, |end, planned| match planned.source {
            Source::Disk { offset, .. } => end.max(offset + u64::from(planned.slot.len)),
            Source::Memory(_) => end,
        });
        let mut buffer = vec![0; (end - begin) as usize];
        if let Err(error) = segment.file.read_at(&mut buffer, begin) {
            let error = ReadError::Disk(DiskError::new("read", &segment.path, &error));
            let Some(first) = neighbours.first() else { return Ok(()) };
            return Err(first.failed(error));
        }
        let buffer = Bytes::from(buffer);
        for planned in neighbours {
            let Source::Disk { offset, .. } = planned.source else { continue };
            let from = (offset - begin) as usize;
            let payload = buffer.slice(from..from + planned.slot.len as usize);
            if crc32c::crc32c(&payload) != planned.slot.crc {
                let (index, path) = (planned.log_id.index, shown(&segment.path));
                return Err(planned.failed(ReadError::Damaged { index, path, offset }));
            }
            entries.push(planned.entry(payload));
        }
        Ok(())
    }
}

impl<F> Planned<F> {
    fn entry(&self, payload: Bytes) -> RawEntry {
        RawEntry { kind: self.slot.kind, log_id: self.log_id, payload }
    }

    fn failed(&self, error: ReadError) -> Failed {
        Failed { index: self.log_id.index, place: self.slot.place, error }
    }
}
