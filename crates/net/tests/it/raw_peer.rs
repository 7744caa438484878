//! A peer of bytes: it keeps to no rule but those of a test.

use raftwright_net::{
    Body, Features, Frame, FrameDecoder, FrameHead, Hello, Kind, Lane, RequestId, Role, VersionRange, Welcome,
    encode_frame,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{PATIENCE, node};

/// What node 1 says first.
pub(crate) fn hello(lane: Lane) -> Hello {
    let (versions, features) = (VersionRange::CURRENT, Features::CURRENT);
    Hello { versions, features, lane, identity: node(1), target: None }
}

/// A peer of bytes: sends frames as it likes and reads what comes.
pub(crate) struct RawPeer {
    pub(crate) stream: TcpStream,
    decoder: FrameDecoder,
}

impl RawPeer {
    pub(crate) fn new(stream: TcpStream) -> Self {
        RawPeer { stream, decoder: FrameDecoder::new(1 << 20) }
    }

    /// Connects to a host and shakes hands as node 1.
    pub(crate) async fn open(address: &str, lane: Lane) -> Self {
        let mut peer = RawPeer::new(TcpStream::connect(address).await.unwrap());
        peer.send(Kind::Hello, Role::Request, 0, hello(lane).encode()).await;
        assert_eq!(peer.next().await.unwrap().kind, Kind::Welcome);
        peer
    }

    /// Accepts a connection and shakes hands as node 2.
    pub(crate) async fn accept(listener: &TcpListener) -> Self {
        let mut peer = RawPeer::new(listener.accept().await.unwrap().0);
        let hello = Hello::decode(peer.next().await.unwrap().body).unwrap();
        let welcome = Welcome { version: hello.versions.max, features: hello.features, identity: node(2) };
        peer.send(Kind::Welcome, Role::Request, 0, welcome.encode()).await;
        peer
    }

    pub(crate) async fn send(&mut self, kind: Kind, role: Role, id: u64, body: Body) {
        let header = encode_frame(FrameHead { kind, role, id: RequestId(id) }, &body, 1 << 20).unwrap();
        self.stream.write_all(&[&header[..], &body.into_bytes()].concat()).await.unwrap();
    }

    /// The next frame, or `None` at the end of the connection.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some(frame);
            }
            let mut bytes = [0; 4096];
            let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut bytes)).await.expect("nothing came");
            match read {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.decoder.feed(&bytes[..read]),
            }
        }
    }
}
