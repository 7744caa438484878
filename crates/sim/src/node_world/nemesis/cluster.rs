//! What operators do, and what goes wrong with it.

use std::collections::BTreeSet;

use raftwright_core::{ChangeConditions, ChangeMembers};
use raftwright_node::Raft;
use raftwright_traits::{AsyncRuntime, BasicNode, Node};
use raftwright_wal::testing::Loss;

use super::Deed;
use crate::node_world::drive::Drive;
use crate::node_world::workload::Workload;
use crate::world::{Fault, NodeId};

impl<W: Workload> Drive<W> {
    /// Asks something of a node and forgets about it.
    fn operate<F>(&mut self, fault: Fault, node: NodeId, text: String, ask: impl FnOnce(Raft<W::C>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Some(running) = self.world.running(node) else { return };
        let task = ask(running.raft.clone());
        running.runtime.spawn(task);
        self.fault(fault, node, || text.clone());
        let number = self.nemesis.ticks;
        // Nobody waits for the outcome.
        self.tell(|| match text.split_whitespace().next() {
            Some("members" | "add-learner" | "transfer" | "snapshot" | "purge") => format!("begin f{number} {text}"),
            Some(_) | None => text,
        });
    }

    pub(super) fn change_membership(&mut self) {
        let Some(leader) = self.leader_now() else { return };
        let Some(membership) = self.world.look(leader, |metrics| metrics.membership_config.membership.clone()) else {
            return;
        };
        let voters: BTreeSet<NodeId> = membership.voter_ids().collect();
        let learners: Vec<NodeId> = membership.learner_ids().collect();
        let members: Vec<NodeId> = membership.nodes().keys().copied().collect();
        let strangers: Vec<NodeId> = self.ids().filter(|id| !members.contains(id)).collect();
        let interrupt = self.nemesis.rng.one_in(6);
        // Whoever comes back with another disk must be removed before anything else makes sense.
        self.nemesis.wiped = self.nemesis.wiped.filter(|wiped| members.contains(wiped));
        if let Some(wiped) = self.nemesis.wiped {
            let rest: BTreeSet<NodeId> = voters.iter().copied().filter(|id| *id != wiped).collect();
            if voters.contains(&wiped) {
                self.set_voters(Fault::ChangeVoters, leader, rest, false);
            } else {
                self.remove_learner(leader, wiped);
            }
        } else {
            if self.nemesis.rng.one_in(4) {
                self.soon(0, 100, Deed::CancelChange);
            }
            match self.nemesis.rng.below(8) {
                0 | 1 if !strangers.is_empty() => {
                    let Some(id) = self.nemesis.rng.pick(&strangers).copied() else { return };
                    self.operate(Fault::AddLearner, leader, format!("add-learner {id} nowait"), |raft| async move {
                        let _ = raft.add_learner(id, BasicNode::new(format!("n{id}")), false).await;
                    });
                }
                0 if !learners.is_empty() => {
                    let Some(id) = self.nemesis.rng.pick(&learners).copied() else { return };
                    self.remove_learner(leader, id);
                }
                2 | 3 if !learners.is_empty() => self.promote(leader, &learners),
                3 | 4 if !strangers.is_empty() => self.replace_node(leader, &members, &strangers),
                5 => self.remove_voter(leader, &voters),
                _ => self.change_voters(leader, &voters, members),
            }
        }
        if interrupt && self.profile.classes.crashes && self.is_up(leader) {
            let polls = self.nemesis.rng.between(1, 60);
            self.fault(Fault::InterruptedChange, leader, || format!("after {polls} polls"));
            self.world.doom(leader, polls, None);
        }
    }

    pub(super) fn cancel_change(&mut self) {
        let Some(leader) = self.leader_now() else { return };
        self.operate(Fault::CancelChange, leader, "# cancels the change".to_owned(), |raft| async move {
            let _ = raft.cancel_membership_change().await;
        });
    }

    fn change_members(
        &mut self,
        fault: Fault,
        leader: NodeId,
        text: String,
        change: raftwright_traits::ChangeMembers<W::C>,
    ) {
        self.operate(fault, leader, text, |raft| async move {
            let _ = raft.change_members(change, ChangeConditions::default()).await;
        });
    }

    fn promote(&mut self, leader: NodeId, learners: &[NodeId]) {
        let Some(id) = self.nemesis.rng.pick(learners).copied() else { return };
        let at_once = self.nemesis.rng.one_in(3);
        let ids = BTreeSet::from([id]);
        let change = if at_once { ChangeMembers::AddVoters(ids) } else { ChangeMembers::Promote(ids) };
        self.change_members(Fault::Promote, leader, format!("# promotes learner {id}"), change);
    }

    fn replace_node(&mut self, leader: NodeId, members: &[NodeId], strangers: &[NodeId]) {
        let rng = &mut self.nemesis.rng;
        let (Some(old), Some(new)) = (rng.pick(members).copied(), rng.pick(strangers).copied()) else { return };
        let change = ChangeMembers::ReplaceNode { old, new, node: BasicNode::new(format!("n{new}")) };
        self.change_members(Fault::ReplaceNode, leader, format!("# replaces {old} by {new}"), change);
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
        let change = ChangeMembers::RemoveVoters { voters: BTreeSet::from([victim]), retain };
        self.change_members(fault, leader, format!("# removes voter {victim}"), change);
    }

    fn remove_learner(&mut self, leader: NodeId, id: NodeId) {
        self.operate(Fault::RemoveLearner, leader, format!("# removes learner {id}"), |raft| async move {
            let _ = raft.remove_learners(BTreeSet::from([id])).await;
        });
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
        self.set_voters(fault, leader, voters, retain);
    }

    fn set_voters(&mut self, fault: Fault, leader: NodeId, voters: BTreeSet<NodeId>, retain: bool) {
        let names: Vec<String> = voters.iter().map(ToString::to_string).collect();
        let text = format!("members {}{}", names.join(","), if retain { " retain" } else { "" });
        self.operate(fault, leader, text, |raft| async move {
            let _ = raft.change_membership(voters, retain).await;
        });
    }

    pub(super) fn elect(&mut self) {
        let node = self.anybody();
        let fault = if self.is_leader(node) { Fault::ForcedElectionLeader } else { Fault::ForcedElection };
        self.operate(fault, node, format!("elect {node}"), |raft| async move {
            let _ = raft.trigger().elect().await;
        });
    }

    pub(super) fn transfer(&mut self) {
        let to = self.anybody();
        let Some(leader) = self.leader_now() else { return };
        self.operate(Fault::Transfer, leader, format!("transfer leader to {to}"), |raft| async move {
            let _ = raft.transfer_leader(to).await;
        });
    }

    pub(super) fn burst_of_writes(&mut self) {
        let count = self.nemesis.rng.between(50, 400);
        let Some(leader) = self.leader_now() else { return };
        self.fault(Fault::Burst, leader, || format!("{count} writes"));
        self.burst(leader, count);
    }

    pub(super) fn snapshot(&mut self) {
        let node = self.anybody();
        self.operate(Fault::SnapshotAsked, node, format!("snapshot {node}"), |raft| async move {
            let _ = raft.trigger().snapshot().await;
        });
    }

    /// Deletes a log as far as it is in a snapshot: whoever lacks some of it needs that snapshot.
    pub(super) fn purge(&mut self) {
        let node = self.anybody();
        let Some(upto) = self.world.look(node, |metrics| metrics.snapshot.map(|id| id.index)).flatten() else { return };
        self.operate(Fault::Purge, node, format!("purge {node} to {upto}"), |raft| async move {
            let _ = raft.trigger().purge_log(upto).await;
        });
    }

    /// Empties a member's disk. One at a time, and only where the membership says which disk it means, on the disks of all
    /// voters: one that has not heard of that yet would take whoever comes back for the one that was there.
    pub(super) fn wipe(&mut self) {
        let Some(leader) = self.leader_now() else { return };
        let Some((id, membership)) = self
            .world
            .judge()
            .log(leader)
            .and_then(|log| log.readable().membership().map(|(id, membership)| (id, membership.clone())))
        else {
            return;
        };
        let committed = id.index <= self.world.judge().ledger().last_index();
        let voters: Vec<NodeId> = membership.voter_ids().collect();
        let settled = committed && !membership.is_joint() && voters.len() >= 3;
        let stale = self.nemesis.wiped.is_some_and(|wiped| membership.contains(&wiped));
        let Some(victim) = self.nemesis.rng.pick(&voters).copied() else { return };
        let bound = membership.node(&victim).and_then(Node::incarnation);
        if !settled || stale || bound.is_none() || bound != self.world.judge().incarnation(victim) {
            return;
        }
        let known_to_all = voters.iter().all(|voter| {
            let log = self.world.judge().log(*voter).map(|log| log.durable());
            let named = log.and_then(|log| log.membership()).and_then(|(_, membership)| membership.node(&victim));
            named.and_then(Node::incarnation) == bound
        });
        if !known_to_all {
            return;
        }
        // A disk that is replaced is no longer damaged.
        self.nemesis.flipped.remove(&victim);
        self.kill_node(victim, Some(Loss::Everything));
        if self.world.wipe(victim) {
            self.fault(Fault::Wipe, victim, String::new);
            self.tell(|| format!("wipe {victim}"));
            self.nemesis.wiped = Some(victim);
            self.nemesis.troubled.remove(&victim);
        }
        self.soon(0, 3_000, Deed::Start(victim));
    }
}
