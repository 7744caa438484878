//! Once committed, always committed: no node drops or replaces a committed entry (Raft §5.4; fault model S9).

use raftwright_core::LogIdOption;

use super::{Checker, Fact, GodView, Who};

/// Two nodes never believe in different committed entries; nobody truncates one that it holds; only committed entries
/// are purged.
#[derive(Debug, Default)]
pub(super) struct CommittedImmutable;

impl Checker for CommittedImmutable {
    fn property(&self) -> &'static str {
        "committed entries are immutable"
    }

    fn source(&self) -> &'static str {
        "Raft §5.4"
    }

    fn observe(&mut self, who: Who, fact: &Fact, view: &GodView<'_>) -> Result<(), String> {
        let Some(disk) = view.disks.disk(who.node) else { return Ok(()) };
        let node = who.node;
        match fact {
            Fact::Committed { upto } => match view.ledger.get(upto.index) {
                Some((committed, _)) if committed != *upto => {
                    Err(format!("node {node} believes that {upto} is committed, where {committed} is"))
                }
                // The ledger has been extended by this very fact; what is missing in it was missing in the node's log.
                None => Err(format!("node {node} believes that {upto} is committed, which is not in its log")),
                Some(_) => Ok(()),
            },
            Fact::Truncating { since, .. } => {
                let first = *since;
                let drops = disk.readable().get(first).map(|stored| stored.entry.log_id);
                match (drops, view.ledger.get(first)) {
                    (Some(mine), Some((committed, _))) if mine == committed => {
                        Err(format!("node {node} truncates from {since} on, but {mine} is committed"))
                    }
                    _ => Ok(()),
                }
            }
            Fact::Purging { upto } => match view.ledger.get(upto.index) {
                Some((committed, _)) if committed == *upto => Ok(()),
                _ if disk.readable().purged().index_or_zero() >= upto.index => Ok(()),
                _ => Err(format!("node {node} purges up to {upto}, which is not committed")),
            },
            _ => Ok(()),
        }
    }
}
