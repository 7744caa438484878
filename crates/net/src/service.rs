//! The answering side of Raft over this transport.

use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use raftwright_traits::{
    AppendEntriesRequest, AppendEntriesResponse, HeartbeatRequest, HeartbeatResponse, Identity, TransferLeaderRequest,
    VoteRequest, VoteResponse, WireNodeId,
};

use crate::body::Body;
use crate::error::{Fault, FaultCode};
use crate::frame::Kind;
use crate::handshake::Session;
use crate::message::{WireMessage, WireTypes};
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

    /// An application's request, as opaque bytes. The default serves none.
    fn on_client(&self, session: &Session, request: Bytes) -> impl Future<Output = Result<Bytes, Fault>> + Send {
        let _ = (session, request);
        async { Err(Fault::new(FaultCode::Unsupported, "this node serves no clients on this port")) }
    }
}

/// Decodes requests for a [`RaftService`], and encodes its answers.
#[derive(Debug)]
pub struct RaftHandler<C, S> {
    service: S,
    types: PhantomData<fn() -> C>,
}

impl<C: WireTypes, S: RaftService<C>> RaftHandler<C, S> {
    /// A handler for [`Listener::serve`](crate::Listener::serve).
    pub fn new(service: S) -> Arc<Self> {
        Arc::new(RaftHandler { service, types: PhantomData })
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
            Kind::AppendEntries => {
                let rpc = AppendEntriesRequest::<C>::decode(body)?;
                check_sender(&session, &rpc.from)?;
                Ok(self.service.append_entries(rpc).await?.encode())
            }
            Kind::Client => Ok(self.service.on_client(&session, body).await?.into()),
            Kind::Snapshot => Err(Fault::new(FaultCode::Unsupported, "snapshots are not sent in this version")),
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
