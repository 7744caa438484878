//! The handshake: a plain machine that a socket drives in production and a simulator in its world.
//!
//! The connecting side sends `Hello`, the accepting side answers `Welcome` or `Refuse`. Both sides judge the other: the
//! rules that every cluster needs stand here ([`judge`]); what only the node can know (its membership, its load) it says
//! through its [`Gate`]. A connecting side that does not like its host says `Refuse` too before it hangs up, so that both
//! logs name the reason.

use std::fmt;

use bytes::Bytes;

use crate::body::{Body, BodyReader, DecodeError};
use crate::error::{harmless, shortened};
use crate::frame::{Frame, Kind, Role};
use crate::identity::{ClusterId, Features, Lane, PeerIdentity, ProtocolVersion, VersionRange};

/// Longest text of a refusal that is sent or read, in bytes.
pub const REFUSAL_TEXT_LEN_MAX: usize = 512;

const HAS_CLUSTER: u8 = 1;
const HAS_NODE: u8 = 2;
const HAS_INCARNATION: u8 = 4;
const HAS_TARGET: u8 = 8;

/// The first frame of the side that connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// Versions it speaks.
    pub versions: VersionRange,
    /// Optional parts it can do.
    pub features: Features,
    /// What the connection is for.
    pub lane: Lane,
    /// Who it is.
    pub identity: PeerIdentity,
    /// Whom it means to reach, or `None` when any node will do. An address may have passed to another node meanwhile.
    pub target: Option<u64>,
}

/// The accepting side's consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Welcome {
    /// The version that this connection uses.
    pub version: ProtocolVersion,
    /// The optional parts that both sides can do.
    pub features: Features,
    /// Who the accepting side is.
    pub identity: PeerIdentity,
}

/// Why a side does not want the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalReason {
    /// The other side belongs to another cluster.
    WrongCluster,
    /// The connection reached another node than the one it was meant for.
    WrongTarget,
    /// The other side's data directory is not the one that the membership knows: its disk was emptied or copied.
    StaleIncarnation,
    /// No version is spoken by both sides.
    VersionMismatch,
    /// The other side is not a member, or says it is a client on a lane for nodes.
    NotAPeer,
    /// Too many connections, or too much work.
    Overloaded,
    /// The other side's frames broke the protocol.
    Malformed,
    /// A reason of a later version.
    Other(u8),
}

impl RefusalReason {
    const fn code(self) -> u8 {
        match self {
            RefusalReason::WrongCluster => 1,
            RefusalReason::WrongTarget => 2,
            RefusalReason::StaleIncarnation => 3,
            RefusalReason::VersionMismatch => 4,
            RefusalReason::NotAPeer => 5,
            RefusalReason::Overloaded => 6,
            RefusalReason::Malformed => 7,
            RefusalReason::Other(code) => code,
        }
    }

    const fn from_code(code: u8) -> Self {
        match code {
            1 => RefusalReason::WrongCluster,
            2 => RefusalReason::WrongTarget,
            3 => RefusalReason::StaleIncarnation,
            4 => RefusalReason::VersionMismatch,
            5 => RefusalReason::NotAPeer,
            6 => RefusalReason::Overloaded,
            7 => RefusalReason::Malformed,
            other => RefusalReason::Other(other),
        }
    }
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RefusalReason::WrongCluster => "wrong cluster",
            RefusalReason::WrongTarget => "wrong node",
            RefusalReason::StaleIncarnation => "stale incarnation",
            RefusalReason::VersionMismatch => "no common version",
            RefusalReason::NotAPeer => "not a peer",
            RefusalReason::Overloaded => "overloaded",
            RefusalReason::Malformed => "malformed frame",
            RefusalReason::Other(code) => return write!(f, "reason {code}"),
        })
    }
}

/// A refusal: a reason for programs and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {text}")]
pub struct Refusal {
    /// The reason.
    pub reason: RefusalReason,
    /// One sentence that names both identities where that helps. Control characters are shown escaped.
    pub text: String,
}

impl Refusal {
    /// A refusal. When it is sent, a text of more than [`REFUSAL_TEXT_LEN_MAX`] bytes keeps its beginning and its end, which is where the
    /// cause stands.
    pub fn new(reason: RefusalReason, text: impl Into<String>) -> Self {
        Refusal { reason, text: text.into() }
    }
}

/// The other end as it introduced itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerHello {
    /// Who it says it is.
    pub identity: PeerIdentity,
    /// What the connection is for.
    pub lane: Lane,
    /// Which end opened the connection.
    pub opened_by: OpenedBy,
    /// The version that the connection would use.
    pub version: ProtocolVersion,
    /// The optional parts that both ends can do.
    pub features: Features,
}

/// Which end opened a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenedBy {
    /// This node did.
    Us,
    /// The other end did.
    Peer,
}

/// The node's say in who may connect. Called for each handshake, on both sides, from the task of that connection; both
/// methods must be cheap and must not block.
pub trait Gate: Send + Sync + 'static {
    /// Who we are, now. The cluster may become known while the node runs.
    fn identity(&self) -> PeerIdentity;

    /// Judges a peer that the common rules ([`judge`]) have already let pass. Here belong: an incarnation other than the
    /// one in the membership, a node that is not a member, a node that is too busy.
    ///
    /// # Errors
    ///
    /// The refusal that is sent to the peer and logged.
    fn admit(&self, peer: &PeerHello) -> Result<(), Refusal>;
}

/// A gate that admits whoever passes the common rules: for clients, which know no membership, and for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenGate {
    /// Who this side is.
    pub identity: PeerIdentity,
}

impl Gate for OpenGate {
    fn identity(&self) -> PeerIdentity {
        self.identity
    }

    fn admit(&self, _peer: &PeerHello) -> Result<(), Refusal> {
        Ok(())
    }
}

/// An open connection as the handshake left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// The other end.
    pub peer: PeerIdentity,
    /// What the connection is for.
    pub lane: Lane,
    /// The version of its messages.
    pub version: ProtocolVersion,
    /// The optional parts in use.
    pub features: Features,
}

/// The rules that hold in every cluster: the clusters must agree where both are known, and a lane for peers is for nodes.
///
/// # Errors
///
/// The refusal to send.
pub fn judge(own: &PeerIdentity, peer: &PeerHello) -> Result<(), Refusal> {
    if let (Some(ours), Some(theirs)) = (own.cluster, peer.identity.cluster)
        && ours != theirs
    {
        let text = format!("this is {own}, the peer is {}", peer.identity);
        return Err(Refusal::new(RefusalReason::WrongCluster, text));
    }
    if peer.lane.is_for_peers() && peer.identity.node.is_none() {
        let text = format!("only nodes may use the lane {:?}", peer.lane);
        return Err(Refusal::new(RefusalReason::NotAPeer, text));
    }
    Ok(())
}

/// Why a handshake did not lead to a session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The other side refused us.
    #[error("refused by the peer: {0}")]
    RefusedByPeer(Refusal),
    /// We refused the other side, and have a frame to tell it so.
    #[error("refused the peer: {0}")]
    RefusedPeer(Refusal),
    /// A frame that has no place in a handshake.
    #[error("a {0:?} frame has no place in the handshake")]
    Unexpected(Kind),
    /// A frame of the handshake whose body cannot be read.
    #[error("malformed {0:?}: {1}")]
    Malformed(Kind, DecodeError),
}

impl HandshakeError {
    /// What to tell the other side before hanging up, if anything.
    pub fn refusal_to_send(&self) -> Option<Refusal> {
        match self {
            HandshakeError::RefusedByPeer(_) => None,
            HandshakeError::RefusedPeer(refusal) => Some(refusal.clone()),
            HandshakeError::Unexpected(_) | HandshakeError::Malformed(..) => {
                Some(Refusal::new(RefusalReason::Malformed, self.to_string()))
            }
        }
    }
}

/// The connecting side's handshake.
#[derive(Debug)]
pub struct DialHandshake {
    hello: Hello,
}

impl DialHandshake {
    /// A handshake for a connection just opened to `target` for `lane`.
    pub fn new(identity: PeerIdentity, lane: Lane, target: Option<u64>) -> Self {
        let (versions, features) = (VersionRange::CURRENT, Features::CURRENT);
        DialHandshake { hello: Hello { versions, features, lane, identity, target } }
    }

    /// As [`new`](Self::new), with everything chosen by the caller.
    pub fn with_hello(hello: Hello) -> Self {
        DialHandshake { hello }
    }

    /// The body of the `Hello` to send first.
    pub fn hello(&self) -> Body {
        self.hello.encode()
    }

    /// Takes the accepting side's frame.
    ///
    /// # Errors
    ///
    /// A [`HandshakeError`]; send its [`refusal_to_send`](HandshakeError::refusal_to_send) and close.
    pub fn on_frame(&self, frame: Frame, gate: &dyn Gate) -> Result<Session, HandshakeError> {
        match (frame.kind, frame.role) {
            (Kind::Welcome, Role::Request) => self.on_welcome(frame.body, gate),
            (Kind::Refuse, Role::Request) => Err(on_refuse(frame.body)),
            (kind, Role::Request | Role::Answer | Role::FailedAnswer) => Err(HandshakeError::Unexpected(kind)),
        }
    }

    fn on_welcome(&self, body: Bytes, gate: &dyn Gate) -> Result<Session, HandshakeError> {
        let welcome = Welcome::decode(body).map_err(|error| HandshakeError::Malformed(Kind::Welcome, error))?;
        let ours = self.hello.versions;
        if welcome.version < ours.min || welcome.version > ours.max {
            let text = format!("the host chose version {}, this side speaks {ours}", welcome.version);
            return Err(HandshakeError::RefusedPeer(Refusal::new(RefusalReason::VersionMismatch, text)));
        }
        let peer = PeerHello {
            identity: welcome.identity,
            lane: self.hello.lane,
            opened_by: OpenedBy::Us,
            version: welcome.version,
            features: welcome.features.common(self.hello.features),
        };
        // A client may use the client lane without an id; a host always has one, so one rule judges both.
        judge(&self.hello.identity, &peer).map_err(HandshakeError::RefusedPeer)?;
        if self.hello.target.is_some() && welcome.identity.node != self.hello.target {
            return Err(HandshakeError::RefusedPeer(wrong_target(self.hello.target, &welcome.identity)));
        }
        gate.admit(&peer).map_err(HandshakeError::RefusedPeer)?;
        Ok(Session { peer: peer.identity, lane: peer.lane, version: peer.version, features: peer.features })
    }
}

/// The accepting side's handshake. It has no state between frames: one `Hello` decides.
#[derive(Debug)]
pub struct AcceptHandshake {
    /// Versions that this side speaks.
    pub versions: VersionRange,
    /// Optional parts that this side can do.
    pub features: Features,
}

impl Default for AcceptHandshake {
    fn default() -> Self {
        AcceptHandshake { versions: VersionRange::CURRENT, features: Features::CURRENT }
    }
}

impl AcceptHandshake {
    /// Takes the connecting side's first frame; on success also the body of the `Welcome` to send.
    ///
    /// # Errors
    ///
    /// A [`HandshakeError`]; send its [`refusal_to_send`](HandshakeError::refusal_to_send) and close.
    pub fn on_frame(&self, frame: Frame, gate: &dyn Gate) -> Result<(Session, Body), HandshakeError> {
        match (frame.kind, frame.role) {
            (Kind::Hello, Role::Request) => self.on_hello(frame.body, gate),
            (Kind::Refuse, Role::Request) => Err(on_refuse(frame.body)),
            (kind, Role::Request | Role::Answer | Role::FailedAnswer) => Err(HandshakeError::Unexpected(kind)),
        }
    }

    fn on_hello(&self, body: Bytes, gate: &dyn Gate) -> Result<(Session, Body), HandshakeError> {
        let hello = Hello::decode(body).map_err(|error| HandshakeError::Malformed(Kind::Hello, error))?;
        let own = gate.identity();
        let Some(version) = self.versions.newest_common(hello.versions) else {
            let text = format!("the peer speaks versions {}, this side {}", hello.versions, self.versions);
            return Err(HandshakeError::RefusedPeer(Refusal::new(RefusalReason::VersionMismatch, text)));
        };
        let features = hello.features.common(self.features);
        let peer =
            PeerHello { identity: hello.identity, lane: hello.lane, opened_by: OpenedBy::Peer, version, features };
        judge(&own, &peer).map_err(HandshakeError::RefusedPeer)?;
        if hello.target.is_some() && hello.target != own.node {
            return Err(HandshakeError::RefusedPeer(wrong_target(hello.target, &own)));
        }
        gate.admit(&peer).map_err(HandshakeError::RefusedPeer)?;
        let welcome = Welcome { version, features, identity: own };
        Ok((Session { peer: hello.identity, lane: hello.lane, version, features }, welcome.encode()))
    }
}

fn wrong_target(wanted: Option<u64>, reached: &PeerIdentity) -> Refusal {
    let wanted = wanted.map_or_else(|| "any node".to_owned(), |node| format!("node {node}"));
    Refusal::new(RefusalReason::WrongTarget, format!("the connection was meant for {wanted} and reached {reached}"))
}

pub(crate) fn on_refuse(body: Bytes) -> HandshakeError {
    match Refusal::decode(body) {
        Ok(refusal) => HandshakeError::RefusedByPeer(refusal),
        Err(error) => HandshakeError::Malformed(Kind::Refuse, error),
    }
}

impl PeerIdentity {
    const fn presence(&self) -> u8 {
        (if self.cluster.is_some() { HAS_CLUSTER } else { 0 })
            | (if self.node.is_some() { HAS_NODE } else { 0 })
            | (if self.incarnation.is_some() { HAS_INCARNATION } else { 0 })
    }

    fn put(&self, body: &mut Body) {
        body.put_slice(&self.cluster.map_or([0; 16], |cluster| cluster.0));
        body.put_u64(self.node.unwrap_or(0));
        body.put_u64(self.incarnation.unwrap_or(0));
        body.put_u64(self.boot_epoch);
        body.put_u64(self.membership);
    }

    fn take(presence: u8, body: &mut BodyReader) -> Result<Self, DecodeError> {
        let cluster = ClusterId(body.bytes16("cluster id")?);
        let node = body.u64("node id")?;
        let incarnation = body.u64("incarnation")?;
        let boot_epoch = body.u64("boot epoch")?;
        let membership = body.u64("membership index")?;
        Ok(PeerIdentity {
            cluster: (presence & HAS_CLUSTER != 0).then_some(cluster),
            node: (presence & HAS_NODE != 0).then_some(node),
            incarnation: (presence & HAS_INCARNATION != 0).then_some(incarnation),
            boot_epoch,
            membership,
        })
    }
}

impl Hello {
    /// The body of the `Hello` frame.
    pub fn encode(&self) -> Body {
        let mut body = Body::with_capacity(64);
        body.put_u16(self.versions.min.0);
        body.put_u16(self.versions.max.0);
        body.put_u64(self.features.0);
        body.put_u8(self.lane.code());
        body.put_u8(self.identity.presence() | if self.target.is_some() { HAS_TARGET } else { 0 });
        self.identity.put(&mut body);
        body.put_u64(self.target.unwrap_or(0));
        body
    }

    /// Reads the body of a `Hello` frame. Bytes behind the known fields belong to later versions and are not looked at.
    ///
    /// # Errors
    ///
    /// A [`DecodeError`] that names the field.
    pub fn decode(body: Bytes) -> Result<Self, DecodeError> {
        let mut body = BodyReader::new(body);
        let (min, max) = (ProtocolVersion(body.u16("version")?), ProtocolVersion(body.u16("version")?));
        if min > max {
            return Err(DecodeError::Value("version range"));
        }
        let features = Features(body.u64("features")?);
        let lane = Lane::from_code(body.u8("lane")?).ok_or(DecodeError::Value("lane"))?;
        let presence = body.u8("presence bits")?;
        let identity = PeerIdentity::take(presence, &mut body)?;
        let target = body.u64("target")?;
        let target = (presence & HAS_TARGET != 0).then_some(target);
        Ok(Hello { versions: VersionRange { min, max }, features, lane, identity, target })
    }
}

impl Welcome {
    /// The body of the `Welcome` frame.
    pub fn encode(&self) -> Body {
        let mut body = Body::with_capacity(64);
        body.put_u16(self.version.0);
        body.put_u64(self.features.0);
        body.put_u8(self.identity.presence());
        self.identity.put(&mut body);
        body
    }

    /// Reads the body of a `Welcome` frame. Bytes behind the known fields are not looked at.
    ///
    /// # Errors
    ///
    /// A [`DecodeError`] that names the field.
    pub fn decode(body: Bytes) -> Result<Self, DecodeError> {
        let mut body = BodyReader::new(body);
        let version = ProtocolVersion(body.u16("version")?);
        let features = Features(body.u64("features")?);
        let presence = body.u8("presence bits")?;
        let identity = PeerIdentity::take(presence, &mut body)?;
        Ok(Welcome { version, features, identity })
    }
}

impl Refusal {
    /// The body of the `Refuse` frame.
    pub fn encode(&self) -> Body {
        let text = shortened(self.text.clone(), REFUSAL_TEXT_LEN_MAX);
        let mut body = Body::with_capacity(text.len() + 3);
        body.put_u8(self.reason.code());
        // The cast cannot cut anything off: REFUSAL_TEXT_LEN_MAX fits.
        body.put_u16(text.len() as u16);
        body.put_slice(text.as_bytes());
        body
    }

    /// Reads the body of a `Refuse` frame. The text is made harmless for a log: control characters come out escaped.
    ///
    /// # Errors
    ///
    /// A [`DecodeError`] that names the field.
    pub fn decode(body: Bytes) -> Result<Self, DecodeError> {
        let mut body = BodyReader::new(body);
        let reason = RefusalReason::from_code(body.u8("reason")?);
        let len = usize::from(body.u16("text length")?);
        let text = body.bytes(len.min(REFUSAL_TEXT_LEN_MAX), "text")?;
        Ok(Refusal { reason, text: harmless(&text) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_refusal_is_cut_when_it_is_sent_and_when_it_is_read() {
        // Two bytes each, and one before them: the cut would fall into the middle of a character.
        let text = format!("!{}?", "\u{e9}".repeat(REFUSAL_TEXT_LEN_MAX));
        let body = Refusal::new(RefusalReason::NotAPeer, &text).encode().into_bytes();
        assert_eq!(body.len(), 3 + REFUSAL_TEXT_LEN_MAX - 1, "reason, length, and whole characters");
        let read = Refusal::decode(body).unwrap().text;
        assert!(read.starts_with("!\u{e9}") && read.ends_with("\u{e9}?"), "what was refused, and why: {read}");
        let longest = "x".repeat(REFUSAL_TEXT_LEN_MAX);
        assert_eq!(Refusal::new(RefusalReason::NotAPeer, &longest).encode().len(), 3 + REFUSAL_TEXT_LEN_MAX);
        // Who keeps to no bound is read no further than it.
        let foreign = [&[1][..], &u16::MAX.to_le_bytes(), &vec![b'x'; usize::from(u16::MAX)]].concat();
        assert_eq!(Refusal::decode(foreign.into()).unwrap().text, longest);
    }
}
