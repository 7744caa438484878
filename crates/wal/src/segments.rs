//! Making segment files: the next one is prepared in small steps while the active one fills.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

use crate::aligned::{AlignedBuffer, ZEROS, ZEROS_LEN};
use crate::disk::{Disk, DiskFile};
use crate::error::DiskError;
use crate::format::SegmentHeader;
use crate::log::Segment;
use crate::recovery::segment_name;

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
}

/// Zeroes to be written by a thread that nobody waits for: the media writes them while batches are flushed.
pub(crate) struct Chore<F> {
    file: Arc<F>,
    from: u64,
    len: u64,
    /// They are the last of their file, which is to be synced.
    last: bool,
    zeroed: SyncSender<io::Result<()>>,
}

impl<F: DiskFile> Chore<F> {
    /// Does it.
    pub(crate) fn run(self) {
        // Nobody listens any more: then nobody will use the file.
        let _ = self.zeroed.send(zero_step(&*self.file, self.from, self.len, self.last));
    }
}

/// Most zeroes that are written in one step by another thread.
const CHORE_BYTES_MAX: u64 = 2 << 20;

impl<F: DiskFile> Spare<F> {
    /// Size of the spare, if it can be used now. Recovery knows a sector that never arrived by its zeros, so every sector
    /// of a segment must be zero when it is first written: a file that had another use is ready when all of it is zeroed,
    /// a new one at any time, and only costs a little more where it is not.
    pub(crate) fn ready_size(&self) -> Option<u64> {
        match self {
            Self::Ready { size, .. } | Self::Growing { size, used: false, .. } => Some(*size),
            Self::None | Self::NoRoom | Self::Growing { used: true, .. } | Self::Zeroing { .. } => None,
        }
    }

    /// Waits until nobody writes to it.
    pub(crate) fn settle(self) -> Self {
        match self {
            Self::Zeroing { file, size, until, used, zeroed } => {
                let zeroed = zeroed.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()));
                Self::after_zeroing(file, size, until, used, &zeroed).0
            }
            Self::None | Self::NoRoom | Self::Growing { .. } | Self::Ready { .. } => self,
        }
    }

    fn after_zeroing(file: Arc<F>, size: u64, done: u64, used: bool, zeroed: &io::Result<()>) -> (Self, bool) {
        match zeroed {
            Err(_) => (Self::None, false),
            Ok(()) if done < size => (Self::Growing { file, size, done, used }, true),
            Ok(()) => (Self::Ready { file, size }, true),
        }
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
            Self::None | Self::NoRoom if wanted == 0 => (self, false),
            Self::None | Self::NoRoom => {
                match disk.create_direct(&wal.join(SPARE)).and_then(|file| allocated(file, target)) {
                    Ok(file) => (Self::Growing { file: Arc::new(file), size: target, done: 0, used: false }, true),
                    Err(error) => {
                        // What was reserved in part would be missing elsewhere. The file is removed when there is another try.
                        let _ = disk.remove(&wal.join(SPARE));
                        let full = error.kind() == io::ErrorKind::StorageFull;
                        (if full { Self::NoRoom } else { Self::None }, false)
                    }
                }
            }
            Self::Growing { done, .. } if done >= wanted => (self, false),
            Self::Growing { file, size, done, used } => match chores {
                None => {
                    let len = (step as u64).min(size - done);
                    let zeroed = zero_step(&*file, done, len, done + len == size);
                    Self::after_zeroing(file, size, done + len, used, &zeroed)
                }
                Some(chores) => {
                    let len = (wanted - done).clamp(step as u64, CHORE_BYTES_MAX).next_multiple_of(step as u64);
                    let len = len.min(size - done);
                    let (zeroed, until) = (sync_channel(1), done + len);
                    let chore =
                        Chore { file: Arc::clone(&file), from: done, len, last: until == size, zeroed: zeroed.0 };
                    match chores.try_send(chore) {
                        Ok(()) => (Self::Zeroing { file, size, until, used, zeroed: zeroed.1 }, false),
                        Err(_) => (Self::Growing { file, size, done, used }, false),
                    }
                }
            },
            Self::Zeroing { file, size, until, used, zeroed } => match zeroed.try_recv() {
                Err(TryRecvError::Empty) => (Self::Zeroing { file, size, until, used, zeroed }, false),
                Err(TryRecvError::Disconnected) => (Self::None, false),
                Ok(zeroed) => Self::after_zeroing(file, size, until, used, &zeroed),
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
        let removed = reused.is_some()
            || match disk.remove(old) {
                Ok(()) => true,
                // The time before, only the sync of the directory had failed.
                Err(error) => error.kind() == io::ErrorKind::NotFound,
            };
        let gone = removed && disk.sync_dir(wal).is_ok();
        (reused.unwrap_or(self), gone)
    }
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
        Spare::Ready { .. } | Spare::Growing { .. } | Spare::Zeroing { .. } | Spare::None | Spare::NoRoom => {
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
        file.write_at(&ZEROS.0[..part], from + done)?;
        done += part as u64;
    }
    Ok(())
}

/// Removes segments that were being made when the last run ended; nothing in them was ever used.
pub(crate) fn remove_leftovers<D: Disk>(disk: &D, wal: &Path) -> Result<(), DiskError> {
    for name in [SPARE, FRESH] {
        let path = wal.join(name);
        match disk.remove(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(DiskError::new("remove", &path, &error)),
        }
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
        let disk = SimDisk::new(1);
        let wal = Path::new("wal");
        disk.create_dir(wal).unwrap();
        let (chores, jobs) = sync_channel(1);
        let size = 5 * CHORE_BYTES_MAX + 512;
        let mut spare = Spare::None.step(&disk, wal, size, 1, 4096, Some(&chores)).0;
        let mut pieces = 0;
        while !matches!(spare, Spare::Ready { .. }) {
            spare = spare.step(&disk, wal, size, size, 4096, Some(&chores)).0;
            if let Ok(chore) = jobs.try_recv() {
                assert!(chore.len <= CHORE_BYTES_MAX && chore.from % 4096 == 0);
                assert_eq!(spare.ready_size(), None, "somebody writes to it");
                pieces += 1;
                chore.run();
            }
        }
        assert_eq!((pieces, spare.ready_size()), (6, Some(size)));
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
}
