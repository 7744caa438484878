//! What must be true of every state, and of every step. The disks are judged, not what a server says of itself.

use raftwright_core::{LogIdOption, Message, Reply, VoteKind};

use super::server::{Server, granted, promised};
use crate::checkers::{Broken, is_quorum};
use crate::core_world::store::SimStore;
use crate::core_world::types::{LogId, SimTypes, Vote, term_of};
use crate::world::NodeId;

fn broken(property: &'static str, source: &'static str, what: String) -> Broken {
    Broken { property, source, what }
}

/// "Updated on stable storage before responding to RPCs" (Raft, Figure 2): what an answer promises is on the disk.
pub(super) fn may_say(store: &SimStore, reply: &Reply<SimTypes>) -> Result<(), Broken> {
    let durable = store.durable();
    if let Some(vote) = granted(reply) {
        let stands = durable.vote.is_some_and(|saved| {
            saved.term() > vote.term() || (saved.term() == vote.term() && saved.node_id() == vote.node_id())
        });
        if !stands {
            let what = format!("grants {vote}, but the disk has {:?}", durable.vote);
            return Err(broken("promises are durable", "Raft, Figure 2", what));
        }
    }
    if let Some(matched) = promised(reply)
        && !durable.holds(&matched)
    {
        let what = format!("acknowledges {matched}, but the disk ends with {:?}", durable.last());
        return Err(broken("promises are durable", "Raft, Figure 2", what));
    }
    Ok(())
}

/// A candidate shows its vote to others when it is on its disk (Raft, Figure 2).
pub(super) fn may_ask(store: &SimStore, message: &Message<SimTypes>) -> Result<(), Broken> {
    let Message::Vote(request) = message else { return Ok(()) };
    let saved = store.durable().vote;
    if request.kind == VoteKind::PreVote || saved.is_some_and(|saved| saved.term() >= request.vote.term()) {
        return Ok(());
    }
    Err(broken("promises are durable", "Raft, Figure 2", format!("asks for {}, the disk has {saved:?}", request.vote)))
}

/// Logs that share an entry share all before it (Raft §5.3).
pub(super) fn logs_match(one: &Server, other: &Server) -> Result<(), Broken> {
    let (mine, theirs) = (one.store.readable(), other.store.readable());
    for stored in mine.entries() {
        let Some(there) = theirs.get(stored.entry.log_id.index) else { return Ok(()) };
        if there.entry.log_id == stored.entry.log_id && there.chain != stored.chain {
            let what = format!("n{} and n{} both have {} and differ up to it", one.id, other.id, stored.entry.log_id);
            return Err(broken("log matching", "Raft §5.3", what));
        }
    }
    Ok(())
}

/// A new leader has a quorum of votes that stand on disks, and all that was committed (Raft §5.2, Raft §5.4).
pub(super) fn may_lead(leader: &Server, vote: Vote, all: [&Server; 3], last: Option<LogId>) -> Result<(), Broken> {
    let log = leader.store.readable();
    if let Some(last) = last
        && term_of(&last) <= vote.term()
        && !log.holds(&last)
    {
        let what = format!("n{} leads with {vote} and lacks {last}, which is committed", leader.id);
        return Err(broken("leader completeness", "Raft §5.4", what));
    }
    let stands = |id: &NodeId| {
        let saved = all.iter().find(|server| server.id == *id).and_then(|server| server.store.durable().vote);
        saved.is_some_and(|saved| {
            saved.term() > vote.term() || (saved.term() == vote.term() && saved.node_id() == leader.id)
        })
    };
    match log.membership() {
        Some((_, membership)) if is_quorum(membership, stands) => Ok(()),
        _ => {
            let what = format!("n{} leads with {vote} without a quorum of votes on disks", leader.id);
            Err(broken("election safety", "Raft §5.2", what))
        }
    }
}

/// Whoever commits by counting leads, counts an entry of its own, and finds it on the disks of a quorum (Raft §5.4.2).
/// What a server commits because a leader said so was remembered when that leader did.
pub(super) fn may_commit(
    leader: &Server,
    (upto, term, config_index): (LogId, u64, u64),
    all: [&Server; 3],
    known: u64,
) -> Result<(), Broken> {
    if upto.index <= known {
        return Ok(());
    }
    if term_of(&upto) != term {
        let what = format!("n{} leads in term {term} and commits {upto} by counting", leader.id);
        return Err(broken("commit on a durable quorum", "Raft §5.4.2", what));
    }
    let holds = |id: &NodeId| all.iter().any(|server| server.id == *id && server.store.durable().holds(&upto));
    let mut configs = leader.store.readable().memberships().filter(|(id, _)| id.index >= config_index);
    if configs.any(|(_, membership)| is_quorum(membership, holds)) {
        return Ok(());
    }
    let on: Vec<NodeId> = all.iter().map(|server| server.id).filter(holds).collect();
    Err(broken(
        "commit on a durable quorum",
        "Raft §5.4.2",
        format!("n{} commits {upto}, on disks of {on:?}", leader.id),
    ))
}

/// A follower commits only what a leader has committed (Raft §5.3).
pub(super) fn may_follow(server: &Server, known: u64) -> Result<(), Broken> {
    let committed = server.replica.committed();
    if committed.index_or_zero() <= known {
        return Ok(());
    }
    let what = format!("n{} follows and commits {committed:?} before any leader", server.id);
    Err(broken("commit on a durable quorum", "Raft §5.4.2", what))
}

/// One change at a time, and none before an entry of the leader's term is committed (Raft §6; Thesis §4.1, erratum).
pub(super) fn may_change(new: LogId, before: LogId, last: Option<LogId>) -> Result<(), Broken> {
    let property = "membership changes one step at a time";
    if before.index > last.index_or_zero() {
        return Err(broken(property, "Raft §6", format!("appends {new} while {before} is not committed")));
    }
    match last {
        Some(last) if term_of(&last) >= term_of(&new) => Ok(()),
        _ => Err(broken(property, "Thesis §4.1", format!("appends {new} before an entry of its term is committed"))),
    }
}
