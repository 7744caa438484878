//! Where effects are collected, merged, and checked on their way out.

use alloc::vec::Vec;

use crate::{Effect, LogIdOf, LogIdOption, LogIndex, Note, RaftEntry, Reply, Tail, Ticket, Types, Write, WriteId};

/// The effects of one or more steps, in order. Several steps may share one: adjacent appends become one write, and only
/// the newest of adjacent tails and applies remains. The asserts here are about ourselves: what leaves the core is in order.
#[derive(Debug)]
pub struct Effects<T: Types> {
    list: Vec<Effect<T>>,
    /// Where the last write is, if it is an append that may still grow.
    open_append: Option<usize>,
    /// Where a tail is that no write has followed.
    tail: Option<usize>,
    /// Where an apply is that no write has followed.
    apply: Option<usize>,
    last_write: WriteId,
}

impl<T: Types> Default for Effects<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Types> Effects<T> {
    /// None yet.
    pub const fn new() -> Self {
        Self { list: Vec::new(), open_append: None, tail: None, apply: None, last_write: WriteId(0) }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The effects so far, in order.
    pub fn as_slice(&self) -> &[Effect<T>] {
        &self.list
    }

    /// Hands out the effects, in the order in which they must be executed. Their storage is kept for the next steps.
    pub fn drain(&mut self) -> impl Iterator<Item = Effect<T>> + '_ {
        (self.open_append, self.tail, self.apply) = (None, None, None);
        // The next effects may be another replica's.
        self.last_write = WriteId(0);
        self.list.drain(..)
    }

    /// Adds the entry to the append that is still open, if there is one. Gives it back if there is none.
    pub(crate) fn extend_append(&mut self, entry: T::Entry) -> Result<(), T::Entry> {
        match self.open_append.map(|at| &mut self.list[at]) {
            Some(Effect::Write { op: Write::Append(entries), .. }) => {
                let last = entries.last().map(RaftEntry::log_id);
                assert_eq!(entry.log_id().index, last.next_index(), "appended entries are contiguous");
                entries.push(entry);
                Ok(())
            }
            _ => Err(entry),
        }
    }

    pub(crate) fn write(&mut self, id: WriteId, op: Write<T>) {
        assert!(id > self.last_write, "writes leave in the order of their ids");
        self.last_write = id;
        // What follows a write may depend on it, so it must not move in front of it.
        (self.tail, self.apply) = (None, None);
        self.open_append = matches!(op, Write::Append(_)).then_some(self.list.len());
        self.list.push(Effect::Write { id, op });
    }

    pub(crate) fn tail(&mut self, tail: Tail<T>) {
        match self.tail {
            Some(at) => self.list[at] = Effect::Tail(tail),
            None => {
                self.tail = Some(self.list.len());
                self.list.push(Effect::Tail(tail));
            }
        }
    }

    pub(crate) fn apply(&mut self, upto: LogIdOf<T>, before: LogIndex) {
        assert!(upto.index > before, "what is applied only grows");
        match self.apply {
            Some(at) => self.list[at] = Effect::Apply { upto },
            None => {
                self.apply = Some(self.list.len());
                self.list.push(Effect::Apply { upto });
            }
        }
    }

    pub(crate) fn reply(&mut self, ticket: Ticket, reply: Reply<T>) {
        self.list.push(Effect::Reply { ticket, reply });
    }

    pub(crate) fn note(&mut self, note: Note<T>) {
        self.list.push(Effect::Note(note));
    }

    /// An effect that nothing merges with.
    pub(crate) fn push(&mut self, effect: Effect<T>) {
        if matches!(effect, Effect::OpenStream { .. }) {
            // A stream learns the tail that comes after it was opened.
            self.tail = None;
        }
        self.list.push(effect);
    }
}
