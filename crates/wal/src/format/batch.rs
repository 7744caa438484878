//! A batch: header, table of the heads of its records, the records each with its own head again, trailer.

use bytes::Bytes;
use raftwright_traits::crc32c;

use super::{FieldWriter, Fields, PLACE_LEN, checksum, padded};
use crate::record::{Extent, RawLogId, VOTE_BYTES_MAX};

pub(crate) const BATCH_HEADER_LEN: usize = 64;
pub(crate) const HEAD_LEN: usize = 44;
pub(super) const TRAILER_FIXED_LEN: usize = 88;
pub(super) const TRAILER_END_LEN: usize = 12;
const HEADER_MAGIC: &[u8; 4] = b"RWBH";
const TRAILER_MAGIC: &[u8; 4] = b"RWBT";
/// Closes a header. A write that stopped before it left zeros here, which no damage to a single byte can imitate.
const HEADER_END: &[u8; 8] = b"headEND.";
/// Closes a trailer, for the same reason.
const TRAILER_END: &[u8; 8] = b"tailEND.";

/// What stands at the beginning of a sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A batch follows.
    Batch,
    /// Nothing follows yet: all batches up to `durable_through` are durable. The next batch overwrites it.
    Mark,
    /// Nothing will follow: the log goes on in the next segment.
    Seal,
}

/// The first 64 bytes of a batch, a mark or a seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub(crate) role: Role,
    /// Length from the header's first byte to the trailer's last.
    pub(crate) total_len: u32,
    /// Number of records.
    pub(crate) count: u32,
    /// Number of this batch; each batch of a log has the number after that of the one before. A mark or a seal has the
    /// number that the next batch will have.
    pub(crate) number: u64,
    /// All batches up to this number were durable when this was written: the barrier.
    pub(crate) durable_through: u64,
    /// The checksum before: that of the trailer of the batch before.
    pub(crate) before: u32,
    /// How many sectors of the batch hold nothing but zeros. More on the media means that sectors never arrived.
    pub(crate) zero_sectors: u32,
    pub(crate) trailer_len: u32,
}

/// What the place of a header holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderState {
    Good(BatchHeader),
    /// Nothing was written here, or a write that stopped before the header's end.
    Unwritten,
    /// Something else: written and then damaged.
    Bad,
}

/// Reads the header at `position` of a segment with this salt.
pub(crate) fn header_state(bytes: &[u8], salt: u64, position: u64) -> HeaderState {
    let Some(bytes) = bytes.get(..BATCH_HEADER_LEN) else { return HeaderState::Unwritten };
    if bytes[56..] == [0; 8] {
        return HeaderState::Unwritten;
    }
    let mut fields = Fields::new(bytes);
    let magic = fields.bytes(4);
    let role = match fields.u32() {
        1 => Role::Batch,
        2 => Role::Mark,
        3 => Role::Seal,
        _ => return HeaderState::Bad,
    };
    let (total_len, count, number, durable_through) = (fields.u32(), fields.u32(), fields.u64(), fields.u64());
    let (written_at, before, zeros, trailer_len) = (fields.u64(), fields.u32(), fields.u32(), fields.u32());
    let crc = fields.u32();
    if magic != HEADER_MAGIC
        || &bytes[56..] != HEADER_END
        || written_at != position
        || crc != checksum(salt, position, before, &bytes[..52])
    {
        return HeaderState::Bad;
    }
    HeaderState::Good(BatchHeader {
        role,
        total_len,
        count,
        number,
        durable_through,
        before,
        zero_sectors: zeros,
        trailer_len,
    })
}

impl BatchHeader {
    pub(crate) fn encode(&self, salt: u64, position: u64) -> [u8; BATCH_HEADER_LEN] {
        let mut bytes = Vec::with_capacity(BATCH_HEADER_LEN);
        let role = match self.role {
            Role::Batch => 1,
            Role::Mark => 2,
            Role::Seal => 3,
        };
        let mut out = FieldWriter(&mut bytes);
        out.bytes(HEADER_MAGIC).u32(role).u32(self.total_len).u32(self.count);
        out.u64(self.number).u64(self.durable_through).u64(position);
        out.u32(self.before).u32(self.zero_sectors).u32(self.trailer_len);
        let crc = checksum(salt, position, self.before, out.0);
        out.u32(crc).bytes(HEADER_END);
        let mut header = [0; BATCH_HEADER_LEN];
        header.copy_from_slice(&bytes);
        header
    }

    /// The checksum that the trailer is chained to.
    pub(super) fn crc(header: &[u8]) -> u32 {
        Fields::new(&header[52..]).u32()
    }

    /// True when the lengths in it can be those of a batch of at most `room` bytes.
    pub(crate) fn is_plausible(&self, room: u64) -> bool {
        let heads = u64::from(self.count) * 2 * HEAD_LEN as u64;
        let least = BATCH_HEADER_LEN as u64 + heads + u64::from(self.trailer_len);
        let trailer = TRAILER_FIXED_LEN + TRAILER_END_LEN..=TRAILER_FIXED_LEN + TRAILER_END_LEN + VOTE_BYTES_MAX;
        padded(self.total_len as usize) as u64 <= room
            && least <= u64::from(self.total_len)
            && trailer.contains(&(self.trailer_len as usize))
    }
}

/// Kind of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordKind {
    Vote,
    Entry,
    /// The index of the log id is the first that goes.
    Truncate,
    /// The log id is the last that goes; entries behind it stay.
    Purge,
    /// As `Purge`, and nothing behind it stays.
    Replace,
}

/// The head of a record: what it is and whose, how long, and the checksum of its payload. It stands in the table and
/// again in front of the payload, the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: RecordKind,
    /// Kind of the payload of an entry.
    pub(crate) entry_kind: u8,
    /// Where the record's own head begins, from the beginning of the batch.
    pub(crate) offset: u32,
    pub(crate) len: u32,
    pub(crate) payload_crc: u32,
    pub(crate) log_id: RawLogId,
}

impl Head {
    #[inline]
    pub(super) fn encode(&self, salt: u64, batch_at: u64, before: u32) -> EncodedHead {
        let kind = match self.kind {
            RecordKind::Vote => 1u64,
            RecordKind::Entry => 2,
            RecordKind::Truncate => 3,
            RecordKind::Purge => 4,
            RecordKind::Replace => 5,
        };
        let flags = u64::from(self.log_id.node.is_some());
        let words = [
            kind | flags << 8 | u64::from(self.entry_kind) << 16 | u64::from(self.offset) << 32,
            u64::from(self.len) | u64::from(self.payload_crc) << 32,
            self.log_id.term,
            self.log_id.node.unwrap_or(0),
            self.log_id.index,
        ];
        // The place and the head stand in one row: what a checksum costs for so few bytes is mostly its beginning and its end.
        let mut row = Row([[0; 8]; 8]);
        row.0[0] = salt.to_le_bytes();
        row.0[1] = (batch_at + u64::from(self.offset)).to_le_bytes();
        row.0[2] = (u64::from(before) | words[0] << 32).to_le_bytes();
        for at in 1..words.len() {
            row.0[at + 2] = (words[at - 1] >> 32 | words[at] << 32).to_le_bytes();
        }
        row.0[7] = (words[4] >> 32).to_le_bytes();
        let crc = crc32c::crc32c(&row.0.as_flattened()[..PLACE_LEN + HEAD_LEN - 4]);
        EncodedHead { words, crc }
    }

    /// The head in `bytes` if it verifies and says of itself that it belongs to this batch.
    pub(crate) fn decode(bytes: &[u8], salt: u64, batch_at: u64, before: u32) -> Option<Self> {
        let bytes = bytes.get(..HEAD_LEN)?;
        let mut fields = Fields::new(bytes);
        let (kind, flags, entry_kind) = (fields.u8(), fields.u8(), fields.u8());
        fields.u8();
        let (offset, len, payload_crc) = (fields.u32(), fields.u32(), fields.u32());
        let (term, node, index) = (fields.u64(), fields.u64(), fields.u64());
        if fields.u32() != checksum(salt, batch_at + u64::from(offset), before, &bytes[..40]) {
            return None;
        }
        let kind = match kind {
            1 => RecordKind::Vote,
            2 => RecordKind::Entry,
            3 => RecordKind::Truncate,
            4 => RecordKind::Purge,
            5 => RecordKind::Replace,
            _ => return None,
        };
        let node = (flags & 1 != 0).then_some(node);
        Some(Self { kind, entry_kind, offset, len, payload_crc, log_id: RawLogId { term, node, index } })
    }
}

/// What the checksum of a head is made of, in the words in which a processor reads it: one that was written in smaller ones
/// would have to leave the processor first, behind the payload before it, to be read again.
#[repr(align(8))]
struct Row([[u8; 8]; 8]);

/// The bytes of a head, for the same reason in words.
#[derive(Clone, Copy)]
pub(super) struct EncodedHead {
    words: [u64; 5],
    pub(super) crc: u32,
}

impl EncodedHead {
    #[inline]
    pub(super) fn write(self, place: &mut [u8; HEAD_LEN]) {
        let (words, crc) = place.split_at_mut(HEAD_LEN - 4);
        for (place, word) in words.as_chunks_mut::<8>().0.iter_mut().zip(self.words) {
            *place = word.to_le_bytes();
        }
        crc.copy_from_slice(&self.crc.to_le_bytes());
    }
}

/// The end of a batch: the state that holds once all its records have taken effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trailer {
    pub(crate) vote: Option<Bytes>,
    pub(crate) committed: Option<u64>,
    pub(crate) extent: Extent,
    pub(crate) number: u64,
    pub(crate) durable_through: u64,
}

/// What the place of a trailer holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TrailerState {
    /// Verified; with it the checksum to which the next batch is chained.
    Good(Trailer, u32),
    /// Its end was never written.
    Unwritten,
    /// Written and then damaged.
    Bad,
}

impl Trailer {
    pub(super) fn len(vote: Option<&Bytes>) -> usize {
        TRAILER_FIXED_LEN + vote.map_or(0, Bytes::len) + TRAILER_END_LEN
    }

    /// Reads the trailer of the batch that `batch` begins with and `header` describes.
    pub(crate) fn state(batch: &[u8], header: &BatchHeader, salt: u64, batch_at: u64) -> TrailerState {
        let (total, trailer_len) = (header.total_len as usize, header.trailer_len as usize);
        let begin = total - trailer_len;
        let bytes = &batch[begin..total];
        let (body, end) = bytes.split_at(trailer_len - TRAILER_END_LEN);
        let crc = Fields::new(end).u32();
        let expected = checksum(salt, batch_at + begin as u64, BatchHeader::crc(batch), body);
        // A trailer that arrived up to its checksum says all that it has to say, whatever became of its end.
        if end[4..] == [0; 8] && crc != expected {
            return TrailerState::Unwritten;
        }
        if &end[4..] != TRAILER_END || crc != expected || &body[..4] != TRAILER_MAGIC {
            return TrailerState::Bad;
        }
        match Self::decode(body, header) {
            Some(trailer) => TrailerState::Good(trailer, crc),
            None => TrailerState::Bad,
        }
    }

    fn decode(body: &[u8], header: &BatchHeader) -> Option<Self> {
        let mut fields = Fields::new(&body[4..]);
        let (flags, number, durable_through) = (fields.u32(), fields.u64(), fields.u64());
        // The checksum of the table ties all heads, and with them all payloads, into the chain. It is not compared here:
        // each head has a checksum and a second copy of its own.
        let (committed, _table_crc, vote_len) = (fields.u64(), fields.u32(), fields.u32() as usize);
        let purged = fields.log_id(flags & 4 != 0, flags & 8 != 0);
        let last = fields.log_id(flags & 16 != 0, flags & 32 != 0);
        let vote = fields.bytes(vote_len);
        let consistent = !fields.short && number == header.number && durable_through == header.durable_through;
        consistent.then(|| Self {
            vote: (flags & 1 != 0).then(|| Bytes::copy_from_slice(vote)),
            committed: (flags & 2 != 0).then_some(committed),
            extent: Extent { purged, last },
            number,
            durable_through,
        })
    }

    /// Adds its bytes, with zeros in the place of its checksum.
    pub(super) fn encode(&self, out: &mut Vec<u8>, table_crc: u32) {
        let (purged, last) = (self.extent.purged, self.extent.last);
        let flags = u32::from(self.vote.is_some())
            | u32::from(self.committed.is_some()) << 1
            | u32::from(purged.is_some()) << 2
            | u32::from(purged.is_some_and(|id| id.node.is_some())) << 3
            | u32::from(last.is_some()) << 4
            | u32::from(last.is_some_and(|id| id.node.is_some())) << 5;
        let vote: &[u8] = self.vote.as_deref().unwrap_or(&[]);
        let mut out = FieldWriter(out);
        out.bytes(TRAILER_MAGIC).u32(flags).u64(self.number).u64(self.durable_through);
        out.u64(self.committed.unwrap_or(0)).u32(table_crc).u32(vote.len() as u32);
        out.log_id(purged).log_id(last).bytes(vote).u32(0).bytes(TRAILER_END);
    }
}
