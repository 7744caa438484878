//! What goes wrong between nodes.

use core::time::Duration;

use super::{Deed, Ways};
use crate::node_world::drive::{Drive, Due};
use crate::node_world::workload::Workload;
use crate::world::{Fault, NodeId};

impl<W: Workload> Drive<W> {
    pub(super) fn pair(&mut self) -> (NodeId, NodeId) {
        let all = self.shuffled();
        match all.as_slice() {
            [one, other, ..] => (*one, *other),
            _ => (1, 1),
        }
    }

    pub(super) fn link_trouble(&mut self) {
        let (from, to) = self.pair();
        let rng = &mut self.nemesis.rng;
        let everywhere = rng.one_in(3);
        let loss = [0, 20_000, 200_000][rng.below(3) as usize];
        let duplicate = [0, 50_000, 500_000][rng.below(3) as usize];
        let reorder = rng.one_in(2);
        let long_tail = if rng.one_in(2) { 1_000 } else { 0 };
        let bytes = if rng.one_in(4) { Some(20_000) } else { None };
        let network = &mut self.world.network;
        let profile = if everywhere { network.default_profile_mut() } else { network.profile_mut(from, to) };
        (profile.loss_ppm, profile.duplicate_ppm) = (loss, duplicate);
        (profile.reorder, profile.long_tail_ppm, profile.bytes_per_second) = (reorder, long_tail, bytes);
        let pairs = if everywhere { both_ways(&self.shuffled(), &self.shuffled()) } else { vec![(from, to)] };
        for (from, to) in pairs {
            self.tell(|| format!("loss {from} -> {to} {}%", loss / 10_000));
            self.tell(|| format!("duplicate {from} -> {to} {}%", duplicate / 10_000));
            self.tell(|| format!("reorder {from} -> {to} {}", if reorder { "on" } else { "off" }));
        }
        self.note(from, "LINKS", u64::from(loss), || {
            format!("to n{to}, everywhere {everywhere}: lost {loss} ppm, doubled {duplicate} ppm, reorder {reorder}")
        });
        let back = if everywhere { Deed::UsualNetwork } else { Deed::Normalize(vec![(from, to)]) };
        self.soon(200, 20_000, back);
    }

    pub(super) fn slow_network(&mut self) {
        let slowest = self.nemesis.rng.between(5, 400);
        self.world.network.default_profile_mut().delay_max = Duration::from_millis(slowest);
        self.fault(Fault::SlowNetwork, 0, || format!("up to {slowest} ms"));
        for (from, to) in both_ways(&self.shuffled(), &self.shuffled()) {
            self.tell(|| format!("delay {from} -> {to} {}ms", slowest / 2));
        }
        self.soon(200, 10_000, Deed::UsualNetwork);
    }

    pub(super) fn reset_connection(&mut self) {
        let (from, to) = self.pair();
        self.world.network.reset(from, to);
        self.world.network.reset(to, from);
        self.fault(Fault::Reset, from, || format!("with n{to}"));
    }

    pub(super) fn cut(&mut self, ways: &Ways) {
        for (from, to) in ways {
            self.world.network.cut(*from, *to);
            self.tell(|| format!("cut {from} -> {to}"));
        }
    }

    fn cut_for(&mut self, fault: Fault, node: NodeId, ways: Ways) {
        let long = self.nemesis.rng.one_in(8);
        let (low, high) = if long { (10_000, 30_000) } else { (0, 6_000) };
        if long {
            self.world.faults.hit(Fault::LongPartition);
        }
        self.fault(fault, node, || format!("{ways:?}"));
        self.cut(&ways);
        self.soon(low, high, Deed::Mend(ways));
    }

    pub(super) fn isolate(&mut self) {
        let node = self.anybody();
        let ways = both_ways(&[node], &self.others(node));
        let fault = if self.is_leader(node) { Fault::IsolateLeader } else { Fault::Isolate };
        self.cut_for(fault, node, ways);
    }

    pub(super) fn split(&mut self) {
        let all = self.shuffled();
        let at = self.nemesis.rng.between(1, all.len() as u64) as usize;
        let (left, right) = all.split_at(at.min(all.len()));
        let ways = both_ways(left, right);
        self.cut_for(Fault::Split, 0, ways);
    }

    pub(super) fn one_way(&mut self) {
        let (from, to) = self.pair();
        self.cut_for(Fault::OneWay, from, vec![(from, to)]);
    }

    pub(super) fn deaf_or_mute(&mut self) {
        let node = self.anybody();
        let others = self.others(node);
        if self.nemesis.rng.one_in(2) {
            self.cut_for(Fault::Deaf, node, others.into_iter().map(|other| (other, node)).collect());
        } else {
            self.cut_for(Fault::Mute, node, others.into_iter().map(|other| (node, other)).collect());
        }
    }

    /// A bridge, a ring or a chain: everybody reaches somebody and nobody everybody.
    pub(super) fn topology(&mut self) {
        let all = self.shuffled();
        let size = all.len();
        let shape = self.nemesis.rng.below(3);
        let fault = [Fault::Ring, Fault::Chain, Fault::Bridge][shape as usize];
        let near = |a: usize, b: usize| match fault {
            Fault::Ring => a.abs_diff(b) <= 1 || a.abs_diff(b) == size - 1,
            Fault::Chain => a.abs_diff(b) <= 1,
            // The middle one reaches both halves.
            _ => (a <= size / 2 && b <= size / 2) || (a >= size / 2 && b >= size / 2),
        };
        let places = || all.iter().enumerate();
        let ways: Ways = places()
            .flat_map(|(a, from)| places().filter(move |(b, _)| !near(a, *b)).map(move |(_, to)| (*from, *to)))
            .collect();
        self.cut_for(fault, 0, ways);
    }

    pub(super) fn flap(&mut self) {
        let (a, b) = self.pair();
        let ways = both_ways(&[a], &[b]);
        let period = self.nemesis.rng.between(50, 1_000);
        self.fault(Fault::Flap, a, || format!("to n{b} every {period} ms"));
        for round in 0..6 {
            let deed = if round % 2 == 0 { Deed::Cut(ways.clone()) } else { Deed::Mend(ways.clone()) };
            self.later(Duration::from_millis(period * round), Due::Deed(deed));
        }
    }

    pub(super) fn swizzle(&mut self) {
        self.fault(Fault::Swizzle, 0, String::new);
        for node in self.shuffled() {
            let ways = both_ways(&[node], &self.others(node));
            let cut_at = self.nemesis.rng.between(0, 2_000);
            let mend_at = cut_at + self.nemesis.rng.between(100, 4_000);
            self.later(Duration::from_millis(cut_at), Due::Deed(Deed::Cut(ways.clone())));
            self.later(Duration::from_millis(mend_at), Due::Deed(Deed::Mend(ways)));
        }
    }
}

pub(super) fn both_ways(left: &[NodeId], right: &[NodeId]) -> Ways {
    left.iter().flat_map(|a| right.iter().flat_map(|b| [(*a, *b), (*b, *a)])).filter(|(a, b)| a != b).collect()
}
