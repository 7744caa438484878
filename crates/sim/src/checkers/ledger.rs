//! What was ever committed, by anybody's account.

use crate::core_world::types::LogId;

/// The committed entries from index 1 on: for each its log id and the hash of the log up to it.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    entries: Vec<(LogId, u64)>,
}

impl Ledger {
    /// The last committed index; 0 if there is none.
    pub fn last_index(&self) -> u64 {
        self.entries.len() as u64
    }

    /// The last committed entry.
    pub fn last(&self) -> Option<LogId> {
        self.entries.last().map(|(id, _)| *id)
    }

    /// The committed entry at an index.
    pub fn get(&self, index: u64) -> Option<(LogId, u64)> {
        self.entries.get(usize::try_from(index.checked_sub(1)?).ok()?).copied()
    }

    /// Adds the next committed entry; the caller knows that it comes next.
    pub fn push(&mut self, id: LogId, chain: u64) {
        self.entries.push((id, chain));
    }
}
