//! What the node's own tasks and stores tell `RaftCore`.

use std::sync::Mutex;
use std::task::{Context, Poll};

use raftwright_core::{Report, StreamId, Ticket, WriteId};
use raftwright_traits::{
    HeartbeatResponse, LogIdOf, Of, RPCError, RaftTypeConfig, ReadIndexResponse, StorageError, VoteResponse,
};

use crate::sync::{Reader, lock};

/// Something that has happened inside the node.
#[derive(Debug)]
pub(crate) enum Notify<C: RaftTypeConfig> {
    /// A snapshot was built.
    SnapshotBuilt { last_log_id: LogIdOf<C> },
    /// A snapshot could not be built.
    SnapshotFailed,
    /// The state machine has installed a snapshot.
    SnapshotInstalled { ticket: Ticket, last_log_id: LogIdOf<C> },
    /// A log write has ended.
    LogDone { write: WriteId, result: Result<(), StorageError> },
    /// A voter has answered.
    VoteResponse(VoteResponse<C>),
    /// A target has answered a heartbeat.
    HeartbeatResponse(HeartbeatResponse<C>),
    /// The leader has answered a question about reads, or will not.
    ReadIndex(Result<ReadIndexResponse<C>, RPCError>),
}

/// The queue of [`Notify`]s, and the newest reports of the streams. Nobody who puts something in ever waits: a log store
/// does so from its flush, on any thread.
///
/// It is bounded by what can be under way: `LogDone` by the writes that the replica submits before it waits
/// (`log_writes_max`), snapshots by one that is built and one that is installed, vote answers by
/// [`CALLS_MAX`](crate::limits::CALLS_MAX), heartbeat answers by one for each heartbeat that `RaftCore` sends, answers about
/// reads by the one question that is under way, and reports by one of each kind for each stream, since a newer one takes the
/// place of an older.
pub(crate) struct NotifyQueue<C: RaftTypeConfig> {
    inner: Mutex<Inner<C>>,
}

/// What has come in since the last look.
pub(crate) struct Batch<C: RaftTypeConfig> {
    pub(crate) events: Vec<Notify<C>>,
    pub(crate) reports: Vec<StreamReports<C>>,
    /// The node is to stop.
    pub(crate) stop: bool,
}

/// The newest reports of a stream.
pub(crate) struct StreamReports<C: RaftTypeConfig> {
    pub(crate) stream: StreamId,
    pub(crate) matched: Option<Report<Of<C>>>,
    pub(crate) needs_snapshot: Option<Report<Of<C>>>,
    pub(crate) higher_vote: Option<Report<Of<C>>>,
}

struct Inner<C: RaftTypeConfig> {
    batch: Batch<C>,
    reader: Reader,
}

impl<C: RaftTypeConfig> Notify<C> {
    /// The peer that says so, if one does.
    pub(crate) fn from(&self) -> Option<C::NodeId> {
        match self {
            Notify::LogDone { .. }
            | Notify::ReadIndex(_)
            | Notify::SnapshotBuilt { .. }
            | Notify::SnapshotFailed
            | Notify::SnapshotInstalled { .. } => None,
            Notify::VoteResponse(response) => Some(response.from.id),
            Notify::HeartbeatResponse(response) => Some(response.from.id),
        }
    }
}

impl<C: RaftTypeConfig> Batch<C> {
    pub(crate) fn new() -> Self {
        Self { events: Vec::new(), reports: Vec::new(), stop: false }
    }

    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.reports.is_empty() && !self.stop
    }
}

impl<C: RaftTypeConfig> NotifyQueue<C> {
    pub(crate) fn new() -> Self {
        Self { inner: Mutex::new(Inner { batch: Batch::new(), reader: Reader::new() }) }
    }

    fn change(&self, change: impl FnOnce(&mut Batch<C>)) {
        let mut inner = lock(&self.inner);
        change(&mut inner.batch);
        inner.reader.wake();
    }

    pub(crate) fn push(&self, event: Notify<C>) {
        self.change(|batch| batch.events.push(event));
    }

    pub(crate) fn stop(&self) {
        self.change(|batch| batch.stop = true);
    }

    /// A stream's report, in place of its last one of that kind. A newer `Matched` of a stream says all that an older did.
    pub(crate) fn report(&self, stream: StreamId, report: Report<Of<C>>) {
        self.change(|batch| {
            let at = match batch.reports.iter().position(|reports| reports.stream == stream) {
                Some(at) => at,
                None => {
                    batch.reports.push(StreamReports {
                        stream,
                        matched: None,
                        needs_snapshot: None,
                        higher_vote: None,
                    });
                    batch.reports.len() - 1
                }
            };
            let reports = &mut batch.reports[at];
            match &report {
                Report::Matched { .. } => reports.matched = Some(report),
                Report::NeedsSnapshot => reports.needs_snapshot = Some(report),
                Report::HigherVote { .. } => reports.higher_vote = Some(report),
            }
        });
    }

    /// Takes all there is into `into`, which must be empty.
    pub(crate) fn poll_take(&self, cx: &mut Context<'_>, into: &mut Batch<C>) -> Poll<()> {
        let mut inner = lock(&self.inner);
        if inner.batch.is_empty() {
            inner.reader.wait(cx);
            return Poll::Pending;
        }
        std::mem::swap(&mut inner.batch, into);
        Poll::Ready(())
    }
}
