use bytes::Bytes;
use raftwright_traits::crc32c;

use super::encoder::{BUFFER_KEPT_MAX, WINDOW};
use super::*;
use crate::record::{Extent, RawLogId};

const SALT: u64 = 0x0123_4567_89AB_CDEF;
const ID: RawLogId = RawLogId { term: 5, node: Some(2), index: 11 };

fn segment_header(vote: Option<&'static [u8]>) -> SegmentHeader {
    SegmentHeader {
        node_id: 3,
        incarnation: 0xFEED,
        salt: SALT,
        sequence: 7,
        size: 1 << 20,
        before: 0xDEAD_BEEF,
        first_batch: 41,
        durable_through: 40,
        vote: vote.map(Bytes::from_static),
        committed: Some(9),
        extent: Extent { purged: Some(RawLogId { node: None, index: 4, ..ID }), last: Some(ID) },
        first_index: 5,
    }
}

fn trailer() -> Trailer {
    Trailer {
        vote: Some(Bytes::from_static(b"vote of term 5")),
        committed: Some(10),
        extent: Extent { purged: None, last: Some(RawLogId { index: 12, ..ID }) },
        number: 41,
        durable_through: 40,
    }
}

/// A vote, an entry with a payload and one without, as one batch.
fn batch() -> (Vec<u8>, u32) {
    let mut encoder = Encoder::new();
    encoder.begin(3, Encoder::batch_len(3, 19, 14), SALT, 4096, 0xDEAD_BEEF);
    encoder.record(RecordKind::Vote, 0, RawLogId { term: 0, node: None, index: 0 }, b"vote of term 5");
    encoder.record(RecordKind::Entry, 1, ID, b"hello");
    encoder.record(RecordKind::Entry, 0, RawLogId { index: 12, ..ID }, b"");
    let (bytes, after) = encoder.end(&trailer());
    (bytes.to_vec(), after)
}

#[test]
fn a_segment_header_comes_back_from_either_copy() {
    for vote in [None, Some(&b""[..]), Some(b"v"), Some(&[7; 1000][..])] {
        let header = segment_header(vote);
        let area = header.encode();
        assert_eq!(area.len(), SegmentHeader::area_len(vote.map_or(0, <[u8]>::len)));
        assert_eq!(SegmentHeader::decode(&area), Ok((header.clone(), area.len())));
        for at in 0..area.len() {
            let mut bad = area.clone();
            bad[at] ^= 0x40;
            assert_eq!(SegmentHeader::decode(&bad), Ok((header.clone(), area.len())), "byte {at}");
        }
    }
}

/// A length of the vote without a vote would put the batches into the header.
#[test]
fn a_length_without_a_vote_is_damage() {
    let mut area = segment_header(Some(&[7; 1000])).encode();
    area[140] &= !1;
    crate::testing::reseal_segment(&mut area);
    assert_eq!(SegmentHeader::decode(&area), Err(SegmentHeaderError::Damaged));
}

#[test]
fn a_newer_segment_is_told_from_a_damaged_one() {
    let header = segment_header(None);
    let mut area = header.encode();
    area[10] = 2;
    assert_eq!(SegmentHeader::decode(&area).unwrap().0, header, "one copy: damage");
    let half = area.len() / 2;
    for at in [0, half] {
        area[at + 10] = 2;
        let crc = checksum(SALT, at as u64, 0, &area[at..at + 164]);
        area[at + 164..at + 168].copy_from_slice(&crc.to_le_bytes());
    }
    assert_eq!(SegmentHeader::decode(&area), Err(SegmentHeaderError::Version { needs: 2 }));
}

#[test]
fn a_batch_comes_back() {
    let (bytes, after) = batch();
    let HeaderState::Good(header) = header_state(&bytes, SALT, 4096) else { panic!("a good header") };
    assert_eq!((header.role, header.count, header.number), (Role::Batch, 3, 41));
    assert!(header.is_plausible(bytes.len() as u64) && !header.is_plausible(bytes.len() as u64 - 1));
    assert_eq!(padded(header.total_len as usize), bytes.len());
    assert_eq!(bytes.len(), Encoder::batch_len(3, 14 + 5, 14));
    let whole = &bytes[..header.total_len as usize];
    assert_eq!(Trailer::state(whole, &header, SALT, 4096), TrailerState::Good(trailer(), after));
    for at in 0..3 {
        let table = Head::decode(&bytes[BATCH_HEADER_LEN + HEAD_LEN * at..], SALT, 4096, header.before).unwrap();
        let own = Head::decode(&bytes[table.offset as usize..], SALT, 4096, header.before).unwrap();
        assert_eq!(table, own);
        let payload = &bytes[own.offset as usize + HEAD_LEN..][..own.len as usize];
        assert_eq!(crc32c::crc32c(payload), own.payload_crc);
    }
}

/// What an encoder makes of these payloads is header, table, records, trailer and padding, one behind the other, and the zero sectors
/// are counted. Returns its length and the zero sectors.
fn assert_encodes(encoder: &mut Encoder, payloads: &[Vec<u8>], vote: Vec<u8>) -> (usize, u32) {
    let trailer = Trailer { vote: Some(vote.clone().into()), ..trailer() };
    let sum = payloads.iter().map(Vec::len).sum();
    encoder.begin(payloads.len(), Encoder::batch_len(payloads.len(), sum, vote.len()), SALT, 4096, 9);
    let mut offset = BATCH_HEADER_LEN + HEAD_LEN * payloads.len();
    let (mut table, mut records, mut sums) = (Vec::new(), Vec::new(), Vec::new());
    for (index, payload) in (0..).zip(payloads) {
        let log_id = RawLogId { term: 3, node: (index % 3 == 0).then_some(index), index };
        let placed = encoder.record(RecordKind::Entry, 7, log_id, payload);
        let payload_crc = crc32c::crc32c(payload);
        let (kind, len) = (RecordKind::Entry, payload.len() as u32);
        let head = Head { kind, entry_kind: 7, offset: offset as u32, len, payload_crc, log_id };
        let mut bytes = [0; HEAD_LEN];
        head.encode(SALT, 4096, 9).write(&mut bytes);
        assert_eq!(Head::decode(&bytes, SALT, 4096, 9), Some(head));
        assert_eq!(placed, ((offset + HEAD_LEN) as u32, payload_crc));
        table.extend(bytes);
        sums.extend(&bytes[HEAD_LEN - 4..]);
        records.extend(bytes);
        records.extend(payload);
        offset += HEAD_LEN + payload.len();
    }
    let mut end = Vec::new();
    trailer.encode(&mut end, crc32c::crc32c(&sums));
    let total_len = (offset + end.len()) as u32;
    let mut whole = [vec![0; BATCH_HEADER_LEN], table, records, end.clone()].concat();
    whole.resize(whole.len().next_multiple_of(SECTOR), 0);
    let header = BatchHeader {
        role: Role::Batch,
        total_len,
        count: payloads.len() as u32,
        number: trailer.number,
        durable_through: trailer.durable_through,
        before: 9,
        zero_sectors: whole.chunks(SECTOR).skip(1).filter(|sector| sector.iter().all(|byte| *byte == 0)).count() as u32,
        trailer_len: end.len() as u32,
    };
    whole[..BATCH_HEADER_LEN].copy_from_slice(&header.encode(SALT, 4096));
    let body = &end[..end.len() - 12];
    let crc = checksum(SALT, 4096 + offset as u64, Fields::new(&whole[52..]).u32(), body);
    whole[total_len as usize - 12..][..4].copy_from_slice(&crc.to_le_bytes());
    let (bytes, after) = encoder.end(&trailer);
    let lens = || (payloads.len(), payloads.iter().map(Vec::len).take(8).collect::<Vec<_>>(), vote.len());
    assert!(bytes == whole && after == crc, "{:?}", lens());
    (whole.len(), header.zero_sectors)
}

/// However long the records are, and wherever one piece of work of the encoder ends and the next begins.
#[test]
fn a_batch_is_its_parts_one_behind_the_other() {
    let mut random = 7u64;
    let mut draw = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % below
    };
    let mut encoder = Encoder::new();
    let (mut longest, mut most_zeros) = (0, 0);
    for _ in 0..600 {
        let bound = [1, 40, 600, 1100, 20_000, 70_000][draw(6)];
        let payloads: Vec<_> = (0..1 + draw(if bound > 10_000 { 8 } else { 300 }))
            .map(|_| vec![if draw(3) == 0 { 0 } else { draw(256) as u8 }; draw(bound)])
            .collect();
        let (len, zeros) = assert_encodes(&mut encoder, &payloads, vec![0; [14, draw(40_000)][draw(2)]]);
        longest = longest.max(len);
        most_zeros = most_zeros.max(zeros);
    }
    assert!(longest > 300_000 && most_zeros > 100, "{longest} {most_zeros}");
}

/// An encoder that has just held a longer batch without a zero, which no byte of the next may come from.
fn soil(encoder: &mut Encoder) {
    let payload = vec![0xEE; 9 * WINDOW];
    encoder.begin(1, Encoder::batch_len(1, payload.len(), 14), SALT, 4096, 0);
    encoder.record(RecordKind::Entry, 1, ID, &payload);
    encoder.end(&trailer());
}

/// A payload of one window, of two, and of a byte more or less, one behind which there is none, and the end of the batch: each just
/// before, at and just behind the end of a window, and so are the heads around them.
#[test]
fn a_batch_is_whole_wherever_a_window_ends() {
    let mut encoder = Encoder::new();
    let (mut ends, mut most_zeros) = (0, 0);
    let places =
        [1, 2].map(|windows| [0, 1, 2, 43, 44, 45, 46, 47, 89, 90].map(|before| windows * WINDOW + 45 - before));
    for (place, byte) in places.into_iter().flatten().flat_map(|place| [(place, 0), (place, 7)]) {
        for len in [0, 1, WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW - 1, 2 * WINDOW, 2 * WINDOW + 1, 3 * WINDOW - 44] {
            // The second payload begins at this place.
            let first = place - (BATCH_HEADER_LEN + 4 * HEAD_LEN + 2 * HEAD_LEN);
            let payloads = [vec![byte; first], vec![byte; len], Vec::new(), vec![0; 5]];
            soil(&mut encoder);
            most_zeros = most_zeros.max(assert_encodes(&mut encoder, &payloads, vec![7; 14]).1);
            // And with a vote that is so long that the batch, without its padding, ends so close to the end of a window.
            let without_vote = place + len + 2 * HEAD_LEN + 5 + 100;
            for end in [0, 1, 11, 12, SECTOR - 1, SECTOR, SECTOR + 1, 2 * SECTOR] {
                let vote = without_vote.next_multiple_of(WINDOW) + WINDOW + SECTOR - end - without_vote;
                ends += usize::from(assert_encodes(&mut encoder, &payloads, vec![7; vote]).0.is_multiple_of(WINDOW));
            }
        }
    }
    assert!(ends > 700 && most_zeros > 100, "{ends} {most_zeros}");
}

/// A table that ends at a sector's end, at a window's end, or just before or behind one, with every kind of record behind it.
#[test]
fn a_batch_is_whole_wherever_its_table_ends() {
    let mut encoder = Encoder::new();
    let end = |count: usize| BATCH_HEADER_LEN + HEAD_LEN * count;
    assert!(end(80).is_multiple_of(SECTOR) && end(1488).is_multiple_of(WINDOW));
    for count in [0, 1, 9, 10, 11, 79, 80, 81, 370, 371, 372, 373, 1487, 1488, 1489, 3000] {
        for (len, byte) in
            [0, 1, 500, WINDOW - HEAD_LEN, WINDOW, 2 * WINDOW + 1].into_iter().flat_map(|l| [(l, 0), (l, 7)])
        {
            soil(&mut encoder);
            let mut payloads = vec![Vec::new(); count];
            payloads.first_mut().into_iter().for_each(|payload| *payload = vec![byte; len]);
            assert_encodes(&mut encoder, &payloads, vec![7; 14]);
        }
    }
}

/// In a buffer that becomes longer, that is kept for shorter batches, and that was let go, nothing is left of the batch before.
#[test]
fn nothing_of_a_longer_batch_is_in_a_shorter_one() {
    for longer in [2 * WINDOW, 100_000, BUFFER_KEPT_MAX / 2, 2 * BUFFER_KEPT_MAX] {
        let mut encoder = Encoder::new();
        for len in [longer, 1, 700, WINDOW + 1, longer / 2, longer - 1] {
            assert_encodes(&mut encoder, &[vec![0xEE; len]], vec![0xEE; 14]);
            assert_encodes(&mut encoder, &[vec![0; len / 2], vec![0; 3]], Vec::new());
        }
    }
}

/// A buffer of the usual length is used again; a longer one is let go when the next batch begins.
#[test]
fn one_long_batch_takes_no_memory_for_ever() {
    const MIB: usize = 1 << 20;
    let kept_after = |count: usize, len: usize| {
        let mut encoder = Encoder::new();
        for (count, len) in [(count, len), (1, 5)] {
            encoder.begin(count, Encoder::batch_len(count, count * len, 14), SALT, 4096, 0);
            let payload = vec![7; len];
            for _ in 0..count {
                encoder.record(RecordKind::Entry, 1, ID, &payload);
            }
            encoder.end(&trailer());
        }
        encoder.capacity()
    };
    for (count, len, most) in [(1, 64 * MIB, 9 * MIB), (1 << 20, 0, MIB)] {
        assert!(kept_after(count, len) < most, "{}", kept_after(count, len));
    }
    assert!(kept_after(1, 7 * MIB) >= 7 * MIB, "{}", kept_after(1, 7 * MIB));
}

/// A head that says that a longer vote stands in it is damaged, whatever its checksum says, and no reader looks so far for it.
#[test]
fn a_head_with_a_longer_vote_is_damaged() {
    const MAX: usize = 64 << 10;
    let header = |len: usize| SegmentHeader { vote: Some(Bytes::from(vec![7; len])), ..segment_header(None) };
    for (len, good) in [(MAX, true), (MAX + 1, false)] {
        assert_eq!(SegmentHeader::decode(&header(len).encode()).is_ok(), good, "a segment, {len} bytes");
        let trailer = Trailer { vote: header(len).vote, ..trailer() };
        let mut encoder = Encoder::new();
        encoder.begin(1, Encoder::batch_len(1, 5, len), SALT, 4096, 0);
        encoder.record(RecordKind::Entry, 1, ID, b"hello");
        let (bytes, _) = encoder.end(&trailer);
        let HeaderState::Good(header) = header_state(bytes, SALT, 4096) else { panic!("a good header") };
        assert_eq!(header.is_plausible(1 << 30), good, "a batch, {len} bytes");
    }
}

/// A header from which a log could not count on is damaged, whatever its checksum says.
#[test]
fn a_header_at_the_end_of_all_numbers_is_damaged() {
    let good = |first_batch: u64, sequence: u64| {
        let header = SegmentHeader { first_batch, sequence, ..segment_header(None) };
        SegmentHeader::decode(&header.encode()).is_ok()
    };
    let (batch, sequence) = (u64::MAX >> 1, u64::from(u32::MAX) - 1);
    assert!(good(batch, sequence));
    assert!(!good(batch + 1, sequence) && !good(u64::MAX, sequence) && !good(batch, sequence + 1));
}

/// What belongs to another place, another segment or another history does not verify.
#[test]
fn a_batch_verifies_at_its_place_only() {
    let (bytes, _) = batch();
    assert_eq!(header_state(&bytes, SALT, 4608), HeaderState::Bad);
    assert_eq!(header_state(&bytes, SALT + 1, 4096), HeaderState::Bad);
    let head = &bytes[BATCH_HEADER_LEN..];
    assert!(Head::decode(head, SALT, 4096, 0xDEAD_BEEF).is_some());
    assert!(Head::decode(head, SALT, 4608, 0xDEAD_BEEF).is_none());
    assert!(Head::decode(head, SALT, 4096, 0xDEAD_BEEE).is_none());
}

/// No length in a header, however absurd, makes a reader leave the buffer.
#[test]
fn random_bytes_are_never_believed() {
    let mut bytes = vec![0; 4096];
    let mut state = 1u64;
    for _ in 0..2000 {
        for byte in &mut bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (state >> 56) as u8;
        }
        assert!(!matches!(header_state(&bytes, SALT, 0), HeaderState::Good(_)));
        assert_eq!(SegmentHeader::decode(&bytes), Err(SegmentHeaderError::Damaged));
        assert!(Head::decode(&bytes, SALT, 0, 0).is_none());
    }
}

/// The bytes of version 1, for ever. A change here is a change of the format: it needs a new version.
#[test]
fn golden_bytes_of_version_1() {
    let mut text = String::new();
    for (name, bytes) in [("segment header", segment_header(Some(b"vote")).encode()), ("batch", batch().0)] {
        text.push_str(&format!("# {name}\n"));
        for line in bytes.chunks(32) {
            text.extend(line.iter().map(|byte| format!("{byte:02x}")));
            text.push('\n');
        }
    }
    assert_eq!(text, include_str!("golden_v1.hex"), "\n{text}");
}

/// What the next batch is chained to depends on every byte of every record before it.
#[test]
fn the_chain_holds_every_record() {
    let chained_to = |records: [(u64, &[u8]); 2]| {
        let mut encoder = Encoder::new();
        encoder.begin(2, Encoder::batch_len(2, 10, 14), SALT, 4096, 0);
        for (index, payload) in records {
            encoder.record(RecordKind::Entry, 1, RawLogId { index, ..ID }, payload);
        }
        encoder.end(&trailer()).1
    };
    let whole = chained_to([(11, b"first"), (12, b"other")]);
    assert_eq!(chained_to([(11, b"first"), (12, b"other")]), whole);
    for other in
        [[(11, &b"First"[..]), (12, b"other")], [(11, b"first"), (12, b"othes")], [(12, b"first"), (12, b"other")]]
    {
        assert_ne!(chained_to(other), whole, "{other:?}");
    }
}
