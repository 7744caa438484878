//! What must be true of every replica at every moment, and of every two consecutive ones.

use crate::{LogIdOf, LogIdOption, LogIndex, Replica, ServerState, Types, VoteOf};

/// A promise of ours that does not hold: a bug in this crate.
pub type Violation = &'static str;

/// The facts of a replica that [`check_delta`] compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts<T: Types> {
    /// The role.
    pub server_state: ServerState,
    /// The vote.
    pub vote: Option<VoteOf<T>>,
    /// The last entry.
    pub last: Option<LogIdOf<T>>,
    /// The commit index.
    pub committed: Option<LogIdOf<T>>,
    /// What was purged.
    pub purged: Option<LogIdOf<T>>,
    /// What is durable.
    pub durable: LogIndex,
}

impl<T: Types> Facts<T> {
    /// The facts of now.
    pub fn of(replica: &Replica<T>) -> Self {
        Self {
            server_state: replica.server_state(),
            vote: replica.vote().copied(),
            last: replica.last_log_id(),
            committed: replica.committed(),
            purged: replica.purged(),
            durable: replica.durable_index(),
        }
    }
}

/// Checks one state. Cheap: O(leaders seen).
///
/// # Errors
/// The first promise that does not hold.
pub fn check<T: Types>(replica: &Replica<T>) -> Result<(), Violation> {
    let facts = Facts::of(replica);
    let (last, committed, purged) =
        (facts.last.index_or_zero(), facts.committed.index_or_zero(), facts.purged.index_or_zero());
    require(replica.log_shape().is_sound(), "the runs of the log ascend")?;
    require(purged <= committed && committed <= last, "purged <= committed <= last")?;
    require(facts.durable <= last, "durable <= last")?;
    require(
        facts.committed.is_none_or(|id| id.index < purged || replica.log_shape().contains(id)),
        "what is committed is in the log",
    )?;
    let effective = replica.membership().log_id.index_or_zero();
    require(effective <= last, "the membership that counts is in the log (Raft §6)")?;
    require(
        replica.committed_membership().log_id.index_or_zero() <= committed,
        "the committed membership is committed",
    )?;
    let Some(leading) = replica.leading() else { return Ok(()) };
    require(
        facts.vote.is_some_and(|vote| leading.is_of(&vote) && vote.committed),
        "a leader's vote is its own, and committed",
    )?;
    require(leading.first_index() <= last, "a leader's blank entry is in its log")?;
    require(leading.matched().all(|(_, matched)| matched <= last), "nobody has matched more than the leader has")
}

/// Checks two consecutive states of one replica, between which no restart was.
///
/// # Errors
/// The first promise that does not hold.
pub fn check_delta<T: Types>(before: &Facts<T>, after: &Facts<T>) -> Result<(), Violation> {
    let vote_kept = match (before.vote, after.vote) {
        (Some(before), Some(after)) => after >= before,
        (Some(_), None) => false,
        (None, Some(_) | None) => true,
    };
    require(vote_kept, "a vote never goes back (Raft §5.2)")?;
    require(after.committed.index_or_zero() >= before.committed.index_or_zero(), "the commit index never goes back")?;
    require(after.purged.index_or_zero() >= before.purged.index_or_zero(), "what was purged never comes back")?;
    let leads_on = before.server_state == ServerState::Leader
        && after.server_state == ServerState::Leader
        && before.vote == after.vote;
    require(!leads_on || after.last >= before.last, "a leader only appends to its log (Raft §5.3)")
}

fn require(holds: bool, promise: Violation) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(promise) }
}

#[cfg(test)]
mod tests;
