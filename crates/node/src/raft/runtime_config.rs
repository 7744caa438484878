//! Settings that change while the node runs.

use raftwright_traits::{Config, RaftError, RaftTypeConfig, ReloadError, SnapshotPolicy};

use super::Raft;
use crate::msg::RaftMsg;

/// Changes settings of a running node. Each change is in force when its call returns, and is lost when the node ends: what
/// a node starts with is what it is given then.
pub struct RuntimeConfig<'a, C: RaftTypeConfig> {
    raft: &'a Raft<C>,
}

impl<'a, C: RaftTypeConfig> RuntimeConfig<'a, C> {
    pub(super) fn new(raft: &'a Raft<C>) -> Self {
        Self { raft }
    }

    /// Whether heartbeats are sent by themselves ([`Config::enable_heartbeat`]). A leader without them steps down after an
    /// election timeout, unless it is alone or is confirmed by reads and [`heartbeat`](crate::Trigger::heartbeat)s.
    ///
    /// # Errors
    /// [`ReloadError::Busy`], and [`RaftError::Fatal`] once the node has stopped; nothing is changed then. So for every
    /// method here.
    #[tracing::instrument(level = "debug", skip_all, fields(id = %self.raft.id()))]
    pub async fn heartbeat(&self, enabled: bool) -> Result<(), RaftError<ReloadError>> {
        self.change(move |config| config.enable_heartbeat = enabled).await
    }

    /// Whether elections start by themselves ([`Config::enable_elect`]). One that has started goes on.
    ///
    /// # Errors
    /// As [`heartbeat`](Self::heartbeat).
    #[tracing::instrument(level = "debug", skip_all, fields(id = %self.raft.id()))]
    pub async fn elect(&self, enabled: bool) -> Result<(), RaftError<ReloadError>> {
        self.change(move |config| config.enable_elect = enabled).await
    }

    /// Both: whether the node does anything because time passes.
    ///
    /// # Errors
    /// As [`heartbeat`](Self::heartbeat).
    #[tracing::instrument(level = "debug", skip_all, fields(id = %self.raft.id()))]
    pub async fn tick(&self, enabled: bool) -> Result<(), RaftError<ReloadError>> {
        self.change(move |config| (config.enable_elect, config.enable_heartbeat) = (enabled, enabled)).await
    }

    /// Whether this server asks before it campaigns ([`Config::pre_vote`]).
    ///
    /// # Errors
    /// As [`heartbeat`](Self::heartbeat).
    #[tracing::instrument(level = "debug", skip_all, fields(id = %self.raft.id()))]
    pub async fn pre_vote(&self, enabled: bool) -> Result<(), RaftError<ReloadError>> {
        self.change(move |config| config.pre_vote = enabled).await
    }

    /// When a snapshot is built by itself ([`Config::snapshot_policy`]).
    ///
    /// # Errors
    /// As [`heartbeat`](Self::heartbeat), and [`ReloadError::Invalid`] for a policy that cannot work.
    #[tracing::instrument(level = "debug", skip_all, fields(id = %self.raft.id()))]
    pub async fn snapshot_policy(&self, policy: SnapshotPolicy) -> Result<(), RaftError<ReloadError>> {
        self.change(move |config| config.snapshot_policy = policy).await
    }

    /// Goes on with these settings, if they differ only in what may change while a node runs
    /// ([`Config::check_reload`]).
    ///
    /// # Errors
    /// [`ReloadError`]; nothing is changed then, not even what could be.
    #[tracing::instrument(level = "debug", skip_all, fields(id = %self.raft.id()))]
    pub async fn reload(&self, config: Config) -> Result<(), RaftError<ReloadError>> {
        self.change(move |present| *present = config).await
    }

    async fn change(&self, change: impl FnOnce(&mut Config) + Send + 'static) -> Result<(), RaftError<ReloadError>> {
        let change = Box::new(move |present: &Config| {
            let mut config = present.clone();
            change(&mut config);
            config
        });
        let answer = self.raft.submit(|tx| RaftMsg::Configure { change, tx }, ReloadError::Busy)?;
        self.raft.answer(answer).await
    }
}
