//! Measures this transport on loopback beside the bare socket: `cargo run --release -p raftwright-net --example loopback`.

use std::collections::VecDeque;
use std::error::Error;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use futures_core::Stream;
use raftwright_net::{
    Channel, Dialer, Fault, Kind, Lane, Limits, Listener, OpenGate, PeerIdentity, RaftHandler, RaftService, Session,
    Target, TcpNetworkFactory,
};
use raftwright_traits::{
    AppendEntriesRequest, AppendEntriesResponse, AppendOutcome, BasicNode, CommittedLeaderId, CommittedLeaderIdOf,
    Entry, EntryPayload, HeartbeatRequest, HeartbeatResponse, Identity, LogId, LogIdOf, RPCOption, RaftNetworkFactory,
    RaftNetworkV2, Round, Span, TransferLeaderRequest, Vote, VoteRequest, VoteResponse,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

raftwright_traits::declare_raft_types!(
    /// Bytes in, bytes out.
    pub Config: D = Bytes, R = Bytes
);

const OPTION: RPCOption = RPCOption { timeout: Span::from_secs(10) };
const ROUND_TRIPS: u32 = 50_000;
const PIPELINED: u64 = 400_000;
const IN_FLIGHT: usize = 64;

/// Answers at once.
struct Follower;

const fn me(id: u64) -> Identity<u64> {
    Identity { id, incarnation: None }
}

fn log_id(index: u64) -> LogIdOf<Config> {
    LogId::new(CommittedLeaderIdOf::<Config>::new(1, None), index)
}

impl RaftService<Config> for Follower {
    async fn vote(&self, rpc: VoteRequest<Config>) -> Result<VoteResponse<Config>, Fault> {
        Ok(VoteResponse::<Config> { from: me(2), kind: rpc.kind, asked: rpc.vote, granted: true, vote: None })
    }

    async fn append_entries(&self, rpc: AppendEntriesRequest<Config>) -> Result<AppendEntriesResponse<Config>, Fault> {
        let matched = rpc.entries.last().map(|entry| entry.log_id).or(rpc.prev_log_id);
        Ok(AppendEntriesResponse::<Config> { from: me(2), outcome: AppendOutcome::<Config>::Success { matched } })
    }

    async fn heartbeat(&self, rpc: HeartbeatRequest<Config>) -> Result<HeartbeatResponse<Config>, Fault> {
        let HeartbeatRequest { round, vote, .. } = rpc;
        Ok(HeartbeatResponse::<Config> { from: me(2), round, asked: vote, accepted: true, vote: None })
    }

    async fn transfer_leader(&self, _: TransferLeaderRequest<Config>) -> Result<(), Fault> {
        Ok(())
    }

    async fn on_client(&self, _: &Session, request: Bytes) -> Result<Bytes, Fault> {
        Ok(request)
    }
}

/// Appends of one entry each, at most a window of them ahead of the answers.
struct Appends {
    left: u64,
    payload: Bytes,
}

impl Stream for Appends {
    type Item = AppendEntriesRequest<Config>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        let entry = Entry { log_id: log_id(self.left + 1), payload: EntryPayload::Normal(self.payload.clone()) };
        Poll::Ready(Some(AppendEntriesRequest::<Config> {
            from: me(1),
            vote: Vote::new_committed(1, 1),
            prev_log_id: Some(log_id(self.left)),
            entries: vec![entry],
            committed: Some(log_id(self.left)),
        }))
    }
}

fn report(what: &str, count: u64, since: Instant) {
    let elapsed = since.elapsed();
    let each = elapsed.as_nanos() as f64 / count as f64 / 1000.0;
    println!("{what:<56} {each:>8.2} us each  {:>10.0} /s", count as f64 / elapsed.as_secs_f64());
}

async fn bare_socket() -> Result<(), Box<dyn Error>> {
    const FRAME_LEN: usize = 100;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    // As a listener does it: one task accepts, each connection has a task of its own.
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        let connection = tokio::spawn(async move {
            stream.set_nodelay(true)?;
            let mut buffer = [0; 4096];
            loop {
                let read = stream.read(&mut buffer).await?;
                if read == 0 {
                    return std::io::Result::Ok(());
                }
                stream.write_all(&buffer[..read]).await?;
            }
        });
        connection.await?
    });
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut buffer = [0; FRAME_LEN];
    let since = Instant::now();
    for _ in 0..ROUND_TRIPS {
        stream.write_all(&buffer).await?;
        stream.read_exact(&mut buffer).await?;
    }
    report("bare socket, 100 B, one after the other", u64::from(ROUND_TRIPS), since);
    drop(stream);
    Ok(server.await??)
}

async fn transport() -> Result<(), Box<dyn Error>> {
    let identity = |node| PeerIdentity { node, ..PeerIdentity::default() };
    let gate = Arc::new(OpenGate { identity: identity(Some(2)) });
    let listener = Listener::bind("127.0.0.1:0", gate, Limits::default()).await?;
    let address = listener.local_addr()?.to_string();
    let server = listener.serve(RaftHandler::new(Follower));
    let dialer = Dialer::new(Arc::new(OpenGate { identity: identity(Some(1)) }), Limits::default(), 1);
    let mut factory = TcpNetworkFactory::<Config>::new(Arc::clone(&dialer));
    let mut network = factory.new_client(2, &BasicNode::new(address.clone())).await;

    let heartbeat = |round| HeartbeatRequest::<Config> {
        from: me(1),
        vote: Vote::new_committed(1, 1),
        round: Round(round),
        committed: Some(log_id(round)),
    };
    network.heartbeat(heartbeat(0), OPTION).await?;
    let since = Instant::now();
    for round in 0..ROUND_TRIPS {
        network.heartbeat(heartbeat(u64::from(round)), OPTION).await?;
    }
    report("heartbeat, one after the other", u64::from(ROUND_TRIPS), since);

    for (what, len, count) in [
        ("append of 100 B, pipelined", 100, PIPELINED),
        ("append of 4 KiB, pipelined", 4096, PIPELINED / 4),
        ("append of 1 MiB, pipelined", 1 << 20, 2000),
    ] {
        let appends = Appends { left: count, payload: Bytes::from(vec![1; len]) };
        let since = Instant::now();
        let mut answers = network.stream_append(appends, OPTION);
        while let Some(answer) = poll_fn(|cx| Pin::new(&mut answers).poll_next(cx)).await {
            answer?;
        }
        report(what, count, since);
        println!("{:>82.2} GB/s", (count * len as u64) as f64 / since.elapsed().as_secs_f64() / 1e9);
    }

    let channel = Channel::spawn(dialer, Target { address, node: None }, Lane::Client);
    let payload = Bytes::from(vec![1; 100]);
    let since = Instant::now();
    for _ in 0..ROUND_TRIPS {
        channel.call(Kind::Client, payload.clone().into(), OPTION.timeout.into()).await?;
    }
    report("client call through a channel, one after the other", u64::from(ROUND_TRIPS), since);
    let since = Instant::now();
    let mut tasks = VecDeque::new();
    for _ in 0..IN_FLIGHT {
        let (channel, payload) = (channel.clone(), payload.clone());
        tasks.push_back(tokio::spawn(async move {
            for _ in 0..ROUND_TRIPS / 10 {
                channel.call(Kind::Client, payload.clone().into(), OPTION.timeout.into()).await?;
            }
            Ok::<_, raftwright_net::CallError>(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    report("client calls through a channel, 64 tasks", IN_FLIGHT as u64 * u64::from(ROUND_TRIPS / 10), since);
    server.shutdown().await;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    for threads in [1, 2] {
        println!("-- {threads} worker thread(s)");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
        // The main future must run on a worker, or every wake-up would cross threads.
        runtime.block_on(async {
            tokio::spawn(async { bare_socket().await.map_err(|error| error.to_string()) }).await??;
            tokio::spawn(async { transport().await.map_err(|error| error.to_string()) }).await??;
            Ok::<_, Box<dyn Error>>(())
        })?;
    }
    Ok(())
}
