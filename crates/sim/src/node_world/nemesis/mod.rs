//! What goes wrong with whole nodes, and when it is right again.
//!
//! At each tick one fault begins, of a class that the profile allows. Each tick draws from a stream of chance of its own,
//! so that a run that leaves some faults out still has the others as they were. Victims are not chosen so that a quorum
//! stays: a power cut asks nobody.

mod cluster;
mod links;
mod machines;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use raftwright_wal::testing::Loss;

use super::drive::{Drive, Due};
use super::workload::Workload;
use crate::core_world::profile::Classes;
use crate::world::clock::RATE_RIGHT_PPM;
use crate::world::{Fault, NodeId, Rng, SimTime};

/// Directed links.
pub(super) type Ways = Vec<(NodeId, NodeId)>;

/// Something that is done to the world.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Deed {
    /// The next fault begins.
    Tick,
    Mend(Ways),
    Cut(Ways),
    Normalize(Ways),
    UsualNetwork,
    Start(NodeId),
    Kill(NodeId, Option<Loss>),
    Resume(NodeId),
    RightClock(NodeId),
    RightDisk(NodeId),
    /// The change of the membership that is under way is taken back, if one is.
    CancelChange,
}

/// A byte that was flipped.
#[derive(Debug, Clone)]
pub(super) struct Flipped {
    pub(super) path: PathBuf,
    pub(super) offset: u64,
    pub(super) mask: u8,
    /// What is there since.
    pub(super) is: u8,
}

/// The state of what goes wrong.
#[derive(Debug)]
pub(super) struct Nemesis {
    /// For the moments of ticks alone.
    pace: Rng,
    seed: u64,
    ticks: u64,
    rng: Rng,
    /// Whether faults go on.
    pub(super) active: bool,
    /// A member whose disk was emptied and that the membership has not replaced yet.
    pub(super) wiped: Option<NodeId>,
    pub(super) paused: BTreeSet<NodeId>,
    /// The flipped byte of a node that has not refused it yet.
    pub(super) flipped: BTreeMap<NodeId, Flipped>,
    /// Nodes whose disk may fail at any time.
    pub(super) troubled: BTreeSet<NodeId>,
    /// Nodes that stay down for ever.
    pub(super) lost: BTreeSet<NodeId>,
    /// What was done, in the language of scenario files.
    script: Vec<(SimTime, String)>,
    /// Whether that is kept.
    scripted: bool,
}

impl Nemesis {
    pub(super) fn new(mut rng: Rng, scripted: bool) -> Self {
        Self {
            pace: rng.fork(1),
            seed: rng.next_u64(),
            ticks: 0,
            rng,
            active: false,
            wiped: None,
            paused: BTreeSet::new(),
            flipped: BTreeMap::new(),
            troubled: BTreeSet::new(),
            lost: BTreeSet::new(),
            script: Vec::new(),
            scripted,
        }
    }
}

/// A kind of fault that a tick may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    LinkTrouble,
    SlowNetwork,
    Reset,
    Isolate,
    Split,
    OneWay,
    DeafOrMute,
    Topology,
    Flap,
    Swizzle,
    Crash,
    CrashAtAwait,
    CrashInWrite,
    CrashQuorum,
    CrashLoop,
    PowerLoss,
    PowerLossAll,
    Pause,
    Clock,
    SlowDisk,
    HungFlush,
    FailingDisk,
    FullDisk,
    BitFlip,
    Membership,
    Elect,
    Transfer,
    Wipe,
    Burst,
    Snapshot,
    Purge,
}

fn kinds(classes: &Classes) -> Vec<Kind> {
    use Kind::*;
    let groups: [(bool, &[Kind]); 12] = [
        (classes.links, &[LinkTrouble, SlowNetwork, Reset]),
        (classes.partitions, &[Isolate, Split, OneWay, DeafOrMute, Topology, Flap, Swizzle]),
        (classes.crashes, &[Crash, CrashAtAwait, CrashAtAwait, CrashQuorum, CrashLoop]),
        (classes.power, &[PowerLoss, PowerLoss, PowerLossAll, CrashInWrite, CrashInWrite]),
        (classes.pauses, &[Pause]),
        (classes.clocks, &[Clock]),
        (classes.disks, &[SlowDisk, HungFlush, FailingDisk, FailingDisk, FullDisk, BitFlip]),
        (classes.membership, &[Membership, Membership, Membership, Membership]),
        (classes.elections, &[Elect, Transfer, Transfer]),
        (classes.wipes, &[Wipe]),
        (classes.bursts, &[Burst]),
        (classes.purges, &[Snapshot, Purge]),
    ];
    groups.iter().filter(|(on, _)| *on).flat_map(|(_, kinds)| kinds.iter().copied()).collect()
}

impl<W: Workload> Drive<W> {
    pub(super) fn start_nemesis(&mut self) {
        self.nemesis.active = true;
        self.schedule_tick();
    }

    fn schedule_tick(&mut self) {
        let (low, high) = self.profile.fault_every;
        let after = self.nemesis.pace.duration(low, high);
        self.later(after, Due::Deed(Deed::Tick));
    }

    /// Does something to the world.
    pub(super) fn commit_deed(&mut self, deed: Deed) {
        match deed {
            Deed::Tick => self.tick(),
            // What was planned before the end of all faults does not happen after it.
            Deed::Mend(_) | Deed::Cut(_) | Deed::Kill(..) | Deed::Normalize(_) | Deed::CancelChange
                if !self.nemesis.active => {}
            Deed::CancelChange => self.cancel_change(),
            Deed::Mend(ways) => {
                for (from, to) in ways {
                    self.world.network.mend(from, to);
                    if self.world.network.is_open(from, to) {
                        self.tell(|| format!("heal {from} -> {to}"));
                    }
                }
            }
            Deed::Cut(ways) => self.cut(&ways),
            Deed::Normalize(ways) => ways.iter().for_each(|(from, to)| self.world.network.normalize(*from, *to)),
            Deed::UsualNetwork => *self.world.network.default_profile_mut() = crate::world::LinkProfile::default(),
            Deed::Start(node) => self.start_node(node),
            Deed::Kill(node, loss) => {
                self.kill_node(node, loss);
            }
            Deed::Resume(node) => {
                if self.nemesis.paused.remove(&node) {
                    self.world.executor.resume_node(node);
                    self.note(node, "RESUME", 0, String::new);
                    self.tell(|| format!("resume {node}"));
                }
            }
            Deed::RightClock(node) => {
                self.world.executor.change_clock(node, |clock, now| clock.set_rate(now, RATE_RIGHT_PPM));
                self.tell(|| format!("clock {node} rate 1.0"));
            }
            Deed::RightDisk(node) => {
                if let Some(node) = self.world.nodes.get_mut(&node) {
                    (node.hung, node.slowness) = (false, 1);
                }
                if let Some(disk) = self.world.disk(node) {
                    disk.mend();
                }
                // Whoever is paused may not have heard yet what its disk has failed to do, and stops for that when it goes on.
                if !self.nemesis.paused.contains(&node) {
                    self.nemesis.troubled.remove(&node);
                }
                self.tell(|| format!("disk {node} ok"));
            }
        }
    }

    fn tick(&mut self) {
        if !self.nemesis.active {
            return;
        }
        self.nemesis.ticks += 1;
        let tick = self.nemesis.ticks;
        self.nemesis.rng = Rng::new(self.nemesis.seed).fork(tick);
        let possible = kinds(&self.profile.classes);
        if let Some(kind) = self.nemesis.rng.pick(&possible).copied()
            && !self.omit.faults.contains(&tick)
        {
            self.begin_fault(kind);
        }
        self.schedule_tick();
    }

    /// How many faults had their moment.
    pub fn ticks(&self) -> u64 {
        self.nemesis.ticks
    }

    /// What was done to the world, in the language of scenario files, with the moments.
    pub fn script(&self) -> &[(SimTime, String)] {
        &self.nemesis.script
    }

    fn begin_fault(&mut self, kind: Kind) {
        match kind {
            Kind::LinkTrouble => self.link_trouble(),
            Kind::SlowNetwork => self.slow_network(),
            Kind::Reset => self.reset_connection(),
            Kind::Isolate => self.isolate(),
            Kind::Split => self.split(),
            Kind::OneWay => self.one_way(),
            Kind::DeafOrMute => self.deaf_or_mute(),
            Kind::Topology => self.topology(),
            Kind::Flap => self.flap(),
            Kind::Swizzle => self.swizzle(),
            Kind::Crash => self.crash_one(),
            Kind::CrashAtAwait => self.crash_at_await(),
            Kind::CrashInWrite => self.crash_in_write(),
            Kind::CrashQuorum => self.crash_quorum(),
            Kind::CrashLoop => self.crash_loop(),
            Kind::PowerLoss => self.power_loss(),
            Kind::PowerLossAll => self.power_loss_all(),
            Kind::Pause => self.pause(),
            Kind::Clock => self.wrong_clock(),
            Kind::SlowDisk => self.slow_disk(),
            Kind::HungFlush => self.hung_flush(),
            Kind::FailingDisk => self.failing_disk(),
            Kind::FullDisk => self.full_disk(),
            Kind::BitFlip => self.bit_flip(),
            Kind::Membership => self.change_membership(),
            Kind::Elect => self.elect(),
            Kind::Transfer => self.transfer(),
            Kind::Wipe => self.wipe(),
            Kind::Burst => self.burst_of_writes(),
            Kind::Snapshot => self.snapshot(),
            Kind::Purge => self.purge(),
        }
    }

    fn fault(&mut self, fault: Fault, node: NodeId, text: impl FnOnce() -> String) {
        self.world.faults.hit(fault);
        self.note(node, "FAULT", fault as u64, || format!("{fault} {}", text()));
    }

    pub(super) fn tell(&mut self, line: impl FnOnce() -> String) {
        if self.nemesis.scripted {
            let at = self.now();
            self.nemesis.script.push((at, line()));
        }
    }

    fn soon(&mut self, low: u64, high: u64, deed: Deed) {
        let after = self.nemesis.rng.duration(Duration::from_millis(low), Duration::from_millis(high));
        self.later(after, Due::Deed(deed));
    }

    pub(super) fn nemesis_is_scripted(&self) -> bool {
        self.nemesis.scripted
    }

    fn leader_now(&self) -> Option<NodeId> {
        let (node, term) = self.world.judge().last_leader()?;
        let leads = self.world.look(node, |metrics| {
            metrics.state == raftwright_node::ServerState::Leader && metrics.current_term == term
        });
        leads.unwrap_or(false).then_some(node)
    }

    fn is_leader(&self, node: NodeId) -> bool {
        self.leader_now() == Some(node)
    }

    fn anybody(&mut self) -> NodeId {
        let last = self.ids().count() as u64;
        let random = self.nemesis.rng.between(1, last);
        let at_leader = self.nemesis.rng.one_in(3);
        // The leader is the most interesting victim.
        self.leader_now().filter(|_| at_leader).unwrap_or(random)
    }

    fn shuffled(&mut self) -> Vec<NodeId> {
        let mut all: Vec<NodeId> = self.ids().collect();
        self.nemesis.rng.shuffle(&mut all);
        all
    }

    fn others(&self, node: NodeId) -> Vec<NodeId> {
        self.ids().filter(|other| *other != node).collect()
    }

    /// The end of all faults, but for nodes that are lost for ever.
    pub fn heal_world(&mut self) {
        self.nemesis.active = false;
        self.world.network.heal_all();
        self.commit_deed(Deed::UsualNetwork);
        self.note(0, "HEAL", 0, String::new);
        self.tell(|| "heal".to_owned());
        for node in self.ids() {
            self.world.executor.undoom(node);
            self.commit_deed(Deed::RightDisk(node));
            self.commit_deed(Deed::RightClock(node));
            self.commit_deed(Deed::Resume(node));
            self.commit_deed(Deed::Start(node));
        }
    }
}
