//! The durable log: segments, group commit, checksums, recovery by verdict.
//!
//! [`open`] gives a [`Log`] (submit writes, read entries) and a [`Writer`] (the plain machine that writes and syncs
//! batches). In production a [`WalThread`] drives the writer, or a caller that waits anyway ([`Submitted::write`]); a simulator
//! drives it itself. Everything goes through the [`Disk`] trait.

mod aligned;
mod answers;
mod callers;
mod data_dir;
mod disk;
mod end;
mod error;
mod format;
mod index;
mod index_files;
mod inspect;
mod ledger;
mod log;
mod meta;
mod metrics;
mod options;
mod pace;
mod plan;
mod platform;
mod read_queue;
mod real_disk;
mod recent;
mod record;
mod recovery;
mod seat;
mod segments;
mod slots;
mod snapshots;
mod stopped;
#[cfg(feature = "testing")]
pub mod testing;
mod thread;
mod typed;
mod verdict;
mod writer;

pub use callers::{Callers, Waiter, Waiting};
pub use data_dir::{DataDir, DataDirOptions, Identity};
pub use disk::{Disk, DiskFile};
pub use end::WalEnd;
pub use error::{DataDirError, DiskError, Finding, OpenError, ReadError, SubmitError, WalError};
pub use format::{FEATURES, SECTOR, VERSION, VERSION_MIN};
pub use inspect::{
    BatchItem, Content, Dropped, Inspector, Item, Kept, RecordItem, RepairError, RepairIdentity, RepairPlan, Repaired,
    SegmentItem, Sound,
};
pub use log::{Afterwards, Completion, Log, Refused};
pub use metrics::{FLUSH_BUCKETS, FlushTimes, WalMetrics};
pub use options::{SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, WalOptions};
pub use read_queue::READS_MAX;
pub use real_disk::{RealDisk, RealFile, RealLock};
pub use record::{APPEND_ENTRIES_MAX, Extent, Op, PAYLOAD_BYTES_MAX, RawEntry, RawLogId, VOTE_BYTES_MAX};
pub use seat::Submitted;
pub use snapshots::{
    DamagedSnapshot, SNAPSHOT_BLOCK_BYTES, SNAPSHOT_BLOCK_BYTES_MAX, SNAPSHOT_FEATURES, SNAPSHOT_META_BYTES_MAX,
    SNAPSHOT_VERSION, SNAPSHOT_VERSION_MIN, SnapshotDir, SnapshotError, SnapshotFile, SnapshotInfo, SnapshotReader,
};
pub use thread::WalThread;
pub use typed::{FlushToken, WalLog, WalReader};
pub use verdict::{
    Acknowledged, BatchVerdict, Body, HeaderSeen, Heads, Sectors, TrailerSeen, Verdict, batch_verdict, record_verdict,
};
pub use writer::{Opened, RecoveryReport, Writer, open};
