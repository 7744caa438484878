//! A leadership as words.

use super::Leading;
use super::changes::Change;
use super::targets::{Leaving, Target};
use super::transfer::Transfer;
use crate::{Canonical, ChangeConditions, ChangeMembers, Node, Types};

impl<T: Types> Leading<T> {
    /// Adds what makes a difference from here on. Every field is named, so that a new one is not forgotten.
    pub(crate) fn canonical(&self, words: &mut Canonical<'_, T>) {
        let Self {
            vote,
            leader_id: _,
            first_index,
            since: _,
            targets,
            next_stream: _,
            rounds,
            heartbeat_at: _,
            uncommitted: _,
            uncommitted_bytes: _,
            change,
            cancelled,
            waiting_changes,
            transfer,
            // Leases are promises about time.
            lease_given_up: _,
        } = self;
        words.vote(vote);
        words.word(*first_index);
        words.unordered(targets.iter(), |words, (id, target)| {
            words.server(id);
            target.canonical(words);
        });
        rounds.canonical(words);
        words.option(change.as_ref(), |words, ticket| words.ticket(*ticket));
        words.option(cancelled.as_ref(), |words, ticket| words.ticket(*ticket));
        words.word(waiting_changes.len() as u64);
        for (ticket, change) in waiting_changes {
            words.ticket(*ticket);
            change.canonical(words);
        }
        words.option(transfer.as_ref(), |words, transfer| transfer.canonical(words));
    }
}

impl Target {
    fn canonical<T: Types>(&self, words: &mut Canonical<'_, T>) {
        let Self { stream, matched, round, seen, round_of_entries, caught_up, leaving } = self;
        words.flag(stream.is_some());
        words.word(*matched);
        words.word(round.0);
        words.incarnation(*seen);
        words.option(round_of_entries.as_ref(), |words, (goal, _)| words.word(*goal));
        words.flag(*caught_up);
        words.option(leaving.as_ref(), |words, Leaving { index, after, until: _ }| {
            words.word(*index);
            words.word(after.0);
        });
    }
}

impl<T: Types> Transfer<T> {
    fn canonical(&self, words: &mut Canonical<'_, T>) {
        let Self { to, ends_at: _, ticket } = self;
        words.server(to);
        words.option(ticket.as_ref(), |words, ticket| words.ticket(*ticket));
    }
}

impl<T: Types> Change<T> {
    fn canonical(&self, words: &mut Canonical<'_, T>) {
        let Self { change, conditions } = self;
        change.canonical(words);
        let ChangeConditions { membership, leader, last_log_id } = conditions;
        words.option(membership.as_ref(), |words, id| words.log_id(id));
        words.option(leader.as_ref(), Canonical::vote);
        words.option(last_log_id.as_ref(), |words, id| words.log_id(id));
    }
}

impl<T: Types> ChangeMembers<T> {
    fn canonical(&self, words: &mut Canonical<'_, T>) {
        let named = |words: &mut Canonical<'_, T>, (id, node): (&T::NodeId, &T::Node)| {
            words.server(id);
            words.incarnation(Node::incarnation(node));
        };
        match self {
            ChangeMembers::SetNodes(nodes) => {
                words.word(0);
                words.unordered(nodes.iter(), named);
            }
            ChangeMembers::UpdateNodes(nodes) => {
                words.word(1);
                words.unordered(nodes.iter(), named);
            }
            ChangeMembers::RemoveNodes(ids) => {
                words.word(2);
                words.unordered(ids.iter(), Canonical::server);
            }
            ChangeMembers::AddVoters(ids) => {
                words.word(3);
                words.unordered(ids.iter(), Canonical::server);
            }
            ChangeMembers::Promote(ids) => {
                words.word(4);
                words.unordered(ids.iter(), Canonical::server);
            }
            ChangeMembers::RemoveVoters { voters, retain } => {
                words.word(5);
                words.unordered(voters.iter(), Canonical::server);
                words.flag(*retain);
            }
            ChangeMembers::ReplaceVoters { voters, retain } => {
                words.word(6);
                words.unordered(voters.iter(), Canonical::server);
                words.flag(*retain);
            }
            ChangeMembers::ReplaceNode { old, new, node } => {
                words.word(7);
                words.server(old);
                named(words, (new, node));
            }
        }
    }
}
