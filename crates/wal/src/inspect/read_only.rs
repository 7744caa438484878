//! A disk of which nothing is changed, however its user writes.

use std::io;
use std::path::Path;

use crate::disk::{Disk, DiskFile};

/// Reads from the disk below. Writes to open files and syncs succeed and have no effect, so that recovery, which readies a
/// log for writing, can be asked for its verdict alone; what would change names is refused.
#[derive(Clone, Debug)]
pub(super) struct ReadOnly<D>(pub(super) D);

/// A file of [`ReadOnly`].
#[derive(Debug)]
pub(super) struct ReadOnlyFile<F>(F);

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl<D: Disk> Disk for ReadOnly<D> {
    type File = ReadOnlyFile<D::File>;
    type Lock = D::Lock;

    fn create(&self, _: &Path) -> io::Result<Self::File> {
        refused()
    }

    fn open(&self, path: &Path) -> io::Result<Self::File> {
        self.0.open(path).map(ReadOnlyFile)
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.0.list(dir)
    }

    fn create_dir(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Self::Lock> {
        self.0.lock(path)
    }
}

impl<F: DiskFile> DiskFile for ReadOnlyFile<F> {
    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
}
