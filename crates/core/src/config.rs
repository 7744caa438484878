//! The settings of the two machines. Spans and sizes only: what an operator tunes.

use crate::{SnapshotPolicy, Span};

/// How much faster than another a server's clock may run, at most. A lease is that much shorter than the promise it rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClockDrift {
    per_mille: u32,
}

impl ClockDrift {
    /// So many thousandths: 10 means that while one clock shows 1000 ms, another shows at most 1010 ms.
    pub const fn per_mille(per_mille: u32) -> Self {
        Self { per_mille }
    }

    /// How much time passes on the slower clock, at the least, while this much passes on the faster one.
    pub(crate) fn shortened(self, span: Span) -> Span {
        Span::from_nanos(span.as_nanos() / (1000 + u64::from(self.per_mille)) * 1000)
    }
}

/// How soon a server without a leader starts an election, compared with others. It moves the server's election timeout and
/// nothing else: who is voted for is a matter of logs, and a server of any kind leads if no better one is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum ElectionPriority {
    /// Starts no election by itself, unless it is alone; it votes, and leads when it is asked to.
    Never,
    /// Starts one when all others have had the time to.
    Low,
    /// Starts one between the shortest and the longest election timeout.
    #[default]
    Normal,
    /// Starts one in the first quarter of that time.
    High,
}

/// The settings of a [`Replica`](crate::Replica).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaConfig {
    /// How often a leader shows that it lives (Raft §5.2).
    pub heartbeat_interval: Span,
    /// Whether a leader beats by itself. One that does not is confirmed by nobody and steps down after an election timeout,
    /// unless it is alone.
    pub enable_heartbeat: bool,
    /// The shortest time without a leader after which a server starts an election. Also how long a server that has
    /// heard from a leader refuses to vote for another (leader stickiness, Thesis §4.2.3), so the promise that leases rest
    /// on: it must be the same on every server.
    pub election_timeout_min: Span,
    /// The longest such time. A leader that has not heard from a quorum for so long steps down (check-quorum, Thesis
    /// §6.2), and so does one whose disk has not completed a write for so long.
    pub election_timeout_max: Span,
    /// Ask before campaigning, so that a server that cannot win does not disturb (Thesis §9.6).
    pub pre_vote: bool,
    /// Whether this server should lead rather than others.
    pub election_priority: ElectionPriority,
    /// Most bytes of entries that a leader has proposed and that are not yet committed, or not yet durable on its own disk.
    /// Past it, proposals are refused as busy.
    pub uncommitted_bytes_max: usize,
    /// Most log writes submitted and not completed. Past it, the server refuses what would need another.
    pub writes_max: usize,
    /// Most answers that wait for a write. Past it, requests are refused as busy.
    pub promises_max: usize,
    /// The bound on clock drift under which a leader trusts its lease (Thesis §6.4.1); `None`: there are no leases, and
    /// reads that ask for one wait for a round.
    pub clock_drift_max: Option<ClockDrift>,
    /// Most linearizable reads that wait for their round. Past it, reads are refused as busy.
    pub reads_max: usize,
    /// When a snapshot is built by itself.
    pub snapshot_policy: SnapshotPolicy,
    /// How many entries behind a snapshot are kept when it is purged, so that a server which lacks a few needs no snapshot.
    pub log_keep: u64,
    /// How many entries behind a snapshot a leader keeps at most for members that lack them, while they are slow, away, or
    /// get a snapshot. Past it, they need a (newer) snapshot.
    pub log_keep_for_followers_max: u64,
}

impl Default for ReplicaConfig {
    fn default() -> Self {
        Self {
            heartbeat_interval: Span::from_millis(50),
            enable_heartbeat: true,
            election_timeout_min: Span::from_millis(150),
            election_timeout_max: Span::from_millis(300),
            pre_vote: true,
            election_priority: ElectionPriority::Normal,
            uncommitted_bytes_max: 64 << 20,
            writes_max: 1024,
            promises_max: 8192,
            clock_drift_max: Some(ClockDrift::per_mille(100)),
            reads_max: 65_536,
            snapshot_policy: SnapshotPolicy::Either { logs: 100_000, bytes: 256 << 20 },
            log_keep: 1_000,
            log_keep_for_followers_max: 200_000,
        }
    }
}

/// The settings of a [`Stream`](crate::Stream).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamConfig {
    /// Most entries in one request.
    pub request_entries_max: usize,
    /// About how many bytes of entries go into one request; a single larger entry goes alone.
    pub request_bytes_max: usize,
    /// Most requests sent and not answered.
    pub inflight_requests_max: usize,
    /// Most bytes of entries sent and not answered. Within this the window follows the target's pace and the round trip,
    /// but for one request, which may always be on its way.
    pub inflight_bytes_max: usize,
    /// How long to wait before trying again after a failure; doubled each time up to the maximum.
    pub retry_min: Span,
    /// The longest such wait.
    pub retry_max: Span,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            request_entries_max: 4096,
            request_bytes_max: 1 << 20,
            inflight_requests_max: 256,
            inflight_bytes_max: 16 << 20,
            retry_min: Span::from_millis(10),
            retry_max: Span::from_millis(500),
        }
    }
}
