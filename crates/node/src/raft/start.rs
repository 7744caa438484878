//! Starting a node.

use std::any::TypeId;
use std::sync::Arc;

use raftwright_core::{Replica, Rng};
use raftwright_traits::{
    AsyncRuntime, Config, Fatal, Identity, RaftLogStorage, RaftNetworkFactory, RaftStateMachine, RaftTypeConfig,
};
use tokio::sync::mpsc;
use tracing::Instrument;

use super::Raft;
use super::handle::Inner;
use crate::intake::Intake;
use crate::limits::{CLOSURES_MAX, SNAPSHOT_CALLS_MAX};
use crate::metrics::RaftMetrics;
use crate::raft_core::RaftCore;
use crate::shared::{Shared, guarded};
use crate::sm::{Inbox, Worker};
use crate::storage_helper::{Found, StorageHelper};
use crate::sync::catch_panic;

impl<C: RaftTypeConfig> Raft<C> {
    /// Starts a node on the runtime that the calling code runs on. It goes on with what is in its stores; a blank one waits
    /// to be initialized or to be added to a cluster.
    ///
    /// # Errors
    /// [`Fatal::Start`] for settings that cannot work, stores that contradict each other or no runtime;
    /// [`Fatal::Storage`] if a store cannot be read.
    pub async fn new<LS, N, SM>(
        id: C::NodeId,
        config: Arc<Config>,
        network: N,
        log_store: LS,
        state_machine: SM,
    ) -> Result<Self, Fatal>
    where
        LS: RaftLogStorage<C>,
        N: RaftNetworkFactory<C>,
        SM: RaftStateMachine<C>,
    {
        let runtime = C::AsyncRuntime::current().map_err(Fatal::Start)?;
        Self::with_runtime(runtime, id, config, network, log_store, state_machine).await
    }

    /// Starts a node on this runtime.
    ///
    /// # Errors
    /// As [`Raft::new`].
    pub async fn with_runtime<LS, N, SM>(
        runtime: C::AsyncRuntime,
        id: C::NodeId,
        config: Arc<Config>,
        network: N,
        mut log_store: LS,
        mut state_machine: SM,
    ) -> Result<Self, Fatal>
    where
        LS: RaftLogStorage<C>,
        N: RaftNetworkFactory<C>,
        SM: RaftStateMachine<C>,
    {
        config.as_ref().clone().validate().map_err(|e| Fatal::Start(e.to_string()))?;
        let Found { restored, applied, incarnation } =
            StorageHelper::new(&mut log_store, &mut state_machine).load::<C>().await?;
        let reader = log_store.get_log_reader().await;

        let identity = Identity { id, incarnation };
        let mut rng = Rng::new(runtime.random_u64());
        let (purged, snapshot) = (restored.purged, restored.snapshot);
        let replica = Replica::new(config.replica(), identity, restored, runtime.now(), rng.next_u64())
            .map_err(|e| Fatal::Start(e.to_string()))?;

        let metrics = RaftMetrics::of(&replica, applied, snapshot);
        let (snapshot_calls, to_answer) = mpsc::channel(SNAPSHOT_CALLS_MAX);
        let shared = Arc::new(Shared::new(id, Arc::clone(&config), runtime, metrics, purged, snapshot_calls));
        let (outlet, intake) = Intake::new(&config);
        let (closures, to_run) = mpsc::channel(CLOSURES_MAX);
        let inbox = Arc::new(Inbox::new());
        let worker = Worker::<C, SM, _>::new(
            Arc::clone(&shared),
            Arc::clone(&inbox),
            to_run,
            to_answer,
            state_machine,
            reader,
            applied,
        );
        let core = RaftCore::new(Arc::clone(&shared), replica, log_store, network, intake, inbox, rng);
        let task = run(Arc::clone(&shared), core, worker).instrument(tracing::info_span!("raft", id = %id));
        let core = shared.runtime.spawn(task);
        Ok(Raft::from_inner(Inner {
            identity,
            shared,
            outlet,
            closures,
            state_machine: (TypeId::of::<SM>(), std::any::type_name::<SM>()),
            core: tokio::sync::Mutex::new(Some(core)),
        }))
    }
}

/// The life of a node, from its start to the end of its last task.
async fn run<C, N, LS, SM, LR>(shared: Arc<Shared<C>>, mut core: RaftCore<C, N, LS>, mut worker: Worker<C, SM, LR>)
where
    C: RaftTypeConfig,
    N: RaftNetworkFactory<C>,
    LS: RaftLogStorage<C>,
    SM: RaftStateMachine<C>,
    LR: raftwright_traits::RaftLogReader<C>,
{
    let for_worker = Arc::clone(&shared);
    let span = tracing::info_span!("sm", id = %shared.id);
    let worker = shared.runtime.spawn(
        async move {
            // The reason is told before the worker goes and its callers with it.
            match catch_panic(worker.run()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => for_worker.stop(Fatal::Storage(error)),
                Err(panic) => for_worker.stop(Fatal::Panicked(format!("state machine: {panic}"))),
            }
            let builds = worker.finish();
            // Its state and its files are let go of before the last of what it has started is waited for.
            drop(worker);
            builds.await;
        }
        .instrument(span),
    );
    guarded(Arc::clone(&shared), "core", core.run()).await;
    // Nothing but a stop ends the core; this is for one that ended in a panic, or without a reason.
    shared.stop(Fatal::Stopped);
    core.finish().await;
    let _ = worker.await;
}
