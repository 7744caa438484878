//! Memory that begins at a multiple of a page, as writes around the system's cache want it.

use std::sync::OnceLock;

use crate::format::SECTOR;
use crate::platform::{HugePages, huge_pages};

/// What memory is aligned to, in bytes: at least what any media asks for.
const ALIGNMENT: usize = 4096;

/// From how many bytes on memory comes in huge pages, where the system has them: the media takes such memory in one piece, where
/// small pages lie here and there and are looked up one by one.
const HUGE_FROM: usize = 64 << 10;

/// True when `bytes` begin where a write around the cache may begin.
pub(crate) fn is_aligned(bytes: &[u8]) -> bool {
    bytes.as_ptr().align_offset(ALIGNMENT) == 0
}

/// Memory of a fixed length, zeros at first.
#[derive(Debug)]
pub(crate) enum Memory {
    Heap(Vec<u8>),
    Huge(HugePages),
}

impl Memory {
    /// At least `len` bytes, with the first of them aligned, and where that is.
    pub(crate) fn of(len: usize) -> (Self, usize) {
        let huge = (len >= HUGE_FROM).then(|| huge_pages(len)).flatten();
        let memory = huge.map_or_else(|| Self::Heap(vec![0; len + ALIGNMENT]), Self::Huge);
        // Where this can't be computed, the content is merely not aligned.
        let start = memory.bytes().as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        let start = if start + len <= memory.bytes().len() { start } else { 0 };
        (memory, start)
    }

    /// The same, of which all is there: the system gives memory when it is first written to, and that takes its time.
    pub(crate) fn at_hand(len: usize) -> Self {
        let mut memory = Self::of(len).0;
        memory.bytes_mut().iter_mut().step_by(ALIGNMENT).for_each(|byte| *byte = 0);
        memory
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Huge(pages) => pages,
        }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Huge(pages) => pages,
        }
    }
}

/// A buffer whose content is aligned.
#[derive(Debug)]
pub(crate) struct AlignedBuffer {
    memory: Memory,
    /// Where the content begins.
    start: usize,
    len: usize,
}

impl Default for AlignedBuffer {
    fn default() -> Self {
        Self { memory: Memory::Heap(Vec::new()), start: 0, len: 0 }
    }
}

impl AlignedBuffer {
    /// Empties it and makes room for `len` bytes, so that filling it with so many moves nothing. Memory beyond `kept_max` bytes
    /// is given back first.
    pub(crate) fn begin(&mut self, len: usize, kept_max: usize) {
        self.len = 0;
        // What aligning takes is not counted.
        if self.room() < len || self.room() > len.max(kept_max) + ALIGNMENT {
            // The old memory goes before there is more.
            *self = Self::default();
            (self.memory, self.start) = Memory::of(len.next_power_of_two());
        }
    }

    /// One that holds these bytes, with room up to the end of their last sector.
    pub(crate) fn of(content: &[u8]) -> Self {
        let mut buffer = Self::default();
        buffer.begin(content.len().next_multiple_of(SECTOR), 0);
        buffer.extend(content);
        buffer
    }

    /// How long its content can become without moving.
    fn room(&self) -> usize {
        self.memory.bytes().len() - self.start
    }

    /// Bytes of memory that it holds on to.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.memory.bytes().len()
    }

    pub(crate) fn extend(&mut self, more: &[u8]) {
        self.put(self.len, more);
    }

    /// Puts bytes at a place. What lies between the end of the content and this place becomes content as it is: it is to be
    /// put as well.
    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) {
        let end = at + bytes.len();
        self.make_room(end);
        self.memory.bytes_mut()[self.start + at..self.start + end].copy_from_slice(bytes);
        self.len = self.len.max(end);
    }

    /// Adds zeros or takes bytes away until `len` are left.
    pub(crate) fn resize(&mut self, len: usize) {
        self.make_room(len);
        if len > self.len {
            self.memory.bytes_mut()[self.start + self.len..self.start + len].fill(0);
        }
        self.len = len;
    }

    fn make_room(&mut self, len: usize) {
        if len > self.room() {
            let (memory, start) = Memory::of(len.next_power_of_two());
            let old = std::mem::replace(self, Self { memory, start, len: 0 });
            self.extend(old.content());
        }
    }

    pub(crate) fn content(&self) -> &[u8] {
        &self.memory.bytes()[self.start..self.start + self.len]
    }
}

/// Number of the zeros.
pub(crate) const ZEROS_LEN: usize = 1 << 20;

/// Zeros that a write around the cache can take. They take next to no memory: where nothing was ever put, all pages are one.
pub(crate) fn zeros() -> &'static [u8; ZEROS_LEN] {
    static HUGE: OnceLock<Option<HugePages>> = OnceLock::new();
    let huge = HUGE.get_or_init(|| huge_pages(ZEROS_LEN)).as_ref();
    huge.and_then(|pages| pages.first_chunk()).unwrap_or(&ZEROS.0)
}

#[repr(align(4096))]
struct Zeros([u8; ZEROS_LEN]);

/// Where there are no huge pages.
static ZEROS: Zeros = Zeros([0; ZEROS_LEN]);

#[cfg(test)]
mod tests {
    use super::*;

    /// Longer or shorter, over what it held before, in small memory and in huge pages: it holds what was put there, and zeros.
    #[test]
    fn what_was_there_before_is_never_seen() {
        let mut buffer = AlignedBuffer::default();
        let mut model = Vec::new();
        for round in 0..200u32 {
            let len = (round.wrapping_mul(2_654_435_761) >> 12) as usize % (3 * HUGE_FROM) + 1;
            buffer.begin(len / 2, 2 * HUGE_FROM);
            assert!(buffer.content().is_empty());
            model.clear();
            for part in [len / 7, len / 3, len - len / 7 - len / 3] {
                buffer.extend(&vec![round as u8 | 1; part]);
                model.resize(model.len() + part, round as u8 | 1);
                let zeros = model.len().next_multiple_of(SECTOR);
                buffer.resize(zeros);
                model.resize(zeros, 0);
            }
            assert!(buffer.content() == model && is_aligned(buffer.content()), "round {round}");
        }
    }

    #[test]
    fn content_is_aligned_however_long_it_gets() {
        let mut buffer = AlignedBuffer::default();
        for len in [1, 511, 512, 70_000, 3, 1 << 20] {
            buffer.begin(len, 128 << 10);
            buffer.resize(len / 2);
            buffer.extend(&vec![7; len - len / 2]);
            assert_eq!(buffer.content().len(), len);
            assert!(is_aligned(buffer.content()), "{len} bytes");
            assert_eq!(buffer.content()[len - 1], 7);
        }
        buffer.begin(1, 64 << 10);
        assert!(buffer.capacity() < 1 << 20, "it gives back what was for once");
        buffer.begin(8 << 10, 8 << 10);
        let kept = buffer.capacity();
        assert!(kept >= 8 << 10);
        buffer.begin(1, 8 << 10);
        assert_eq!(buffer.capacity(), kept, "and keeps what is not above the bound");
        assert!(is_aligned(zeros()) && is_aligned(&ZEROS.0) && is_aligned(AlignedBuffer::of(&[1; 512]).content()));
        assert!(!is_aligned(&zeros()[1..]) && zeros().iter().all(|byte| *byte == 0));
    }
}
