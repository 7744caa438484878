//! The bytes on the media, version 1. `docs/log-format.md` has the diagrams; this module is their only implementation.
//! All integers are little endian.

mod batch;
mod bytes_io;
mod encoder;
mod segment;
mod segment_index;

use raftwright_traits::crc32c;

pub(crate) use batch::{
    BATCH_HEADER_LEN, BatchHeader, HEAD_LEN, Head, HeaderState, RecordKind, Role, Trailer, TrailerState, header_state,
};
pub(crate) use bytes_io::{Fields, Writer as FieldWriter};
pub(crate) use encoder::Encoder;
pub(crate) use segment::{SegmentHeader, SegmentHeaderError};
pub(crate) use segment_index::{IndexEntry, IndexRun, SegmentIndex};

/// Version that this code writes.
pub const VERSION: u16 = 1;
/// Oldest version that this code reads.
pub const VERSION_MIN: u16 = 1;
/// Feature bits that this code understands; a file with another bit set is refused.
pub const FEATURES: u64 = 0;

/// Unit in which the media is trusted to write all or nothing. Every batch begins at a multiple of it.
pub const SECTOR: usize = 512;

/// CRC32C over the salt of the segment, the position in the file and the checksum before, then `bytes`. Bytes that
/// belong to another file, another place or another history do not verify.
pub(crate) fn checksum(salt: u64, position: u64, before: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&place(salt, position, before)), bytes)
}

/// Length of what a checksum begins with.
pub(crate) const PLACE_LEN: usize = 20;

/// What a checksum begins with: whose bytes follow, where they stand, and what stands before them.
pub(crate) fn place(salt: u64, position: u64, before: u32) -> [u8; PLACE_LEN] {
    let mut place = [0; PLACE_LEN];
    place[..8].copy_from_slice(&salt.to_le_bytes());
    place[8..16].copy_from_slice(&position.to_le_bytes());
    place[16..].copy_from_slice(&before.to_le_bytes());
    place
}

/// `len` rounded up to whole sectors.
pub(crate) fn padded(len: usize) -> usize {
    len.div_ceil(SECTOR) * SECTOR
}

/// True when every byte is zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
}

/// Number of sectors in which every byte is zero; `bytes` is a whole number of sectors.
pub(crate) fn zero_sectors(bytes: &[u8]) -> u32 {
    bytes.chunks(SECTOR).filter(|sector| is_zero(sector)).count() as u32
}

#[cfg(test)]
mod tests;
