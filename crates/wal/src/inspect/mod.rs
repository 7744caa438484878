//! Looking at a data directory while no node runs in it: what stands there, what a node would say to it, and what can be
//! saved when a node refuses it. Nothing here writes but [`Inspector::repair`].

mod item;
mod read_only;
mod repair;
mod salvage;
mod walk;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

pub use item::{BatchItem, Content, Item, RecordItem, SegmentItem};
pub use repair::{RepairError, RepairIdentity, Repaired};
pub use salvage::{Dropped, Kept, RepairPlan};

use crate::data_dir::{DataDir, Identity, LOCK, META, WAL};
use crate::disk::Disk;
use crate::error::{DataDirError, DiskError, Finding, OpenError, shown};
use crate::meta::Meta;
use crate::record::Extent;
use crate::recovery::{
    Indexes, Opened, Recovered, Walk, open_segment, read_segment, recover, segment_name, segment_number,
};
use read_only::ReadOnly;

/// A log that a node would open, and what it would find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sound {
    /// Outline of the log.
    pub extent: Extent,
    /// Highest commit index that is known; a hint.
    pub committed: Option<u64>,
    /// Whether there is a vote.
    pub has_vote: bool,
    /// What is not as it was written, and is repaired or cut at the next start.
    pub findings: Vec<Finding>,
}

/// A locked data directory that is looked at.
#[derive(Debug)]
pub struct Inspector<D: Disk> {
    disk: D,
    path: PathBuf,
    meta: Result<Meta, DataDirError>,
    _lock: LockHeld<D::Lock>,
}

/// A lock has nothing to show.
struct LockHeld<L>(#[allow(dead_code, reason = "held, not read")] L);

impl<L> std::fmt::Debug for LockHeld<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LockHeld")
    }
}

impl<D: Disk> Inspector<D> {
    /// Locks the directory. Nothing in it changes, not even the boot epoch. A damaged `meta` is no error here, but what
    /// [`identity`](Self::identity) returns.
    ///
    /// # Errors
    /// It is missing or cannot be read; it is no data directory; a node runs in it.
    pub fn open(disk: D, path: &Path) -> Result<Self, DataDirError> {
        let names = disk.list(path).map_err(|error| DiskError::new("list", path, &error))?;
        if !names.iter().any(|name| name == META || name == WAL) {
            let name = names.first().map_or("nothing", String::as_str).into();
            return Err(DataDirError::NotOurs { path: shown(path), name });
        }
        let lock = disk.lock(&path.join(LOCK)).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => DataDirError::Locked { path: shown(path) },
            _ => DiskError::new("lock", &path.join(LOCK), &error).into(),
        })?;
        let meta = DataDir::read_meta(&disk, path)
            .and_then(|meta| meta.ok_or_else(|| DataDirError::MetaMissing { path: shown(&path.join(META)) }));
        Ok(Self { disk, path: path.into(), meta, _lock: LockHeld(lock) })
    }

    /// Who lives here.
    ///
    /// # Errors
    /// `meta` is missing, damaged, or of a newer version.
    pub fn identity(&self) -> Result<Identity, DataDirError> {
        let Meta { node_id, incarnation, boot_epoch, cluster_id, log_made: _ } = self.meta.clone()?;
        Ok(Identity { cluster_id, node_id, incarnation, boot_epoch })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn wal(&self) -> PathBuf {
        self.path.join(WAL)
    }

    fn numbers(&self) -> Result<Vec<u32>, DiskError> {
        let wal = self.wal();
        let names = self.disk.list(&wal).map_err(|error| DiskError::new("list", &wal, &error))?;
        let numbers: BTreeSet<u32> = names.iter().filter_map(|name| segment_number(name)).collect();
        Ok(numbers.into_iter().collect())
    }

    /// What a node would say to this directory, from the same code that it would run.
    ///
    /// # Errors
    /// The error with which the node would refuse to start.
    pub fn verify(&self) -> Result<Sound, OpenError> {
        let meta = self.meta.clone()?;
        let wal = self.wal();
        let Some(found) = recover(&ReadOnly(self.disk.clone()), &wal, &meta, Indexes::Ignored)? else {
            return match meta.log_made {
                true => {
                    let what = "there is no segment, although a log was made here".into();
                    Err(OpenError::DataLoss { path: shown(&wal), what })
                }
                false => {
                    Ok(Sound { extent: Extent::default(), committed: None, has_vote: false, findings: Vec::new() })
                }
            };
        };
        let Recovered { index, vote, committed, findings, .. } = found;
        Ok(Sound { extent: index.extent(), committed, has_vote: vote.is_some(), findings })
    }

    /// Reads all segments, and goes on behind damage, where a node would stop. One segment is held in memory at a time.
    ///
    /// # Errors
    /// The directory cannot be listed, or a file that is there cannot be read.
    pub fn walk(&self, visit: &mut dyn FnMut(Item)) -> Result<(), OpenError> {
        let disk = ReadOnly(self.disk.clone());
        let numbers = self.numbers()?;
        let mut expected = None;
        let mut after: Option<u32> = None;
        for (at, sequence) in numbers.iter().copied().enumerate() {
            if let Some(missing) = after.map(|after| after.saturating_add(1)).filter(|next| *next != sequence) {
                let what = format!("the segment {} is missing", segment_name(missing)).into();
                visit(Item::Lost(OpenError::DataLoss { path: shown(&self.wal()), what }));
                expected = None;
            }
            after = Some(sequence);
            let segment = match self.open_segment(&disk, sequence) {
                Ok(segment) => segment,
                Err(error @ OpenError::Disk(_)) => return Err(error),
                Err(error) => {
                    visit(Item::Lost(error));
                    expected = None;
                    continue;
                }
            };
            let next = numbers.get(at + 1).and_then(|next| self.open_segment(&disk, *next).ok());
            let header = &segment.header;
            visit(Item::Segment(SegmentItem {
                path: segment.path.clone(),
                sequence,
                size: header.size,
                first_batch: header.first_batch,
                extent: header.extent,
                committed: header.committed,
                vote: header.vote.clone(),
            }));
            expected = expected.or(Some(header.first_batch));
            let bytes = read_segment(&segment)?;
            let one = Walk { segment: &segment, bytes: &bytes, next: next.as_ref().map(|next| &next.header) };
            walk::walk(&one, &mut expected, visit);
        }
        Ok(())
    }

    /// Opens a segment; where `meta` cannot say whose it should be, whoever it names is right.
    fn open_segment<E: Disk>(&self, disk: &E, sequence: u32) -> Result<Opened<E::File>, OpenError> {
        let path = self.wal().join(segment_name(sequence));
        let anybody = Meta { node_id: 0, incarnation: 0, boot_epoch: 0, cluster_id: None, log_made: true };
        let meta = self.meta.as_ref().unwrap_or(&anybody);
        match open_segment(disk, &path, sequence, meta) {
            Err(OpenError::Foreign { node_id, incarnation, .. }) if self.meta.is_err() => {
                open_segment(disk, &path, sequence, &Meta { node_id, incarnation, ..anybody })
            }
            opened => opened,
        }
    }
}
