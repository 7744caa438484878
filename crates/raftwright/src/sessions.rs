//! Client sessions: a command that is delivered twice is applied once (Raft §8, Thesis §6.3).
//!
//! The table is part of the replicated state: it changes with log entries alone and is in every snapshot, so that every
//! node comes to the same verdict about a command, also about which session had to go.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use raftwright_traits::LogIndex;
use serde::{Deserialize, Serialize};

/// Most sessions in the table. Past it, the one whose last use is the longest ago in the log goes.
pub const SESSIONS_MAX: usize = 4096;

/// How many sequence numbers a client may be ahead of the oldest one whose answer it has not seen. Of commands further
/// behind, nothing is known any more.
pub const SESSION_WINDOW: u64 = 1024;

/// Most bytes of answers that the table keeps, over all sessions. Past it, sessions go as above; the last one left
/// forgets its oldest answers instead.
pub const SESSION_BYTES_MAX: usize = 64 << 20;

/// What an answer costs besides its bytes.
const ANSWER_OVERHEAD: usize = 64;

/// Longest image of a table in a snapshot, in bytes: more than any table that keeps its bounds takes, for its answers and for
/// what is said of each answer and session. A longer one is refused before it is read.
pub(crate) const IMAGE_BYTES_MAX: u64 = (2 * SESSION_BYTES_MAX + 64 * SESSIONS_MAX) as u64;

/// Names a session, for ever: the index of the log entry that opened it, and a number that the client drew, so that a
/// cluster restored from an old copy cannot mistake one for another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub u128);

impl SessionId {
    fn new(opened_at: LogIndex, nonce: u64) -> Self {
        Self(u128::from(opened_at) << 64 | u128::from(nonce))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:016x}", self.0 >> 64, self.0 as u64)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What the table says about a command before it is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Never seen: apply it, and [`Sessions::remember`] the answer.
    New,
    /// Applied already, with this answer.
    Repeated(Bytes),
    /// So far behind the newest one, or given up by its own client, that nobody knows. It must not be applied.
    Forgotten,
    /// There is no such session, or no more. It must not be applied.
    Expired,
}

/// The answers of the last commands of each session. The sessions are shared with the copies that are made for snapshots, and
/// copied when they change under one; so a copy costs a reference count for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sessions {
    by_id: BTreeMap<SessionId, Arc<Session>>,
    /// The same sessions by the index of the entry that used them last: at most one for an index.
    by_use: BTreeMap<LogIndex, SessionId>,
    /// What all answers take together.
    bytes: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Session {
    used: LogIndex,
    /// Sequence numbers up to here are forgotten; those above have been applied exactly if `answers` holds them.
    floor: u64,
    answers: BTreeMap<u64, Bytes>,
}

impl Sessions {
    /// Opens a session: the entry at `index` asks for it.
    pub(crate) fn open(&mut self, index: LogIndex, nonce: u64) -> SessionId {
        let id = SessionId::new(index, nonce);
        self.by_id.insert(id, Arc::new(Session { used: index, floor: 0, answers: BTreeMap::new() }));
        self.by_use.insert(index, id);
        while self.by_id.len() > SESSIONS_MAX {
            self.evict_oldest();
        }
        id
    }

    /// Judges a command of the entry at `index`. Its client has, or does not want any more, the answers of all sequence
    /// numbers up to `settled`.
    pub(crate) fn judge(&mut self, index: LogIndex, id: SessionId, sequence: u64, settled: u64) -> Verdict {
        let Some(session) = self.by_id.get_mut(&id).map(Arc::make_mut) else { return Verdict::Expired };
        self.by_use.remove(&session.used);
        session.used = index;
        self.by_use.insert(index, id);
        // A command cannot settle itself or what comes behind it.
        self.bytes -= session.forget(settled.min(sequence.saturating_sub(1)));
        match session.answers.get(&sequence) {
            Some(answer) => Verdict::Repeated(answer.clone()),
            None if sequence <= session.floor => Verdict::Forgotten,
            None => Verdict::New,
        }
    }

    /// Keeps the answer of a command that was [`Verdict::New`].
    pub(crate) fn remember(&mut self, id: SessionId, sequence: u64, answer: Bytes) {
        let Some(session) = self.by_id.get_mut(&id).map(Arc::make_mut) else { return };
        self.bytes += cost(&answer);
        session.answers.insert(sequence, answer);
        self.bytes -= session.forget(sequence.saturating_sub(SESSION_WINDOW));
        while self.bytes > SESSION_BYTES_MAX && self.by_id.len() > 1 {
            self.evict_oldest();
        }
        if self.bytes > SESSION_BYTES_MAX {
            self.forget_oldest_answers(id);
        }
    }

    fn evict_oldest(&mut self) {
        let Some((_, id)) = self.by_use.pop_first() else { return };
        if let Some(session) = self.by_id.remove(&id) {
            self.bytes -= session.answers.values().map(cost).sum::<usize>();
        }
    }

    fn forget_oldest_answers(&mut self, id: SessionId) {
        let Some(session) = self.by_id.get_mut(&id).map(Arc::make_mut) else { return };
        while self.bytes > SESSION_BYTES_MAX {
            let Some((&oldest, _)) = session.answers.first_key_value() else { return };
            self.bytes -= session.forget(oldest);
        }
    }
}

impl Session {
    /// Forgets all up to `floor`. Returns the bytes that it frees.
    fn forget(&mut self, floor: u64) -> usize {
        let mut freed = 0;
        self.floor = self.floor.max(floor);
        while let Some(entry) = self.answers.first_entry() {
            if *entry.key() > self.floor {
                break;
            }
            freed += cost(&entry.remove());
        }
        freed
    }
}

fn cost(answer: &Bytes) -> usize {
    answer.len() + ANSWER_OVERHEAD
}

/// The table as it stands in a snapshot. Answers are borrowed from the snapshot's bytes when it is read.
#[derive(Serialize, Deserialize)]
pub(crate) struct SessionsImage<'a> {
    #[serde(borrow)]
    sessions: Vec<SessionImage<'a>>,
}

#[derive(Serialize, Deserialize)]
struct SessionImage<'a> {
    id: SessionId,
    used: LogIndex,
    floor: u64,
    #[serde(borrow)]
    answers: Vec<(u64, &'a [u8])>,
}

impl Sessions {
    /// For a snapshot.
    pub(crate) fn image(&self) -> SessionsImage<'_> {
        let sessions = self.by_id.iter().map(|(id, session)| SessionImage {
            id: *id,
            used: session.used,
            floor: session.floor,
            answers: session.answers.iter().map(|(sequence, answer)| (*sequence, &answer[..])).collect(),
        });
        SessionsImage { sessions: sessions.collect() }
    }

    /// From a snapshot; `None` if no table can look like that.
    pub(crate) fn from_image(image: SessionsImage<'_>) -> Option<Self> {
        let mut table = Self::default();
        for SessionImage { id, used, floor, answers } in image.sessions {
            let answers: BTreeMap<u64, Bytes> =
                answers.into_iter().map(|(sequence, answer)| (sequence, Bytes::copy_from_slice(answer))).collect();
            if answers.keys().next().is_some_and(|first| *first <= floor) {
                return None;
            }
            table.bytes += answers.values().map(cost).sum::<usize>();
            let twice = table.by_id.insert(id, Arc::new(Session { used, floor, answers })).is_some();
            if twice || table.by_use.insert(used, id).is_some() {
                return None;
            }
        }
        (table.by_id.len() <= SESSIONS_MAX && table.bytes <= SESSION_BYTES_MAX).then_some(table)
    }
}

#[cfg(test)]
mod tests;
