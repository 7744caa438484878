//! What every server keeps, whatever its role: the left half of the paper's Figure 2.

use alloc::vec::Vec;

use crate::membership_log::MembershipLog;
use crate::outbox::{Outbox, Promise, Promised};
use crate::sabotage::{self, Bug};
use crate::snapshot::Snapshots;
use crate::write_tracker::WriteTracker;
use crate::{
    Effect, Effects, ElectionPriority, Identity, LeaderId, LogIdOf, LogIdOption, LogIndex, LogShape, MembershipOf,
    Note, RaftEntry, ReplicaConfig, Reply, Rng, StoredMembership, Term, Time, Types, Vote, VoteOf, Write, WriteId,
};

/// No correct cluster sees so many elections: the end of the terms. A vote of this term is not believed, and nobody campaigns
/// for it.
const TERM_MAX: Term = 1 << 62;

/// Nor so many between two messages to one server. A peer that claims a longer jump is broken or hostile, and is not believed:
/// it would use up the terms, of which there are a billion such jumps.
const TERM_JUMP_MAX: Term = 1 << 32;

/// The state that all roles share.
#[derive(Clone, Debug)]
pub(crate) struct State<T: Types> {
    pub(crate) config: ReplicaConfig,
    pub(crate) identity: Identity<T::NodeId>,
    pub(crate) rng: Rng,
    /// The newest promise. What is said about it waits for `vote_write`.
    pub(crate) vote: Option<VoteOf<T>>,
    pub(crate) vote_write: WriteId,
    /// The greatest term that anybody was seen to have. A candidate asks for a greater one.
    pub(crate) term_seen: Term,
    pub(crate) shape: LogShape<T>,
    pub(crate) writes: WriteTracker,
    pub(crate) outbox: Outbox<T>,
    pub(crate) memberships: MembershipLog<T>,
    /// The commit index: the highest entry known to be committed. Never goes back.
    pub(crate) committed: Option<LogIdOf<T>>,
    /// How far entries were handed out to be applied: committed, and durable here.
    pub(crate) applying: LogIndex,
    pub(crate) snapshots: Snapshots<T>,
    /// A snapshot that the log has not followed yet, since a crash came between the two.
    pub(crate) ahead: Option<LogIdOf<T>>,
    /// Up to here the log is known to be the leader's: what was checked against it, or is committed.
    pub(crate) verified: LogIndex,
    /// When a leader was last heard from, or a restart made that unknown. Until an election timeout has passed since, no
    /// vote is given (Thesis §4.2.3).
    pub(crate) heard: Option<Time>,
}

/// What was on the disk, found to be consistent.
pub(crate) struct Found<T: Types> {
    pub(crate) vote: Option<VoteOf<T>>,
    pub(crate) shape: LogShape<T>,
    pub(crate) committed: Option<LogIdOf<T>>,
    pub(crate) memberships: Vec<StoredMembership<T>>,
    pub(crate) snapshot: Option<LogIdOf<T>>,
    /// The snapshot, if the log has yet to follow it.
    pub(crate) ahead: Option<LogIdOf<T>>,
}

impl<T: Types> State<T> {
    pub(crate) fn new(
        config: ReplicaConfig,
        identity: Identity<T::NodeId>,
        found: Found<T>,
        now: Time,
        seed: u64,
    ) -> Self {
        let Found { vote, shape, committed, memberships, snapshot, ahead } = found;
        let committed_index = committed.index_or_zero();
        let vote = vote.filter(|_| !sabotage::on(Bug::VoteForgotten));
        Self {
            config,
            identity,
            rng: Rng::new(seed),
            vote,
            vote_write: WriteId(0),
            term_seen: vote.map_or(0, |vote| vote.term()),
            writes: WriteTracker::new(shape.last().index_or_zero()),
            shape,
            outbox: Outbox::default(),
            memberships: MembershipLog::restore(memberships, committed_index),
            committed,
            applying: 0,
            snapshots: Snapshots::new(snapshot),
            ahead,
            verified: committed_index,
            heard: vote.filter(|_| !sabotage::on(Bug::PromiseLostByRestart)).map(|_| now),
        }
    }

    pub(crate) fn me(&self) -> T::NodeId {
        self.identity.id
    }

    pub(crate) fn membership(&self) -> &MembershipOf<T> {
        self.memberships.membership()
    }

    /// Whether this server votes. One that was wiped and added again meets memberships of its log's past that name its id
    /// with the incarnation it had then: they do not mean this server.
    pub(crate) fn is_voter(&self) -> bool {
        self.membership().is_voter(&self.identity.id) && self.is_admitted()
    }

    /// Whether this server may campaign: it is a voter, or is one no more by an entry that is not known to be committed. As
    /// long as it is not, this server may be the only one that can finish its own removal (Thesis §4.2.2). It then asks for
    /// votes and leads without counting itself.
    pub(crate) fn is_electable(&self) -> bool {
        let identity = &self.identity;
        self.memberships.any(|membership| membership.is_voter(&identity.id) && membership.admits(identity))
    }

    /// Whether the membership means this server where it names its id: what it has and says counts like anybody else's.
    pub(crate) fn is_admitted(&self) -> bool {
        self.membership().admits(&self.identity)
    }

    /// Whether this server alone is a quorum: no need to wait for anybody.
    pub(crate) fn is_alone(&self) -> bool {
        self.is_voter() && self.membership().is_quorum(|id| *id == self.identity.id)
    }

    pub(crate) fn last(&self) -> Option<LogIdOf<T>> {
        self.shape.last()
    }

    /// Whether our vote stands in the way of this one. Votes are a partial order: what is not greater or equal is refused.
    pub(crate) fn outranks(&self, asked: &VoteOf<T>) -> bool {
        self.vote.is_some_and(|mine| {
            let blind = sabotage::on(Bug::VotesTwice) && asked.term() == mine.term() && !mine.committed;
            let earlier = sabotage::on(Bug::FollowsEarlierLeader) && asked.committed;
            !blind && !earlier && !matches!(asked.partial_cmp(&mine), Some(order) if order.is_ge())
        })
    }

    /// Whether a correct server can have this vote.
    pub(crate) fn is_believable(&self, vote: &VoteOf<T>) -> bool {
        vote.term() <= self.term_seen.saturating_add(TERM_JUMP_MAX) && vote.term() < TERM_MAX
    }

    /// Remembers a term that a member has. It changes nothing but the next term that we would ask for.
    pub(crate) fn see_vote(&mut self, from: &Identity<T::NodeId>, vote: Option<&VoteOf<T>>) {
        if let Some(vote) = vote
            && self.is_believable(vote)
            && self.membership().admits(from)
        {
            self.term_seen = self.term_seen.max(vote.term());
        }
    }

    /// The vote that this server would ask for.
    pub(crate) fn next_vote(&self) -> Option<VoteOf<T>> {
        let term = self.term_seen.max(self.vote.map_or(0, |vote| vote.term())) + 1;
        (term < TERM_MAX).then(|| Vote::new(term, self.me()))
    }

    /// Promises this server to a vote that is at least its present one. What waits to be said to others before is refused.
    pub(crate) fn set_vote(&mut self, now: Time, vote: VoteOf<T>, effects: &mut Effects<T>) {
        if self.vote == Some(vote) {
            return;
        }
        assert!(!self.outranks(&vote), "a vote never goes back");
        let same_leader = self.vote.is_some_and(|mine| mine.leader_id == vote.leader_id);
        self.vote = Some(vote);
        self.term_seen = self.term_seen.max(vote.term());
        self.vote_write = self.writes.submit(now, self.shape.last().index_or_zero());
        effects.write(self.vote_write, Write::Vote(vote));
        if !same_leader {
            self.outbox.supersede(vote, self.vote_write);
            if !sabotage::on(Bug::VerifiedForever) {
                self.verified = self.committed.index_or_zero();
            }
        }
    }

    /// Appends an entry that comes next, and makes its membership count if it has one (Raft §6).
    pub(crate) fn append(&mut self, now: Time, entry: T::Entry, effects: &mut Effects<T>) {
        let log_id = entry.log_id();
        self.shape.append(log_id);
        self.snapshots.count(entry.size());
        if let Some(membership) = entry.membership() {
            self.memberships.push(StoredMembership { log_id: Some(log_id), membership: membership.clone() });
        }
        match effects.extend_append(entry) {
            Ok(()) => self.writes.extend(log_id.index),
            Err(entry) => {
                let id = self.writes.submit(now, log_id.index);
                effects.write(id, Write::Append(alloc::vec![entry]));
            }
        }
    }

    /// Deletes the entries from `since` on; they are not committed.
    pub(crate) fn truncate(&mut self, now: Time, since: LogIndex, effects: &mut Effects<T>) {
        assert!(since > self.committed.index_or_zero(), "committed entries stay (Raft §5.4.3)");
        self.shape.truncate(since);
        if !sabotage::on(Bug::MembershipStays) {
            self.memberships.truncate(since);
        }
        if !sabotage::on(Bug::TruncationUnbooked) {
            self.writes.truncate(since);
        }
        self.verified = self.verified.min(since - 1);
        let id = self.writes.submit(now, since - 1);
        effects.write(id, Write::Truncate { since });
        effects.note(Note::Truncated { since });
    }

    /// Moves the commit index forward to an entry that this server has.
    pub(crate) fn commit(&mut self, to: LogIdOf<T>, effects: &mut Effects<T>) {
        if to.index <= self.committed.index_or_zero() {
            return;
        }
        assert!(self.shape.contains(to), "only what is in the log is committed");
        self.committed = Some(to);
        self.memberships.commit(to.index);
        self.verified = self.verified.max(to.index);
        self.apply(effects);
    }

    /// Hands out what is committed *and durable here*. A state machine that keeps its state on disk must never be ahead of
    /// the log that it came from.
    pub(crate) fn apply(&mut self, effects: &mut Effects<T>) {
        let committed = if sabotage::on(Bug::AppliesUncommitted) { self.last() } else { self.committed };
        let durable = if sabotage::on(Bug::AppliesBeforeDisk) { LogIndex::MAX } else { self.writes.durable_index() };
        let upto = committed.index_or_zero().min(durable);
        if upto > self.applying
            && let Some(log_id) = self.shape.log_id_at(upto)
        {
            effects.apply(log_id, self.applying);
            self.applying = upto;
            self.build_if_due(effects);
        }
    }

    /// How far entries were handed out to be applied.
    pub(crate) fn applying(&self) -> LogIndex {
        self.applying
    }

    /// The state machine has everything up to here from a snapshot.
    pub(crate) fn installed(&mut self, upto: LogIdOf<T>, effects: &mut Effects<T>) {
        self.applying = self.applying.max(upto.index);
        self.committed = self.committed.max(Some(upto));
        self.memberships.commit(upto.index);
        self.verified = self.verified.max(upto.index);
        effects.note(Note::SnapshotInstalled { last_log_id: upto });
    }

    /// Lets the log follow a snapshot that a crash has left ahead of it.
    pub(crate) fn catch_up(&mut self, now: Time, effects: &mut Effects<T>) {
        if let Some(upto) = self.ahead.take() {
            self.reset_log(now, upto, effects);
        }
    }

    /// Says something once our vote, and the log up to `index`, are durable.
    pub(crate) fn promise(&mut self, promise: Promise<T>, index: LogIndex, effects: &mut Effects<T>) {
        let write = self.writes.covering(index).unwrap_or_default();
        self.promise_after(write, promise, effects);
    }

    /// Says something once our vote and this write are durable.
    pub(crate) fn promise_after(&mut self, write: WriteId, promise: Promise<T>, effects: &mut Effects<T>) {
        let write = write.max(self.vote_write);
        if self.writes.is_durable(write) || promise.is_said_too_soon() {
            // Nothing to wait for. A campaign is never durable at once: its vote has just been submitted.
            self.keep(promise.0, effects);
        } else {
            self.outbox.after(write, promise);
        }
    }

    /// Says what has become true.
    pub(crate) fn keep(&self, promised: Promised<T>, effects: &mut Effects<T>) {
        match promised {
            Promised::Vote(ticket, response) => effects.reply(ticket, Reply::Vote(response)),
            Promised::Heartbeat(ticket, response) => effects.reply(ticket, Reply::Heartbeat(response)),
            Promised::Append(ticket, response) => effects.reply(ticket, Reply::Append(response)),
            Promised::Install(ticket, response) => effects.reply(ticket, Reply::InstallSnapshot(response)),
            Promised::Initialized(ticket, log_id) => effects.reply(ticket, Reply::Done { log_id }),
            Promised::Campaign(request) => {
                let me = self.me();
                for to in self.membership().voter_ids().filter(|id| *id != me) {
                    effects.push(Effect::Send { to, message: crate::Message::Vote(request.clone()) });
                }
            }
        }
    }

    /// Whether more waits for the disk than the bounds allow. What would need another write is then refused.
    pub(crate) fn is_overloaded(&self) -> bool {
        self.is_write_queue_full() || self.is_outbox_full()
    }

    /// Whether no more writes may be under way.
    pub(crate) fn is_write_queue_full(&self) -> bool {
        self.writes.pending() >= self.config.writes_max
    }

    /// Whether what is said about our vote can be said at once. Answers about entries that fill the outbox are then no
    /// reason to withhold one about the vote alone.
    pub(crate) fn is_vote_durable(&self) -> bool {
        self.writes.is_durable(self.vote_write)
    }

    /// Whether no more answers may wait. What promises nothing can still be said.
    pub(crate) fn is_outbox_full(&self) -> bool {
        self.outbox.len() >= self.config.promises_max
    }

    /// Whether the disk has not completed its oldest write for a whole election timeout.
    pub(crate) fn is_disk_stalled(&self, now: Time) -> bool {
        self.writes.oldest_pending().is_some_and(|since| now.since(since) >= self.config.election_timeout_max)
    }

    /// Whether a leader was heard from so recently that no vote is given (Thesis §4.2.3).
    pub(crate) fn is_leader_alive(&self, now: Time) -> bool {
        let heard = self.heard.filter(|_| !sabotage::on(Bug::PromiseForgotten));
        heard.is_some_and(|heard| now.since(heard) < self.config.election_timeout_min)
    }

    /// Until when we have promised a leader to vote for nobody else, if that is not over.
    pub(crate) fn promised_until(&self, now: Time) -> Option<Time> {
        let heard = self.heard.filter(|_| self.is_leader_alive(now) && self.has_promised())?;
        Some(heard + self.config.election_timeout_min)
    }

    /// Whether the newest vote is for somebody else: what we have promised to ourselves binds nobody.
    pub(crate) fn has_promised(&self) -> bool {
        self.vote.is_some_and(|vote| vote.node_id() != self.me())
    }

    /// A time at which to start an election unless a leader is heard from before.
    pub(crate) fn election_time(&mut self, now: Time) -> Time {
        let (min, max) = (self.config.election_timeout_min, self.config.election_timeout_max);
        let width = max.saturating_sub(min);
        // Never sooner than the shortest: until then this server has promised to vote for nobody else.
        now + match self.config.election_priority {
            ElectionPriority::High => self.rng.span(min, min + width.divided_by(4)),
            ElectionPriority::Normal => self.rng.span(min, max),
            ElectionPriority::Low | ElectionPriority::Never => self.rng.span(max, max + width),
        }
    }

    /// What the leader of this vote puts into its log ids.
    pub(crate) fn committed_leader(vote: &VoteOf<T>) -> crate::CommittedLeaderIdOf<T> {
        vote.leader_id.to_committed()
    }
}
