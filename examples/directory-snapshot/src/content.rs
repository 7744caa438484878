//! A directory as the content of a snapshot.
//!
//! On the wire it is a table of the files' names and lengths, and then the files, one behind the other:
//!
//! ```text
//! length of the table u64, little endian | the table, JSON: [["name", length], ...] | the files
//! ```

use std::fs::{self, File};
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use raftwright::SnapshotContent;

const LENGTH_BYTES: u64 = 8;

/// Longest table that is taken from a peer, in bytes.
const TABLE_BYTES_MAX: u64 = 16 << 20;

/// A directory that is sent, or that is being received.
#[derive(Debug)]
pub struct DirectorySnapshot {
    path: PathBuf,
    /// The length of the table and the table, as far as they are here.
    head: Vec<u8>,
    /// The files in the order of the table; empty until the table is here.
    files: Vec<Part>,
    /// It is being received, and goes when it is dropped.
    draft: bool,
}

#[derive(Debug)]
struct Part {
    file: File,
    length: u64,
}

impl DirectorySnapshot {
    /// A directory that is complete.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(path: &Path) -> Result<Self> {
        let mut names: Vec<String> = Vec::new();
        for entry in fs::read_dir(path)? {
            let name = entry?.file_name().into_string();
            names.push(name.map_err(|_| Error::new(ErrorKind::InvalidData, "a name that is not UTF-8"))?);
        }
        names.sort();
        let (mut files, mut table) = (Vec::new(), Vec::new());
        for name in names {
            let file = File::open(path.join(&name))?;
            let length = file.metadata()?.len();
            table.push((name, length));
            files.push(Part { file, length });
        }
        let table = serde_json::to_vec(&table)?;
        let head = [&(table.len() as u64).to_le_bytes()[..], &table].concat();
        Ok(Self { path: path.to_owned(), head, files, draft: false })
    }

    /// An empty directory, to be received into.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        fs::create_dir_all(path)?;
        Ok(Self { path: path.to_owned(), head: Vec::new(), files: Vec::new(), draft: true })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was received is complete and durable from now on; its owner moves it to where it belongs.
    ///
    /// # Errors
    /// It is not complete, or cannot be made durable.
    pub fn finish(mut self) -> Result<PathBuf> {
        let table_end = self.table_end().filter(|end| *end == self.head.len() as u64);
        let cut = || Error::new(ErrorKind::UnexpectedEof, "the snapshot ends too early");
        table_end.ok_or_else(cut)?;
        for part in &self.files {
            if part.file.metadata()?.len() != part.length {
                return Err(cut());
            }
            part.file.sync_all()?;
        }
        File::open(&self.path)?.sync_all()?;
        self.draft = false;
        Ok(self.path.clone())
    }

    /// It goes no more when it is dropped: somebody else has it.
    pub fn keep(&mut self) {
        self.draft = false;
    }

    /// Where the table ends, once its length is known.
    fn table_end(&self) -> Option<u64> {
        let length = self.head.get(..8)?.try_into().ok().map(u64::from_le_bytes)?;
        LENGTH_BYTES.checked_add(length)
    }

    /// Takes bytes of the head. Returns how many of them belonged to it.
    fn write_head(&mut self, offset: u64, bytes: &[u8]) -> Result<usize> {
        let at = usize::try_from(offset).map_err(|_| gap())?;
        if at > self.head.len() {
            return Err(gap());
        }
        self.head.truncate(at);
        let mut taken = 0;
        // First the length, which says where the table ends.
        for end in [Some(LENGTH_BYTES), None] {
            let end = match end.or_else(|| self.table_end()) {
                Some(end) if end > LENGTH_BYTES + TABLE_BYTES_MAX => return Err(bad_table()),
                Some(end) => usize::try_from(end).map_err(|_| bad_table())?,
                None => break,
            };
            let some = bytes.len().min(taken + end.saturating_sub(self.head.len()));
            self.head.extend_from_slice(bytes.get(taken..some).unwrap_or_default());
            taken = some;
        }
        if self.table_end() == Some(self.head.len() as u64) {
            self.make_files()?;
        }
        Ok(taken)
    }

    /// The table is here: the files are made. A name must be one, and no way to somewhere else.
    fn make_files(&mut self) -> Result<()> {
        let table = self.head.get(8..).unwrap_or_default();
        let table: Vec<(String, u64)> = serde_json::from_slice(table)?;
        self.files.clear();
        for (name, length) in table {
            if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\\', '\0']) {
                return Err(bad_table());
            }
            let options = File::options().read(true).write(true).create(true).truncate(true).open(self.path.join(name));
            self.files.push(Part { file: options?, length });
        }
        Ok(())
    }
}

fn gap() -> Error {
    Error::new(ErrorKind::InvalidInput, "a snapshot is written without gaps")
}

fn bad_table() -> Error {
    Error::new(ErrorKind::InvalidData, "the table of files cannot be")
}

impl SnapshotContent for DirectorySnapshot {
    fn size(&self) -> Result<u64> {
        Ok(self.head.len() as u64 + self.files.iter().map(|part| part.length).sum::<u64>())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        if let Some(rest) = usize::try_from(offset).ok().and_then(|at| self.head.get(at..)).filter(|r| !r.is_empty()) {
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            return Ok(count);
        }
        let mut at = offset - self.head.len() as u64;
        for part in &self.files {
            if at < part.length {
                let count = usize::try_from(part.length - at).unwrap_or(usize::MAX).min(buffer.len());
                return part.file.read_at(&mut buffer[..count], at);
            }
            at -= part.length;
        }
        Ok(0)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let in_head = match self.table_end() {
            Some(end) if offset >= end => 0,
            Some(_) | None => self.write_head(offset, bytes)?,
        };
        let mut bytes = bytes.get(in_head..).unwrap_or_default();
        let mut at = (offset + in_head as u64).saturating_sub(self.head.len() as u64);
        for part in &self.files {
            if bytes.is_empty() {
                return Ok(());
            }
            if at < part.length {
                let room = usize::try_from(part.length - at).unwrap_or(usize::MAX);
                let (now, later) = bytes.split_at(room.min(bytes.len()));
                part.file.write_all_at(now, at)?;
                (bytes, at) = (later, 0);
            } else {
                at -= part.length;
            }
        }
        if bytes.is_empty() { Ok(()) } else { Err(bad_table()) }
    }
}

impl Drop for DirectorySnapshot {
    fn drop(&mut self) {
        if self.draft {
            // What nobody has finished is worth nothing; what stays behind is removed at the next start.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
