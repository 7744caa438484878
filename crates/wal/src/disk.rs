//! The door to the media: everything that the log asks of a file system, and nothing more.
//!
//! Rules that an implementation keeps: a write becomes durable only by [`DiskFile::sync_data`] on its file, a name
//! (created, renamed, removed) only by [`Disk::sync_dir`] on its directory; what was not synced may be lost in any part.

use std::io;
use std::path::Path;

/// A file system, as small as the log can live with.
pub trait Disk: Clone + Send + Sync + 'static {
    /// An open file.
    type File: DiskFile;
    /// Holds an exclusive lock until it is dropped, or until the process ends.
    type Lock: Send + Sync + 'static;

    /// Creates an empty file for reading and writing; what was there under this name is emptied.
    fn create(&self, path: &Path) -> io::Result<Self::File>;
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Self::File>;
    /// As [`create`](Self::create), for a file whose writes should go around the operating system's cache where it can do that:
    /// they are long, whole sectors from aligned memory, and hardly ever read again. Reads see them all the same.
    fn create_direct(&self, path: &Path) -> io::Result<Self::File> {
        self.create(path)
    }
    /// As [`open`](Self::open), for such a file.
    fn open_direct(&self, path: &Path) -> io::Result<Self::File> {
        self.open(path)
    }
    /// Gives a file another name in the same directory; an existing file of that name is replaced atomically.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Names of all files and directories in `dir`, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Creates a directory and its missing parents; one that exists already is no error.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes the names in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the exclusive lock on the file `path`, creating it. A lock that somebody else holds is
    /// [`io::ErrorKind::WouldBlock`]; the call never waits.
    fn lock(&self, path: &Path) -> io::Result<Self::Lock>;
}

/// An open file with positioned reads and writes. All offsets and lengths are in bytes.
pub trait DiskFile: Send + Sync + 'static {
    /// Writes all of `bytes` at `offset`, extending the file where needed.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Reads up to `buffer.len()` bytes at `offset` and returns their number, which is smaller only at the file's end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Makes all that was written to this file durable, and as much of its metadata as reading it back needs.
    fn sync_data(&self) -> io::Result<()>;
    /// As [`write_at`](Self::write_at) and [`sync_data`](Self::sync_data), for these bytes: they are durable when this returns. What
    /// else was written to the file need not be.
    fn write_durably_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_at(bytes, offset)?;
        self.sync_data()
    }
    /// A hint that these bytes should be on their way to the media now, so that a later sync has less to wait for. Nothing
    /// is durable by it, and it waits for nothing.
    fn write_behind(&self, offset: u64, len: u64) -> io::Result<()> {
        let _ = (offset, len);
        Ok(())
    }
    /// Length of the file.
    fn len(&self) -> io::Result<u64>;
    /// True when the file holds no byte.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Reserves space so that the file is `len` bytes long. Bytes that were never written read as zero.
    fn allocate(&self, len: u64) -> io::Result<()>;
}
