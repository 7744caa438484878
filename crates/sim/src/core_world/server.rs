//! One simulated node: what survives its process, and its process.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use raftwright_core::{
    Effects, Identity, Incarnation, Input, LogIdOption, Replica, RestoreError, Restored, StoredMembership, Stream,
    StreamEffect, StreamId, StreamInput, Ticket, Time,
};

use super::machine::Machine;
use super::profile::Profile;
use super::snapshots::Snapshot;
use super::store::{LogView, SimStore};
use super::types::{LogId, SimTypes, Vote};
use super::wire::CallId;
use crate::world::{NodeClock, NodeId, SimTime};

/// A node.
#[derive(Debug)]
pub struct Server {
    /// Its id.
    pub id: NodeId,
    /// Minted with its disk.
    pub incarnation: Incarnation,
    /// How often its process was started.
    pub boot: u64,
    /// Its log.
    pub store: SimStore,
    /// What was on the disk that it had before this one, when it was emptied.
    pub former: Option<(Incarnation, LogView)>,
    /// Its state machine's own disk, if the profile gives it one.
    pub saved: Machine,
    /// Its newest snapshot.
    pub snapshot: Option<Arc<Snapshot>>,
    /// Its clock.
    pub clock: NodeClock,
    /// Its process, if it runs.
    pub process: Option<Process>,
    /// Until when its process is stopped.
    pub paused_until: Option<SimTime>,
    /// Whether its disk completes nothing.
    pub hung: bool,
    /// Completions that were due while the disk hung.
    pub stalled: u64,
    /// Flushes take that many times as long.
    pub slowness: u32,
    /// When the last submitted write will be on the disk.
    pub busy_until: SimTime,
}

impl Server {
    /// A blank node that is down.
    pub fn new(id: NodeId, incarnation: Incarnation) -> Self {
        Self {
            id,
            incarnation,
            boot: 0,
            store: SimStore::default(),
            former: None,
            saved: Machine::default(),
            snapshot: None,
            clock: NodeClock::new(SimTime::ZERO, id * 1_000_000_007),
            process: None,
            paused_until: None,
            hung: false,
            stalled: 0,
            slowness: 1,
            busy_until: SimTime::ZERO,
        }
    }

    /// What its clock shows.
    pub fn local(&self, now: SimTime) -> Time {
        Time::from_nanos(self.clock.read(now))
    }

    /// Who it is to its peers.
    pub fn identity(&self) -> Identity<NodeId> {
        Identity { id: self.id, incarnation: Some(self.incarnation) }
    }

    /// Starts its process from its disk.
    ///
    /// # Errors
    ///
    /// What the core finds wrong with the disk.
    pub fn start(&mut self, now: SimTime, profile: &Profile, seed: u64) -> Result<(), RestoreError<SimTypes>> {
        let log = self.store.readable();
        let mut machine = if profile.durable_state_machine { self.saved.clone() } else { Machine::default() };
        let snapshot = self.snapshot.as_ref();
        if let Some(snapshot) = snapshot.filter(|s| s.last_log_id.index > machine.applied().index_or_zero()) {
            machine = snapshot.machine.clone();
        }
        // The state machine's own membership comes first: that of the snapshot, if the log has not followed it yet.
        let behind = snapshot.filter(|snapshot| !log.holds(&snapshot.last_log_id));
        let in_log = log
            .memberships()
            .map(|(id, membership)| StoredMembership { log_id: Some(id), membership: (**membership).clone() });
        let memberships = behind.map(|snapshot| snapshot.stored_membership()).into_iter().chain(in_log).collect();
        let restored = Restored {
            vote: log.vote,
            purged: log.purged(),
            key_log_ids: log.key_log_ids(),
            last_log_id: log.last(),
            committed: machine.applied(),
            memberships,
            snapshot: snapshot.map(|snapshot| snapshot.last_log_id),
        };
        let replica = Replica::new(profile.replica.clone(), self.identity(), restored, self.local(now), seed)?;
        self.boot += 1;
        self.process = Some(Process::new(replica, machine));
        Ok(())
    }

    /// The vote under which its process leads, if it does.
    pub fn leading(&self) -> Option<Vote> {
        self.process.as_ref().and_then(Process::leading)
    }
}

/// Something for a process to do.
#[derive(Debug)]
pub enum Work {
    /// For its replica.
    Input(Input<SimTypes>),
    /// For one of its streams.
    Stream(StreamId, StreamInput<SimTypes>),
    /// An answer to a request of a stream, perhaps out of order.
    Answer(CallId, raftwright_core::AppendEntriesResponse<SimTypes>),
    /// A deadline has come, of the replica or of a stream.
    Wake,
    /// Entries may be applied.
    Apply,
    /// A read of the log for a stream is due.
    Read(StreamId, ReadRequest),
}

/// What a stream wants to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadRequest {
    /// Of the stream.
    pub epoch: u64,
    /// The first index.
    pub start: u64,
    /// The index after the last.
    pub end: u64,
    /// How many entries at most.
    pub entries_max: usize,
    /// About how many bytes at most.
    pub bytes_max: usize,
}

/// Who waits for an answer of a replica.
#[derive(Debug, Clone)]
pub enum Caller {
    /// A peer's control lane.
    Peer(NodeId),
    /// A stream of a peer.
    Stream(NodeId, CallId),
    /// A stream of a peer that has sent a snapshot.
    Snapshot(NodeId, CallId, Arc<Snapshot>),
    /// A client's command.
    Write {
        /// The client.
        client: u64,
        /// Its operation.
        number: u64,
    },
    /// A client's read.
    Read {
        /// The client.
        client: u64,
        /// Its operation.
        number: u64,
        /// The key.
        key: u8,
        /// What was committed anywhere when it was asked.
        committed_at_call: u64,
    },
    /// The operator, who does not care.
    Operator(&'static str),
}

/// A stream and the order of its answers.
#[derive(Debug)]
pub struct Line {
    /// The machine.
    pub stream: Stream<SimTypes>,
    /// To whom.
    pub target: NodeId,
    /// The leadership that it serves.
    pub vote: Vote,
    /// The epoch to which the numbers belong.
    epoch: u64,
    sent: u64,
    next_answer: u64,
    early: BTreeMap<u64, raftwright_core::AppendEntriesResponse<SimTypes>>,
}

impl Line {
    /// A new stream.
    pub fn new(stream: Stream<SimTypes>, target: NodeId, vote: Vote) -> Self {
        Self { stream, target, vote, epoch: 0, sent: 0, next_answer: 0, early: BTreeMap::new() }
    }

    /// The number of the next request of an epoch.
    pub fn number(&mut self, epoch: u64) -> u64 {
        self.turn_to(epoch);
        self.sent += 1;
        self.sent - 1
    }

    fn turn_to(&mut self, epoch: u64) {
        if epoch != self.epoch {
            (self.epoch, self.sent, self.next_answer) = (epoch, 0, 0);
            self.early.clear();
        }
    }

    /// Whether a request is still without an answer.
    pub fn awaits(&self, id: CallId) -> bool {
        id.epoch == self.epoch && id.number >= self.next_answer && id.number < self.sent
    }

    /// Takes an answer and gives out those that are next, as one connection would: in the order of the requests.
    pub fn in_order(
        &mut self,
        id: CallId,
        response: raftwright_core::AppendEntriesResponse<SimTypes>,
    ) -> Vec<raftwright_core::AppendEntriesResponse<SimTypes>> {
        let mut ready = Vec::new();
        if !self.awaits(id) {
            return ready;
        }
        self.early.insert(id.number, response);
        while let Some(next) = self.early.remove(&self.next_answer) {
            self.next_answer += 1;
            ready.push(next);
        }
        ready
    }
}

/// A running process.
#[derive(Debug)]
pub struct Process {
    /// The protocol.
    pub replica: Replica<SimTypes>,
    /// What it wants done.
    pub effects: Effects<SimTypes>,
    /// What a stream wants done.
    pub stream_effects: Vec<StreamEffect<SimTypes>>,
    /// Replication to others, while it leads.
    pub lines: BTreeMap<StreamId, Line>,
    /// The state machine.
    pub machine: Machine,
    /// How far it may apply.
    pub apply_upto: u64,
    /// Whether applying is under way.
    pub applying: bool,
    /// A snapshot is wanted once so much is applied.
    pub build_at: Option<u64>,
    /// What waits to be done, in order.
    pub inbox: VecDeque<Work>,
    /// Whether an event is scheduled that empties the inbox.
    pub scheduled: bool,
    /// When it will be woken.
    pub wake_at: Option<SimTime>,
    /// Who waits for answers.
    pub callers: BTreeMap<Ticket, Caller>,
    tickets: u64,
    /// Commands in the log, by index: whose they are.
    pub proposals: BTreeMap<u64, (LogId, u64, u64)>,
    /// Reads that wait for the state machine: index, client, operation, key.
    pub reads: Vec<(u64, u64, u64, u8)>,
    /// The commit index that the checkers have seen.
    pub committed_seen: u64,
}

impl Process {
    fn new(replica: Replica<SimTypes>, machine: Machine) -> Self {
        Self {
            replica,
            effects: Effects::new(),
            stream_effects: Vec::new(),
            lines: BTreeMap::new(),
            machine,
            apply_upto: 0,
            applying: false,
            build_at: None,
            inbox: VecDeque::new(),
            scheduled: false,
            wake_at: None,
            callers: BTreeMap::new(),
            tickets: 0,
            proposals: BTreeMap::new(),
            reads: Vec::new(),
            committed_seen: 0,
        }
    }

    /// A ticket for a caller.
    pub fn ticket(&mut self, caller: Caller) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.callers.insert(ticket, caller);
        ticket
    }

    /// The vote under which it leads, if it does.
    pub fn leading(&self) -> Option<Vote> {
        if self.replica.is_leader() { self.replica.vote().copied() } else { None }
    }

    /// The earliest deadline of its machines, on the node's clock.
    pub fn deadline(&self) -> Option<Time> {
        let streams = self.lines.values().filter_map(|line| line.stream.deadline());
        streams.chain(self.replica.deadline()).min()
    }
}
