//! Membership changes one step at a time, through joint consensus (Raft §6), and never before the leader has committed
//! an entry of its own term (Thesis §4.1, erratum of 2015).

use raftwright_core::Node;

use super::{Checker, Fact, GodView, Who};
use crate::core_world::types::{LogId, Membership, Payload, term_of};

/// A leader appends a membership only when the one before it is committed and so is an entry of its term; and from each
/// membership to the next any two quorums share a server.
#[derive(Debug, Default)]
pub(super) struct MembershipSteps;

impl Checker for MembershipSteps {
    fn property(&self) -> &'static str {
        "membership changes one step at a time"
    }

    fn source(&self) -> &'static str {
        "Raft §6"
    }

    fn observe(&mut self, who: Who, fact: &Fact, view: &GodView<'_>) -> Result<(), String> {
        let Fact::Appended { first, last, leading } = fact else { return Ok(()) };
        let Some(disk) = view.disks.disk(who.node) else { return Ok(()) };
        let log = disk.readable();
        for index in *first..=*last {
            let Some(stored) = log.get(index) else { continue };
            let Payload::Membership(next) = &stored.entry.payload else { continue };
            let Some((previous_id, previous)) = log.membership_at(index - 1) else { continue };
            step_is_allowed(previous, next)
                .map_err(|what| format!("{} on node {}: {what}", stored.entry.log_id, who.node))?;
            if leading.is_some() && term_of(&stored.entry.log_id) > 0 {
                let before = log.membership_at(previous_id.index.saturating_sub(1)).map(|(id, _)| id);
                // What a leader takes back counts for nothing, so it follows what came before that.
                let taken_back = is_taken_back((&previous_id, previous), (&stored.entry.log_id, next));
                let follows = before.filter(|_| taken_back).unwrap_or(previous_id);
                proposed_in_time(&stored.entry.log_id, &follows, view)
                    .map_err(|what| format!("node {}: {what}", who.node))?;
            }
        }
        Ok(())
    }
}

/// From one membership to the next.
fn step_is_allowed(previous: &Membership, next: &Membership) -> Result<(), String> {
    let allowed = match (previous.configs(), next.configs()) {
        // Learners, or what is stored about members.
        (before, after) if before == after => true,
        // Into a joint membership, and out of it to either side: whoever has a quorum of both has one of each.
        ([before], [first, _]) => before == first,
        ([first, second], [after]) => first == after || second == after,
        _ => false,
    };
    if !allowed {
        return Err(format!("{previous} is followed by {next}"));
    }
    let rebound = next.nodes().iter().find(|(id, node)| match previous.node(id).and_then(Node::incarnation) {
        Some(bound) => node.incarnation() != Some(bound) && next.is_voter(id),
        None => false,
    });
    match rebound {
        Some((id, _)) => Err(format!("voter {id} is bound to another disk from {previous} to {next}")),
        None => Ok(()),
    }
}

/// Whether a leader takes a joint membership back that it has appended itself: the old voters are alone again. That is sound
/// although the joint one is not committed; `docs/membership.md` says why.
fn is_taken_back(joint: (&LogId, &Membership), next: (&LogId, &Membership)) -> bool {
    let same_leader = term_of(joint.0) == term_of(next.0);
    same_leader && matches!((joint.1.configs(), next.1.configs()), ([old, _], [after]) if old == after)
}

/// The membership before is committed, and so is an entry of the leader's term, or the new one is its first.
fn proposed_in_time(new: &LogId, previous: &LogId, view: &GodView<'_>) -> Result<(), String> {
    let committed = view.ledger.last();
    if previous.index > view.ledger.last_index() {
        return Err(format!("appends the membership {new} while {previous} is not committed"));
    }
    match committed {
        Some(last) if term_of(&last) >= term_of(new) => Ok(()),
        _ => Err(format!("appends the membership {new} before an entry of term {} is committed", term_of(new))),
    }
}
