//! Memory that begins at a multiple of a page, as writes around the system's cache want it.

use crate::format::SECTOR;

/// What memory is aligned to, in bytes: at least what any media asks for.
const ALIGNMENT: usize = 4096;

/// True when `bytes` begin where a write around the cache may begin.
pub(crate) fn is_aligned(bytes: &[u8]) -> bool {
    bytes.as_ptr().align_offset(ALIGNMENT) == 0
}

/// A buffer whose content is aligned.
#[derive(Debug, Default)]
pub(crate) struct AlignedBuffer {
    bytes: Vec<u8>,
    /// Where the content begins.
    start: usize,
}

impl AlignedBuffer {
    /// Empties it and makes room for `len` bytes, so that filling it with so many moves nothing. Memory beyond `kept_max` bytes
    /// is given back first.
    pub(crate) fn begin(&mut self, len: usize, kept_max: usize) {
        self.bytes.clear();
        self.bytes.shrink_to(kept_max);
        self.bytes.reserve(len + ALIGNMENT);
        // Where this can't be computed, the content is merely not aligned.
        self.start = self.bytes.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        self.bytes.resize(self.start, 0);
    }

    /// One that holds these bytes, with room up to the end of their last sector.
    pub(crate) fn of(content: &[u8]) -> Self {
        let mut buffer = Self::default();
        buffer.begin(content.len().next_multiple_of(SECTOR), 0);
        buffer.extend(content);
        buffer
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Bytes of memory that it holds on to.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    pub(crate) fn extend(&mut self, more: &[u8]) {
        self.bytes.extend_from_slice(more);
    }

    /// Adds zeros or takes bytes away until `len` are left.
    pub(crate) fn resize(&mut self, len: usize) {
        self.bytes.resize(self.start + len, 0);
    }

    pub(crate) fn content(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub(crate) fn content_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }

    /// The whole of it, to add to. What stands before the content stays.
    pub(crate) fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

/// Zeros that a write around the cache can take.
#[repr(align(4096))]
pub(crate) struct Zeros(pub(crate) [u8; ZEROS_LEN]);

/// How many there are.
pub(crate) const ZEROS_LEN: usize = 1 << 20;

/// They take no memory until they are used.
pub(crate) static ZEROS: Zeros = Zeros([0; ZEROS_LEN]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_aligned_however_long_it_gets() {
        let mut buffer = AlignedBuffer::default();
        for len in [1, 511, 512, 70_000, 3, 1 << 20] {
            buffer.begin(len, 128 << 10);
            buffer.resize(len / 2);
            buffer.extend(&vec![7; len - len / 2]);
            assert_eq!(buffer.len(), len);
            assert!(is_aligned(buffer.content()), "{len} bytes");
            assert_eq!(buffer.content()[len - 1], 7);
        }
        buffer.begin(1, 64 << 10);
        assert!(buffer.capacity() < 1 << 20, "it gives back what was for once");
        assert!(is_aligned(&ZEROS.0) && is_aligned(AlignedBuffer::of(&[1; 512]).content()));
        assert!(!is_aligned(&ZEROS.0[1..]));
    }
}
