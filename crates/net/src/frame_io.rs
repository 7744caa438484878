//! Frames over a socket: a decoder on the reading side, a queue of parts on the writing side.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use crate::body::{Body, COPY_BELOW};
use crate::frame::{Frame, FrameDecoder, FrameError, FrameHead, encode_frame};

/// Parts handed to one vectored write.
const WRITE_PARTS_MAX: usize = 64;

/// Largest buffer for short frames that is kept after all of it has left, in bytes.
const TAIL_KEPT_MAX: usize = 256 * 1024;

/// Bytes encoded and not yet taken by the socket. Short frames queued between two writes leave in one.
#[derive(Debug, Default)]
struct WriteQueue {
    parts: VecDeque<Bytes>,
    /// What comes behind `parts`; short frames are appended here.
    tail: BytesMut,
    len: usize,
}

impl WriteQueue {
    fn push(&mut self, header: &[u8], body: Body) {
        self.len += header.len() + body.len();
        self.tail.extend_from_slice(header);
        let (parts, tail) = body.into_parts();
        parts.into_iter().for_each(|part| self.push_part(part));
        if tail.len() < COPY_BELOW {
            self.tail.extend_from_slice(&tail);
        } else {
            self.push_part(tail.freeze());
        }
    }

    fn push_part(&mut self, part: Bytes) {
        if part.len() < COPY_BELOW {
            self.tail.extend_from_slice(&part);
            return;
        }
        if !self.tail.is_empty() {
            self.parts.push_back(self.tail.split().freeze());
        }
        self.parts.push_back(part);
    }

    fn advance(&mut self, mut written: usize) {
        self.len -= written;
        while let Some(part) = self.parts.front_mut() {
            if written < part.len() {
                part.advance(written);
                return;
            }
            written -= part.len();
            self.parts.pop_front();
        }
        self.tail.advance(written);
        if self.tail.is_empty() && self.tail.capacity() > TAIL_KEPT_MAX {
            self.tail = BytesMut::new();
        }
    }
}

/// What ends a connection from below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The bytes that arrived are not frames.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The other side closed, between two frames or within one.
    #[error("the peer closed the connection")]
    Closed,
    /// The operating system reports the connection broken.
    #[error("the connection broke: {0}")]
    Broken(io::ErrorKind),
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> Self {
        LinkError::Broken(error.kind())
    }
}

/// Frames over any reliable stream of bytes; here a later version puts TLS between socket and frames.
#[derive(Debug)]
pub struct FrameIo<S> {
    io: S,
    decoder: FrameDecoder,
    queue: WriteQueue,
    body_len_max: u32,
    /// Counts bytes that arrived and bytes that left, so that an owner can see life without a clock here.
    read_bytes: u64,
    written_bytes: u64,
    frames: u64,
}

impl<S: AsyncRead + AsyncWrite + Unpin> FrameIo<S> {
    /// Frames over `io`, with bodies of up to `body_len_max` bytes in both directions.
    pub fn new(io: S, body_len_max: u32) -> Self {
        FrameIo {
            io,
            decoder: FrameDecoder::new(body_len_max),
            queue: WriteQueue::default(),
            body_len_max,
            read_bytes: 0,
            written_bytes: 0,
            frames: 0,
        }
    }

    /// Changes the limit on bodies, for frames not yet begun.
    pub fn set_body_len_max(&mut self, body_len_max: u32) {
        self.body_len_max = body_len_max;
        self.decoder.set_body_len_max(body_len_max);
    }

    /// Queues a frame. It leaves with the next [`poll_flush`](Self::poll_flush).
    ///
    /// # Errors
    ///
    /// [`FrameError::TooLong`]; nothing is queued then.
    pub fn push(&mut self, head: FrameHead, body: Body) -> Result<(), FrameError> {
        let header = encode_frame(head, &body, self.body_len_max)?;
        self.queue.push(&header, body);
        Ok(())
    }

    /// Bytes queued and not yet taken by the socket.
    pub fn unsent(&self) -> usize {
        self.queue.len
    }

    /// Bytes that have arrived so far.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes
    }

    /// Bytes that have left so far.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Whole frames that have arrived so far.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// See [`FrameDecoder::partial`].
    pub fn partial(&self) -> Option<usize> {
        self.decoder.partial()
    }

    /// Writes what is queued, as much at once as the socket takes.
    ///
    /// # Errors
    ///
    /// [`LinkError::Broken`] or [`LinkError::Closed`].
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        if self.queue.len == 0 {
            return Poll::Ready(Ok(()));
        }
        while self.queue.len > 0 {
            let written = ready!(self.poll_write_once(cx))?;
            if written == 0 {
                return Poll::Ready(Err(LinkError::Closed));
            }
            self.queue.advance(written);
            self.written_bytes += written as u64;
        }
        Pin::new(&mut self.io).poll_flush(cx).map_err(LinkError::from)
    }

    fn poll_write_once(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.queue.parts.is_empty() {
            return Pin::new(&mut self.io).poll_write(cx, &self.queue.tail);
        }
        let mut slices = [IoSlice::new(&[]); WRITE_PARTS_MAX];
        let mut count = 0;
        let tail = std::iter::once(&self.queue.tail[..]).filter(|tail| !tail.is_empty());
        let parts = self.queue.parts.iter().map(|part| &part[..]).chain(tail);
        for (slice, part) in slices.iter_mut().zip(parts) {
            *slice = IoSlice::new(part);
            count += 1;
        }
        Pin::new(&mut self.io).poll_write_vectored(cx, &slices[..count])
    }

    /// The next frame among the bytes that have arrived already. Never touches the socket.
    ///
    /// # Errors
    ///
    /// [`LinkError::Frame`].
    pub fn buffered_frame(&mut self) -> Result<Option<Frame>, LinkError> {
        let frame = self.decoder.next_frame()?;
        self.frames += u64::from(frame.is_some());
        Ok(frame)
    }

    /// The next frame.
    ///
    /// # Errors
    ///
    /// Any [`LinkError`]; the connection is of no use afterwards.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, LinkError>> {
        loop {
            if let Some(frame) = self.buffered_frame()? {
                return Poll::Ready(Ok(frame));
            }
            let buffer = self.decoder.read_buffer();
            let read = ready!(pin!(self.io.read_buf(buffer)).poll(cx))?;
            if read == 0 {
                return Poll::Ready(Err(LinkError::Closed));
            }
            self.read_bytes += read as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{BODY_LEN_MAX, Kind, RequestId, Role};
    use std::future::poll_fn;
    use tokio::io::ReadBuf;

    const HEAD: FrameHead = FrameHead { kind: Kind::Client, role: Role::Request, id: RequestId(1) };

    /// Takes all that it is given, and counts.
    #[derive(Default)]
    struct Sink {
        bytes: Vec<u8>,
        parts_of_writes: Vec<usize>,
    }

    impl AsyncRead for Sink {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Sink {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            parts: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let before = self.bytes.len();
            parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
            self.parts_of_writes.push(parts.len());
            Poll::Ready(Ok(self.bytes.len() - before))
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_write_has_no_more_parts_than_the_system_takes_and_the_rest_follows() {
        let mut io = FrameIo::new(Sink::default(), BODY_LEN_MAX);
        // A header and a payload that is long enough to stay where it is: two parts each.
        let frames = WRITE_PARTS_MAX as u8;
        for frame in 0..frames {
            let mut body = Body::new();
            body.put_bytes(Bytes::from(vec![frame; COPY_BELOW]));
            io.push(HEAD, body).unwrap();
        }
        poll_fn(|cx| io.poll_flush(cx)).await.unwrap();
        assert_eq!(io.unsent(), 0);
        assert_eq!(io.io.parts_of_writes, [WRITE_PARTS_MAX; 2]);
        let mut decoder = FrameDecoder::new(BODY_LEN_MAX);
        decoder.feed(&io.io.bytes);
        for frame in 0..frames {
            assert_eq!(decoder.next_frame().unwrap().unwrap().body, vec![frame; COPY_BELOW]);
        }
    }

    #[tokio::test]
    async fn the_buffer_of_short_frames_is_kept_if_it_is_small() {
        let kept_after = async |frames: usize| {
            let mut io = FrameIo::new(Sink::default(), BODY_LEN_MAX);
            for _ in 0..frames {
                io.push(HEAD, vec![0; COPY_BELOW - 1].into()).unwrap();
            }
            poll_fn(|cx| io.poll_flush(cx)).await.unwrap();
            io.queue.tail.capacity()
        };
        // One frame less than fills half of it: a buffer that grows may double.
        let few = TAIL_KEPT_MAX / 2 / (COPY_BELOW + 28) - 1;
        let kept = kept_after(few).await;
        assert!(kept > 0 && kept <= TAIL_KEPT_MAX, "{kept}");
        assert_eq!(kept_after(TAIL_KEPT_MAX / COPY_BELOW + 1).await, 0);
    }
}
