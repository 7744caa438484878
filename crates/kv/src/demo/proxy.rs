//! A link that can be cut and slowed: whoever connects to it is connected to somebody else, as long as it lets them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// The head of a frame (`docs/wire-format.md`): where its kind and the length of its body stand.
const HEAD_LEN: usize = 28;
const KIND_AT: usize = 5;
const LENGTH_AT: usize = 16;
/// The kind of a piece of a snapshot.
const SNAPSHOT: u8 = 0x30;

/// How much is moved at a time.
const BUFFER_BYTES: usize = 64 << 10;

/// The link to one server.
pub(super) struct Proxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    to: Mutex<Option<SocketAddr>>,
    /// Counts the cuts; connections end when it changes.
    cuts: watch::Sender<u64>,
    /// Bytes towards the server on connections that carry snapshots.
    snapshot_bytes: AtomicU64,
    /// At which of those the link is cut, ascending.
    cut_at: Mutex<Vec<u64>>,
    /// Most bytes a second towards the server, over all connections; 0 for no bound.
    rate: AtomicU64,
    /// When the next byte may pass.
    next: Mutex<Instant>,
}

impl Proxy {
    /// A link that leads nowhere yet.
    pub(super) async fn new() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            to: Mutex::new(None),
            cuts: watch::Sender::new(0),
            snapshot_bytes: AtomicU64::new(0),
            cut_at: Mutex::new(Vec::new()),
            rate: AtomicU64::new(0),
            next: Mutex::new(Instant::now()),
        });
        tokio::spawn(accept(listener, Arc::downgrade(&shared)));
        Ok(Self { addr, shared })
    }

    pub(super) fn addr(&self) -> String {
        self.addr.to_string()
    }

    pub(super) fn lead_to(&self, addr: SocketAddr) {
        *self.shared.to.lock().unwrap_or_else(PoisonError::into_inner) = Some(addr);
    }

    /// Cuts the link each time when so many bytes more have passed on connections that carry snapshots.
    pub(super) fn cut_at(&self, mut bytes: Vec<u64>) {
        bytes.sort_unstable();
        *self.shared.cut_at.lock().unwrap_or_else(PoisonError::into_inner) = bytes;
    }

    /// Lets so many bytes a second pass; 0 for no bound.
    pub(super) fn slow_to(&self, bytes_a_second: u64) {
        self.shared.rate.store(bytes_a_second, Ordering::Relaxed);
    }

    /// How often it was cut.
    pub(super) fn cuts(&self) -> u64 {
        *self.shared.cuts.borrow()
    }

    /// How many bytes have passed towards the server on connections that carry snapshots.
    pub(super) fn snapshot_bytes(&self) -> u64 {
        self.shared.snapshot_bytes.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, shared: std::sync::Weak<Shared>) {
    while let Ok((from, _)) = listener.accept().await {
        let Some(shared) = shared.upgrade() else { return };
        let to = *shared.to.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(to) = to else { continue };
        tokio::spawn(async move {
            let mut cut = shared.cuts.subscribe();
            let Ok(to) = TcpStream::connect(to).await else { return };
            // A small request must not wait for a fuller packet on either half of the way.
            let _ = (from.set_nodelay(true), to.set_nodelay(true));
            let ((from_read, from_write), (to_read, to_write)) = (from.into_split(), to.into_split());
            let is_snapshot = AtomicBool::new(false);
            tokio::select! {
                biased;
                _ = cut.changed() => {}
                () = forth(&shared, &is_snapshot, from_read, to_write) => {}
                () = back(to_read, from_write) => {}
            }
        });
    }
}

/// Towards the server: counted, slowed, and cut.
async fn forth(shared: &Shared, is_snapshot: &AtomicBool, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut head = Sniffer::default();
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let Some(bytes) = buffer.get(..count) else { return };
        if head.second_kind(bytes) == Some(SNAPSHOT) {
            is_snapshot.store(true, Ordering::Relaxed);
        }
        shared.take_turn(count as u64).await;
        if is_snapshot.load(Ordering::Relaxed) && shared.count(count as u64) {
            shared.cuts.send_modify(|cuts| *cuts += 1);
            return;
        }
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

async fn back(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let Some(bytes) = buffer.get(..count) else { return };
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

impl Shared {
    /// Counts bytes of a snapshot. Whether the link is to be cut before they pass.
    fn count(&self, bytes: u64) -> bool {
        let all = self.snapshot_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let mut cut_at = self.cut_at.lock().unwrap_or_else(PoisonError::into_inner);
        if cut_at.first().is_some_and(|at| *at <= all) {
            cut_at.remove(0);
            return true;
        }
        false
    }

    async fn take_turn(&self, bytes: u64) {
        let rate = self.rate.load(Ordering::Relaxed);
        if rate == 0 {
            return;
        }
        let turn = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = (*next).max(Instant::now());
            *next = turn + Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / rate);
            turn
        };
        sleep_until(turn).await;
    }
}

/// Finds the kind of the second frame of a connection: the first is the greeting, and says nothing of what follows.
#[derive(Default)]
struct Sniffer {
    /// What of the first two frames was seen, as long as it is of interest.
    seen: Vec<u8>,
    done: bool,
}

impl Sniffer {
    fn second_kind(&mut self, bytes: &[u8]) -> Option<u8> {
        if self.done {
            return None;
        }
        self.seen.extend_from_slice(bytes);
        let length = self.seen.get(LENGTH_AT..LENGTH_AT + 4)?.try_into().ok()?;
        let second = HEAD_LEN + u32::from_le_bytes(length) as usize;
        let kind = *self.seen.get(second + KIND_AT)?;
        self.done = true;
        self.seen = Vec::new();
        Some(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; HEAD_LEN];
        frame[KIND_AT] = kind;
        frame[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&(body.len() as u32).to_le_bytes());
        frame.extend_from_slice(body);
        frame
    }

    #[test]
    fn the_second_frame_says_what_a_connection_is_for() {
        let bytes = [frame(1, b"hello"), frame(SNAPSHOT, b"piece")].concat();
        for cut in 0..bytes.len() {
            let mut sniffer = Sniffer::default();
            let found = [sniffer.second_kind(&bytes[..cut]), sniffer.second_kind(&bytes[cut..])];
            assert_eq!(found.into_iter().flatten().collect::<Vec<_>>(), [SNAPSHOT], "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn a_cut_ends_every_connection_and_the_next_one_passes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::new().await.unwrap();
        proxy.lead_to(listener.local_addr().unwrap());
        proxy.cut_at(vec![100]);
        let connect = || async {
            let near = TcpStream::connect(proxy.addr()).await.unwrap();
            let (far, _) = listener.accept().await.unwrap();
            (near, far)
        };
        let (mut near, mut far) = connect().await;
        let (mut idle, _idle_far) = connect().await;
        near.write_all(&frame(1, b"hello")).await.unwrap();
        near.write_all(&frame(SNAPSHOT, &[7; 10])).await.unwrap();
        let mut greeting = vec![0; HEAD_LEN + 5];
        far.read_exact(&mut greeting).await.unwrap();
        assert_eq!(greeting, frame(1, b"hello"));
        near.write_all(&[7; 200]).await.unwrap();
        assert_eq!(idle.read(&mut [0]).await.unwrap_or(0), 0, "the other connection is gone too");
        assert_eq!(proxy.cuts(), 1);
        let (mut near, mut far) = connect().await;
        far.write_all(b"back").await.unwrap();
        let mut answer = [0; 4];
        near.read_exact(&mut answer).await.unwrap();
        assert_eq!((&answer, proxy.cuts()), (b"back", 1));
    }
}
