//! A link: one lane to one peer, owned by one task that asks and waits itself. No task stands between it and the socket.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, Sleep, sleep, timeout};

use crate::backoff::Backoff;
use crate::body::Body;
use crate::client_conn::{Answered, ClientConn};
use crate::dialer::{Dialer, Target, Wire};
use crate::error::{CallError, DialError};
use crate::frame::{Kind, RequestId};
use crate::handshake::Session;
use crate::identity::Lane;
use crate::limits::Limits;

type Dialing = Pin<Box<dyn Future<Output = Result<ClientConn<Wire>, DialError>> + Send>>;

enum State {
    /// Not connected, and free to connect.
    Idle,
    /// Not connected, and waiting before the next attempt.
    Pausing(Pin<Box<Sleep>>),
    /// Connecting. The attempt is kept when the call that started it is abandoned, so that calls with short deadlines
    /// reach a peer far away too.
    Dialing(Dialing),
    /// Connected.
    Open(Box<ClientConn<Wire>>),
}

/// One lane to one peer. It connects when first used and again when the connection was lost, after a pause that grows
/// with each failure. Dropping a call abandons it: the link stays usable, the late answer is thrown away.
pub struct Link {
    dialer: Arc<Dialer>,
    target: Target,
    lane: Lane,
    backoff: Backoff,
    state: State,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("target", &self.target).field("lane", &self.lane).finish_non_exhaustive()
    }
}

impl Link {
    /// A link that has not connected yet.
    pub fn new(dialer: Arc<Dialer>, target: Target, lane: Lane) -> Self {
        let limits = dialer.limits();
        let backoff = Backoff::new(limits.backoff_min, limits.backoff_max, dialer.next_seed());
        Link { dialer, target, lane, backoff, state: State::Idle }
    }

    /// Whom it connects to.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Takes the connection that an earlier link to this target has left with [`park`](Self::park), if there is one.
    pub(crate) fn unpark(&mut self) {
        if let Some(conn) = self.dialer.parked().take(&self.target) {
            self.state = State::Open(conn);
        }
    }

    /// Leaves an open connection on which nothing is under way to the next link to this target.
    pub(crate) fn park(&mut self) {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Open(conn) if !conn.is_busy() && !conn.is_unused() => self.dialer.parked().park(&self.target, conn),
            State::Open(_) | State::Idle | State::Pausing(_) | State::Dialing(_) => {}
        }
    }

    /// The bounds in force.
    pub(crate) fn limits(&self) -> &Limits {
        self.dialer.limits()
    }

    /// When so many bytes of a snapshot may leave; see [`Dialer::set_snapshot_rate`].
    pub(crate) fn throttled(&self, bytes: u32) -> Instant {
        self.dialer.throttled(bytes)
    }

    /// The session in use, when connected.
    pub fn session(&self) -> Option<&Session> {
        match &self.state {
            State::Open(conn) => Some(conn.session()),
            State::Idle | State::Pausing(_) | State::Dialing(_) => None,
        }
    }

    /// Closes a connection on which requests were abandoned: what is still queued on it is not sent, and answers that nobody
    /// waits for hold no places.
    pub(crate) fn close_if_busy(&mut self) {
        if matches!(&self.state, State::Open(conn) if conn.is_busy()) {
            self.state = State::Idle;
        }
    }

    /// Sends one request and waits for its answer for `deadline`, which covers connecting too.
    ///
    /// While a pause between attempts runs, the call waits for its end and then makes one attempt.
    ///
    /// # Errors
    ///
    /// A [`CallError`]; [`is_surely_not_done`](CallError::is_surely_not_done) says whether the peer may have acted.
    pub async fn call(&mut self, kind: Kind, body: Body, deadline: Duration) -> Result<Bytes, CallError> {
        let mut sent = false;
        let call = self.call_without_deadline(kind, body, &mut sent);
        match timeout(deadline, call).await {
            Ok(result) => result,
            Err(_) => Err(CallError::Deadline { sent }),
        }
    }

    async fn call_without_deadline(&mut self, kind: Kind, body: Body, sent: &mut bool) -> Result<Bytes, CallError> {
        poll_fn(|cx| self.poll_open(cx)).await?;
        let id = self.push(kind, body)?;
        *sent = true;
        loop {
            let (answered, answer) = poll_fn(|cx| self.poll_answer(cx)).await?;
            if answered == id {
                return answer.map_err(CallError::Fault);
            }
        }
    }

    /// Becomes ready when connected. Each error has started the next pause; a later call goes on from there.
    pub(crate) fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        loop {
            match &mut self.state {
                State::Open(conn) => {
                    let Some(end) = conn.poll_end(cx) else { return Poll::Ready(Ok(())) };
                    if conn.is_unused() {
                        // A host that greets and hangs up would be asked again as fast as it can do that.
                        self.pause();
                        return Poll::Ready(Err(self.unused(end)));
                    }
                    // It ended between two calls, so nobody is waiting for anything: connect anew without an error.
                    self.state = State::Idle;
                }
                State::Pausing(pause) => {
                    ready!(pause.as_mut().poll(cx));
                    self.state = State::Idle;
                }
                State::Idle => self.state = State::Dialing(self.dial()),
                State::Dialing(dialing) => match ready!(dialing.as_mut().poll(cx)) {
                    Ok(conn) => self.state = State::Open(Box::new(conn)),
                    Err(error) => {
                        self.pause();
                        return Poll::Ready(Err(error.into()));
                    }
                },
            }
        }
    }

    fn dial(&self) -> Dialing {
        let (dialer, target, lane) = (Arc::clone(&self.dialer), self.target.clone(), self.lane);
        Box::pin(async move {
            let (io, session) = dialer.dial(&target, lane).await?;
            Ok(ClientConn::new(io, session, dialer.limits().silence_max))
        })
    }

    /// The end of a connection on which nothing was asked: as if there had been none.
    fn unused(&self, end: CallError) -> CallError {
        match end {
            CallError::Lost(error) => DialError::Link { address: self.target.address.clone(), error }.into(),
            other => other,
        }
    }

    fn pause(&mut self) {
        self.state = State::Pausing(Box::pin(sleep(self.backoff.on_failure())));
    }

    /// Whether more requests would be too many; always false while not connected.
    pub(crate) fn is_full(&self) -> bool {
        match &self.state {
            State::Open(conn) => conn.is_full(self.dialer.limits().in_flight_max(self.lane)),
            State::Idle | State::Pausing(_) | State::Dialing(_) => false,
        }
    }

    /// Queues a request on an open link; [`poll_answer`](Self::poll_answer) sends it.
    pub(crate) fn push(&mut self, kind: Kind, body: Body) -> Result<RequestId, CallError> {
        match &mut self.state {
            State::Open(conn) if conn.is_full(self.dialer.limits().in_flight_max(self.lane)) => {
                // So many abandoned requests without an answer: the peer is of no use through this connection.
                self.pause();
                Err(CallError::Silent)
            }
            State::Open(conn) => conn.push(kind, body),
            State::Idle | State::Pausing(_) | State::Dialing(_) => {
                Err(CallError::Protocol("a request on a link that is not open"))
            }
        }
    }

    /// Sends what is queued and waits for the next answer. After an error every request of this link is lost, and the next
    /// use connects again.
    pub(crate) fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answered, CallError>> {
        let State::Open(conn) = &mut self.state else {
            return Poll::Ready(Err(CallError::Protocol("an answer on a link that is not open")));
        };
        match ready!(conn.poll(cx)) {
            Ok(answered) => {
                self.backoff.on_success();
                Poll::Ready(Ok(answered))
            }
            Err(error) => {
                self.pause();
                Poll::Ready(Err(error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::OpenGate;
    use crate::identity::PeerIdentity;
    use crate::limits::BACKOFF_MAX;

    /// The pauses of a link that never connects, as its limits say.
    fn pauses(limits: Limits, failures: usize) -> Vec<Duration> {
        let dialer = Dialer::new(Arc::new(OpenGate { identity: PeerIdentity::default() }), limits, 1);
        let mut link = Link::new(dialer, Target { address: "nobody:1".to_owned(), node: None }, Lane::Control);
        let mut pause = || {
            link.pause();
            match &link.state {
                State::Pausing(pause) => pause.deadline() - Instant::now(),
                State::Idle | State::Dialing(_) | State::Open(_) => panic!("it does not pause"),
            }
        };
        (0..failures).map(|_| pause()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_between_attempts_grow_to_the_bound_and_no_further() {
        let other = Duration::from_millis(300);
        for (limits, max) in
            [(Limits::default(), BACKOFF_MAX), (Limits { backoff_max: other, ..Limits::default() }, other)]
        {
            let pauses = pauses(limits, 40);
            // The timer's grain is a millisecond.
            let grain = Duration::from_millis(1);
            assert!(pauses.iter().all(|pause| *pause <= max + grain), "{pauses:?}");
            assert!(pauses[20..].iter().all(|pause| *pause >= max / 2), "{pauses:?}");
        }
    }
}
