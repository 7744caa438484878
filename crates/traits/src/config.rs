//! The settings of a node.

use raftwright_core::{ClockDrift, ElectionPriority, ReplicaConfig, SnapshotPolicy, Span, StreamConfig};
use serde::{Deserialize, Serialize};

use crate::ReloadError;

/// The settings of a node. [`Config::validate`] checks them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// A name for logs and metrics.
    pub cluster_name: String,
    /// How often a leader shows that it lives, in milliseconds.
    pub heartbeat_interval: u64,
    /// The shortest time without a leader before an election, in milliseconds. At least twice the heartbeat interval, and more
    /// than a round trip between the servers: a shorter one elects leaders that nobody hears in time.
    pub election_timeout_min: u64,
    /// The longest such time, in milliseconds. More than the shortest.
    pub election_timeout_max: u64,
    /// Ask before campaigning (Thesis §9.6).
    pub pre_vote: bool,
    /// Whether this server should lead rather than others: how soon it starts an election.
    pub election_priority: ElectionPriority,
    /// Whether elections start by themselves.
    pub enable_elect: bool,
    /// Whether a leader sends heartbeats by itself. One that does not steps down after an election timeout, unless it is
    /// alone in its cluster.
    pub enable_heartbeat: bool,
    /// How long a call to a peer may take, in milliseconds.
    pub rpc_timeout: u64,
    /// Most client calls that wait to be taken up by the core; past it, calls are refused as busy.
    pub api_queue_max: usize,
    /// Most client calls and peer requests that the core takes up in one go, and as many writes of high priority. The rest
    /// waits for the next go; what has come back from disk and peers is looked at in between.
    pub api_batch_max: usize,
    /// Most bytes of entries proposed and not committed; past it, writes are refused as busy.
    pub uncommitted_bytes_max: usize,
    /// Most log writes submitted and not completed. Past it, what would need another is refused as busy.
    pub log_writes_max: usize,
    /// How much faster than another a server's clock may run, in thousandths; the leases of leaders are that much shorter
    /// than the shortest election timeout. `None`: no leases. It concerns reads that ask for a lease and no others.
    pub clock_drift_max: Option<u32>,
    /// Most linearizable reads that wait for their round, and as many that wait for the state machine to get as far. Past it,
    /// reads are refused as busy.
    pub reads_max: usize,
    /// Most entries in one AppendEntries request.
    pub append_entries_max: usize,
    /// About how many bytes of entries go into one AppendEntries request.
    pub append_bytes_max: usize,
    /// Most AppendEntries requests sent to a target and not answered.
    pub inflight_requests_max: usize,
    /// Most bytes of entries sent to a target and not answered.
    pub inflight_bytes_max: usize,
    /// About how many bytes of entries the state machine gets at a time; a single larger entry goes alone.
    pub apply_bytes_max: usize,
    /// When a snapshot is built by itself.
    pub snapshot_policy: SnapshotPolicy,
    /// How many entries behind a snapshot are kept when the log is purged, so that a server that lacks a few of them needs no
    /// snapshot.
    pub max_in_snapshot_log_to_keep: u64,
    /// Most entries behind a snapshot that a leader keeps for members that lack them: while they are slow or away, or are
    /// being sent a snapshot. Past it, they are sent a snapshot, or a newer one.
    pub log_keep_for_followers_max: u64,
    /// How long a target that is being sent a snapshot may be silent, in milliseconds: after a piece of it, and while it
    /// installs it.
    pub install_snapshot_timeout: u64,
}

impl Default for Config {
    fn default() -> Self {
        let (replica, stream) = (ReplicaConfig::default(), StreamConfig::default());
        Self {
            cluster_name: "raftwright".into(),
            heartbeat_interval: replica.heartbeat_interval.as_millis(),
            election_timeout_min: replica.election_timeout_min.as_millis(),
            election_timeout_max: replica.election_timeout_max.as_millis(),
            pre_vote: replica.pre_vote,
            election_priority: ElectionPriority::Normal,
            enable_elect: true,
            enable_heartbeat: replica.enable_heartbeat,
            rpc_timeout: 1_000,
            api_queue_max: 8_192,
            api_batch_max: 4_096,
            uncommitted_bytes_max: replica.uncommitted_bytes_max,
            log_writes_max: replica.writes_max,
            clock_drift_max: Some(100),
            reads_max: replica.reads_max,
            append_entries_max: stream.request_entries_max,
            append_bytes_max: stream.request_bytes_max,
            inflight_requests_max: stream.inflight_requests_max,
            inflight_bytes_max: stream.inflight_bytes_max,
            apply_bytes_max: 4 << 20,
            snapshot_policy: replica.snapshot_policy,
            max_in_snapshot_log_to_keep: replica.log_keep,
            log_keep_for_followers_max: replica.log_keep_for_followers_max,
            install_snapshot_timeout: 30_000,
        }
    }
}

/// A setting that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{setting}: {why}")]
pub struct ConfigError {
    /// The setting.
    pub setting: String,
    /// What is wrong, and what would be right.
    pub why: String,
}

impl Config {
    /// Checks the settings against each other.
    ///
    /// # Errors
    /// The first that cannot work.
    pub fn validate(self) -> Result<Self, ConfigError> {
        let no = |setting: &str, why: String| Err(ConfigError { setting: setting.to_owned(), why });
        if self.heartbeat_interval == 0 {
            return no("heartbeat_interval", "must be at least 1 ms".into());
        }
        if self.election_timeout_min < self.heartbeat_interval.saturating_mul(2) {
            return no(
                "election_timeout_min",
                format!(
                    "{} ms is less than twice the heartbeat interval ({} ms): one lost heartbeat would cause an election",
                    self.election_timeout_min, self.heartbeat_interval
                ),
            );
        }
        if self.election_timeout_max <= self.election_timeout_min {
            return no(
                "election_timeout_max",
                "must be more than election_timeout_min, or elections tie for ever".into(),
            );
        }
        if let Some(why) = policy_error(self.snapshot_policy) {
            return no("snapshot_policy", why.into());
        }
        if self.install_snapshot_timeout == 0 {
            return no("install_snapshot_timeout", "must be at least 1 ms: no snapshot could ever be sent".into());
        }
        let bounds = [
            ("api_queue_max", self.api_queue_max),
            ("api_batch_max", self.api_batch_max),
            ("uncommitted_bytes_max", self.uncommitted_bytes_max),
            ("log_writes_max", self.log_writes_max),
            ("reads_max", self.reads_max),
            ("append_entries_max", self.append_entries_max),
            ("append_bytes_max", self.append_bytes_max),
            ("inflight_requests_max", self.inflight_requests_max),
            ("inflight_bytes_max", self.inflight_bytes_max),
            ("apply_bytes_max", self.apply_bytes_max),
        ];
        match bounds.into_iter().find(|(_, bound)| *bound == 0) {
            Some((setting, _)) => no(setting, "must be at least 1: nothing could ever pass".into()),
            None => Ok(self),
        }
    }

    /// Checks that a running node may go on with these settings instead of `self`.
    ///
    /// What others rely on stays: a follower's shortest election timeout is how long a leader may believe in its lease, and a
    /// leader's longest one how soon it gives way. So do the sizes of queues that exist, and what connections were opened with.
    ///
    /// # Errors
    /// [`ReloadError::Fixed`] names the first setting that differs and must not; [`ReloadError::Invalid`] one that cannot
    /// work.
    pub fn check_reload(&self, to: &Config) -> Result<(), ReloadError> {
        // Every setting is named, so that a new one is decided about: the first group may change.
        let Config {
            heartbeat_interval: _,
            pre_vote: _,
            election_priority: _,
            enable_elect: _,
            enable_heartbeat: _,
            api_batch_max: _,
            clock_drift_max: _,
            reads_max: _,
            apply_bytes_max: _,
            snapshot_policy: _,
            max_in_snapshot_log_to_keep: _,
            log_keep_for_followers_max: _,
            install_snapshot_timeout: _,
            cluster_name,
            election_timeout_min,
            election_timeout_max,
            rpc_timeout,
            api_queue_max,
            uncommitted_bytes_max,
            log_writes_max,
            append_entries_max,
            append_bytes_max,
            inflight_requests_max,
            inflight_bytes_max,
        } = self;
        let fixed = [
            ("cluster_name", *cluster_name == to.cluster_name),
            ("election_timeout_min", *election_timeout_min == to.election_timeout_min),
            ("election_timeout_max", *election_timeout_max == to.election_timeout_max),
            ("rpc_timeout", *rpc_timeout == to.rpc_timeout),
            ("api_queue_max", *api_queue_max == to.api_queue_max),
            ("uncommitted_bytes_max", *uncommitted_bytes_max == to.uncommitted_bytes_max),
            ("log_writes_max", *log_writes_max == to.log_writes_max),
            ("append_entries_max", *append_entries_max == to.append_entries_max),
            ("append_bytes_max", *append_bytes_max == to.append_bytes_max),
            ("inflight_requests_max", *inflight_requests_max == to.inflight_requests_max),
            ("inflight_bytes_max", *inflight_bytes_max == to.inflight_bytes_max),
        ];
        if let Some((setting, _)) = fixed.into_iter().find(|(_, same)| !same) {
            return Err(ReloadError::Fixed { setting: setting.to_owned() });
        }
        to.clone().validate()?;
        Ok(())
    }

    /// The part that the replica needs.
    pub fn replica(&self) -> ReplicaConfig {
        ReplicaConfig {
            heartbeat_interval: Span::from_millis(self.heartbeat_interval),
            enable_heartbeat: self.enable_heartbeat,
            election_timeout_min: Span::from_millis(self.election_timeout_min),
            election_timeout_max: Span::from_millis(self.election_timeout_max),
            pre_vote: self.pre_vote,
            election_priority: self.election_priority,
            uncommitted_bytes_max: self.uncommitted_bytes_max,
            writes_max: self.log_writes_max,
            clock_drift_max: self.clock_drift_max.map(ClockDrift::per_mille),
            reads_max: self.reads_max,
            snapshot_policy: self.snapshot_policy,
            log_keep: self.max_in_snapshot_log_to_keep,
            log_keep_for_followers_max: self.log_keep_for_followers_max,
            ..ReplicaConfig::default()
        }
    }

    /// The part that a stream needs.
    pub fn stream(&self) -> StreamConfig {
        StreamConfig {
            request_entries_max: self.append_entries_max,
            request_bytes_max: self.append_bytes_max,
            inflight_requests_max: self.inflight_requests_max,
            inflight_bytes_max: self.inflight_bytes_max,
            ..StreamConfig::default()
        }
    }
}

/// A policy that would have a snapshot built all the time.
fn policy_error(policy: SnapshotPolicy) -> Option<&'static str> {
    let (logs, bytes) = match policy {
        SnapshotPolicy::Never => return None,
        SnapshotPolicy::LogsSinceLast(logs) => (logs, 1),
        SnapshotPolicy::BytesSinceLast(bytes) => (1, bytes),
        SnapshotPolicy::Either { logs, bytes } => (logs, bytes),
    };
    (logs == 0 || bytes == 0).then_some("must leave at least one entry, or one byte, between two snapshots")
}
