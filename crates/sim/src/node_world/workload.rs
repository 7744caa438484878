//! What clients do to a cluster, and what they must see.

use core::fmt::Debug;
use core::future::Future;
use core::pin::Pin;

use raftwright_node::Raft;

use super::application::Application;
use super::tap::Reporter;
use crate::lin::History;
use crate::world::{NodeId, Rng};

/// What became of one attempt of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told<R> {
    /// This is the answer.
    Answer(R),
    /// Surely nothing happened; somebody else may lead.
    Elsewhere(Option<NodeId>),
    /// Surely nothing happened; a bound is reached.
    Busy,
    /// It may have happened.
    Unknown,
}

/// An attempt under way.
pub type Attempted<R> = Pin<Box<dyn Future<Output = Told<R>> + Send>>;

/// Clients with this number and above ask once, and nobody hears their answers: an application keeps no session for them.
pub const NO_SESSION: u64 = 1 << 40;

/// One operation of one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// The client.
    pub client: u64,
    /// Its operations are numbered.
    pub number: u64,
    /// Ask the leader's state machine instead of the log, if the operation changes nothing.
    pub by_read: bool,
    /// Trust the leader's lease for that.
    pub by_lease: bool,
    /// The last index that was committed anywhere when it was asked.
    pub committed_at_call: u64,
}

/// What clients do to a cluster of some application.
pub trait Workload: Application {
    /// What a client wants.
    type Op: Clone + Debug + Send + 'static;
    /// What it is told.
    type Ret: Clone + Debug + Send + 'static;

    /// Whether an operation whose outcome is unknown may be sent again: only where it then takes effect once.
    const REPEATABLE: bool;

    /// What a client does next.
    fn next(&self, client: u64, number: u64, rng: &mut Rng) -> Self::Op;

    /// Whether it changes nothing.
    fn is_read(op: &Self::Op) -> bool;

    /// Asks one node once.
    fn attempt(
        &self,
        ask: Ask,
        op: Self::Op,
        raft: Raft<Self::C>,
        probe: Self::Probe,
        reporter: Reporter,
    ) -> Attempted<Self::Ret>;

    /// Something to write that no history knows, for bursts.
    fn noise(&self, number: u64) -> Self::Op;

    /// Checks what the clients saw; answers how many operations that were.
    ///
    /// # Errors
    ///
    /// What cannot be, in words.
    fn judge(&self, history: &History<Self::Op, Self::Ret>) -> Result<usize, String>;
}
