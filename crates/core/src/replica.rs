//! The machine that owns what safety needs.

mod canonical;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt::{Display, Formatter};

use crate::leader::{Change, Leading};
use crate::outbox::{Promise, Promised};
use crate::role::{Candidacy, Following, Next, Role};
use crate::state::{Found, State};
use crate::{
    ChangeMembers, CommittedLeaderIdOf, Effects, ElectionPriority, HeartbeatResponse, Identity, Input, LogId, LogIdOf,
    LogIdOption, LogIndex, LogShape, MembershipOf, Note, RaftEntry, ReadPolicy, Refusal, ReplicaConfig, Reply,
    ServerState, StepDown, StoredMembership, StreamId, Ticket, Time, Types, VoteKind, VoteOf, VoteResponse, WriteId,
};

/// One server of one group: its vote, the shape of its log, its commit index, what each other server is known to have,
/// the membership, and its role. It never waits: [`Replica::step`] takes an input and the time, and says what to do.
///
/// 1. Effects may be executed the moment they are emitted. What must wait for the disk waits in here.
/// 2. `step` cannot fail. A peer that talks nonsense gets an answer or a [`Note`](crate::Note); asserts are about ourselves.
/// 3. Every ticket is answered exactly once, unless it is forgotten.
/// 4. The same inputs at the same times under the same seed give the same effects.
#[derive(Clone, Debug)]
pub struct Replica<T: Types> {
    pub(crate) state: State<T>,
    pub(crate) role: Role<T>,
    /// The last stream that was opened. Streams are never named twice.
    last_stream: StreamId,
    now: Time,
}

/// What a server finds on its disk when it starts. The default is a blank server.
#[derive(Clone, Debug)]
pub struct Restored<T: Types> {
    /// The vote that was saved last.
    pub vote: Option<VoteOf<T>>,
    /// The last entry that was purged.
    pub purged: Option<LogIdOf<T>>,
    /// The first entry of every leader behind `purged`, ascending.
    pub key_log_ids: Vec<LogIdOf<T>>,
    /// The last entry, or `purged` if there is none.
    pub last_log_id: Option<LogIdOf<T>>,
    /// The last entry known to be committed: what the state machine has applied, or what the store remembers.
    pub committed: Option<LogIdOf<T>>,
    /// The state machine's membership first, then every one in the log behind it, ascending.
    pub memberships: Vec<StoredMembership<T>>,
    /// The last entry that is in the newest snapshot. The state machine has at least that; the log may have less, if a crash
    /// came between the install of a snapshot and the purge that follows it.
    pub snapshot: Option<LogIdOf<T>>,
}

impl<T: Types> Default for Restored<T> {
    fn default() -> Self {
        Self {
            vote: None,
            purged: None,
            key_log_ids: Vec::new(),
            last_log_id: None,
            committed: None,
            memberships: Vec::new(),
            snapshot: None,
        }
    }
}

/// What was found on the disk cannot have been left by a correct server: it must not start, or it could break a promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestoreError<T: Types> {
    /// The log's parts contradict each other.
    Log,
    /// There are entries and no vote beside the one that initialized the cluster: the vote was lost, and this server might
    /// vote twice (BUGS 7).
    VoteMissing,
    /// The vote is older than the last entry: it went back, and this server might vote twice.
    VoteBehindLog,
    /// The state machine has applied another entry than the log has in its place.
    AppliedContradictsLog {
        /// The last entry that was applied.
        applied: LogIdOf<T>,
    },
    /// The state machine has applied more than the log has: the log lost its end.
    AppliedBeyondLog {
        /// The last entry that was applied.
        applied: LogIdOf<T>,
        /// The last entry of the log.
        last: Option<LogIdOf<T>>,
    },
}

impl<T: Types> Display for RestoreError<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> core::fmt::Result {
        match self {
            RestoreError::Log => f.write_str("the parts of the log contradict each other"),
            RestoreError::VoteMissing => f.write_str("the log has entries but no vote: the vote was lost"),
            RestoreError::VoteBehindLog => f.write_str("the vote is older than the last log entry: it was lost"),
            RestoreError::AppliedContradictsLog { applied } => {
                write!(f, "entry {applied} was applied, but the log has another one in its place")
            }
            RestoreError::AppliedBeyondLog { applied, last } => {
                write!(f, "entry {applied} was applied, but the log ends at {}: its end was lost", last.index_or_zero())
            }
        }
    }
}

impl<T: Types> Restored<T> {
    fn check(self) -> Result<Found<T>, RestoreError<T>> {
        let shape = LogShape::restore(self.purged, self.key_log_ids, self.last_log_id).ok_or(RestoreError::Log)?;
        let initial = CommittedLeaderIdOf::<T>::default();
        match (self.last_log_id, self.vote) {
            (Some(last), None) if last.leader_id != initial => return Err(RestoreError::VoteMissing),
            (Some(last), Some(vote)) if last.leader_id > State::<T>::committed_leader(&vote) => {
                return Err(RestoreError::VoteBehindLog);
            }
            (Some(_) | None, Some(_) | None) => {}
        }
        let (mut shape, mut memberships) = (shape, self.memberships);
        let ahead = self
            .snapshot
            .filter(|snapshot| snapshot.index > shape.purged().index_or_zero() && !shape.contains(*snapshot));
        if let Some(snapshot) = ahead {
            // The log will be what the snapshot stands for as soon as it can be written.
            if self.vote.is_none_or(|vote| snapshot.leader_id > State::<T>::committed_leader(&vote)) {
                return Err(RestoreError::VoteBehindLog);
            }
            shape.purge(snapshot);
            memberships.truncate(1);
        }
        if let Some(applied) = self.committed
            && applied.index > shape.last().index_or_zero()
        {
            return Err(RestoreError::AppliedBeyondLog { applied, last: shape.last() });
        }
        let known = |id: LogIdOf<T>| id.index < shape.purged().index_or_zero() || shape.contains(id);
        if let Some(applied) = self.committed.filter(|applied| !known(*applied)) {
            return Err(RestoreError::AppliedContradictsLog { applied });
        }
        if memberships.iter().any(|stored| stored.log_id.is_some_and(|id| !known(id))) {
            return Err(RestoreError::Log);
        }
        // What was purged, and what is in a snapshot, is committed.
        let committed = self.committed.max(shape.purged()).max(self.snapshot.filter(|snapshot| known(*snapshot)));
        Ok(Found { vote: self.vote, committed, memberships, snapshot: self.snapshot, ahead, shape })
    }
}

impl<T: Types> Replica<T> {
    /// A server that starts with what is on its disk. It follows nobody and waits for a leader; alone in its cluster, it
    /// campaigns at its first wake. Give it [`Input::Wake`] once right away: what is known to be committed is applied then.
    ///
    /// # Errors
    /// [`RestoreError`]: starting would risk a broken promise.
    pub fn new(
        config: ReplicaConfig,
        identity: Identity<T::NodeId>,
        restored: Restored<T>,
        now: Time,
        seed: u64,
    ) -> Result<Self, RestoreError<T>> {
        let mut state = State::new(config, identity, restored.check()?, now, seed);
        // Alone, there is nobody to wait for but an earlier leader that may count on us still.
        let election_at = if state.is_alone() && !state.has_promised() { now } else { state.election_time(now) };
        let following = Following { leader: None, election_at };
        let role = if state.is_electable() { Role::Follower(following) } else { Role::Learner(following) };
        Ok(Self { state, role, last_stream: StreamId(0), now })
    }

    /// Takes an input and says what to do about it. Total: there is no input that it cannot take.
    pub fn step(&mut self, now: Time, input: Input<T>, effects: &mut Effects<T>) {
        self.now = self.now.max(now);
        let now = self.now;
        self.state.catch_up(now, effects);
        let next = self.dispatch(now, input, effects);
        self.transition(now, next, effects);
        debug_assert_eq!(crate::invariants::check(self), Ok(()));
    }

    /// When to call [`Replica::step`] with [`Input::Wake`] at the latest; `None` if there is nothing to wait for.
    pub fn deadline(&self) -> Option<Time> {
        match &self.role {
            Role::Learner(_) => None,
            Role::Follower(following) => Some(following.election_at),
            Role::PreCandidate(candidacy) | Role::Candidate(candidacy) => Some(candidacy.ends_at),
            Role::Leader(leading) => Some(leading.deadline(&self.state)),
        }
    }

    fn dispatch(&mut self, now: Time, input: Input<T>, effects: &mut Effects<T>) -> Next<T> {
        match input {
            Input::Wake => self.on_wake(now, effects),
            Input::VoteRequest { ticket, request } => self.on_vote_request(now, ticket, request, effects),
            Input::Heartbeat { ticket, request } => {
                self.on_heartbeat(now, ticket, request, effects);
                Next::Stay
            }
            Input::AppendEntries { ticket, request } => {
                self.on_append_entries(now, ticket, request, effects);
                Next::Stay
            }
            Input::InstallSnapshot { ticket, request } => {
                self.on_install_snapshot(now, ticket, request, effects);
                Next::Stay
            }
            Input::TransferRequest { request } => self.on_transfer_request(&request),
            Input::VoteResponse(response) => self.on_vote_response(&response),
            Input::HeartbeatResponse(response) => self.on_heartbeat_response(now, response, effects),
            Input::Stream { stream, report } => match &mut self.role {
                Role::Leader(leading) => leading.on_report(&mut self.state, now, stream, report, effects),
                Role::Learner(_) | Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => Next::Stay,
            },
            Input::LogDone { write } => self.on_log_done(now, write, effects),
            Input::Initialize { ticket, membership } => {
                self.on_initialize(now, ticket, membership, effects);
                Next::Stay
            }
            Input::Propose { ticket, entry } => self.on_propose(now, ticket, entry, effects),
            Input::Read { ticket, policy } => self.on_read(now, ticket, policy, effects),
            Input::AddLearner { ticket, id, node } => {
                self.on_change(now, ticket, ChangeMembers::SetNodes([(id, node)].into()).into(), effects)
            }
            Input::RemoveLearners { ticket, ids } => {
                self.on_change(now, ticket, ChangeMembers::RemoveNodes(ids).into(), effects)
            }
            Input::ChangeMembers { ticket, change, conditions } => {
                self.on_change(now, ticket, Change { change, conditions }, effects)
            }
            Input::CancelChange { ticket } => self.on_cancel(now, ticket, effects),
            Input::ChangeMembership { ticket, voters, retain } => {
                self.on_change(now, ticket, ChangeMembers::ReplaceVoters { voters, retain }.into(), effects)
            }
            Input::Elect => self.on_elect(now),
            Input::Beat => self.on_beat(now, effects),
            Input::TransferLeader { ticket, to } => self.on_transfer(now, ticket, to, effects),
            Input::Forget { ticket } => self.on_forget(ticket),
            Input::BuildSnapshot => {
                self.state.build(effects);
                Next::Stay
            }
            Input::SnapshotBuilt { last_log_id } => {
                self.on_snapshot_built(now, last_log_id, effects);
                Next::Stay
            }
            Input::SnapshotFailed => {
                self.on_snapshot_failed(effects);
                Next::Stay
            }
            Input::SnapshotInstalled { ticket } => {
                self.on_snapshot_installed(now, ticket, effects);
                Next::Stay
            }
            Input::Purge { upto } => {
                self.state.purge(now, upto, effects);
                Next::Stay
            }
            Input::Configure(config) => self.on_configure(now, config),
        }
    }

    // ---- the clock ----

    fn on_wake(&mut self, now: Time, effects: &mut Effects<T>) -> Next<T> {
        self.state.apply(effects);
        let (state, due) = (&mut self.state, self.role.election_due(now));
        match &mut self.role {
            Role::Learner(_) => Next::Stay,
            Role::Leader(leading) => leading.on_wake(state, now, effects),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) if !due => Next::Stay,
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_)
                if state.is_disk_stalled(now) || state.snapshots.is_installing() =>
            {
                // Our own vote could not become durable, or our log is being replaced. Let somebody else try.
                self.put_off_election(now);
                Next::Stay
            }
            Role::Follower(_) if state.config.election_priority == ElectionPriority::Never && !state.is_alone() => {
                self.put_off_election(now);
                Next::Stay
            }
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {
                Next::Campaign(if state.config.pre_vote { VoteKind::PreVote } else { VoteKind::Vote })
            }
        }
    }

    /// An election is a leader's timeout that has passed (Raft §5.2), so hearing from the leader puts it off.
    pub(crate) fn put_off_election(&mut self, now: Time) {
        let at = self.state.election_time(now);
        match &mut self.role {
            Role::Learner(following) | Role::Follower(following) => following.election_at = at,
            Role::PreCandidate(candidacy) | Role::Candidate(candidacy) => candidacy.ends_at = at,
            Role::Leader(_) => {}
        }
    }

    fn on_elect(&mut self, now: Time) -> Next<T> {
        // A leader has won already, and a learner cannot (BUGS 35); and each campaign is a write.
        let installing = self.state.snapshots.is_installing();
        if self.is_leader() || !self.state.is_electable() || self.state.is_write_queue_full() || installing {
            return Next::Stay;
        }
        let Some(free_at) = self.state.promised_until(now) else { return Next::Campaign(VoteKind::Vote) };
        // What we have promised to a leader, that we vote for nobody else yet, holds for a vote for ourselves as well: its
        // lease may rest on us alone. We campaign as soon as we may, unless it is heard from again.
        match &mut self.role {
            Role::Follower(following) => following.election_at = following.election_at.min(free_at),
            Role::PreCandidate(candidacy) | Role::Candidate(candidacy) => {
                candidacy.ends_at = candidacy.ends_at.min(free_at)
            }
            Role::Learner(_) | Role::Leader(_) => {}
        }
        Next::Stay
    }

    fn on_beat(&mut self, now: Time, effects: &mut Effects<T>) -> Next<T> {
        if let Role::Leader(leading) = &mut self.role {
            leading.beat(&mut self.state, now, effects);
        }
        Next::Stay
    }

    fn on_configure(&mut self, now: Time, config: ReplicaConfig) -> Next<T> {
        self.state.config = config;
        if let Role::Leader(leading) = &mut self.role {
            leading.on_configure(&self.state, now);
        }
        Next::Stay
    }

    // ---- answers of peers and of the disk ----

    fn on_vote_response(&mut self, response: &VoteResponse<T>) -> Next<T> {
        let state = &mut self.state;
        match &mut self.role {
            Role::PreCandidate(candidacy) => candidacy.on_response(state, response, VoteKind::PreVote),
            Role::Candidate(candidacy) => candidacy.on_response(state, response, VoteKind::Vote),
            Role::Learner(_) | Role::Follower(_) | Role::Leader(_) => {
                state.see_vote(&response.from, response.vote.as_ref());
                Next::Stay
            }
        }
    }

    fn on_heartbeat_response(
        &mut self,
        now: Time,
        response: HeartbeatResponse<T>,
        effects: &mut Effects<T>,
    ) -> Next<T> {
        match &mut self.role {
            Role::Leader(leading) => leading.on_heartbeat_response(&mut self.state, now, response, effects),
            Role::Learner(_) | Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {
                self.state.see_vote(&response.from, response.vote.as_ref());
                Next::Stay
            }
        }
    }

    /// The disk has completed a write: what waited for it may be said, counted and applied.
    fn on_log_done(&mut self, now: Time, write: WriteId, effects: &mut Effects<T>) -> Next<T> {
        let mut next = Next::Stay;
        if !self.state.writes.complete(write) {
            return next;
        }
        while let Some(promised) = self.state.outbox.release(|id| self.state.writes.is_durable(id)) {
            if let Promised::Campaign(request) = &promised
                && let Role::Candidate(candidacy) = &mut self.role
            {
                next = candidacy.on_own_vote(&self.state, &request.vote);
            }
            self.state.keep(promised, effects);
        }
        self.state.apply(effects);
        match &mut self.role {
            Role::Leader(leading) => leading.advance_commit(&mut self.state, now, effects),
            Role::Learner(_) | Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => next,
        }
    }

    // ---- local calls ----

    fn on_initialize(&mut self, now: Time, ticket: Ticket, membership: MembershipOf<T>, effects: &mut Effects<T>) {
        let state = &mut self.state;
        if state.last().is_some() || state.vote.is_some() {
            return effects.reply(ticket, Reply::Refused(Refusal::AlreadyInitialized));
        }
        if let Err(error) = membership.validate() {
            return effects.reply(ticket, Reply::Refused(Refusal::Membership(error)));
        }
        if membership.is_joint() || !membership.is_voter(&state.me()) {
            return effects.reply(ticket, Reply::Refused(Refusal::NotInMembership));
        }
        // The same first entry on every server that is initialized with the same membership: log id (0, 1).
        let log_id = LogId::new(CommittedLeaderIdOf::<T>::default(), 1);
        state.append(now, T::Entry::of_membership(log_id, membership), effects);
        state.promise(Promise::initialized(ticket, log_id), log_id.index, effects);
        let soon = if state.is_alone() {
            now
        } else {
            now + state.rng.span(crate::Span::ZERO, state.config.election_timeout_min)
        };
        self.role = Role::Follower(Following { leader: None, election_at: soon });
    }

    fn on_propose(&mut self, now: Time, ticket: Ticket, entry: T::Entry, effects: &mut Effects<T>) -> Next<T> {
        match &mut self.role {
            Role::Leader(leading) => leading.on_propose(&mut self.state, now, ticket, entry, effects),
            Role::Learner(_) | Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {
                self.refuse_not_leader(ticket, effects);
            }
        }
        Next::Stay
    }

    fn on_read(&mut self, now: Time, ticket: Ticket, policy: ReadPolicy, effects: &mut Effects<T>) -> Next<T> {
        match &mut self.role {
            Role::Leader(leading) => leading.on_read(&mut self.state, now, ticket, policy, effects),
            Role::Learner(_) | Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {
                self.refuse_not_leader(ticket, effects);
            }
        }
        Next::Stay
    }

    fn on_change(&mut self, now: Time, ticket: Ticket, change: Change<T>, effects: &mut Effects<T>) -> Next<T> {
        match &mut self.role {
            Role::Leader(leading) => leading.on_change(&mut self.state, now, ticket, change, effects),
            Role::Learner(_) | Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {
                self.refuse_not_leader(ticket, effects);
            }
        }
        Next::Stay
    }

    fn on_cancel(&mut self, now: Time, ticket: Ticket, effects: &mut Effects<T>) -> Next<T> {
        match &mut self.role {
            Role::Leader(leading) => leading.on_cancel(&mut self.state, now, ticket, effects),
            Role::Learner(_) | Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {
                self.refuse_not_leader(ticket, effects);
                Next::Stay
            }
        }
    }

    fn on_transfer(&mut self, now: Time, ticket: Ticket, to: T::NodeId, effects: &mut Effects<T>) -> Next<T> {
        match &mut self.role {
            Role::Leader(leading) => leading.on_transfer(&mut self.state, now, ticket, to, effects),
            Role::Learner(_) | Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {
                self.refuse_not_leader(ticket, effects);
            }
        }
        Next::Stay
    }

    fn on_forget(&mut self, ticket: Ticket) -> Next<T> {
        if let Role::Leader(leading) = &mut self.role {
            leading.forget(ticket);
        }
        Next::Stay
    }

    fn refuse_not_leader(&self, ticket: Ticket, effects: &mut Effects<T>) {
        effects.reply(ticket, Reply::Refused(Refusal::NotLeader { leader: self.leader() }));
    }

    // ---- roles ----

    /// Changes the role. The only place that does, but for a membership that makes a voter of a learner or the other way.
    pub(crate) fn transition(&mut self, now: Time, next: Next<T>, effects: &mut Effects<T>) {
        match next {
            Next::Stay => {}
            Next::Follow(leader) => {
                if self.is_leader() {
                    effects.note(Note::SteppedDown { reason: StepDown::HigherVote });
                }
                self.become_follower(now, leader, effects);
            }
            Next::StepDown(reason) => {
                effects.note(Note::SteppedDown { reason });
                self.become_follower(now, None, effects);
            }
            Next::Campaign(VoteKind::PreVote) => self.become_pre_candidate(now, effects),
            Next::Campaign(kind @ (VoteKind::Vote | VoteKind::Transfer)) => self.become_candidate(now, kind, effects),
            Next::Lead => self.become_leader(now, effects),
        }
        self.settle_membership_role(now);
    }

    fn become_follower(&mut self, now: Time, leader: Option<T::NodeId>, effects: &mut Effects<T>) {
        let election_at = self.state.election_time(now);
        let was = core::mem::replace(&mut self.role, Role::Follower(Following { leader, election_at }));
        if let Role::Leader(leading) = was {
            self.last_stream = leading.next_stream();
            leading.end(leader, effects);
        }
    }

    fn become_pre_candidate(&mut self, now: Time, effects: &mut Effects<T>) {
        let Some(asked) = self.state.next_vote() else { return self.put_off_election(now) };
        let candidacy = Candidacy::ask(&mut self.state, asked, now, effects);
        self.role = Role::PreCandidate(candidacy);
        if self.state.is_alone() {
            self.become_candidate(now, VoteKind::Vote, effects);
        }
    }

    fn become_candidate(&mut self, now: Time, kind: VoteKind, effects: &mut Effects<T>) {
        let Some(asked) = self.state.next_vote() else { return self.put_off_election(now) };
        debug_assert!(kind == VoteKind::Transfer || self.state.promised_until(now).is_none(), "a promise is kept");
        let candidacy = Candidacy::campaign(&mut self.state, asked, kind, now, effects);
        self.role = Role::Candidate(candidacy);
    }

    fn become_leader(&mut self, now: Time, effects: &mut Effects<T>) {
        let Role::Candidate(candidacy) = &self.role else { return };
        let vote = candidacy.asked.commit();
        let leading = Leading::begin(&mut self.state, vote, self.last_stream, now, effects);
        self.role = Role::Leader(Box::new(leading));
    }

    /// A server is a voter or a learner by the newest membership in its log (Raft §6); removed, it is a learner once that is
    /// known to be committed. A leader stays one until then.
    pub(crate) fn settle_membership_role(&mut self, now: Time) {
        let voter = self.state.is_electable();
        let leader = self.leader();
        match &self.role {
            Role::Learner(_) if voter => {
                let election_at = self.state.election_time(now);
                self.role = Role::Follower(Following { leader, election_at });
            }
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) if !voter => {
                self.role = Role::Learner(Following { leader, election_at: now });
            }
            Role::Learner(_) | Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) | Role::Leader(_) => {}
        }
    }

    // ---- what others may know ----

    /// The role.
    pub fn server_state(&self) -> ServerState {
        match &self.role {
            Role::Learner(_) => ServerState::Learner,
            Role::Follower(_) => ServerState::Follower,
            Role::PreCandidate(_) => ServerState::PreCandidate,
            Role::Candidate(_) => ServerState::Candidate,
            Role::Leader(_) => ServerState::Leader,
        }
    }

    /// Whether this server leads.
    pub fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// The leader, as far as this server knows; itself if it leads.
    pub fn leader(&self) -> Option<T::NodeId> {
        match &self.role {
            Role::Learner(following) | Role::Follower(following) => following.leader,
            Role::PreCandidate(_) | Role::Candidate(_) => None,
            Role::Leader(_) => Some(self.state.me()),
        }
    }

    /// This server.
    pub fn identity(&self) -> Identity<T::NodeId> {
        self.state.identity
    }

    /// The newest vote; what was said about it was durable.
    pub fn vote(&self) -> Option<&VoteOf<T>> {
        self.state.vote.as_ref()
    }

    /// The last entry of the log, durable or not.
    pub fn last_log_id(&self) -> Option<LogIdOf<T>> {
        self.state.last()
    }

    /// The last entry known to be committed.
    pub fn committed(&self) -> Option<LogIdOf<T>> {
        self.state.committed
    }

    /// The last entry that was purged.
    pub fn purged(&self) -> Option<LogIdOf<T>> {
        self.state.shape.purged()
    }

    /// The last index that is durable here.
    pub fn durable_index(&self) -> LogIndex {
        self.state.writes.durable_index()
    }

    /// The shape of the log.
    pub fn log_shape(&self) -> &LogShape<T> {
        &self.state.shape
    }

    /// The membership that counts: the newest in the log.
    pub fn membership(&self) -> &StoredMembership<T> {
        self.state.memberships.effective()
    }

    /// The newest membership that is committed.
    pub fn committed_membership(&self) -> &StoredMembership<T> {
        self.state.memberships.committed()
    }

    /// What a leader knows every other member to have stored; nothing for others.
    pub fn matched(&self) -> impl Iterator<Item = (T::NodeId, Option<LogIdOf<T>>)> + '_ {
        self.leading()
            .into_iter()
            .flat_map(|leading| leading.matched().map(|(id, index)| (id, self.state.shape.log_id_at(index))))
    }

    /// The time of the newest heartbeat round that a quorum has answered, if this server leads.
    pub fn last_quorum_ack(&self) -> Option<Time> {
        self.leading().map(Leading::confirmed_at)
    }

    /// Until when this leader may serve reads by its lease (Thesis §6.4.1); `None` without one.
    pub fn lease_until(&self) -> Option<Time> {
        self.leading().and_then(|leading| leading.lease_until(&self.state)).filter(|until| self.now < *until)
    }

    /// How many writes are not durable, how many answers wait for them, how many bytes are proposed and not committed:
    /// what the bounds of [`ReplicaConfig`] are about. All are 0 at rest.
    pub fn load(&self) -> Load {
        Load {
            writes: self.state.writes.pending(),
            promises: self.state.outbox.len(),
            uncommitted_bytes: self.leading().map_or(0, Leading::uncommitted_bytes),
        }
    }

    pub(crate) fn leading(&self) -> Option<&Leading<T>> {
        match &self.role {
            Role::Leader(leading) => Some(leading),
            Role::Learner(_) | Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => None,
        }
    }
}

/// How much is under way in a [`Replica`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Writes that are not durable.
    pub writes: usize,
    /// Answers that wait for a write.
    pub promises: usize,
    /// Bytes of entries that are proposed and not committed.
    pub uncommitted_bytes: usize,
}

impl<T: Types> Role<T> {
    fn election_due(&self, now: Time) -> bool {
        match self {
            Role::Learner(_) | Role::Leader(_) => false,
            Role::Follower(following) => now >= following.election_at,
            Role::PreCandidate(candidacy) | Role::Candidate(candidacy) => now >= candidacy.ends_at,
        }
    }
}

/// The reason for which a leader that must not lead on steps down; for metrics.
impl Display for StepDown {
    fn fmt(&self, f: &mut Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            StepDown::HigherVote => "a higher vote was seen",
            StepDown::NoQuorum => "no quorum was heard from for an election timeout",
            StepDown::DiskStalled => "the disk has not completed a write for an election timeout",
            StepDown::Removed => "its removal from the voters is committed",
        })
    }
}
