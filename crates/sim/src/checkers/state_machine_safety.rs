//! If a server has applied a log entry at a given index to its state machine, no other server will ever apply a
//! different log entry for the same index (Raft §5.4.3, Figure 3).

use std::collections::BTreeMap;

use super::{Checker, Fact, GodView, Who};
use crate::world::NodeId;

/// Entries are applied in order, without a gap, each once in a life of a state machine, only when committed; and the
/// state after each is the same everywhere.
#[derive(Debug, Default)]
pub(super) struct StateMachineSafety {
    /// By node and boot: the last applied index.
    applied: BTreeMap<NodeId, (u64, u64)>,
    /// By index: the hash of the log up to it, and of the state after it.
    states: Vec<Option<(u64, u64)>>,
}

impl Checker for StateMachineSafety {
    fn property(&self) -> &'static str {
        "state machine safety"
    }

    fn source(&self) -> &'static str {
        "Raft §5.4.3"
    }

    fn observe(&mut self, who: Who, fact: &Fact, view: &GodView<'_>) -> Result<(), String> {
        let node = who.node;
        if let Fact::Installed { log_id, .. } = fact {
            return match self.applied.insert(node, (who.boot, log_id.index)) {
                Some((boot, last)) if boot == who.boot && last >= log_id.index => {
                    Err(format!("node {node} installed {log_id} over a state that had applied {last}"))
                }
                Some(_) | None => Ok(()),
            };
        }
        let Fact::Applied { log_id, chain, state } = fact else { return Ok(()) };
        if let Some((boot, last)) = self.applied.insert(node, (who.boot, log_id.index))
            && boot == who.boot
            && log_id.index != last + 1
        {
            return Err(format!("node {node} applied {log_id} after index {last}"));
        }
        match view.ledger.get(log_id.index) {
            None => return Err(format!("node {node} applied {log_id}, which is not committed")),
            Some((committed, committed_chain)) if committed != *log_id || committed_chain != *chain => {
                return Err(format!("node {node} applied {log_id} where {committed} is committed"));
            }
            Some(_) => {}
        }
        let place = usize::try_from(log_id.index).unwrap_or(usize::MAX);
        if self.states.len() <= place {
            self.states.resize(place + 1, None);
        }
        match self.states[place].get_or_insert((*chain, *state)) {
            known if *known == (*chain, *state) => Ok(()),
            _ => Err(format!("the state of node {node} after {log_id} differs from the others'")),
        }
    }
}
