//! How far a search goes.

use std::collections::BTreeSet;

use raftwright_core::{ReplicaConfig, SnapshotPolicy, Span, StreamConfig};

use crate::core_world::types::{Membership, SimNode};
use crate::world::NodeId;

/// The servers of every search.
pub(super) const SERVERS: [NodeId; 3] = [1, 2, 3];

/// The bounds of a search: what may happen, and how often. Within them the search is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// The voters of the first membership; the other servers are learners.
    pub voters: Vec<NodeId>,
    /// No server campaigns in a greater term.
    pub terms: u64,
    /// Commands in a log; blank entries and memberships come on top.
    pub commands: usize,
    /// Sets of voters that a leader may be asked for, if its log holds no change yet.
    pub changes: Vec<Vec<NodeId>>,
    /// Heartbeat rounds of a leadership that arrive; the first comes with the election.
    pub rounds: u64,
    /// Writes of a server that are not on its disk yet; with 0, a write is on the disk at once.
    pub unfinished_writes: usize,
    /// Requests of a stream that are not answered yet.
    pub inflight: usize,
    /// Whether servers ask before they campaign. They may campaign without asking, too: the core can be told to.
    pub pre_vote: bool,
    /// Whether clients read, one at a time. Without reads, answers that confirm a heartbeat mean nothing and are left out.
    pub reads: bool,
    /// Whether refusals arrive. A lost one is always possible, and what they cause (a leader gives up, a stream looks further
    /// back, a term is heard of) happens in other ways, too; without them there is much less in the air.
    pub refusals: bool,
    /// Whether refused heartbeats are heard of, if other refusals are not.
    pub refused_rounds: bool,
    /// Whether servers crash.
    pub crashes: bool,
    /// Whether connections break: a stream then starts again from what it knows.
    pub breaks: bool,
    /// Whether leaders hand over.
    pub transfers: bool,
}

impl Bounds {
    /// Three voters, two terms and nothing else: what the others start from.
    const fn least(name: &'static str, about: &'static str) -> Self {
        Self {
            name,
            about,
            voters: Vec::new(),
            terms: 2,
            commands: 0,
            changes: Vec::new(),
            rounds: 0,
            unfinished_writes: 0,
            inflight: 1,
            pre_vote: false,
            reads: false,
            refusals: false,
            refused_rounds: false,
            crashes: true,
            breaks: false,
            transfers: false,
        }
    }

    /// The searches that there are. Together they look at what the protocol promises; each alone is small enough to end, but
    /// for `refused-reads`, which is left open.
    pub fn all() -> Vec<Self> {
        let three = || SERVERS.to_vec();
        let pairs = || vec![vec![1, 2], vec![1, 3], vec![2, 3]];
        vec![
            Self {
                voters: three(),
                terms: 3,
                changes: pairs(),
                ..Self::least("joint-3", "three terms and a change to any two of three voters")
            },
            Self {
                voters: three(),
                terms: 4,
                ..Self::least("elections", "four terms: the paper's Figure 8 and its like")
            },
            Self {
                voters: three(),
                terms: 3,
                commands: 1,
                ..Self::least("commands", "three terms and a command each")
            },
            Self {
                voters: three(),
                commands: 2,
                inflight: 2,
                ..Self::least("pipeline", "two terms, two commands, two requests under way")
            },
            Self {
                voters: three(),
                rounds: 2,
                reads: true,
                ..Self::least("reads", "two terms, reads, and their rounds")
            },
            Self {
                voters: three(),
                rounds: 2,
                reads: true,
                refused_rounds: true,
                crashes: false,
                ..Self::least("refused-reads", "two terms without a crash, reads, and heartbeats that are refused")
            },
            Self {
                voters: three(),
                pre_vote: true,
                crashes: false,
                ..Self::least("pre-vote", "two terms with pre-votes")
            },
            Self {
                voters: three(),
                rounds: 1,
                commands: 2,
                ..Self::least("heartbeats", "two terms, two commands, heartbeats that carry the commit index")
            },
            Self {
                voters: three(),
                terms: 1,
                rounds: 1,
                commands: 1,
                unfinished_writes: 1,
                refusals: true,
                ..Self::least("refusals", "one term, in which refusals arrive, on a disk that takes its time")
            },
            Self {
                voters: three(),
                commands: 1,
                breaks: true,
                ..Self::least("breaks", "two terms, a command, broken connections")
            },
            Self {
                voters: three(),
                commands: 1,
                unfinished_writes: 1,
                ..Self::least("disk", "two terms, a command, disks that take their time")
            },
            Self {
                voters: three(),
                terms: 1,
                rounds: 1,
                commands: 2,
                unfinished_writes: 2,
                ..Self::least("disk-2", "one term, two commands, two writes under way on each disk")
            },
            Self {
                voters: three(),
                terms: 3,
                transfers: true,
                ..Self::least("transfers", "three terms and leaders that hand over")
            },
            Self {
                voters: vec![1, 2],
                changes: vec![vec![2, 3], vec![1, 3], vec![3]],
                ..Self::least("joint-2", "two terms, two voters and a learner that takes a place, or all")
            },
            Self {
                voters: vec![1],
                terms: 3,
                changes: vec![vec![2, 3]],
                ..Self::least("joint-1", "three terms, one voter replaced by two others")
            },
        ]
    }

    /// The first membership.
    pub(super) fn membership(&self) -> Membership {
        let nodes = SERVERS.iter().map(|id| (*id, SimNode::default())).collect();
        Membership::new(vec![self.voters.iter().copied().collect()], nodes).unwrap_or_default()
    }

    /// The settings of a server: time stands still, and no bound is met.
    pub(super) fn replica(&self) -> ReplicaConfig {
        ReplicaConfig {
            heartbeat_interval: Span::ZERO,
            election_timeout_min: Span::ZERO,
            election_timeout_max: Span::ZERO,
            pre_vote: self.pre_vote,
            clock_drift_max: None,
            snapshot_policy: SnapshotPolicy::Never,
            ..ReplicaConfig::default()
        }
    }

    /// The settings of a stream.
    pub(super) fn stream(&self) -> StreamConfig {
        StreamConfig {
            inflight_requests_max: self.inflight,
            retry_min: Span::ZERO,
            retry_max: Span::ZERO,
            ..StreamConfig::default()
        }
    }

    /// The renamings of the servers under which this search looks the same: `of[id]` is the new name. The first changes
    /// nothing.
    pub(super) fn symmetries(&self) -> Vec<[NodeId; 4]> {
        let all = [[0, 1, 2, 3], [0, 1, 3, 2], [0, 2, 1, 3], [0, 2, 3, 1], [0, 3, 1, 2], [0, 3, 2, 1]];
        let set = |ids: &[NodeId]| ids.iter().copied().collect::<BTreeSet<_>>();
        let changes: BTreeSet<_> = self.changes.iter().map(|ids| set(ids)).collect();
        let keeps = |of: &[NodeId; 4]| {
            let renamed = |ids: &BTreeSet<NodeId>| ids.iter().map(|id| of[*id as usize]).collect::<BTreeSet<_>>();
            renamed(&set(&self.voters)) == set(&self.voters)
                && changes.iter().map(renamed).collect::<BTreeSet<_>>() == changes
        };
        all.into_iter().filter(keeps).collect()
    }
}
