//! Errors cross wires and admin pages, and say what the failed call may have done.

use std::fmt::Debug;

use raftwright_traits::{
    BasicNode, ChangeMembershipError, ClientWriteError, ConfigError, Fatal, ForwardToLeader, InitializeError,
    LinearizableReadError, MembershipError, Outcome, RPCError, RaftError, ReloadError, StorageError, StorageErrorKind,
    TransferLeaderError, UnknownReason,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::TestConfig;

fn survives<E: Serialize + DeserializeOwned + PartialEq + Debug>(error: &E) {
    let text = serde_json::to_string(error).unwrap();
    assert_eq!(&serde_json::from_str::<E>(&text).unwrap(), error, "{text}");
}

fn forward() -> ForwardToLeader<TestConfig> {
    ForwardToLeader { leader_id: Some(3), leader_node: Some(BasicNode::new("10.0.0.3:1")) }
}

fn writes() -> Vec<(ClientWriteError<TestConfig>, Outcome)> {
    let mut all = vec![
        (ClientWriteError::ForwardToLeader(forward()), Outcome::NotApplied),
        (ClientWriteError::Busy, Outcome::NotApplied),
        (ClientWriteError::Superseded, Outcome::NotApplied),
        (ClientWriteError::Expired, Outcome::NotApplied),
        (ClientWriteError::LeaderChanged, Outcome::NotApplied),
    ];
    for reason in
        [UnknownReason::Deadline, UnknownReason::LeadershipLost, UnknownReason::Snapshot, UnknownReason::Stopped]
    {
        all.push((ClientWriteError::Unknown(reason), Outcome::Unknown));
    }
    all
}

#[test]
fn every_error_survives_a_wire() {
    for (error, _) in writes() {
        survives(&RaftError::APIError(error));
    }
    survives::<LinearizableReadError<TestConfig>>(&LinearizableReadError::ForwardToLeader(forward()));
    survives::<InitializeError<TestConfig>>(&InitializeError::Membership(MembershipError::EmptyVoters));
    survives::<ChangeMembershipError<TestConfig>>(&ChangeMembershipError::IsVoter(7));
    survives::<TransferLeaderError<TestConfig>>(&TransferLeaderError::NotApplicable(7));
    survives(&RPCError::Unreachable("a cut cable".to_owned()));
    let cause = std::io::Error::other("the disk is gone");
    let storage = StorageError::from_error(StorageErrorKind::Write, &cause);
    assert_eq!(std::error::Error::source(&storage).unwrap().to_string(), "the disk is gone");
    for fatal in [Fatal::Stopped, Fatal::Storage(storage), Fatal::Panicked("x".into()), Fatal::Start("y".into())] {
        survives(&RaftError::<ReloadError>::Fatal(fatal));
    }
    survives(&ReloadError::Invalid(ConfigError { setting: "reads_max".into(), why: "zero".into() }));
    survives(&ReloadError::Fixed { setting: "rpc_timeout".into() });
}

#[test]
fn every_error_says_what_the_call_may_have_done() {
    for (error, outcome) in writes() {
        assert_eq!(error.outcome(), outcome, "{error}");
        assert_eq!(RaftError::APIError(error).outcome(), outcome);
    }
    assert_eq!(RaftError::<ClientWriteError<TestConfig>>::Fatal(Fatal::Stopped).outcome(), Outcome::NotApplied);
    let initialize = InitializeError::<TestConfig>::Unknown(UnknownReason::Stopped);
    assert_eq!(RaftError::APIError(initialize).outcome(), Outcome::Unknown);
}
