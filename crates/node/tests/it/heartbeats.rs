//! Heartbeats whose answers come late, or not at all.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use raftwright_node::ReadPolicy;
use raftwright_traits::{
    AppendEntriesRequest, AppendEntriesResponse, EmptyNode, HeartbeatRequest, HeartbeatResponse, RPCError, RPCOption,
    RaftNetworkFactory, RaftNetworkV2, TransferLeaderRequest, VoteRequest, VoteResponse,
};

use crate::fixture::{Cluster, Echo, EchoClient, TestTypes, config, with_both_leader_ids};

with_both_leader_ids!(
    answers_that_come_late_keep_a_leadership,
    heartbeats_under_way_are_bounded,
    a_connection_that_hangs_holds_up_no_heartbeat,
);

/// Ten of the longest election timeouts, on a clock that only moves when nothing runs.
const LONG: Duration = Duration::from_secs(3);

/// A round trip of 120 ms is longer than a heartbeat is waited for before the next is sent, and shorter than an election timeout.
async fn answers_that_come_late_keep_a_leadership<C: TestTypes>() {
    let cluster = Cluster::<C>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let term = cluster.raft(leader).metrics().borrow().current_term;
    cluster.router.set_delay(Duration::from_millis(60));
    for _ in 0..10 {
        tokio::time::sleep(LONG / 10).await;
        cluster.raft(leader).ensure_linearizable(ReadPolicy::ReadIndex).await.unwrap();
    }
    for id in [1, 2, 3] {
        let metrics = cluster.raft(id).metrics().borrow().clone();
        assert_eq!((metrics.current_term, metrics.current_leader), (term, Some(leader)), "server {id}");
    }
}

/// `HEARTBEATS_UNDER_WAY_MAX`: server 2 answers none. There is one at a time on each connection.
async fn heartbeats_under_way_are_bounded<C: TestTypes>() {
    let (_cluster, deaf) = leader_with::<C>(|_| false).await;
    tokio::time::sleep(LONG).await;
    let sent = deaf.sent();
    assert_eq!(sent.len(), 4, "{sent:?}");
    assert!(sent.iter().sum::<usize>() >= 38, "one in every half of an election timeout: {sent:?}");
}

/// Of the connections to server 2, the first answers nothing. What does is used again, and no heartbeat waits.
async fn a_connection_that_hangs_holds_up_no_heartbeat<C: TestTypes>() {
    let (_cluster, half_deaf) = leader_with::<C>(|connection| connection > 0).await;
    tokio::time::sleep(LONG).await;
    let sent = half_deaf.sent();
    assert!(sent.len() == 2 && sent[0] == 1, "{sent:?}");
    assert!(sent[1] >= 55, "as many as there were intervals: {sent:?}");
}

/// A leader, server 1, of three. The others are an [`Echo`]; on which connections server 2 answers heartbeats is told.
async fn leader_with<C: TestTypes>(answers: fn(usize) -> bool) -> (Cluster<C>, Deaf) {
    let mut cluster = Cluster::<C>::blank_with([], config(), 1).await;
    let echo = Echo::new(cluster.runtime.clone());
    let deaf = Deaf { echo, answers, sent: Arc::default() };
    cluster.start_with(1, deaf.clone()).await;
    cluster.raft(1).initialize(BTreeSet::from([1, 2, 3])).await.unwrap();
    cluster.wait(1).current_leader(1, "the echo grants every vote").await.unwrap();
    (cluster, deaf)
}

/// A network that loses heartbeats to server 2.
#[derive(Clone)]
struct Deaf {
    echo: Echo,
    answers: fn(usize) -> bool,
    sent: Arc<Mutex<Vec<usize>>>,
}

impl Deaf {
    /// How many heartbeats there were on each connection to server 2 that had any, in the order of their first.
    fn sent(&self) -> Vec<usize> {
        self.sent.lock().unwrap().clone()
    }
}

/// A client of one server.
struct DeafClient {
    network: Deaf,
    target: u64,
    echo: EchoClient,
    number: Option<usize>,
}

impl<C: TestTypes> RaftNetworkFactory<C> for Deaf {
    type Network = DeafClient;

    async fn new_client(&mut self, target: u64, node: &EmptyNode) -> DeafClient {
        let echo = RaftNetworkFactory::<C>::new_client(&mut self.echo, target, node).await;
        DeafClient { network: self.clone(), target, echo, number: None }
    }
}

impl<C: TestTypes> RaftNetworkV2<C> for DeafClient {
    async fn vote(&mut self, rpc: VoteRequest<C>, option: RPCOption) -> Result<VoteResponse<C>, RPCError> {
        self.echo.vote(rpc, option).await
    }

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<C>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<C>, RPCError> {
        self.echo.append_entries(rpc, option).await
    }

    async fn heartbeat(
        &mut self,
        rpc: HeartbeatRequest<C>,
        option: RPCOption,
    ) -> Result<HeartbeatResponse<C>, RPCError> {
        if self.target != 2 {
            return self.echo.heartbeat(rpc, option).await;
        }
        let Self { network, number, .. } = self;
        let number = {
            let mut sent = network.sent.lock().unwrap();
            let number = *number.get_or_insert(sent.len());
            let connections = sent.len().max(number + 1);
            sent.resize(connections, 0);
            sent[number] += 1;
            number
        };
        match (network.answers)(number) {
            true => self.echo.heartbeat(rpc, option).await,
            false => std::future::pending().await,
        }
    }

    async fn transfer_leader(&mut self, rpc: TransferLeaderRequest<C>, option: RPCOption) -> Result<(), RPCError> {
        RaftNetworkV2::<C>::transfer_leader(&mut self.echo, rpc, option).await
    }
}
