//! A [`StateMachine`] with its session table, as the full layer wants it.

use std::io::{self, BufReader, BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use raftwright_traits::{
    Entry, EntryPayload, LogIdOf, LogIndex, RaftSnapshotBuilder, RaftStateMachine, Snapshot, SnapshotMeta,
    StorageError, StorageErrorKind, StoredMembership,
};
use raftwright_wal::{SnapshotDir, SnapshotError};
use tokio::runtime::RuntimeFlavor;

use crate::easy_config::{EasyConfig, EasySnapshot};
use crate::envelope::{Applied, Envelope};
use crate::sessions::{Sessions, Verdict};
use crate::state_machine::{BoxError, Frozen, StateMachine, decode_exactly};

/// How many snapshots stay on the disk. One that is being sent stays besides, until it is no longer needed.
const SNAPSHOTS_KEPT: usize = 1;

/// How much of a snapshot is written or read at a time.
const BUFFER_BYTES: usize = 1 << 20;

/// The replicated state: the application's, and which commands it has seen. In memory; a restarted node makes it of its
/// newest snapshot and of the log behind that.
pub struct Replicated<SM> {
    machine: SM,
    sessions: Sessions,
    applied: Option<LogIdOf<EasyConfig>>,
    membership: StoredMembership<EasyConfig>,
    dir: SnapshotDir,
    /// The server stops: snapshots that are being written are given up.
    stopping: Arc<AtomicBool>,
}

impl<SM: StateMachine> Replicated<SM> {
    /// The state before the first entry, with its snapshots in that directory. Once `stopping` is true, none is written any
    /// more.
    pub(crate) fn new(machine: SM, dir: SnapshotDir, stopping: Arc<AtomicBool>) -> Self {
        let (sessions, membership) = (Sessions::default(), StoredMembership::default());
        Self { machine, sessions, applied: None, membership, dir, stopping }
    }

    /// The application's part.
    pub fn machine(&self) -> &SM {
        &self.machine
    }

    fn apply_entry(&mut self, entry: Entry<EasyConfig>) -> Bytes {
        self.applied = Some(entry.log_id);
        match entry.payload {
            EntryPayload::Blank => Bytes::new(),
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership { log_id: Some(entry.log_id), membership };
                Bytes::new()
            }
            EntryPayload::Normal(bytes) => self.apply_envelope(entry.log_id.index, bytes),
        }
    }

    fn apply_envelope(&mut self, index: LogIndex, bytes: Bytes) -> Bytes {
        match Envelope::decode(bytes) {
            None => Applied::Undecodable.encode(),
            Some(Envelope::Alone(command)) => self.apply_command(&command),
            Some(Envelope::OpenSession { nonce }) => Applied::Opened(self.sessions.open(index, nonce)).encode(),
            Some(Envelope::InSession { session, sequence, settled, command }) => {
                match self.sessions.judge(index, session, sequence, settled) {
                    Verdict::New => {
                        let answer = self.apply_command(&command);
                        self.sessions.remember(session, sequence, answer.clone());
                        answer
                    }
                    Verdict::Repeated(answer) => answer,
                    Verdict::Forgotten => Applied::Forgotten.encode(),
                    Verdict::Expired => Applied::Expired.encode(),
                }
            }
        }
    }

    /// A command that is none was made by a client of other types, or by a broken one. Every node refuses it alike.
    fn apply_command(&mut self, command: &[u8]) -> Bytes {
        match decode_exactly(command) {
            Ok(command) => Applied::encode_answer(&self.machine.apply(command)),
            Err(_) => Applied::Undecodable.encode(),
        }
    }

    /// The state as it is now, to be written later.
    fn freeze(&self) -> Result<Taken, StorageError> {
        let failed = |error: BoxError| {
            StorageError::new(StorageErrorKind::StateMachine, format!("the state machine gives no snapshot: {error}"))
        };
        let machine = self.machine.freeze().map_err(failed)?;
        let snapshot_id = self.applied.map_or_else(|| "empty".to_owned(), |applied| applied.to_string());
        let meta = SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone(), snapshot_id };
        Ok(Taken { meta, sessions: self.sessions.clone(), machine })
    }
}

impl<SM: StateMachine> RaftStateMachine<EasyConfig> for Replicated<SM> {
    type SnapshotBuilder = Builder;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogIdOf<EasyConfig>>, StoredMembership<EasyConfig>), StorageError> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply(&mut self, entries: Vec<Entry<EasyConfig>>) -> Result<Vec<Bytes>, StorageError> {
        Ok(entries.into_iter().map(|entry| self.apply_entry(entry)).collect())
    }

    /// What is cheap happens here, between two commands: holding on to the state of this moment.
    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { taken: Some(self.freeze()), dir: self.dir.clone(), stopping: Arc::clone(&self.stopping) }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<EasySnapshot, StorageError> {
        beside(|| self.dir.create()).map_err(|error| disk_error(&error))
    }

    /// The state is made of the snapshot first, and then the snapshot's file is given its name: that is the commit point. The
    /// state is in memory alone, so a crash before it leaves the old snapshot and the log, and one after it the new snapshot.
    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<EasyConfig>,
        snapshot: EasySnapshot,
    ) -> Result<(), StorageError> {
        let Some(last_log_id) = meta.last_log_id else { return Ok(()) };
        beside(|| {
            let mut from = BufReader::with_capacity(BUFFER_BYTES, snapshot.reader());
            let sessions = content::read(&mut from, &mut self.machine).map_err(|why| {
                let text = format!("snapshot {} cannot be installed: {why}", meta.snapshot_id);
                StorageError::new(StorageErrorKind::Corrupt, text)
            })?;
            drop(from);
            self.sessions = sessions;
            // One that has a name already is what a start begins with.
            if snapshot.index().is_none() {
                let about = content::encode_meta(meta)?;
                let kept = snapshot.commit(last_log_id.index, &about).map_err(|error| disk_error(&error))?;
                drop(kept);
                self.dir.prune(SNAPSHOTS_KEPT).map_err(|error| disk_error(&error))?;
            }
            Ok::<(), StorageError>(())
        })?;
        self.applied = Some(last_log_id);
        self.membership = meta.last_membership.clone();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<EasyConfig>>, StorageError> {
        let Some(snapshot) = self.dir.newest() else { return Ok(None) };
        let meta = content::decode_meta(snapshot.meta()).ok_or_else(|| {
            let text = "what the newest snapshot says of itself cannot be read: it was made by another program";
            StorageError::new(StorageErrorKind::Corrupt, text)
        })?;
        Ok(Some(Snapshot { meta, snapshot }))
    }
}

/// The state of one moment.
struct Taken {
    meta: SnapshotMeta<EasyConfig>,
    sessions: Sessions,
    machine: Frozen,
}

/// Writes the state that was taken when it was made.
pub struct Builder {
    taken: Option<Result<Taken, StorageError>>,
    dir: SnapshotDir,
    stopping: Arc<AtomicBool>,
}

impl RaftSnapshotBuilder<EasyConfig> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<EasyConfig>, StorageError> {
        let taken = self.taken.take().ok_or_else(|| {
            StorageError::new(StorageErrorKind::StateMachine, "a snapshot builder builds one snapshot")
        })??;
        let (dir, stopping) = (self.dir.clone(), Arc::clone(&self.stopping));
        let written = tokio::task::spawn_blocking(move || write(taken, &dir, &stopping));
        written.await.map_err(|error| StorageError::new(StorageErrorKind::StateMachine, error.to_string()))?
    }
}

/// Writes the state into a new file, and gives that its name: the commit point. The ones before it go.
fn write(taken: Taken, dir: &SnapshotDir, stopping: &AtomicBool) -> Result<Snapshot<EasyConfig>, StorageError> {
    let Taken { meta, sessions, machine } = taken;
    let last_log_id = meta.last_log_id.ok_or_else(|| {
        StorageError::new(StorageErrorKind::StateMachine, "there is nothing yet that a snapshot could hold")
    })?;
    let file = dir.create().map_err(|error| disk_error(&error))?;
    let mut to = BufWriter::with_capacity(BUFFER_BYTES, Stoppable { file, stopping });
    content::write(&mut to, &sessions, machine).map_err(|error| write_error(&*error))?;
    let Stoppable { file, .. } = to.into_inner().map_err(|error| write_error(error.error()))?;
    let about = content::encode_meta(&meta)?;
    let snapshot = file.commit(last_log_id.index, &about).map_err(|error| disk_error(&error))?;
    if let Err(error) = dir.prune(SNAPSHOTS_KEPT) {
        // It takes room, and is tried again with the next one.
        tracing::warn!(%error, "an old snapshot could not be removed");
    }
    Ok(Snapshot { meta, snapshot })
}

/// Writes until the server stops: then the rest would only make it wait.
struct Stoppable<'a> {
    file: EasySnapshot,
    stopping: &'a AtomicBool,
}

impl Write for Stoppable<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err(io::Error::other("the server stops"));
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Runs what waits for the disk, or takes its time, without holding up the tasks that wait for this thread.
fn beside<R>(work: impl FnOnce() -> R) -> R {
    match tokio::runtime::Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        Ok(_) | Err(_) => work(),
    }
}

fn disk_error(error: &SnapshotError) -> StorageError {
    let kind = match error {
        SnapshotError::Disk(disk) if disk.kind == io::ErrorKind::StorageFull => StorageErrorKind::NoSpace,
        SnapshotError::Disk(_) | SnapshotError::Broken { .. } => StorageErrorKind::Write,
        SnapshotError::Damaged { .. } | SnapshotError::Version { .. } | SnapshotError::MetaTooLong { .. } => {
            StorageErrorKind::Corrupt
        }
    };
    StorageError::new(kind, error.to_string())
}

/// What a state machine's writing ended with: its own refusal, or the disk's.
fn write_error(error: &(dyn std::error::Error + 'static)) -> StorageError {
    let kind = match error.downcast_ref::<io::Error>().map(io::Error::kind) {
        Some(io::ErrorKind::StorageFull) => StorageErrorKind::NoSpace,
        Some(_) => StorageErrorKind::Write,
        None => StorageErrorKind::StateMachine,
    };
    StorageError::new(kind, format!("a snapshot cannot be written: {error}"))
}

pub(crate) mod content;
#[cfg(test)]
mod tests;
