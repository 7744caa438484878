//! Observing a node: watches, callbacks, a recorder.

use std::sync::Arc;
use std::time::Duration;

use raftwright_traits::{RaftError, RaftTypeConfig};
use tokio::sync::watch;

use super::Raft;
use crate::metrics::{MetricsRecorder, RaftDataMetrics, RaftMetrics, RaftServerMetrics, Wait};
use crate::msg::RaftMsg;
use crate::raft_core::Observer;

/// The callbacks could not be registered: the queue is full, or there are too many already. Try again, or drop others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[error("too many callbacks, or too much is under way")]
pub struct TooManyObservers;

/// Keeps the callbacks of [`Raft::on_leader_change`] registered. Once it is dropped, no further call of them begins.
#[derive(Debug)]
#[must_use = "dropping it takes the callbacks back"]
pub struct LeaderChangeHandle {
    _wanted: Arc<()>,
}

impl<C: RaftTypeConfig> Raft<C> {
    /// The node's state, for observers: the newest value, and a way to be told of the next. Values may be skipped.
    pub fn metrics(&self) -> watch::Receiver<RaftMetrics<C>> {
        self.shared().metrics.subscribe()
    }

    /// The part of the metrics that changes with every write.
    pub fn data_metrics(&self) -> watch::Receiver<RaftDataMetrics<C>> {
        self.shared().watch_data()
    }

    /// The part of the metrics that changes with leaders and memberships.
    pub fn server_metrics(&self) -> watch::Receiver<RaftServerMetrics<C>> {
        self.shared().watch_server()
    }

    /// Waits for the node to be as one wants it, at most so long; `None` is for ever.
    pub fn wait(&self, timeout: Option<Duration>) -> Wait<C> {
        Wait::new(self.shared().runtime.clone(), timeout, self.metrics())
    }

    /// Calls `start` when this server begins to lead and `stop` when it ends, with the leader id: none is skipped, each start
    /// has its stop, also when the node stops, and a server that leads already is told at once. They are called by the
    /// node's central task: they must be quick and never block. A panic is caught and noted.
    ///
    /// A leader that has just begun may not know yet of everything that was committed before it; ask
    /// [`ensure_linearizable`](Self::ensure_linearizable) first where that matters.
    ///
    /// # Errors
    /// [`TooManyObservers`]; [`RaftError::Fatal`] if the node has stopped.
    #[tracing::instrument(level = "debug", skip_all, fields(id = %self.id()))]
    pub async fn on_leader_change(
        &self,
        start: impl FnMut(C::LeaderId) + Send + 'static,
        stop: impl FnMut(C::LeaderId) + Send + 'static,
    ) -> Result<LeaderChangeHandle, RaftError<TooManyObservers>> {
        let wanted = Arc::new(());
        let observer = Observer { start: Box::new(start), stop: Box::new(stop), wanted: Arc::downgrade(&wanted) };
        let answer = self.submit(|tx| RaftMsg::Observe { observer, tx }, TooManyObservers)?;
        self.answer(answer).await?;
        Ok(LeaderChangeHandle { _wanted: wanted })
    }

    /// Tells this recorder from now on of what the node does, in place of the one before; `None` tells nobody.
    pub fn set_metrics_recorder(&self, recorder: Option<Arc<dyn MetricsRecorder>>) {
        self.shared().recorder.set(recorder);
    }
}
