//! Waiting until a node is as one wants it.

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use raftwright_core::{LogIdOption, ServerState};
use raftwright_traits::{AsyncRuntime, Fatal, LogIdOf, LogIndex, RaftTypeConfig, Span};
use tokio::sync::watch;

use crate::metrics::RaftMetrics;

/// What was waited for did not come about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub enum WaitError {
    /// The time is over.
    #[error("not in time: {0}")]
    Timeout(String),
    /// The node has stopped.
    #[error("{what}: {why}")]
    Stopped {
        /// What was waited for.
        what: String,
        /// Why the node has stopped.
        why: Fatal,
    },
}

/// Waits for a node's metrics to meet a condition. Each method answers with the metrics that did.
pub struct Wait<C: RaftTypeConfig> {
    runtime: C::AsyncRuntime,
    timeout: Option<Span>,
    metrics: watch::Receiver<RaftMetrics<C>>,
}

impl<C: RaftTypeConfig> Wait<C> {
    pub(crate) fn new(
        runtime: C::AsyncRuntime,
        timeout: Option<Duration>,
        metrics: watch::Receiver<RaftMetrics<C>>,
    ) -> Self {
        Self { runtime, timeout: timeout.map(Span::from), metrics }
    }

    /// Waits for any condition. `what` names it in the error.
    ///
    /// # Errors
    /// [`WaitError`], if it was not met in time, or before the node stopped.
    pub async fn metrics(
        mut self,
        condition: impl Fn(&RaftMetrics<C>) -> bool,
        what: impl Into<String>,
    ) -> Result<RaftMetrics<C>, WaitError> {
        let late = self.timeout.map(|timeout| self.runtime.sleep_until(self.runtime.now() + timeout));
        let mut late = pin!(async move {
            match late {
                Some(late) => late.await,
                None => std::future::pending().await,
            }
        });
        loop {
            {
                let metrics = self.metrics.borrow_and_update();
                if condition(&metrics) {
                    return Ok(metrics.clone());
                }
                if let Err(why) = &metrics.running_state {
                    return Err(WaitError::Stopped { what: what.into(), why: why.clone() });
                }
            }
            tokio::select! {
                biased;
                changed = self.metrics.changed() => if changed.is_err() {
                    return Err(WaitError::Stopped { what: what.into(), why: Fatal::Stopped });
                },
                () = &mut late => return Err(WaitError::Timeout(what.into())),
            }
        }
    }

    /// Waits until the node knows a leader, itself included.
    ///
    /// # Errors
    /// As [`metrics`](Self::metrics), and so for every method here.
    pub async fn leader(self, what: impl Into<String>) -> Result<RaftMetrics<C>, WaitError> {
        self.metrics(|m| m.current_leader.is_some(), what).await
    }

    /// Waits until the node knows this server as the leader.
    ///
    /// # Errors
    /// As [`metrics`](Self::metrics).
    pub async fn current_leader(self, id: C::NodeId, what: impl Into<String>) -> Result<RaftMetrics<C>, WaitError> {
        self.metrics(move |m| m.current_leader == Some(id), what).await
    }

    /// Waits until the log ends at this index, exactly.
    ///
    /// # Errors
    /// As [`metrics`](Self::metrics).
    pub async fn log_index(self, index: LogIndex, what: impl Into<String>) -> Result<RaftMetrics<C>, WaitError> {
        self.metrics(move |m| m.last_log_id.index_or_zero() == index, what).await
    }

    /// Waits until the log ends at this index or behind it.
    ///
    /// # Errors
    /// As [`metrics`](Self::metrics).
    pub async fn log_index_at_least(
        self,
        index: LogIndex,
        what: impl Into<String>,
    ) -> Result<RaftMetrics<C>, WaitError> {
        self.metrics(move |m| m.last_log_id.index_or_zero() >= index, what).await
    }

    /// Waits until the state machine has applied up to this index, exactly.
    ///
    /// # Errors
    /// As [`metrics`](Self::metrics).
    pub async fn applied_index(self, index: LogIndex, what: impl Into<String>) -> Result<RaftMetrics<C>, WaitError> {
        self.metrics(move |m| m.last_applied.index_or_zero() == index, what).await
    }

    /// Waits until the state machine has applied up to this index or behind it.
    ///
    /// # Errors
    /// As [`metrics`](Self::metrics).
    pub async fn applied_index_at_least(
        self,
        index: LogIndex,
        what: impl Into<String>,
    ) -> Result<RaftMetrics<C>, WaitError> {
        self.metrics(move |m| m.last_applied.index_or_zero() >= index, what).await
    }

    /// Waits until there is a snapshot that ends at this index or behind it.
    ///
    /// # Errors
    /// As [`metrics`](Self::metrics).
    pub async fn snapshot_at_least(
        self,
        index: LogIndex,
        what: impl Into<String>,
    ) -> Result<RaftMetrics<C>, WaitError> {
        self.metrics(move |m| m.snapshot.index_or_zero() >= index, what).await
    }

    /// Waits until the newest snapshot ends at this entry, exactly.
    ///
    /// # Errors
    /// As [`metrics`](Self::metrics).
    pub async fn snapshot(self, last: LogIdOf<C>, what: impl Into<String>) -> Result<RaftMetrics<C>, WaitError> {
        self.metrics(move |m| m.snapshot == Some(last), what).await
    }

    /// Waits until the log is purged up to this entry, exactly; `None` if nothing is.
    ///
    /// # Errors
    /// As [`metrics`](Self::metrics).
    pub async fn purged(self, upto: Option<LogIdOf<C>>, what: impl Into<String>) -> Result<RaftMetrics<C>, WaitError> {
        self.metrics(move |m| m.purged == upto, what).await
    }

    /// Waits for a role.
    ///
    /// # Errors
    /// As [`metrics`](Self::metrics).
    pub async fn state(self, state: ServerState, what: impl Into<String>) -> Result<RaftMetrics<C>, WaitError> {
        self.metrics(move |m| m.state == state, what).await
    }

    /// Waits until these are the voters, and no change of them is under way.
    ///
    /// # Errors
    /// As [`metrics`](Self::metrics).
    pub async fn voters(
        self,
        voters: impl IntoIterator<Item = C::NodeId>,
        what: impl Into<String>,
    ) -> Result<RaftMetrics<C>, WaitError> {
        let voters: BTreeSet<C::NodeId> = voters.into_iter().collect();
        self.metrics(move |m| m.membership_config.membership.configs() == [voters.clone()], what).await
    }
}
