//! One seed from its beginning to its verdict.

use core::time::Duration;
use std::collections::BTreeMap;

use raftwright_core::{Input, LogIdOption};

use super::cluster::{Cluster, Failure};
use super::machine::MapModel;
use super::profile::{Profile, ProfileName};
use super::server::{Caller, Work};
use super::trace::Kind;
use super::types::{Membership, SimNode};
use crate::checkers::Broken;
use crate::lin::{Checker, Verdict};
use crate::world::{FaultLog, NodeId, Rng, SimTime};

/// How a seed ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What was broken, if anything.
    pub failure: Option<Failure>,
    /// The hash of everything that happened.
    pub trace_hash: u64,
    /// How many events there were.
    pub events: u64,
    /// How long the world existed, in its own time.
    pub simulated: Duration,
    /// What went wrong in it.
    pub faults: FaultLog,
    /// Operations of clients with a known outcome, all checked.
    pub operations: u64,
    /// Committed entries.
    pub committed: u64,
    /// Leaders.
    pub elections: u64,
    /// From the end of all faults to the first leader that a majority followed.
    pub recovered_in: Option<Duration>,
    /// The lines of the trace, if they were asked for.
    pub trace: Vec<String>,
}

/// After the end of all faults there must be a leader within so many election timeouts (fault model L1).
const RECOVERY_TIMEOUTS_MAX: u32 = 20;
/// And no other for so many (fault model L4).
const QUIET_TIMEOUTS: u32 = 50;
/// A membership change that was under way may remove the leader once more, and whoever is needed may have much to catch up
/// with; a cluster that goes on like that for so many quiet periods is ill.
const PATIENCE_MAX: u32 = 40;
/// And somebody must get closer to having everything every so many after the last operation (fault model L3).
const CONVERGENCE_TIMEOUTS: u32 = 20;

/// Runs a seed under a profile. `record` keeps the lines of the trace.
pub fn run_seed(seed: u64, name: ProfileName, record: bool) -> Outcome {
    let mut rng = Rng::new(seed);
    let profile = Profile::draw(name, &mut rng);
    let mut cluster = Cluster::new(seed, profile, record);
    let mut recovered_in = None;
    begin(&mut cluster);
    let faulty_until = cluster.now.after(cluster.profile.faulty_for);
    cluster.run_until(faulty_until);
    if cluster.failure.is_none() {
        recovered_in = after_the_faults(&mut cluster);
    }
    let operations = judge_history(&mut cluster);
    Outcome {
        seed,
        failure: cluster.failure.clone(),
        trace_hash: cluster.trace.hash(),
        events: cluster.trace.events(),
        simulated: cluster.now.since(SimTime::ZERO),
        faults: cluster.faults.clone(),
        operations,
        committed: cluster.ledger.last_index(),
        elections: cluster.elections,
        recovered_in,
        trace: cluster.trace.lines().to_vec(),
    }
}

/// All nodes start blank; the first voters are told so; clients and faults begin.
fn begin(cluster: &mut Cluster) {
    for node in cluster.servers.ids() {
        cluster.start(node);
    }
    let voters: Vec<NodeId> = (1..=cluster.profile.voters).collect();
    let bound = cluster.profile.classes.wipes || cluster.rng.one_in(2);
    let nodes: BTreeMap<NodeId, SimNode> = voters
        .iter()
        .filter_map(|id| {
            let incarnation = cluster.servers.get(*id)?.incarnation;
            Some((*id, if bound { SimNode::bound(incarnation) } else { SimNode::default() }))
        })
        .collect();
    let Ok(membership) = Membership::new(vec![voters.iter().copied().collect()], nodes) else {
        return cluster.fail("a membership of all voters is possible", "the simulator", String::new());
    };
    // Whether one of them is told or all, it is the same first entry.
    let told = if cluster.rng.one_in(2) { 1 } else { voters.len() };
    for node in voters.into_iter().take(told) {
        let Some(server) = cluster.servers.get_mut(node) else { continue };
        let boot = server.boot;
        let Some(process) = server.process.as_mut() else { continue };
        let ticket = process.ticket(Caller::Operator("initialize"));
        cluster.give(node, boot, Work::Input(Input::Initialize { ticket, membership: membership.clone() }));
    }
    cluster.start_clients();
    cluster.start_nemesis();
}

/// All faults end, but for a minority that stays broken if the profile says so; then the cluster must serve again.
fn after_the_faults(cluster: &mut Cluster) -> Option<Duration> {
    let healed_at = cluster.now;
    cluster.heal_world();
    if disks_lost_a_quorum(cluster) {
        // Nobody can help: the cluster must stand still, and only its safety is judged.
        cluster.run_until(cluster.now.after(cluster.profile.election_timeout() * QUIET_TIMEOUTS));
        return None;
    }
    let lost = lose_minority(cluster);
    let timeout = cluster.profile.election_timeout();
    let recovered_at = wait_for_leader(cluster, healed_at, timeout)?;
    stay_quiet(cluster, timeout);
    cluster.clients_active = false;
    converge(cluster, &lost, timeout);
    Some(recovered_at.since(healed_at))
}

/// Whether the members that a log names last, with the disks that it means, are too few for a quorum: a change of the
/// membership that was under way can make every remaining disk necessary, among them one that was emptied.
fn disks_lost_a_quorum(cluster: &Cluster) -> bool {
    cluster.servers.0.iter().any(|server| {
        let Some((_, membership)) = server.store.readable().membership() else { return false };
        let has_its_disk = |id: &NodeId| {
            let meant = membership.node(id).and_then(raftwright_core::Node::incarnation);
            meant.is_none() || meant == cluster.servers.get(*id).map(|server| server.incarnation)
        };
        !membership.is_quorum(has_its_disk)
    })
}

/// Without faults there is no election, and clients are served. What was under way may still end first, and a leader that
/// is removed only now leaves a gap that nobody else may.
fn stay_quiet(cluster: &mut Cluster, timeout: Duration) {
    for _ in 0..PATIENCE_MAX {
        cluster.run_until(cluster.now.after(timeout * 10));
        if cluster.failure.is_none() && followed_leader(cluster).is_none() {
            // One has just been removed, or everybody would still be waiting for the first.
            continue;
        }
        let (elections, removals, answers) = (cluster.elections, cluster.removals, answered(cluster));
        let far = progress(cluster);
        cluster.run_until(cluster.now.after(timeout * QUIET_TIMEOUTS));
        if cluster.failure.is_some() {
            return;
        }
        if cluster.removals != removals {
            continue;
        }
        if cluster.elections != elections {
            let what = format!("{} elections without any fault", cluster.elections - elections);
            cluster.fail("a quiet cluster keeps its leader", "fault model L4", what);
        }
        if answered(cluster) == answers && progress(cluster) > far {
            // Somebody whose disk is needed for a quorum still catches up, one entry at a time in some profiles.
            continue;
        }
        if answered(cluster) == answers {
            cluster.fail("a healed cluster serves", "fault model L2", "no operation was answered".to_owned());
        }
        return;
    }
    cluster.fail("a quiet cluster keeps its leader", "fault model L4", "it does not come to rest".to_owned());
}

/// How far all logs and state machines are, together.
fn progress(cluster: &Cluster) -> u64 {
    let of = |server: &super::server::Server| {
        let applied = server.process.as_ref().map_or(0, |process| process.machine.applied().index_or_zero());
        server.store.durable().last().index_or_zero() + applied
    };
    cluster.servers.0.iter().map(of).sum()
}

/// Lets time pass until everybody has everything, as long as somebody still gets closer.
fn converge(cluster: &mut Cluster, lost: &[NodeId], timeout: Duration) {
    let mut before = 0;
    loop {
        cluster.run_until(cluster.now.after(timeout * CONVERGENCE_TIMEOUTS));
        if cluster.failure.is_some() || divergence(cluster, lost).is_none() {
            return;
        }
        let far = progress(cluster);
        if far == before {
            break;
        }
        before = far;
    }
    if let Some(what) = divergence(cluster, lost) {
        cluster.fail("a quiet cluster converges", "fault model L3", what);
    }
}

/// Takes fewer voters away than a quorum needs, for ever: half of them cut off and half of them dead.
fn lose_minority(cluster: &mut Cluster) -> Vec<NodeId> {
    // Before anything is committed, one node may be the only one that knows of a cluster at all.
    let known = cluster.ledger.last_index() > 0;
    if !cluster.profile.minority_lost || cluster.profile.classes.membership || !known {
        return Vec::new();
    }
    let mut voters: Vec<NodeId> = (1..=cluster.profile.voters).collect();
    cluster.rng.shuffle(&mut voters);
    voters.truncate((voters.len() - 1) / 2);
    for node in &voters {
        if node % 2 == 0 {
            cluster.crash(*node, super::store::Unsynced::Lost);
        } else {
            let others: Vec<NodeId> = cluster.servers.ids().filter(|other| other != node).collect();
            for other in others {
                cluster.network.cut(*node, other);
                cluster.network.cut(other, *node);
            }
        }
    }
    cluster.trace.note(cluster.now, 0, Kind("LOST"), [voters.len() as u64, 0], || format!("{voters:?}"));
    voters
}

fn answered(cluster: &Cluster) -> usize {
    use crate::lin::Outcome as Told;
    cluster.history.operations().iter().filter(|operation| matches!(operation.outcome, Told::Returned { .. })).count()
}

/// Lets time pass until a leader is followed by a majority.
fn wait_for_leader(cluster: &mut Cluster, healed_at: SimTime, timeout: Duration) -> Option<SimTime> {
    let until = healed_at.after(timeout * RECOVERY_TIMEOUTS_MAX);
    while cluster.now < until {
        cluster.run_until(cluster.now.after(timeout / 10));
        if cluster.failure.is_some() {
            return None;
        }
        if followed_leader(cluster).is_some() {
            return Some(cluster.now);
        }
    }
    let roles: Vec<String> = cluster
        .servers
        .0
        .iter()
        .filter_map(|server| {
            let replica = &server.process.as_ref()?.replica;
            Some(format!(
                "n{} {} vote {:?} last {:?} membership {}",
                server.id,
                replica.server_state(),
                replica.vote().map(ToString::to_string),
                replica.last_log_id(),
                server
                    .store
                    .readable()
                    .membership()
                    .map_or_else(String::new, |(id, members)| format!("{id} {members}"))
            ))
        })
        .collect();
    let what = format!(
        "no leader {RECOVERY_TIMEOUTS_MAX} election timeouts after all faults have ended: {}",
        roles.join("; ")
    );
    cluster.fail("a healed cluster elects a leader", "fault model L1", what);
    None
}

/// A leader that a quorum of its own membership follows.
fn followed_leader(cluster: &Cluster) -> Option<NodeId> {
    cluster.servers.0.iter().find_map(|server| {
        server.leading()?;
        let (_, membership) = server.store.readable().membership()?;
        let follows = |id: &NodeId| {
            let process = cluster.servers.get(*id).and_then(|other| other.process.as_ref());
            process.is_some_and(|process| process.replica.leader() == Some(server.id))
        };
        membership.is_quorum(follows).then_some(server.id)
    })
}

/// Every member that can be reached has the whole log, has applied it, and has the same state; the membership is uniform.
/// What of that is not so.
fn divergence(cluster: &Cluster, lost: &[NodeId]) -> Option<String> {
    match followed_leader(cluster) {
        Some(leader) => find_divergence(cluster, leader, lost),
        None => Some("nobody leads".to_owned()),
    }
}

fn find_divergence(cluster: &Cluster, leader: NodeId, lost: &[NodeId]) -> Option<String> {
    let leading = cluster.servers.get(leader)?;
    let last = leading.store.durable().last();
    let state = leading.process.as_ref()?.machine.hash();
    if cluster.ledger.last() != last {
        return Some(format!(
            "the log of leader n{leader} ends with {last:?}, committed is {:?}",
            cluster.ledger.last()
        ));
    }
    let (_, membership) = leading.store.readable().membership()?;
    if membership.is_joint() {
        return Some(format!("the membership is still joint: {membership}"));
    }
    membership.nodes().iter().find_map(|(id, node)| {
        let server = cluster.servers.get(*id)?;
        let meant = raftwright_core::Node::incarnation(node);
        // A member whose disk was emptied is not the member that is meant.
        if lost.contains(id) || meant.is_some_and(|meant| meant != server.incarnation) {
            return None;
        }
        let process = server.process.as_ref()?;
        let same = server.store.durable().last() == last
            && process.machine.applied().index_or_zero() == last.index_or_zero()
            && process.machine.hash() == state;
        (!same).then(|| {
            format!(
                "n{id} ends with {:?} and has applied {:?}, leader n{leader} ends with {last:?}",
                server.store.durable().last(),
                process.machine.applied()
            )
        })
    })
}

/// Checks what the clients saw; answers how many operations that were.
fn judge_history(cluster: &mut Cluster) -> u64 {
    cluster.close_history();
    if cluster.failure.is_some() {
        return 0;
    }
    let (verdict, stats) = Checker::default().check::<MapModel>(&cluster.history);
    let broken = match verdict {
        Verdict::Linearizable => None,
        Verdict::NotLinearizable(violation) => Some(violation.explanation),
        Verdict::GaveUp { key } => Some(format!("the history of key {key} is too hard to judge")),
    };
    if let Some(what) = broken {
        cluster.fail("client histories are linearizable", "Raft §8", what);
    }
    stats.operations as u64
}

/// For reports: a failure in one line.
impl core::fmt::Display for Failure {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Broken { property, source, what } = &self.broken;
        write!(f, "at {}: {property} ({source}): {what}", self.at)
    }
}
