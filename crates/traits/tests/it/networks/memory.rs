//! A network in memory.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use raftwright_traits::testing::TestPeer;
use raftwright_traits::{
    AppendEntriesRequest, AppendEntriesResponse, AppendOutcome, BasicNode, EntryPayload, HeartbeatRequest,
    HeartbeatResponse, InstallSnapshotResponse, RPCError, RPCOption, RaftNetworkV2, Round, SnapshotRequest,
    StoredMembership, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use tokio::sync::{Mutex as Lane, watch};
use tokio::task::JoinHandle;

use super::flaw::Flaw;
use crate::TestConfig;

type Peer = TestPeer<TestConfig>;

#[derive(Clone)]
struct Place {
    number: u64,
    peer: Peer,
    /// Closed when the server stops.
    running: watch::Receiver<()>,
    lane: Arc<Lane<()>>,
}

/// Which server is where.
#[derive(Clone, Default)]
pub(crate) struct Hub(Arc<Mutex<BTreeMap<String, Option<Place>>>>);

/// A running server; it stops when this is dropped.
pub(crate) struct Server {
    hub: Hub,
    addr: String,
    _running: watch::Sender<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.hub.0.lock().unwrap().insert(self.addr.clone(), None);
    }
}

impl Hub {
    pub(crate) fn new_place(&self) -> BasicNode {
        let mut places = self.0.lock().unwrap();
        let addr = format!("place{}:1", places.len());
        places.insert(addr.clone(), None);
        BasicNode::new(addr)
    }

    pub(crate) fn start(&self, number: u64, node: &BasicNode, peer: Peer) -> Server {
        let (sender, running) = watch::channel(());
        let place = Place { number, peer, running, lane: Arc::default() };
        self.0.lock().unwrap().insert(node.addr.clone(), Some(place));
        Server { hub: self.clone(), addr: node.addr.clone(), _running: sender }
    }
}

/// Calls a server. What is wrong with it is in each call.
pub(crate) struct Memory {
    pub(super) hub: Hub,
    pub(super) target: u64,
    pub(super) addr: String,
    pub(super) flaw: Flaw,
    failed: bool,
    late: Option<JoinHandle<AppendEntriesResponse<TestConfig>>>,
}

impl Memory {
    pub(crate) fn new(hub: Hub, target: u64, addr: String, flaw: Flaw) -> Self {
        Self { hub, target, addr, flaw, failed: false, late: None }
    }

    fn find(&self) -> Result<Place, RPCError> {
        let place = self.hub.0.lock().unwrap().get(&self.addr).cloned().flatten();
        let place = place.ok_or_else(|| match self.flaw {
            Flaw::SaysThatNobodyHasAnswered => RPCError::Timeout,
            _ => RPCError::Unreachable(format!("nobody is at {}", self.addr)),
        })?;
        match place.number == self.target || self.flaw == Flaw::BelievesAnybody {
            true => Ok(place),
            false => Err(RPCError::Refused(format!("server {} is at {}", place.number, self.addr))),
        }
    }

    async fn call<A, F, Fut>(&mut self, option: RPCOption, ask: F) -> Result<A, RPCError>
    where
        F: FnOnce(Peer) -> Fut,
        Fut: Future<Output = A> + Send,
    {
        if self.failed && self.flaw == Flaw::NeverConnectsAgain {
            return Err(RPCError::Network("it broke once".into()));
        }
        let result = async {
            let Place { peer, mut running, lane, .. } = self.find()?;
            let _one = if self.flaw == Flaw::HasOneLane { Some(lane.lock().await) } else { None };
            let timeout = match self.flaw {
                Flaw::NeverTimesOut => Duration::from_secs(3600),
                _ => option.timeout.into(),
            };
            tokio::select! {
                biased;
                answer = tokio::time::timeout(timeout, ask(peer)) => answer.map_err(|_| match self.flaw {
                    Flaw::TakesTimeoutsForBrokenConnections => RPCError::Network("broken".into()),
                    _ => RPCError::Timeout,
                }),
                _ = running.changed() => Err(RPCError::Network("the server has stopped".into())),
            }
        };
        let result = result.await;
        self.failed |= result.is_err();
        result
    }
}

impl RaftNetworkV2<TestConfig> for Memory {
    async fn vote(
        &mut self,
        rpc: VoteRequest<TestConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TestConfig>, RPCError> {
        let mut answer = self.call(option, |peer| async move { peer.vote(rpc).await }).await?;
        answer.granted |= self.flaw == Flaw::GrantsEveryVote;
        Ok(answer)
    }

    async fn append_entries(
        &mut self,
        mut rpc: AppendEntriesRequest<TestConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TestConfig>, RPCError> {
        match self.flaw {
            Flaw::LosesTheLastEntry => drop(rpc.entries.pop()),
            Flaw::TurnsEntriesAround => rpc.entries.reverse(),
            Flaw::ForgetsWhatIsCommitted => rpc.committed = None,
            Flaw::CutsBigEntries => {
                for entry in &mut rpc.entries {
                    if let EntryPayload::Normal(data) = &mut entry.payload {
                        data.truncate(1 << 16);
                    }
                }
            }
            Flaw::GivesLateAnswersToOthers => return self.late_answers(rpc, option).await,
            _ => {}
        }
        let answer = self.call(option, |peer| async move { peer.append_entries(rpc).await }).await?;
        match answer.outcome {
            AppendOutcome::<TestConfig>::Conflict { .. } if self.flaw == Flaw::TakesConflictsForErrors => {
                Err(RPCError::Network("a conflict".into()))
            }
            _ => Ok(answer),
        }
    }

    async fn heartbeat(
        &mut self,
        rpc: HeartbeatRequest<TestConfig>,
        option: RPCOption,
    ) -> Result<HeartbeatResponse<TestConfig>, RPCError> {
        let mut answer = self.call(option, |peer| async move { peer.heartbeat(rpc).await }).await?;
        if self.flaw == Flaw::ForgetsTheRound {
            answer.round = Round(0);
        }
        Ok(answer)
    }

    async fn full_snapshot(
        &mut self,
        rpc: SnapshotRequest<TestConfig>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<TestConfig>, RPCError> {
        let mut head = rpc.head().ok_or_else(|| RPCError::Refused("the empty state is never sent".into()))?;
        let mut content = rpc.snapshot.snapshot.get_ref().clone();
        match self.flaw {
            Flaw::LosesTheEndOfSnapshots => drop(content.pop()),
            Flaw::ForgetsTheMembershipOfSnapshots => head.last_membership = StoredMembership::<TestConfig>::default(),
            _ => {}
        }
        self.call(option, |peer| async move { peer.install(head, content).await }).await
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<TestConfig>,
        option: RPCOption,
    ) -> Result<(), RPCError> {
        if self.flaw == Flaw::SwallowsTransfers {
            return Ok(());
        }
        self.call(option, |peer| async move { peer.transfer_leader(rpc).await }).await
    }
}

impl Memory {
    /// A connection on which answers are taken as they come, whoever has asked.
    async fn late_answers(
        &mut self,
        rpc: AppendEntriesRequest<TestConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TestConfig>, RPCError> {
        let peer = self.find()?.peer;
        let asked = tokio::spawn(async move { peer.append_entries(rpc).await });
        let mut first = self.late.take();
        let answer = first.as_mut();
        let mut asked = Some(asked);
        let waited = match answer {
            Some(late) => tokio::time::timeout(option.timeout.into(), late).await,
            None => tokio::time::timeout(option.timeout.into(), asked.as_mut().unwrap()).await,
        };
        match (waited, first) {
            (Ok(answer), Some(_)) => {
                self.late = asked;
                Ok(answer.unwrap())
            }
            (Ok(answer), None) => Ok(answer.unwrap()),
            (Err(_), first) => {
                self.late = first.or(asked);
                Err(RPCError::Timeout)
            }
        }
    }
}
