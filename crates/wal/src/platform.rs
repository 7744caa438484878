//! What differs between operating systems. Nothing outside of this file asks which one it is.

use std::fs::File;
use std::io;
use std::path::Path;
#[cfg(target_os = "linux")]
use std::sync::atomic::{AtomicU32, Ordering};

/// Positioned read; returns the number of bytes read, smaller than asked for only at the file's end.
#[cfg(unix)]
pub(crate) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    use std::os::unix::fs::FileExt;
    read_loop(buffer, offset, |part, at| file.read_at(part, at))
}

/// Positioned read; returns the number of bytes read, smaller than asked for only at the file's end.
#[cfg(windows)]
pub(crate) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    use std::os::windows::fs::FileExt;
    read_loop(buffer, offset, |part, at| file.seek_read(part, at))
}

fn read_loop(
    buffer: &mut [u8],
    offset: u64,
    mut read: impl FnMut(&mut [u8], u64) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match read(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Positioned write of all bytes.
#[cfg(unix)]
pub(crate) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

/// Positioned write of all bytes.
#[cfg(windows)]
pub(crate) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    let mut done = 0;
    while done < bytes.len() {
        match file.seek_write(&bytes[done..], offset + done as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => done += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Positioned write of all bytes that are durable when it returns: one system call, where a write and a sync are two.
#[cfg(target_os = "linux")]
pub(crate) fn write_durably_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    use rustix::io::{Errno, ReadWriteFlags, pwritev2};
    let mut done = 0;
    while done < bytes.len() {
        let rest = [io::IoSlice::new(&bytes[done..])];
        match pwritev2(file, &rest, offset + done as u64, ReadWriteFlags::DSYNC) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => done += n,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Others have no such call.
#[cfg(not(target_os = "linux"))]
pub(crate) fn write_durably_at(_file: &File, _bytes: &[u8], _offset: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// True when the system does not know the call, or not for this file, or a filter that does not know it forbids it: the file
/// itself is open for writing.
pub(crate) fn is_unknown(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied)
}

/// Opens a file once more so that writes go around the system's cache, if the system can do that for this file.
#[cfg(target_os = "linux")]
pub(crate) fn open_direct(path: &Path) -> Option<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let flag = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).ok()?;
    std::fs::OpenOptions::new().write(true).custom_flags(flag).open(path).ok()
}

/// Others have no such thing, or nothing that is worth it.
#[cfg(not(target_os = "linux"))]
pub(crate) fn open_direct(_path: &Path) -> Option<File> {
    None
}

/// True when a write around the cache failed because its length, its place or its memory are not aligned as this file wants it.
#[cfg(target_os = "linux")]
pub(crate) fn is_misaligned(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error())
}

/// There are no such writes.
#[cfg(not(target_os = "linux"))]
pub(crate) fn is_misaligned(_error: &io::Error) -> bool {
    false
}

/// Reserves blocks and sets the length. A file system that cannot reserve gets its length set only.
#[cfg(target_os = "linux")]
pub(crate) fn allocate(file: &File, len: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    let mut allocated = fallocate(file, FallocateFlags::empty(), 0, len);
    while allocated == Err(rustix::io::Errno::INTR) {
        allocated = fallocate(file, FallocateFlags::empty(), 0, len);
    }
    match allocated {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => file.set_len(len),
        Err(error) => Err(error.into()),
    }
}

/// Sets the length; the blocks are reserved when they are first written.
#[cfg(not(target_os = "linux"))]
pub(crate) fn allocate(file: &File, len: u64) -> io::Result<()> {
    file.set_len(len)
}

/// Starts to write these bytes back. The system call is meant for pages that are not needed again, and that is true of them,
/// too; what counts here is that it begins to write dirty ones, and does not wait.
#[cfg(target_os = "linux")]
pub(crate) fn write_behind(file: &File, offset: u64, len: u64) {
    // A hint: that it fails changes nothing but how long a later sync takes.
    let _ = rustix::fs::fadvise(file, offset, std::num::NonZeroU64::new(len), rustix::fs::Advice::DontNeed);
}

/// There is no such hint.
#[cfg(not(target_os = "linux"))]
pub(crate) fn write_behind(_file: &File, _offset: u64, _len: u64) {}

/// Makes the names in a directory durable.
#[cfg(unix)]
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// NTFS journals names by itself and offers no handle on a directory that could be flushed.
#[cfg(windows)]
pub(crate) fn sync_dir(_dir: &Path) -> io::Result<()> {
    Ok(())
}

/// Zeroed memory in huge pages.
#[cfg(target_os = "linux")]
pub(crate) type HugePages = memmap2::MmapMut;

/// Others give no way to ask for it.
#[cfg(not(target_os = "linux"))]
pub(crate) type HugePages = Vec<u8>;

/// At least `len` bytes of such memory. A system that has none to give gives small pages; `None` if it gives none at all.
#[cfg(target_os = "linux")]
pub(crate) fn huge_pages(len: usize) -> Option<HugePages> {
    let pages = memmap2::MmapMut::map_anon(len.checked_next_multiple_of(2 << 20)?).ok()?;
    // Advice: without it the same memory is merely slower.
    let _ = pages.advise(memmap2::Advice::HugePage);
    Some(pages)
}

/// There is none.
#[cfg(not(target_os = "linux"))]
pub(crate) fn huge_pages(_len: usize) -> Option<HugePages> {
    None
}

/// What many threads wait for, and are woken by together: one call of the system, where they would be one for each.
#[cfg(target_os = "linux")]
#[derive(Debug, Default)]
pub(crate) struct Bell {
    /// How often it was rung.
    rung: AtomicU32,
    /// How many wait, or are about to.
    waiting: AtomicU32,
}

#[cfg(target_os = "linux")]
impl Bell {
    /// Wakes whoever waits for it. What they look for is there before.
    pub(crate) fn ring(&self) {
        use rustix::thread::futex::{Flags, wake};
        self.rung.fetch_add(1, Ordering::SeqCst);
        // Whoever is not counted yet looks once more before it waits.
        if self.waiting.load(Ordering::SeqCst) > 0 {
            // It fails for an address that is none.
            let _ = wake(&self.rung, Flags::PRIVATE, i32::MAX.unsigned_abs());
        }
    }

    /// Waits until `look` finds something: it looks at once, and again whenever the bell was rung.
    pub(crate) fn wait_until<R>(&self, look: impl Fn() -> Option<R>) -> R {
        use rustix::thread::futex::{Flags, wait};
        if let Some(found) = look() {
            return found;
        }
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let found = loop {
            let heard = self.rung.load(Ordering::SeqCst);
            if let Some(found) = look() {
                break found;
            }
            // An error: it was rung since, or a signal came. Either is a reason to look again.
            let _ = wait(&self.rung, Flags::PRIVATE, heard, None);
        };
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        found
    }
}

/// What many threads wait for, and are woken by together.
#[cfg(not(target_os = "linux"))]
#[derive(Debug, Default)]
pub(crate) struct Bell {
    lock: std::sync::Mutex<()>,
    rung: std::sync::Condvar,
}

#[cfg(not(target_os = "linux"))]
impl Bell {
    /// Wakes whoever waits for it. What they look for is there before.
    pub(crate) fn ring(&self) {
        // Who has looked in vain waits by now, or has not let go of the lock.
        drop(self.lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        self.rung.notify_all();
    }

    /// Waits until `look` finds something: it looks at once, and again whenever the bell was rung.
    pub(crate) fn wait_until<R>(&self, look: impl Fn() -> Option<R>) -> R {
        let mut lock = self.lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        loop {
            if let Some(found) = look() {
                return found;
            }
            lock = self.rung.wait(lock).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }
}
