//! What kind of run a seed of whole nodes is.

use core::time::Duration;

use raftwright_core::SnapshotPolicy;
use raftwright_traits::Config;

use crate::core_world::profile::Classes;
use crate::core_world::{Profile, ProfileName};
use crate::world::Rng;

/// The whole mix.
#[derive(Debug, Clone)]
pub struct NodeProfile {
    /// Its name.
    pub name: ProfileName,
    /// Servers that are voters at first.
    pub voters: u64,
    /// Servers that are blank at first.
    pub spares: u64,
    /// The settings of every node.
    pub config: Config,
    /// How long a flush takes.
    pub flush: (Duration, Duration),
    /// How large a segment of a log is.
    pub segment_bytes: u64,
    /// How many clients there are.
    pub clients: u64,
    /// How long a client thinks between two operations.
    pub think: (Duration, Duration),
    /// How many keys they use.
    pub keys: u64,
    /// How long an operation may take.
    pub client_deadline: Duration,
    /// Which faults may happen.
    pub classes: Classes,
    /// How long it is from one fault to the next.
    pub fault_every: (Duration, Duration),
    /// How long faults happen.
    pub faulty_for: Duration,
    /// Whether reads may ask for the leader's lease. Clocks are then wrong only within the bound that leases allow for.
    pub lease_reads: bool,
    /// Whether a minority of the voters stays down for ever when the other faults end.
    pub minority_lost: bool,
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl NodeProfile {
    /// The mix that `rng` draws under that name: classes, servers and clients as for pure replicas.
    pub fn draw(name: ProfileName, rng: &mut Rng) -> Self {
        let calm = name == ProfileName::Calm;
        let core = Profile::draw(name, rng);
        let mut config = Config { cluster_name: "simulated".to_owned(), ..Config::default() };
        config.pre_vote = core.replica.pre_vote;
        config.election_timeout_min = core.replica.election_timeout_min.as_millis();
        config.election_timeout_max = core.replica.election_timeout_max.as_millis();
        config.heartbeat_interval = core.replica.heartbeat_interval.as_millis();
        config.append_entries_max = core.stream.request_entries_max;
        config.inflight_requests_max = core.stream.inflight_requests_max;
        if !calm && rng.one_in(3) {
            // Bounds that a burst reaches.
            (config.api_queue_max, config.api_batch_max) = (16, 4);
            (config.log_writes_max, config.reads_max, config.uncommitted_bytes_max) = (4, 4, 2_000);
        }
        config.snapshot_policy = SnapshotPolicy::Never;
        let leases = name == ProfileName::Leases;
        config.clock_drift_max = Some(if leases { 100 } else { 10 });
        if core.classes.purges && rng.one_in(2) {
            // Often, and with little kept, so that whoever was away needs a snapshot.
            config.snapshot_policy = SnapshotPolicy::LogsSinceLast(rng.between(5, 200));
            config.max_in_snapshot_log_to_keep = rng.below(20);
            config.log_keep_for_followers_max = rng.between(20, 200);
        }
        NodeProfile {
            name,
            voters: core.voters.min(5),
            spares: core.spares.min(2),
            config,
            flush: core.flush,
            segment_bytes: [64 << 10, 256 << 10, 1 << 20][rng.below(3) as usize],
            clients: core.clients,
            think: core.think,
            keys: core.keys,
            client_deadline: core.client_deadline,
            classes: core.classes,
            fault_every: core.fault_every,
            faulty_for: Duration::from_secs(rng.between(15, 90)),
            lease_reads: leases || !core.classes.clocks,
            minority_lost: core.minority_lost,
        }
    }

    /// The longest election timeout: the unit in which recovery is measured.
    pub fn election_timeout(&self) -> Duration {
        ms(self.config.election_timeout_max)
    }
}
