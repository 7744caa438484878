//! An entry is committed once the leader that created it, or a later entry of its own, has replicated it on a majority
//! of the servers (Raft §5.3, Raft §5.4.2), and "on a server" means on its disk.

use super::{Checker, Fact, GodView, Who, is_quorum, meant_disk};
use crate::core_world::types::term_of;
use crate::world::NodeId;

/// When a leader commits, the entry is its own, and a quorum of its latest membership (both halves while it is joint) has
/// it on the disk, in the incarnation that the membership names. Read from the disks, not from what the leader thinks.
#[derive(Debug, Default)]
pub(super) struct CommitQuorum {
    /// How far this was checked: a commit that follows another node's needs no quorum of its own.
    checked: u64,
}

impl Checker for CommitQuorum {
    fn property(&self) -> &'static str {
        "commit on a durable quorum"
    }

    fn source(&self) -> &'static str {
        "Raft §5.4.2"
    }

    fn observe(&mut self, who: Who, fact: &Fact, view: &GodView<'_>) -> Result<(), String> {
        let Fact::CommitStands { upto, leading, config_index } = fact else { return Ok(()) };
        if upto.index <= self.checked {
            return Ok(());
        }
        let node = who.node;
        let Some(disk) = view.disks.disk(node) else { return Ok(()) };
        match leading {
            None => return Err(format!("node {node} does not lead and commits {upto} before any leader")),
            Some(term) if term_of(upto) != *term => {
                return Err(format!("node {node} leads in term {term} and commits {upto} by counting"));
            }
            Some(_) => {}
        }
        // Any of the memberships since then may have been in force; usually there is one.
        let mut configs = disk.readable().memberships().filter(|(id, _)| id.index >= *config_index).peekable();
        if configs.peek().is_none() {
            return Err(format!("node {node} commits {upto} without a membership"));
        }
        let mut lacking = Vec::new();
        for (_, membership) in configs {
            let holds = |id: &NodeId| meant_disk(view.disks, membership, *id).is_some_and(|log| log.holds(upto));
            if is_quorum(membership, holds) {
                self.checked = upto.index;
                return Ok(());
            }
            lacking.push(format!("{membership}: {:?}", membership.voter_ids().filter(holds).collect::<Vec<_>>()));
        }
        Err(format!("node {node} commits {upto}, but it is on these disks only: {}", lacking.join("; ")))
    }
}
