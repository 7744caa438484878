//! What a starting node finds on its disk.

use raftwright_core::{LogIdOption, RaftEntry, Restored};
use raftwright_traits::{
    Fatal, Incarnation, LogIdOf, LogState, Of, RaftLogStorage, RaftStateMachine, RaftTypeConfig, Snapshot,
    StorageError, StoredMembership,
};

use crate::limits::SCAN_BYTES_MAX;

/// Everything that was found.
pub(crate) struct Found<C: RaftTypeConfig> {
    pub(crate) restored: Restored<Of<C>>,
    pub(crate) applied: Option<LogIdOf<C>>,
    pub(crate) incarnation: Option<Incarnation>,
}

/// Reads the stores of a node that is starting.
pub(crate) struct StorageHelper<'a, LS, SM> {
    log: &'a mut LS,
    state_machine: &'a mut SM,
}

impl<'a, LS, SM> StorageHelper<'a, LS, SM> {
    pub(crate) fn new(log: &'a mut LS, state_machine: &'a mut SM) -> Self {
        Self { log, state_machine }
    }

    pub(crate) async fn load<C>(mut self) -> Result<Found<C>, Fatal>
    where
        C: RaftTypeConfig,
        LS: RaftLogStorage<C>,
        SM: RaftStateMachine<C>,
    {
        let vote = self.log.read_vote().await?;
        let state = self.log.get_log_state().await?;
        let snapshot = self.newest_snapshot().await?;
        let (applied, applied_membership) = self.state_machine.applied_state().await?;
        if applied.index_or_zero() < state.last_purged_log_id.index_or_zero() {
            return Err(Fatal::Start(format!(
                "the log before index {} was purged, but the state machine has only what was applied up to index {}: \
                 it has lost what it had, and the rest of the log cannot make up for it; take this node out of the cluster and \
                 add a new one with empty storage, under a new id",
                state.last_purged_log_id.next_index(),
                applied.index_or_zero(),
            )));
        }
        let key_log_ids = match state.last_log_id {
            Some(last) if last.index > state.last_purged_log_id.index_or_zero() => {
                self.log.get_key_log_ids(state.last_purged_log_id.next_index(), last).await?
            }
            Some(_) | None => Vec::new(),
        };
        let hint = self.committed_hint(&state).await?;
        let memberships = self.memberships(&state, applied, applied_membership).await?;
        let restored = Restored {
            vote,
            purged: state.last_purged_log_id,
            key_log_ids,
            last_log_id: state.last_log_id,
            committed: hint.max(applied),
            memberships,
            snapshot,
        };
        Ok(Found { restored, applied, incarnation: state.incarnation })
    }

    /// The last entry in the newest snapshot. If the state machine is behind it, as one in memory is, or one that was about to
    /// be replaced when the node went down, the snapshot is installed first.
    async fn newest_snapshot<C>(&mut self) -> Result<Option<LogIdOf<C>>, StorageError>
    where
        C: RaftTypeConfig,
        SM: RaftStateMachine<C>,
    {
        let Some(Snapshot { meta, snapshot }) = self.state_machine.get_current_snapshot().await? else {
            return Ok(None);
        };
        let (applied, _) = self.state_machine.applied_state().await?;
        if applied < meta.last_log_id {
            tracing::info!(snapshot = %meta.snapshot_id, "the state is made of a snapshot");
            self.state_machine.install_snapshot(&meta, snapshot).await?;
        }
        Ok(meta.last_log_id)
    }

    /// Whether the log holds what the state machine has applied last. If not, a snapshot was installed of which the log does
    /// not know yet, and nothing of it counts.
    async fn leads_on<C>(&mut self, state: &LogState<C>, applied: LogIdOf<C>) -> Result<bool, StorageError>
    where
        C: RaftTypeConfig,
        LS: RaftLogStorage<C>,
    {
        if applied.index <= state.last_purged_log_id.index_or_zero() {
            return Ok(true);
        }
        let is_in_log = applied.index <= state.last_log_id.index_or_zero();
        Ok(is_in_log && self.log.log_id_at(applied.index).await? == applied)
    }

    /// What the log store remembers as committed, if that entry is in the log. A crash may have lost the entry and kept the
    /// hint.
    async fn committed_hint<C>(&mut self, state: &LogState<C>) -> Result<Option<LogIdOf<C>>, StorageError>
    where
        C: RaftTypeConfig,
        LS: RaftLogStorage<C>,
    {
        let Some(hint) = self.log.read_committed().await? else { return Ok(None) };
        let in_log =
            state.last_purged_log_id.index_or_zero() < hint.index && hint.index <= state.last_log_id.index_or_zero();
        if !in_log {
            return Ok(None);
        }
        Ok((self.log.log_id_at(hint.index).await? == hint).then_some(hint))
    }

    /// The state machine's membership, and every one in the log behind what it has applied. The log is read forward in
    /// pieces, so that a long one is never in memory.
    async fn memberships<C>(
        &mut self,
        state: &LogState<C>,
        applied: Option<LogIdOf<C>>,
        applied_membership: StoredMembership<C>,
    ) -> Result<Vec<StoredMembership<C>>, StorageError>
    where
        C: RaftTypeConfig,
        LS: RaftLogStorage<C>,
    {
        let mut memberships = Vec::new();
        if applied_membership.log_id.is_some() {
            memberships.push(applied_membership);
        }
        if let Some(applied) = applied
            && !self.leads_on(state, applied).await?
        {
            return Ok(memberships);
        }
        let mut at = applied.next_index();
        let end = state.last_log_id.next_index();
        while at < end {
            let entries = self.log.limited_get_log_entries(at, end, SCAN_BYTES_MAX).await?;
            if entries.first().is_none_or(|first| first.log_id().index != at) {
                return Err(StorageError::missing_entry(at));
            }
            for entry in &entries {
                at = entry.log_id().index.saturating_add(1);
                if let Some(membership) = entry.membership() {
                    memberships
                        .push(StoredMembership::<C> { log_id: Some(entry.log_id()), membership: membership.clone() });
                }
            }
        }
        Ok(memberships)
    }
}
