//! The answering side of Raft over this transport.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use raftwright_traits::transfer::TransferRequest;
use raftwright_traits::{
    AppendEntriesRequest, AppendEntriesResponse, HeartbeatRequest, HeartbeatResponse, Identity, InstallSnapshotRequest,
    InstallSnapshotResponse, ReadIndexRequest, ReadIndexResponse, Snapshot, TransferLeaderRequest, VoteRequest,
    VoteResponse, WireNodeId,
};

use crate::body::Body;
use crate::error::{Fault, FaultCode};
use crate::frame::Kind;
use crate::handshake::Session;
use crate::message::{WireMessage, WireTypes};
use crate::receive_snapshot::SnapshotReceipts;
use crate::serve::Handler;

/// What a node does with the requests of its peers and clients: usually, hand them to its `Raft`.
///
/// Appends of one connection are begun in the order in which they came. An implementation that puts a request into a
/// first-in-first-out queue before it waits for anything else keeps that order.
///
/// Every method may answer with a [`Fault`] instead, which the peer sees as a failed call.
pub trait RaftService<C: WireTypes>: Send + Sync + 'static {
    /// RequestVote (Raft §5.2).
    fn vote(&self, rpc: VoteRequest<C>) -> impl Future<Output = Result<VoteResponse<C>, Fault>> + Send;

    /// AppendEntries (Raft §5.3).
    fn append_entries(
        &self,
        rpc: AppendEntriesRequest<C>,
    ) -> impl Future<Output = Result<AppendEntriesResponse<C>, Fault>> + Send;

    /// A leader's sign of life.
    fn heartbeat(&self, rpc: HeartbeatRequest<C>) -> impl Future<Output = Result<HeartbeatResponse<C>, Fault>> + Send;

    /// TimeoutNow (Thesis §3.10).
    fn transfer_leader(&self, rpc: TransferLeaderRequest<C>) -> impl Future<Output = Result<(), Fault>> + Send;

    /// A server that does not lead wants to read (Thesis §6.4): `Raft::read_index`. The default serves none.
    fn read_index(&self, rpc: ReadIndexRequest<C>) -> impl Future<Output = Result<ReadIndexResponse<C>, Fault>> + Send {
        let _ = rpc;
        async { Err(Fault::new(FaultCode::Unsupported, "this node serves no reads of others")) }
    }

    /// Looks at a snapshot before its content is sent, cheaply: an answer when there is nothing to send, because the node has
    /// everything up to its last entry durably, or has promised itself to somebody newer than its sender. `None`, the
    /// default, lets it come; [`install_full_snapshot`](Self::install_full_snapshot) decides in the end.
    fn check_snapshot(
        &self,
        head: &InstallSnapshotRequest<C>,
    ) -> impl Future<Output = Result<Option<InstallSnapshotResponse<C>>, Fault>> + Send {
        let _ = head;
        async { Ok(None) }
    }

    /// An empty place for the content of a snapshot that is about to arrive: `Raft::begin_receiving_snapshot`. The content is
    /// dropped when it does not arrive whole. The default takes none.
    fn begin_receiving_snapshot(&self) -> impl Future<Output = Result<C::SnapshotData, Fault>> + Send {
        async { Err(Fault::new(FaultCode::Unsupported, "this node takes no snapshots")) }
    }

    /// InstallSnapshot (Raft §7), when its content has arrived whole: `Raft::install_full_snapshot`. Called for one snapshot
    /// at a time, in a task of its own, so that it may take its time. The default installs none.
    fn install_full_snapshot(
        &self,
        head: InstallSnapshotRequest<C>,
        snapshot: Snapshot<C>,
    ) -> impl Future<Output = Result<InstallSnapshotResponse<C>, Fault>> + Send {
        let _ = (head, snapshot);
        async { Err(Fault::new(FaultCode::Unsupported, "this node takes no snapshots")) }
    }

    /// An application's request, as opaque bytes. The default serves none.
    fn on_client(&self, session: &Session, request: Bytes) -> impl Future<Output = Result<Bytes, Fault>> + Send {
        let _ = (session, request);
        async { Err(Fault::new(FaultCode::Unsupported, "this node serves no clients on this port")) }
    }
}

/// Decodes requests for a [`RaftService`], and encodes its answers. Puts snapshots together.
pub struct RaftHandler<C: WireTypes, S> {
    service: Arc<S>,
    receipts: SnapshotReceipts<C>,
}

impl<C: WireTypes, S> std::fmt::Debug for RaftHandler<C, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RaftHandler").finish_non_exhaustive()
    }
}

impl<C: WireTypes, S: RaftService<C>> RaftHandler<C, S> {
    /// A handler for [`Listener::serve`](crate::Listener::serve).
    pub fn new(service: S) -> Arc<Self> {
        Arc::new(RaftHandler { service: Arc::new(service), receipts: SnapshotReceipts::new() })
    }

    /// The service behind it.
    pub fn service(&self) -> &S {
        &self.service
    }
}

impl<C: WireTypes, S: RaftService<C>> Handler for RaftHandler<C, S> {
    async fn handle(self: Arc<Self>, session: Arc<Session>, kind: Kind, body: Bytes) -> Result<Body, Fault> {
        match kind {
            Kind::Vote => {
                let rpc = VoteRequest::<C>::decode(body)?;
                check_sender(&session, &rpc.from)?;
                Ok(self.service.vote(rpc).await?.encode())
            }
            Kind::Heartbeat => {
                let rpc = HeartbeatRequest::<C>::decode(body)?;
                check_sender(&session, &rpc.from)?;
                Ok(self.service.heartbeat(rpc).await?.encode())
            }
            Kind::TransferLeader => {
                let rpc = TransferLeaderRequest::<C>::decode(body)?;
                check_sender(&session, &rpc.from)?;
                Ok(self.service.transfer_leader(rpc).await?.encode())
            }
            Kind::ReadIndex => {
                let rpc = ReadIndexRequest::<C>::decode(body)?;
                check_sender(&session, &rpc.from)?;
                Ok(self.service.read_index(rpc).await?.encode())
            }
            Kind::AppendEntries => {
                let rpc = AppendEntriesRequest::<C>::decode(body)?;
                check_sender(&session, &rpc.from)?;
                Ok(self.service.append_entries(rpc).await?.encode())
            }
            Kind::Client => Ok(self.service.on_client(&session, body).await?.into()),
            Kind::Snapshot => {
                let request = TransferRequest::<C>::decode(body)?;
                if let TransferRequest::Offer(offer) = &request {
                    check_sender(&session, &offer.from)?;
                }
                Ok(self.receipts.on_request(&self.service, request).await?.encode())
            }
            Kind::Hello | Kind::Welcome | Kind::Refuse | Kind::Ping => {
                Err(Fault::new(FaultCode::BadRequest, "a frame of the connection itself is no request"))
            }
        }
    }
}

/// A message counts only for the node, and the incarnation of it, that the handshake named.
fn check_sender<I: WireNodeId>(session: &Session, from: &Identity<I>) -> Result<(), Fault> {
    let same_incarnation = match (session.peer.incarnation, from.incarnation) {
        (Some(greeted), Some(stated)) => greeted == stated.0,
        (None, _) | (_, None) => true,
    };
    if session.peer.node == Some(from.id.to_u64()) && same_incarnation {
        return Ok(());
    }
    Err(Fault::new(FaultCode::BadRequest, format_args!("{} speaks in the name of node {from}", session.peer)))
}
