//! A leadership as words.

use super::Leading;
use super::changes::Change;
use super::targets::{Leaving, Target};
use super::transfer::Transfer;
use crate::{Canonical, Types};

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
        let Self { stream, matched, round, seen, leaving } = self;
        words.flag(stream.is_some());
        words.word(*matched);
        words.word(round.0);
        words.incarnation(*seen);
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
        match self {
            Change::AddLearner(id, node) => {
                words.word(0);
                words.server(id);
                words.incarnation(crate::Node::incarnation(node));
            }
            Change::RemoveLearners(ids) => {
                words.word(1);
                words.unordered(ids.iter(), Canonical::server);
            }
            Change::Voters(ids, retain) => {
                words.word(2);
                words.unordered(ids.iter(), Canonical::server);
                words.flag(*retain);
            }
        }
    }
}
