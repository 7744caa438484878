//! If two logs contain an entry with the same index and term, then the logs are identical in all entries up through the
//! given index (Raft §5.3, Figure 3).

use std::collections::BTreeMap;

use super::{Checker, Fact, GodView, Who};
use crate::core_world::types::term_of;
use crate::world::NodeId;

/// Every appended entry, committed or not, has the hash of its log up to it; equal places must have equal hashes.
#[derive(Debug, Default)]
pub(super) struct LogMatching {
    /// By index and term: the hash, and who had it first.
    seen: BTreeMap<(u64, u64), (u64, NodeId)>,
}

impl Checker for LogMatching {
    fn property(&self) -> &'static str {
        "log matching"
    }

    fn source(&self) -> &'static str {
        "Raft §5.3"
    }

    fn observe(&mut self, who: Who, fact: &Fact, view: &GodView<'_>) -> Result<(), String> {
        let Fact::Appended { first, last, .. } = fact else { return Ok(()) };
        let Some(disk) = view.disks.disk(who.node) else { return Ok(()) };
        for index in *first..=*last {
            let Some(stored) = disk.readable().get(index) else { continue };
            let term = term_of(&stored.entry.log_id);
            let (chain, other) = *self.seen.entry((index, term)).or_insert((stored.chain, who.node));
            if chain != stored.chain {
                return Err(format!(
                    "the logs of {} and {other} both have {} but differ up to it; here it is {:?}",
                    who.node, stored.entry.log_id, stored.entry.payload
                ));
            }
        }
        Ok(())
    }
}
