//! Making segment files: the next one is prepared in small steps while the active one fills.

use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{Disk, DiskFile};
use crate::error::DiskError;
use crate::format::SegmentHeader;
use crate::log::Segment;
use crate::recovery::segment_name;

/// Name of the segment that is being prepared.
const SPARE: &str = "spare";
/// Name of a segment that is made at once.
const FRESH: &str = "fresh";
/// What is zeroed with one call.
const ZERO_BYTES: usize = 256 << 10;
static ZEROS: [u8; ZERO_BYTES] = [0; ZERO_BYTES];

/// The next segment. Zeroes are written to it before it is used, since overwriting blocks that were written before costs
/// no journal commit.
pub(crate) enum Spare<F> {
    None,
    /// None, because the media has no room for it.
    NoRoom,
    /// Zeroed up to `done`, and not synced. The rest reads as zero too unless the file is `used`.
    Growing {
        file: F,
        size: u64,
        done: u64,
        used: bool,
    },
    Ready {
        file: F,
        size: u64,
    },
}

impl<F: DiskFile> Spare<F> {
    /// Size of the spare, if it can be used now. Recovery knows a sector that never arrived by its zeros, so every sector
    /// of a segment must be zero when it is first written: a file that had another use is ready when all of it is zeroed,
    /// a new one at any time, and only costs a little more where it is not.
    pub(crate) fn ready_size(&self) -> Option<u64> {
        match self {
            Self::Ready { size, .. } | Self::Growing { size, used: false, .. } => Some(*size),
            Self::None | Self::NoRoom | Self::Growing { used: true, .. } => None,
        }
    }

    /// One step towards a spare of `target` bytes of which `wanted` are prepared. A failure gives the spare up.
    pub(crate) fn step<D: Disk<File = F>>(
        self,
        disk: &D,
        wal: &Path,
        target: u64,
        wanted: u64,
        step: usize,
    ) -> (Self, bool) {
        match self {
            Self::Ready { .. } => (self, false),
            Self::None | Self::NoRoom if wanted == 0 => (self, false),
            Self::None | Self::NoRoom => match disk.create(&wal.join(SPARE)).and_then(|file| allocated(file, target)) {
                Ok(file) => (Self::Growing { file, size: target, done: 0, used: false }, true),
                Err(error) => {
                    // What was reserved in part would be missing elsewhere. The file is removed when there is another try.
                    let _ = disk.remove(&wal.join(SPARE));
                    let full = error.kind() == io::ErrorKind::StorageFull;
                    (if full { Self::NoRoom } else { Self::None }, false)
                }
            },
            Self::Growing { done, .. } if done >= wanted => (self, false),
            Self::Growing { file, size, done, used } => {
                let len = (step as u64).min(size - done);
                // The media writes the zeroes while batches are flushed; what is left of that is waited for once, at the
                // end.
                let zeroed = zero(&file, done, len).and_then(|()| file.write_behind(done, len));
                let done = done + len;
                match zeroed {
                    Err(_) => (Self::None, false),
                    Ok(()) if done < size => (Self::Growing { file, size, done, used }, true),
                    Ok(()) if file.sync_data().is_ok() => (Self::Ready { file, size }, true),
                    Ok(()) => (Self::None, false),
                }
            }
        }
    }

    /// Takes a segment that nobody needs any more as the spare, if this is wanted, there is none and it has the right size,
    /// and removes it otherwise. Its blocks are there already; its content is zeroed like that of any other spare. Says whether the
    /// segment's name is durably gone; if not, this is to be done again before the next segment goes: the names go one
    /// by one, oldest first, since a gap in the row of segments would look like a loss.
    pub(crate) fn recycle<D: Disk<File = F>>(
        self,
        disk: &D,
        wal: &Path,
        old: &Path,
        size: u64,
        reuse: bool,
    ) -> (Self, bool) {
        let reuse = reuse && matches!(self, Self::None | Self::NoRoom);
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
    let file = disk.open(old).ok()?;
    if file.len().ok()? != size {
        return None;
    }
    disk.rename(old, &wal.join(SPARE)).ok()?;
    Some(Spare::Growing { file, size, done: 0, used: true })
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
        Spare::Ready { .. } | Spare::Growing { .. } | Spare::None | Spare::NoRoom => {
            (fresh(disk, wal, header.size, zeroed)?, FRESH)
        }
    };
    let from = wal.join(name);
    let path = wal.join(segment_name(u32::try_from(header.sequence).unwrap_or(u32::MAX)));
    file.write_at(&header.encode(), 0).map_err(|error| DiskError::new("write", &from, &error))?;
    file.sync_data().map_err(|error| DiskError::new("sync", &from, &error))?;
    disk.rename(&from, &path).map_err(|error| DiskError::new("rename", &from, &error))?;
    disk.sync_dir(wal).map_err(|error| DiskError::new("sync", wal, &error))?;
    Ok(Segment { path, file })
}

fn fresh<D: Disk>(disk: &D, wal: &Path, size: u64, zeroed: bool) -> Result<D::File, DiskError> {
    let path: PathBuf = wal.join(FRESH);
    let file = disk.create(&path).map_err(|error| DiskError::new("create", &path, &error))?;
    file.allocate(size).map_err(|error| DiskError::new("allocate", &path, &error))?;
    if zeroed {
        zero(&file, 0, size).map_err(|error| DiskError::new("write", &path, &error))?;
    }
    Ok(file)
}

fn zero<F: DiskFile>(file: &F, from: u64, len: u64) -> io::Result<()> {
    let mut done = 0;
    while done < len {
        let part = ZEROS.len().min(usize::try_from(len - done).unwrap_or(ZEROS.len()));
        file.write_at(&ZEROS[..part], from + done)?;
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
