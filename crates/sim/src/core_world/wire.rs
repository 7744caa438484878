//! What is under way between simulated nodes.

use raftwright_core::{
    AppendEntriesRequest, AppendEntriesResponse, HeartbeatResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    Message, StreamId, VoteKind, VoteResponse,
};

use std::sync::Arc;

use super::snapshots::Snapshot;
use super::types::{ENTRY_BYTES, LogId, SimTypes};
use crate::world::Lane;

/// About how many bytes a snapshot has: as many as two hundred entries.
const SNAPSHOT_BYTES: usize = 200 * ENTRY_BYTES;

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
    /// A snapshot.
    Snapshot(CallId, InstallSnapshotRequest<SimTypes>, Arc<Snapshot>),
    /// The answer to a snapshot, and its last entry.
    SnapshotResponse(CallId, LogId, InstallSnapshotResponse<SimTypes>),
}

impl Wire {
    /// Its connection.
    pub fn lane(&self) -> Lane {
        match self {
            Wire::Control(_) | Wire::VoteResponse(_) | Wire::HeartbeatResponse(_) => Lane::Control,
            Wire::Append(..) | Wire::AppendResponse(..) => Lane::Bulk,
            Wire::Snapshot(..) | Wire::SnapshotResponse(..) => Lane::Snapshot,
        }
    }

    /// About how many bytes it has.
    pub fn bytes(&self) -> usize {
        match self {
            Wire::Append(_, request) => ENTRY_BYTES * (1 + request.entries.len()),
            Wire::Snapshot(..) => SNAPSHOT_BYTES,
            Wire::Control(_)
            | Wire::VoteResponse(_)
            | Wire::HeartbeatResponse(_)
            | Wire::AppendResponse(..)
            | Wire::SnapshotResponse(..) => ENTRY_BYTES,
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
            Wire::Snapshot(..) => "snapshot?",
            Wire::SnapshotResponse(..) => "snapshot!",
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
            Wire::Snapshot(id, request, _) => {
                format!("{} {} epoch {} up to {}", request.vote, id.stream, id.epoch, request.last_log_id)
            }
            Wire::SnapshotResponse(id, last, response) => {
                format!("{} epoch {} up to {last} {:?}", id.stream, id.epoch, response.outcome)
            }
            Wire::AppendResponse(id, response) => {
                format!("{} epoch {} #{} {:?}", id.stream, id.epoch, id.number, response.outcome)
            }
        }
    }
}
