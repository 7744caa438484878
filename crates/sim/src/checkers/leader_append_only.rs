//! A leader never overwrites or deletes entries in its log; it only appends new entries (Raft §5.3, Figure 3).

use super::{Checker, Fact, GodView, Who};

/// Nothing is truncated by a node that leads before and after.
#[derive(Debug, Default)]
pub(super) struct LeaderAppendOnly;

impl Checker for LeaderAppendOnly {
    fn property(&self) -> &'static str {
        "leader append-only"
    }

    fn source(&self) -> &'static str {
        "Raft §5.3"
    }

    fn observe(&mut self, who: Who, fact: &Fact, _view: &GodView<'_>) -> Result<(), String> {
        match fact {
            Fact::Truncating { since, leading: Some(vote) } => {
                Err(format!("node {} leads with {vote} and truncates its log from {since} on", who.node))
            }
            _ => Ok(()),
        }
    }
}
