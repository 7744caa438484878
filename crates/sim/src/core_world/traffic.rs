//! What clients do to a cluster, and what comes back to them.

use raftwright_core::{Input, ReadPolicy, Refusal, Reply};

use super::cluster::{Cluster, Event};
use super::server::{Caller, Process, Work};
use super::trace::Kind;
use super::types::{KvCommand, Payload, SimEntry, SimTypes, log_id};
use crate::checkers::Fact;
use crate::lin::KvRet;
use crate::world::{Fault, NodeId};

impl Cluster {
    /// Sends the clients off.
    pub fn start_clients(&mut self) {
        for client in 1..=self.profile.clients {
            let at = self.now.after(self.rng.duration(self.profile.think.0, self.profile.think.1));
            self.queue.push(at, Event::Client(client));
        }
    }

    pub(super) fn on_client(&mut self, client: u64) {
        if !self.clients_active {
            return;
        }
        let invoked = self.stamp();
        let place = (client - 1) as usize;
        let waiting = self.clients[place].choose(&self.profile, invoked);
        let (node, number) = (waiting.node, waiting.number);
        self.trace
            .note(self.now, node, Kind("call"), [client, number], || format!("client {client}: {:?}", waiting.op));
        let patience = if self.clients[place].impatient() {
            self.faults.hit(Fault::ClientTimeout);
            self.profile.client_deadline / 20
        } else {
            self.profile.client_deadline
        };
        self.queue.push(self.now.after(patience), Event::ClientTimeout(client, number));
        if self.last_leader.is_some_and(|(leader, _)| leader != node) && matches!(waiting.op, KvCommand::Get { .. }) {
            let leads = self.servers.get(node).is_some_and(|server| server.leading().is_some());
            if leads {
                self.faults.hit(Fault::ReadAtFormerLeader);
            }
        }
        let committed_at_call = self.ledger.last_index();
        let Some(server) = self.servers.get_mut(node) else { return };
        let boot = server.boot;
        let Some(process) = server.process.as_mut() else {
            // Nobody listens: the client learns that at once, and that nothing was done.
            return self.refuse(client, number, None);
        };
        let input = match waiting.op {
            KvCommand::Get { key } => {
                let ticket = process.ticket(Caller::Read { client, number, key, committed_at_call });
                let lease = self.profile.lease_reads && number.is_multiple_of(2);
                let policy = if lease { ReadPolicy::Lease } else { ReadPolicy::ReadIndex };
                Input::Read { ticket, policy }
            }
            op @ (KvCommand::Put { .. } | KvCommand::Delete { .. } | KvCommand::CompareAndSet { .. }) => {
                let ticket = process.ticket(Caller::Write { client, number });
                let entry = SimEntry { log_id: log_id(0, 0), payload: Payload::Command(waiting.id, op) };
                Input::Propose { ticket, entry }
            }
        };
        self.give(node, boot, Work::Input(input));
    }

    pub(super) fn on_client_timeout(&mut self, client: u64, number: u64) {
        let place = (client - 1) as usize;
        if self.clients[place].waits_for(number) {
            self.clients[place].unknown(&mut self.history);
            let servers = self.servers.0.len() as u64;
            self.clients[place].redirect(None, servers);
            self.next_operation(client);
        }
    }

    pub(super) fn next_operation(&mut self, client: u64) {
        let think = self.clients[(client - 1) as usize].think(&self.profile);
        self.queue.push(self.now.after(think), Event::Client(client));
    }

    /// The operation was surely not done.
    fn refuse(&mut self, client: u64, number: u64, leader: Option<NodeId>) {
        let servers = self.servers.0.len() as u64;
        let place = (client - 1) as usize;
        if self.clients[place].waits_for(number) {
            self.clients[place].refused();
            self.clients[place].redirect(leader, servers);
            self.next_operation(client);
        }
    }

    fn answer(&mut self, client: u64, number: u64, ret: KvRet<u64>) {
        let place = (client - 1) as usize;
        if self.clients[place].waits_for(number) {
            let at = self.stamp();
            self.trace.note(self.now, 0, Kind("answer"), [client, number], || format!("client {client}: {ret:?}"));
            self.clients[place].answered(&mut self.history, at, ret);
            self.next_operation(client);
        }
    }

    fn unknown(&mut self, client: u64, number: u64) {
        let place = (client - 1) as usize;
        if self.clients[place].waits_for(number) {
            self.clients[place].unknown(&mut self.history);
            let servers = self.servers.0.len() as u64;
            self.clients[place].redirect(None, servers);
            self.next_operation(client);
        }
    }

    fn refused(&mut self, client: u64, number: u64, refusal: &Refusal<SimTypes>) {
        match refusal {
            Refusal::NotLeader { leader } => self.refuse(client, number, *leader),
            Refusal::Unknown => self.unknown(client, number),
            Refusal::Busy => {
                self.faults.hit(Fault::Burst);
                self.refuse(client, number, None);
            }
            Refusal::AlreadyInitialized
            | Refusal::NotInMembership
            | Refusal::Membership(_)
            | Refusal::ChangeInProgress
            | Refusal::NotApplicable(_)
            | Refusal::TransferInProgress
            | Refusal::ConditionFailed
            | Refusal::NothingToCancel
            | Refusal::Cancelled => self.refuse(client, number, None),
        }
    }

    pub(super) fn write_replied(&mut self, node: NodeId, boot: u64, client: u64, number: u64, reply: Reply<SimTypes>) {
        match reply {
            Reply::Proposed(log_id) => {
                let Some(process) = self.servers.process(node, boot) else { return };
                let before = process.proposals.insert(log_id.index, (log_id, client, number));
                if let Some((_, client, number)) = before {
                    // The place was promised to another command, whose entry was cut off since: it may still return from
                    // a log that has it.
                    self.unknown(client, number);
                }
            }
            Reply::Refused(refusal) => self.refused(client, number, &refusal),
            other => {
                let what = format!("node {node} answers a proposal with {other:?}");
                self.fail("an answer fits its question", "the contract of Input", what);
            }
        }
    }

    pub(super) fn read_replied(
        &mut self,
        node: NodeId,
        boot: u64,
        (client, number, key): (u64, u64, u8),
        committed_at_call: u64,
        reply: Reply<SimTypes>,
    ) {
        match reply {
            Reply::Read { read_log_id } => {
                self.fact(node, Fact::ReadAnswered { committed_at_call, read_log_id });
                self.look_at_leases();
                let Some(process) = self.servers.process(node, boot) else { return };
                process.reads.push((read_log_id.index, client, number, key));
                self.serve_reads(node, boot);
            }
            Reply::Refused(refusal) => self.refused(client, number, &refusal),
            other => {
                let what = format!("node {node} answers a read with {other:?}");
                self.fail("an answer fits its question", "the contract of Input", what);
            }
        }
    }

    /// The entry at the place of a proposal was applied: with its answer if it was the proposal's own.
    pub(super) fn write_settled(&mut self, client: u64, number: u64, answer: Option<KvRet<u64>>) {
        match answer {
            Some(ret) => self.answer(client, number, ret),
            None => self.refuse(client, number, None),
        }
    }

    /// Serves the reads for which the state machine is far enough.
    pub(super) fn serve_reads(&mut self, node: NodeId, boot: u64) {
        let Some(process) = self.servers.process(node, boot) else { return };
        let applied = process.machine.applied().map_or(0, |id| id.index);
        let machine = &process.machine;
        let mut served = Vec::new();
        process.reads.retain(|(index, client, number, key)| {
            let ready = *index <= applied;
            if ready {
                served.push((*client, *number, machine.get(*key)));
            }
            !ready
        });
        for (client, number, value) in served {
            self.answer(client, number, KvRet::Value(value));
        }
    }

    /// A process has died: whoever waited for it knows nothing.
    pub(super) fn abandon(&mut self, process: Process) {
        for caller in process.callers.into_values() {
            match caller {
                Caller::Write { client, number } | Caller::Read { client, number, .. } => self.unknown(client, number),
                Caller::Peer(_) | Caller::Stream(..) | Caller::Snapshot(..) | Caller::Operator(_) => {}
            }
        }
        for (_, client, number) in process.proposals.into_values() {
            self.unknown(client, number);
        }
        for (_, client, number, _) in process.reads {
            self.unknown(client, number);
        }
    }

    /// Ends the history: what is still open stays unknown.
    pub fn close_history(&mut self) {
        self.clients_active = false;
        for client in &mut self.clients {
            client.unknown(&mut self.history);
        }
    }
}
