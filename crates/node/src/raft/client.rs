//! What clients and operators ask. A call that finds the queue full is refused at once.

use std::collections::BTreeSet;

use raftwright_core::{LogIdOption, Membership, ServerState};
use raftwright_traits::{
    ChangeConditions, ChangeMembers, ChangeMembershipError, InitializeError, LogIdOf, RaftError, RaftTypeConfig,
    TransferLeaderError, UnknownReason,
};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;

use super::{IntoNodes, Raft};
use crate::metrics::{RaftMetrics, WaitError};
use crate::msg::{RaftMsg, Tx};

type Answer<V, E> = oneshot::Receiver<Result<V, E>>;

impl<C: RaftTypeConfig> Raft<C> {
    /// Hands a call over if there is room, and `busy` if there is none.
    pub(super) fn submit<V, E>(
        &self,
        message: impl FnOnce(Tx<V, E>) -> RaftMsg<C>,
        busy: E,
    ) -> Result<Answer<V, E>, RaftError<E>> {
        self.check()?;
        let (tx, rx) = oneshot::channel();
        match self.inner().outlet.api.try_send(message(tx)) {
            Ok(()) => Ok(rx),
            Err(TrySendError::Full(_)) => Err(RaftError::APIError(busy)),
            Err(TrySendError::Closed(_)) => Err(RaftError::Fatal(self.shared().end())),
        }
    }

    /// The answer to a call whose outcome needs no more than "the node has stopped" when there is none.
    pub(super) async fn answer<V, E>(&self, answer: Answer<V, E>) -> Result<V, RaftError<E>> {
        match answer.await {
            Ok(result) => result.map_err(RaftError::APIError),
            Err(_) => Err(RaftError::Fatal(self.shared().end())),
        }
    }

    /// Makes this blank server the first of a cluster with these members, this server among them. Either a map with what
    /// to store about each member, or a set of ids. Returns when the membership is durable here. It is harmless to do the
    /// same, with the same members, on several of them.
    ///
    /// # Errors
    /// [`InitializeError`] says whether the server is surely not initialized. One that has a log or a vote is never
    /// initialized again.
    #[tracing::instrument(level = "debug", skip_all, fields(id = %self.id()))]
    pub async fn initialize(
        &self,
        members: impl IntoNodes<C::NodeId, C::Node>,
    ) -> Result<(), RaftError<InitializeError<C>>> {
        let nodes = members.into_nodes();
        let voters = nodes.keys().copied().collect();
        let membership = Membership::new(vec![voters], nodes)
            .map_err(|error| RaftError::APIError(InitializeError::Membership(error)))?;
        let answer = self.submit(|tx| RaftMsg::Initialize { membership, tx }, InitializeError::Busy)?;
        let unknown = Err(InitializeError::Unknown(UnknownReason::Stopped));
        answer.await.unwrap_or(unknown).map(drop).map_err(RaftError::APIError)
    }

    /// Adds a member that receives the log and has no vote, or sets what is stored about a member. Returns the membership
    /// entry once it is committed; if `blocking`, once the member also has the log up to that entry.
    ///
    /// # Errors
    /// [`ChangeMembershipError`] says whether the change is surely not applied. If the leadership is lost while a blocking
    /// call waits for the member, that is [`UnknownReason::LeadershipLost`]: the member is added, and lacks entries.
    #[tracing::instrument(level = "debug", skip_all, fields(id = %self.id()))]
    pub async fn add_learner(
        &self,
        id: C::NodeId,
        node: C::Node,
        blocking: bool,
    ) -> Result<LogIdOf<C>, RaftError<ChangeMembershipError<C>>> {
        let log_id = self.change(|tx| RaftMsg::AddLearner { id, node, tx }).await?;
        if blocking {
            self.wait_for_learner(id, log_id).await?;
        }
        Ok(log_id)
    }

    async fn wait_for_learner(
        &self,
        id: C::NodeId,
        log_id: LogIdOf<C>,
    ) -> Result<(), RaftError<ChangeMembershipError<C>>> {
        let caught_up = |metrics: &RaftMetrics<C>| {
            let matched = metrics.replication.as_ref().and_then(|replication| replication.get(&id)).copied().flatten();
            matched.index_or_zero() >= log_id.index
        };
        // The metrics may be older than the answer just received, so "does not lead" counts only behind that entry.
        let is_over = |metrics: &RaftMetrics<C>| {
            metrics.state != ServerState::Leader && metrics.last_log_id.index_or_zero() >= log_id.index
        };
        match self.wait(None).metrics(|m| caught_up(m) || is_over(m), "the learner has caught up").await {
            Ok(metrics) if caught_up(&metrics) || id == self.id() => Ok(()),
            // The member *is* added: nothing here may be told as surely not applied.
            Ok(_) => Err(UnknownReason::LeadershipLost),
            Err(WaitError::Stopped { .. } | WaitError::Timeout(_)) => Err(UnknownReason::Stopped),
        }
        .map_err(|reason| RaftError::APIError(ChangeMembershipError::Unknown(reason)))
    }

    /// Changes the voters to exactly this set, through a joint membership that is left without anybody's help (Raft §6).
    /// Each must be a member already. Voters that are no longer leave the cluster, or stay as learners if `retain`.
    /// Returns the entry of the new membership once it is committed.
    ///
    /// # Errors
    /// [`ChangeMembershipError`] says whether the change is surely not applied.
    #[tracing::instrument(level = "debug", skip_all, fields(id = %self.id()))]
    pub async fn change_membership(
        &self,
        voters: BTreeSet<C::NodeId>,
        retain: bool,
    ) -> Result<LogIdOf<C>, RaftError<ChangeMembershipError<C>>> {
        self.change(|tx| RaftMsg::ChangeMembership { voters, retain, tx }).await
    }

    /// Takes learners out of the cluster. Returns the entry of the new membership once it is committed.
    ///
    /// # Errors
    /// [`ChangeMembershipError`] says whether the change is surely not applied.
    #[tracing::instrument(level = "debug", skip_all, fields(id = %self.id()))]
    pub async fn remove_learners(
        &self,
        ids: BTreeSet<C::NodeId>,
    ) -> Result<LogIdOf<C>, RaftError<ChangeMembershipError<C>>> {
        self.change(|tx| RaftMsg::RemoveLearners { ids, tx }).await
    }

    /// Changes the membership in any way, if what the change depends on is still so when it begins: see
    /// [`ChangeMembers`](raftwright_core::ChangeMembers) and [`ChangeConditions`](raftwright_core::ChangeConditions), whose default
    /// depends on nothing. Returns the entry of the new membership once it is committed.
    ///
    /// # Errors
    /// [`ChangeMembershipError`] says whether the change is surely not applied.
    pub async fn change_members(
        &self,
        change: ChangeMembers<C>,
        conditions: ChangeConditions<C>,
    ) -> Result<LogIdOf<C>, RaftError<ChangeMembershipError<C>>> {
        self.change(|tx| RaftMsg::ChangeMembers { change, conditions, tx }).await
    }

    /// Takes back the change of voters that is under way, when the new voters do not come and it cannot finish; otherwise, all
    /// promotions of learners that wait. Returns the entry that restores the membership from before, once it is committed. The
    /// caller of the change gets [`ChangeMembershipError::Cancelled`]. `docs/membership.md` says when that is possible, and why it
    /// is safe.
    ///
    /// # Errors
    /// [`ChangeMembershipError`]; [`ChangeMembershipError::NothingToCancel`] if this leader has not begun the change, or if it
    /// is committed. After [`ChangeMembershipError::Unknown`], either the change or its cancellation takes place.
    pub async fn cancel_membership_change(&self) -> Result<LogIdOf<C>, RaftError<ChangeMembershipError<C>>> {
        self.change(|tx| RaftMsg::CancelChange { tx }).await
    }

    async fn change(
        &self,
        message: impl FnOnce(Tx<LogIdOf<C>, ChangeMembershipError<C>>) -> RaftMsg<C>,
    ) -> Result<LogIdOf<C>, RaftError<ChangeMembershipError<C>>> {
        let answer = self.submit(message, ChangeMembershipError::Busy)?;
        answer.await.unwrap_or(Err(ChangeMembershipError::Unknown(UnknownReason::Stopped))).map_err(RaftError::APIError)
    }

    /// Hands the leadership to another voter (Thesis §3.10). Returns once this server has given way.
    ///
    /// # Errors
    /// [`TransferLeaderError`]. A full queue is told as [`TransferLeaderError::InProgress`]: try again soon.
    #[tracing::instrument(level = "debug", skip_all, fields(id = %self.id()))]
    pub async fn transfer_leader(&self, to: C::NodeId) -> Result<(), RaftError<TransferLeaderError<C>>> {
        let answer = self.submit(|tx| RaftMsg::TransferLeader { to, tx }, TransferLeaderError::InProgress)?;
        self.answer(answer).await
    }
}
