//! Leading: the right side of the paper's Figure 2, "Leaders".

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::role::Next;
use crate::rounds::Rounds;
use crate::state::State;
use crate::{
    CommittedLeaderIdOf, Effect, Effects, HeartbeatRequest, HeartbeatResponse, Identity, Incarnation, LeaderId, LogId,
    LogIdOf, LogIdOption, LogIndex, Membership, MembershipOf, Message, Node, Note, RaftEntry, Refusal, Reply, Report,
    Round, StepDown, StreamId, Tail, Ticket, Time, TransferLeaderRequest, Types, Vote, VoteOf,
};

/// Membership changes that wait for one that nobody asked for (a binding of incarnations, the end of a joint one).
const WAITING_CHANGES_MAX: usize = 16;

/// The data of a leader.
#[derive(Debug)]
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
    /// Changes asked for while one that nobody asked for was under way. At most `WAITING_CHANGES_MAX`.
    waiting_changes: VecDeque<(Ticket, Change<T>)>,
    transfer: Option<Transfer<T>>,
}

/// What a leader knows about another member.
#[derive(Debug)]
struct Target {
    /// `None` only while its address changes, within a step.
    stream: Option<StreamId>,
    /// matchIndex (Raft, Figure 2): the highest entry known to be replicated there, durably. Never goes back.
    matched: LogIndex,
    /// The newest heartbeat round that it has answered.
    round: Round,
    /// The incarnation that it states.
    seen: Option<Incarnation>,
    /// Set when its removal from the membership is committed: it is served until it knows, so that it does not go on asking
    /// for votes, but for so long only.
    leaving: Option<Leaving>,
}

/// A server that was removed, and what it takes for it to know.
#[derive(Debug)]
struct Leaving {
    /// The entry of the membership without it.
    index: LogIndex,
    /// A later heartbeat tells it that this is committed.
    after: Round,
    until: Time,
}

impl Leaving {
    fn is_over(&self, target: &Target, now: Time) -> bool {
        now >= self.until || (target.matched >= self.index && target.round > self.after)
    }
}

#[derive(Debug)]
struct Transfer<T: Types> {
    to: T::NodeId,
    ends_at: Time,
    /// Taken once the target was asked.
    ticket: Option<Ticket>,
}

/// A change of membership that somebody asked for.
#[derive(Debug)]
pub(crate) enum Change<T: Types> {
    /// Add a learner, or set what is stored about a member.
    AddLearner(T::NodeId, T::Node),
    /// Remove learners.
    RemoveLearners(BTreeSet<T::NodeId>),
    /// Another set of voters; whether to retain the removed.
    Voters(BTreeSet<T::NodeId>, bool),
}

impl<T: Types> Change<T> {
    fn apply_to(self, membership: &MembershipOf<T>) -> Result<MembershipOf<T>, Refusal<T>> {
        match self {
            Change::AddLearner(id, node) => Ok(membership.with_node(id, node)),
            Change::RemoveLearners(ids) => membership.without_learners(&ids).map_err(Refusal::NotApplicable),
            Change::Voters(voters, retain) => membership.toward(voters, retain).map_err(Refusal::Membership),
        }
    }
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
            waiting_changes: VecDeque::new(),
            transfer: None,
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
        self.heartbeat_at.min(quorum).min(disk).min(transfer)
    }

    pub(crate) fn matched(&self) -> impl Iterator<Item = (T::NodeId, LogIndex)> + '_ {
        self.targets.iter().map(|(id, target)| (*id, target.matched))
    }

    pub(crate) fn confirmed_at(&self) -> Time {
        self.rounds.confirmed_at()
    }

    pub(crate) fn uncommitted_bytes(&self) -> usize {
        self.uncommitted_bytes
    }

    // ---- the clock ----

    /// The deadline has come: a heartbeat is due, or nobody confirms that we lead, or our disk hangs.
    pub(crate) fn on_wake(&mut self, state: &mut State<T>, now: Time, effects: &mut Effects<T>) -> Next<T> {
        if now >= self.heartbeat_at {
            // Before asking who has confirmed us: alone in the cluster, the beat itself does.
            self.beat(state, now, effects);
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
        if !response.accepted {
            return self.on_higher_vote(state, &response.from, response.vote.as_ref());
        }
        self.heard_from(&response.from, response.round);
        self.confirm_rounds(state, effects);
        if self.rounds.wants_round() && !self.rounds.is_under_way() {
            self.beat(state, now, effects);
        }
        Next::Stay
    }

    fn heard_from(&mut self, from: &Identity<T::NodeId>, round: Round) {
        if let Some(target) = self.targets.get_mut(&from.id) {
            target.round = target.round.max(round.min(self.rounds.latest()));
            target.seen = from.incarnation;
        }
    }

    /// Whether this is a removed server that is still being told.
    fn is_leaving(&self, from: &Identity<T::NodeId>) -> bool {
        self.targets.get(&from.id).is_some_and(|target| target.leaving.is_some())
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

    /// A member has stored our log up to an entry, durably.
    fn on_matched(
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
            target.matched = target.matched.max(matched.index);
            target.seen = from.incarnation;
        }
        self.hand_over(state, effects);
        self.advance_commit(state, now, effects)
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

    // ---- commitment ----

    /// Something became durable, here or elsewhere: commit what a quorum has, if it is of our own term (Raft §5.3, Raft §5.4.2).
    pub(crate) fn advance_commit(&mut self, state: &mut State<T>, now: Time, effects: &mut Effects<T>) -> Next<T> {
        self.release_uncommitted(state);
        let me = state.me();
        let durable = if state.is_admitted() { state.writes.durable_index() } else { 0 };
        let at_quorum = state.membership().quorum_value(|id| {
            if *id == me { durable } else { self.targets.get(id).map_or(0, |target| target.matched) }
        });
        if let Some(index) = at_quorum
            && index >= self.first_index
            && index > state.committed.index_or_zero()
            && let Some(log_id) = state.shape.log_id_at(index)
        {
            debug_assert_eq!(log_id.leader_id, self.leader_id, "from our blank entry on, all entries are ours");
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
    fn release_uncommitted(&mut self, state: &State<T>) {
        let settled = state.committed.index_or_zero().min(state.writes.durable_index());
        while let Some((_, bytes)) = self.uncommitted.pop_front_if(|(at, _)| *at <= settled) {
            self.uncommitted_bytes -= bytes;
        }
    }

    fn confirm_rounds(&mut self, state: &State<T>, effects: &mut Effects<T>) {
        let me = state.me();
        let latest = if state.is_admitted() { self.rounds.latest() } else { Round(0) };
        let at_quorum = state.membership().quorum_value(|id| {
            if *id == me { latest } else { self.targets.get(id).map_or(Round(0), |target| target.round) }
        });
        if let Some(round) = at_quorum {
            self.rounds.confirm(round);
            while let Some((ticket, read_log_id)) = self.rounds.next_ready() {
                effects.reply(ticket, Reply::Read { read_log_id });
            }
        }
    }

    fn tell_tail(&self, state: &State<T>, effects: &mut Effects<T>) {
        if let Some(last) = state.last()
            && !self.targets.is_empty()
        {
            effects.tail(Tail { last, committed: state.committed });
        }
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

    /// A client wants to read what is committed by now (Thesis §6.4). The state machine must get at least to the commit
    /// index of now; and to our blank entry, since before that commits we do not know how much is committed.
    pub(crate) fn on_read(&mut self, state: &mut State<T>, now: Time, ticket: Ticket, effects: &mut Effects<T>) {
        if self.rounds.reads() >= state.config.reads_max {
            return effects.reply(ticket, Reply::Refused(Refusal::Busy));
        }
        let blank = LogId::new(self.leader_id, self.first_index);
        let read_log_id = state.committed.map_or(blank, |committed| committed.max(blank));
        self.rounds.add_read(read_log_id, ticket);
        if !self.rounds.is_under_way() {
            self.beat(state, now, effects);
        }
    }

    /// Nobody waits for this ticket any more.
    pub(crate) fn forget(&mut self, ticket: Ticket) {
        self.rounds.forget(ticket);
        self.change.take_if(|waiting| *waiting == ticket);
        self.waiting_changes.retain(|(waiting, _)| *waiting != ticket);
        if let Some(transfer) = &mut self.transfer {
            transfer.ticket.take_if(|waiting| *waiting == ticket);
        }
    }

    /// Hands the leadership over: no more proposals, let the target catch up, tell it to campaign (Thesis §3.10).
    pub(crate) fn on_transfer(
        &mut self,
        state: &mut State<T>,
        now: Time,
        ticket: Ticket,
        to: T::NodeId,
        effects: &mut Effects<T>,
    ) {
        if self.transfer.is_some() {
            return effects.reply(ticket, Reply::Refused(Refusal::TransferInProgress));
        }
        if to == state.me() || !state.membership().is_voter(&to) {
            return effects.reply(ticket, Reply::Refused(Refusal::NotApplicable(to)));
        }
        let ends_at = now + state.config.election_timeout_max;
        self.transfer = Some(Transfer { to, ends_at, ticket: Some(ticket) });
        self.hand_over(state, effects);
    }

    /// Tells the target of a transfer to campaign, once it has all that we have.
    fn hand_over(&mut self, state: &State<T>, effects: &mut Effects<T>) {
        let Some(transfer) = &mut self.transfer else { return };
        let caught_up =
            self.targets.get(&transfer.to).is_some_and(|target| target.matched >= state.last().index_or_zero());
        if caught_up && let Some(ticket) = transfer.ticket.take() {
            let request = TransferLeaderRequest {
                from: state.identity,
                vote: self.vote,
                to: transfer.to,
                last_log_id: state.last(),
            };
            effects.push(Effect::Send { to: transfer.to, message: Message::TransferLeader(request) });
            effects.reply(ticket, Reply::Transferring);
        }
    }

    // ---- membership ----

    /// Somebody asks for another membership.
    pub(crate) fn on_change(
        &mut self,
        state: &mut State<T>,
        now: Time,
        ticket: Ticket,
        change: Change<T>,
        effects: &mut Effects<T>,
    ) {
        if self.change.is_some() || self.waiting_changes.len() >= WAITING_CHANGES_MAX {
            return effects.reply(ticket, Reply::Refused(Refusal::ChangeInProgress));
        }
        if state.is_overloaded() || self.transfer.is_some() {
            return effects.reply(ticket, Reply::Refused(Refusal::Busy));
        }
        // A change that would be refused anyway is refused at once.
        self.waiting_changes.push_back((ticket, change));
        self.settle_membership(state, now, effects);
    }

    /// Whether a change may begin: one at a time, and none before an entry of our own term is committed, or a change of an
    /// earlier leader could be overtaken (the 2015 erratum to Thesis §4.1).
    fn may_change(&self, state: &State<T>) -> bool {
        state.memberships.is_committed()
            && state.committed.index_or_zero() >= self.first_index
            && !state.is_overloaded()
    }

    /// Does what is next for the membership: end a joint one, answer a change that is done, begin one that waits, bind
    /// incarnations that have become known. Whoever leads does it; nobody needs to ask (Raft §6).
    fn settle_membership(&mut self, state: &mut State<T>, now: Time, effects: &mut Effects<T>) {
        if !self.may_change(state) {
            return;
        }
        if state.membership().is_joint() {
            let next = state.membership().leave_joint();
            return self.append_membership(state, now, next, effects);
        }
        let next = state.last().next_index();
        self.settle_streams(state, now, next, effects);
        self.finish_change(state, effects);
        while let Some((ticket, change)) = self.waiting_changes.pop_front() {
            let address_of = if let Change::AddLearner(id, _) = &change { Some(*id) } else { None };
            match change.apply_to(state.membership()) {
                Err(refusal) => effects.reply(ticket, Reply::Refused(refusal)),
                Ok(next) => {
                    self.change = Some(ticket);
                    if let Some(id) = address_of {
                        let incarnation = |of: &MembershipOf<T>| of.node(&id).and_then(Node::incarnation);
                        let same_server = incarnation(&next) == incarnation(state.membership());
                        self.close_stream(&id, same_server, effects);
                    }
                    return self.append_membership(state, now, next, effects);
                }
            }
        }
        if self.may_bind(state, now)
            && let Some(next) = self.bound_membership(state)
        {
            self.append_membership(state, now, next, effects);
        }
    }

    /// Answers whoever waits for the membership that is now committed and uniform.
    fn finish_change(&mut self, state: &State<T>, effects: &mut Effects<T>) {
        if let Some(ticket) = self.change.take()
            && let Some(log_id) = state.memberships.effective().log_id
        {
            effects.reply(ticket, Reply::Done { log_id });
        }
    }

    /// Incarnations are bound once all voters have shown theirs, so that one entry serves all; or, if some stay away, after
    /// an election timeout.
    fn may_bind(&self, state: &State<T>, now: Time) -> bool {
        let me = state.me();
        let met = |id: T::NodeId| {
            let bound = state.membership().node(&id).is_some_and(|node| node.incarnation().is_some());
            bound || id == me || self.targets.get(&id).is_some_and(|target| target.round > Round(0))
        };
        state.membership().voter_ids().all(met) || now.since(self.since) >= state.config.election_timeout_max
    }

    fn bound_membership(&self, state: &State<T>) -> Option<Membership<T::NodeId, T::Node>> {
        let me = state.identity;
        state.membership().with_incarnations(|id| {
            if *id == me.id { me.incarnation } else { self.targets.get(id).and_then(|target| target.seen) }
        })
    }

    fn append_membership(&mut self, state: &mut State<T>, now: Time, next: MembershipOf<T>, effects: &mut Effects<T>) {
        let log_id = LogId::new(self.leader_id, state.last().next_index());
        state.append(now, T::Entry::of_membership(log_id, next), effects);
        // A new target starts at the entry that made it one; probing finds what it needs before.
        self.settle_streams(state, now, log_id.index, effects);
        self.tell_tail(state, effects);
        // With fewer voters, a round or an index may have its quorum already; that shows at the next answer or wake.
    }

    /// Opens a stream to every member that has none. A server that is in no membership any more, committed or not, is told
    /// so and then left.
    fn settle_streams(&mut self, state: &State<T>, now: Time, next: LogIndex, effects: &mut Effects<T>) {
        let membership = state.membership();
        for (_, target) in self.targets.iter_mut().filter(|(id, _)| !state.memberships.any(|m| m.contains(id))) {
            target.leaving.get_or_insert(Leaving {
                index: state.memberships.effective().log_id.index_or_zero(),
                after: self.rounds.latest(),
                until: now + state.config.election_timeout_max * 4,
            });
        }
        for (id, node) in membership.nodes().iter().filter(|(id, _)| **id != state.identity.id) {
            let back = self.targets.get_mut(id).filter(|target| target.leaving.is_some());
            if let Some(stream) = back.and_then(|target| target.stream) {
                // Removed, and added again before it was left: perhaps another server by now.
                effects.push(Effect::CloseStream { stream });
                self.targets.remove(id);
            }
            let blank = Target { stream: None, matched: 0, round: Round(0), seen: None, leaving: None };
            let target = self.targets.entry(*id).or_insert(blank);
            if target.stream.is_some() {
                continue;
            }
            self.next_stream = StreamId(self.next_stream.0 + 1);
            let stream = self.next_stream;
            target.stream = Some(stream);
            effects.push(Effect::OpenStream { stream, target: *id, node: node.clone(), vote: self.vote, next });
        }
    }

    /// Leaves those removed servers that know it, or that had time enough to.
    fn dismiss(&mut self, now: Time, effects: &mut Effects<T>) {
        self.targets.retain(|_, target| {
            let over = target.leaving.as_ref().is_some_and(|leaving| leaving.is_over(target, now));
            if over && let Some(stream) = target.stream {
                effects.push(Effect::CloseStream { stream });
            }
            !over
        });
    }

    /// Closes a target's stream, since its address changes. What it has matched stays known, unless another server takes
    /// its place: that one has nothing.
    fn close_stream(&mut self, id: &T::NodeId, same_server: bool, effects: &mut Effects<T>) {
        let Some(target) = self.targets.get_mut(id) else { return };
        if let Some(stream) = target.stream.take() {
            effects.push(Effect::CloseStream { stream });
        }
        if !same_server {
            (target.matched, target.round, target.seen) = (0, Round(0), None);
        }
    }

    /// The leadership ends: streams are closed, and whoever waits is told what is known.
    pub(crate) fn end(self, leader: Option<T::NodeId>, effects: &mut Effects<T>) {
        for stream in self.targets.values().filter_map(|target| target.stream) {
            effects.push(Effect::CloseStream { stream });
        }
        for ticket in self.rounds.into_tickets() {
            effects.reply(ticket, Reply::Refused(Refusal::NotLeader { leader }));
        }
        if let Some(ticket) = self.change {
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
