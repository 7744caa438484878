//! Beginning a new cluster with what one server of an old one has, when the old one has lost its majority for good.
//!
//! No rule of Raft allows this. The server may lack entries that were acknowledged: whatever it has not, is lost. And what it
//! has may never have been committed: it is, from now on. So the new cluster has a new id, and whoever is left of the old one
//! is refused by it: there are never two halves that both go on under one name.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use raftwright_core::WriteId;
use raftwright_traits::{
    AsyncRuntime, BasicNode, CommittedLeaderId, CommittedTerm, Entry, EntryPayload, FlushSink, IOFlushed, Incarnation,
    LogId, LogIndex, Membership, RaftLogStorage, StorageError, TokioRuntime, Vote,
};
use raftwright_wal::{
    DataDir, DataDirError, DataDirOptions, Disk, Inspector, OpenError, RealDisk, SNAPSHOT_BLOCK_BYTES, SnapshotDir,
    SnapshotError, WalError, WalLog, WalOptions,
};

use crate::cluster_id::ClusterId;
use crate::easy_config::EasyConfig;

/// A new cluster of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BegunAnew {
    /// The only member.
    pub id: u64,
    /// The cluster that it belonged to.
    pub old_cluster: Option<ClusterId>,
    /// The one that it belongs to now.
    pub new_cluster: ClusterId,
    /// Index of the last entry that it had. Everything up to there is committed once the server leads, whether it was
    /// before or not; what the old cluster had acknowledged behind it is lost.
    pub last_index: LogIndex,
    /// Index of the entry with the new membership.
    pub membership_index: LogIndex,
}

/// Why no new cluster was begun.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SurvivorError {
    /// The data directory cannot be opened: a server runs in it, or it belongs to something else. Nothing was changed.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// No server would open the log. Nothing was changed; see `raftwright data repair`.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The snapshots cannot be opened. Nothing was changed.
    #[error("the snapshots in the data directory cannot be opened: {0}")]
    Snapshots(SnapshotError),
    /// There is nothing to begin with. Nothing was changed.
    #[error("the directory holds no entry and no snapshot: start a blank server and initialize it instead")]
    Nothing,
    /// A snapshot was installed and the log does not know of it yet. Nothing was changed.
    #[error(
        "a snapshot up to entry {snapshot} stands beside a log up to entry {log}, as after a crash: start the server once, \
         stop it, and try again"
    )]
    SnapshotAhead {
        /// The last entry in the snapshot.
        snapshot: LogIndex,
        /// The last entry of the log.
        log: LogIndex,
    },
    /// The log was purged behind what the newest sound snapshot holds: no server starts with that. Nothing was changed.
    #[error(
        "the log is purged up to entry {purged}, and no sound snapshot reaches that far: take another server, if there is one"
    )]
    StateLost {
        /// The last entry that was purged.
        purged: LogIndex,
    },
    /// The media failed. Doing it again is safe: until it succeeds, the server finds no majority, as before.
    #[error("the log cannot be written: {0}; try again")]
    Write(Box<str>),
    /// There is no tokio runtime.
    #[error("{0}")]
    Runtime(String),
}

/// The errors of the writer say what became of a write.
struct Unheard;

impl FlushSink for Unheard {
    fn flushed(&self, _: WriteId, _: Result<(), StorageError>) {}
}

/// Makes the server that lives in a data directory, and does not run, the only member of a new cluster, reached by others at
/// `addr` (`host:port`). To be used on *one* server, the one with the longest log, and only when a majority of the voters is
/// gone for good. The others are emptied and added to it like new ones, under new ids.
///
/// The server keeps its id and its incarnation. Its log is continued by one entry, the membership of itself alone, in a term
/// of its own; when it is started it leads.
///
/// # Errors
/// [`SurvivorError`]; each says whether anything was changed.
pub async fn begin_anew(path: &Path, addr: &str) -> Result<BegunAnew, SurvivorError> {
    let runtime = TokioRuntime::current().map_err(SurvivorError::Runtime)?;
    begin_anew_on(RealDisk, path, addr, runtime.random_u64(), ClusterId::random(&runtime)).await
}

/// As [`begin_anew`], on any disk, with a fresh random number and the id of the new cluster.
async fn begin_anew_on<D: Disk>(
    disk: D,
    path: &Path,
    addr: &str,
    random: u64,
    new_cluster: ClusterId,
) -> Result<BegunAnew, SurvivorError> {
    let (id, last_index, purged) = look_at(disk.clone(), path)?;
    let dir = Arc::new(DataDir::open(disk.clone(), path, DataDirOptions { node_id: id, random })?);
    let snapshots = SnapshotDir::open_on(disk, dir.snapshots_path(), SNAPSHOT_BLOCK_BYTES);
    let snapshots = snapshots.map_err(SurvivorError::Snapshots)?;
    let newest = snapshots.newest().and_then(|snapshot| snapshot.index()).unwrap_or(0);
    if newest > last_index {
        return Err(SurvivorError::SnapshotAhead { snapshot: newest, log: last_index });
    }
    if newest < purged {
        return Err(SurvivorError::StateLost { purged });
    }
    let opened = WalLog::<EasyConfig, D>::open_with_writer(Arc::clone(&dir), WalOptions::default());
    let (mut log, mut writer, _) = opened?;
    let broken = |error: &dyn std::fmt::Display| SurvivorError::Write(error.to_string().into());
    let last = log.get_log_state().await.map_err(|error| broken(&error))?.last_log_id.ok_or(SurvivorError::Nothing)?;
    let voted = log.read_vote().await.map_err(|error| broken(&error))?.map_or(0, |vote| vote.term());
    // Nobody else has written, or will write, an entry of this term in this cluster.
    let term = voted.max(last.leader_id.term()).saturating_add(1);

    // First of all: a crash behind this leaves a server that nobody of the old cluster talks to.
    let identity = dir.identity();
    dir.leave_for_cluster(new_cluster.0).map_err(|error| broken(&error))?;
    let node = BasicNode { incarnation: Some(Incarnation(identity.incarnation)), ..BasicNode::new(addr) };
    let membership =
        Membership::new(vec![[id].into()], BTreeMap::from([(id, node)])).map_err(|error| broken(&error))?;
    let log_id = LogId::new(CommittedTerm::new(term, None), last.index + 1);
    let token = |write| IOFlushed::new(WriteId(write), Arc::new(Unheard));
    log.save_vote(&Vote::new(term, id), token(0));
    log.append(vec![Entry { log_id, payload: EntryPayload::Membership(membership) }], token(1));
    let mut drain = || -> Result<(), WalError> {
        while writer.run_batch()? > 0 {}
        writer.close()
    };
    drain().map_err(|error| broken(&error))?;
    let old_cluster = identity.cluster_id.map(ClusterId);
    tracing::warn!(
        node = id, ?old_cluster, %new_cluster, last_index,
        "a new cluster of this server alone was begun: what the old one had behind its last entry is lost"
    );
    Ok(BegunAnew { id, old_cluster, new_cluster, last_index, membership_index: last_index + 1 })
}

/// Who lives there, which entry is the last one, and which the last that was purged, if a server would open the log and finds
/// something in it. Changes nothing.
fn look_at<D: Disk>(disk: D, path: &Path) -> Result<(u64, LogIndex, LogIndex), SurvivorError> {
    let inspector = Inspector::open(disk, path)?;
    let identity = inspector.identity()?;
    let extent = inspector.verify()?.extent;
    match extent.last {
        Some(last) => Ok((identity.node_id, last.index, extent.purged.map_or(0, |purged| purged.index))),
        None => Err(SurvivorError::Nothing),
    }
}

#[cfg(test)]
mod tests;
