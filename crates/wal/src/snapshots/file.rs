//! One snapshot: being written, or kept.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use raftwright_traits::SnapshotContent;

use super::dir::SnapshotDir;
use super::error::SnapshotError;
use super::format::{Header, HeaderError, SNAPSHOT_META_BYTES_MAX, begin, extend, place_of, tail_checksum};
use crate::disk::{Disk, DiskFile};
use crate::real_disk::RealDisk;

/// A snapshot's content in a file.
///
/// A new one, from [`SnapshotDir::create`], is written from the start on, without gaps; what it is dropped without
/// [`commit`](Self::commit), it never was. A committed one is read only, and not removed from the disk while a
/// [`SnapshotFile`] of it exists.
#[derive(Debug)]
pub struct SnapshotFile<D: Disk = RealDisk> {
    state: State<D>,
}

#[derive(Debug)]
enum State<D: Disk> {
    Draft(Draft<D>),
    Kept(Arc<Kept<D>>),
}

/// A file under a temporary name.
struct Draft<D: Disk> {
    dir: SnapshotDir<D>,
    file: D::File,
    path: PathBuf,
    number: u64,
    blocks: Blocks,
    /// Where the file's last byte of content was ever written; bytes behind the content are overwritten by the commit.
    high: u64,
    /// A write failed: what stands in the file is not known.
    broken: bool,
    committed: bool,
}

/// A committed snapshot's file.
pub(super) struct Kept<D: Disk> {
    file: D::File,
    pub(super) path: PathBuf,
    pub(super) index: u64,
    pub(super) number: u64,
    pub(super) meta: Vec<u8>,
    blocks: Blocks,
}

/// The checksums of a content.
#[derive(Clone, Debug)]
struct Blocks {
    number: u64,
    block_bytes: u64,
    /// Of each block; the last may be of a part of one.
    sums: Vec<u32>,
    /// Bytes of content.
    len: u64,
}

impl<D: Disk> std::fmt::Debug for Draft<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Draft").field("path", &self.path).field("len", &self.blocks.len).finish_non_exhaustive()
    }
}

impl<D: Disk> std::fmt::Debug for Kept<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("path", &self.path).field("len", &self.blocks.len).finish_non_exhaustive()
    }
}

impl Blocks {
    /// Counts `bytes` behind what is there.
    fn append(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let within = self.len % self.block_bytes;
            let room = usize::try_from(self.block_bytes - within).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            let sum = match self.sums.last_mut() {
                Some(last) if within > 0 => last,
                Some(_) | None => {
                    self.sums.push(begin(self.number, self.len));
                    let last = self.sums.len() - 1;
                    &mut self.sums[last]
                }
            };
            *sum = extend(*sum, now);
            self.len += now.len() as u64;
            bytes = later;
        }
    }

    /// Where a block begins, how long it is, and its checksum. `None` behind the end.
    fn block(&self, which: u64) -> Option<(u64, usize, u32)> {
        let sum = self.sums.get(usize::try_from(which).ok()?)?;
        let at = which * self.block_bytes;
        Some((at, usize::try_from(self.block_bytes.min(self.len - at)).ok()?, *sum))
    }

    /// Reads one block into `buffer`, which has its length, and checks it.
    fn read<F: DiskFile>(&self, file: &F, at: u64, sum: u32, buffer: &mut [u8]) -> io::Result<()> {
        let count = file.read_at(buffer, place_of(at))?;
        if count != buffer.len() || extend(begin(self.number, at), buffer) != sum {
            let why = format!("bytes {at} to {} of a snapshot are not what was written", at + buffer.len() as u64);
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(())
    }

    /// Reads at `offset` as far as there is content, every byte checked.
    fn read_at<F: DiskFile>(&self, file: &F, mut offset: u64, mut buffer: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        let mut scratch = Vec::new();
        while !buffer.is_empty()
            && offset < self.len
            && let Some((at, len, sum)) = self.block(offset / self.block_bytes)
        {
            let skip = usize::try_from(offset - at).unwrap_or(usize::MAX);
            let count = match skip {
                0 if buffer.len() >= len => {
                    self.read(file, at, sum, &mut buffer[..len])?;
                    len
                }
                _ => {
                    scratch.resize(len, 0);
                    self.read(file, at, sum, &mut scratch)?;
                    let part = scratch.get(skip..).unwrap_or_default();
                    let count = part.len().min(buffer.len());
                    buffer[..count].copy_from_slice(&part[..count]);
                    count
                }
            };
            done += count;
            offset += count as u64;
            buffer = &mut buffer[count..];
        }
        Ok(done)
    }

    /// Forgets what is behind `len`, which is at most the present length.
    fn shorten<F: DiskFile>(&mut self, file: &F, len: u64) -> io::Result<()> {
        if len == self.len {
            return Ok(());
        }
        let (whole, part) = (len / self.block_bytes, len % self.block_bytes);
        let mut kept = Vec::new();
        if part > 0
            && let Some((at, block_len, sum)) = self.block(whole)
        {
            kept.resize(block_len, 0);
            self.read(file, at, sum, &mut kept)?;
            kept.truncate(usize::try_from(part).unwrap_or(usize::MAX));
        }
        self.sums.truncate(usize::try_from(whole).unwrap_or(usize::MAX));
        self.len = whole * self.block_bytes;
        self.append(&kept);
        Ok(())
    }
}

impl<D: Disk> Drop for Draft<D> {
    fn drop(&mut self) {
        if !self.committed {
            // What cannot be removed now is removed when the directory is opened again.
            let _left = self.dir.disk().remove(&self.path);
        }
    }
}

impl<D: Disk> Kept<D> {
    /// Reads the header and the tail of a file, and checks them; the content is checked when it is read.
    pub(super) fn open(disk: &D, path: PathBuf) -> Result<Self, SnapshotError> {
        let unreadable = |error: &io::Error| SnapshotError::disk("read", &path, error);
        let damaged = |why: &str| SnapshotError::Damaged { path: path.clone(), why: why.to_owned() };
        let file = disk.open(&path).map_err(|error| SnapshotError::disk("open", &path, &error))?;
        let file_len = file.len().map_err(|error| unreadable(&error))?;
        let mut header = vec![0; super::format::HEADER_LEN];
        let count = file.read_at(&mut header, 0).map_err(|error| unreadable(&error))?;
        header.truncate(count);
        let header = Header::decode(&header, file_len).map_err(|error| match error {
            HeaderError::Damaged(why) => damaged(why),
            HeaderError::Version(needs) => SnapshotError::Version { path: path.clone(), needs },
        })?;
        // The file is as long as the header says, so the tail is no longer than what is there.
        let mut tail = vec![0; usize::try_from(header.tail_len).map_err(|_| damaged("its tail is too long"))?];
        let count = file.read_at(&mut tail, header.tail_at()).map_err(|error| unreadable(&error))?;
        if count != tail.len() || tail_checksum(header.number, header.tail_at(), &tail) != header.tail_checksum {
            return Err(damaged("the checksum of its tail does not match"));
        }
        let sums_len = usize::try_from(header.sums_len()).map_err(|_| damaged("its tail is too long"))?;
        let (sums, rest) = tail.split_at(sums_len.min(tail.len()));
        let sums = sums.as_chunks::<4>().0.iter().map(|sum| u32::from_le_bytes(*sum)).collect();
        let meta = rest.get(..header.meta_len as usize).unwrap_or_default().to_vec();
        let blocks =
            Blocks { number: header.number, block_bytes: header.block_bytes.into(), sums, len: header.content_len };
        Ok(Kept { file, path, index: header.index, number: header.number, meta, blocks })
    }

    pub(super) fn size(&self) -> u64 {
        self.blocks.len
    }

    /// Reads all of the content and checks it.
    pub(super) fn verify(&self) -> Result<(), SnapshotError> {
        let mut buffer = Vec::new();
        let mut which = 0;
        while let Some((at, len, sum)) = self.blocks.block(which) {
            buffer.resize(len, 0);
            self.blocks.read(&self.file, at, sum, &mut buffer).map_err(|error| match error.kind() {
                io::ErrorKind::InvalidData => {
                    SnapshotError::Damaged { path: self.path.clone(), why: error.to_string() }
                }
                _ => SnapshotError::disk("read", &self.path, &error),
            })?;
            which += 1;
        }
        Ok(())
    }
}

impl<D: Disk> Draft<D> {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.broken {
            return Err(SnapshotError::Broken { path: self.path.clone() }.into());
        }
        if offset > self.blocks.len {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a snapshot is written without gaps"));
        }
        self.broken = true;
        self.blocks.shorten(&self.file, offset)?;
        self.file.write_at(bytes, place_of(offset))?;
        self.blocks.append(bytes);
        self.high = self.high.max(self.blocks.len);
        self.broken = false;
        Ok(())
    }

    fn commit(mut self, index: u64, meta: &[u8]) -> Result<Kept<D>, SnapshotError> {
        if self.broken {
            return Err(SnapshotError::Broken { path: self.path.clone() });
        }
        if meta.len() > SNAPSHOT_META_BYTES_MAX {
            return Err(SnapshotError::MetaTooLong { len: meta.len(), max: SNAPSHOT_META_BYTES_MAX });
        }
        let Blocks { number, block_bytes, ref sums, len } = self.blocks;
        let mut tail: Vec<u8> = sums.iter().flat_map(|sum| sum.to_le_bytes()).collect();
        tail.extend_from_slice(meta);
        // Content that was written again and became shorter left bytes behind, which the tail covers.
        let behind = usize::try_from(self.high - len).unwrap_or(usize::MAX);
        tail.resize(tail.len().max(behind), 0);
        let header = Header {
            index,
            number,
            block_bytes: u32::try_from(block_bytes).unwrap_or(u32::MAX),
            content_len: len,
            tail_len: tail.len() as u64,
            meta_len: u32::try_from(meta.len()).unwrap_or(u32::MAX),
            tail_checksum: tail_checksum(number, place_of(len), &tail),
        };
        let path = self.dir.path_of(index, number);
        let disk = self.dir.disk().clone();
        let failed = |action, error: io::Error| SnapshotError::disk(action, &self.path, &error);
        self.file.write_at(&tail, place_of(len)).map_err(|error| failed("write", error))?;
        self.file.write_at(&header.encode(), 0).map_err(|error| failed("write", error))?;
        self.file.sync_data().map_err(|error| failed("sync", error))?;
        disk.rename(&self.path, &path).map_err(|error| failed("rename", error))?;
        // The commit point: from here on it is there after a crash. What follows reads it as a start would.
        self.committed = true;
        self.dir.sync()?;
        Kept::open(&disk, path)
    }
}

impl<D: Disk> SnapshotFile<D> {
    pub(super) fn draft(dir: SnapshotDir<D>, file: D::File, path: PathBuf, number: u64, block_bytes: u32) -> Self {
        let blocks = Blocks { number, block_bytes: block_bytes.into(), sums: Vec::new(), len: 0 };
        let draft = Draft { dir, file, path, number, blocks, high: 0, broken: false, committed: false };
        SnapshotFile { state: State::Draft(draft) }
    }

    pub(super) fn kept(kept: Arc<Kept<D>>) -> Self {
        SnapshotFile { state: State::Kept(kept) }
    }

    /// Makes the content durable and gives it its name, at one commit point: the directory's sync after the rename. `index` is
    /// that of the last log entry in it, by which the newest is found; `meta` are bytes that come back with it, for
    /// instance what the snapshot stands for. A file that is committed already stays as it is.
    ///
    /// # Errors
    ///
    /// A [`SnapshotError`]. The snapshot is then not in the directory; after a failed rename or sync it may be found, whole,
    /// when the directory is opened again.
    pub fn commit(self, index: u64, meta: &[u8]) -> Result<Self, SnapshotError> {
        match self.state {
            State::Kept(kept) => Ok(Self::kept(kept)),
            State::Draft(draft) => {
                let dir = draft.dir.clone();
                let kept = Arc::new(draft.commit(index, meta)?);
                dir.keep(Arc::clone(&kept));
                Ok(Self::kept(kept))
            }
        }
    }

    /// What was said about it when it was committed; empty before.
    pub fn meta(&self) -> &[u8] {
        match &self.state {
            State::Draft(_) => &[],
            State::Kept(kept) => &kept.meta,
        }
    }

    /// Index of the last log entry in it; `None` while it is not committed.
    pub fn index(&self) -> Option<u64> {
        match &self.state {
            State::Draft(_) => None,
            State::Kept(kept) => Some(kept.index),
        }
    }

    /// The number that tells the files of one directory apart.
    pub fn number(&self) -> u64 {
        match &self.state {
            State::Draft(draft) => draft.number,
            State::Kept(kept) => kept.number,
        }
    }

    /// Bytes of content.
    pub fn len(&self) -> u64 {
        match &self.state {
            State::Draft(draft) => draft.blocks.len,
            State::Kept(kept) => kept.blocks.len,
        }
    }

    /// True when there is no content.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads all of a committed content and checks it.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Damaged`], or that it cannot be read.
    pub fn verify(&self) -> Result<(), SnapshotError> {
        match &self.state {
            State::Draft(_) => Ok(()),
            State::Kept(kept) => kept.verify(),
        }
    }

    /// Reads the content from the start on.
    pub fn reader(&self) -> SnapshotReader<'_, D> {
        SnapshotReader { file: self, offset: 0 }
    }
}

impl<D: Disk> SnapshotContent for SnapshotFile<D> {
    fn size(&self) -> io::Result<u64> {
        Ok(self.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.state {
            State::Draft(draft) => draft.blocks.read_at(&draft.file, offset, buffer),
            State::Kept(kept) => kept.blocks.read_at(&kept.file, offset, buffer),
        }
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        match &mut self.state {
            State::Draft(draft) => draft.write_at(offset, bytes),
            State::Kept(_) => {
                Err(io::Error::new(io::ErrorKind::PermissionDenied, "a committed snapshot stays as it is"))
            }
        }
    }
}

/// Appends to the content. Each call is a write of the file: put a [`BufWriter`](io::BufWriter) around it for small ones.
impl<D: Disk> io::Write for SnapshotFile<D> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let end = self.len();
        self.write_at(end, bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a content from the start on, every byte checked. Made by [`SnapshotFile::reader`]. Reads of less than a block
/// read a whole block: put a [`BufReader`](io::BufReader) of some blocks around it for small ones.
#[derive(Debug)]
pub struct SnapshotReader<'f, D: Disk = RealDisk> {
    file: &'f SnapshotFile<D>,
    offset: u64,
}

impl<D: Disk> io::Read for SnapshotReader<'_, D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(self.offset, buffer)?;
        self.offset += count as u64;
        Ok(count)
    }
}
