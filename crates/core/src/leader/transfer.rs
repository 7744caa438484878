//! Handing the leadership over (Thesis §3.10).

use crate::leader::Leading;
use crate::state::State;
use crate::{Effect, Effects, LogIdOption, Message, Refusal, Reply, Ticket, Time, TransferLeaderRequest, Types};

#[derive(Clone, Debug)]
pub(super) struct Transfer<T: Types> {
    pub(super) to: T::NodeId,
    pub(super) ends_at: Time,
    /// Taken once the target was asked.
    pub(super) ticket: Option<Ticket>,
}

impl<T: Types> Leading<T> {
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
    pub(super) fn hand_over(&mut self, state: &State<T>, effects: &mut Effects<T>) {
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
            // The voters may choose another from the moment on that this is sent, so the lease ends before.
            self.lease_given_up = true;
            effects.push(Effect::Send { to: transfer.to, message: Message::TransferLeader(request) });
            effects.reply(ticket, Reply::Transferring);
        }
    }
}
