//! Running what the replica wants done.

use std::sync::Arc;

use raftwright_core::{
    Effect, Effects, LogIdOf as CoreLogIdOf, LogIdOption, Message, Note, Reply, Tail, Ticket, Write, WriteId,
};
use raftwright_traits::{
    ClientWriteError, FlushSink, IOFlushed, LogIdOf, Of, RaftLogStorage, RaftNetworkFactory, RaftTypeConfig,
    UnknownReason,
};

use super::RaftCore;
use crate::msg::{Met, ReadTx, Waiting};
use crate::responder::WriteTx;
use crate::shared::Shared;
use crate::sm::Install;

impl<C, N, LS> RaftCore<C, N, LS>
where
    C: RaftTypeConfig,
    N: RaftNetworkFactory<C>,
    LS: RaftLogStorage<C>,
{
    /// Runs the effects in their order. A stream that is opened starts when all of them are done, so that the tail which it
    /// is given can be read.
    pub(super) async fn run_effects(&mut self) {
        if self.effects.is_empty() {
            return;
        }
        // Those whose entries are committed now have been in the log before this turn.
        let (committed, shape) = (self.replica.committed().index_or_zero(), self.replica.log_shape());
        self.pending.tell_committed(committed, |log_id| shape.contains(log_id));
        let mut effects = std::mem::replace(&mut self.effects, Effects::new());
        for effect in effects.drain() {
            match effect {
                Effect::Write { id, op } => self.on_write(id, op),
                Effect::Send { to, message } => self.on_send(to, message),
                Effect::Tail(tail) => self.streams.tail(tail),
                Effect::OpenStream { stream, target, node, vote, next } => {
                    self.streams.open(stream, target, node, vote, next);
                }
                Effect::CloseStream { stream } => self.streams.close(stream),
                Effect::Apply { upto } => self.on_apply(upto),
                Effect::BuildSnapshot { at } => self.worker.build(at),
                Effect::InstallSnapshot { ticket } => self.on_install_snapshot(ticket),
                Effect::Reply { ticket, reply } => self.on_reply(ticket, reply),
                Effect::Note(note) => self.on_note(&note),
            }
        }
        self.effects = effects;
        if self.streams.has_opening() {
            self.start_streams().await;
        }
    }

    fn on_write(&mut self, id: WriteId, op: Write<Of<C>>) {
        self.flushes.submitted(id, self.now);
        let sink: Arc<dyn FlushSink> = Arc::<Shared<C>>::clone(&self.shared);
        let flushed = IOFlushed::new(id, sink);
        match op {
            Write::Vote(vote) => self.log_store.save_vote(&vote, flushed),
            Write::Append(entries) => {
                self.shared.recorder.tell(|recorder| recorder.record_append(entries.len()));
                self.log_store.append(entries, flushed);
            }
            Write::Truncate { since } => self.log_store.truncate(since, flushed),
            Write::Purge { upto } => {
                // First, so that a reader that finds nothing knows why.
                self.shared.set_purged(upto);
                self.log_store.purge(upto, flushed);
            }
        }
    }

    fn on_send(&mut self, to: C::NodeId, message: Message<Of<C>>) {
        let message = match message {
            Message::Heartbeat(request) => match self.streams.heartbeat(to, request) {
                Ok(()) => return self.published.beat(),
                // A target that has no worker yet.
                Err(request) => Message::Heartbeat(request),
            },
            Message::Vote(_) | Message::TransferLeader(_) => message,
        };
        match self.replica.membership().membership.node(&to) {
            Some(node) => self.streams.call(to, node.clone(), message),
            None => tracing::debug!(target = %to, "nothing is known about where to send a message"),
        }
    }

    fn on_apply(&mut self, upto: CoreLogIdOf<Of<C>>) {
        self.worker.apply(upto, &mut self.pending);
        self.log_store.save_committed(Some(upto));
    }

    /// Hands the content that came with this ticket to the state machine's worker. Its waiter stays.
    fn on_install_snapshot(&mut self, ticket: Ticket) {
        match self.tickets.get_mut(ticket) {
            Some(Waiting::Install(_, content)) => match content.take() {
                Some(snapshot) => self.worker.install(Install { ticket, snapshot }),
                None => tracing::error!(%ticket, "the replica wants a snapshot installed twice"),
            },
            Some(_) | None => tracing::error!(%ticket, "the replica wants a snapshot that was not sent"),
        }
    }

    fn on_reply(&mut self, ticket: Ticket, reply: Reply<Of<C>>) {
        let Some(waiting) = self.tickets.take(ticket) else { return };
        match waiting.meet(reply, &self.replica.membership().membership) {
            Met::Answered => {}
            Met::Proposed(log_id, tx) => self.on_proposed(log_id, tx),
            Met::Read(log_id, tx) => self.on_read_confirmed(log_id, tx),
            Met::Transferring(to, tx) => self.await_transfer(to, tx),
            Met::Mismatch => tracing::error!(%ticket, "the replica gave a reply that was not asked for"),
        }
    }

    fn on_note(&mut self, note: &Note<Of<C>>) {
        tell(note);
        match note {
            Note::BecameLeader { vote } => self.observers.begin(vote.leader_id),
            Note::SteppedDown { .. } => self.observers.end(),
            Note::ElectionStarted { .. }
            | Note::FollowsLeader { .. }
            | Note::Truncated { .. }
            | Note::BadPeer { .. }
            | Note::Stranger { .. }
            | Note::TargetNeedsSnapshot { .. }
            | Note::SnapshotInstalled { .. }
            | Note::SnapshotFailed { .. } => {}
        }
    }

    fn on_proposed(&mut self, log_id: LogIdOf<C>, tx: WriteTx<C>) {
        if self.replica.committed().is_some_and(|committed| committed.index >= log_id.index) {
            // The worker may have passed it already. The replica commits no proposal before it says where it stands.
            return tx.refuse(ClientWriteError::Unknown(UnknownReason::LeadershipLost));
        }
        self.pending.push(log_id, tx);
    }

    pub(super) fn on_read_confirmed(&mut self, log_id: LogIdOf<C>, tx: ReadTx<C>) {
        if self.shared.applied() >= log_id.index {
            let _ = tx.send(Ok(Some(log_id)));
        } else {
            self.worker.read((log_id, tx));
        }
    }

    /// Starts the streams that were opened, with the tail as it is now.
    async fn start_streams(&mut self) {
        let tail = Tail { last: self.replica.last_log_id().unwrap_or_default(), committed: self.replica.committed() };
        let identity = self.replica.identity();
        for opening in self.streams.take_opening() {
            let seed = self.rng.next_u64();
            // A reader is a handle on what is in memory: stores make one without waiting.
            let reader = self.log_store.get_log_reader().await;
            self.streams.start(opening, identity, tail, seed, reader);
        }
    }
}

/// Tells the operator.
fn tell<T: raftwright_core::Types>(note: &Note<T>) {
    match note {
        // Questions are repeated several times a second while there is no leader.
        Note::ElectionStarted { pre_vote: true, vote } => tracing::debug!(%vote, "asks whether it could win"),
        Note::ElectionStarted { pre_vote: false, vote } => tracing::info!(%vote, "an election starts"),
        Note::BecameLeader { vote } => tracing::info!(%vote, "this server leads"),
        Note::SteppedDown { reason } => tracing::info!(?reason, "this server leads no more"),
        Note::FollowsLeader { vote } => tracing::info!(%vote, "follows a leader"),
        Note::Truncated { since } => tracing::info!(since, "entries that conflict with the leader's were deleted"),
        Note::BadPeer { from, what } => tracing::warn!(%from, what, "a peer sent what no correct peer sends"),
        Note::Stranger { from } => {
            tracing::warn!(%from, "a message came from a server that is not the one the membership means");
        }
        Note::TargetNeedsSnapshot { target } => {
            tracing::info!(%target, "a server needs what was purged here, and gets a snapshot");
        }
        // The task that built it has said why.
        Note::SnapshotFailed { at } => tracing::debug!(%at, "no snapshot was built"),
        Note::SnapshotInstalled { last_log_id } => tracing::info!(%last_log_id, "a snapshot was installed"),
    }
}
