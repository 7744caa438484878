//! Random exploration: messages in any order, lost and twice; disks that complete in any order; crashes, cuts, elections,
//! membership changes, transfers, purges. Every step is checked; then all faults end, and the cluster must come to rest.

use std::collections::BTreeSet;

use raftwright_core::{
    ChangeConditions, ChangeMembers, Input, Load, LogIdOption, ReadPolicy, ReplicaConfig, Reply, Rng, ServerState,
    SnapshotPolicy, Span, StreamConfig,
};

use crate::cluster::{Cluster, Setup};
use crate::types::{Advanced, Kind, Member, Standard};

/// How many actions a run takes before it heals.
const ACTIONS: u64 = 700;

struct Run<T: Kind> {
    seed: u64,
    rng: Rng,
    cluster: Cluster<T>,
    all: Vec<u64>,
    proposals: u64,
    machines_held: bool,
}

fn below(rng: &mut Rng, bound: usize) -> usize {
    usize::try_from(rng.next_u64() % bound.max(1) as u64).unwrap()
}

fn pick<X: Copy>(rng: &mut Rng, from: &[X]) -> Option<X> {
    if from.is_empty() { None } else { Some(from[below(rng, from.len())]) }
}

fn one_in(rng: &mut Rng, chance: u64) -> bool {
    rng.next_u64().is_multiple_of(chance)
}

impl<T: Kind> Run<T> {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let voters = pick(&mut rng, &[1, 2, 3, 3, 3, 4, 5]).unwrap();
        let learners = if one_in(&mut rng, 2) { vec![voters + 1, voters + 2] } else { Vec::new() };
        let setup = Setup {
            learners: learners.clone(),
            incarnations: one_in(&mut rng, 2),
            config: ReplicaConfig {
                pre_vote: !one_in(&mut rng, 4),
                writes_max: pick(&mut rng, &[4, 1024]).unwrap(),
                promises_max: pick(&mut rng, &[6, 8192]).unwrap(),
                snapshot_policy: match rng.next_u64() % 4 {
                    0 => SnapshotPolicy::Never,
                    1 => SnapshotPolicy::LogsSinceLast(1 + rng.next_u64() % 20),
                    2 => SnapshotPolicy::BytesSinceLast(1 + rng.next_u64() % 200),
                    _ => SnapshotPolicy::Either { logs: 5, bytes: 50 },
                },
                log_keep: pick(&mut rng, &[0, 3, 1000]).unwrap(),
                log_keep_for_followers_max: pick(&mut rng, &[0, 10, 1000]).unwrap(),
                uncommitted_bytes_max: pick(&mut rng, &[40, 1 << 20]).unwrap(),
                ..ReplicaConfig::default()
            },
            stream: StreamConfig {
                request_entries_max: pick(&mut rng, &[1, 2, 4096]).unwrap(),
                inflight_requests_max: pick(&mut rng, &[1, 3, 256]).unwrap(),
                ..StreamConfig::default()
            },
            seed,
            ..Setup::voters(voters)
        };
        let all = (1..=voters).chain(learners).collect();
        let mut cluster = Cluster::new(setup);
        cluster.telling = false;
        if one_in(&mut rng, 2) {
            // Within the bound on drift, as it is by default: a tenth.
            cluster.clocks = (1..=8).map(|id| (id, 1000 + rng.next_u64() % 101)).collect();
        }
        let machines_held = one_in(&mut rng, 2);
        Self { seed, rng, cluster, all, proposals: 0, machines_held }
    }

    fn run(mut self) -> usize {
        for id in self.all.clone() {
            self.cluster.hold_disk(id);
            self.cluster.servers.get_mut(&id).unwrap().machine_held = self.machines_held;
        }
        for _ in 0..ACTIONS {
            self.act();
            self.check_reads();
        }
        self.heal();
        self.cluster.safety.committed_count()
    }

    fn act(&mut self) {
        let up = self.cluster.up();
        let someone = pick(&mut self.rng, &up);
        match (self.rng.next_u64() % 207, someone) {
            (0..=79, _) => self.deliver(),
            (80..=129, _) => self.complete(),
            (130..=163, _) => {
                let nanos = self.rng.next_u64() % 30_000_000;
                self.cluster.pass(Span::from_nanos(nanos), false);
            }
            (164..=175, _) => {
                for id in self.cluster.leaders() {
                    self.proposals += 1;
                    self.cluster.propose(id, &format!("p{}", self.proposals));
                }
            }
            (176..=179, _) => {
                for id in self.cluster.leaders() {
                    // The name remembers what was committed when the read came.
                    let known = self.cluster.safety.committed_count();
                    let policy = if one_in(&mut self.rng, 2) { ReadPolicy::Lease } else { ReadPolicy::ReadIndex };
                    self.cluster.call(id, &format!("read {known}"), |ticket| Input::Read { ticket, policy });
                }
            }
            (180..=182, Some(id)) => {
                let kept = below(&mut self.rng, 1 + self.cluster.servers[&id].disk.unsettled());
                self.cluster.crash(id, kept);
            }
            (183..=187, _) => {
                let down: Vec<u64> = self.all.iter().copied().filter(|id| !self.cluster.is_up(*id)).collect();
                if let Some(id) = pick(&mut self.rng, &down) {
                    self.cluster.start(id);
                }
            }
            (188..=190, _) => {
                let (from, to) = (pick(&mut self.rng, &self.all).unwrap(), pick(&mut self.rng, &self.all).unwrap());
                if from != to && !self.cluster.cuts.remove(&(from, to)) {
                    self.cluster.cuts.insert((from, to));
                }
            }
            (191..=192, _) => self.cluster.cuts.clear(),
            (193, Some(id)) => self.cluster.step(id, Input::Elect),
            (194, Some(id)) => self.cluster.step(id, Input::Beat),
            (195..=196, Some(id)) => self.change(id),
            (197, Some(id)) => {
                let to = pick(&mut self.rng, &self.all).unwrap();
                self.cluster.call(id, "transfer", |ticket| Input::TransferLeader { ticket, to });
            }
            (198, Some(id)) => self.purge(id),
            (200..=206, Some(id)) => self.machine(id),
            _ => {
                if let Some(id) = pick(&mut self.rng, &self.all) {
                    let other = pick(&mut self.rng, &self.all).unwrap();
                    self.cluster.break_connection(id, other);
                }
            }
        }
    }

    fn deliver(&mut self) {
        let waiting = self.cluster.wire.len();
        if waiting == 0 {
            return;
        }
        // Mostly in order; now and then any.
        let at = if one_in(&mut self.rng, 3) { below(&mut self.rng, waiting) } else { 0 };
        match self.rng.next_u64() % 20 {
            0 => self.cluster.lose(at),
            1 => {
                let copy = self.cluster.wire[at].clone();
                self.cluster.receive(copy);
            }
            _ => self.cluster.deliver(at),
        }
    }

    fn complete(&mut self) {
        let up = self.cluster.up();
        let Some(id) = pick(&mut self.rng, &up) else { return };
        let pending = self.cluster.servers[&id].disk.pending();
        let write = if one_in(&mut self.rng, 4) { pick(&mut self.rng, &pending) } else { pending.first().copied() };
        if let Some(write) = write {
            self.cluster.complete(id, write);
        }
    }

    fn change(&mut self, id: u64) {
        let some: BTreeSet<u64> = self.all.iter().copied().filter(|_| !one_in(&mut self.rng, 3)).collect();
        match self.rng.next_u64() % 8 {
            0 => {
                let member = pick(&mut self.rng, &self.all).unwrap();
                let node = Member { address: self.rng.next_u64() % 100, incarnation: None };
                self.cluster.call(id, "add", |ticket| Input::AddLearner { ticket, id: member, node });
            }
            2 => {
                self.cluster.call(id, "cancel", |ticket| Input::CancelChange { ticket });
            }
            3 | 4 => {
                let (old, new) = (pick(&mut self.rng, &self.all).unwrap(), pick(&mut self.rng, &self.all).unwrap());
                let node = Member { address: 7, incarnation: None };
                let retain = one_in(&mut self.rng, 2);
                let change = match self.rng.next_u64() % 4 {
                    0 => ChangeMembers::Promote([new].into()),
                    1 => ChangeMembers::ReplaceNode { old, new, node },
                    2 => ChangeMembers::AddVoters([new].into()),
                    _ => ChangeMembers::RemoveVoters { voters: [old].into(), retain },
                };
                let membership = self.cluster.replica(id).membership().log_id.filter(|_| one_in(&mut self.rng, 2));
                let conditions = ChangeConditions { membership, ..ChangeConditions::default() };
                self.cluster.call(id, "change", |ticket| Input::ChangeMembers { ticket, change, conditions });
            }
            1 => {
                self.cluster.call(id, "remove", |ticket| Input::RemoveLearners { ticket, ids: some });
            }
            _ => {
                let retain = one_in(&mut self.rng, 2);
                let change = |ticket| Input::ChangeMembership { ticket, voters: some, retain };
                self.cluster.call(id, "change", change);
            }
        }
    }

    /// Purges as far as may be, or asks for a snapshot.
    fn purge(&mut self, id: u64) {
        if one_in(&mut self.rng, 2) {
            return self.cluster.step(id, Input::BuildSnapshot);
        }
        let last = self.cluster.servers[&id].disk.live.last().index_or_zero();
        let upto = below(&mut self.rng, usize::try_from(last).unwrap() + 2) as u64;
        self.cluster.step(id, Input::Purge { upto });
    }

    /// A state machine comes to an end with what it does.
    fn machine(&mut self, id: u64) {
        let well = !one_in(&mut self.rng, 5);
        match self.cluster.machine_work(id) {
            (_, true) => self.cluster.install_done(id),
            (true, false) => self.cluster.build_done(id, well),
            (false, false) => {}
        }
    }

    /// A read that is served has seen all that was committed when it came (Thesis §6.4).
    fn check_reads(&mut self) {
        for (call, reply) in self.cluster.answers.drain(..) {
            if let (Some(known), Reply::Read { read_log_id }) = (call.strip_prefix("read "), reply) {
                let known: u64 = known.parse().unwrap();
                assert!(read_log_id.index >= known, "seed {}: a read misses what was committed", self.seed);
            }
        }
    }

    /// All faults end.
    fn heal(&mut self) {
        self.cluster.cuts.clear();
        for id in self.all.clone() {
            if !self.cluster.is_up(id) {
                self.cluster.start(id);
            }
            self.cluster.release_disk(id);
            self.cluster.servers.get_mut(&id).unwrap().machine_held = false;
            while self.cluster.machine_work(id) != (false, false) {
                self.machine(id);
            }
        }
        self.cluster.settle();
        self.cluster.pass(Span::from_secs(6), true);
        self.check_reads();
        let states: Vec<String> = self.all.iter().map(|id| crate::script::state(&self.cluster, *id)).collect();
        let seed = format!("{} after the heal:\n{}\n", self.seed, states.join("\n"));
        let leaders = self.cluster.leaders();
        assert_eq!(leaders.len(), 1, "seed {seed}: one leader, not {leaders:?}");
        let leader = leaders[0];
        self.cluster.propose(leader, "last");
        self.cluster.settle();
        self.cluster.pass(Span::from_millis(200), true);
        let lead = self.cluster.replica(leader);
        let membership = lead.membership().membership.clone();
        assert!(!membership.is_joint(), "seed {seed}: a joint membership ends by itself");
        assert!(membership.promoting().is_empty(), "seed {seed}: a learner that has caught up becomes a voter");
        assert_eq!(lead.committed(), lead.last_log_id(), "seed {seed}: everything is committed");
        assert_eq!(self.cluster.waiting_calls(), Vec::<&str>::new(), "seed {seed}: every call is answered");
        for id in membership.nodes().keys() {
            let replica = self.cluster.replica(*id);
            assert_eq!(replica.last_log_id(), lead.last_log_id(), "seed {seed}: server {id} has the log");
            assert_eq!(replica.committed(), lead.committed(), "seed {seed}: server {id} knows what is committed");
            assert_eq!(self.cluster.servers[id].applied, lead.committed(), "seed {seed}: server {id} has applied it");
            assert_eq!(replica.load(), Load::default(), "seed {seed}: server {id} is at rest");
            let state = if *id == leader {
                ServerState::Leader
            } else if membership.is_voter(id) {
                ServerState::Follower
            } else {
                ServerState::Learner
            };
            assert_eq!(replica.server_state(), state, "seed {seed}: server {id}");
        }
    }
}

fn explore<T: Kind>(seeds: std::ops::Range<u64>) {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    // RAFTWRIGHT_SEED=14 runs that one, RAFTWRIGHT_SEEDS=10000 that many.
    let seeds = match (number("RAFTWRIGHT_SEED"), number("RAFTWRIGHT_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(count)) => seeds.start..seeds.start + count,
        (None, None) => seeds,
    };
    let count = seeds.clone().count();
    let committed: usize = seeds.map(|seed| Run::<T>::new(seed).run()).sum();
    assert!(committed / count > 5, "the runs get somewhere: {committed} entries in {count} runs");
}

#[test]
fn random_runs_of_the_standard_kind_keep_every_promise() {
    explore::<Standard>(0..150);
}

#[test]
fn random_runs_of_the_advanced_kind_keep_every_promise() {
    explore::<Advanced>(1000..1150);
}

/// The same seed does the same (Replica, promise 4): what is told of a run is equal, to the letter.
#[test]
fn a_run_can_be_repeated() {
    let tell = |seed| {
        let mut run = Run::<Standard>::new(seed);
        run.cluster.telling = true;
        for _ in 0..ACTIONS {
            run.act();
        }
        run.cluster.journal.into_iter().map(|line| line.text).collect::<Vec<_>>()
    };
    for seed in 0..5 {
        assert_eq!(tell(seed), tell(seed));
    }
}
