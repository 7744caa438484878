//! Where the entries of a log stand, a slot for each, in pieces that never move: a long log does not wait until all of it has been
//! copied to more room.

use std::collections::VecDeque;

use crate::aligned::Memory;
use crate::index::{Place, Slot};

/// A slot as it is kept: a long log has very many.
const SLOT_LEN: usize = 20;
/// Slots of the first piece, and most of one while the log is short.
const SHORT_LEN: std::ops::RangeInclusive<u64> = 256..=2048;
/// From how many entries on pieces are long.
const LONG_FROM: u64 = 16 * 2048;
/// Slots of a long piece: as many as have room in a huge page, which takes one fault where small ones take 512.
const LONG_LEN: u64 = (2 << 20) / SLOT_LEN as u64;
/// Bytes of a long piece.
const LONG_BYTES: usize = LONG_LEN as usize * SLOT_LEN;
/// From how many entries on there is memory for a long piece before it is needed.
const SPARE_FROM: u64 = LONG_FROM / 2;

type Packed = [u8; SLOT_LEN];

impl Slot {
    fn pack(self) -> Packed {
        // Upper and lower half of the number under which it was queued, or segment and offset.
        let (upper, lower, queued) = match self.place {
            Place::Queued(number) => ((number >> 32) as u32, number as u32, 1),
            Place::Disk { segment, offset } => (segment, offset, 0),
        };
        let mut packed = [0; SLOT_LEN];
        packed[..4].copy_from_slice(&upper.to_ne_bytes());
        packed[4..8].copy_from_slice(&lower.to_ne_bytes());
        packed[8..12].copy_from_slice(&self.len.to_ne_bytes());
        packed[12..16].copy_from_slice(&self.crc.to_ne_bytes());
        packed[16] = self.kind;
        packed[17] = queued;
        packed
    }

    fn unpack(packed: &Packed) -> Self {
        let number = |at: usize| u32::from_ne_bytes([packed[at], packed[at + 1], packed[at + 2], packed[at + 3]]);
        let place = match packed[17] {
            0 => Place::Disk { segment: number(0), offset: number(4) },
            _ => Place::Queued(u64::from(number(0)) << 32 | u64::from(number(4))),
        };
        Self { place, len: number(8), crc: number(12), kind: packed[16] }
    }
}

#[derive(Debug)]
struct Piece {
    /// Position of its first slot.
    begin: u64,
    /// How many have room.
    room: u64,
    memory: Memory,
}

impl Piece {
    fn new(begin: u64, room: u64) -> Self {
        Self { begin, room, memory: Memory::of(room as usize * SLOT_LEN).0 }
    }

    fn long(begin: u64, memory: Memory) -> Self {
        Self { begin, room: LONG_LEN, memory }
    }

    fn get(&self, position: u64) -> Option<&Packed> {
        let (slots, _) = self.memory.bytes().as_chunks();
        slots.get((position - self.begin) as usize)
    }

    /// The places from this position on.
    fn from(&mut self, position: u64) -> &mut [Packed] {
        let (slots, _) = self.memory.bytes_mut().as_chunks_mut();
        let room = slots.len().min(self.room as usize);
        slots.get_mut((position - self.begin) as usize..room).unwrap_or(&mut [])
    }

    fn get_mut(&mut self, position: u64) -> Option<&mut Packed> {
        let (slots, _) = self.memory.bytes_mut().as_chunks_mut();
        slots.get_mut((position - self.begin) as usize)
    }
}

/// A row of slots that grows and shrinks at both ends.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    /// In order, each behind the one before; none without a slot that counts.
    pieces: VecDeque<Piece>,
    /// Positions of the first slot, and behind the last. They are no indexes of entries: nobody counts from where.
    begin: u64,
    end: u64,
    /// Memory for the next long piece.
    spare: Option<Memory>,
}

impl Slots {
    pub(crate) fn len(&self) -> u64 {
        self.end - self.begin
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.begin == self.end
    }

    /// The piece in which a slot of the row is.
    fn piece_of(&self, position: u64) -> Option<usize> {
        if self.pieces.back().is_some_and(|last| last.begin <= position) {
            // Nearly always: whoever asks has just added it.
            return Some(self.pieces.len() - 1);
        }
        self.pieces.partition_point(|piece| piece.begin <= position).checked_sub(1)
    }

    fn position(&self, at: u64) -> Option<u64> {
        self.begin.checked_add(at).filter(|position| *position < self.end)
    }

    /// The slot at this place of the row.
    pub(crate) fn get(&self, at: u64) -> Option<Slot> {
        let position = self.position(at)?;
        self.pieces.get(self.piece_of(position)?)?.get(position).map(Slot::unpack)
    }

    /// Puts what `change` makes of the slot at this place in its stead; nothing happens if it makes nothing, or if the row has no
    /// such place.
    #[inline]
    pub(crate) fn update(&mut self, at: u64, change: impl FnOnce(Slot) -> Option<Slot>) {
        let Some(position) = self.position(at) else { return };
        let piece = self.piece_of(position).and_then(|piece| self.pieces.get_mut(piece));
        if let Some(place) = piece.and_then(|piece| piece.get_mut(position))
            && let Some(slot) = change(Slot::unpack(place))
        {
            *place = slot.pack();
        }
    }

    /// Adds slots behind the last.
    pub(crate) fn extend(&mut self, slots: impl IntoIterator<Item = Slot>) {
        let mut slots = slots.into_iter().peekable();
        while slots.peek().is_some() {
            if self.pieces.back().is_none_or(|last| self.end - last.begin == last.room) {
                let len = self.len();
                self.pieces.push_back(if len < LONG_FROM {
                    Piece::new(self.end, len.clamp(*SHORT_LEN.start(), *SHORT_LEN.end()))
                } else {
                    let memory = self.spare.take().unwrap_or_else(|| Memory::of(LONG_BYTES).0);
                    Piece::long(self.end, memory)
                });
            }
            let Some(last) = self.pieces.back_mut() else { return };
            let free = last.from(self.end);
            for (place, slot) in free.iter_mut().zip(slots.by_ref()) {
                *place = slot.pack();
                self.end += 1;
            }
        }
    }

    /// True when a long piece will be needed before long, and there is no memory for it. To get that from the system can take
    /// milliseconds; who adds a slot should not have to wait so long.
    pub(crate) fn lacks_spare(&self) -> bool {
        let Some(last) = self.pieces.back().filter(|_| self.spare.is_none() && self.len() >= SPARE_FROM) else {
            return false;
        };
        last.room < LONG_LEN || self.end - last.begin > LONG_LEN / 2
    }

    /// Memory for a long piece, all of it at hand.
    pub(crate) fn make_spare() -> Memory {
        Memory::at_hand(LONG_BYTES)
    }

    /// Takes it for the next long piece.
    pub(crate) fn take_spare(&mut self, memory: Memory) {
        if self.len() >= SPARE_FROM {
            self.spare = Some(memory);
        }
    }

    /// Keeps the first `len`.
    pub(crate) fn truncate(&mut self, len: u64) {
        self.end = self.end.min(self.begin.saturating_add(len));
        while self.pieces.back().is_some_and(|last| last.begin >= self.end) {
            let gone = self.pieces.pop_back();
            self.use_again(gone);
        }
        self.give_back();
    }

    /// Removes the first `count`.
    pub(crate) fn remove_first(&mut self, count: u64) {
        self.begin = self.end.min(self.begin.saturating_add(count));
        while self.pieces.front().is_some_and(|first| first.begin + first.room <= self.begin) {
            let gone = self.pieces.pop_front();
            self.use_again(gone);
        }
        self.give_back();
    }

    /// The memory of a long piece is for the next one, if there is none for that.
    fn use_again(&mut self, gone: Option<Piece>) {
        let gone = gone.filter(|gone| gone.room == LONG_LEN).map(|gone| gone.memory);
        self.spare = self.spare.take().or(gone);
    }

    /// What was long gives its memory back.
    fn give_back(&mut self) {
        if self.is_empty() {
            self.pieces.clear();
        }
        if self.len() < SPARE_FROM {
            self.spare = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(number: u64) -> Slot {
        Slot { place: Place::Queued(number), len: number as u32, crc: 0, kind: 0 }
    }

    /// Nothing is lost in packing.
    #[test]
    fn a_slot_is_what_it_was() {
        let numbers = [0, 1, u64::from(u32::MAX), 1 << 32, 0x0123_4567_89AB_CDEF, u64::MAX].map(Place::Queued);
        let places = [(0, 0), (1, u32::MAX), (u32::MAX, 1)].map(|(segment, offset)| Place::Disk { segment, offset });
        for place in numbers.into_iter().chain(places) {
            let slot = Slot { place, len: 0x0102_0304, crc: u32::MAX, kind: 200 };
            assert_eq!(Slot::unpack(&slot.pack()), slot);
        }
    }

    /// Whatever is done to it, it is the row that a plain one would be.
    #[test]
    fn it_is_a_row() {
        let mut random = 9u64;
        let mut draw = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        let (mut slots, mut row) = (Slots::default(), VecDeque::new());
        let (mut longest, mut has_short, mut has_long) = (0, false, false);
        for step in 0..2000 {
            // Every now and then it becomes long enough for long pieces.
            let long = step % 500 == 100;
            match if long { 0 } else { draw(4) } {
                0 | 1 => {
                    let more: Vec<_> = (0..if long { 300_000 } else { draw(3000) }).map(|_| draw(1 << 31)).collect();
                    // In pieces of any length, one at a time among them.
                    let most = 1 << draw(12);
                    for piece in more.chunks(most) {
                        slots.extend(piece.iter().copied().map(slot));
                    }
                    row.extend(more);
                }
                2 => {
                    let kept = (row.len() as u64).saturating_sub(draw(2000));
                    slots.truncate(kept);
                    row.truncate(kept as usize);
                }
                _ => {
                    let gone = draw(row.len() as u64 / 4 + 2).min(row.len() as u64);
                    slots.remove_first(gone);
                    row.drain(..gone as usize);
                }
            }
            longest = longest.max(row.len());
            has_short |= slots.pieces.iter().any(|piece| piece.room < LONG_LEN);
            has_long |= slots.pieces.iter().any(|piece| piece.room == LONG_LEN);
            assert_eq!((slots.len(), slots.is_empty()), (row.len() as u64, row.is_empty()), "step {step}");
            assert_eq!((slots.get(slots.len()), slots.get(u64::MAX)), (None, None));
            for _ in 0..5.min(row.len()) {
                let at = draw(row.len() as u64);
                assert_eq!(slots.get(at), row.get(at as usize).map(|number| slot(*number)), "step {step}");
                slots.update(at, |was| (was == slot(row[at as usize])).then(|| slot(at)));
                slots.update(at, |_| None);
                row[at as usize] = at;
            }
            slots.update(slots.len(), |_| Some(slot(0)));
            // What is added next may stand where this could have been.
            assert!(slots.pieces.iter().all(|piece| piece.begin < slots.end), "step {step}");
        }
        assert!(longest > 200_000 && has_short && has_long);
        slots.remove_first(u64::MAX);
        assert!(slots.is_empty() && slots.pieces.is_empty());
        slots.truncate(5);
        slots.extend([slot(7)]);
        assert_eq!((slots.len(), slots.get(0)), (1, Some(slot(7))));
    }

    /// Before a long piece is needed there is memory for it: what was asked for, or what a piece before it had. A row that has
    /// become short keeps none.
    #[test]
    fn memory_is_there_before_it_is_needed() {
        let mut slots = Slots::default();
        let mut asked = Vec::new();
        for number in 0..4 * LONG_LEN {
            slots.extend([slot(number)]);
            if slots.lacks_spare() {
                asked.push(number + 1);
                slots.take_spare(Slots::make_spare());
            }
        }
        let long = |at: u64| LONG_FROM + at * LONG_LEN;
        assert!((SPARE_FROM..long(0)).contains(&asked[0]), "{asked:?}");
        for (at, asked) in (0..).zip(&asked[1..]) {
            assert!((long(at) + LONG_LEN / 2..long(at + 1)).contains(asked), "{asked}");
        }
        assert_eq!(asked.len(), 5);
        // One that moves on asks for no more: what goes in front comes again behind.
        let mine = |slots: &Slots| {
            let pieces = slots.pieces.iter().filter(|piece| piece.room == LONG_LEN).map(|piece| &piece.memory);
            pieces.chain(&slots.spare).map(|memory| memory.bytes().as_ptr()).collect::<std::collections::BTreeSet<_>>()
        };
        let before = mine(&slots);
        for number in 0..4 * LONG_LEN {
            slots.extend([slot(number)]);
            slots.remove_first(1);
            assert!(!slots.lacks_spare() || slots.spare.is_none());
        }
        assert!(mine(&slots).is_subset(&before));
        // What is truncated may be added again at once.
        slots.remove_first(slots.len() - SPARE_FROM);
        while slots.pieces.back().is_some_and(|last| slots.end - last.begin > 1) {
            slots.extend([slot(0)]);
        }
        let (before, len) = (mine(&slots), slots.len());
        slots.spare = None;
        let last = slots.pieces.back().map(|last| last.memory.bytes().as_ptr());
        slots.truncate(len - 1);
        assert_eq!(slots.spare.as_ref().map(|memory| memory.bytes().as_ptr()), last);
        slots.extend([slot(0)]);
        assert!(slots.spare.is_none() && mine(&slots).is_subset(&before));
        slots.truncate(SPARE_FROM);
        assert!(slots.spare.is_some() || slots.lacks_spare());
        slots.truncate(SPARE_FROM - 1);
        slots.take_spare(Slots::make_spare());
        assert!(slots.spare.is_none() && !slots.lacks_spare());
    }

    /// A log takes as much memory as it is long, however long it was.
    #[test]
    fn memory_is_given_back() {
        let taken = |slots: &Slots| {
            let memory = slots.pieces.iter().map(|piece| &piece.memory).chain(&slots.spare);
            memory.map(|memory| memory.bytes().len()).sum::<usize>()
        };
        let mut slots = Slots::default();
        assert_eq!(taken(&slots), 0);
        for number in 0..1_000_000u64 {
            slots.extend([slot(number)]);
        }
        assert!(taken(&slots) < 1_000_000 * SLOT_LEN + (3 << 20), "{}", taken(&slots));
        slots.remove_first(999_000);
        assert!(taken(&slots) <= 2 << 20 && slots.get(0) == Some(slot(999_000)), "{}", taken(&slots));
        // A piece of which nothing is left goes at once, not with the next one.
        let behind = slots.pieces.front().map(|piece| piece.begin + piece.room - slots.begin).unwrap();
        for number in 0..=behind - slots.len() {
            slots.extend([slot(number)]);
        }
        assert_eq!(slots.pieces.len(), 2);
        slots.remove_first(behind);
        assert_eq!((slots.len(), slots.pieces.len()), (1, 1));
        slots.truncate(0);
        for number in 999_000..1_000_000u64 {
            slots.extend([slot(number)]);
        }
        // One that moves on stays as short as it is.
        for number in 0..1_000_000u64 {
            slots.extend([slot(number)]);
            slots.remove_first(1);
        }
        assert!(slots.len() == 1000 && taken(&slots) < 200 << 10, "{}", taken(&slots));
    }
}
