//! The map as the easy layer's state machine.

use std::io::Read;

use raftwright::{BoxError, Frozen, StateMachine};

use crate::store::{Answer, Command, KvStateMachine, Query};

impl StateMachine for KvStateMachine {
    type Command = Command;
    type Query = Query;
    type Answer = Answer;

    fn apply(&mut self, command: Command) -> Answer {
        self.apply(command)
    }

    fn query(&self, query: Query) -> Answer {
        self.query(&query)
    }

    fn snapshot(&self) -> Result<Vec<u8>, BoxError> {
        let mut bytes = Vec::new();
        self.write_snapshot(&mut bytes)?;
        Ok(bytes)
    }

    /// A copy of the map costs next to nothing, and is written while the map itself goes on changing.
    fn freeze(&self) -> Result<Frozen, BoxError> {
        let copy = self.clone();
        Ok(Box::new(move |mut to| Ok(copy.write_snapshot(&mut to)?)))
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), BoxError> {
        *self = Self::read_snapshot(&mut &*snapshot)?;
        Ok(())
    }

    fn restore_from(&mut self, mut from: &mut dyn Read) -> Result<(), BoxError> {
        *self = Self::read_snapshot(&mut from)?;
        Ok(())
    }
}
