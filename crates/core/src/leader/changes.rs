//! Changing the membership (Raft §6).

use alloc::collections::BTreeSet;

use crate::leader::Leading;
use crate::state::State;
use crate::{
    Effects, LogId, LogIdOption, Membership, MembershipOf, Node, RaftEntry, Refusal, Reply, Round, Ticket, Time, Types,
};

/// Membership changes that wait for one that nobody asked for (a binding of incarnations, the end of a joint one).
const WAITING_CHANGES_MAX: usize = 16;

/// A change of membership that somebody asked for.
#[derive(Clone, Debug)]
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
        state.memberships.is_committed()
            && state.committed.index_or_zero() >= self.first_index
            && !state.is_overloaded()
    }

    /// Does what is next for the membership: end a joint one, answer a change that is done, begin one that waits, bind
    /// incarnations that have become known. Whoever leads does it; nobody needs to ask (Raft §6).
    pub(super) fn settle_membership(&mut self, state: &mut State<T>, now: Time, effects: &mut Effects<T>) {
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
    pub(super) fn finish_change(&mut self, state: &State<T>, effects: &mut Effects<T>) {
        if let Some(ticket) = self.change.take()
            && let Some(log_id) = state.memberships.effective().log_id
        {
            effects.reply(ticket, Reply::Done { log_id });
        }
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
