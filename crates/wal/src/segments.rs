//! Making segment files: the next one is prepared in small steps while the active one fills.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

use crate::aligned::{AlignedBuffer, Memory, ZEROS_LEN, zeros};
use crate::disk::{Disk, DiskFile};
use crate::error::DiskError;
use crate::format::SegmentHeader;
use crate::log::Segment;
use crate::recovery::segment_name;
use crate::slots::Slots;

/// Name of the segment that is being prepared.
const SPARE: &str = "spare";
/// Name of a segment that is made at once.
const FRESH: &str = "fresh";
/// The next segment. Zeroes are written to it before it is used, since overwriting blocks that were written before costs
/// no journal commit.
pub(crate) enum Spare<F> {
    None,
    /// None, because the media has no room for it.
    NoRoom,
    /// Zeroed up to `done`, and not synced. The rest reads as zero too unless the file is `used`.
    Growing {
        file: Arc<F>,
        size: u64,
        done: u64,
        used: bool,
    },
    /// As before, while the bytes up to `until` are being zeroed by another thread.
    Zeroing {
        file: Arc<F>,
        size: u64,
        until: u64,
        used: bool,
        zeroed: Receiver<io::Result<()>>,
    },
    Ready {
        file: Arc<F>,
        size: u64,
    },
    /// None. What has its name was a segment, and may be one again after a power cut, since nobody knows whether the media has heard
    /// of the change: not a byte of it may change, and no sync that is repeated after one that failed says otherwise. The
    /// name is taken from it.
    Disputed,
}

/// Work for a thread that nobody waits for.
pub(crate) enum Chore<F> {
    /// Zeroes to be written: the media writes them while batches are flushed.
    Zero {
        file: Arc<F>,
        from: u64,
        len: u64,
        /// They are the last of their file, which is to be synced.
        last: bool,
        zeroed: SyncSender<io::Result<()>>,
    },
    /// Memory to be got from the system for entries to come.
    Memory(SyncSender<Memory>),
}

impl<F: DiskFile> Chore<F> {
    /// Does it. Where nobody listens any more, nobody will use what came of it.
    pub(crate) fn run(self) {
        match self {
            Self::Zero { file, from, len, last, zeroed } => drop(zeroed.send(zero_step(&*file, from, len, last))),
            Self::Memory(made) => drop(made.send(Slots::make_spare())),
        }
    }
}

/// Most zeroes that are written in one step by another thread.
const CHORE_BYTES_MAX: u64 = 2 << 20;

/// How many zeroes of those that are wanted are written at once by another thread: whole steps, as far as the bound has room for
/// them.
fn chore_len(wanted: u64, step: u64) -> u64 {
    let step = step.min(CHORE_BYTES_MAX);
    wanted.next_multiple_of(step).min(CHORE_BYTES_MAX - CHORE_BYTES_MAX % step)
}

impl<F: DiskFile> Spare<F> {
    /// Size of the spare, if it can be used now. Recovery knows a sector that never arrived by its zeros, so every sector
    /// of a segment must be zero when it is first written: a file that had another use is ready when all of it is zeroed,
    /// a new one at any time, and only costs a little more where it is not.
    pub(crate) fn ready_size(&self) -> Option<u64> {
        match self {
            Self::Ready { size, .. } | Self::Growing { size, used: false, .. } => Some(*size),
            Self::None | Self::NoRoom | Self::Disputed | Self::Growing { used: true, .. } | Self::Zeroing { .. } => {
                None
            }
        }
    }

    /// Waits until nobody writes to it.
    pub(crate) fn settle(self) -> Self {
        match self {
            Self::Zeroing { file, size, until, used, zeroed } => {
                let zeroed = zeroed.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()));
                zeroed.map_or(Self::None, |()| Self::zeroed_up_to(file, size, until, used))
            }
            Self::None | Self::NoRoom | Self::Disputed | Self::Growing { .. } | Self::Ready { .. } => self,
        }
    }

    fn zeroed_up_to(file: Arc<F>, size: u64, done: u64, used: bool) -> Self {
        if done < size { Self::Growing { file, size, done, used } } else { Self::Ready { file, size } }
    }

    /// The spare could not be made: room that was reserved in part would be missing elsewhere. What cannot be removed is emptied
    /// when there is another try.
    fn given_up<D: Disk<File = F>>(disk: &D, wal: &Path, error: &io::Error) -> Self {
        let _ = disk.remove(&wal.join(SPARE));
        if error.kind() == io::ErrorKind::StorageFull { Self::NoRoom } else { Self::None }
    }

    /// One step towards a spare of `target` bytes of which `wanted` are prepared. A failure gives the spare up. With `chores`
    /// the zeroes are written by the thread that takes them, and the step only begins it or sees its end.
    pub(crate) fn step<D: Disk<File = F>>(
        self,
        disk: &D,
        wal: &Path,
        target: u64,
        wanted: u64,
        step: usize,
        chores: Option<&SyncSender<Chore<F>>>,
    ) -> (Self, bool) {
        match self {
            Self::Ready { .. } => (self, false),
            Self::Disputed => match disk.remove(&wal.join(SPARE)).or_else(missing_is_fine) {
                Ok(()) => (Self::None, true),
                Err(_) => (self, false),
            },
            Self::None | Self::NoRoom if wanted == 0 => (self, false),
            Self::None | Self::NoRoom => {
                match disk.create_direct(&wal.join(SPARE)).and_then(|file| allocated(file, target)) {
                    Ok(file) => (Self::Growing { file: Arc::new(file), size: target, done: 0, used: false }, true),
                    Err(error) => (Self::given_up(disk, wal, &error), false),
                }
            }
            Self::Growing { done, .. } if done >= wanted => (self, false),
            Self::Growing { file, size, done, used } => match chores {
                None => {
                    let len = (step as u64).min(size - done);
                    match zero_step(&*file, done, len, done + len == size) {
                        Ok(()) => (Self::zeroed_up_to(file, size, done + len, used), true),
                        Err(error) => (Self::given_up(disk, wal, &error), false),
                    }
                }
                Some(chores) => {
                    let len = chore_len(wanted - done, step as u64).min(size - done);
                    let (zeroed, until) = (sync_channel(1), done + len);
                    let (last, zeroed, made) = (until == size, zeroed.0, zeroed.1);
                    let chore = Chore::Zero { file: Arc::clone(&file), from: done, len, last, zeroed };
                    match chores.try_send(chore) {
                        Ok(()) => (Self::Zeroing { file, size, until, used, zeroed: made }, false),
                        Err(_) => (Self::Growing { file, size, done, used }, false),
                    }
                }
            },
            Self::Zeroing { file, size, until, used, zeroed } => match zeroed.try_recv() {
                Err(TryRecvError::Empty) => (Self::Zeroing { file, size, until, used, zeroed }, false),
                Err(TryRecvError::Disconnected) => (Self::None, false),
                Ok(Ok(())) => (Self::zeroed_up_to(file, size, until, used), true),
                Ok(Err(error)) => (Self::given_up(disk, wal, &error), false),
            },
        }
    }

    /// Takes a segment that nobody needs any more as the spare, if there is none and it has the right size,
    /// and removes it otherwise. Its blocks are there already; its content is zeroed like that of any other spare. Says whether the
    /// segment's name is durably gone; if not, this is to be done again before the next segment goes: the names go one
    /// by one, oldest first, since a gap in the row of segments would look like a loss.
    pub(crate) fn recycle<D: Disk<File = F>>(self, disk: &D, wal: &Path, old: &Path, size: u64) -> (Self, bool) {
        let reuse = matches!(self, Self::None | Self::NoRoom);
        let reused = if reuse { reopen(disk, wal, old, size) } else { None };
        // It is missing where the time before only the sync of the directory had failed.
        let removed = reused.is_some() || disk.remove(old).or_else(missing_is_fine).is_ok();
        let gone = removed && disk.sync_dir(wal).is_ok();
        match reused {
            None => (self, gone),
            Some(spare) if gone => (spare, gone),
            Some(_) => (Self::Disputed, gone),
        }
    }
}

fn missing_is_fine(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn reopen<D: Disk>(disk: &D, wal: &Path, old: &Path, size: u64) -> Option<Spare<D::File>> {
    let file = disk.open_direct(old).ok()?;
    if file.len().ok()? != size {
        return None;
    }
    disk.rename(old, &wal.join(SPARE)).ok()?;
    Some(Spare::Growing { file: Arc::new(file), size, done: 0, used: true })
}

fn allocated<F: DiskFile>(file: F, len: u64) -> io::Result<F> {
    file.allocate(len)?;
    Ok(file)
}

/// Makes the segment that `header` describes, from the spare if it is ready. When this returns, the header and the name
/// are durable. With `zeroed` a fresh file is zeroed at once; without, its blocks are allocated as they are written.
pub(crate) fn make_segment<D: Disk>(
    disk: &D,
    wal: &Path,
    spare: Spare<D::File>,
    header: &SegmentHeader,
    zeroed: bool,
) -> Result<Segment<D::File>, DiskError> {
    let (file, name) = match spare {
        Spare::Ready { file, size } | Spare::Growing { file, size, done: _, used: false } if size == header.size => {
            (file, SPARE)
        }
        Spare::None | Spare::NoRoom => (Arc::new(fresh(disk, wal, header.size, zeroed)?), FRESH),
        Spare::Ready { .. } | Spare::Growing { .. } | Spare::Zeroing { .. } | Spare::Disputed => {
            // Its room may be what the fresh one needs, and what is disputed must be gone before the name is used again.
            let path = wal.join(SPARE);
            disk.remove(&path).or_else(missing_is_fine).map_err(|error| DiskError::new("remove", &path, &error))?;
            (Arc::new(fresh(disk, wal, header.size, zeroed)?), FRESH)
        }
    };
    let from = wal.join(name);
    let path = wal.join(segment_name(u32::try_from(header.sequence).unwrap_or(u32::MAX)));
    file.write_at(AlignedBuffer::of(&header.encode()).content(), 0)
        .map_err(|error| DiskError::new("write", &from, &error))?;
    file.sync_data().map_err(|error| DiskError::new("sync", &from, &error))?;
    disk.rename(&from, &path).map_err(|error| DiskError::new("rename", &from, &error))?;
    disk.sync_dir(wal).map_err(|error| DiskError::new("sync", wal, &error))?;
    Ok(Segment { path, file })
}

fn fresh<D: Disk>(disk: &D, wal: &Path, size: u64, zeroed: bool) -> Result<D::File, DiskError> {
    let path: PathBuf = wal.join(FRESH);
    let file = disk.create_direct(&path).map_err(|error| DiskError::new("create", &path, &error))?;
    file.allocate(size).map_err(|error| DiskError::new("allocate", &path, &error))?;
    if zeroed {
        zero(&file, 0, size).map_err(|error| DiskError::new("write", &path, &error))?;
    }
    Ok(file)
}

/// Zeroes a part of a file. The media writes the zeroes while batches are flushed; what is left of that is waited for once, at
/// the end of the file.
fn zero_step<F: DiskFile>(file: &F, from: u64, len: u64, last: bool) -> io::Result<()> {
    zero(file, from, len)?;
    if last { file.sync_data() } else { file.write_behind(from, len) }
}

fn zero<F: DiskFile>(file: &F, from: u64, len: u64) -> io::Result<()> {
    let mut done = 0;
    while done < len {
        let part = ZEROS_LEN.min(usize::try_from(len - done).unwrap_or(ZEROS_LEN));
        file.write_at(&zeros()[..part], from + done)?;
        done += part as u64;
    }
    Ok(())
}

/// Removes segments that were being made when the last run ended; nothing in them was ever used.
pub(crate) fn remove_leftovers<D: Disk>(disk: &D, wal: &Path) -> Result<(), DiskError> {
    for name in [SPARE, FRESH] {
        let path = wal.join(name);
        disk.remove(&path).or_else(missing_is_fine).map_err(|error| DiskError::new("remove", &path, &error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::SimDisk;

    /// A long segment is zeroed in many pieces by another thread, none beyond the bound, and cannot be used while one is on its way.
    #[test]
    fn another_thread_zeroes_a_segment_in_pieces() {
        // As docs/limits.md says, once more on purpose.
        const MAX: u64 = 2 << 20;
        let disk = SimDisk::new(1);
        let wal = Path::new("wal");
        disk.create_dir(wal).unwrap();
        let (chores, jobs) = sync_channel(1);
        let size = 5 * MAX + 512;
        let mut spare = Spare::None.step(&disk, wal, size, 1, 4096, Some(&chores)).0;
        let mut pieces = 0;
        while !matches!(spare, Spare::Ready { .. }) {
            spare = spare.step(&disk, wal, size, size, 4096, Some(&chores)).0;
            if let Ok(chore) = jobs.try_recv() {
                assert!(matches!(chore, Chore::Zero { len: ..=MAX, from, .. } if from % 4096 == 0));
                assert_eq!(spare.ready_size(), None, "somebody writes to it");
                pieces += 1;
                chore.run();
            }
        }
        assert_eq!((pieces, spare.ready_size()), (6, Some(size)));
        assert_eq!(disk.counts().syncs, 1, "the media is waited for here, and not when the segment is needed");
        // Who cannot wait any longer for a piece waits for that one only.
        let mut spare = Spare::None.step(&disk, wal, size, 1, 4096, Some(&chores)).0;
        spare = spare.step(&disk, wal, size, size, 4096, Some(&chores)).0;
        jobs.recv().unwrap().run();
        assert_eq!(spare.settle().ready_size(), Some(size));
        drop(jobs);
        // A thread that is gone takes nothing with it but the spare.
        let spare = Spare::None.step(&disk, wal, size, 1, 4096, Some(&chores)).0;
        let (spare, done) = spare.step(&disk, wal, size, size, 4096, Some(&chores));
        assert!(!done && spare.ready_size() == Some(size));
    }

    /// However long the steps are that somebody has chosen: whole steps, within the bound, never none.
    #[test]
    fn the_pieces_of_another_thread_are_bounded_for_every_step() {
        for step in [512, 4096, 1 << 20, 3 << 19, CHORE_BYTES_MAX - 512, CHORE_BYTES_MAX, 4 << 20, 1 << 30] {
            for wanted in [1, 511, 4096, CHORE_BYTES_MAX - 1, CHORE_BYTES_MAX, CHORE_BYTES_MAX + 1, 1 << 30] {
                let len = chore_len(wanted, step);
                assert!(
                    len > 0 && len <= CHORE_BYTES_MAX && len.is_multiple_of(step.min(CHORE_BYTES_MAX)),
                    "{wanted} {step}"
                );
            }
        }
    }

    fn a_disk_with_segments() -> (SimDisk, Vec<PathBuf>) {
        let disk = SimDisk::new(1);
        let wal = Path::new("wal");
        disk.create_dir(wal).unwrap();
        disk.sync_dir(Path::new("")).unwrap();
        let paths: Vec<PathBuf> = (1..=2).map(|number| wal.join(segment_name(number))).collect();
        for path in &paths {
            let file = disk.create(path).unwrap();
            file.write_at(&[7; 8192], 0).unwrap();
            file.sync_data().unwrap();
        }
        disk.sync_dir(wal).unwrap();
        (disk, paths)
    }

    /// While the media may still have the old name of a segment that is used again, nothing in it changes: it would come back as
    /// a damaged segment.
    #[test]
    fn a_segment_is_overwritten_only_once_its_name_is_durably_gone() {
        let wal = Path::new("wal");
        let header = |size| SegmentHeader {
            node_id: 1,
            incarnation: 2,
            salt: 3,
            sequence: 3,
            size,
            before: 0,
            first_batch: 1,
            durable_through: 0,
            vote: None,
            committed: None,
            extent: crate::record::Extent::default(),
            first_index: 0,
        };
        // The rename is the first change of names, the sync the second; a removal that fails behind them changes nothing.
        for (removal_fails, rolls) in [(false, false), (true, false), (false, true)] {
            let (disk, paths) = a_disk_with_segments();
            disk.fail_name(1);
            let (mut spare, gone) = Spare::None.recycle(&disk, wal, &paths[0], 8192);
            assert!(!gone && spare.ready_size().is_none());
            let as_it_was = |disk: &SimDisk| {
                let cut = disk.fork(1);
                cut.power_cut(crate::testing::Loss::Everything);
                assert_eq!(cut.content(&paths[0]), Some(vec![7; 8192]));
            };
            if removal_fails {
                disk.fail_name(0);
            }
            if rolls {
                disk.fail_name(0);
                assert!(make_segment(&disk, wal, spare.settle(), &header(8192), false).is_err());
                as_it_was(&disk);
                assert!(make_segment(&disk, wal, Spare::Disputed, &header(8192), false).is_ok());
                continue;
            }
            for _ in 0..10 {
                spare = spare.step(&disk, wal, 8192, 8192, 1024, None).0;
                as_it_was(&disk);
            }
            assert_eq!(spare.ready_size(), Some(8192), "another file is the spare");
            let (_, gone) = spare.recycle(&disk, wal, &paths[0], 8192);
            assert!(gone, "and the name goes with the next sync");
        }
    }

    /// A spare that cannot be zeroed for want of room leaves none reserved, and it is known why there is none.
    #[test]
    fn no_room_for_zeroes_is_no_room_for_a_segment() {
        let wal = Path::new("wal");
        for by_another_thread in [false, true] {
            let (disk, _) = a_disk_with_segments();
            let (chores, jobs) = sync_channel(1);
            let chores = by_another_thread.then_some(&chores);
            let spare = Spare::None.step(&disk, wal, 8192, 1, 1024, chores).0;
            disk.fail_write_with(0, io::ErrorKind::StorageFull);
            let mut spare = spare.step(&disk, wal, 8192, 8192, 1024, chores).0;
            if by_another_thread {
                jobs.recv().unwrap().run();
                spare = spare.step(&disk, wal, 8192, 8192, 1024, chores).0;
            }
            assert!(matches!(spare, Spare::NoRoom));
            assert!(!disk.files().contains(&wal.join(SPARE)));
        }
    }
}
