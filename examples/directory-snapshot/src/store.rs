//! A state machine whose snapshots are directories: pages by name, a file for each.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use raftwright::{
    Entry, EntryPayload, LogIdOf, RaftSnapshotBuilder, RaftStateMachine, Snapshot, SnapshotMeta, StorageError,
    StorageErrorKind, StoredMembership, declare_raft_types, membership_from_bytes, membership_to_bytes,
};
use serde::{Deserialize, Serialize};

use crate::content::DirectorySnapshot;

declare_raft_types!(
    /// The types of the example: a command is a page's name and text, and its answer how many pages there are.
    pub Wiki: D = (String, String), R = usize, SnapshotData = DirectorySnapshot
);

/// What is said about a snapshot, in a file of its own beside the pages.
const ABOUT: &str = "about.json";
const PAGE: &str = ".page";

#[derive(Serialize, Deserialize)]
struct About {
    last_log_id: Option<LogIdOf<Wiki>>,
    membership_log_id: Option<LogIdOf<Wiki>>,
    membership: Vec<u8>,
}

/// The pages. In memory, where every copy of one shares its text; on the disk are the snapshots alone.
pub struct Pages {
    pages: BTreeMap<String, Arc<str>>,
    applied: Option<LogIdOf<Wiki>>,
    membership: StoredMembership<Wiki>,
    shelf: Shelf,
}

/// Where the snapshots are: `<index>` for one that is complete, `draft-<number>` for one that is not.
#[derive(Clone)]
struct Shelf {
    path: PathBuf,
    drafts: Arc<AtomicU64>,
}

fn failed(error: impl std::fmt::Display) -> StorageError {
    StorageError::new(StorageErrorKind::Write, format!("the snapshots' directory: {error}"))
}

impl Shelf {
    fn draft(&self) -> PathBuf {
        self.path.join(format!("draft-{}", self.drafts.fetch_add(1, Ordering::Relaxed)))
    }

    /// Gives a complete directory its name: the commit point. Older ones go.
    fn commit(&self, draft: &Path, index: u64) -> io::Result<PathBuf> {
        let path = self.path.join(format!("{index:020}"));
        if path.exists() {
            // The same entry was reached before: what is there is as good.
            fs::remove_dir_all(draft)?;
            return Ok(path);
        }
        fs::rename(draft, &path)?;
        fs::File::open(&self.path)?.sync_all()?;
        for old in self.complete()?.into_iter().filter(|old| *old < path) {
            // Somebody who is sending one has its files open; they stay readable.
            fs::remove_dir_all(old)?;
        }
        Ok(path)
    }

    /// Those that are complete, oldest first.
    fn complete(&self) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().bytes().all(|byte| byte.is_ascii_digit())) {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }
}

impl Pages {
    /// The pages of a node that keeps its snapshots there. What a crash has left unfinished is removed.
    ///
    /// # Errors
    /// The directory cannot be used.
    pub fn open(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("draft-") {
                fs::remove_dir_all(entry.path())?;
            }
        }
        let shelf = Shelf { path: path.to_owned(), drafts: Arc::default() };
        let membership = StoredMembership::<Wiki>::default();
        Ok(Self { pages: BTreeMap::new(), applied: None, membership, shelf })
    }

    /// What a page says.
    pub fn page(&self, name: &str) -> Option<Arc<str>> {
        self.pages.get(name).cloned()
    }

    /// How many pages there are.
    pub fn count(&self) -> usize {
        self.pages.len()
    }
}

/// A file's name for a page's: one that is harmless whatever the page is called.
fn file_name(page: &str) -> String {
    page.bytes().map(|byte| format!("{byte:02x}")).collect::<String>() + PAGE
}

fn page_name(file: &str) -> Option<String> {
    let digits = file.strip_suffix(PAGE)?;
    let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    String::from_utf8((0..digits.len()).step_by(2).map(byte).collect::<Option<_>>()?).ok()
}

fn load(path: &Path) -> io::Result<BTreeMap<String, Arc<str>>> {
    let mut pages = BTreeMap::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if let Some(name) = page_name(&entry.file_name().to_string_lossy()) {
            pages.insert(name, fs::read_to_string(entry.path())?.into());
        }
    }
    Ok(pages)
}

fn meta(path: &Path) -> io::Result<SnapshotMeta<Wiki>> {
    let About { last_log_id, membership_log_id, membership } = serde_json::from_slice(&fs::read(path.join(ABOUT))?)?;
    let last_membership = match membership_log_id {
        None => StoredMembership::<Wiki>::default(),
        Some(_) => StoredMembership::<Wiki> {
            log_id: membership_log_id,
            membership: membership_from_bytes::<Wiki>(&membership).map_err(io::Error::other)?,
        },
    };
    let snapshot_id = last_log_id.map_or_else(String::new, |id| id.to_string());
    Ok(SnapshotMeta { last_log_id, last_membership, snapshot_id })
}

impl RaftStateMachine<Wiki> for Pages {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogIdOf<Wiki>>, StoredMembership<Wiki>), StorageError> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply(&mut self, entries: Vec<Entry<Wiki>>) -> Result<Vec<usize>, StorageError> {
        let apply = |entry: Entry<Wiki>| {
            self.applied = Some(entry.log_id);
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::<Wiki> { log_id: Some(entry.log_id), membership };
                }
                EntryPayload::Normal((name, text)) => _ = self.pages.insert(name, text.into()),
            }
            self.pages.len()
        };
        Ok(entries.into_iter().map(apply).collect())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let about = About {
            last_log_id: self.applied,
            membership_log_id: self.membership.log_id,
            membership: membership_to_bytes::<Wiki>(&self.membership.membership).to_vec(),
        };
        Builder { pages: self.pages.clone(), about, shelf: self.shelf.clone() }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<DirectorySnapshot, StorageError> {
        DirectorySnapshot::create(&self.shelf.draft()).map_err(failed)
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<Wiki>,
        snapshot: DirectorySnapshot,
    ) -> Result<(), StorageError> {
        let index = meta.last_log_id.map_or(0, |id| id.index);
        let is_ours = snapshot.path().file_name().is_some_and(|name| name.to_string_lossy().starts_with("draft-"));
        let path = match is_ours {
            // Received just now.
            true => self.shelf.commit(&snapshot.finish().map_err(failed)?, index).map_err(failed)?,
            // What a start begins with.
            false => snapshot.path().to_owned(),
        };
        self.pages = load(&path).map_err(failed)?;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Wiki>>, StorageError> {
        let Some(newest) = self.shelf.complete().map_err(failed)?.pop() else { return Ok(None) };
        let snapshot = DirectorySnapshot::open(&newest).map_err(failed)?;
        Ok(Some(Snapshot { meta: meta(&newest).map_err(failed)?, snapshot }))
    }
}

/// Writes the pages of one moment.
pub struct Builder {
    pages: BTreeMap<String, Arc<str>>,
    about: About,
    shelf: Shelf,
}

impl RaftSnapshotBuilder<Wiki> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Wiki>, StorageError> {
        let draft = self.shelf.draft();
        let write = || {
            let mut snapshot = DirectorySnapshot::create(&draft)?;
            for (name, text) in &self.pages {
                fs::write(draft.join(file_name(name)), text.as_bytes())?;
            }
            fs::write(draft.join(ABOUT), serde_json::to_vec(&self.about)?)?;
            // Opened again, it knows its files, and makes them durable.
            let opened = DirectorySnapshot::open(&draft)?.finish()?;
            snapshot.keep();
            self.shelf.commit(&opened, self.about.last_log_id.map_or(0, |id| id.index))
        };
        let path = write().map_err(failed)?;
        Ok(Snapshot { meta: meta(&path).map_err(failed)?, snapshot: DirectorySnapshot::open(&path).map_err(failed)? })
    }
}
