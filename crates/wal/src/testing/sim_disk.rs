//! The simulated disk: files, names, locks, and what can be done to them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::inode::{Inode, Loss, Random};
use crate::disk::{Disk, DiskFile};
use crate::format::SECTOR;

/// A disk in memory. Clones are handles of the same disk, so that a test can cut the power of a disk that somebody uses;
/// [`fork`](Self::fork) makes an independent copy. Nothing in it depends on time, threads or addresses: the same calls
/// with the same seed have the same results.
#[derive(Clone, Debug)]
pub struct SimDisk(Arc<Mutex<Inner>>);

/// How often the disk did what, since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Writes and allocations.
    pub writes: u64,
    /// Syncs of files.
    pub syncs: u64,
    /// Creates, renames, removes and syncs of directories.
    pub names: u64,
    /// Reads.
    pub reads: u64,
    /// Bytes that they gave.
    pub read_bytes: u64,
    /// Writes that were to be durable by themselves. Each counts as a write and as a sync, too.
    pub durable_writes: u64,
    /// Faults that were injected: failed calls, lost or torn writes at a power cut, damaged bytes.
    pub faults: u64,
}

impl Counts {
    /// Number of calls that change something: the places where a crash makes a difference.
    pub fn steps(&self) -> u64 {
        self.writes + self.syncs + self.names
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Dir,
    File(u64),
}

/// A name and what it stands for now; `None` means that it is gone.
type NameChange = (PathBuf, Option<Name>);

/// Faults that wait for their call.
#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    crash_at_step: Option<u64>,
    failing_write: Option<u64>,
    write_error: Option<io::ErrorKind>,
    stops_anywhere: bool,
    failing_sync: Option<u64>,
    failing_names: u64,
    failing_name: Option<u64>,
    capacity: Option<u64>,
}

#[derive(Clone, Debug)]
struct Inner {
    random: Random,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    live: BTreeMap<PathBuf, Name>,
    durable: BTreeMap<PathBuf, Name>,
    /// Names that changed since their directory was synced, in order; `None` means removed. A rename is one change.
    pending: Vec<(PathBuf, Vec<NameChange>)>,
    locks: BTreeSet<PathBuf>,
    /// Handles of an earlier life fail.
    life: u64,
    down: bool,
    /// Durable writes end when it is said so.
    takes_time: bool,
    unreadable: BTreeSet<PathBuf>,
    counts: Counts,
    faults: Faults,
}

/// A file of a [`SimDisk`].
#[derive(Debug)]
pub struct SimFile {
    disk: SimDisk,
    inode: u64,
    life: u64,
}

/// A held lock of a [`SimDisk`].
#[derive(Debug)]
pub struct SimLock {
    disk: SimDisk,
    path: PathBuf,
    life: u64,
}

fn down() -> io::Error {
    io::Error::other("the machine is down")
}

fn injected(what: &'static str) -> io::Error {
    io::Error::other(what)
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Inner {
    /// Counts a step, or crashes at it. True when the step is to be carried out.
    fn step(&mut self, count: impl FnOnce(&mut Counts) -> &mut u64) -> io::Result<()> {
        if self.down {
            return Err(down());
        }
        if self.faults.crash_at_step.is_some_and(|at| self.counts.steps() >= at) {
            self.down = true;
            return Err(down());
        }
        *count(&mut self.counts) += 1;
        Ok(())
    }

    /// A step that changes names, or makes them durable.
    fn name_step(&mut self) -> io::Result<()> {
        self.step(|counts| &mut counts.names)?;
        let one_of_many = self.faults.failing_names > 0;
        self.faults.failing_names = self.faults.failing_names.saturating_sub(1);
        if !Self::is_due(&mut self.faults.failing_name) && !one_of_many {
            return Ok(());
        }
        self.counts.faults += 1;
        Err(injected("the disk cannot change this directory"))
    }

    fn change_names(&mut self, dir: &Path, changes: Vec<NameChange>) {
        for (path, name) in &changes {
            match name {
                Some(name) => self.live.insert(path.clone(), *name),
                None => self.live.remove(path),
            };
        }
        self.pending.push((dir.into(), changes));
    }

    fn apply_names(names: &mut BTreeMap<PathBuf, Name>, changes: Vec<NameChange>) {
        for (path, name) in changes {
            match name {
                Some(name) => names.insert(path, name),
                None => names.remove(&path),
            };
        }
    }

    fn used(&self) -> u64 {
        let inodes = self.live.values().filter_map(|name| match name {
            Name::File(inode) => self.inodes.get(inode),
            Name::Dir => None,
        });
        inodes.map(|inode| inode.live().len() as u64).sum()
    }

    fn inode(&self, path: &Path) -> io::Result<u64> {
        match self.live.get(path) {
            Some(Name::File(inode)) => Ok(*inode),
            Some(Name::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(not_found()),
        }
    }

    fn inode_mut(&mut self, inode: u64) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&inode).ok_or_else(not_found)
    }

    /// A fault that waits for its call: true when this is the call.
    fn is_due(waiting: &mut Option<u64>) -> bool {
        match waiting {
            Some(0) => {
                *waiting = None;
                true
            }
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }

    fn end_life(&mut self) {
        self.life += 1;
        self.locks.clear();
        self.down = false;
        self.faults.crash_at_step = None;
    }
}

impl SimDisk {
    /// An empty disk. The seed decides what tears how.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            random: Random(seed),
            inodes: BTreeMap::new(),
            next_inode: 0,
            live: BTreeMap::new(),
            durable: BTreeMap::new(),
            pending: Vec::new(),
            locks: BTreeSet::new(),
            life: 0,
            down: false,
            takes_time: false,
            unreadable: BTreeSet::new(),
            counts: Counts::default(),
            faults: Faults::default(),
        })))
    }

    fn lock_inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An independent disk with the same content, durable or not, and another seed. Nobody has it open.
    pub fn fork(&self, seed: u64) -> Self {
        let mut inner = self.lock_inner().clone();
        inner.random = Random(seed);
        inner.locks.clear();
        inner.life += 1;
        Self(Arc::new(Mutex::new(inner)))
    }

    /// The power goes: what was not synced is lost as the rule says, open files and locks with it.
    pub fn power_cut(&self, loss: Loss) {
        let mut inner = self.lock_inner();
        let inner = &mut *inner;
        let dirty = !inner.pending.is_empty() || inner.inodes.values().any(Inode::is_dirty);
        inner.counts.faults += u64::from(dirty && loss != Loss::Nothing);
        let pending = std::mem::take(&mut inner.pending);
        let keep = match loss {
            Loss::Everything => 0,
            Loss::Nothing => pending.len(),
            Loss::Prefix | Loss::Sectors => inner.random.up_to(pending.len()),
        };
        for (_, changes) in pending.into_iter().take(keep) {
            Inner::apply_names(&mut inner.durable, changes);
        }
        inner.live.clone_from(&inner.durable);
        for inode in inner.inodes.values_mut() {
            inode.cut(loss, &mut inner.random);
        }
        let named: BTreeSet<u64> = inner
            .live
            .values()
            .filter_map(|name| match name {
                Name::File(inode) => Some(*inode),
                Name::Dir => None,
            })
            .collect();
        inner.inodes.retain(|inode, _| named.contains(inode));
        inner.end_life();
    }

    /// The process ends, the machine lives: open files and locks are gone, unsynced writes are still there and still
    /// unsynced. Of a durable write that has begun the first sectors are there, none or all of them among others.
    pub fn kill(&self) {
        let mut inner = self.lock_inner();
        let inner = &mut *inner;
        for inode in inner.inodes.values_mut() {
            inode.stop(&mut inner.random);
        }
        inner.end_life();
    }

    /// From now on [`DiskFile::write_durably_at`] returns when the write has begun, and [`end_writes`](Self::end_writes) ends it:
    /// for a simulation in which calls take time. Whoever called acts upon the call's return when it has ended, and makes no other
    /// call before. What happens to the process or to the power until then happens during the call.
    pub fn let_writes_take_time(&self) {
        self.lock_inner().takes_time = true;
    }

    /// Ends the durable writes that have begun: what they wrote is durable, and nothing else by that.
    pub fn end_writes(&self) {
        self.lock_inner().inodes.values_mut().for_each(Inode::end);
    }

    /// The machine goes down instead of carrying out this step, counted from now; 0 is the next one. Steps are what
    /// [`Counts::steps`] counts. It comes up again with [`power_cut`](Self::power_cut) or [`kill`](Self::kill).
    pub fn crash_at(&self, step: u64) {
        let mut inner = self.lock_inner();
        inner.faults.crash_at_step = Some(inner.counts.steps() + step);
    }

    /// True when the machine went down at its step.
    pub fn is_down(&self) -> bool {
        self.lock_inner().down
    }

    /// A coming sync fails (0: the next one). The process goes on seeing what it wrote; the media never gets it.
    pub fn fail_sync(&self, which: u64) {
        self.lock_inner().faults.failing_sync = Some(which);
    }

    /// A coming write fails (0: the next one), after a part of it was written.
    pub fn fail_write(&self, which: u64) {
        let mut inner = self.lock_inner();
        (inner.faults.failing_write, inner.faults.write_error) = (Some(which), None);
        inner.faults.stops_anywhere = false;
    }

    /// As [`fail_write`](Self::fail_write), and the part that was written may end at any byte, as on a file system that does not
    /// write whole sectors.
    pub fn fail_write_anywhere(&self, which: u64) {
        self.fail_write(which);
        self.lock_inner().faults.stops_anywhere = true;
    }

    /// As [`fail_write`](Self::fail_write), with this error.
    pub fn fail_write_with(&self, which: u64, error: io::ErrorKind) {
        let mut inner = self.lock_inner();
        (inner.faults.failing_write, inner.faults.write_error) = (Some(which), Some(error));
    }

    /// So many coming creates, renames, removes and syncs of directories fail; nothing of them is done.
    pub fn fail_names(&self, count: u64) {
        self.lock_inner().faults.failing_names = count;
    }

    /// A coming create, rename, remove or sync of a directory fails (0: the next one); nothing of it is done.
    pub fn fail_name(&self, which: u64) {
        self.lock_inner().faults.failing_name = Some(which);
    }

    /// Files together may have this many bytes; `None` is no bound.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock_inner().faults.capacity = bytes;
    }

    /// Nothing fails any more: faults that wait for their call are forgotten, and there is room again. What was lost or
    /// damaged stays so.
    pub fn mend(&self) {
        let mut inner = self.lock_inner();
        inner.faults = Faults::default();
        inner.unreadable.clear();
    }

    /// Reads of this file fail from now on.
    pub fn make_unreadable(&self, path: &Path) {
        self.lock_inner().unreadable.insert(path.into());
    }

    /// How often the disk did what.
    pub fn counts(&self) -> Counts {
        self.lock_inner().counts
    }

    /// All files, sorted.
    pub fn files(&self) -> Vec<PathBuf> {
        let inner = self.lock_inner();
        inner.live.iter().filter(|(_, name)| matches!(name, Name::File(_))).map(|(path, _)| path.clone()).collect()
    }

    /// The content of a file as a process sees it.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let inner = self.lock_inner();
        let inode = inner.inode(path).ok()?;
        inner.inodes.get(&inode).map(|inode| inode.live().to_vec())
    }

    /// The content of a file as the media holds it.
    pub fn durable_content(&self, path: &Path) -> Option<Vec<u8>> {
        let inner = self.lock_inner();
        let Some(Name::File(inode)) = inner.durable.get(path) else { return None };
        inner.inodes.get(inode).map(|inode| inode.durable().to_vec())
    }

    /// Damages one byte on the media: `mask` is XORed into it. False when there is no such byte.
    pub fn flip(&self, path: &Path, offset: u64, mask: u8) -> bool {
        let Ok(offset) = usize::try_from(offset) else { return false };
        let there = self.content(path).is_some_and(|content| offset < content.len());
        self.tamper(path, |content| {
            if let Some(byte) = content.get_mut(offset) {
                *byte ^= mask;
            }
        });
        there
    }

    /// Overwrites bytes on the media.
    pub fn overwrite(&self, path: &Path, offset: u64, bytes: &[u8]) {
        let Ok(offset) = usize::try_from(offset) else { return };
        self.tamper(path, |content| {
            content.iter_mut().skip(offset).zip(bytes).for_each(|(to, from)| *to = *from);
        });
    }

    /// Cuts a file on the media to this length.
    pub fn shorten(&self, path: &Path, len: u64) {
        self.tamper(path, |content| content.truncate(usize::try_from(len).unwrap_or(usize::MAX)));
    }

    fn tamper(&self, path: &Path, change: impl Fn(&mut Vec<u8>)) {
        let mut inner = self.lock_inner();
        inner.counts.faults += 1;
        let inode = inner.inode(path).and_then(|inode| inner.inode_mut(inode));
        if let Ok(inode) = inode {
            inode.tamper(change);
        }
    }

    /// Loses a file, durably, as if it never had been.
    pub fn lose(&self, path: &Path) {
        let mut inner = self.lock_inner();
        inner.counts.faults += 1;
        inner.live.remove(path);
        inner.durable.remove(path);
        for (_, changes) in &mut inner.pending {
            changes.retain(|(changed, _)| changed != path);
        }
    }

    fn parent(path: &Path) -> &Path {
        path.parent().unwrap_or(Path::new(""))
    }
}

impl Disk for SimDisk {
    type File = SimFile;
    type Lock = SimLock;

    fn create(&self, path: &Path) -> io::Result<SimFile> {
        let mut inner = self.lock_inner();
        inner.name_step()?;
        if !inner.live.contains_key(Self::parent(path)) && !Self::parent(path).as_os_str().is_empty() {
            return Err(not_found());
        }
        // A file that is there is emptied and stays the same file, whatever other name it may have again after a power cut.
        if let Ok(inode) = inner.inode(path) {
            inner.inode_mut(inode)?.empty();
            return Ok(SimFile { disk: self.clone(), inode, life: inner.life });
        }
        let inode = inner.next_inode;
        inner.next_inode += 1;
        inner.inodes.insert(inode, Inode::default());
        inner.change_names(Self::parent(path), vec![(path.into(), Some(Name::File(inode)))]);
        Ok(SimFile { disk: self.clone(), inode, life: inner.life })
    }

    fn open(&self, path: &Path) -> io::Result<SimFile> {
        let inner = self.lock_inner();
        if inner.down {
            return Err(down());
        }
        if inner.unreadable.contains(path) {
            return Err(injected("the disk cannot read this file"));
        }
        Ok(SimFile { disk: self.clone(), inode: inner.inode(path)?, life: inner.life })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.lock_inner();
        inner.name_step()?;
        let inode = inner.inode(from)?;
        inner.change_names(Self::parent(to), vec![(to.into(), Some(Name::File(inode))), (from.into(), None)]);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.lock_inner();
        inner.inode(path)?;
        inner.name_step()?;
        inner.change_names(Self::parent(path), vec![(path.into(), None)]);
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let inner = self.lock_inner();
        if inner.down {
            return Err(down());
        }
        if inner.live.get(dir) != Some(&Name::Dir) {
            return Err(not_found());
        }
        let inside = inner.live.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned()).collect())
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut inner = self.lock_inner();
        if inner.live.get(dir) == Some(&Name::Dir) {
            return if inner.down { Err(down()) } else { Ok(()) };
        }
        inner.name_step()?;
        let missing: Vec<PathBuf> = dir.ancestors().map(Path::to_path_buf).collect();
        for path in missing.into_iter().rev() {
            if !path.as_os_str().is_empty() && !inner.live.contains_key(&path) {
                let parent = Self::parent(&path).to_path_buf();
                inner.change_names(&parent, vec![(path, Some(Name::Dir))]);
            }
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut inner = self.lock_inner();
        inner.name_step()?;
        let (synced, left) = std::mem::take(&mut inner.pending).into_iter().partition(|(changed, _)| changed == dir);
        inner.pending = left;
        let synced: Vec<_> = synced;
        for (_, changes) in synced {
            Inner::apply_names(&mut inner.durable, changes);
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<SimLock> {
        let mut inner = self.lock_inner();
        if inner.down {
            return Err(down());
        }
        if !inner.locks.insert(path.into()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(SimLock { disk: self.clone(), path: path.into(), life: inner.life })
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut inner = self.disk.lock_inner();
        if inner.life == self.life {
            inner.locks.remove(&self.path);
        }
    }
}

impl SimFile {
    fn write_with(&self, bytes: &[u8], offset: u64, write: fn(&mut Inode, usize, &[u8])) -> io::Result<()> {
        let mut inner = self.disk.lock_inner();
        self.alive(&inner)?;
        let offset = usize::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        let step = inner.step(|counts| &mut counts.writes);
        if step.is_err() {
            // The machine goes down during this write: any part of it may be on its way.
            inner.inode_mut(self.inode)?.write(offset, bytes);
            return step;
        }
        if Inner::is_due(&mut inner.faults.failing_write) {
            inner.counts.faults += 1;
            let part = inner.random.up_to(bytes.len());
            // A sector arrives whole or not at all, also when the write of which it is a part fails.
            let begun = if inner.faults.stops_anywhere { 0 } else { (offset + part) % SECTOR };
            let part = part.saturating_sub(begun);
            inner.inode_mut(self.inode)?.write(offset, &bytes[..part]);
            return Err(inner.faults.write_error.map_or_else(|| injected("the disk failed to write"), io::Error::from));
        }
        let len = inner.inode_mut(self.inode)?.live().len();
        let growth = (offset + bytes.len()).saturating_sub(len) as u64;
        if growth > 0 && inner.faults.capacity.is_some_and(|capacity| inner.used() + growth > capacity) {
            inner.counts.faults += 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        write(inner.inode_mut(self.inode)?, offset, bytes);
        Ok(())
    }

    fn alive(&self, inner: &Inner) -> io::Result<()> {
        if inner.life == self.life && !inner.down { Ok(()) } else { Err(down()) }
    }

    fn sync_with(&self, sync: fn(&mut Inode), fail: fn(&mut Inode)) -> io::Result<()> {
        let mut inner = self.disk.lock_inner();
        self.alive(&inner)?;
        inner.step(|counts| &mut counts.syncs)?;
        let failing = Inner::is_due(&mut inner.faults.failing_sync);
        let inode = inner.inode_mut(self.inode)?;
        if failing {
            fail(inode);
            inner.counts.faults += 1;
            return Err(injected("the disk failed to sync"));
        }
        sync(inode);
        Ok(())
    }
}

impl DiskFile for SimFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_with(bytes, offset, Inode::write)
    }

    fn write_durably_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut inner = self.disk.lock_inner();
        inner.counts.durable_writes += 1;
        let takes_time = inner.takes_time;
        drop(inner);
        if takes_time {
            self.write_with(bytes, offset, Inode::begin)?;
            return self.sync_with(|_| (), Inode::fail_begun);
        }
        self.write_at(bytes, offset)?;
        self.sync_with(Inode::sync_last, Inode::fail_last)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut inner = self.disk.lock_inner();
        self.alive(&inner)?;
        inner.counts.reads += 1;
        let content = inner.inode_mut(self.inode)?.live();
        let rest = usize::try_from(offset).ok().and_then(|offset| content.get(offset..)).unwrap_or(&[]);
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        inner.counts.read_bytes += len as u64;
        Ok(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync_with(Inode::sync, Inode::fail_sync)
    }

    fn len(&self) -> io::Result<u64> {
        let mut inner = self.disk.lock_inner();
        self.alive(&inner)?;
        Ok(inner.inode_mut(self.inode)?.live().len() as u64)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut inner = self.disk.lock_inner();
        self.alive(&inner)?;
        inner.step(|counts| &mut counts.writes)?;
        let now = inner.inode_mut(self.inode)?.live().len() as u64;
        let growth = len.saturating_sub(now);
        if inner.faults.capacity.is_some_and(|capacity| inner.used() + growth > capacity) {
            inner.counts.faults += 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        let len = usize::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        inner.inode_mut(self.inode)?.grow(len);
        Ok(())
    }
}
