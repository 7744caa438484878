//! A client: asks whom it knows until somebody answers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use raftwright::net::{Backoff, CallError, Channel, Dialer, Kind, Lane, Limits, OpenGate, Target};
use raftwright_traits::Outcome;
use tokio::time::{Instant, sleep, timeout_at};

use crate::protocol::{Answer, Call, Refusal};

/// How long one server may take to answer before another one is asked.
const ATTEMPT: Duration = Duration::from_secs(2);
/// How long a change of the membership may take: a learner is told the whole state first.
const CHANGE: Duration = Duration::from_secs(60);
/// Pauses between attempts.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientError {
    /// Whether it may have been done.
    pub outcome: Outcome,
    /// What the last attempt met with.
    pub last: String,
}

impl std::fmt::Display for ClientError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let outcome = match self.outcome {
            Outcome::NotApplied => "surely not done",
            Outcome::Unknown => "whether it is done is unknown",
        };
        write!(f, "{} ({outcome})", self.last)
    }
}

impl std::error::Error for ClientError {}

/// A client of some servers. A call goes to one after the other, and to where they say the leader is, until one answers or the
/// time is over. What changes something and may have been done already is not asked a second time: the caller knows whether
/// another client may have written in between, and whether that matters.
pub struct Client {
    dialer: Arc<Dialer>,
    /// The first of them is asked first.
    servers: Vec<(String, Channel)>,
    patience: Duration,
}

enum Attempt {
    Done(Answer),
    Refused(Refusal),
    Failed(CallError),
    Garbage(String),
}

impl Client {
    /// A client that knows the servers at these addresses and waits so long for an answer. `seed` decides the jitter of its
    /// pauses.
    pub fn new(addrs: impl IntoIterator<Item = String>, patience: Duration, seed: u64) -> Self {
        let dialer = Dialer::new(Arc::new(OpenGate::default()), Limits::default(), seed);
        let mut client = Self { dialer, servers: Vec::new(), patience };
        addrs.into_iter().for_each(|addr| client.know(addr));
        client
    }

    /// Asks this server first from now on.
    fn know(&mut self, addr: String) {
        match self.servers.iter().position(|(known, _)| *known == addr) {
            Some(at) => self.servers[..=at].rotate_right(1),
            None => {
                let target = Target { address: addr.clone(), node: None };
                let channel = Channel::spawn(Arc::clone(&self.dialer), target, Lane::Client);
                self.servers.insert(0, (addr, channel));
            }
        }
    }

    /// Asks until there is an answer.
    ///
    /// # Errors
    /// [`ClientError`] says whether it may have been done.
    pub async fn call(&mut self, call: &Call) -> Result<Answer, ClientError> {
        let deadline = Instant::now() + self.patience;
        let mut pauses = Backoff::new(PAUSE_MIN, PAUSE_MAX, 1);
        let mut error = ClientError { outcome: Outcome::NotApplied, last: "there is no server to ask".to_owned() };
        while let Some((_, channel)) = self.servers.first() {
            let channel = channel.clone();
            let Ok(attempt) = timeout_at(deadline, attempt(&channel, call)).await else {
                error.outcome = Outcome::Unknown;
                return Err(error);
            };
            let (outcome, leader, last) = match attempt {
                Attempt::Done(answer) => return Ok(answer),
                Attempt::Refused(Refusal::Refused(why)) => {
                    return Err(ClientError { outcome: error.outcome, last: why });
                }
                Attempt::Refused(Refusal::NotLeader(leader)) => {
                    (Outcome::NotApplied, leader, "the server does not lead".to_owned())
                }
                Attempt::Refused(refusal @ (Refusal::Later(_) | Refusal::Unknown(_))) => {
                    (refusal.outcome(), None, format!("{refusal:?}"))
                }
                Attempt::Failed(error) if error.is_surely_not_done() => (Outcome::NotApplied, None, error.to_string()),
                Attempt::Failed(error) => (Outcome::Unknown, None, error.to_string()),
                Attempt::Garbage(error) => (Outcome::Unknown, None, error),
            };
            if outcome == Outcome::Unknown {
                error.outcome = outcome;
            }
            error.last = last;
            if !may_be_repeated(call, outcome) {
                return Err(error);
            }
            match leader {
                Some(leader) => self.know(leader),
                None => self.servers.rotate_left(1),
            }
            if timeout_at(deadline, sleep(pauses.on_failure())).await.is_err() {
                return Err(error);
            }
        }
        Err(error)
    }

    /// Sets a key; returns the value that it had before.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn set(&mut self, key: &str, value: &str) -> Result<Option<String>, ClientError> {
        match self.call(&Call::Set { key: key.to_owned(), value: value.to_owned() }).await? {
            Answer::Previous(previous) => Ok(previous),
            other => Err(senseless(&other)),
        }
    }

    /// The value of a key, with everything that was acknowledged before.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn get(&mut self, key: &str) -> Result<Option<String>, ClientError> {
        match self.call(&Call::Get(key.to_owned())).await? {
            Answer::Value(value) => Ok(value),
            other => Err(senseless(&other)),
        }
    }

    /// Changes the voters to these.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn change_membership(&mut self, voters: BTreeSet<u64>) -> Result<(), ClientError> {
        self.call(&Call::ChangeMembership(voters)).await.map(drop)
    }
}

/// Whether a call may be made again after an attempt that ended so. A second [`Call::Set`] could take back what another client
/// has written since; a cluster is made once, however often it is asked for.
fn may_be_repeated(call: &Call, outcome: Outcome) -> bool {
    match call {
        Call::Init | Call::Get(_) | Call::Status => true,
        Call::Set { .. } | Call::AddLearner { .. } | Call::ChangeMembership(_) => outcome == Outcome::NotApplied,
    }
}

fn senseless(answer: &Answer) -> ClientError {
    ClientError { outcome: Outcome::Unknown, last: format!("the server answers {answer:?}, which makes no sense") }
}

async fn attempt(channel: &Channel, call: &Call) -> Attempt {
    let wait = match call {
        Call::Init | Call::AddLearner { .. } | Call::ChangeMembership(_) => CHANGE,
        Call::Set { .. } | Call::Get(_) | Call::Status => ATTEMPT,
    };
    let body = match serde_json::to_vec(call) {
        Ok(body) => Bytes::from(body),
        Err(error) => return Attempt::Refused(Refusal::Refused(error.to_string())),
    };
    match channel.call(Kind::Client, body.into(), wait).await {
        Ok(answer) => match serde_json::from_slice::<Result<Answer, Refusal>>(&answer) {
            Ok(Ok(answer)) => Attempt::Done(answer),
            Ok(Err(refusal)) => Attempt::Refused(refusal),
            Err(error) => Attempt::Garbage(error.to_string()),
        },
        Err(error) => Attempt::Failed(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changes_nothing_is_repeated_when_its_fate_is_unknown() {
        let set = Call::Set { key: "key".to_owned(), value: "value".to_owned() };
        let add = Call::AddLearner { id: 1, addr: "127.0.0.1:1".to_owned() };
        for call in [set, add, Call::ChangeMembership(BTreeSet::new())] {
            assert!(may_be_repeated(&call, Outcome::NotApplied), "{call:?}");
            assert!(!may_be_repeated(&call, Outcome::Unknown), "{call:?}");
        }
        for call in [Call::Init, Call::Get("key".to_owned()), Call::Status] {
            assert!(may_be_repeated(&call, Outcome::Unknown), "{call:?}");
        }
    }
}
