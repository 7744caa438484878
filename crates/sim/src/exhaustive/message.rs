//! What is in the air: messages, and what the search itself remembers.

use core::fmt;

use raftwright_core::{
    AppendEntriesRequest, AppendEntriesResponse, AppendOutcome, Canonical, HeartbeatResponse, Message, VoteKind,
    VoteResponse,
};

use crate::core_world::types::{LogId, Payload, SimEntry, SimTypes, Vote};
use crate::world::NodeId;

/// Something said, by one server to another.
#[derive(Debug, Clone)]
pub(super) struct Said {
    /// Who says it; 0 for what the search remembers.
    pub(super) from: NodeId,
    /// To whom; 0 for what the search remembers.
    pub(super) to: NodeId,
    /// What.
    pub(super) body: Body,
}

/// What is said.
#[derive(Debug, Clone)]
pub(super) enum Body {
    /// A request for a vote, a heartbeat, or the request to take over.
    Control(Message<SimTypes>),
    /// An answer to a request for a vote.
    Vote(VoteResponse<SimTypes>),
    /// An answer to a heartbeat.
    Heartbeat(HeartbeatResponse<SimTypes>),
    /// Entries.
    Append(AppendEntriesRequest<SimTypes>),
    /// An answer to entries.
    AppendAnswer(Call, AppendEntriesResponse<SimTypes>),
    /// Remembered: this entry was committed.
    Committed(LogId),
    /// Remembered: this vote led.
    Led(Vote),
}

/// By what a stream knows which of its requests was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Call {
    /// The leadership.
    pub(super) vote: Vote,
    /// The entry before the first.
    pub(super) prev: Option<LogId>,
    /// The last entry.
    pub(super) last: Option<LogId>,
}

impl Call {
    pub(super) fn of(request: &AppendEntriesRequest<SimTypes>) -> Self {
        let last = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
        Self { vote: request.vote, prev: request.prev_log_id, last }
    }
}

impl Said {
    /// Something that the search remembers.
    pub(super) fn remembered(body: Body) -> Self {
        Self { from: 0, to: 0, body }
    }

    /// The greatest term in it.
    pub(super) fn term(&self) -> u64 {
        match &self.body {
            Body::Control(Message::Vote(request)) => request.vote.term(),
            Body::Control(Message::Heartbeat(request)) => request.vote.term(),
            Body::Control(Message::TransferLeader(request)) => request.vote.term(),
            Body::Append(request) => request.vote.term(),
            Body::Vote(_) | Body::Heartbeat(_) | Body::AppendAnswer(..) | Body::Committed(_) | Body::Led(_) => 0,
        }
    }

    /// Adds all that it says.
    pub(super) fn canonical(&self, words: &mut Canonical<'_, SimTypes>) {
        for id in [self.from, self.to] {
            words.server(&id);
        }
        match &self.body {
            Body::Control(Message::Vote(request)) => {
                words.word(1);
                request.canonical(words);
            }
            Body::Control(Message::Heartbeat(request)) => {
                words.word(2);
                words.vote(&request.vote);
                words.word(request.round.0);
                words.option(request.committed.as_ref(), Canonical::log_id);
            }
            Body::Control(Message::TransferLeader(request)) => {
                words.word(3);
                words.vote(&request.vote);
                words.server(&request.to);
                words.option(request.last_log_id.as_ref(), Canonical::log_id);
            }
            Body::Vote(response) => {
                words.word(4);
                response.canonical(words);
            }
            Body::Heartbeat(response) => {
                words.word(5);
                response.canonical(words);
            }
            Body::Append(request) => {
                words.word(6);
                words.vote(&request.vote);
                words.option(request.prev_log_id.as_ref(), Canonical::log_id);
                words.word(request.entries.len() as u64);
                request.entries.iter().for_each(|entry| entry_words(entry, words));
                words.option(request.committed.as_ref(), Canonical::log_id);
            }
            Body::AppendAnswer(call, response) => {
                words.word(7);
                words.vote(&call.vote);
                words.option(call.prev.as_ref(), Canonical::log_id);
                words.option(call.last.as_ref(), Canonical::log_id);
                response.canonical(words);
            }
            Body::Committed(log_id) => {
                words.word(8);
                words.log_id(log_id);
            }
            Body::Led(vote) => {
                words.word(9);
                words.vote(vote);
            }
        }
    }

    /// Why this cannot stand beside something that was said before.
    pub(super) fn contradicts(&self, before: &Said) -> Option<(&'static str, &'static str, String)> {
        match (&self.body, &before.body) {
            (Body::Vote(mine), Body::Vote(theirs))
                if mine.granted
                    && theirs.granted
                    && mine.kind != VoteKind::PreVote
                    && theirs.kind != VoteKind::PreVote
                    && self.from == before.from
                    && mine.asked.term() == theirs.asked.term()
                    && mine.asked.node_id() != theirs.asked.node_id() =>
            {
                let what = format!("n{} voted for {} and for {}", self.from, theirs.asked, mine.asked);
                Some(("election safety", "Raft §5.2", what))
            }
            (Body::Led(mine), Body::Led(theirs))
                if mine.term() == theirs.term() && mine.node_id() != theirs.node_id() =>
            {
                Some(("election safety", "Raft §5.2", format!("{theirs} and {mine} both led")))
            }
            (Body::Committed(mine), Body::Committed(theirs)) if mine.index == theirs.index && mine != theirs => {
                let what = format!("{theirs} was committed, and now {mine} in its place");
                Some(("state machine safety", "Raft §5.4.3", what))
            }
            _ => None,
        }
    }
}

/// Adds an entry: its place and what it carries.
pub(super) fn entry_words(entry: &SimEntry, words: &mut Canonical<'_, SimTypes>) {
    words.log_id(&entry.log_id);
    match &entry.payload {
        Payload::Blank => words.word(0),
        Payload::Membership(membership) => {
            words.word(1);
            words.membership(membership);
        }
        // A command is named after the server that took it.
        Payload::Command(id, _) => {
            words.word(2);
            words.server(&id.0);
        }
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.body {
            Body::Control(Message::Vote(request)) => {
                write!(f, "{:?}? {} last {:?}", request.kind, request.vote, request.last_log_id)
            }
            Body::Control(Message::Heartbeat(request)) => {
                write!(f, "heartbeat {} {} committed {:?}", request.vote, request.round, request.committed)
            }
            Body::Control(Message::TransferLeader(request)) => write!(f, "take over from {}", request.vote),
            Body::Vote(response) => {
                let answer = if response.granted { "granted" } else { "refused" };
                write!(f, "{:?}! {} {answer}", response.kind, response.asked)
            }
            Body::Heartbeat(response) => {
                let answer = if response.accepted { "accepted" } else { "refused" };
                write!(f, "heartbeat! {} {} {answer}", response.asked, response.round)
            }
            Body::Append(request) => {
                let entries: Vec<String> = request.entries.iter().map(|entry| entry.log_id.to_string()).collect();
                let (prev, committed) = (request.prev_log_id, request.committed);
                write!(f, "append {} after {prev:?} {entries:?} committed {committed:?}", request.vote)
            }
            Body::AppendAnswer(call, response) => match &response.outcome {
                AppendOutcome::Success { matched } => write!(f, "append! {} matched {matched:?}", call.vote),
                other => write!(f, "append! {} {other:?}", call.vote),
            },
            Body::Committed(log_id) => write!(f, "committed {log_id}"),
            Body::Led(vote) => write!(f, "led {vote}"),
        }
    }
}
