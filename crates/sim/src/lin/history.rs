//! What clients did and saw.

/// A moment of a history. Only the order of stamps counts; the simulator uses the number of the event, so that no two
/// moments are equal. Where two are, calls count as earlier than returns: the operations overlap.
pub type Stamp = u64;

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<R> {
    /// It returned `ret` at `at`.
    Returned {
        /// The moment of the return.
        at: Stamp,
        /// What the client was told.
        ret: R,
    },
    /// Nobody knows: it may take effect at any moment after its call, or never.
    Unknown,
}

/// One operation of one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation<O, R> {
    /// The client, for reports only: the checker does not trust clients to be sequential.
    pub client: u64,
    /// The moment of the call.
    pub invoked: Stamp,
    /// What was asked.
    pub op: O,
    /// What came of it.
    pub outcome: Outcome<R>,
}

/// The names of an operation within its history: its place in the order of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub usize);

/// All operations of all clients.
#[derive(Debug, Clone)]
pub struct History<O, R> {
    operations: Vec<Operation<O, R>>,
}

impl<O, R> Default for History<O, R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<O, R> History<O, R> {
    /// An empty history.
    pub fn new() -> Self {
        Self { operations: Vec::new() }
    }

    /// Records a call. Until [`History::returned`] says otherwise, its outcome is unknown.
    pub fn invoke(&mut self, client: u64, at: Stamp, op: O) -> OpId {
        self.operations.push(Operation { client, invoked: at, op, outcome: Outcome::Unknown });
        OpId(self.operations.len() - 1)
    }

    /// Records that an operation returned. Ignored if the history has no such operation.
    pub fn returned(&mut self, id: OpId, at: Stamp, ret: R) {
        if let Some(operation) = self.operations.get_mut(id.0) {
            operation.outcome = Outcome::Returned { at, ret };
        }
    }

    /// Adds a whole operation.
    pub fn push(&mut self, operation: Operation<O, R>) {
        self.operations.push(operation);
    }

    /// The operations in the order of their recording.
    pub fn operations(&self) -> &[Operation<O, R>] {
        &self.operations
    }

    /// How many operations there are, those of unknown outcome included.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }
}
