//! Nodes, handlers and a log to count lines in.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use raftwright_net::{
    Body, ClusterId, Dialer, Fault, Gate, Handler, Kind, Lane, Limits, Listener, OpenGate, PeerHello, PeerIdentity,
    Refusal, RefusalReason, ServerHandle, Session, Target,
};
use tokio::sync::Semaphore;
use tracing_subscriber::fmt::MakeWriter;

/// A bound on waiting for what must happen. Reaching it fails a test; nothing depends on its length.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) const CLUSTER: ClusterId = ClusterId([7; 16]);

pub(crate) fn node(id: u64) -> PeerIdentity {
    PeerIdentity { cluster: Some(CLUSTER), node: Some(id), incarnation: Some(id * 100), boot_epoch: 1, membership: 5 }
}

pub(crate) fn client() -> PeerIdentity {
    PeerIdentity { cluster: Some(CLUSTER), ..PeerIdentity::default() }
}

pub(crate) fn open_gate(identity: PeerIdentity) -> Arc<dyn Gate> {
    Arc::new(OpenGate { identity })
}

/// Admits only the incarnations that [`node`] gives: a membership in small.
#[derive(Debug)]
pub(crate) struct MemberGate(pub(crate) PeerIdentity);

impl Gate for MemberGate {
    fn identity(&self) -> PeerIdentity {
        self.0
    }

    fn admit(&self, peer: &PeerHello) -> Result<(), Refusal> {
        match peer.identity.node {
            Some(id) if peer.identity.incarnation != Some(id * 100) => {
                let text = format!("{} is not the one that the membership names", peer.identity);
                Err(Refusal::new(RefusalReason::StaleIncarnation, text))
            }
            Some(id) if id > 9 => Err(Refusal::new(RefusalReason::NotAPeer, format!("node {id} is no member"))),
            Some(_) | None => Ok(()),
        }
    }
}

/// Answers with what was asked. A request that begins with `w` waits for a permit first.
#[derive(Debug)]
pub(crate) struct Echo {
    pub(crate) permits: Semaphore,
    pub(crate) seen: Mutex<Vec<Bytes>>,
}

impl Echo {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Echo { permits: Semaphore::new(0), seen: Mutex::default() })
    }
}

impl Handler for Echo {
    async fn handle(self: Arc<Self>, _: Arc<Session>, _: Kind, body: Bytes) -> Result<Body, Fault> {
        self.seen.lock().unwrap().push(body.clone());
        if body.first() == Some(&b'w') {
            self.permits.acquire().await.unwrap().forget();
        }
        Ok(body.into())
    }
}

pub(crate) async fn serve<H: Handler>(gate: Arc<dyn Gate>, limits: Limits, handler: Arc<H>) -> (String, ServerHandle) {
    let listener = Listener::bind("127.0.0.1:0", gate, limits).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (address, listener.serve(handler))
}

pub(crate) fn dialer(identity: PeerIdentity) -> Arc<Dialer> {
    Dialer::new(open_gate(identity), Limits::default(), 1)
}

pub(crate) fn target(address: &str, node: u64) -> Target {
    Target { address: address.to_owned(), node: Some(node) }
}

pub(crate) fn kind_of(lane: Lane) -> Kind {
    match lane {
        Lane::Control => Kind::Vote,
        Lane::Bulk => Kind::AppendEntries,
        Lane::Snapshot => Kind::Snapshot,
        Lane::Client => Kind::Client,
    }
}

pub(crate) fn body(text: &str) -> Body {
    Bytes::copy_from_slice(text.as_bytes()).into()
}

/// The log lines at WARN and above of the current thread, while it lives.
pub(crate) struct LogLines {
    lines: Lines,
    _guard: tracing::subscriber::DefaultGuard,
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        self.clone()
    }
}

impl LogLines {
    pub(crate) fn capture() -> Self {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_ansi(false)
            .with_writer(lines.clone())
            .finish();
        LogLines { lines, _guard: tracing::subscriber::set_default(subscriber) }
    }

    pub(crate) fn with(&self, text: &str) -> Vec<String> {
        let bytes = self.lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }
}

/// Waits until `done`, giving way to all other tasks of the runtime meanwhile.
pub(crate) async fn eventually(mut done: impl FnMut() -> bool) {
    let wait = async {
        while !done() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("it never happened");
}
