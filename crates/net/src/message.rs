//! The messages of the core as bodies of frames, version 1. `docs/wire-format.md` draws them.
//!
//! Payloads of entries are slices of the frame on the way in and references to the entry's bytes on the way out.

use bytes::Bytes;
use raftwright_traits::{
    AppendEntriesRequest, AppendEntriesResponse, AppendOutcome, CommittedLeaderId, CommittedLeaderIdOf, EntryCodec,
    EntryKind, HeartbeatRequest, HeartbeatResponse, Identity, Incarnation, LeaderId, LogId, LogIdOf, PeerRefusal,
    RaftEntry, RaftTypeConfig, ReadIndexAnswer, ReadIndexRequest, ReadIndexResponse, ReadPolicy, Round,
    SnapshotContent, Span, TransferLeaderRequest, Vote, VoteKind, VoteOf, VoteRequest, VoteResponse, WireNodeId,
};

use crate::body::{Body, BodyReader, DecodeError};

/// Shortest encoding of an entry: kind, tag of the leader id, term, index, length of the payload.
const ENTRY_LEN_MIN: usize = 1 + 1 + 8 + 8 + 4;

/// Room set aside for an entry before its payload is seen; payloads of up to about a hundred bytes fit.
const ENTRY_ROOM: usize = 128;

/// Room set aside for a message without entries; a longer one takes more.
pub(crate) const FIXED_ROOM: usize = 160;

/// Types whose messages can travel in this format: ids that fit 64 bits, entries that say what their bytes are, snapshots
/// whose content can be read and written in pieces.
pub trait WireTypes:
    RaftTypeConfig<NodeId: WireNodeId, Entry: EntryCodec<Self>, SnapshotData: SnapshotContent>
{
}

impl<C> WireTypes for C where C: RaftTypeConfig<NodeId: WireNodeId, Entry: EntryCodec<C>, SnapshotData: SnapshotContent> {}

/// A message with an encoding of its own.
pub trait WireMessage: Sized {
    /// The body of its frame.
    fn encode(&self) -> Body;

    /// Reads the body of a frame.
    ///
    /// # Errors
    ///
    /// A [`DecodeError`] when the body is not such a message, to the last byte.
    fn decode(body: Bytes) -> Result<Self, DecodeError>;
}

fn put_node_id<I: WireNodeId>(body: &mut Body, id: I) {
    body.put_u64(id.to_u64());
}

fn take_node_id<I: WireNodeId>(body: &mut BodyReader) -> Result<I, DecodeError> {
    I::from_u64(body.u64("node id")?).ok_or(DecodeError::Value("node id"))
}

pub(crate) fn put_bool(body: &mut Body, value: bool) {
    body.put_u8(u8::from(value));
}

pub(crate) fn take_bool(body: &mut BodyReader, field: &'static str) -> Result<bool, DecodeError> {
    match body.u8(field)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::Value(field)),
    }
}

pub(crate) fn put_identity<I: WireNodeId>(body: &mut Body, identity: &Identity<I>) {
    put_node_id(body, identity.id);
    put_bool(body, identity.incarnation.is_some());
    if let Some(incarnation) = identity.incarnation {
        body.put_u64(incarnation.0);
    }
}

pub(crate) fn take_identity<I: WireNodeId>(body: &mut BodyReader) -> Result<Identity<I>, DecodeError> {
    let id = take_node_id(body)?;
    let incarnation = match take_bool(body, "presence of the incarnation")? {
        true => Some(Incarnation(body.u64("incarnation")?)),
        false => None,
    };
    Ok(Identity { id, incarnation })
}

pub(crate) fn put_vote<C: WireTypes>(body: &mut Body, vote: &VoteOf<C>) {
    put_bool(body, vote.committed);
    body.put_u64(vote.leader_id.term());
    put_node_id(body, vote.leader_id.node_id());
}

pub(crate) fn take_vote<C: WireTypes>(body: &mut BodyReader) -> Result<VoteOf<C>, DecodeError> {
    let committed = take_bool(body, "committed vote")?;
    let term = body.u64("term")?;
    Ok(Vote { leader_id: C::LeaderId::new(term, take_node_id(body)?), committed })
}

fn put_optional_vote<C: WireTypes>(body: &mut Body, vote: Option<&VoteOf<C>>) {
    put_bool(body, vote.is_some());
    if let Some(vote) = vote {
        put_vote::<C>(body, vote);
    }
}

fn take_optional_vote<C: WireTypes>(body: &mut BodyReader) -> Result<Option<VoteOf<C>>, DecodeError> {
    take_bool(body, "presence of the vote")?.then(|| take_vote::<C>(body)).transpose()
}

/// Tags of a log id: whether its leader id names the node depends on the kind of leader id.
const LOG_ID_NONE: u8 = 0;
const LOG_ID_OF_TERM: u8 = 1;
const LOG_ID_OF_TERM_AND_NODE: u8 = 2;

pub(crate) fn put_log_id<C: WireTypes>(body: &mut Body, log_id: &LogIdOf<C>) {
    let node = log_id.leader_id.node_id();
    body.put_u8(if node.is_some() { LOG_ID_OF_TERM_AND_NODE } else { LOG_ID_OF_TERM });
    body.put_u64(log_id.leader_id.term());
    if let Some(node) = node {
        put_node_id(body, node);
    }
    body.put_u64(log_id.index);
}

pub(crate) fn put_optional_log_id<C: WireTypes>(body: &mut Body, log_id: Option<&LogIdOf<C>>) {
    match log_id {
        Some(log_id) => put_log_id::<C>(body, log_id),
        None => body.put_u8(LOG_ID_NONE),
    }
}

pub(crate) fn take_optional_log_id<C: WireTypes>(body: &mut BodyReader) -> Result<Option<LogIdOf<C>>, DecodeError> {
    let tag = body.u8("log id")?;
    if tag == LOG_ID_NONE {
        return Ok(None);
    }
    let term = body.u64("term of a log id")?;
    let node = match tag {
        LOG_ID_OF_TERM => None,
        LOG_ID_OF_TERM_AND_NODE => Some(take_node_id(body)?),
        _ => return Err(DecodeError::Value("log id")),
    };
    let leader_id = CommittedLeaderIdOf::<C>::new(term, node);
    // A leader id of the other kind means that the two nodes were built with different types.
    if leader_id.node_id() != node {
        return Err(DecodeError::Value("kind of leader id"));
    }
    Ok(Some(LogId::new(leader_id, body.u64("log index")?)))
}

pub(crate) fn take_log_id<C: WireTypes>(body: &mut BodyReader) -> Result<LogIdOf<C>, DecodeError> {
    take_optional_log_id::<C>(body)?.ok_or(DecodeError::Value("log id"))
}

fn put_vote_kind(body: &mut Body, kind: VoteKind) {
    body.put_u8(match kind {
        VoteKind::PreVote => 0,
        VoteKind::Vote => 1,
        VoteKind::Transfer => 2,
    });
}

fn take_vote_kind(body: &mut BodyReader) -> Result<VoteKind, DecodeError> {
    match body.u8("kind of vote")? {
        0 => Ok(VoteKind::PreVote),
        1 => Ok(VoteKind::Vote),
        2 => Ok(VoteKind::Transfer),
        _ => Err(DecodeError::Value("kind of vote")),
    }
}

impl<C: WireTypes> WireMessage for VoteRequest<C> {
    fn encode(&self) -> Body {
        let mut body = Body::with_capacity(FIXED_ROOM);
        put_identity(&mut body, &self.from);
        put_vote_kind(&mut body, self.kind);
        put_vote::<C>(&mut body, &self.vote);
        put_optional_log_id::<C>(&mut body, self.last_log_id.as_ref());
        if self.kind == VoteKind::Transfer {
            put_optional_vote::<C>(&mut body, self.permit.as_ref());
        }
        body
    }

    fn decode(body: Bytes) -> Result<Self, DecodeError> {
        let mut body = BodyReader::new(body);
        let from = take_identity(&mut body)?;
        let kind = take_vote_kind(&mut body)?;
        let vote = take_vote::<C>(&mut body)?;
        let last_log_id = take_optional_log_id::<C>(&mut body)?;
        let permit = if kind == VoteKind::Transfer { take_optional_vote::<C>(&mut body)? } else { None };
        body.finish()?;
        Ok(VoteRequest::<C> { from, vote, last_log_id, kind, permit })
    }
}

impl<C: WireTypes> WireMessage for VoteResponse<C> {
    fn encode(&self) -> Body {
        let mut body = Body::with_capacity(FIXED_ROOM);
        put_identity(&mut body, &self.from);
        put_vote_kind(&mut body, self.kind);
        put_vote::<C>(&mut body, &self.asked);
        put_bool(&mut body, self.granted);
        put_optional_vote::<C>(&mut body, self.vote.as_ref());
        body
    }

    fn decode(body: Bytes) -> Result<Self, DecodeError> {
        let mut body = BodyReader::new(body);
        let from = take_identity(&mut body)?;
        let kind = take_vote_kind(&mut body)?;
        let asked = take_vote::<C>(&mut body)?;
        let granted = take_bool(&mut body, "granted")?;
        let vote = take_optional_vote::<C>(&mut body)?;
        body.finish()?;
        Ok(VoteResponse::<C> { from, kind, asked, granted, vote })
    }
}

impl<C: WireTypes> WireMessage for HeartbeatRequest<C> {
    fn encode(&self) -> Body {
        let mut body = Body::with_capacity(FIXED_ROOM);
        put_identity(&mut body, &self.from);
        put_vote::<C>(&mut body, &self.vote);
        body.put_u64(self.round.0);
        put_optional_log_id::<C>(&mut body, self.committed.as_ref());
        body
    }

    fn decode(body: Bytes) -> Result<Self, DecodeError> {
        let mut body = BodyReader::new(body);
        let from = take_identity(&mut body)?;
        let vote = take_vote::<C>(&mut body)?;
        let round = Round(body.u64("round")?);
        let committed = take_optional_log_id::<C>(&mut body)?;
        body.finish()?;
        Ok(HeartbeatRequest::<C> { from, vote, round, committed })
    }
}

impl<C: WireTypes> WireMessage for HeartbeatResponse<C> {
    fn encode(&self) -> Body {
        let mut body = Body::with_capacity(FIXED_ROOM);
        put_identity(&mut body, &self.from);
        body.put_u64(self.round.0);
        put_vote::<C>(&mut body, &self.asked);
        put_bool(&mut body, self.accepted);
        put_optional_vote::<C>(&mut body, self.vote.as_ref());
        body
    }

    fn decode(body: Bytes) -> Result<Self, DecodeError> {
        let mut body = BodyReader::new(body);
        let from = take_identity(&mut body)?;
        let round = Round(body.u64("round")?);
        let asked = take_vote::<C>(&mut body)?;
        let accepted = take_bool(&mut body, "accepted")?;
        let vote = take_optional_vote::<C>(&mut body)?;
        body.finish()?;
        Ok(HeartbeatResponse::<C> { from, round, asked, accepted, vote })
    }
}

impl<C: WireTypes> WireMessage for TransferLeaderRequest<C> {
    fn encode(&self) -> Body {
        let mut body = Body::with_capacity(FIXED_ROOM);
        put_identity(&mut body, &self.from);
        put_vote::<C>(&mut body, &self.vote);
        put_node_id(&mut body, self.to);
        put_optional_log_id::<C>(&mut body, self.last_log_id.as_ref());
        body
    }

    fn decode(body: Bytes) -> Result<Self, DecodeError> {
        let mut body = BodyReader::new(body);
        let from = take_identity(&mut body)?;
        let vote = take_vote::<C>(&mut body)?;
        let to = take_node_id(&mut body)?;
        let last_log_id = take_optional_log_id::<C>(&mut body)?;
        body.finish()?;
        Ok(TransferLeaderRequest::<C> { from, vote, to, last_log_id })
    }
}

impl<C: WireTypes> WireMessage for ReadIndexRequest<C> {
    fn encode(&self) -> Body {
        let mut body = Body::with_capacity(FIXED_ROOM);
        put_identity(&mut body, &self.from);
        match self.policy {
            ReadPolicy::ReadIndex => body.put_u8(0),
            ReadPolicy::Lease => body.put_u8(1),
            ReadPolicy::AckedWithin(span) => {
                body.put_u8(2);
                body.put_u64(span.as_nanos());
            }
        }
        body
    }

    fn decode(body: Bytes) -> Result<Self, DecodeError> {
        let mut body = BodyReader::new(body);
        let from = take_identity(&mut body)?;
        let policy = match body.u8("way to read")? {
            0 => ReadPolicy::ReadIndex,
            1 => ReadPolicy::Lease,
            2 => ReadPolicy::AckedWithin(Span::from_nanos(body.u64("age")?)),
            _ => return Err(DecodeError::Value("way to read")),
        };
        body.finish()?;
        Ok(ReadIndexRequest::<C> { from, policy })
    }
}

const READ_CONFIRMED: u8 = 0;
const READ_NOT_LEADER: u8 = 1;
const READ_BUSY: u8 = 2;
const READ_NOT_CONFIRMED: u8 = 3;

impl<C: WireTypes> WireMessage for ReadIndexResponse<C> {
    fn encode(&self) -> Body {
        let mut body = Body::with_capacity(FIXED_ROOM);
        put_identity(&mut body, &self.from);
        match &self.answer {
            ReadIndexAnswer::<C>::Confirmed { read_log_id } => {
                body.put_u8(READ_CONFIRMED);
                put_log_id::<C>(&mut body, read_log_id);
            }
            ReadIndexAnswer::<C>::NotLeader { leader } => {
                body.put_u8(READ_NOT_LEADER);
                put_bool(&mut body, leader.is_some());
                if let Some(leader) = leader {
                    put_node_id(&mut body, *leader);
                }
            }
            ReadIndexAnswer::<C>::Busy => body.put_u8(READ_BUSY),
            ReadIndexAnswer::<C>::NotConfirmed => body.put_u8(READ_NOT_CONFIRMED),
        }
        body
    }

    fn decode(body: Bytes) -> Result<Self, DecodeError> {
        let mut body = BodyReader::new(body);
        let from = take_identity(&mut body)?;
        let answer = match body.u8("answer")? {
            READ_CONFIRMED => ReadIndexAnswer::<C>::Confirmed { read_log_id: take_log_id::<C>(&mut body)? },
            READ_NOT_LEADER => {
                let known = take_bool(&mut body, "presence of the leader")?;
                let leader = if known { Some(take_node_id(&mut body)?) } else { None };
                ReadIndexAnswer::<C>::NotLeader { leader }
            }
            READ_BUSY => ReadIndexAnswer::<C>::Busy,
            READ_NOT_CONFIRMED => ReadIndexAnswer::<C>::NotConfirmed,
            _ => return Err(DecodeError::Value("answer")),
        };
        body.finish()?;
        Ok(ReadIndexResponse::<C> { from, answer })
    }
}

impl<C: WireTypes> WireMessage for AppendEntriesRequest<C> {
    fn encode(&self) -> Body {
        let mut body = Body::with_capacity(FIXED_ROOM + self.entries.len().saturating_mul(ENTRY_ROOM));
        put_identity(&mut body, &self.from);
        put_vote::<C>(&mut body, &self.vote);
        put_optional_log_id::<C>(&mut body, self.prev_log_id.as_ref());
        put_optional_log_id::<C>(&mut body, self.committed.as_ref());
        // A count or length beyond 32 bits makes the body longer than any limit, so saturating cannot send a wrong message.
        body.put_u32(u32::try_from(self.entries.len()).unwrap_or(u32::MAX));
        for entry in &self.entries {
            let payload = entry.payload_bytes();
            body.put_u8(entry.kind() as u8);
            put_log_id::<C>(&mut body, &entry.log_id());
            body.put_u32(u32::try_from(payload.len()).unwrap_or(u32::MAX));
            body.put_bytes(payload);
        }
        body
    }

    fn decode(body: Bytes) -> Result<Self, DecodeError> {
        let mut body = BodyReader::new(body);
        let from = take_identity(&mut body)?;
        let vote = take_vote::<C>(&mut body)?;
        let prev_log_id = take_optional_log_id::<C>(&mut body)?;
        let committed = take_optional_log_id::<C>(&mut body)?;
        let count = body.count(ENTRY_LEN_MIN, "number of entries")?;
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            entries.push(take_entry::<C>(&mut body)?);
        }
        body.finish()?;
        Ok(AppendEntriesRequest::<C> { from, vote, prev_log_id, entries, committed })
    }
}

fn take_entry<C: WireTypes>(body: &mut BodyReader) -> Result<C::Entry, DecodeError> {
    let kind = EntryKind::from_u8(body.u8("kind of entry")?).ok_or(DecodeError::Value("kind of entry"))?;
    let log_id = take_log_id::<C>(body)?;
    let payload = body.bytes_u32("payload")?;
    C::Entry::decode(log_id, kind, payload).map_err(|error| DecodeError::Value(error.what))
}

pub(crate) fn put_refusal(body: &mut Body, reason: PeerRefusal) {
    body.put_u8(match reason {
        PeerRefusal::Busy => 0,
        PeerRefusal::Malformed => 1,
    });
}

pub(crate) fn take_refusal(body: &mut BodyReader) -> Result<PeerRefusal, DecodeError> {
    match body.u8("refusal")? {
        0 => Ok(PeerRefusal::Busy),
        1 => Ok(PeerRefusal::Malformed),
        _ => Err(DecodeError::Value("refusal")),
    }
}

const APPEND_SUCCESS: u8 = 0;
const APPEND_CONFLICT: u8 = 1;
const APPEND_HIGHER_VOTE: u8 = 2;
const APPEND_REFUSED: u8 = 3;

impl<C: WireTypes> WireMessage for AppendEntriesResponse<C> {
    fn encode(&self) -> Body {
        let mut body = Body::with_capacity(FIXED_ROOM);
        put_identity(&mut body, &self.from);
        match &self.outcome {
            AppendOutcome::<C>::Success { matched } => {
                body.put_u8(APPEND_SUCCESS);
                put_optional_log_id::<C>(&mut body, matched.as_ref());
            }
            AppendOutcome::<C>::Conflict { prev, hint } => {
                body.put_u8(APPEND_CONFLICT);
                put_log_id::<C>(&mut body, prev);
                put_optional_log_id::<C>(&mut body, hint.as_ref());
            }
            AppendOutcome::<C>::HigherVote(vote) => {
                body.put_u8(APPEND_HIGHER_VOTE);
                put_vote::<C>(&mut body, vote);
            }
            AppendOutcome::<C>::Refused(reason) => {
                body.put_u8(APPEND_REFUSED);
                put_refusal(&mut body, *reason);
            }
        }
        body
    }

    fn decode(body: Bytes) -> Result<Self, DecodeError> {
        let mut body = BodyReader::new(body);
        let from = take_identity(&mut body)?;
        let outcome = match body.u8("outcome")? {
            APPEND_SUCCESS => AppendOutcome::<C>::Success { matched: take_optional_log_id::<C>(&mut body)? },
            APPEND_CONFLICT => {
                let prev = take_log_id::<C>(&mut body)?;
                AppendOutcome::<C>::Conflict { prev, hint: take_optional_log_id::<C>(&mut body)? }
            }
            APPEND_HIGHER_VOTE => AppendOutcome::<C>::HigherVote(take_vote::<C>(&mut body)?),
            APPEND_REFUSED => AppendOutcome::<C>::Refused(take_refusal(&mut body)?),
            _ => return Err(DecodeError::Value("outcome")),
        };
        body.finish()?;
        Ok(AppendEntriesResponse::<C> { from, outcome })
    }
}

impl WireMessage for () {
    fn encode(&self) -> Body {
        Body::new()
    }

    fn decode(body: Bytes) -> Result<Self, DecodeError> {
        BodyReader::new(body).finish()
    }
}
