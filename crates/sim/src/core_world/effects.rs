//! What the servers of a simulated cluster want done, and what becomes of it: disks, streams, answers, applied entries.

use super::cluster::{Cluster, Event};
use super::server::{Caller, Line, Server, Work};
use super::store::Base;
use super::trace::Kind;
use super::types::{SimTypes, Vote};
use super::wire::Wire;
use crate::checkers::Fact;
use crate::world::{Fault, NodeId};
use core::time::Duration;
use raftwright_core::{
    AppendOutcome, Effect, LogIdOption, Message, Note, Reply, StepDown, Stream, StreamInput, Tail, Ticket, Time,
    VoteKind, Write,
};

impl Cluster {
    pub(super) fn execute(
        &mut self,
        node: NodeId,
        boot: u64,
        local: Time,
        effect: Effect<SimTypes>,
        leading: Option<Vote>,
    ) {
        match effect {
            Effect::Write { id, op } => self.write(node, boot, id, op, leading),
            Effect::Send { to, message } => {
                if let Message::Vote(request) = &message
                    && request.kind != VoteKind::PreVote
                {
                    self.fact(node, Fact::AskedForVote { vote: request.vote, kind: request.kind });
                }
                self.send(node, to, Wire::Control(message));
            }
            Effect::Tail(tail) => {
                let Some(process) = self.servers.process(node, boot) else { return };
                let streams: Vec<_> = process.lines.keys().copied().collect();
                for stream in streams {
                    self.give(node, boot, Work::Stream(stream, StreamInput::Tail(tail)));
                }
            }
            Effect::OpenStream { stream, target, vote, next, .. } => {
                self.open_stream(node, boot, stream, target, vote, next);
            }
            Effect::CloseStream { stream } => {
                if let Some(process) = self.servers.process(node, boot) {
                    process.lines.remove(&stream);
                }
            }
            Effect::BuildSnapshot { at } => self.want_snapshot(node, boot, at),
            Effect::InstallSnapshot { ticket } => self.begin_install(node, boot, ticket),
            Effect::Apply { upto } => {
                let Some(process) = self.servers.process(node, boot) else { return };
                process.apply_upto = process.apply_upto.max(upto.index);
                self.start_applying(node, boot);
            }
            Effect::Reply { ticket, reply } => self.reply(node, boot, ticket, reply),
            Effect::Note(note) => self.on_note(node, local, &note),
        }
    }

    pub(super) fn open_stream(
        &mut self,
        node: NodeId,
        boot: u64,
        stream: raftwright_core::StreamId,
        target: NodeId,
        vote: Vote,
        next: u64,
    ) {
        let seed = self.rng.next_u64();
        let config = self.profile.stream.clone();
        let Some(server) = self.servers.get_mut(node) else { return };
        let identity = server.identity();
        let Some(last) = server.store.readable().last() else { return };
        let Some(process) = server.process.as_mut() else { return };
        let tail = Tail { last, committed: process.replica.committed() };
        let machine = Stream::new(config, identity, vote, next, tail, seed);
        process.lines.insert(stream, Line::new(machine, target, vote));
        self.give(node, boot, Work::Stream(stream, StreamInput::Wake));
    }

    pub(super) fn write(
        &mut self,
        node: NodeId,
        boot: u64,
        id: raftwright_core::WriteId,
        op: Write<SimTypes>,
        leading: Option<Vote>,
    ) {
        let range = match &op {
            Write::Append(entries) => {
                entries.first().zip(entries.last()).map(|(a, b)| (a.log_id.index, b.log_id.index))
            }
            Write::Truncate { since } => {
                self.fact(node, Fact::Truncating { since: *since, leading });
                None
            }
            Write::Purge { upto } => {
                self.fact(node, Fact::Purging { upto: *upto });
                None
            }
            Write::Vote(_) => None,
        };
        let delay = self.disk_rng.duration(self.profile.flush.0, self.profile.flush.1);
        let (now, text) = (self.now, write_text(&op));
        self.trace.note(now, node, Kind("write"), [id.0, range.map_or(0, |(_, last)| last)], || format!("{id} {text}"));
        let Some(server) = self.servers.get_mut(node) else { return };
        let base = server.snapshot.as_ref().map(|snapshot| Base {
            last_log_id: snapshot.last_log_id,
            chain: snapshot.chain,
            membership: snapshot.membership.clone(),
        });
        let submitted = server.store.submit(id, op, base);
        server.busy_until = server.busy_until.max(now).after(delay * server.slowness);
        let done = server.busy_until;
        if let Err(bad) = submitted {
            return self.fail("writes fit the log", "Rule 1 of the design", format!("node {node}: {}", bad.0));
        }
        self.queue.push(done, Event::DiskDone(node, boot));
        if let Some((first, last)) = range {
            self.fact(node, Fact::Appended { first, last, leading });
        }
    }

    pub(super) fn on_disk_done(&mut self, node: NodeId, boot: u64) {
        let Some(server) = self.servers.get_mut(node) else { return };
        if server.boot != boot || server.process.is_none() {
            return;
        }
        if server.hung {
            server.stalled += 1;
            return;
        }
        let Some(write) = server.store.complete_oldest() else { return };
        self.fact(node, Fact::DiskChanged);
        let late = if self.profile.shuffled_completions && self.disk_rng.one_in(3) {
            self.faults.hit(Fault::CompletionReorder);
            self.disk_rng.duration(Duration::ZERO, Duration::from_millis(5))
        } else {
            Duration::ZERO
        };
        self.queue.push(self.now.after(late), Event::Told(node, boot, write));
    }

    pub(super) fn on_note(&mut self, node: NodeId, _local: Time, note: &Note<SimTypes>) {
        let kind = match note {
            Note::BecameLeader { .. } => "LEADER",
            Note::SteppedDown { .. } => "STEPS DOWN",
            Note::ElectionStarted { .. } => "ELECTION",
            _ => "note",
        };
        self.trace.note(self.now, node, Kind(kind), [0, 0], || format!("{note:?}"));
        if matches!(note, Note::SteppedDown { reason: StepDown::Removed }) {
            self.removals += 1;
        }
        if let Note::BecameLeader { vote } = note {
            self.elections += 1;
            self.last_leader = Some((node, *vote));
            self.fact(node, Fact::BecameLeader { vote: *vote });
            self.look_at_leases();
            self.trap_new_leader(node);
        }
    }

    /// Shows the checkers who would answer a read by its lease now, by its own clock. Where clocks are wrong by more than
    /// leases allow for, nothing follows from that.
    pub(super) fn look_at_leases(&mut self) {
        if !self.profile.lease_reads {
            return;
        }
        let now = self.now;
        let holds = |server: &Server| {
            let vote = server.leading()?;
            let until = server.process.as_ref()?.replica.lease_until()?;
            (server.local(now) < until).then_some((server.id, vote))
        };
        let held: Vec<(NodeId, Vote)> = self.servers.0.iter().filter_map(holds).collect();
        for (node, vote) in held {
            self.fact(node, Fact::LeaseHeld { vote });
        }
    }

    pub(super) fn reply(&mut self, node: NodeId, boot: u64, ticket: Ticket, reply: Reply<SimTypes>) {
        let Some(process) = self.servers.process(node, boot) else { return };
        let Some(caller) = process.callers.remove(&ticket) else {
            return self.fail("each ticket is answered once", "Rule 4 of the design", format!("node {node}: {ticket}"));
        };
        match (caller, reply) {
            (Caller::Peer(to), Reply::Vote(response)) => {
                if response.granted {
                    self.fact(node, Fact::Granted { vote: response.asked, kind: response.kind });
                }
                self.send(node, to, Wire::VoteResponse(response));
            }
            (Caller::Peer(to), Reply::Heartbeat(response)) => self.send(node, to, Wire::HeartbeatResponse(response)),
            (Caller::Stream(to, id), Reply::Append(response)) => {
                if let AppendOutcome::Success { matched: Some(matched) } = response.outcome {
                    self.fact(node, Fact::Acknowledged { matched });
                }
                self.send(node, to, Wire::AppendResponse(id, response));
            }
            (Caller::Snapshot(to, id, snapshot), Reply::InstallSnapshot(response)) => {
                self.snapshot_replied(node, to, id, &snapshot, response);
            }
            (Caller::Operator(what), reply) => {
                self.trace.note(self.now, node, Kind("operator"), [0, 0], || format!("{what}: {reply:?}"));
            }
            (Caller::Write { client, number }, reply) => self.write_replied(node, boot, client, number, reply),
            (Caller::Read { client, number, key, committed_at_call }, reply) => {
                self.read_replied(node, boot, (client, number, key), committed_at_call, reply);
            }
            (caller, reply) => {
                let what = format!("node {node} answers {caller:?} with {reply:?}");
                self.fail("an answer fits its question", "the contract of Input", what);
            }
        }
    }

    // ---- commitment and the state machine ----

    pub(super) fn look_at_commit(&mut self, node: NodeId, boot: u64) {
        let Some(server) = self.servers.get_mut(node) else { return };
        if server.boot != boot {
            return;
        }
        let log = server.store.readable();
        let Some(process) = server.process.as_mut() else { return };
        let Some(committed) = process.replica.committed() else { return };
        if committed.index <= process.committed_seen || !log.holds(&committed) {
            return;
        }
        process.committed_seen = committed.index;
        for index in self.ledger.last_index() + 1..=committed.index {
            if let Some(stored) = log.get(index) {
                self.ledger.push(stored.entry.log_id, stored.chain);
            }
        }
        self.trace.note(self.now, node, Kind("commit"), [committed.index, 0], || format!("{committed}"));
        self.fact(node, Fact::Committed { upto: committed });
    }

    pub(super) fn start_applying(&mut self, node: NodeId, boot: u64) {
        let delay = self.rng.duration(self.profile.apply.0, self.profile.apply.1);
        let Some(process) = self.servers.process(node, boot) else { return };
        if process.applying {
            return;
        }
        process.applying = true;
        if delay > Duration::from_millis(100) {
            self.faults.hit(Fault::SlowApply);
        }
        self.queue.push(self.now.after(delay), Event::Apply(node, boot));
    }

    /// Applies everything that may be applied, as one batch.
    pub(super) fn apply_some(&mut self, node: NodeId, boot: u64) {
        loop {
            let durable_machine = self.profile.durable_state_machine;
            let Some(server) = self.servers.get_mut(node) else { return };
            let Some(process) = server.process.as_mut() else { return };
            process.applying = false;
            let next = process.machine.applied().next_index();
            if next > process.apply_upto {
                break;
            }
            let Some(stored) = server.store.readable().get(next) else {
                let what = format!("node {node} is told to apply {next}, which is not in its log");
                return self.fail("what is applied can be read", "Rule 1 of the design", what);
            };
            let ret = process.machine.apply(&stored.entry);
            let fact =
                Fact::Applied { log_id: stored.entry.log_id, chain: stored.chain, state: process.machine.hash() };
            let proposal = process.proposals.remove(&next);
            let log_id = stored.entry.log_id;
            if durable_machine {
                server.saved = process.machine.clone();
            }
            self.fact(node, fact);
            if let Some((proposed, client, number)) = proposal {
                // The same log id: it is ours. Another one: ours is not in the log and never will be.
                let answer = (proposed == log_id).then_some(ret);
                self.write_settled(client, number, answer);
            }
            if self.failure.is_some() {
                return;
            }
        }
        self.serve_reads(node, boot);
        self.take_snapshot(node, boot);
    }
}

/// What a write is, for a trace.
fn write_text(op: &Write<SimTypes>) -> String {
    match op {
        Write::Vote(vote) => format!("vote {vote}"),
        Write::Append(entries) => {
            let ids = entries.first().zip(entries.last());
            ids.map_or_else(String::new, |(first, last)| format!("entries {} to {}", first.log_id, last.log_id))
        }
        Write::Truncate { since } => format!("truncate from {since} on"),
        Write::Purge { upto } => format!("purge up to {upto}"),
    }
}
