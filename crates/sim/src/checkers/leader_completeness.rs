//! If a log entry is committed in a given term, then that entry will be present in the logs of the leaders for all
//! higher-numbered terms (Raft §5.4, Figure 3).

use super::{Checker, Fact, GodView, Who};

/// A new leader's log holds everything that was committed anywhere. The last committed entry stands for all before it,
/// since logs that share an entry share what is before it.
#[derive(Debug, Default)]
pub(super) struct LeaderCompleteness;

impl Checker for LeaderCompleteness {
    fn property(&self) -> &'static str {
        "leader completeness"
    }

    fn source(&self) -> &'static str {
        "Raft §5.4"
    }

    fn observe(&mut self, who: Who, fact: &Fact, view: &GodView<'_>) -> Result<(), String> {
        let Fact::BecameLeader { vote } = fact else { return Ok(()) };
        let (Some(last), Some(disk)) = (view.ledger.last(), view.disks.disk(who.node)) else { return Ok(()) };
        // A stale leader of an older term may learn late that it was elected; only higher terms owe the entry.
        if disk.readable().holds(&last) || crate::core_world::types::term_of(&last) > vote.term() {
            return Ok(());
        }
        Err(format!(
            "node {} leads with {vote} and lacks {last}, which is committed; its log ends with {:?}",
            who.node,
            disk.readable().last()
        ))
    }
}
