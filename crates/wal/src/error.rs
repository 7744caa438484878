//! What can go wrong, one small enum a call. Each message is one sentence that says what, where and what to do.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::verdict::Verdict;

/// A failed operation on the media.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot {action} {}: {message}", path.display())]
pub struct DiskError {
    /// What was tried, as a verb.
    pub action: &'static str,
    /// On which file or directory.
    pub path: Arc<Path>,
    /// Kind of the operating system's error.
    pub kind: io::ErrorKind,
    /// Text of the operating system's error.
    pub message: Arc<str>,
}

impl DiskError {
    pub(crate) fn new(action: &'static str, path: &Path, error: &io::Error) -> Self {
        Self { action, path: path.into(), kind: error.kind(), message: error.to_string().into() }
    }
}

/// Why a write of the log did not become durable. Whether it is on the media all the same is unknown, unless the
/// variant says that it surely is not.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WalError {
    /// The media failed; nothing is written any more, by this handle, whatever the media does from now on.
    #[error("the log stopped, because it {0}; nothing was retried: check the disk and restart the node")]
    Poisoned(DiskError),
    /// A write could not be taken, and its caller could not be told otherwise than by stopping the log.
    #[error("the log stopped, because a write cannot be taken: {0}")]
    Refused(SubmitError),
    /// The log was closed before this write was durable.
    #[error("the log is closed")]
    Closed,
}

/// Why a write was not taken. It surely has no effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The queue is full: the media is slower than the callers. Try again later.
    #[error("the queue of the log is full ({ops} writes, {bytes} bytes): wait for writes to complete")]
    Busy {
        /// Writes that wait.
        ops: usize,
        /// Bytes that wait.
        bytes: usize,
    },
    /// The disk has no room for more entries. Votes, truncations and purges are still taken; entries again as soon as there
    /// is room, without a restart.
    #[error("the disk is full: free space on it, or let the log be purged")]
    Full,
    /// The first entry of an append does not follow the last entry of the log, or an entry its predecessor.
    #[error("an entry has index {got}, where the log goes on with {expected}")]
    Gap {
        /// Index that would have been right.
        expected: u64,
        /// Index found.
        got: u64,
    },
    /// A truncation that would remove purged entries.
    #[error("cannot truncate from index {from}: everything up to {purged} is purged, and was committed")]
    TruncatePurged {
        /// First index to be removed.
        from: u64,
        /// Last purged index.
        purged: u64,
    },
    /// A vote or a payload above its bound, or too many entries in one append.
    #[error("{what} of {len} is above the limit of {max}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// An append without entries.
    #[error("an append holds no entry")]
    Empty,
    /// An entry of a term above 0 before any vote: a log like that could not be told from one that lost its vote.
    #[error("an entry of term {term} comes before any vote: save the vote of that term first")]
    NoVote {
        /// Term of the entry.
        term: u64,
    },
}

/// Why entries cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The entry was purged; a snapshot covers it.
    #[error("entry {index} is purged; the log begins at {first}")]
    Purged {
        /// The entry asked for.
        index: u64,
        /// First index that the log holds.
        first: u64,
    },
    /// The media failed.
    #[error(transparent)]
    Disk(DiskError),
    /// The payload on the media is not what was written.
    #[error(
        "entry {index} in {path} at offset {offset} is damaged: restore it from another node, or remove this node from \
         the cluster, empty its data directory and add it again"
    )]
    Damaged {
        /// Index of the entry.
        index: u64,
        /// The segment file.
        path: Box<str>,
        /// Offset of its payload.
        offset: u64,
    },
    /// Too many reads of old entries wait for the media. Nothing is wrong with the entry.
    #[error("{reads} reads wait for the disk: it cannot keep up")]
    Busy {
        /// How many wait.
        reads: usize,
    },
    /// The thread that reads old entries has ended.
    #[error("nobody reads from this log any more")]
    Stopped,
}

/// Damage that recovery found, and what it decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub path: PathBuf,
    /// Where in the file.
    pub offset: u64,
    /// Which entry, if that is known.
    pub index: Option<u64>,
    /// What was found there.
    pub what: &'static str,
    /// What follows from it.
    pub verdict: Verdict,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} in {} at offset {}", self.what, self.path.display(), self.offset)?;
        if let Some(index) = self.index {
            write!(f, " (entry {index})")?;
        }
        write!(f, ": {}", self.verdict)
    }
}

/// What to do about a log that cannot be repaired from itself.
const REPLACE_NODE: &str = "do not edit the files: look with `raftwright data verify DIR`; then remove this node from the \
     cluster, keep the directory for analysis, and add the node again with an empty one, or cut the log with \
     `raftwright data repair DIR` if no other node has what it holds";

/// Why a log cannot be opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenError {
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The media failed.
    #[error("{0}: check the disk and the permissions of the data directory")]
    Disk(#[from] DiskError),
    /// Durable data is gone or unreadable, and cannot be repaired from this directory alone.
    #[error("{0}; {REPLACE_NODE}")]
    Damaged(Finding),
    /// Files that belong to this log are missing.
    #[error("{path} has lost data: {what}; {REPLACE_NODE}")]
    DataLoss {
        /// The directory of the log.
        path: Box<str>,
        /// What is missing.
        what: Box<str>,
    },
    /// A segment that belongs to another node or another life of this node.
    #[error(
        "{path} belongs to node {node_id} (incarnation {incarnation:016x}), not to this data directory: put back the files that belong here"
    )]
    Foreign {
        /// The segment file.
        path: Box<str>,
        /// Node id in its header.
        node_id: u64,
        /// Incarnation in its header.
        incarnation: u64,
    },
    /// Written by a newer version of this program.
    #[error("{path} needs format version {needs}, this program reads up to {max}: use the newer program")]
    Version {
        /// The file.
        path: Box<str>,
        /// Version that a reader must know.
        needs: u16,
        /// Newest version known here.
        max: u16,
    },
    /// Uses features of a newer version of this program.
    #[error("{path} uses the unknown features {unknown:#x}: use the newer program")]
    Features {
        /// The file.
        path: Box<str>,
        /// The bits that are unknown here.
        unknown: u64,
    },
    /// Options that cannot work.
    #[error("{name} = {value} is outside of {min}..={max}")]
    Options {
        /// Name of the option.
        name: &'static str,
        /// Its value.
        value: u64,
        /// Smallest value that works.
        min: u64,
        /// Largest value that works.
        max: u64,
    },
    /// The writer thread could not be started.
    #[error("cannot start the writer thread: {0}")]
    Thread(Arc<str>),
}

/// Why a data directory cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process, or another node in this one, uses it.
    #[error("{path} is locked by a running node: stop that node first, or use another data directory")]
    Locked {
        /// The data directory.
        path: Box<str>,
    },
    /// It was made for another node.
    #[error("{path} belongs to node {found}, not to node {asked}: use the data directory of node {asked}")]
    WrongNode {
        /// The data directory.
        path: Box<str>,
        /// Node id in it.
        found: u64,
        /// Node id given.
        asked: u64,
    },
    /// It belongs to another cluster.
    #[error("{path} belongs to cluster {found:032x}, not to {asked:032x}: use the data directory of that cluster")]
    WrongCluster {
        /// The data directory.
        path: Box<str>,
        /// Cluster id in it.
        found: u128,
        /// Cluster id given.
        asked: u128,
    },
    /// It holds something, and nothing of ours.
    #[error("{path} is not a data directory, it holds {name:?}: use an empty or a missing directory")]
    NotOurs {
        /// The directory.
        path: Box<str>,
        /// One of the names that do not belong there.
        name: Box<str>,
    },
    /// The log or snapshots are there, and the file that says whose they are is not.
    #[error(
        "{path} is missing beside a log: put the file back, or remove this node from the cluster and add it again with an empty directory"
    )]
    MetaMissing {
        /// Where the file should be.
        path: Box<str>,
    },
    /// Neither copy of the identity can be read.
    #[error(
        "{path} is damaged in both copies: put the file back from a copy, or remove this node from the cluster and add it again with an empty directory"
    )]
    MetaDamaged {
        /// The file.
        path: Box<str>,
    },
    /// Written by a newer version of this program.
    #[error("{path} needs format version {needs}, this program reads up to {max}: use the newer program")]
    Version {
        /// The file.
        path: Box<str>,
        /// Version that a reader must know.
        needs: u16,
        /// Newest version known here.
        max: u16,
    },
    /// Uses features of a newer version of this program.
    #[error("{path} uses the unknown features {unknown:#x}: use the newer program")]
    Features {
        /// The file.
        path: Box<str>,
        /// Bits of the features that are not known here.
        unknown: u64,
    },
    /// The directory cannot be created, read or written.
    #[error("{0}: check that the directory exists and that this user may write there")]
    Disk(#[from] DiskError),
}

pub(crate) fn shown(path: &Path) -> Box<str> {
    path.display().to_string().into()
}
