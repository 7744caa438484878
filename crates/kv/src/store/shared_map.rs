//! An ordered map of which a copy costs next to nothing.
//!
//! A snapshot must see one state, between two writes, and writing it out takes long. Copying the whole state first would stop
//! every write for as long as that takes, and hold it twice. So the pairs stand in chunks that are shared between the map and
//! its copies, and whoever changes a chunk that is shared takes a chunk of his own first: a copy costs one reference count
//! for each [`CHUNK_PAIRS_MAX`] pairs, and a write to a map that has copies costs at most the copy of one chunk, once. Keys and
//! values are reference counted themselves, so that even this copies none of their bytes.

use std::ops::Bound;
use std::sync::Arc;

use crate::store::Stored;

/// Most pairs in one chunk. Larger, and a write during a snapshot copies more; smaller, and the snapshot's begin does.
pub const CHUNK_PAIRS_MAX: usize = 256;

type Pair = (Arc<str>, Stored);

/// The map. Cloning it is the cheap copy.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedMap {
    /// Ascending; none is empty; each ascending by key.
    chunks: Vec<Arc<Vec<Pair>>>,
    len: usize,
}

impl PartialEq for SharedMap {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl Eq for SharedMap {}

impl SharedMap {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The chunk in which the key stands, if it is there, and where a new one belongs.
    fn chunk_of(&self, key: &str) -> usize {
        let begins_behind = |chunk: &Arc<Vec<Pair>>| chunk.first().is_some_and(|(first, _)| **first <= *key);
        self.chunks.partition_point(begins_behind).saturating_sub(1)
    }

    pub(super) fn get(&self, key: &str) -> Option<&Stored> {
        let chunk = self.chunks.get(self.chunk_of(key))?;
        let at = chunk.binary_search_by(|(k, _)| (**k).cmp(key)).ok()?;
        chunk.get(at).map(|(_, stored)| stored)
    }

    pub(super) fn insert(&mut self, key: &str, stored: Stored) -> Option<Stored> {
        let number = self.chunk_of(key);
        let Some(chunk) = self.chunks.get_mut(number) else {
            self.chunks.push(Arc::new(vec![(key.into(), stored)]));
            self.len = 1;
            return None;
        };
        let chunk = Arc::make_mut(chunk);
        match chunk.binary_search_by(|(k, _)| (**k).cmp(key)) {
            Ok(at) => chunk.get_mut(at).map(|(_, before)| std::mem::replace(before, stored)),
            Err(at) => {
                chunk.insert(at, (key.into(), stored));
                self.len += 1;
                if chunk.len() > CHUNK_PAIRS_MAX {
                    // What comes in the order of its keys leaves full chunks behind.
                    let rest = if at + 1 == chunk.len() { at } else { chunk.len() / 2 };
                    let upper = chunk.split_off(rest);
                    chunk.shrink_to_fit();
                    self.chunks.insert(number + 1, Arc::new(upper));
                }
                None
            }
        }
    }

    pub(super) fn remove(&mut self, key: &str) -> Option<Stored> {
        let number = self.chunk_of(key);
        let chunk = self.chunks.get_mut(number)?;
        let at = chunk.binary_search_by(|(k, _)| (**k).cmp(key)).ok()?;
        let (_, stored) = Arc::make_mut(chunk).remove(at);
        self.len -= 1;
        self.merge(number);
        Some(stored)
    }

    /// Joins a chunk that has become small with the one behind it, so that the number of chunks stays in proportion.
    fn merge(&mut self, number: usize) {
        let size = |number: usize| self.chunks.get(number).map_or(usize::MAX, |chunk| chunk.len());
        if size(number) == 0 {
            self.chunks.remove(number);
        } else if size(number).saturating_add(size(number + 1)) <= CHUNK_PAIRS_MAX / 2 {
            let next = self.chunks.remove(number + 1);
            if let Some(chunk) = self.chunks.get_mut(number) {
                Arc::make_mut(chunk).extend(next.iter().cloned());
            }
        }
    }

    pub(super) fn last_key(&self) -> Option<&str> {
        self.chunks.last()?.last().map(|(key, _)| &**key)
    }

    /// All pairs, in the order of their keys.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Stored)> {
        self.chunks.iter().flat_map(|chunk| chunk.iter()).map(|(key, stored)| (&**key, stored))
    }

    /// The pairs from here on, in the order of their keys.
    pub(super) fn range_from(&self, start: Bound<&str>) -> impl Iterator<Item = (&str, &Stored)> {
        let number = match start {
            Bound::Included(key) | Bound::Excluded(key) => self.chunk_of(key),
            Bound::Unbounded => 0,
        };
        let is_before = move |key: &str| match start {
            Bound::Included(first) => key < first,
            Bound::Excluded(last) => key <= last,
            Bound::Unbounded => false,
        };
        let rest = self.chunks.get(number..).unwrap_or_default();
        rest.iter()
            .flat_map(|chunk| chunk.iter())
            .map(|(key, stored)| (&**key, stored))
            .skip_while(move |(key, _)| is_before(key))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use raftwright::core::Rng;

    use super::*;

    fn stored(revision: u64) -> Stored {
        Stored { value: Bytes::new(), revision }
    }

    fn pairs(map: &SharedMap) -> Vec<(String, u64)> {
        map.iter().map(|(key, stored)| (key.to_owned(), stored.revision)).collect()
    }

    /// Against a plain map, with copies taken on the way that must stay as they were.
    #[test]
    fn it_does_what_a_plain_map_does_and_its_copies_stay_as_they_were() {
        for seed in 0..20 {
            let mut rng = Rng::new(seed);
            let (mut map, mut plain) = (SharedMap::default(), BTreeMap::new());
            let mut copies = Vec::new();
            // Grows for a while, then shrinks, so that chunks are split and joined.
            for step in 0..6_000u64 {
                let key = format!("{:04}", rng.next_u64() % 2_000);
                let grows = step < 3_000;
                if rng.next_u64().is_multiple_of(4) || (grows && rng.next_u64().is_multiple_of(2)) {
                    assert_eq!(map.insert(&key, stored(step)), plain.insert(key, stored(step)));
                } else {
                    assert_eq!(map.remove(&key), plain.remove(&key));
                }
                if step % 1_000 == 999 {
                    copies.push((map.clone(), plain.clone()));
                }
                let key = format!("{:04}", rng.next_u64() % 2_000);
                assert_eq!(map.get(&key), plain.get(&key));
            }
            for (map, plain) in copies.into_iter().chain([(map, plain)]) {
                let expected: Vec<(String, u64)> = plain.iter().map(|(k, s)| (k.clone(), s.revision)).collect();
                assert_eq!((map.len(), pairs(&map)), (plain.len(), expected));
                assert_eq!(map.last_key(), plain.keys().next_back().map(String::as_str));
                assert!(map.chunks.iter().all(|chunk| !chunk.is_empty() && chunk.len() <= CHUNK_PAIRS_MAX));
                for start in ["", "0500", "1999", "3"] {
                    for bound in [Bound::Included(start), Bound::Excluded(start)] {
                        let found: Vec<&str> = map.range_from(bound).map(|(key, _)| key).collect();
                        let expected = plain.range::<str, _>((bound, Bound::Unbounded)).map(|(key, _)| key.as_str());
                        assert_eq!(found, expected.collect::<Vec<_>>());
                    }
                }
            }
        }
    }

    #[test]
    fn a_copy_shares_all_and_a_write_takes_one_chunk() {
        let mut map = SharedMap::default();
        (0..10_000u64).for_each(|at| _ = map.insert(&format!("{at:05}"), stored(at)));
        assert!(map.chunks.len() <= 10_000usize.div_ceil(CHUNK_PAIRS_MAX), "chunks are full when keys come in order");
        let copy = map.clone();
        let shared = |map: &SharedMap| map.chunks.iter().filter(|chunk| Arc::strong_count(chunk) == 2).count();
        assert_eq!(shared(&map), map.chunks.len());
        map.insert("05000", stored(1));
        map.insert("05001", stored(1));
        assert_eq!(shared(&map), map.chunks.len() - 1);
        assert_eq!(copy.get("05000"), Some(&stored(5_000)));
    }
}
