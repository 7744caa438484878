//! Telling observers.

use std::collections::BTreeMap;

use raftwright_core::{LogIdOption, ServerState};
use raftwright_traits::{
    LogIdOf, LogIndex, RaftLogStorage, RaftNetworkFactory, RaftTypeConfig, StoredMembership, Time, VoteOf,
};

use super::RaftCore;
use crate::metrics::Recorder;

/// What observers were told last. Telling them takes locks and wakes tasks, so it is done only when something is new, and
/// once before `RaftCore` waits.
pub(super) struct Published<C: RaftTypeConfig> {
    seen: Option<Seen<C>>,
    matched: Vec<Matched<C>>,
    /// When each target last answered a heartbeat.
    heard: BTreeMap<C::NodeId, Time>,
    /// A heartbeat was sent: a good moment to say how long each target has been silent.
    beat: bool,
}

/// A target, and what it is known to have.
type Matched<C> = (<C as RaftTypeConfig>::NodeId, Option<LogIdOf<C>>);

#[derive(PartialEq)]
struct Seen<C: RaftTypeConfig> {
    vote: Option<VoteOf<C>>,
    last_log_id: Option<LogIdOf<C>>,
    durable: LogIndex,
    committed: Option<LogIdOf<C>>,
    purged: Option<LogIdOf<C>>,
    state: ServerState,
    leader: Option<C::NodeId>,
    membership: Option<LogIdOf<C>>,
}

impl<C: RaftTypeConfig> Published<C> {
    pub(super) fn new() -> Self {
        Self { seen: None, matched: Vec::new(), heard: BTreeMap::new(), beat: false }
    }

    /// A target has answered a heartbeat. Only targets of this server's own calls come here.
    pub(super) fn heard(&mut self, from: C::NodeId, now: Time) {
        self.heard.insert(from, now);
    }

    pub(super) fn beat(&mut self) {
        self.beat = true;
    }
}

impl<C, N, LS> RaftCore<C, N, LS>
where
    C: RaftTypeConfig,
    N: RaftNetworkFactory<C>,
    LS: RaftLogStorage<C>,
{
    /// Tells observers what is new, if anything is.
    pub(super) fn publish(&mut self) {
        let replica = &self.replica;
        let seen = Seen::<C> {
            vote: replica.vote().copied(),
            last_log_id: replica.last_log_id(),
            durable: replica.durable_index(),
            committed: replica.committed(),
            purged: replica.purged(),
            state: replica.server_state(),
            leader: replica.leader(),
            membership: replica.membership().log_id,
        };
        let published = &mut self.published;
        let matched_is_new = !replica.matched().eq(published.matched.iter().copied());
        let seen_is_new = published.seen.as_ref() != Some(&seen);
        if !seen_is_new && !matched_is_new && !published.beat {
            return;
        }
        if matched_is_new {
            published.matched.clear();
            published.matched.extend(replica.matched());
        }
        let beat = std::mem::take(&mut published.beat);
        let leads = seen.state == ServerState::Leader;
        let now = self.now;
        let new_membership = (published.seen.as_ref().map(|before| before.membership) != Some(seen.membership))
            .then(|| replica.membership().clone());
        let flush_micros = self.flushes.last().map(|took| took.as_nanos() / 1_000);
        let quorum_ack = replica.last_quorum_ack().map(|at| now.since(at).as_millis());
        self.shared.tell(|metrics| {
            metrics.current_term = seen.vote.map_or(0, |vote| vote.term());
            metrics.vote = seen.vote;
            metrics.last_log_id = seen.last_log_id;
            metrics.durable = seen.durable;
            metrics.flush_micros = flush_micros;
            metrics.committed = seen.committed;
            metrics.purged = seen.purged;
            metrics.state = seen.state;
            metrics.current_leader = seen.leader;
            if let Some(membership) = new_membership {
                let membership: StoredMembership<C> = membership;
                metrics.membership_config = membership.into();
            }
            if !leads {
                (metrics.replication, metrics.heartbeat) = (None, None);
                metrics.millis_since_quorum_ack = None;
                return;
            }
            if matched_is_new || metrics.replication.is_none() {
                update::<C>(metrics.replication.get_or_insert_default(), &published.matched);
            }
            metrics.millis_since_quorum_ack = quorum_ack;
            if beat || matched_is_new || metrics.heartbeat.is_none() {
                let ages = metrics.heartbeat.get_or_insert_default();
                ages.retain(|id, _| published.matched.iter().any(|(target, _)| target == id));
                for (target, _) in &published.matched {
                    ages.insert(*target, published.heard.get(target).map(|at| now.since(*at).as_millis()));
                }
            }
        });
        self.shared.publish_parts();
        record(&self.shared.recorder, published.seen.as_ref(), &seen);
        if !leads {
            published.heard.clear();
        }
        published.seen = Some(seen);
    }

    /// Tells observers that the node has stopped, and why.
    pub(super) fn publish_end(&self) {
        let end = self.shared.end();
        self.shared.metrics.send_modify(|metrics| {
            metrics.running_state = Err(end);
            metrics.state = ServerState::Learner;
            metrics.current_leader = None;
            (metrics.replication, metrics.heartbeat) = (None, None);
            metrics.millis_since_quorum_ack = None;
        });
        self.shared.publish_parts();
    }
}

/// Tells the recorder what is new.
fn record<C: RaftTypeConfig>(recorder: &Recorder, before: Option<&Seen<C>>, seen: &Seen<C>) {
    let term = |seen: &Seen<C>| seen.vote.map_or(0, |vote| vote.term());
    if before.is_none_or(|before| before.committed != seen.committed) {
        recorder.tell(|recorder| recorder.record_committed(seen.committed.index_or_zero()));
    }
    if before.is_none_or(|before| (before.state, term(before)) != (seen.state, term(seen))) {
        recorder.tell(|recorder| recorder.record_state(seen.state, term(seen)));
    }
}

/// Makes the map equal to the list. Mostly the keys are the same, and nothing is allocated.
fn update<C: RaftTypeConfig>(map: &mut BTreeMap<C::NodeId, Option<LogIdOf<C>>>, list: &[Matched<C>]) {
    if map.len() != list.len() || list.iter().any(|(id, _)| !map.contains_key(id)) {
        map.clear();
    }
    for (id, matched) in list {
        map.insert(*id, *matched);
    }
}
