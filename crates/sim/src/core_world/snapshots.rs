//! Snapshots of the simulated state machine: built, sent, installed; each takes its time, and a crash may come in between.

use std::sync::Arc;

use core::time::Duration;

use raftwright_core::{
    Input, InstallOutcome, InstallSnapshotRequest, InstallSnapshotResponse, LogIdOption, StoredMembership, StreamId,
    StreamInput, Ticket,
};

use super::cluster::{Cluster, Event};
use super::machine::Machine;
use super::server::{Caller, Work};
use super::trace::Kind;
use super::types::{LogId, Membership, SimTypes};
use super::wire::{CallId, Wire};
use crate::checkers::Fact;
use crate::world::{Fault, NodeId};

/// After so long a snapshot that was not answered counts as lost.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(3);

/// A snapshot on a disk, or on its way.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The last entry that is in it.
    pub last_log_id: LogId,
    /// The hash of the log up to that.
    pub chain: u64,
    /// The last membership at or before it.
    pub membership: (LogId, Arc<Membership>),
    /// The state.
    pub machine: Machine,
}

impl Snapshot {
    /// Its membership as the protocol has it.
    pub fn stored_membership(&self) -> StoredMembership<SimTypes> {
        StoredMembership { log_id: Some(self.membership.0), membership: (*self.membership.1).clone() }
    }
}

impl Cluster {
    /// A snapshot is wanted once the state machine is so far.
    pub(super) fn want_snapshot(&mut self, node: NodeId, boot: u64, at: LogId) {
        let Some(process) = self.servers.process(node, boot) else { return };
        process.build_at = Some(at.index);
        self.take_snapshot(node, boot);
    }

    /// Takes the state as it is now, if it is far enough. That it is on the disk comes later.
    pub(super) fn take_snapshot(&mut self, node: NodeId, boot: u64) {
        let Some(server) = self.servers.get_mut(node) else { return };
        let Some(process) = server.process.as_mut().filter(|_| server.boot == boot) else { return };
        let machine = &process.machine;
        let (Some(at), Some(last_log_id)) = (process.build_at, machine.applied()) else { return };
        if last_log_id.index < at {
            return;
        }
        process.build_at = None;
        let chain = self.ledger.get(last_log_id.index).map(|(_, chain)| chain);
        let membership = server.store.readable().membership_at(last_log_id.index);
        let (Some(chain), Some((entry, membership))) = (chain, membership) else {
            let what = format!("node {node} has applied {last_log_id} and knows no membership for it");
            return self.fail("a snapshot holds what is committed", "Raft §7", what);
        };
        let membership = (entry, Arc::clone(membership));
        let snapshot = Arc::new(Snapshot { last_log_id, chain, membership, machine: machine.clone() });
        let (low, high) = self.profile.snapshot_takes;
        let at = self.now.after(self.rng.duration(low, high));
        self.queue.push(at, Event::SnapshotBuilt(node, boot, snapshot));
    }

    /// The build of a snapshot ends, well or not.
    pub(super) fn on_snapshot_built(&mut self, node: NodeId, boot: u64, snapshot: Arc<Snapshot>) {
        if self.profile.classes.disks && self.disk_rng.one_in(8) {
            self.note_fault(Fault::SnapshotFails, node, String::new);
            return self.give(node, boot, Work::Input(Input::SnapshotFailed));
        }
        let Some(server) = self.servers.get_mut(node) else { return };
        if server.boot != boot || server.process.is_none() {
            return;
        }
        let last_log_id = snapshot.last_log_id;
        let fact = Fact::SnapshotKept { log_id: last_log_id, chain: snapshot.chain, state: snapshot.machine.hash() };
        // One that a leader sent meanwhile is newer.
        if server.snapshot.as_ref().is_none_or(|kept| kept.last_log_id.index < last_log_id.index) {
            server.snapshot = Some(snapshot);
        }
        self.trace.note(self.now, node, Kind("snapshot"), [last_log_id.index, 0], || format!("built {last_log_id}"));
        self.fact(node, fact);
        self.give(node, boot, Work::Input(Input::SnapshotBuilt { last_log_id }));
    }

    /// A stream's target needs the newest snapshot.
    pub(super) fn send_snapshot(&mut self, node: NodeId, boot: u64, stream: StreamId, epoch: u64) {
        let Some(server) = self.servers.get(node) else { return };
        let identity = server.identity();
        let line = server.process.as_ref().and_then(|process| process.lines.get(&stream));
        let Some((target, vote)) = line.map(|line| (line.target, line.vote)) else { return };
        let Some(snapshot) = server.snapshot.clone() else {
            let what = format!("node {node} has purged its log and has no snapshot");
            return self.fail("what was purged is in a snapshot", "Raft §7", what);
        };
        let request = InstallSnapshotRequest {
            from: identity,
            vote,
            last_log_id: snapshot.last_log_id,
            last_membership: snapshot.stored_membership(),
        };
        self.faults.hit(Fault::SnapshotSent);
        let id = CallId { boot, stream, epoch, number: 0 };
        self.queue.push(self.now.after(SNAPSHOT_TIMEOUT), Event::SnapshotTimeout(node, id));
        self.send(node, target, Wire::Snapshot(id, request, snapshot));
    }

    pub(super) fn on_snapshot_timeout(&mut self, node: NodeId, id: CallId) {
        self.give(node, id.boot, Work::Stream(id.stream, StreamInput::Failed { epoch: id.epoch }));
    }

    /// The replica wants the snapshot of this ticket installed.
    pub(super) fn begin_install(&mut self, node: NodeId, boot: u64, ticket: Ticket) {
        let (low, high) = self.profile.snapshot_takes;
        let at = self.now.after(self.rng.duration(low, high));
        self.queue.push(at, Event::Install(node, boot, ticket));
    }

    /// The state machine becomes what the snapshot says, and has it on its disk, at once: its commit point.
    pub(super) fn install(&mut self, node: NodeId, boot: u64, ticket: Ticket) {
        let Some(server) = self.servers.get_mut(node) else { return };
        let Some(process) = server.process.as_mut().filter(|_| server.boot == boot) else { return };
        let Some(Caller::Snapshot(_, _, snapshot)) = process.callers.get(&ticket) else { return };
        let snapshot = Arc::clone(snapshot);
        let (last_log_id, chain) = (snapshot.last_log_id, snapshot.chain);
        if process.machine.applied().index_or_zero() < last_log_id.index {
            process.machine = snapshot.machine.clone();
            if self.profile.durable_state_machine {
                server.saved = snapshot.machine.clone();
            }
            let fact = Fact::Installed { log_id: last_log_id, chain, state: snapshot.machine.hash() };
            server.snapshot = Some(snapshot);
            let text = || format!("installed {last_log_id}");
            self.trace.note(self.now, node, Kind("snapshot"), [last_log_id.index, 1], text);
            self.fact(node, fact);
        }
        if self.rng.one_in(20) && self.profile.classes.crashes {
            // The one moment at which state and log disagree.
            self.note_fault(Fault::CrashAfterInstall, node, String::new);
            return self.crash_and_restart(node);
        }
        self.give(node, boot, Work::Input(Input::SnapshotInstalled { ticket }));
        self.serve_reads(node, boot);
    }

    /// The replica answers a snapshot.
    pub(super) fn snapshot_replied(
        &mut self,
        node: NodeId,
        to: NodeId,
        id: CallId,
        snapshot: &Snapshot,
        response: InstallSnapshotResponse<SimTypes>,
    ) {
        if response.outcome == InstallOutcome::Installed {
            self.fact(node, Fact::Acknowledged { matched: snapshot.last_log_id });
        }
        self.send(node, to, Wire::SnapshotResponse(id, snapshot.last_log_id, response));
    }
}
