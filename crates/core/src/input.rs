//! Everything that can happen to a [`Replica`](crate::Replica), as plain data.

use alloc::collections::BTreeSet;

use crate::{
    AppendEntriesRequest, ChangeConditions, ChangeMembers, HeartbeatRequest, HeartbeatResponse, Identity,
    InstallSnapshotRequest, LogIdOf, LogIndex, MembershipOf, ReplicaConfig, StreamId, Ticket, TransferLeaderRequest,
    Types, VoteOf, VoteRequest, VoteResponse, WriteId,
};

/// An event. Every input with a ticket is answered by exactly one [`Effect::Reply`](crate::Effect::Reply) with that
/// ticket, at once or later.
#[derive(Debug)]
pub enum Input<T: Types> {
    /// The deadline has come.
    Wake,

    /// A candidate asks for a vote.
    VoteRequest {
        /// Answered by [`Reply::Vote`](crate::Reply::Vote).
        ticket: Ticket,
        /// The request.
        request: VoteRequest<T>,
    },
    /// A leader shows that it lives.
    Heartbeat {
        /// Answered by [`Reply::Heartbeat`](crate::Reply::Heartbeat).
        ticket: Ticket,
        /// The request.
        request: HeartbeatRequest<T>,
    },
    /// A leader sends entries.
    AppendEntries {
        /// Answered by [`Reply::Append`](crate::Reply::Append).
        ticket: Ticket,
        /// The request.
        request: AppendEntriesRequest<T>,
    },
    /// A leader sends a snapshot, whose content is here already.
    InstallSnapshot {
        /// Answered by [`Reply::InstallSnapshot`](crate::Reply::InstallSnapshot), perhaps after an
        /// [`Effect::InstallSnapshot`](crate::Effect::InstallSnapshot). If the answer comes first, the content is not needed.
        ticket: Ticket,
        /// The snapshot's head.
        request: InstallSnapshotRequest<T>,
    },
    /// A leader asks this server to take over.
    TransferRequest {
        /// The request. It has no answer: the election is one.
        request: TransferLeaderRequest<T>,
    },
    /// A voter has answered.
    VoteResponse(VoteResponse<T>),
    /// A follower has answered a heartbeat.
    HeartbeatResponse(HeartbeatResponse<T>),

    /// A stream reports. Reports of a stream that this leadership did not open are dropped.
    Stream {
        /// The stream.
        stream: StreamId,
        /// What it has learned.
        report: Report<T>,
    },
    /// The log store has made this write durable. Completions may come in any order.
    LogDone {
        /// The write.
        write: WriteId,
    },

    /// Make this blank server the first of a cluster with that membership.
    Initialize {
        /// Answered by [`Reply::Done`](crate::Reply::Done) or a refusal.
        ticket: Ticket,
        /// The first membership: uniform.
        membership: MembershipOf<T>,
    },
    /// Append an entry. Its log id is set by the replica.
    Propose {
        /// Answered by [`Reply::Proposed`](crate::Reply::Proposed) or a refusal.
        ticket: Ticket,
        /// The entry.
        entry: T::Entry,
    },
    /// A read: how fresh must the state machine be that serves it?
    Read {
        /// Answered by [`Reply::Read`](crate::Reply::Read) or a refusal.
        ticket: Ticket,
        /// What must be known before it is served.
        policy: ReadPolicy,
    },
    /// Add a learner, or set what is stored about a member.
    AddLearner {
        /// Answered by [`Reply::Done`](crate::Reply::Done) when the new membership is committed, or a refusal.
        ticket: Ticket,
        /// The member.
        id: T::NodeId,
        /// What to store about it.
        node: T::Node,
    },
    /// Change the set of voters, through a joint membership (Raft §6).
    ChangeMembership {
        /// Answered by [`Reply::Done`](crate::Reply::Done) when the uniform new membership is committed, or a refusal.
        ticket: Ticket,
        /// The voters to be; each must be a member.
        voters: BTreeSet<T::NodeId>,
        /// Keep removed voters as learners.
        retain: bool,
    },
    /// Change the membership in any way.
    ChangeMembers {
        /// Answered by [`Reply::Done`](crate::Reply::Done) when the new membership is committed, uniform, or a refusal.
        ticket: Ticket,
        /// The change.
        change: ChangeMembers<T>,
        /// What it depends on.
        conditions: ChangeConditions<T>,
    },
    /// Give up the change of voters that is under way and cannot finish, and all promotions that wait.
    CancelChange {
        /// Answered by [`Reply::Done`](crate::Reply::Done) when the membership from before is committed, or a refusal.
        ticket: Ticket,
    },
    /// Remove learners.
    RemoveLearners {
        /// Answered by [`Reply::Done`](crate::Reply::Done) when the new membership is committed, or a refusal.
        ticket: Ticket,
        /// The members; none may be a voter.
        ids: BTreeSet<T::NodeId>,
    },
    /// Start an election now.
    Elect,
    /// Send a heartbeat now, if leading.
    Beat,
    /// Hand the leadership over (Thesis §3.10).
    TransferLeader {
        /// Answered by [`Reply::Transferring`](crate::Reply::Transferring) once the target was asked, or a refusal.
        ticket: Ticket,
        /// The voter that shall lead.
        to: T::NodeId,
    },
    /// The shell gives up on whatever this ticket waits for: its caller has gone. What waits for a quorum is dropped; an
    /// answer that is on its way already, or waits for the disk alone, may still come and must be ignored.
    Forget {
        /// The ticket.
        ticket: Ticket,
    },
    /// Build a snapshot now, unless one is being built or nothing was applied since the last.
    BuildSnapshot,
    /// A snapshot that [`Effect::BuildSnapshot`](crate::Effect::BuildSnapshot) asked for is durable.
    SnapshotBuilt {
        /// The last entry that is in it.
        last_log_id: LogIdOf<T>,
    },
    /// A snapshot that [`Effect::BuildSnapshot`](crate::Effect::BuildSnapshot) asked for could not be built.
    SnapshotFailed,
    /// The state machine has installed a snapshot, durably.
    SnapshotInstalled {
        /// Of the [`Effect::InstallSnapshot`](crate::Effect::InstallSnapshot).
        ticket: Ticket,
    },
    /// Delete the log up to here, or as far as it is in a snapshot.
    Purge {
        /// The last entry to delete.
        upto: LogIndex,
    },
    /// Work by these settings from now on. What was promised under the old ones stays promised, so timeouts that others
    /// rely on must not shrink while they do.
    Configure(ReplicaConfig),
}

/// What a leader must know before a read is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum ReadPolicy {
    /// Linearizable: a quorum has confirmed, in a round sent after the read came, that this server leads (Thesis §6.4).
    #[default]
    ReadIndex,
    /// Linearizable as long as clocks drift no more than
    /// [`clock_drift_max`](crate::ReplicaConfig::clock_drift_max): a quorum has promised not to vote for another yet
    /// (Thesis §6.4.1). Without a lease, as `ReadIndex`.
    Lease,
    /// At most so stale: a quorum has confirmed that this server leads in a round sent no longer ago than this. Otherwise, as
    /// `ReadIndex`.
    AckedWithin(crate::Span),
}

/// What a [`Stream`](crate::Stream) tells the replica. Knowledge only: guesses stay in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report<T: Types> {
    /// The target's log equals ours up to here, durably.
    Matched {
        /// Who said so.
        from: Identity<T::NodeId>,
        /// The last entry that is the same.
        matched: LogIdOf<T>,
    },
    /// What the target needs has been purged here: it gets a snapshot, if there is one.
    NeedsSnapshot,
    /// The target has promised itself to a newer leader or candidate.
    HigherVote {
        /// Who said so.
        from: Identity<T::NodeId>,
        /// Its vote.
        vote: VoteOf<T>,
    },
}
