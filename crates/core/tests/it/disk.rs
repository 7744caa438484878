//! A simulated log store: what was submitted, what is durable, and completions that come when they are told to.

use std::collections::VecDeque;

use raftwright_core::{
    LogId, LogIdOf, LogIdOption, LogIndex, RaftEntry, Restored, StoredMembership, VoteOf, Write, WriteId,
};

use crate::types::{Item, Kind};

/// What stands on a disk.
#[derive(Clone, Debug)]
pub(crate) struct Image<T: Kind> {
    pub(crate) vote: Option<VoteOf<T>>,
    pub(crate) purged: Option<LogIdOf<T>>,
    /// The entries behind `purged`.
    pub(crate) log: Vec<Item<T>>,
}

impl<T: Kind> Default for Image<T> {
    fn default() -> Self {
        Self { vote: None, purged: None, log: Vec::new() }
    }
}

impl<T: Kind> Image<T> {
    /// The last log id, or what was purged last.
    pub(crate) fn last(&self) -> Option<LogIdOf<T>> {
        self.log.last().map(|item| item.log_id).or(self.purged)
    }

    /// The entry at an index.
    pub(crate) fn get(&self, index: LogIndex) -> Option<&Item<T>> {
        let offset = index.checked_sub(self.purged.next_index())?;
        self.log.get(usize::try_from(offset).ok()?)
    }

    /// Whether this log has that entry, or had it and purged it.
    pub(crate) fn has(&self, log_id: LogIdOf<T>) -> bool {
        log_id.index <= self.purged.index_or_zero() || self.get(log_id.index).is_some_and(|item| item.log_id == log_id)
    }

    fn apply(&mut self, op: &Op<T>) {
        match op {
            Op::Vote(vote) => self.vote = Some(*vote),
            Op::Append(items) => {
                for item in items {
                    assert_eq!(item.log_id.index, self.last().next_index(), "appends are contiguous");
                    self.log.push(item.clone());
                }
            }
            Op::Truncate(since) => {
                let first = self.purged.next_index();
                assert!(*since >= first, "what was purged is never truncated");
                self.log.truncate(usize::try_from(since - first).unwrap());
            }
            Op::Purge(upto) => {
                if self.get(upto.index).is_some_and(|item| item.log_id == *upto) {
                    let count = upto.index - self.purged.index_or_zero();
                    self.log.drain(..usize::try_from(count).unwrap());
                } else {
                    self.log.clear();
                }
                assert!(self.purged < Some(*upto), "purges go forward");
                self.purged = Some(*upto);
            }
        }
    }

    /// What a server that starts on this disk finds. The state machine remembers what it has applied, and its membership.
    pub(crate) fn restored(
        &self,
        applied: Option<LogIdOf<T>>,
        machine: &StoredMembership<T>,
        snapshot: Option<LogIdOf<T>>,
    ) -> Restored<T> {
        let mut key_log_ids: Vec<LogIdOf<T>> = Vec::new();
        for item in &self.log {
            if key_log_ids.last().is_none_or(|last| last.leader_id != item.log_id.leader_id) {
                key_log_ids.push(item.log_id);
            }
        }
        let in_log = self.log.iter().filter_map(|item| {
            let membership = item.membership()?.clone();
            Some(StoredMembership { log_id: Some(item.log_id), membership })
        });
        let memberships = machine.log_id.map(|_| machine.clone()).into_iter().chain(in_log).collect();
        Restored {
            vote: self.vote,
            purged: self.purged,
            key_log_ids,
            last_log_id: self.last(),
            committed: applied,
            memberships,
            snapshot,
        }
    }
}

#[derive(Debug)]
enum Op<T: Kind> {
    Vote(VoteOf<T>),
    Append(Vec<Item<T>>),
    Truncate(LogIndex),
    Purge(LogIdOf<T>),
}

/// A log id, and the entries behind it.
pub(crate) type Stretch<T> = (Option<LogIdOf<T>>, Vec<Item<T>>);

/// A disk. What is submitted can be read at once; it survives a crash only once it is complete, and all before it.
#[derive(Debug)]
pub(crate) struct Disk<T: Kind> {
    /// What can be read.
    pub(crate) live: Image<T>,
    /// What survives.
    pub(crate) durable: Image<T>,
    queue: VecDeque<(WriteId, Op<T>, bool)>,
    /// Whether writes complete only when told.
    pub(crate) held: bool,
}

impl<T: Kind> Disk<T> {
    pub(crate) fn new(image: Image<T>) -> Self {
        Self { live: image.clone(), durable: image, queue: VecDeque::new(), held: false }
    }

    /// Takes a write.
    pub(crate) fn submit(&mut self, id: WriteId, write: Write<T>) {
        let op = match write {
            Write::Vote(vote) => Op::Vote(vote),
            Write::Append(items) => Op::Append(items),
            Write::Truncate { since } => Op::Truncate(since),
            Write::Purge { upto } => Op::Purge(upto),
        };
        self.live.apply(&op);
        self.queue.push_back((id, op, false));
    }

    /// Completes a write. It is durable once all before it are complete too.
    pub(crate) fn complete(&mut self, id: WriteId) {
        if let Some((_, _, done)) = self.queue.iter_mut().find(|(write, _, _)| *write == id) {
            *done = true;
        }
        while let Some((_, op, _)) = self.queue.pop_front_if(|(_, _, done)| *done) {
            self.durable.apply(&op);
        }
    }

    /// The writes that were not completed.
    pub(crate) fn pending(&self) -> Vec<WriteId> {
        self.queue.iter().filter(|(_, _, done)| !done).map(|(id, _, _)| *id).collect()
    }

    /// The power goes: of what was submitted and is not durable, the first `kept` writes happen to have reached the disk.
    pub(crate) fn crash(&mut self, kept: usize) {
        let lucky: Vec<_> = self.queue.drain(..).take(kept).collect();
        for (_, op, _) in &lucky {
            self.durable.apply(op);
        }
        self.live = self.durable.clone();
    }

    /// How many writes are not durable.
    pub(crate) fn unsettled(&self) -> usize {
        self.queue.len()
    }

    /// The log ids at the indexes, for a reader of the log: as `StreamEffect::Read` asks.
    pub(crate) fn read(
        &self,
        start: LogIndex,
        end: LogIndex,
        bytes_max: usize,
        entries_max: usize,
        prev: Option<LogIdOf<T>>,
    ) -> Result<Stretch<T>, LogIdOf<T>> {
        let purged = self.live.purged;
        if let Some(purged) = purged.filter(|purged| start <= purged.index) {
            return Err(purged);
        }
        let prev = match prev {
            Some(prev) => Some(prev),
            None if start == 1 => None,
            None if start - 1 == purged.index_or_zero() => purged,
            None => Some(self.live.get(start - 1).unwrap().log_id),
        };
        let mut items = Vec::new();
        let mut bytes = 0;
        for index in start..end {
            let Some(item) = self.live.get(index) else { break };
            if items.len() >= entries_max || (!items.is_empty() && bytes + item.size() > bytes_max) {
                break;
            }
            bytes += item.size();
            items.push(item.clone());
        }
        Ok((prev, items))
    }
}

/// The first entry of every cluster.
pub(crate) fn first_log_id<T: Kind>() -> LogIdOf<T> {
    LogId { index: 1, ..LogId::default() }
}
