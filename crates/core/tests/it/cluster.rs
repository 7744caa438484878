//! A deterministic cluster: real replicas and streams, simulated disks, messages that move when they are told to, a clock
//! that is turned by hand. After every step the invariants of the core and the promises to the outside are checked.

mod streams;

mod calls;
mod snapshots;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use raftwright_core::invariants::{self, Facts};
use raftwright_core::{
    AppendEntriesRequest, AppendEntriesResponse, Effect, Effects, ElectionPriority, HeartbeatResponse, Identity,
    Incarnation, Input, InstallSnapshotRequest, InstallSnapshotResponse, LogIdOf, LogIndex, Membership, MembershipOf,
    Message, RaftEntry, Replica, ReplicaConfig, Reply, ServerState, StoredMembership, Stream, StreamConfig, StreamId,
    StreamInput, Ticket, Time, Types, VoteOf, VoteResponse, WriteId,
};

use crate::disk::{Disk, Image, first_log_id};
use crate::safety::{Safety, check_promise};
use crate::say;
use crate::types::{Item, Kind, Member, Payload};

/// More deliveries than any story needs: a cluster that does not come to rest.
const DELIVERIES_MAX: usize = 20_000;

/// More wakes at one moment than a cluster has machines.
const WAKES_MAX: usize = 1_000;

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) voters: Vec<u64>,
    pub(crate) learners: Vec<u64>,
    /// Whether the stores can tell their incarnations apart.
    pub(crate) incarnations: bool,
    pub(crate) config: ReplicaConfig,
    pub(crate) stream: StreamConfig,
    pub(crate) seed: u64,
    /// Of servers that are not as keen to lead as others, or keener.
    pub(crate) priorities: BTreeMap<u64, ElectionPriority>,
}

impl Setup {
    /// That many voters, from 1.
    pub(crate) fn voters(count: u64) -> Self {
        Self {
            voters: (1..=count).collect(),
            learners: Vec::new(),
            incarnations: false,
            config: ReplicaConfig::default(),
            stream: StreamConfig::default(),
            seed: 1,
            priorities: BTreeMap::new(),
        }
    }
}

/// A server: what survives a crash, and what does not.
#[derive(Debug)]
pub(crate) struct Server<T: Kind> {
    pub(crate) identity: Identity<u64>,
    pub(crate) disk: Disk<T>,
    /// How far the state machine has applied the log; it keeps its state on the disk.
    pub(crate) applied: Option<LogIdOf<T>>,
    /// The state machine's membership.
    pub(crate) machine: StoredMembership<T>,
    /// The newest snapshot.
    pub(crate) snapshot: Option<Taken<T>>,
    /// Whether snapshots are built and installed only when told.
    pub(crate) machine_held: bool,
    boots: u64,
    up: Option<Up<T>>,
}

#[derive(Debug)]
struct Up<T: Kind> {
    replica: Replica<T>,
    effects: Effects<T>,
    streams: BTreeMap<StreamId, Running<T>>,
    /// A snapshot is to be built.
    building: bool,
    /// Snapshots that have arrived, and whether the state machine is to install them.
    arrived: BTreeMap<Ticket, (Taken<T>, bool)>,
}

/// A snapshot: its last entry, and the membership at that.
#[derive(Clone, Debug)]
pub(crate) struct Taken<T: Types> {
    pub(crate) last_log_id: LogIdOf<T>,
    pub(crate) last_membership: StoredMembership<T>,
}

/// A stream with its connection: sends without an answer, oldest first, and answers that came too early.
#[derive(Debug)]
struct Running<T: Kind> {
    target: u64,
    vote: VoteOf<T>,
    stream: Stream<T>,
    sends: VecDeque<(u64, u64)>,
    early: BTreeMap<u64, AppendEntriesResponse<T>>,
    last_send: u64,
}

/// A message on its way.
#[derive(Clone, Debug)]
pub(crate) struct Packet<T: Kind> {
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// Which run of the sender has sent it, or of the receiver has asked for it.
    boot: u64,
    pub(crate) body: Body<T>,
}

/// What a message says.
#[derive(Clone, Debug)]
pub(crate) enum Body<T: Kind> {
    Control(Message<T>),
    Append {
        place: Place,
        request: AppendEntriesRequest<T>,
    },
    VoteAnswer(VoteResponse<T>),
    HeartbeatAnswer(HeartbeatResponse<T>),
    AppendAnswer {
        place: Place,
        response: AppendEntriesResponse<T>,
    },
    /// The send of a place is the epoch.
    Snapshot {
        place: Place,
        request: InstallSnapshotRequest<T>,
    },
    SnapshotAnswer {
        place: Place,
        last_log_id: LogIdOf<T>,
        response: InstallSnapshotResponse<T>,
    },
}

/// Which send of which stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    stream: StreamId,
    send: u64,
}

/// Who waits for a ticket.
#[derive(Debug)]
enum Waiting<T: Types> {
    Call {
        server: u64,
        name: String,
    },
    Peer {
        asker: u64,
        boot: u64,
        asked: VoteOf<T>,
        place: Option<Place>,
        snapshot: Option<LogIdOf<T>>,
    },
    /// A message that was made up, or whose connection is gone.
    Nobody {
        asker: u64,
        asked: VoteOf<T>,
    },
}

enum Work<T: Kind> {
    Done(WriteId),
    Stream(StreamId, StreamInput<T>),
    Report(StreamId, raftwright_core::Report<T>),
    Machine(Input<T>),
}

/// A line of the story; a loud one is told even where only the outline is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) text: String,
    pub(crate) loud: bool,
}

/// The cluster.
pub(crate) struct Cluster<T: Kind> {
    pub(crate) now: Time,
    /// How fast servers' clocks run, in thousandths of real time; as fast if they are not named.
    pub(crate) clocks: BTreeMap<u64, u64>,
    pub(crate) setup: Setup,
    pub(crate) servers: BTreeMap<u64, Server<T>>,
    /// Messages on their way, in the order of sending.
    pub(crate) wire: Vec<Packet<T>>,
    /// Links that lose everything.
    pub(crate) cuts: BTreeSet<(u64, u64)>,
    pub(crate) journal: Vec<Line>,
    /// Whether the journal is kept.
    pub(crate) telling: bool,
    pub(crate) safety: Safety<T>,
    /// Answers to calls, in order: the call and what was said.
    pub(crate) answers: Vec<(String, Reply<T>)>,
    tickets: BTreeMap<Ticket, Waiting<T>>,
    last_ticket: u64,
    work: VecDeque<(u64, Work<T>)>,
}

impl<T: Kind> Cluster<T> {
    /// Servers that were all initialized with the same membership and have done nothing since.
    pub(crate) fn new(setup: Setup) -> Self {
        let ids: Vec<u64> = setup.voters.iter().chain(&setup.learners).copied().collect();
        let mut cluster = Self::blank(setup, &[]);
        for id in ids {
            cluster.install(id, None, &[], 0);
        }
        cluster
    }

    /// Servers with nothing on their disks.
    pub(crate) fn blank(setup: Setup, ids: &[u64]) -> Self {
        let mut cluster = Self {
            now: Time::ZERO,
            clocks: BTreeMap::new(),
            setup,
            servers: BTreeMap::new(),
            wire: Vec::new(),
            cuts: BTreeSet::new(),
            journal: Vec::new(),
            telling: true,
            safety: Safety::default(),
            answers: Vec::new(),
            tickets: BTreeMap::new(),
            last_ticket: 0,
            work: VecDeque::new(),
        };
        for id in ids {
            cluster.add_blank(*id);
        }
        cluster
    }

    /// A blank server.
    pub(crate) fn add_blank(&mut self, id: u64) {
        self.place(id, Image::default(), None);
    }

    /// A server with this vote and, behind the first entry, entries of these terms; the first `committed` of all are.
    pub(crate) fn install(&mut self, id: u64, vote: Option<VoteOf<T>>, terms: &[u64], committed: LogIndex) {
        let mut log = vec![self.first_entry()];
        log.extend(crate::types::items(terms));
        let applied = usize::try_from(committed).ok().and_then(|count| count.checked_sub(1)).map(|at| log[at].log_id);
        self.place(id, Image { vote, purged: None, log }, applied);
    }

    /// The entry that initialized the cluster.
    pub(crate) fn first_entry(&self) -> Item<T> {
        let Setup { voters, learners, .. } = &self.setup;
        let nodes = voters.iter().chain(learners).map(|id| (*id, Member { address: *id, incarnation: None })).collect();
        let membership = Membership::new(vec![voters.iter().copied().collect()], nodes).unwrap();
        Item { log_id: first_log_id::<T>(), payload: Payload::Membership(membership) }
    }

    /// A server with this on its disk; `applied` says how far its state machine is.
    pub(crate) fn place(&mut self, id: u64, image: Image<T>, applied: Option<LogIdOf<T>>) {
        let mut before = image.purged;
        for item in &image.log {
            self.safety.wrote(before, item);
            before = Some(item.log_id);
        }
        let mut machine = StoredMembership::default();
        for item in image.log.iter().filter(|item| Some(item.log_id) <= applied) {
            if let Some(membership) = item.membership() {
                machine = StoredMembership { log_id: Some(item.log_id), membership: membership.clone() };
            }
        }
        let incarnation = self.setup.incarnations.then_some(Incarnation(id * 0x100));
        let identity = Identity { id, incarnation };
        self.servers.insert(
            id,
            Server {
                identity,
                disk: Disk::new(image),
                applied,
                machine,
                snapshot: None,
                machine_held: false,
                boots: 0,
                up: None,
            },
        );
        self.start(id);
    }

    /// Starts a server that is down.
    pub(crate) fn start(&mut self, id: u64) {
        let seed = self.setup.seed.wrapping_mul(31).wrapping_add(id);
        let now = self.local(id);
        let server = self.servers.get_mut(&id).unwrap();
        assert!(server.up.is_none(), "server {id} runs already");
        server.boots += 1;
        let snapshot = server.snapshot.as_ref().map(|taken| taken.last_log_id);
        let restored = server.disk.durable.restored(server.applied, &server.machine, snapshot);
        let mut config = self.setup.config.clone();
        config.election_priority = self.setup.priorities.get(&id).copied().unwrap_or_default();
        let replica = Replica::new(config, server.identity, restored, now, seed + server.boots * 7919);
        let replica = replica.unwrap_or_else(|error| panic!("server {id} does not start: {error}"));
        server.up = Some(Up {
            replica,
            effects: Effects::new(),
            streams: BTreeMap::new(),
            building: false,
            arrived: BTreeMap::new(),
        });
        self.step(id, Input::Wake);
    }

    /// The power goes at a server. The first `kept` of its writes that are not durable happen to survive.
    pub(crate) fn crash(&mut self, id: u64, kept: usize) {
        let server = self.servers.get_mut(&id).unwrap();
        server.up = None;
        server.disk.crash(kept);
        self.work.retain(|(server, _)| *server != id);
        self.tickets.retain(|_, waiting| !matches!(waiting, Waiting::Call { server, .. } if *server == id));
        for other in self.up() {
            self.break_connection(other, id);
        }
    }

    /// A server loses its disk and comes back under its old id, as another incarnation.
    pub(crate) fn wipe(&mut self, id: u64) {
        self.crash(id, 0);
        let server = self.servers.get_mut(&id).unwrap();
        server.disk = Disk::new(Image::default());
        (server.applied, server.machine, server.snapshot) = (None, StoredMembership::default(), None);
        server.identity.incarnation = server.identity.incarnation.map(|old| Incarnation(old.0 + 1));
        self.safety.wiped(id);
    }

    /// The replica of a server that runs.
    pub(crate) fn replica(&self, id: u64) -> &Replica<T> {
        &self.servers[&id].up.as_ref().unwrap_or_else(|| panic!("server {id} is down")).replica
    }

    /// Whether a server runs.
    pub(crate) fn is_up(&self, id: u64) -> bool {
        self.servers.get(&id).is_some_and(|server| server.up.is_some())
    }

    /// The servers that run.
    pub(crate) fn up(&self) -> Vec<u64> {
        self.servers.keys().copied().filter(|id| self.is_up(*id)).collect()
    }

    /// The servers that lead.
    pub(crate) fn leaders(&self) -> Vec<u64> {
        self.up().into_iter().filter(|id| self.replica(*id).is_leader()).collect()
    }

    // ---- steps ----

    /// Gives a server an input and does all that it asks for, but for what travels or waits for a held disk.
    pub(crate) fn step(&mut self, id: u64, input: Input<T>) {
        self.step_once(id, input);
        while let Some((id, work)) = self.work.pop_front() {
            match work {
                Work::Done(write) => self.step_once(id, Input::LogDone { write }),
                Work::Machine(input) => self.step_once(id, input),
                Work::Report(stream, report) => self.step_once(id, Input::Stream { stream, report }),
                Work::Stream(stream, input) => self.step_stream(id, stream, input),
            }
        }
    }

    fn step_once(&mut self, id: u64, input: Input<T>) {
        let now = self.local(id);
        let Some(up) = self.servers.get_mut(&id).and_then(|server| server.up.as_mut()) else { return };
        let before = Facts::of(&up.replica);
        let counted = up.replica.membership().membership.clone();
        up.replica.step(now, input, &mut up.effects);
        let after = Facts::of(&up.replica);
        invariants::check(&up.replica).unwrap_or_else(|broken| panic!("server {id}: {broken}"));
        invariants::check_delta(&before, &after).unwrap_or_else(|broken| panic!("server {id}: {broken}"));
        let effects: Vec<Effect<T>> = up.effects.drain().collect();
        for effect in effects {
            self.execute(id, effect);
        }
        self.observe(id, &counted, &before, &after);
    }

    /// What the whole cluster must never see. `counted` is the membership before the step: what a leader commits with.
    fn observe(&mut self, id: u64, counted: &MembershipOf<T>, before: &Facts<T>, after: &Facts<T>) {
        if after.server_state == ServerState::Leader && before.server_state != ServerState::Leader {
            let vote = after.vote.unwrap();
            self.safety.leads(id, &vote, &self.servers[&id].disk.live);
        }
        if after.committed != before.committed {
            let disks = self.servers.values().map(|server| (server.identity, &server.disk.durable));
            let replica = &self.servers[&id].up.as_ref().unwrap().replica;
            self.safety.committed(replica, counted, &self.servers[&id].disk.live, &disks.collect::<Vec<_>>());
        }
    }

    fn execute(&mut self, id: u64, effect: Effect<T>) {
        self.tell(id, &effect);
        match effect {
            Effect::Write { id: write, op } => {
                let server = self.servers.get_mut(&id).unwrap();
                if let raftwright_core::Write::Append(items) = &op {
                    let mut before = server.disk.live.last();
                    for item in items {
                        self.safety.wrote(before, item);
                        before = Some(item.log_id);
                    }
                }
                server.disk.submit(write, op);
                if !server.disk.held {
                    server.disk.complete(write);
                    self.work.push_back((id, Work::Done(write)));
                }
            }
            Effect::Send { to, message } => {
                let boot = self.servers[&id].boots;
                self.wire.push(Packet { from: id, to, boot, body: Body::Control(message) });
            }
            Effect::Tail(tail) => self.fan_out(id, tail),
            Effect::OpenStream { stream, target, vote, next, .. } => self.open(id, stream, target, vote, next),
            Effect::CloseStream { stream } => {
                let up = self.servers.get_mut(&id).unwrap().up.as_mut().unwrap();
                assert!(up.streams.remove(&stream).is_some(), "only an open stream is closed");
            }
            Effect::Apply { upto } => self.apply(id, upto),
            Effect::BuildSnapshot { .. } => self.build(id),
            Effect::InstallSnapshot { ticket } => self.install_next(id, ticket),
            Effect::Reply { ticket, reply } => self.answer(id, ticket, reply),
            Effect::Note(_) => {}
        }
    }

    fn apply(&mut self, id: u64, upto: LogIdOf<T>) {
        let server = self.servers.get_mut(&id).unwrap();
        let from = server.applied.map_or(1, |applied| applied.index + 1);
        for index in from..=upto.index {
            let item =
                server.disk.durable.get(index).unwrap_or_else(|| panic!("server {id} applies what is not durable"));
            server.applied = Some(item.log_id);
            if let Some(membership) = item.membership() {
                server.machine = StoredMembership { log_id: Some(item.log_id), membership: membership.clone() };
            }
            self.safety.applies(id, item);
        }
    }

    fn answer(&mut self, id: u64, ticket: Ticket, reply: Reply<T>) {
        let waiting = self.tickets.remove(&ticket).unwrap_or_else(|| panic!("server {id} answers {ticket} twice"));
        let durable = &self.servers[&id].disk.durable;
        let (asker, boot, place, snapshot) = match waiting {
            Waiting::Call { name, .. } => return self.answers.push((name, reply)),
            Waiting::Nobody { asked, .. } => return check_promise(durable, &asked, &reply),
            Waiting::Peer { asker, boot, asked, place, snapshot } => {
                check_promise(durable, &asked, &reply);
                (asker, boot, place, snapshot)
            }
        };
        let body = match (reply, place) {
            (Reply::Vote(response), _) => Body::VoteAnswer(response),
            (Reply::Heartbeat(response), _) => Body::HeartbeatAnswer(response),
            (Reply::Append(response), Some(place)) => Body::AppendAnswer { place, response },
            (Reply::InstallSnapshot(response), Some(place)) => {
                self.servers.get_mut(&id).unwrap().up.as_mut().unwrap().arrived.remove(&ticket);
                Body::SnapshotAnswer { place, last_log_id: snapshot.unwrap(), response }
            }
            (reply, _) => panic!("server {id} answers a peer {reply:?}"),
        };
        self.wire.push(Packet { from: id, to: asker, boot, body });
    }

    // ---- messages ----

    /// Whether a message gets through.
    fn passes(&self, packet: &Packet<T>) -> bool {
        self.is_up(packet.to) && !self.cuts.contains(&(packet.from, packet.to))
    }

    /// Takes a message off the wire and delivers it.
    pub(crate) fn deliver(&mut self, at: usize) {
        let packet = self.wire.remove(at);
        self.receive(packet);
    }

    /// Takes a message off the wire and loses it.
    pub(crate) fn lose(&mut self, at: usize) {
        let packet = self.wire.remove(at);
        self.lost(&packet);
    }

    fn lost(&mut self, packet: &Packet<T>) {
        // The bulk lane is one connection: it loses nothing without breaking.
        match &packet.body {
            Body::Append { .. } => self.break_connection(packet.from, packet.to),
            Body::AppendAnswer { .. } => self.break_connection(packet.to, packet.from),
            Body::Snapshot { place, .. } => self.snapshot_lost(packet.from, *place),
            Body::SnapshotAnswer { place, .. } => self.snapshot_lost(packet.to, *place),
            Body::Control(_) | Body::VoteAnswer(_) | Body::HeartbeatAnswer(_) => {}
        }
    }

    /// Delivers a message that need not be on the wire: a copy, an old one.
    pub(crate) fn receive(&mut self, packet: Packet<T>) {
        if !self.passes(&packet) {
            return self.lost(&packet);
        }
        let Packet { from, to, boot, body } = packet;
        let asks_us = self.servers[&to].boots == boot;
        match body {
            Body::Control(message) => self.ask(from, to, boot, message),
            Body::Append { place, request } => {
                let waiting =
                    Waiting::Peer { asker: from, boot, asked: request.vote, place: Some(place), snapshot: None };
                let ticket = self.ticket(waiting);
                self.step(to, Input::AppendEntries { ticket, request });
            }
            Body::Snapshot { place, request } => {
                let last_log_id = request.last_log_id;
                let snapshot = Some(last_log_id);
                let waiting = Waiting::Peer { asker: from, boot, asked: request.vote, place: Some(place), snapshot };
                let ticket = self.ticket(waiting);
                let taken = Taken { last_log_id, last_membership: request.last_membership.clone() };
                let up = self.servers.get_mut(&to).unwrap().up.as_mut().unwrap();
                up.arrived.insert(ticket, (taken, false));
                self.step(to, Input::InstallSnapshot { ticket, request });
            }
            Body::SnapshotAnswer { place, last_log_id, response } if asks_us => {
                let input = StreamInput::SnapshotSent { epoch: place.send, last_log_id, response };
                self.work.push_back((to, Work::Stream(place.stream, input)));
                self.step_nothing();
            }
            Body::VoteAnswer(response) if asks_us => self.step(to, Input::VoteResponse(response)),
            Body::HeartbeatAnswer(response) if asks_us => self.step(to, Input::HeartbeatResponse(response)),
            Body::AppendAnswer { place, response } if asks_us => self.append_answered(to, place, response),
            // An answer to a run that has crashed.
            Body::VoteAnswer(_)
            | Body::HeartbeatAnswer(_)
            | Body::AppendAnswer { .. }
            | Body::SnapshotAnswer { .. } => {}
        }
    }

    fn ask(&mut self, from: u64, to: u64, boot: u64, message: Message<T>) {
        let peer = |asked| Waiting::Peer { asker: from, boot, asked, place: None, snapshot: None };
        match message {
            Message::Vote(request) => {
                let ticket = self.ticket(peer(request.vote));
                self.step(to, Input::VoteRequest { ticket, request });
            }
            Message::Heartbeat(request) => {
                let ticket = self.ticket(peer(request.vote));
                self.step(to, Input::Heartbeat { ticket, request });
            }
            Message::TransferLeader(request) => self.step(to, Input::TransferRequest { request }),
        }
    }

    /// Gives a server a message that nobody has sent; its answer goes nowhere.
    pub(crate) fn forge(&mut self, to: u64, message: Message<T>) {
        match message {
            Message::Vote(request) => {
                let ticket = self.ticket(Waiting::Nobody { asker: request.from.id, asked: request.vote });
                self.step(to, Input::VoteRequest { ticket, request });
            }
            Message::Heartbeat(request) => {
                let ticket = self.ticket(Waiting::Nobody { asker: request.from.id, asked: request.vote });
                self.step(to, Input::Heartbeat { ticket, request });
            }
            Message::TransferLeader(request) => self.step(to, Input::TransferRequest { request }),
        }
    }

    /// Gives a server entries that nobody has sent.
    pub(crate) fn forge_append(&mut self, to: u64, request: AppendEntriesRequest<T>) {
        let ticket = self.ticket(Waiting::Nobody { asker: request.from.id, asked: request.vote });
        self.step(to, Input::AppendEntries { ticket, request });
    }

    /// Delivers everything, and what follows from it, until the wire is empty. No time passes.
    pub(crate) fn settle(&mut self) {
        for _ in 0..DELIVERIES_MAX {
            if self.wire.is_empty() {
                return;
            }
            self.deliver(0);
        }
        panic!("the cluster does not come to rest");
    }

    fn tell(&mut self, id: u64, effect: &Effect<T>) {
        if !self.telling {
            return;
        }
        let line = match effect {
            Effect::Reply { ticket, reply } => match self.tickets.get(ticket) {
                Some(Waiting::Call { name, .. }) => {
                    Some(Line { text: format!("{id}  {name}: {}", say::reply(reply)), loud: true })
                }
                Some(Waiting::Peer { asker, .. } | Waiting::Nobody { asker, .. }) => {
                    Some(Line { text: format!("{id} -> {asker}  {}", say::reply(reply)), loud: false })
                }
                None => None,
            },
            Effect::Note(note) => Some(Line { text: format!("{id}  {}", say::note(note)), loud: true }),
            other => say::effect(id, other).map(|text| Line { text, loud: matches!(other, Effect::Apply { .. }) }),
        };
        self.journal.extend(line);
    }
}
