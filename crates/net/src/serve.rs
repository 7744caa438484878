//! The answering side of an open connection: one task reads requests, runs their handlers and writes the answers.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::body::Body;
use crate::error::{Fault, FaultCode};
use crate::frame::{Frame, FrameHead, Kind, RequestId, Role};
use crate::frame_io::{FrameIo, LinkError};
use crate::handshake::Session;
use crate::identity::Lane;
use crate::limits::{ANSWER_BYTES_MAX, Limits, UNSENT_BYTES_MAX};

/// What a node does with requests. One handler serves all connections.
///
/// Handlers of one connection run beside each other within its task. They are polled first in the order in which their
/// requests came; so a handler that puts its request into a first-in-first-out queue before it waits for anything else
/// keeps the order of the requests. They must not block. When the connection ends, handlers under way are dropped.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. `kind` is one that [`Lane::carries`]; the session says who asks.
    ///
    /// A [`Fault`] is sent to the peer instead of an answer; the connection goes on.
    fn handle(
        self: Arc<Self>,
        session: Arc<Session>,
        kind: Kind,
        body: Bytes,
    ) -> impl Future<Output = Result<Body, Fault>> + Send + 'static;
}

impl Lane {
    /// Whether requests of this kind may come on this lane. A client cannot vote.
    pub const fn carries(self, kind: Kind) -> bool {
        match (self, kind) {
            (Lane::Control, Kind::Vote | Kind::Heartbeat | Kind::TransferLeader | Kind::ReadIndex)
            | (Lane::Bulk, Kind::AppendEntries)
            | (Lane::Snapshot, Kind::Snapshot)
            | (Lane::Client, Kind::Client) => true,
            (Lane::Control | Lane::Bulk | Lane::Snapshot | Lane::Client, _) => false,
        }
    }
}

/// Why a connection that this side served has ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ServeEnd {
    /// Nothing wrong: the peer closed, or this side shuts down.
    #[error("closed")]
    Orderly,
    /// The peer went away in the middle.
    #[error(transparent)]
    Gone(LinkError),
    /// The peer broke the protocol.
    #[error("{0}")]
    Malformed(String),
    /// The peer said that it does not want this connection.
    #[error("refused by the peer: {0}")]
    Refused(String),
    /// The peer sends or takes bytes too slowly.
    #[error("{0}")]
    Slow(&'static str),
}

/// An answer that waits for its turn.
type Outcome = Result<Body, Fault>;

/// Answers on their way out. On an ordered lane an answer waits for those before it.
struct Answers {
    ordered: bool,
    /// The requests under way on an ordered lane, oldest first.
    queue: VecDeque<(RequestId, Kind, Option<Outcome>)>,
    /// Number of the request at the front of `queue`.
    first: u64,
}

/// What a handler's result is filed under.
#[derive(Debug, Clone, Copy)]
struct Ticket {
    id: RequestId,
    kind: Kind,
    number: u64,
    len: usize,
}

struct Serving<'a, S, F: Future<Output = Outcome>, H> {
    io: &'a mut FrameIo<S>,
    lane: Lane,
    limits: Limits,
    handle: H,
    running: crate::slots::Slots<F, Ticket>,
    running_bytes: usize,
    /// About how long the next answer will be, in bytes.
    answer_len: usize,
    answers: Answers,
    watchdog: Watchdog,
    stopping: bool,
}

/// Serves requests on a connection whose handshake is done, until it ends or `stop` does.
pub(crate) async fn serve_connection<S, H>(
    io: &mut FrameIo<S>,
    session: Session,
    limits: Limits,
    handler: Arc<H>,
    stop: impl Future<Output = ()>,
) -> ServeEnd
where
    S: AsyncRead + AsyncWrite + Unpin,
    H: Handler,
{
    let lane = session.lane;
    let session = Arc::new(session);
    let handle = |kind, body| Arc::clone(&handler).handle(Arc::clone(&session), kind, body);
    let mut serving = Serving {
        io,
        lane,
        limits,
        handle,
        running: crate::slots::Slots::new(),
        running_bytes: 0,
        answer_len: 0,
        answers: Answers { ordered: lane.is_ordered(), queue: VecDeque::new(), first: 0 },
        watchdog: Watchdog::new(),
        stopping: false,
    };
    let mut stop = std::pin::pin!(stop);
    poll_fn(move |cx| {
        if !serving.stopping && stop.as_mut().poll(cx).is_ready() {
            serving.stopping = true;
        }
        serving.poll(cx)
    })
    .await
}

impl<S, F, H> Serving<'_, S, F, H>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = Outcome>,
    H: FnMut(Kind, Bytes) -> F,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ServeEnd> {
        loop {
            let answered = self.poll_running(cx);
            // Everything that became ready in this wake-up leaves in one write.
            let read = match self.poll_requests(cx) {
                Ok(read) => read,
                Err(end) => return Poll::Ready(end),
            };
            if !answered && !read {
                break;
            }
        }
        match self.io.poll_flush(cx) {
            Poll::Ready(Err(error)) => return Poll::Ready(ServeEnd::Gone(error)),
            Poll::Ready(Ok(())) if self.stopping && self.under_way() == 0 => return Poll::Ready(ServeEnd::Orderly),
            // The queue was full when the requests were looked at, and now it is not: look again, or nobody would.
            Poll::Ready(Ok(())) if self.io_was_full() => cx.waker().wake_by_ref(),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        let full = self.is_full();
        match self.watchdog.poll(cx, self.io, &self.limits, full) {
            Some(reason) => Poll::Ready(ServeEnd::Slow(reason)),
            None => Poll::Pending,
        }
    }

    /// Requests that have been read and not answered.
    fn under_way(&self) -> usize {
        self.running.len() + self.answers.queue.len()
    }

    fn is_full(&self) -> bool {
        self.running.len().max(self.answers.queue.len()) >= self.limits.in_flight_max(self.lane)
            || self.running_bytes >= self.limits.in_flight_bytes_max
            || self.running.len().saturating_mul(self.answer_len) >= ANSWER_BYTES_MAX
            || self.io.unsent() >= UNSENT_BYTES_MAX
    }

    /// An answer of this length was given. The next are expected to be as long; a long one is forgotten over some shorter ones.
    fn expect_answers(&mut self, len: usize) {
        self.answer_len = len.max(self.answer_len - self.answer_len / 8);
    }

    fn io_was_full(&mut self) -> bool {
        std::mem::take(&mut self.watchdog.stopped_for_unsent)
    }

    /// Files the results of handlers. Whether there was any.
    fn poll_running(&mut self, cx: &mut Context<'_>) -> bool {
        let mut any = false;
        while let Poll::Ready((ticket, outcome)) = self.running.poll(cx) {
            any = true;
            self.running_bytes -= ticket.len;
            if !self.answers.ordered {
                self.answer(ticket.id, ticket.kind, outcome);
                continue;
            }
            let place = usize::try_from(ticket.number - self.answers.first).unwrap_or(usize::MAX);
            if let Some((_, _, waiting)) = self.answers.queue.get_mut(place) {
                *waiting = Some(outcome);
            }
            while let Some((_, _, Some(_))) = self.answers.queue.front() {
                let Some((id, kind, Some(outcome))) = self.answers.queue.pop_front() else { break };
                self.answers.first += 1;
                self.answer(id, kind, outcome);
            }
        }
        any
    }

    fn answer(&mut self, id: RequestId, kind: Kind, outcome: Outcome) {
        let (role, body) = match outcome {
            Ok(body) => (Role::Answer, body),
            Err(fault) => (Role::FailedAnswer, fault.encode()),
        };
        self.expect_answers(body.len());
        if let Err(error) = self.io.push(FrameHead { kind, role, id }, body) {
            // Our own answer is too long. The peer must learn that there will be none.
            let fault = Fault::new(FaultCode::AnswerTooLong, format_args!("the answer is too long: {error}"));
            let _fits = self.io.push(FrameHead { kind, role: Role::FailedAnswer, id }, fault.encode());
        }
    }

    /// Takes in requests while there is room. Whether there was any.
    fn poll_requests(&mut self, cx: &mut Context<'_>) -> Result<bool, ServeEnd> {
        let mut any = false;
        while !self.stopping && !self.is_full() {
            match self.io.poll_frame(cx) {
                Poll::Ready(Ok(frame)) => self.on_frame(frame)?,
                Poll::Ready(Err(LinkError::Frame(error))) => return Err(ServeEnd::Malformed(error.to_string())),
                Poll::Ready(Err(error)) => {
                    let orderly = error == LinkError::Closed && self.io.partial().is_none() && self.under_way() == 0;
                    return Err(if orderly { ServeEnd::Orderly } else { ServeEnd::Gone(error) });
                }
                Poll::Pending => break,
            }
            any = true;
        }
        self.watchdog.stopped_for_unsent = self.io.unsent() >= UNSENT_BYTES_MAX;
        Ok(any)
    }

    fn on_frame(&mut self, frame: Frame) -> Result<(), ServeEnd> {
        let Frame { kind, role, id, body } = frame;
        match (kind, role) {
            (Kind::Ping, Role::Request) => {
                let head = FrameHead { kind, role: Role::Answer, id };
                self.io.push(head, Body::new()).map_err(|error| ServeEnd::Malformed(error.to_string()))
            }
            (Kind::Refuse, Role::Request) => Err(ServeEnd::Refused(crate::handshake::on_refuse(body).to_string())),
            (kind, Role::Request) if self.lane.carries(kind) => {
                let number = self.answers.first + self.answers.queue.len() as u64;
                if self.answers.ordered {
                    self.answers.queue.push_back((id, kind, None));
                }
                let ticket = Ticket { id, kind, number, len: body.len() };
                self.running_bytes += body.len();
                let future = (self.handle)(kind, body);
                self.running.insert(ticket, future);
                Ok(())
            }
            (kind, Role::Request) => {
                Err(ServeEnd::Malformed(format!("a request {kind:?} has no place on the lane {:?}", self.lane)))
            }
            (kind, Role::Answer | Role::FailedAnswer) => {
                Err(ServeEnd::Malformed(format!("an answer {kind:?} to nothing that was asked")))
            }
        }
    }
}

/// Sees that a peer neither dribbles a frame nor leaves answers lying. Costs a look at two counters a wake-up; the clock
/// is read only when something has begun to hang.
struct Watchdog {
    timer: Pin<Box<Sleep>>,
    /// When the frame that is arriving began, and how many frames had come before it.
    partial: Option<(Instant, u64)>,
    /// Since when nothing of what is unsent has left, and how much had been written then.
    unsent: Option<(Instant, u64)>,
    /// Reading stopped because too much was unsent.
    stopped_for_unsent: bool,
}

impl Watchdog {
    fn new() -> Self {
        Watchdog {
            timer: Box::pin(sleep_until(Instant::now())),
            partial: None,
            unsent: None,
            stopped_for_unsent: false,
        }
    }

    /// What the peer is too slow at, if anything. `full` says that this side does not read at the moment.
    fn poll<S>(&mut self, cx: &mut Context<'_>, io: &FrameIo<S>, limits: &Limits, full: bool) -> Option<&'static str>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let arriving = io.partial().filter(|_| !full);
        self.partial = arriving.map(|_| since(self.partial, io.frames()));
        self.unsent = (io.unsent() > 0).then(|| since(self.unsent, io.written_bytes()));
        let frame_due = self.partial.map(|(since, _)| since + limits.frame_deadline(arriving.unwrap_or(0)));
        let write_due = self.unsent.map(|(since, _)| since + limits.write_stall_max);
        let due = match (frame_due, write_due) {
            (None, None) => return None,
            (Some(due), None) | (None, Some(due)) => due,
            (Some(frame), Some(write)) => frame.min(write),
        };
        // A timer that fires too early is set anew; one that would fire too late is set now.
        if self.timer.deadline() > due {
            self.timer.as_mut().reset(due);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if frame_due.is_some_and(|due| due <= now) {
                return Some("the peer sends a frame too slowly");
            }
            if write_due.is_some_and(|due| due <= now) {
                return Some("the peer does not take its answers");
            }
            self.timer.as_mut().reset(due);
        }
        None
    }
}

/// The time at which `counter` took its present value, as far as it was looked at.
fn since(seen: Option<(Instant, u64)>, counter: u64) -> (Instant, u64) {
    seen.filter(|&(_, at)| at == counter).unwrap_or_else(|| (Instant::now(), counter))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::BODY_LEN_MAX;
    use crate::frame::encode_frame;
    use crate::identity::{Features, PeerIdentity, ProtocolVersion};
    use crate::limits::{BODY_RATE_MIN, HEADER_DEADLINE, WRITE_STALL_MAX};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;
    use tokio::io::{AsyncWriteExt, DuplexStream};

    /// Answers everything with a long answer, and counts.
    struct Verbose {
        answer: Bytes,
        asked: AtomicUsize,
    }

    impl Handler for Verbose {
        async fn handle(self: Arc<Self>, _: Arc<Session>, _: Kind, _: Bytes) -> Result<Body, Fault> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            Ok(self.answer.clone().into())
        }
    }

    /// Everything here is in memory and in one thread: after this, all that can happen has happened.
    async fn settle() {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    type Serving = tokio::task::JoinHandle<ServeEnd>;

    /// A connection of the client lane that answers everything in this length, and the far end of it.
    fn verbose(len: usize, buffer: usize) -> (Arc<Verbose>, FrameIo<DuplexStream>, Serving) {
        let (handler, far, serving) = verbose_to_bytes(len, buffer);
        (handler, FrameIo::new(far, BODY_LEN_MAX), serving)
    }

    fn verbose_to_bytes(len: usize, buffer: usize) -> (Arc<Verbose>, DuplexStream, Serving) {
        let (near, far) = tokio::io::duplex(buffer);
        let (peer, lane) = (PeerIdentity::default(), Lane::Client);
        let session = Session { peer, lane, version: ProtocolVersion(1), features: Features::CURRENT };
        let handler = Arc::new(Verbose { answer: Bytes::from(vec![1; len]), asked: AtomicUsize::new(0) });
        let serving = tokio::spawn({
            let handler = Arc::clone(&handler);
            async move {
                let mut io = FrameIo::new(near, BODY_LEN_MAX);
                serve_connection(&mut io, session, Limits::default(), handler, std::future::pending()).await
            }
        });
        (handler, far, serving)
    }

    /// A request is taken in before anybody knows how long its answer will be. So it counts as the answers of late.
    #[tokio::test]
    async fn requests_whose_answers_will_be_long_are_taken_in_one_by_one() {
        let len = 3 << 20;
        let (handler, mut peer, serving) = verbose(len, 1 << 16);
        let ask = |peer: &mut FrameIo<_>, id| {
            let head = FrameHead { kind: Kind::Client, role: Role::Request, id: RequestId(id) };
            peer.push(head, Body::new()).unwrap();
        };
        ask(&mut peer, 1);
        poll_fn(|cx| {
            let _left = peer.poll_flush(cx);
            peer.poll_frame(cx)
        })
        .await
        .unwrap();
        (2..=200).for_each(|id| ask(&mut peer, id));
        poll_fn(|cx| peer.poll_flush(cx)).await.unwrap();
        settle().await;
        // 22 of them are 66 MiB.
        assert_eq!(handler.asked.load(Ordering::SeqCst), 1 + 22);
        drop(peer);
        assert!(matches!(serving.await.unwrap(), ServeEnd::Gone(_)));
    }

    #[tokio::test]
    async fn a_peer_that_takes_no_answers_is_asked_for_no_more_requests() {
        let line = 4096;
        let (handler, mut peer, serving) = verbose(UNSENT_BYTES_MAX / 3 + line, line);
        let asked = || handler.asked.load(Ordering::SeqCst);
        // One at a time, and none of the answers is read: three of them are beyond the bound, whatever has left.
        for id in 1..=6 {
            peer.push(FrameHead { kind: Kind::Client, role: Role::Request, id: RequestId(id) }, Body::new()).unwrap();
            let flushed = poll_fn(|cx| Poll::Ready(peer.poll_flush(cx))).await;
            settle().await;
            let id = id as usize;
            assert_eq!(asked(), id.min(3), "{flushed:?}");
        }
        for id in 1..=6 {
            let frame = poll_fn(|cx| {
                // What did not fit into the line before does now.
                let _left = peer.poll_flush(cx);
                peer.poll_frame(cx)
            });
            assert_eq!(frame.await.unwrap().id, RequestId(id));
        }
        assert_eq!(asked(), 6);
        drop(peer);
        assert_eq!(serving.await.unwrap(), ServeEnd::Orderly);
    }

    /// Whatever comes after a long answer has left is looked at, though nothing was taken in while it waited.
    #[tokio::test]
    async fn a_long_answer_that_leaves_at_once_keeps_no_later_request_waiting() {
        let (handler, mut peer, serving) = verbose(2 * UNSENT_BYTES_MAX, 3 * UNSENT_BYTES_MAX);
        for id in 1..=2 {
            peer.push(FrameHead { kind: Kind::Client, role: Role::Request, id: RequestId(id) }, Body::new()).unwrap();
            poll_fn(|cx| peer.poll_flush(cx)).await.unwrap();
            settle().await;
            assert_eq!(handler.asked.load(Ordering::SeqCst) as u64, id);
            assert_eq!(poll_fn(|cx| peer.poll_frame(cx)).await.unwrap().id, RequestId(id));
        }
        drop(peer);
        assert_eq!(serving.await.unwrap(), ServeEnd::Orderly);
    }

    /// How a connection ends whose peer sends these bytes and does no more, and after how long.
    async fn end_of_one_who_stops_after(bytes: &[u8]) -> (ServeEnd, Duration) {
        let (_handler, mut peer, serving) = verbose_to_bytes(1 << 20, 4096);
        let before = Instant::now();
        peer.write_all(bytes).await.unwrap();
        (serving.await.unwrap(), before.elapsed())
    }

    /// The timer's grain is a millisecond.
    const GRAIN: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_no_answers_has_so_much_time() {
        let head = FrameHead { kind: Kind::Client, role: Role::Request, id: RequestId(1) };
        let request = encode_frame(head, &Body::new(), BODY_LEN_MAX).unwrap();
        let (end, after) = end_of_one_who_stops_after(&request).await;
        assert_eq!(end, ServeEnd::Slow("the peer does not take its answers"));
        assert!(after >= WRITE_STALL_MAX && after <= WRITE_STALL_MAX + GRAIN, "{after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_stops_in_the_middle_of_a_frame_has_so_much_time() {
        let len = 1 << 20;
        let head = FrameHead { kind: Kind::Client, role: Role::Request, id: RequestId(1) };
        let header = encode_frame(head, &vec![0; len].into(), BODY_LEN_MAX).unwrap();
        let whole = HEADER_DEADLINE + Duration::from_secs(len as u64 / BODY_RATE_MIN);
        for (bytes, time) in [(&header[..1], HEADER_DEADLINE), (&header[..], whole)] {
            let (end, after) = end_of_one_who_stops_after(bytes).await;
            assert_eq!(end, ServeEnd::Slow("the peer sends a frame too slowly"));
            assert!(after >= time && after <= time + GRAIN, "{after:?}");
        }
    }
}
