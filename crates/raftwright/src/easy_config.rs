//! The types of the easy layer.

use bytes::Bytes;
use raftwright_traits::{BasicNode, Entry, RaftTypeConfig, StandardLeaderId, TokioRuntime};

/// What the easy layer chose for the full one: commands and answers are bytes, which client and state machine encode
/// and decode; servers have numbers and addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EasyConfig;

/// The content of a snapshot: a file among the snapshots of the server's data directory.
pub type EasySnapshot = raftwright_wal::SnapshotFile;

impl RaftTypeConfig for EasyConfig {
    type D = Bytes;
    type R = Bytes;
    type NodeId = u64;
    type Node = BasicNode;
    type LeaderId = StandardLeaderId<u64>;
    type Entry = Entry<Self>;
    type SnapshotData = EasySnapshot;
    type AsyncRuntime = TokioRuntime;

    fn data_size(data: &Bytes) -> usize {
        data.len()
    }
}
