//! The files beside closed segments that hold their indexes. None of them is ever needed: whatever is wrong with one, the
//! segment itself is read.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{Disk, DiskFile};
use crate::error::DiskError;
use crate::format::{HeaderState, Role, SECTOR, SegmentHeader, SegmentIndex, header_state};
use crate::index::Index;
use crate::ledger::Closed;
use crate::recovery::{Opened, segment_name, segment_number};

const SUFFIX: &str = ".idx";
/// Name of an index that is being written.
const UNFINISHED: &str = "index";
/// Most closed segments that wait for their index to be written. Past it, the oldest does without until the next start.
const INDEXES_WAITING_MAX: usize = 8;
/// Most entries whose places are looked up in one step, under the lock of the log.
const LOOKED_UP_MAX: usize = 8192;

/// Path of the index of this segment.
fn index_path(wal: &Path, sequence: u32) -> PathBuf {
    wal.join(format!("{sequence:010}{SUFFIX}"))
}

/// The index of a closed segment, if there is one that verifies and says of itself that it belongs to this file, up to the
/// seal that stands there.
pub(crate) fn read_index<D: Disk>(
    disk: &D,
    wal: &Path,
    segment: &Opened<D::File>,
    next: &SegmentHeader,
) -> Option<SegmentIndex> {
    let file = disk.open(&index_path(wal, segment.sequence)).ok()?;
    // An index is shorter than its segment: each entry takes more there.
    let len = file.len().ok().filter(|len| *len <= segment.header.size)?;
    let mut bytes = vec![0; usize::try_from(len).ok()?];
    let got = file.read_at(&mut bytes, 0).ok()?;
    let index = SegmentIndex::decode(bytes.get(..got)?)?;
    let header = &segment.header;
    let same_file =
        (index.incarnation, index.salt, index.sequence) == (header.incarnation, header.salt, header.sequence);
    let same_end = (index.next_batch, index.before) == (next.first_batch, next.before);
    let inside = |offset: u32, len: u32| u64::from(offset) + u64::from(len) <= index.seal_at;
    let entries_inside = index.entries.iter().all(|entry| inside(entry.offset, entry.len));
    (same_file && same_end && entries_inside && is_sealed(segment, &index)).then_some(index)
}

/// True when the seal stands where the index says.
fn is_sealed<F: DiskFile>(segment: &Opened<F>, index: &SegmentIndex) -> bool {
    let mut sector = [0; SECTOR];
    let read = segment.file.read_at(&mut sector, index.seal_at);
    if !matches!(read, Ok(SECTOR)) {
        return false;
    }
    match header_state(&sector, index.salt, index.seal_at) {
        HeaderState::Good(seal) => {
            seal.role == Role::Seal && (seal.number, seal.before) == (index.next_batch, index.before)
        }
        HeaderState::Unwritten | HeaderState::Bad => false,
    }
}

/// Removes the index of a segment that is about to be removed.
pub(crate) fn remove_index<D: Disk>(disk: &D, wal: &Path, sequence: u32) -> io::Result<()> {
    match disk.remove(&index_path(wal, sequence)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Removes indexes that were being written when the last run ended, and those whose segment is gone.
pub(crate) fn remove_orphans<D: Disk>(disk: &D, wal: &Path) -> Result<(), DiskError> {
    let names = disk.list(wal).map_err(|error| DiskError::new("list", wal, &error))?;
    let has_segment = |name: &str| {
        let number = name.strip_suffix(SUFFIX).and_then(|number| segment_number(&format!("{number}.seg")));
        number.is_some_and(|number| names.contains(&segment_name(number)))
    };
    for name in names.iter().filter(|name| *name == UNFINISHED || name.ends_with(SUFFIX) && !has_segment(name)) {
        let path = wal.join(name);
        disk.remove(&path).map_err(|error| DiskError::new("remove", &path, &error))?;
    }
    Ok(())
}

/// Indexes that wait to be written, one after the other, in small steps.
pub(crate) struct IndexJobs<F> {
    waiting: VecDeque<Closed>,
    present: Option<Job<F>>,
}

struct Job<F> {
    sequence: u32,
    bytes: Vec<u8>,
    file: F,
    done: usize,
}

impl<F: DiskFile> IndexJobs<F> {
    pub(crate) fn new(waiting: impl IntoIterator<Item = Closed>) -> Self {
        let mut jobs = Self { waiting: VecDeque::new(), present: None };
        waiting.into_iter().for_each(|closed| jobs.push(closed));
        jobs
    }

    pub(crate) fn push(&mut self, closed: Closed) {
        if self.waiting.len() >= INDEXES_WAITING_MAX {
            self.waiting.pop_front();
        }
        self.waiting.push_back(closed);
    }

    /// True when so many wait that some may soon lose their turn.
    pub(crate) fn are_many(&self) -> bool {
        self.waiting.len() > INDEXES_WAITING_MAX / 2
    }

    /// True if [`look_up`](Self::look_up) comes before the next step.
    pub(crate) fn lacks_places(&self) -> bool {
        self.waiting.iter().any(|closed| closed.whole().is_none())
    }

    /// Looks up the places of entries that no index has yet. The sooner the better: what is purged meanwhile is lost to them.
    pub(crate) fn look_up(&mut self, log: &Index) {
        let Some(at) = self.waiting.iter().position(|closed| closed.whole().is_none()) else { return };
        if !self.waiting.get_mut(at).is_some_and(|closed| closed.gather(log, LOOKED_UP_MAX)) {
            self.waiting.remove(at);
        }
    }

    /// One step; false when there is nothing to do. A failure gives the index up.
    pub(crate) fn step<D: Disk<File = F>>(&mut self, disk: &D, wal: &Path, step: usize) -> bool {
        let unfinished = wal.join(UNFINISHED);
        let Some(job) = &mut self.present else {
            let Some(closed) = self.waiting.pop_front() else { return false };
            let (Some(index), Ok(sequence)) = (closed.whole(), u32::try_from(closed.sequence())) else { return true };
            self.present =
                disk.create(&unfinished).ok().map(|file| Job { sequence, bytes: index.encode(), file, done: 0 });
            return true;
        };
        let part = &job.bytes[job.done..job.bytes.len().min(job.done + step)];
        let written = job
            .file
            .write_at(part, job.done as u64)
            .and_then(|()| job.file.write_behind(job.done as u64, part.len() as u64));
        job.done += part.len();
        if written.is_ok() && job.done < job.bytes.len() {
            return true;
        }
        // Its name may be lost with the next power cut: then it is made again.
        let path = index_path(wal, job.sequence);
        // A failure is no harm, and not tried again: the next start does without, and makes another one.
        let _ = written.and_then(|()| job.file.sync_data()).and_then(|()| disk.rename(&unfinished, &path));
        self.present = None;
        true
    }

    /// The segment is about to be removed.
    pub(crate) fn forget(&mut self, sequence: u32) {
        self.waiting.retain(|closed| closed.sequence() != u64::from(sequence));
        if self.present.as_ref().is_some_and(|job| job.sequence == sequence) {
            self.present = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{Place, Slot};
    use crate::ledger::Ledger;
    use crate::record::{Extent, RawLogId};
    use crate::testing::SimDisk;

    const SEGMENT: u32 = 7;

    fn id(index: u64) -> RawLogId {
        RawLogId { term: 1, node: None, index }
    }

    /// A log of entries from 1 on, the last ones in the segment that is closed.
    fn log(entries: u64, closed: u64) -> (Index, Closed) {
        let (mut log, mut ledger) = (Index::default(), Ledger::default());
        for index in 1..=entries {
            let own = index > entries - closed;
            let place = Place::Disk { segment: if own { SEGMENT } else { SEGMENT - 1 }, offset: index as u32 };
            log.append(id(index), Slot { place, len: 1, crc: 2, kind: 3 });
            if own {
                ledger.append(id(index), 1);
            }
        }
        let header = SegmentHeader {
            node_id: 1,
            incarnation: 2,
            salt: 3,
            sequence: SEGMENT.into(),
            size: 8192,
            before: 0,
            first_batch: 1,
            durable_through: 0,
            vote: None,
            committed: None,
            extent: Extent::default(),
            first_index: 0,
        };
        (log, ledger.close(&header, 4096, 9, 9))
    }

    /// However long a segment is, the log is locked for so many of its entries at a time.
    #[test]
    fn places_are_looked_up_in_pieces() {
        // As docs/limits.md says, once more on purpose.
        const MAX: u64 = 8192;
        let (log, closed) = log(3 * MAX, 2 * MAX + 1);
        let mut jobs: IndexJobs<<SimDisk as Disk>::File> = IndexJobs::new([closed]);
        for piece in 1..=3 {
            assert!(jobs.lacks_places(), "before piece {piece}");
            jobs.look_up(&log);
        }
        assert!(!jobs.lacks_places());
        let index = jobs.waiting[0].whole().unwrap();
        assert_eq!((index.first, index.entries.len() as u64), (MAX, 2 * MAX + 1));
        assert!(index.entries.iter().zip(MAX..).all(|(entry, index)| u64::from(entry.offset) == index));
    }

    /// What memory no longer knows, or knows elsewhere, is nothing to make an index of.
    #[test]
    fn a_segment_that_lost_an_entry_meanwhile_does_without_an_index() {
        type Change = fn(&mut Index);
        let changes: [(Change, bool); 5] = [
            (|_| {}, true),
            (|log| log.purge(id(70), false), true),
            (|log| log.purge(id(71), false), false),
            (|log| log.truncate(100), false),
            (
                |log| {
                    log.truncate(100);
                    log.append(id(100), Slot { place: Place::Queued(5), len: 1, crc: 0, kind: 3 });
                },
                false,
            ),
        ];
        for (number, (change, made)) in changes.into_iter().enumerate() {
            let (mut log, closed) = log(100, 30);
            let mut jobs: IndexJobs<<SimDisk as Disk>::File> = IndexJobs::new([closed]);
            change(&mut log);
            jobs.look_up(&log);
            assert_eq!((jobs.lacks_places(), jobs.waiting.len()), (false, usize::from(made)), "change {number}");
        }
        let (mut log, closed) = log(100, 30);
        log.truncate(90);
        for index in 90..=100 {
            let place = Place::Disk { segment: SEGMENT + 1, offset: index as u32 };
            log.append(id(index), Slot { place, len: 1, crc: 2, kind: 3 });
        }
        let mut jobs: IndexJobs<<SimDisk as Disk>::File> = IndexJobs::new([closed]);
        jobs.look_up(&log);
        assert!(jobs.waiting.is_empty(), "its entries stand in another segment now");
    }
}
