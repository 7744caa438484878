//! The task that keeps one target's log equal to ours.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream as AsyncStream;
use raftwright_core::{RaftEntry, Report, Stream, StreamEffect, StreamId, StreamInput, Tail};
use raftwright_traits::{
    AppendEntriesResponse, AsyncRuntime, Identity, LogIdOf, LogIndex, Of, RPCError, RPCOption, RaftLogReader,
    RaftNetworkFactory, RaftNetworkV2, RaftTypeConfig, Span, StorageError, Time, VoteOf,
};

use crate::alarm::Alarm;
use crate::limits::{ANSWERS_BATCH_MAX, TURNS_MAX};
use crate::replication::lane::Lane;
use crate::replication::snapshot_sender::{Sent, SnapshotSender};
use crate::shared::Shared;
use crate::sync::{Slot, pause};

/// Whom a replication task serves.
pub(crate) struct Target<C: RaftTypeConfig> {
    pub(crate) stream: StreamId,
    pub(crate) id: C::NodeId,
    pub(crate) node: C::Node,
    /// Who leads: this server.
    pub(crate) leader: Identity<C::NodeId>,
    /// The leadership that the task serves.
    pub(crate) vote: VoteOf<C>,
}

/// A thin loop around [`Stream`]: reads what it wants to send, sends it, and brings the answers back. Spawned when a
/// leadership starts or the membership gains a target; ends when either ends.
pub(crate) struct ReplicationCore<C: RaftTypeConfig, N, LR> {
    shared: Arc<Shared<C>>,
    target: Target<C>,
    factory: Arc<tokio::sync::Mutex<N>>,
    reader: LR,
    pump: Pump<C>,
    sender: SnapshotSender<C>,
}

/// A request of the stream for entries.
struct Wanted<C: RaftTypeConfig> {
    epoch: u64,
    start: LogIndex,
    end: LogIndex,
    bytes_max: usize,
    prev: Option<LogIdOf<C>>,
}

/// What a read found.
enum Found<C: RaftTypeConfig> {
    Entries {
        prev: Option<LogIdOf<C>>,
        entries: Vec<C::Entry>,
    },
    /// It is gone, up to this entry.
    Purged(LogIdOf<C>),
}

/// Why a connection is left.
enum Left {
    /// The stream is closed: the task ends.
    Closed,
    /// There is something to send and no connection yet.
    ToSend,
    /// A snapshot is to be sent. Nothing else is under way.
    ToSendSnapshot {
        /// Of the stream's wish.
        epoch: u64,
    },
    /// The connection broke, or the target has not answered in time.
    Broken,
}

/// What has happened.
enum Event {
    Progress,
    Left(Left),
}

/// No connection: nothing ever comes.
struct NoAnswers<C>(PhantomData<fn() -> C>);

impl<C: RaftTypeConfig> AsyncStream for NoAnswers<C> {
    type Item = Result<AppendEntriesResponse<C>, RPCError>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Pending
    }
}

impl<C, N, LR> ReplicationCore<C, N, LR>
where
    C: RaftTypeConfig,
    N: RaftNetworkFactory<C>,
    LR: RaftLogReader<C>,
{
    pub(crate) fn new(
        shared: Arc<Shared<C>>,
        target: Target<C>,
        factory: Arc<tokio::sync::Mutex<N>>,
        reader: LR,
        machine: Stream<Of<C>>,
        tail: Arc<Slot<Tail<Of<C>>>>,
    ) -> Self {
        let pump = Pump {
            target: target.id,
            stream: target.stream,
            machine,
            effects: Vec::new(),
            wanted: None,
            wants_snapshot: None,
            tail,
            lane: Lane::new(),
            unanswered: VecDeque::new(),
            now: Time::ZERO,
            progress_at: Time::ZERO,
            timeout: Span::from_millis(shared.config().rpc_timeout),
            alarm: Alarm::new(shared.runtime.clone()),
            shared: Arc::clone(&shared),
        };
        let sender = SnapshotSender::new(Arc::clone(&shared));
        Self { shared, target, factory, reader, pump, sender }
    }

    /// Runs until the stream is closed.
    pub(crate) async fn run(mut self) {
        let closed = Arc::clone(&self.pump.tail);
        let mut network = tokio::select! {
            biased;
            () = closed.closed() => return,
            network = async { self.factory.lock().await.new_client(self.target.id, &self.target.node).await } => network,
        };
        let option = RPCOption { timeout: self.pump.timeout };
        self.pump.step(StreamInput::Wake);
        loop {
            let left = match self.exchange(&mut NoAnswers::<C>(PhantomData), false).await {
                Ok(Left::ToSend) => {
                    let mut answers = network.stream_append(self.pump.lane.out(), option);
                    self.exchange(&mut answers, true).await
                }
                other => other,
            };
            match left {
                Ok(Left::Closed) => return,
                Ok(Left::Broken | Left::ToSend) => self.pump.on_broken(),
                Ok(Left::ToSendSnapshot { epoch }) => {
                    self.pump.on_lane_left();
                    let sending = self.sender.send(&mut network, &self.target);
                    let sent = tokio::select! {
                        biased;
                        () = closed.closed() => return,
                        sent = sending => sent,
                    };
                    self.pump.on_snapshot_sent(epoch, sent);
                }
                Err(error) => {
                    tracing::error!(target = %self.target.id, %error, "cannot read the log to replicate it");
                    return self.shared.stop(error.into());
                }
            }
        }
    }

    /// Works on one connection, or on none, until it is left.
    async fn exchange<A>(&mut self, answers: &mut A, connected: bool) -> Result<Left, StorageError>
    where
        A: AsyncStream<Item = Result<AppendEntriesResponse<C>, RPCError>> + Unpin,
    {
        let mut turns = 0;
        loop {
            self.pump.run_effects();
            while let Some(wanted) = self.pump.wanted.take() {
                let mut read = pin!(find(&mut self.reader, &self.shared, &wanted));
                let found = loop {
                    // Answers go on being taken up while the log is read.
                    let event = poll_fn(|cx| match read.as_mut().poll(cx) {
                        Poll::Ready(found) => Poll::Ready(Ok(found)),
                        Poll::Pending => self.pump.poll_event(cx, answers).map(Err),
                    });
                    match event.await {
                        Ok(found) => break found,
                        Err(Event::Progress) => self.pump.run_effects(),
                        Err(Event::Left(left)) => return Ok(left),
                    }
                };
                // After the read and before its use: what a later leader wrote, or cut, is read only after the close.
                if self.pump.tail.is_closed() {
                    return Ok(Left::Closed);
                }
                self.pump.step(match found? {
                    Found::Entries { prev, entries } => StreamInput::Entries { epoch: wanted.epoch, prev, entries },
                    Found::Purged(purged) => StreamInput::Purged { epoch: wanted.epoch, purged },
                });
                self.pump.run_effects();
            }
            if let Some(epoch) = self.pump.wants_snapshot.take() {
                return Ok(Left::ToSendSnapshot { epoch });
            }
            if !connected && !self.pump.lane.is_empty() {
                return Ok(Left::ToSend);
            }
            turns += 1;
            if turns >= TURNS_MAX {
                turns = 0;
                pause().await;
            }
            if let Event::Left(left) = poll_fn(|cx| self.pump.poll_event(cx, answers)).await {
                return Ok(left);
            }
        }
    }
}

/// Reads what the stream wants, and the log id before it.
async fn find<C: RaftTypeConfig, LR: RaftLogReader<C>>(
    reader: &mut LR,
    shared: &Shared<C>,
    wanted: &Wanted<C>,
) -> Result<Found<C>, StorageError> {
    let before = wanted.start.saturating_sub(1);
    let gone = |index: LogIndex| shared.purged().filter(|purged| purged.index >= index).map(Found::Purged);
    let prev = match wanted.prev {
        Some(prev) => Some(prev),
        None if before == 0 => None,
        None => match shared.purged() {
            Some(purged) if purged.index == before => Some(purged),
            Some(purged) if purged.index > before => return Ok(Found::Purged(purged)),
            Some(_) | None => match reader.try_get_log_entries(before..wanted.start).await?.first() {
                Some(entry) => Some(entry.log_id()),
                None => return gone(before).ok_or_else(|| StorageError::missing_entry(before)),
            },
        },
    };
    let entries = match wanted.start < wanted.end {
        true => reader.limited_get_log_entries(wanted.start, wanted.end, wanted.bytes_max).await?,
        false => Vec::new(),
    };
    match entries.first() {
        Some(first) if first.log_id().index == wanted.start => Ok(Found::Entries { prev, entries }),
        None if wanted.start >= wanted.end => Ok(Found::Entries { prev, entries }),
        Some(_) | None => gone(wanted.start).ok_or_else(|| StorageError::missing_entry(wanted.start)),
    }
}

/// The stream, and what stands between it and the outside.
struct Pump<C: RaftTypeConfig> {
    shared: Arc<Shared<C>>,
    target: C::NodeId,
    stream: StreamId,
    machine: Stream<Of<C>>,
    effects: Vec<StreamEffect<Of<C>>>,
    wanted: Option<Wanted<C>>,
    /// The epoch in which the stream wants a snapshot sent.
    wants_snapshot: Option<u64>,
    /// The newest tail; closed when the stream is.
    tail: Arc<Slot<Tail<Of<C>>>>,
    lane: Lane<C>,
    /// The epochs of the requests without an answer, in the order in which they were sent.
    unanswered: VecDeque<u64>,
    /// When the stream was last stepped.
    now: Time,
    /// When the oldest of them was sent, or the last answer came, whichever is later.
    progress_at: Time,
    timeout: Span,
    alarm: Alarm<C::AsyncRuntime>,
}

impl<C: RaftTypeConfig> Pump<C> {
    fn step(&mut self, input: StreamInput<Of<C>>) {
        self.now = self.shared.runtime.now();
        self.machine.step(self.now, input, &mut self.effects);
    }

    fn run_effects(&mut self) {
        for effect in self.effects.drain(..) {
            match effect {
                StreamEffect::Read { epoch, start, end, bytes_max, entries_max, prev } => {
                    let end = end.min(start.saturating_add(entries_max as u64));
                    self.wanted = Some(Wanted { epoch, start, end, bytes_max, prev });
                }
                StreamEffect::Send { epoch, request } => {
                    if self.unanswered.is_empty() {
                        self.progress_at = self.now;
                    }
                    self.shared.recorder.tell(|recorder| recorder.record_replicate(request.entries.len()));
                    self.unanswered.push_back(epoch);
                    self.lane.push(request);
                }
                StreamEffect::SendSnapshot { epoch } => self.wants_snapshot = Some(epoch),
                StreamEffect::Report(report) => self.shared.notify.report(self.stream, report),
            }
        }
    }

    /// When the target's silence counts as a broken connection.
    fn silence_at(&self) -> Option<Time> {
        (!self.unanswered.is_empty()).then(|| self.progress_at + self.timeout)
    }

    /// Takes up whatever has happened.
    fn poll_event<A>(&mut self, cx: &mut Context<'_>, answers: &mut A) -> Poll<Event>
    where
        A: AsyncStream<Item = Result<AppendEntriesResponse<C>, RPCError>> + Unpin,
    {
        let mut progress = false;
        match self.tail.poll_take(cx) {
            Poll::Ready(None) => return Poll::Ready(Event::Left(Left::Closed)),
            Poll::Ready(Some(tail)) => {
                self.step(StreamInput::Tail(tail));
                progress = true;
            }
            Poll::Pending => {}
        }
        for _ in 0..ANSWERS_BATCH_MAX {
            match Pin::new(&mut *answers).poll_next(cx) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(response))) if response.from.id != self.target => {
                    tracing::warn!(target = %self.target, from = %response.from, "another server answers for a target");
                    return Poll::Ready(Event::Left(Left::Broken));
                }
                Poll::Ready(Some(Ok(response))) => {
                    // An answer to nothing is a fault of the network's: its connection cannot be trusted.
                    let Some(epoch) = self.unanswered.pop_front() else {
                        return Poll::Ready(Event::Left(Left::Broken));
                    };
                    self.step(StreamInput::Answer { epoch, response });
                    self.progress_at = self.now;
                    progress = true;
                }
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(stream = %self.stream, %error, "replication is interrupted");
                    return Poll::Ready(Event::Left(Left::Broken));
                }
                Poll::Ready(None) => return Poll::Ready(Event::Left(Left::Broken)),
            }
        }
        if progress {
            return Poll::Ready(Event::Progress);
        }
        let silence_at = self.silence_at();
        self.alarm.set([self.machine.deadline(), silence_at].into_iter().flatten().min());
        std::task::ready!(self.alarm.poll(cx));
        if silence_at.is_some_and(|at| at <= self.shared.runtime.now()) {
            return Poll::Ready(Event::Left(Left::Broken));
        }
        self.step(StreamInput::Wake);
        Poll::Ready(Event::Progress)
    }

    /// The connection is left while the stream still wants something: what was on it belongs to an epoch that is over.
    fn on_lane_left(&mut self) {
        self.lane.clear();
        self.unanswered.clear();
        self.wanted = None;
    }

    /// A snapshot has been sent, or could not be.
    fn on_snapshot_sent(&mut self, epoch: u64, sent: Sent<C>) {
        self.step(match sent {
            Sent::Answered { last_log_id, response } => StreamInput::SnapshotSent { epoch, last_log_id, response },
            Sent::Failed => StreamInput::Failed { epoch },
            Sent::NoneToSend => {
                // It asked already when it found that the target needs one; there was none, or none that goes far enough.
                self.shared.notify.report(self.stream, Report::NeedsSnapshot);
                StreamInput::Failed { epoch }
            }
        });
    }

    /// The connection has gone, and with it every request without an answer and the read that was under way.
    fn on_broken(&mut self) {
        // What the stream has said until now belongs to that connection; its reports stay true.
        self.run_effects();
        self.on_lane_left();
        self.wants_snapshot = None;
        let epoch = self.machine.epoch();
        self.step(StreamInput::Failed { epoch });
    }
}
