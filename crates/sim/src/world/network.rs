//! The simulated network, as a plain machine: a message goes in, its fate comes out.
//!
//! Each direction of each pair of nodes is a link of its own. On a link without reordering, messages of one lane arrive
//! in the order in which they were sent, as over one connection. A message is checked twice against cuts: when it is
//! sent and, by [`Network::arrives`], when it would arrive, because a cut also swallows what is under way.

use core::time::Duration;
use std::collections::BTreeMap;

use super::NodeId;
use super::clock::SimTime;
use super::fault::{Fault, FaultLog};
use super::rng::{Rng, nanos};

/// A connection of a link: messages of different lanes do not wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Votes and heartbeats.
    Control,
    /// Entries.
    Bulk,
    /// Snapshots.
    Snapshot,
}

/// How a link treats what is sent over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkProfile {
    /// The shortest way from end to end.
    pub delay_min: Duration,
    /// The longest usual one; delays are evenly spread between the two.
    pub delay_max: Duration,
    /// Messages in a million that take a hundred times as long.
    pub long_tail_ppm: u32,
    /// Messages in a million that are lost.
    pub loss_ppm: u32,
    /// Messages in a million that arrive twice.
    pub duplicate_ppm: u32,
    /// Whether a message may overtake another one of its lane.
    pub reorder: bool,
    /// How many bytes a second fit through, if there is a limit.
    pub bytes_per_second: Option<u64>,
}

impl Default for LinkProfile {
    /// A good local network: 0.2 to 0.8 ms, nothing lost.
    fn default() -> Self {
        Self {
            delay_min: Duration::from_micros(200),
            delay_max: Duration::from_micros(800),
            long_tail_ppm: 0,
            loss_ppm: 0,
            duplicate_ppm: 0,
            reorder: false,
            bytes_per_second: None,
        }
    }
}

/// One message under way, without its content. Whoever carries the content keeps this beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parcel {
    /// The sender.
    pub from: NodeId,
    /// The receiver.
    pub to: NodeId,
    /// When it arrives, unless the way is cut by then.
    pub at: SimTime,
    /// The connection that carries it; see [`Network::reset`].
    connection: u64,
}

/// What becomes of a message that is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It does not leave: the way is cut. A real sender would see its connection fail.
    Cut,
    /// It is lost on its way.
    Lost,
    /// It is under way, perhaps with a copy.
    Sent {
        /// The message.
        first: Parcel,
        /// Its copy.
        copy: Option<Parcel>,
    },
}

#[derive(Debug, Clone, Default)]
struct Link {
    profile: Option<LinkProfile>,
    /// How many reasons there are not to let anything through: cuts may overlap and end one by one.
    cuts: u32,
    connection: u64,
    /// When the latest message of each lane arrives.
    last: [SimTime; 3],
    /// When the link has sent all bytes that it was given, if it has a limit.
    free_at: SimTime,
}

/// All links of a world.
#[derive(Debug, Clone)]
pub struct Network {
    links: BTreeMap<(NodeId, NodeId), Link>,
    profile: LinkProfile,
    rng: Rng,
}

impl Network {
    /// A network in which each link is like `profile` until it is told otherwise.
    pub fn new(profile: LinkProfile, rng: Rng) -> Self {
        Self { links: BTreeMap::new(), profile, rng }
    }

    /// The treatment that links without one of their own give.
    pub fn default_profile_mut(&mut self) -> &mut LinkProfile {
        &mut self.profile
    }

    /// One direction's treatment, to be changed.
    pub fn profile_mut(&mut self, from: NodeId, to: NodeId) -> &mut LinkProfile {
        let usual = &self.profile;
        self.links.entry((from, to)).or_default().profile.get_or_insert_with(|| usual.clone())
    }

    /// Cuts one direction. Cuts are counted: as many [`Network::mend`]s open it again.
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        let link = self.links.entry((from, to)).or_default();
        link.cuts = link.cuts.saturating_add(1);
    }

    /// Takes back one cut of one direction.
    pub fn mend(&mut self, from: NodeId, to: NodeId) {
        let link = self.links.entry((from, to)).or_default();
        link.cuts = link.cuts.saturating_sub(1);
    }

    /// Takes back all cuts and the treatment of one direction.
    pub fn heal(&mut self, from: NodeId, to: NodeId) {
        let link = self.links.entry((from, to)).or_default();
        link.cuts = 0;
        link.profile = None;
    }

    /// Takes back all cuts and all treatments of single links. All connections are made anew, so that nothing waits behind
    /// a message that takes very long.
    pub fn heal_all(&mut self) {
        for link in self.links.values_mut() {
            *link = Link { connection: link.connection + 1, ..Link::default() };
        }
    }

    /// Takes back the treatment of one direction.
    pub fn normalize(&mut self, from: NodeId, to: NodeId) {
        self.links.entry((from, to)).or_default().profile = None;
    }

    /// Whether a message would leave now.
    pub fn is_open(&self, from: NodeId, to: NodeId) -> bool {
        self.links.get(&(from, to)).is_none_or(|link| link.cuts == 0)
    }

    /// Breaks the connections of one direction: nothing that is under way arrives.
    pub fn reset(&mut self, from: NodeId, to: NodeId) {
        self.links.entry((from, to)).or_default().connection += 1;
    }

    /// Sends `bytes` bytes over one direction.
    pub fn send(
        &mut self,
        now: SimTime,
        from: NodeId,
        to: NodeId,
        lane: Lane,
        bytes: usize,
        faults: &mut FaultLog,
    ) -> Fate {
        let link = self.links.entry((from, to)).or_default();
        if link.cuts > 0 {
            return Fate::Cut;
        }
        let profile = link.profile.as_ref().unwrap_or(&self.profile);
        if self.rng.chance_ppm(profile.loss_ppm) {
            faults.hit(Fault::Loss);
            return Fate::Lost;
        }
        let mut leaves = now;
        if let Some(rate) = profile.bytes_per_second {
            let takes = (bytes as u64).saturating_mul(1_000_000_000) / rate.max(1);
            if link.free_at > now {
                faults.hit(Fault::Bandwidth);
            }
            leaves = SimTime(link.free_at.max(now).0.saturating_add(takes));
            link.free_at = leaves;
        }
        let doubled = self.rng.chance_ppm(profile.duplicate_ppm);
        let mut at = |faults: &mut FaultLog| {
            let mut delay = self.rng.between(nanos(profile.delay_min), nanos(profile.delay_max));
            if self.rng.chance_ppm(profile.long_tail_ppm) {
                faults.hit(Fault::LongTail);
                delay = delay.saturating_mul(100);
            }
            let at = SimTime(leaves.0.saturating_add(delay));
            let last = &mut link.last[lane as usize];
            let arrives = if at >= *last {
                at
            } else if profile.reorder {
                faults.hit(Fault::Reorder);
                at
            } else {
                *last
            };
            *last = arrives.max(*last);
            arrives
        };
        let first = at(faults);
        let second = doubled.then(|| {
            faults.hit(Fault::Duplicate);
            at(faults)
        });
        let connection = link.connection;
        let parcel = |at| Parcel { from, to, at, connection };
        Fate::Sent { first: parcel(first), copy: second.map(parcel) }
    }

    /// Whether a message that was under way arrives: the way is open and its connection did not break.
    pub fn arrives(&self, parcel: &Parcel) -> bool {
        match self.links.get(&(parcel.from, parcel.to)) {
            None => true,
            Some(link) => link.cuts == 0 && link.connection == parcel.connection,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(change: impl Fn(&mut LinkProfile)) -> (Network, FaultLog) {
        let mut profile = LinkProfile::default();
        change(&mut profile);
        (Network::new(profile, Rng::new(1)), FaultLog::default())
    }

    fn send(network: &mut Network, faults: &mut FaultLog, now: u64, bytes: usize) -> Fate {
        network.send(SimTime(now), 1, 2, Lane::Bulk, bytes, faults)
    }

    fn arrivals(network: &mut Network, faults: &mut FaultLog) -> Vec<SimTime> {
        (0..200)
            .filter_map(|now| match send(network, faults, now, 1) {
                Fate::Sent { first, .. } => Some(first.at),
                Fate::Cut | Fate::Lost => None,
            })
            .collect()
    }

    #[test]
    fn a_lane_keeps_its_order_unless_it_is_told_not_to() {
        let (mut fifo, mut faults) = network(|_| ());
        assert!(arrivals(&mut fifo, &mut faults).is_sorted());
        assert_eq!(faults.kinds(), 0);

        let (mut wild, mut faults) = network(|profile| profile.reorder = true);
        assert!(!arrivals(&mut wild, &mut faults).is_sorted());
        assert!(faults.count(Fault::Reorder) > 0);
    }

    #[test]
    fn loss_and_duplication_happen_as_often_as_asked() {
        let (mut lossy, mut faults) = network(|profile| profile.loss_ppm = 500_000);
        let arrived = arrivals(&mut lossy, &mut faults).len() as u64;
        assert_eq!(arrived + faults.count(Fault::Loss), 200);
        assert!((60..140).contains(&arrived), "{arrived}");

        let (mut doubling, mut faults) = network(|profile| profile.duplicate_ppm = 1_000_000);
        assert!(matches!(send(&mut doubling, &mut faults, 0, 1), Fate::Sent { copy: Some(_), .. }));
        assert_eq!(faults.count(Fault::Duplicate), 1);
    }

    #[test]
    fn a_cut_swallows_what_is_under_way_and_the_other_direction_stays_open() {
        let (mut network, mut faults) = network(|_| ());
        let Fate::Sent { first, .. } = send(&mut network, &mut faults, 0, 1) else { panic!("not sent") };
        network.cut(1, 2);
        assert!(!network.arrives(&first));
        assert_eq!(send(&mut network, &mut faults, 0, 1), Fate::Cut);
        assert!(network.is_open(2, 1));
        network.mend(1, 2);
        assert!(network.arrives(&first));
    }

    #[test]
    fn overlapping_cuts_end_one_by_one() {
        let (mut network, _) = network(|_| ());
        network.cut(1, 2);
        network.cut(1, 2);
        network.mend(1, 2);
        assert!(!network.is_open(1, 2));
        network.mend(1, 2);
        assert!(network.is_open(1, 2));
    }

    #[test]
    fn a_broken_connection_loses_what_is_under_way_only() {
        let (mut network, mut faults) = network(|_| ());
        let Fate::Sent { first, .. } = send(&mut network, &mut faults, 0, 1) else { panic!("not sent") };
        network.reset(1, 2);
        assert!(!network.arrives(&first));
        let Fate::Sent { first, .. } = send(&mut network, &mut faults, 0, 1) else { panic!("not sent") };
        assert!(network.arrives(&first));
    }

    #[test]
    fn a_narrow_link_takes_its_time_for_bytes() {
        let (mut network, mut faults) = network(|profile| profile.bytes_per_second = Some(1_000));
        let Fate::Sent { first, .. } = send(&mut network, &mut faults, 0, 500) else { panic!("not sent") };
        assert!(first.at >= SimTime(500_000_000));
        let Fate::Sent { first, .. } = send(&mut network, &mut faults, 0, 500) else { panic!("not sent") };
        assert!(first.at >= SimTime(1_000_000_000));
        assert_eq!(faults.count(Fault::Bandwidth), 1);
    }
}
