//! Leading: the right side of the paper's Figure 2, "Leaders".

mod canonical;
mod changes;
mod progress;
mod reads;
mod targets;
mod transfer;

use alloc::collections::{BTreeMap, VecDeque};

use crate::role::Next;
use crate::rounds::Rounds;
use crate::sabotage::{self, Bug};
use crate::state::State;
use crate::{
    CommittedLeaderIdOf, Effect, Effects, HeartbeatRequest, HeartbeatResponse, Identity, LeaderId, LogId, LogIdOption,
    LogIndex, Message, Note, RaftEntry, Refusal, Reply, StepDown, StreamId, Ticket, Time, Types, Vote, VoteOf,
};

pub(crate) use changes::Change;
use targets::Target;
use transfer::Transfer;

/// The data of a leader.
#[derive(Clone, Debug)]
pub(crate) struct Leading<T: Types> {
    vote: VoteOf<T>,
    /// What stands in the log ids of this leadership.
    leader_id: CommittedLeaderIdOf<T>,
    /// The blank entry that this leadership began with. Only from it on does counting replicas commit (Raft §5.4.2).
    first_index: LogIndex,
    since: Time,
    /// Every other member.
    targets: BTreeMap<T::NodeId, Target>,
    next_stream: StreamId,
    rounds: Rounds<T>,
    heartbeat_at: Time,
    /// Proposals of this leadership that are not committed or not durable here, with their sizes; oldest first.
    uncommitted: VecDeque<(LogIndex, usize)>,
    uncommitted_bytes: usize,
    /// Who waits for the change that is under way.
    change: Option<Ticket>,
    /// Who waits for the change that this one takes back.
    cancelled: Option<Ticket>,
    /// Changes asked for while one that nobody asked for was under way. At most `WAITING_CHANGES_MAX`.
    waiting_changes: VecDeque<(Ticket, Change<T>)>,
    transfer: Option<Transfer<T>>,
    /// Set once somebody was asked to take over: whatever becomes of it, that request may still arrive, and the voters are
    /// free from their promise to this leader then. So this leadership has no lease any more.
    lease_given_up: bool,
}

impl<T: Types> Leading<T> {
    /// A quorum has granted the vote: lead. The vote becomes a committed one, a blank entry is appended so that entries of
    /// earlier terms can commit (Raft §8), replication starts, and everybody is told at once (Raft §5.2).
    pub(crate) fn begin(
        state: &mut State<T>,
        vote: VoteOf<T>,
        next_stream: StreamId,
        now: Time,
        effects: &mut Effects<T>,
    ) -> Self {
        let leader_id = vote.leader_id.to_committed();
        let first_index = state.last().next_index();
        let mut leading = Self {
            vote,
            leader_id,
            first_index,
            since: now,
            targets: BTreeMap::new(),
            next_stream,
            rounds: Rounds::new(now),
            heartbeat_at: now,
            uncommitted: VecDeque::new(),
            uncommitted_bytes: 0,
            change: None,
            cancelled: None,
            waiting_changes: VecDeque::new(),
            transfer: None,
            lease_given_up: false,
        };
        state.set_vote(now, vote, effects);
        effects.note(Note::BecameLeader { vote });
        state.append(now, T::Entry::blank(LogId::new(leader_id, first_index)), effects);
        leading.settle_streams(state, now, first_index, effects);
        leading.tell_tail(state, effects);
        leading.beat(state, now, effects);
        leading
    }

    pub(crate) fn next_stream(&self) -> StreamId {
        self.next_stream
    }

    pub(crate) fn first_index(&self) -> LogIndex {
        self.first_index
    }

    /// When the next thing is due.
    pub(crate) fn deadline(&self, state: &State<T>) -> Time {
        let quorum = self.rounds.confirmed_at() + state.config.election_timeout_max;
        let disk = state.writes.oldest_pending().map_or(quorum, |since| since + state.config.election_timeout_max);
        let transfer = self.transfer.as_ref().map_or(quorum, |transfer| transfer.ends_at);
        let heartbeat = if self.beats(state) { self.heartbeat_at } else { quorum };
        heartbeat.min(quorum).min(disk).min(transfer)
    }

    /// Whether heartbeats are sent by themselves. Alone there is nobody to send one to, and the beat is what confirms us.
    fn beats(&self, state: &State<T>) -> bool {
        state.config.enable_heartbeat || self.targets.is_empty()
    }

    /// The settings have changed. A shorter interval counts from now.
    pub(crate) fn on_configure(&mut self, state: &State<T>, now: Time) {
        self.heartbeat_at = self.heartbeat_at.min(now + state.config.heartbeat_interval);
    }

    pub(crate) fn matched(&self) -> impl Iterator<Item = (T::NodeId, LogIndex)> + '_ {
        self.targets.iter().map(|(id, target)| (*id, target.matched))
    }

    pub(crate) fn confirmed_at(&self) -> Time {
        self.rounds.confirmed_at()
    }

    /// What the member that has least is known to have; `None` if there is no other.
    pub(crate) fn lowest_matched(&self) -> Option<LogIndex> {
        self.targets.values().filter(|target| target.leaving.is_none()).map(|target| target.matched).min()
    }

    pub(crate) fn uncommitted_bytes(&self) -> usize {
        self.uncommitted_bytes
    }

    // ---- the clock ----

    /// The deadline has come: a heartbeat is due, or nobody confirms that we lead, or our disk hangs.
    pub(crate) fn on_wake(&mut self, state: &mut State<T>, now: Time, effects: &mut Effects<T>) -> Next<T> {
        if now >= self.heartbeat_at && self.beats(state) {
            // Before asking who has confirmed us: alone in the cluster, the beat itself does.
            self.beat(state, now, effects);
            state.purge_by_policy(now, self.lowest_matched(), effects);
        }
        if now.since(self.rounds.confirmed_at()) >= state.config.election_timeout_max {
            // Check-quorum: somebody else may lead by now, and our clients should find them (Thesis §6.2).
            return Next::StepDown(StepDown::NoQuorum);
        }
        if state.is_disk_stalled(now) {
            // With a hung disk we could commit by the others' disks for ever, one failure away from standing still.
            return Next::StepDown(StepDown::DiskStalled);
        }
        if let Some(transfer) = self.transfer.take_if(|transfer| now >= transfer.ends_at)
            && let Some(ticket) = transfer.ticket
        {
            // The target did not catch up in time. We lead on, and take proposals again (Thesis §3.10).
            effects.reply(ticket, Reply::Refused(Refusal::Busy));
        }
        self.dismiss(now, effects);
        self.settle_membership(state, now, effects);
        Next::Stay
    }

    /// Sends a heartbeat to every other member.
    pub(crate) fn beat(&mut self, state: &mut State<T>, now: Time, effects: &mut Effects<T>) {
        let round = self.rounds.start(now);
        self.heartbeat_at = now + state.config.heartbeat_interval;
        for to in self.targets.keys() {
            let request = HeartbeatRequest { from: state.identity, vote: self.vote, round, committed: state.committed };
            effects.push(Effect::Send { to: *to, message: Message::Heartbeat(request) });
        }
        self.confirm_rounds(state, effects);
    }

    // ---- what others say ----

    /// A follower has answered a heartbeat: it followed us at some time after the round was sent.
    pub(crate) fn on_heartbeat_response(
        &mut self,
        state: &mut State<T>,
        now: Time,
        response: HeartbeatResponse<T>,
        effects: &mut Effects<T>,
    ) -> Next<T> {
        if response.asked != self.vote {
            return Next::Stay;
        }
        if response.accepted && self.is_leaving(&response.from) {
            self.heard_from(&response.from, response.round);
            self.dismiss(now, effects);
            return Next::Stay;
        }
        if !self.is_member(state, &response.from, effects) {
            return Next::Stay;
        }
        if !response.accepted && !sabotage::on(Bug::RefusedHeartbeatCounts) {
            return self.on_higher_vote(state, &response.from, response.vote.as_ref());
        }
        self.heard_from(&response.from, response.round);
        self.confirm_rounds(state, effects);
        if sabotage::on(Bug::LeaseFromReceipt) {
            self.rounds.answered_now(now);
        }
        if self.rounds.wants_round() && !self.rounds.is_under_way() {
            self.beat(state, now, effects);
        }
        Next::Stay
    }

    /// Whether this is a removed server that is still being told.
    fn is_leaving(&self, from: &Identity<T::NodeId>) -> bool {
        self.targets.get(&from.id).is_some_and(|target| target.leaving.is_some())
    }

    /// Whether the sender may count, as the membership has it now.
    fn is_member(&self, state: &State<T>, from: &Identity<T::NodeId>, effects: &mut Effects<T>) -> bool {
        let admitted = state.membership().admits(from);
        if !admitted && state.membership().contains(&from.id) {
            effects.note(Note::Stranger { from: from.id });
        }
        admitted
    }

    /// Somebody has promised itself to another. If that is above our vote, we are leader no more (Raft §5.1).
    fn on_higher_vote(
        &mut self,
        state: &mut State<T>,
        from: &Identity<T::NodeId>,
        vote: Option<&VoteOf<T>>,
    ) -> Next<T> {
        let higher = vote.is_some_and(|theirs| *theirs > self.vote && state.is_believable(theirs));
        state.see_vote(from, vote);
        if higher { Next::StepDown(StepDown::HigherVote) } else { Next::Stay }
    }

    // ---- what clients ask ----

    /// A client proposes an entry: the next one of the log.
    pub(crate) fn on_propose(
        &mut self,
        state: &mut State<T>,
        now: Time,
        ticket: Ticket,
        mut entry: T::Entry,
        effects: &mut Effects<T>,
    ) {
        if let Some(transfer) = &self.transfer {
            debug_assert!(transfer.to != state.me());
            return effects.reply(ticket, Reply::Refused(Refusal::TransferInProgress));
        }
        let bytes = entry.size();
        let full = self.uncommitted_bytes.saturating_add(bytes) > state.config.uncommitted_bytes_max;
        // An entry that alone is over the bound may pass when nothing else is under way, or it never could.
        if (full && self.uncommitted_bytes > 0) || state.is_overloaded() {
            return effects.reply(ticket, Reply::Refused(Refusal::Busy));
        }
        if entry.membership().is_some() {
            // Memberships change by `ChangeMembership` alone, which keeps their rules.
            return effects.reply(ticket, Reply::Refused(Refusal::ChangeInProgress));
        }
        let log_id = LogId::new(self.leader_id, state.last().next_index());
        entry.set_log_id(log_id);
        state.append(now, entry, effects);
        self.uncommitted.push_back((log_id.index, bytes));
        self.uncommitted_bytes += bytes;
        effects.reply(ticket, Reply::Proposed(log_id));
        self.tell_tail(state, effects);
    }

    /// Nobody waits for this ticket any more.
    pub(crate) fn forget(&mut self, ticket: Ticket) {
        self.rounds.forget(ticket);
        self.change.take_if(|waiting| *waiting == ticket);
        self.cancelled.take_if(|waiting| *waiting == ticket);
        self.waiting_changes.retain(|(waiting, _)| *waiting != ticket);
        if let Some(transfer) = &mut self.transfer {
            transfer.ticket.take_if(|waiting| *waiting == ticket);
        }
    }

    // ---- the end ----

    /// The leadership ends: streams are closed, and whoever waits is told what is known.
    pub(crate) fn end(self, leader: Option<T::NodeId>, effects: &mut Effects<T>) {
        for stream in self.targets.values().filter_map(|target| target.stream) {
            effects.push(Effect::CloseStream { stream });
        }
        for ticket in self.rounds.into_tickets() {
            effects.reply(ticket, Reply::Refused(Refusal::NotLeader { leader }));
        }
        for ticket in self.change.into_iter().chain(self.cancelled) {
            effects.reply(ticket, Reply::Refused(Refusal::Unknown));
        }
        for (ticket, _) in self.waiting_changes {
            effects.reply(ticket, Reply::Refused(Refusal::NotLeader { leader }));
        }
        if let Some(Transfer { ticket: Some(ticket), .. }) = self.transfer {
            effects.reply(ticket, Reply::Refused(Refusal::NotLeader { leader }));
        }
    }

    /// Whether this leadership is that of a vote.
    pub(crate) fn is_of(&self, vote: &Vote<T::LeaderId>) -> bool {
        self.vote == *vote
    }
}
