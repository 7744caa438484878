//! The tasks that talk to peers.

use std::collections::BTreeMap;
use std::sync::Arc;

use raftwright_core::{Message, Stream, StreamId, Tail};
use raftwright_traits::{
    AsyncRuntime, HeartbeatRequest, Identity, LogIndex, Of, RaftLogReader, RaftNetworkFactory, RaftTypeConfig,
    ReadIndexRequest, VoteOf,
};
use tracing::Instrument;

use crate::calls::{ReadLane, ask_leader, call};
use crate::heartbeat::HeartbeatWorker;
use crate::limits::CALLS_MAX;
use crate::replication::{ReplicationCore, Target};
use crate::shared::{Shared, guarded};
use crate::sync::{Slot, has_ended};

type Join<C> = <<C as RaftTypeConfig>::AsyncRuntime as AsyncRuntime>::JoinHandle<()>;

/// The handles of all tasks that talk to peers: the replication task and the heartbeat worker of each target, and the short
/// calls.
pub(super) struct Streams<C: RaftTypeConfig, N: RaftNetworkFactory<C>> {
    shared: Arc<Shared<C>>,
    factory: Arc<tokio::sync::Mutex<N>>,
    open: BTreeMap<StreamId, Handles<C>>,
    /// The open stream of each target.
    targets: BTreeMap<C::NodeId, StreamId>,
    opening: Vec<Opening<C>>,
    /// The connection over which the leader is asked about reads.
    read_lane: ReadLane<C, N>,
    calls: Vec<(Arc<Slot<()>>, Join<C>)>,
    /// Tasks that were told to end and perhaps have not yet.
    leaving: Vec<Join<C>>,
}

struct Handles<C: RaftTypeConfig> {
    target: C::NodeId,
    tail: Arc<Slot<Tail<Of<C>>>>,
    heartbeat: Arc<Slot<HeartbeatRequest<C>>>,
    joins: [Join<C>; 2],
}

/// A stream that is to be started.
pub(super) struct Opening<C: RaftTypeConfig> {
    stream: StreamId,
    target: C::NodeId,
    node: C::Node,
    vote: VoteOf<C>,
    next: LogIndex,
    heartbeat: Arc<Slot<HeartbeatRequest<C>>>,
}

impl<C: RaftTypeConfig, N: RaftNetworkFactory<C>> Streams<C, N> {
    pub(super) fn new(shared: Arc<Shared<C>>, factory: N) -> Self {
        Self {
            shared,
            factory: Arc::new(tokio::sync::Mutex::new(factory)),
            open: BTreeMap::new(),
            targets: BTreeMap::new(),
            opening: Vec::new(),
            read_lane: ReadLane::<C, N>::default(),
            calls: Vec::new(),
            leaving: Vec::new(),
        }
    }

    pub(super) fn open(&mut self, stream: StreamId, target: C::NodeId, node: C::Node, vote: VoteOf<C>, next: LogIndex) {
        self.opening.push(Opening { stream, target, node, vote, next, heartbeat: Arc::new(Slot::new()) });
    }

    pub(super) fn has_opening(&self) -> bool {
        !self.opening.is_empty()
    }

    pub(super) fn take_opening(&mut self) -> Vec<Opening<C>> {
        std::mem::take(&mut self.opening)
    }

    /// Starts the two tasks of a target.
    pub(super) fn start<LR: RaftLogReader<C>>(
        &mut self,
        opening: Opening<C>,
        identity: Identity<C::NodeId>,
        tail: Tail<Of<C>>,
        seed: u64,
        reader: LR,
    ) {
        let Opening { stream, target, node, vote, next, heartbeat } = opening;
        let (shared, factory) = (&self.shared, &self.factory);
        let machine = Stream::new(shared.config().stream(), identity, vote, next, tail, seed);
        let tail = Arc::new(Slot::new());
        let replication = ReplicationCore::new(
            Arc::clone(shared),
            Target { stream, id: target, node: node.clone(), leader: identity, vote },
            Arc::clone(factory),
            reader,
            machine,
            Arc::clone(&tail),
        );
        let worker =
            HeartbeatWorker::new(Arc::clone(shared), target, node, Arc::clone(factory), Arc::clone(&heartbeat));
        let span =
            tracing::info_span!("replication", id = %shared.id, term = vote.term(), role = "leader", target = %target);
        let joins = [
            shared
                .runtime
                .spawn(guarded(Arc::clone(shared), "replication", replication.run()).instrument(span.clone())),
            shared.runtime.spawn(guarded(Arc::clone(shared), "heartbeat", worker.run()).instrument(span)),
        ];
        self.targets.insert(target, stream);
        self.open.insert(stream, Handles { target, tail, heartbeat, joins });
    }

    /// Closes a stream. Once this has returned, its task sends nothing that it reads from now on.
    pub(super) fn close(&mut self, stream: StreamId) {
        self.opening.retain(|opening| opening.stream != stream);
        let Some(handles) = self.open.remove(&stream) else { return };
        if self.targets.get(&handles.target) == Some(&stream) {
            self.targets.remove(&handles.target);
        }
        handles.tail.close();
        handles.heartbeat.close();
        self.leaving.retain_mut(|join| !has_ended(join));
        self.leaving.extend(handles.joins);
    }

    /// Tells all streams how far the log goes.
    pub(super) fn tail(&self, tail: Tail<Of<C>>) {
        for handles in self.open.values() {
            handles.tail.put(tail);
        }
    }

    /// Hands a heartbeat to the target's worker, or back if it has none.
    pub(super) fn heartbeat(&self, to: C::NodeId, request: HeartbeatRequest<C>) -> Result<(), HeartbeatRequest<C>> {
        let open = self.targets.get(&to).and_then(|stream| self.open.get(stream)).map(|handles| &handles.heartbeat);
        let opening = || self.opening.iter().find(|opening| opening.target == to).map(|opening| &opening.heartbeat);
        match open.or_else(opening) {
            Some(mailbox) => {
                mailbox.put(request);
                Ok(())
            }
            None => Err(request),
        }
    }

    /// Makes one call in a task of its own. Past the bound it is not made.
    pub(super) fn call(&mut self, to: C::NodeId, node: C::Node, message: Message<Of<C>>) {
        self.calls.retain_mut(|(_, join)| !has_ended(join));
        if self.calls.len() >= CALLS_MAX {
            tracing::debug!(target = %to, "too many calls are under way to make another");
            return;
        }
        let stop = Arc::new(Slot::new());
        let task = call(Arc::clone(&self.shared), Arc::clone(&self.factory), to, node, message, Arc::clone(&stop));
        let span = tracing::info_span!("call", id = %self.shared.id, target = %to);
        let join = self.shared.runtime.spawn(guarded(Arc::clone(&self.shared), "call", task).instrument(span));
        self.calls.push((stop, join));
    }

    /// Asks the leader about reads, in a task of its own. Says whether it is asked: there is a bound on calls.
    pub(super) fn ask_read_index(&mut self, leader: C::NodeId, node: C::Node, request: ReadIndexRequest<C>) -> bool {
        self.calls.retain_mut(|(_, join)| !has_ended(join));
        if self.calls.len() >= CALLS_MAX {
            return false;
        }
        let stop = Arc::new(Slot::new());
        let (shared, factory, lane) =
            (Arc::clone(&self.shared), Arc::clone(&self.factory), Arc::clone(&self.read_lane));
        let task = ask_leader(shared, factory, lane, leader, node, request, Arc::clone(&stop));
        let span = tracing::info_span!("read_index", id = %self.shared.id, target = %leader);
        let join = self.shared.runtime.spawn(guarded(Arc::clone(&self.shared), "read_index", task).instrument(span));
        self.calls.push((stop, join));
        true
    }

    /// Tells every task to end.
    pub(super) fn close_all(&mut self) {
        self.opening.clear();
        let streams: Vec<StreamId> = self.open.keys().copied().collect();
        for stream in streams {
            self.close(stream);
        }
        for (stop, join) in self.calls.drain(..) {
            stop.close();
            self.leaving.push(join);
        }
    }

    /// Waits until every task that was told to end has done so.
    pub(super) async fn join_all(&mut self) {
        for join in self.leaving.drain(..) {
            // How it ended it has said itself.
            let _ = join.await;
        }
    }
}
