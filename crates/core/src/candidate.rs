//! Campaigning: the right side of the paper's Figure 2, "Candidates", and the round of questions before it.

use alloc::collections::BTreeSet;

use crate::outbox::Promise;
use crate::role::{Candidacy, Next};
use crate::sabotage::{self, Bug};
use crate::state::State;
use crate::{Effects, Note, Time, Types, VoteKind, VoteOf, VoteRequest, VoteResponse};

impl<T: Types> Candidacy<T> {
    /// Asks the others whether they would vote for us. Nothing changes, here or there (Thesis §9.6).
    pub(crate) fn ask(state: &mut State<T>, asked: VoteOf<T>, now: Time, effects: &mut Effects<T>) -> Self {
        let request = Self::request(state, asked, VoteKind::PreVote, None);
        effects.note(Note::ElectionStarted { pre_vote: true, vote: asked });
        state.keep(crate::outbox::Promised::Campaign(request), effects);
        // Asking is cheap and disturbs nobody, so it is repeated soon: some voter may just not have missed its leader yet.
        let min = state.config.election_timeout_min;
        let ends_at = now + state.rng.span(min.divided_by(3), min);
        let granted = state.is_voter().then_some(state.me()).into_iter().collect();
        Self { asked, granted, own_vote_durable: false, ends_at }
    }

    /// Votes for ourselves and, once that is durable, asks the others for their votes (Raft §5.2).
    pub(crate) fn campaign(
        state: &mut State<T>,
        asked: VoteOf<T>,
        kind: VoteKind,
        now: Time,
        effects: &mut Effects<T>,
    ) -> Self {
        effects.note(Note::ElectionStarted { pre_vote: false, vote: asked });
        // Who asked us to take over is the leader that we have followed until now.
        let permit = if kind == VoteKind::Transfer { state.vote } else { None };
        state.set_vote(now, asked, effects);
        let request = Self::request(state, asked, kind, permit);
        state.promise(Promise::campaign(request), 0, effects);
        Self { asked, granted: BTreeSet::new(), own_vote_durable: false, ends_at: state.election_time(now) }
    }

    fn request(state: &State<T>, vote: VoteOf<T>, kind: VoteKind, permit: Option<VoteOf<T>>) -> VoteRequest<T> {
        VoteRequest { from: state.identity, vote, last_log_id: state.last(), kind, permit }
    }

    /// A voter has answered. Only an explicit grant of what we ask for counts (BUGS 48).
    pub(crate) fn on_response(&mut self, state: &mut State<T>, response: &VoteResponse<T>, kind: VoteKind) -> Next<T> {
        state.see_vote(&response.from, response.vote.as_ref());
        // Our own grant counts when it is durable, whoever speaks in our name.
        let foreign = response.from.id != state.me() && state.membership().admits(&response.from);
        let old = sabotage::on(Bug::OldGrantsCount);
        let ours = (old || response.asked == self.asked)
            && (response.kind == VoteKind::PreVote) == (kind == VoteKind::PreVote);
        if !ours || !foreign || !(response.granted || sabotage::on(Bug::RefusalsCount)) {
            return Next::Stay;
        }
        self.granted.insert(response.from.id);
        self.count(state, kind)
    }

    /// This server's own vote is durable: it counts like any other, if it votes.
    pub(crate) fn on_own_vote(&mut self, state: &State<T>, asked: &VoteOf<T>) -> Next<T> {
        if self.asked != *asked {
            return Next::Stay;
        }
        self.own_vote_durable = true;
        if state.is_voter() {
            self.granted.insert(state.me());
        }
        self.count(state, VoteKind::Vote)
    }

    fn count(&self, state: &State<T>, kind: VoteKind) -> Next<T> {
        if !state.membership().is_quorum(|id| self.granted.contains(id)) {
            return Next::Stay;
        }
        match kind {
            VoteKind::PreVote => Next::Campaign(VoteKind::Vote),
            VoteKind::Vote | VoteKind::Transfer if self.own_vote_durable => Next::Lead,
            VoteKind::Vote | VoteKind::Transfer => Next::Stay,
        }
    }
}
