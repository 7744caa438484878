//! What may only grow: "currentTerm increases monotonically", "commitIndex increases monotonically", "lastApplied
//! increases monotonically" (Raft, Figure 2); fault model S10 and S12.

use std::collections::BTreeMap;

use raftwright_core::LogIdOption;

use super::{Checker, Fact, GodView, Who};
use crate::core_world::types::Vote;
use crate::world::NodeId;

/// The vote on a disk over all lives of its process; the commit index within one; and the order of the marks of a log.
#[derive(Debug, Default)]
pub(super) struct Monotonic {
    /// By node and incarnation: the vote that its disk had.
    votes: BTreeMap<(NodeId, u64), Vote>,
    /// By node: the boot, and the commit index in it.
    commits: BTreeMap<NodeId, (u64, u64)>,
}

impl Checker for Monotonic {
    fn property(&self) -> &'static str {
        "term, vote and commit index never go back"
    }

    fn source(&self) -> &'static str {
        "Raft, Figure 2"
    }

    fn observe(&mut self, who: Who, fact: &Fact, view: &GodView<'_>) -> Result<(), String> {
        let Some(disk) = view.disks.disk(who.node) else { return Ok(()) };
        match fact {
            Fact::Booted | Fact::DiskChanged => {
                let Some(vote) = disk.durable().vote else {
                    let lost = self.votes.get(&(who.node, who.incarnation.0));
                    return lost.map_or(Ok(()), |vote| Err(format!("node {} has lost its vote {vote}", who.node)));
                };
                let before = self.votes.insert((who.node, who.incarnation.0), vote);
                match before {
                    Some(before) if !matches!(vote.partial_cmp(&before), Some(order) if order.is_ge()) => {
                        Err(format!("the disk of node {} had the vote {before} and now has {vote}", who.node))
                    }
                    Some(_) | None => Ok(()),
                }
            }
            Fact::Committed { upto } => {
                let last = disk.readable().last().index_or_zero();
                let purged = disk.readable().purged().index_or_zero();
                if upto.index > last || upto.index < purged {
                    return Err(format!("node {} commits {upto}, its log is {purged}..{last}", who.node));
                }
                match self.commits.insert(who.node, (who.boot, upto.index)) {
                    Some((boot, before)) if boot == who.boot && upto.index < before => {
                        Err(format!("node {} had committed {before} and now {upto}", who.node))
                    }
                    Some(_) | None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}
