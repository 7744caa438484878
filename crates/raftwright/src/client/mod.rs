//! The client: finds the leader, asks again as long as it makes sense, and never has a command applied twice.

mod budget;
mod error;
mod nodes;
mod session;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use raftwright_net::Backoff;
use raftwright_traits::{Outcome, UnknownReason};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep_until, timeout_at};

use self::budget::Budget;
use self::error::{Next, Trouble};
use self::nodes::{Node, Nodes};
use self::session::{ClientSession, Offer, Seat};
use crate::envelope::{Applied, Envelope};
use crate::protocol::{AdminRequest, Members, NodeStatus, Op, Request, RequestError};
use crate::service::{Service, check_command};
use crate::sessions::SessionId;
use crate::state_machine::{StateMachine, decode_exactly};

pub use self::budget::{RETRY_BUDGET_CALLS, RETRY_BUDGET_MAX};
pub use self::error::ClientError;
pub use self::nodes::CLIENT_CONNECTIONS_MAX;

/// How long a call may take unless [`Client::with_deadline`] says otherwise.
pub const CLIENT_DEADLINE: Duration = Duration::from_secs(5);

/// The longest deadline there is.
pub const CLIENT_DEADLINE_MAX: Duration = Duration::from_secs(24 * 3600);

/// How long one server may take to answer before another one is asked.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(1);

/// How often a call goes straight on to where a server sends it. After that it pauses: servers that point at each other
/// have not yet settled who leads.
pub const REDIRECTS_MAX: u32 = 3;

/// First pause between two attempts.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// Least time that an attempt after the first must have: one cut off in the middle leaves its fate unknown.
const ATTEMPT_MIN: Duration = Duration::from_millis(50);
/// Longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// A client of a cluster. Cheap to clone; clones share connections, session and what they know of the leader, and may be
/// used from many tasks at once.
///
/// Each call is tried until it is answered or its deadline passes. Commands are written in a *session* (Thesis §6.3):
/// however often one is delivered, the cluster applies it once. An error's `outcome` says whether the command is surely
/// not applied or may have been.
///
/// Dropping a call abandons it; a command may be applied all the same.
pub struct Client<SM: StateMachine> {
    shared: Arc<Shared<SM>>,
    deadline: Duration,
}

impl<SM: StateMachine> Clone for Client<SM> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), deadline: self.deadline }
    }
}

impl<SM: StateMachine> fmt::Debug for Client<SM> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

struct Shared<SM: StateMachine> {
    nodes: Nodes<SM>,
    session: ClientSession,
    budget: Budget,
    types: PhantomData<fn() -> SM>,
}

/// Whether a call whose fate is unknown may be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeat {
    /// It changes nothing, or the servers notice the repetition.
    Always,
    /// It might be done twice.
    UnlessUnknown,
}

/// Who can answer a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Leader,
    Anybody,
}

/// A call of a client, attempts and all.
struct Call {
    op: Op,
    payload: Bytes,
    who: Who,
    repeat: Repeat,
    deadline: Instant,
}

/// An answer.
struct Answered {
    payload: Bytes,
    /// Whether an attempt before the one that was answered may have been applied.
    earlier: Outcome,
}

impl<SM: StateMachine> Client<SM> {
    /// A client of the cluster that these servers (`host:port`) belong to; one that runs is enough. It connects when it is
    /// used.
    pub fn connect<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Self {
        Self::new(endpoints.into_iter().map(Into::into).collect(), None)
    }

    /// A client inside the process of a server: it asks that one first and knows whom it knows.
    pub(crate) fn at(service: Arc<Service<SM>>) -> Self {
        Self::new(Vec::new(), Some(service))
    }

    fn new(endpoints: Vec<String>, here: Option<Arc<Service<SM>>>) -> Self {
        let shared = Shared {
            nodes: Nodes::new(endpoints, here, random()),
            session: ClientSession::default(),
            budget: Budget::new(),
            types: PhantomData,
        };
        Self { shared: Arc::new(shared), deadline: CLIENT_DEADLINE }
    }

    /// The same client with another deadline for each call, up to [`CLIENT_DEADLINE_MAX`].
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { deadline: deadline.min(CLIENT_DEADLINE_MAX), ..self.clone() }
    }

    /// Has a command applied, exactly once, and returns the state machine's answer.
    ///
    /// # Errors
    /// [`ClientError`]; its `outcome` says whether the command is surely not applied.
    pub async fn write(&self, command: SM::Command) -> Result<SM::Answer, ClientError> {
        let deadline = Instant::now() + self.deadline;
        let mut room = Envelope::with_room(&command).map_err(unencodable)?;
        // The servers check it as well. But one that does not answer in time leaves its fate unknown, and the next would be sent
        // all of it again.
        check_command(room.len())?;
        loop {
            let seat = self.seat(deadline).await?;
            let payload = Envelope::in_session(room, seat.id, seat.sequence, seat.settled);
            let answered = self.write_bytes(payload.clone(), deadline).await?;
            match (applied(answered.payload)?, answered.earlier) {
                // No delivery of this command was ever applied, so it may be given to a new session.
                (Applied::Expired, Outcome::NotApplied) => self.shared.session.expire(seat.id),
                (Applied::Expired, Outcome::Unknown) => {
                    self.shared.session.expire(seat.id);
                    return Err(RequestError::SessionExpired.into());
                }
                (applied, _) => return Ok(answer_of(applied)?),
            }
            room = BytesMut::from(payload);
        }
    }

    /// Asks the state machine, linearizably: the answer knows of every command acknowledged before this call began, by
    /// whatever client.
    ///
    /// # Errors
    /// [`ClientError`]. A read changes nothing, so asking again is always safe.
    pub async fn read(&self, query: SM::Query) -> Result<SM::Answer, ClientError> {
        let query = encode(&query)?;
        self.ask(Op::Read, Who::Leader, query).await
    }

    /// Asks the state machine of any server, which may be behind, even behind what it told this client before.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn stale_read(&self, query: SM::Query) -> Result<SM::Answer, ClientError> {
        let query = encode(&query)?;
        self.ask(Op::StaleRead, Who::Anybody, query).await
    }

    /// The members of the cluster, as any server knows them.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn members(&self) -> Result<Members, ClientError> {
        self.ask(Op::Members, Who::Anybody, Bytes::new()).await
    }

    /// Where one server stands. Only that one is asked, and only once.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn status_of(&self, endpoint: &str) -> Result<NodeStatus, ClientError> {
        let node = Node::At { addr: endpoint.to_owned(), id: None };
        let request = Request { op: Op::Status, wait: self.deadline, payload: Bytes::new() };
        let answer = self.shared.nodes.ask(&node, request).await.map_err(Trouble::into_error)?;
        readable(&answer)
    }

    /// Adds a server that gets the log and does not vote, or changes its address. Returns the index of the change in the
    /// log, once it is committed.
    ///
    /// # Errors
    /// [`ClientError`]; a change is not repeated when its fate is unknown. Making the same change again is safe.
    pub async fn add_learner(&self, id: u64, addr: impl Into<String>) -> Result<u64, ClientError> {
        self.admin(AdminRequest::AddLearner { id, addr: addr.into() }).await
    }

    /// Makes these members the voters, through a joint membership (Raft §6). `retain` keeps removed voters as learners.
    /// Returns the index of the change in the log, once it is committed.
    ///
    /// # Errors
    /// As [`add_learner`](Self::add_learner).
    pub async fn change_membership(&self, voters: BTreeSet<u64>, retain: bool) -> Result<u64, ClientError> {
        self.admin(AdminRequest::ChangeMembership { voters, retain }).await
    }

    /// Lets these members vote, beside those that vote at the time: unlike
    /// [`change_membership`](Self::change_membership), it undoes no change that the caller has not heard of. Returns the
    /// index of the change in the log, once it is committed.
    ///
    /// # Errors
    /// As [`add_learner`](Self::add_learner).
    pub async fn add_voters(&self, ids: BTreeSet<u64>) -> Result<u64, ClientError> {
        self.admin(AdminRequest::AddVoters { ids }).await
    }

    /// Takes the vote from these voters, and from nobody else. They leave the cluster, or stay as learners if `retain`.
    /// Returns the index of the change in the log, once it is committed.
    ///
    /// # Errors
    /// [`ClientError`]; a change is not repeated when its fate is unknown. Made again, it is refused if it was made: those
    /// vote no more.
    pub async fn remove_voters(&self, ids: BTreeSet<u64>, retain: bool) -> Result<u64, ClientError> {
        self.admin(AdminRequest::RemoveVoters { ids, retain }).await
    }

    /// Removes learners. Returns the index of the change in the log, once it is committed.
    ///
    /// # Errors
    /// As [`add_learner`](Self::add_learner).
    pub async fn remove_learners(&self, ids: BTreeSet<u64>) -> Result<u64, ClientError> {
        self.admin(AdminRequest::RemoveLearners { ids }).await
    }

    /// Has the leader hand over to another voter (Thesis §3.10).
    ///
    /// # Errors
    /// As [`add_learner`](Self::add_learner).
    pub async fn transfer_leader(&self, to: u64) -> Result<(), ClientError> {
        self.admin(AdminRequest::TransferLeader { to }).await.map(|_| ())
    }

    async fn admin(&self, request: AdminRequest) -> Result<u64, ClientError> {
        let deadline = Instant::now() + self.deadline;
        let payload = encode(&request)?;
        let call = Call { op: Op::Admin, payload, who: Who::Leader, repeat: Repeat::UnlessUnknown, deadline };
        readable(&self.shared.run(call).await?.payload)
    }

    /// A call that may be repeated.
    async fn ask<A: DeserializeOwned>(&self, op: Op, who: Who, payload: Bytes) -> Result<A, ClientError> {
        let deadline = Instant::now() + self.deadline;
        let call = Call { op, payload, who, repeat: Repeat::Always, deadline };
        readable(&self.shared.run(call).await?.payload)
    }

    async fn write_bytes(&self, payload: Bytes, deadline: Instant) -> Result<Answered, ClientError> {
        self.shared.run(Call { op: Op::Write, payload, who: Who::Leader, repeat: Repeat::Always, deadline }).await
    }

    /// A place in the session, which is opened first if need be.
    async fn seat(&self, deadline: Instant) -> Result<Seat<'_>, ClientError> {
        loop {
            match timeout_at(deadline, self.shared.session.offer()).await {
                Ok(Offer::Seat(seat)) => return Ok(seat),
                Ok(Offer::Open(opening)) => opening.opened(self.open_session(deadline).await?),
                Err(_) => {
                    let last = "too many commands are under way in this client, or no session was opened".to_owned();
                    return Err(ClientError::Deadline { outcome: Outcome::NotApplied, last });
                }
            }
        }
    }

    /// Opening a session twice leaves one that nobody uses; it is evicted some time.
    async fn open_session(&self, deadline: Instant) -> Result<SessionId, ClientError> {
        let answered = self.write_bytes(Envelope::open_session(random()), deadline).await.map_err(not_applied)?;
        match applied(answered.payload)? {
            Applied::Opened(session) => Ok(session),
            Applied::Answer(_)
            | Applied::Expired
            | Applied::Forgotten
            | Applied::Undecodable
            | Applied::Unencodable => Err(RequestError::Refused("the server does not open sessions".to_owned()).into()),
        }
    }
}

impl<SM: StateMachine> Shared<SM> {
    /// Makes a call until it is answered, its deadline passes, or nothing else can come of it.
    async fn run(&self, call: Call) -> Result<Answered, ClientError> {
        let mut backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX, random());
        let mut earlier = Outcome::NotApplied;
        let (mut at, mut redirects) = (self.nodes.start(), 0u32);
        // Where the last attempt failed: a hint that leads back there is not followed at once.
        let mut failed: Option<Node> = None;
        loop {
            let node = match call.who {
                Who::Leader => self.nodes.leader_or_any(at),
                Who::Anybody => self.nodes.any(at),
            };
            let Some(node) = node else { return Err(ClientError::NoEndpoint) };
            let trouble = match self.nodes.ask(&node, call.request()).await {
                Ok(payload) => {
                    self.on_answer(&call, &node);
                    return Ok(Answered { payload, earlier });
                }
                Err(trouble) => trouble,
            };
            tracing::debug!(server = %node, op = ?call.op, %trouble, "attempt failed");
            if trouble.outcome() == Outcome::Unknown && call.op.changes() {
                earlier = Outcome::Unknown;
                if call.repeat == Repeat::UnlessUnknown {
                    return Err(trouble.into_error());
                }
            }
            at = at.wrapping_add(1);
            let last = trouble.to_string();
            match trouble.next() {
                Next::Final => return Err(final_error(trouble, earlier)),
                Next::Redirect(leader) => {
                    let to = self.nodes.hint(&leader);
                    redirects += 1;
                    if redirects <= REDIRECTS_MAX && to != node && failed.take() != Some(to) {
                        continue;
                    }
                    redirects = 0;
                }
                Next::Elsewhere => {
                    self.nodes.avoid(&node);
                    failed = Some(node);
                }
                Next::Pause => {}
                // A call whose fate is unknown is worth more than the load that it makes.
                Next::Ease if earlier == Outcome::NotApplied && !self.budget.withdraw() => {
                    return Err(ClientError::RetriesExhausted { last });
                }
                Next::Ease => {}
            }
            let pause_end = Instant::now() + backoff.on_failure();
            if pause_end + ATTEMPT_MIN >= call.deadline {
                return Err(ClientError::Deadline { outcome: earlier, last });
            }
            sleep_until(pause_end).await;
        }
    }

    fn on_answer(&self, call: &Call, node: &Node) {
        self.budget.deposit();
        match call.who {
            Who::Leader => self.nodes.leads(node),
            Who::Anybody => {}
        }
    }
}

impl Call {
    /// The next attempt. A call that cannot be repeated has all the time that is left.
    fn request(&self) -> Request {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let wait = match self.repeat {
            Repeat::Always => left.min(ATTEMPT_TIMEOUT),
            Repeat::UnlessUnknown => left,
        };
        Request { op: self.op, wait, payload: self.payload.clone() }
    }
}

/// A server's final word, where an earlier attempt may have come to something else.
fn final_error(trouble: Trouble, earlier: Outcome) -> ClientError {
    match (trouble.outcome(), earlier) {
        (Outcome::NotApplied, Outcome::Unknown) => ClientError::Unknown { last: trouble.to_string() },
        (Outcome::NotApplied, Outcome::NotApplied) | (Outcome::Unknown, _) => trouble.into_error(),
    }
}

/// What became of a session that was to be opened does not matter to the command that wanted it.
fn not_applied(error: ClientError) -> ClientError {
    let outcome = Outcome::NotApplied;
    match error {
        ClientError::Deadline { last, .. } => ClientError::Deadline { outcome, last },
        ClientError::Unknown { last } => ClientError::Deadline { outcome, last },
        ClientError::Server(error) => ClientError::Server(RequestError::Refused(error.to_string())),
        ClientError::RetriesExhausted { .. } | ClientError::Unencodable(_) | ClientError::NoEndpoint => error,
    }
}

fn applied(bytes: Bytes) -> Result<Applied, ClientError> {
    let unreadable = || RequestError::Unreadable("the server's bytes are no outcome".to_owned());
    Ok(Applied::decode(bytes).ok_or_else(unreadable)?)
}

/// The answer to a command.
pub(crate) fn answer_of<A: DeserializeOwned>(applied: Applied) -> Result<A, RequestError> {
    match applied {
        Applied::Answer(bytes) => decode_exactly(&bytes).map_err(|e| RequestError::Unreadable(e.to_string())),
        Applied::Expired => Err(RequestError::SessionExpired),
        // Somebody else's session, or more commands under way in it than its window holds: an earlier delivery may have
        // been applied.
        Applied::Forgotten => Err(RequestError::Unknown(UnknownReason::Deadline)),
        Applied::Undecodable => Err(RequestError::Malformed("the servers cannot decode this command".to_owned())),
        Applied::Unencodable => Err(RequestError::Unreadable("the server cannot encode it".to_owned())),
        Applied::Opened(_) => Err(RequestError::Unreadable("the server answers that it opened a session".to_owned())),
    }
}

fn encode<T: Serialize>(value: &T) -> Result<Bytes, ClientError> {
    postcard::to_allocvec(value).map(Bytes::from).map_err(unencodable)
}

fn unencodable(error: postcard::Error) -> ClientError {
    ClientError::Unencodable(error.to_string())
}

fn readable<A: DeserializeOwned>(bytes: &[u8]) -> Result<A, ClientError> {
    Ok(decode_exactly(bytes).map_err(|error| RequestError::Unreadable(error.to_string()))?)
}

fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    // The standard library seeds each of these differently, from the operating system.
    RandomState::new().hash_one(0u64)
}
