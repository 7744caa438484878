//! A network between nodes of one process. It moves a snapshot in small pieces, and breaks when it is told to.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use raftwright::{
    AppendEntriesRequest, AppendEntriesResponse, BasicNode, Fatal, HeartbeatRequest, HeartbeatResponse,
    InstallSnapshotResponse, RPCError, RPCOption, Raft, RaftNetworkFactory, RaftNetworkV2, Snapshot, SnapshotContent,
    SnapshotRequest, TransferLeaderRequest, VoteRequest, VoteResponse,
};

use crate::store::Wiki;

/// How much of a snapshot goes in one piece.
const PIECE_BYTES: usize = 1_000;

/// Finds nodes by their ids.
#[derive(Clone, Default)]
pub struct Network {
    nodes: Arc<Mutex<BTreeMap<u64, Raft<Wiki>>>>,
    pieces: Arc<AtomicU64>,
}

impl Network {
    /// This node can be reached from now on.
    pub fn connect(&self, raft: Raft<Wiki>) {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).insert(raft.id(), raft);
    }

    /// How many pieces of snapshots were sent.
    pub fn pieces(&self) -> u64 {
        self.pieces.load(Ordering::Relaxed)
    }
}

impl RaftNetworkFactory<Wiki> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: u64, _: &BasicNode) -> Link {
        Link { network: self.clone(), target }
    }
}

/// The way to one node.
pub struct Link {
    network: Network,
    target: u64,
}

impl Link {
    fn raft(&self) -> Result<Raft<Wiki>, RPCError> {
        let nodes = self.network.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.get(&self.target).cloned().ok_or_else(|| RPCError::Unreachable(format!("no node {}", self.target)))
    }
}

fn lost(fatal: Fatal) -> RPCError {
    RPCError::Network(fatal.to_string())
}

impl RaftNetworkV2<Wiki> for Link {
    async fn vote(&mut self, rpc: VoteRequest<Wiki>, _: RPCOption) -> Result<VoteResponse<Wiki>, RPCError> {
        self.raft()?.vote(rpc).await.map_err(lost)
    }

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Wiki>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<Wiki>, RPCError> {
        self.raft()?.append_entries(rpc).await.map_err(lost)
    }

    async fn heartbeat(
        &mut self,
        rpc: HeartbeatRequest<Wiki>,
        _: RPCOption,
    ) -> Result<HeartbeatResponse<Wiki>, RPCError> {
        self.raft()?.heartbeat(rpc).await.map_err(lost)
    }

    async fn full_snapshot(
        &mut self,
        rpc: SnapshotRequest<Wiki>,
        _: RPCOption,
    ) -> Result<InstallSnapshotResponse<Wiki>, RPCError> {
        let broken = |error: std::io::Error| RPCError::Network(error.to_string());
        let raft = self.raft()?;
        let head = rpc.head().ok_or_else(|| RPCError::Refused("a snapshot of nothing".to_owned()))?;
        let mut place = raft.begin_receiving_snapshot().await.map_err(lost)?;
        let (mut at, mut piece) = (0, vec![0; PIECE_BYTES]);
        loop {
            let count = rpc.snapshot.snapshot.read_at(at, &mut piece).map_err(broken)?;
            if count == 0 {
                break;
            }
            place.write_at(at, &piece[..count]).map_err(broken)?;
            at += count as u64;
            self.network.pieces.fetch_add(1, Ordering::Relaxed);
        }
        let snapshot = Snapshot { meta: rpc.snapshot.meta.clone(), snapshot: place };
        raft.install_full_snapshot(head, snapshot).await.map_err(lost)
    }

    async fn transfer_leader(&mut self, rpc: TransferLeaderRequest<Wiki>, _: RPCOption) -> Result<(), RPCError> {
        self.raft()?.handle_transfer_leader(rpc).await.map_err(lost)
    }
}
