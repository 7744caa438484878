//! Snapshots (Raft §7): when one is built, how one of the leader's is installed, and what of the log may go.
//!
//! The content is the shell's. What is here is the order in which things may happen:
//!
//! * A snapshot holds nothing but applied entries, and so only what is committed: installing one is safe at any time and under
//!   any vote. The commit point of an install is the state machine's. The log follows, by one purge that may lie beyond its
//!   end: a crash between the two leaves a log that is behind the snapshot, and the next start does the purge
//!   ([`Restored::snapshot`](crate::Restored::snapshot)).
//! * The log is purged no further than the newest snapshot.

use crate::outbox::Promise;
use crate::peer::NotFollowed;
use crate::sabotage::{self, Bug};
use crate::state::State;
use crate::{
    Canonical, Effect, Effects, InstallOutcome, InstallSnapshotRequest, InstallSnapshotResponse, LogIdOf, LogIdOption,
    LogIndex, Note, PeerRefusal, Replica, Reply, StoredMembership, Ticket, Time, Types, Write, WriteId,
};

/// When a snapshot is built by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum SnapshotPolicy {
    /// Only by hand.
    Never,
    /// When so many entries were handed out to be applied since the last one.
    LogsSinceLast(u64),
    /// When about so many bytes of entries were appended to the log since the last one. Bytes from before a restart do not count.
    BytesSinceLast(u64),
    /// Whichever comes first.
    Either {
        /// So many entries.
        logs: u64,
        /// About so many bytes of entries.
        bytes: u64,
    },
}

impl SnapshotPolicy {
    fn is_due(self, logs_since: u64, bytes_since: u64) -> bool {
        match self {
            SnapshotPolicy::Never => false,
            SnapshotPolicy::LogsSinceLast(logs) => logs_since >= logs,
            SnapshotPolicy::BytesSinceLast(bytes) => bytes_since >= bytes,
            SnapshotPolicy::Either { logs, bytes } => logs_since >= logs || bytes_since >= bytes,
        }
    }
}

/// What a server knows about its snapshots.
#[derive(Clone, Debug)]
pub(crate) struct Snapshots<T: Types> {
    /// The newest that is durable here.
    pub(crate) last: Option<LogIdOf<T>>,
    /// The one that is being built holds at least this.
    building: Option<LogIdOf<T>>,
    /// The last entry that a build was tried for. A failed one is tried again when the policy asks for another.
    tried: LogIndex,
    /// About how many bytes of entries were appended since the last build.
    bytes_since: u64,
    installing: Option<Installing<T>>,
}

/// A leader's snapshot that the state machine is installing.
#[derive(Clone, Debug)]
struct Installing<T: Types> {
    ticket: Ticket,
    last_log_id: LogIdOf<T>,
    last_membership: StoredMembership<T>,
}

impl<T: Types> Snapshots<T> {
    pub(crate) fn new(last: Option<LogIdOf<T>>) -> Self {
        Self { last, building: None, tried: last.index_or_zero(), bytes_since: 0, installing: None }
    }

    /// This one is durable here.
    fn have(&mut self, last_log_id: LogIdOf<T>) {
        if last_log_id.index > self.last.index_or_zero() {
            self.last = Some(last_log_id);
            self.tried = self.tried.max(last_log_id.index);
        }
    }

    /// An entry was appended to the log.
    pub(crate) fn count(&mut self, bytes: usize) {
        self.bytes_since = self.bytes_since.saturating_add(bytes as u64);
    }

    /// The snapshots as words; the bytes since the last one count for the policy alone, and are left out.
    pub(crate) fn canonical(&self, words: &mut Canonical<'_, T>) {
        let Self { last, building, tried, bytes_since: _, installing } = self;
        words.option(last.as_ref(), Canonical::log_id);
        words.option(building.as_ref(), Canonical::log_id);
        words.word(*tried);
        words.option(installing.as_ref(), |words, Installing { ticket, last_log_id, last_membership }| {
            words.ticket(*ticket);
            words.log_id(last_log_id);
            words.option(last_membership.log_id.as_ref(), Canonical::log_id);
            words.membership(&last_membership.membership);
        });
    }

    /// Whether a leader's snapshot is being installed. Until that is done this server does not campaign: most of what its
    /// log says is about to be replaced.
    pub(crate) fn is_installing(&self) -> bool {
        self.installing.is_some()
    }
}

impl<T: Types> State<T> {
    /// Has a snapshot built if the policy asks for one.
    pub(crate) fn build_if_due(&mut self, effects: &mut Effects<T>) {
        let logs_since = self.applying().saturating_sub(self.snapshots.tried);
        if self.config.snapshot_policy.is_due(logs_since, self.snapshots.bytes_since) {
            self.build(effects);
        }
    }

    /// Has a snapshot built, unless one is being built or there is nothing new to put into it.
    pub(crate) fn build(&mut self, effects: &mut Effects<T>) {
        let Some(at) = self.shape.log_id_at(self.applying()) else { return };
        let snapshots = &mut self.snapshots;
        if snapshots.building.is_some() || snapshots.is_installing() || at.index <= snapshots.last.index_or_zero() {
            return;
        }
        (snapshots.building, snapshots.tried, snapshots.bytes_since) = (Some(at), at.index, 0);
        effects.push(Effect::BuildSnapshot { at });
    }

    /// Deletes the entries up to `upto`, as far as they are in a snapshot.
    pub(crate) fn purge(&mut self, now: Time, upto: LogIndex, effects: &mut Effects<T>) {
        let floor = if sabotage::on(Bug::PurgesBeyondSnapshot) { self.applying() } else { 0 };
        let upto = upto.max(floor).min(self.snapshots.last.index_or_zero().max(floor));
        let Some(upto) = self.shape.log_id_at(upto) else { return };
        if upto.index <= self.shape.purged().index_or_zero() || self.is_write_queue_full() {
            return;
        }
        self.shape.purge(upto);
        let id = self.writes.submit(now, self.shape.last().index_or_zero());
        effects.write(id, Write::Purge { upto });
    }

    /// Purges what the settings let go. What a member lacks, from behind `lacking` on, is kept for it up to a bound.
    pub(crate) fn purge_by_policy(&mut self, now: Time, lacking: Option<LogIndex>, effects: &mut Effects<T>) {
        let snapshot = self.snapshots.last.index_or_zero();
        let upto = snapshot.saturating_sub(self.config.log_keep);
        let floor = snapshot.saturating_sub(self.config.log_keep_for_followers_max);
        self.purge(now, lacking.map_or(upto, |matched| upto.min(matched.max(floor))), effects);
    }

    /// Our log becomes what an installed snapshot stands for: nothing, behind its last entry. Returns the write that makes it so.
    pub(crate) fn reset_log(&mut self, now: Time, upto: LogIdOf<T>, effects: &mut Effects<T>) -> WriteId {
        self.shape.purge(upto);
        self.writes.reset();
        self.verified = upto.index;
        let id = self.writes.submit(now, upto.index);
        effects.write(id, Write::Purge { upto });
        id
    }
}

impl<T: Types> Replica<T> {
    pub(crate) fn on_snapshot_built(&mut self, now: Time, last_log_id: LogIdOf<T>, effects: &mut Effects<T>) {
        let snapshots = &mut self.state.snapshots;
        snapshots.building = None;
        snapshots.have(last_log_id);
        self.purge_by_policy(now, effects);
        // So many entries may have been applied meanwhile that the next one is due.
        self.state.build_if_due(effects);
    }

    pub(crate) fn on_snapshot_failed(&mut self, effects: &mut Effects<T>) {
        if let Some(at) = self.state.snapshots.building.take() {
            effects.note(Note::SnapshotFailed { at });
        }
    }

    pub(crate) fn purge_by_policy(&mut self, now: Time, effects: &mut Effects<T>) {
        let lacking = self.leading().and_then(crate::leader::Leading::lowest_matched);
        self.state.purge_by_policy(now, lacking, effects);
    }

    /// A leader sends a snapshot, since it has purged what we need (Raft §7).
    pub(crate) fn on_install_snapshot(
        &mut self,
        now: Time,
        ticket: Ticket,
        request: InstallSnapshotRequest<T>,
        effects: &mut Effects<T>,
    ) {
        let last_log_id = request.last_log_id;
        let outcome = match self.try_install(now, ticket, request, effects) {
            // The answer comes when the state machine has it.
            Ok(false) => return,
            Ok(true) => InstallOutcome::Installed,
            Err(outcome) => outcome,
        };
        let response = InstallSnapshotResponse { from: self.state.identity, outcome };
        match response.outcome {
            InstallOutcome::Refused(_) => effects.reply(ticket, Reply::InstallSnapshot(response)),
            InstallOutcome::HigherVote(_) => self.state.promise(Promise::install(ticket, response), 0, effects),
            // We had it all, but perhaps not yet on the disk.
            InstallOutcome::Installed => {
                self.state.promise(Promise::install(ticket, response), last_log_id.index, effects);
            }
        }
    }

    /// Whether everything up to the snapshot's last entry is here already. If not, the install has begun.
    fn try_install(
        &mut self,
        now: Time,
        ticket: Ticket,
        request: InstallSnapshotRequest<T>,
        effects: &mut Effects<T>,
    ) -> Result<bool, InstallOutcome<T>> {
        if let Some(refused) = self.refuse_leader(&request.from, &request.vote, effects) {
            return Err(match refused {
                NotFollowed::HigherVote(vote) => InstallOutcome::HigherVote(vote),
                NotFollowed::Refused(refusal) => InstallOutcome::Refused(refusal),
            });
        }
        if self.state.is_overloaded() || self.state.snapshots.is_installing() {
            return Err(InstallOutcome::Refused(PeerRefusal::Busy));
        }
        if let Err(what) = check_head(&request) {
            effects.note(Note::BadPeer { from: request.from.id, what });
            return Err(InstallOutcome::Refused(PeerRefusal::Malformed));
        }
        self.follow(now, request.vote, effects);
        let state = &mut self.state;
        if !state.is_vote_durable() {
            // A crash must not leave a snapshot of a leader that this server never heard of: that looks like a lost vote.
            return Err(InstallOutcome::Refused(PeerRefusal::Busy));
        }
        let InstallSnapshotRequest { from, last_log_id, last_membership, .. } = request;
        if last_log_id.index < state.shape.purged().index_or_zero() {
            return Ok(true);
        }
        if state.shape.contains(last_log_id) {
            // Our log agrees with the leader's up to there, and a snapshot holds only what is committed (Raft §7).
            state.commit(last_log_id, effects);
            self.settle_membership_role(now);
            return Ok(true);
        }
        if last_log_id.index <= state.committed.index_or_zero() {
            effects.note(Note::BadPeer { from: from.id, what: "has another entry in place of a committed one" });
            return Err(InstallOutcome::Refused(PeerRefusal::Malformed));
        }
        state.snapshots.installing = Some(Installing { ticket, last_log_id, last_membership });
        effects.push(Effect::InstallSnapshot { ticket });
        Ok(false)
    }

    /// The state machine has installed the snapshot, durably: that was the commit point. The log follows.
    pub(crate) fn on_snapshot_installed(&mut self, now: Time, ticket: Ticket, effects: &mut Effects<T>) {
        let state = &mut self.state;
        let Some(installed) = state.snapshots.installing.take_if(|installing| installing.ticket == ticket) else {
            return;
        };
        let last_log_id = installed.last_log_id;
        let write = if state.shape.contains(last_log_id) || last_log_id.index <= state.committed.index_or_zero() {
            // Meanwhile the entries came by themselves.
            state.commit(last_log_id, effects);
            state.writes.covering(last_log_id.index).unwrap_or_default()
        } else {
            if !sabotage::on(Bug::SnapshotWithoutMembership) {
                state.memberships.reset(installed.last_membership);
            }
            let write = state.reset_log(now, last_log_id, effects);
            state.snapshots.have(last_log_id);
            state.installed(last_log_id, effects);
            write
        };
        self.settle_membership_role(now);
        let response = InstallSnapshotResponse { from: self.state.identity, outcome: InstallOutcome::Installed };
        self.state.promise_after(write, Promise::install(ticket, response), effects);
    }
}

/// Whether a snapshot's head is what a leader can send.
fn check_head<T: Types>(request: &InstallSnapshotRequest<T>) -> Result<(), &'static str> {
    let last = request.last_log_id;
    if last.index == 0 || last.leader_id > State::<T>::committed_leader(&request.vote) {
        return Err("sends a snapshot of entries that cannot be");
    }
    let membership = &request.last_membership;
    let before = membership.log_id.is_some_and(|id| id.index >= 1 && id <= last && id.index <= last.index);
    if !before || membership.membership.validate().is_err() {
        return Err("sends a snapshot with a membership that cannot be");
    }
    Ok(())
}
