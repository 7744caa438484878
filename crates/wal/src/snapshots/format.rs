//! The bytes of a snapshot's file, version 1. `docs/snapshot-format.md` has the diagram; this is its only implementation.

use raftwright_traits::crc32c;

use crate::format::{FieldWriter, Fields, SECTOR, checksum, is_zero};

/// Version that this code writes.
pub const SNAPSHOT_VERSION: u16 = 1;
/// Oldest version that this code reads.
pub const SNAPSHOT_VERSION_MIN: u16 = 1;
/// Feature bits that this code understands; a file with another bit set is refused.
pub const SNAPSHOT_FEATURES: u64 = 0;

/// Bytes of content under one checksum, unless the directory was opened with another number.
pub const SNAPSHOT_BLOCK_BYTES: u32 = 64 * 1024;
/// Most bytes of content under one checksum: as much is in memory while it is verified. A directory that is to have more has
/// this many; a file that says more is damaged.
pub const SNAPSHOT_BLOCK_BYTES_MAX: u32 = 16 * 1024 * 1024;
/// Most bytes that an application may say about a snapshot.
pub const SNAPSHOT_META_BYTES_MAX: usize = 16 * 1024 * 1024;

const MAGIC: &[u8; 8] = b"RWSNAP\r\n";

/// Length of the header, and so the place of the content's first byte.
pub(super) const HEADER_LEN: usize = SECTOR;
/// Length of the header's fields; zeros come behind them.
const FIELDS_LEN: usize = 64;
/// Where the header's checksum stands.
const CHECKSUM_AT: usize = HEADER_LEN - 4;
/// Bytes of one checksum in the tail.
pub(super) const SUM_LEN: u64 = 4;

/// The first sector of a snapshot's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Index of the last log entry in the snapshot.
    pub(super) index: u64,
    /// Tells the files of one directory apart, and is the salt of all checksums.
    pub(super) number: u64,
    /// Bytes of content under one checksum.
    pub(super) block_bytes: u32,
    /// Bytes of content.
    pub(super) content_len: u64,
    /// Bytes behind the content: checksums, what the application says, and zeros up to the end of the file.
    pub(super) tail_len: u64,
    /// How many of those the application's are.
    pub(super) meta_len: u32,
    /// Checksum of the tail.
    pub(super) tail_checksum: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HeaderError {
    Damaged(&'static str),
    Version(u16),
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut header = Vec::with_capacity(HEADER_LEN);
        let mut out = FieldWriter(&mut header);
        out.bytes(MAGIC).u16(SNAPSHOT_VERSION).u16(SNAPSHOT_VERSION_MIN).u32(self.block_bytes).u64(SNAPSHOT_FEATURES);
        out.u64(self.number).u64(self.index).u64(self.content_len).u64(self.tail_len);
        out.u32(self.meta_len).u32(self.tail_checksum);
        header.resize(CHECKSUM_AT, 0);
        let sum = checksum(self.number, 0, 0, &header);
        header.extend_from_slice(&sum.to_le_bytes());
        header
    }

    /// Reads a header. The lengths in it are those of a file of `file_len` bytes.
    pub(super) fn decode(bytes: &[u8], file_len: u64) -> Result<Self, HeaderError> {
        let (covered, sum) = match bytes.split_at_checked(CHECKSUM_AT) {
            Some((covered, sum)) if sum.len() == 4 => (covered, Fields::new(sum).u32()),
            Some(_) | None => return Err(HeaderError::Damaged("it ends inside its header")),
        };
        let mut fields = Fields::new(covered);
        let magic = fields.bytes(MAGIC.len());
        let (_version, needs, block_bytes) = (fields.u16(), fields.u16(), fields.u32());
        let (features, number, index) = (fields.u64(), fields.u64(), fields.u64());
        let (content_len, tail_len) = (fields.u64(), fields.u64());
        let (meta_len, tail_checksum) = (fields.u32(), fields.u32());
        if magic != MAGIC || sum != checksum(number, 0, 0, covered) {
            return Err(HeaderError::Damaged("its header's checksum does not match"));
        }
        if needs > SNAPSHOT_VERSION || features & !SNAPSHOT_FEATURES != 0 {
            return Err(HeaderError::Version(needs.max(SNAPSHOT_VERSION + 1)));
        }
        let header = Header { index, number, block_bytes, content_len, tail_len, meta_len, tail_checksum };
        let rest = covered.get(FIELDS_LEN..).unwrap_or_default();
        if !is_zero(rest) || !header.is_possible(file_len) {
            return Err(HeaderError::Damaged("its lengths contradict each other"));
        }
        Ok(header)
    }

    fn is_possible(&self, file_len: u64) -> bool {
        let len = (HEADER_LEN as u64).checked_add(self.content_len).and_then(|len| len.checked_add(self.tail_len));
        let known = self.block_bytes > 0
            && self.block_bytes <= SNAPSHOT_BLOCK_BYTES_MAX
            && self.meta_len as usize <= SNAPSHOT_META_BYTES_MAX
            && len == Some(file_len);
        known && self.sums_len().checked_add(u64::from(self.meta_len)).is_some_and(|needed| needed <= self.tail_len)
    }

    /// Bytes of checksums at the start of the tail.
    pub(super) fn sums_len(&self) -> u64 {
        self.content_len.div_ceil(u64::from(self.block_bytes)).saturating_mul(SUM_LEN)
    }

    /// Where the tail begins in the file.
    pub(super) fn tail_at(&self) -> u64 {
        HEADER_LEN as u64 + self.content_len
    }
}

/// Where a byte of the content stands in the file.
pub(super) const fn place_of(offset: u64) -> u64 {
    HEADER_LEN as u64 + offset
}

/// The checksum of a block before its first byte; see [`extend`].
pub(super) fn begin(number: u64, block_at: u64) -> u32 {
    checksum(number, place_of(block_at), 0, &[])
}

/// The checksum of a block with more of its bytes.
pub(super) fn extend(sum: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(sum, bytes)
}

/// The checksum of the tail.
pub(super) fn tail_checksum(number: u64, tail_at: u64, tail: &[u8]) -> u32 {
    checksum(number, tail_at, 0, tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header is believed only as far as its lengths go, whatever its checksum says.
    #[test]
    fn a_header_that_says_more_than_the_bounds_is_damaged() {
        let of = |block_bytes: u32, meta_len: usize| {
            let (content_len, tail_len) = (1000, SNAPSHOT_META_BYTES_MAX as u64 + (1 << 20));
            let meta_len = meta_len as u32;
            let header = Header { index: 1, number: 2, block_bytes, content_len, tail_len, meta_len, tail_checksum: 3 };
            Header::decode(&header.encode(), HEADER_LEN as u64 + content_len + tail_len).is_ok()
        };
        let (block, meta) = (16 << 20, 16 << 20);
        assert!(of(block, meta) && of(1, 0));
        assert!(!of(block + 1, meta) && !of(block, meta + 1) && !of(0, meta));
    }
}
