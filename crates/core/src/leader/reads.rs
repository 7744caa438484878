//! Serving reads: by a round, by the lease, by the last answer (Thesis §6.4).

use crate::leader::Leading;
use crate::sabotage::{self, Bug};
use crate::state::State;
use crate::{Effects, LogId, LogIdOf, ReadPolicy, Refusal, Reply, Round, Ticket, Time, Types};

impl<T: Types> Leading<T> {
    /// A client wants to read what is committed by now (Thesis §6.4).
    pub(crate) fn on_read(
        &mut self,
        state: &mut State<T>,
        now: Time,
        ticket: Ticket,
        policy: ReadPolicy,
        effects: &mut Effects<T>,
    ) {
        let read_log_id = self.read_log_id(state);
        let known = match policy {
            ReadPolicy::ReadIndex => sabotage::on(Bug::ReadsWithoutRound),
            ReadPolicy::Lease => self.lease_until(state).is_some_and(|until| now < until),
            ReadPolicy::AckedWithin(span) => self.rounds.answered_at().is_some_and(|at| now.since(at) <= span),
        };
        if known {
            return effects.reply(ticket, Reply::Read { read_log_id });
        }
        if self.rounds.reads() >= state.config.reads_max {
            return effects.reply(ticket, Reply::Refused(Refusal::Busy));
        }
        self.rounds.add_read(read_log_id, ticket);
        if !self.rounds.is_under_way() {
            self.beat(state, now, effects);
        }
    }

    /// What a state machine must have applied before it serves a read that comes now: all that is committed, and our blank
    /// entry, since before that commits we do not know how much is (BUGS 10).
    fn read_log_id(&self, state: &State<T>) -> LogIdOf<T> {
        let blank = LogId::new(self.leader_id, self.first_index);
        let blank = if sabotage::on(Bug::ReadsTooSoon) { LogId::default() } else { blank };
        state.committed.map_or(blank, |committed| committed.max(blank))
    }

    /// Until when a quorum has promised to vote for nobody else (Thesis §6.4.1). It counts from the *send* of the heartbeat
    /// that they have answered, and is shorter than their promise by as much as their clocks may be faster than ours
    /// (BUGS 12).
    pub(crate) fn lease_until(&self, state: &State<T>) -> Option<Time> {
        let drift = state
            .config
            .clock_drift_max
            .filter(|_| !self.lease_given_up || sabotage::on(Bug::LeaseSurvivesTransfer))?;
        let promise = state.config.election_timeout_min;
        let trusted = if sabotage::on(Bug::LeaseIgnoresDrift) { promise } else { drift.shortened(promise) };
        Some(self.rounds.answered_at()? + trusted)
    }

    /// Counts who has answered which round, and serves the reads that waited for one.
    pub(super) fn confirm_rounds(&mut self, state: &State<T>, effects: &mut Effects<T>) {
        let me = state.me();
        let latest = if state.is_admitted() { self.rounds.latest() } else { Round(0) };
        let at_quorum = self.electorate(state).quorum_value(|id| {
            if *id == me { latest } else { self.targets.get(id).map_or(Round(0), |target| target.round) }
        });
        if let Some(round) = at_quorum {
            self.rounds.confirm(round);
            while let Some((ticket, read_log_id)) = self.rounds.next_ready() {
                effects.reply(ticket, Reply::Read { read_log_id });
            }
        }
    }
}
