//! What can be asked of a membership.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::{LogIdOf, MembershipOf, Refusal, StoredMembership, Types, VoteOf};

/// A change of the membership. Voters change through a joint membership that the leader leaves by itself (Raft §6); all other
/// changes are one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeMembers<T: Types> {
    /// Sets what is stored about these servers. Those that are no members become learners.
    SetNodes(BTreeMap<T::NodeId, T::Node>),
    /// Sets what is stored about these servers, all of which are members.
    UpdateNodes(BTreeMap<T::NodeId, T::Node>),
    /// Takes learners out.
    RemoveNodes(BTreeSet<T::NodeId>),
    /// Makes voters of these members at once, whether they have caught up or not.
    AddVoters(BTreeSet<T::NodeId>),
    /// Makes voters of these learners, each as soon as it has caught up (Thesis §4.2.1). Done when the wish stands in the log:
    /// whoever leads then grants it.
    Promote(BTreeSet<T::NodeId>),
    /// These vote no more.
    RemoveVoters {
        /// The voters.
        voters: BTreeSet<T::NodeId>,
        /// They stay as learners.
        retain: bool,
    },
    /// These, and no others, are the voters.
    ReplaceVoters {
        /// Each must be a member.
        voters: BTreeSet<T::NodeId>,
        /// Those that vote no more stay as learners.
        retain: bool,
    },
    /// One server takes another's place, as voter or learner, in one change.
    ReplaceNode {
        /// The server that leaves.
        old: T::NodeId,
        /// The server that comes.
        new: T::NodeId,
        /// What is stored about it.
        node: T::Node,
    },
}

/// What a change depends on: the state that its caller saw. It is looked at when the change begins. The default depends on
/// nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeConditions<T: Types> {
    /// The membership that counts came from this entry.
    pub membership: Option<LogIdOf<T>>,
    /// The leader has this vote.
    pub leader: Option<VoteOf<T>>,
    /// The log ends here.
    pub last_log_id: Option<LogIdOf<T>>,
}

impl<T: Types> Default for ChangeConditions<T> {
    fn default() -> Self {
        Self { membership: None, leader: None, last_log_id: None }
    }
}

impl<T: Types> ChangeConditions<T> {
    /// Whether the state is what the caller saw.
    pub(crate) fn hold(
        &self,
        membership: &StoredMembership<T>,
        leader: &VoteOf<T>,
        last_log_id: Option<LogIdOf<T>>,
    ) -> bool {
        self.membership.is_none_or(|seen| membership.log_id == Some(seen))
            && self.leader.is_none_or(|seen| *leader == seen)
            && self.last_log_id.is_none_or(|seen| last_log_id == Some(seen))
    }
}

impl<T: Types> ChangeMembers<T> {
    /// The next membership: joint, if voters change.
    pub(crate) fn apply_to(self, now: &MembershipOf<T>) -> Result<MembershipOf<T>, Refusal<T>> {
        let voters = |add: BTreeSet<T::NodeId>, remove: &BTreeSet<T::NodeId>| {
            now.voter_ids().filter(|id| !remove.contains(id)).chain(add).collect::<BTreeSet<_>>()
        };
        match self {
            ChangeMembers::SetNodes(nodes) => Ok(with_nodes::<T>(now, nodes)),
            ChangeMembers::UpdateNodes(nodes) => match nodes.keys().find(|id| !now.contains(id)) {
                Some(stranger) => Err(Refusal::NotApplicable(*stranger)),
                None => Ok(with_nodes::<T>(now, nodes)),
            },
            ChangeMembers::RemoveNodes(ids) => now.without_learners(&ids).map_err(Refusal::NotApplicable),
            ChangeMembers::AddVoters(ids) => {
                now.toward(voters(ids, &BTreeSet::new()), false).map_err(Refusal::Membership)
            }
            ChangeMembers::Promote(ids) => {
                let all = now.promoting().iter().copied().chain(ids).collect();
                now.promote(all).map_err(Refusal::Membership)
            }
            ChangeMembers::RemoveVoters { voters: ids, retain } => match ids.iter().find(|id| !now.is_voter(id)) {
                Some(other) => Err(Refusal::NotApplicable(*other)),
                None => now.toward(voters(BTreeSet::new(), &ids), retain).map_err(Refusal::Membership),
            },
            ChangeMembers::ReplaceVoters { voters, retain } => now.toward(voters, retain).map_err(Refusal::Membership),
            ChangeMembers::ReplaceNode { old, new, node } => {
                if !now.contains(&old) {
                    return Err(Refusal::NotApplicable(old));
                }
                if old == new || now.is_voter(&new) {
                    return Err(Refusal::NotApplicable(new));
                }
                let with_new = now.with_node(new, node);
                let old = BTreeSet::from([old]);
                if now.is_voter(old.first().unwrap_or(&new)) {
                    with_new.toward(voters(BTreeSet::from([new]), &old), false).map_err(Refusal::Membership)
                } else {
                    with_new.without_learners(&old).map_err(Refusal::NotApplicable)
                }
            }
        }
    }

    /// The members whose stored data this sets: their streams are opened anew.
    pub(crate) fn readdressed(&self) -> BTreeSet<T::NodeId> {
        match self {
            ChangeMembers::SetNodes(nodes) | ChangeMembers::UpdateNodes(nodes) => nodes.keys().copied().collect(),
            ChangeMembers::ReplaceNode { new, .. } => BTreeSet::from([*new]),
            ChangeMembers::RemoveNodes(_)
            | ChangeMembers::AddVoters(_)
            | ChangeMembers::Promote(_)
            | ChangeMembers::RemoveVoters { .. }
            | ChangeMembers::ReplaceVoters { .. } => BTreeSet::new(),
        }
    }
}

fn with_nodes<T: Types>(now: &MembershipOf<T>, nodes: BTreeMap<T::NodeId, T::Node>) -> MembershipOf<T> {
    nodes.into_iter().fold(now.clone(), |membership, (id, node)| membership.with_node(id, node))
}
