//! Opening connections.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use raftwright_traits::Time;
use raftwright_traits::transfer::Throttle;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::Instant;

use crate::error::DialError;
use crate::frame::{FrameHead, Kind, RequestId, Role};
use crate::frame_io::FrameIo;
use crate::handshake::{DialHandshake, Gate, HandshakeError, Session};
use crate::identity::Lane;
use crate::limits::{KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_PROBES, Limits};
use crate::parked::ParkingLot;
use crate::warnings::Warnings;

/// The stream under the frames. TLS will make this an enum of two; nothing above it looks inside.
pub(crate) type Wire = TcpStream;

/// Longest wait for the rate of snapshots that is believed.
const THROTTLE_WAIT_MAX: Duration = Duration::from_secs(24 * 3600);

/// Whom to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `host:port`. A name is resolved again for each attempt, so that a node may move.
    pub address: String,
    /// The node expected there, or `None` when any will do.
    pub node: Option<u64>,
}

/// Opens connections: resolves, connects, shakes hands, and says in the log once why it could not.
pub struct Dialer {
    gate: Arc<dyn Gate>,
    limits: Limits,
    warnings: Warnings,
    seeds: AtomicU64,
    /// What all snapshots of this node share.
    throttle: Mutex<Throttle>,
    /// Where the throttle's clock starts.
    start: Instant,
    parked: ParkingLot,
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialer").field("identity", &self.gate.identity()).finish_non_exhaustive()
    }
}

impl Dialer {
    /// A dialer for the node behind `gate`. `seed` decides the jitter of all pauses between attempts.
    pub fn new(gate: Arc<dyn Gate>, limits: Limits, seed: u64) -> Arc<Self> {
        let throttle = Throttle::new(limits.snapshot_bytes_per_second, u64::from(limits.snapshot_chunk()));
        Arc::new(Dialer {
            gate,
            limits,
            warnings: Warnings::default(),
            seeds: AtomicU64::new(seed),
            throttle: Mutex::new(throttle),
            start: Instant::now(),
            parked: ParkingLot::default(),
        })
    }

    /// Bounds the bytes of snapshots a second from now on, in place of
    /// [`snapshot_bytes_per_second`](Limits::snapshot_bytes_per_second); 0 for no bound.
    pub fn set_snapshot_rate(&self, bytes_per_second: u64) {
        self.throttle().set_rate(bytes_per_second, u64::from(self.limits.snapshot_chunk()));
    }

    pub(crate) fn parked(&self) -> &ParkingLot {
        &self.parked
    }

    fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When so many bytes of a snapshot may leave. They count as sent.
    pub(crate) fn throttled(&self, bytes: u32) -> Instant {
        let now = Time::from_nanos(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX));
        let at = self.throttle().take(now, u64::from(bytes));
        // A rate of a byte an hour is a wait of a day at a time at most: far beyond any use.
        Instant::now() + Duration::from(at.since(now)).min(THROTTLE_WAIT_MAX)
    }

    /// The bounds in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// A seed of its own for each link, in a fixed sequence.
    pub(crate) fn next_seed(&self) -> u64 {
        self.seeds.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
    }

    /// Opens a connection for `lane`, within the handshake's deadline.
    ///
    /// # Errors
    ///
    /// A [`DialError`]. A refusal has also been logged.
    pub(crate) async fn dial(&self, target: &Target, lane: Lane) -> Result<(FrameIo<Wire>, Session), DialError> {
        let address = &target.address;
        let result = match tokio::time::timeout(self.limits.handshake_deadline, self.dial_now(target, lane)).await {
            Ok(result) => result,
            Err(_) => Err((None, DialError::Deadline { address: address.clone() })),
        };
        result.map_err(|(ip, error)| {
            match &error {
                DialError::Handshake { .. } | DialError::Link { .. } => {
                    let ip = ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
                    self.warnings.warn(&address, ip, "connection to a peer not opened", &error);
                }
                // A peer that is down is a matter for metrics, not a line for each attempt.
                DialError::Unreachable { .. } | DialError::Deadline { .. } => {
                    tracing::debug!(peer = %address, %error, "connection to a peer not opened");
                }
            }
            error
        })
    }

    async fn dial_now(
        &self,
        target: &Target,
        lane: Lane,
    ) -> Result<(FrameIo<Wire>, Session), (Option<IpAddr>, DialError)> {
        let stream = connect(&target.address).await.map_err(|error| {
            (None, DialError::Unreachable { address: target.address.clone(), reason: error.to_string() })
        })?;
        let ip = stream.peer_addr().ok().map(|address| address.ip());
        let address = || target.address.clone();
        prepare(&stream).map_err(|error| (ip, DialError::Link { address: address(), error: error.into() }))?;
        let mut io = FrameIo::new(stream, self.limits.handshake_body_len_max);
        let handshake = DialHandshake::new(self.gate.identity(), lane, target.node);
        let link_error = |error| (ip, DialError::Link { address: address(), error });
        io.push(frame_of_handshake(Kind::Hello), handshake.hello()).map_err(|error| link_error(error.into()))?;
        poll_fn(|cx| io.poll_flush(cx)).await.map_err(link_error)?;
        let frame = poll_fn(|cx| io.poll_frame(cx)).await.map_err(link_error)?;
        match handshake.on_frame(frame, &*self.gate) {
            Ok(session) => {
                io.set_body_len_max(self.limits.body_len_max);
                Ok((io, session))
            }
            Err(error) => {
                say_refusal(&mut io, &error).await;
                Err((ip, DialError::Handshake { address: address(), error }))
            }
        }
    }
}

/// The head of every frame of the handshake.
pub(crate) const fn frame_of_handshake(kind: Kind) -> FrameHead {
    FrameHead { kind, role: Role::Request, id: RequestId(0) }
}

/// Tells the other side why, if there is something to tell. The caller bounds the time and closes.
pub(crate) async fn say_refusal<S>(io: &mut FrameIo<S>, error: &HandshakeError)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let Some(refusal) = error.refusal_to_send() else { return };
    if io.push(frame_of_handshake(Kind::Refuse), refusal.encode()).is_ok() {
        // A peer that is gone already needs no reason.
        let _gone = poll_fn(|cx| io.poll_flush(cx)).await;
    }
}

async fn connect(address: &str) -> io::Result<TcpStream> {
    let mut last = None;
    for address in lookup_host(address).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address")))
}

/// Small frames leave at once, and the kernel notices when an idle peer has ceased to exist.
pub(crate) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE);
    #[cfg(any(target_os = "linux", target_os = "macos", target_os = "freebsd", target_os = "windows"))]
    let keepalive = keepalive.with_interval(KEEPALIVE_INTERVAL).with_retries(KEEPALIVE_PROBES);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::OpenGate;
    use crate::identity::PeerIdentity;
    use crate::limits::SNAPSHOT_CHUNK_BYTES_MAX;

    fn dialer(limits: Limits) -> Arc<Dialer> {
        Dialer::new(Arc::new(OpenGate { identity: PeerIdentity::default() }), limits, 1)
    }

    #[tokio::test(start_paused = true)]
    async fn no_rate_makes_a_snapshot_wait_for_longer_than_a_day_at_a_time() {
        let dialer = dialer(Limits { snapshot_bytes_per_second: 1, ..Limits::default() });
        let waits = |bytes| dialer.throttled(bytes) - Instant::now();
        assert_eq!(waits(100), Duration::from_secs(100));
        assert_eq!(waits(u32::MAX), THROTTLE_WAIT_MAX, "not the centuries that it would take");
    }

    /// What may leave at once after a rest is a chunk, and a chunk has a bound whatever the setting says.
    #[tokio::test(start_paused = true)]
    async fn a_chunk_beyond_the_bound_makes_no_larger_burst() {
        let (rate, snapshot_chunk_bytes) = (1 << 20, u32::MAX);
        let dialer = dialer(Limits { snapshot_bytes_per_second: rate, snapshot_chunk_bytes, ..Limits::default() });
        let waits = |bytes| dialer.throttled(bytes) - Instant::now();
        for rate in [rate, 2 * rate] {
            dialer.set_snapshot_rate(rate);
            // Longer than it takes to earn all that the setting asks for.
            tokio::time::advance(Duration::from_secs(5000)).await;
            assert_eq!(waits(SNAPSHOT_CHUNK_BYTES_MAX), Duration::ZERO, "{rate}");
            assert!(waits(1000) > Duration::ZERO, "{rate}");
        }
    }
}
