//! The header of a segment file: identity, chain, and the state carried over from the segments before.

use bytes::Bytes;

use super::{FEATURES, FieldWriter, Fields, SECTOR, VERSION, VERSION_MIN, checksum, padded};
use crate::record::{Extent, VOTE_BYTES_MAX};

const MAGIC: &[u8; 8] = b"RWSEGMNT";
const FIXED_LEN: usize = 164;
const CRC_LEN: usize = 4;
/// Highest number of a segment's first batch. A log of a million batches a second needs 290,000 years for it.
const BATCH_NUMBER_MAX: u64 = u64::MAX >> 1;
/// Highest number of a segment, of which a name has 32 bits.
const SEQUENCE_MAX: u64 = u32::MAX as u64 - 1;

/// What a segment file says about itself. It stands twice at the file's front, each copy beginning at a sector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) node_id: u64,
    pub(crate) incarnation: u64,
    pub(crate) salt: u64,
    pub(crate) sequence: u64,
    /// Length of the file; a shorter one has been cut by somebody.
    pub(crate) size: u64,
    /// Checksum at the end of the chain in the segment before.
    pub(crate) before: u32,
    /// Number of the first batch in this segment.
    pub(crate) first_batch: u64,
    /// All batches up to this number were durable when the segment was made.
    pub(crate) durable_through: u64,
    pub(crate) vote: Option<Bytes>,
    pub(crate) committed: Option<u64>,
    pub(crate) extent: Extent,
    /// Index of the first entry; that of the next one while there is none.
    pub(crate) first_index: u64,
}

/// Why the front of a file is no header that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SegmentHeaderError {
    /// Neither copy verifies.
    Damaged,
    /// Written by a version that cannot be read here.
    Version { needs: u16 },
    /// Uses features that are unknown here.
    Features { unknown: u64 },
}

impl SegmentHeader {
    /// Bytes that both copies take; the first batch begins there.
    pub(crate) fn area_len(vote_len: usize) -> usize {
        2 * padded(FIXED_LEN + vote_len + CRC_LEN)
    }

    /// Both copies, padded.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut area = Vec::new();
        self.encode_copy(&mut area, 0);
        area.resize(padded(area.len()), 0);
        let second = area.len();
        self.encode_copy(&mut area, second);
        area.resize(2 * second, 0);
        area
    }

    fn encode_copy(&self, area: &mut Vec<u8>, position: usize) {
        let purged = self.extent.purged;
        let last = self.extent.last;
        let flags = u32::from(self.vote.is_some())
            | u32::from(self.committed.is_some()) << 1
            | u32::from(purged.is_some()) << 2
            | u32::from(purged.is_some_and(|id| id.node.is_some())) << 3
            | u32::from(last.is_some()) << 4
            | u32::from(last.is_some_and(|id| id.node.is_some())) << 5;
        let vote: &[u8] = self.vote.as_deref().unwrap_or(&[]);
        let mut out = FieldWriter(area);
        out.bytes(MAGIC).u16(VERSION).u16(VERSION_MIN).u32(vote.len() as u32).u64(FEATURES);
        out.u64(self.node_id).u64(self.incarnation).u64(self.salt).u64(self.sequence).u64(self.size);
        out.u64(self.first_batch).u64(self.durable_through).u64(self.committed.unwrap_or(0));
        out.log_id(purged).log_id(last).u32(self.before).u32(flags).u64(self.first_index).u64(0).u32(0).bytes(vote);
        let crc = checksum(self.salt, position as u64, 0, &out.0[position..]);
        out.u32(crc);
    }

    /// Decodes the front of a file and returns the header with the length of its area. Either copy is enough.
    pub(crate) fn decode(front: &[u8]) -> Result<(Self, usize), SegmentHeaderError> {
        let mut position = 0;
        while position < front.len() && position <= padded(FIXED_LEN + VOTE_BYTES_MAX + CRC_LEN) {
            match Self::decode_copy(&front[position..], position as u64) {
                Err(SegmentHeaderError::Damaged) => position += SECTOR,
                Ok(header) => {
                    let area = Self::area_len(header.vote.as_ref().map_or(0, Bytes::len));
                    return Ok((header, area));
                }
                Err(other) => return Err(other),
            }
        }
        Err(SegmentHeaderError::Damaged)
    }

    fn decode_copy(bytes: &[u8], position: u64) -> Result<Self, SegmentHeaderError> {
        let mut fields = Fields::new(bytes);
        if fields.bytes(8) != MAGIC {
            return Err(SegmentHeaderError::Damaged);
        }
        let (_version, needs, vote_len, features) = (fields.u16(), fields.u16(), fields.u32() as usize, fields.u64());
        let (node_id, incarnation, salt, sequence, size) =
            (fields.u64(), fields.u64(), fields.u64(), fields.u64(), fields.u64());
        let (first_batch, durable_through, committed) = (fields.u64(), fields.u64(), fields.u64());
        let ids = [fields.u64(), fields.u64(), fields.u64(), fields.u64(), fields.u64(), fields.u64()];
        let (before, flags, first_index) = (fields.u32(), fields.u32(), fields.u64());
        fields.bytes(12);
        // Where the batches begin follows from the vote, so its length must not stand for anything else.
        let voteless = flags & 1 == 0 && vote_len > 0;
        if vote_len > VOTE_BYTES_MAX || voteless {
            return Err(SegmentHeaderError::Damaged);
        }
        let vote = fields.bytes(vote_len);
        let crc = fields.u32();
        let covered = bytes.get(..FIXED_LEN + vote_len).ok_or(SegmentHeaderError::Damaged)?;
        if fields.short || crc != checksum(salt, position, 0, covered) {
            return Err(SegmentHeaderError::Damaged);
        }
        // No log gets so far: counting on from there would end.
        if first_batch > BATCH_NUMBER_MAX || sequence > SEQUENCE_MAX {
            return Err(SegmentHeaderError::Damaged);
        }
        if needs > VERSION {
            return Err(SegmentHeaderError::Version { needs });
        }
        if features & !FEATURES != 0 {
            return Err(SegmentHeaderError::Features { unknown: features & !FEATURES });
        }
        let id = |at: usize, bit: u32| {
            (flags & bit != 0).then(|| crate::record::RawLogId {
                term: ids[at],
                node: (flags & (bit << 1) != 0).then_some(ids[at + 1]),
                index: ids[at + 2],
            })
        };
        Ok(Self {
            node_id,
            incarnation,
            salt,
            sequence,
            size,
            before,
            first_batch,
            durable_through,
            vote: (flags & 1 != 0).then(|| Bytes::copy_from_slice(vote)),
            committed: (flags & 2 != 0).then_some(committed),
            extent: Extent { purged: id(0, 4), last: id(3, 16) },
            first_index,
        })
    }
}
