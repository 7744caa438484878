//! What kind of run a seed is.
//!
//! Uniformly random faults are weak: each seed switches whole classes on or off and takes some settings to extremes, so
//! that runs differ in kind and not only in order.

use core::time::Duration;

use raftwright_core::{ReplicaConfig, SnapshotPolicy, Span, StreamConfig};

use crate::world::{LinkProfile, Rng};

/// The named mixes of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProfileName {
    /// Each seed draws its own mix of everything.
    Mixed,
    /// Nothing goes wrong: there must be one election and no other.
    Calm,
    /// The network only.
    Network,
    /// Processes and disks only.
    Crashes,
    /// Membership, with all else besides.
    Membership,
    /// What leases depend on: clocks that are wrong by as much as they allow for, leaders that are cut off or stand still,
    /// elections by request.
    Leases,
}

impl ProfileName {
    /// Every profile.
    pub const ALL: [ProfileName; 6] = [
        ProfileName::Mixed,
        ProfileName::Calm,
        ProfileName::Network,
        ProfileName::Crashes,
        ProfileName::Membership,
        ProfileName::Leases,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            ProfileName::Mixed => "mixed",
            ProfileName::Calm => "calm",
            ProfileName::Network => "network",
            ProfileName::Crashes => "crashes",
            ProfileName::Membership => "membership",
            ProfileName::Leases => "leases",
        }
    }
}

/// Which classes of fault may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Classes {
    /// Messages are lost, doubled, overtaken; links are slow.
    pub links: bool,
    /// Links are cut in many shapes.
    pub partitions: bool,
    /// Processes die and start again.
    pub crashes: bool,
    /// Power fails.
    pub power: bool,
    /// Processes stop and go on.
    pub pauses: bool,
    /// Clocks run wrong.
    pub clocks: bool,
    /// Disks are slow, hang or fail.
    pub disks: bool,
    /// The membership changes.
    pub membership: bool,
    /// Leadership is handed over or asked for.
    pub elections: bool,
    /// Disks are emptied.
    pub wipes: bool,
    /// Clients overload the leader.
    pub bursts: bool,
    /// Logs are purged.
    pub purges: bool,
}

/// The whole mix.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Its name.
    pub name: ProfileName,
    /// Servers that are voters at first.
    pub voters: u64,
    /// Servers that are blank at first.
    pub spares: u64,
    /// The settings of every replica.
    pub replica: ReplicaConfig,
    /// The settings of every stream.
    pub stream: StreamConfig,
    /// The network when nothing is wrong.
    pub link: LinkProfile,
    /// How long a flush takes.
    pub flush: (Duration, Duration),
    /// Completions of writes are told late, one after the other or in any order.
    pub shuffled_completions: bool,
    /// Several inputs are taken together, and their effects are executed after the last.
    pub batching: bool,
    /// How long a stream's read of the log takes at most.
    pub log_read_max: Duration,
    /// How long it takes to apply a batch.
    pub apply: (Duration, Duration),
    /// The state machine and the commit index survive a crash.
    pub durable_state_machine: bool,
    /// How long it takes to build a snapshot, and to install one.
    pub snapshot_takes: (Duration, Duration),
    /// How late deadlines are noticed, at most.
    pub late_wake: Duration,
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
    /// Whether every second read asks for the leader's lease. Clocks are then wrong only within the bound that leases allow for.
    pub lease_reads: bool,
    /// Whether a minority of the voters stays broken for ever when the other faults end.
    pub minority_lost: bool,
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl Profile {
    /// The mix that `rng` draws under that name.
    pub fn draw(name: ProfileName, rng: &mut Rng) -> Self {
        let calm = name == ProfileName::Calm;
        let voters = match rng.below(10) {
            0 => 1,
            1 => 2,
            2..=5 => 3,
            6 => 4,
            7..=8 => 5,
            _ => 7,
        };
        let classes = Self::draw_classes(name, rng);
        let flush_max = if calm { 3 } else { [1, 3, 10, 40][rng.below(4) as usize] };
        let mut profile = Profile {
            name,
            voters,
            spares: if classes.membership { rng.between(1, 3) } else { 0 },
            replica: Self::draw_replica(calm, rng),
            stream: Self::draw_stream(rng),
            link: LinkProfile::default(),
            flush: (Duration::from_micros(50), ms(flush_max)),
            shuffled_completions: rng.one_in(2),
            batching: rng.one_in(2),
            log_read_max: if rng.one_in(2) { ms(3) } else { Duration::ZERO },
            apply: (Duration::ZERO, if !calm && rng.one_in(4) { ms(300) } else { ms(1) }),
            durable_state_machine: rng.one_in(2),
            snapshot_takes: (Duration::ZERO, ms([1, 20, 500][rng.below(3) as usize])),
            late_wake: if !calm && rng.one_in(4) { ms(40) } else { Duration::ZERO },
            clients: rng.between(1, 8),
            think: (ms(1), ms([10, 50, 200, 1000][rng.below(4) as usize])),
            keys: rng.between(1, 5),
            client_deadline: ms([500, 2_000, 5_000][rng.below(3) as usize]),
            classes,
            fault_every: (ms(20), ms([400, 2_000, 6_000][rng.below(3) as usize])),
            faulty_for: Duration::from_secs(rng.between(60, 580)),
            minority_lost: !calm && rng.one_in(3),
            lease_reads: false,
        };
        // From what is drawn already, so that a seed does not change its meaning.
        profile.lease_reads = profile.faulty_for.as_secs().is_multiple_of(2) || name == ProfileName::Leases;
        profile
    }

    fn draw_classes(name: ProfileName, rng: &mut Rng) -> Classes {
        let mut on = |wanted: bool| wanted && !rng.one_in(2);
        let (network, processes, membership) = match name {
            ProfileName::Mixed => (true, true, true),
            ProfileName::Calm => (false, false, false),
            ProfileName::Network => (true, false, false),
            ProfileName::Crashes => (false, true, false),
            ProfileName::Membership => (true, true, false),
            ProfileName::Leases => (true, true, false),
        };
        let leases = name == ProfileName::Leases;
        let mut classes = Classes {
            links: on(network),
            partitions: on(network) || leases,
            crashes: on(processes),
            power: on(processes),
            pauses: on(processes),
            clocks: on(processes) || leases,
            disks: on(processes),
            membership: on(membership) || name == ProfileName::Membership,
            elections: on(name != ProfileName::Calm) || leases,
            wipes: false,
            bursts: on(name != ProfileName::Calm),
            purges: on(name != ProfileName::Calm),
        };
        classes.wipes = classes.membership && !rng.one_in(3);
        classes
    }

    fn draw_replica(calm: bool, rng: &mut Rng) -> ReplicaConfig {
        let mut config = ReplicaConfig { snapshot_policy: SnapshotPolicy::Never, ..ReplicaConfig::default() };
        if rng.one_in(2) {
            config.snapshot_policy = match rng.below(3) {
                0 => SnapshotPolicy::LogsSinceLast(rng.between(1, 10)),
                1 => SnapshotPolicy::LogsSinceLast(rng.between(50, 500)),
                _ => SnapshotPolicy::BytesSinceLast(100 * super::types::ENTRY_BYTES as u64),
            };
            config.log_keep = [0, 1, 20, 1_000][rng.below(4) as usize];
            config.log_keep_for_followers_max = config.log_keep + [0, 5, 100, 100_000][rng.below(4) as usize];
        }
        if calm {
            return config;
        }
        if rng.one_in(4) {
            config.pre_vote = false;
        }
        if rng.one_in(4) {
            config.uncommitted_bytes_max = super::types::ENTRY_BYTES * 8;
            config.writes_max = 4;
            config.promises_max = 4;
            config.reads_max = 4;
        }
        if rng.one_in(4) {
            config.election_timeout_min = Span::from_millis(1_000);
            config.election_timeout_max = Span::from_millis(2_000);
            config.heartbeat_interval = Span::from_millis(200);
        }
        config
    }

    fn draw_stream(rng: &mut Rng) -> StreamConfig {
        let mut config = StreamConfig::default();
        match rng.below(3) {
            // One entry at a time, one request at a time: the paper's own form.
            0 => (config.request_entries_max, config.inflight_requests_max) = (1, 1),
            1 => (config.request_entries_max, config.inflight_requests_max) = (3, 4),
            _ => {}
        }
        config
    }

    /// The longest election timeout: the unit in which recovery is measured.
    pub fn election_timeout(&self) -> Duration {
        self.replica.election_timeout_max.into()
    }
}
