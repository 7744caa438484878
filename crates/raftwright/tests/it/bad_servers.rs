//! A client among servers that answer nonsense.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use raftwright::net::{
    Body, Fault, FaultCode, Handler, Kind, Limits, Listener, OpenGate, PeerIdentity, ServerHandle, Session,
};
use raftwright::{
    ATTEMPT_TIMEOUT, Client, ClientError, Leader, Outcome, REDIRECTS_MAX, RequestError, UnknownReason, encode,
};

use crate::tally::{PATIENCE, Tally, add};
use crate::unknown::sent;

type Answers = dyn Fn(usize, &[u8]) -> Result<Vec<u8>, Fault> + Send + Sync;

/// Answers whatever it was made with.
struct Fake {
    calls: AtomicUsize,
    answers: Mutex<Arc<Answers>>,
}

impl Handler for Fake {
    async fn handle(self: Arc<Self>, _: Arc<Session>, _: Kind, body: Bytes) -> Result<Body, Fault> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let answers = Arc::clone(&self.answers.lock().unwrap());
        answers(call, &body).map(Body::from)
    }
}

struct FakeServer {
    fake: Arc<Fake>,
    addr: String,
    _handle: ServerHandle,
}

impl FakeServer {
    async fn start(answers: impl Fn(usize, &[u8]) -> Result<Vec<u8>, Fault> + Send + Sync + 'static) -> Self {
        let identity = PeerIdentity { node: Some(1), ..PeerIdentity::default() };
        let listener = Listener::bind("127.0.0.1:0", Arc::new(OpenGate { identity }), Limits::default()).await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let fake = Arc::new(Fake { calls: AtomicUsize::new(0), answers: Mutex::new(Arc::new(answers)) });
        Self { _handle: listener.serve(Arc::clone(&fake)), fake, addr }
    }

    fn calls(&self) -> usize {
        self.fake.calls.load(Ordering::SeqCst)
    }

    /// One that waits as long as it takes.
    fn client(&self) -> Client<Tally> {
        Client::connect([&self.addr]).with_deadline(PATIENCE)
    }

    /// One that soon gives up, for calls that nobody ever answers.
    fn hurried(&self) -> Client<Tally> {
        self.client().with_deadline(Duration::from_millis(300))
    }
}

fn done(payload: &[u8]) -> Result<Vec<u8>, Fault> {
    Ok([&[1, 0], payload].concat())
}

fn failed(error: &RequestError) -> Result<Vec<u8>, Fault> {
    Ok([&[1, 1][..], &encode(error).unwrap()].concat())
}

fn sent_to(id: u64, addr: &str) -> RequestError {
    RequestError::NotLeader { leader: Some(Leader { id, addr: addr.to_owned() }) }
}

/// Opens a session for whoever asks, and answers commands with `answer`.
fn after_session(answer: impl Fn() -> Result<Vec<u8>, Fault>, body: &[u8]) -> Result<Vec<u8>, Fault> {
    match body.get(6) {
        Some(2) => done(&[&[1][..], &7u128.to_le_bytes()].concat()),
        _ => answer(),
    }
}

#[tokio::test]
async fn answers_that_are_none_end_in_an_error() {
    let nonsense: [&[u8]; 8] =
        [&[], &[1], &[9, 0, 1], &[1, 7], &[1, 1], &[1, 1, 200], &[1, 0, 200], &[1, 0, 0, 255, 255, 255]];
    for bytes in nonsense {
        let server = FakeServer::start(move |_, body| after_session(|| Ok(bytes.to_vec()), body)).await;
        let error = sent(&server.hurried(), add("a", 1)).await;
        assert_eq!(error.outcome(), Outcome::Unknown, "{bytes:?}: {error}");
        server.hurried().read("a".into()).await.unwrap_err();
        server.hurried().members().await.unwrap_err();
        server.hurried().status_of(&server.addr).await.unwrap_err();
    }
}

#[tokio::test]
async fn servers_that_point_at_each_other_do_not_keep_a_client_running_in_circles() {
    let first = FakeServer::start(|_, _| failed(&RequestError::Busy)).await;
    let to = first.addr.clone();
    let second = FakeServer::start(move |_, _| failed(&sent_to(1, &to))).await;
    let to = second.addr.clone();
    *first.fake.answers.lock().unwrap() = Arc::new(move |_, _| failed(&sent_to(1, &to)));
    let error = first.hurried().write(add("a", 1)).await.unwrap_err();
    assert!(matches!(error, ClientError::Deadline { outcome: Outcome::NotApplied, .. }), "{error:?}");
    // A handful of hops, then a pause that grows: what fits into the deadline is far below this.
    assert!(first.calls() + second.calls() < 200, "{} and {}", first.calls(), second.calls());
}

/// A call goes straight on to where it is sent, a few times. Then it would pause, and its deadline leaves no time for that. The
/// clock stands still, so that nothing here depends on the machine.
#[tokio::test(start_paused = true)]
async fn a_call_is_sent_on_a_few_times_before_it_pauses() {
    // A clock that is paused jumps when nothing can run, but not while a thread blocks.
    let (thaw, frozen) = std::sync::mpsc::sync_channel::<()>(1);
    let blocked = tokio::task::spawn_blocking(move || frozen.recv().is_err());
    let mut servers = Vec::new();
    for _ in 0..2 * REDIRECTS_MAX {
        servers.push(FakeServer::start(|_, _| failed(&RequestError::Busy)).await);
    }
    for (server, next) in servers.iter().zip(&servers[1..]) {
        let to = next.addr.clone();
        *server.fake.answers.lock().unwrap() = Arc::new(move |_, _| failed(&sent_to(1, &to)));
    }
    let client = Client::<Tally>::connect([&servers[0].addr]).with_deadline(Duration::from_millis(50));
    let error = client.read("a".into()).await.unwrap_err();
    assert!(matches!(error, ClientError::Deadline { .. }), "{error:?}");
    let asked = servers.iter().filter(|server| server.calls() == 1).count();
    assert_eq!(asked, 1 + REDIRECTS_MAX as usize);
    drop(thaw);
    assert!(blocked.await.unwrap(), "nothing was ever sent");
}

#[tokio::test]
async fn a_server_that_names_ever_new_leaders_is_bounded() {
    let server = FakeServer::start(|call, _| failed(&sent_to(2, &format!("127.0.0.1:{}", call % 9 + 1)))).await;
    let error = server.hurried().read("a".into()).await.unwrap_err();
    assert!(matches!(error, ClientError::Deadline { .. }), "{error:?}");
}

#[tokio::test]
async fn a_write_whose_fate_was_unknown_once_is_asked_again_with_the_same_number() {
    let seen: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let server = FakeServer::start({
        let seen = Arc::clone(&seen);
        move |_, body| {
            let answer = || {
                let mut seen = seen.lock().unwrap();
                seen.push(body[6..].to_vec());
                match seen.len() {
                    1 => failed(&RequestError::Unknown(UnknownReason::LeadershipLost)),
                    2 => failed(&RequestError::Superseded),
                    3 => Err(Fault::new(FaultCode::Stopped, "going down")),
                    _ => done(&[&[0][..], &encode(&42u64).unwrap()].concat()),
                }
            };
            after_session(answer, body)
        }
    })
    .await;
    let client = server.client();
    assert_eq!(client.write(add("a", 1)).await.unwrap(), 42);
    let seen = seen.lock().unwrap();
    assert!(seen.len() == 4 && seen.iter().all(|bytes| *bytes == seen[0]), "{seen:?}");
}

#[tokio::test]
async fn an_expired_session_is_an_error_only_if_the_command_may_have_been_applied() {
    // The first command meets an expired session at once, and goes into a new one; the second was delivered before.
    let server = FakeServer::start(|call, body| {
        let answer = || match call {
            1 | 5 => done(&[2]),
            4 => failed(&RequestError::Unknown(UnknownReason::LeadershipLost)),
            _ => done(&[&[0][..], &encode(&1u64).unwrap()].concat()),
        };
        after_session(answer, body)
    })
    .await;
    let client = server.client();
    assert_eq!(client.write(add("a", 1)).await.unwrap(), 1);
    assert_eq!(server.calls(), 4, "session, command, session, command");
    let error = client.write(add("a", 1)).await.unwrap_err();
    assert_eq!(error, ClientError::Server(RequestError::SessionExpired));
    assert_eq!(error.outcome(), Outcome::Unknown);
}

#[tokio::test]
async fn an_overloaded_server_is_not_asked_for_ever() {
    let server = FakeServer::start(|_, _| failed(&RequestError::Busy)).await;
    let client = server.client();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let client = client.clone();
        calls.spawn(async move { client.read("a".into()).await.unwrap_err() });
    }
    for error in calls.join_all().await {
        assert!(matches!(error, ClientError::RetriesExhausted { .. }), "{error:?}");
    }
    // One attempt each, and the budget.
    assert_eq!(server.calls(), 200 + raftwright::RETRY_BUDGET_MAX as usize);
}

#[tokio::test]
async fn a_change_of_the_cluster_is_not_repeated_when_its_fate_is_unknown() {
    let server = FakeServer::start(|_, _| failed(&RequestError::Unknown(UnknownReason::LeadershipLost))).await;
    let error = server.client().add_learner(2, "a:1").await.unwrap_err();
    assert_eq!((error.outcome(), server.calls()), (Outcome::Unknown, 1));
    let busy = FakeServer::start(|call, _| match call {
        0 => failed(&RequestError::InProgress),
        _ => done(&encode(&5u64).unwrap()),
    })
    .await;
    assert_eq!(busy.client().add_learner(2, "a:1").await.unwrap(), 5);
}

/// The command was applied, and every server would give the same answer: asking again is of no use.
#[tokio::test]
async fn an_answer_that_is_too_long_for_a_frame_is_final() {
    let too_long = || Err(Fault::new(FaultCode::AnswerTooLong, "the answer is too long"));
    let server = FakeServer::start(move |_, body| after_session(too_long, body)).await;
    let error = server.client().write(add("a", 1)).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
    assert_eq!(server.calls(), 2, "a session, and the command once");
    server.client().read("a".into()).await.unwrap_err();
    assert_eq!(server.calls(), 3, "the query once");
}

/// Shakes hands, answers pings, and nothing else.
#[derive(Default)]
struct Mute(AtomicUsize);

impl Handler for Mute {
    async fn handle(self: Arc<Self>, _: Arc<Session>, _: Kind, _: Bytes) -> Result<Body, Fault> {
        self.0.fetch_add(1, Ordering::SeqCst);
        std::future::pending().await
    }
}

/// A server that answers nobody holds a call up for one attempt, and not for as long as there is.
#[tokio::test]
async fn a_server_that_never_answers_is_left_for_another() {
    let identity = PeerIdentity { node: Some(1), ..PeerIdentity::default() };
    let listener = Listener::bind("127.0.0.1:0", Arc::new(OpenGate { identity }), Limits::default()).await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let mute = Arc::new(Mute::default());
    let _serving = listener.serve(Arc::clone(&mute));
    let answer = || done(&[&[0][..], &encode(&42u64).unwrap()].concat());
    let good = FakeServer::start(move |_, body| after_session(answer, body)).await;
    let client = Client::<Tally>::connect([&addr, &good.addr]).with_deadline(PATIENCE);
    assert_eq!(client.write(add("a", 1)).await.unwrap(), 42);
    assert!(good.calls() >= 2, "a session, and the command");
    // From now on it is the last to be asked. Where this machine stands still, the good one seems not to answer either, for once.
    let asked = || mute.0.load(Ordering::SeqCst);
    for attempt in 0.. {
        let before = asked();
        if client.with_deadline(ATTEMPT_TIMEOUT / 2).write(add("a", 1)).await == Ok(42) && asked() == before {
            break;
        }
        assert!(attempt < 100, "it is asked first again and again");
    }
}

/// A command that may have been applied stays one: neither a refusal that comes later nor a budget that has run out makes it
/// surely not applied.
#[tokio::test]
async fn what_was_unknown_once_is_never_told_as_surely_not_applied() {
    let unknown = || failed(&RequestError::Unknown(UnknownReason::LeadershipLost));
    for last in [RequestError::Refused("no".into()), RequestError::Malformed("what".into())] {
        let server = FakeServer::start(move |call, body| {
            let answer = || if call == 1 { unknown() } else { failed(&last) };
            after_session(answer, body)
        })
        .await;
        let error = server.client().write(add("a", 1)).await.unwrap_err();
        assert!(matches!(error, ClientError::Unknown { .. }) && error.outcome() == Outcome::Unknown, "{error}");
    }
    // A read that is refused as busy uses the budget up. The write after it goes on all the same: its fate is worth the load.
    let server = FakeServer::start(move |call, body| {
        let spent = 64 + raftwright::RETRY_BUDGET_MAX as usize;
        let answer = || match call {
            call if call < spent => failed(&RequestError::Busy),
            call if call == spent + 1 => unknown(),
            call if call < spent + 4 => failed(&RequestError::Busy),
            _ => done(&[&[0][..], &encode(&42u64).unwrap()].concat()),
        };
        if body.get(1) == Some(&2) { failed(&RequestError::Busy) } else { after_session(answer, body) }
    })
    .await;
    let client = server.client();
    let mut reads = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let client = client.clone();
        reads.spawn(async move { client.read("a".into()).await.unwrap_err() });
    }
    for error in reads.join_all().await {
        assert!(matches!(error, ClientError::RetriesExhausted { .. }), "{error:?}");
    }
    assert_eq!(client.write(add("a", 1)).await.unwrap(), 42);
}
