//! What the whole cluster must never see, checked from above: election safety, log matching, leader completeness, state
//! machine safety (Raft, Figure 3), commitment by a real quorum of disks, and promises that the disk keeps.

use std::collections::{BTreeMap, BTreeSet};

use raftwright_core::{
    AppendOutcome, CommittedLeaderIdOf, Identity, InstallOutcome, LeaderId, LogIdOf, LogIdOption, LogIndex,
    MembershipOf, Replica, Reply, VoteKind, VoteOf,
};

use crate::disk::Image;
use crate::types::{Item, Kind};

type Placed<T> = (Option<LogIdOf<T>>, Item<T>);

/// All that was ever seen.
#[derive(Debug)]
pub(crate) struct Safety<T: Kind> {
    leaders: BTreeMap<CommittedLeaderIdOf<T>, u64>,
    /// Every entry with the log id before it.
    entries: BTreeMap<LogIdOf<T>, Placed<T>>,
    committed: BTreeMap<LogIndex, Item<T>>,
    applied: BTreeMap<u64, LogIndex>,
    wiped: BTreeSet<u64>,
}

impl<T: Kind> Default for Safety<T> {
    fn default() -> Self {
        Self {
            leaders: BTreeMap::new(),
            entries: BTreeMap::new(),
            committed: BTreeMap::new(),
            applied: BTreeMap::new(),
            wiped: BTreeSet::new(),
        }
    }
}

impl<T: Kind> Safety<T> {
    /// Election Safety and Leader Completeness (Raft, Figure 3).
    pub(crate) fn leads(&mut self, id: u64, vote: &VoteOf<T>, log: &Image<T>) {
        let before = self.leaders.insert(vote.leader_id.to_committed(), id);
        assert!(before.is_none_or(|other| other == id), "{vote} was elected, and so was {before:?}");
        for item in self.committed.values() {
            assert!(log.has(item.log_id), "leader {vote} lacks the committed entry {}", item.log_id);
        }
    }

    /// Log Matching (Raft, Figure 3): one log id, one entry, and one entry before it.
    pub(crate) fn wrote(&mut self, before: Option<LogIdOf<T>>, item: &Item<T>) {
        let known = self.entries.entry(item.log_id).or_insert_with(|| (before, item.clone()));
        assert_eq!(known.1, *item, "two entries have one log id");
        assert_eq!(known.0, before, "what is before {} differs", item.log_id);
    }

    /// State Machine Safety (Raft, Figure 3), and that a leader commits only what a quorum of disks has.
    pub(crate) fn committed(
        &mut self,
        replica: &Replica<T>,
        membership: &MembershipOf<T>,
        log: &Image<T>,
        disks: &[(Identity<u64>, &Image<T>)],
    ) {
        let upto = replica.committed().unwrap();
        for index in log.purged.next_index()..=upto.index {
            let item = log.get(index).unwrap();
            if let Some(known) = self.committed.get(&index) {
                assert_eq!(known, item, "committed entries do not change");
                continue;
            }
            if replica.is_leader() {
                let has = |id: &u64| {
                    disks.iter().any(|(identity, disk)| {
                        identity.id == *id && membership.admits(identity) && disk.has(item.log_id)
                    })
                };
                assert!(
                    membership.is_quorum(has) || !self.wiped.is_empty(),
                    "{} is committed without a quorum of disks",
                    item.log_id
                );
            }
            self.committed.insert(index, item.clone());
        }
    }

    /// Entries are applied in order, each the one that is committed.
    pub(crate) fn applies(&mut self, id: u64, item: &Item<T>) {
        let last = self.applied.insert(id, item.log_id.index).unwrap_or(0);
        assert!(last == 0 || item.log_id.index == last + 1, "server {id} applies without a gap");
        if let Some(known) = self.committed.get(&item.log_id.index) {
            assert_eq!(known, item, "server {id} applies what is committed");
        }
    }

    /// A snapshot takes the place of what a server has applied. It is a prefix of what is committed.
    pub(crate) fn installs(&mut self, id: u64, last: LogIdOf<T>) {
        let known = self.committed.get(&last.index);
        assert_eq!(known.map(|item| item.log_id), Some(last), "server {id} installs what is committed");
        let before = self.applied.insert(id, last.index).unwrap_or(0);
        assert!(before < last.index, "server {id} installs a snapshot that is older than its state");
    }

    /// A server has lost its disk, and applies from the start.
    pub(crate) fn wiped(&mut self, id: u64) {
        self.wiped.insert(id);
        self.applied.remove(&id);
    }

    /// How many entries are committed.
    pub(crate) fn committed_count(&self) -> usize {
        self.committed.len()
    }
}

/// What is said to a peer is on the disk (Raft, Figure 2: updated on stable storage before responding to RPCs).
pub(crate) fn check_promise<T: Kind>(durable: &Image<T>, asked: &VoteOf<T>, reply: &Reply<T>) {
    let promised = |vote: &VoteOf<T>| durable.vote.is_some_and(|stored| stored >= *vote);
    match reply {
        Reply::Vote(response) if response.granted && response.kind != VoteKind::PreVote => {
            assert!(promised(asked), "vote {asked} is granted, and the disk has {:?}", durable.vote);
        }
        Reply::Heartbeat(response) if response.accepted => {
            assert!(promised(asked), "{asked} is followed, and the disk has {:?}", durable.vote);
        }
        Reply::Append(response) => match &response.outcome {
            AppendOutcome::Success { matched } => {
                assert!(promised(asked), "{asked} is followed, and the disk has {:?}", durable.vote);
                assert!(matched.is_none_or(|id| durable.has(id)), "{matched:?} is said to be stored and is not");
            }
            AppendOutcome::HigherVote(vote) => assert!(promised(vote), "{vote} is named before it is durable"),
            AppendOutcome::Conflict { .. } | AppendOutcome::Refused(_) => {}
        },
        Reply::InstallSnapshot(response) => match &response.outcome {
            InstallOutcome::Installed => {
                assert!(promised(asked), "{asked} is followed, and the disk has {:?}", durable.vote);
            }
            InstallOutcome::HigherVote(vote) => assert!(promised(vote), "{vote} is named before it is durable"),
            InstallOutcome::Refused(_) => {}
        },
        Reply::Vote(_) | Reply::Heartbeat(_) => {}
        Reply::Proposed(_) | Reply::Read { .. } | Reply::Done { .. } | Reply::Transferring | Reply::Refused(_) => {}
    }
}
