//! At most one leader can be elected in a given term (Raft §5.2, Figure 3).

use std::collections::BTreeMap;

use raftwright_core::VoteKind;

use super::{Checker, Fact, GodView, Who, is_quorum, meant_disk};
use crate::world::NodeId;

/// No term has two leaders; no disk grants two votes in a term; a leader has a quorum of votes that stand on disks.
#[derive(Debug, Default)]
pub(super) struct ElectionSafety {
    leaders: BTreeMap<u64, Who>,
    /// By voter, incarnation of its disk, and term: whom it voted for.
    votes: BTreeMap<(NodeId, u64, u64), NodeId>,
}

impl Checker for ElectionSafety {
    fn property(&self) -> &'static str {
        "election safety"
    }

    fn source(&self) -> &'static str {
        "Raft §5.2"
    }

    fn observe(&mut self, who: Who, fact: &Fact, view: &GodView<'_>) -> Result<(), String> {
        match fact {
            Fact::Granted { kind: VoteKind::Vote | VoteKind::Transfer, vote } => {
                let voter = (who.node, who.incarnation.0, vote.term());
                let first = *self.votes.entry(voter).or_insert(vote.node_id());
                if first != vote.node_id() {
                    return Err(format!(
                        "node {} voted for {first} and for {} in term {}",
                        who.node,
                        vote.node_id(),
                        vote.term()
                    ));
                }
                Ok(())
            }
            Fact::BecameLeader { vote } => {
                let first = *self.leaders.entry(vote.term()).or_insert(who);
                if first.node != who.node || first.incarnation != who.incarnation {
                    return Err(format!("nodes {} and {} both lead in term {}", first.node, who.node, vote.term()));
                }
                self.elected_by_quorum(who, vote.term(), view)
            }
            _ => Ok(()),
        }
    }
}

impl ElectionSafety {
    /// A quorum of the new leader's membership has this vote, or by now a newer one, on its disks.
    fn elected_by_quorum(&self, who: Who, term: u64, view: &GodView<'_>) -> Result<(), String> {
        let membership = view.disks.disk(who.node).and_then(|disk| disk.readable().membership());
        let Some((_, membership)) = membership else {
            return Err(format!("node {} leads without a membership", who.node));
        };
        let stands = |id: &NodeId| {
            meant_disk(view.disks, membership, *id)
                .and_then(|log| log.vote)
                .is_some_and(|vote| vote.term() > term || (vote.term() == term && vote.node_id() == who.node))
        };
        if is_quorum(membership, stands) {
            return Ok(());
        }
        Err(format!("node {} leads in term {term} without a quorum of durable votes in {membership}", who.node))
    }
}
