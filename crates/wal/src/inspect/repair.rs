//! Cutting a damaged log. The directory is copied first; the log that remains is written anew, by the writer that every
//! node uses, beside the copy; then it takes the place of the old one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::salvage::{Salvage, named};
use super::{Inspector, RepairPlan, Sound};
use crate::data_dir::{DataDir, DataDirOptions, Identity, META, WAL, write_meta};
use crate::disk::{Disk, DiskFile};
use crate::error::{DiskError, OpenError, WalError};
use crate::format::HEAD_LEN;
use crate::log::Log;
use crate::meta::Meta;
use crate::options::WalOptions;
use crate::record::Op;
use crate::writer::{Opened, Writer, open};

/// How much is copied at once, in bytes.
const COPY_BYTES: usize = 1 << 20;
/// Entries are written anew in batches of about this many bytes.
const BATCH_BYTES: usize = 1 << 20;
/// Most copies of one directory that repairs make. Past it, nothing is repaired until some are removed.
const COPIES_MAX: u32 = 1000;
/// Name of the directory in the copy in which the new log is written.
const REBUILT: &str = "rebuilt";

/// Who the node is once its log is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepairIdentity {
    /// A stranger: this random number is its new incarnation. Its former votes and acknowledgements, which it may have
    /// forgotten, are nobody's any more; the cluster takes it in again by removing and adding it. Safe.
    New(u64),
    /// The server that it was. Only when no majority can be had without it: what it has forgotten may be lost, and it may
    /// vote twice in a term. The random number salts the new files.
    Kept(u64),
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// Where the copy of the damaged files is.
    pub copy: PathBuf,
    /// Who the node is now.
    pub identity: Identity,
    /// What a node would say to the directory now.
    pub sound: Sound,
}

/// Why a log is not repaired.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RepairError {
    /// Cutting the log cannot help. Nothing was changed.
    #[error("cutting the log does not help: {0}")]
    Impossible(OpenError),
    /// The media failed. If a copy was made, the directory may be half changed; it is refused by every node until it is
    /// put back from the copy.
    #[error("{0}: the repair stopped; if a copy of the directory was made, put it back before you try again")]
    Disk(DiskError),
    /// What was read before reads differently now.
    #[error("entry {0} reads differently from one time to the next: copy the directory to other media first")]
    Changed(u64),
    /// The log cannot be written anew.
    #[error("the log cannot be written anew: {0}; nothing was changed")]
    Rewrite(Box<str>),
    /// There are too many copies.
    #[error("there are {COPIES_MAX} copies of {path} already: remove some")]
    Copies {
        /// The directory.
        path: Box<str>,
    },
}

impl<D: Disk> Inspector<D> {
    /// Cuts the log before its first damage, as [`plan_repair`](Self::plan_repair) says. `None` if there is nothing to
    /// repair. Everything that will be changed is copied to a new directory beside this one first, and read back. While
    /// the files are replaced no node can take them for a log, so that a crash in the middle is noticed. `options` say how
    /// the log is laid out that is written anew.
    ///
    /// # Errors
    /// [`RepairError`]; each says whether anything was changed.
    pub fn repair(
        &mut self,
        identity: RepairIdentity,
        options: WalOptions,
    ) -> Result<Option<(RepairPlan, Repaired)>, RepairError> {
        let Some(plan) = self.plan_repair()? else { return Ok(None) };
        let meta = self.meta.clone().map_err(OpenError::DataDir)?;
        let salvage = self.salvage()?;
        let copy = self.free_name()?;
        self.copy(&copy)?;
        let rebuilt = copy.join(REBUILT);
        let (RepairIdentity::New(random) | RepairIdentity::Kept(random)) = identity;
        let meta_now = rebuild(&self.disk, &rebuilt, &meta, identity, options, &salvage)?;
        // Every old segment and every new one is a stranger to this `meta`.
        let between = Meta { incarnation: !random, log_made: true, ..meta };
        write_meta(&self.disk, &self.path, &between)?;
        self.replace(&rebuilt)?;
        write_meta(&self.disk, &self.path, &meta_now)?;
        self.meta = Ok(meta_now);
        let sound = self.verify()?;
        self.remove_files(&rebuilt)?;
        let identity = self.identity().map_err(OpenError::DataDir)?;
        Ok(Some((plan, Repaired { copy, identity, sound })))
    }

    /// A name beside the directory that nobody uses.
    fn free_name(&self) -> Result<PathBuf, RepairError> {
        let full = || RepairError::Copies { path: named(&self.path) };
        let name = self.path.file_name().ok_or_else(full)?.to_string_lossy().into_owned();
        let beside = (1..=COPIES_MAX).map(|number| self.path.with_file_name(format!("{name}.damaged-{number}")));
        beside.into_iter().find(|path| self.disk.list(path).is_err()).ok_or_else(full)
    }

    /// Copies `meta` and the segments, and reads the copies back.
    fn copy(&self, to: &Path) -> Result<(), RepairError> {
        let wal = to.join(WAL);
        self.disk.create_dir(&wal).map_err(|error| DiskError::new("create", &wal, &error))?;
        copy_file(&self.disk, &self.path.join(META), &to.join(META))?;
        for name in self.disk.list(&self.wal()).map_err(|error| DiskError::new("list", &self.wal(), &error))? {
            copy_file(&self.disk, &self.wal().join(&name), &wal.join(&name))?;
        }
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        for dir in [Some(wal.as_path()), Some(to), parent].into_iter().flatten() {
            self.disk.sync_dir(dir).map_err(|error| DiskError::new("sync", dir, &error))?;
        }
        Ok(())
    }

    /// Puts the new segments in the place of the old ones.
    fn replace(&self, rebuilt: &Path) -> Result<(), RepairError> {
        let (old, new) = (self.wal(), rebuilt.join(WAL));
        let list = |dir: &Path| self.disk.list(dir).map_err(|error| DiskError::new("list", dir, &error));
        for name in list(&old)? {
            let path = old.join(&name);
            self.disk.remove(&path).map_err(|error| DiskError::new("remove", &path, &error))?;
        }
        for name in list(&new)?.into_iter().filter(|name| crate::recovery::segment_number(name).is_some()) {
            copy_file(&self.disk, &new.join(&name), &old.join(&name))?;
        }
        self.disk.sync_dir(&old).map_err(|error| DiskError::new("sync", &old, &error).into())
    }

    /// Removes the files of a directory in which the new log was written. Its empty directories stay.
    fn remove_files(&self, rebuilt: &Path) -> Result<(), RepairError> {
        for dir in [rebuilt.join(WAL), rebuilt.to_path_buf()] {
            let names = self.disk.list(&dir).map_err(|error| DiskError::new("list", &dir, &error))?;
            for name in names {
                // What is a directory stays, and what cannot be removed does no harm.
                let _ = self.disk.remove(&dir.join(name));
            }
        }
        Ok(())
    }
}

fn copy_file<D: Disk>(disk: &D, from: &Path, to: &Path) -> Result<(), DiskError> {
    let (source, copy) = (
        disk.open(from).map_err(|error| DiskError::new("open", from, &error))?,
        disk.create(to).map_err(|error| DiskError::new("create", to, &error))?,
    );
    let (mut bytes, mut back) = (vec![0; COPY_BYTES], vec![0; COPY_BYTES]);
    let mut at = 0;
    loop {
        let got = source.read_at(&mut bytes, at).map_err(|error| DiskError::new("read", from, &error))?;
        let piece = bytes.get(..got).unwrap_or(&[]);
        if piece.is_empty() {
            break;
        }
        copy.write_at(piece, at).map_err(|error| DiskError::new("write", to, &error))?;
        let read = copy.read_at(back.get_mut(..got).unwrap_or(&mut []), at);
        let read = read.map_err(|error| DiskError::new("read", to, &error))?;
        if read != got || back.get(..got) != Some(piece) {
            let error = std::io::Error::other("the copy differs from its original");
            return Err(DiskError::new("copy", to, &error));
        }
        at += got as u64;
    }
    copy.sync_data().map_err(|error| DiskError::new("sync", to, &error))
}

/// Nobody waits: the errors of the writer say what became of a write.
type Silent = fn(Result<(), WalError>);

fn silent(_: Result<(), WalError>) {}

/// Writes what was saved to a new data directory and returns its `meta`.
fn rebuild<D: Disk>(
    disk: &D,
    at: &Path,
    old: &Meta,
    identity: RepairIdentity,
    options: WalOptions,
    salvage: &Salvage<D::File>,
) -> Result<Meta, RepairError> {
    let random = match identity {
        RepairIdentity::New(random) => random,
        RepairIdentity::Kept(random) => {
            disk.create_dir(at).map_err(|error| DiskError::new("create", at, &error))?;
            write_meta(disk, at, &Meta { log_made: false, ..*old })?;
            random
        }
    };
    let dir = DataDir::open(disk.clone(), at, DataDirOptions { node_id: old.node_id, random }).map_err(rewrite)?;
    if let Some(cluster_id) = old.cluster_id {
        dir.set_cluster_id(cluster_id).map_err(rewrite)?;
    }
    let dir = Arc::new(dir);
    let Opened { log, mut writer, report: _ } = open::<D, Silent>(Arc::clone(&dir), options)?;
    let kept = &salvage.kept;
    if let Some(vote) = &kept.vote {
        submit(&log, &mut writer, Op::Vote(vote.clone()))?;
    }
    if let Some(up_to) = kept.extent.purged {
        submit(&log, &mut writer, Op::Purge { up_to })?;
    }
    if let Some(committed) = kept.committed {
        log.note_committed(committed);
    }
    let (mut entries, mut bytes) = (Vec::new(), 0);
    for index in kept.first..salvage.index.next() {
        let entry = salvage.entry(index)?;
        let len = entry.payload.len() + 2 * HEAD_LEN;
        if bytes + len > BATCH_BYTES && !entries.is_empty() {
            submit(&log, &mut writer, Op::Append(std::mem::take(&mut entries)))?;
            bytes = 0;
        }
        bytes += len;
        entries.push(entry);
    }
    if !entries.is_empty() {
        submit(&log, &mut writer, Op::Append(entries))?;
    }
    writer.close().map_err(rewrite)?;
    Ok(dir.meta())
}

fn rewrite(error: impl std::fmt::Display) -> RepairError {
    RepairError::Rewrite(error.to_string().into())
}

fn submit<D: Disk>(log: &Log<D, Silent>, writer: &mut Writer<D, Silent>, op: Op) -> Result<(), RepairError> {
    log.submit(op, silent).map_err(|refused| rewrite(refused.error))?;
    writer.run_batch().map_err(rewrite)?;
    Ok(())
}
