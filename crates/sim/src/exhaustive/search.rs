//! The search, breadth first.

use core::fmt;

use raftwright_core::LogIdOption;

use super::air::{Airs, Hashes, Messages, Numbered};
use super::bounds::{Bounds, SERVERS};
use super::message::Said;
use super::properties;
use super::server::{Event, Server, Stepped};
use crate::checkers::Broken;
use crate::core_world::types::{LogId, Vote};

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The bounds' name.
    pub name: &'static str,
    /// Distinct states, of those that are the same but for the names of servers only one.
    pub states: u64,
    /// Distinct states with all their renamed twins.
    pub with_twins: u64,
    /// Steps from one state to another, or to the same.
    pub transitions: u64,
    /// Steps on the longest of the shortest ways to a state.
    pub depth: u64,
    /// Whether no state is left to be looked at: the bounds are covered.
    pub closed: bool,
    /// Distinct states of a single server.
    pub servers: u64,
    /// Distinct messages.
    pub messages: u64,
    /// Distinct sets of messages.
    pub airs: u64,
    /// The first property that was found broken.
    pub violation: Option<Violation>,
}

/// A broken property, with the shortest way to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which property.
    pub broken: Broken,
    /// The steps to it, one a line.
    pub steps: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in self.steps.iter().enumerate() {
            writeln!(f, "{:>4}  {step}", number + 1)?;
        }
        write!(f, "      {}", self.broken)
    }
}

/// Looks at every state within the bounds, or at about so many; stops at the first broken property.
pub fn search(bounds: &Bounds, states_max: u64) -> Report {
    let mut search = Search::new(bounds);
    let violation = search.run(states_max).err();
    let violation = violation.map(|(at, event, broken)| search.explain(at, event, broken));
    Report {
        name: bounds.name,
        states: search.states.len() as u64,
        with_twins: search.with_twins,
        transitions: search.transitions,
        depth: search.depth,
        closed: violation.is_none() && search.next == search.states.len(),
        servers: search.servers.len() as u64,
        messages: search.messages.len() as u64,
        airs: search.airs.len() as u64,
        violation,
    }
}

/// A state: three servers and what is in the air, each by its number.
#[derive(Debug, Clone, Copy)]
struct State {
    servers: [u32; 3],
    air: u32,
    parent: u32,
}

/// A server's state with what the search needs of it again and again.
#[derive(Debug)]
struct Known {
    server: Server,
    hashes: Hashes,
    events: Box<[Event]>,
    takes_messages: bool,
    may_read: bool,
}

/// What an event does to a server's state; the same wherever it happens.
#[derive(Debug)]
struct Outcome {
    server: u32,
    said: Box<[u32]>,
    /// Whether what was said to it before may mean nothing to it any more.
    moves_on: bool,
    judged: Option<Box<Judged>>,
}

/// What has to be judged with the other servers in view.
#[derive(Debug)]
struct Judged {
    log_changed: bool,
    leads: Option<Vote>,
    counted: Option<(LogId, u64, u64)>,
    follows: bool,
    memberships: Vec<(LogId, LogId)>,
    broken: Option<Broken>,
}

/// The outcome of an event that changes nothing, or goes beyond the bounds.
const NOTHING: u32 = u32::MAX;

type Wrong = (usize, Option<(usize, Event)>, Broken);

struct Search<'a> {
    bounds: &'a Bounds,
    symmetries: usize,
    messages: Messages,
    airs: Airs,
    servers: Vec<Known>,
    server_numbers: Numbered<u32>,
    outcomes: Vec<Outcome>,
    outcome_of: Numbered<u32>,
    states: Vec<State>,
    seen: Numbered<()>,
    next: usize,
    depth: u64,
    transitions: u64,
    with_twins: u64,
}

impl<'a> Search<'a> {
    fn new(bounds: &'a Bounds) -> Self {
        let symmetries = bounds.symmetries();
        Self {
            bounds,
            symmetries: symmetries.len(),
            messages: Messages::new(symmetries),
            airs: Airs::default(),
            servers: Vec::new(),
            server_numbers: Numbered::default(),
            outcomes: Vec::new(),
            outcome_of: Numbered::default(),
            states: Vec::new(),
            seen: Numbered::default(),
            next: 0,
            depth: 0,
            transitions: 0,
            with_twins: 0,
        }
    }

    fn run(&mut self, states_max: u64) -> Result<(), Wrong> {
        self.begin()?;
        let mut level_ends = self.states.len();
        while self.next < self.states.len() && (self.states.len() as u64) < states_max {
            if self.next == level_ends {
                self.depth += 1;
                level_ends = self.states.len();
            }
            self.expand(self.next)?;
            self.next += 1;
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<(), Wrong> {
        let mut first = State { servers: [0; 3], air: 0, parent: 0 };
        for (at, id) in SERVERS.into_iter().enumerate() {
            let stepped = Server::first(id, self.bounds)
                .map_err(|what| (0, None, Broken { property: "a server starts", source: "Raft §5.1", what }))?;
            first.servers[at] = self.number(stepped.server);
        }
        self.add(first);
        Ok(())
    }

    /// All steps from a state.
    fn expand(&mut self, at: usize) -> Result<(), Wrong> {
        let State { servers, air, .. } = self.states[at];
        for place in 0..3 {
            let known = &self.servers[servers[place] as usize];
            let (takes, reads) = (known.takes_messages, known.may_read);
            for number in 0..known.events.len() {
                let event = self.servers[servers[place] as usize].events[number];
                self.step(at, place, event)?;
            }
            if reads {
                let committed = self.airs.get(air).committed.index_or_zero() as u8;
                self.step(at, place, Event::Read(committed))?;
            }
            if takes {
                for nth in 0..self.airs.get(air).numbers.len() {
                    let message = self.airs.get(air).numbers[nth];
                    if self.messages.get(message).to == SERVERS[place] {
                        self.step(at, place, Event::Deliver(message))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn step(&mut self, at: usize, place: usize, event: Event) -> Result<(), Wrong> {
        let state = self.states[at];
        let outcome = self.outcome(state.servers[place], event);
        self.transitions += 1;
        if outcome == NOTHING {
            return Ok(());
        }
        let wrong = |broken| (at, Some((place, event)), broken);
        let outcome = &self.outcomes[outcome as usize];
        let mut next = State { parent: at as u32, ..state };
        next.servers[place] = outcome.server;
        let all = next.servers.map(|number| &self.servers[number as usize].server);
        let old = &all[place];
        let dead = |said: &Said| {
            let to = SERVERS.iter().position(|id| *id == said.to);
            to.is_some_and(|to| all[to].is_past(said, self.bounds))
        };
        let forget = if outcome.moves_on { Some(old.id) } else { None };
        let (air, committed) = self.airs.with(state.air, &outcome.said, forget, dead, &self.messages).map_err(wrong)?;
        next.air = air;
        if let Some(judged) = &outcome.judged {
            let before = self.airs.get(state.air).committed;
            self.judge(judged, all, place, before, committed).map_err(wrong)?;
        }
        self.add(next);
        Ok(())
    }

    /// Everything that must be true with all servers in view.
    fn judge(
        &self,
        judged: &Judged,
        all: [&Server; 3],
        place: usize,
        last: Option<LogId>,
        last_after: Option<LogId>,
    ) -> Result<(), Broken> {
        let one = all[place];
        if let Some(broken) = &judged.broken {
            return Err(broken.clone());
        }
        if judged.log_changed {
            all.iter().try_for_each(|other| properties::logs_match(one, other))?;
        }
        if let Some(vote) = judged.leads {
            properties::may_lead(one, vote, all, last)?;
        }
        if let Some(counted) = judged.counted {
            properties::may_commit(one, counted, all, last.index_or_zero())?;
        }
        if judged.follows {
            properties::may_follow(one, last.index_or_zero())?;
        }
        judged.memberships.iter().try_for_each(|(new, before)| properties::may_change(*new, *before, last_after))
    }

    /// What an event does to a server: computed once.
    fn outcome(&mut self, server: u32, event: Event) -> u32 {
        let key = u64::from(server) << 32 | u64::from(code(event));
        if let Some(known) = self.outcome_of.get(&key) {
            return *known;
        }
        let stepped = self.take_step(server, event);
        let outcome = self.number_outcome(server, stepped);
        self.outcome_of.insert(key, outcome);
        outcome
    }

    fn take_step(&self, server: u32, event: Event) -> Stepped {
        let messages = &self.messages;
        let of = |ticket| messages.by_ticket(ticket);
        let said = if let Event::Deliver(number) = event { Some(messages.get(number)) } else { None };
        self.servers[server as usize].server.step(event, said, self.bounds, &of)
    }

    fn number_outcome(&mut self, before: u32, stepped: Stepped) -> u32 {
        let Stepped { server, said, log_changed, leads, counted, memberships, broken, beyond } = stepped;
        if beyond {
            return NOTHING;
        }
        let committed = self.servers[before as usize].server.replica.committed().index_or_zero();
        let follows = counted.is_none() && server.replica.committed().index_or_zero() > committed;
        let mut said: Vec<u32> = said.into_iter().map(|said| self.messages.number(said)).collect();
        said.sort_unstable();
        said.dedup();
        let server = self.number(server);
        if server == before && said.is_empty() && broken.is_none() {
            return NOTHING;
        }
        let dull = !log_changed && leads.is_none() && counted.is_none() && !follows && broken.is_none();
        let judged = Judged { log_changed, leads, counted, follows, memberships, broken };
        let judged = if dull { None } else { Some(Box::new(judged)) };
        let moves_on = self.servers[before as usize].server.place_in_time()
            != self.servers[server as usize].server.place_in_time();
        self.outcomes.push(Outcome { server, moves_on, said: said.into_boxed_slice(), judged });
        (self.outcomes.len() - 1) as u32
    }

    /// The number of a server's state.
    fn number(&mut self, server: Server) -> u32 {
        let hashes = self.messages.hashes_of(|words| server.canonical(words));
        if let Some(known) = self.server_numbers.get(&hashes[0]) {
            return *known;
        }
        let number = self.servers.len() as u32;
        self.server_numbers.insert(hashes[0], number);
        let events = server.events(self.bounds).into_boxed_slice();
        let (takes_messages, may_read) = (server.takes_messages(self.bounds), server.may_read(self.bounds));
        self.servers.push(Known { server, hashes, events, takes_messages, may_read });
        number
    }

    /// Adds a state, unless it or a renamed twin of it is known.
    fn add(&mut self, state: State) {
        let air = &self.airs.get(state.air).sums;
        let [a, b, c] = state.servers.map(|number| &self.servers[number as usize].hashes);
        let mut keys = [u64::MAX; 6];
        for at in 0..self.symmetries {
            let servers = a[at].wrapping_add(b[at]).wrapping_add(c[at]);
            keys[at] = mix(servers) ^ mix(air[at] ^ 0x5851_f42d_4c95_7f2d);
        }
        let keys = &mut keys[..self.symmetries];
        keys.sort_unstable();
        if self.seen.insert(keys[0], ()).is_some() {
            return;
        }
        self.with_twins += 1 + keys.windows(2).filter(|pair| pair[0] != pair[1]).count() as u64;
        self.states.push(state);
    }

    /// The way from the start to a state and on.
    fn explain(&self, at: usize, event: Option<(usize, Event)>, broken: Broken) -> Violation {
        let mut way = vec![at];
        while let Some(first) = way.last().copied()
            && first != 0
        {
            way.push(self.states[first].parent as usize);
        }
        way.reverse();
        let mut steps: Vec<String> = way.windows(2).map(|pair| self.between(pair[0], pair[1])).collect();
        if let Some((place, event)) = event {
            steps.push(self.describe(place, event, &self.states[at]));
        }
        Violation { broken, steps }
    }

    /// What happened between a state and one of its successors: every successor was found by one event at one server.
    fn between(&self, from: usize, to: usize) -> String {
        let (from, to) = (&self.states[from], &self.states[to]);
        let to_air = to.air;
        let place = (0..3).find(|place| from.servers[*place] != to.servers[*place]);
        let events = |place: usize| {
            let known = &self.servers[from.servers[place] as usize];
            let delivered = self.airs.get(from.air).numbers.iter().map(|number| Event::Deliver(*number));
            let committed = self.airs.get(from.air).committed.index_or_zero() as u8;
            known.events.iter().copied().chain([Event::Read(committed)]).chain(delivered)
        };
        for place in place.map_or(0..3, |place| place..place + 1) {
            for event in events(place) {
                let key = u64::from(from.servers[place]) << 32 | u64::from(code(event));
                let Some(outcome) = self.outcome_of.get(&key).filter(|outcome| **outcome != NOTHING) else { continue };
                let outcome = &self.outcomes[*outcome as usize];
                let was = |number: &u32| self.airs.get(from.air).numbers.binary_search(number).is_ok();
                let said =
                    self.airs.get(to.air).numbers.iter().all(|number| was(number) || outcome.said.contains(number));
                let all = to.servers.map(|number| &self.servers[number as usize].server);
                let stays = |number: &u32| {
                    let said = self.messages.get(*number);
                    let to = SERVERS.iter().position(|id| *id == said.to);
                    to.is_some_and(|to| all[to].is_past(said, self.bounds))
                        || self.airs.get(to_air).numbers.binary_search(number).is_ok()
                };
                if outcome.server == to.servers[place] && said && outcome.said.iter().all(stays) {
                    return self.describe(place, event, from);
                }
            }
        }
        "(unknown)".to_owned()
    }

    fn describe(&self, place: usize, event: Event, state: &State) -> String {
        let id = SERVERS[place];
        let server = &self.servers[state.servers[place] as usize].server;
        let role = server.replica.server_state();
        let what = match event {
            Event::Deliver(number) => {
                let said = self.messages.get(number);
                format!("receives from n{}: {said}", said.from)
            }
            Event::Disk => "its disk finishes a write".to_owned(),
            Event::Crash(kept) => format!("crashes with {kept} unfinished writes kept, and restarts"),
            Event::Wake => "its deadline comes".to_owned(),
            Event::Elect => "campaigns".to_owned(),
            Event::Beat => "sends a heartbeat".to_owned(),
            Event::Propose => "takes a command".to_owned(),
            Event::Read(committed) => format!("takes a read; committed is {committed}"),
            Event::Change(number) => {
                let voters = self.bounds.changes.get(usize::from(number));
                format!("is asked for the voters {:?}", voters.cloned().unwrap_or_default())
            }
            Event::Break(target) => format!("its connection to n{target} breaks"),
            Event::Transfer(to) => format!("is asked to hand over to n{to}"),
        };
        format!("n{id} ({role}) {what}")
    }
}

/// An event as a number.
fn code(event: Event) -> u32 {
    let (kind, number) = match event {
        Event::Deliver(number) => return number,
        Event::Disk => (1, 0),
        Event::Crash(kept) => (2, kept),
        Event::Wake => (3, 0),
        Event::Elect => (4, 0),
        Event::Beat => (5, 0),
        Event::Propose => (6, 0),
        Event::Read(committed) => (7, committed),
        Event::Change(number) => (8, number),
        Event::Break(target) => (9, target),
        Event::Transfer(to) => (10, to),
    };
    1 << 31 | kind << 8 | u32::from(number)
}

fn mix(word: u64) -> u64 {
    let z = (word ^ (word >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let z = (z ^ (z >> 29)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    z ^ (z >> 32)
}
