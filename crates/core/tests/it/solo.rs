//! One server, and a test that plays everybody else.

use std::collections::BTreeMap;

use raftwright_core::invariants::{self, Facts};
use raftwright_core::{
    AppendEntriesRequest, AppendOutcome, Effect, Effects, HeartbeatRequest, HeartbeatResponse, Identity, Input,
    LogIdOf, Membership, Message, RaftEntry, Replica, ReplicaConfig, Reply, Report, Restored, Round, Span,
    StoredMembership, StreamId, Ticket, Time, Types, VoteKind, VoteOf, VoteRequest, VoteResponse, Write, WriteId,
};

use crate::disk::{Image, first_log_id};
use crate::types::{Item, Kind, Member, Payload, Standard, items, led, vote};

/// A server among others that do not exist.
pub(crate) struct Solo<T: Kind = Standard> {
    pub(crate) replica: Replica<T>,
    pub(crate) now: Time,
    /// Whether writes are complete as soon as they are submitted.
    pub(crate) prompt: bool,
    /// Everything that it ever did, in order.
    pub(crate) done: Vec<Effect<T>>,
    /// Writes that are not complete.
    pub(crate) pending: Vec<WriteId>,
    /// What its log can be read to be.
    pub(crate) log: Vec<LogIdOf<T>>,
    effects: Effects<T>,
    last_ticket: u64,
    open_tickets: BTreeMap<Ticket, ()>,
}

/// What a [`Solo`] starts with.
pub(crate) struct Start<T: Types> {
    pub(crate) id: u64,
    pub(crate) voters: u64,
    pub(crate) terms: Vec<u64>,
    pub(crate) vote: Option<VoteOf<T>>,
    pub(crate) committed: usize,
    pub(crate) config: ReplicaConfig,
}

impl<T: Types> Default for Start<T> {
    fn default() -> Self {
        let config = ReplicaConfig { pre_vote: false, ..ReplicaConfig::default() };
        Self { id: 1, voters: 3, terms: Vec::new(), vote: None, committed: 0, config }
    }
}

/// The identity of a server whose store has no incarnation.
pub(crate) fn identity(id: u64) -> Identity<u64> {
    Identity { id, incarnation: None }
}

impl<T: Kind> Solo<T> {
    /// Server 1 of three, initialized, with entries of these terms behind the first one.
    pub(crate) fn with_log(terms: &[u64]) -> Self {
        let last = terms.last().copied();
        Self::start(Start { terms: terms.to_vec(), vote: last.map(|term| vote::<T>(term, 9)), ..Start::default() })
    }

    pub(crate) fn start(start: Start<T>) -> Self {
        let nodes = (1..=start.voters).map(|id| (id, Member { address: id, incarnation: None })).collect();
        let membership = Membership::new(vec![(1..=start.voters).collect()], nodes).unwrap();
        let mut log = vec![Item { log_id: first_log_id::<T>(), payload: Payload::Membership(membership) }];
        log.extend(items(&start.terms));
        let applied = start.committed.checked_sub(1).map(|at| log[at].log_id);
        let image = Image { vote: start.vote, purged: None, log };
        let restored = image.restored(applied, &StoredMembership::default(), None);
        let mut solo = Self::restore(start.id, start.config, restored);
        solo.log = image.log.iter().map(|item| item.log_id).collect();
        solo
    }

    /// A server with this on its disk, the shortest election timeout after its start: it may give votes.
    pub(crate) fn restore(id: u64, config: ReplicaConfig, restored: Restored<T>) -> Self {
        let replica = Replica::new(config, identity(id), restored, Time::ZERO, 1).unwrap();
        let mut solo = Self {
            replica,
            now: Time::ZERO,
            prompt: true,
            done: Vec::new(),
            pending: Vec::new(),
            log: Vec::new(),
            effects: Effects::new(),
            last_ticket: 0,
            open_tickets: BTreeMap::new(),
        };
        solo.step(Input::Wake);
        solo.now += Span::from_millis(150);
        solo
    }

    /// Takes an input; with a prompt disk, also what follows from its writes. Returns where in `done` it begins.
    pub(crate) fn step(&mut self, input: Input<T>) -> usize {
        let begin = self.done.len();
        self.step_once(input);
        while self.prompt && !self.pending.is_empty() {
            let write = self.pending.remove(0);
            self.step_once(Input::LogDone { write });
        }
        begin
    }

    fn step_once(&mut self, input: Input<T>) {
        self.step_only(input);
        self.look();
    }

    /// Takes several inputs together: their effects come after the last.
    pub(crate) fn step_together(&mut self, inputs: impl IntoIterator<Item = Input<T>>) {
        for input in inputs {
            self.step_only(input);
        }
        self.look();
    }

    fn step_only(&mut self, input: Input<T>) {
        let before = Facts::of(&self.replica);
        self.replica.step(self.now, input, &mut self.effects);
        invariants::check(&self.replica).unwrap();
        invariants::check_delta(&before, &Facts::of(&self.replica)).unwrap();
    }

    /// Takes notice of what is to be done.
    fn look(&mut self) {
        for effect in self.effects.drain() {
            match &effect {
                Effect::Write { id, op } => {
                    self.pending.push(*id);
                    match op {
                        Write::Append(entries) => self.log.extend(entries.iter().map(RaftEntry::log_id)),
                        Write::Truncate { since } => self.log.retain(|id| id.index < *since),
                        Write::Purge { upto } if !self.log.contains(upto) => self.log.clear(),
                        Write::Vote(_) | Write::Purge { .. } => {}
                    }
                }
                Effect::Reply { ticket, .. } => {
                    assert!(self.open_tickets.remove(ticket).is_some(), "{ticket} is answered once");
                }
                Effect::Send { .. }
                | Effect::Tail(_)
                | Effect::OpenStream { .. }
                | Effect::CloseStream { .. }
                | Effect::Apply { .. }
                | Effect::BuildSnapshot { .. }
                | Effect::InstallSnapshot { .. }
                | Effect::Note(_) => {}
            }
            self.done.push(effect);
        }
    }

    /// The disk completes the oldest write.
    pub(crate) fn complete_one(&mut self) -> usize {
        let write = self.pending.remove(0);
        let begin = self.done.len();
        self.step_once(Input::LogDone { write });
        begin
    }

    /// The disk completes everything.
    pub(crate) fn complete_all(&mut self) {
        while !self.pending.is_empty() {
            self.complete_one();
        }
    }

    /// Time passes, and nothing else.
    pub(crate) fn pass(&mut self, millis: u64) {
        self.now += Span::from_millis(millis);
    }

    /// The deadline comes.
    pub(crate) fn wake(&mut self) -> usize {
        if let Some(at) = self.replica.deadline() {
            self.now = self.now.max(at);
        }
        self.step(Input::Wake)
    }

    pub(crate) fn ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.open_tickets.insert(ticket, ());
        ticket
    }

    /// Steps an input with a ticket; its reply, if it has come.
    pub(crate) fn call(&mut self, input: impl FnOnce(Ticket) -> Input<T>) -> Option<Reply<T>> {
        let ticket = self.ticket();
        let begin = self.step(input(ticket));
        self.done[begin..].iter().find_map(|effect| match effect {
            Effect::Reply { ticket: of, reply } if *of == ticket => Some(reply.clone()),
            _ => None,
        })
    }

    /// How many tickets wait.
    pub(crate) fn unanswered(&self) -> usize {
        self.open_tickets.len()
    }

    // ---- what others ask ----

    pub(crate) fn ask_vote(&mut self, from: u64, term: u64, last: Option<LogIdOf<T>>) -> Option<VoteResponse<T>> {
        let request = VoteRequest {
            from: identity(from),
            vote: vote::<T>(term, from),
            last_log_id: last,
            kind: VoteKind::Vote,
            permit: None,
        };
        match self.call(|ticket| Input::VoteRequest { ticket, request })? {
            Reply::Vote(response) => Some(response),
            other => panic!("a vote request is answered {other:?}"),
        }
    }

    pub(crate) fn heartbeat(
        &mut self,
        from: u64,
        term: u64,
        committed: Option<LogIdOf<T>>,
    ) -> Option<HeartbeatResponse<T>> {
        let request = HeartbeatRequest { from: identity(from), vote: led::<T>(term, from), round: Round(1), committed };
        match self.call(|ticket| Input::Heartbeat { ticket, request })? {
            Reply::Heartbeat(response) => Some(response),
            other => panic!("a heartbeat is answered {other:?}"),
        }
    }

    pub(crate) fn append(
        &mut self,
        from: u64,
        term: u64,
        prev: Option<LogIdOf<T>>,
        entries: &[LogIdOf<T>],
        committed: Option<LogIdOf<T>>,
    ) -> Option<AppendOutcome<T>> {
        let entries = entries.iter().map(|id| Item::at(*id, &id.to_string())).collect();
        self.append_items(from, term, prev, entries, committed)
    }

    pub(crate) fn append_items(
        &mut self,
        from: u64,
        term: u64,
        prev_log_id: Option<LogIdOf<T>>,
        entries: Vec<Item<T>>,
        committed: Option<LogIdOf<T>>,
    ) -> Option<AppendOutcome<T>> {
        let vote = led::<T>(term, from);
        let request = AppendEntriesRequest { from: identity(from), vote, prev_log_id, entries, committed };
        match self.call(|ticket| Input::AppendEntries { ticket, request })? {
            Reply::Append(response) => Some(response.outcome),
            other => panic!("entries are answered {other:?}"),
        }
    }

    // ---- what others answer ----

    /// Its present candidacy is granted by these.
    pub(crate) fn grant(&mut self, voters: &[u64]) {
        let asked = *self.replica.vote().unwrap();
        for voter in voters {
            let from = identity(*voter);
            let response = VoteResponse { from, kind: VoteKind::Vote, asked, granted: true, vote: Some(asked) };
            self.step(Input::VoteResponse(response));
        }
    }

    /// It campaigns and wins.
    pub(crate) fn lead(&mut self) {
        self.step(Input::Elect);
        self.grant(&[2, 3]);
        assert!(self.replica.is_leader(), "elected by 2 and 3");
    }

    /// A follower has stored its log up to here.
    pub(crate) fn matched(&mut self, from: u64, matched: LogIdOf<T>) -> usize {
        let stream = self.stream_to(from);
        self.step(Input::Stream { stream, report: Report::Matched { from: identity(from), matched } })
    }

    /// The stream that was opened to a server last.
    pub(crate) fn stream_to(&self, id: u64) -> StreamId {
        let opened = self.done.iter().rev().find_map(|effect| match effect {
            Effect::OpenStream { stream, target, .. } if *target == id => Some(*stream),
            _ => None,
        });
        opened.unwrap_or_else(|| panic!("no stream to {id}"))
    }

    /// The messages sent since.
    pub(crate) fn sent_since(&self, begin: usize) -> Vec<(u64, Message<T>)> {
        let sent = self.done[begin..].iter().filter_map(|effect| match effect {
            Effect::Send { to, message } => Some((*to, message.clone())),
            _ => None,
        });
        sent.collect()
    }

    /// How far entries were handed out to be applied, since.
    pub(crate) fn applied_since(&self, begin: usize) -> Vec<LogIdOf<T>> {
        let applied = self.done[begin..].iter().filter_map(|effect| match effect {
            Effect::Apply { upto } => Some(*upto),
            _ => None,
        });
        applied.collect()
    }

    /// The present term.
    pub(crate) fn term(&self) -> u64 {
        self.replica.vote().map_or(0, VoteOf::<T>::term)
    }
}
