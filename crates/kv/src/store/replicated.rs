//! The map as the easy layer's state machine.

use raftwright::{BoxError, StateMachine};

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

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), BoxError> {
        *self = Self::read_snapshot(&mut &*snapshot)?;
        Ok(())
    }
}
