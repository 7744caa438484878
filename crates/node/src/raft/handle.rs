//! The handle itself: asking, observing, stopping.

use std::any::TypeId;
use std::fmt::{Debug, Formatter};
use std::sync::Arc;

use raftwright_core::Replica;
use raftwright_traits::{AsyncRuntime, Config, Fatal, Identity, JoinError, Of, RaftTypeConfig};
use tokio::sync::{mpsc, oneshot};

use super::RuntimeConfig;
use crate::intake::Outlet;
use crate::msg::RaftMsg;
use crate::shared::Shared;
use crate::sm::Closure;

/// A handle of a running node. Cheap to clone; dropping the last one stops the node.
pub struct Raft<C: RaftTypeConfig> {
    inner: Arc<Inner<C>>,
}

pub(super) struct Inner<C: RaftTypeConfig> {
    pub(super) identity: Identity<C::NodeId>,
    pub(super) shared: Arc<Shared<C>>,
    pub(super) outlet: Outlet<C>,
    pub(super) closures: mpsc::Sender<Closure>,
    /// The type of the state machine, which the handle's own type does not say.
    pub(super) state_machine: (TypeId, &'static str),
    /// The task that ends last. `None` once it was waited for.
    pub(super) core: tokio::sync::Mutex<Option<<C::AsyncRuntime as AsyncRuntime>::JoinHandle<()>>>,
}

impl<C: RaftTypeConfig> Drop for Inner<C> {
    fn drop(&mut self) {
        self.shared.stop(Fatal::Stopped);
    }
}

impl<C: RaftTypeConfig> Clone for Raft<C> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<C: RaftTypeConfig> Debug for Raft<C> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Raft").field("id", &self.inner.shared.id).finish_non_exhaustive()
    }
}

impl<C: RaftTypeConfig> Raft<C> {
    pub(super) fn from_inner(inner: Inner<C>) -> Self {
        Self { inner: Arc::new(inner) }
    }

    pub(super) fn inner(&self) -> &Inner<C> {
        &self.inner
    }

    pub(super) fn shared(&self) -> &Shared<C> {
        &self.inner.shared
    }

    /// The node's id.
    pub fn id(&self) -> C::NodeId {
        self.shared().id
    }

    /// The node's settings as they are now.
    pub fn config(&self) -> Arc<Config> {
        self.shared().config()
    }

    /// Changes settings while the node runs.
    pub fn runtime_config(&self) -> RuntimeConfig<'_, C> {
        RuntimeConfig::new(self)
    }

    /// Hands a message over, waiting for room.
    pub(super) async fn send(&self, message: RaftMsg<C>) -> Result<(), Fatal> {
        self.check()?;
        self.inner.outlet.api.send(message).await.map_err(|_| self.shared().end())
    }

    /// Hands a message over and waits for room and for the answer.
    pub(super) async fn ask<V>(&self, message: impl FnOnce(oneshot::Sender<V>) -> RaftMsg<C>) -> Result<V, Fatal> {
        let (tx, rx) = oneshot::channel();
        self.send(message(tx)).await?;
        rx.await.map_err(|_| self.shared().end())
    }

    /// `Err` once the node has stopped.
    pub(super) fn check(&self) -> Result<(), Fatal> {
        match self.shared().fatal() {
            None => Ok(()),
            Some(fatal) => Err(fatal.clone()),
        }
    }

    /// Whether this server belongs to a cluster: it was initialized, or has heard from a leader.
    ///
    /// # Errors
    /// [`Fatal`], if the node has stopped.
    #[tracing::instrument(level = "debug", skip_all, fields(id = %self.id()))]
    pub async fn is_initialized(&self) -> Result<bool, Fatal> {
        self.with_raft_state(|replica| replica.last_log_id().is_some() || replica.vote().is_some()).await
    }

    /// Looks at the replica as it is now, between two of its turns. Keep it short: nothing else happens meanwhile.
    ///
    /// # Errors
    /// [`Fatal`], if the node has stopped.
    #[tracing::instrument(level = "debug", skip_all, fields(id = %self.id()))]
    pub async fn with_raft_state<R, F>(&self, look: F) -> Result<R, Fatal>
    where
        R: Send + 'static,
        F: FnOnce(&Replica<Of<C>>) -> R + Send + 'static,
    {
        self.ask(|tx| {
            RaftMsg::Look(Box::new(move |replica| {
                // A caller that has gone needs no answer.
                let _ = tx.send(look(replica));
            }))
        })
        .await
    }

    /// Runs a closure on the state machine, between two batches of entries. For a linearizable read, call
    /// [`ensure_linearizable`](Self::ensure_linearizable) first. Closures run in the order in which they were handed over.
    ///
    /// A closure that panics stops the node: it may have left the state half changed.
    ///
    /// # Errors
    /// [`Fatal`], if the node has stopped; also a [`Fatal::Storage`], while the node goes on, if its state machine is not
    /// of type `SM`.
    #[tracing::instrument(level = "debug", skip_all, fields(id = %self.id()))]
    pub async fn with_state_machine<SM, F, R>(&self, f: F) -> Result<R, Fatal>
    where
        SM: 'static,
        R: Send + 'static,
        F: FnOnce(&mut SM) -> R + Send + 'static,
    {
        use raftwright_traits::{StorageError, StorageErrorKind};
        self.check()?;
        let (type_id, name) = self.inner.state_machine;
        if type_id != TypeId::of::<SM>() {
            let asked = std::any::type_name::<SM>();
            let message = format!("the state machine is a {name}, not a {asked} (the node goes on)");
            return Err(StorageError::new(StorageErrorKind::StateMachine, message).into());
        }
        let (tx, rx) = oneshot::channel();
        let closure: Closure = Box::new(move |state_machine| {
            if let Some(state_machine) = state_machine.downcast_mut::<SM>() {
                // A caller that has gone needs no answer.
                let _ = tx.send(f(state_machine));
            }
        });
        self.inner.closures.send(closure).await.map_err(|_| self.shared().end())?;
        rx.await.map_err(|_| self.shared().end())
    }

    /// Starts what otherwise starts by itself.
    pub fn trigger(&self) -> Trigger<'_, C> {
        Trigger { raft: self }
    }

    /// Stops the node, and returns when all its tasks have ended. Everybody who waits for it gets an error. An entry that
    /// is being applied is applied to the end.
    ///
    /// # Errors
    /// A task ended without saying how. Its work is over all the same.
    #[tracing::instrument(level = "debug", skip_all, fields(id = %self.id()))]
    pub async fn shutdown(&self) -> Result<(), JoinError> {
        self.shared().stop(Fatal::Stopped);
        let mut core = self.inner.core.lock().await;
        match core.as_mut() {
            None => Ok(()),
            Some(task) => {
                let ended = task.await;
                *core = None;
                ended
            }
        }
    }
}

/// Starts what otherwise starts by itself.
pub struct Trigger<'a, C: RaftTypeConfig> {
    pub(super) raft: &'a Raft<C>,
}

impl<C: RaftTypeConfig> Trigger<'_, C> {
    /// Starts an election, without asking first whether it can be won. Does nothing on a leader or learner.
    ///
    /// # Errors
    /// [`Fatal`], if the node has stopped.
    #[tracing::instrument(level = "debug", skip_all, fields(id = %self.raft.id()))]
    pub async fn elect(&self) -> Result<(), Fatal> {
        self.raft.send(RaftMsg::Elect).await
    }

    /// Asks for the leadership to be handed over ([`Raft::transfer_leader`]), and does not wait for it. Does nothing unless
    /// this server leads and the other is a voter.
    ///
    /// # Errors
    /// [`Fatal`], if the node has stopped.
    #[tracing::instrument(level = "debug", skip_all, fields(id = %self.raft.id()))]
    pub async fn transfer_leader(&self, to: C::NodeId) -> Result<(), Fatal> {
        let (tx, _) = oneshot::channel();
        self.raft.send(RaftMsg::TransferLeader { to, tx }).await
    }

    /// Sends a heartbeat to every member. Does nothing unless this server leads.
    ///
    /// # Errors
    /// [`Fatal`], if the node has stopped.
    #[tracing::instrument(level = "debug", skip_all, fields(id = %self.raft.id()))]
    pub async fn heartbeat(&self) -> Result<(), Fatal> {
        self.raft.send(RaftMsg::Beat).await
    }
}
