//! Effects and messages in words.

use raftwright_core::{
    AppendEntriesRequest, AppendOutcome, Effect, InstallOutcome, InstallSnapshotRequest, LogIdOf, Message, Note,
    PeerRefusal, Refusal, Reply, VoteKind, VoteOf, Write,
};

use crate::types::{Item, Kind, Payload};

/// An effect that is neither a reply nor a note; `None` for what a reader need not know.
pub(crate) fn effect<T: Kind>(id: u64, effect: &Effect<T>) -> Option<String> {
    match effect {
        Effect::Write { id: write, op } => Some(format!("{id}  writes {write}: {}", write_op(op))),
        Effect::Send { to, message } => Some(format!("{id} -> {to}  {}", control(message))),
        Effect::OpenStream { stream, target, next, .. } => {
            Some(format!("{id}  opens stream {stream} to {target} from index {next}"))
        }
        Effect::CloseStream { stream } => Some(format!("{id}  closes stream {stream}")),
        Effect::Apply { upto } => Some(format!("{id}  applies up to {upto}")),
        Effect::BuildSnapshot { at } => Some(format!("{id}  builds a snapshot of {at}")),
        Effect::InstallSnapshot { .. } => Some(format!("{id}  installs the snapshot")),
        Effect::Tail(_) | Effect::Reply { .. } | Effect::Note(_) => None,
    }
}

fn write_op<T: Kind>(op: &Write<T>) -> String {
    match op {
        Write::Vote(vote) => format!("vote {vote}"),
        Write::Append(entries) => format!("append {}", items(entries)),
        Write::Truncate { since } => format!("truncate from {since}"),
        Write::Purge { upto } => format!("purge up to {upto}"),
    }
}

fn items<T: Kind>(items: &[Item<T>]) -> String {
    let one = |item: &Item<T>| match &item.payload {
        Payload::Blank => format!("{} blank", item.log_id),
        Payload::Data(text) => format!("{} {text}", item.log_id),
        Payload::Membership(membership) => format!("{} members {membership}", item.log_id),
    };
    items.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// A log id, or a dash.
pub(crate) fn maybe<T: Kind>(log_id: Option<LogIdOf<T>>) -> String {
    log_id.map_or_else(|| "-".to_owned(), |log_id| log_id.to_string())
}

fn maybe_vote<T: Kind>(vote: Option<VoteOf<T>>) -> String {
    vote.map_or_else(|| "-".to_owned(), |vote| vote.to_string())
}

/// AppendEntries.
pub(crate) fn append<T: Kind>(request: &AppendEntriesRequest<T>) -> String {
    let (prev, committed) = (maybe::<T>(request.prev_log_id), maybe::<T>(request.committed));
    format!("append [{}] after {prev}, commit {committed}", items(&request.entries))
}

/// A snapshot on its way.
pub(crate) fn snapshot<T: Kind>(request: &InstallSnapshotRequest<T>) -> String {
    format!("snapshot up to {}, members {}", request.last_log_id, request.last_membership.membership)
}

fn control<T: Kind>(message: &Message<T>) -> String {
    match message {
        Message::Vote(request) => {
            let last = maybe::<T>(request.last_log_id);
            format!("{}? {} last {last}", kind(request.kind), request.vote)
        }
        Message::Heartbeat(request) => {
            let committed = maybe::<T>(request.committed);
            format!("heartbeat {} of {}, commit {committed}", request.round, request.vote)
        }
        Message::TransferLeader(request) => format!("take over, last {}", maybe::<T>(request.last_log_id)),
    }
}

fn kind(kind: VoteKind) -> &'static str {
    match kind {
        VoteKind::PreVote => "pre-vote",
        VoteKind::Vote => "vote",
        VoteKind::Transfer => "transfer vote",
    }
}

/// An answer.
pub(crate) fn reply<T: Kind>(reply: &Reply<T>) -> String {
    match reply {
        Reply::Vote(response) if response.granted => format!("{} {} granted", kind(response.kind), response.asked),
        Reply::Vote(response) => {
            let mine = maybe_vote::<T>(response.vote);
            format!("{} {} refused, my vote is {mine}", kind(response.kind), response.asked)
        }
        Reply::Heartbeat(response) if response.accepted => format!("heartbeat {} accepted", response.round),
        Reply::Heartbeat(response) => {
            format!("heartbeat {} refused, my vote is {}", response.round, maybe_vote::<T>(response.vote))
        }
        Reply::Append(response) => match &response.outcome {
            AppendOutcome::Success { matched } => format!("stored up to {}", maybe::<T>(*matched)),
            AppendOutcome::Conflict { prev, hint } => format!("no {prev} here, look behind {}", maybe::<T>(*hint)),
            AppendOutcome::HigherVote(vote) => format!("entries refused, my vote is {vote}"),
            AppendOutcome::Refused(PeerRefusal::Busy) => "entries refused: busy".to_owned(),
            AppendOutcome::Refused(PeerRefusal::Malformed) => "entries refused: malformed".to_owned(),
        },
        Reply::InstallSnapshot(response) => match &response.outcome {
            InstallOutcome::Installed => "has all that the snapshot has".to_owned(),
            InstallOutcome::HigherVote(vote) => format!("snapshot refused, my vote is {vote}"),
            InstallOutcome::Refused(PeerRefusal::Busy) => "snapshot refused: busy".to_owned(),
            InstallOutcome::Refused(PeerRefusal::Malformed) => "snapshot refused: malformed".to_owned(),
        },
        Reply::Proposed(log_id) => format!("proposed as {log_id}"),
        Reply::Read { read_log_id } => format!("serve once {read_log_id} is applied"),
        Reply::Done { log_id } => format!("done at {log_id}"),
        Reply::Transferring => "the target was asked".to_owned(),
        Reply::Refused(refusal) => format!("refused: {}", refused(refusal)),
    }
}

fn refused<T: Kind>(refusal: &Refusal<T>) -> String {
    match refusal {
        Refusal::NotLeader { leader: Some(leader) } => format!("not the leader, {leader} is"),
        Refusal::NotLeader { leader: None } => "not the leader".to_owned(),
        Refusal::Busy => "busy".to_owned(),
        Refusal::Unknown => "the outcome is unknown".to_owned(),
        Refusal::AlreadyInitialized => "already initialized".to_owned(),
        Refusal::NotInMembership => "not in the membership".to_owned(),
        Refusal::Membership(error) => error.to_string(),
        Refusal::ChangeInProgress => "a change is in progress".to_owned(),
        Refusal::NotApplicable(id) => format!("not applicable to {id}"),
        Refusal::TransferInProgress => "a transfer is in progress".to_owned(),
        Refusal::ConditionFailed => "what it depends on is not so".to_owned(),
        Refusal::NothingToCancel => "there is nothing to cancel".to_owned(),
        Refusal::Cancelled => "it was cancelled".to_owned(),
    }
}

/// A fact for the operator.
pub(crate) fn note<T: Kind>(note: &Note<T>) -> String {
    match note {
        Note::ElectionStarted { pre_vote: true, vote } => format!("asks whether it could win {vote}"),
        Note::ElectionStarted { pre_vote: false, vote } => format!("campaigns for {vote}"),
        Note::BecameLeader { vote } => format!("leads: {vote}"),
        Note::SteppedDown { reason } => format!("steps down: {reason}"),
        Note::FollowsLeader { vote } => format!("follows {vote}"),
        Note::Truncated { since } => format!("cuts its log from index {since}"),
        Note::BadPeer { from, what } => format!("notes that {from} {what}"),
        Note::Stranger { from } => format!("notes that {from} is a stranger"),
        Note::SnapshotFailed { at } => format!("notes that a snapshot of {at} could not be built"),
        Note::SnapshotInstalled { last_log_id } => format!("has installed a snapshot up to {last_log_id}"),
        Note::TargetNeedsSnapshot { target } => format!("notes that {target} needs a snapshot"),
    }
}
