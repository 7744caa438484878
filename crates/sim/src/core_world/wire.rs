//! What is under way between simulated nodes.

use raftwright_core::{
    AppendEntriesRequest, AppendEntriesResponse, HeartbeatResponse, Message, StreamId, VoteKind, VoteResponse,
};

use super::types::{ENTRY_BYTES, SimTypes};
use crate::world::Lane;

/// Names a request of a stream, so that its answer finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallId {
    /// Which life of the sender's process.
    pub boot: u64,
    /// Which stream.
    pub stream: StreamId,
    /// Which epoch of the stream.
    pub epoch: u64,
    /// Which request of the epoch.
    pub number: u64,
}

/// A message.
#[derive(Debug, Clone)]
pub enum Wire {
    /// On the control lane.
    Control(Message<SimTypes>),
    /// The answer to a request for a vote.
    VoteResponse(VoteResponse<SimTypes>),
    /// The answer to a heartbeat.
    HeartbeatResponse(HeartbeatResponse<SimTypes>),
    /// Entries.
    Append(CallId, AppendEntriesRequest<SimTypes>),
    /// The answer to entries.
    AppendResponse(CallId, AppendEntriesResponse<SimTypes>),
}

impl Wire {
    /// Its connection.
    pub fn lane(&self) -> Lane {
        match self {
            Wire::Control(_) | Wire::VoteResponse(_) | Wire::HeartbeatResponse(_) => Lane::Control,
            Wire::Append(..) | Wire::AppendResponse(..) => Lane::Bulk,
        }
    }

    /// About how many bytes it has.
    pub fn bytes(&self) -> usize {
        match self {
            Wire::Append(_, request) => ENTRY_BYTES * (1 + request.entries.len()),
            Wire::Control(_) | Wire::VoteResponse(_) | Wire::HeartbeatResponse(_) | Wire::AppendResponse(..) => {
                ENTRY_BYTES
            }
        }
    }

    /// What it is, in one word of a trace.
    pub fn name(&self) -> &'static str {
        match self {
            Wire::Control(Message::Vote(request)) if request.kind == VoteKind::PreVote => "pre-vote?",
            Wire::Control(Message::Vote(_)) => "vote?",
            Wire::Control(Message::Heartbeat(_)) => "beat",
            Wire::Control(Message::TransferLeader(_)) => "take-over",
            Wire::VoteResponse(_) => "vote!",
            Wire::HeartbeatResponse(_) => "beat!",
            Wire::Append(..) => "append",
            Wire::AppendResponse(..) => "append!",
        }
    }

    /// What it says, for a person.
    pub fn text(&self) -> String {
        match self {
            Wire::Control(Message::Vote(request)) => {
                format!("{} last {:?}", request.vote, request.last_log_id)
            }
            Wire::Control(Message::Heartbeat(request)) => {
                format!("{} {} committed {:?}", request.vote, request.round, request.committed)
            }
            Wire::Control(Message::TransferLeader(request)) => format!("{} to {}", request.vote, request.to),
            Wire::VoteResponse(response) => {
                let answer = if response.granted { "granted" } else { "refused" };
                format!("{} {answer}, own vote {:?}", response.asked, response.vote.map(|vote| vote.to_string()))
            }
            Wire::HeartbeatResponse(response) => {
                let answer = if response.accepted { "accepted" } else { "refused" };
                format!("{} {} {answer}", response.asked, response.round)
            }
            Wire::Append(id, request) => format!(
                "{} {} epoch {} #{} after {:?} +{} committed {:?}",
                request.vote,
                id.stream,
                id.epoch,
                id.number,
                request.prev_log_id,
                request.entries.len(),
                request.committed
            ),
            Wire::AppendResponse(id, response) => {
                format!("{} epoch {} #{} {:?}", id.stream, id.epoch, id.number, response.outcome)
            }
        }
    }
}
