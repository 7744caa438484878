//! What peers ask. They wait for room, since a request that is refused is only sent again.

use raftwright_traits::{
    AppendEntriesRequest, AppendEntriesResponse, Fatal, HeartbeatRequest, HeartbeatResponse, RaftTypeConfig,
    TransferLeaderRequest, VoteKind, VoteRequest, VoteResponse,
};

use super::Raft;
use crate::msg::RaftMsg;

impl<C: RaftTypeConfig> Raft<C> {
    /// A candidate asks for a vote or a pre-vote (Raft §5.2). A vote that is granted is durable before this returns.
    ///
    /// # Errors
    /// [`Fatal`], if the node has stopped.
    #[tracing::instrument(level = "debug", skip_all, fields(id = %self.id()))]
    pub async fn vote(&self, request: VoteRequest<C>) -> Result<VoteResponse<C>, Fatal> {
        self.ask(|tx| RaftMsg::Vote { request, tx }).await
    }

    /// A server asks whether it could win an election (Thesis §9.6). Changes nothing on either side, whatever the request's
    /// kind says.
    ///
    /// # Errors
    /// [`Fatal`], if the node has stopped.
    #[tracing::instrument(level = "debug", skip_all, fields(id = %self.id()))]
    pub async fn pre_vote(&self, request: VoteRequest<C>) -> Result<VoteResponse<C>, Fatal> {
        self.vote(VoteRequest::<C> { kind: VoteKind::PreVote, ..request }).await
    }

    /// A leader sends entries (Raft §5.3). Entries that are acknowledged are durable before this returns. A transport that
    /// has several requests of one connection calls this for one after the other, and waits for their answers together.
    ///
    /// # Errors
    /// [`Fatal`], if the node has stopped.
    #[tracing::instrument(level = "debug", skip_all, fields(id = %self.id()))]
    pub async fn append_entries(&self, request: AppendEntriesRequest<C>) -> Result<AppendEntriesResponse<C>, Fatal> {
        self.ask(|tx| RaftMsg::AppendEntries { request, tx }).await
    }

    /// A leader shows that it lives.
    ///
    /// # Errors
    /// [`Fatal`], if the node has stopped.
    #[tracing::instrument(level = "debug", skip_all, fields(id = %self.id()))]
    pub async fn heartbeat(&self, request: HeartbeatRequest<C>) -> Result<HeartbeatResponse<C>, Fatal> {
        self.ask(|tx| RaftMsg::Heartbeat { request, tx }).await
    }

    /// A leader asks this server to take over (Thesis §3.10). Returns at once: the election is the answer.
    ///
    /// # Errors
    /// [`Fatal`], if the node has stopped.
    #[tracing::instrument(level = "debug", skip_all, fields(id = %self.id()))]
    pub async fn handle_transfer_leader(&self, request: TransferLeaderRequest<C>) -> Result<(), Fatal> {
        self.send(RaftMsg::TransferRequest { request }).await
    }
}
