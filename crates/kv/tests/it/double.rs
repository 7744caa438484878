//! A server of a cluster of one that replicates nothing, so that every outcome of a real one can be had at will.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use raftwright_kv::api::{ErrorKind, LeaderInfo, Member, NodeState, Position, Role, ServerStatus};
use raftwright_kv::http::{App, Stop, serve};
use raftwright_kv::limits::HttpLimits;
use raftwright_kv::node::{CallError, Node};
use raftwright_kv::store::{Answer, Command, KvStateMachine, Query};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

#[derive(Default)]
pub(crate) struct Double {
    store: Mutex<KvStateMachine>,
    /// What the next call comes to, if not what it should.
    next: Mutex<Option<CallError>>,
    /// The administrative calls, as they came.
    pub(crate) calls: Mutex<Vec<String>>,
    /// Writes wait for this, if it is set.
    pub(crate) hold: Mutex<Option<Arc<Notify>>>,
    pub(crate) writes_seen: Notify,
    /// How much of the log every member holds.
    pub(crate) matched: Mutex<u64>,
    /// How many servers vote, from server 1 on, if more than one. The next one is a learner.
    pub(crate) voters: Mutex<u64>,
}

impl Double {
    pub(crate) fn fail_next(&self, kind: ErrorKind) {
        *self.next.lock().unwrap() = Some(CallError::new(kind, "as the test wants it"));
    }

    fn failed(&self) -> Result<(), CallError> {
        self.next.lock().unwrap().take().map_or(Ok(()), Err)
    }

    fn call(&self, what: String) -> Result<(), CallError> {
        self.failed()?;
        self.calls.lock().unwrap().push(what);
        Ok(())
    }
}

impl Node for Double {
    async fn write(&self, command: Command) -> Result<Answer, CallError> {
        self.writes_seen.notify_one();
        let hold = self.hold.lock().unwrap().clone();
        if let Some(hold) = hold {
            hold.notified().await;
        }
        self.failed()?;
        Ok(self.store.lock().unwrap().apply(command))
    }

    async fn read(&self, query: Query) -> Result<Answer, CallError> {
        self.failed()?;
        Ok(self.store.lock().unwrap().query(&query))
    }

    async fn read_stale(&self, query: Query) -> Result<Answer, CallError> {
        self.read(query).await
    }

    fn position(&self) -> Position {
        let leader = Some(LeaderInfo { id: 1, addr: Some("peer:1".into()) });
        Position { term: 3, applied: self.store.lock().unwrap().revision(), leader }
    }

    fn state(&self) -> NodeState {
        let Position { term, applied, leader } = self.position();
        let matched = *self.matched.lock().unwrap();
        let member = |id, voter| Member { id, addr: format!("peer:{id}"), voter, matched: Some(matched) };
        let voters = (*self.voters.lock().unwrap()).max(1);
        NodeState {
            id: 1,
            version: "test".into(),
            cluster_id: None,
            incarnation: None,
            peer_addr: "peer:1".into(),
            role: Role::Leader,
            term,
            leader,
            last_log: matched.max(applied),
            committed: applied,
            applied,
            snapshot: 0,
            purged: 0,
            joint: false,
            members: (1..=voters).map(|id| member(id, true)).chain([member(voters + 1, false)]).collect(),
            stopped: None,
        }
    }

    async fn cluster_status(&self) -> Vec<ServerStatus> {
        Vec::new()
    }

    fn raft_metrics(&self) -> Result<serde_json::Value, CallError> {
        Ok(serde_json::json!({ "id": 1 }))
    }

    async fn initialize(&self, members: BTreeMap<u64, String>) -> Result<(), CallError> {
        self.call(format!("initialize {members:?}"))
    }

    async fn add_learner(&self, id: u64, addr: String) -> Result<u64, CallError> {
        self.call(format!("add_learner {id} {addr}")).map(|()| 7)
    }

    async fn change_membership(&self, voters: BTreeSet<u64>, retain: bool) -> Result<u64, CallError> {
        self.call(format!("change_membership {voters:?} {retain}")).map(|()| 7)
    }

    async fn add_voter(&self, id: u64) -> Result<u64, CallError> {
        self.call(format!("add_voter {id}")).map(|()| 7)
    }

    async fn remove_voter(&self, id: u64) -> Result<u64, CallError> {
        self.call(format!("remove_voter {id}")).map(|()| 7)
    }

    async fn remove_learner(&self, id: u64) -> Result<u64, CallError> {
        self.call(format!("remove_learner {id}")).map(|()| 7)
    }

    async fn snapshot(&self) -> Result<u64, CallError> {
        self.call("snapshot".to_owned()).map(|()| 9)
    }

    async fn transfer_leader(&self, to: u64) -> Result<(), CallError> {
        self.call(format!("transfer_leader {to}"))
    }
}

/// The HTTP interface over a double, on a port of its own.
pub(crate) struct Site {
    pub(crate) node: Arc<Double>,
    pub(crate) address: String,
    pub(crate) stop: Option<Stop>,
    pub(crate) serving: JoinHandle<()>,
}

pub(crate) async fn site() -> Site {
    site_within(HttpLimits::default()).await
}

pub(crate) async fn site_within(limits: HttpLimits) -> Site {
    let node = Arc::new(Double::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (stop, watch) = Stop::new();
    let serving = tokio::spawn(serve(listener, App::with_limits(node.clone(), limits), watch));
    Site { node, address, stop: Some(stop), serving }
}
