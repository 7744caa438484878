//! What can be wrong, in types.

use std::fmt::{self, Display, Formatter};
use std::ops::Bound;

use crate::{LogIdOf, LogIndex, RaftTypeConfig, StorageError, StorageErrorKind, Term, VoteOf};

/// What an error is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorSubject<C: RaftTypeConfig> {
    /// The store as a whole.
    Store,
    /// The vote.
    Vote,
    /// The log.
    Logs,
    /// One entry of the log.
    Log(LogIdOf<C>),
    /// An entry that is being applied.
    Apply(LogIdOf<C>),
    /// The state machine.
    StateMachine,
    /// A snapshot, by the last entry that is in it.
    Snapshot(Option<LogIdOf<C>>),
}

impl<C: RaftTypeConfig> Display for ErrorSubject<C> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            ErrorSubject::Store => f.write_str("the store"),
            ErrorSubject::Vote => f.write_str("the vote"),
            ErrorSubject::Logs => f.write_str("the log"),
            ErrorSubject::Log(id) => write!(f, "log entry {id}"),
            ErrorSubject::Apply(id) => write!(f, "the applying of entry {id}"),
            ErrorSubject::StateMachine => f.write_str("the state machine"),
            ErrorSubject::Snapshot(Some(id)) => write!(f, "the snapshot of entry {id}"),
            ErrorSubject::Snapshot(None) => f.write_str("the snapshot of the state before the first entry"),
        }
    }
}

/// What was being done when an error occurred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorVerb {
    /// Opening.
    Open,
    /// Looking for a place.
    Seek,
    /// Reading.
    Read,
    /// Writing, or making durable.
    Write,
    /// Deleting.
    Delete,
}

impl Display for ErrorVerb {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ErrorVerb::Open => "open",
            ErrorVerb::Seek => "seek in",
            ErrorVerb::Read => "read",
            ErrorVerb::Write => "write",
            ErrorVerb::Delete => "delete from",
        })
    }
}

/// An error of the media under a store, in a form that says what could not be done: "cannot write the log: disk on fire".
/// It becomes a [`StorageError`] of the fitting kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot {verb} {subject}: {source_text}")]
pub struct StorageIOError<C: RaftTypeConfig> {
    /// What it is about.
    pub subject: ErrorSubject<C>,
    /// What was being done.
    pub verb: ErrorVerb,
    /// What the media said.
    pub source_text: String,
}

impl<C: RaftTypeConfig> StorageIOError<C> {
    /// What was being done to what, and what the media said.
    pub fn new(subject: ErrorSubject<C>, verb: ErrorVerb, source: &dyn std::error::Error) -> Self {
        Self { subject, verb, source_text: source.to_string() }
    }
}

impl<C: RaftTypeConfig> From<StorageIOError<C>> for StorageError {
    fn from(error: StorageIOError<C>) -> Self {
        let kind = match (&error.subject, error.verb) {
            (ErrorSubject::Apply(_) | ErrorSubject::StateMachine, _) => StorageErrorKind::StateMachine,
            (
                ErrorSubject::Store
                | ErrorSubject::Vote
                | ErrorSubject::Logs
                | ErrorSubject::Log(_)
                | ErrorSubject::Snapshot(_),
                ErrorVerb::Open | ErrorVerb::Seek | ErrorVerb::Read,
            ) => StorageErrorKind::Read,
            (
                ErrorSubject::Store
                | ErrorSubject::Vote
                | ErrorSubject::Logs
                | ErrorSubject::Log(_)
                | ErrorSubject::Snapshot(_),
                ErrorVerb::Write | ErrorVerb::Delete,
            ) => StorageErrorKind::Write,
        };
        StorageError::new(kind, error.to_string())
    }
}

/// A rule that was broken, by the store or by whoever uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation<C: RaftTypeConfig> {
    /// A vote of an earlier term than the saved one.
    TermNotAscending {
        /// The term of the saved vote.
        curr: Term,
        /// The term of the new one.
        to: Term,
    },
    /// A vote that is below the saved one of the same term: an elected leader's vote taken back, say.
    VoteNotAscending {
        /// The saved vote.
        curr: VoteOf<C>,
        /// The new one.
        to: VoteOf<C>,
    },
    /// A vote for another server in the term of the saved one (Raft §5.2).
    NonIncrementalVote {
        /// The saved vote.
        curr: VoteOf<C>,
        /// The new one.
        to: VoteOf<C>,
    },
    /// Another vote is read than was saved.
    VoteChanged {
        /// The saved vote.
        saved: VoteOf<C>,
        /// What is read.
        read: Option<VoteOf<C>>,
    },
    /// An entry with a higher index has a lower log id than one before it: the log is of more than one history.
    DirtyLog {
        /// The one behind.
        higher_index_log_id: LogIdOf<C>,
        /// The one before.
        lower_index_log_id: LogIdOf<C>,
    },
    /// An entry that is in the log is not where it should be.
    LogIndexNotFound {
        /// The index that was looked for.
        want: LogIndex,
        /// The index of what was there instead.
        got: Option<LogIndex>,
    },
    /// An empty range, for a store that cannot allow it ([`Rules::HalfOpenRanges`](super::Rules::HalfOpenRanges)).
    RangeEmpty {
        /// Its start.
        start: LogIndex,
        /// Its end.
        end: LogIndex,
    },
    /// A range other than `a..b`, for a store that cannot allow it.
    RangeNotHalfOpen {
        /// Its start.
        start: Bound<LogIndex>,
        /// Its end.
        end: Bound<LogIndex>,
    },
    /// An append of nothing, for a store that cannot allow it.
    LogsEmpty,
    /// A read gives nothing where there are entries.
    StoreLogsEmpty {
        /// The first index that should be there.
        start: LogIndex,
        /// The index behind the last one that should.
        end: LogIndex,
    },
    /// Entries with a gap between them, or one of them twice.
    LogsNonConsecutive {
        /// The index before; `None` if the log is empty, and was never purged.
        prev: Option<LogIndex>,
        /// The entry that does not follow it.
        next: LogIdOf<C>,
    },
    /// Entries applied with a gap between them, or one of them twice.
    ApplyNonConsecutive {
        /// The last one that was applied.
        prev: Option<LogIdOf<C>>,
        /// The entry that does not follow it.
        next: LogIdOf<C>,
    },
    /// More or fewer answers than entries applied.
    AnswersUnequal {
        /// How many entries were applied.
        entries: usize,
        /// How many answers there are.
        answers: usize,
    },
    /// An applied entry is to be truncated. What is applied is committed, and no leader conflicts with it.
    AppliedWontConflict {
        /// The last entry that was applied.
        last_applied: LogIdOf<C>,
        /// From where on the log is to be truncated.
        first_conflict_index: LogIndex,
    },
    /// A committed entry is to be truncated (the Leader Completeness Property, Raft §5.4).
    CommittedWontConflict {
        /// The last entry that was noted as committed.
        committed: LogIdOf<C>,
        /// From where on the log is to be truncated.
        first_conflict_index: LogIndex,
    },
    /// A purged entry is to be truncated.
    PurgedWontConflict {
        /// The last entry that was purged.
        purged: LogIdOf<C>,
        /// From where on the log is to be truncated.
        first_conflict_index: LogIndex,
    },
    /// An entry that is not applied is to be purged: nothing would be left of it.
    PurgeNonApplied {
        /// The last entry that was applied.
        last_applied: Option<LogIdOf<C>>,
        /// Up to where the log is to be purged.
        purge_upto: LogIdOf<C>,
    },
    /// The state machine claims to have applied what it was not given.
    AppliedAhead {
        /// The last entry that it was given.
        last_applied: Option<LogIdOf<C>>,
        /// The last entry that it claims to have applied, or that its snapshot does.
        claims: LogIdOf<C>,
    },
    /// A snapshot that is older than the state that it is to replace.
    SnapshotBehind {
        /// The last entry that was applied.
        last_applied: LogIdOf<C>,
        /// The last entry in the snapshot.
        snapshot: Option<LogIdOf<C>>,
    },
}

fn shown<X: Display>(value: &Option<X>) -> String {
    value.as_ref().map_or_else(|| "nothing".to_owned(), X::to_string)
}

impl<C: RaftTypeConfig> Display for Violation<C> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Violation::TermNotAscending { curr, to } => write!(f, "term {to} does not follow term {curr}"),
            Violation::VoteNotAscending { curr, to } => write!(f, "vote {to} goes back behind {curr}"),
            Violation::NonIncrementalVote { curr, to } => write!(f, "vote {to} changes {curr} within its term"),
            Violation::VoteChanged { saved, read } => write!(f, "{saved} was saved, and {} is read", shown(read)),
            Violation::DirtyLog { higher_index_log_id, lower_index_log_id } => {
                write!(f, "{higher_index_log_id} follows {lower_index_log_id}: they are of different histories")
            }
            Violation::LogIndexNotFound { want, got } => {
                write!(f, "entry {want} should be there, and {} is", shown(got))
            }
            Violation::RangeEmpty { start, end } => write!(f, "the range {start}..{end} is empty"),
            Violation::RangeNotHalfOpen { start, end } => write!(f, "the range {start:?}, {end:?} is not half-open"),
            Violation::LogsEmpty => f.write_str("there is nothing to append"),
            Violation::StoreLogsEmpty { start, end } => {
                write!(f, "entries {start}..{end} should be there, and none is")
            }
            Violation::LogsNonConsecutive { prev, next } => write!(f, "{next} does not follow index {}", shown(prev)),
            Violation::ApplyNonConsecutive { prev, next } => {
                write!(f, "{next} is applied right after {}", shown(prev))
            }
            Violation::AnswersUnequal { entries, answers } => {
                write!(f, "{entries} entries were applied, and {answers} answered")
            }
            Violation::AppliedWontConflict { last_applied, first_conflict_index } => {
                write!(f, "index {first_conflict_index} is truncated, and {last_applied} is applied")
            }
            Violation::CommittedWontConflict { committed, first_conflict_index } => {
                write!(f, "index {first_conflict_index} is truncated, and {committed} is committed")
            }
            Violation::PurgedWontConflict { purged, first_conflict_index } => {
                write!(f, "index {first_conflict_index} is truncated, and {purged} is purged")
            }
            Violation::PurgeNonApplied { last_applied, purge_upto } => {
                write!(f, "{purge_upto} is purged, and {} is the last one applied", shown(last_applied))
            }
            Violation::AppliedAhead { last_applied, claims } => {
                write!(f, "{claims} is said to be applied, and {} is the last one", shown(last_applied))
            }
            Violation::SnapshotBehind { last_applied, snapshot } => {
                write!(f, "a snapshot of {} would take back what is applied up to {last_applied}", shown(snapshot))
            }
        }
    }
}

/// A rule was broken, and by what.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a rule of storage is broken, about {subject}: {violation}")]
pub struct DefensiveError<C: RaftTypeConfig> {
    /// What it is about.
    pub subject: ErrorSubject<C>,
    /// The rule.
    pub violation: Violation<C>,
}

impl<C: RaftTypeConfig> DefensiveError<C> {
    /// A violation by that subject.
    pub fn new(subject: ErrorSubject<C>, violation: Violation<C>) -> Self {
        Self { subject, violation }
    }
}

impl<C: RaftTypeConfig> From<DefensiveError<C>> for StorageError {
    fn from(error: DefensiveError<C>) -> Self {
        let kind = match &error.violation {
            Violation::LogIndexNotFound { .. } | Violation::StoreLogsEmpty { .. } | Violation::VoteChanged { .. } => {
                StorageErrorKind::Missing
            }
            Violation::ApplyNonConsecutive { .. }
            | Violation::AnswersUnequal { .. }
            | Violation::AppliedAhead { .. }
            | Violation::SnapshotBehind { .. } => StorageErrorKind::StateMachine,
            Violation::RangeEmpty { .. } | Violation::RangeNotHalfOpen { .. } => StorageErrorKind::Read,
            Violation::TermNotAscending { .. }
            | Violation::VoteNotAscending { .. }
            | Violation::NonIncrementalVote { .. }
            | Violation::DirtyLog { .. }
            | Violation::LogsEmpty
            | Violation::LogsNonConsecutive { .. }
            | Violation::AppliedWontConflict { .. }
            | Violation::CommittedWontConflict { .. }
            | Violation::PurgedWontConflict { .. }
            | Violation::PurgeNonApplied { .. } => StorageErrorKind::Write,
        };
        StorageError::new(kind, error.to_string())
    }
}
