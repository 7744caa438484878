//! What others have stored and answered, and what follows: commitment, confirmed rounds.

use crate::leader::Leading;
use crate::role::Next;
use crate::sabotage::{self, Bug};
use crate::state::State;
use crate::{Effects, Identity, LogIdOf, LogIdOption, Note, Report, Round, StepDown, StreamId, Tail, Time, Types};

impl<T: Types> Leading<T> {
    /// Something became durable, here or elsewhere: commit what a quorum has, if it is of our own term (Raft §5.3, Raft §5.4.2).
    pub(crate) fn advance_commit(&mut self, state: &mut State<T>, now: Time, effects: &mut Effects<T>) -> Next<T> {
        self.release_uncommitted(state);
        let me = state.me();
        let own = if sabotage::on(Bug::CountsOwnBeforeDisk) {
            state.last().index_or_zero()
        } else {
            state.writes.durable_index()
        };
        let durable = if state.is_admitted() { own } else { 0 };
        let at_quorum = state.membership().quorum_value(|id| {
            let sent = if sabotage::on(Bug::MatchesWhatWasSent) { state.last().index_or_zero() } else { 0 };
            if *id == me { durable } else { self.targets.get(id).map_or(0, |target| target.matched.max(sent)) }
        });
        if let Some(index) = at_quorum
            && (index >= self.first_index || sabotage::on(Bug::CommitsEarlierTerms))
            && index > state.committed.index_or_zero()
            && let Some(log_id) = state.shape.log_id_at(index)
        {
            debug_assert!(
                log_id.leader_id == self.leader_id || sabotage::on(Bug::CommitsEarlierTerms),
                "from our blank entry on, all entries are ours"
            );
            state.commit(log_id, effects);
            self.release_uncommitted(state);
            self.tell_tail(state, effects);
            if state.memberships.is_committed() && !state.membership().is_joint() && !state.is_voter() {
                // We have led the cluster to a membership without us; now that it stands, we leave (Raft §6).
                self.finish_change(state, effects);
                return Next::StepDown(StepDown::Removed);
            }
            self.settle_membership(state, now, effects);
        }
        Next::Stay
    }

    /// Gives back the room of proposals that are committed *and* durable here: what the quorum has may still be queued for
    /// our own disk, and that queue must not grow past the bound either.
    pub(super) fn release_uncommitted(&mut self, state: &State<T>) {
        let settled = state.committed.index_or_zero().min(state.writes.durable_index());
        while let Some((_, bytes)) = self.uncommitted.pop_front_if(|(at, _)| *at <= settled) {
            self.uncommitted_bytes -= bytes;
        }
    }

    pub(super) fn tell_tail(&self, state: &State<T>, effects: &mut Effects<T>) {
        if let Some(last) = state.last()
            && !self.targets.is_empty()
        {
            effects.tail(Tail { last, committed: state.committed });
        }
    }

    /// A member has stored our log up to an entry, durably.
    pub(super) fn on_matched(
        &mut self,
        state: &mut State<T>,
        now: Time,
        from: &Identity<T::NodeId>,
        matched: LogIdOf<T>,
        effects: &mut Effects<T>,
    ) -> Next<T> {
        let known = matched.index <= state.shape.purged().index_or_zero() || state.shape.contains(matched);
        if !known {
            effects.note(Note::BadPeer { from: from.id, what: "acknowledges an entry that this leader does not have" });
            return Next::Stay;
        }
        if let Some(target) = self.targets.get_mut(&from.id) {
            let all = sabotage::on(Bug::MatchesEverything);
            target.matched = target.matched.max(if all { state.last().index_or_zero() } else { matched.index });
            target.seen = from.incarnation;
        }
        self.hand_over(state, effects);
        self.watch_learner(state, now, &from.id, effects);
        self.advance_commit(state, now, effects)
    }

    pub(super) fn heard_from(&mut self, from: &Identity<T::NodeId>, round: Round) {
        if let Some(target) = self.targets.get_mut(&from.id) {
            target.round = target.round.max(if sabotage::on(Bug::RoundsConfirmTooMuch) {
                self.rounds.latest()
            } else {
                round.min(self.rounds.latest())
            });
            target.seen = from.incarnation;
        }
    }

    /// A stream knows more about its target.
    pub(crate) fn on_report(
        &mut self,
        state: &mut State<T>,
        now: Time,
        stream: StreamId,
        report: Report<T>,
        effects: &mut Effects<T>,
    ) -> Next<T> {
        // Streams of an earlier leadership, or of a target that was dropped, know nothing that counts now (BUGS 16, 20).
        let Some(id) = self.targets.iter().find(|(_, target)| target.stream == Some(stream)).map(|(id, _)| *id) else {
            return Next::Stay;
        };
        match report {
            Report::HigherVote { from, vote } => {
                if from.id != id || !self.is_member(state, &from, effects) {
                    return Next::Stay;
                }
                self.on_higher_vote(state, &from, Some(&vote))
            }
            Report::NeedsSnapshot => {
                effects.note(Note::TargetNeedsSnapshot { target: id });
                if state.snapshots.last < state.shape.purged() {
                    // There is none that goes far enough: that of a store which has lost it.
                    state.build(effects);
                }
                Next::Stay
            }
            Report::Matched { from, matched } => {
                // A server that is on its way out counts for nothing, but what it has stored says when it may be left.
                let member = state.membership().contains(&id);
                if from.id != id || (member && !self.is_member(state, &from, effects)) {
                    return Next::Stay;
                }
                self.on_matched(state, now, &from, matched, effects)
            }
        }
    }
}
