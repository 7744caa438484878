//! What goes wrong with processes, clocks and disks.

use core::time::Duration;

use raftwright_wal::testing::{Loss, SimDisk};

use super::{Deed, Flipped};
use crate::node_world::drive::{Drive, Due};
use crate::node_world::workload::Workload;
use crate::world::{Fault, NodeId};

impl<W: Workload> Drive<W> {
    fn some_loss(&mut self) -> Loss {
        Loss::ALL[self.nemesis.rng.below(Loss::ALL.len() as u64) as usize]
    }

    pub(super) fn is_up(&self, node: NodeId) -> bool {
        self.world.running(node).is_some()
    }

    /// A process dies; with a loss, its machine with it.
    pub(in crate::node_world) fn kill_node(&mut self, node: NodeId, loss: Option<Loss>) -> bool {
        if !self.is_up(node) {
            return false;
        }
        if self.is_leader(node) {
            self.world.faults.hit(Fault::CrashLeader);
            if self.world.look(node, |metrics| metrics.membership_config.membership.is_joint()).unwrap_or(false) {
                self.world.faults.hit(Fault::CrashInJoint);
            }
        }
        self.count_loss(loss);
        self.tell(|| match loss {
            None => format!("crash {node}"),
            Some(_) => format!("powerloss {node}"),
        });
        self.nemesis.paused.remove(&node);
        self.world.kill(node, loss);
        true
    }

    fn count_loss(&mut self, loss: Option<Loss>) {
        match loss {
            Some(Loss::Sectors) => self.world.faults.hit(Fault::TornSectors),
            Some(Loss::Everything) => self.world.faults.hit(Fault::UnsyncedLost),
            Some(Loss::Prefix) => self.world.faults.hit(Fault::UnsyncedPrefix),
            Some(Loss::Nothing) => self.world.faults.hit(Fault::UnsyncedKept),
            None => {}
        }
    }

    /// A process starts, unless it runs or is lost for ever. A refusal needs a reason.
    pub(super) fn start_node(&mut self, node: NodeId) {
        if self.is_up(node) || self.nemesis.lost.contains(&node) {
            return;
        }
        let started = self.world.start(node);
        for outcome in self.world.judge_mut().take_resumed() {
            if outcome.under_way > 0 {
                self.world.faults.hit(Fault::CrashMidWrite);
            }
            if outcome.torn {
                self.world.faults.hit(Fault::Torn);
            }
        }
        match started {
            Ok(()) => self.tell(|| format!("restart {node}")),
            Err(why) => self.explain_refusal(node, &why),
        }
    }

    fn explain_refusal(&mut self, node: NodeId, why: &str) {
        if self.world.nodes.get(&node).is_some_and(|node| node.refused.is_none()) {
            // The machine went down again. Who looks after the fallen starts it once more.
            return self.fault(Fault::CrashInOpen, node, String::new);
        }
        if self.unflip(node) || self.nemesis.troubled.contains(&node) {
            self.note(node, "refuses", 0, || why.to_owned());
            if !self.nemesis.active {
                self.commit_deed(Deed::RightDisk(node));
            }
            return self.later(Duration::from_millis(300), Due::Deed(Deed::Start(node)));
        }
        self.fail("a node starts from its disk", "Raft §5.1", format!("node {node} does not start: {why}"));
    }

    /// Puts the flipped byte of a node back, as from a copy, if it is still there. Answers whether it had one.
    fn unflip(&mut self, node: NodeId) -> bool {
        let Some(Flipped { path, offset, mask, is }) = self.nemesis.flipped.remove(&node) else { return false };
        let Some(disk) = self.world.disk(node) else { return true };
        let there = disk.durable_content(&path).and_then(|content| content.get(offset as usize).copied());
        if there == Some(is) {
            disk.flip(&path, offset, mask);
        }
        self.fault(Fault::BitFlipRefused, node, || format!("{} at {offset}", path.display()));
        true
    }

    /// Whoever died or stopped by itself is started again.
    pub(in crate::node_world) fn attend_the_fallen(&mut self) {
        for node in self.world.take_fallen() {
            self.nemesis.paused.remove(&node);
            self.note(node, "FELL", 0, String::new);
            self.tell(|| format!("powerloss {node}"));
            self.soon(0, 3_000, Deed::Start(node));
        }
        for (node, why) in self.world.take_stopped() {
            let flipped = self.unflip(node);
            if !flipped && !self.nemesis.troubled.contains(&node) {
                return self.fail("a node stops only for a reason", "fault model D3", format!("node {node}: {why}"));
            }
            self.world.kill(node, None);
            self.tell(|| format!("crash {node}"));
            if !self.nemesis.active {
                self.commit_deed(Deed::RightDisk(node));
            }
            self.soon(10, 3_000, Deed::Start(node));
        }
    }

    // ---- processes ----

    pub(super) fn crash_one(&mut self) {
        let node = self.anybody();
        if self.is_up(node) {
            self.fault(Fault::Crash, node, String::new);
            self.kill_node(node, None);
            self.soon(0, 8_000, Deed::Start(node));
        }
    }

    /// The process dies at whatever await one of its next polls ends.
    pub(super) fn crash_at_await(&mut self) {
        let node = self.anybody();
        let polls = self.nemesis.rng.between(1, 200);
        let loss = if self.nemesis.rng.one_in(2) { Some(self.some_loss()) } else { None };
        if self.is_up(node) {
            self.fault(Fault::CrashAtAwait, node, || format!("after {polls} polls, {loss:?}"));
            self.count_loss(loss);
            self.world.doom(node, polls, loss);
        }
    }

    /// The machine goes down in the middle of one of its next writes, flushes or renames, perhaps only when it opens its
    /// log again.
    pub(super) fn crash_in_write(&mut self) {
        let node = self.anybody();
        let step = self.nemesis.rng.below(30);
        let restart = self.nemesis.rng.one_in(2);
        if !self.is_up(node) {
            return;
        }
        self.fault(Fault::CrashInWrite, node, || format!("at its step {step}, with restart {restart}"));
        if restart {
            let loss = self.some_loss();
            self.kill_node(node, Some(loss));
            self.soon(0, 1_000, Deed::Start(node));
        }
        if let Some(disk) = self.world.disk(node) {
            disk.crash_at(step);
        }
    }

    pub(super) fn crash_quorum(&mut self) {
        let mut all = self.shuffled();
        all.truncate(all.len() / 2 + 1);
        let power = self.nemesis.rng.one_in(2);
        for node in all {
            let loss = if power { Some(self.some_loss()) } else { None };
            if self.kill_node(node, loss) {
                self.fault(Fault::CrashQuorum, node, String::new);
                self.soon(0, 5_000, Deed::Start(node));
            }
        }
    }

    /// Down and up again, faster than an election takes.
    pub(super) fn crash_loop(&mut self) {
        let node = self.anybody();
        let loss = Some(self.some_loss());
        if !self.kill_node(node, loss) {
            return;
        }
        self.fault(Fault::CrashLoop, node, String::new);
        let mut at = 0;
        for round in 0..self.nemesis.rng.between(2, 6) {
            at += self.nemesis.rng.between(0, 200);
            self.later(Duration::from_millis(at), Due::Deed(Deed::Start(node)));
            at += self.nemesis.rng.between(0, 100);
            let loss = Some(self.some_loss());
            self.later(Duration::from_millis(at), Due::Deed(Deed::Kill(node, loss)));
            if round > 0 {
                self.world.faults.hit(Fault::CrashInRecovery);
            }
        }
        self.later(Duration::from_millis(at + 50), Due::Deed(Deed::Start(node)));
    }

    pub(super) fn power_loss(&mut self) {
        let node = self.anybody();
        let loss = self.some_loss();
        if self.kill_node(node, Some(loss)) {
            self.fault(Fault::PowerLoss, node, || format!("{loss:?}"));
            self.soon(0, 5_000, Deed::Start(node));
        }
    }

    pub(super) fn power_loss_all(&mut self) {
        self.fault(Fault::PowerLossAll, 0, String::new);
        for node in self.ids() {
            let loss = self.some_loss();
            if self.kill_node(node, Some(loss)) {
                self.soon(0, 2_000, Deed::Start(node));
            }
        }
    }

    pub(super) fn pause(&mut self) {
        let node = self.anybody();
        let long = self.nemesis.rng.one_in(5);
        let millis = if long { self.nemesis.rng.between(2_000, 30_000) } else { self.nemesis.rng.between(20, 2_000) };
        if !self.is_up(node) || !self.nemesis.paused.insert(node) {
            return;
        }
        if long {
            self.world.faults.hit(Fault::LongPause);
        }
        let fault = if self.is_leader(node) { Fault::PauseLeader } else { Fault::Pause };
        self.fault(fault, node, || format!("for {millis} ms"));
        self.tell(|| format!("pause {node}"));
        self.world.executor.pause_node(node);
        self.later(Duration::from_millis(millis), Due::Deed(Deed::Resume(node)));
    }

    pub(super) fn wrong_clock(&mut self) {
        let node = self.anybody();
        let rng = &mut self.nemesis.rng;
        let (fault, rate, jump) = match rng.below(3) {
            0 => (Fault::ClockFast, Some(rng.between(1_010_000, 1_500_000)), None),
            1 => (Fault::ClockSlow, Some(rng.between(500_000, 990_000)), None),
            _ => (Fault::ClockJump, None, Some(Duration::from_millis(rng.between(10, 10_000)))),
        };
        // Leases allow for a tenth between any two clocks, half of it on either side of what is right, and for no jumps.
        let leases = self.profile.lease_reads;
        if leases && jump.is_some() {
            return;
        }
        let rate = rate.map(|rate| if leases { rate.clamp(955_000, 1_045_000) } else { rate });
        self.world.executor.change_clock(node, |clock, now| {
            rate.iter().for_each(|rate| clock.set_rate(now, *rate));
            jump.iter().for_each(|ahead| clock.jump(now, *ahead));
        });
        self.fault(fault, node, || format!("{rate:?} {jump:?}"));
        if let Some(rate) = rate {
            self.tell(|| format!("clock {node} rate {}.{:06}", rate / 1_000_000, rate % 1_000_000));
        }
        if let Some(jump) = jump {
            self.tell(|| format!("clock {node} jump {}ms", jump.as_millis()));
        }
        self.soon(1_000, 30_000, Deed::RightClock(node));
    }

    // ---- disks ----

    pub(super) fn slow_disk(&mut self) {
        let node = self.anybody();
        let slowness = self.nemesis.rng.between(2, 100) as u32;
        if let Some(node) = self.world.nodes.get_mut(&node) {
            node.slowness = slowness;
        }
        self.fault(Fault::SlowDisk, node, || format!("{slowness} times"));
        self.soon(100, 5_000, Deed::RightDisk(node));
    }

    pub(super) fn hung_flush(&mut self) {
        let node = self.anybody();
        if let Some(node) = self.world.nodes.get_mut(&node) {
            node.hung = true;
        }
        self.fault(Fault::HungFlush, node, String::new);
        self.tell(|| format!("disk {node} hang"));
        self.soon(100, 10_000, Deed::RightDisk(node));
    }

    /// A flush, a write or a change of names fails. The node stops: what was not synced may or may not be there
    /// afterwards.
    pub(super) fn failing_disk(&mut self) {
        let node = self.anybody();
        let which = self.nemesis.rng.below(4);
        let kind = self.nemesis.rng.below(3);
        let Some(disk) = self.world.disk(node) else { return };
        let fault = match kind {
            0 => {
                disk.fail_sync(which);
                Fault::FlushFails
            }
            1 => {
                disk.fail_write(which);
                Fault::WriteFails
            }
            _ => {
                disk.fail_names(1 + which);
                Fault::NamesFail
            }
        };
        self.nemesis.troubled.insert(node);
        self.fault(fault, node, || format!("the one after {which}"));
        if fault == Fault::FlushFails {
            self.tell(|| format!("disk {node} fail"));
        }
        self.soon(1_000, 10_000, Deed::RightDisk(node));
    }

    pub(super) fn full_disk(&mut self) {
        let node = self.anybody();
        let room = self.nemesis.rng.below(4_000);
        let Some(disk) = self.world.disk(node) else { return };
        let used: u64 =
            disk.files().iter().filter_map(|path| disk.content(path)).map(|content| content.len() as u64).sum();
        disk.set_capacity(Some(used + room));
        self.nemesis.troubled.insert(node);
        self.fault(Fault::DiskFull, node, || format!("{room} bytes are left"));
        self.tell(|| format!("disk {node} full"));
        self.soon(500, 8_000, Deed::RightDisk(node));
    }

    /// Flips a byte on the disk of a node that goes down for it. The node must repair it, refuse it, or not need it: what
    /// it has promised stays promised. One node at a time, since two copies of one entry may be all there are.
    pub(super) fn bit_flip(&mut self) {
        let node = self.anybody();
        let (place, at, bit) = (self.nemesis.rng.next_u64(), self.nemesis.rng.next_u64(), self.nemesis.rng.below(8));
        if !self.nemesis.flipped.is_empty() || !self.is_up(node) {
            return;
        }
        self.kill_node(node, Some(Loss::Everything));
        self.soon(0, 2_000, Deed::Start(node));
        let Some(flipped) = self.world.disk(node).and_then(|disk| flip_somewhere(disk, place, at, 1 << bit)) else {
            return;
        };
        self.fault(Fault::BitFlip, node, || format!("{} at {}", flipped.path.display(), flipped.offset));
        self.nemesis.flipped.insert(node, flipped);
    }
}

/// Flips a byte that was written: one in the unwritten rest of a file tells nothing.
fn flip_somewhere(disk: &SimDisk, place: u64, at: u64, mask: u8) -> Option<Flipped> {
    let files = disk.files();
    let path = files.get(usize::try_from(place).ok()? % files.len().max(1))?.clone();
    let content = disk.durable_content(&path)?;
    let end = content.iter().rposition(|byte| *byte != 0)? as u64 + 1;
    let offset = at % end;
    let is = content.get(usize::try_from(offset).ok()?)? ^ mask;
    disk.flip(&path, offset, mask).then_some(Flipped { path, offset, mask, is })
}
