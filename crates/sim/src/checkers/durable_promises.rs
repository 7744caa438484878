//! "Updated on stable storage before responding to RPCs" (Raft, Figure 2).

use raftwright_core::VoteKind;

use super::{Checker, Fact, GodView, Who};

/// When an answer leaves, the disk already holds what it promises: the vote that is granted (or a newer one), the entries
/// that are acknowledged. A candidate asks for votes only when its own is on its disk.
#[derive(Debug, Default)]
pub(super) struct DurablePromises;

impl Checker for DurablePromises {
    fn property(&self) -> &'static str {
        "promises are durable"
    }

    fn source(&self) -> &'static str {
        "Raft, Figure 2"
    }

    fn observe(&mut self, who: Who, fact: &Fact, view: &GodView<'_>) -> Result<(), String> {
        let Some(disk) = view.disks.disk(who.node) else { return Ok(()) };
        let (node, durable) = (who.node, disk.durable());
        match fact {
            Fact::Granted { vote, kind: VoteKind::Vote | VoteKind::Transfer } => match durable.vote {
                Some(saved) if saved.term() > vote.term() => Ok(()),
                Some(saved) if saved.leader_id == vote.leader_id => Ok(()),
                saved => Err(format!("node {node} grants {vote}, but its disk has {saved:?}")),
            },
            Fact::AskedForVote { vote, kind: VoteKind::Vote | VoteKind::Transfer } => match durable.vote {
                Some(saved) if saved.term() >= vote.term() => Ok(()),
                saved => Err(format!("node {node} asks for {vote}, but its disk has {saved:?}")),
            },
            Fact::Acknowledged { matched } => {
                if durable.holds(matched) {
                    return Ok(());
                }
                Err(format!(
                    "node {node} acknowledges {matched}, but its disk has {:?} there and ends with {:?}",
                    durable.log_id_at(matched.index),
                    durable.last()
                ))
            }
            _ => Ok(()),
        }
    }
}
