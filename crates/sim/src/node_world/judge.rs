//! Shows what nodes do to the checkers, with everything else that is known at that moment.

use std::collections::BTreeMap;

use raftwright_core::{Incarnation, Write};

use super::tap::{Act, Report};
use crate::checkers::{Broken, Checkers, Disks, Fact, GodView, Ledger, Who, is_quorum, meant_disk};
use crate::core_world::store::{Base, CrashOutcome, LogView, SimStore};
use crate::core_world::types::{LogId, SimTypes, Vote, term_of};
use crate::world::NodeId;

/// What is known of one node, whatever it says itself.
#[derive(Debug, Default)]
struct Known {
    /// What is in its log, on its disk and on the way there, by the calls that its log has seen and answered.
    store: SimStore,
    incarnation: Option<Incarnation>,
    boot: u64,
    former: Option<(Incarnation, LogView)>,
    /// Its disk was emptied since it was last opened.
    wiped: bool,
    /// The vote under which it last began to lead.
    led: Option<Vote>,
    /// The index of its first entry then.
    led_from: u64,
    committed: u64,
    /// The last snapshot that its state machine has installed.
    installed: Option<Base>,
    /// The index of the membership in force when it last came to rest.
    config_index: u64,
}

impl Known {
    /// How far the log was committed for certain when a write was submitted, if `upto` is how far it was at the end of that
    /// moment. What a leader appends in one breath with a commit builds on its latest membership and on an entry of its own
    /// term; what is beyond these may have been committed only by a membership that comes with the write.
    fn committed_before(&self, write: &Write<SimTypes>, upto: LogId) -> Option<LogId> {
        let log = self.store.readable();
        let certain = match write {
            Write::Append(_) => {
                let built_on = log.membership().map_or(0, |(id, _)| id.index).max(self.led_from);
                if upto.index > built_on { log.log_id_at(built_on)? } else { upto }
            }
            Write::Vote(_) | Write::Truncate { .. } | Write::Purge { .. } => upto,
        };
        log.holds(&certain).then_some(certain)
    }

    /// The vote under which it leads.
    fn leading(&self) -> Option<Vote> {
        let vote = self.store.readable().vote?;
        self.led.filter(|led| led.leader_id == vote.leader_id)
    }
}

#[derive(Debug, Default)]
struct AllKnown(BTreeMap<NodeId, Known>);

impl Disks for AllKnown {
    fn disk(&self, node: NodeId) -> Option<&SimStore> {
        self.0.get(&node).map(|known| &known.store)
    }

    fn incarnation(&self, node: NodeId) -> Option<Incarnation> {
        self.0.get(&node)?.incarnation
    }

    fn former(&self, node: NodeId) -> Option<(Incarnation, &LogView)> {
        self.0.get(&node)?.former.as_ref().map(|(incarnation, log)| (*incarnation, log))
    }
}

/// The checkers and what they look at.
#[derive(Debug, Default)]
pub struct Judge {
    known: AllKnown,
    ledger: Ledger,
    checkers: Checkers,
    /// By index: the hash of the whole state after it.
    prints: BTreeMap<u64, (u64, NodeId)>,
    /// Nodes that did something since the last rest.
    moved: Vec<NodeId>,
    elections: u64,
    last_leader: Option<(NodeId, u64)>,
    /// What was applied since the last rest, whose commit is not known yet.
    applied: Vec<(NodeId, u64, Fact)>,
    /// What became of writes under way at the restarts since the last look.
    resumed: Vec<CrashOutcome>,
}

impl Judge {
    /// What was ever committed.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// How many leaders there were.
    pub fn elections(&self) -> u64 {
        self.elections
    }

    /// Who became leader last, and in which term.
    pub fn last_leader(&self) -> Option<(NodeId, u64)> {
        self.last_leader
    }

    /// A node's log.
    pub fn log(&self, node: NodeId) -> Option<&SimStore> {
        self.known.disk(node)
    }

    /// The incarnation of a node's disk, once it was opened.
    pub fn incarnation(&self, node: NodeId) -> Option<Incarnation> {
        self.known.incarnation(node)
    }

    /// What became of writes under way, for each restart since the last call.
    pub fn take_resumed(&mut self) -> Vec<CrashOutcome> {
        std::mem::take(&mut self.resumed)
    }

    /// A node's disk is emptied: it will come back as somebody else.
    pub fn wiped(&mut self, node: NodeId) {
        self.known.0.entry(node).or_default().wiped = true;
    }

    /// Takes up what happened in one moment, in order. `commits` is what each node that acted takes for committed at the
    /// end of it; those in `gone` have died, perhaps before they told.
    ///
    /// # Errors
    ///
    /// The property that is broken.
    pub fn hear(
        &mut self,
        reports: impl Iterator<Item = Report>,
        commits: &[(NodeId, LogId)],
        gone: &[NodeId],
    ) -> Result<(), Broken> {
        for report in reports {
            if let Act::Submitted(_, write) = &report.act
                && let Some(known) = self.known.0.get(&report.node).filter(|known| known.boot == report.boot)
            {
                let told = commits.iter().find(|(node, _)| *node == report.node).map(|(_, upto)| *upto);
                let told = told.and_then(|upto| known.committed_before(write, upto));
                let untold = if gone.contains(&report.node) { self.on_a_quorum(known) } else { None };
                if let Some(upto) = told.max(untold) {
                    self.committed(report.node, upto)?;
                }
            }
            self.hear_one(report)?;
        }
        self.rest(commits)
    }

    /// The last entry of a leader's own term that is on a quorum of its disks: committed, whether or not it has lived to say so
    /// (Raft §5.4.2).
    fn on_a_quorum(&self, leader: &Known) -> Option<LogId> {
        let term = leader.leading()?.term();
        let log = leader.store.readable();
        let (_, membership) = log.membership()?;
        let on_disks = |id: &LogId| {
            is_quorum(membership, |node| meant_disk(&self.known, membership, *node).is_some_and(|disk| disk.holds(id)))
        };
        let own = log.entries().rev().map(|stored| stored.entry.log_id);
        own.take_while(|id| id.index > leader.committed && term_of(id) == term).find(on_disks)
    }

    fn hear_one(&mut self, report: Report) -> Result<(), Broken> {
        let Report { node, boot, act } = report;
        if self.moved.last() != Some(&node) {
            self.moved.push(node);
        }
        match act {
            Act::Opened { incarnation, found } => self.opened(node, boot, incarnation, &found),
            // Completions may come late, of a process that has died.
            _ if self.known.0.get(&node).is_none_or(|known| known.boot != boot) => Ok(()),
            Act::Submitted(id, write) => self.submitted(node, id, write),
            Act::Flushed(id) => {
                let Some(known) = self.known.0.get_mut(&node) else { return Ok(()) };
                while known.store.under_way() > 0 {
                    if known.store.complete_oldest() == Some(id) {
                        break;
                    }
                }
                self.fact(node, Fact::DiskChanged)
            }
            Act::Applied { log_id, chain, state } => {
                self.applied.push((node, boot, Fact::Applied { log_id, chain, state }));
                Ok(())
            }
            Act::Kept { log_id, hashes: (chain, state) } => {
                self.applied.push((node, boot, Fact::SnapshotKept { log_id, chain, state }));
                Ok(())
            }
            Act::Installed { log_id, membership, hashes: (chain, state) } => {
                if let Some(known) = self.known.0.get_mut(&node) {
                    known.installed = membership.map(|membership| Base { last_log_id: log_id, chain, membership });
                }
                self.applied.push((node, boot, Fact::Installed { log_id, chain, state }));
                Ok(())
            }
            Act::Fingerprint { index, hash } => {
                let (first, by) = *self.prints.entry(index).or_insert((hash, node));
                if first == hash {
                    return Ok(());
                }
                let what = format!("nodes {by} and {node} have both applied {index} entries and differ in their state");
                Err(Broken { property: "equal logs make equal states", source: "fault model S6", what })
            }
            Act::Did(fact) => self.fact(node, fact),
        }
    }

    fn opened(
        &mut self,
        node: NodeId,
        boot: u64,
        incarnation: Incarnation,
        found: &crate::core_world::store::Found,
    ) -> Result<(), Broken> {
        let known = self.known.0.entry(node).or_default();
        if known.wiped
            && let Some(before) = known.incarnation.take()
        {
            known.former = Some((before, std::mem::take(&mut known.store).durable().clone()));
            known.installed = None;
        }
        let lost_identity = known.incarnation.is_some_and(|before| before != incarnation);
        *known = Known {
            store: std::mem::take(&mut known.store),
            former: known.former.take(),
            installed: known.installed.take(),
            incarnation: Some(incarnation),
            boot,
            ..Known::default()
        };
        let broken =
            |what| Broken { property: "a reopened log holds what it has promised", source: "fault model S27", what };
        if lost_identity {
            return Err(broken(format!("node {node} has the incarnation {incarnation} on a disk that had another")));
        }
        let outcome = known.store.resume(found).map_err(|what| broken(format!("node {node}: {what}")))?;
        self.resumed.push(outcome);
        self.fact(node, Fact::Booted)
    }

    fn submitted(&mut self, node: NodeId, id: raftwright_core::WriteId, write: Write<SimTypes>) -> Result<(), Broken> {
        let Some(known) = self.known.0.get_mut(&node) else { return Ok(()) };
        let vote = known.store.readable().vote;
        let mut fact_after = None;
        match &write {
            Write::Vote(_) => {}
            Write::Append(entries) => {
                // A leader's first act is an entry of its own term (Raft §8), which nobody else appends under its own vote.
                let own = entries.first().map(|entry| term_of(&entry.log_id));
                if let Some(vote) = vote.filter(|vote| vote.node_id() == node && own == Some(vote.term()))
                    && known.led.is_none_or(|led| led.leader_id != vote.leader_id)
                {
                    known.led = Some(vote);
                    known.led_from = entries.first().map_or(0, |entry| entry.log_id.index);
                    self.elections += 1;
                    self.last_leader = Some((node, vote.term()));
                    self.fact(node, Fact::BecameLeader { vote })?;
                }
                if let (Some(first), Some(last)) = (entries.first(), entries.last()) {
                    fact_after = Some((first.log_id.index, last.log_id.index));
                }
            }
            Write::Truncate { since } => {
                let leading = known.leading();
                self.fact(node, Fact::Truncating { since: *since, leading })?;
            }
            Write::Purge { upto } => self.fact(node, Fact::Purging { upto: *upto })?,
        }
        let Some(known) = self.known.0.get_mut(&node) else { return Ok(()) };
        known.store.submit(id, write, known.installed.clone()).map_err(|bad| Broken {
            property: "writes fit the log",
            source: "Raft §5.3",
            what: format!("node {node}: {}", bad.0),
        })?;
        let leading = known.leading();
        match fact_after {
            Some((first, last)) => self.fact(node, Fact::Appended { first, last, leading }),
            None => Ok(()),
        }
    }

    fn rest(&mut self, commits: &[(NodeId, LogId)]) -> Result<(), Broken> {
        // Who leads has committed before anybody could hear of it.
        for leads in [true, false] {
            for (node, upto) in commits {
                if self.known.0.get(node).is_some_and(|known| known.leading().is_some() == leads) {
                    self.committed(*node, *upto)?;
                }
            }
        }
        let mut applied = std::mem::take(&mut self.applied);
        for (node, boot, fact) in applied.drain(..) {
            if self.known.0.get(&node).is_none_or(|known| known.boot != boot) {
                continue;
            }
            // A process that died in this moment has not told how far it knew its log to be committed; what it applied says
            // as much, and has to stand like any commit.
            if let Fact::Applied { log_id, .. } = fact
                && log_id.index > self.ledger.last_index()
            {
                self.committed(node, log_id)?;
            }
            self.fact(node, fact)?;
        }
        self.applied = applied;
        let mut moved = std::mem::take(&mut self.moved);
        for node in moved.drain(..) {
            let Some(known) = self.known.0.get_mut(&node) else { continue };
            known.config_index = known.store.readable().membership().map_or(0, |(id, _)| id.index);
        }
        self.moved = moved;
        Ok(())
    }

    fn committed(&mut self, node: NodeId, upto: LogId) -> Result<(), Broken> {
        let Some(known) = self.known.0.get_mut(&node) else { return Ok(()) };
        let before = known.committed;
        if upto.index <= before {
            return Ok(());
        }
        known.committed = upto.index;
        let log = known.store.readable();
        for index in self.ledger.last_index() + 1..=upto.index {
            if let Some(stored) = log.get(index) {
                self.ledger.push(stored.entry.log_id, stored.chain);
            }
        }
        let (leading, config_index) = (known.leading().map(|vote| vote.term()), known.config_index);
        self.fact(node, Fact::Committed { upto })?;
        self.fact(node, Fact::CommitStands { upto, leading, config_index })
    }

    fn fact(&mut self, node: NodeId, fact: Fact) -> Result<(), Broken> {
        let Some(known) = self.known.0.get(&node) else { return Ok(()) };
        let who = Who { node, incarnation: known.incarnation.unwrap_or(Incarnation(0)), boot: known.boot };
        self.checkers.observe(who, &fact, &GodView { disks: &self.known, ledger: &self.ledger })
    }
}
