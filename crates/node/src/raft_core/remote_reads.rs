//! Reads at a server that does not lead: the leader is asked how far the state machine must be (Thesis §6.4).

use raftwright_core::ReadPolicy;
use raftwright_traits::{
    ForwardToLeader, LinearizableReadError, LogIdOf, RPCError, RaftLogStorage, RaftNetworkFactory, RaftTypeConfig,
    ReadIndexAnswer, ReadIndexRequest, ReadIndexResponse, Time,
};

use super::RaftCore;
use crate::msg::{ReadTx, forward_to};

/// The reads of others' state machines that wait for the leader's answer. One question is under way at a time, and all
/// reads that came before it was sent share its answer. Those that came after it wait for the next.
pub(super) struct RemoteReads<C: RaftTypeConfig> {
    asked: Option<Asked<C>>,
    waiting: Vec<(ReadPolicy, ReadTx<C>)>,
    /// The newest confirmed answer, and when it was asked for.
    last: Option<(Time, LogIdOf<C>)>,
}

struct Asked<C: RaftTypeConfig> {
    at: Time,
    leader: C::NodeId,
    readers: Vec<ReadTx<C>>,
}

impl<C: RaftTypeConfig> RemoteReads<C> {
    pub(super) fn new() -> Self {
        Self { asked: None, waiting: Vec::new(), last: None }
    }

    fn len(&self) -> usize {
        self.waiting.len() + self.asked.as_ref().map_or(0, |asked| asked.readers.len())
    }

    /// Forgets all, which tells the callers that no answer will come.
    pub(super) fn clear(&mut self) {
        self.asked = None;
        self.waiting.clear();
    }
}

impl<C, N, LS> RaftCore<C, N, LS>
where
    C: RaftTypeConfig,
    N: RaftNetworkFactory<C>,
    LS: RaftLogStorage<C>,
{
    /// A read has come, and this server does not lead.
    pub(super) fn read_remotely(&mut self, policy: ReadPolicy, tx: ReadTx<C>) {
        if let ReadPolicy::AckedWithin(span) = policy
            && let Some((asked_at, read_log_id)) = self.remote_reads.last
            && self.now.since(asked_at) <= span
        {
            // All that was acknowledged before that was asked is in what is applied up to there.
            return self.on_read_confirmed(read_log_id, tx);
        }
        if self.remote_reads.len() + self.worker.reads_waiting() >= self.shared.config().reads_max {
            return drop(tx.send(Err(LinearizableReadError::Busy)));
        }
        self.remote_reads.waiting.push((policy, tx));
        self.ask_leader();
    }

    /// Asks the leader for all reads that wait, unless a question is under way.
    fn ask_leader(&mut self) {
        if self.remote_reads.asked.is_some() || self.remote_reads.waiting.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut self.remote_reads.waiting);
        let me = self.shared.id;
        let leader = self.replica.leader().filter(|leader| *leader != me);
        let found = leader.and_then(|id| Some((id, self.replica.membership().membership.node(&id)?.clone())));
        let Some((leader, node)) = found else {
            let forward = self.forward();
            return refuse(waiting.into_iter().map(|(_, tx)| tx), &LinearizableReadError::ForwardToLeader(forward));
        };
        // One that trusts no lease makes the leader ask for all. An answer of "acknowledged within" could not be kept for
        // others, so what is asked for it is as good as for any.
        let lease = waiting.iter().all(|(policy, _)| *policy == ReadPolicy::Lease);
        let policy = if lease { ReadPolicy::Lease } else { ReadPolicy::ReadIndex };
        let request = ReadIndexRequest::<C> { from: self.replica.identity(), policy };
        if !self.streams.ask_read_index(leader, node, request) {
            return refuse(waiting.into_iter().map(|(_, tx)| tx), &LinearizableReadError::Busy);
        }
        let readers = waiting.into_iter().map(|(_, tx)| tx).collect();
        self.remote_reads.asked = Some(Asked { at: self.now, leader, readers });
    }

    /// The leader has answered, or will not.
    pub(super) fn on_read_index(&mut self, answered: Result<ReadIndexResponse<C>, RPCError>) {
        let Some(Asked { at, leader, readers }) = self.remote_reads.asked.take() else { return };
        let nodes = &self.replica.membership().membership;
        let error = match answered {
            Ok(ReadIndexResponse::<C> { from, .. }) if from.id != leader => LinearizableReadError::NotConfirmed,
            Ok(ReadIndexResponse::<C> { answer, .. }) => match answer {
                ReadIndexAnswer::<C>::Confirmed { read_log_id } => {
                    self.remote_reads.last = Some((at, read_log_id));
                    for tx in readers {
                        self.on_read_confirmed(read_log_id, tx);
                    }
                    return self.ask_leader();
                }
                ReadIndexAnswer::<C>::NotLeader { leader } => {
                    LinearizableReadError::ForwardToLeader(forward_to(leader, nodes))
                }
                ReadIndexAnswer::<C>::Busy => LinearizableReadError::Busy,
                ReadIndexAnswer::<C>::NotConfirmed => LinearizableReadError::NotConfirmed,
            },
            Err(RPCError::Refused(why)) => {
                tracing::debug!(%leader, why, "the leader serves no reads of others");
                let leader_node = nodes.node(&leader).cloned();
                LinearizableReadError::ForwardToLeader(ForwardToLeader { leader_id: Some(leader), leader_node })
            }
            Err(RPCError::Timeout | RPCError::Unreachable(_) | RPCError::Network(_)) => {
                LinearizableReadError::NotConfirmed
            }
        };
        refuse(readers.into_iter(), &error);
        self.ask_leader();
    }
}

fn refuse<C: RaftTypeConfig>(readers: impl Iterator<Item = ReadTx<C>>, error: &LinearizableReadError<C>) {
    for tx in readers {
        let _ = tx.send(Err(error.clone()));
    }
}
