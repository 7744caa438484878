//! The transport of raftwright: framed TCP, lanes, handshake, reconnect.
//!
//! From the bottom up: a [`Frame`] is the unit on the wire (`docs/wire-format.md`); a handshake ([`Hello`], [`Welcome`],
//! [`Refusal`]) makes a [`Session`] if both sides' [`Gate`]s agree; each [`Lane`] is a connection of its own. The asking
//! side holds a [`Link`] (owned by one task, no task in between) or a [`Channel`] (shared); the answering side is a
//! [`Listener`] with a [`Handler`].
//!
//! Nothing here knows what a Raft message means until the last layer, which encodes the messages of `raftwright-core`.

mod backoff;
mod body;
mod channel;
mod client_conn;
mod dialer;
mod error;
mod frame;
mod frame_io;
mod handshake;
mod identity;
pub mod limits;
mod link;
mod listener;
mod message;
mod network;
mod parked;
mod receive_snapshot;
mod send_snapshot;
mod serve;
mod service;
mod slots;
mod transfer_message;
mod warnings;

pub use backoff::Backoff;
pub use body::{Body, BodyReader, COPY_BELOW, DecodeError};
pub use channel::Channel;
pub use dialer::{Dialer, Target};
pub use error::{CallError, DialError, FAULT_TEXT_LEN_MAX, Fault, FaultCode};
pub use frame::{
    BODY_LEN_MAX, FRAME_VERSION, Frame, FrameDecoder, FrameError, FrameHead, HANDSHAKE_BODY_LEN_MAX, HEADER_LEN, Kind,
    MAGIC, RequestId, Role, encode_frame,
};
pub use frame_io::{FrameIo, LinkError};
pub use handshake::{
    AcceptHandshake, DialHandshake, Gate, HandshakeError, Hello, OpenGate, OpenedBy, PeerHello, REFUSAL_TEXT_LEN_MAX,
    Refusal, RefusalReason, Session, Welcome, judge,
};
pub use identity::{ClusterId, Features, Lane, PeerIdentity, ProtocolVersion, VersionRange};
pub use limits::Limits;
pub use link::Link;
pub use listener::{Counters, Listener, ServerHandle};
pub use message::{WireMessage, WireTypes};
pub use network::{PeerAddress, TcpNetwork, TcpNetworkFactory};
pub use serve::Handler;
pub use service::{RaftHandler, RaftService};
