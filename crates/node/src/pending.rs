//! Client writes that stand in the log and wait for their entries to be applied.

use std::collections::{BTreeMap, VecDeque};

use raftwright_traits::{ClientWriteError, LogIdOf, LogIndex, RaftTypeConfig, UnknownReason};

use crate::limits::REPLACED_WRITES_MAX;
use crate::responder::WriteTx;

/// A caller, and where its entry stands.
pub(crate) type Waiter<C> = (LogIdOf<C>, WriteTx<C>);

/// The waiting writes, by index.
///
/// A write stays here when its entry is truncated or its leader deposed: the entry may live on in another server's log
/// and be committed by a later leader. Only an applied entry with its index decides.
pub(crate) struct PendingWrites<C: RaftTypeConfig> {
    /// Ascending by index.
    current: VecDeque<Waiter<C>>,
    /// Those in whose place this server has proposed another entry since.
    replaced: BTreeMap<LogIndex, Vec<Waiter<C>>>,
    replaced_count: usize,
    /// How many want to know of the commitment, and have not been told.
    curious: usize,
}

impl<C: RaftTypeConfig> PendingWrites<C> {
    pub(crate) fn new() -> Self {
        Self { current: VecDeque::new(), replaced: BTreeMap::new(), replaced_count: 0, curious: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.current.len() + self.replaced_count
    }

    /// Adds a write whose entry was appended just now.
    pub(crate) fn push(&mut self, log_id: LogIdOf<C>, tx: WriteTx<C>) {
        while let Some((old, tx)) = self.current.pop_back_if(|(old, _)| old.index >= log_id.index) {
            if self.replaced_count >= REPLACED_WRITES_MAX {
                self.curious -= usize::from(tx.awaits_commit());
                tx.refuse(ClientWriteError::Unknown(UnknownReason::LeadershipLost));
                continue;
            }
            self.replaced.entry(old.index).or_default().push((old, tx));
            self.replaced_count += 1;
        }
        self.curious += usize::from(tx.awaits_commit());
        self.current.push_back((log_id, tx));
    }

    /// Tells those who want to know it that their entries are committed. `is_in_log` says which entries up to the commit
    /// index this server has.
    pub(crate) fn tell_committed(&mut self, committed: LogIndex, is_in_log: impl Fn(LogIdOf<C>) -> bool) {
        if self.curious == 0 {
            return;
        }
        let current = self.current.iter_mut().take_while(|(log_id, _)| log_id.index <= committed);
        let replaced = self.replaced.range_mut(..=committed).flat_map(|(_, waiters)| waiters);
        for (log_id, tx) in current.chain(replaced).filter(|(log_id, tx)| tx.awaits_commit() && is_in_log(*log_id)) {
            tx.committed(*log_id);
            self.curious -= 1;
        }
    }

    /// Moves those up to this index to the end of `into`, ascending by index.
    pub(crate) fn take_upto(&mut self, index: LogIndex, into: &mut VecDeque<Waiter<C>>) {
        if self.replaced.first_key_value().is_none_or(|(first, _)| *first > index) {
            while let Some(waiter) = self.current.pop_front_if(|(log_id, _)| log_id.index <= index) {
                self.curious -= usize::from(waiter.1.awaits_commit());
                into.push_back(waiter);
            }
            return;
        }
        let later = self.replaced.split_off(&index.saturating_add(1));
        let due = std::mem::replace(&mut self.replaced, later);
        let mut all: Vec<Waiter<C>> = due.into_values().flatten().collect();
        self.replaced_count -= all.len();
        while let Some(waiter) = self.current.pop_front_if(|(log_id, _)| log_id.index <= index) {
            all.push(waiter);
        }
        self.curious -= all.iter().filter(|(_, tx)| tx.awaits_commit()).count();
        all.sort_by_key(|(log_id, _)| log_id.index);
        into.extend(all);
    }

    /// Forgets all, which tells the callers that no answer will come.
    pub(crate) fn clear(&mut self) {
        self.current.clear();
        self.replaced.clear();
        (self.replaced_count, self.curious) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use raftwright_traits::{CommittedLeaderId, CommittedLeaderIdOf, LogId, RaftError};
    use tokio::sync::oneshot;

    use super::*;

    raftwright_traits::declare_raft_types!(
        /// Nothing special.
        Types: D = u64, R = u64
    );

    fn id(term: u64, index: LogIndex) -> LogIdOf<Types> {
        LogId::new(CommittedLeaderIdOf::<Types>::new(term, None), index)
    }

    /// Past the bound the callers whose entries were replaced last are told at once; the others wait for what is applied.
    #[test]
    fn replaced_writes_are_bounded_and_those_beyond_are_told() {
        const MAX: usize = 1 << 16;
        let mut pending = PendingWrites::<Types>::new();
        let mut waiting = Vec::new();
        for index in 1..=MAX as u64 + 2 {
            let (tx, rx) = oneshot::channel();
            pending.push(id(1, index), WriteTx::Caller(tx));
            waiting.push(rx);
        }
        pending.push(id(2, 1), WriteTx::Nobody);
        assert_eq!(pending.len(), MAX + 1);
        let told: Vec<_> = waiting.iter_mut().filter_map(|rx| rx.try_recv().ok()).collect();
        let unknown = || Err(RaftError::APIError(ClientWriteError::Unknown(UnknownReason::LeadershipLost)));
        assert_eq!(told, [unknown(), unknown()]);
        let mut into = VecDeque::new();
        pending.take_upto(LogIndex::MAX, &mut into);
        assert_eq!((into.len(), pending.len()), (MAX + 1, 0));
    }
}
