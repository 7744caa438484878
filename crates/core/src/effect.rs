//! Everything that a [`Replica`](crate::Replica) wants done, as plain data. An effect may be executed the moment it is
//! emitted: what must wait for the disk has waited inside.

use alloc::vec::Vec;

use crate::{
    AppendEntriesResponse, HeartbeatResponse, InstallSnapshotResponse, LogIdOf, LogIndex, MembershipError, Message,
    StreamId, Ticket, Types, VoteOf, VoteResponse, WriteId,
};

/// Something to do.
#[derive(Debug)]
pub enum Effect<T: Types> {
    /// Submit a write to the log store, in the order of the effects, and make it readable at once. Report it with
    /// [`Input::LogDone`](crate::Input::LogDone) when it is durable.
    Write {
        /// Names the write.
        id: WriteId,
        /// What to write.
        op: Write<T>,
    },
    /// Send a message on the target's control lane. It may be lost.
    Send {
        /// The target.
        to: T::NodeId,
        /// The message.
        message: Message<T>,
    },
    /// Tell the open streams that the log or the commit index has grown.
    Tail(Tail<T>),
    /// Start replicating to a target: make a [`Stream`](crate::Stream) and run it.
    OpenStream {
        /// Names the stream in its reports.
        stream: StreamId,
        /// The target.
        target: T::NodeId,
        /// What the membership stores about it.
        node: T::Node,
        /// The leadership that the stream serves.
        vote: VoteOf<T>,
        /// The index that the first request tries: last log index + 1 at the time (Raft, Figure 2).
        next: LogIndex,
    },
    /// Stop replicating to a target.
    CloseStream {
        /// The stream.
        stream: StreamId,
    },
    /// Apply all entries up to this one that have not been applied.
    Apply {
        /// The commit index.
        upto: LogIdOf<T>,
    },
    /// Build a snapshot in a task of its own, once all entries up to this one have been applied, and keep it durably. Report
    /// it with [`Input::SnapshotBuilt`](crate::Input::SnapshotBuilt) or
    /// [`Input::SnapshotFailed`](crate::Input::SnapshotFailed). There is no other until then.
    BuildSnapshot {
        /// The last entry that was handed out to be applied.
        at: LogIdOf<T>,
    },
    /// Have the state machine replace its state by the snapshot that came with this ticket, in its turn between the
    /// [`Effect::Apply`]s, and report it with [`Input::SnapshotInstalled`](crate::Input::SnapshotInstalled) when it is
    /// durable. A state machine that has applied as much by then keeps its state, and that is reported the same way. An
    /// [`Effect::Apply`] of what the snapshot holds may follow; it is to be passed over.
    InstallSnapshot {
        /// Of the [`Input::InstallSnapshot`](crate::Input::InstallSnapshot).
        ticket: Ticket,
    },
    /// Answer a ticket. Each ticket is answered once.
    Reply {
        /// The ticket.
        ticket: Ticket,
        /// The answer.
        reply: Reply<T>,
    },
    /// A fact for the operator.
    Note(Note<T>),
}

/// A write to the log. All kinds are one ordered sequence.
#[derive(Debug)]
pub enum Write<T: Types> {
    /// Save the vote.
    Vote(VoteOf<T>),
    /// Append contiguous entries after the last one.
    Append(Vec<T::Entry>),
    /// Delete all entries from this index on.
    Truncate {
        /// The first index to go.
        since: LogIndex,
    },
    /// Delete all entries up to this one, included. If the log has another entry in its place, or ends before it, then all of
    /// the log goes, and it goes on behind this entry: a snapshot was installed.
    Purge {
        /// The last entry to go.
        upto: LogIdOf<T>,
    },
}

/// How far a leader's log goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail<T: Types> {
    /// The last entry.
    pub last: LogIdOf<T>,
    /// The commit index.
    pub committed: Option<LogIdOf<T>>,
}

/// The answer to a ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply<T: Types> {
    /// To a candidate.
    Vote(VoteResponse<T>),
    /// To a leader's heartbeat.
    Heartbeat(HeartbeatResponse<T>),
    /// To a leader's entries.
    Append(AppendEntriesResponse<T>),
    /// To a leader's snapshot.
    InstallSnapshot(InstallSnapshotResponse<T>),
    /// The proposal stands in the log under this log id. Whether it commits shows when an entry with its index is
    /// applied: the same log id means yes, another one means never.
    Proposed(LogIdOf<T>),
    /// The read may be served by a state machine that has applied at least up to here.
    Read {
        /// What must be applied first.
        read_log_id: LogIdOf<T>,
    },
    /// Initialized, or the membership is committed.
    Done {
        /// The entry that carries it.
        log_id: LogIdOf<T>,
    },
    /// The target was asked to take over.
    Transferring,
    /// Refused.
    Refused(Refusal<T>),
}

/// Why a local call is refused. All but [`Refusal::Unknown`] mean: surely nothing was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal<T: Types> {
    /// This server does not lead.
    NotLeader {
        /// Who does, as far as it knows.
        leader: Option<T::NodeId>,
    },
    /// A bound is reached; try again later.
    Busy,
    /// The leadership was lost while the call was under way: it may still take effect.
    Unknown,
    /// The server has a log or a vote already, so it belongs to a cluster.
    AlreadyInitialized,
    /// The first membership does not contain this server.
    NotInMembership,
    /// The membership is not possible.
    Membership(MembershipError<T::NodeId>),
    /// A membership change is under way, or this leadership has not committed an entry yet (Thesis §4.1, erratum).
    ChangeInProgress,
    /// The server to be removed is a voter, or the one to lead is none, or is this server.
    NotApplicable(T::NodeId),
    /// The leadership is being handed over.
    TransferInProgress,
    /// What the change depends on is not so.
    ConditionFailed,
    /// There is no change that could be cancelled (any more): none is under way, it is committed, or another leader began it.
    NothingToCancel,
    /// The change was cancelled, and the membership from before it is committed.
    Cancelled,
}

/// A fact for the operator: what happened, not what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note<T: Types> {
    /// An election starts.
    ElectionStarted {
        /// Whether it only asks.
        pre_vote: bool,
        /// The vote that is asked for.
        vote: VoteOf<T>,
    },
    /// This server leads.
    BecameLeader {
        /// Its vote.
        vote: VoteOf<T>,
    },
    /// This server leads no more.
    SteppedDown {
        /// Why.
        reason: StepDown,
    },
    /// This server follows another leader than before.
    FollowsLeader {
        /// The leader's vote.
        vote: VoteOf<T>,
    },
    /// Entries that conflicted with the leader's were deleted.
    Truncated {
        /// The first index that went.
        since: LogIndex,
    },
    /// A peer sent something that no correct peer sends; it was refused.
    BadPeer {
        /// Its id.
        from: T::NodeId,
        /// What was wrong.
        what: &'static str,
    },
    /// A message of a server that is not the incarnation that the membership names was dropped.
    Stranger {
        /// The id that it claims.
        from: T::NodeId,
    },
    /// A target needs what was purged here.
    TargetNeedsSnapshot {
        /// The target.
        target: T::NodeId,
    },
    /// A snapshot could not be built.
    SnapshotFailed {
        /// What it should have held at least.
        at: LogIdOf<T>,
    },
    /// A leader's snapshot was installed.
    SnapshotInstalled {
        /// The last entry that is in it.
        last_log_id: LogIdOf<T>,
    },
}

/// Why a leader stepped down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepDown {
    /// It saw a higher vote.
    HigherVote,
    /// It has not heard from a quorum for an election timeout.
    NoQuorum,
    /// Its disk has not completed a write for an election timeout.
    DiskStalled,
    /// Its removal from the voters is committed (Raft §6).
    Removed,
}
