//! The task at the centre: owns the replica and the log's writing end.

mod effects;
mod flushes;
mod observers;
mod publish;
mod remote_reads;
mod span;
mod streams;
mod writes;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use tracing::Instrument;

use crate::alarm::Alarm;
use crate::intake::Intake;
use crate::limits::{TRANSFER_TIMEOUTS, TURNS_MAX};
use crate::msg::{RaftMsg, TransferTx, Waiting};
use crate::notify::{Batch, Notify};
use crate::pending::PendingWrites;
use crate::raft::TooManyObservers;
use crate::shared::Shared;
use crate::sm::Inbox;
use crate::sync::pause;
use crate::tickets::Tickets;
use raftwright_core::{Effects, Input, Replica, Rng, ServerState};
use raftwright_traits::{
    AppendEntriesResponse, AppendOutcome, AsyncRuntime, ClientWriteError, Fatal, ForwardToLeader,
    LinearizableReadError, LogIdOf, Of, PeerRefusal, RaftLogStorage, RaftNetworkFactory, RaftTypeConfig, Span, Time,
    TransferLeaderError, UnknownReason,
};

pub(crate) use observers::Observer;

use flushes::Flushes;
use observers::Observers;
use publish::Published;
use remote_reads::RemoteReads;
use span::CoreSpan;
use streams::Streams;

/// Takes up what has come in, many messages at a time; steps the replica through them; runs what it wants done. It waits
/// for its inbox and its deadline, and for nothing else: no disk, no peer, no state machine.
pub(crate) struct RaftCore<C: RaftTypeConfig, N: RaftNetworkFactory<C>, LS> {
    shared: Arc<Shared<C>>,
    replica: Replica<Of<C>>,
    effects: Effects<Of<C>>,
    log_store: LS,
    /// The calls of the handle.
    intake: Intake<C>,
    messages: Vec<RaftMsg<C>>,
    batch: Batch<C>,
    alarm: Alarm<C::AsyncRuntime>,
    tickets: Tickets<Waiting<C>>,
    pending: PendingWrites<C>,
    /// The transfers that were asked for: to whom, and when their callers are told that it took too long.
    transfers: Vec<(Time, C::NodeId, TransferTx<C>)>,
    /// Reads that wait for the leader's word.
    remote_reads: RemoteReads<C>,
    worker: Arc<Inbox<C>>,
    streams: Streams<C, N>,
    published: Published<C>,
    observers: Observers<C>,
    flushes: Flushes,
    /// Whether the log had no room for entries when it was last asked.
    full: bool,
    /// How many writes were proposed in this turn.
    proposed: usize,
    span: CoreSpan,
    rng: Rng,
    /// When the present turn began.
    now: Time,
}

impl<C, N, LS> RaftCore<C, N, LS>
where
    C: RaftTypeConfig,
    N: RaftNetworkFactory<C>,
    LS: RaftLogStorage<C>,
{
    pub(crate) fn new(
        shared: Arc<Shared<C>>,
        replica: Replica<Of<C>>,
        log_store: LS,
        network: N,
        intake: Intake<C>,
        worker: Arc<Inbox<C>>,
        rng: Rng,
    ) -> Self {
        let alarm = Alarm::new(shared.runtime.clone());
        let streams = Streams::new(Arc::clone(&shared), network);
        Self {
            shared,
            replica,
            effects: Effects::new(),
            log_store,
            intake,
            messages: Vec::new(),
            batch: Batch::new(),
            alarm,
            tickets: Tickets::new(),
            pending: PendingWrites::new(),
            transfers: Vec::new(),
            remote_reads: RemoteReads::new(),
            worker,
            streams,
            published: Published::new(),
            observers: Observers::new(),
            flushes: Flushes::new(),
            full: false,
            proposed: 0,
            span: CoreSpan::new(),
            rng,
            now: Time::ZERO,
        }
    }

    /// Runs until the node is told to stop or cannot go on.
    pub(crate) async fn run(&mut self) {
        let now = self.shared.runtime.now();
        self.now = now;
        self.replica.step(now, Input::Wake, &mut self.effects);
        self.run_effects().await;
        let mut turns = 0;
        loop {
            let idle = self.wait().await;
            turns = if idle { 0 } else { turns + 1 };
            if turns >= TURNS_MAX {
                turns = 0;
                // Under load there is never nothing to do, and observers want to see that too.
                self.publish();
                pause().await;
            }
            if self.batch.stop {
                return;
            }
            let span = self.span();
            if let Err(fatal) = span.in_scope(|| self.turn()) {
                span.in_scope(|| tracing::error!(error = %fatal, "the node stops"));
                return self.shared.stop(fatal);
            }
            // What the turn has made of this server is what its effects are about.
            let span = self.span();
            self.run_effects().instrument(span).await;
            self.settle_transfers();
        }
    }

    /// The span of what happens now.
    fn span(&mut self) -> tracing::Span {
        let term = self.replica.vote().map_or(0, |vote| vote.term());
        self.span.of(self.shared.id, term, self.replica.server_state())
    }

    /// Waits until there is something to do, and takes it up. Says whether it had to wait; observers are told before.
    async fn wait(&mut self) -> bool {
        let mut waited = false;
        let batch_max = self.shared.config().api_batch_max;
        poll_fn(|cx| {
            let mut ready = self.shared.notify.poll_take(cx, &mut self.batch).is_ready();
            ready |= self.intake.poll_take(cx, &mut self.messages, batch_max).is_ready();
            if !ready {
                self.alarm.set(self.deadline());
                ready = self.alarm.poll(cx).is_ready();
            }
            if ready {
                return Poll::Ready(());
            }
            if !waited {
                self.publish();
            }
            waited = true;
            Poll::Pending
        })
        .await;
        waited
    }

    fn deadline(&self) -> Option<Time> {
        let transfer = self.transfers.iter().map(|(until, _, _)| *until).min();
        let replica = if self.may_wake() { self.replica.deadline() } else { None };
        [replica, transfer].into_iter().flatten().min()
    }

    /// Elections do not start by themselves if the settings say so; one that was started goes on.
    fn may_wake(&self) -> bool {
        self.shared.config().enable_elect
            || match self.replica.server_state() {
                ServerState::Learner | ServerState::Follower => false,
                ServerState::PreCandidate | ServerState::Candidate | ServerState::Leader => true,
            }
    }

    /// Steps the replica through all that has come in. What has come in counts before a deadline that has passed: a
    /// server that was slow to look has not lost its leader.
    fn turn(&mut self) -> Result<(), Fatal> {
        let now = self.shared.runtime.now();
        self.now = now;
        let mut events = std::mem::take(&mut self.batch.events);
        for event in events.drain(..) {
            self.on_notify(now, event)?;
        }
        self.batch.events = events;
        for reports in self.batch.reports.drain(..) {
            let stream = reports.stream;
            for report in [reports.matched, reports.needs_snapshot, reports.higher_vote].into_iter().flatten() {
                self.replica.step(now, Input::Stream { stream, report }, &mut self.effects);
            }
        }
        let mut messages = std::mem::take(&mut self.messages);
        let mut room = self.room_for_writes();
        for message in messages.drain(..) {
            self.on_message(now, message, &mut room);
        }
        self.messages = messages;
        let proposed = std::mem::take(&mut self.proposed);
        if proposed > 0 {
            self.shared.recorder.tell(|recorder| recorder.record_proposals(proposed));
        }
        if self.may_wake() && self.replica.deadline().is_some_and(|deadline| deadline <= now) {
            self.replica.step(now, Input::Wake, &mut self.effects);
        }
        Ok(())
    }

    fn on_notify(&mut self, now: Time, event: Notify<C>) -> Result<(), Fatal> {
        let input = match event {
            Notify::LogDone { write, result } => {
                result?;
                if let Some(took) = self.flushes.done(write, now) {
                    self.shared.recorder.tell(|recorder| recorder.record_flush(took));
                }
                Input::LogDone { write }
            }
            Notify::SnapshotBuilt { last_log_id } => Input::SnapshotBuilt { last_log_id },
            Notify::SnapshotFailed => Input::SnapshotFailed,
            Notify::SnapshotInstalled { ticket, last_log_id } => {
                self.forget_writes(last_log_id);
                Input::SnapshotInstalled { ticket }
            }
            Notify::VoteResponse(response) => Input::VoteResponse(response),
            Notify::HeartbeatResponse(response) => {
                self.published.heard(response.from.id, now);
                Input::HeartbeatResponse(response)
            }
            Notify::ReadIndex(answered) => {
                self.on_read_index(answered);
                return Ok(());
            }
        };
        self.replica.step(now, input, &mut self.effects);
        Ok(())
    }

    /// A snapshot has taken the place of what these writers wait for: nobody knows any more what became of it.
    fn forget_writes(&mut self, last_log_id: LogIdOf<C>) {
        let mut waiters = VecDeque::new();
        self.pending.take_upto(last_log_id.index, &mut waiters);
        for (_, tx) in waiters {
            tx.refuse(ClientWriteError::Unknown(UnknownReason::Snapshot));
        }
    }

    fn on_message(&mut self, now: Time, message: RaftMsg<C>, room: &mut usize) {
        let tickets = &mut self.tickets;
        let input = match message {
            RaftMsg::Vote { request, tx } => Input::VoteRequest { ticket: tickets.issue(Waiting::Vote(tx)), request },
            RaftMsg::Heartbeat { request, tx } => {
                Input::Heartbeat { ticket: tickets.issue(Waiting::Heartbeat(tx)), request }
            }
            RaftMsg::AppendEntries { request, tx } => {
                if !request.entries.is_empty() && self.log_is_full() {
                    // An append cannot be refused once it is submitted. The leader tries again, later and later.
                    let outcome = AppendOutcome::<C>::Refused(PeerRefusal::Busy);
                    return drop(tx.send(AppendEntriesResponse::<C> { from: self.replica.identity(), outcome }));
                }
                let tickets = &mut self.tickets;
                Input::AppendEntries { ticket: tickets.issue(Waiting::Append(tx)), request }
            }
            RaftMsg::InstallSnapshot { request, snapshot, tx } => {
                Input::InstallSnapshot { ticket: tickets.issue(Waiting::Install(tx, Some(snapshot))), request }
            }
            RaftMsg::TransferRequest { request } => Input::TransferRequest { request },
            RaftMsg::ClientWrite(proposal) => return self.on_client_write(now, proposal, room),
            RaftMsg::ClientWriteMany(proposals) => return self.on_client_write_many(now, proposals, room),
            RaftMsg::Read { policy, tx } => {
                if !self.replica.is_leader() {
                    return self.read_remotely(policy, tx);
                }
                if self.worker.reads_waiting() >= self.shared.config().reads_max {
                    return drop(tx.send(Err(LinearizableReadError::Busy)));
                }
                Input::Read { ticket: tickets.issue(Waiting::Read(tx)), policy }
            }
            RaftMsg::ReadLogId { policy, tx } => Input::Read { ticket: tickets.issue(Waiting::ReadLogId(tx)), policy },
            RaftMsg::Initialize { membership, tx } => {
                Input::Initialize { ticket: tickets.issue(Waiting::Initialize(tx)), membership }
            }
            RaftMsg::AddLearner { id, node, tx } => {
                Input::AddLearner { ticket: tickets.issue(Waiting::Change(tx)), id, node }
            }
            RaftMsg::ChangeMembership { voters, retain, tx } => {
                Input::ChangeMembership { ticket: tickets.issue(Waiting::Change(tx)), voters, retain }
            }
            RaftMsg::ChangeMembers { change, conditions, tx } => {
                Input::ChangeMembers { ticket: tickets.issue(Waiting::Change(tx)), change, conditions }
            }
            RaftMsg::CancelChange { tx } => Input::CancelChange { ticket: tickets.issue(Waiting::Change(tx)) },
            RaftMsg::RemoveLearners { ids, tx } => {
                Input::RemoveLearners { ticket: tickets.issue(Waiting::Change(tx)), ids }
            }
            RaftMsg::TransferLeader { to, tx } => {
                Input::TransferLeader { ticket: tickets.issue(Waiting::Transfer(to, tx)), to }
            }
            RaftMsg::Elect => Input::Elect,
            RaftMsg::Beat => Input::Beat,
            RaftMsg::BuildSnapshot => Input::BuildSnapshot,
            RaftMsg::Purge { upto } => Input::Purge { upto },
            RaftMsg::Look(look) => return look(&self.replica),
            RaftMsg::Observe { observer, tx } => {
                let added = self.observers.add(observer);
                let _ = tx.send(if added { Ok(()) } else { Err(TooManyObservers) });
                return;
            }
            RaftMsg::Configure { change, tx } => return drop(tx.send(self.on_configure(now, change))),
        };
        self.replica.step(now, input, &mut self.effects);
    }

    /// Tells the callers of transfers how they ended: the target has taken over once this server leads no more.
    fn settle_transfers(&mut self) {
        if self.transfers.is_empty() {
            return;
        }
        let now = self.now;
        let other_leader = self.replica.leader().filter(|leader| *leader != self.shared.id);
        for (until, to, tx) in std::mem::take(&mut self.transfers) {
            // That this server leads no more is not enough: it may have lost its quorum.
            let answer = match other_leader {
                Some(leader) if leader == to => Ok(()),
                Some(_) => Err(TransferLeaderError::ForwardToLeader(self.forward())),
                None if until <= now => Err(TransferLeaderError::Deadline),
                None => {
                    self.transfers.push((until, to, tx));
                    continue;
                }
            };
            let _ = tx.send(answer);
        }
    }

    /// The leader that this server knows.
    fn forward(&self) -> ForwardToLeader<C> {
        let leader_id = self.replica.leader();
        let node = leader_id.and_then(|id| self.replica.membership().membership.node(&id).cloned());
        ForwardToLeader { leader_id, leader_node: node }
    }

    fn await_transfer(&mut self, to: C::NodeId, tx: TransferTx<C>) {
        let timeout = Span::from_millis(self.shared.config().election_timeout_max) * TRANSFER_TIMEOUTS;
        self.transfers.push((self.now + timeout, to, tx));
    }

    /// The end: everybody who waits is told, every task ends. To be called once, whatever made the end.
    pub(crate) async fn finish(&mut self) {
        self.intake.close(&mut self.messages);
        self.streams.close_all();
        self.worker.stop();
        self.refuse_untaken();
        // Whoever waits for one of these sees that its answer will not come, and asks why the node has stopped.
        self.tickets.clear();
        self.pending.clear();
        self.transfers.clear();
        self.observers.end();
        self.remote_reads.clear();
        self.publish_end();
        self.streams.join_all().await;
    }
}
