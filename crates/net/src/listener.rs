//! Accepting connections.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::dialer::{frame_of_handshake, prepare, say_refusal};
use crate::frame::Kind;
use crate::frame_io::{FrameIo, LinkError};
use crate::handshake::{AcceptHandshake, Gate, HandshakeError, Refusal, RefusalReason, Session};
use crate::limits::Limits;
use crate::serve::{Handler, ServeEnd, serve_connection};
use crate::warnings::Warnings;

/// Pause after the operating system could not accept, for instance because all file descriptors are taken.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Counts of what a listener has seen since it was bound.
#[derive(Debug, Default)]
pub struct Counters {
    accepted: AtomicU64,
    refused: AtomicU64,
    malformed: AtomicU64,
    open: AtomicUsize,
}

impl Counters {
    /// Connections whose handshake succeeded.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Connections that this side or the other refused, and those that were one too many.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Connections closed because of bytes that are not frames, frames out of place, or frames that came too slowly.
    pub fn malformed(&self) -> u64 {
        self.malformed.load(Ordering::Relaxed)
    }

    /// Connections that exist now, those in their handshake included.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

/// How many connections there are, so that no stranger can take them all.
#[derive(Debug, Default)]
struct Places {
    by_address: BTreeMap<IpAddr, Held>,
    all: Held,
}

/// Connections, and those among them that are in their handshake.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    connections: usize,
    handshakes: usize,
}

struct Shared {
    gate: Arc<dyn Gate>,
    limits: Limits,
    warnings: Warnings,
    counters: Arc<Counters>,
    places: Mutex<Places>,
}

/// A bound socket that does not accept yet.
pub struct Listener {
    socket: TcpListener,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Listener {
    /// Binds to `address`, `host:port`; port zero takes a free one.
    ///
    /// # Errors
    ///
    /// What the operating system says: the port is in use, the address is not ours.
    pub async fn bind(address: &str, gate: Arc<dyn Gate>, limits: Limits) -> io::Result<Self> {
        Ok(Listener::from_socket(TcpListener::bind(address).await?, gate, limits))
    }

    /// As [`bind`](Self::bind), on a socket that is bound already.
    pub fn from_socket(socket: TcpListener, gate: Arc<dyn Gate>, limits: Limits) -> Self {
        let shared =
            Shared { gate, limits, warnings: Warnings::default(), counters: Arc::default(), places: Mutex::default() };
        Listener { socket, shared: Arc::new(shared) }
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves connections in tasks of the current Tokio runtime until [`ServerHandle::shutdown`].
    pub fn serve<H: Handler>(self, handler: Arc<H>) -> ServerHandle {
        let (stop, stopped) = watch::channel(false);
        let counters = Arc::clone(&self.shared.counters);
        let task = tokio::spawn(self.accept_until(handler, stopped));
        ServerHandle { stop, task: Some(task), counters }
    }

    async fn accept_until<H: Handler>(self, handler: Arc<H>, stopped: watch::Receiver<bool>) {
        let mut connections = JoinSet::new();
        let mut stop = std::pin::pin!(stop_of(stopped.clone()));
        loop {
            let accepted = poll_fn(|cx| {
                // Finished tasks are let go of as they finish, or the set would grow for ever.
                while let std::task::Poll::Ready(Some(_)) = connections.poll_join_next(cx) {}
                match stop.as_mut().poll(cx) {
                    std::task::Poll::Ready(()) => std::task::Poll::Ready(None),
                    std::task::Poll::Pending => self.socket.poll_accept(cx).map(Some),
                }
            });
            match accepted.await {
                None => break,
                Some(Ok((stream, peer))) => {
                    let Some(place) = Place::take(&self.shared, peer.ip()) else {
                        self.shared.turn_away(&stream, peer);
                        continue;
                    };
                    let (handler, stopped) = (Arc::clone(&handler), stopped.clone());
                    connections
                        .spawn(async move { place.shared().connection(&place, stream, peer, handler, stopped).await });
                }
                Some(Err(error)) => {
                    let nobody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
                    self.shared.warnings.warn(&"not known", nobody, "cannot accept a connection", &error);
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        let all = async { while connections.join_next().await.is_some() {} };
        if timeout(self.shared.limits.shutdown_grace, all).await.is_err() {
            connections.shutdown().await;
        }
    }
}

/// Ready when the handle says stop or is gone.
async fn stop_of(mut stopped: watch::Receiver<bool>) {
    // An error means that the handle was dropped, which stops the server too.
    let _dropped = stopped.wait_for(|stop| *stop).await;
}

/// A running listener. Dropping it stops the server without waiting for that.
#[derive(Debug)]
pub struct ServerHandle {
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
    counters: Arc<Counters>,
}

impl ServerHandle {
    /// What the listener has seen.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Stops accepting and reading requests, lets those under way finish within the grace period of [`Limits`], and ends
    /// every task. Returns when none is left.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        if let Some(task) = self.task.take() {
            // The task does not panic and nobody else can abort it; were it so, there would be nothing left to wait for.
            let _ended = task.await;
        }
    }
}

/// One connection's place among those allowed; given back when dropped.
struct Place {
    shared: Arc<Shared>,
    ip: IpAddr,
    in_handshake: std::sync::atomic::AtomicBool,
}

impl Place {
    fn take(shared: &Arc<Shared>, ip: IpAddr) -> Option<Place> {
        let mut places = shared.places.lock().unwrap_or_else(PoisonError::into_inner);
        let from_there = places.by_address.get(&ip).copied().unwrap_or_default();
        let limits = &shared.limits;
        if places.all.connections >= limits.connections_max
            || places.all.handshakes >= limits.handshakes_max
            || from_there.connections >= limits.connections_per_address_max
            || from_there.handshakes >= limits.handshakes_per_address_max
        {
            return None;
        }
        places.all.connections += 1;
        places.all.handshakes += 1;
        let held = places.by_address.entry(ip).or_default();
        held.connections += 1;
        held.handshakes += 1;
        shared.counters.open.store(places.all.connections, Ordering::Relaxed);
        Some(Place { shared: Arc::clone(shared), ip, in_handshake: true.into() })
    }

    fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    fn handshake_is_over(&self) {
        if self.in_handshake.swap(false, Ordering::Relaxed) {
            let mut places = self.shared.places.lock().unwrap_or_else(PoisonError::into_inner);
            places.all.handshakes -= 1;
            if let Some(held) = places.by_address.get_mut(&self.ip) {
                held.handshakes -= 1;
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.handshake_is_over();
        let mut places = self.shared.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.all.connections -= 1;
        if let Some(held) = places.by_address.get_mut(&self.ip) {
            held.connections -= 1;
            if held.connections == 0 {
                places.by_address.remove(&self.ip);
            }
        }
        self.shared.counters.open.store(places.all.connections, Ordering::Relaxed);
    }
}

/// How a connection ended, if not in order.
enum Trouble {
    Refused(String),
    Malformed(String),
    /// Not worth a line at this level: the peer went away.
    Gone(String),
}

impl Shared {
    /// There is no place. The peer is told so if its socket takes the words at once.
    fn turn_away(&self, stream: &TcpStream, peer: SocketAddr) {
        self.counters.refused.fetch_add(1, Ordering::Relaxed);
        let refusal = Refusal::new(RefusalReason::Overloaded, "too many connections");
        let body = refusal.encode();
        let head = frame_of_handshake(Kind::Refuse);
        if let Ok(header) = crate::frame::encode_frame(head, &body, self.limits.handshake_body_len_max) {
            let mut words = header.to_vec();
            words.extend_from_slice(&body.into_bytes());
            let _told = stream.try_write(&words);
        }
        self.warnings.warn(&peer, peer.ip(), "connection refused", &refusal);
    }

    async fn connection<H: Handler>(
        &self,
        place: &Place,
        stream: TcpStream,
        peer: SocketAddr,
        handler: Arc<H>,
        stopped: watch::Receiver<bool>,
    ) {
        if let Err(error) = prepare(&stream) {
            tracing::debug!(%peer, %error, "connection lost before its handshake");
            return;
        }
        let mut io = FrameIo::new(stream, self.limits.handshake_body_len_max);
        let result = self.greet_and_serve(place, &mut io, handler, stopped).await;
        match result {
            Ok(()) => tracing::debug!(%peer, "connection closed"),
            Err(Trouble::Gone(reason)) => tracing::debug!(%peer, %reason, "connection lost"),
            Err(Trouble::Refused(reason)) => {
                self.counters.refused.fetch_add(1, Ordering::Relaxed);
                self.warnings.warn(&peer, peer.ip(), "connection refused", &reason);
            }
            Err(Trouble::Malformed(reason)) => {
                self.counters.malformed.fetch_add(1, Ordering::Relaxed);
                self.warnings.warn(&peer, peer.ip(), "connection closed", &reason);
            }
        }
    }

    async fn greet_and_serve<S, H>(
        &self,
        place: &Place,
        io: &mut FrameIo<S>,
        handler: Arc<H>,
        stopped: watch::Receiver<bool>,
    ) -> Result<(), Trouble>
    where
        S: AsyncRead + AsyncWrite + Unpin,
        H: Handler,
    {
        let mut stop = std::pin::pin!(stop_of(stopped));
        let greeting = async {
            let mut greet = std::pin::pin!(timeout(self.limits.handshake_deadline, self.greet(io)));
            poll_fn(|cx| match stop.as_mut().poll(cx) {
                std::task::Poll::Ready(()) => std::task::Poll::Ready(None),
                std::task::Poll::Pending => greet.as_mut().poll(cx).map(Some),
            })
            .await
        };
        let session = match greeting.await {
            None => return Ok(()),
            Some(Err(_)) => return Err(Trouble::Malformed("no handshake in time".to_owned())),
            Some(Ok(greeted)) => greeted?,
        };
        place.handshake_is_over();
        self.counters.accepted.fetch_add(1, Ordering::Relaxed);
        io.set_body_len_max(self.limits.body_len_max);
        // `stop` has been polled and was pending, so it can be polled further.
        let end = serve_connection(io, session, self.limits, handler, stop).await;
        match end {
            ServeEnd::Orderly => Ok(()),
            ServeEnd::Gone(error) => Err(Trouble::Gone(format!("{}: {error}", session.peer))),
            ServeEnd::Refused(reason) => Err(Trouble::Refused(format!("{}: {reason}", session.peer))),
            ServeEnd::Slow(reason) => Err(Trouble::Malformed(format!("{}: {reason}", session.peer))),
            ServeEnd::Malformed(reason) => {
                let refusal = Refusal::new(RefusalReason::Malformed, reason);
                let error = HandshakeError::RefusedPeer(refusal);
                let _late = timeout(self.limits.handshake_deadline, say_refusal(io, &error)).await;
                Err(Trouble::Malformed(format!("{}: {error}", session.peer)))
            }
        }
    }

    async fn greet<S: AsyncRead + AsyncWrite + Unpin>(&self, io: &mut FrameIo<S>) -> Result<Session, Trouble> {
        let frame = match poll_fn(|cx| io.poll_frame(cx)).await {
            Ok(frame) => frame,
            Err(LinkError::Frame(error)) => return Err(Trouble::Malformed(error.to_string())),
            // Somebody looked whether the port is open, or went away again. A half frame is not a handshake either.
            Err(error) if io.partial().is_none() => return Err(Trouble::Gone(error.to_string())),
            Err(error) => return Err(Trouble::Malformed(format!("in the handshake: {error}"))),
        };
        match AcceptHandshake::default().on_frame(frame, &*self.gate) {
            Ok((session, welcome)) => {
                io.push(frame_of_handshake(Kind::Welcome), welcome)
                    .map_err(|error| Trouble::Malformed(error.to_string()))?;
                poll_fn(|cx| io.poll_flush(cx)).await.map_err(|error| Trouble::Gone(error.to_string()))?;
                Ok(session)
            }
            Err(error) => {
                say_refusal(io, &error).await;
                Err(match error {
                    HandshakeError::RefusedByPeer(_) | HandshakeError::RefusedPeer(_) => {
                        Trouble::Refused(error.to_string())
                    }
                    HandshakeError::Unexpected(_) | HandshakeError::Malformed(..) => {
                        Trouble::Malformed(error.to_string())
                    }
                })
            }
        }
    }
}
