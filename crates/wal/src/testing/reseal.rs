//! Mends every checksum of a file of the log, wherever its structure can still be followed. A fuzzer that changes bytes is
//! stopped by the checksums; what it changes is judged by the rest of the code only once they are mended.

use raftwright_traits::crc32c;

use crate::format::{BATCH_HEADER_LEN, HEAD_LEN, SECTOR, checksum, padded};

fn get<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    get(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    get(bytes, at).map(u64::from_le_bytes)
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) -> Option<()> {
    bytes.get_mut(at..)?.get_mut(..value.len())?.copy_from_slice(value);
    Some(())
}

/// Mends the checksum of `bytes[begin..begin + len]`, which stands right behind.
fn seal(bytes: &mut [u8], begin: usize, len: usize, salt: u64, position: u64, before: u32) -> Option<u32> {
    let crc = checksum(salt, position, before, bytes.get(begin..begin.checked_add(len)?)?);
    put(bytes, begin + len, &crc.to_le_bytes())?;
    Some(crc)
}

/// Both copies of a `meta` file.
pub fn reseal_meta(file: &mut [u8]) {
    for copy in [0, SECTOR] {
        if let Some(incarnation) = u64_at(file, copy + 32) {
            seal(file, copy, 92, incarnation, copy as u64, 0);
        }
    }
}

/// The header, and every batch behind it for as long as each says where the next one is.
pub fn reseal_segment(file: &mut [u8]) {
    let Some(mut at) = header(file) else { return };
    let Some(salt) = u64_at(file, 40) else { return };
    let mut before = u32_at(file, 136).unwrap_or(0);
    while let Some((next, crc)) = batch(file, at, salt, before) {
        (at, before) = (next, crc);
    }
}

/// An index of a closed segment: its body and its header.
pub fn reseal_index(file: &mut [u8]) {
    let _whole = index(file);
}

fn index(file: &mut [u8]) -> Option<()> {
    let body = crc32c::crc32c(file.get(112..)?);
    put(file, 100, &body.to_le_bytes())?;
    let (salt, before) = (u64_at(file, 32)?, u32_at(file, 96)?);
    seal(file, 0, 108, salt, 0, before).map(drop)
}

/// A snapshot's file: its blocks, its tail and its header, whose lengths are made those of a file that is so long.
pub fn reseal_snapshot(file: &mut [u8]) {
    let _whole = snapshot(file);
}

fn snapshot(file: &mut [u8]) -> Option<()> {
    let room = (file.len() as u64).checked_sub(SECTOR as u64)?;
    let content = u64_at(file, 40)?.min(room);
    put(file, 40, &content.to_le_bytes())?;
    put(file, 48, &(room - content).to_le_bytes())?;
    let (number, block) = (u64_at(file, 24)?, u32_at(file, 12)?.max(1) as usize);
    let tail = SECTOR + content as usize;
    for (which, begin) in (SECTOR..tail).step_by(block).enumerate() {
        let sum = checksum(number, begin as u64, 0, file.get(begin..tail.min(begin + block))?);
        if put(file, tail + 4 * which, &sum.to_le_bytes()).is_none() {
            break;
        }
    }
    let sum = checksum(number, tail as u64, 0, file.get(tail..)?);
    put(file, 60, &sum.to_le_bytes())?;
    seal(file, 0, SECTOR - 4, number, 0, 0).map(drop)
}

/// Mends both copies of the header and returns where the first batch is.
fn header(file: &mut [u8]) -> Option<usize> {
    let vote_len = (u32_at(file, 12)? as usize).min(64 << 10);
    let copy = padded(164 + vote_len + 4);
    let salt = u64_at(file, 40)?;
    seal(file, 0, 164 + vote_len, salt, 0, 0)?;
    let first = file.get(..164 + vote_len)?.to_vec();
    put(file, copy, &first)?;
    seal(file, copy, 164 + vote_len, salt, copy as u64, 0)?;
    Some(2 * copy)
}

/// Mends the batch at `at`, chained to `before`; where the next one begins, and to what it is chained.
fn batch(file: &mut [u8], at: usize, salt: u64, before: u32) -> Option<(usize, u32)> {
    put(file, at + 32, &(at as u64).to_le_bytes())?;
    put(file, at + 40, &before.to_le_bytes())?;
    seal(file, at, 52, salt, at as u64, before)?;
    let (total, count) = (u32_at(file, at + 8)? as usize, u32_at(file, at + 12)? as usize);
    let trailer_len = u32_at(file, at + 48)? as usize;
    let header_crc = u32_at(file, at + 52)?;
    for number in 0..count {
        let table = at + BATCH_HEADER_LEN + HEAD_LEN * number;
        if record(file, at, table, salt, before).is_none() {
            break;
        }
    }
    let trailer = at.checked_add(total)?.checked_sub(trailer_len)?;
    let body = trailer_len.checked_sub(12)?;
    let crc = seal(file, trailer, body, salt, trailer as u64, header_crc)?;
    (total > 0).then_some((at + padded(total), crc))
}

/// Mends a payload and both copies of its head.
fn record(file: &mut [u8], at: usize, table: usize, salt: u64, before: u32) -> Option<()> {
    let (offset, len) = (u32_at(file, table + 4)? as usize, u32_at(file, table + 8)? as usize);
    let own = at.checked_add(offset)?;
    let payload = crc32c::crc32c(file.get(own + HEAD_LEN..)?.get(..len)?);
    put(file, table + 12, &payload.to_le_bytes())?;
    seal(file, table, 40, salt, own as u64, before)?;
    let head: [u8; HEAD_LEN] = get(file, table)?;
    put(file, own, &head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Disk;
    use crate::format::{Encoder, IndexEntry, IndexRun, RecordKind, SegmentHeader, SegmentIndex, Trailer};
    use crate::record::{Extent, RawLogId};
    use crate::snapshots::SnapshotDir;
    use crate::testing::SimDisk;
    use std::io::Write;
    use std::path::Path;

    /// What is whole already stays as it is, to the byte: all places are the right ones.
    #[test]
    fn mending_a_whole_segment_changes_nothing() {
        let extent = Extent::default();
        let header = SegmentHeader {
            node_id: 1,
            incarnation: 9,
            salt: 77,
            sequence: 1,
            size: 8192,
            before: 5,
            first_batch: 1,
            durable_through: 0,
            vote: Some(vec![3; 18].into()),
            committed: None,
            extent,
            first_index: 0,
        };
        let mut file = header.encode();
        let mut before = 5;
        for number in 1..4 {
            let mut encoder = Encoder::new();
            encoder.begin(2, Encoder::batch_len(2, 704, 0), 77, file.len() as u64, before);
            encoder.record(RecordKind::Vote, 0, RawLogId { term: 0, node: None, index: 0 }, b"vote");
            encoder.record(RecordKind::Entry, 1, RawLogId { term: 1, node: None, index: number }, &[7; 700]);
            let trailer = Trailer { vote: None, committed: None, extent, number, durable_through: number - 1 };
            let (bytes, crc) = encoder.end(&trailer);
            file.extend_from_slice(bytes);
            before = crc;
        }
        let whole = file.clone();
        reseal_segment(&mut file);
        assert_eq!(file, whole);
    }

    #[test]
    fn mending_a_whole_index_changes_nothing() {
        let index = SegmentIndex {
            incarnation: 1,
            salt: 2,
            sequence: 3,
            seal_at: 4096,
            next_batch: 5,
            before: 6,
            cut: u64::MAX,
            first: 7,
            entries: vec![IndexEntry { offset: 2048, len: 8, crc: 9, kind: 1 }; 3],
            runs: vec![IndexRun { first: 7, term: 1, node: None }],
        };
        let whole = index.encode();
        let mut file = whole.clone();
        reseal_index(&mut file);
        assert_eq!(file, whole);
        file[150] ^= 1;
        assert_eq!(SegmentIndex::decode(&file), None);
        reseal_index(&mut file);
        assert!(SegmentIndex::decode(&file).is_some());
    }

    #[test]
    fn mending_a_whole_snapshot_changes_nothing() {
        let disk = SimDisk::new(1);
        let dir = SnapshotDir::open_on(disk.clone(), "dir", 16).unwrap();
        for len in [0, 1, 16, 100] {
            let mut snapshot = dir.create().unwrap();
            snapshot.write_all(&vec![7; len]).unwrap();
            drop(snapshot.commit(len as u64, b"meta").unwrap());
        }
        for info in dir.list() {
            let whole = disk.content(&info.path).unwrap();
            let mut file = whole.clone();
            reseal_snapshot(&mut file);
            assert_eq!(file, whole);
            file[600.min(whole.len() - 1)] ^= 1;
            reseal_snapshot(&mut file);
            disk.overwrite(&info.path, 0, &file);
            disk.sync_dir(Path::new("dir")).unwrap();
            let again = SnapshotDir::open_on(disk.fork(1), "dir", 16).unwrap();
            assert!(again.damaged().is_empty(), "{:?}", again.damaged());
        }
    }
}
