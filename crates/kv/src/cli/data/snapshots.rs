//! The snapshots in a data directory, looked at as a server would at its start, and nothing changed.

use std::io;
use std::path::Path;

use raftwright::wal::{
    DamagedSnapshot, Disk, Extent, Inspector, OpenError, RealDisk, RealFile, RealLock, SNAPSHOT_BLOCK_BYTES,
    SnapshotDir, SnapshotError, SnapshotInfo, Sound,
};
use serde::Serialize;

use crate::cli::Table;

/// Where a data directory keeps its snapshots.
const SNAPSHOTS: &str = "snapshots";

/// What there is to do about a server that has lost its state.
const REPLACE: &str = "remove this server from the cluster and add a new one with an empty directory, under a new id";

/// What a server would say to a data directory.
pub(super) struct Verdict {
    pub(super) log: Result<Sound, OpenError>,
    snapshots: Result<Snapshots, SnapshotError>,
}

#[derive(Default)]
struct Snapshots {
    /// Oldest first.
    kept: Vec<SnapshotInfo>,
    damaged: Vec<DamagedSnapshot>,
}

/// A snapshot, for programs.
#[derive(Debug, Serialize)]
pub(super) struct SnapshotJson {
    file: String,
    /// Index of the last log entry in it; `None` for a file that is damaged.
    index: Option<u64>,
    bytes: Option<u64>,
    damage: Option<String>,
}

impl Verdict {
    pub(super) fn of(inspector: &Inspector<RealDisk>) -> Self {
        Self { log: inspector.verify(), snapshots: snapshots(inspector.path()) }
    }

    /// The log, if a server would start with this directory.
    ///
    /// # Errors
    /// Why it would not, and what to do.
    pub(super) fn sound(&self) -> Result<&Sound, String> {
        let sound = self.log.as_ref().map_err(ToString::to_string)?;
        self.reaches(&sound.extent).map(|()| sound)
    }

    /// Whether the snapshots hold what a log of this outline does not hold any more.
    ///
    /// # Errors
    /// What is missing, and what to do.
    pub(super) fn reaches(&self, extent: &Extent) -> Result<(), String> {
        let newest =
            self.snapshots.as_ref().map_err(|error| format!("the snapshots cannot be opened: {error}"))?.newest();
        let purged = extent.purged.map_or(0, |purged| purged.index);
        if newest.unwrap_or(0) >= purged {
            return Ok(());
        }
        let newest = newest.map_or_else(
            || "there is no sound snapshot".to_owned(),
            |index| format!("the newest sound snapshot ends with entry {index}"),
        );
        Err(format!("the log is purged up to entry {purged}, and {newest}: the state is lost; {REPLACE}"))
    }

    /// Every snapshot that is damaged, a line each.
    pub(super) fn damage(&self) -> Vec<String> {
        let damaged = self.snapshots.iter().flat_map(|snapshots| &snapshots.damaged);
        damaged.map(|damaged| damaged.error.to_string()).collect()
    }

    /// How far the newest snapshot goes, as the end of a sentence.
    pub(super) fn newest_text(&self) -> String {
        let newest = self.snapshots.as_ref().ok().and_then(Snapshots::newest);
        newest.map_or_else(String::new, |index| format!("; the newest snapshot ends with entry {index}"))
    }

    /// The snapshots in columns; `None` if there are none.
    pub(super) fn table(&self) -> Option<Table> {
        let rows = self.json();
        let mut table = Table::new(["SNAPSHOT", "BYTES", "LAST", "DAMAGE"]);
        for SnapshotJson { file, index, bytes, damage } in &rows {
            let number = |number: &Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
            let damage = u8::from(damage.is_some()).to_string();
            table.row([file.clone(), number(bytes), number(index), damage]);
        }
        (!rows.is_empty()).then_some(table)
    }

    /// The snapshots for programs, the sound ones first.
    pub(super) fn json(&self) -> Vec<SnapshotJson> {
        let Ok(Snapshots { kept, damaged }) = &self.snapshots else { return Vec::new() };
        let kept = kept.iter().map(|info| SnapshotJson {
            file: name(&info.path),
            index: Some(info.index),
            bytes: Some(info.size),
            damage: None,
        });
        let damaged = damaged.iter().map(|damaged| SnapshotJson {
            file: name(&damaged.path),
            index: None,
            bytes: None,
            damage: Some(damaged.error.to_string()),
        });
        kept.chain(damaged).collect()
    }
}

impl Snapshots {
    fn newest(&self) -> Option<u64> {
        self.kept.last().map(|info| info.index)
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn snapshots(data_dir: &Path) -> Result<Snapshots, SnapshotError> {
    let path = data_dir.join(SNAPSHOTS);
    if !path.is_dir() {
        return Ok(Snapshots::default());
    }
    let dir = SnapshotDir::open_on(Untouched, path, SNAPSHOT_BLOCK_BYTES)?;
    Ok(Snapshots { kept: dir.list(), damaged: dir.damaged() })
}

/// The operating system's files, of which none is made, renamed or removed: what a crash left of an unfinished snapshot is
/// passed over here, and removed by the next start.
#[derive(Clone, Copy, Debug)]
struct Untouched;

impl Disk for Untouched {
    type File = RealFile;
    type Lock = RealLock;

    fn create(&self, _: &Path) -> io::Result<RealFile> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
    fn open(&self, path: &Path) -> io::Result<RealFile> {
        RealDisk.open(path)
    }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
    fn remove(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn lock(&self, path: &Path) -> io::Result<RealLock> {
        RealDisk.lock(path)
    }
}
