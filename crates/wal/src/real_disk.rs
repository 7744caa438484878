//! The operating system's files.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::aligned::is_aligned;
use crate::disk::{Disk, DiskFile};
use crate::format::SECTOR;
use crate::platform;

/// [`Disk`] on the operating system's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

/// A file of [`RealDisk`].
#[derive(Debug)]
pub struct RealFile {
    file: File,
    /// The same file, for writes around the system's cache. Copying into the cache costs more than the write itself where the
    /// cache has to find a page first, and what is in it twice helps nobody: recent entries are in memory anyway.
    direct: Option<File>,
    /// The file wants another alignment than ours.
    misaligned: AtomicBool,
    /// The file has no write that is durable by itself.
    without_durable: AtomicBool,
}

impl RealFile {
    fn cached(file: File) -> Self {
        Self { file, direct: None, misaligned: AtomicBool::new(false), without_durable: AtomicBool::new(false) }
    }

    fn around_cache(file: File, path: &Path) -> Self {
        Self { direct: platform::open_direct(path), ..Self::cached(file) }
    }

    /// Where a write goes around the cache.
    fn direct_for(&self, bytes: &[u8], offset: u64) -> Option<&File> {
        let aligned = offset.is_multiple_of(SECTOR as u64) && bytes.len().is_multiple_of(SECTOR) && is_aligned(bytes);
        self.direct.as_ref().filter(|_| aligned && !self.misaligned.load(Ordering::Relaxed))
    }

    /// Where a write is durable by itself.
    fn durable_for(&self, bytes: &[u8], offset: u64) -> Option<&File> {
        self.direct_for(bytes, offset).filter(|_| !self.without_durable.load(Ordering::Relaxed))
    }
}

/// A held lock of [`RealDisk`]; the operating system releases it when the process ends, however it ends.
#[derive(Debug)]
pub struct RealLock(#[allow(dead_code, reason = "the open file is the lock")] File);

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

impl Disk for RealDisk {
    type File = RealFile;
    type Lock = RealLock;

    fn create(&self, path: &Path) -> io::Result<RealFile> {
        create(path).map(RealFile::cached)
    }

    fn open(&self, path: &Path) -> io::Result<RealFile> {
        open(path).map(RealFile::cached)
    }

    fn create_direct(&self, path: &Path) -> io::Result<RealFile> {
        create(path).map(|file| RealFile::around_cache(file, path))
    }

    fn open_direct(&self, path: &Path) -> io::Result<RealFile> {
        open(path).map(|file| RealFile::around_cache(file, path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        platform::sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<RealLock> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(RealLock(file)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl DiskFile for RealFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Some(direct) = self.direct_for(bytes, offset) {
            match platform::write_all_at(direct, bytes, offset) {
                Err(error) if platform::is_misaligned(&error) => self.misaligned.store(true, Ordering::Relaxed),
                written => return written,
            }
        }
        platform::write_all_at(&self.file, bytes, offset)
    }

    fn write_durably_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Some(direct) = self.durable_for(bytes, offset) {
            match platform::write_durably_at(direct, bytes, offset) {
                Err(error) if platform::is_unknown(&error) => self.without_durable.store(true, Ordering::Relaxed),
                // The two calls that it stands for find out which of its two reasons this has.
                Err(error) if platform::is_misaligned(&error) => {}
                written => return written,
            }
        }
        self.write_at(bytes, offset)?;
        self.sync_data()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        platform::read_at(&self.file, buffer, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write_behind(&self, offset: u64, len: u64) -> io::Result<()> {
        platform::write_behind(&self.file, offset, len);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        platform::allocate(&self.file, len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aligned::AlignedBuffer;

    /// Writes around the cache and through it, beside each other and over each other, are all seen by reads.
    #[test]
    fn it_does_not_matter_which_way_a_write_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = RealDisk.create_direct(&path).unwrap();
        file.allocate(64 << 10).unwrap();
        let mut model = vec![0; 64 << 10];
        let mut random = 7u64;
        for round in 0..400 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (at, len) = ((random >> 33) as usize % 100 * SECTOR, 1 + (1 + (random >> 45) as usize % 8) * SECTOR);
            let content: Vec<u8> = (0..len).map(|byte| (byte + round) as u8).collect();
            if round % 3 == 0 {
                // Neither as long as whole sectors nor in aligned memory.
                file.write_at(&content, at as u64).unwrap();
            } else {
                let content = AlignedBuffer::of(&content[1..]);
                assert_eq!(file.direct_for(content.content(), at as u64).is_some(), file.direct.is_some());
                file.write_at(content.content(), at as u64).unwrap();
            }
            let content = if round % 3 == 0 { &content[..] } else { &content[1..] };
            model[at..at + content.len()].copy_from_slice(content);
            if round % 5 == 0 {
                let mut read = vec![1; model.len()];
                assert_eq!(file.read_at(&mut read, 0).unwrap(), read.len());
                assert!(read == model, "round {round}");
            }
        }
        file.sync_data().unwrap();
        assert!(std::fs::read(&path).unwrap() == model);
        assert!(file.direct_for(AlignedBuffer::of(&[1; SECTOR]).content(), 100).is_none(), "not at a sector");
    }

    /// A file that takes the flag and wants another alignment is written through the cache, from its first refusal on.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_that_wants_another_alignment_is_written_through_the_cache() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        // The system calls whatever is no number an invalid argument here, as it does what is not aligned elsewhere.
        let strict = OpenOptions::new().write(true).open("/proc/self/oom_score_adj").unwrap();
        let file = RealFile { direct: Some(strict), ..RealFile::cached(create(&path).unwrap()) };
        let content = AlignedBuffer::of(&[b'x'; SECTOR]);
        assert!(file.direct_for(content.content(), 0).is_some());
        file.write_at(content.content(), 0).unwrap();
        assert!(file.direct_for(content.content(), 0).is_none(), "it is not tried again");
        file.write_at(content.content(), 512).unwrap();
        file.sync_data().unwrap();
        assert!(std::fs::read(&path).unwrap() == [b'x'; 2 * SECTOR]);
    }

    /// A file that takes writes around the cache, and none that is durable by itself, is asked for that once.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_without_durable_writes_is_not_asked_for_one_again() {
        let dir = tempfile::tempdir().unwrap();
        // This one takes no flags for writes, and its own value in pieces of 12 bytes.
        let path = "/proc/self/oom_score_adj";
        let value = format!("{:>8}    ", std::fs::read_to_string(path).unwrap().trim());
        let content = AlignedBuffer::of(&value.repeat(SECTOR).as_bytes()[..SECTOR]);
        let simple = OpenOptions::new().write(true).open(path).unwrap();
        let file = RealFile { direct: Some(simple), ..RealFile::cached(create(&dir.path().join("file")).unwrap()) };
        assert!(file.durable_for(content.content(), 0).is_some());
        file.write_durably_at(content.content(), 0).unwrap();
        assert!(file.durable_for(content.content(), 0).is_none(), "it is not tried again");
        assert!(file.direct_for(content.content(), 0).is_some(), "and written around the cache all the same");
        file.write_durably_at(content.content(), 0).unwrap();
    }

    /// A file that knows no write that is durable by itself, and wants another alignment besides, gets a write through the cache and
    /// a sync.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_without_durable_writes_is_written_and_synced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let content = AlignedBuffer::of(&[b'x'; SECTOR]);
        // This one takes no flags for writes, and nothing but a number.
        let strict = OpenOptions::new().write(true).open("/proc/self/oom_score_adj").unwrap();
        let refused = platform::write_durably_at(&strict, content.content(), 0).unwrap_err();
        assert!(platform::is_unknown(&refused) && !platform::is_misaligned(&refused), "{refused}");
        let file = RealFile { direct: Some(strict), ..RealFile::cached(create(&path).unwrap()) };
        file.write_durably_at(content.content(), 0).unwrap();
        assert!(file.direct_for(content.content(), 0).is_none(), "then it was found to be strict");
        assert!(std::fs::read(&path).unwrap() == [b'x'; SECTOR]);
        // A filter for system calls that is older than this one says that it is forbidden.
        assert!(platform::is_unknown(&io::ErrorKind::PermissionDenied.into()));
        assert!(
            !platform::is_unknown(&io::Error::from_raw_os_error(5)),
            "what the media fails at is never tried again"
        );
    }
}
