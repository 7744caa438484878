//! What goes wrong, and when it is right again.
//!
//! One fault begins at each tick, of a class that the profile allows; most end by an act of their own, so that several
//! overlap. Victims are not chosen so that a quorum stays: a power cut asks nobody.

use core::time::Duration;
use std::collections::BTreeSet;

use raftwright_core::{ChangeConditions, ChangeMembers, Input, LogIdOption, Node};

use super::cluster::{Cluster, Event};
use super::profile::Profile;
use super::server::{Caller, Server, Work};
use super::store::Unsynced;
use super::trace::Kind;
use super::types::{SimNode, SimTypes};
use crate::world::{Fault, NodeId, Rng};

/// Something that is done to the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// The next fault begins.
    Tick,
    /// These ways are open again.
    Mend(Vec<(NodeId, NodeId)>),
    /// These ways are cut.
    Cut(Vec<(NodeId, NodeId)>),
    /// These ways are as usual again.
    Normalize(Vec<(NodeId, NodeId)>),
    /// The whole network is as usual again.
    UsualNetwork,
    /// A node starts again, if it is down.
    Restart(NodeId),
    /// A node dies.
    Crash(NodeId),
    /// A node's clock is right again.
    RightClock(NodeId),
    /// A node's disk is in order again.
    RightDisk(NodeId),
    /// The change that is under way is taken back, if one is.
    CancelChange,
    /// A node is asked to start an election.
    Elect(NodeId),
}

/// The state of what goes wrong.
#[derive(Debug)]
pub struct Nemesis {
    pub(super) rng: Rng,
    /// Whether faults go on.
    pub active: bool,
    /// A member whose disk was emptied and that the membership has not replaced yet.
    wiped: Option<NodeId>,
}

/// Leases allow for a tenth between any two clocks, half of it on either side of what is right.
pub(super) const LEASE_RATES: (u64, u64) = (955_000, 1_045_000);

pub(super) type Ways = Vec<(NodeId, NodeId)>;

impl Nemesis {
    /// Nothing is wrong yet.
    pub fn new(rng: Rng) -> Self {
        Self { rng, active: false, wiped: None }
    }
}

/// A kind of fault that a tick may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    LinkTrouble,
    SlowNetwork,
    Replay,
    ResetConnection,
    Isolate,
    Split,
    OneWay,
    DeafOrMute,
    Topology,
    Flap,
    Swizzle,
    Crash,
    CrashQuorum,
    CrashLoop,
    PowerLoss,
    PowerLossAll,
    Pause,
    Clock,
    SlowDisk,
    HungFlush,
    FlushFails,
    Membership,
    Elect,
    Transfer,
    Wipe,
    Purge,
    TrapLease,
}

fn deeds(profile: &Profile) -> Vec<Deed> {
    let classes = &profile.classes;
    let leases = profile.lease_reads && classes.clocks && classes.partitions && classes.elections;
    let groups: [(bool, &[Deed]); 12] = [
        (leases, &[Deed::TrapLease]),
        (classes.links, &[Deed::LinkTrouble, Deed::SlowNetwork, Deed::Replay, Deed::ResetConnection]),
        (
            classes.partitions,
            &[Deed::Isolate, Deed::Split, Deed::OneWay, Deed::DeafOrMute, Deed::Topology, Deed::Flap, Deed::Swizzle],
        ),
        (classes.crashes, &[Deed::Crash, Deed::Crash, Deed::CrashQuorum, Deed::CrashLoop]),
        (classes.power, &[Deed::PowerLoss, Deed::PowerLoss, Deed::PowerLossAll]),
        (classes.pauses, &[Deed::Pause]),
        (classes.clocks, &[Deed::Clock]),
        (classes.disks, &[Deed::SlowDisk, Deed::HungFlush, Deed::FlushFails]),
        (classes.membership, &[Deed::Membership, Deed::Membership, Deed::Membership, Deed::Membership]),
        (classes.elections, &[Deed::Elect, Deed::Transfer, Deed::Transfer]),
        (classes.wipes, &[Deed::Wipe]),
        (classes.purges, &[Deed::Purge]),
    ];
    groups.iter().filter(|(on, _)| *on).flat_map(|(_, deeds)| deeds.iter().copied()).collect()
}

impl Cluster {
    /// Sends the nemesis off.
    pub fn start_nemesis(&mut self) {
        self.nemesis.active = true;
        self.schedule_tick();
    }

    fn schedule_tick(&mut self) {
        let (low, high) = self.profile.fault_every;
        let at = self.now.after(self.nemesis.rng.duration(low, high));
        self.queue.push(at, Event::Nemesis(Act::Tick));
    }

    /// Puts everything right at once: the end of all faults.
    pub fn heal_world(&mut self) {
        self.nemesis.active = false;
        self.network.heal_all();
        *self.network.default_profile_mut() = self.profile.link.clone();
        self.trace.note(self.now, 0, Kind("HEAL"), [0, 0], String::new);
        for node in self.servers.ids() {
            self.act(Act::RightDisk(node));
            self.act(Act::RightClock(node));
            if let Some(server) = self.servers.get_mut(node)
                && server.paused_until.take().is_some()
            {
                // Whatever waited for the end of the pause is due now.
                let boot = server.boot;
                self.queue.push(self.now, Event::Run(node, boot));
            }
            self.act(Act::Restart(node));
        }
    }

    /// Does something to the world.
    pub(super) fn act(&mut self, act: Act) {
        match act {
            Act::Tick => self.tick(),
            // What was planned before the end of all faults does not happen after it.
            Act::Mend(_) | Act::Cut(_) | Act::CancelChange | Act::Elect(_) if !self.nemesis.active => {}
            Act::Mend(ways) => ways.iter().for_each(|(from, to)| self.network.mend(*from, *to)),
            Act::Cut(ways) => ways.iter().for_each(|(from, to)| self.network.cut(*from, *to)),
            Act::Normalize(ways) => ways.iter().for_each(|(from, to)| self.network.normalize(*from, *to)),
            Act::UsualNetwork => *self.network.default_profile_mut() = self.profile.link.clone(),
            Act::Restart(node) => self.start(node),
            Act::Elect(node) => self.ask_to_elect(node),
            Act::CancelChange => {
                if let Some((leader, _)) = self.leader() {
                    self.operate(Fault::CancelChange, leader, |ticket| Input::CancelChange { ticket });
                }
            }
            Act::Crash(node) => {
                if self.nemesis.active {
                    self.crash(node, Unsynced::Prefix);
                }
            }
            Act::RightClock(node) => {
                let now = self.now;
                if let Some(server) = self.servers.get_mut(node) {
                    server.clock.set_rate(now, crate::world::clock::RATE_RIGHT_PPM);
                }
            }
            Act::RightDisk(node) => {
                let Some(server) = self.servers.get_mut(node) else { return };
                server.slowness = 1;
                server.hung = false;
                let (boot, due) = (server.boot, std::mem::take(&mut server.stalled));
                for _ in 0..due {
                    self.queue.push(self.now, Event::DiskDone(node, boot));
                }
            }
        }
    }

    fn tick(&mut self) {
        if !self.nemesis.active {
            return;
        }
        let possible = deeds(&self.profile);
        if let Some(deed) = self.nemesis.rng.pick(&possible).copied() {
            self.commit_deed(deed);
        }
        self.schedule_tick();
    }

    fn commit_deed(&mut self, deed: Deed) {
        match deed {
            Deed::LinkTrouble => self.link_trouble(),
            Deed::SlowNetwork => self.slow_network(),
            Deed::Replay => self.replay(),
            Deed::ResetConnection => self.reset_connection(),
            Deed::Isolate => self.isolate(),
            Deed::Split => self.split(),
            Deed::OneWay => self.one_way(),
            Deed::DeafOrMute => self.deaf_or_mute(),
            Deed::Topology => self.topology(),
            Deed::Flap => self.flap(),
            Deed::Swizzle => self.swizzle(),
            Deed::Crash => self.crash_one(),
            Deed::CrashQuorum => self.crash_quorum(),
            Deed::CrashLoop => self.crash_loop(),
            Deed::PowerLoss => self.power_loss(),
            Deed::PowerLossAll => self.power_loss_all(),
            Deed::Pause => self.pause(),
            Deed::Clock => self.wrong_clock(),
            Deed::SlowDisk => self.slow_disk(),
            Deed::HungFlush => self.hung_flush(),
            Deed::FlushFails => self.flush_fails(),
            Deed::Membership => self.change_membership(),
            Deed::Elect => self.elect(),
            Deed::Transfer => self.transfer(),
            Deed::Wipe => self.wipe(),
            Deed::Purge => self.purge(),
            Deed::TrapLease => self.trap_lease(),
        }
    }

    pub(super) fn note_fault(&mut self, fault: Fault, node: NodeId, detail: impl FnOnce() -> String) {
        self.faults.hit(fault);
        self.trace.note(self.now, node, Kind("FAULT"), [fault as u64, 0], || format!("{fault} {}", detail()));
    }

    pub(super) fn later(&mut self, low: Duration, high: Duration, act: Act) {
        let at = self.now.after(self.nemesis.rng.duration(low, high));
        self.queue.push(at, Event::Nemesis(act));
    }

    pub(super) fn anybody(&mut self) -> NodeId {
        let leader = self.last_leader.map(|(node, _)| node);
        match leader {
            // The leader is the most interesting victim.
            Some(leader) if self.nemesis.rng.one_in(3) => leader,
            Some(_) | None => self.nemesis.rng.between(1, self.servers.0.len() as u64),
        }
    }

    pub(super) fn is_leader(&self, node: NodeId) -> bool {
        self.last_leader.is_some_and(|(leader, _)| leader == node)
    }

    fn pair(&mut self) -> (NodeId, NodeId) {
        let servers = self.servers.0.len() as u64;
        let from = self.nemesis.rng.between(1, servers);
        let to = self.nemesis.rng.between(1, servers);
        (from, to)
    }

    pub(super) fn others(&self, node: NodeId) -> Vec<NodeId> {
        self.servers.ids().filter(|other| *other != node).collect()
    }

    // ---- network ----

    fn link_trouble(&mut self) {
        let (from, to) = self.pair();
        let everywhere = self.nemesis.rng.one_in(3);
        let rng = &mut self.nemesis.rng;
        let loss = [0, 20_000, 200_000][rng.below(3) as usize];
        let duplicate = [0, 50_000, 500_000][rng.below(3) as usize];
        let reorder = rng.one_in(2);
        let long_tail = if rng.one_in(2) { 1_000 } else { 0 };
        let bytes = if rng.one_in(4) { Some(20_000) } else { None };
        let profile = if everywhere { self.network.default_profile_mut() } else { self.network.profile_mut(from, to) };
        (profile.loss_ppm, profile.duplicate_ppm) = (loss, duplicate);
        (profile.reorder, profile.long_tail_ppm, profile.bytes_per_second) = (reorder, long_tail, bytes);
        let back = if everywhere { Act::UsualNetwork } else { Act::Normalize(vec![(from, to)]) };
        self.later(Duration::from_millis(200), Duration::from_secs(20), back);
    }

    fn slow_network(&mut self) {
        let slowest = self.nemesis.rng.between(5, 400);
        let profile = self.network.default_profile_mut();
        profile.delay_max = Duration::from_millis(slowest);
        profile.long_tail_ppm = 0;
        self.note_fault(Fault::SlowNetwork, 0, || format!("up to {slowest} ms"));
        self.later(Duration::from_millis(200), Duration::from_secs(10), Act::UsualNetwork);
    }

    fn replay(&mut self) {
        let count = self.nemesis.rng.between(1, 5);
        for _ in 0..count {
            let Some((from, to, wire)) = self.nemesis.rng.pick(&self.old).cloned() else { return };
            if !self.network.is_open(from, to) {
                continue;
            }
            self.note_fault(Fault::Replay, to, || format!("{} of n{from}: {}", wire.name(), wire.text()));
            self.arrive(from, to, wire);
        }
    }

    fn reset_connection(&mut self) {
        let (from, to) = self.pair();
        self.network.reset(from, to);
        self.network.reset(to, from);
        self.note_fault(Fault::Reset, from, || format!("with n{to}"));
    }

    pub(super) fn cut_for(&mut self, fault: Fault, node: NodeId, ways: Ways) {
        let long = self.nemesis.rng.one_in(8);
        let (low, high) = if long { (10, 40) } else { (0, 6) };
        if long {
            self.faults.hit(Fault::LongPartition);
        }
        self.note_fault(fault, node, || format!("{ways:?}"));
        ways.iter().for_each(|(from, to)| self.network.cut(*from, *to));
        self.later(Duration::from_secs(low), Duration::from_secs(high), Act::Mend(ways));
    }

    fn isolate(&mut self) {
        let node = self.anybody();
        let ways = both_ways(&[node], &self.others(node));
        let fault = if self.is_leader(node) { Fault::IsolateLeader } else { Fault::Isolate };
        self.cut_for(fault, node, ways);
    }

    fn split(&mut self) {
        let mut all: Vec<NodeId> = self.servers.ids().collect();
        self.nemesis.rng.shuffle(&mut all);
        let at = self.nemesis.rng.between(1, all.len() as u64) as usize;
        let (left, right) = all.split_at(at);
        let ways = both_ways(left, right);
        self.cut_for(Fault::Split, 0, ways);
    }

    fn one_way(&mut self) {
        let (from, to) = self.pair();
        self.cut_for(Fault::OneWay, from, vec![(from, to)]);
    }

    fn deaf_or_mute(&mut self) {
        let node = self.anybody();
        let others = self.others(node);
        if self.nemesis.rng.one_in(2) {
            self.cut_for(Fault::Deaf, node, others.into_iter().map(|other| (other, node)).collect());
        } else {
            self.cut_for(Fault::Mute, node, others.into_iter().map(|other| (node, other)).collect());
        }
    }

    /// A bridge, a ring or a chain: everybody reaches somebody and nobody everybody.
    fn topology(&mut self) {
        let mut all: Vec<NodeId> = self.servers.ids().collect();
        self.nemesis.rng.shuffle(&mut all);
        let size = all.len();
        let neighbours: (Fault, fn(usize, usize, usize) -> bool) = match self.nemesis.rng.below(3) {
            0 => (Fault::Ring, |a, b, size| a.abs_diff(b) <= 1 || a.abs_diff(b) == size - 1),
            1 => (Fault::Chain, |a, b, _| a.abs_diff(b) <= 1),
            // The middle one reaches both halves.
            _ => (Fault::Bridge, |a, b, size| (a <= size / 2 && b <= size / 2) || (a >= size / 2 && b >= size / 2)),
        };
        let mut ways = Vec::new();
        for a in 0..size {
            for b in 0..size {
                if !neighbours.1(a, b, size) {
                    ways.push((all[a], all[b]));
                }
            }
        }
        self.cut_for(neighbours.0, 0, ways);
    }

    fn flap(&mut self) {
        let (a, b) = self.pair();
        let ways = both_ways(&[a], &[b]);
        let period = self.nemesis.rng.between(50, 1_000);
        self.note_fault(Fault::Flap, a, || format!("to n{b} every {period} ms"));
        for round in 0..6 {
            let act = if round % 2 == 0 { Act::Cut(ways.clone()) } else { Act::Mend(ways.clone()) };
            self.queue.push(self.now.after(Duration::from_millis(period * round)), Event::Nemesis(act));
        }
    }

    fn swizzle(&mut self) {
        let mut all: Vec<NodeId> = self.servers.ids().collect();
        self.note_fault(Fault::Swizzle, 0, String::new);
        self.nemesis.rng.shuffle(&mut all);
        for node in all {
            let ways = both_ways(&[node], &self.others(node));
            let cut_at = self.nemesis.rng.between(0, 2_000);
            let mend_at = cut_at + self.nemesis.rng.between(100, 4_000);
            for (at, act) in [(cut_at, Act::Cut(ways.clone())), (mend_at, Act::Mend(ways))] {
                self.queue.push(self.now.after(Duration::from_millis(at)), Event::Nemesis(act));
            }
        }
    }

    // ---- processes, clocks, disks ----

    fn is_up(&self, node: NodeId) -> bool {
        self.servers.get(node).is_some_and(|server| server.process.is_some())
    }

    fn kill(&mut self, fault: Fault, node: NodeId, unsynced: Unsynced) -> bool {
        if !self.is_up(node) {
            return false;
        }
        if self
            .servers
            .get(node)
            .and_then(|server| server.store.readable().membership())
            .is_some_and(|(_, m)| m.is_joint())
            && self.is_leader(node)
        {
            self.faults.hit(Fault::CrashInJoint);
        }
        if self.is_leader(node) {
            self.faults.hit(Fault::CrashLeader);
        }
        self.note_fault(fault, node, || format!("{unsynced:?}"));
        self.crash(node, unsynced);
        true
    }

    fn some_unsynced(&mut self) -> Unsynced {
        [Unsynced::Lost, Unsynced::Kept, Unsynced::Prefix][self.nemesis.rng.below(3) as usize]
    }

    fn crash_one(&mut self) {
        let node = self.anybody();
        let unsynced = self.some_unsynced();
        if self.kill(Fault::Crash, node, unsynced) {
            self.later(Duration::ZERO, Duration::from_secs(8), Act::Restart(node));
        }
    }

    fn crash_quorum(&mut self) {
        let mut all: Vec<NodeId> = self.servers.ids().collect();
        self.nemesis.rng.shuffle(&mut all);
        all.truncate(all.len() / 2 + 1);
        let unsynced = self.some_unsynced();
        for node in all {
            if self.kill(Fault::CrashQuorum, node, unsynced) {
                self.later(Duration::ZERO, Duration::from_secs(5), Act::Restart(node));
            }
        }
    }

    /// Down and up again, faster than an election takes.
    fn crash_loop(&mut self) {
        let node = self.anybody();
        if !self.kill(Fault::CrashLoop, node, Unsynced::Prefix) {
            return;
        }
        let mut at = self.now;
        for round in 0..self.nemesis.rng.between(2, 6) {
            at = at.after(Duration::from_millis(self.nemesis.rng.between(0, 200)));
            self.queue.push(at, Event::Nemesis(Act::Restart(node)));
            at = at.after(Duration::from_millis(self.nemesis.rng.between(0, 100)));
            self.queue.push(at, Event::Nemesis(Act::Crash(node)));
            if round > 0 {
                self.faults.hit(Fault::CrashInRecovery);
            }
        }
        self.queue.push(at.after(Duration::from_millis(50)), Event::Nemesis(Act::Restart(node)));
    }

    fn power_loss(&mut self) {
        let node = self.anybody();
        if self.kill(Fault::PowerLoss, node, Unsynced::Lost) {
            self.later(Duration::ZERO, Duration::from_secs(5), Act::Restart(node));
        }
    }

    fn power_loss_all(&mut self) {
        self.note_fault(Fault::PowerLossAll, 0, String::new);
        for node in self.servers.ids() {
            let unsynced = if self.nemesis.rng.one_in(4) { Unsynced::Prefix } else { Unsynced::Lost };
            if self.kill(Fault::PowerLoss, node, unsynced) {
                self.later(Duration::ZERO, Duration::from_secs(2), Act::Restart(node));
            }
        }
    }

    fn pause(&mut self) {
        let node = self.anybody();
        let long = self.nemesis.rng.one_in(5);
        let millis = if long { self.nemesis.rng.between(2_000, 60_000) } else { self.nemesis.rng.between(20, 2_000) };
        let until = self.now.after(Duration::from_millis(millis));
        let Some(server) = self.servers.get_mut(node) else { return };
        if server.process.is_none() || server.paused_until.is_some_and(|end| end > self.now) {
            return;
        }
        server.paused_until = Some(until);
        if long {
            self.faults.hit(Fault::LongPause);
        }
        let fault = if self.is_leader(node) { Fault::PauseLeader } else { Fault::Pause };
        self.note_fault(fault, node, || format!("for {millis} ms"));
    }

    fn wrong_clock(&mut self) {
        let node = self.anybody();
        let now = self.now;
        let rng = &mut self.nemesis.rng;
        let (fault, rate, jump) = match rng.below(3) {
            0 => (Fault::ClockFast, Some(rng.between(1_010_000, 1_500_000)), None),
            1 => (Fault::ClockSlow, Some(rng.between(500_000, 990_000)), None),
            _ => (Fault::ClockJump, None, Some(Duration::from_millis(rng.between(10, 10_000)))),
        };
        let leases = self.profile.lease_reads;
        if let Some(rate) = rate {
            self.set_clock(fault, node, if leases { rate.clamp(LEASE_RATES.0, LEASE_RATES.1) } else { rate });
        }
        if let Some(ahead) = jump {
            // No lease bears a jump.
            let Some(server) = self.servers.get_mut(node).filter(|_| !leases) else { return };
            server.clock.jump(now, ahead);
            let boot = server.boot;
            self.queue.push(now, Event::Run(node, boot));
            self.note_fault(fault, node, || format!("{ahead:?} ahead"));
        }
        self.later(Duration::from_secs(1), Duration::from_secs(30), Act::RightClock(node));
    }

    fn slow_disk(&mut self) {
        let node = self.anybody();
        let slowness = self.nemesis.rng.between(2, 30) as u32;
        if let Some(server) = self.servers.get_mut(node) {
            server.slowness = slowness;
        }
        self.note_fault(Fault::SlowDisk, node, || format!("{slowness} times"));
        self.later(Duration::from_millis(100), Duration::from_secs(5), Act::RightDisk(node));
    }

    fn hung_flush(&mut self) {
        let node = self.anybody();
        if let Some(server) = self.servers.get_mut(node) {
            server.hung = true;
        }
        self.note_fault(Fault::HungFlush, node, String::new);
        self.later(Duration::from_millis(100), Duration::from_secs(10), Act::RightDisk(node));
    }

    /// A failed flush stops the node: what was not synced may or may not be there afterwards.
    fn flush_fails(&mut self) {
        let node = self.anybody();
        if self.servers.get(node).is_some_and(|server| server.store.under_way() > 0)
            && self.kill(Fault::FlushFails, node, Unsynced::Prefix)
        {
            self.later(Duration::from_millis(10), Duration::from_secs(4), Act::Restart(node));
        }
    }

    // ---- operators ----

    pub(super) fn operate(
        &mut self,
        fault: Fault,
        node: NodeId,
        input: impl FnOnce(raftwright_core::Ticket) -> Input<SimTypes>,
    ) {
        let Some(server) = self.servers.get_mut(node) else { return };
        let boot = server.boot;
        let Some(process) = server.process.as_mut() else { return };
        let ticket = process.ticket(Caller::Operator(fault.name()));
        let input = input(ticket);
        self.note_fault(fault, node, || format!("{input:?}"));
        self.give(node, boot, Work::Input(input));
    }

    pub(super) fn leader(&self) -> Option<(NodeId, &Server)> {
        let (node, _) = self.last_leader?;
        let server = self.servers.get(node)?;
        server.leading()?;
        Some((node, server))
    }

    fn change_membership(&mut self) {
        let Some((leader, server)) = self.leader() else { return };
        let Some((_, membership)) = server.store.readable().membership() else { return };
        let voters: BTreeSet<NodeId> = membership.voter_ids().collect();
        let learners: Vec<NodeId> = membership.learner_ids().collect();
        let members: Vec<NodeId> = membership.nodes().keys().copied().collect();
        let strangers: Vec<NodeId> = self.servers.ids().filter(|id| !members.contains(id)).collect();
        // Whoever comes back with another disk must be removed before anything else makes sense.
        self.nemesis.wiped = self.nemesis.wiped.filter(|wiped| members.contains(wiped));
        if let Some(wiped) = self.nemesis.wiped {
            let without: BTreeSet<NodeId> = voters.iter().copied().filter(|id| *id != wiped).collect();
            return if voters.contains(&wiped) {
                self.operate(Fault::ChangeVoters, leader, |ticket| Input::ChangeMembership {
                    ticket,
                    voters: without,
                    retain: false,
                })
            } else {
                self.operate(Fault::RemoveLearner, leader, |ticket| Input::RemoveLearners {
                    ticket,
                    ids: BTreeSet::from([wiped]),
                })
            };
        }
        if self.nemesis.rng.one_in(4) {
            self.later(Duration::ZERO, Duration::from_millis(100), Act::CancelChange);
        }
        match self.nemesis.rng.below(8) {
            0 | 1 if !strangers.is_empty() => self.add_learner(leader, &strangers),
            0 if !learners.is_empty() => {
                let ids = self.nemesis.rng.pick(&learners).copied().into_iter().collect();
                self.operate(Fault::RemoveLearner, leader, |ticket| Input::RemoveLearners { ticket, ids });
            }
            2 | 3 if !learners.is_empty() => {
                let ids: BTreeSet<NodeId> = self.nemesis.rng.pick(&learners).copied().into_iter().collect();
                let at_once = self.nemesis.rng.one_in(3);
                let change = if at_once { ChangeMembers::AddVoters(ids) } else { ChangeMembers::Promote(ids) };
                self.change_members(Fault::Promote, leader, change);
            }
            3 | 4 if !strangers.is_empty() => self.replace_node(leader, &members, &strangers),
            5 => self.remove_voter(leader, &voters),
            _ => self.change_voters(leader, &voters, members),
        }
    }

    fn change_members(&mut self, fault: Fault, leader: NodeId, change: ChangeMembers<SimTypes>) {
        let conditions = ChangeConditions::default();
        self.operate(fault, leader, |ticket| Input::ChangeMembers { ticket, change, conditions });
    }

    fn replace_node(&mut self, leader: NodeId, members: &[NodeId], strangers: &[NodeId]) {
        let rng = &mut self.nemesis.rng;
        let (Some(old), Some(new)) = (rng.pick(members).copied(), rng.pick(strangers).copied()) else { return };
        let node = self.name_node(new);
        self.change_members(Fault::ReplaceNode, leader, ChangeMembers::ReplaceNode { old, new, node });
    }

    fn remove_voter(&mut self, leader: NodeId, voters: &BTreeSet<NodeId>) {
        let all: Vec<NodeId> = voters.iter().copied().collect();
        let Some(victim) = self.nemesis.rng.pick(&all).copied().filter(|_| all.len() > 1) else { return };
        let retain = self.nemesis.rng.one_in(2);
        let fault = match (victim == leader, retain) {
            (true, _) => Fault::RemoveLeader,
            (false, true) => Fault::Demote,
            (false, false) => Fault::ChangeVoters,
        };
        let voters = BTreeSet::from([victim]);
        self.change_members(fault, leader, ChangeMembers::RemoveVoters { voters, retain });
    }

    fn add_learner(&mut self, leader: NodeId, strangers: &[NodeId]) {
        let Some(id) = self.nemesis.rng.pick(strangers).copied() else { return };
        let node = self.name_node(id);
        self.operate(Fault::AddLearner, leader, |ticket| Input::AddLearner { ticket, id, node });
    }

    /// What is stored about a new member.
    fn name_node(&self, id: NodeId) -> SimNode {
        match self.servers.get(id) {
            // Where disks get lost, a member is named together with its disk, from the first moment on.
            Some(server) if self.profile.classes.wipes => SimNode::bound(server.incarnation),
            Some(_) | None => SimNode::default(),
        }
    }

    fn change_voters(&mut self, leader: NodeId, before: &BTreeSet<NodeId>, mut members: Vec<NodeId>) {
        self.nemesis.rng.shuffle(&mut members);
        let size = self.nemesis.rng.between(1, members.len() as u64) as usize;
        members.truncate(size);
        let voters: BTreeSet<NodeId> = members.into_iter().collect();
        let retain = self.nemesis.rng.one_in(2);
        let fault = if voters.is_disjoint(before) {
            Fault::ReplaceVoters
        } else if !voters.contains(&leader) {
            Fault::RemoveLeader
        } else if retain && !before.is_subset(&voters) {
            Fault::Demote
        } else {
            Fault::ChangeVoters
        };
        self.operate(fault, leader, |ticket| Input::ChangeMembership { ticket, voters, retain });
    }

    fn elect(&mut self) {
        let node = self.anybody();
        self.ask_to_elect(node);
        if self.nemesis.rng.one_in(3) {
            // Two at once.
            let rival = self.anybody();
            self.later(Duration::ZERO, Duration::from_millis(30), Act::Elect(rival));
        }
    }

    pub(super) fn ask_to_elect(&mut self, node: NodeId) {
        let fault = if self.is_leader(node) { Fault::ForcedElectionLeader } else { Fault::ForcedElection };
        if let Some(server) = self.servers.get(node)
            && server.process.is_some()
        {
            let boot = server.boot;
            self.note_fault(fault, node, String::new);
            self.give(node, boot, Work::Input(Input::Elect));
        }
    }

    pub(super) fn set_clock(&mut self, fault: Fault, node: NodeId, rate: u64) {
        let now = self.now;
        let Some(server) = self.servers.get_mut(node) else { return };
        server.clock.set_rate(now, rate);
        let boot = server.boot;
        // The alarm was set by the old clock.
        self.queue.push(now, Event::Run(node, boot));
        self.note_fault(fault, node, || format!("{rate}"));
    }

    fn transfer(&mut self) {
        let to = self.anybody();
        let Some((leader, _)) = self.leader() else { return };
        self.operate(Fault::Transfer, leader, |ticket| Input::TransferLeader { ticket, to });
    }

    /// Empties a member's disk. One at a time, and only where the committed membership says which disk it means: more
    /// would be more than any protocol bears.
    fn wipe(&mut self) {
        let Some((_, server)) = self.leader() else { return };
        let Some((id, membership)) = server.store.readable().membership().map(|(id, m)| (id, std::sync::Arc::clone(m)))
        else {
            return;
        };
        let committed = id.index <= self.ledger.last_index();
        let voters: Vec<NodeId> = membership.voter_ids().collect();
        let settled = committed && !membership.is_joint() && voters.len() >= 3;
        let stale = self.nemesis.wiped.is_some_and(|wiped| membership.contains(&wiped));
        if !settled || stale {
            return;
        }
        let Some(victim) = self.nemesis.rng.pick(&voters).copied() else { return };
        let bound = membership.node(&victim).and_then(Node::incarnation);
        if bound.is_none() || bound != self.servers.get(victim).map(|server| server.incarnation) {
            return;
        }
        self.note_fault(Fault::Wipe, victim, String::new);
        self.crash(victim, Unsynced::Lost);
        let incarnation = self.mint_incarnation();
        if let Some(server) = self.servers.get_mut(victim) {
            let boot = server.boot;
            let clock = server.clock.clone();
            let former = Some((server.incarnation, server.store.durable().clone()));
            *server = Server { boot, clock, former, ..Server::new(victim, incarnation) };
        }
        self.nemesis.wiped = Some(victim);
        self.later(Duration::ZERO, Duration::from_secs(3), Act::Restart(victim));
    }

    /// Has a snapshot built, or deletes as much of the log as is in one.
    fn purge(&mut self) {
        let node = self.anybody();
        let Some(server) = self.servers.get(node) else { return };
        let Some(process) = &server.process else { return };
        let boot = server.boot;
        if self.nemesis.rng.one_in(2) {
            return self.give(node, boot, Work::Input(Input::BuildSnapshot));
        }
        let purged = process.replica.purged().index_or_zero();
        let kept = server.snapshot.as_ref().map_or(0, |snapshot| snapshot.last_log_id.index);
        if kept > purged {
            let upto = self.nemesis.rng.between(purged + 1, kept + 3);
            self.note_fault(Fault::Purge, node, || format!("up to {upto}"));
            self.give(node, boot, Work::Input(Input::Purge { upto }));
        }
    }

    /// A crash at a moment of the world's choice; the node comes back soon.
    pub(super) fn crash_and_restart(&mut self, node: NodeId) {
        self.crash(node, Unsynced::Prefix);
        self.later(Duration::ZERO, Duration::from_secs(2), Act::Restart(node));
    }
}

pub(super) fn both_ways(left: &[NodeId], right: &[NodeId]) -> Ways {
    left.iter().flat_map(|a| right.iter().flat_map(|b| [(*a, *b), (*b, *a)])).filter(|(a, b)| a != b).collect()
}
