//! One seed of whole nodes from its beginning to its verdict.

use core::time::Duration;
use std::collections::BTreeMap;
use std::time::Duration as StdDuration;

use raftwright_node::ServerState;
use raftwright_traits::{AsyncRuntime, BasicNode, LogIdOption, Node};
use raftwright_wal::WalOptions;

use super::drive::Drive;
use super::kv::Kv;
use super::nemesis::Deed;
use super::profile::NodeProfile;
use super::stores::WalStores;
use super::workload::Workload;
use crate::core_world::{Outcome, ProfileName};
use crate::shrink::Omit;
use crate::world::{NodeId, Rng, SimTime};

/// After the end of all faults there must be a leader within so many election timeouts (fault model L1).
const RECOVERY_TIMEOUTS_MAX: u32 = 20;
/// And no other for so many (fault model L4).
const QUIET_TIMEOUTS: u32 = 50;
/// What was under way may remove the leader once more, and whoever is needed may have much to catch up with; a cluster
/// that goes on like that for so many quiet periods is ill.
const PATIENCE_MAX: u32 = 10;
/// Somebody must get closer to having everything every so many timeouts after the last operation (fault model L3).
const CONVERGENCE_TIMEOUTS: u32 = 20;

/// Runs a seed under a profile. `record` keeps the lines of the trace.
pub fn run_seed(seed: u64, name: ProfileName, record: bool) -> Outcome {
    run_part(seed, name, Omit::default(), record).0
}

/// The same, with some of it left out; and the run as it is at the end.
pub fn run_part(seed: u64, name: ProfileName, omit: Omit, record: bool) -> (Outcome, Drive<Kv>) {
    let profile = NodeProfile::draw(name, &mut Rng::new(seed));
    let wal =
        WalOptions { segment_bytes: profile.segment_bytes, prepare_step_bytes: 64 << 10, ..WalOptions::default() };
    let kv = Kv::new(profile.keys);
    run_workload(seed, profile, kv, WalStores::new(seed, wal), omit, record)
}

/// Runs a seed with an application and clients of its own.
pub fn run_workload<W: Workload>(
    seed: u64,
    profile: NodeProfile,
    workload: W,
    stores: W::Stores,
    omit: Omit,
    record: bool,
) -> (Outcome, Drive<W>) {
    let mut drive = Drive::new(seed, profile, workload, stores, omit, record);
    let mut recovered_in = None;
    begin(&mut drive);
    drive.run_until(SimTime::ZERO.after(drive.profile.faulty_for));
    if drive.failure.is_none() {
        recovered_in = after_the_faults(&mut drive);
    }
    let operations = judge_history(&mut drive);
    let outcome = Outcome {
        seed,
        failure: drive.failure.clone(),
        trace_hash: drive.world.trace.hash(),
        events: drive.world.trace.events(),
        simulated: drive.now().since(SimTime::ZERO),
        faults: drive.world.faults.clone(),
        operations,
        committed: drive.world.judge().ledger().last_index(),
        elections: drive.world.judge().elections(),
        recovered_in,
        trace: drive.world.trace.lines().to_vec(),
    };
    (outcome, drive)
}

/// All nodes start blank; the first voters are told so; clients and faults begin.
fn begin<W: Workload>(drive: &mut Drive<W>) {
    for node in drive.ids() {
        drive.commit_deed(Deed::Start(node));
    }
    let members: BTreeMap<NodeId, BasicNode> =
        (1..=drive.profile.voters).map(|id| (id, BasicNode::new(format!("n{id}")))).collect();
    if let Some(first) = drive.world.running(1) {
        let raft = first.raft.clone();
        first.runtime.spawn(async move {
            // A refusal shows: there will be no leader.
            let _ = raft.initialize(members).await;
        });
    }
    drive.start_clients();
    drive.start_nemesis();
}

/// All faults end, but for a minority that stays down if the profile says so; then the cluster must serve again.
fn after_the_faults<W: Workload>(drive: &mut Drive<W>) -> Option<StdDuration> {
    let timeout = drive.profile.election_timeout();
    drive.heal_world();
    if disks_lost_a_quorum(drive) {
        // Nobody can help: the cluster must stand still, and only its safety is judged.
        drive.run_until(drive.now().after(timeout * QUIET_TIMEOUTS));
        return None;
    }
    lose_minority(drive);
    let healed_at = drive.now();
    let recovered_at = wait_for_leader(drive, healed_at, timeout)?;
    stay_quiet(drive, timeout);
    drive.clients_active = false;
    converge(drive, timeout);
    Some(recovered_at.since(healed_at))
}

/// Whether the members that a log names last, with the disks that it means, are too few for a quorum.
fn disks_lost_a_quorum<W: Workload>(drive: &Drive<W>) -> bool {
    let judge = drive.world.judge();
    drive.ids().any(|node| {
        let Some((_, membership)) = judge.log(node).and_then(|log| log.readable().membership()) else { return false };
        let has_its_disk = |id: &NodeId| {
            let meant = membership.node(id).and_then(Node::incarnation);
            meant.is_none() || meant == judge.incarnation(*id)
        };
        !membership.is_quorum(has_its_disk)
    })
}

/// Takes fewer voters away than a quorum needs, for ever.
fn lose_minority<W: Workload>(drive: &mut Drive<W>) {
    let known = drive.world.judge().ledger().last_index() > 0;
    if !drive.profile.minority_lost || drive.profile.classes.membership || !known {
        return;
    }
    // Who stays down is a matter of the seed, not of what happened.
    let lost = (drive.profile.voters - 1) / 2;
    for node in 1..=lost {
        drive.nemesis.lost.insert(node);
        drive.kill_node(node, None);
    }
    drive.note(0, "LOST", lost, || format!("{lost} nodes for ever"));
}

/// Lets time pass until a leader is followed by a majority.
fn wait_for_leader<W: Workload>(drive: &mut Drive<W>, healed_at: SimTime, timeout: Duration) -> Option<SimTime> {
    let until = healed_at.after(timeout * RECOVERY_TIMEOUTS_MAX);
    while drive.now() < until {
        drive.run_until(drive.now().after(timeout / 10));
        if drive.failure.is_some() {
            return None;
        }
        if drive.world.leader().is_some() {
            return Some(drive.now());
        }
    }
    let what = format!(
        "no leader {RECOVERY_TIMEOUTS_MAX} election timeouts after all faults have ended: {}",
        states(drive).join("; ")
    );
    drive.fail("a healed cluster elects a leader", "fault model L1", what);
    None
}

fn states<W: Workload>(drive: &Drive<W>) -> Vec<String> {
    let of = |id| {
        let said = drive.world.look(id, |metrics| {
            format!(
                "{:?} in term {} last {:?} applied {:?} of {} {}",
                metrics.state,
                metrics.current_term,
                metrics.last_log_id,
                metrics.last_applied,
                metrics.membership_config.membership,
                metrics.running_state.as_ref().err().map(ToString::to_string).unwrap_or_default()
            )
        });
        format!("n{id} {}", said.unwrap_or_else(|| "down".to_owned()))
    };
    drive.ids().map(of).collect()
}

/// Whether the leader before this one is no longer a voter: its removal leaves a gap that nothing else may.
fn is_removed<W: Workload>(drive: &Drive<W>, leader: Option<NodeId>) -> bool {
    let Some((leader, now)) = leader.zip(drive.world.leader()) else { return true };
    let is_voter = drive.world.look(now, |metrics| metrics.membership_config.membership.is_voter(&leader));
    !is_voter.unwrap_or(false)
}

/// Without faults there is no election, and clients are served. What was under way may still end first.
fn stay_quiet<W: Workload>(drive: &mut Drive<W>, timeout: Duration) {
    let mut why = "it does not come to rest".to_owned();
    for _ in 0..PATIENCE_MAX {
        drive.run_until(drive.now().after(timeout * 10));
        let leader = drive.world.leader();
        let (elections, answers, far) = (drive.world.judge().elections(), drive.answered, progress(drive));
        drive.run_until(drive.now().after(timeout * QUIET_TIMEOUTS));
        if drive.failure.is_some() {
            return;
        }
        if drive.world.judge().elections() != elections {
            if is_removed(drive, leader) || leader.is_none() {
                why = "leaders are removed without end".to_owned();
                continue;
            }
            let what = format!("{} elections without any fault", drive.world.judge().elections() - elections);
            return drive.fail("a quiet cluster keeps its leader", "fault model L4", what);
        }
        if drive.answered > answers || drive.omit.operations_after != u64::MAX {
            return;
        }
        if progress(drive) == far {
            let what = format!("no operation was answered: {}", states(drive).join("; "));
            return drive.fail("a healed cluster serves", "fault model L2", what);
        }
        why = "somebody needed catches up without end".to_owned();
    }
    drive.fail("a quiet cluster keeps its leader", "fault model L4", why);
}

/// How far all logs and state machines are, together.
fn progress<W: Workload>(drive: &Drive<W>) -> u64 {
    let of = |id| {
        let applied = drive.world.look(id, |metrics| metrics.last_applied.index_or_zero()).unwrap_or(0);
        let durable = drive.world.judge().log(id).map_or(0, |log| log.durable().last().index_or_zero());
        applied + durable
    };
    drive.ids().map(of).sum()
}

/// Lets time pass until everybody has everything, as long as somebody still gets closer.
fn converge<W: Workload>(drive: &mut Drive<W>, timeout: Duration) {
    let mut before = 0;
    loop {
        drive.run_until(drive.now().after(timeout * CONVERGENCE_TIMEOUTS));
        let Some(what) = divergence(drive) else { return };
        if drive.failure.is_some() {
            return;
        }
        let far = progress(drive);
        if far == before {
            return drive.fail("a quiet cluster converges", "fault model L3", what);
        }
        before = far;
    }
}

/// Every member that can be reached has the whole log and has applied it; the membership is uniform. What of that is not
/// so. That equal logs make equal states is checked at every entry.
fn divergence<W: Workload>(drive: &Drive<W>) -> Option<String> {
    let Some(leader) = drive.world.leader() else { return Some("nobody leads".to_owned()) };
    let judge = drive.world.judge();
    let last = judge.log(leader)?.durable().last();
    if judge.ledger().last() != last {
        return Some(format!(
            "the log of leader n{leader} ends with {last:?}, committed is {:?}",
            judge.ledger().last()
        ));
    }
    let membership = drive.world.look(leader, |metrics| metrics.membership_config.membership.clone())?;
    if membership.is_joint() {
        return Some(format!("the membership is still joint: {membership}"));
    }
    membership.nodes().iter().find_map(|(id, node)| {
        // A member whose disk was emptied is not the member that is meant.
        let other = node.incarnation.is_some_and(|meant| judge.incarnation(*id) != Some(meant));
        if other || drive.nemesis.lost.contains(id) {
            return None;
        }
        let stored = judge.log(*id).and_then(|log| log.durable().last());
        let applied = drive.world.look(*id, |metrics| (metrics.last_applied, metrics.state));
        let same = stored == last
            && applied
                .is_some_and(|(applied, state)| applied == last && (state == ServerState::Leader) == (*id == leader));
        (!same).then(|| {
            format!("n{id} ends with {stored:?} and has applied {applied:?}, leader n{leader} ends with {last:?}")
        })
    })
}

/// Checks what the clients saw; answers how many operations that were.
fn judge_history<W: Workload>(drive: &mut Drive<W>) -> u64 {
    drive.close_history();
    if drive.failure.is_some() {
        return 0;
    }
    match drive.world.application().judge(&drive.history) {
        Ok(operations) => operations as u64,
        Err(what) => {
            drive.fail("client histories are linearizable", "Raft §8", what);
            0
        }
    }
}
