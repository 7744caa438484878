//! Changing the membership (Raft §6).

use alloc::collections::BTreeSet;

use crate::leader::Leading;
use crate::role::Next;
use crate::sabotage::{self, Bug};
use crate::state::State;
use crate::{
    ChangeConditions, ChangeMembers, Effects, LogId, LogIdOption, Membership, MembershipOf, Node, RaftEntry, Refusal,
    Reply, Round, Ticket, Time, Types,
};

/// Most membership changes that wait for one that nobody asked for (a binding of incarnations, the end of a joint one), or
/// until the leader may change anything. Past it, a change is refused as long as another one is in progress.
const WAITING_CHANGES_MAX: usize = 16;

/// A change of membership that somebody asked for.
#[derive(Clone, Debug)]
pub(crate) struct Change<T: Types> {
    pub(crate) change: ChangeMembers<T>,
    pub(crate) conditions: ChangeConditions<T>,
}

impl<T: Types> From<ChangeMembers<T>> for Change<T> {
    fn from(change: ChangeMembers<T>) -> Self {
        Self { change, conditions: ChangeConditions::default() }
    }
}

impl<T: Types> Leading<T> {
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
    pub(super) fn may_change(&self, state: &State<T>) -> bool {
        (state.memberships.is_committed() || sabotage::on(Bug::ChangesTwice))
            && (state.committed.index_or_zero() >= self.first_index || sabotage::on(Bug::ChangesTooSoon))
            && !state.is_overloaded()
    }

    /// Does what is next for the membership: end a joint one, answer a change that is done, begin one that waits, bind
    /// incarnations that have become known. Whoever leads does it; nobody needs to ask (Raft §6).
    pub(super) fn settle_membership(&mut self, state: &mut State<T>, now: Time, effects: &mut Effects<T>) {
        if !self.may_change(state) {
            return;
        }
        if state.membership().is_joint() && sabotage::on(Bug::JointForever) {
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
            let Change { change, conditions } = change;
            if !conditions.hold(state.memberships.effective(), &self.vote, state.last()) {
                effects.reply(ticket, Reply::Refused(Refusal::ConditionFailed));
                continue;
            }
            let readdressed = change.readdressed();
            match change.apply_to(state.membership()) {
                Err(refusal) => effects.reply(ticket, Reply::Refused(refusal)),
                Ok(next) => {
                    self.change = Some(ticket);
                    for id in readdressed {
                        // Removed, and added again before it was left, it may be another by now.
                        let incarnation = |of: &MembershipOf<T>| of.node(&id).map(Node::incarnation);
                        let same_server = incarnation(&next) == incarnation(state.membership());
                        self.close_stream(&id, same_server, effects);
                    }
                    return self.append_membership(state, now, next, effects);
                }
            }
        }
        if let Some(next) = self.promoted_membership(state) {
            return self.append_membership(state, now, next, effects);
        }
        if self.may_bind(state, now)
            && let Some(next) = self.bound_membership(state)
        {
            self.append_membership(state, now, next, effects);
        }
    }

    /// Answers whoever waits for the membership that is now committed and uniform.
    pub(super) fn finish_change(&mut self, state: &State<T>, effects: &mut Effects<T>) {
        let Some(log_id) = state.memberships.effective().log_id else { return };
        if let Some(ticket) = self.change.take() {
            effects.reply(ticket, Reply::Done { log_id });
        }
        if let Some(ticket) = self.cancelled.take() {
            effects.reply(ticket, Reply::Refused(Refusal::Cancelled));
        }
    }

    /// The first step to a membership in which those learners vote that have caught up, if there are any to be promoted.
    fn promoted_membership(&self, state: &State<T>) -> Option<MembershipOf<T>> {
        let membership = state.membership();
        let caught_up = |id: &T::NodeId| self.targets.get(id).is_some_and(|target| target.caught_up);
        let ready: BTreeSet<T::NodeId> = membership.promoting().iter().copied().filter(caught_up).collect();
        if ready.is_empty() {
            return None;
        }
        membership.toward(membership.voter_ids().chain(ready).collect(), false).ok()
    }

    /// A learner that is to become a voter has stored more. Has it caught up (Thesis §4.2.1)? Its log is brought up to what
    /// the leader's was at the time, again and again; when a round takes less than an election timeout, a voter with that
    /// much to catch up with holds nobody up.
    pub(super) fn watch_learner(&mut self, state: &mut State<T>, now: Time, id: &T::NodeId, effects: &mut Effects<T>) {
        if !state.membership().promoting().contains(id) {
            return;
        }
        let last = state.last().index_or_zero();
        let Some(target) = self.targets.get_mut(id) else { return };
        let (goal, since) = *target.round_of_entries.get_or_insert((last, now));
        if target.matched < goal {
            return;
        }
        target.round_of_entries = Some((last, now));
        if now.since(since) < state.config.election_timeout_min {
            target.caught_up = true;
            self.settle_membership(state, now, effects);
        }
    }

    /// Whoever decides about another leader as long as this leadership lasts: `docs/membership.md` has the argument. It is the
    /// membership that counts; but while a joint one that this leadership has begun is not committed, it is the one before,
    /// since nobody can be elected without a majority of that.
    pub(super) fn electorate<'s>(&self, state: &'s State<T>) -> &'s MembershipOf<T> {
        if self.may_cancel(state) { &state.memberships.committed().membership } else { state.membership() }
    }

    /// Whether the joint membership that counts can be taken back: it is this leadership's own, and not committed.
    fn may_cancel(&self, state: &State<T>) -> bool {
        let effective = state.memberships.effective();
        let own = effective.log_id.is_some_and(|id| id.index > self.first_index && id.leader_id == self.leader_id);
        own && effective.membership.is_joint() && !state.memberships.is_committed()
    }

    /// Somebody gives up the change that is under way: the membership from before it comes back by an entry of its own, which
    /// the old voters alone commit. `docs/membership.md` says why that is safe, and why it is not in other cases.
    pub(crate) fn on_cancel(
        &mut self,
        state: &mut State<T>,
        now: Time,
        ticket: Ticket,
        effects: &mut Effects<T>,
    ) -> Next<T> {
        if state.is_overloaded() {
            effects.reply(ticket, Reply::Refused(Refusal::Busy));
            return Next::Stay;
        }
        let next = if self.may_cancel(state) {
            state.memberships.committed().membership.promote(BTreeSet::new())
        } else if self.may_change(state) && self.change.is_none() && !state.membership().promoting().is_empty() {
            state.membership().promote(BTreeSet::new())
        } else {
            effects.reply(ticket, Reply::Refused(Refusal::NothingToCancel));
            return Next::Stay;
        };
        match next {
            Ok(next) => {
                self.cancelled = self.change.replace(ticket);
                self.append_membership(state, now, next, effects);
            }
            Err(error) => effects.reply(ticket, Reply::Refused(Refusal::Membership(error))),
        }
        Next::Stay
    }

    /// Incarnations are bound once all voters have shown theirs, so that one entry serves all; or, if some stay away, after
    /// an election timeout.
    pub(super) fn may_bind(&self, state: &State<T>, now: Time) -> bool {
        let me = state.me();
        let met = |id: T::NodeId| {
            let bound = state.membership().node(&id).is_some_and(|node| node.incarnation().is_some());
            bound || id == me || self.targets.get(&id).is_some_and(|target| target.round > Round(0))
        };
        state.membership().voter_ids().all(met) || now.since(self.since) >= state.config.election_timeout_max
    }

    pub(super) fn bound_membership(&self, state: &State<T>) -> Option<Membership<T::NodeId, T::Node>> {
        let me = state.identity;
        state.membership().with_incarnations(|id| {
            if *id == me.id { me.incarnation } else { self.targets.get(id).and_then(|target| target.seen) }
        })
    }

    pub(super) fn append_membership(
        &mut self,
        state: &mut State<T>,
        now: Time,
        next: MembershipOf<T>,
        effects: &mut Effects<T>,
    ) {
        let log_id = LogId::new(self.leader_id, state.last().next_index());
        state.append(now, T::Entry::of_membership(log_id, next), effects);
        // A new target starts at the entry that made it one; probing finds what it needs before.
        self.settle_streams(state, now, log_id.index, effects);
        self.tell_tail(state, effects);
        // With fewer voters, a round or an index may have its quorum already; that shows at the next answer or wake.
    }
}
