//! The conformance suite of networks over real sockets.

use std::io::Cursor;
use std::time::Duration;

use bytes::Bytes;
use raftwright_net::{Fault, Limits, Listener, RaftHandler, RaftService, ServerHandle, TcpNetworkFactory};
use raftwright_traits::testing::{NetworkBuilder, NetworkSuite, Served, TestPeer};
use raftwright_traits::{
    AppendEntriesRequest, AppendEntriesResponse, BasicNode, HeartbeatRequest, HeartbeatResponse,
    InstallSnapshotRequest, InstallSnapshotResponse, Snapshot, TransferLeaderRequest, VoteRequest, VoteResponse,
};

use crate::raft_calls::Config;
use crate::support::{dialer, node, open_gate};

/// The suite's server behind this crate's listener.
struct Behind(TestPeer<Config>);

impl RaftService<Config> for Behind {
    async fn vote(&self, rpc: VoteRequest<Config>) -> Result<VoteResponse<Config>, Fault> {
        Ok(self.0.vote(rpc).await)
    }

    async fn append_entries(&self, rpc: AppendEntriesRequest<Config>) -> Result<AppendEntriesResponse<Config>, Fault> {
        Ok(self.0.append_entries(rpc).await)
    }

    async fn heartbeat(&self, rpc: HeartbeatRequest<Config>) -> Result<HeartbeatResponse<Config>, Fault> {
        Ok(self.0.heartbeat(rpc).await)
    }

    async fn transfer_leader(&self, rpc: TransferLeaderRequest<Config>) -> Result<(), Fault> {
        self.0.transfer_leader(rpc).await;
        Ok(())
    }

    async fn begin_receiving_snapshot(&self) -> Result<Cursor<Vec<u8>>, Fault> {
        Ok(Cursor::default())
    }

    async fn install_full_snapshot(
        &self,
        head: InstallSnapshotRequest<Config>,
        snapshot: Snapshot<Config>,
    ) -> Result<InstallSnapshotResponse<Config>, Fault> {
        Ok(self.0.install(head, snapshot.snapshot.into_inner()).await)
    }
}

struct OverTcp;

async fn serve_at(address: &str, number: u64, peer: TestPeer<Config>) -> (String, ServerHandle) {
    let listener = Listener::bind(address, open_gate(node(number)), Limits::default()).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (address, listener.serve(RaftHandler::new(Behind(peer))))
}

impl NetworkBuilder<Config> for OverTcp {
    type Factory = TcpNetworkFactory<Config>;
    type Server = ServerHandle;

    async fn serve(&self, number: u64, peer: TestPeer<Config>) -> Served<Config, ServerHandle> {
        let (address, server) = serve_at("127.0.0.1:0", number, peer).await;
        Served { node: BasicNode::new(address), server }
    }

    async fn stop(&self, server: ServerHandle) {
        server.shutdown().await;
    }

    async fn restart(&self, number: u64, node: &BasicNode, peer: TestPeer<Config>) -> ServerHandle {
        serve_at(&node.addr, number, peer).await.1
    }

    async fn nowhere(&self) -> BasicNode {
        // A port that was just free.
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        BasicNode::new(socket.local_addr().unwrap().to_string())
    }

    fn factory(&self, number: u64) -> TcpNetworkFactory<Config> {
        TcpNetworkFactory::new(dialer(node(number)))
    }

    fn data(&self, number: u64, bytes: usize) -> Bytes {
        Bytes::from(vec![number as u8; bytes])
    }

    fn node_id(&self, number: u64) -> u64 {
        number
    }

    fn snapshot(&self, content: &[u8]) -> Option<Cursor<Vec<u8>>> {
        Some(Cursor::new(content.to_vec()))
    }

    /// The links wait between two attempts to connect.
    async fn pause(&self) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn tcp_keeps_the_contract_of_a_network() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let _guard = runtime.enter();
    let report = NetworkSuite::test_all(OverTcp).unwrap();
    assert_eq!(report.skipped, []);
    println!("{} checks passed", report.passed.len());
}
