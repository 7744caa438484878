//! Faults that come together where a lease could be wrong (Thesis §6.4.1). Each alone happens often, and together by chance nearly
//! never: a lease is wrong for some milliseconds, and only if somebody is elected in them.

use core::time::Duration;

use raftwright_core::Input;

use super::cluster::Cluster;
use super::nemesis::{Act, LEASE_RATES, both_ways};
use super::store::Unsynced;
use crate::world::{Fault, NodeId};

/// How long a trap holds.
const HOLDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl Cluster {
    /// Somebody wants to be elected as soon as the promises to a leader are over, and the leader does not hear of it.
    pub(super) fn trap_lease(&mut self) {
        let Some((leader, _)) = self.leader() else { return };
        let others = self.others(leader);
        let Some(rival) = self.nemesis.rng.pick(&others).copied() else { return };
        match self.nemesis.rng.below(3) {
            0 => self.trap_slow_leader(leader, &others),
            1 => return self.trap_transfer(leader, rival, &others),
            _ => self.trap_forgetful_voters(&others),
        }
        self.cut_for(Fault::IsolateLeader, leader, both_ways(&[leader], &others));
        self.later(Duration::ZERO, ms(50), Act::Elect(rival));
    }

    /// The leader's clock is slow and all others are fast, by as much as leases allow for.
    fn trap_slow_leader(&mut self, leader: NodeId, others: &[NodeId]) {
        self.set_clock(Fault::ClockSlow, leader, LEASE_RATES.0);
        others.iter().for_each(|node| self.set_clock(Fault::ClockFast, *node, LEASE_RATES.1));
        for node in self.servers.ids() {
            self.later(HOLDS.0, HOLDS.1, Act::RightClock(node));
        }
    }

    /// The leader hands over, and is cut off when it has said so.
    fn trap_transfer(&mut self, leader: NodeId, rival: NodeId, others: &[NodeId]) {
        self.operate(Fault::Transfer, leader, |ticket| Input::TransferLeader { ticket, to: rival });
        let ways = both_ways(&[leader], others);
        self.later(ms(0), ms(4), Act::Cut(ways.clone()));
        self.later(HOLDS.0, HOLDS.1, Act::Mend(ways));
    }

    /// All others die, and are back before their promises are over.
    fn trap_forgetful_voters(&mut self, others: &[NodeId]) {
        for node in others {
            if self.servers.get(*node).is_some_and(|server| server.process.is_some()) {
                self.note_fault(Fault::CrashQuorum, *node, String::new);
                self.crash(*node, Unsynced::Kept);
                self.later(Duration::ZERO, ms(20), Act::Restart(*node));
            }
        }
    }

    /// A leader is cut off in the moment of its election, and another server wants the next one: who has voted has promised
    /// nothing yet.
    pub(super) fn trap_new_leader(&mut self, leader: NodeId) {
        let traps = self.profile.lease_reads && self.profile.classes.partitions && self.profile.classes.elections;
        if !traps || !self.nemesis.active || !self.nemesis.rng.one_in(4) {
            return;
        }
        let others = self.others(leader);
        let Some(rival) = self.nemesis.rng.pick(&others).copied() else { return };
        self.cut_for(Fault::IsolateLeader, leader, both_ways(&[leader], &others));
        self.later(Duration::ZERO, ms(20), Act::Elect(rival));
    }
}
