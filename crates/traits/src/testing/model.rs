//! What a log must hold, as plainly as possible.

use std::fmt::{self, Display, Formatter};

use raftwright_core::RaftEntry;

use crate::{LogIdOf, LogIndex, RaftLogStorage, RaftTypeConfig, StorageError, VoteOf};

/// A write.
pub(super) enum Op<C: RaftTypeConfig> {
    Vote(VoteOf<C>),
    Append(Vec<C::Entry>),
    Truncate(LogIndex),
    Purge(LogIdOf<C>),
}

impl<C: RaftTypeConfig> Clone for Op<C> {
    fn clone(&self) -> Self {
        match self {
            Op::Vote(vote) => Op::Vote(*vote),
            Op::Append(entries) => Op::Append(entries.clone()),
            Op::Truncate(since) => Op::Truncate(*since),
            Op::Purge(upto) => Op::Purge(*upto),
        }
    }
}

impl<C: RaftTypeConfig> Display for Op<C> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Op::Vote(vote) => write!(f, "save_vote({vote})"),
            Op::Append(entries) => write!(f, "append({})", span(entries.iter().map(RaftEntry::log_id))),
            Op::Truncate(since) => write!(f, "truncate({since})"),
            Op::Purge(upto) => write!(f, "purge({upto})"),
        }
    }
}

/// The first and the last of some log ids.
pub(super) fn span<I: Display>(mut ids: impl Iterator<Item = I>) -> String {
    match (ids.next(), ids.last()) {
        (None, _) => "nothing".to_owned(),
        (Some(one), None) => one.to_string(),
        (Some(first), Some(last)) => format!("{first}..={last}"),
    }
}

/// A vote and a log.
pub(super) struct Model<C: RaftTypeConfig> {
    pub(super) vote: Option<VoteOf<C>>,
    pub(super) purged: Option<LogIdOf<C>>,
    pub(super) last: Option<LogIdOf<C>>,
    pub(super) entries: Vec<C::Entry>,
}

impl<C: RaftTypeConfig> Clone for Model<C> {
    fn clone(&self) -> Self {
        Self { vote: self.vote, purged: self.purged, last: self.last, entries: self.entries.clone() }
    }
}

impl<C: RaftTypeConfig> Default for Model<C> {
    fn default() -> Self {
        Self { vote: None, purged: None, last: None, entries: Vec::new() }
    }
}

impl<C: RaftTypeConfig> Model<C> {
    /// The write takes effect.
    pub(super) fn apply(&mut self, op: &Op<C>) {
        match op {
            Op::Vote(vote) => self.vote = Some(*vote),
            Op::Append(entries) => self.entries.extend(entries.iter().cloned()),
            Op::Truncate(since) => self.entries.retain(|entry| entry.log_id().index < *since),
            Op::Purge(upto) if self.purged.is_some_and(|purged| upto.index <= purged.index) => {}
            Op::Purge(upto) => {
                let is_there = self.entries.iter().any(|entry| entry.log_id() == *upto);
                self.entries.retain(|entry| is_there && entry.log_id().index > upto.index);
                self.purged = Some(*upto);
            }
        }
        self.last = self.entries.last().map(RaftEntry::log_id).or(self.purged);
    }

    /// The log after each number of these writes, from none to all.
    pub(super) fn states(ops: &[Op<C>]) -> Vec<Self> {
        let mut states = vec![Self::default()];
        for op in ops {
            let mut next = states.last().cloned().unwrap_or_default();
            next.apply(op);
            states.push(next);
        }
        states
    }

    /// What a store says that it holds.
    pub(super) async fn of<LS: RaftLogStorage<C>>(log: &mut LS) -> Result<Self, StorageError> {
        let state = log.get_log_state().await?;
        let vote = log.read_vote().await?;
        let entries = log.try_get_log_entries(..).await?;
        Ok(Self { vote, purged: state.last_purged_log_id, last: state.last_log_id, entries })
    }

    /// What is different in `found`; `None` if nothing is.
    pub(super) fn difference(&self, found: &Self) -> Option<String> {
        if self.vote != found.vote {
            return Some(format!("the vote is {}, not {}", shown(found.vote), shown(self.vote)));
        }
        if self.purged != found.purged {
            return Some(format!("purged is up to {}, not {}", shown(found.purged), shown(self.purged)));
        }
        if self.last != found.last {
            return Some(format!("the last log id is {}, not {}", shown(found.last), shown(self.last)));
        }
        entries_differ::<C>(&self.entries, &found.entries)
    }
}

pub(super) fn shown<X: Display>(value: Option<X>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}

/// What is different between the entries that should be there and those that are.
pub(super) fn entries_differ<C: RaftTypeConfig>(expected: &[C::Entry], found: &[C::Entry]) -> Option<String> {
    let ids = |entries: &[C::Entry]| span(entries.iter().map(RaftEntry::log_id));
    if expected.len() != found.len() {
        let (some, other) = (ids(found), ids(expected));
        return Some(format!("{} entries ({some}) are there, not {} ({other})", found.len(), expected.len()));
    }
    let unlike = expected.iter().zip(found).find(|(a, b)| {
        // Entries need not be comparable. Their text shows the payload, and the membership is compared besides.
        a.log_id() != b.log_id() || a.membership() != b.membership() || format!("{a:?}") != format!("{b:?}")
    });
    unlike.map(|(expected, found)| format!("an entry is {found:?}, not {expected:?}"))
}
