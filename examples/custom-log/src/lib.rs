//! A log store over [redb](https://www.redb.org), a database in one file: what it takes to bring a log of one's own.
//!
//! [`RedbLog`] is a plain store, which blocks and knows nothing of tokens. [`open`] gives it a thread of its own through
//! [`BlockingLog`], and with that the promises that a node relies on: what was submitted can be read at once, and a token
//! is completed when the transaction that holds its write is committed, which redb does with a sync. All writes between two
//! flushes are one transaction, so a power loss leaves all of them or none.

use std::marker::PhantomData;
use std::ops::RangeBounds;
use std::path::Path;

use bytes::Bytes;
use raftwright_traits::{
    BlockingLog, BlockingLogStore, CommittedLeaderId, CommittedLeaderIdOf, EntryCodec, EntryKind, Incarnation,
    LeaderId, LogIdOf, LogIndex, LogState, RaftEntry, RaftTypeConfig, StorageError, StorageErrorKind, Vote, VoteOf,
    WireNodeId,
};
use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition, TableError, WriteTransaction};

/// Entries by index: term, whether there is a node, node, kind, payload.
const ENTRIES: TableDefinition<LogIndex, &[u8]> = TableDefinition::new("entries");
/// Everything else, by name.
const STATE: TableDefinition<&str, &[u8]> = TableDefinition::new("state");
const VOTE: &str = "vote";
const PURGED: &str = "purged";
const COMMITTED: &str = "committed";
const INCARNATION: &str = "incarnation";

/// Bytes of a log id without its index: term, whether there is a node, node.
const LEADER_LEN: usize = 17;

/// Opens the log in this file, or makes it, and gives it a thread. `random` is a fresh random number; it becomes the
/// incarnation of a log that is new.
///
/// # Errors
/// The file cannot be opened or is no log, or there is no thread.
pub fn open<C>(path: &Path, random: u64) -> Result<BlockingLog<C>, StorageError>
where
    C: RaftTypeConfig<NodeId: WireNodeId, Entry: EntryCodec<C>>,
{
    start(RedbLog::new(Database::create(path).map_err(read_failed)?, random)?)
}

/// As [`open`], on storage of another kind than a file.
///
/// # Errors
/// As [`open`].
pub fn open_on<C>(storage: impl StorageBackend, random: u64) -> Result<BlockingLog<C>, StorageError>
where
    C: RaftTypeConfig<NodeId: WireNodeId, Entry: EntryCodec<C>>,
{
    let database = Database::builder().create_with_backend(storage).map_err(read_failed)?;
    start(RedbLog::new(database, random)?)
}

fn start<C>(store: RedbLog<C>) -> Result<BlockingLog<C>, StorageError>
where
    C: RaftTypeConfig<NodeId: WireNodeId, Entry: EntryCodec<C>>,
{
    BlockingLog::start(store, Default::default(), |work| {
        std::thread::Builder::new().name("redb-log".into()).spawn(work).map(drop)
    })
}

/// The store itself.
pub struct RedbLog<C> {
    database: Database,
    /// What was written since the last flush.
    writing: Option<WriteTransaction>,
    types: PhantomData<fn() -> C>,
}

fn read_failed(error: impl Into<redb::Error>) -> StorageError {
    StorageError::new(StorageErrorKind::Read, error.into().to_string())
}

fn write_failed(error: impl Into<redb::Error>) -> StorageError {
    StorageError::new(StorageErrorKind::Write, error.into().to_string())
}

fn corrupt(what: &str) -> StorageError {
    StorageError::new(StorageErrorKind::Corrupt, format!("{what} in the database is not what this program writes"))
}

impl<C> RedbLog<C>
where
    C: RaftTypeConfig<NodeId: WireNodeId, Entry: EntryCodec<C>>,
{
    /// Takes over a database; one that is new becomes a log with this incarnation.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn new(database: Database, incarnation: u64) -> Result<Self, StorageError> {
        let mut log = Self { database, writing: None, types: PhantomData };
        if log.state(INCARNATION)?.is_none() {
            log.set(INCARNATION, &incarnation.to_be_bytes())?;
            log.delete(..)?; // There is nothing yet; this makes the table.
            log.flush()?;
        }
        Ok(log)
    }

    /// The transaction that the next flush commits.
    fn writing(&mut self) -> Result<&WriteTransaction, StorageError> {
        if self.writing.is_none() {
            self.writing = Some(self.database.begin_write().map_err(write_failed)?);
        }
        self.writing.as_ref().ok_or_else(|| corrupt("nothing"))
    }

    fn set(&mut self, name: &str, value: &[u8]) -> Result<(), StorageError> {
        let mut table = self.writing()?.open_table(STATE).map_err(write_failed)?;
        table.insert(name, value).map_err(write_failed)?;
        Ok(())
    }

    fn delete(&mut self, range: impl RangeBounds<LogIndex>) -> Result<(), StorageError> {
        let mut table = self.writing()?.open_table(ENTRIES).map_err(write_failed)?;
        table.retain_in(range, |_, _| false).map_err(write_failed)
    }

    /// What was flushed under this name.
    fn state(&self, name: &str) -> Result<Option<Vec<u8>>, StorageError> {
        let reading = self.database.begin_read().map_err(read_failed)?;
        match reading.open_table(STATE) {
            Ok(table) => Ok(table.get(name).map_err(read_failed)?.map(|value| value.value().to_vec())),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(read_failed(error)),
        }
    }
}

impl<C> BlockingLogStore<C> for RedbLog<C>
where
    C: RaftTypeConfig<NodeId: WireNodeId, Entry: EntryCodec<C>>,
{
    fn get_log_state(&mut self) -> Result<LogState<C>, StorageError> {
        let purged = self.state(PURGED)?.map(|bytes| log_id::<C>(&bytes)).transpose()?;
        let reading = self.database.begin_read().map_err(read_failed)?;
        let entries = reading.open_table(ENTRIES).map_err(read_failed)?;
        let last = match entries.last().map_err(read_failed)? {
            Some((index, bytes)) => Some(entry::<C>(index.value(), bytes.value())?.log_id()),
            None => purged,
        };
        let incarnation = self.state(INCARNATION)?.and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
        Ok(LogState { last_purged_log_id: purged, last_log_id: last, incarnation: incarnation.map(Incarnation) })
    }

    fn read_vote(&mut self) -> Result<Option<VoteOf<C>>, StorageError> {
        self.state(VOTE)?.map(|bytes| vote::<C>(&bytes)).transpose()
    }

    fn read(&mut self, start: LogIndex, end: LogIndex, bytes_max: usize) -> Result<Vec<C::Entry>, StorageError> {
        let reading = self.database.begin_read().map_err(read_failed)?;
        let table = reading.open_table(ENTRIES).map_err(read_failed)?;
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for found in table.range(start..end).map_err(read_failed)? {
            let (index, value) = found.map_err(read_failed)?;
            bytes += value.value().len();
            if bytes > bytes_max && !entries.is_empty() {
                break;
            }
            entries.push(entry::<C>(index.value(), value.value())?);
        }
        Ok(entries)
    }

    fn save_vote(&mut self, vote: &VoteOf<C>) -> Result<(), StorageError> {
        let (term, node) = (vote.term().to_be_bytes(), vote.node_id().to_u64().to_be_bytes());
        self.set(VOTE, &[&term[..], &node, &[u8::from(vote.committed)]].concat())
    }

    fn append(&mut self, entries: &[C::Entry]) -> Result<(), StorageError> {
        let mut table = self.writing()?.open_table(ENTRIES).map_err(write_failed)?;
        for entry in entries {
            let log_id = entry.log_id();
            let value = [&leader_bytes::<C>(log_id)[..], &[entry.kind() as u8], &entry.payload_bytes()].concat();
            table.insert(log_id.index, &value[..]).map_err(write_failed)?;
        }
        Ok(())
    }

    fn truncate(&mut self, since: LogIndex) -> Result<(), StorageError> {
        self.delete(since..)
    }

    fn purge(&mut self, upto: LogIdOf<C>) -> Result<(), StorageError> {
        self.delete(..=upto.index)?;
        self.set(PURGED, &log_id_bytes::<C>(upto))
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        // A commit is durable when it returns: that is redb's default.
        self.writing.take().map_or(Ok(()), |writing| writing.commit().map_err(write_failed))
    }

    fn save_committed(&mut self, committed: LogIdOf<C>) -> Result<(), StorageError> {
        self.set(COMMITTED, &log_id_bytes::<C>(committed))
    }

    fn read_committed(&mut self) -> Result<Option<LogIdOf<C>>, StorageError> {
        self.state(COMMITTED)?.map(|bytes| log_id::<C>(&bytes)).transpose()
    }
}

fn leader_bytes<C: RaftTypeConfig<NodeId: WireNodeId>>(id: LogIdOf<C>) -> [u8; LEADER_LEN] {
    let mut bytes = [0; LEADER_LEN];
    let node = id.leader_id.node_id().map(WireNodeId::to_u64);
    bytes[..8].copy_from_slice(&id.leader_id.term().to_be_bytes());
    bytes[8] = u8::from(node.is_some());
    bytes[9..].copy_from_slice(&node.unwrap_or(0).to_be_bytes());
    bytes
}

fn log_id_bytes<C: RaftTypeConfig<NodeId: WireNodeId>>(id: LogIdOf<C>) -> Vec<u8> {
    [&leader_bytes::<C>(id)[..], &id.index.to_be_bytes()].concat()
}

/// The number in the first eight bytes, and the bytes behind it.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    bytes.split_first_chunk().map(|(number, rest)| (u64::from_be_bytes(*number), rest))
}

/// A log id with this index, and the bytes behind its leader.
fn leader<C: RaftTypeConfig<NodeId: WireNodeId>>(index: LogIndex, bytes: &[u8]) -> Option<(LogIdOf<C>, &[u8])> {
    let (term, rest) = number(bytes)?;
    let (has_node, rest) = rest.split_first()?;
    let (node, rest) = number(rest)?;
    let node = match has_node {
        0 => None,
        _ => Some(C::NodeId::from_u64(node)?),
    };
    Some((LogIdOf::<C>::new(CommittedLeaderIdOf::<C>::new(term, node), index), rest))
}

fn log_id<C: RaftTypeConfig<NodeId: WireNodeId>>(bytes: &[u8]) -> Result<LogIdOf<C>, StorageError> {
    let read = leader::<C>(0, bytes).and_then(|(id, rest)| Some((id, number(rest)?.0)));
    let (id, index) = read.ok_or_else(|| corrupt("a log id"))?;
    Ok(LogIdOf::<C>::new(id.leader_id, index))
}

fn entry<C>(index: LogIndex, bytes: &[u8]) -> Result<C::Entry, StorageError>
where
    C: RaftTypeConfig<NodeId: WireNodeId, Entry: EntryCodec<C>>,
{
    let (log_id, rest) = leader::<C>(index, bytes).ok_or_else(|| corrupt("an entry"))?;
    let (kind, payload) = rest.split_first().ok_or_else(|| corrupt("an entry"))?;
    let kind = EntryKind::from_u8(*kind).ok_or_else(|| corrupt("the kind of an entry"))?;
    C::Entry::decode(log_id, kind, Bytes::copy_from_slice(payload)).map_err(|error| corrupt(&error.to_string()))
}

fn vote<C: RaftTypeConfig<NodeId: WireNodeId>>(bytes: &[u8]) -> Result<VoteOf<C>, StorageError> {
    let read = number(bytes).and_then(|(term, rest)| {
        let (node, rest) = number(rest)?;
        let committed = *rest.first()? != 0;
        Some(Vote { leader_id: C::LeaderId::new(term, C::NodeId::from_u64(node)?), committed })
    });
    read.ok_or_else(|| corrupt("a vote"))
}
