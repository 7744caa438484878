//! The frame: the unit in which every connection is cut up.
//!
//! A frame is a header of [`HEADER_LEN`] bytes and a body. `docs/wire-format.md` draws the layout. Two checksums stand
//! in the header: one over the header itself, so that a length is believed only when it is known to be undamaged, and
//! one over the body. Everything is little endian.

use bytes::{Buf, Bytes, BytesMut};
use raftwright_traits::crc32c;

use crate::body::Body;

/// Length of a frame's header in bytes.
pub const HEADER_LEN: usize = 28;

/// The first four bytes of every frame.
pub const MAGIC: [u8; 4] = *b"RWnt";

/// Version of the frame's own layout. It is not the version of the messages inside, which the handshake negotiates.
pub const FRAME_VERSION: u8 = 1;

/// Largest body of a frame after the handshake, in bytes, unless [`Limits`](crate::Limits) says otherwise.
pub const BODY_LEN_MAX: u32 = 64 * 1024 * 1024;

/// Largest body of a frame during the handshake, in bytes: who has not yet said who he is gets little memory.
pub const HANDSHAKE_BODY_LEN_MAX: u32 = 4 * 1024;

/// Free space that is offered to one read of the socket, in bytes.
const READ_CHUNK: usize = 16 * 1024;

/// Largest free space offered to one read while a long body is arriving, in bytes. Memory grows with the bytes that have
/// arrived, never with the length that the peer promises.
const READ_CHUNK_MAX: usize = 1024 * 1024;

const FLAG_ANSWER: u16 = 1;
const FLAG_FAILED: u16 = 2;

/// What a frame carries. A request and its answer have the same kind; [`Role`] tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The first frame of the side that connected: who it is and whom it wants.
    Hello,
    /// The accepting side's consent to a `Hello`.
    Welcome,
    /// Either side's refusal, its last frame.
    Refuse,
    /// Asks whether the other side is alive; answered by the connection itself.
    Ping,
    /// RequestVote (Raft §5.2), pre-vote (Thesis §9.6) included.
    Vote,
    /// A leader's sign of life (Raft §5.2).
    Heartbeat,
    /// TimeoutNow (Thesis §3.10).
    TransferLeader,
    /// A server that does not lead wants to read (Thesis §6.4).
    ReadIndex,
    /// AppendEntries (Raft §5.3).
    AppendEntries,
    /// One part of an InstallSnapshot (Raft §7).
    Snapshot,
    /// An application's request; its bytes are opaque here.
    Client,
}

impl Kind {
    /// The byte that stands for this kind in the header.
    pub const fn code(self) -> u8 {
        match self {
            Kind::Hello => 0x01,
            Kind::Welcome => 0x02,
            Kind::Refuse => 0x03,
            Kind::Ping => 0x04,
            Kind::Vote => 0x10,
            Kind::Heartbeat => 0x11,
            Kind::TransferLeader => 0x12,
            Kind::ReadIndex => 0x13,
            Kind::AppendEntries => 0x20,
            Kind::Snapshot => 0x30,
            Kind::Client => 0x40,
        }
    }

    /// The kind that a byte stands for, or `None` when this version knows none.
    pub const fn from_code(code: u8) -> Option<Kind> {
        Some(match code {
            0x01 => Kind::Hello,
            0x02 => Kind::Welcome,
            0x03 => Kind::Refuse,
            0x04 => Kind::Ping,
            0x10 => Kind::Vote,
            0x11 => Kind::Heartbeat,
            0x12 => Kind::TransferLeader,
            0x13 => Kind::ReadIndex,
            0x20 => Kind::AppendEntries,
            0x30 => Kind::Snapshot,
            0x40 => Kind::Client,
            _ => return None,
        })
    }
}

/// Whether a frame asks or answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// A request, or a frame of the handshake.
    Request,
    /// The answer to the request of the same id.
    Answer,
    /// The answer to the request of the same id is an error; the body is a [`Fault`](crate::Fault).
    FailedAnswer,
}

impl Role {
    const fn flags(self) -> u16 {
        match self {
            Role::Request => 0,
            Role::Answer => FLAG_ANSWER,
            Role::FailedAnswer => FLAG_ANSWER | FLAG_FAILED,
        }
    }

    const fn from_flags(flags: u16) -> Option<Role> {
        const FAILED_ANSWER: u16 = FLAG_ANSWER | FLAG_FAILED;
        match flags {
            0 => Some(Role::Request),
            FLAG_ANSWER => Some(Role::Answer),
            FAILED_ANSWER => Some(Role::FailedAnswer),
            _ => None,
        }
    }
}

/// Number that ties an answer to its request, unique within a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A frame as it came off the wire: checked by both checksums, its body a slice of the read buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What the body is.
    pub kind: Kind,
    /// Question or answer.
    pub role: Role,
    /// Which question; zero in frames of the handshake.
    pub id: RequestId,
    /// The body, not interpreted.
    pub body: Bytes,
}

/// Why bytes are not a frame. The connection they came from cannot be used any more: nothing says where the next frame
/// would begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The first bytes are not [`MAGIC`]: the peer speaks another protocol, or the stream is out of step.
    #[error("the bytes do not begin a frame (wrong magic)")]
    Magic,
    /// The frame's layout is of a version that this side does not know.
    #[error("frame version {0} is not supported (this side speaks {FRAME_VERSION})")]
    Version(u8),
    /// The header was damaged on its way.
    #[error("the frame header's checksum does not match")]
    HeaderChecksum,
    /// The body was damaged on its way.
    #[error("the frame body's checksum does not match")]
    BodyChecksum,
    /// No kind of frame has this number.
    #[error("unknown frame kind {0:#04x}")]
    Kind(u8),
    /// Flags that no version so far defines.
    #[error("unknown frame flags {0:#06x}")]
    Flags(u16),
    /// The body is longer than this side accepts. Found before any memory is set aside for it.
    #[error("frame body of {len} bytes exceeds the limit of {max}")]
    TooLong {
        /// What the header says.
        len: u64,
        /// What this side accepts at this point of the connection.
        max: u32,
    },
}

/// The header's fields, for the side that writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHead {
    /// What the body is.
    pub kind: Kind,
    /// Question or answer.
    pub role: Role,
    /// Which question.
    pub id: RequestId,
}

/// Encodes the header for `body`.
///
/// # Errors
///
/// [`FrameError::TooLong`] when the body has more than `body_len_max` bytes; such a frame would be refused by the peer.
pub fn encode_frame(head: FrameHead, body: &Body, body_len_max: u32) -> Result<[u8; HEADER_LEN], FrameError> {
    let len = match u32::try_from(body.len()) {
        Ok(len) if len <= body_len_max => len,
        _ => return Err(FrameError::TooLong { len: body.len() as u64, max: body_len_max }),
    };
    let mut out = [0; HEADER_LEN];
    out[0..4].copy_from_slice(&MAGIC);
    out[4] = FRAME_VERSION;
    out[5] = head.kind.code();
    out[6..8].copy_from_slice(&head.role.flags().to_le_bytes());
    out[8..16].copy_from_slice(&head.id.0.to_le_bytes());
    out[16..20].copy_from_slice(&len.to_le_bytes());
    out[20..24].copy_from_slice(&body.crc32c().to_le_bytes());
    let crc = crc32c::crc32c(&out[..24]);
    out[24..28].copy_from_slice(&crc.to_le_bytes());
    Ok(out)
}

/// A header that passed every check that does not need the body.
#[derive(Debug, Clone, Copy)]
struct Header {
    head: FrameHead,
    body_len: usize,
    body_crc: u32,
}

fn decode_header(bytes: &[u8; HEADER_LEN], body_len_max: u32) -> Result<Header, FrameError> {
    let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    // Magic and version come before the checksum: where the checksum stands is only known in a version that we know.
    if bytes[0..4] != MAGIC {
        return Err(FrameError::Magic);
    }
    if bytes[4] != FRAME_VERSION {
        return Err(FrameError::Version(bytes[4]));
    }
    if crc32c::crc32c(&bytes[..24]) != u32_at(24) {
        return Err(FrameError::HeaderChecksum);
    }
    let kind = Kind::from_code(bytes[5]).ok_or(FrameError::Kind(bytes[5]))?;
    let flags = u16::from_le_bytes([bytes[6], bytes[7]]);
    let role = Role::from_flags(flags).ok_or(FrameError::Flags(flags))?;
    let id = u64::from(u32_at(8)) | (u64::from(u32_at(12)) << 32);
    let len = u32_at(16);
    if len > body_len_max {
        return Err(FrameError::TooLong { len: u64::from(len), max: body_len_max });
    }
    Ok(Header { head: FrameHead { kind, role, id: RequestId(id) }, body_len: len as usize, body_crc: u32_at(20) })
}

/// Cuts a stream of bytes into frames. A plain machine: bytes go in, frames or a [`FrameError`] come out.
///
/// Memory is bounded by the larger of one read chunk and what has arrived of one frame within the limit. After an error
/// the decoder repeats it for ever.
#[derive(Debug)]
pub struct FrameDecoder {
    buf: BytesMut,
    /// The header of the frame whose body is still arriving; its bytes have left `buf`.
    header: Option<Header>,
    body_len_max: u32,
    /// The buffer has held a long body. It must not be kept for the short frames that follow.
    oversized: bool,
    failed: Option<FrameError>,
}

impl FrameDecoder {
    /// A decoder at the start of a stream that accepts bodies of up to `body_len_max` bytes.
    pub fn new(body_len_max: u32) -> Self {
        FrameDecoder { buf: BytesMut::new(), header: None, body_len_max, oversized: false, failed: None }
    }

    /// Changes the limit for the frames whose header has not yet been read. The handshake has a lower one than what follows.
    pub fn set_body_len_max(&mut self, body_len_max: u32) {
        self.body_len_max = body_len_max;
    }

    /// Appends bytes of the stream.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
    }

    /// The buffer to read the socket into, with free space made for the next read. To be called when there is no next
    /// frame.
    pub(crate) fn read_buffer(&mut self) -> &mut BytesMut {
        let want = match self.header {
            Some(header) => header.body_len.saturating_sub(self.buf.len()).clamp(READ_CHUNK, READ_CHUNK_MAX),
            None => READ_CHUNK,
        };
        if self.oversized && self.header.is_none() {
            // Between frames there is at most a part of a header to carry over.
            let mut fresh = BytesMut::with_capacity(READ_CHUNK.max(self.buf.len()));
            fresh.extend_from_slice(&self.buf);
            self.buf = fresh;
            self.oversized = false;
        }
        // A buffer whose frames are still in use cannot be reclaimed; reserving in full chunks keeps such moves rare.
        if self.buf.capacity() - self.buf.len() < want / 4 {
            self.buf.reserve(want);
        }
        &mut self.buf
    }

    /// The next whole frame, or `None` when more bytes are needed.
    ///
    /// # Errors
    ///
    /// A [`FrameError`] as soon as the bytes so far cannot become a frame; the same one on every later call.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let result = self.try_next();
        if let Err(error) = result {
            self.failed = Some(error);
            self.buf = BytesMut::new();
        }
        result
    }

    /// Bytes of body that the frame now arriving was announced with, or `None` between frames. While only a part of a
    /// header is there, zero.
    pub fn partial(&self) -> Option<usize> {
        match self.header {
            Some(header) => Some(header.body_len),
            None if self.buf.is_empty() => None,
            None => Some(0),
        }
    }

    fn try_next(&mut self) -> Result<Option<Frame>, FrameError> {
        let header = match self.header {
            Some(header) => header,
            None => match self.take_header()? {
                Some(header) => *self.header.insert(header),
                None => return Ok(None),
            },
        };
        if self.buf.len() < header.body_len {
            return Ok(None);
        }
        self.header = None;
        self.oversized |= header.body_len > READ_CHUNK_MAX;
        let body = self.buf.split_to(header.body_len).freeze();
        if crc32c::crc32c(&body) != header.body_crc {
            return Err(FrameError::BodyChecksum);
        }
        let FrameHead { kind, role, id } = header.head;
        Ok(Some(Frame { kind, role, id, body }))
    }

    fn take_header(&mut self) -> Result<Option<Header>, FrameError> {
        // A stranger who speaks another protocol is recognised by his first bytes, however few he sends.
        let known = self.buf.len().min(MAGIC.len());
        if self.buf[..known] != MAGIC[..known] {
            return Err(FrameError::Magic);
        }
        let Some(bytes) = self.buf.first_chunk::<HEADER_LEN>() else { return Ok(None) };
        let header = decode_header(bytes, self.body_len_max)?;
        self.buf.advance(HEADER_LEN);
        Ok(Some(header))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory follows what has arrived: a promise of the longest body buys no more than one read.
    #[test]
    fn the_buffer_grows_with_what_arrives_and_not_with_what_is_promised() {
        let head = FrameHead { kind: Kind::Client, role: Role::Request, id: RequestId(1) };
        let body = Body::from(vec![7; 6 * READ_CHUNK_MAX + 5]);
        let header = encode_frame(head, &body, BODY_LEN_MAX).unwrap();
        let bytes = [&header[..], &body.into_bytes()].concat();
        let mut decoder = FrameDecoder::new(BODY_LEN_MAX);
        for read in bytes.chunks(READ_CHUNK / 4) {
            let buffer = decoder.read_buffer();
            let (len, room) = (buffer.len(), buffer.capacity());
            assert!(room > len, "there is room to read");
            // A buffer that has to move may double.
            assert!(room <= 2 * len + READ_CHUNK_MAX + READ_CHUNK, "{room} bytes of room for {len}");
            buffer.extend_from_slice(read);
            assert_eq!(decoder.next_frame().unwrap().is_some(), decoder.partial().is_none());
        }
        assert_eq!(decoder.partial(), None, "it has arrived");
        let kept = decoder.read_buffer().capacity();
        assert!(kept <= READ_CHUNK, "{kept} bytes are kept for the short frames that follow");
    }
}
