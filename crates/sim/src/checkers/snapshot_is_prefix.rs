//! A snapshot stands for a prefix of the log (Raft §7; fault model S26).

use std::collections::BTreeMap;

use super::{Checker, Fact, GodView, Who};

/// A snapshot that is kept or installed is the state after exactly the committed entries up to its last one.
#[derive(Debug, Default)]
pub(super) struct SnapshotIsPrefix {
    /// By index: the state after it, as those who applied entry by entry had it.
    states: BTreeMap<u64, u64>,
}

impl Checker for SnapshotIsPrefix {
    fn property(&self) -> &'static str {
        "a snapshot is a prefix of the log"
    }

    fn source(&self) -> &'static str {
        "Raft §7"
    }

    fn observe(&mut self, who: Who, fact: &Fact, view: &GodView<'_>) -> Result<(), String> {
        let (log_id, chain, state) = match fact {
            Fact::Applied { log_id, state, .. } => {
                self.states.entry(log_id.index).or_insert(*state);
                return Ok(());
            }
            Fact::SnapshotKept { log_id, chain, state } | Fact::Installed { log_id, chain, state } => {
                (log_id, *chain, *state)
            }
            _ => return Ok(()),
        };
        let node = who.node;
        match view.ledger.get(log_id.index) {
            Some((committed, committed_chain)) if committed == *log_id && committed_chain == chain => {}
            other => return Err(format!("node {node} has a snapshot of {log_id}, where {other:?} is committed")),
        }
        match self.states.get(&log_id.index) {
            Some(known) if *known == state => Ok(()),
            known => Err(format!("node {node} has a snapshot of {log_id} with state {state}, not {known:?}")),
        }
    }
}
