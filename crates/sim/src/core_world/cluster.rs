//! A cluster of pure replicas: the event loop, and what their effects do to the world.

use super::client::{Client, ClientHistory};
use super::nemesis::Nemesis;
use super::profile::Profile;
use super::server::{Caller, Process, ReadRequest, Server, Work};
use super::snapshots::Snapshot;
use super::store::{LogView, SimStore, Unsynced};
use super::trace::{Kind, Trace};
use super::types::{SimTypes, Vote};
use super::wire::{CallId, Wire};
use crate::checkers::{Broken, Checkers, Disks, Fact, GodView, Ledger, Who};
use crate::lin::Stamp;
use crate::world::{EventQueue, Fate, Fault, FaultLog, Network, NodeId, Parcel, Rng, SimTime};
use core::time::Duration;
use raftwright_core::{Effect, Incarnation, Input, Message, StreamEffect, StreamInput, Time};
use std::sync::Arc;

/// After so long an unanswered request of a stream counts as lost.
const CALL_TIMEOUT: Duration = Duration::from_millis(400);
/// How long a sender takes to notice that a way is cut.
const CUT_NOTICED_AFTER: Duration = Duration::from_millis(1);
/// How many old messages are kept to be replayed.
const OLD_MESSAGES_MAX: usize = 256;

/// Something that will happen.
#[derive(Debug, Clone)]
pub enum Event {
    /// A process looks at its inbox.
    Run(NodeId, u64),
    /// A deadline of a process.
    Wake(NodeId, u64),
    /// A message arrives.
    Deliver(Parcel, Box<Wire>),
    /// The disk finishes its oldest write.
    DiskDone(NodeId, u64),
    /// The completion of a write is told to the process.
    Told(NodeId, u64, raftwright_core::WriteId),
    /// The state machine has time.
    Apply(NodeId, u64),
    /// A stream's read of the log is done.
    Read(NodeId, u64, raftwright_core::StreamId, ReadRequest),
    /// A snapshot is on the disk.
    SnapshotBuilt(NodeId, u64, Arc<Snapshot>),
    /// A snapshot is installed.
    Install(NodeId, u64, raftwright_core::Ticket),
    /// A snapshot that was sent is given up.
    SnapshotTimeout(NodeId, CallId),
    /// A request of a stream is given up.
    CallTimeout(NodeId, CallId),
    /// A client does its next operation.
    Client(u64),
    /// A client gives up.
    ClientTimeout(u64, u64),
    /// Something goes wrong, or right again.
    Nemesis(super::nemesis::Act),
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// When.
    pub at: SimTime,
    /// What was broken.
    pub broken: Broken,
}

/// All nodes' disks, for the checkers.
#[derive(Debug, Default)]
pub struct Servers(pub Vec<Server>);

impl Servers {
    /// A node.
    pub fn get(&self, id: NodeId) -> Option<&Server> {
        self.0.get(usize::try_from(id.checked_sub(1)?).ok()?)
    }

    /// A node, to be changed.
    pub fn get_mut(&mut self, id: NodeId) -> Option<&mut Server> {
        self.0.get_mut(usize::try_from(id.checked_sub(1)?).ok()?)
    }

    /// A node's process, if it is that life of it.
    pub fn process(&mut self, id: NodeId, boot: u64) -> Option<&mut Process> {
        let server = self.get_mut(id)?;
        if server.boot == boot { server.process.as_mut() } else { None }
    }

    /// All ids.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        1..=self.0.len() as u64
    }
}

impl Disks for Servers {
    fn disk(&self, node: NodeId) -> Option<&SimStore> {
        self.get(node).map(|server| &server.store)
    }

    fn incarnation(&self, node: NodeId) -> Option<Incarnation> {
        self.get(node).map(|server| server.incarnation)
    }

    fn former(&self, node: NodeId) -> Option<(Incarnation, &LogView)> {
        self.get(node)?.former.as_ref().map(|(incarnation, log)| (*incarnation, log))
    }
}

/// The world of one seed.
#[derive(Debug)]
pub struct Cluster {
    /// The mix.
    pub profile: Profile,
    /// True time.
    pub now: SimTime,
    /// What will happen.
    pub queue: EventQueue<Event>,
    /// The nodes.
    pub servers: Servers,
    /// The network.
    pub network: Network,
    /// What went wrong so far.
    pub faults: FaultLog,
    /// What was committed.
    pub ledger: Ledger,
    checkers: Checkers,
    /// What happened.
    pub trace: Trace,
    /// The clients.
    pub clients: Vec<Client>,
    /// What the clients saw.
    pub history: ClientHistory,
    /// What goes wrong next.
    pub nemesis: Nemesis,
    pub(super) rng: Rng,
    pub(super) disk_rng: Rng,
    /// Old messages, to be replayed.
    pub(super) old: Vec<(NodeId, NodeId, Wire)>,
    stamp: Stamp,
    incarnations: u64,
    /// The node that led last, for clients and faults; only the world knows.
    pub last_leader: Option<(NodeId, Vote)>,
    /// How many leaders there were.
    pub elections: u64,
    /// How many leaders left because they were removed.
    pub removals: u64,
    /// The first property that was broken.
    pub failure: Option<Failure>,
    /// Whether clients go on.
    pub clients_active: bool,
}

impl Cluster {
    /// The world of a seed, before anything happens.
    pub fn new(seed: u64, profile: Profile, record: bool) -> Self {
        let mut rng = Rng::new(seed ^ 0x5eed_0f1e_c0de_5eed);
        let mut network = Network::new(profile.link.clone(), rng.fork(1));
        *network.default_profile_mut() = profile.link.clone();
        let nemesis = Nemesis::new(rng.fork(2));
        let disk_rng = rng.fork(3);
        let clients = (1..=profile.clients).map(|number| Client::new(number, rng.fork(100 + number))).collect();
        let mut cluster = Self {
            now: SimTime::ZERO,
            queue: EventQueue::default(),
            servers: Servers::default(),
            network,
            faults: FaultLog::default(),
            ledger: Ledger::default(),
            checkers: Checkers::default(),
            trace: Trace::new(record),
            clients,
            history: ClientHistory::new(),
            nemesis,
            rng,
            disk_rng,
            old: Vec::new(),
            stamp: 0,
            incarnations: 0,
            last_leader: None,
            elections: 0,
            removals: 0,
            failure: None,
            clients_active: true,
            profile,
        };
        for id in 1..=cluster.profile.voters + cluster.profile.spares {
            let incarnation = cluster.mint_incarnation();
            cluster.servers.0.push(Server::new(id, incarnation));
        }
        cluster
    }

    /// The incarnation of a new disk.
    pub fn mint_incarnation(&mut self) -> Incarnation {
        self.incarnations += 1;
        Incarnation(self.incarnations)
    }

    /// Runs until that moment, or until a property is broken.
    pub fn run_until(&mut self, until: SimTime) {
        while self.failure.is_none() && self.queue.next_at().is_some_and(|at| at <= until) {
            if let Some((at, event)) = self.queue.pop() {
                self.now = at;
                self.handle(event);
            }
        }
        self.now = self.now.max(until);
    }

    pub(super) fn handle(&mut self, event: Event) {
        match event {
            Event::Run(node, boot) => self.on_run(node, boot),
            Event::Wake(node, boot) => self.on_wake(node, boot),
            Event::Deliver(parcel, wire) => self.on_deliver(parcel, *wire),
            Event::DiskDone(node, boot) => self.on_disk_done(node, boot),
            Event::Told(node, boot, write) => self.give(node, boot, Work::Input(Input::LogDone { write })),
            Event::Apply(node, boot) => self.give(node, boot, Work::Apply),
            Event::Read(node, boot, stream, request) => self.give(node, boot, Work::Read(stream, request)),
            Event::SnapshotBuilt(node, boot, snapshot) => self.on_snapshot_built(node, boot, snapshot),
            Event::Install(node, boot, ticket) => self.install(node, boot, ticket),
            Event::SnapshotTimeout(node, id) => self.on_snapshot_timeout(node, id),
            Event::CallTimeout(node, id) => self.on_call_timeout(node, id),
            Event::Client(client) => self.on_client(client),
            Event::ClientTimeout(client, number) => self.on_client_timeout(client, number),
            Event::Nemesis(act) => self.act(act),
        }
    }

    /// The next moment of the history of clients.
    pub(super) fn stamp(&mut self) -> Stamp {
        self.stamp += 1;
        self.stamp
    }

    // ---- processes ----

    /// Puts something into a process's inbox. It is looked at now, or when the process goes on.
    pub fn give(&mut self, node: NodeId, boot: u64, work: Work) {
        let now = self.now;
        let Some(server) = self.servers.get_mut(node) else { return };
        if server.boot != boot {
            return;
        }
        let at = server.paused_until.map_or(now, |until| until.max(now));
        let Some(process) = server.process.as_mut() else { return };
        process.inbox.push_back(work);
        if !process.scheduled {
            process.scheduled = true;
            self.queue.push(at, Event::Run(node, boot));
        }
    }

    pub(super) fn on_wake(&mut self, node: NodeId, boot: u64) {
        let Some(process) = self.servers.process(node, boot) else { return };
        process.wake_at = None;
        self.give(node, boot, Work::Wake);
    }

    pub(super) fn on_run(&mut self, node: NodeId, boot: u64) {
        let now = self.now;
        let Some(server) = self.servers.get_mut(node) else { return };
        if server.boot != boot {
            return;
        }
        if let Some(until) = server.paused_until
            && until > now
        {
            self.queue.push(until, Event::Run(node, boot));
            return;
        }
        let local = server.local(now);
        let config_index = server.store.readable().membership().map_or(0, |(id, _)| id.index);
        let Some(process) = server.process.as_mut() else { return };
        process.scheduled = false;
        let was_leading = process.leading();
        let batch = std::mem::take(&mut process.inbox);
        for work in batch {
            self.work(node, boot, local, work);
            if !self.profile.batching {
                self.settle(node, boot, local, was_leading, config_index);
            }
            if self.failure.is_some() || self.servers.process(node, boot).is_none() {
                return;
            }
        }
        self.settle(node, boot, local, was_leading, config_index);
        self.set_alarm(node, boot);
    }

    /// Executes what a replica wants done and looks at what has changed.
    pub(super) fn settle(
        &mut self,
        node: NodeId,
        boot: u64,
        local: Time,
        was_leading: Option<Vote>,
        config_index: u64,
    ) {
        let Some(process) = self.servers.process(node, boot) else { return };
        let is_leading = process.leading();
        let leading = if was_leading == is_leading { is_leading } else { None };
        // What a leader commits is in its log already, and what it appends in the same breath may build on that. A follower
        // may commit what it only now appends.
        let seen = process.committed_seen;
        self.look_at_commit(node, boot);
        let Some(process) = self.servers.process(node, boot) else { return };
        let effects: Vec<Effect<SimTypes>> = process.effects.drain().collect();
        for effect in effects {
            if self.failure.is_some() {
                return;
            }
            self.execute(node, boot, local, effect, leading);
        }
        self.look_at_commit(node, boot);
        let Some(process) = self.servers.process(node, boot) else { return };
        // A leader that was removed commits its removal and leaves in one breath.
        let leading = process.leading().or(was_leading).map(|vote| vote.term());
        if let Some(upto) = process.replica.committed()
            && upto.index > seen
        {
            self.fact(node, Fact::CommitStands { upto, leading, config_index });
        }
        self.look_at_membership(node);
    }

    /// A server uses the newest membership in its log, committed or not; or that of the snapshot where its log begins.
    fn look_at_membership(&mut self, node: NodeId) {
        let Some(server) = self.servers.get(node) else { return };
        let Some(process) = server.process.as_ref() else { return };
        let (in_force, in_log) = (process.replica.membership().log_id, server.store.readable().membership());
        if in_force != in_log.map(|(id, _)| id) {
            let what = format!("node {node} uses {in_force:?}, the newest in its log is {in_log:?}");
            self.fail("the newest membership in the log is in force", "Raft §6", what);
        }
    }

    pub(super) fn set_alarm(&mut self, node: NodeId, boot: u64) {
        let late = self.profile.late_wake;
        let now = self.now;
        let Some(server) = self.servers.get_mut(node) else { return };
        let Some(process) = server.process.as_mut() else { return };
        let Some(deadline) = process.deadline() else { return };
        let mut at = server.clock.when(now, deadline.as_nanos());
        if process.wake_at.is_some_and(|set| set <= at) {
            return;
        }
        if late > Duration::ZERO && self.rng.one_in(3) {
            self.faults.hit(Fault::LateWake);
            at = at.after(self.rng.duration(Duration::ZERO, late));
        }
        process.wake_at = Some(at);
        self.queue.push(at, Event::Wake(node, boot));
    }

    /// One thing that a process does.
    pub(super) fn work(&mut self, node: NodeId, boot: u64, local: Time, work: Work) {
        let Some(process) = self.servers.process(node, boot) else { return };
        match work {
            Work::Input(input) => process.replica.step(local, input, &mut process.effects),
            Work::Stream(stream, input) => self.step_stream(node, boot, local, stream, input),
            Work::Answer(id, response) => {
                let Some(line) = process.lines.get_mut(&id.stream) else { return };
                for response in line.in_order(id, response) {
                    let input = StreamInput::Answer { epoch: id.epoch, response };
                    self.step_stream(node, boot, local, id.stream, input);
                }
            }
            Work::Wake => {
                if process.replica.deadline().is_some_and(|deadline| deadline <= local) {
                    process.replica.step(local, Input::Wake, &mut process.effects);
                }
                let due: Vec<_> = process
                    .lines
                    .iter()
                    .filter(|(_, line)| line.stream.deadline().is_some_and(|deadline| deadline <= local))
                    .map(|(id, _)| *id)
                    .collect();
                for stream in due {
                    self.step_stream(node, boot, local, stream, StreamInput::Wake);
                }
            }
            Work::Apply => self.apply_some(node, boot),
            Work::Read(stream, request) => self.read_log(node, boot, local, stream, request),
        }
    }

    // ---- streams ----

    pub(super) fn step_stream(
        &mut self,
        node: NodeId,
        boot: u64,
        local: Time,
        stream: raftwright_core::StreamId,
        input: StreamInput<SimTypes>,
    ) {
        let Some(process) = self.servers.process(node, boot) else { return };
        let Some(line) = process.lines.get_mut(&stream) else { return };
        let target = line.target;
        line.stream.step(local, input, &mut process.stream_effects);
        let effects = std::mem::take(&mut process.stream_effects);
        for effect in effects {
            match effect {
                StreamEffect::Read { epoch, start, end, bytes_max, entries_max, .. } => {
                    let request = ReadRequest { epoch, start, end, entries_max, bytes_max };
                    let at = self.now.after(self.rng.duration(Duration::ZERO, self.profile.log_read_max));
                    self.queue.push(at, Event::Read(node, boot, stream, request));
                }
                StreamEffect::Send { epoch, request } => {
                    let Some(process) = self.servers.process(node, boot) else { return };
                    let Some(line) = process.lines.get_mut(&stream) else { return };
                    let id = CallId { boot, stream, epoch, number: line.number(epoch) };
                    self.queue.push(self.now.after(CALL_TIMEOUT), Event::CallTimeout(node, id));
                    self.send(node, target, Wire::Append(id, request));
                }
                StreamEffect::SendSnapshot { epoch } => self.send_snapshot(node, boot, stream, epoch),
                StreamEffect::Report(report) => {
                    self.give(node, boot, Work::Input(Input::Stream { stream, report }));
                }
            }
        }
    }

    pub(super) fn read_log(
        &mut self,
        node: NodeId,
        boot: u64,
        local: Time,
        stream: raftwright_core::StreamId,
        request: ReadRequest,
    ) {
        let Some(server) = self.servers.get(node) else { return };
        let log = server.store.readable();
        let ReadRequest { epoch, start, end, entries_max, bytes_max } = request;
        let prev_index = start.saturating_sub(1);
        let input = if let Some(purged) = log.purged().filter(|purged| prev_index < purged.index) {
            StreamInput::Purged { epoch, purged }
        } else {
            let prev = log.log_id_at(prev_index);
            let mut bytes = 0;
            let entries = (start..end)
                .take(entries_max)
                .map_while(|index| {
                    let stored = log.get(index)?;
                    let room = bytes == 0 || bytes + super::types::ENTRY_BYTES <= bytes_max;
                    bytes += super::types::ENTRY_BYTES;
                    room.then(|| stored.entry.clone())
                })
                .collect();
            StreamInput::Entries { epoch, prev, entries }
        };
        self.step_stream(node, boot, local, stream, input);
    }

    pub(super) fn on_call_timeout(&mut self, node: NodeId, id: CallId) {
        let Some(process) = self.servers.process(node, id.boot) else { return };
        let awaited = process.lines.get(&id.stream).is_some_and(|line| line.awaits(id));
        if awaited {
            self.give(node, id.boot, Work::Stream(id.stream, StreamInput::Failed { epoch: id.epoch }));
        }
    }

    // ---- the network ----

    pub(super) fn send(&mut self, from: NodeId, to: NodeId, wire: Wire) {
        if self.servers.get(to).is_none() {
            return;
        }
        match self.network.send(self.now, from, to, wire.lane(), wire.bytes(), &mut self.faults) {
            Fate::Cut => {
                let noticed = self.now.after(CUT_NOTICED_AFTER);
                match wire {
                    Wire::Append(id, _) => self.queue.push(noticed, Event::CallTimeout(from, id)),
                    Wire::Snapshot(id, ..) => self.queue.push(noticed, Event::SnapshotTimeout(from, id)),
                    _ => {}
                }
            }
            Fate::Lost => {}
            Fate::Sent { first, copy } => {
                if self.profile.classes.links && self.rng.one_in(50) {
                    self.remember_old(from, to, &wire);
                }
                if let Some(copy) = copy {
                    self.queue.push(copy.at, Event::Deliver(copy, Box::new(wire.clone())));
                }
                self.queue.push(first.at, Event::Deliver(first, Box::new(wire)));
            }
        }
    }

    pub(super) fn remember_old(&mut self, from: NodeId, to: NodeId, wire: &Wire) {
        if self.old.len() < OLD_MESSAGES_MAX {
            self.old.push((from, to, wire.clone()));
        } else {
            let place = self.rng.below(OLD_MESSAGES_MAX as u64) as usize;
            self.old[place] = (from, to, wire.clone());
        }
    }

    pub(super) fn on_deliver(&mut self, parcel: Parcel, wire: Wire) {
        if !self.network.arrives(&parcel) {
            return;
        }
        self.arrive(parcel.from, parcel.to, wire);
    }

    /// A message is at its receiver.
    pub(super) fn arrive(&mut self, from: NodeId, to: NodeId, wire: Wire) {
        let numbers = [from, wire.lane() as u64];
        let kind = Kind(wire.name());
        self.trace.note(self.now, to, kind, numbers, || format!("from n{from}: {}", wire.text()));
        let Some(server) = self.servers.get_mut(to) else { return };
        let boot = server.boot;
        let Some(process) = server.process.as_mut() else { return };
        let work = match wire {
            Wire::Control(Message::Vote(request)) => {
                Work::Input(Input::VoteRequest { ticket: process.ticket(Caller::Peer(from)), request })
            }
            Wire::Control(Message::Heartbeat(request)) => {
                Work::Input(Input::Heartbeat { ticket: process.ticket(Caller::Peer(from)), request })
            }
            Wire::Control(Message::TransferLeader(request)) => Work::Input(Input::TransferRequest { request }),
            Wire::VoteResponse(response) => Work::Input(Input::VoteResponse(response)),
            Wire::HeartbeatResponse(response) => Work::Input(Input::HeartbeatResponse(response)),
            Wire::Append(id, request) => {
                Work::Input(Input::AppendEntries { ticket: process.ticket(Caller::Stream(from, id)), request })
            }
            Wire::Snapshot(id, request, snapshot) => {
                let ticket = process.ticket(Caller::Snapshot(from, id, snapshot));
                Work::Input(Input::InstallSnapshot { ticket, request })
            }
            Wire::SnapshotResponse(id, last_log_id, response) => {
                if id.boot != boot {
                    return;
                }
                Work::Stream(id.stream, StreamInput::SnapshotSent { epoch: id.epoch, last_log_id, response })
            }
            Wire::AppendResponse(id, response) => {
                if id.boot != boot {
                    return;
                }
                Work::Answer(id, response)
            }
        };
        self.give(to, boot, work);
    }

    // ---- facts ----

    /// Shows a fact to the checkers.
    pub(super) fn fact(&mut self, node: NodeId, fact: Fact) {
        if self.failure.is_some() {
            return;
        }
        let Some(server) = self.servers.get(node) else { return };
        let who = Who { node, incarnation: server.incarnation, boot: server.boot };
        let view = GodView { disks: &self.servers, ledger: &self.ledger };
        if let Err(broken) = self.checkers.observe(who, &fact, &view) {
            self.record_failure(broken);
        }
    }

    /// A rule of the world itself is broken.
    pub(super) fn fail(&mut self, property: &'static str, source: &'static str, what: String) {
        self.record_failure(Broken { property, source, what });
    }

    pub(super) fn record_failure(&mut self, broken: Broken) {
        self.trace.note(self.now, 0, Kind("BROKEN"), [0, 0], || broken.to_string());
        if self.failure.is_none() {
            self.failure = Some(Failure { at: self.now, broken });
        }
    }

    // ---- processes come and go ----

    /// Starts a node's process.
    pub fn start(&mut self, node: NodeId) {
        let seed = self.rng.next_u64();
        let now = self.now;
        let Some(server) = self.servers.get_mut(node) else { return };
        if server.process.is_some() {
            return;
        }
        (server.hung, server.stalled, server.busy_until) = (false, 0, now);
        if let Err(error) = server.start(now, &self.profile, seed) {
            let what = format!("node {node} does not start: {error}");
            return self.fail("a node starts from its disk", "Raft §5.1", what);
        }
        let boot = server.boot;
        self.trace.note(now, node, Kind("START"), [boot, 0], || format!("boot {boot}"));
        self.fact(node, Fact::Booted);
        self.give(node, boot, Work::Input(Input::Wake));
    }

    /// A node's process dies.
    pub fn crash(&mut self, node: NodeId, unsynced: Unsynced) {
        let now = self.now;
        let Some(server) = self.servers.get_mut(node) else { return };
        let Some(process) = server.process.take() else { return };
        server.paused_until = None;
        let outcome = server.store.crash(unsynced, &mut self.disk_rng);
        let who = match unsynced {
            Unsynced::Lost => Fault::UnsyncedLost,
            Unsynced::Kept => Fault::UnsyncedKept,
            Unsynced::Prefix => Fault::UnsyncedPrefix,
        };
        if outcome.under_way > 0 {
            self.faults.hit(who);
            self.faults.hit(Fault::CrashMidWrite);
        }
        if outcome.torn {
            self.faults.hit(Fault::Torn);
        }
        self.trace.note(now, node, Kind("CRASH"), [outcome.kept as u64, outcome.under_way as u64], || {
            format!("{} of {} writes under way stay", outcome.kept, outcome.under_way)
        });
        self.fact(node, Fact::DiskChanged);
        self.abandon(process);
    }
}
