//! The requesting side of an open connection: numbers requests, sees whether the peer lives.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::body::Body;
use crate::error::{CallError, Fault};
use crate::frame::{Frame, FrameHead, Kind, RequestId, Role};
use crate::frame_io::{FrameIo, LinkError};
use crate::handshake::{HandshakeError, Session, on_refuse};
use crate::limits::UNSENT_BYTES_MAX;

/// Id of every `Ping`; requests are numbered from one.
const PING_ID: RequestId = RequestId(0);

/// An answer and the request it belongs to.
pub(crate) type Answered = (RequestId, Result<Bytes, Fault>);

/// An open connection on which this side asks and the other side answers.
pub(crate) struct ClientConn<S> {
    io: FrameIo<S>,
    session: Session,
    last_id: u64,
    /// Requests that have no answer yet, abandoned ones included.
    unanswered: usize,
    silence_max: Duration,
    /// Fires when it is time to look whether the peer has been silent. Looked at only while something is unanswered, and
    /// moved on only when it has fired, so that requests do not pay for it.
    watch: Pin<Box<Sleep>>,
    /// The oldest unanswered request was sent after the watch was armed.
    fresh: bool,
    /// What had arrived when the watch was armed.
    read_bytes_seen: u64,
    pinged: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ClientConn<S> {
    pub(crate) fn new(io: FrameIo<S>, session: Session, silence_max: Duration) -> Self {
        let watch = Box::pin(sleep_until(Instant::now() + silence_max / 2));
        ClientConn {
            io,
            session,
            last_id: 0,
            unanswered: 0,
            silence_max,
            watch,
            fresh: false,
            read_bytes_seen: 0,
            pinged: false,
        }
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// Whether nothing more should be sent before something has left or been answered.
    pub(crate) fn is_full(&self, in_flight_max: usize) -> bool {
        self.unanswered >= in_flight_max || self.io.unsent() >= UNSENT_BYTES_MAX
    }

    /// Queues a request; it leaves with the next poll.
    pub(crate) fn push(&mut self, kind: Kind, body: Body) -> Result<RequestId, CallError> {
        let id = RequestId(self.last_id + 1);
        self.io.push(FrameHead { kind, role: Role::Request, id }, body).map_err(CallError::TooLong)?;
        self.last_id = id.0;
        self.fresh |= self.unanswered == 0;
        self.unanswered += 1;
        Ok(id)
    }

    /// Writes what is queued and waits for an answer, to whichever request. Without any unanswered request it still
    /// notices that the peer closes. An error is final.
    ///
    /// Answers that have arrived already come first and without a write: a caller that sends a request for each answer
    /// then fills one write with them.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answered, CallError>> {
        while let Some(frame) = self.io.buffered_frame()? {
            if let Some(answered) = self.on_frame(frame)? {
                return Poll::Ready(Ok(answered));
            }
        }
        // A full socket must not keep answers from being read: both sides would wait for each other.
        if let Poll::Ready(Err(error)) = self.io.poll_flush(cx) {
            return Poll::Ready(Err(self.last_word(cx, error)));
        }
        loop {
            match self.io.poll_frame(cx)? {
                Poll::Ready(frame) => {
                    if let Some(answered) = self.on_frame(frame)? {
                        return Poll::Ready(Ok(answered));
                    }
                }
                Poll::Pending => return self.poll_watch(cx),
            }
        }
    }

    /// The answer in a frame; `None` for one that only shows that the peer lives.
    fn on_frame(&mut self, frame: Frame) -> Result<Option<Answered>, CallError> {
        match (frame.kind, frame.role) {
            (Kind::Refuse, _) => return Err(refused(frame.body)),
            (Kind::Ping, Role::Answer) if frame.id == PING_ID => return Ok(None),
            (_, Role::Request) => return Err(CallError::Protocol("a request on the answering side")),
            (_, Role::Answer | Role::FailedAnswer) => {}
        }
        if frame.id.0 == 0 || frame.id.0 > self.last_id || self.unanswered == 0 {
            return Err(CallError::Protocol("an answer to a request that was never made"));
        }
        self.unanswered -= 1;
        match frame.role {
            Role::FailedAnswer => match Fault::decode(frame.body) {
                Ok(fault) => Ok(Some((frame.id, Err(fault)))),
                Err(_) => Err(CallError::Protocol("a failure that cannot be read")),
            },
            Role::Answer | Role::Request => Ok(Some((frame.id, Ok(frame.body)))),
        }
    }

    /// Why the connection has ended while nobody looked, if it has. Takes in what has arrived: late answers to abandoned
    /// requests are dropped here.
    pub(crate) fn poll_end(&mut self, cx: &mut Context<'_>) -> Option<CallError> {
        loop {
            match self.poll(cx) {
                Poll::Ready(Ok(_late)) => {}
                Poll::Ready(Err(error)) => return Some(error),
                Poll::Pending => return None,
            }
        }
    }

    /// Whether a request has no answer yet, an abandoned one included.
    pub(crate) fn is_busy(&self) -> bool {
        self.unanswered > 0
    }

    /// Whether nothing was ever asked on it.
    pub(crate) fn is_unused(&self) -> bool {
        self.last_id == 0
    }

    /// A write failed; perhaps the peer said why before it closed.
    fn last_word(&mut self, cx: &mut Context<'_>, error: LinkError) -> CallError {
        match self.io.poll_frame(cx) {
            Poll::Ready(Ok(frame)) if frame.kind == Kind::Refuse => refused(frame.body),
            Poll::Ready(Ok(_) | Err(_)) | Poll::Pending => error.into(),
        }
    }

    fn poll_watch(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answered, CallError>> {
        if self.unanswered == 0 {
            return Poll::Pending;
        }
        while self.watch.as_mut().poll(cx).is_ready() {
            let heard = self.io.read_bytes() != self.read_bytes_seen;
            if !heard && self.pinged {
                return Poll::Ready(Err(CallError::Silent));
            }
            self.pinged = !heard && !self.fresh;
            self.fresh = false;
            self.read_bytes_seen = self.io.read_bytes();
            self.watch.as_mut().reset(Instant::now() + self.silence_max / 2);
            if self.pinged {
                let ping = FrameHead { kind: Kind::Ping, role: Role::Request, id: PING_ID };
                self.io.push(ping, Body::new()).map_err(CallError::TooLong)?;
                if let Poll::Ready(Err(error)) = self.io.poll_flush(cx) {
                    return Poll::Ready(Err(error.into()));
                }
            }
        }
        Poll::Pending
    }
}

fn refused(body: Bytes) -> CallError {
    match on_refuse(body) {
        HandshakeError::RefusedByPeer(refusal) => CallError::Refused(refusal),
        HandshakeError::RefusedPeer(_) | HandshakeError::Unexpected(_) | HandshakeError::Malformed(..) => {
            CallError::Protocol("a refusal that cannot be read")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::HEADER_LEN;
    use crate::identity::{Features, Lane, PeerIdentity, ProtocolVersion};
    use crate::limits::SILENCE_MAX;

    #[tokio::test]
    async fn requests_that_nobody_takes_are_queued_up_to_a_bound_in_bytes() {
        let (near, _far) = tokio::io::duplex(1);
        let (peer, lane) = (PeerIdentity::default(), Lane::Client);
        let session = Session { peer, lane, version: ProtocolVersion(1), features: Features::CURRENT };
        let io = FrameIo::new(near, u32::MAX);
        let mut conn = ClientConn::new(io, session, Duration::from_secs(1));
        let in_flight_max = 100;
        // Two headers and this are a byte less than the bound.
        let body = Bytes::from(vec![0; UNSENT_BYTES_MAX - 2 * HEADER_LEN - 1]);
        conn.push(Kind::Client, body.into()).unwrap();
        conn.push(Kind::Client, Body::new()).unwrap();
        assert!(!conn.is_full(in_flight_max));
        conn.push(Kind::Client, Body::new()).unwrap();
        assert!(conn.is_full(in_flight_max));
    }

    #[tokio::test]
    async fn requests_without_an_answer_are_bounded_in_number() {
        let (near, _far) = tokio::io::duplex(1);
        let (peer, lane) = (PeerIdentity::default(), Lane::Control);
        let session = Session { peer, lane, version: ProtocolVersion(1), features: Features::CURRENT };
        let mut conn = ClientConn::new(FrameIo::new(near, u32::MAX), session, Duration::from_secs(1));
        conn.push(Kind::Vote, Body::new()).unwrap();
        assert!(!conn.is_full(2));
        conn.push(Kind::Vote, Body::new()).unwrap();
        assert!(conn.is_full(2));
    }

    /// Silence is looked at twice in its time, and not from each request on: that much later it may show.
    #[tokio::test(start_paused = true)]
    async fn a_peer_that_is_silent_is_given_up_within_half_as_long_again() {
        let (peer, lane) = (PeerIdentity::default(), Lane::Control);
        for asked_after in [0, 1, 999, 1000, 1001, 1999, 2000, 2001, 3500] {
            let (near, _far) = tokio::io::duplex(1 << 16);
            let session = Session { peer, lane, version: ProtocolVersion(1), features: Features::CURRENT };
            let mut conn = ClientConn::new(FrameIo::new(near, u32::MAX), session, SILENCE_MAX);
            tokio::time::advance(Duration::from_millis(asked_after)).await;
            let asked = Instant::now();
            conn.push(Kind::Vote, Body::new()).unwrap();
            let end = std::future::poll_fn(|cx| conn.poll(cx)).await;
            assert!(matches!(end, Err(CallError::Silent)), "{end:?}");
            let after = asked.elapsed();
            let late = SILENCE_MAX * 3 / 2 + Duration::from_millis(1);
            assert!(after >= SILENCE_MAX / 2 && after <= late, "{asked_after}: {after:?}");
        }
    }
}
