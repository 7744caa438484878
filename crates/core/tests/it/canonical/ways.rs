//! Who has the same words goes the same ways: a small search, in which every state that is reached a second time, by another
//! way, is given everything that can happen, and must do and become what the first did.

use std::collections::{BTreeMap, VecDeque};

use raftwright_core::{
    AppendEntriesRequest, AppendEntriesResponse, AppendOutcome, ChangeConditions, ChangeMembers, Effect, Effects,
    HeartbeatRequest, HeartbeatResponse, Input, InstallOutcome, InstallSnapshotRequest, InstallSnapshotResponse,
    LogIdOf, PeerRefusal, RaftEntry, ReadPolicy, Replica, ReplicaConfig, Report, Restored, Round, SnapshotPolicy, Span,
    StoredMembership, Stream, StreamConfig, StreamEffect, StreamId, StreamInput, Tail, Ticket, Time,
    TransferLeaderRequest, VoteKind, VoteOf, VoteRequest, VoteResponse, WriteId,
};

use super::{Words, first, id, membership, words};
use crate::disk::first_log_id;
use crate::say;
use crate::solo::identity;
use crate::types::{Item, Member, Standard, led, vote};

/// What was done, without the names of writes and streams; in no order, and the same twice is the same.
type Done = std::collections::BTreeSet<String>;

/// A machine with the little of a shell that it needs, which follows from its words.
trait Machine: Clone {
    fn words(&self) -> Words;
    /// Everything that can happen to it, and what it then does; with a number each, the same for the same event.
    fn ways(&self) -> Vec<(usize, Self, Done)>;
    /// Whether the search goes on behind it.
    fn is_within(&self) -> bool;
}

/// What a state becomes on every way.
type Ways = Vec<(usize, Words, Done)>;

fn ways_of<M: Machine>(machine: &M) -> Vec<(M, (usize, Words, Done))> {
    let named = |(way, next, done): (usize, M, Done)| {
        let words = next.words();
        (next, (way, words, done))
    };
    machine.ways().into_iter().map(named).collect()
}

/// Twins of a state that are compared with it.
const TWINS_MAX: usize = 5;

/// Searches so many states. Returns how many twins were compared.
fn search<M: Machine>(starts: Vec<M>, states_max: usize) -> usize {
    let mut known: BTreeMap<Words, Option<Ways>> = BTreeMap::new();
    let mut reached: BTreeMap<Words, usize> = BTreeMap::new();
    let mut queue: VecDeque<(Words, M)> = starts.into_iter().map(|machine| (machine.words(), machine)).collect();
    let (mut states, mut twins) = (0, 0);
    while let Some((words, machine)) = queue.pop_front() {
        let known = known.entry(words).or_default();
        if let Some(ways) = known {
            twins += 1;
            for ((_, next), way) in ways_of(&machine).into_iter().zip(ways) {
                assert_eq!(next, *way, "where two states are taken for one");
            }
            continue;
        }
        if states == states_max {
            break;
        }
        states += 1;
        let ways = ways_of(&machine);
        *known = Some(ways.iter().map(|(_, way)| way.clone()).collect());
        for (next, (_, words, _)) in ways {
            let times = reached.entry(words.clone()).or_default();
            *times += 1;
            if *times <= TWINS_MAX && next.is_within() {
                queue.push_back((words, next));
            }
        }
    }
    assert!(states * 2 > states_max, "{states} states: something stands in the way");
    twins
}

// ---- a replica ----

/// Server 1 of three, whose peers say what they like.
#[derive(Clone)]
struct Server {
    replica: Replica<Standard>,
    now: Time,
    pending: Vec<WriteId>,
    streams: BTreeMap<u64, StreamId>,
    building: Option<LogIdOf<Standard>>,
}

/// Whoever asks the same has the same ticket.
const VOTE: Ticket = Ticket(1);
const HEARTBEAT: Ticket = Ticket(2);
const APPEND: Ticket = Ticket(3);
const INSTALL: Ticket = Ticket(4);
const READ: Ticket = Ticket(5);
const CHANGE: Ticket = Ticket(6);
const TRANSFER: Ticket = Ticket(7);
const PROPOSE: Ticket = Ticket(8);
const CANCEL: Ticket = Ticket(9);

type Event = fn(&Server) -> Option<Input<Standard>>;

impl Server {
    fn new(config: ReplicaConfig) -> Self {
        let voters = StoredMembership { log_id: first(), membership: membership(&[&[1, 2, 3]], &[]) };
        let restored = Restored {
            key_log_ids: first().into_iter().collect(),
            last_log_id: first(),
            memberships: vec![voters],
            ..Restored::default()
        };
        let replica = Replica::new(config, identity(1), restored, Time::ZERO, 1).unwrap();
        Self { replica, now: Time::ZERO, pending: Vec::new(), streams: BTreeMap::new(), building: None }
    }

    fn last(&self) -> LogIdOf<Standard> {
        self.replica.last_log_id().unwrap()
    }

    fn vote(&self) -> Option<VoteOf<Standard>> {
        self.replica.vote().copied()
    }

    fn report(&self, from: u64, report: Report<Standard>) -> Option<Input<Standard>> {
        Some(Input::Stream { stream: *self.streams.get(&from)?, report })
    }

    fn matched(&self, from: u64, matched: LogIdOf<Standard>) -> Option<Input<Standard>> {
        self.report(from, Report::Matched { from: identity(from), matched })
    }

    fn granted(&self, from: u64, kind: VoteKind, asked: VoteOf<Standard>) -> Option<Input<Standard>> {
        let response = VoteResponse { from: identity(from), kind, asked, granted: true, vote: Some(asked) };
        Some(Input::VoteResponse(response))
    }

    fn answered(&self, from: u64, round: u64) -> Option<Input<Standard>> {
        let asked = self.vote()?;
        let response =
            HeartbeatResponse { from: identity(from), round: Round(round), asked, accepted: true, vote: None };
        Some(Input::HeartbeatResponse(response))
    }

    fn change(change: ChangeMembers<Standard>) -> Option<Input<Standard>> {
        Some(Input::ChangeMembers { ticket: CHANGE, change, conditions: ChangeConditions::default() })
    }

    fn done(&self, effects: &mut Effects<Standard>, after: &mut Self) -> Done {
        let mut done = Done::new();
        for effect in effects.drain() {
            match &effect {
                Effect::Write { id, .. } => after.pending.push(*id),
                Effect::OpenStream { stream, target, .. } => {
                    after.streams.insert(*target, *stream);
                }
                Effect::CloseStream { stream } => after.streams.retain(|_, open| open != stream),
                Effect::BuildSnapshot { at } => after.building = Some(*at),
                Effect::Send { .. }
                | Effect::Tail(_)
                | Effect::Apply { .. }
                | Effect::InstallSnapshot { .. }
                | Effect::Reply { .. }
                | Effect::Note(_) => {}
            }
            done.insert(match &effect {
                Effect::Write { op, .. } => format!("{op:?}"),
                Effect::OpenStream { target, next, .. } => format!("opens a stream to {target} from {next}"),
                Effect::CloseStream { stream } => {
                    let target = self.streams.iter().find(|(_, open)| *open == stream).map(|(target, _)| *target);
                    format!("closes the stream to {target:?}")
                }
                Effect::Note(note) => say::note(note),
                Effect::Send { .. }
                | Effect::Tail(_)
                | Effect::Apply { .. }
                | Effect::BuildSnapshot { .. }
                | Effect::InstallSnapshot { .. }
                | Effect::Reply { .. } => format!("{effect:?}"),
            });
        }
        done
    }
}

fn asks(from: u64, term: u64, kind: VoteKind) -> Option<Input<Standard>> {
    let (vote, permit) = (vote::<Standard>(term, from), Some(led::<Standard>(term - 1, 2)));
    let request = VoteRequest { from: identity(from), vote, last_log_id: Some(id(1, 2)), kind, permit };
    Some(Input::VoteRequest { ticket: VOTE, request })
}

fn beats(from: u64, term: u64, committed: Option<LogIdOf<Standard>>) -> Option<Input<Standard>> {
    let request =
        HeartbeatRequest { from: identity(from), vote: led::<Standard>(term, from), round: Round(1), committed };
    Some(Input::Heartbeat { ticket: HEARTBEAT, request })
}

fn sends(from: u64, term: u64, prev: LogIdOf<Standard>, entries: &[u64], committed: bool) -> Option<Input<Standard>> {
    let entries: Vec<_> =
        entries.iter().zip(prev.index + 1..).map(|(term, index)| Item::at(id(*term, index), "x")).collect();
    let committed = entries.last().map(RaftEntry::log_id).filter(|_| committed);
    let vote = led::<Standard>(term, from);
    let request = AppendEntriesRequest { from: identity(from), vote, prev_log_id: Some(prev), entries, committed };
    Some(Input::AppendEntries { ticket: APPEND, request })
}

fn installs(from: u64, term: u64, last_log_id: LogIdOf<Standard>) -> Option<Input<Standard>> {
    let last_membership = StoredMembership { log_id: first(), membership: membership(&[&[1, 2, 3]], &[4]) };
    let vote = led::<Standard>(term, from);
    let request = InstallSnapshotRequest { from: identity(from), vote, last_log_id, last_membership };
    Some(Input::InstallSnapshot { ticket: INSTALL, request })
}

const EVENTS: &[Event] = &[
    |_| Some(Input::Wake),
    |_| Some(Input::Elect),
    |_| Some(Input::Beat),
    |server| server.pending.first().map(|write| Input::LogDone { write: *write }),
    |server| server.pending.last().map(|write| Input::LogDone { write: *write }),
    |_| asks(2, 1, VoteKind::Vote),
    |_| asks(3, 2, VoteKind::Transfer),
    |_| asks(3, 2, VoteKind::PreVote),
    |server| server.granted(2, VoteKind::Vote, server.vote()?),
    |server| server.granted(2, VoteKind::PreVote, vote::<Standard>(server.vote().map_or(0, |v| v.term()) + 1, 1)),
    |_| beats(2, 1, first()),
    |_| beats(3, 2, Some(id(1, 2))),
    |_| sends(2, 1, first_log_id::<Standard>(), &[1], true),
    |_| sends(2, 1, id(1, 2), &[1], false),
    |_| sends(3, 2, first_log_id::<Standard>(), &[2], false),
    |_| installs(2, 1, id(1, 3)),
    |_| Some(Input::SnapshotInstalled { ticket: INSTALL }),
    |_| {
        let (vote, last_log_id) = (led::<Standard>(1, 2), Some(id(1, 2)));
        let request = TransferLeaderRequest { from: identity(2), vote, to: 1, last_log_id };
        Some(Input::TransferRequest { request })
    },
    |server| server.answered(2, 1),
    |server| server.answered(3, 2),
    |server| server.matched(2, server.last()),
    |server| server.matched(4, server.last()),
    |server| server.report(2, Report::NeedsSnapshot),
    |server| server.report(3, Report::HigherVote { from: identity(3), vote: vote::<Standard>(2, 3) }),
    |_| Some(Input::Propose { ticket: PROPOSE, entry: Item::data("x") }),
    |_| Some(Input::Read { ticket: READ, policy: ReadPolicy::ReadIndex }),
    |_| Some(Input::Forget { ticket: READ }),
    |_| Some(Input::TransferLeader { ticket: TRANSFER, to: 2 }),
    |_| Server::change(ChangeMembers::SetNodes([(4, Member::default())].into())),
    |_| Server::change(ChangeMembers::Promote([4].into())),
    |_| Server::change(ChangeMembers::RemoveVoters { voters: [3].into(), retain: true }),
    |_| Server::change(ChangeMembers::RemoveNodes([4].into())),
    |_| Some(Input::CancelChange { ticket: CANCEL }),
    |_| Some(Input::BuildSnapshot),
    |server| server.building.map(|last_log_id| Input::SnapshotBuilt { last_log_id }),
    |server| server.building.map(|_| Input::SnapshotFailed),
    |_| Some(Input::Purge { upto: 2 }),
];

impl Machine for Server {
    fn words(&self) -> Words {
        words(|words| self.replica.canonical(words))
    }

    fn ways(&self) -> Vec<(usize, Self, Done)> {
        let mut ways = Vec::new();
        for (way, event) in EVENTS.iter().enumerate() {
            let Some(input) = event(self) else { continue };
            let mut after = self.clone();
            after.now += Span::from_nanos(1);
            match &input {
                Input::LogDone { write } => after.pending.retain(|pending| pending != write),
                Input::SnapshotBuilt { .. } | Input::SnapshotFailed => after.building = None,
                _ => {}
            }
            let mut effects = Effects::new();
            after.replica.step(after.now, input, &mut effects);
            let done = self.done(&mut effects, &mut after);
            ways.push((way, after, done));
        }
        ways
    }

    fn is_within(&self) -> bool {
        self.last().index <= 4 && self.vote().is_none_or(|vote| vote.term() <= 3) && self.pending.len() <= 3
    }
}

/// As the words demand: no spans, no snapshots by themselves.
fn config(pre_vote: bool) -> ReplicaConfig {
    ReplicaConfig {
        heartbeat_interval: Span::ZERO,
        election_timeout_min: Span::ZERO,
        election_timeout_max: Span::ZERO,
        clock_drift_max: None,
        snapshot_policy: SnapshotPolicy::Never,
        log_keep: 0,
        pre_vote,
        ..ReplicaConfig::default()
    }
}

#[test]
fn replicas_with_the_same_words_go_the_same_ways() {
    assert!(search(vec![Server::new(config(false))], 3000) > 1000);
    assert!(search(vec![Server::new(config(true))], 1000) > 300);
}

// ---- a stream ----

/// The stream of a leader of term 2 to one target.
#[derive(Clone)]
struct Line {
    stream: Stream<Standard>,
    now: Time,
    /// The last entries of the requests on their way.
    sent: VecDeque<Option<LogIdOf<Standard>>>,
}

/// The leader's log: what was purged, and what is there.
const PURGED: u64 = 2;
const LAST: u64 = 6;

fn at(index: u64) -> LogIdOf<Standard> {
    id(if index <= 3 { 1 } else { 2 }, index)
}

impl Line {
    fn new(next: u64) -> Self {
        let config = StreamConfig {
            inflight_requests_max: 2,
            retry_min: Span::ZERO,
            retry_max: Span::ZERO,
            ..StreamConfig::default()
        };
        let tail = Tail { last: at(LAST - 1), committed: None };
        let stream = Stream::new(config, identity(1), led::<Standard>(2, 1), next, tail, 1);
        Self { stream, now: Time::ZERO, sent: VecDeque::new() }
    }

    fn answer(&self, outcome: AppendOutcome<Standard>) -> Option<StreamInput<Standard>> {
        let response = AppendEntriesResponse { from: identity(2), outcome };
        Some(StreamInput::Answer { epoch: self.stream.epoch(), response })
    }

    fn installed(&self, outcome: InstallOutcome<Standard>) -> Option<StreamInput<Standard>> {
        let (epoch, last_log_id) = (self.stream.epoch(), at(4));
        Some(StreamInput::SnapshotSent {
            epoch,
            last_log_id,
            response: InstallSnapshotResponse { from: identity(2), outcome },
        })
    }

    fn step(&mut self, input: StreamInput<Standard>, done: &mut Done) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let (epoch, mut effects) = (self.stream.epoch(), Vec::new());
            self.stream.step(self.now, input, &mut effects);
            if self.stream.epoch() != epoch {
                self.sent.clear();
            }
            for effect in effects {
                match effect {
                    StreamEffect::Read { epoch, start, end, .. } if start <= PURGED && end >= start => {
                        inputs.push_back(StreamInput::Purged { epoch, purged: at(PURGED) });
                    }
                    StreamEffect::Read { epoch, start, end, .. } => {
                        let prev = Some(at(start - 1));
                        let entries = (start..end.min(start + 1)).map(|index| Item::at(at(index), "x")).collect();
                        inputs.push_back(StreamInput::Entries { epoch, prev, entries });
                    }
                    StreamEffect::Send { request, .. } => {
                        let last = request.entries.last().map(RaftEntry::log_id).or(request.prev_log_id);
                        self.sent.push_back(last);
                        done.insert(say::append(&request));
                    }
                    StreamEffect::SendSnapshot { .. } => {
                        done.insert("sends a snapshot".to_owned());
                    }
                    StreamEffect::Report(report) => {
                        done.insert(format!("{report:?}"));
                    }
                }
            }
        }
    }
}

type LineEvent = fn(&Line) -> Option<StreamInput<Standard>>;

const LINE_EVENTS: &[LineEvent] = &[
    |_| Some(StreamInput::Wake),
    |_| Some(StreamInput::Tail(Tail { last: at(LAST), committed: None })),
    |_| Some(StreamInput::Tail(Tail { last: at(LAST), committed: Some(at(4)) })),
    |line| line.answer(AppendOutcome::Success { matched: *line.sent.front()? }),
    |line| line.answer(AppendOutcome::Success { matched: None }),
    |line| line.answer(AppendOutcome::Conflict { prev: (*line.sent.front()?)?, hint: None }),
    |line| line.answer(AppendOutcome::Conflict { prev: at(3), hint: Some(at(1)) }),
    |line| line.answer(AppendOutcome::Conflict { prev: at(5), hint: Some(at(3)) }),
    |line| line.answer(AppendOutcome::Conflict { prev: at(2), hint: None }),
    |line| line.answer(AppendOutcome::HigherVote(vote::<Standard>(3, 2))),
    |line| line.answer(AppendOutcome::HigherVote(vote::<Standard>(1, 2))),
    |line| line.answer(AppendOutcome::Refused(PeerRefusal::Busy)),
    |line| line.installed(InstallOutcome::Installed),
    |line| line.installed(InstallOutcome::Refused(PeerRefusal::Busy)),
    |line| line.installed(InstallOutcome::HigherVote(vote::<Standard>(3, 2))),
    |line| Some(StreamInput::Failed { epoch: line.stream.epoch() }),
];

impl Machine for Line {
    fn words(&self) -> Words {
        words(|words| self.stream.canonical(words))
    }

    fn ways(&self) -> Vec<(usize, Self, Done)> {
        let mut ways = Vec::new();
        for (way, event) in LINE_EVENTS.iter().enumerate() {
            let Some(input) = event(self) else { continue };
            let (mut after, mut done) = (self.clone(), Done::new());
            after.now += Span::from_nanos(1);
            after.step(input, &mut done);
            ways.push((way, after, done));
        }
        ways
    }

    fn is_within(&self) -> bool {
        true
    }
}

#[test]
fn streams_with_the_same_words_go_the_same_ways() {
    assert!(search((1..=LAST).map(Line::new).collect(), 150) > 100);
}
