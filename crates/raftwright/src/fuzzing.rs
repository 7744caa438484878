//! Decoders that are nobody's business, for those who throw bytes at them (feature `fuzzing`). No part of the interface.

use bytes::Bytes;
use raftwright_traits::{
    BasicNode, CommittedLeaderId as _, CommittedLeaderIdOf, LogIdOf, Membership, SnapshotMeta, StoredMembership,
};

use crate::easy_config::EasyConfig;
use crate::envelope::Applied;
use crate::protocol::{Request, decode_answer};
use crate::replicated::content;
use crate::sessions::Sessions;
use crate::state_machine::{BoxError, Frozen, StateMachine};

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

fn written(sessions: &Sessions, machine: &Bucket) -> Vec<u8> {
    let state = machine.0.clone();
    let mut bytes = Vec::new();
    let frozen: Frozen = Box::new(move |to| Ok(to.write_all(&state)?));
    let done = content::write(&mut bytes, sessions, frozen);
    assert!(done.is_ok(), "there is room in memory: {done:?}");
    bytes
}

/// A snapshot: the table of sessions and the application's bytes. One that is taken is given out as one that is taken and is
/// the same.
pub fn snapshot(bytes: &[u8]) {
    let mut machine = Bucket(Vec::new());
    let Ok(sessions) = content::read(&mut &*bytes, &mut machine) else {
        assert!(machine.0.is_empty(), "what is refused has not touched the machine");
        return;
    };
    assert!(bytes.ends_with(&machine.0), "the application's bytes are the last");
    let out = written(&sessions, &machine);
    let mut again = Bucket(Vec::new());
    match content::read(&mut &*out, &mut again) {
        Ok(sessions) => assert_eq!(written(&sessions, &again), out, "what was taken is given out"),
        Err(error) => panic!("it is not taken again: {error}"),
    }
    assert_eq!(again.0, machine.0);
}

/// What is said about a snapshot.
pub fn snapshot_meta(bytes: &[u8]) {
    let Some(meta) = content::decode_meta(bytes) else { return };
    match content::encode_meta(&meta) {
        Ok(again) => assert_eq!(content::decode_meta(&again), Some(meta), "it comes back as it went"),
        Err(error) => panic!("it does not go out again: {error}"),
    }
}

/// What is said about a snapshot of these members.
pub fn about_snapshot(membership: Membership<u64, BasicNode>) -> Vec<u8> {
    let log_id = LogIdOf::<EasyConfig>::new(CommittedLeaderIdOf::<EasyConfig>::new(3, None), 20);
    let meta = SnapshotMeta::<EasyConfig> {
        last_log_id: Some(log_id),
        last_membership: StoredMembership::<EasyConfig> { log_id: Some(log_id), membership },
        snapshot_id: "3-20".to_owned(),
    };
    content::encode_meta(&meta).unwrap_or_default()
}
