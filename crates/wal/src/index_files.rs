//! The files beside closed segments that hold their indexes. None of them is ever needed: whatever is wrong with one, the
//! segment itself is read.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{Disk, DiskFile};
use crate::error::DiskError;
use crate::format::{HeaderState, Role, SECTOR, SegmentHeader, SegmentIndex, header_state};
use crate::recovery::{Opened, segment_name, segment_number};

const SUFFIX: &str = ".idx";
/// Name of an index that is being written.
const UNFINISHED: &str = "index";
/// Most closed segments that wait for their index to be written. Past it, the oldest does without until the next start.
const INDEXES_WAITING_MAX: usize = 8;

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
    waiting: VecDeque<SegmentIndex>,
    present: Option<Job<F>>,
}

struct Job<F> {
    sequence: u32,
    bytes: Vec<u8>,
    file: F,
    done: usize,
}

impl<F: DiskFile> IndexJobs<F> {
    pub(crate) fn new(waiting: impl IntoIterator<Item = SegmentIndex>) -> Self {
        let mut jobs = Self { waiting: VecDeque::new(), present: None };
        waiting.into_iter().for_each(|index| jobs.push(index));
        jobs
    }

    pub(crate) fn push(&mut self, index: SegmentIndex) {
        if self.waiting.len() >= INDEXES_WAITING_MAX {
            self.waiting.pop_front();
        }
        self.waiting.push_back(index);
    }

    /// One step; false when there is nothing to do. A failure gives the index up.
    pub(crate) fn step<D: Disk<File = F>>(&mut self, disk: &D, wal: &Path, step: usize) -> bool {
        let unfinished = wal.join(UNFINISHED);
        let Some(job) = &mut self.present else {
            let Some(index) = self.waiting.pop_front() else { return false };
            let Ok(sequence) = u32::try_from(index.sequence) else { return true };
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
        self.waiting.retain(|index| index.sequence != u64::from(sequence));
        if self.present.as_ref().is_some_and(|job| job.sequence == sequence) {
            self.present = None;
        }
    }
}
