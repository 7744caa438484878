//! Who a leader replicates to.

use crate::leader::Leading;
use crate::state::State;
use crate::{Effect, Effects, Incarnation, LogIdOption, LogIndex, Round, StreamId, Time, Types};

/// What a leader knows about another member.
#[derive(Clone, Debug, Default)]
pub(super) struct Target {
    /// `None` only while its address changes, within a step.
    pub(super) stream: Option<StreamId>,
    /// matchIndex (Raft, Figure 2): the highest entry known to be replicated there, durably. Never goes back.
    pub(super) matched: LogIndex,
    /// The newest heartbeat round that it has answered.
    pub(super) round: Round,
    /// The incarnation that it states.
    pub(super) seen: Option<Incarnation>,
    /// A learner that is to become a voter is catching up with what the log had at that time.
    pub(super) round_of_entries: Option<(LogIndex, Time)>,
    /// Whether it has caught up once.
    pub(super) caught_up: bool,
    /// Set when its removal from the membership is committed: it is served until it knows, so that it does not go on asking
    /// for votes, but for so long only.
    pub(super) leaving: Option<Leaving>,
}

/// A server that was removed, and what it takes for it to know.
#[derive(Clone, Debug)]
pub(super) struct Leaving {
    /// The entry of the membership without it.
    pub(super) index: LogIndex,
    /// A later heartbeat tells it that this is committed.
    pub(super) after: Round,
    pub(super) until: Time,
}

impl Leaving {
    fn is_over(&self, target: &Target, now: Time) -> bool {
        now >= self.until || (target.matched >= self.index && target.round > self.after)
    }
}

impl<T: Types> Leading<T> {
    /// Opens a stream to every member that has none. A server that is in no membership any more, committed or not, is told
    /// so and then left.
    pub(super) fn settle_streams(&mut self, state: &State<T>, now: Time, next: LogIndex, effects: &mut Effects<T>) {
        let membership = state.membership();
        for (_, target) in self.targets.iter_mut().filter(|(id, _)| !state.memberships.any(|m| m.contains(id))) {
            target.leaving.get_or_insert(Leaving {
                index: state.memberships.effective().log_id.index_or_zero(),
                after: self.rounds.latest(),
                until: now + state.config.election_timeout_max * 4,
            });
        }
        for (id, node) in membership.nodes().iter().filter(|(id, _)| **id != state.identity.id) {
            let blank = Target::default();
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
    pub(super) fn dismiss(&mut self, now: Time, effects: &mut Effects<T>) {
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
    pub(super) fn close_stream(&mut self, id: &T::NodeId, same_server: bool, effects: &mut Effects<T>) {
        let Some(target) = self.targets.get_mut(id) else { return };
        if let Some(stream) = target.stream.take() {
            effects.push(Effect::CloseStream { stream });
        }
        if !same_server {
            *target = Target::default();
        }
    }
}
