//! A [`StateMachine`] with its session table, as the full layer wants it.

use std::io::Cursor;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use raftwright_traits::{
    Entry, EntryPayload, LogIdOf, LogIndex, RaftSnapshotBuilder, RaftStateMachine, Snapshot, SnapshotMeta,
    StorageError, StorageErrorKind, StoredMembership,
};
use serde::{Deserialize, Serialize};

use crate::easy_config::EasyConfig;
use crate::envelope::{Applied, Envelope};
use crate::sessions::{Sessions, SessionsImage, Verdict};
use crate::state_machine::{StateMachine, decode_exactly};

/// Version of a snapshot's content.
const SNAPSHOT_VERSION: u16 = 1;

/// The replicated state: the application's, and which commands it has seen. In memory; a restarted node applies its log
/// again from the start.
pub struct Replicated<SM> {
    machine: SM,
    sessions: Sessions,
    applied: Option<LogIdOf<EasyConfig>>,
    membership: StoredMembership<EasyConfig>,
    newest: Newest,
}

/// The newest snapshot, shared with the builders.
type Newest = Arc<Mutex<Option<Kept>>>;

#[derive(Clone)]
struct Kept {
    meta: SnapshotMeta<EasyConfig>,
    content: Vec<u8>,
}

/// The content of a snapshot.
#[derive(Serialize, Deserialize)]
struct Content<'a> {
    version: u16,
    #[serde(borrow)]
    sessions: SessionsImage<'a>,
    machine: &'a [u8],
}

impl<SM: StateMachine> Replicated<SM> {
    /// The state before the first entry.
    pub(crate) fn new(machine: SM) -> Self {
        Self {
            machine,
            sessions: Sessions::default(),
            applied: None,
            membership: StoredMembership::default(),
            newest: Newest::default(),
        }
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

    /// The state as it is now.
    fn take(&self) -> Result<Kept, StorageError> {
        let failed = |why: String| StorageError::new(StorageErrorKind::StateMachine, format!("no snapshot: {why}"));
        let machine = self.machine.snapshot().map_err(|e| failed(e.to_string()))?;
        let content = Content { version: SNAPSHOT_VERSION, sessions: self.sessions.image(), machine: &machine };
        let content = postcard::to_allocvec(&content).map_err(|e| failed(e.to_string()))?;
        let snapshot_id = self.applied.map_or_else(|| "empty".to_owned(), |applied| applied.to_string());
        let meta = SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone(), snapshot_id };
        Ok(Kept { meta, content })
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

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { taken: Some(self.take()), newest: Arc::clone(&self.newest) }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Cursor<Vec<u8>>, StorageError> {
        Ok(Cursor::new(Vec::new()))
    }

    /// What can be wrong with the bytes is found before anything is changed, except by the application's own `restore`,
    /// whose failure stops the node.
    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<EasyConfig>,
        snapshot: Cursor<Vec<u8>>,
    ) -> Result<(), StorageError> {
        let content = snapshot.into_inner();
        let corrupt = |why: &str| {
            let text = format!("snapshot {} cannot be installed: {why}", meta.snapshot_id);
            StorageError::new(StorageErrorKind::Corrupt, text)
        };
        let parts: Content<'_> = postcard::from_bytes(&content).map_err(|e| corrupt(&e.to_string()))?;
        if parts.version != SNAPSHOT_VERSION {
            return Err(corrupt("it was made by a newer program; use that one here too"));
        }
        let sessions =
            Sessions::from_image(parts.sessions).ok_or_else(|| corrupt("its session table is impossible"))?;
        self.machine.restore(parts.machine).map_err(|e| corrupt(&e.to_string()))?;
        self.sessions = sessions;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        lock(&self.newest).replace(Kept { meta: meta.clone(), content });
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<EasyConfig>>, StorageError> {
        Ok(lock(&self.newest).clone().map(Kept::into_snapshot))
    }
}

/// Hands out the snapshot that was taken when it was made.
pub struct Builder {
    taken: Option<Result<Kept, StorageError>>,
    newest: Newest,
}

impl RaftSnapshotBuilder<EasyConfig> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<EasyConfig>, StorageError> {
        let taken = self.taken.take().ok_or_else(|| {
            StorageError::new(StorageErrorKind::StateMachine, "a snapshot builder builds one snapshot")
        })??;
        let mut newest = lock(&self.newest);
        // Another one may have been installed while this one was on its way.
        if newest.as_ref().is_none_or(|newest| newest.meta.last_log_id <= taken.meta.last_log_id) {
            *newest = Some(taken.clone());
        }
        Ok(taken.into_snapshot())
    }
}

impl Kept {
    fn into_snapshot(self) -> Snapshot<EasyConfig> {
        Snapshot { meta: self.meta, snapshot: Cursor::new(self.content) }
    }
}

fn lock(newest: &Newest) -> MutexGuard<'_, Option<Kept>> {
    // Only whole values are ever put in.
    newest.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
