//! The shape of a log against a plain list of log ids, under random appends, truncations and purges.

use raftwright_core::{LogIdOf, LogIdOption, LogShape, Rng, Types};

use crate::types::{Advanced, Kind, Standard, id};

/// The log, entry by entry.
struct Model<T: Types> {
    purged: Option<LogIdOf<T>>,
    entries: Vec<LogIdOf<T>>,
}

impl<T: Kind> Model<T> {
    fn last(&self) -> Option<LogIdOf<T>> {
        self.entries.last().copied().or(self.purged)
    }

    fn at(&self, index: u64) -> Option<LogIdOf<T>> {
        self.purged.into_iter().chain(self.entries.iter().copied()).find(|id| id.index == index)
    }

    /// The last entry before the leader that conflicts, entry by entry.
    fn hint(&self, index: u64) -> Option<LogIdOf<T>> {
        if index > self.last().index_or_zero() {
            return self.last();
        }
        let Some(conflicting) = self.entries.iter().find(|id| id.index == index) else { return self.purged };
        let before = self.entries.iter().rev().find(|id| id.leader_id != conflicting.leader_id && id.index < index);
        before.copied().or(self.purged)
    }

    fn keys(&self) -> Vec<LogIdOf<T>> {
        let mut keys = self.entries.clone();
        keys.dedup_by_key(|id| id.leader_id);
        keys
    }

    fn agrees(&self, shape: &LogShape<T>) {
        assert_eq!(shape.last(), self.last());
        assert_eq!(shape.purged(), self.purged);
        for index in 0..=self.last().index_or_zero() + 2 {
            assert_eq!(shape.log_id_at(index), self.at(index), "index {index}");
            if index > self.purged.index_or_zero() {
                assert_eq!(shape.conflict_hint(index), self.hint(index), "hint at {index}");
            }
            for term in 0..8 {
                let asked = id::<T>(term, index);
                assert_eq!(shape.contains(asked), self.at(index) == Some(asked), "{asked}");
            }
        }
        let restored =
            LogShape::<T>::restore(self.purged, self.keys(), self.last()).expect("what it was can be read back");
        assert_eq!(restored.last(), shape.last());
        for index in 0..=self.last().index_or_zero() {
            assert_eq!(restored.log_id_at(index), shape.log_id_at(index));
        }
    }
}

fn explore<T: Kind>() {
    for seed in 0..60 {
        let mut rng = Rng::new(seed);
        let mut shape = LogShape::<T>::default();
        let mut model = Model { purged: None, entries: Vec::new() };
        let mut term = 0;
        for _ in 0..60 {
            match rng.next_u64() % 8 {
                0 => {
                    let since = rng.next_u64() % (model.last().index_or_zero() + 3);
                    shape.truncate(since);
                    model.entries.retain(|id| id.index < since);
                }
                1 if !model.entries.is_empty() => {
                    let at = usize::try_from(rng.next_u64()).unwrap() % model.entries.len();
                    let upto = model.entries[at];
                    shape.purge(upto);
                    model.entries.drain(..=at);
                    model.purged = Some(upto);
                }
                _ => {
                    term = (term + u64::from(rng.next_u64().is_multiple_of(3))).min(7);
                    let next = id::<T>(term, model.last().next_index());
                    shape.append(next);
                    model.entries.push(next);
                }
            }
            model.agrees(&shape);
        }
    }
}

#[test]
fn random_histories_agree_with_a_plain_list() {
    explore::<Standard>();
    explore::<Advanced>();
}

#[test]
fn what_was_purged_stays_purged() {
    let mut shape = LogShape::<Standard>::default();
    for index in 1..=5 {
        shape.append(id::<Standard>(1, index));
    }
    shape.purge(id::<Standard>(1, 3));
    shape.purge(id::<Standard>(1, 2));
    shape.truncate(1);
    assert_eq!(shape.purged(), Some(id::<Standard>(1, 3)));
    assert_eq!(shape.last(), Some(id::<Standard>(1, 3)), "all entries behind it are gone, it is not");
}

#[test]
fn a_snapshot_beyond_the_log_replaces_it() {
    let mut shape = LogShape::<Standard>::default();
    shape.append(id::<Standard>(1, 1));
    shape.purge(id::<Standard>(4, 9));
    assert_eq!((shape.purged(), shape.last()), (Some(id::<Standard>(4, 9)), Some(id::<Standard>(4, 9))));
    shape.append(id::<Standard>(4, 10));
    assert!(shape.contains(id::<Standard>(4, 10)));
}

#[test]
fn contradictions_are_not_restored() {
    let s = id::<Standard>;
    let cases = [
        (None, vec![s(1, 2)], Some(s(1, 2)), "a gap at the start"),
        (Some(s(1, 3)), vec![s(1, 5)], Some(s(1, 5)), "a gap behind what was purged"),
        (None, vec![s(2, 1), s(1, 2)], Some(s(1, 2)), "leaders that do not ascend"),
        (None, vec![s(1, 1), s(1, 2)], Some(s(1, 2)), "a leader twice"),
        (None, vec![s(1, 1), s(2, 1)], Some(s(2, 1)), "an index twice"),
        (None, vec![s(1, 1)], Some(s(2, 3)), "a last entry of nobody"),
        (None, vec![s(1, 1), s(2, 4)], Some(s(2, 3)), "a run behind the end"),
        (None, vec![s(1, 1)], None, "runs without an end"),
        (None, vec![], Some(s(1, 1)), "an end without runs"),
        (Some(s(3, 3)), vec![s(2, 4)], Some(s(2, 4)), "an older leader behind what was purged"),
        (Some(s(1, 3)), vec![], Some(s(1, 4)), "an end that is neither"),
    ];
    for (purged, runs, last, what) in cases {
        assert!(LogShape::<Standard>::restore(purged, runs, last).is_none(), "{what}");
    }
}
