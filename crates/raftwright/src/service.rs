//! What a server does with the requests of its peers and clients.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use raftwright_net::{Fault, FaultCode, RaftService, Session};
use raftwright_node::{Raft, WaitError};
use raftwright_traits::{
    AppendEntriesRequest, AppendEntriesResponse, BasicNode, ChangeConditions, ChangeMembers, ChangeMembershipError,
    ClientWriteError, Fatal, ForwardToLeader, HeartbeatRequest, HeartbeatResponse, InstallSnapshotRequest,
    InstallSnapshotResponse, LinearizableReadError, LogIdOf, LogIdOption, LogIndex, Node, RaftError, ReadIndexRequest,
    ReadIndexResponse, ReadPolicy, Snapshot, Span, TransferLeaderError, TransferLeaderRequest, UnknownReason,
    VoteRequest, VoteResponse,
};
use tokio::time::timeout;

use crate::cluster_id::ClusterId;
use crate::easy_config::{EasyConfig, EasySnapshot};
use crate::gate::NodeGate;
use crate::protocol::{AdminRequest, Leader, Member, Members, NodeStatus, Op, Request, RequestError, encode_answer};
use crate::replicated::Replicated;
use crate::state_machine::{StateMachine, decode_exactly};

/// Longest command with its envelope, in bytes. A longer one is refused; split it.
pub const COMMAND_BYTES_MAX: usize = 16 << 20;

/// Longest address of a member, in bytes: the longest DNS name, a colon and a port. A longer one is refused: every address
/// stands in every membership entry, and each entry has to fit into a frame.
pub const MEMBER_ADDR_BYTES_MAX: usize = 253 + 1 + 5;

/// Longest time that a client's request is worked on, whatever the client says. Clients ask again well before it.
pub const REQUEST_WAIT_MAX: Duration = Duration::from_secs(60);

/// How long a snapshot that was asked for may take before it is asked for again: an older one may have been on its way.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(2);

/// How often it is asked for.
const SNAPSHOT_TRIES: u32 = 30;

/// The node behind a server: shared by its listener, its clients and its handle.
pub(crate) struct Service<SM> {
    id: u64,
    incarnation: u64,
    boot_epoch: u64,
    raft: Raft<EasyConfig>,
    gate: Arc<NodeGate>,
    machine: PhantomData<fn() -> SM>,
}

impl<SM: StateMachine> Service<SM> {
    pub(crate) fn new(identity: raftwright_wal::Identity, raft: Raft<EasyConfig>, gate: Arc<NodeGate>) -> Self {
        let raftwright_wal::Identity { cluster_id: _, node_id: id, incarnation, boot_epoch } = identity;
        Self { id, incarnation, boot_epoch, raft, gate, machine: PhantomData }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn incarnation(&self) -> u64 {
        self.incarnation
    }

    pub(crate) fn raft(&self) -> &Raft<EasyConfig> {
        &self.raft
    }

    pub(crate) fn cluster_id(&self) -> Option<ClusterId> {
        self.gate.cluster_id()
    }

    /// Does what a client asks, within the time that the client will wait.
    pub(crate) async fn call(&self, request: Request) -> Result<Bytes, RequestError> {
        let Request { op, wait, payload } = request;
        // A client that says it will wait for days holds a place for no longer than this.
        let wait = wait.min(REQUEST_WAIT_MAX);
        match op {
            // The deadline of a write is kept inside, where it is known what has become of it.
            Op::Write => self.write(payload, wait.into()).await,
            Op::Read => timeout(wait, self.read_bytes(&payload)).await.unwrap_or(Err(RequestError::NotConfirmed)),
            Op::StaleRead => timeout(wait, self.stale_bytes(&payload)).await.unwrap_or(Err(RequestError::Busy)),
            Op::Members => encode(&self.members()),
            Op::Status => encode(&self.status()),
            Op::Admin => {
                let late = RequestError::Unknown(UnknownReason::Deadline);
                timeout(wait, self.admin(&payload)).await.unwrap_or(Err(late))
            }
        }
    }

    /// Appends an entry of these bytes and returns what applying it came to.
    pub(crate) async fn write(&self, envelope: Bytes, wait: Span) -> Result<Bytes, RequestError> {
        check_command(envelope.len())?;
        let written = self.raft.client_write_with_deadline(envelope, wait).await;
        written.map(|response| response.data).map_err(|error| match error {
            RaftError::APIError(error) => write_error(error),
            RaftError::Fatal(fatal) => stopped(&fatal),
        })
    }

    async fn read_bytes(&self, query: &Bytes) -> Result<Bytes, RequestError> {
        let query = decode_query::<SM>(query)?;
        encode(&self.read(query).await?)
    }

    async fn stale_bytes(&self, query: &Bytes) -> Result<Bytes, RequestError> {
        let query = decode_query::<SM>(query)?;
        encode(&self.stale(query).await?)
    }

    /// A linearizable read (read-index, Thesis §6.4).
    pub(crate) async fn read(&self, query: SM::Query) -> Result<SM::Answer, RequestError> {
        self.raft.ensure_linearizable(ReadPolicy::ReadIndex).await.map_err(|error| match error {
            RaftError::APIError(error) => read_error(error),
            RaftError::Fatal(fatal) => stopped(&fatal),
        })?;
        self.stale(query).await
    }

    /// Asks the state machine as it is.
    pub(crate) async fn stale(&self, query: SM::Query) -> Result<SM::Answer, RequestError> {
        let look = move |state: &mut Replicated<SM>| state.machine().query(query);
        self.raft.with_state_machine(look).await.map_err(|fatal| stopped(&fatal))
    }

    async fn admin(&self, request: &[u8]) -> Result<Bytes, RequestError> {
        let malformed = |error: postcard::Error| RequestError::Malformed(error.to_string());
        let changed = match decode_exactly(request).map_err(malformed)? {
            AdminRequest::AddLearner { id, addr } => {
                check_addr(&addr).map_err(RequestError::Refused)?;
                self.raft.add_learner(id, BasicNode::new(addr), false).await
            }
            AdminRequest::ChangeMembership { voters, retain } => self.raft.change_membership(voters, retain).await,
            AdminRequest::RemoveLearners { ids } => self.raft.remove_learners(ids).await,
            AdminRequest::AddVoters { ids } => self.change(ChangeMembers::AddVoters(ids)).await,
            AdminRequest::RemoveVoters { ids, retain } => {
                self.change(ChangeMembers::RemoveVoters { voters: ids, retain }).await
            }
            AdminRequest::TransferLeader { to } => return self.transfer_leader(to).await,
        };
        let log_id = changed.map_err(|error| match error {
            RaftError::APIError(error) => change_error(error),
            RaftError::Fatal(fatal) => stopped(&fatal),
        })?;
        encode(&log_id.index)
    }

    async fn change(
        &self,
        change: ChangeMembers<EasyConfig>,
    ) -> Result<LogIdOf<EasyConfig>, RaftError<ChangeMembershipError<EasyConfig>>> {
        self.raft.change_members(change, ChangeConditions::default()).await
    }

    async fn transfer_leader(&self, to: u64) -> Result<Bytes, RequestError> {
        self.raft.transfer_leader(to).await.map_err(|error| match error {
            RaftError::APIError(TransferLeaderError::ForwardToLeader(forward)) => not_leader(forward),
            RaftError::APIError(TransferLeaderError::InProgress) => RequestError::InProgress,
            RaftError::APIError(error @ TransferLeaderError::NotApplicable(_)) => {
                RequestError::Refused(error.to_string())
            }
            // The target was asked, and that cannot be taken back: it may take over yet.
            RaftError::APIError(TransferLeaderError::Deadline) => RequestError::Unknown(UnknownReason::Deadline),
            RaftError::Fatal(fatal) => stopped(&fatal),
        })?;
        encode(&0u64)
    }

    /// The cluster, as this node sees it.
    pub(crate) fn members(&self) -> Members {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let membership = &metrics.membership_config.membership;
        let member = |(id, node): (&u64, &BasicNode)| Member {
            id: *id,
            addr: node.addr.clone(),
            voter: membership.is_voter(id),
            incarnation: node.incarnation().map(|incarnation| incarnation.0),
        };
        Members {
            log_index: metrics.membership_config.log_id.map(|id| id.index),
            leader: metrics.current_leader,
            members: membership.nodes().iter().map(member).collect(),
        }
    }

    /// Has a snapshot built that holds all that is applied now, and waits until it is durable.
    pub(crate) async fn snapshot(&self) -> Result<LogIndex, RequestError> {
        let goal = self.raft.metrics().borrow().last_applied.index_or_zero();
        let mut tries = 0;
        loop {
            self.raft.trigger().snapshot().await.map_err(|fatal| stopped(&fatal))?;
            let wait = self.raft.wait(Some(SNAPSHOT_PATIENCE)).snapshot_at_least(goal, "the snapshot is built").await;
            tries += 1;
            match wait {
                Ok(metrics) => return Ok(metrics.snapshot.index_or_zero()),
                Err(WaitError::Stopped { why, .. }) => return Err(stopped(&why)),
                // An older one was being built when it was asked for, or the build has failed.
                Err(WaitError::Timeout(_)) if tries < SNAPSHOT_TRIES => {}
                Err(WaitError::Timeout(what)) => {
                    let text = format!("not in time: {what}; the log of the server says whether a build has failed");
                    return Err(RequestError::Refused(text));
                }
            }
        }
    }

    /// Where this node stands.
    pub(crate) fn status(&self) -> NodeStatus {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let leader = metrics.current_leader.map(|id| {
            let node = metrics.membership_config.membership.node(&id);
            Leader { id, addr: node.map(|node| node.addr.clone()).unwrap_or_default() }
        });
        NodeStatus {
            id: self.id,
            cluster_id: self.cluster_id().map(|id| id.0),
            incarnation: self.incarnation,
            boot_epoch: self.boot_epoch,
            state: format!("{:?}", metrics.state),
            term: metrics.current_term,
            leader,
            last_log_index: metrics.last_log_id.map(|id| id.index),
            committed_index: metrics.committed.map(|id| id.index),
            applied_index: metrics.last_applied.map(|id| id.index),
            snapshot_index: metrics.snapshot.map(|id| id.index),
            failure: metrics.running_state.as_ref().err().map(ToString::to_string),
        }
    }
}

/// Whether a command may be as long as this, its envelope included.
pub(crate) fn check_command(len: usize) -> Result<(), RequestError> {
    match len {
        0..=COMMAND_BYTES_MAX => Ok(()),
        len => {
            Err(RequestError::Refused(format!("a command of {len} bytes is above the limit of {COMMAND_BYTES_MAX}")))
        }
    }
}

/// Whether a member may have this address; what is wrong if not.
pub(crate) fn check_addr(addr: &str) -> Result<(), String> {
    match addr.len() {
        0..=MEMBER_ADDR_BYTES_MAX => Ok(()),
        len => Err(format!("an address of {len} bytes is above the limit of {MEMBER_ADDR_BYTES_MAX}: give host:port")),
    }
}

fn encode<T: serde::Serialize>(value: &T) -> Result<Bytes, RequestError> {
    postcard::to_allocvec(value).map(Bytes::from).map_err(|error| RequestError::Unreadable(error.to_string()))
}

fn decode_query<SM: StateMachine>(bytes: &[u8]) -> Result<SM::Query, RequestError> {
    decode_exactly(bytes).map_err(|error| RequestError::Malformed(format!("the query: {error}")))
}

fn stopped(fatal: &Fatal) -> RequestError {
    RequestError::Stopped(fatal.to_string())
}

/// A leader whose address is not known cannot be asked, so it counts as none.
fn not_leader(forward: ForwardToLeader<EasyConfig>) -> RequestError {
    let leader = forward.leader_id.zip(forward.leader_node).map(|(id, node)| Leader { id, addr: node.addr });
    RequestError::NotLeader { leader }
}

fn write_error(error: ClientWriteError<EasyConfig>) -> RequestError {
    match error {
        ClientWriteError::ForwardToLeader(forward) => not_leader(forward),
        // One that expires in the queue has waited its whole time for room.
        ClientWriteError::Busy | ClientWriteError::Expired => RequestError::Busy,
        ClientWriteError::DiskFull => RequestError::DiskFull,
        ClientWriteError::Superseded | ClientWriteError::LeaderChanged => RequestError::Superseded,
        ClientWriteError::Unknown(reason) => RequestError::Unknown(reason),
    }
}

fn read_error(error: LinearizableReadError<EasyConfig>) -> RequestError {
    match error {
        LinearizableReadError::ForwardToLeader(forward) => not_leader(forward),
        LinearizableReadError::Busy => RequestError::Busy,
        LinearizableReadError::NotConfirmed => RequestError::NotConfirmed,
    }
}

fn change_error(error: ChangeMembershipError<EasyConfig>) -> RequestError {
    match error {
        ChangeMembershipError::ForwardToLeader(forward) => not_leader(forward),
        ChangeMembershipError::InProgress => RequestError::InProgress,
        ChangeMembershipError::Busy => RequestError::Busy,
        ChangeMembershipError::Unknown(reason) => RequestError::Unknown(reason),
        error @ (ChangeMembershipError::Membership(_)
        | ChangeMembershipError::IsVoter(_)
        | ChangeMembershipError::NotApplicable(_)
        | ChangeMembershipError::ConditionFailed
        | ChangeMembershipError::NothingToCancel
        | ChangeMembershipError::Cancelled) => RequestError::Refused(error.to_string()),
    }
}

/// The service as the listener wants it.
pub(crate) struct Peers<SM>(pub(crate) Arc<Service<SM>>);

fn fault(fatal: &Fatal) -> Fault {
    Fault::new(FaultCode::Stopped, fatal)
}

impl<SM: StateMachine> RaftService<EasyConfig> for Peers<SM> {
    async fn vote(&self, rpc: VoteRequest<EasyConfig>) -> Result<VoteResponse<EasyConfig>, Fault> {
        self.0.raft.vote(rpc).await.map_err(|fatal| fault(&fatal))
    }

    async fn append_entries(
        &self,
        rpc: AppendEntriesRequest<EasyConfig>,
    ) -> Result<AppendEntriesResponse<EasyConfig>, Fault> {
        self.0.raft.append_entries(rpc).await.map_err(|fatal| fault(&fatal))
    }

    async fn heartbeat(&self, rpc: HeartbeatRequest<EasyConfig>) -> Result<HeartbeatResponse<EasyConfig>, Fault> {
        self.0.raft.heartbeat(rpc).await.map_err(|fatal| fault(&fatal))
    }

    async fn read_index(&self, rpc: ReadIndexRequest<EasyConfig>) -> Result<ReadIndexResponse<EasyConfig>, Fault> {
        self.0.raft.read_index(rpc).await.map_err(|fatal| fault(&fatal))
    }

    async fn transfer_leader(&self, rpc: TransferLeaderRequest<EasyConfig>) -> Result<(), Fault> {
        self.0.raft.handle_transfer_leader(rpc).await.map_err(|fatal| fault(&fatal))
    }

    async fn check_snapshot(
        &self,
        head: &InstallSnapshotRequest<EasyConfig>,
    ) -> Result<Option<InstallSnapshotResponse<EasyConfig>>, Fault> {
        self.0.raft.check_snapshot(head).await.map_err(|fatal| fault(&fatal))
    }

    async fn begin_receiving_snapshot(&self) -> Result<EasySnapshot, Fault> {
        self.0.raft.begin_receiving_snapshot().await.map_err(|fatal| fault(&fatal))
    }

    async fn install_full_snapshot(
        &self,
        head: InstallSnapshotRequest<EasyConfig>,
        snapshot: Snapshot<EasyConfig>,
    ) -> Result<InstallSnapshotResponse<EasyConfig>, Fault> {
        self.0.raft.install_full_snapshot(head, snapshot).await.map_err(|fatal| fault(&fatal))
    }

    async fn on_client(&self, _: &Session, request: Bytes) -> Result<Bytes, Fault> {
        let answer = match Request::decode(request) {
            Ok(request) => self.0.call(request).await,
            Err(error) => Err(error),
        };
        Ok(encode_answer(answer))
    }
}
