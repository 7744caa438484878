//! Payloads of the last entries, in memory: in the pieces in which they were appended, each of which is counted, shared and let go
//! as one.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::record::RawEntry;

/// What a payload in memory costs besides its bytes: its entry, and what an allocation takes.
const PAYLOAD_OVERHEAD: usize = size_of::<RawEntry>() + 32;
/// What a piece costs besides its entries: its place here and its allocations.
const PIECE_OVERHEAD: usize = size_of::<Piece>() + 64;
/// Pieces for which there is room in any case.
const ROOM_KEPT: usize = 4096;

/// Entries that were appended together.
#[derive(Debug)]
struct Piece {
    entries: Arc<Vec<RawEntry>>,
    /// Index of the first that counts, and of the one behind the last: the others were purged or truncated.
    first: u64,
    end: u64,
    /// What all of it costs, for as long as any of it is here.
    cost: usize,
}

impl Piece {
    /// `None` if there is no entry.
    fn of(entries: Arc<Vec<RawEntry>>) -> Option<Self> {
        let first = entries.first()?.log_id.index;
        let room = entries.capacity().saturating_sub(entries.len()).saturating_mul(size_of::<RawEntry>());
        let bytes = entries.iter().map(|entry| entry.payload.len() + PAYLOAD_OVERHEAD).sum::<usize>();
        let end = first.saturating_add(entries.len() as u64);
        Some(Self { entries, first, end, cost: bytes.saturating_add(room).saturating_add(PIECE_OVERHEAD) })
    }

    /// The entries that count.
    fn live(&self) -> &[RawEntry] {
        let begin = self.entries.first().map_or(0, |entry| entry.log_id.index);
        let place = |index: u64| usize::try_from(index.saturating_sub(begin)).unwrap_or(usize::MAX);
        self.entries.get(place(self.first)..place(self.end)).unwrap_or(&[])
    }

    /// The newer half of what counts, in memory of its own.
    fn newer_half(&self) -> Option<Self> {
        let live = self.live();
        Self::of(Arc::new(live[live.len().div_ceil(2)..].to_vec()))
    }
}

/// Entries without a gap, up to the last of the log.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    pieces: VecDeque<Piece>,
    cost: usize,
}

impl Recent {
    /// What they cost.
    pub(crate) fn cost(&self) -> usize {
        self.cost
    }

    /// How many entries there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.pieces.iter().map(|piece| piece.live().len()).sum()
    }

    /// Index of the first; as high as can be if there is none.
    pub(crate) fn first(&self) -> u64 {
        self.pieces.front().map_or(u64::MAX, |piece| piece.first)
    }

    /// Adds entries behind the last.
    pub(crate) fn append(&mut self, entries: Arc<Vec<RawEntry>>) {
        if let Some(piece) = Piece::of(entries) {
            self.cost += piece.cost;
            self.pieces.push_back(piece);
        }
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The payloads from `index` on, in order; none if that one is not here.
    pub(crate) fn from(&self, index: u64) -> impl Iterator<Item = &Bytes> {
        let at = self.pieces.partition_point(|piece| piece.end <= index);
        let here = self.pieces.get(at).is_some_and(|piece| piece.first <= index);
        let pieces = self.pieces.range(if here { at } else { self.pieces.len() }..);
        let entries = pieces.flat_map(|piece| piece.live());
        let before = self.pieces.get(at).map_or(0, |piece| index.saturating_sub(piece.first));
        entries.skip(usize::try_from(before).unwrap_or(usize::MAX)).map(|entry| &entry.payload)
    }

    /// Removes the entries from `from` on.
    pub(crate) fn truncate(&mut self, from: u64) {
        while self.pieces.back().is_some_and(|piece| piece.first >= from) {
            self.cost -= self.pieces.pop_back().map_or(0, |piece| piece.cost);
        }
        if let Some(last) = self.pieces.back_mut() {
            last.end = last.end.min(from);
        }
        self.give_room_back();
    }

    /// Removes the entries before `first`.
    pub(crate) fn purge(&mut self, first: u64) {
        while self.pieces.front().is_some_and(|piece| piece.end <= first) {
            self.cost -= self.pieces.pop_front().map_or(0, |piece| piece.cost);
        }
        if let Some(piece) = self.pieces.front_mut() {
            piece.first = piece.first.max(first);
        }
        self.give_room_back();
    }

    /// What was for many pieces is not kept for few.
    fn give_room_back(&mut self) {
        if self.pieces.capacity() > ROOM_KEPT && self.pieces.capacity() / 4 > self.pieces.len() {
            self.pieces.shrink_to((self.pieces.len() * 2).max(ROOM_KEPT));
        }
    }

    /// Forgets the oldest until the others cost at most `cost_max`, but none that `is_needed`. Of a piece that is too long for the
    /// bound, the newer part stays.
    pub(crate) fn evict(&mut self, cost_max: usize, is_needed: impl Fn(u64) -> bool) {
        while self.cost > cost_max
            && let Some(oldest) = self.pieces.pop_front_if(|piece| !is_needed(piece.first))
        {
            self.cost -= oldest.cost;
            if self.cost < cost_max / 2
                && let Some(half) = oldest.newer_half()
            {
                self.cost += half.cost;
                self.pieces.push_front(half);
            }
        }
        self.give_room_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::RawLogId;

    fn entries(first: u64, count: u64, len: usize) -> Arc<Vec<RawEntry>> {
        let entry = |index: u64| {
            let payload = Bytes::from(vec![index as u8; len]);
            RawEntry { kind: 1, log_id: RawLogId { term: 1, node: None, index }, payload }
        };
        Arc::new((first..first + count).map(entry).collect())
    }

    fn none_is_needed(_: u64) -> bool {
        false
    }

    /// Whatever is done to it, it holds the payloads that a plain row of them would, and counts what they cost.
    #[test]
    fn it_is_a_row_of_payloads() {
        let mut random = 5u64;
        let mut draw = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        let (mut recent, mut row, mut next) = (Recent::default(), VecDeque::new(), 7u64);
        for step in 0..20_000 {
            match draw(10) {
                0..5 => {
                    // An entry is known by its length.
                    let (count, len) = (1 + draw(6), draw(50) as usize);
                    recent.append(entries(next, count, len));
                    row.extend((next..next + count).map(|index| (index, len)));
                    next += count;
                }
                5..7 => {
                    next -= draw(4).min(row.len() as u64);
                    recent.truncate(next);
                    row.retain(|(index, _)| *index < next);
                }
                7..9 => {
                    let first = row.front().map_or(next, |(index, _)| *index) + draw(6).min(row.len() as u64);
                    recent.purge(first);
                    row.retain(|(index, _)| *index >= first);
                }
                _ => {
                    recent.evict(6000, none_is_needed);
                    assert!(recent.cost() <= 6000);
                    row.retain(|(index, _)| *index >= recent.first());
                    let pieces = recent.pieces.iter().map(|piece| piece.cost).sum::<usize>();
                    assert_eq!(recent.cost(), pieces, "step {step}");
                }
            }
            assert_eq!((recent.len(), recent.pieces.iter().all(|piece| piece.first < piece.end)), (row.len(), true));
            if let Some((first, _)) = row.front() {
                assert_eq!(recent.first(), *first, "step {step}");
                let from = *first + draw(row.len() as u64);
                let here = recent.from(from).map(Bytes::len);
                assert!(here.eq(row.iter().filter(|(index, _)| *index >= from).map(|(_, len)| *len)), "step {step}");
                assert_eq!(recent.from(first - 1).count(), 0);
            } else {
                assert_eq!((recent.first(), recent.cost()), (u64::MAX, 0), "step {step}");
            }
            assert_eq!(recent.from(next).count(), 0);
        }
    }

    /// What has no room as a whole is not lost as a whole, nor are others lost for it.
    #[test]
    fn of_a_piece_that_is_too_long_the_newer_part_stays() {
        let mut recent = Recent::default();
        recent.append(entries(1, 1000, 1000));
        let cost = recent.cost();
        assert!(cost > 1_000_000);
        recent.evict(cost / 3, none_is_needed);
        assert!(recent.cost() <= cost / 3 && recent.cost() > cost / 6, "{} of {cost}", recent.cost());
        assert_eq!((recent.first(), recent.from(1000).count()), (751, 1));
        recent.append(entries(1001, 1, 1000));
        recent.evict(recent.cost() - 1, none_is_needed);
        assert_eq!((recent.first(), recent.from(876).count()), (876, 126), "the newer half of what was left");
        recent.evict(0, none_is_needed);
        assert_eq!((recent.len(), recent.cost(), recent.pieces.len()), (0, 0, 0));
    }

    /// Parts of pieces are copied only where whole ones would leave next to nothing.
    #[test]
    fn where_enough_is_left_a_piece_goes_as_a_whole() {
        let mut recent = Recent::default();
        for first in [1, 11, 21, 31] {
            recent.append(entries(first, 10, 10));
        }
        recent.evict(recent.cost() - 1, none_is_needed);
        assert_eq!((recent.first(), recent.pieces.len()), (11, 3));
        let two_thirds = recent.cost() * 2 / 3;
        recent.evict(two_thirds, none_is_needed);
        assert_eq!((recent.first(), recent.cost()), (21, two_thirds));
    }

    /// A piece that is not yet on the media stays, and with it all that came later.
    #[test]
    fn what_is_needed_stays() {
        let mut recent = Recent::default();
        for first in [1, 11, 21, 31] {
            recent.append(entries(first, 10, 10));
        }
        recent.evict(0, |index| (11..21).contains(&index));
        assert_eq!((recent.first(), recent.len()), (11, 30));
    }

    /// Entries without a byte take memory, too, and so does room for entries that were never added.
    #[test]
    fn all_memory_is_counted() {
        let mut recent = Recent::default();
        recent.append(entries(1, 1, 0));
        let one = recent.cost();
        assert!(one >= size_of::<RawEntry>() + size_of::<Piece>());
        let mut roomy = Vec::with_capacity(1000);
        roomy.extend(entries(2, 1, 0).iter().cloned());
        recent.append(Arc::new(roomy));
        assert!(recent.cost() >= one + 1000 * size_of::<RawEntry>());
        recent.truncate(2);
        assert_eq!(recent.cost(), one);
        recent.append(entries(2, 0, 0));
        assert_eq!(recent.cost(), one, "no entry is no piece");
        recent.purge(2);
        assert_eq!(recent.cost(), 0);
        recent.append(entries(2, 1000, 0));
        let each = recent.cost() / 1000;
        assert!((size_of::<RawEntry>() + 32..128).contains(&each), "{each}");
        assert!(one - each >= size_of::<Piece>() + 32 && one - each < 256, "{one} for one");
    }

    /// However few pieces are left, and whatever took the others: there is no room for many of them.
    #[test]
    fn room_is_given_back() {
        type Take = fn(&mut Recent);
        let takes: [(Take, std::ops::Range<u64>); 3] = [
            (|recent| recent.purge(99_990), 99_990..100_000),
            (|recent| recent.truncate(11), 1..11),
            (|recent| recent.evict(0, |index| index >= 99_990), 99_990..100_000),
        ];
        for (at, (take, left)) in takes.into_iter().enumerate() {
            let mut recent = Recent::default();
            for at in 1..100_000 {
                recent.append(entries(at, 1, 0));
            }
            take(&mut recent);
            assert_eq!((recent.first(), recent.len() as u64), (left.start, left.end - left.start), "{at}");
            assert!(recent.pieces.capacity() < 10_000, "{at}: room for {}", recent.pieces.capacity());
        }
    }
}
