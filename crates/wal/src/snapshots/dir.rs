//! A directory of snapshots.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::SnapshotError;
use super::file::{Kept, SnapshotFile};
use super::format::{SNAPSHOT_BLOCK_BYTES, SNAPSHOT_BLOCK_BYTES_MAX};
use crate::disk::Disk;
use crate::real_disk::RealDisk;

/// How the name of a committed snapshot ends.
const SNAP: &str = ".snap";
/// How the name of one that is being written ends.
const TMP: &str = ".tmp";

/// Keeps the snapshots of one state machine in a directory of their own. Clones are handles of the same.
///
/// One process has it open at a time; the lock of the data directory around it sees to that.
#[derive(Debug, Clone)]
pub struct SnapshotDir<D: Disk = RealDisk> {
    inner: Arc<Inner<D>>,
}

struct Inner<D: Disk> {
    disk: D,
    path: PathBuf,
    block_bytes: u32,
    registry: Mutex<Registry<D>>,
}

struct Registry<D: Disk> {
    next_number: u64,
    /// Oldest first.
    kept: Vec<Arc<Kept<D>>>,
    damaged: Vec<DamagedSnapshot>,
}

/// A file that is named like a snapshot and is none any more.
#[derive(Debug, Clone)]
pub struct DamagedSnapshot {
    /// The file. It is left where it is, for whoever wants to look at it; it may be removed.
    pub path: PathBuf,
    /// What is wrong with it.
    pub error: SnapshotError,
}

/// A committed snapshot, as the directory lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// The file.
    pub path: PathBuf,
    /// Index of the last log entry in it.
    pub index: u64,
    /// The number that tells the files of one directory apart; of two, the later one has the greater.
    pub number: u64,
    /// Bytes of content.
    pub size: u64,
    /// Whether somebody holds a [`SnapshotFile`] of it, so that it is not removed.
    pub in_use: bool,
}

impl<D: Disk> std::fmt::Debug for Inner<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("path", &self.path).finish_non_exhaustive()
    }
}

impl SnapshotDir<RealDisk> {
    /// Opens a directory of the operating system's, and makes it if it is not there. See [`open_on`](Self::open_on).
    ///
    /// # Errors
    ///
    /// As [`open_on`](Self::open_on).
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, SnapshotError> {
        Self::open_on(RealDisk, path, SNAPSHOT_BLOCK_BYTES)
    }
}

impl<D: Disk> SnapshotDir<D> {
    /// Opens a directory, and makes it if it is not there: removes what a crash has left of snapshots that were not
    /// committed, reads the heads of all others, and all of the newest. One that is damaged is set aside, and the one
    /// before it is the newest then; see [`damaged`](Self::damaged). New snapshots get a checksum for each `block_bytes` bytes,
    /// at least one, at most [`SNAPSHOT_BLOCK_BYTES_MAX`].
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Disk`]; [`SnapshotError::Version`] when a later release has written here.
    pub fn open_on(disk: D, path: impl Into<PathBuf>, block_bytes: u32) -> Result<Self, SnapshotError> {
        let path = path.into();
        disk.create_dir(&path).map_err(|error| SnapshotError::disk("create", &path, &error))?;
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            disk.sync_dir(parent).map_err(|error| SnapshotError::disk("sync", parent, &error))?;
        }
        let mut registry = Registry { next_number: 1, kept: Vec::new(), damaged: Vec::new() };
        let names = disk.list(&path).map_err(|error| SnapshotError::disk("list", &path, &error))?;
        for name in names {
            let file = path.join(&name);
            if name.strip_suffix(TMP).is_some_and(is_number) {
                disk.remove(&file).map_err(|error| SnapshotError::disk("remove", &file, &error))?;
            } else if let Some((index, number)) = parse(&name) {
                registry.next_number = registry.next_number.max(number.saturating_add(1));
                registry.read(&disk, file, index, number)?;
            }
        }
        registry.kept.sort_by_key(|kept| (kept.index, kept.number));
        registry.set_aside_damaged();
        let block_bytes = block_bytes.clamp(1, SNAPSHOT_BLOCK_BYTES_MAX);
        let dir = Self { inner: Arc::new(Inner { disk, path, block_bytes, registry: Mutex::new(registry) }) };
        // A name that the last process saw is durable before anybody relies on it.
        dir.sync()?;
        Ok(dir)
    }

    fn registry(&self) -> MutexGuard<'_, Registry<D>> {
        self.inner.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn disk(&self) -> &D {
        &self.inner.disk
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    pub(super) fn path_of(&self, index: u64, number: u64) -> PathBuf {
        self.inner.path.join(format!("{index:020}-{number:010}{SNAP}"))
    }

    pub(super) fn sync(&self) -> Result<(), SnapshotError> {
        let path = &self.inner.path;
        self.inner.disk.sync_dir(path).map_err(|error| SnapshotError::disk("sync", path, &error))
    }

    pub(super) fn keep(&self, kept: Arc<Kept<D>>) {
        let mut registry = self.registry();
        registry.kept.push(kept);
        registry.kept.sort_by_key(|kept| (kept.index, kept.number));
    }

    /// An empty snapshot, to be filled and committed.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Disk`].
    pub fn create(&self) -> Result<SnapshotFile<D>, SnapshotError> {
        let number = {
            let mut registry = self.registry();
            registry.next_number = registry.next_number.saturating_add(1);
            registry.next_number - 1
        };
        let path = self.inner.path.join(format!("{number:010}{TMP}"));
        let file = self.inner.disk.create(&path).map_err(|error| SnapshotError::disk("create", &path, &error))?;
        Ok(SnapshotFile::draft(self.clone(), file, path, number, self.inner.block_bytes))
    }

    /// The newest snapshot: of those with the greatest index the one committed last.
    pub fn newest(&self) -> Option<SnapshotFile<D>> {
        self.registry().kept.last().map(|kept| SnapshotFile::kept(Arc::clone(kept)))
    }

    /// All committed snapshots, oldest first. Those before the newest have not been read whole since the start.
    pub fn list(&self) -> Vec<SnapshotInfo> {
        let info = |kept: &Arc<Kept<D>>| SnapshotInfo {
            path: kept.path.clone(),
            index: kept.index,
            number: kept.number,
            size: kept.size(),
            in_use: Arc::strong_count(kept) > 1,
        };
        self.registry().kept.iter().map(info).collect()
    }

    /// What was found damaged when the directory was opened.
    pub fn damaged(&self) -> Vec<DamagedSnapshot> {
        self.registry().damaged.clone()
    }

    /// Removes the oldest snapshots but `keep`, and never the newest or one that somebody holds. Returns how many it removed.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Disk`]. Some may have been removed; a crash may bring them back.
    pub fn prune(&self, keep: usize) -> Result<usize, SnapshotError> {
        let mut registry = self.registry();
        let spare = registry.kept.len().saturating_sub(keep.max(1));
        let mut removed = 0;
        // Nobody else can take hold of one meanwhile: handles come from the registry, which is locked.
        let (old, mut kept) = registry.kept.iter().cloned().enumerate().partition::<Vec<_>, _>(|(at, _)| *at < spare);
        let mut result = Ok(());
        for (at, snapshot) in old {
            // The registry's and this one.
            if result.is_err() || Arc::strong_count(&snapshot) > 2 {
                kept.push((at, snapshot));
                continue;
            }
            match self.inner.disk.remove(&snapshot.path) {
                Ok(()) => removed += 1,
                Err(error) => {
                    result = Err(SnapshotError::disk("remove", &snapshot.path, &error));
                    kept.push((at, snapshot));
                }
            }
        }
        kept.sort_by_key(|(at, _)| *at);
        registry.kept = kept.into_iter().map(|(_, snapshot)| snapshot).collect();
        drop(registry);
        if removed > 0 {
            self.sync()?;
        }
        result.map(|()| removed)
    }
}

impl<D: Disk> Registry<D> {
    fn read(&mut self, disk: &D, path: PathBuf, index: u64, number: u64) -> Result<(), SnapshotError> {
        match Kept::open(disk, path.clone()) {
            Ok(kept) if (kept.index, kept.number) == (index, number) => self.kept.push(Arc::new(kept)),
            Ok(_) => {
                let why = "its name is that of another snapshot".to_owned();
                self.damaged.push(DamagedSnapshot { path: path.clone(), error: SnapshotError::Damaged { path, why } });
            }
            Err(error @ SnapshotError::Version { .. }) => return Err(error),
            Err(error) => self.damaged.push(DamagedSnapshot { path, error }),
        }
        Ok(())
    }

    /// Sets the newest ones aside until one is whole.
    fn set_aside_damaged(&mut self) {
        while let Some(newest) = self.kept.pop() {
            match newest.verify() {
                Ok(()) => {
                    self.kept.push(newest);
                    return;
                }
                Err(error) => self.damaged.push(DamagedSnapshot { path: newest.path.clone(), error }),
            }
        }
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Index and number of a name; `None` for a file that is not ours.
fn parse(name: &str) -> Option<(u64, u64)> {
    let (index, number) = name.strip_suffix(SNAP)?.split_once('-')?;
    (is_number(index) && is_number(number)).then_some(())?;
    Some((index.parse().ok()?, number.parse().ok()?))
}
