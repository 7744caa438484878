//! Answers that wait for the disk.

use alloc::collections::BTreeMap;

use crate::sabotage::{self, Bug};
use crate::{
    AppendEntriesResponse, AppendOutcome, HeartbeatResponse, InstallOutcome, InstallSnapshotResponse, LogIdOf, Ticket,
    Types, VoteOf, VoteRequest, VoteResponse, WriteId,
};

/// Something to say that is true only once it is durable. It can be made by anybody in the core, but nobody can send it:
/// only `Outbox::after` takes it, and only becoming durable releases it.
#[derive(Clone, Debug)]
#[must_use = "a promise that is not put into the outbox is never kept"]
pub(crate) struct Promise<T: Types>(pub(crate) Promised<T>);

#[derive(Clone, Debug)]
pub(crate) enum Promised<T: Types> {
    Vote(Ticket, VoteResponse<T>),
    Heartbeat(Ticket, HeartbeatResponse<T>),
    Append(Ticket, AppendEntriesResponse<T>),
    Install(Ticket, InstallSnapshotResponse<T>),
    Initialized(Ticket, LogIdOf<T>),
    /// The candidate's own vote is durable: it counts, and may be shown to others.
    Campaign(VoteRequest<T>),
}

impl<T: Types> Promise<T> {
    /// Only if it is sabotaged.
    pub(crate) fn is_said_too_soon(&self) -> bool {
        match &self.0 {
            Promised::Vote(..) => sabotage::on(Bug::VoteSaidBeforeDisk),
            Promised::Append(..) => sabotage::on(Bug::AppendSaidBeforeDisk),
            Promised::Campaign(_) => sabotage::on(Bug::CampaignBeforeDisk),
            Promised::Install(..) => sabotage::on(Bug::SnapshotSaidTooSoon),
            Promised::Heartbeat(..) | Promised::Initialized(..) => false,
        }
    }

    /// A vote, granted or refused.
    pub(crate) fn vote(ticket: Ticket, response: VoteResponse<T>) -> Self {
        Promise(Promised::Vote(ticket, response))
    }

    /// An answer to a heartbeat.
    pub(crate) fn heartbeat(ticket: Ticket, response: HeartbeatResponse<T>) -> Self {
        Promise(Promised::Heartbeat(ticket, response))
    }

    /// An answer to entries.
    pub(crate) fn append(ticket: Ticket, response: AppendEntriesResponse<T>) -> Self {
        Promise(Promised::Append(ticket, response))
    }

    /// An answer to a snapshot.
    pub(crate) fn install(ticket: Ticket, response: InstallSnapshotResponse<T>) -> Self {
        Promise(Promised::Install(ticket, response))
    }

    /// The first entry of the cluster.
    pub(crate) fn initialized(ticket: Ticket, log_id: LogIdOf<T>) -> Self {
        Promise(Promised::Initialized(ticket, log_id))
    }

    /// A candidate's request for votes.
    pub(crate) fn campaign(request: VoteRequest<T>) -> Self {
        Promise(Promised::Campaign(request))
    }
}

/// Holds promises until the write that each depends on, and all before that, are durable.
#[derive(Clone, Debug)]
pub(crate) struct Outbox<T: Types> {
    /// Ordered by write, then by arrival.
    waiting: BTreeMap<(WriteId, u64), Promise<T>>,
    arrivals: u64,
}

impl<T: Types> Default for Outbox<T> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), arrivals: 0 }
    }
}

impl<T: Types> Outbox<T> {
    /// Releases the promise once this write is durable.
    pub(crate) fn after(&mut self, write: WriteId, promise: Promise<T>) {
        self.arrivals += 1;
        self.waiting.insert((write, self.arrivals), promise);
    }

    /// The next promise that may be kept, given what is durable.
    pub(crate) fn release(&mut self, is_durable: impl Fn(WriteId) -> bool) -> Option<Promised<T>> {
        let first = self.waiting.first_entry()?;
        if is_durable(first.key().0) { Some(first.remove().0) } else { None }
    }

    /// All that wait, each with its write.
    pub(crate) fn all(&self) -> impl Iterator<Item = (WriteId, &Promise<T>)> {
        self.waiting.iter().map(|((write, _), promise)| (*write, promise))
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// This server now promises itself to another vote. What it was about to say to earlier candidates and leaders would
    /// be history by the time it is sent; it becomes a refusal that names the new vote, due when that is durable. A lost
    /// answer is always safe, so a refusal in its place is too, and an old leader can never count an acknowledgement that
    /// crossed a truncation (BUGS 16).
    pub(crate) fn supersede(&mut self, vote: VoteOf<T>, write: WriteId) {
        let superseded = core::mem::take(&mut self.waiting);
        for (_, promise) in superseded {
            let refused = match promise.0 {
                Promised::Vote(ticket, response) => {
                    Promise::vote(ticket, VoteResponse { granted: false, vote: Some(vote), ..response })
                }
                Promised::Heartbeat(ticket, response) => {
                    Promise::heartbeat(ticket, HeartbeatResponse { accepted: false, vote: Some(vote), ..response })
                }
                Promised::Append(ticket, response) => Promise::append(
                    ticket,
                    AppendEntriesResponse { outcome: AppendOutcome::HigherVote(vote), ..response },
                ),
                Promised::Install(ticket, response) => Promise::install(
                    ticket,
                    InstallSnapshotResponse { outcome: InstallOutcome::HigherVote(vote), ..response },
                ),
                // The first entry of a cluster stays what it is, whoever is voted for.
                Promised::Initialized(ticket, log_id) => Promise::initialized(ticket, log_id),
                Promised::Campaign(_) => continue,
            };
            self.after(write, refused);
        }
    }
}
