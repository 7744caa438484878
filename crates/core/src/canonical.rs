//! The state of a machine as words, so that a search can tell whether it has been in the same state before.

use alloc::vec::Vec;

use crate::{
    CommittedLeaderId, CommittedLeaderIdOf, Incarnation, LeaderId, LogIdOf, MembershipOf, Node, Ticket, Types, VoteOf,
};

/// Collects the words of a state.
///
/// Two machines with the same words take the same inputs the same way from here on, **provided** that all spans of their
/// settings are zero, no snapshot is built by itself, and their bounds are out of reach. Left out is what then makes no difference: times and chance, the
/// names of streams and writes (only their order counts), which of two equal promises came first, and how much room
/// proposals take.
///
/// Servers and tickets are named by the caller, who may thus ask for the words under another numbering of the servers: the
/// protocol does not know one server from another, so a state and its renamed twin have the same future, renamed.
pub struct Canonical<'a, T: Types> {
    words: Vec<u64>,
    server: &'a dyn Fn(&T::NodeId) -> u64,
    ticket: &'a dyn Fn(Ticket) -> u64,
}

impl<'a, T: Types> Canonical<'a, T> {
    /// No words yet.
    pub fn new(server: &'a dyn Fn(&T::NodeId) -> u64, ticket: &'a dyn Fn(Ticket) -> u64) -> Self {
        Self { words: Vec::new(), server, ticket }
    }

    /// The words so far.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Adds a number.
    pub fn word(&mut self, word: u64) {
        self.words.push(word);
    }

    /// Adds a truth.
    pub fn flag(&mut self, flag: bool) {
        self.words.push(u64::from(flag));
    }

    /// Adds a server.
    pub fn server(&mut self, id: &T::NodeId) {
        self.words.push((self.server)(id));
    }

    /// Adds a ticket.
    pub fn ticket(&mut self, ticket: Ticket) {
        self.words.push((self.ticket)(ticket));
    }

    /// Adds whether there is something, and what.
    pub fn option<X>(&mut self, value: Option<&X>, add: impl FnOnce(&mut Self, &X)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            add(self, value);
        }
    }

    /// Adds things whose order says nothing: they are sorted by their words, and equal ones count once.
    pub fn unordered<X>(&mut self, items: impl Iterator<Item = X>, mut add: impl FnMut(&mut Self, X)) {
        let mut parts: Vec<Vec<u64>> = Vec::new();
        for item in items {
            let start = self.words.len();
            add(self, item);
            parts.push(self.words.drain(start..).collect());
        }
        parts.sort_unstable();
        parts.dedup();
        self.word(parts.len() as u64);
        for part in parts {
            self.word(part.len() as u64);
            self.words.extend(part);
        }
    }

    /// Adds a leader of entries.
    pub fn leader(&mut self, leader: &CommittedLeaderIdOf<T>) {
        self.word(leader.term());
        self.option(leader.node_id().as_ref(), Self::server);
    }

    /// Adds a log id.
    pub fn log_id(&mut self, log_id: &LogIdOf<T>) {
        self.leader(&log_id.leader_id);
        self.word(log_id.index);
    }

    /// Adds a vote.
    pub fn vote(&mut self, vote: &VoteOf<T>) {
        self.word(vote.term());
        self.server(&vote.leader_id.node_id());
        self.flag(vote.committed);
    }

    /// Adds an incarnation.
    pub fn incarnation(&mut self, incarnation: Option<Incarnation>) {
        self.option(incarnation.as_ref(), |words, incarnation| words.word(incarnation.0));
    }

    /// Adds a membership. Of a member's data only the incarnation counts.
    pub fn membership(&mut self, membership: &MembershipOf<T>) {
        self.word(membership.configs().len() as u64);
        for voters in membership.configs() {
            self.unordered(voters.iter(), Self::server);
        }
        self.unordered(membership.nodes().iter(), |words, (id, node)| {
            words.server(id);
            words.incarnation(node.incarnation());
        });
        self.flag(membership.retains());
        self.unordered(membership.promoting().iter(), Self::server);
    }
}

impl<T: Types> core::fmt::Debug for Canonical<'_, T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Canonical").field("words", &self.words).finish_non_exhaustive()
    }
}
