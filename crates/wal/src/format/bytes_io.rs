//! Reading and writing of fixed-width fields.

use crate::record::RawLogId;

/// Reads fields from the front of a slice. A read beyond the end gives zeros and is remembered in [`Fields::short`], so
/// that a decoder checks once, at its end.
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
    pub(crate) short: bool,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, short: false }
    }

    pub(crate) fn bytes(&mut self, len: usize) -> &'a [u8] {
        if len > self.rest.len() {
            self.short = true;
            self.rest = &[];
            return &[];
        }
        let (front, rest) = self.rest.split_at(len);
        self.rest = rest;
        front
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        self.bytes(N).try_into().unwrap_or([0; N])
    }

    pub(crate) fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    pub(crate) fn u128(&mut self) -> u128 {
        u128::from_le_bytes(self.array())
    }

    /// Three words; whether the id and its node are there stands in flags elsewhere.
    pub(crate) fn log_id(&mut self, present: bool, with_node: bool) -> Option<RawLogId> {
        let (term, node, index) = (self.u64(), self.u64(), self.u64());
        present.then_some(RawLogId { term, node: with_node.then_some(node), index })
    }
}

/// Appends fields to a buffer.
pub(crate) struct Writer<'a>(pub(crate) &'a mut Vec<u8>);

impl Writer<'_> {
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn u128(&mut self, value: u128) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn log_id(&mut self, id: Option<RawLogId>) -> &mut Self {
        let id = id.unwrap_or(RawLogId { term: 0, node: None, index: 0 });
        self.u64(id.term).u64(id.node.unwrap_or(0)).u64(id.index)
    }
}
