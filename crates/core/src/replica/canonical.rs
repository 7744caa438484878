//! A replica as words.

use super::Replica;
use crate::outbox::{Outbox, Promise, Promised};
use crate::role::{Candidacy, Following, Role};
use crate::state::State;
use crate::write_tracker::WriteTracker;
use crate::{
    AppendEntriesResponse, AppendOutcome, Canonical, HeartbeatResponse, InstallOutcome, InstallSnapshotResponse,
    PeerRefusal, Types, VoteKind, VoteRequest, VoteResponse,
};

impl<T: Types> Replica<T> {
    /// Adds what makes a difference from here on; see [`Canonical`].
    pub fn canonical(&self, words: &mut Canonical<'_, T>) {
        let Self { state, role, last_stream: _, now: _ } = self;
        state.canonical(words);
        role.canonical(words);
    }
}

impl<T: Types> State<T> {
    fn canonical(&self, words: &mut Canonical<'_, T>) {
        let Self {
            config: _,
            identity,
            rng: _,
            vote,
            vote_write,
            term_seen,
            shape,
            writes,
            outbox,
            memberships,
            committed,
            applying,
            snapshots,
            ahead,
            verified,
            heard: _,
        } = self;
        words.server(&identity.id);
        words.incarnation(identity.incarnation);
        words.option(vote.as_ref(), Canonical::vote);
        words.word(writes.rank(*vote_write));
        words.word(*term_seen);
        words.option(shape.purged().as_ref(), Canonical::log_id);
        words.option(shape.last().as_ref(), Canonical::log_id);
        words.word(shape.runs().len() as u64);
        for run in shape.runs() {
            words.log_id(run);
        }
        writes.canonical(words);
        outbox.canonical(writes, words);
        words.word(memberships.all().len() as u64);
        for stored in memberships.all() {
            words.option(stored.log_id.as_ref(), Canonical::log_id);
            words.membership(&stored.membership);
        }
        words.option(committed.as_ref(), Canonical::log_id);
        words.word(*applying);
        snapshots.canonical(words);
        words.option(ahead.as_ref(), Canonical::log_id);
        words.word(*verified);
    }
}

impl<T: Types> Role<T> {
    fn canonical(&self, words: &mut Canonical<'_, T>) {
        let (number, following, candidacy) = match self {
            Role::Learner(following) => (0, Some(following), None),
            Role::Follower(following) => (1, Some(following), None),
            Role::PreCandidate(candidacy) => (2, None, Some(candidacy)),
            Role::Candidate(candidacy) => (3, None, Some(candidacy)),
            Role::Leader(_) => (4, None, None),
        };
        words.word(number);
        if let Some(Following { leader, election_at: _ }) = following {
            words.option(leader.as_ref(), Canonical::server);
        }
        if let Some(Candidacy { asked, granted, own_vote_durable, ends_at: _ }) = candidacy {
            words.vote(asked);
            words.unordered(granted.iter(), Canonical::server);
            words.flag(*own_vote_durable);
        }
        if let Role::Leader(leading) = self {
            leading.canonical(words);
        }
    }
}

impl<T: Types> Outbox<T> {
    /// What waits for the same write is said in one breath, so its order counts for nothing.
    fn canonical(&self, writes: &WriteTracker, words: &mut Canonical<'_, T>) {
        words.unordered(self.all(), |words, (write, Promise(promised))| {
            words.word(writes.rank(write));
            match promised {
                Promised::Vote(ticket, response) => {
                    words.word(0);
                    words.ticket(*ticket);
                    response.canonical(words);
                }
                Promised::Heartbeat(ticket, response) => {
                    words.word(1);
                    words.ticket(*ticket);
                    response.canonical(words);
                }
                Promised::Append(ticket, response) => {
                    words.word(2);
                    words.ticket(*ticket);
                    response.canonical(words);
                }
                Promised::Install(ticket, InstallSnapshotResponse { from, outcome }) => {
                    words.word(5);
                    words.ticket(*ticket);
                    words.server(&from.id);
                    match outcome {
                        InstallOutcome::Installed => words.word(0),
                        InstallOutcome::HigherVote(vote) => words.vote(vote),
                        InstallOutcome::Refused(_) => words.word(1),
                    }
                }
                Promised::Initialized(ticket, log_id) => {
                    words.word(3);
                    words.ticket(*ticket);
                    words.log_id(log_id);
                }
                Promised::Campaign(request) => {
                    words.word(4);
                    request.canonical(words);
                }
            }
        });
    }
}

impl VoteKind {
    fn number(self) -> u64 {
        match self {
            VoteKind::PreVote => 0,
            VoteKind::Vote => 1,
            VoteKind::Transfer => 2,
        }
    }
}

impl<T: Types> VoteRequest<T> {
    /// Adds all that it says; see [`Canonical`].
    pub fn canonical(&self, words: &mut Canonical<'_, T>) {
        let Self { from, vote, last_log_id, kind, permit } = self;
        words.server(&from.id);
        words.incarnation(from.incarnation);
        words.vote(vote);
        words.option(last_log_id.as_ref(), Canonical::log_id);
        words.word(kind.number());
        words.option(permit.as_ref(), Canonical::vote);
    }
}

impl<T: Types> VoteResponse<T> {
    /// Adds all that it says; see [`Canonical`].
    pub fn canonical(&self, words: &mut Canonical<'_, T>) {
        let Self { from, kind, asked, granted, vote } = self;
        words.server(&from.id);
        words.incarnation(from.incarnation);
        words.word(kind.number());
        words.vote(asked);
        words.flag(*granted);
        words.option(vote.as_ref(), Canonical::vote);
    }
}

impl<T: Types> HeartbeatResponse<T> {
    /// Adds all that it says; see [`Canonical`].
    pub fn canonical(&self, words: &mut Canonical<'_, T>) {
        let Self { from, round, asked, accepted, vote } = self;
        words.server(&from.id);
        words.incarnation(from.incarnation);
        words.word(round.0);
        words.vote(asked);
        words.flag(*accepted);
        words.option(vote.as_ref(), Canonical::vote);
    }
}

impl<T: Types> AppendEntriesResponse<T> {
    /// Adds all that it says; see [`Canonical`].
    pub fn canonical(&self, words: &mut Canonical<'_, T>) {
        let Self { from, outcome } = self;
        words.server(&from.id);
        words.incarnation(from.incarnation);
        match outcome {
            AppendOutcome::Success { matched } => {
                words.word(0);
                words.option(matched.as_ref(), Canonical::log_id);
            }
            AppendOutcome::Conflict { prev, hint } => {
                words.word(1);
                words.log_id(prev);
                words.option(hint.as_ref(), Canonical::log_id);
            }
            AppendOutcome::HigherVote(vote) => {
                words.word(2);
                words.vote(vote);
            }
            AppendOutcome::Refused(PeerRefusal::Busy) => words.word(3),
            AppendOutcome::Refused(PeerRefusal::Malformed) => words.word(4),
        }
    }
}
