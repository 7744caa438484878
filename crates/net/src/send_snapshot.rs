//! The sending side of a snapshot's transfer: drives a [`SnapshotSender`] over a link of its own.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use raftwright_traits::crc32c;
use raftwright_traits::transfer::{
    PieceSizes, Rejection, SenderStep, SnapshotOffer, SnapshotSender, TransferAnswer, TransferOutcome,
};
use raftwright_traits::{
    Identity, Incarnation, InstallOutcome, InstallSnapshotResponse, PeerRefusal, RPCError, RPCOption, Snapshot,
    SnapshotContent, SnapshotRequest, WireNodeId,
};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use crate::client_conn::Answered;
use crate::error::CallError;
use crate::frame::{Kind, RequestId};
use crate::limits::{SNAPSHOT_COMPARE_BYTES, SNAPSHOT_ID_LEN_MAX, SNAPSHOT_IN_FLIGHT_MAX};
use crate::link::Link;
use crate::message::{WireMessage, WireTypes};
use crate::network::{check_sender, decode};

/// A finish is let wait for this part of the silence that the caller allows, so that its answer is no silence.
const WAIT_PART: u64 = 3;

/// A transfer that broke or was given up, kept so that the next one goes on where it stood.
#[derive(Debug)]
pub(crate) struct Unfinished<C: WireTypes> {
    snapshot: Weak<Snapshot<C>>,
    vote: raftwright_traits::VoteOf<C>,
    sender: SnapshotSender<C>,
}

/// What a read of the content came to.
enum Read {
    Piece { offset: u64, bytes: Bytes },
    Prefix { upto: u64, checksum: u32 },
}

type Reading = Pin<Box<dyn Future<Output = io::Result<Read>> + Send>>;

/// Something happened.
enum Event {
    Answer(Answered),
    Read(io::Result<Read>),
    Silence,
}

/// Sends a snapshot, as [`RaftNetworkV2::full_snapshot`](raftwright_traits::RaftNetworkV2::full_snapshot) says. What it
/// leaves in `unfinished` when it ends early, or is dropped, is where the next call goes on.
pub(crate) async fn send_snapshot<C: WireTypes>(
    link: &mut Link,
    unfinished: &mut Option<Unfinished<C>>,
    rpc: SnapshotRequest<C>,
    option: RPCOption,
) -> Result<InstallSnapshotResponse<C>, RPCError> {
    if rpc.snapshot.meta.last_log_id.is_none() || rpc.snapshot.meta.snapshot_id.len() > SNAPSHOT_ID_LEN_MAX {
        return Err(RPCError::Refused("a snapshot of nothing, or with too long an id, is not sent".to_owned()));
    }
    let chunk_bytes = link.limits().snapshot_chunk();
    let sender = prepare(chunk_bytes, unfinished, &rpc, option).await?;
    let mut transfer = Transfer {
        link,
        sender,
        snapshot: rpc.snapshot,
        timeout: option.timeout.into(),
        under_way: VecDeque::new(),
        reading: None,
        heard: Instant::now(),
        timer: Box::pin(sleep_until(Instant::now())),
    };
    let outcome = transfer.run().await?;
    // Over, one way or the other: the next call is another transfer.
    *unfinished = None;
    conclude(link, outcome)
}

/// The sender to drive: that of the last call if it sent the same, or a new one.
async fn prepare<'u, C: WireTypes>(
    chunk_bytes: u32,
    unfinished: &'u mut Option<Unfinished<C>>,
    rpc: &SnapshotRequest<C>,
    option: RPCOption,
) -> Result<&'u mut SnapshotSender<C>, RPCError> {
    let same = |last: &Unfinished<C>| {
        last.vote == rpc.vote && std::ptr::eq(last.snapshot.as_ptr(), Arc::as_ptr(&rpc.snapshot))
    };
    let last = match unfinished.take().filter(same) {
        Some(last) => last,
        None => {
            let content = Arc::clone(&rpc.snapshot);
            let size = blocking(move || content.snapshot.size()).await.map_err(|error| unreadable(&error))?;
            let sizes = PieceSizes::new(u64::from(chunk_bytes), SNAPSHOT_IN_FLIGHT_MAX as u32);
            let wait = option.timeout.divided_by(WAIT_PART);
            let sender = SnapshotSender::new(SnapshotOffer::new(rpc, size), sizes, wait);
            Unfinished { snapshot: Arc::downgrade(&rpc.snapshot), vote: rpc.vote, sender }
        }
    };
    let last = unfinished.insert(last);
    last.sender.reconnected();
    Ok(&mut last.sender)
}

fn conclude<C: WireTypes>(link: &Link, outcome: TransferOutcome<C>) -> Result<InstallSnapshotResponse<C>, RPCError> {
    let from_target = |outcome| {
        let peer = link.session().map(|session| session.peer);
        let id = peer.and_then(|peer| peer.node).and_then(C::NodeId::from_u64);
        let id = id.ok_or_else(|| RPCError::Network("the target has not said who it is".to_owned()))?;
        let incarnation = peer.and_then(|peer| peer.incarnation).map(Incarnation);
        Ok(InstallSnapshotResponse::<C> { from: Identity { id, incarnation }, outcome })
    };
    match outcome {
        TransferOutcome::Answered(response) => {
            check_sender(link, &response.from)?;
            Ok(response)
        }
        TransferOutcome::Outvoted(vote) => from_target(InstallOutcome::<C>::HigherVote(vote)),
        TransferOutcome::Rejected(Rejection::Busy) => from_target(InstallOutcome::<C>::Refused(PeerRefusal::Busy)),
        TransferOutcome::Rejected(rejection) => Err(RPCError::Network(format!("the transfer ended: {rejection}"))),
        TransferOutcome::Confused(why) => Err(RPCError::Network(format!("the target broke the protocol: {why}"))),
    }
}

struct Transfer<'t, C: WireTypes> {
    link: &'t mut Link,
    sender: &'t mut SnapshotSender<C>,
    snapshot: Arc<Snapshot<C>>,
    timeout: Duration,
    /// Requests sent and not answered, oldest first.
    under_way: VecDeque<RequestId>,
    /// The one read that is under way, the wait for its turn included.
    reading: Option<Reading>,
    /// When the target was last heard, or first had something to answer.
    heard: Instant,
    timer: Pin<Box<Sleep>>,
}

impl<C: WireTypes> Transfer<'_, C> {
    async fn run(&mut self) -> Result<TransferOutcome<C>, RPCError> {
        // What was abandoned on an older connection stays with it.
        self.link.close_if_busy();
        let due = Instant::now() + self.timeout;
        timeout_at(due, poll_fn(|cx| self.link.poll_open(cx))).await.map_err(|_| RPCError::Timeout)??;
        loop {
            match self.sender.step() {
                SenderStep::Send(request) => {
                    if self.under_way.is_empty() {
                        self.heard = Instant::now();
                    }
                    self.under_way.push_back(self.link.push(Kind::Snapshot, request.encode())?);
                    continue;
                }
                SenderStep::Read { offset, len } => self.read(offset, len),
                SenderStep::Compare { upto } => self.compare(upto),
                SenderStep::Wait => {}
                SenderStep::Over(outcome) => return Ok(outcome),
            }
            self.timer.as_mut().reset(self.heard + self.timeout);
            match poll_fn(|cx| self.poll_event(cx)).await? {
                Event::Answer((id, answer)) => self.on_answer(id, answer.map_err(CallError::Fault)?)?,
                Event::Read(Ok(Read::Piece { offset, bytes })) => self.sender.on_read(offset, bytes),
                Event::Read(Ok(Read::Prefix { upto, checksum })) => self.sender.on_prefix(upto, checksum),
                Event::Read(Err(error)) => return Err(unreadable(&error)),
                Event::Silence => return Err(RPCError::Timeout),
            }
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, RPCError>> {
        if let Poll::Ready(answered) = self.link.poll_answer(cx) {
            return Poll::Ready(Ok(Event::Answer(answered?)));
        }
        if let Some(reading) = &mut self.reading
            && let Poll::Ready(read) = reading.as_mut().poll(cx)
        {
            self.reading = None;
            return Poll::Ready(Ok(Event::Read(read)));
        }
        // A target that was not asked anything may be silent.
        if !self.under_way.is_empty() && self.timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(Event::Silence));
        }
        Poll::Pending
    }

    fn on_answer(&mut self, id: RequestId, answer: Bytes) -> Result<(), RPCError> {
        if self.under_way.pop_front() != Some(id) {
            return Err(RPCError::Network("the target answers out of order".to_owned()));
        }
        self.heard = Instant::now();
        let answer: TransferAnswer<C> = decode(answer)?;
        self.sender.on_answer(answer);
        Ok(())
    }

    fn read(&mut self, offset: u64, len: u32) {
        if self.reading.is_some() {
            return;
        }
        let snapshot = Arc::clone(&self.snapshot);
        let turn = self.link.throttled(len);
        self.reading = Some(Box::pin(async move {
            // Without a bound on the rate there is no clock to ask.
            if turn > Instant::now() {
                sleep_until(turn).await;
            }
            blocking(move || {
                let mut buffer = vec![0; len as usize];
                read_whole(&snapshot.snapshot, offset, &mut buffer)?;
                Ok(Read::Piece { offset, bytes: Bytes::from(buffer) })
            })
            .await
        }));
    }

    fn compare(&mut self, upto: u64) {
        if self.reading.is_some() {
            return;
        }
        let snapshot = Arc::clone(&self.snapshot);
        self.reading = Some(Box::pin(blocking(move || {
            let mut buffer = vec![0; SNAPSHOT_COMPARE_BYTES];
            let (mut offset, mut checksum) = (0, 0);
            while offset < upto {
                let len = usize::try_from(upto - offset).unwrap_or(usize::MAX).min(buffer.len());
                read_whole(&snapshot.snapshot, offset, &mut buffer[..len])?;
                checksum = crc32c::crc32c_append(checksum, &buffer[..len]);
                offset += len as u64;
            }
            Ok(Read::Prefix { upto, checksum })
        })));
    }
}

/// Fills the whole buffer.
fn read_whole(content: &impl SnapshotContent, mut offset: u64, mut buffer: &mut [u8]) -> io::Result<()> {
    while !buffer.is_empty() {
        let count = content.read_at(offset, buffer)?;
        if count == 0 || count > buffer.len() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the content is shorter than it said"));
        }
        buffer = &mut buffer[count..];
        offset += count as u64;
    }
    Ok(())
}

async fn blocking<R: Send + 'static>(work: impl FnOnce() -> io::Result<R> + Send + 'static) -> io::Result<R> {
    spawn_blocking(work).await.map_err(io::Error::other)?
}

fn unreadable(error: &io::Error) -> RPCError {
    tracing::warn!(%error, "a snapshot cannot be read to be sent");
    RPCError::Network(format!("the snapshot cannot be read: {error}"))
}
