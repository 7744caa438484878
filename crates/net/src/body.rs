//! Bodies of frames: written in parts, read with bounds.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use raftwright_traits::crc32c;

/// Payloads shorter than this many bytes are copied beside their neighbours: one longer copy costs less than one more
/// part in a vectored write.
pub const COPY_BELOW: usize = 1024;

/// The body of a frame under construction: numbers and short payloads in one buffer, long payloads by reference.
#[derive(Debug, Default)]
pub struct Body {
    /// Finished parts, in order; all of them come before `tail`.
    parts: Vec<Bytes>,
    tail: BytesMut,
    /// Bytes in `parts`.
    parts_len: usize,
}

impl Body {
    /// A body of no bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// A body of no bytes with room for `capacity` bytes of numbers and short payloads.
    pub fn with_capacity(capacity: usize) -> Self {
        Body { parts: Vec::new(), tail: BytesMut::with_capacity(capacity), parts_len: 0 }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.parts_len + self.tail.len()
    }

    /// Whether there is no byte in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends one byte.
    pub fn put_u8(&mut self, value: u8) {
        self.tail.put_u8(value);
    }

    /// Appends two bytes, little endian.
    pub fn put_u16(&mut self, value: u16) {
        self.tail.put_u16_le(value);
    }

    /// Appends four bytes, little endian.
    pub fn put_u32(&mut self, value: u32) {
        self.tail.put_u32_le(value);
    }

    /// Appends eight bytes, little endian.
    pub fn put_u64(&mut self, value: u64) {
        self.tail.put_u64_le(value);
    }

    /// Appends bytes by copying them.
    pub fn put_slice(&mut self, bytes: &[u8]) {
        self.tail.put_slice(bytes);
    }

    /// Appends a payload. A long one is referred to, not copied.
    pub fn put_bytes(&mut self, bytes: Bytes) {
        if bytes.len() < COPY_BELOW {
            self.tail.put_slice(&bytes);
            return;
        }
        if !self.tail.is_empty() {
            self.push_part_of_tail();
        }
        self.parts_len += bytes.len();
        self.parts.push(bytes);
    }

    fn push_part_of_tail(&mut self) {
        let part = self.tail.split().freeze();
        self.parts_len += part.len();
        self.parts.push(part);
    }

    /// The parts in order, without empty ones.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.parts.iter().map(|part| &part[..]).chain(std::iter::once(&self.tail[..])).filter(|part| !part.is_empty())
    }

    /// The parts in order, by value.
    pub(crate) fn into_parts(self) -> (Vec<Bytes>, BytesMut) {
        (self.parts, self.tail)
    }

    pub(crate) fn crc32c(&self) -> u32 {
        self.parts().fold(0, crc32c::crc32c_append)
    }

    /// The whole body as one piece; copies when it has more than one part.
    pub fn into_bytes(mut self) -> Bytes {
        if self.parts.is_empty() {
            return self.tail.freeze();
        }
        if self.tail.is_empty() && self.parts.len() == 1 {
            return self.parts.swap_remove(0);
        }
        let mut all = BytesMut::with_capacity(self.len());
        self.parts().for_each(|part| all.put_slice(part));
        all.freeze()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        let mut body = Body::new();
        body.put_bytes(bytes);
        body
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

/// Why a body is not the message that its kind says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The body ends inside a field.
    #[error("the body ends inside {0}")]
    Short(&'static str),
    /// Bytes are left over behind the last field.
    #[error("{0} bytes are left over behind the message")]
    LeftOver(usize),
    /// A field has a value that no version so far defines, or one that cannot be.
    #[error("{0} has an impossible value")]
    Value(&'static str),
}

/// Reads a body field by field. Every read is checked against what is left; payloads are slices, not copies.
#[derive(Debug, Clone)]
pub struct BodyReader {
    rest: Bytes,
}

impl BodyReader {
    /// A reader at the start of `body`.
    pub fn new(body: Bytes) -> Self {
        BodyReader { rest: body }
    }

    /// Bytes not yet read.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let bytes = *self.rest.first_chunk::<N>().ok_or(DecodeError::Short(field))?;
        self.rest.advance(N);
        Ok(bytes)
    }

    /// One byte. `field` names it in the error, here and below.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Short`] when the body ends before it, here and below.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array::<1>(field).map(|[byte]| byte)
    }

    /// Two bytes, little endian.
    ///
    /// # Errors
    ///
    /// As [`u8`](Self::u8).
    pub fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(u16::from_le_bytes)
    }

    /// Four bytes, little endian.
    ///
    /// # Errors
    ///
    /// As [`u8`](Self::u8).
    pub fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_le_bytes)
    }

    /// Eight bytes, little endian.
    ///
    /// # Errors
    ///
    /// As [`u8`](Self::u8).
    pub fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// Sixteen bytes as they are.
    ///
    /// # Errors
    ///
    /// As [`u8`](Self::u8).
    pub fn bytes16(&mut self, field: &'static str) -> Result<[u8; 16], DecodeError> {
        self.array(field)
    }

    /// The next `len` bytes, shared with the frame.
    ///
    /// # Errors
    ///
    /// As [`u8`](Self::u8).
    pub fn bytes(&mut self, len: usize, field: &'static str) -> Result<Bytes, DecodeError> {
        if len > self.rest.len() {
            return Err(DecodeError::Short(field));
        }
        Ok(self.rest.split_to(len))
    }

    /// A payload behind its length of four bytes.
    ///
    /// # Errors
    ///
    /// As [`u8`](Self::u8).
    pub fn bytes_u32(&mut self, field: &'static str) -> Result<Bytes, DecodeError> {
        let len = self.u32(field)?;
        self.bytes(len as usize, field)
    }

    /// A count of items of at least `item_len_min` bytes each. Refused when the rest of the body cannot hold them, so that
    /// a count that lies cannot make the reader set memory aside.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Short`] when the body ends first or cannot hold that many items.
    pub fn count(&mut self, item_len_min: usize, field: &'static str) -> Result<usize, DecodeError> {
        let count = self.u32(field)? as usize;
        match count.checked_mul(item_len_min.max(1)) {
            Some(needed) if needed <= self.rest.len() => Ok(count),
            _ => Err(DecodeError::Short(field)),
        }
    }

    /// Everything that is left.
    pub fn rest(self) -> Bytes {
        self.rest
    }

    /// Ends the reading.
    ///
    /// # Errors
    ///
    /// [`DecodeError::LeftOver`] when something was not read.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(DecodeError::LeftOver(left)),
        }
    }
}
