//! Who belongs to the cluster, who votes, and what a quorum is.

use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::fmt::{Display, Formatter};

use crate::sabotage::{self, Bug};
use crate::{Identity, Incarnation, LogIdOf, Node, NodeId, Types};

/// A cluster's membership: the sets of voters (one is *uniform*, two are *joint*, Raft §6), and what is stored about
/// each member. A member that is in no set of voters is a learner: it receives the log and has no vote.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Membership<NID: Ord, N> {
    configs: Vec<BTreeSet<NID>>,
    nodes: BTreeMap<NID, N>,
    /// While joint: voters of the old set that are in the new no more stay as learners. It stands in the entry, because
    /// the leader that finishes a change need not be the one that began it.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "is_false"))]
    retain: bool,
    /// Learners that become voters once they have caught up. It stands in the entry for the same reason. Always members, and
    /// no voters.
    #[cfg_attr(feature = "serde", serde(default = "BTreeSet::new", skip_serializing_if = "BTreeSet::is_empty"))]
    promoting: BTreeSet<NID>,
}

#[cfg(feature = "serde")]
fn is_false(value: &bool) -> bool {
    !value
}

/// The membership for a set of types.
pub type MembershipOf<T> = Membership<<T as Types>::NodeId, <T as Types>::Node>;

/// A membership and the log entry that it came from; `None` before any entry.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(bound = ""))]
pub struct StoredMembership<T: Types> {
    /// The entry that carries it.
    pub log_id: Option<LogIdOf<T>>,
    /// The membership.
    pub membership: MembershipOf<T>,
}

impl<T: Types> Default for StoredMembership<T> {
    fn default() -> Self {
        Self { log_id: None, membership: Membership::default() }
    }
}

/// Why a membership cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum MembershipError<NID> {
    /// A set of voters is empty, or there is none.
    EmptyVoters,
    /// More than two sets of voters.
    TooManyConfigs,
    /// A voter about which nothing is stored.
    VoterWithoutNode(NID),
    /// A server that is to become a voter is one already, or is no member.
    NotALearner(NID),
}

impl<NID: Display> Display for MembershipError<NID> {
    fn fmt(&self, f: &mut Formatter<'_>) -> core::fmt::Result {
        match self {
            MembershipError::EmptyVoters => f.write_str("a membership needs at least one voter"),
            MembershipError::TooManyConfigs => {
                f.write_str("a membership has one set of voters, or two while it changes")
            }
            MembershipError::VoterWithoutNode(id) => {
                write!(f, "voter {id} is not among the nodes: add it as a learner first")
            }
            MembershipError::NotALearner(id) => {
                write!(f, "server {id} is no learner, so it cannot become a voter by catching up")
            }
        }
    }
}

/// How many servers a majority may lack: none, unless it is sabotaged.
fn spared() -> usize {
    usize::from(sabotage::on(Bug::MajorityTooSmall))
}

impl<NID: NodeId, N: Node> Membership<NID, N> {
    /// A membership of these sets of voters and these members. Members outside every set are learners.
    ///
    /// # Errors
    /// [`MembershipError`], if it could not elect a leader or a voter is not a member.
    pub fn new(configs: Vec<BTreeSet<NID>>, nodes: BTreeMap<NID, N>) -> Result<Self, MembershipError<NID>> {
        let membership = Self { configs, nodes, retain: false, promoting: BTreeSet::new() };
        membership.validate()?;
        Ok(membership)
    }

    /// Checks what [`Membership::new`] promises, for one that came from elsewhere.
    ///
    /// # Errors
    /// As [`Membership::new`].
    pub fn validate(&self) -> Result<(), MembershipError<NID>> {
        if self.configs.is_empty() || self.configs.iter().any(BTreeSet::is_empty) {
            return Err(MembershipError::EmptyVoters);
        }
        if self.configs.len() > 2 {
            return Err(MembershipError::TooManyConfigs);
        }
        if let Some(id) = self.voter_ids().find(|id| !self.nodes.contains_key(id)) {
            return Err(MembershipError::VoterWithoutNode(id));
        }
        match self.promoting.iter().find(|id| self.is_voter(id) || !self.nodes.contains_key(id)) {
            Some(id) => Err(MembershipError::NotALearner(*id)),
            None => Ok(()),
        }
    }

    /// The sets of voters: none before initialization, one, or two while a change is under way.
    pub fn configs(&self) -> &[BTreeSet<NID>] {
        &self.configs
    }

    /// All members, voters and learners, by id.
    pub fn nodes(&self) -> &BTreeMap<NID, N> {
        &self.nodes
    }

    /// What is stored about a member.
    pub fn node(&self, id: &NID) -> Option<&N> {
        self.nodes.get(id)
    }

    /// Whether this server is a voter in any set.
    pub fn is_voter(&self, id: &NID) -> bool {
        self.configs.iter().any(|voters| voters.contains(id))
    }

    /// Whether this server is a member at all.
    pub fn contains(&self, id: &NID) -> bool {
        self.nodes.contains_key(id)
    }

    /// Whether two sets of voters must agree (Raft §6).
    pub fn is_joint(&self) -> bool {
        self.configs.len() > 1
    }

    /// Whether nobody has initialized this server yet.
    pub fn is_empty(&self) -> bool {
        self.configs.is_empty()
    }

    /// Whether the change that is under way keeps the voters that it removes, as learners.
    pub fn retains(&self) -> bool {
        self.retain
    }

    /// Every voter once, in ascending order.
    pub fn voter_ids(&self) -> impl Iterator<Item = NID> + '_ {
        let mut all: Vec<NID> = self.configs.iter().flatten().copied().collect();
        all.sort_unstable();
        all.dedup();
        all.into_iter()
    }

    /// Every member that is no voter, in ascending order.
    pub fn learner_ids(&self) -> impl Iterator<Item = NID> + '_ {
        self.nodes.keys().copied().filter(|id| !self.is_voter(id))
    }

    /// The learners that become voters once they have caught up.
    pub fn promoting(&self) -> &BTreeSet<NID> {
        &self.promoting
    }

    /// Whether a message from this sender may count: it is a member, and of the incarnation that the membership names,
    /// if it names one. A wiped server under its old id is thus a stranger.
    pub fn admits(&self, sender: &Identity<NID>) -> bool {
        self.nodes.get(&sender.id).is_some_and(|node| match (node.incarnation(), sender.incarnation) {
            (Some(bound), Some(stated)) => bound == stated || sabotage::on(Bug::StrangersCount),
            (Some(_), None) => false,
            (None, _) => true,
        })
    }

    /// Whether these servers are a majority of every set of voters. True for no sets at all: an empty demand is met, so
    /// joint needs no branch.
    pub fn is_quorum(&self, mut granted: impl FnMut(&NID) -> bool) -> bool {
        self.demands().all(|voters| voters.iter().filter(|id| granted(id)).count() + spared() > voters.len() / 2)
    }

    /// The sets of voters of which each must agree.
    fn demands(&self) -> impl Iterator<Item = Cow<'_, BTreeSet<NID>>> {
        let joint = self.is_joint();
        let merged = if joint && sabotage::on(Bug::JointAsUnion) {
            Some(self.voter_ids().collect())
        } else if !self.is_empty() && sabotage::on(Bug::LearnersCount) {
            Some(self.nodes.keys().copied().collect())
        } else {
            None
        };
        let skipped = usize::from(joint && sabotage::on(Bug::JointAsksNewOnly));
        let taken = if joint && sabotage::on(Bug::JointAsksOldOnly) { 1 } else { self.configs.len() };
        let all = if merged.is_some() { &[] } else { self.configs.as_slice() };
        all.iter().take(taken).skip(skipped).map(Cow::Borrowed).chain(merged.map(Cow::Owned))
    }

    /// The greatest value that a quorum has reached, where `value` says what each voter has reached. `None` for a
    /// membership without voters. Quadratic in the voters and free of allocation: sets of voters are small.
    pub fn quorum_value<V: Ord + Copy>(&self, mut value: impl FnMut(&NID) -> V) -> Option<V> {
        let mut reached = None;
        for voters in self.demands() {
            let mut best = None;
            for id in voters.iter() {
                let candidate = value(id);
                let count = voters.iter().filter(|other| value(other) >= candidate).count();
                if count + spared() > voters.len() / 2 {
                    best = best.max(Some(candidate));
                }
            }
            let best = best?;
            reached = Some(reached.map_or(best, |so_far: V| so_far.min(best)));
        }
        reached
    }

    /// The membership with this member's stored data set: added as a learner if it is new. An incarnation that is bound
    /// stays bound, unless the data names another: else a wiped voter could slip back in by a change of its address.
    #[must_use]
    pub fn with_node(&self, id: NID, mut node: N) -> Self {
        let bound = self.nodes.get(&id).and_then(Node::incarnation);
        if let (Some(bound), None) = (bound, node.incarnation()) {
            node.bind_incarnation(bound);
        }
        let mut next = self.clone();
        next.nodes.insert(id, node);
        next
    }

    /// The membership without these members, none of which may be a voter.
    ///
    /// # Errors
    /// The first of them that is a voter.
    pub fn without_learners(&self, ids: &BTreeSet<NID>) -> Result<Self, NID> {
        if let Some(voter) = ids.iter().find(|id| self.is_voter(id)) {
            return Err(*voter);
        }
        let mut next = self.clone();
        next.nodes.retain(|id, _| !ids.contains(id));
        next.promoting.retain(|id| !ids.contains(id));
        Ok(next)
    }

    /// The membership with these incarnations bound, or `None` if nothing changes.
    pub fn with_incarnations(&self, mut seen: impl FnMut(&NID) -> Option<Incarnation>) -> Option<Self> {
        if !self.nodes.iter().any(|(id, node)| node.incarnation().is_none() && seen(id).is_some()) {
            return None;
        }
        let mut next = self.clone();
        let mut changed = false;
        for (id, node) in &mut next.nodes {
            if node.incarnation().is_none()
                && let Some(incarnation) = seen(id)
            {
                changed |= node.bind_incarnation(incarnation);
            }
        }
        changed.then_some(next)
    }

    /// The first step towards `voters`: joint with the present set, or the set itself if it is the present one. All
    /// members stay for now; `retain` says whether removed voters stay for good, as learners.
    ///
    /// # Errors
    /// [`MembershipError`], if `voters` is empty or names somebody who is no member.
    pub fn toward(&self, voters: BTreeSet<NID>, retain: bool) -> Result<Self, MembershipError<NID>> {
        let mut configs: Vec<BTreeSet<NID>> = self.configs.last().cloned().into_iter().collect();
        if configs.last() != Some(&voters) {
            configs.push(voters);
        }
        let mut next = Self::new(configs, self.nodes.clone())?;
        next.retain = retain && next.is_joint();
        next.promoting = self.promoting.iter().copied().filter(|id| !next.is_voter(id)).collect();
        Ok(next)
    }

    /// The membership in which these learners become voters once they have caught up, and no others do.
    ///
    /// # Errors
    /// [`MembershipError::NotALearner`].
    pub fn promote(&self, ids: BTreeSet<NID>) -> Result<Self, MembershipError<NID>> {
        let next = Self { promoting: ids, ..self.clone() };
        next.validate()?;
        Ok(next)
    }

    /// The second step: the new set of voters alone (Raft §6). Voters of the old set that are in the new no more leave
    /// the cluster, or stay as learners if the change said so. A uniform membership stays as it is.
    #[must_use]
    pub fn leave_joint(&self) -> Self {
        let Some(last) = self.configs.last() else { return self.clone() };
        let mut nodes = self.nodes.clone();
        if !self.retain {
            nodes.retain(|id, _| last.contains(id) || !self.is_voter(id));
        }
        let promoting = self.promoting.iter().copied().filter(|id| nodes.contains_key(id)).collect();
        Self { configs: alloc::vec![last.clone()], nodes, retain: false, promoting }
    }
}

impl<NID: NodeId, N> Display for Membership<NID, N> {
    fn fmt(&self, f: &mut Formatter<'_>) -> core::fmt::Result {
        for (i, voters) in self.configs.iter().enumerate() {
            if i > 0 {
                f.write_str(" & ")?;
            }
            for (j, id) in voters.iter().enumerate() {
                write!(f, "{}{id}", if j > 0 { "," } else { "" })?;
            }
        }
        let mut learners = self.nodes.keys().filter(|id| !self.configs.iter().any(|c| c.contains(id))).peekable();
        if learners.peek().is_some() {
            f.write_str(" learners ")?;
        }
        for (j, id) in learners.enumerate() {
            write!(f, "{}{id}", if j > 0 { "," } else { "" })?;
        }
        for (j, id) in self.promoting.iter().enumerate() {
            write!(f, "{}{id}", if j > 0 { "," } else { " promoting " })?;
        }
        Ok(())
    }
}
