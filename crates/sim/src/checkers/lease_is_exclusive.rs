//! While a leader's lease lasts nobody else is elected (Thesis §6.4.1): that is what allows it to answer reads by itself.

use super::{Checker, Fact, GodView, Who};
use crate::core_world::types::Vote;

/// No lease is valid, by the clock of the server that holds it, once a leader of a higher term has been elected. A stale read
/// needs a write and a read in that time as well; this sees the mistake without either.
#[derive(Debug, Default)]
pub(super) struct LeaseIsExclusive {
    /// Of the leader with the highest term so far.
    newest: Option<Vote>,
}

impl Checker for LeaseIsExclusive {
    fn property(&self) -> &'static str {
        "a lease is exclusive"
    }

    fn source(&self) -> &'static str {
        "Thesis §6.4.1"
    }

    fn observe(&mut self, who: Who, fact: &Fact, _view: &GodView<'_>) -> Result<(), String> {
        match fact {
            Fact::BecameLeader { vote } => {
                // One of an older term may learn late that it was elected.
                if self.newest.is_none_or(|newest| newest.term() < vote.term()) {
                    self.newest = Some(*vote);
                }
                Ok(())
            }
            Fact::LeaseHeld { vote } => match self.newest {
                Some(newest) if newest.term() > vote.term() => {
                    Err(format!("node {} trusts its lease under {vote}, and {newest} has been elected", who.node))
                }
                Some(_) | None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}
