//! One server of a search, and what one event does to it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use raftwright_core::invariants::{Facts, check, check_delta};
use raftwright_core::{
    AppendOutcome, Canonical, Effect, Effects, Identity, Input, LogIdOption, Message, Note, ReadPolicy, Replica, Reply,
    Restored, ServerState, StoredMembership, Stream, StreamEffect, StreamId, StreamInput, Tail, Ticket, Time, VoteKind,
    VoteRequest, Write,
};

use super::bounds::Bounds;
use super::message::{Body, Call, Said, entry_words};
use super::properties;
use crate::checkers::Broken;
use crate::core_world::store::{SimStore, StoreOp, Unsynced};
use crate::core_world::types::{CommandId, KvCommand, LogId, Payload, SimEntry, SimTypes, Vote, log_id};
use crate::world::{NodeId, Rng};

/// The moment at which everything happens.
const NOW: Time = Time::ZERO;
/// A step that takes so many inputs goes round in circles.
const INPUTS_MAX: usize = 1000;

/// Tickets: of a message, its number; above that, what else waits for an answer.
const TICKET_READ: u64 = 1 << 40;
const TICKET_OTHER: u64 = 1 << 41;
const TICKET_CHANGE: u64 = 1 << 42;

/// What can happen to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// Something that is in the air arrives.
    Deliver(u32),
    /// Its disk finishes its oldest write.
    Disk,
    /// It crashes, with so many of its unfinished writes on the disk, and starts again.
    Crash(u8),
    /// Its deadline comes: it asks whether to campaign or, leading, gives up for want of a quorum.
    Wake,
    /// It campaigns.
    Elect,
    /// It sends a heartbeat.
    Beat,
    /// A client gives it a command.
    Propose,
    /// A client reads, when so much was committed.
    Read(u8),
    /// It is asked for the set of voters with that number.
    Change(u8),
    /// Its connection for entries to that server breaks.
    Break(u8),
    /// It is asked to hand over to that server.
    Transfer(u8),
}

/// A stream with the requests that it has sent and not heard about.
#[derive(Debug, Clone)]
struct Line {
    id: StreamId,
    stream: Stream<SimTypes>,
    calls: VecDeque<Call>,
}

/// A server.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) id: NodeId,
    pub(super) replica: Replica<SimTypes>,
    pub(super) store: SimStore,
    lines: BTreeMap<NodeId, Line>,
    /// The newest heartbeat round of its leadership.
    rounds: u64,
    /// Whether a client waits for a read.
    reading: bool,
    /// Whether somebody waits for a change.
    changing: bool,
}

/// What an event did.
#[derive(Debug)]
pub(super) struct Stepped {
    pub(super) server: Server,
    pub(super) said: Vec<Said>,
    /// Whether the log is another.
    pub(super) log_changed: bool,
    /// The vote with which it has begun to lead.
    pub(super) leads: Option<Vote>,
    /// How far it has committed by counting, in which term, and under which memberships: from that index on.
    pub(super) counted: Option<(LogId, u64, u64)>,
    /// Memberships that it has appended as a leader, each with the one before.
    pub(super) memberships: Vec<(LogId, LogId)>,
    /// A property that it has broken.
    pub(super) broken: Option<Broken>,
    /// Whether it goes beyond the bounds: then it does not happen.
    pub(super) beyond: bool,
}

impl Server {
    /// A server of the cluster that was just initialized, or a blank one that is to become a learner.
    pub(super) fn first(id: NodeId, bounds: &Bounds) -> Result<Stepped, String> {
        let server = Self::start(id, SimStore::default(), bounds)?;
        let mut step = Step::new(server, bounds);
        if bounds.voters.contains(&id) {
            step.feed(Input::Initialize { ticket: Ticket(TICKET_OTHER), membership: bounds.membership() });
        }
        while let Some(write) = step.server.store.complete_oldest() {
            step.feed(Input::LogDone { write });
        }
        Ok(step.finish())
    }

    /// Starts from a disk.
    fn start(id: NodeId, store: SimStore, bounds: &Bounds) -> Result<Self, String> {
        let log = store.durable();
        let memberships = log.memberships();
        let restored = Restored {
            vote: log.vote,
            purged: log.purged(),
            key_log_ids: log.key_log_ids(),
            last_log_id: log.last(),
            committed: None,
            snapshot: None,
            memberships: memberships
                .map(|(id, stored)| StoredMembership { log_id: Some(id), membership: (**stored).clone() })
                .collect(),
        };
        let identity = Identity { id, incarnation: None };
        let replica = Replica::new(bounds.replica(), identity, restored, NOW, 0).map_err(|error| error.to_string())?;
        Ok(Self { id, replica, store, lines: BTreeMap::new(), rounds: 0, reading: false, changing: false })
    }

    /// Adds all that makes a difference from here on.
    pub(super) fn canonical(&self, words: &mut Canonical<'_, SimTypes>) {
        let Self { id: _, replica, store, lines, rounds, reading: _, changing: _ } = self;
        replica.canonical(words);
        words.option(store.durable().vote.as_ref(), Canonical::vote);
        words.word(store.durable().last().index_or_zero());
        store.durable().entries().for_each(|stored| entry_words(&stored.entry, words));
        words.word(store.unfinished().len() as u64);
        for op in store.unfinished() {
            match op {
                StoreOp::Vote(vote) => {
                    words.word(0);
                    words.vote(vote);
                }
                StoreOp::Append(batch) => {
                    words.word(1);
                    words.word(batch.len() as u64);
                    batch.iter().for_each(|stored| entry_words(&stored.entry, words));
                }
                StoreOp::Truncate { since } => {
                    words.word(2);
                    words.word(*since);
                }
                StoreOp::Purge { upto } => {
                    words.word(3);
                    words.log_id(upto);
                }
                StoreOp::Reset(base) => {
                    words.word(4);
                    words.log_id(&base.last_log_id);
                }
            }
        }
        words.unordered(lines.iter(), |words, (target, line)| {
            words.server(target);
            line.stream.canonical(words);
        });
        // What a server that does not lead sent in its last leadership says nothing any more.
        words.word(if replica.is_leader() { *rounds } else { 0 });
    }

    /// What can happen to it by itself, within the bounds.
    pub(super) fn events(&self, bounds: &Bounds) -> Vec<Event> {
        let mut events = Vec::new();
        let log = self.store.readable();
        let leads = self.replica.is_leader();
        let idle = bounds.unfinished_writes == 0 || self.store.unfinished().len() < bounds.unfinished_writes;
        if self.store.unfinished().len() > 0 {
            events.push(Event::Disk);
        }
        if bounds.crashes {
            events.extend((0..=self.store.unfinished().len() as u8).map(Event::Crash));
        }
        if !idle {
            return events;
        }
        if leads {
            events.push(Event::Wake);
            let commands = log.entries().filter(|stored| matches!(stored.entry.payload, Payload::Command(..))).count();
            if commands < bounds.commands {
                events.push(Event::Propose);
            }
            if log.memberships().count() <= 1 && !self.changing {
                events.extend((0..bounds.changes.len() as u8).map(Event::Change));
            }
            if self.rounds < bounds.rounds {
                events.push(Event::Beat);
            }
            if bounds.transfers {
                events.extend(
                    super::bounds::SERVERS.iter().filter(|id| **id != self.id).map(|id| Event::Transfer(*id as u8)),
                );
            }
            if bounds.breaks {
                let busy = self.lines.iter().filter(|(_, line)| !line.calls.is_empty());
                events.extend(busy.map(|(id, _)| Event::Break(*id as u8)));
            }
        } else {
            if bounds.pre_vote {
                events.push(Event::Wake);
            }
            events.push(Event::Elect);
        }
        events
    }

    /// Whether a client may read: it leads, nobody reads, and a round is left.
    pub(super) fn may_read(&self, bounds: &Bounds) -> bool {
        bounds.reads && self.replica.is_leader() && !self.reading && self.rounds < bounds.rounds
    }

    /// Whether it can take a message that may make it write.
    pub(super) fn takes_messages(&self, bounds: &Bounds) -> bool {
        bounds.unfinished_writes == 0 || self.store.unfinished().len() < bounds.unfinished_writes
    }

    /// What decides whether something said to it can still mean anything: its vote on the disk, and what it asks for or
    /// leads with.
    pub(super) fn place_in_time(&self) -> (Option<Vote>, ServerState, Option<Vote>) {
        (self.store.durable().vote, self.replica.server_state(), self.replica.vote().copied())
    }

    /// Whether something said to it can have no effect any more, whatever happens, but a refusal that would not arrive.
    ///
    /// An answer counts for one candidacy or leadership, and none ever comes back: the next is of a greater term. A request
    /// below the vote on the disk is refused for ever, for that vote never goes back.
    pub(super) fn is_past(&self, said: &Said, bounds: &Bounds) -> bool {
        let mine = self.replica.vote().copied();
        let state = self.replica.server_state();
        let outranks = |asked: Vote| {
            let durable = self.store.durable().vote;
            !bounds.refusals
                && durable.is_some_and(|mine| !matches!(asked.partial_cmp(&mine), Some(order) if order.is_ge()))
        };
        match &said.body {
            Body::Control(Message::Vote(request)) => outranks(request.vote),
            Body::Control(Message::Heartbeat(request)) => !bounds.refused_rounds && outranks(request.vote),
            Body::Control(Message::TransferLeader(request)) => outranks(request.vote),
            Body::Append(request) => outranks(request.vote),
            Body::Vote(response) if response.kind == VoteKind::PreVote => {
                let durable = self.store.durable().vote;
                !bounds.refusals && durable.is_some_and(|mine| mine.term() >= response.asked.term())
            }
            Body::Vote(response) => {
                !(bounds.refusals || state == ServerState::Candidate && mine == Some(response.asked))
            }
            Body::Heartbeat(response) => {
                !(bounds.refusals || state == ServerState::Leader && mine == Some(response.asked))
            }
            Body::AppendAnswer(call, _) => state != ServerState::Leader || mine != Some(call.vote),
            Body::Committed(_) | Body::Led(_) => false,
        }
    }

    /// What an event does to it. `said` is what arrives, with its number, and `of` tells what has a number.
    pub(super) fn step(
        &self,
        event: Event,
        said: Option<&Said>,
        bounds: &Bounds,
        of: &dyn Fn(u64) -> Option<Said>,
    ) -> Stepped {
        let mut step = Step::new(self.clone(), bounds);
        step.of = Some(of);
        match event {
            Event::Deliver(number) => {
                if let Some(said) = said {
                    step.deliver(number, said);
                }
            }
            Event::Disk => {
                if let Some(write) = step.server.store.complete_oldest() {
                    step.feed(Input::LogDone { write });
                }
            }
            Event::Crash(kept) => step.crash(kept),
            Event::Wake => step.feed(Input::Wake),
            Event::Elect => step.feed(Input::Elect),
            Event::Beat => step.feed(Input::Beat),
            Event::Propose => {
                let command = Payload::Command(CommandId(self.id), KvCommand::Get { key: 0 });
                let entry = SimEntry { log_id: log_id(0, 0), payload: command };
                step.feed(Input::Propose { ticket: Ticket(TICKET_OTHER), entry });
            }
            Event::Read(committed) => {
                step.server.reading = true;
                let ticket = Ticket(TICKET_READ + u64::from(committed));
                step.feed(Input::Read { ticket, policy: ReadPolicy::ReadIndex });
            }
            Event::Change(number) => {
                if let Some(voters) = bounds.changes.get(usize::from(number)) {
                    let voters: BTreeSet<NodeId> = voters.iter().copied().collect();
                    step.server.changing = true;
                    let ticket = Ticket(TICKET_CHANGE);
                    step.feed(Input::ChangeMembership { ticket, voters, retain: false });
                }
            }
            Event::Break(target) => step.stream(u64::from(target), |epoch| StreamInput::Failed { epoch }),
            Event::Transfer(to) => {
                step.feed(Input::TransferLeader { ticket: Ticket(TICKET_OTHER), to: u64::from(to) });
            }
        }
        step.finish()
    }
}

/// A step under way.
struct Step<'a> {
    server: Server,
    bounds: &'a Bounds,
    of: Option<&'a dyn Fn(u64) -> Option<Said>>,
    before: (Option<Vote>, Option<LogId>, Option<LogId>, u64),
    inbox: VecDeque<Input<SimTypes>>,
    found: Found,
}

/// What a step has come to so far.
#[derive(Default)]
struct Found {
    said: Vec<Said>,
    log_changed: bool,
    leads: Option<Vote>,
    memberships: Vec<(LogId, LogId)>,
    broken: Option<Broken>,
    beyond: bool,
}

fn leading(server: &Server) -> Option<Vote> {
    if server.replica.is_leader() { server.replica.vote().copied() } else { None }
}

impl<'a> Step<'a> {
    fn new(server: Server, bounds: &'a Bounds) -> Self {
        let membership = server.store.readable().membership().map_or(0, |(id, _)| id.index);
        let before = (leading(&server), server.replica.committed(), server.store.readable().last(), membership);
        Self { server, bounds, of: None, before, inbox: VecDeque::new(), found: Found::default() }
    }

    fn broken(&mut self, property: &'static str, source: &'static str, what: String) {
        self.found.broken.get_or_insert(Broken { property, source, what });
    }

    fn crash(&mut self, kept: u8) {
        for _ in 0..kept {
            self.server.store.complete_oldest();
        }
        let mut store = std::mem::take(&mut self.server.store);
        store.crash(Unsynced::Lost, &mut Rng::new(0));
        self.found.log_changed = true;
        match Server::start(self.server.id, store, self.bounds) {
            Ok(server) => self.server = server,
            Err(error) => self.broken("a server starts from its disk", "Raft §5.1", error),
        }
        self.before.1 = None;
    }

    fn deliver(&mut self, number: u32, said: &Said) {
        let ticket = Ticket(u64::from(number));
        match said.body.clone() {
            Body::Control(Message::Vote(request)) => self.ask(ticket, request),
            Body::Control(Message::Heartbeat(request)) => self.feed(Input::Heartbeat { ticket, request }),
            Body::Control(Message::TransferLeader(request)) => self.feed(Input::TransferRequest { request }),
            Body::Vote(response) => self.feed(Input::VoteResponse(response)),
            Body::Heartbeat(response) => self.feed(Input::HeartbeatResponse(response)),
            Body::Append(request) => self.feed(Input::AppendEntries { ticket, request }),
            Body::AppendAnswer(call, response) => {
                let Some(line) = self.server.lines.get_mut(&said.from) else { return };
                if line.calls.front() == Some(&call) {
                    line.calls.pop_front();
                    self.stream(said.from, |epoch| StreamInput::Answer { epoch, response });
                }
            }
            Body::Committed(_) | Body::Led(_) => {}
        }
    }

    /// Somebody asks for a vote; a mere question changes nothing.
    fn ask(&mut self, ticket: Ticket, request: VoteRequest<SimTypes>) {
        let (kind, before) = (request.kind, self.server.replica.vote().copied());
        self.feed(Input::VoteRequest { ticket, request });
        let after = self.server.replica.vote().copied();
        if kind == VoteKind::PreVote && before != after {
            let what = format!("n{} had the vote {before:?}, is asked, and has {after:?}", self.server.id);
            self.broken("pre-votes change nothing", "Thesis §9.6", what);
        }
    }

    /// Gives the replica an input, and does all that follows from it.
    fn feed(&mut self, input: Input<SimTypes>) {
        self.inbox.push_back(input);
        self.work();
    }

    fn work(&mut self) {
        let mut taken = 0;
        let mut effects = Effects::new();
        while let Some(input) = self.inbox.pop_front() {
            taken += 1;
            if taken > INPUTS_MAX {
                return self.broken("a step ends", "fault model R5", format!("{taken} inputs in one step"));
            }
            let before = Facts::of(&self.server.replica);
            let was_leading = leading(&self.server);
            self.server.replica.step(NOW, input, &mut effects);
            let after = Facts::of(&self.server.replica);
            if let Err(what) = check(&self.server.replica).and_then(|()| check_delta(&before, &after)) {
                self.broken("a replica keeps its own promises", "Raft, Figure 2", what.to_owned());
            }
            let is_leading = leading(&self.server);
            let leads_on = if was_leading == is_leading { is_leading } else { None };
            for effect in effects.drain().collect::<Vec<_>>() {
                self.execute(effect, leads_on);
            }
            if self.bounds.unfinished_writes == 0 {
                while let Some(write) = self.server.store.complete_oldest() {
                    self.inbox.push_back(Input::LogDone { write });
                }
            }
        }
    }

    fn execute(&mut self, effect: Effect<SimTypes>, leads_on: Option<Vote>) {
        match effect {
            Effect::Write { id, op } => {
                self.look_at_write(&op, leads_on);
                if let Err(bad) = self.server.store.submit(id, op, None) {
                    self.broken("writes fit the log", "Raft §5.3", bad.0);
                }
            }
            Effect::Send { to, message } => {
                if let Err(broken) = properties::may_ask(&self.server.store, &message) {
                    self.found.broken.get_or_insert(broken);
                }
                if let Message::Heartbeat(request) = &message {
                    self.server.rounds = request.round.0;
                    if request.round.0 > self.bounds.rounds {
                        return;
                    }
                }
                self.say(to, Body::Control(message));
            }
            Effect::Tail(tail) => {
                let targets: Vec<_> = self.server.lines.keys().copied().collect();
                for target in targets {
                    self.stream(target, |_| StreamInput::Tail(tail));
                }
            }
            Effect::OpenStream { stream, target, vote, next, .. } => {
                let Some(last) = self.server.replica.last_log_id() else { return };
                let tail = Tail { last, committed: self.server.replica.committed() };
                let identity = self.server.replica.identity();
                let machine = Stream::new(self.bounds.stream(), identity, vote, next, tail, 0);
                self.server.lines.insert(target, Line { id: stream, stream: machine, calls: VecDeque::new() });
                self.stream(target, |_| StreamInput::Wake);
            }
            Effect::CloseStream { stream } => self.server.lines.retain(|_, line| line.id != stream),
            Effect::Apply { upto } => {
                let committed = self.server.replica.committed().index_or_zero();
                if upto.index > committed || !self.server.store.durable().holds(&upto) {
                    self.broken(
                        "only what is committed and durable is applied",
                        "Raft §5.3",
                        format!("applies {upto}"),
                    );
                }
            }
            Effect::Reply { ticket, reply } => self.reply(ticket, reply),
            Effect::Note(Note::BecameLeader { vote }) => {
                self.found.leads = Some(vote);
                self.found.said.push(Said::remembered(Body::Led(vote)));
            }
            // No log is purged here, so nobody needs a snapshot.
            Effect::Note(_) | Effect::BuildSnapshot { .. } | Effect::InstallSnapshot { .. } => {}
        }
    }

    fn look_at_write(&mut self, op: &Write<SimTypes>, leads_on: Option<Vote>) {
        match op {
            Write::Append(entries) => {
                self.found.log_changed = true;
                let before = self.server.store.readable().membership().map(|(id, _)| id);
                let mut before = before.unwrap_or(log_id(0, 0));
                for entry in entries {
                    if let Payload::Membership(_) = &entry.payload {
                        if leads_on.is_some() {
                            self.found.memberships.push((entry.log_id, before));
                        }
                        before = entry.log_id;
                    }
                }
            }
            Write::Truncate { since } => {
                self.found.log_changed = true;
                if let Some(vote) = leads_on {
                    let what = format!("n{} leads with {vote} and truncates from {since} on", self.server.id);
                    self.broken("leader append-only", "Raft §5.3", what);
                }
                if *since <= self.before.1.index_or_zero() {
                    let what = format!("n{} truncates what it knows to be committed, from {since} on", self.server.id);
                    self.broken("committed entries are immutable", "Raft §5.4", what);
                }
            }
            Write::Vote(_) | Write::Purge { .. } => {}
        }
    }

    fn say(&mut self, to: NodeId, body: Body) {
        let said = Said { from: self.server.id, to, body };
        self.found.beyond |= said.term() > self.bounds.terms;
        self.found.said.push(said);
    }

    fn reply(&mut self, ticket: Ticket, reply: Reply<SimTypes>) {
        if let Err(broken) = properties::may_say(&self.server.store, &reply) {
            self.found.broken.get_or_insert(broken);
        }
        let asked = self.of.and_then(|of| of(ticket.0));
        let asker = asked.as_ref().map_or(0, |asked| asked.from);
        match reply {
            Reply::Vote(response) if !response.granted && !self.bounds.refusals => {}
            Reply::Vote(response) => self.say(asker, Body::Vote(response)),
            Reply::Heartbeat(response) if response.accepted && !self.bounds.reads => {}
            Reply::Heartbeat(response)
                if !(response.accepted || self.bounds.refusals || self.bounds.refused_rounds) => {}
            Reply::Heartbeat(response) => self.say(asker, Body::Heartbeat(response)),
            Reply::Append(response) => {
                if let Some(Said { body: Body::Append(request), .. }) = &asked {
                    self.say(asker, Body::AppendAnswer(Call::of(request), response));
                }
            }
            Reply::Read { read_log_id } => {
                self.server.reading = false;
                let at_call = ticket.0 - TICKET_READ;
                if read_log_id.index < at_call {
                    let what = format!("a read waits for {read_log_id}, but at its call {at_call} was committed");
                    self.broken("reads see what was committed", "Thesis §6.4", what);
                }
            }
            Reply::Refused(_) | Reply::Done { .. } if ticket.0 == TICKET_CHANGE => self.server.changing = false,
            Reply::Refused(_) if ticket.0 != TICKET_OTHER => self.server.reading = false,
            Reply::Refused(_) | Reply::Proposed(_) | Reply::Done { .. } | Reply::Transferring => {}
            Reply::InstallSnapshot(_) => {}
        }
    }

    /// Gives a stream an input, and does all that follows from it but what it reports: that waits in the inbox.
    fn stream(&mut self, target: NodeId, input: impl FnOnce(u64) -> StreamInput<SimTypes>) {
        let Some(line) = self.server.lines.get_mut(&target) else { return };
        let mut inputs = VecDeque::from([input(line.stream.epoch())]);
        let mut said = Vec::new();
        while let Some(input) = inputs.pop_front() {
            let (epoch, mut effects) = (line.stream.epoch(), Vec::new());
            line.stream.step(NOW, input, &mut effects);
            if line.stream.epoch() != epoch {
                line.calls.clear();
            }
            for effect in effects {
                match effect {
                    StreamEffect::Read { epoch, start, end, .. } => {
                        let log = self.server.store.readable();
                        let prev = log.log_id_at(start.saturating_sub(1));
                        let entries = (start..end).map_while(|at| log.get(at)).map(|stored| stored.entry.clone());
                        inputs.push_back(StreamInput::Entries { epoch, prev, entries: entries.collect() });
                    }
                    StreamEffect::Send { request, .. } => {
                        line.calls.push_back(Call::of(&request));
                        said.push(Body::Append(request));
                    }
                    StreamEffect::SendSnapshot { .. } => {}
                    StreamEffect::Report(report) => {
                        self.inbox.push_back(Input::Stream { stream: line.id, report });
                    }
                }
            }
            if inputs.is_empty() && line.stream.deadline().is_some() {
                inputs.push_back(StreamInput::Wake);
            }
        }
        for body in said {
            self.say(target, body);
        }
        if !self.inbox.is_empty() {
            self.work();
        }
    }

    fn finish(mut self) -> Stepped {
        let (was_leading, committed, last, config_index) = self.before;
        let (in_use, in_log) = (self.server.replica.membership().log_id, self.server.store.readable().membership());
        if in_use != in_log.map(|(id, _)| id) {
            let what = format!("n{} uses {in_use:?}, the newest in its log is {in_log:?}", self.server.id);
            self.broken("the newest membership in the log is in force", "Raft §6", what);
        }
        let terms = self.bounds.terms;
        let Self { server, found, .. } = self;
        let Found { mut said, log_changed, leads, memberships, broken, beyond } = found;
        // A server alone in its cluster campaigns without asking anybody.
        let beyond = beyond || server.replica.vote().is_some_and(|vote| vote.term() > terms);
        let mut counted = None;
        let now = server.replica.committed();
        for index in committed.next_index()..now.next_index() {
            if let Some(log_id) = server.store.readable().log_id_at(index) {
                said.push(Said::remembered(Body::Committed(log_id)));
            }
        }
        if now.index_or_zero() > committed.index_or_zero()
            && let (Some(upto), Some(vote)) = (now, leading(&server).or(was_leading))
        {
            counted = Some((upto, vote.term(), config_index));
        }
        let log_changed = log_changed || server.store.readable().last() != last;
        Stepped { server, said, log_changed, leads, counted, memberships, broken, beyond }
    }
}

/// What an answer promises, for [`properties`].
pub(super) fn promised(reply: &Reply<SimTypes>) -> Option<LogId> {
    match reply {
        Reply::Append(response) => match &response.outcome {
            AppendOutcome::Success { matched } => *matched,
            _ => None,
        },
        _ => None,
    }
}

/// Which vote an answer grants.
pub(super) fn granted(reply: &Reply<SimTypes>) -> Option<Vote> {
    match reply {
        Reply::Vote(response) if response.granted && response.kind != VoteKind::PreVote => Some(response.asked),
        _ => None,
    }
}
