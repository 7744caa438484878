//! The frame as bytes: its golden form, and what becomes of bytes that are none.

use bytes::Bytes;
use proptest::prelude::*;
use raftwright_net::{
    Body, Frame, FrameDecoder, FrameError, FrameHead, HEADER_LEN, Kind, RequestId, Role, encode_frame,
};
use raftwright_traits::crc32c;

const BODY_LEN_MAX: u32 = 1 << 20;

fn encode(kind: Kind, role: Role, id: u64, body: &[u8]) -> Vec<u8> {
    let body = Body::from(body.to_vec());
    let mut bytes = encode_frame(FrameHead { kind, role, id: RequestId(id) }, &body, BODY_LEN_MAX).unwrap().to_vec();
    bytes.extend_from_slice(&body.into_bytes());
    bytes
}

fn decode_all(decoder: &mut FrameDecoder) -> Result<Vec<Frame>, FrameError> {
    let mut frames = Vec::new();
    while let Some(frame) = decoder.next_frame()? {
        frames.push(frame);
    }
    Ok(frames)
}

fn decode(bytes: &[u8]) -> Result<Vec<Frame>, FrameError> {
    let mut decoder = FrameDecoder::new(BODY_LEN_MAX);
    decoder.feed(bytes);
    decode_all(&mut decoder)
}

/// Puts the right checksum on a header that was tampered with.
fn seal(bytes: &mut [u8]) {
    let crc = crc32c::crc32c(&bytes[..24]);
    bytes[24..28].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn version_1_of_the_frame_is_these_bytes() {
    let bytes = encode(Kind::AppendEntries, Role::Request, 0x0102_0304_0506_0708, b"raft");
    let golden: [u8; 32] = [
        b'R', b'W', b'n', b't', // magic
        1, 0x20, 0, 0, // version, kind, flags
        8, 7, 6, 5, 4, 3, 2, 1, // request id
        4, 0, 0, 0, // length of the body
        0x82, 0xcc, 0xd6, 0xbe, // checksum of the body
        0x0c, 0x09, 0x42, 0x2e, // checksum of the header
        b'r', b'a', b'f', b't',
    ];
    assert_eq!(bytes, golden, "{bytes:02x?}");
    let answer = encode(Kind::Ping, Role::FailedAnswer, 0, b"");
    assert_eq!(answer[4..8], [1, 4, 3, 0]);
    assert_eq!(answer[20..24], [0; 4], "the checksum of nothing is zero");
}

#[test]
fn a_length_beyond_the_limit_is_refused_before_any_of_the_body() {
    let mut bytes = encode(Kind::Vote, Role::Request, 1, b"");
    bytes[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
    seal(&mut bytes);
    assert_eq!(decode(&bytes), Err(FrameError::TooLong { len: u64::from(u32::MAX), max: BODY_LEN_MAX }));
    let body = Body::from(vec![0; BODY_LEN_MAX as usize + 1]);
    let head = FrameHead { kind: Kind::Vote, role: Role::Request, id: RequestId(1) };
    assert!(matches!(encode_frame(head, &body, BODY_LEN_MAX), Err(FrameError::TooLong { .. })));
}

#[test]
fn what_is_no_frame_of_this_version_is_named() {
    let frame = encode(Kind::Vote, Role::Request, 1, b"body");
    let tampered = |at: usize, value: u8| {
        let mut bytes = frame.clone();
        bytes[at] = value;
        seal(&mut bytes);
        decode(&bytes)
    };
    assert_eq!(tampered(0, b'X'), Err(FrameError::Magic));
    assert_eq!(tampered(4, 2), Err(FrameError::Version(2)));
    assert_eq!(tampered(5, 0xee), Err(FrameError::Kind(0xee)));
    assert_eq!(tampered(6, 2), Err(FrameError::Flags(2)), "failed, and no answer");
    assert_eq!(tampered(7, 1), Err(FrameError::Flags(0x100)));
    assert_eq!(decode(b"GET / HTTP/1.1\r\n"), Err(FrameError::Magic));
    assert_eq!(decode(b"G"), Err(FrameError::Magic), "one byte is enough to know");
}

#[test]
fn a_length_that_lies_within_the_limit_is_caught_by_a_checksum() {
    // Shorter: the body's checksum does not match. Longer: the next frame becomes body.
    for lie in [1_u32, 3, 5, 36] {
        let mut bytes = encode(Kind::Vote, Role::Request, 1, b"body");
        bytes[16..20].copy_from_slice(&lie.to_le_bytes());
        assert_eq!(decode(&bytes), Err(FrameError::HeaderChecksum));
        seal(&mut bytes);
        bytes.extend(encode(Kind::Vote, Role::Request, 2, b"next"));
        assert_eq!(decode(&bytes), Err(FrameError::BodyChecksum), "length {lie}");
    }
}

#[test]
fn a_failed_decoder_stays_failed() {
    let mut decoder = FrameDecoder::new(BODY_LEN_MAX);
    decoder.feed(b"nonsense");
    assert_eq!(decoder.next_frame(), Err(FrameError::Magic));
    decoder.feed(&encode(Kind::Vote, Role::Request, 1, b""));
    assert_eq!(decoder.next_frame(), Err(FrameError::Magic));
}

#[test]
fn a_frame_cut_at_any_byte_waits_for_the_rest() {
    let bytes = encode(Kind::Client, Role::Answer, 9, &[5; 300]);
    let whole = decode(&bytes).unwrap();
    assert_eq!(whole.len(), 1);
    for cut in 0..bytes.len() {
        let mut decoder = FrameDecoder::new(BODY_LEN_MAX);
        decoder.feed(&bytes[..cut]);
        assert_eq!(decode_all(&mut decoder), Ok(Vec::new()), "cut at {cut}");
        assert_eq!(decoder.partial().is_some(), cut > 0);
        decoder.feed(&bytes[cut..]);
        assert_eq!(decode_all(&mut decoder).as_ref(), Ok(&whole), "cut at {cut}");
        assert_eq!(decoder.partial(), None);
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let bytes = encode(Kind::AppendEntries, Role::Request, 77, &[0xa5; 40]);
    for bit in 0..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(decode(&bytes).is_err(), "bit {bit}");
    }
}

fn any_frame() -> impl Strategy<Value = (Kind, Role, u64, Vec<u8>)> {
    let kinds = (0..=u8::MAX).filter_map(Kind::from_code).collect::<Vec<_>>();
    let roles = vec![Role::Request, Role::Answer, Role::FailedAnswer];
    let body = prop::collection::vec(any::<u8>(), 0..5000);
    (prop::sample::select(kinds), prop::sample::select(roles), any::<u64>(), body)
}

proptest! {
    #[test]
    fn random_bytes_give_an_error_or_wait(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let mut decoder = FrameDecoder::new(BODY_LEN_MAX);
        for piece in bytes.chunks(7) {
            decoder.feed(piece);
            // Sixteen random bytes do not pass two checksums: never a frame.
            if let Ok(frame) = decoder.next_frame() {
                prop_assert_eq!(frame, None);
            }
        }
    }

    #[test]
    fn a_random_header_with_a_right_checksum_gives_an_error_a_frame_or_waits(
        header in prop::collection::vec(any::<u8>(), 19..=19),
        rest in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut bytes = b"RWnt\x01".to_vec();
        bytes.extend(header);
        bytes.extend([0; 4]);
        seal(&mut bytes);
        prop_assert_eq!(bytes.len(), HEADER_LEN);
        bytes.extend(rest);
        let _any = decode(&bytes);
    }

    #[test]
    fn frames_come_back_whatever_the_pieces(
        frames in prop::collection::vec(any_frame(), 1..8),
        piece in 1_usize..6000,
    ) {
        let stream: Vec<u8> = frames.iter().flat_map(|(kind, role, id, body)| encode(*kind, *role, *id, body)).collect();
        let mut decoder = FrameDecoder::new(BODY_LEN_MAX);
        let mut decoded = Vec::new();
        for piece in stream.chunks(piece) {
            decoder.feed(piece);
            decoded.extend(decode_all(&mut decoder).unwrap());
        }
        let expected: Vec<Frame> = frames
            .into_iter()
            .map(|(kind, role, id, body)| Frame { kind, role, id: RequestId(id), body: Bytes::from(body) })
            .collect();
        prop_assert_eq!(decoded, expected);
    }

    #[test]
    fn a_body_of_parts_is_the_bytes_of_its_parts(parts in prop::collection::vec((any::<bool>(), 0_usize..3000), 0..10)) {
        let (mut body, mut plain) = (Body::new(), Vec::new());
        for (i, (shared, len)) in parts.into_iter().enumerate() {
            let part = vec![i as u8; len];
            plain.extend_from_slice(&part);
            if shared { body.put_bytes(Bytes::from(part)) } else { body.put_slice(&part) }
        }
        prop_assert_eq!(body.len(), plain.len());
        let header = encode_frame(
            FrameHead { kind: Kind::Vote, role: Role::Request, id: RequestId(1) }, &body, BODY_LEN_MAX,
        ).unwrap();
        prop_assert_eq!(&header[20..24], &crc32c::crc32c(&plain).to_le_bytes());
        prop_assert_eq!(body.into_bytes(), plain);
    }
}
