//! The memberships that stand in the log.

use alloc::vec::Vec;

use crate::sabotage::{self, Bug};
use crate::{LogIdOption, LogIndex, MembershipOf, StoredMembership, Types};

/// The newest committed membership and those behind it. A server uses the newest in its log, committed or not (Raft §6);
/// if that entry is truncated, it goes back to the one before.
#[derive(Clone, Debug)]
pub(crate) struct MembershipLog<T: Types> {
    /// Ascending; never empty. The first is committed, or the empty one that every server starts with.
    list: Vec<StoredMembership<T>>,
}

impl<T: Types> MembershipLog<T> {
    pub(crate) fn restore(memberships: Vec<StoredMembership<T>>, committed: LogIndex) -> Self {
        let mut list = alloc::vec![StoredMembership::default()];
        list.extend(memberships.into_iter().filter(|m| m.log_id.is_some()));
        list.sort_by_key(|m| m.log_id.index_or_zero());
        list.dedup_by_key(|m| m.log_id);
        let mut log = Self { list };
        log.commit(committed);
        log
    }

    /// The newest, which counts.
    pub(crate) fn effective(&self) -> &StoredMembership<T> {
        &self.list[self.list.len() - 1]
    }

    /// The newest that is committed.
    pub(crate) fn committed(&self) -> &StoredMembership<T> {
        &self.list[0]
    }

    pub(crate) fn membership(&self) -> &MembershipOf<T> {
        if sabotage::on(Bug::MembershipAtCommit) && self.list[0].log_id.is_some() {
            return &self.committed().membership;
        }
        &self.effective().membership
    }

    /// Whether this holds for the membership that is committed, or one behind it.
    pub(crate) fn any(&self, holds: impl Fn(&MembershipOf<T>) -> bool) -> bool {
        self.list.iter().any(|stored| holds(&stored.membership))
    }

    /// The newest that is committed, and all behind it.
    pub(crate) fn all(&self) -> &[StoredMembership<T>] {
        &self.list
    }

    pub(crate) fn is_committed(&self) -> bool {
        self.list.len() == 1
    }

    pub(crate) fn push(&mut self, stored: StoredMembership<T>) {
        assert!(stored.log_id > self.effective().log_id, "memberships ascend along the log");
        self.list.push(stored);
    }

    /// Goes back to the last one before `since`.
    pub(crate) fn truncate(&mut self, since: LogIndex) {
        let keep = self.list.iter().take_while(|m| m.log_id.index_or_zero() < since).count().max(1);
        self.list.truncate(keep);
    }

    /// Forgets all that is in the log: this is the membership of a snapshot that has taken its place.
    pub(crate) fn reset(&mut self, stored: StoredMembership<T>) {
        self.list = alloc::vec![stored];
    }

    pub(crate) fn commit(&mut self, index: LogIndex) {
        let newest = self.list.iter().take_while(|m| m.log_id.index_or_zero() <= index).count().max(1) - 1;
        self.list.drain(..newest);
    }
}
