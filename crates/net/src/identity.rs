//! Who is at the other end of a connection.

use std::fmt;

/// The name of a cluster, drawn at random when the cluster is made. Nodes of different clusters never talk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub [u8; 16]);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterId({self})")
    }
}

/// PeerIdentity of one end, as it stands in the handshake.
///
/// A node has a `node` and an `incarnation`, and a `cluster` once it belongs to one. A client has neither `node` nor
/// `incarnation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PeerIdentity {
    /// The cluster, or `None` for a node that belongs to none yet and for a client that does not care.
    pub cluster: Option<ClusterId>,
    /// The node's id, or `None` for a client.
    pub node: Option<u64>,
    /// Number minted when the node's data directory was made. A wiped node has another one.
    pub incarnation: Option<u64>,
    /// Counts the starts of this incarnation.
    pub boot_epoch: u64,
    /// Index of the newest membership in the node's log, 0 for none. Who knows a newer membership than we do cannot be
    /// judged by ours: a node that was removed and added again with another incarnation meets nodes that have not heard.
    pub membership: u64,
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.node {
            Some(node) => write!(f, "node {node}")?,
            None => write!(f, "a client")?,
        }
        if let Some(incarnation) = self.incarnation {
            write!(f, " incarnation {incarnation:016x} boot {}", self.boot_epoch)?;
        }
        match self.cluster {
            Some(cluster) => write!(f, " of cluster {cluster}"),
            None => write!(f, " of no cluster"),
        }
    }
}

/// What a connection is for. Each lane is a connection of its own, so that a long append cannot delay a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Votes, heartbeats, transfer of leadership. Small frames, answered as each is ready.
    Control,
    /// AppendEntries, pipelined, answered in order.
    Bulk,
    /// Parts of snapshots, answered in order.
    Snapshot,
    /// Requests of applications, answered as each is ready.
    Client,
}

impl Lane {
    /// The byte that stands for this lane in a `Hello`.
    pub const fn code(self) -> u8 {
        match self {
            Lane::Control => 1,
            Lane::Bulk => 2,
            Lane::Snapshot => 3,
            Lane::Client => 4,
        }
    }

    /// The lane that a byte stands for, or `None` when this version knows none.
    pub const fn from_code(code: u8) -> Option<Lane> {
        Some(match code {
            1 => Lane::Control,
            2 => Lane::Bulk,
            3 => Lane::Snapshot,
            4 => Lane::Client,
            _ => return None,
        })
    }

    /// Whether only nodes may open it.
    pub const fn is_for_peers(self) -> bool {
        match self {
            Lane::Control | Lane::Bulk | Lane::Snapshot => true,
            Lane::Client => false,
        }
    }

    /// Whether answers leave in the order of their requests.
    pub const fn is_ordered(self) -> bool {
        match self {
            Lane::Bulk | Lane::Snapshot => true,
            Lane::Control | Lane::Client => false,
        }
    }
}

/// Version of the messages inside the frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProtocolVersion(pub u16);

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The versions that one end speaks, both bounds included. Two releases with overlapping ranges can run in one cluster
/// while it is upgraded node by node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionRange {
    /// The oldest.
    pub min: ProtocolVersion,
    /// The newest.
    pub max: ProtocolVersion,
}

impl VersionRange {
    /// What this release speaks.
    pub const CURRENT: VersionRange = VersionRange { min: ProtocolVersion(1), max: ProtocolVersion(1) };

    /// The newest version in both ranges.
    pub fn newest_common(self, other: VersionRange) -> Option<ProtocolVersion> {
        let newest = self.max.min(other.max);
        (newest >= self.min && newest >= other.min).then_some(newest)
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..={}", self.min, self.max)
    }
}

/// Bits for optional parts of the protocol. A connection uses those that both ends have. No bit is defined so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features(pub u64);

impl Features {
    /// What this release can do.
    pub const CURRENT: Features = Features(0);

    /// The bits in both.
    pub const fn common(self, other: Features) -> Features {
        Features(self.0 & other.0)
    }
}
