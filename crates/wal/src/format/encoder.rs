//! Builds batches.

use raftwright_traits::crc32c;

use crate::aligned::AlignedBuffer;
use crate::record::RawLogId;

use super::batch::{EncodedHead, TRAILER_END_LEN, TRAILER_FIXED_LEN};
use super::{
    BATCH_HEADER_LEN, BatchHeader, HEAD_LEN, Head, RecordKind, Role, SECTOR, Trailer, checksum, padded, zero_sectors,
};

/// Largest buffer that is kept for the next batch, in bytes: that of a batch of the usual bound. A larger one is let go.
pub(super) const BUFFER_KEPT_MAX: usize = 8 << 20;

/// For how many records room in the table is kept.
const RECORDS_KEPT_MAX: usize = 16 << 10;

/// Length of the window, in bytes: a whole number of sectors, and short enough to stay in the nearest cache of a core.
pub(super) const WINDOW: usize = 16 << 10;

/// Builds one batch in one buffer, which it keeps for the next unless it has grown beyond use.
///
/// The number of records is fixed when it begins, so that the table can stand in front. Records are gathered in a window and go into
/// the buffer in long pieces (`docs/decisions/0011-batches-are-gathered-in-a-window.md`).
pub(crate) struct Encoder {
    buffer: AlignedBuffer,
    /// The heads of all records, one behind the other.
    table: Vec<[u8; HEAD_LEN]>,
    /// What the buffer will hold from `window_at` up to `len`; before `window_from` it holds nothing.
    window: Vec<u8>,
    /// Where the window lies in the buffer: at a multiple of its length.
    window_at: usize,
    /// From where on the window holds what the buffer does not hold yet.
    window_from: usize,
    /// Bytes of the batch so far, with the header and the whole table.
    len: usize,
    /// Sectors so far in which every byte is zero.
    zero_sectors: u32,
    /// Where trailers are encoded.
    trailer: Vec<u8>,
    /// The checksums of the heads. Their checksum is that of the table: one over the heads themselves would say nothing of
    /// them, since what a CRC gives for bytes that are followed by their own CRC is the same whatever the bytes are.
    sums: Vec<[u8; 4]>,
    count: usize,
    salt: u64,
    position: u64,
    before: u32,
}

impl Encoder {
    pub(crate) fn new() -> Self {
        Self {
            buffer: AlignedBuffer::default(),
            table: Vec::new(),
            window: Vec::new(),
            window_at: 0,
            window_from: 0,
            len: 0,
            zero_sectors: 0,
            trailer: Vec::new(),
            sums: Vec::new(),
            count: 0,
            salt: 0,
            position: 0,
            before: 0,
        }
    }

    /// Bytes that it holds on to.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.buffer.capacity() + HEAD_LEN * self.table.capacity() + self.window.capacity() + 4 * self.sums.capacity()
    }

    /// Bytes that a batch of `count` records with `payload` bytes in all takes, padding included.
    pub(crate) fn batch_len(count: usize, payload: usize, vote_len: usize) -> usize {
        padded(BATCH_HEADER_LEN + 2 * HEAD_LEN * count + payload + TRAILER_FIXED_LEN + vote_len + TRAILER_END_LEN)
    }

    /// Begins a batch of exactly `count` records, `len` bytes in all as [`batch_len`](Self::batch_len) counts them, at `position`
    /// of the segment with this salt.
    pub(crate) fn begin(&mut self, count: usize, len: usize, salt: u64, position: u64, before: u32) {
        self.buffer.begin(len, BUFFER_KEPT_MAX);
        self.table.clear();
        self.table.shrink_to(RECORDS_KEPT_MAX);
        self.table.reserve(count);
        self.sums.clear();
        self.sums.shrink_to(RECORDS_KEPT_MAX);
        self.window.resize(WINDOW, 0);
        self.len = BATCH_HEADER_LEN + HEAD_LEN * count;
        self.window_at = self.len / WINDOW * WINDOW;
        self.window_from = self.len;
        self.zero_sectors = 0;
        self.count = count;
        (self.salt, self.position, self.before) = (salt, position, before);
    }

    /// Adds a record and returns where its payload begins, in bytes from the beginning of the batch, and its checksum.
    pub(crate) fn record(&mut self, kind: RecordKind, entry_kind: u8, log_id: RawLogId, payload: &[u8]) -> (u32, u32) {
        debug_assert!(self.table.len() < self.count, "the table has no room for this record");
        let payload_crc = crc32c::crc32c(payload);
        let offset = self.len as u32;
        let head = Head { kind, entry_kind, offset, len: payload.len() as u32, payload_crc, log_id };
        let head = head.encode(self.salt, self.position, self.before);
        self.table.push([0; HEAD_LEN]);
        if let Some(place) = self.table.last_mut() {
            head.write(place);
        }
        self.add_head(head);
        self.add(payload);
        (offset + HEAD_LEN as u32, payload_crc)
    }

    /// Ends the batch: its bytes, padded to whole sectors, and the checksum to which the next batch is chained.
    pub(crate) fn end(&mut self, trailer: &Trailer) -> (&[u8], u32) {
        debug_assert_eq!(self.table.len(), self.count, "the table has a hole");
        self.sums.extend(self.table.iter().filter_map(|head| head.last_chunk::<4>()));
        let table_crc = crc32c::crc32c(self.sums.as_flattened());
        let (trailer_at, mut bytes) = (self.len, std::mem::take(&mut self.trailer));
        bytes.clear();
        trailer.encode(&mut bytes, table_crc);
        self.add(&bytes);
        self.trailer = bytes;
        let total_len = self.len;
        self.add(&[0; SECTOR][..padded(total_len) - total_len]);
        self.save_window();
        let header = BatchHeader {
            role: Role::Batch,
            total_len: total_len as u32,
            count: self.count as u32,
            number: trailer.number,
            durable_through: trailer.durable_through,
            before: self.before,
            zero_sectors: self.zero_sectors,
            trailer_len: Trailer::len(trailer.vote.as_ref()) as u32,
        };
        let header = header.encode(self.salt, self.position);
        self.buffer.put(0, &header);
        self.buffer.put(BATCH_HEADER_LEN, self.table.as_flattened());
        let body = &self.trailer[..self.trailer.len() - TRAILER_END_LEN];
        let crc = checksum(self.salt, self.position + trailer_at as u64, BatchHeader::crc(&header), body);
        self.buffer.put(total_len - TRAILER_END_LEN, &crc.to_le_bytes());
        (self.buffer.content(), crc)
    }

    #[inline]
    fn add_head(&mut self, head: EncodedHead) {
        let at = self.len - self.window_at;
        if let Some(place) = self.window.get_mut(at..at + HEAD_LEN).and_then(|place| place.first_chunk_mut()) {
            head.write(place);
            self.len += HEAD_LEN;
        } else {
            let mut bytes = [0; HEAD_LEN];
            head.write(&mut bytes);
            self.add_across(&bytes);
        }
    }

    #[inline]
    fn add(&mut self, bytes: &[u8]) {
        let at = self.len - self.window_at;
        match self.window.get_mut(at..at + bytes.len()) {
            Some(place) => {
                place.copy_from_slice(bytes);
                self.len += bytes.len();
            }
            None => self.add_across(bytes),
        }
    }

    /// Adds bytes for which there is no room in the window as it lies. Those that would fill all of it do without it.
    fn add_across(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let at = self.len - self.window_at;
            let whole = bytes.len() / WINDOW * WINDOW;
            if at == WINDOW {
                self.save_window();
                self.window_at += WINDOW;
            } else if at == 0 && whole > 0 {
                let (now, later) = bytes.split_at(whole);
                self.buffer.put(self.len, now);
                self.len += whole;
                self.window_at += whole;
                self.count_saved(zero_sectors(now));
                bytes = later;
            } else {
                let (now, later) = bytes.split_at(bytes.len().min(WINDOW - at));
                self.window[at..at + now.len()].copy_from_slice(now);
                self.len += now.len();
                bytes = later;
            }
        }
    }

    /// Takes what the window holds into the buffer.
    fn save_window(&mut self) {
        let unsaved = &self.window[self.window_from - self.window_at..self.len - self.window_at];
        self.buffer.put(self.window_from, unsaved);
        // The header's own sector is never zero, whatever it will hold, and no sector is that holds a part of the table.
        let partial = padded(self.window_from).max(SECTOR) - self.window_from;
        self.count_saved(unsaved.get(partial..).map_or(0, zero_sectors));
    }

    /// All of the batch so far is in the buffer, with so many more zero sectors.
    fn count_saved(&mut self, zero_sectors: u32) {
        self.zero_sectors += zero_sectors;
        self.window_from = self.len;
    }
}
