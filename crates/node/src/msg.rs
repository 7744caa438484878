//! What the handle asks of `RaftCore`, and who waits for the answer.

use std::collections::BTreeSet;

use raftwright_core::{ReadPolicy, Refusal, Replica, Reply};
use raftwright_traits::{
    AppendEntriesRequest, AppendEntriesResponse, ChangeConditions, ChangeMembers, ChangeMembershipError,
    ClientWriteError, Config, ForwardToLeader, HeartbeatRequest, HeartbeatResponse, InitializeError,
    InstallSnapshotRequest, InstallSnapshotResponse, LinearizableReadError, LogIdOf, LogIndex, MembershipOf, Of,
    RaftTypeConfig, ReloadError, Snapshot, TransferLeaderError, TransferLeaderRequest, UnknownReason, VoteRequest,
    VoteResponse,
};
use tokio::sync::oneshot;

use crate::proposal::Proposal;
use crate::raft::TooManyObservers;
use crate::raft_core::Observer;
use crate::responder::WriteTx;

/// The answer to a client's write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientWriteResponse<C: RaftTypeConfig> {
    /// Where the entry stands in the log.
    pub log_id: LogIdOf<C>,
    /// What the state machine answered.
    pub data: C::R,
    /// The membership that the entry carries, if it carries one.
    pub membership: Option<MembershipOf<C>>,
}

/// Whoever waits for the answer; dropping it says that the node has stopped.
pub(crate) type Tx<V, E> = oneshot::Sender<Result<V, E>>;
pub(crate) type ReadTx<C> = Tx<Option<LogIdOf<C>>, LinearizableReadError<C>>;
pub(crate) type ReadLogIdTx<C> = Tx<LogIdOf<C>, LinearizableReadError<C>>;
pub(crate) type ChangeTx<C> = Tx<LogIdOf<C>, ChangeMembershipError<C>>;
pub(crate) type TransferTx<C> = Tx<(), TransferLeaderError<C>>;

/// A look at the replica, between two turns of `RaftCore`.
pub(crate) type Look<C> = Box<dyn FnOnce(&Replica<Of<C>>) + Send>;

/// Makes new settings of the present ones.
pub(crate) type Reconfigure = Box<dyn FnOnce(&Config) -> Config + Send>;

/// A call of the handle: a client's, or a peer's.
pub(crate) enum RaftMsg<C: RaftTypeConfig> {
    /// A candidate asks for a vote.
    Vote { request: VoteRequest<C>, tx: oneshot::Sender<VoteResponse<C>> },
    /// A leader shows that it lives.
    Heartbeat { request: HeartbeatRequest<C>, tx: oneshot::Sender<HeartbeatResponse<C>> },
    /// A leader sends entries.
    AppendEntries { request: AppendEntriesRequest<C>, tx: oneshot::Sender<AppendEntriesResponse<C>> },
    /// A leader has sent a snapshot.
    InstallSnapshot {
        request: InstallSnapshotRequest<C>,
        snapshot: Box<Snapshot<C>>,
        tx: oneshot::Sender<InstallSnapshotResponse<C>>,
    },
    /// A leader asks this server to take over.
    TransferRequest { request: TransferLeaderRequest<C> },
    /// A client asks for something to be applied.
    ClientWrite(Proposal<C>),
    /// A client asks for several things to be applied one after the other.
    ClientWriteMany(Vec<Proposal<C>>),
    /// A client wants to read here.
    Read { policy: ReadPolicy, tx: ReadTx<C> },
    /// Somebody wants to know how far a state machine must be to serve a read. Only a leader can say.
    ReadLogId { policy: ReadPolicy, tx: ReadLogIdTx<C> },
    /// Make this blank server the first of a cluster.
    Initialize { membership: MembershipOf<C>, tx: Tx<LogIdOf<C>, InitializeError<C>> },
    /// Add a learner.
    AddLearner { id: C::NodeId, node: C::Node, tx: ChangeTx<C> },
    /// Change the voters.
    ChangeMembership { voters: BTreeSet<C::NodeId>, retain: bool, tx: ChangeTx<C> },
    /// Change the membership in any way.
    ChangeMembers { change: ChangeMembers<C>, conditions: ChangeConditions<C>, tx: ChangeTx<C> },
    /// Give up the change that is under way.
    CancelChange { tx: ChangeTx<C> },
    /// Remove learners.
    RemoveLearners { ids: BTreeSet<C::NodeId>, tx: ChangeTx<C> },
    /// Hand the leadership over.
    TransferLeader { to: C::NodeId, tx: TransferTx<C> },
    /// Start an election.
    Elect,
    /// Send a heartbeat.
    Beat,
    /// Build a snapshot.
    BuildSnapshot,
    /// Delete the log up to here.
    Purge { upto: LogIndex },
    /// Look at the replica.
    Look(Look<C>),
    /// Tell these callbacks of leaderships.
    Observe { observer: Observer<C>, tx: Tx<(), TooManyObservers> },
    /// Go on with other settings.
    Configure { change: Reconfigure, tx: Tx<(), ReloadError> },
}

/// Who waits for a ticket.
pub(crate) enum Waiting<C: RaftTypeConfig> {
    Vote(oneshot::Sender<VoteResponse<C>>),
    Heartbeat(oneshot::Sender<HeartbeatResponse<C>>),
    Append(oneshot::Sender<AppendEntriesResponse<C>>),
    /// The content goes to the state machine if the replica wants it, and is dropped with the waiter if not.
    Install(oneshot::Sender<InstallSnapshotResponse<C>>, Option<Box<Snapshot<C>>>),
    Write(WriteTx<C>),
    Read(ReadTx<C>),
    ReadLogId(ReadLogIdTx<C>),
    Initialize(Tx<LogIdOf<C>, InitializeError<C>>),
    Change(ChangeTx<C>),
    Transfer(C::NodeId, TransferTx<C>),
}

/// What is left to do once a waiter has met its reply.
pub(crate) enum Met<C: RaftTypeConfig> {
    /// Nothing: it was answered.
    Answered,
    /// The write waits for its entry to be applied.
    Proposed(LogIdOf<C>, WriteTx<C>),
    /// The read waits for this entry to be applied.
    Read(LogIdOf<C>, ReadTx<C>),
    /// The transfer waits for the target to take over.
    Transferring(C::NodeId, TransferTx<C>),
    /// The reply is of a kind that this waiter did not ask for. The replica never does that.
    Mismatch,
}

impl<C: RaftTypeConfig> Waiting<C> {
    /// Brings a reply to its waiter. `nodes` says what is stored about the servers, to tell clients where to go.
    pub(crate) fn meet(self, reply: Reply<Of<C>>, nodes: &MembershipOf<C>) -> Met<C> {
        // A caller that has gone is not an error: its answer is dropped.
        match (self, reply) {
            (Waiting::Vote(tx), Reply::Vote(response)) => drop(tx.send(response)),
            (Waiting::Heartbeat(tx), Reply::Heartbeat(response)) => drop(tx.send(response)),
            (Waiting::Append(tx), Reply::Append(response)) => drop(tx.send(response)),
            (Waiting::Install(tx, _), Reply::InstallSnapshot(response)) => drop(tx.send(response)),
            (Waiting::Write(tx), Reply::Proposed(log_id)) => return Met::Proposed(log_id, tx),
            (Waiting::Read(tx), Reply::Read { read_log_id }) => return Met::Read(read_log_id, tx),
            (Waiting::ReadLogId(tx), Reply::Read { read_log_id }) => drop(tx.send(Ok(read_log_id))),
            (Waiting::Transfer(to, tx), Reply::Transferring) => return Met::Transferring(to, tx),
            (Waiting::Initialize(tx), Reply::Done { log_id }) => drop(tx.send(Ok(log_id))),
            (Waiting::Change(tx), Reply::Done { log_id }) => drop(tx.send(Ok(log_id))),
            (Waiting::Write(tx), Reply::Refused(refusal)) => tx.refuse(write_error(refusal, nodes)),
            (Waiting::Read(tx), Reply::Refused(refusal)) => drop(tx.send(Err(read_error(refusal, nodes)))),
            (Waiting::ReadLogId(tx), Reply::Refused(refusal)) => drop(tx.send(Err(read_error(refusal, nodes)))),
            (Waiting::Initialize(tx), Reply::Refused(refusal)) => drop(tx.send(Err(initialize_error(refusal)))),
            (Waiting::Change(tx), Reply::Refused(refusal)) => drop(tx.send(Err(change_error(refusal, nodes)))),
            (Waiting::Transfer(_, tx), Reply::Refused(refusal)) => drop(tx.send(Err(transfer_error(refusal, nodes)))),
            (
                Waiting::Vote(_)
                | Waiting::Heartbeat(_)
                | Waiting::Append(_)
                | Waiting::Install(..)
                | Waiting::Write(_)
                | Waiting::Read(_)
                | Waiting::ReadLogId(_)
                | Waiting::Initialize(_)
                | Waiting::Change(_)
                | Waiting::Transfer(..),
                _,
            ) => return Met::Mismatch,
        }
        Met::Answered
    }
}

pub(crate) fn forward_to<C: RaftTypeConfig>(leader: Option<C::NodeId>, nodes: &MembershipOf<C>) -> ForwardToLeader<C> {
    ForwardToLeader { leader_id: leader, leader_node: leader.and_then(|id| nodes.node(&id).cloned()) }
}

/// Refusals that the replica does not give to a write are told as the one among those it does that promises least.
fn write_error<C: RaftTypeConfig>(refusal: Refusal<Of<C>>, nodes: &MembershipOf<C>) -> ClientWriteError<C> {
    match refusal {
        Refusal::NotLeader { leader } => ClientWriteError::ForwardToLeader(forward_to(leader, nodes)),
        // A leader that hands over takes no proposals; the caller finds the next one soon.
        Refusal::Busy | Refusal::TransferInProgress => ClientWriteError::Busy,
        Refusal::Unknown
        | Refusal::AlreadyInitialized
        | Refusal::NotInMembership
        | Refusal::Membership(_)
        | Refusal::ChangeInProgress
        | Refusal::ConditionFailed
        | Refusal::NothingToCancel
        | Refusal::Cancelled
        | Refusal::NotApplicable(_) => ClientWriteError::Unknown(UnknownReason::LeadershipLost),
    }
}

fn read_error<C: RaftTypeConfig>(refusal: Refusal<Of<C>>, nodes: &MembershipOf<C>) -> LinearizableReadError<C> {
    match refusal {
        Refusal::NotLeader { leader } => LinearizableReadError::ForwardToLeader(forward_to(leader, nodes)),
        Refusal::Busy | Refusal::TransferInProgress => LinearizableReadError::Busy,
        Refusal::Unknown
        | Refusal::AlreadyInitialized
        | Refusal::NotInMembership
        | Refusal::Membership(_)
        | Refusal::ChangeInProgress
        | Refusal::ConditionFailed
        | Refusal::NothingToCancel
        | Refusal::Cancelled
        | Refusal::NotApplicable(_) => LinearizableReadError::NotConfirmed,
    }
}

fn initialize_error<C: RaftTypeConfig>(refusal: Refusal<Of<C>>) -> InitializeError<C> {
    match refusal {
        Refusal::NotInMembership => InitializeError::NotInMembership,
        Refusal::Membership(error) => InitializeError::Membership(error),
        Refusal::Busy => InitializeError::Busy,
        Refusal::AlreadyInitialized
        | Refusal::NotLeader { .. }
        | Refusal::Unknown
        | Refusal::ChangeInProgress
        | Refusal::ConditionFailed
        | Refusal::NothingToCancel
        | Refusal::Cancelled
        | Refusal::NotApplicable(_)
        | Refusal::TransferInProgress => InitializeError::AlreadyInitialized,
    }
}

fn change_error<C: RaftTypeConfig>(refusal: Refusal<Of<C>>, nodes: &MembershipOf<C>) -> ChangeMembershipError<C> {
    match refusal {
        Refusal::NotLeader { leader } => ChangeMembershipError::ForwardToLeader(forward_to(leader, nodes)),
        Refusal::ChangeInProgress | Refusal::TransferInProgress => ChangeMembershipError::InProgress,
        Refusal::Membership(error) => ChangeMembershipError::Membership(error),
        Refusal::NotApplicable(id) if nodes.is_voter(&id) => ChangeMembershipError::IsVoter(id),
        Refusal::NotApplicable(id) => ChangeMembershipError::NotApplicable(id),
        Refusal::ConditionFailed => ChangeMembershipError::ConditionFailed,
        Refusal::NothingToCancel => ChangeMembershipError::NothingToCancel,
        Refusal::Cancelled => ChangeMembershipError::Cancelled,
        Refusal::Busy => ChangeMembershipError::Busy,
        Refusal::Unknown | Refusal::AlreadyInitialized | Refusal::NotInMembership => {
            ChangeMembershipError::Unknown(UnknownReason::LeadershipLost)
        }
    }
}

fn transfer_error<C: RaftTypeConfig>(refusal: Refusal<Of<C>>, nodes: &MembershipOf<C>) -> TransferLeaderError<C> {
    match refusal {
        Refusal::NotLeader { leader } => TransferLeaderError::ForwardToLeader(forward_to(leader, nodes)),
        Refusal::NotApplicable(id) => TransferLeaderError::NotApplicable(id),
        Refusal::TransferInProgress | Refusal::ChangeInProgress | Refusal::Busy => TransferLeaderError::InProgress,
        Refusal::Unknown
        | Refusal::AlreadyInitialized
        | Refusal::NotInMembership
        | Refusal::ConditionFailed
        | Refusal::NothingToCancel
        | Refusal::Cancelled
        | Refusal::Membership(_) => TransferLeaderError::Deadline,
    }
}
