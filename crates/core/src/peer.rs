//! What peers ask of a server, whatever its role: RequestVote and AppendEntries, receiver's side (Raft, Figure 2).

use crate::outbox::Promise;
use crate::role::{Next, Role};
use crate::sabotage::{self, Bug};
use crate::state::State;
use crate::{
    AppendEntriesRequest, AppendEntriesResponse, AppendOutcome, Effects, HeartbeatRequest, HeartbeatResponse, LeaderId,
    LogIdOf, LogIdOption, Note, PeerRefusal, RaftEntry, Replica, Reply, Ticket, Time, TransferLeaderRequest, Types,
    VoteKind, VoteOf, VoteRequest, VoteResponse,
};

impl<T: Types> Replica<T> {
    /// A candidate asks for our vote, or whether we would give it.
    pub(crate) fn on_vote_request(
        &mut self,
        now: Time,
        ticket: Ticket,
        request: VoteRequest<T>,
        effects: &mut Effects<T>,
    ) -> Next<T> {
        let state = &mut self.state;
        let pre_vote = request.kind == VoteKind::PreVote;
        if !pre_vote {
            // Our own next candidacy must be above it, or candidates that cannot win stay ahead of us for ever (Raft §5.1).
            state.see_vote(&request.from, Some(&request.vote));
        }
        let granted = match refuse_vote(state, &self.role, now, &request) {
            Some(what) => {
                if let Some(note) = what {
                    effects.note(note);
                }
                false
            }
            None => true,
        };
        // A vote that was given before is given again, and changes nothing, not even when we would campaign ourselves.
        let binds = !pre_vote || sabotage::on(Bug::PreVoteBinds);
        let grants = granted && binds && state.vote != Some(request.vote);
        if grants {
            state.set_vote(now, request.vote, effects);
        }
        let response =
            VoteResponse { from: state.identity, kind: request.kind, asked: request.vote, granted, vote: state.vote };
        if state.is_outbox_full() && !state.is_vote_durable() {
            // No room to wait until it may be said. A vote that is given stays given, and is said when it is asked for again.
            effects.reply(ticket, Reply::Vote(VoteResponse { granted: false, vote: None, ..response }));
        } else {
            // A vote is said only when it is durable, with the term in one write (BUGS 4, 6).
            state.promise(Promise::vote(ticket, response), 0, effects);
        }
        if grants { Next::Follow(None) } else { Next::Stay }
    }

    /// A leader shows that it lives.
    pub(crate) fn on_heartbeat(
        &mut self,
        now: Time,
        ticket: Ticket,
        request: HeartbeatRequest<T>,
        effects: &mut Effects<T>,
    ) {
        let accepted = match self.refuse_leader(&request.from, &request.vote, effects) {
            Some(_) => false,
            None => {
                self.follow(now, request.vote, effects);
                // It tells how far it has committed. We believe it as far as we know our log to be the same (BUGS 17).
                if let Some(committed) = request.committed {
                    self.commit_verified(committed, effects);
                }
                true
            }
        };
        let state = &mut self.state;
        let response = HeartbeatResponse {
            from: state.identity,
            round: request.round,
            asked: request.vote,
            accepted,
            vote: state.vote,
        };
        if state.is_outbox_full() && !state.is_vote_durable() {
            let response = HeartbeatResponse { accepted: false, vote: None, ..response };
            return effects.reply(ticket, Reply::Heartbeat(response));
        }
        // It waits for our vote alone, never for entries: a slow disk delays no heartbeat.
        state.promise(Promise::heartbeat(ticket, response), 0, effects);
    }

    /// A leader sends entries to store behind `prev_log_id`.
    pub(crate) fn on_append_entries(
        &mut self,
        now: Time,
        ticket: Ticket,
        request: AppendEntriesRequest<T>,
        effects: &mut Effects<T>,
    ) {
        let (outcome, durable_at) = match self.try_append(now, request, effects) {
            Ok(matched) => (AppendOutcome::Success { matched }, matched.index_or_zero()),
            Err(outcome) => (outcome, 0),
        };
        let full = self.state.is_outbox_full();
        let outcome = if full { AppendOutcome::Refused(PeerRefusal::Busy) } else { outcome };
        let promises_nothing = matches!(outcome, AppendOutcome::Refused(_));
        let response = AppendEntriesResponse { from: self.state.identity, outcome };
        if promises_nothing {
            return effects.reply(ticket, Reply::Append(response));
        }
        // "Stored" is said only when it is durable (BUGS 30).
        self.state.promise(Promise::append(ticket, response), durable_at, effects);
    }

    /// The leader asks us to take over (Thesis §3.10). We do if we have all that it has.
    pub(crate) fn on_transfer_request(&mut self, request: &TransferLeaderRequest<T>) -> Next<T> {
        let state = &self.state;
        let follows = state.vote == Some(request.vote) && request.vote.node_id() == request.from.id;
        let ready = request.to == state.me() && state.is_voter() && state.last() >= request.last_log_id;
        if follows && ready && !self.is_leader() && !state.snapshots.is_installing() {
            Next::Campaign(VoteKind::Transfer)
        } else {
            Next::Stay
        }
    }

    fn try_append(
        &mut self,
        now: Time,
        request: AppendEntriesRequest<T>,
        effects: &mut Effects<T>,
    ) -> Result<Option<LogIdOf<T>>, AppendOutcome<T>> {
        if let Some(refused) = self.refuse_leader(&request.from, &request.vote, effects) {
            return Err(match refused {
                NotFollowed::HigherVote(vote) => AppendOutcome::HigherVote(vote),
                NotFollowed::Refused(refusal) => AppendOutcome::Refused(refusal),
            });
        }
        if self.state.is_overloaded() {
            return Err(AppendOutcome::Refused(PeerRefusal::Busy));
        }
        if let Err(what) = check_entries(&request) {
            effects.note(Note::BadPeer { from: request.from.id, what });
            return Err(AppendOutcome::Refused(PeerRefusal::Malformed));
        }
        // Everything from here on is about our log. Streams of our own are closed before it changes.
        self.follow(now, request.vote, effects);
        let state = &mut self.state;
        if let Some(prev) = request.prev_log_id
            && !check_prev(state, prev, request.from.id, effects)?
        {
            // What is committed surely agrees, so nobody needs to look further back than that.
            let hint = state.shape.conflict_hint(prev.index).max(state.committed);
            return Err(AppendOutcome::Conflict { prev, hint });
        }
        let matched = request.entries.last().map(RaftEntry::log_id).or(request.prev_log_id);
        let known = |state: &State<T>, id: LogIdOf<T>| match state.shape.purged() {
            // What was purged was committed, so a leader has it too (Raft §5.4.3); as far as we can still tell.
            Some(purged) if id.index < purged.index => id.leader_id <= purged.leader_id,
            Some(_) | None => {
                let longer = sabotage::on(Bug::ComparesIndexOnly) && id.index <= state.last().index_or_zero();
                longer || state.shape.contains(id)
            }
        };
        let known_count = request.entries.iter().take_while(|entry| known(state, entry.log_id())).count();
        let mut new = request.entries.into_iter().skip(known_count).peekable();
        if let Some(first) = new.peek().map(|entry| entry.log_id().index) {
            if first <= state.verified {
                // It is committed, or this very leader has sent it before: a leader only appends (Raft §5.3).
                let what = "sends another entry in place of one that stands";
                effects.note(Note::BadPeer { from: request.from.id, what });
                return Err(AppendOutcome::Refused(PeerRefusal::Malformed));
            }
            if first <= state.last().index_or_zero() {
                // An entry conflicts with a new one: it goes, with all that follow it (Raft §5.3). Only a conflict cuts the
                // log; a request that is merely older or shorter leaves it alone (BUGS 15).
                state.truncate(now, first, effects);
            }
        }
        let end = matched.next_index();
        if sabotage::on(Bug::TruncatesWithoutConflict) && new.peek().is_none() && end > state.committed.index_or_zero()
        {
            state.truncate(now, end, effects);
        }
        for entry in new {
            state.append(now, entry, effects);
        }
        state.verified = state.verified.max(matched.index_or_zero());
        if let Some(committed) = request.committed {
            self.commit_verified(committed, effects);
        }
        self.settle_membership_role(now);
        Ok(matched)
    }

    /// Commits what the leader has committed, as far as our log is known to be the leader's (Raft, Figure 2: the minimum
    /// of leaderCommit and the index of the last new entry).
    fn commit_verified(&mut self, committed: LogIdOf<T>, effects: &mut Effects<T>) {
        let state = &mut self.state;
        if let (Some(last), Some(vote)) = (state.last(), state.vote)
            && last.leader_id == vote.leader_id.to_committed()
        {
            // Our last entry is this leader's own, so all before it is the leader's too (Log Matching, Raft §5.3). A server
            // that was restarted under an idle leader learns from this how far to commit.
            state.verified = state.verified.max(last.index);
        }
        let verified = if sabotage::on(Bug::CommitsUnverified) { state.last().index_or_zero() } else { state.verified };
        let index = committed.index.min(verified);
        if let Some(log_id) = state.shape.log_id_at(index) {
            state.commit(log_id, effects);
        }
    }

    /// Why a leader is not followed, if it is not.
    pub(crate) fn refuse_leader(
        &mut self,
        from: &crate::Identity<T::NodeId>,
        vote: &VoteOf<T>,
        effects: &mut Effects<T>,
    ) -> Option<NotFollowed<T>> {
        let state = &mut self.state;
        if from.id == state.me() || !vote.committed || vote.node_id() != from.id || !state.is_believable(vote) {
            effects.note(Note::BadPeer { from: from.id, what: "claims a leadership that cannot be" });
            return Some(NotFollowed::Refused(PeerRefusal::Malformed));
        }
        match state.vote {
            Some(mine) if state.outranks(vote) => Some(NotFollowed::HigherVote(mine)),
            // To follow a new leader is a write; with too many under way, it has to wait.
            mine if mine != Some(*vote) && state.is_write_queue_full() => Some(NotFollowed::Refused(PeerRefusal::Busy)),
            Some(_) | None => None,
        }
    }

    /// Follows a leader whose vote is at least ours.
    pub(crate) fn follow(&mut self, now: Time, vote: VoteOf<T>, effects: &mut Effects<T>) {
        let news = self.state.vote != Some(vote) || self.leader() != Some(vote.node_id());
        if news {
            // First the role, then the vote: a leadership of our own ends before anything else is written.
            self.transition(now, Next::Follow(Some(vote.node_id())), effects);
            self.state.set_vote(now, vote, effects);
            effects.note(Note::FollowsLeader { vote });
        }
        self.state.heard = Some(now);
        self.put_off_election(now);
    }
}

/// Why a leader is not followed.
pub(crate) enum NotFollowed<T: Types> {
    /// We have promised ourselves to a newer one.
    HigherVote(VoteOf<T>),
    /// It cannot be what it says, or we have no room.
    Refused(PeerRefusal),
}

/// Who asks is not judged by our membership, which may be older than the asker's (Thesis §4.1): a vote given to anybody is
/// still one vote a term. Votes and acknowledgements are judged where they are *counted*.
///
/// Why a vote is refused: `None` if it is not, `Some(None)` for an ordinary refusal, with a note for a strange one.
fn refuse_vote<T: Types>(
    state: &mut State<T>,
    role: &Role<T>,
    now: Time,
    request: &VoteRequest<T>,
) -> Option<Option<Note<T>>> {
    let from = request.from.id;
    let believable = state.is_believable(&request.vote);
    if from == state.me() || request.vote.committed || request.vote.node_id() != from || !believable {
        return Some(Some(Note::BadPeer { from, what: "asks for a vote that cannot be" }));
    }
    let led = match role {
        Role::Leader(leading) => now.since(leading.confirmed_at()) < state.config.election_timeout_min,
        Role::Learner(_) | Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => state.is_leader_alive(now),
    };
    if led && !is_permitted(state, request) {
        // A leader that lives is not voted out: a server that was cut off or removed cannot disturb (Thesis §4.2.3). And its
        // lease rests on this.
        return Some(None);
    }
    if state.outranks(&request.vote) || is_behind(state, request) {
        // Promised to another (Raft §5.2), or our log is more up-to-date (Raft §5.4.1).
        return Some(None);
    }
    if request.kind != VoteKind::PreVote && state.is_write_queue_full() {
        // To give a vote is a write; with too many under way, it has to wait.
        return Some(None);
    }
    None
}

/// Whether our log is more up-to-date than the candidate's (Raft §5.4.1).
fn is_behind<T: Types>(state: &State<T>, request: &VoteRequest<T>) -> bool {
    let shorter = request.last_log_id.index_or_zero() < state.last().index_or_zero();
    match () {
        () if sabotage::on(Bug::VotesForAnyLog) => false,
        () if sabotage::on(Bug::VotesForLongerLog) => shorter,
        () => request.last_log_id < state.last(),
    }
}

/// Whether the leader that we follow, or one elected after it, has asked the candidate to take over (Thesis §3.10). An earlier
/// leader cannot give away what we have promised to a later one: its request may have been on its way for long.
fn is_permitted<T: Types>(state: &State<T>, request: &VoteRequest<T>) -> bool {
    request.kind == VoteKind::Transfer
        && request.permit.is_some_and(|permit| permit.committed && !state.outranks(&permit))
}

/// Whether our log has the entry before the request's. An entry that contradicts what is committed is refused.
fn check_prev<T: Types>(
    state: &State<T>,
    prev: LogIdOf<T>,
    from: T::NodeId,
    effects: &mut Effects<T>,
) -> Result<bool, AppendOutcome<T>> {
    let was_purged =
        state.shape.purged().is_some_and(|purged| prev.index < purged.index && prev.leader_id <= purged.leader_id);
    let unchecked = sabotage::on(Bug::PrevUnchecked) && prev.index <= state.last().index_or_zero();
    if was_purged || unchecked || state.shape.contains(prev) {
        return Ok(true);
    }
    if prev.index <= state.committed.index_or_zero() {
        effects.note(Note::BadPeer { from, what: "has another entry in place of a committed one" });
        return Err(AppendOutcome::Refused(PeerRefusal::Malformed));
    }
    Ok(false)
}

/// Whether a request's entries are what a leader can send: contiguous behind `prev_log_id`, leaders ascending and none
/// above the sender's own, memberships possible (BUGS 37).
fn check_entries<T: Types>(request: &AppendEntriesRequest<T>) -> Result<(), &'static str> {
    let ceiling = request.vote.leader_id.to_committed();
    if request.prev_log_id.is_some_and(|prev| prev.leader_id > ceiling || prev.index == 0) {
        return Err("sends a previous log id that cannot be");
    }
    let mut before = request.prev_log_id;
    for entry in &request.entries {
        let id = entry.log_id();
        let next = before.index_or_zero().checked_add(1).ok_or("sends an index past all numbers")?;
        if id.index != next {
            return Err("sends entries with a gap");
        }
        if id.leader_id > ceiling || before.is_some_and(|before| before.leader_id > id.leader_id) {
            return Err("sends entries whose leaders do not ascend");
        }
        if entry.membership().is_some_and(|membership| membership.validate().is_err()) {
            return Err("sends a membership that cannot be");
        }
        before = Some(id);
    }
    Ok(())
}
