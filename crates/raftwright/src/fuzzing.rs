//! Decoders that are nobody's business, for those who throw bytes at them (feature `fuzzing`). No part of the interface.

use std::io::Cursor;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use raftwright_traits::{RaftStateMachine, SnapshotMeta, StoredMembership};

use crate::envelope::Applied;
use crate::protocol::{Request, decode_answer};
use crate::replicated::Replicated;
use crate::state_machine::{BoxError, StateMachine};

/// A request of a client, and what a server answers to it.
pub fn protocol(bytes: &Bytes) {
    if let Ok(request) = Request::decode(bytes.clone()) {
        let again = Request::decode(request.encode().into_bytes());
        assert_eq!(again.as_ref(), Ok(&request), "a request comes back as it went");
    }
    // Whatever it is, it is read or refused.
    let _ = decode_answer(bytes.clone());
}

/// What applying an entry came to.
pub fn outcome(bytes: &Bytes) {
    if let Some(outcome) = Applied::decode(bytes.clone()) {
        assert_eq!(outcome.encode(), *bytes, "there is one form of each outcome");
    }
}

struct Bucket(Vec<u8>);

impl StateMachine for Bucket {
    type Command = ();
    type Query = ();
    type Answer = ();

    fn apply(&mut self, (): ()) {}

    fn query(&self, (): ()) {}

    fn snapshot(&self) -> Result<Vec<u8>, BoxError> {
        Ok(self.0.clone())
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), BoxError> {
        self.0 = snapshot.to_vec();
        Ok(())
    }
}

/// A snapshot: the table of sessions and the application's bytes. One that is taken is given out again, the same bytes.
pub fn snapshot(bytes: &[u8]) {
    let mut machine = Replicated::new(Bucket(Vec::new()));
    let meta = SnapshotMeta {
        last_log_id: None,
        last_membership: StoredMembership::default(),
        snapshot_id: "of anybody".to_owned(),
    };
    let mut context = Context::from_waker(Waker::noop());
    let installed = {
        let install = pin!(machine.install_snapshot(&meta, Cursor::new(bytes.to_vec())));
        install.poll(&mut context)
    };
    if let Poll::Ready(Ok(())) = installed {
        let current = pin!(machine.get_current_snapshot());
        let Poll::Ready(Ok(Some(current))) = current.poll(&mut context) else { return };
        assert_eq!(current.snapshot.into_inner(), bytes, "what was installed is given out");
    }
}
