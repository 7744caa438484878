//! Heartbeat rounds: when did a quorum last confirm that this server leads?

use alloc::collections::VecDeque;

use crate::sabotage::{self, Bug};
use crate::{Canonical, LogIdOf, Round, Ticket, Time, Types};

/// The heartbeat rounds of a leadership, and the reads that wait for one.
///
/// A round counts from its *send*: whoever answers has followed this leader at some time after it. So a read that came
/// before the round was sent may be served once a quorum has answered it (Thesis §6.4), and all reads that wait share one.
#[derive(Clone, Debug)]
pub(crate) struct Rounds<T: Types> {
    latest: Round,
    confirmed: Round,
    /// When the rounds that are not confirmed were sent, oldest first.
    sent: VecDeque<(Round, Time)>,
    /// When the newest confirmed round was sent; when the leadership began, before that.
    confirmed_at: Time,
    reads: VecDeque<PendingRead<T>>,
}

#[derive(Clone, Debug)]
struct PendingRead<T: Types> {
    /// The first round that was, or will be, sent after the read came.
    round: Round,
    read_log_id: LogIdOf<T>,
    ticket: Ticket,
}

impl<T: Types> Rounds<T> {
    /// A leadership begins: its election was confirmed by a quorum just now.
    pub(crate) fn new(now: Time) -> Self {
        Self { latest: Round(0), confirmed: Round(0), sent: VecDeque::new(), confirmed_at: now, reads: VecDeque::new() }
    }

    /// Starts a round.
    pub(crate) fn start(&mut self, now: Time) -> Round {
        self.latest = Round(self.latest.0 + 1);
        self.sent.push_back((self.latest, now));
        self.latest
    }

    /// The newest round.
    pub(crate) fn latest(&self) -> Round {
        self.latest
    }

    /// When the newest round that a quorum has answered was sent.
    pub(crate) fn confirmed_at(&self) -> Time {
        self.confirmed_at
    }

    /// When the newest round that a quorum has answered was sent, if one has been. An election is not enough for a lease: who
    /// gives a vote does not promise to give no other.
    pub(crate) fn answered_at(&self) -> Option<Time> {
        (self.confirmed > Round(0) || sabotage::on(Bug::LeaseFromElection)).then_some(self.confirmed_at)
    }

    /// Only if it is sabotaged: the newest confirmed round counts from now.
    pub(crate) fn answered_now(&mut self, now: Time) {
        self.confirmed_at = now;
    }

    /// Whether a round is on its way that a quorum has not answered.
    pub(crate) fn is_under_way(&self) -> bool {
        self.latest > self.confirmed
    }

    /// How many reads wait.
    pub(crate) fn reads(&self) -> usize {
        self.reads.len()
    }

    /// Whether a read waits for a round that was not started.
    pub(crate) fn wants_round(&self) -> bool {
        self.reads.back().is_some_and(|read| read.round > self.latest)
    }

    /// A read has come: it waits for the next round, since those sent before it say nothing about now.
    pub(crate) fn add_read(&mut self, read_log_id: LogIdOf<T>, ticket: Ticket) {
        self.reads.push_back(PendingRead {
            round: Round(self.latest.0 + u64::from(!sabotage::on(Bug::ReadsJoinOldRound))),
            read_log_id,
            ticket,
        });
    }

    /// Nobody waits for this read any more.
    pub(crate) fn forget(&mut self, ticket: Ticket) {
        self.reads.retain(|read| read.ticket != ticket);
    }

    /// A quorum has answered this round or a later one.
    pub(crate) fn confirm(&mut self, round: Round) {
        let round = round.min(self.latest);
        while let Some((round, at)) = self.sent.pop_front_if(|(sent, _)| *sent <= round) {
            self.confirmed = round;
            self.confirmed_at = at;
        }
    }

    /// The next read whose round is confirmed.
    pub(crate) fn next_ready(&mut self) -> Option<(Ticket, LogIdOf<T>)> {
        let confirmed = self.confirmed;
        self.reads.pop_front_if(|read| read.round <= confirmed).map(|read| (read.ticket, read.read_log_id))
    }

    /// The rounds as words. They are counted from the start of the leadership, so their numbers say all.
    pub(crate) fn canonical(&self, words: &mut Canonical<'_, T>) {
        let Self { latest, confirmed, sent: _, confirmed_at: _, reads } = self;
        words.word(latest.0);
        words.word(confirmed.0);
        words.word(reads.len() as u64);
        for PendingRead { round, read_log_id, ticket } in reads {
            words.word(round.0);
            words.log_id(read_log_id);
            words.ticket(*ticket);
        }
    }

    /// All reads that wait, for a leadership that ends.
    pub(crate) fn into_tickets(self) -> impl Iterator<Item = Ticket> {
        self.reads.into_iter().map(|read| read.ticket)
    }
}
