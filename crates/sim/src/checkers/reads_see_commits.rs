//! A linearizable read sees everything that was committed when it was asked (Raft §8, Thesis §6.4).

use super::{Checker, Fact, GodView, Who};

/// The index up to which a read waits is not below what was committed anywhere at its call. It need not be committed yet:
/// a new leader lets reads wait for its first entry.
#[derive(Debug, Default)]
pub(super) struct ReadsSeeCommits;

impl Checker for ReadsSeeCommits {
    fn property(&self) -> &'static str {
        "reads see what was committed"
    }

    fn source(&self) -> &'static str {
        "Thesis §6.4"
    }

    fn observe(&mut self, who: Who, fact: &Fact, _view: &GodView<'_>) -> Result<(), String> {
        let Fact::ReadAnswered { committed_at_call, read_log_id } = fact else { return Ok(()) };
        if read_log_id.index < *committed_at_call {
            return Err(format!(
                "node {} lets a read wait for {read_log_id}, but {committed_at_call} was committed when it was asked",
                who.node
            ));
        }
        Ok(())
    }
}
