//! A node's simulated log store: what is readable, what is on the disk, and the writes in between.
//!
//! Writes of all kinds are one ordered sequence. A submitted write is readable at once and on the disk later; a crash
//! keeps a prefix of those that were not on the disk yet, cut at a write or, within a batch of entries, between two of
//! them. This is what the real log promises (its recovery cuts a torn tail at a record), so whatever the protocol
//! assumes of a log, it may assume of this one and nothing more.

use std::collections::VecDeque;
use std::sync::Arc;

use raftwright_core::{LogIdOption, Write, WriteId};

use super::types::{LogId, Membership, Payload, SimEntry, SimTypes, Vote};
use crate::world::Rng;

/// An entry with the hash of the log up to it.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The entry.
    pub entry: SimEntry,
    /// The hash of the log up to and including it.
    pub chain: u64,
}

/// One state of a log: its vote and its entries.
#[derive(Debug, Clone, Default)]
pub struct LogView {
    /// The saved vote.
    pub vote: Option<Vote>,
    /// The last entry that was deleted from the start, and the hash up to it.
    purged: Option<(LogId, u64)>,
    entries: VecDeque<Stored>,
    /// The memberships in the log, with their indexes; the first may lie in the purged part.
    memberships: Vec<(LogId, Arc<Membership>)>,
}

impl LogView {
    /// The last entry, or where the log starts if it has none.
    pub fn last(&self) -> Option<LogId> {
        self.entries.back().map(|stored| stored.entry.log_id).or_else(|| self.purged())
    }

    /// The last entry that was deleted from the start.
    pub fn purged(&self) -> Option<LogId> {
        self.purged.map(|(id, _)| id)
    }

    /// The hash up to the last entry.
    fn last_chain(&self) -> u64 {
        self.entries.back().map_or_else(|| self.purged.map_or(0, |(_, chain)| chain), |stored| stored.chain)
    }

    /// The entry at an index, if it is there.
    pub fn get(&self, index: u64) -> Option<&Stored> {
        let offset = index.checked_sub(self.purged().next_index())?;
        self.entries.get(usize::try_from(offset).ok()?)
    }

    /// The log id at an index, also that of the last purged entry.
    pub fn log_id_at(&self, index: u64) -> Option<LogId> {
        match self.purged() {
            Some(purged) if purged.index == index => Some(purged),
            _ => self.get(index).map(|stored| stored.entry.log_id),
        }
    }

    /// Whether the log holds this entry; one in the purged part counts, because only committed entries are purged.
    pub fn holds(&self, id: &LogId) -> bool {
        self.purged().is_some_and(|purged| purged.index >= id.index) || self.log_id_at(id.index) == Some(*id)
    }

    /// The first entry of each leader, in order.
    pub fn key_log_ids(&self) -> Vec<LogId> {
        let mut keys: Vec<LogId> = Vec::new();
        for stored in &self.entries {
            let id = stored.entry.log_id;
            if keys.last().is_none_or(|last| last.leader_id != id.leader_id) {
                keys.push(id);
            }
        }
        keys
    }

    /// The memberships in the log, with the one in force at its start, in order.
    pub fn memberships(&self) -> impl Iterator<Item = (LogId, &Arc<Membership>)> {
        self.memberships.iter().map(|(id, membership)| (*id, membership))
    }

    /// The entries of the log in order.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &Stored> {
        self.entries.iter()
    }

    /// The latest membership in the log, committed or not (Raft §6), and its entry.
    pub fn membership(&self) -> Option<(LogId, &Arc<Membership>)> {
        self.memberships.last().map(|(id, membership)| (*id, membership))
    }

    /// The latest membership at or before an index.
    pub fn membership_at(&self, index: u64) -> Option<(LogId, &Arc<Membership>)> {
        let found = self.memberships.iter().rev().find(|(id, _)| id.index <= index)?;
        Some((found.0, &found.1))
    }

    fn push(&mut self, stored: Stored) {
        if let Payload::Membership(membership) = &stored.entry.payload {
            self.memberships.push((stored.entry.log_id, Arc::clone(membership)));
        }
        self.entries.push_back(stored);
    }

    fn truncate(&mut self, since: u64) {
        while self.entries.back().is_some_and(|stored| stored.entry.log_id.index >= since) {
            self.entries.pop_back();
        }
        while self.memberships.last().is_some_and(|(id, _)| id.index >= since) {
            self.memberships.pop();
        }
    }

    fn purge(&mut self, upto: &LogId) {
        while let Some(first) = self.entries.front() {
            if first.entry.log_id.index > upto.index {
                break;
            }
            self.purged = Some((first.entry.log_id, first.chain));
            self.entries.pop_front();
        }
        // The last membership of the purged part is still the one in force.
        while self.memberships.get(1).is_some_and(|(id, _)| id.index <= upto.index) {
            self.memberships.remove(0);
        }
    }

    fn reset(&mut self, base: &Base) {
        self.entries.clear();
        self.purged = Some((base.last_log_id, base.chain));
        self.memberships = vec![base.membership.clone()];
    }

    fn execute(&mut self, op: &StoreOp) {
        match op {
            StoreOp::Vote(vote) => self.vote = Some(*vote),
            StoreOp::Append(batch) => batch.iter().for_each(|stored| self.push(stored.clone())),
            StoreOp::Truncate { since } => self.truncate(*since),
            StoreOp::Purge { upto } => self.purge(upto),
            StoreOp::Reset(base) => self.reset(base),
        }
    }
}

/// A write on its way to the disk.
#[derive(Debug, Clone)]
pub enum StoreOp {
    /// Save the vote.
    Vote(Vote),
    /// Add entries.
    Append(Vec<Stored>),
    /// Delete the entries from there on.
    Truncate {
        /// The first to go.
        since: u64,
    },
    /// Delete the entries up to there.
    Purge {
        /// The last to go.
        upto: LogId,
    },
    /// Start over behind a snapshot.
    Reset(Base),
}

/// Where a log starts over: behind a snapshot that was installed.
#[derive(Debug, Clone)]
pub struct Base {
    /// The last entry that is in the snapshot.
    pub last_log_id: LogId,
    /// The hash of the log up to it.
    pub chain: u64,
    /// The last membership at or before it.
    pub membership: (LogId, Arc<Membership>),
}

/// What happens at a crash to the writes that were not on the disk yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsynced {
    /// They are lost.
    Lost,
    /// They happen to be there.
    Kept,
    /// The first few are there, the last of them perhaps in part.
    Prefix,
}

/// What a crash did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CrashOutcome {
    /// Writes that were under way.
    pub under_way: usize,
    /// How many of them stayed.
    pub kept: usize,
    /// Whether a batch stayed in part.
    pub torn: bool,
}

/// What a log holds that was opened again after a crash.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Its vote.
    pub vote: Option<Vote>,
    /// The last entry that was deleted from its start.
    pub purged: Option<LogId>,
    /// Its entries, in order.
    pub entries: Vec<SimEntry>,
}

impl Found {
    fn is(&self, view: &LogView) -> bool {
        self.vote == view.vote
            && self.purged == view.purged()
            && self.entries.len() == view.entries.len()
            // The end differs most often.
            && self.entries.iter().zip(&view.entries).rev().all(|(found, stored)| *found == stored.entry)
    }
}

/// Why a write does not fit the log: a fault of whoever submitted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadWrite(pub String);

/// The store.
#[derive(Debug, Clone, Default)]
pub struct SimStore {
    readable: LogView,
    durable: LogView,
    under_way: VecDeque<(WriteId, StoreOp)>,
}

impl SimStore {
    /// What a reader sees.
    pub fn readable(&self) -> &LogView {
        &self.readable
    }

    /// What is on the disk.
    pub fn durable(&self) -> &LogView {
        &self.durable
    }

    /// How many writes are not on the disk yet.
    pub fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// The writes that are not on the disk yet, oldest first.
    pub fn unfinished(&self) -> impl ExactSizeIterator<Item = &StoreOp> {
        self.under_way.iter().map(|(_, op)| op)
    }

    /// Takes a write: readable now, on the disk later.
    ///
    /// # Errors
    ///
    /// If the write leaves a gap in the log or cuts into its purged part, or purges what is not in a snapshot: `base` is the
    /// newest one.
    pub fn submit(&mut self, id: WriteId, write: Write<SimTypes>, base: Option<Base>) -> Result<(), BadWrite> {
        let op = match write {
            Write::Vote(vote) => StoreOp::Vote(vote),
            Write::Append(entries) => StoreOp::Append(self.chain(entries)?),
            Write::Truncate { since } => {
                if since <= self.readable.purged().index_or_zero() {
                    return Err(BadWrite(format!("truncate from {since} on cuts into the purged part")));
                }
                StoreOp::Truncate { since }
            }
            Write::Purge { upto } if self.readable.log_id_at(upto.index) == Some(upto) => StoreOp::Purge { upto },
            Write::Purge { upto } => match base.filter(|base| base.last_log_id == upto) {
                Some(base) => StoreOp::Reset(base),
                None => return Err(BadWrite(format!("purge up to {upto}, which is neither there nor in a snapshot"))),
            },
        };
        self.readable.execute(&op);
        self.under_way.push_back((id, op));
        Ok(())
    }

    fn chain(&self, entries: Vec<SimEntry>) -> Result<Vec<Stored>, BadWrite> {
        let mut chain = self.readable.last_chain();
        let mut batch = Vec::with_capacity(entries.len());
        for (next, entry) in (self.readable.last().next_index()..).zip(entries) {
            if entry.log_id.index != next {
                return Err(BadWrite(format!("entry {} appended where {next} belongs", entry.log_id)));
            }
            chain = entry.chained(chain);
            batch.push(Stored { entry, chain });
        }
        Ok(batch)
    }

    /// The disk finishes the oldest write.
    pub fn complete_oldest(&mut self) -> Option<WriteId> {
        let (id, op) = self.under_way.pop_front()?;
        self.durable.execute(&op);
        Some(id)
    }

    /// The log was opened again, and this was found: it must be what the disk had for certain and the first few of the
    /// writes that were under way, the last of them perhaps in part. From now on it counts as being on the disk.
    ///
    /// # Errors
    ///
    /// What was found is no such state, in words.
    pub fn resume(&mut self, found: &Found) -> Result<CrashOutcome, String> {
        let under_way = self.under_way.len();
        let mut kept = 0;
        let mut state = self.durable.clone();
        let mut writes = std::mem::take(&mut self.under_way).into_iter();
        let torn = loop {
            if found.is(&state) {
                break false;
            }
            let Some((_, op)) = writes.next() else {
                return Err(format!(
                    "after {under_way} writes under way, the log that was opened has vote {:?}, purged {:?} and {} \
                     entries up to {:?}; what was on the disk for certain: vote {:?}, purged {:?} and entries up to {:?}",
                    found.vote,
                    found.purged,
                    found.entries.len(),
                    found.entries.last().map(|entry| entry.log_id),
                    self.durable.vote,
                    self.durable.purged(),
                    self.durable.last(),
                ));
            };
            if let StoreOp::Append(batch) = &op
                && let Some(part) = (1..batch.len()).find(|part| {
                    let mut torn = state.clone();
                    torn.execute(&StoreOp::Append(batch[..*part].to_vec()));
                    found.is(&torn)
                })
            {
                state.execute(&StoreOp::Append(batch[..part].to_vec()));
                break true;
            }
            state.execute(&op);
            kept += 1;
        };
        self.durable = state.clone();
        self.readable = state;
        Ok(CrashOutcome { under_way, kept, torn })
    }

    /// The process dies; what is readable afterwards is what is on the disk.
    pub fn crash(&mut self, unsynced: Unsynced, rng: &mut Rng) -> CrashOutcome {
        let under_way = self.under_way.len();
        let kept = match unsynced {
            Unsynced::Lost => 0,
            Unsynced::Kept => under_way,
            Unsynced::Prefix => rng.between(0, under_way as u64) as usize,
        };
        for _ in 0..kept {
            self.complete_oldest();
        }
        let mut torn = false;
        if unsynced == Unsynced::Prefix
            && let Some((_, StoreOp::Append(batch))) = self.under_way.pop_front()
            && batch.len() > 1
        {
            let part = rng.between(0, batch.len() as u64 - 1) as usize;
            torn = part > 0;
            self.durable.execute(&StoreOp::Append(batch[..part].to_vec()));
        }
        self.under_way.clear();
        self.readable = self.durable.clone();
        CrashOutcome { under_way, kept, torn }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core_world::types::log_id;
    use raftwright_core::RaftEntry;

    fn blank(term: u64, index: u64) -> SimEntry {
        SimEntry::blank(log_id(term, index))
    }

    fn store_of(entries: u64) -> SimStore {
        let mut store = SimStore::default();
        let batch = (1..=entries).map(|index| blank(1, index)).collect();
        store.submit(WriteId(1), Write::Append(batch), None).expect("contiguous");
        store
    }

    #[test]
    fn a_write_is_readable_before_it_is_durable() {
        let mut store = store_of(3);
        assert_eq!((store.readable().last(), store.durable().last()), (Some(log_id(1, 3)), None));
        assert_eq!(store.complete_oldest(), Some(WriteId(1)));
        assert_eq!(store.durable().last(), Some(log_id(1, 3)));
    }

    #[test]
    fn a_power_cut_loses_exactly_what_was_not_on_the_disk() {
        let mut store = store_of(3);
        store.complete_oldest();
        store.submit(WriteId(2), Write::Truncate { since: 2 }, None).expect("not purged");
        store.submit(WriteId(3), Write::Append(vec![blank(2, 2)]), None).expect("contiguous");
        let outcome = store.crash(Unsynced::Lost, &mut Rng::new(1));
        assert_eq!(outcome, CrashOutcome { under_way: 2, kept: 0, torn: false });
        assert_eq!(store.readable().last(), Some(log_id(1, 3)));
    }

    /// Whatever the chance, a crash leaves a prefix of the sequence: never the append without the truncation before it.
    #[test]
    fn a_crash_keeps_a_prefix() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut store = store_of(3);
            store.complete_oldest();
            store.submit(WriteId(2), Write::Truncate { since: 2 }, None).expect("not purged");
            store
                .submit(WriteId(3), Write::Append(vec![blank(2, 2), blank(2, 3), blank(2, 4)]), None)
                .expect("contiguous");
            store.crash(Unsynced::Prefix, &mut Rng::new(seed));
            seen.insert(store.readable().last());
        }
        let expected = [log_id(1, 3), log_id(1, 1), log_id(2, 2), log_id(2, 3), log_id(2, 4)];
        assert_eq!(seen, expected.into_iter().map(Some).collect());
    }

    /// What a reopened log may hold is exactly what some prefix of the writes under way leaves.
    #[test]
    fn a_reopened_log_holds_a_prefix_or_is_refused() {
        let entries = |ids: &[(u64, u64)]| ids.iter().map(|(term, index)| blank(*term, *index)).collect::<Vec<_>>();
        let open = |ids: &[(u64, u64)]| {
            let mut store = store_of(3);
            store.complete_oldest();
            store.submit(WriteId(2), Write::Truncate { since: 2 }, None).expect("not purged");
            store.submit(WriteId(3), Write::Append(entries(&[(2, 2), (2, 3), (2, 4)])), None).expect("contiguous");
            store.resume(&Found { entries: entries(ids), ..Found::default() }).map(|outcome| outcome.kept)
        };
        assert_eq!(open(&[(1, 1), (1, 2), (1, 3)]), Ok(0));
        assert_eq!(open(&[(1, 1)]), Ok(1));
        assert_eq!(open(&[(1, 1), (2, 2), (2, 3)]), Ok(1));
        assert_eq!(open(&[(1, 1), (2, 2), (2, 3), (2, 4)]), Ok(2));
        // Less than was certain, the append without the truncation, and another entry.
        assert!(open(&[(1, 1), (1, 2)]).is_err());
        assert!(open(&[(1, 1), (1, 2), (1, 3), (2, 4)]).is_err());
        assert!(open(&[(1, 1), (2, 2), (3, 3)]).is_err());
    }

    #[test]
    fn gaps_are_refused() {
        let mut store = store_of(3);
        assert!(store.submit(WriteId(2), Write::Append(vec![blank(1, 5)]), None).is_err());
        store.submit(WriteId(2), Write::Purge { upto: log_id(1, 2) }, None).expect("a purge always fits");
        assert!(store.submit(WriteId(3), Write::Truncate { since: 2 }, None).is_err());
    }

    #[test]
    fn purged_entries_count_as_held_and_equal_prefixes_have_equal_hashes() {
        let mut store = store_of(5);
        let chain = store.readable().get(5).map(|stored| stored.chain);
        store.submit(WriteId(2), Write::Purge { upto: log_id(1, 3) }, None).expect("a purge always fits");
        assert!(store.readable().holds(&log_id(1, 2)));
        assert!(store.readable().get(3).is_none());
        assert_eq!(store.readable().get(5).map(|stored| stored.chain), chain);
        assert_eq!(store_of(5).readable().get(5).map(|stored| stored.chain), chain);
    }
}
