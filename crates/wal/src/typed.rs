//! The log with the types of an application: [`RaftLogStorage`] over [`Log`].

use std::fmt::{self, Debug};
use std::io;
use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use bytes::Bytes;
use raftwright_traits::{
    CommittedLeaderId, CommittedLeaderIdOf, DecodeError, EntryCodec, EntryKind, IOFlushed, Incarnation, LeaderId,
    LogIdOf, LogIndex, LogSpace, LogState, RaftEntry, RaftLogReader, RaftLogStorage, RaftTypeConfig, StorageError,
    StorageErrorKind, Vote, VoteOf, WireNodeId,
};

use crate::data_dir::{DataDir, Identity};
use crate::disk::Disk;
use crate::end::WalEnd;
use crate::error::{OpenError, ReadError, WalError};
use crate::format::{FieldWriter, Fields};
use crate::log::{Completion, Log};
use crate::options::WalOptions;
use crate::read_queue::Asker;
use crate::record::{Op, RawEntry, RawLogId};
use crate::thread::{WalThread, spawn_reader};
use crate::writer::{Opened, RecoveryReport, Writer, open};

/// Version of the encoding of a vote.
const VOTE_VERSION: u16 = 1;

/// The node's token, completed by the writer.
#[derive(Debug)]
pub struct FlushToken(IOFlushed);

impl Completion for FlushToken {
    fn complete(self, result: Result<(), WalError>) {
        self.0.io_completed(result.map_err(|error| storage_error(&error)));
    }
}

fn storage_error(error: &WalError) -> StorageError {
    let kind = match error {
        WalError::Poisoned(disk) if disk.kind == io::ErrorKind::StorageFull => StorageErrorKind::NoSpace,
        WalError::Poisoned(_) | WalError::Refused(_) | WalError::Closed => StorageErrorKind::Write,
    };
    StorageError::new(kind, error.to_string())
}

fn read_error(error: &ReadError) -> StorageError {
    let kind = match error {
        ReadError::Purged { .. } => StorageErrorKind::Missing,
        ReadError::Disk(_) | ReadError::Busy { .. } | ReadError::Stopped => StorageErrorKind::Read,
        ReadError::Damaged { .. } => StorageErrorKind::Corrupt,
    };
    StorageError::new(kind, error.to_string())
}

fn corrupt(error: &DecodeError) -> StorageError {
    StorageError::new(StorageErrorKind::Corrupt, error.to_string())
}

/// The durable log of a node.
///
/// Dropping it lets the writer finish and sync what was submitted, and then end; it waits for nothing, so a disk that
/// hangs holds up nobody. [`end`](Self::end) says when the writer is gone, and with it the lock on the data directory
/// (unless the caller has another handle of the directory).
pub struct WalLog<C, D: Disk> {
    reader: WalReader<C, D>,
    identity: Identity,
    /// `None` when somebody else drives the writer.
    _thread: Option<WalThread<D, FlushToken>>,
}

/// Reads a [`WalLog`] beside its writer.
///
/// Recent entries are given from memory at once. Older ones are read from the media by a thread of the log's own, so that
/// no task's thread waits for the disk; when somebody else drives the writer, as a simulator does, there is no such thread
/// and they are read at once, by the caller.
pub struct WalReader<C, D: Disk> {
    log: Log<D, FlushToken>,
    /// Asks the thread that reads old entries; `None` when there is none.
    old: Option<Arc<Asker>>,
    types: PhantomData<fn() -> C>,
}

impl<C, D: Disk> Clone for WalReader<C, D> {
    fn clone(&self) -> Self {
        Self { log: self.log.clone(), old: self.old.clone(), types: PhantomData }
    }
}

impl<C, D: Disk> Debug for WalReader<C, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WalReader").field(&self.log).finish()
    }
}

impl<C, D: Disk> Debug for WalLog<C, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WalLog").field("reader", &self.reader).field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl<C, D: Disk> WalLog<C, D> {
    /// Opens the log of a data directory, or makes it, and starts a thread that writes it and one that reads old entries.
    ///
    /// # Errors
    /// The log is damaged beyond what can be repaired from it, belongs to somebody else, or cannot be read or written.
    pub fn open(dir: Arc<DataDir<D>>, options: WalOptions) -> Result<(Self, RecoveryReport), OpenError> {
        let (mut log, writer, report) = Self::open_with_writer(dir, options)?;
        log.reader.old = Some(Arc::new(spawn_reader(log.reader.log.clone())?));
        log._thread = Some(WalThread::spawn(writer)?);
        Ok((log, report))
    }

    /// As [`open`](Self::open), and the caller drives the writer.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with_writer(
        dir: Arc<DataDir<D>>,
        options: WalOptions,
    ) -> Result<(Self, Writer<D, FlushToken>, RecoveryReport), OpenError> {
        let identity = dir.identity();
        let Opened { log, writer, report } = open(dir, options)?;
        let reader = WalReader { log, old: None, types: PhantomData };
        Ok((Self { reader, identity, _thread: None }, writer, report))
    }

    /// The log without the application's types.
    pub fn raw(&self) -> &Log<D, FlushToken> {
        &self.reader.log
    }

    /// Tells when the writer is gone.
    pub fn end(&self) -> WalEnd {
        self.reader.log.end()
    }

    /// Whose log it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }
}

impl<C, D> WalReader<C, D>
where
    C: RaftTypeConfig<NodeId: WireNodeId, Entry: EntryCodec<C>>,
    D: Disk,
{
    async fn entries(&self, start: LogIndex, end: LogIndex, bytes_max: usize) -> Result<Vec<C::Entry>, StorageError> {
        // What is not there does not exist: the range begins where the log does. It may be purged further meanwhile.
        loop {
            let range = start.max(self.log.first_index())..end;
            let read = match (self.log.read_recent(range.clone(), bytes_max), &self.old) {
                (Ok(Some(entries)), _) => Ok(entries),
                (Ok(None), Some(old)) => old.read(range, bytes_max).await,
                (Ok(None), None) => self.log.read(range, bytes_max),
                (Err(error), _) => Err(error),
            };
            match read {
                Err(ReadError::Purged { .. }) => {}
                Err(error) => return Err(read_error(&error)),
                Ok(entries) => return entries.into_iter().map(decode_entry::<C>).collect(),
            }
        }
    }
}

impl<C, D> RaftLogReader<C> for WalReader<C, D>
where
    C: RaftTypeConfig<NodeId: WireNodeId, Entry: EntryCodec<C>>,
    D: Disk,
{
    async fn try_get_log_entries<RB: RangeBounds<LogIndex> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> Result<Vec<C::Entry>, StorageError> {
        let (start, end) = half_open(&range);
        self.entries(start, end, usize::MAX).await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: LogIndex,
        end: LogIndex,
        bytes_max: usize,
    ) -> Result<Vec<C::Entry>, StorageError> {
        self.entries(start, end, bytes_max).await
    }

    async fn get_key_log_ids(&mut self, first: LogIndex, last: LogIdOf<C>) -> Result<Vec<LogIdOf<C>>, StorageError> {
        self.log.leaders(first, last.index).into_iter().map(|id| decode_log_id::<C>(id)).collect()
    }

    async fn log_id_at(&mut self, index: LogIndex) -> Result<LogIdOf<C>, StorageError> {
        self.log.log_id(index).ok_or_else(|| StorageError::missing_entry(index)).and_then(decode_log_id::<C>)
    }
}

impl<C, D> RaftLogReader<C> for WalLog<C, D>
where
    C: RaftTypeConfig<NodeId: WireNodeId, Entry: EntryCodec<C>>,
    D: Disk,
{
    async fn try_get_log_entries<RB: RangeBounds<LogIndex> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> Result<Vec<C::Entry>, StorageError> {
        self.reader.try_get_log_entries(range).await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: LogIndex,
        end: LogIndex,
        bytes_max: usize,
    ) -> Result<Vec<C::Entry>, StorageError> {
        self.reader.limited_get_log_entries(start, end, bytes_max).await
    }

    async fn get_key_log_ids(&mut self, first: LogIndex, last: LogIdOf<C>) -> Result<Vec<LogIdOf<C>>, StorageError> {
        self.reader.get_key_log_ids(first, last).await
    }

    async fn log_id_at(&mut self, index: LogIndex) -> Result<LogIdOf<C>, StorageError> {
        self.reader.log_id_at(index).await
    }
}

impl<C, D> RaftLogStorage<C> for WalLog<C, D>
where
    C: RaftTypeConfig<NodeId: WireNodeId, Entry: EntryCodec<C>>,
    D: Disk,
{
    type LogReader = WalReader<C, D>;

    async fn get_log_state(&mut self) -> Result<LogState<C>, StorageError> {
        let extent = self.raw().extent();
        Ok(LogState {
            last_purged_log_id: extent.purged.map(decode_log_id::<C>).transpose()?,
            last_log_id: extent.last.map(decode_log_id::<C>).transpose()?,
            incarnation: Some(Incarnation(self.identity.incarnation)),
        })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.reader.clone()
    }

    async fn read_vote(&mut self) -> Result<Option<VoteOf<C>>, StorageError> {
        self.raw().vote().map(|vote| decode_vote::<C>(&vote).map_err(|error| corrupt(&error))).transpose()
    }

    fn save_vote(&mut self, vote: &VoteOf<C>, flushed: IOFlushed) {
        self.raw().submit_or_stop(Op::Vote(encode_vote::<C>(vote)), FlushToken(flushed));
    }

    fn append(&mut self, entries: Vec<C::Entry>, flushed: IOFlushed) {
        if entries.is_empty() {
            flushed.io_completed(Ok(()));
            return;
        }
        let entries = entries.iter().map(encode_entry::<C>).collect();
        self.raw().submit_or_stop(Op::Append(entries), FlushToken(flushed));
    }

    fn truncate(&mut self, since: LogIndex, flushed: IOFlushed) {
        self.raw().submit_or_stop(Op::Truncate { from: since }, FlushToken(flushed));
    }

    fn purge(&mut self, upto: LogIdOf<C>, flushed: IOFlushed) {
        self.raw().submit_or_stop(Op::Purge { up_to: encode_log_id::<C>(upto) }, FlushToken(flushed));
    }

    fn space(&self) -> LogSpace {
        if self.raw().is_full() { LogSpace::Full } else { LogSpace::Free }
    }

    fn save_committed(&mut self, committed: Option<LogIdOf<C>>) {
        if let Some(committed) = committed {
            self.raw().note_committed(committed.index);
        }
    }

    async fn read_committed(&mut self) -> Result<Option<LogIdOf<C>>, StorageError> {
        let Some(committed) = self.raw().committed() else { return Ok(None) };
        let purged = self.raw().extent().purged.filter(|purged| purged.index >= committed);
        purged.or_else(|| self.raw().log_id(committed)).map(decode_log_id::<C>).transpose()
    }
}

/// The half-open range that the bounds mean.
fn half_open<RB: RangeBounds<LogIndex>>(range: &RB) -> (LogIndex, LogIndex) {
    let start = match range.start_bound() {
        Bound::Included(&index) => index,
        Bound::Excluded(&index) => index.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&index) => index.saturating_add(1),
        Bound::Excluded(&index) => index,
        Bound::Unbounded => LogIndex::MAX,
    };
    (start, end)
}

fn encode_log_id<C: RaftTypeConfig<NodeId: WireNodeId>>(id: LogIdOf<C>) -> RawLogId {
    let node = id.leader_id.node_id().map(WireNodeId::to_u64);
    RawLogId { term: id.leader_id.term(), node, index: id.index }
}

fn decode_log_id<C: RaftTypeConfig<NodeId: WireNodeId>>(id: RawLogId) -> Result<LogIdOf<C>, StorageError> {
    let node = id.node.map(decode_node::<C>).transpose().map_err(|error| corrupt(&error))?;
    Ok(LogIdOf::<C>::new(CommittedLeaderIdOf::<C>::new(id.term, node), id.index))
}

fn decode_node<C: RaftTypeConfig<NodeId: WireNodeId>>(bits: u64) -> Result<C::NodeId, DecodeError> {
    C::NodeId::from_u64(bits).ok_or_else(|| DecodeError::new("a node id", format!("{bits} is out of range")))
}

fn encode_entry<C>(entry: &C::Entry) -> RawEntry
where
    C: RaftTypeConfig<NodeId: WireNodeId, Entry: EntryCodec<C>>,
{
    RawEntry { kind: entry.kind() as u8, log_id: encode_log_id::<C>(entry.log_id()), payload: entry.payload_bytes() }
}

fn decode_entry<C>(entry: RawEntry) -> Result<C::Entry, StorageError>
where
    C: RaftTypeConfig<NodeId: WireNodeId, Entry: EntryCodec<C>>,
{
    let kind = EntryKind::from_u8(entry.kind)
        .ok_or_else(|| corrupt(&DecodeError::new("an entry", format!("its kind is {}", entry.kind))))?;
    let log_id = decode_log_id::<C>(entry.log_id)?;
    C::Entry::decode(log_id, kind, entry.payload).map_err(|error| corrupt(&error))
}

fn encode_vote<C: RaftTypeConfig<NodeId: WireNodeId>>(vote: &VoteOf<C>) -> Bytes {
    let mut bytes = Vec::new();
    let mut out = FieldWriter(&mut bytes);
    out.u16(VOTE_VERSION).u16(vote.committed.into()).u64(vote.term()).u64(vote.node_id().to_u64());
    bytes.into()
}

/// Whether the vote is that of a leader, its term, and its candidate, if the bytes are a vote of this version.
pub(crate) fn vote_fields(bytes: &[u8]) -> Option<(bool, u64, u64)> {
    let mut fields = Fields::new(bytes);
    let (version, committed, term, node) = (fields.u16(), fields.u16(), fields.u64(), fields.u64());
    (!fields.short && version == VOTE_VERSION && committed <= 1).then_some((committed == 1, term, node))
}

fn decode_vote<C: RaftTypeConfig<NodeId: WireNodeId>>(bytes: &[u8]) -> Result<VoteOf<C>, DecodeError> {
    let Some((committed, term, node)) = vote_fields(bytes) else {
        return Err(DecodeError::new("a vote", format!("{} bytes of another version", bytes.len())));
    };
    Ok(Vote { leader_id: C::LeaderId::new(term, decode_node::<C>(node)?), committed })
}
