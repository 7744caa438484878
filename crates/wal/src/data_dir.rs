//! The data directory: its lock, and the identity of the node that lives in it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::disk::{Disk, DiskFile};
use crate::error::{DataDirError, DiskError, shown};
use crate::format::VERSION;
use crate::meta::{Meta, MetaError};
use crate::segments::remove_leftovers;

pub(crate) const LOCK: &str = "LOCK";
pub(crate) const META: &str = "meta";
const META_NEW: &str = "meta.new";
pub(crate) const WAL: &str = "wal";
const SNAPSHOTS: &str = "snapshots";
/// Made by the file system in the root of a volume, which is a fine place for a data directory.
const LOST_AND_FOUND: &str = "lost+found";

/// Who a data directory is. The cluster id and the node id are given by people; the incarnation is minted with the
/// directory, so that a node that lost its disk, or another one that took its id, is a stranger to everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The cluster, once it is known.
    pub cluster_id: Option<u128>,
    /// The node.
    pub node_id: u64,
    /// Minted when the directory was made.
    pub incarnation: u64,
    /// How many times the directory was opened. A smaller one than was seen before means an old copy of it.
    pub boot_epoch: u64,
}

/// How to open a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataDirOptions {
    /// Id of the node that lives here.
    pub node_id: u64,
    /// A fresh random number. It becomes the incarnation if the directory is new, and salts the files of this boot.
    pub random: u64,
}

/// An open, locked data directory: `LOCK`, `meta`, `wal/`, `snapshots/`. The lock ends with this value.
pub struct DataDir<D: Disk> {
    disk: D,
    path: PathBuf,
    random: u64,
    meta: Mutex<Meta>,
    log_in_use: AtomicBool,
    _lock: D::Lock,
}

impl<D: Disk> fmt::Debug for DataDir<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataDir").field("path", &self.path).field("identity", &self.identity()).finish_non_exhaustive()
    }
}

impl<D: Disk> DataDir<D> {
    /// Locks and opens the directory, or makes it if it is missing or empty. Each call counts the boot epoch up, durably.
    ///
    /// A directory that holds anything else, belongs to another node, or has lost its `meta` beside a log is refused.
    pub fn open(disk: D, path: &Path, options: DataDirOptions) -> Result<Self, DataDirError> {
        disk.create_dir(path).map_err(|error| DiskError::new("create", path, &error))?;
        let names = disk.list(path).map_err(|error| DiskError::new("list", path, &error))?;
        let ours = [LOCK, META, META_NEW, WAL, SNAPSHOTS, LOST_AND_FOUND];
        if let Some(name) = names.iter().find(|name| !ours.contains(&name.as_str())) {
            return Err(DataDirError::NotOurs { path: shown(path), name: name.as_str().into() });
        }
        let lock = disk.lock(&path.join(LOCK)).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => DataDirError::Locked { path: shown(path) },
            _ => DiskError::new("lock", &path.join(LOCK), &error).into(),
        })?;
        let known = Self::read_meta(&disk, path)?;
        let meta = match known {
            Some(meta) if meta.node_id != options.node_id => {
                return Err(DataDirError::WrongNode { path: shown(path), found: meta.node_id, asked: options.node_id });
            }
            Some(meta) => Meta { boot_epoch: meta.boot_epoch.saturating_add(1), ..meta },
            None => {
                Self::require_blank(&disk, path)?;
                let Identity { cluster_id, node_id, incarnation, boot_epoch } =
                    Identity { cluster_id: None, node_id: options.node_id, incarnation: options.random, boot_epoch: 1 };
                Meta { node_id, incarnation, boot_epoch, cluster_id, log_made: false }
            }
        };
        // Before anything is written: on a full disk this is the room for it.
        remove_leftovers(&disk, &path.join(WAL))?;
        for dir in [WAL, SNAPSHOTS] {
            // A missing `wal/` beside a `meta` that knows of a log is found by the log, which says what is lost.
            let dir = path.join(dir);
            disk.create_dir(&dir).map_err(|error| DiskError::new("create", &dir, &error))?;
        }
        let dir = Self {
            disk,
            path: path.into(),
            random: options.random,
            meta: Mutex::new(meta),
            log_in_use: AtomicBool::new(false),
            _lock: lock,
        };
        dir.write_meta(&meta)?;
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            // Also for a directory that is known: the start that made it may have ended before its name was durable. A
            // parent that this user may not read was not made by this user either, and then only the name of a new
            // directory is at stake.
            match dir.disk.sync_dir(parent) {
                Err(error) if known.is_some() && error.kind() == io::ErrorKind::PermissionDenied => {}
                synced => synced.map_err(|error| DiskError::new("sync", parent, &error))?,
            }
        }
        Ok(dir)
    }

    pub(crate) fn read_meta(disk: &D, path: &Path) -> Result<Option<Meta>, DataDirError> {
        let path = path.join(META);
        let file = match disk.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(DiskError::new("open", &path, &error).into()),
        };
        let mut bytes = vec![0; 4096];
        let len = file.read_at(&mut bytes, 0).map_err(|error| DiskError::new("read", &path, &error))?;
        bytes.truncate(len);
        match Meta::decode(&bytes) {
            Ok(meta) => Ok(Some(meta)),
            Err(MetaError::Damaged) => Err(DataDirError::MetaDamaged { path: shown(&path) }),
            Err(MetaError::Version { needs }) => Err(DataDirError::Version { path: shown(&path), needs, max: VERSION }),
            Err(MetaError::Features { unknown }) => Err(DataDirError::Features { path: shown(&path), unknown }),
        }
    }

    /// Without `meta` nothing may be there that somebody could miss.
    fn require_blank(disk: &D, path: &Path) -> Result<(), DataDirError> {
        for dir in [WAL, SNAPSHOTS] {
            let dir = path.join(dir);
            match disk.list(&dir) {
                Ok(names) if names.is_empty() => {}
                Ok(_) => return Err(DataDirError::MetaMissing { path: shown(&path.join(META)) }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(DiskError::new("list", &dir, &error).into()),
            }
        }
        Ok(())
    }

    fn write_meta(&self, meta: &Meta) -> Result<(), DiskError> {
        write_meta(&self.disk, &self.path, meta)
    }

    /// Replaces the content of `meta` by what `change` makes of it, unless it makes nothing. Nobody else changes it
    /// between the look and the change.
    fn update<E: From<DiskError>>(&self, change: impl FnOnce(Meta) -> Result<Option<Meta>, E>) -> Result<(), E> {
        let mut meta = self.meta.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(next) = change(*meta)? {
            self.write_meta(&next)?;
            *meta = next;
        }
        Ok(())
    }

    /// Who lives here.
    pub fn identity(&self) -> Identity {
        let Meta { node_id, incarnation, boot_epoch, cluster_id, log_made: _ } = self.meta();
        Identity { cluster_id, node_id, incarnation, boot_epoch }
    }

    pub(crate) fn meta(&self) -> Meta {
        *self.meta.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the id of the cluster, durably. Once set it never changes so: another one is refused, the same one is no error.
    pub fn set_cluster_id(&self, cluster_id: u128) -> Result<(), DataDirError> {
        self.update(|meta| match meta.cluster_id {
            Some(found) if found == cluster_id => Ok(None),
            Some(found) => Err(DataDirError::WrongCluster { path: shown(&self.path), found, asked: cluster_id }),
            None => Ok(Some(Meta { cluster_id: Some(cluster_id), ..meta })),
        })
    }

    /// Puts the node into another cluster, durably, whatever cluster it belonged to: for a node that begins a new one with what
    /// is left of an old one. The nodes of the old one refuse it from then on, and it them.
    pub fn leave_for_cluster(&self, cluster_id: u128) -> Result<(), DataDirError> {
        self.update(|meta| Ok(Some(Meta { cluster_id: Some(cluster_id), ..meta })))
    }

    pub(crate) fn set_log_made(&self) -> Result<(), DiskError> {
        self.update(|meta| Ok(Some(Meta { log_made: true, ..meta })))
    }

    /// The random number given at the opening.
    pub(crate) fn random(&self) -> u64 {
        self.random
    }

    pub(crate) fn disk(&self) -> &D {
        &self.disk
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the segments of the log are.
    pub fn wal_path(&self) -> PathBuf {
        self.path.join(WAL)
    }

    /// Where snapshots are kept.
    pub fn snapshots_path(&self) -> PathBuf {
        self.path.join(SNAPSHOTS)
    }
}

/// Replaces `meta` in the directory `dir`, durably.
pub(crate) fn write_meta<D: Disk>(disk: &D, dir: &Path, meta: &Meta) -> Result<(), DiskError> {
    let (new, path) = (dir.join(META_NEW), dir.join(META));
    let file = disk.create(&new).map_err(|error| DiskError::new("create", &new, &error))?;
    file.write_at(&meta.encode(), 0).map_err(|error| DiskError::new("write", &new, &error))?;
    file.sync_data().map_err(|error| DiskError::new("sync", &new, &error))?;
    disk.rename(&new, &path).map_err(|error| DiskError::new("rename", &new, &error))?;
    disk.sync_dir(dir).map_err(|error| DiskError::new("sync", dir, &error))
}

/// The right to write the log of a data directory: there is one, whoever shares the directory within the process.
pub(crate) struct LogRight<D: Disk>(Arc<DataDir<D>>);

impl<D: Disk> LogRight<D> {
    pub(crate) fn take(dir: Arc<DataDir<D>>) -> Result<Self, DataDirError> {
        if dir.log_in_use.swap(true, Ordering::AcqRel) {
            return Err(DataDirError::Locked { path: shown(&dir.path) });
        }
        Ok(Self(dir))
    }

    pub(crate) fn dir(&self) -> &DataDir<D> {
        &self.0
    }
}

impl<D: Disk> Drop for LogRight<D> {
    fn drop(&mut self) {
        self.0.log_in_use.store(false, Ordering::Release);
    }
}
