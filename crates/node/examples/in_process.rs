//! How many writes a second three nodes in one process take: memory log, empty payload, nothing between them but channels.
//!
//! `cargo run --release -p raftwright-node --example in_process -- [clients] [writes] [current|multi]`

// A program that only measures: what it does not expect ends it, and its clients are tasks of their own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::io::Cursor;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_core::Stream;
use raftwright_node::Raft;
use raftwright_traits::{
    AppendEntriesRequest, AppendEntriesResponse, Config, EmptyNode, EntryPayload, Fatal, HeartbeatRequest,
    HeartbeatResponse, LogIdOf, MemLogStore, RPCError, RPCOption, RaftNetworkFactory, RaftNetworkV2,
    RaftSnapshotBuilder, RaftStateMachine, Snapshot, SnapshotMeta, StorageError, StorageErrorKind, StoredMembership,
    TransferLeaderRequest, VoteRequest, VoteResponse, declare_raft_types,
};

declare_raft_types!(
    /// Commands and answers without content.
    Types: D = (), R = (), NodeId = u64, Node = EmptyNode
);

/// Counts.
#[derive(Default)]
struct Counter {
    applied: Option<LogIdOf<Types>>,
    membership: StoredMembership<Types>,
}

struct NoSnapshots;

fn no_snapshots() -> StorageError {
    StorageError::new(StorageErrorKind::StateMachine, "a counter that is only measured has no snapshots")
}

impl RaftSnapshotBuilder<Types> for NoSnapshots {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError> {
        Err(no_snapshots())
    }
}

impl RaftStateMachine<Types> for Counter {
    type SnapshotBuilder = NoSnapshots;

    async fn applied_state(&mut self) -> Result<(Option<LogIdOf<Types>>, StoredMembership<Types>), StorageError> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply(&mut self, entries: Vec<raftwright_traits::Entry<Types>>) -> Result<Vec<()>, StorageError> {
        let count = entries.len();
        for entry in entries {
            self.applied = Some(entry.log_id);
            if let EntryPayload::Membership(membership) = entry.payload {
                self.membership = StoredMembership::<Types> { log_id: Some(entry.log_id), membership };
            }
        }
        Ok(vec![(); count])
    }

    async fn get_snapshot_builder(&mut self) -> NoSnapshots {
        NoSnapshots
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Cursor<Vec<u8>>, StorageError> {
        Err(no_snapshots())
    }

    async fn install_snapshot(&mut self, _: &SnapshotMeta<Types>, _: Cursor<Vec<u8>>) -> Result<(), StorageError> {
        Err(no_snapshots())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError> {
        Ok(None)
    }
}

/// Calls the target's handle.
#[derive(Clone, Default)]
struct Router {
    nodes: Arc<Mutex<BTreeMap<u64, Raft<Types>>>>,
}

impl RaftNetworkFactory<Types> for Router {
    type Network = Client;

    async fn new_client(&mut self, target: u64, _: &EmptyNode) -> Client {
        Client { router: self.clone(), target }
    }
}

struct Client {
    router: Router,
    target: u64,
}

impl Client {
    fn raft(&self) -> Result<Raft<Types>, RPCError> {
        let nodes = self.router.nodes.lock().unwrap();
        nodes.get(&self.target).cloned().ok_or_else(|| RPCError::Unreachable("not started".to_owned()))
    }
}

fn lost(fatal: Fatal) -> RPCError {
    RPCError::Network(fatal.to_string())
}

impl RaftNetworkV2<Types> for Client {
    async fn vote(&mut self, rpc: VoteRequest<Types>, _: RPCOption) -> Result<VoteResponse<Types>, RPCError> {
        self.raft()?.vote(rpc).await.map_err(lost)
    }

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError> {
        self.raft()?.append_entries(rpc).await.map_err(lost)
    }

    async fn heartbeat(
        &mut self,
        rpc: HeartbeatRequest<Types>,
        _: RPCOption,
    ) -> Result<HeartbeatResponse<Types>, RPCError> {
        self.raft()?.heartbeat(rpc).await.map_err(lost)
    }

    fn stream_append<'s, S>(&'s mut self, input: S, _: RPCOption) -> impl Stream<Item = Answer> + Send + Unpin + 's
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 's,
    {
        Pipeline { raft: self.raft(), input, under_way: VecDeque::new() }
    }

    async fn transfer_leader(&mut self, rpc: TransferLeaderRequest<Types>, _: RPCOption) -> Result<(), RPCError> {
        self.raft()?.handle_transfer_leader(rpc).await.map_err(lost)
    }
}

type Answer = Result<AppendEntriesResponse<Types>, RPCError>;

type Call = Pin<Box<dyn Future<Output = Result<AppendEntriesResponse<Types>, Fatal>> + Send>>;

/// Many appends at a time.
struct Pipeline<S> {
    raft: Result<Raft<Types>, RPCError>,
    input: S,
    under_way: VecDeque<Call>,
}

impl<S: Stream<Item = AppendEntriesRequest<Types>> + Unpin> Stream for Pipeline<S> {
    type Item = Answer;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Answer>> {
        let this = &mut *self;
        let raft = match &this.raft {
            Ok(raft) => raft,
            Err(error) => return Poll::Ready(Some(Err(error.clone()))),
        };
        while let Poll::Ready(Some(request)) = Pin::new(&mut this.input).poll_next(cx) {
            let raft = raft.clone();
            let mut call = Box::pin(async move { raft.append_entries(request).await });
            // Hands it over now, behind those before it. It cannot be answered before the target has run.
            if let Poll::Ready(answer) = call.as_mut().poll(cx) {
                this.under_way.push_back(Box::pin(std::future::ready(answer)));
            } else {
                this.under_way.push_back(call);
            }
        }
        let Some(first) = this.under_way.front_mut() else { return Poll::Pending };
        let answer = std::task::ready!(first.as_mut().poll(cx));
        this.under_way.pop_front();
        Poll::Ready(Some(answer.map_err(lost)))
    }
}

async fn measure(clients: u64, writes: u64) {
    let router = Router::default();
    let config = Arc::new(Config { election_timeout_min: 1_000, election_timeout_max: 2_000, ..Config::default() });
    for id in 1..=3 {
        let (log, machine) = (MemLogStore::new(), Counter::default());
        let raft = Raft::<Types>::new(id, Arc::clone(&config), router.clone(), log, machine).await.unwrap();
        router.nodes.lock().unwrap().insert(id, raft);
    }
    let nodes: Vec<_> = router.nodes.lock().unwrap().values().cloned().collect();
    nodes[0].initialize(BTreeSet::from([1, 2, 3])).await.unwrap();
    let leader = nodes[0].wait(Some(Duration::from_secs(10))).leader("a leader").await.unwrap().current_leader.unwrap();
    let leader = nodes[leader as usize - 1].clone();
    leader.wait(Some(Duration::from_secs(10))).current_leader(leader.id(), "it knows").await.unwrap();

    // Once to warm up, and once that counts.
    for counts in [false, true] {
        let each = if counts { writes / clients } else { writes / clients / 10 + 1 };
        let start = Instant::now();
        let mut tasks = Vec::new();
        for _ in 0..clients {
            let leader = leader.clone();
            tasks.push(tokio::spawn(async move {
                for _ in 0..each {
                    leader.client_write(()).await.unwrap();
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        let took = start.elapsed();
        if counts {
            let rate = (each * clients) as f64 / took.as_secs_f64();
            println!("{clients:>5} clients  {:>9} writes  {:>8.1?}  {rate:>10.0} writes/s", each * clients, took);
        }
    }
    for raft in nodes {
        raft.shutdown().await.unwrap();
    }
    router.nodes.lock().unwrap().clear();
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let clients: Option<u64> = arguments.next().map(|text| text.parse().expect("clients: a number"));
    let writes: Option<u64> = arguments.next().map(|text| text.parse().expect("writes: a number"));
    let kind = arguments.next();
    for multi in [false, true] {
        if kind.as_deref().is_some_and(|kind| (kind == "multi") != multi) {
            continue;
        }
        let mut builder = match multi {
            false => tokio::runtime::Builder::new_current_thread(),
            true => tokio::runtime::Builder::new_multi_thread(),
        };
        let runtime = builder.enable_time().build().unwrap();
        println!("{}", if multi { "multi-threaded runtime" } else { "current-thread runtime" });
        match clients {
            Some(clients) => runtime.block_on(measure(clients, writes.unwrap_or(200_000))),
            None => {
                for (clients, writes) in
                    [(1, 50_000), (64, 500_000), (256, 1_000_000), (1_024, 2_000_000), (4_096, 2_000_000)]
                {
                    runtime.block_on(measure(clients, writes));
                }
            }
        }
    }
}
