//! What the tasks of a node have in common.

use std::future::Future;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use raftwright_core::WriteId;
use raftwright_traits::{Config, Fatal, FlushSink, LogIdOf, LogIndex, RaftTypeConfig, Snapshot, StorageError};
use tokio::sync::{mpsc, watch};

use crate::metrics::{RaftDataMetrics, RaftMetrics, RaftServerMetrics, Recorder};
use crate::notify::{Notify, NotifyQueue};
use crate::sm::SnapshotCall;
use crate::sync::{catch_panic, lock};

/// One for each node. It holds no handle of the node, so it keeps nothing alive.
pub(crate) struct Shared<C: RaftTypeConfig> {
    pub(crate) id: C::NodeId,
    config: Mutex<Arc<Config>>,
    pub(crate) runtime: C::AsyncRuntime,
    pub(crate) notify: NotifyQueue<C>,
    /// For observers only: no task of the node waits on it.
    pub(crate) metrics: watch::Sender<RaftMetrics<C>>,
    pub(crate) recorder: Recorder,
    /// Parts of the metrics, kept up to date only while somebody looks.
    data_metrics: watch::Sender<RaftDataMetrics<C>>,
    server_metrics: watch::Sender<RaftServerMetrics<C>>,
    /// Why the node stops: the first reason stays.
    fatal: OnceLock<Fatal>,
    /// The index of the last applied entry.
    applied: AtomicU64,
    /// The last purged entry, for the readers of the log.
    purged: Mutex<Option<LogIdOf<C>>>,
    /// How many writes wait to be taken up that came many in one call.
    many_waiting: AtomicUsize,
    /// The last entry in the newest snapshot.
    snapshot: Mutex<Option<LogIdOf<C>>>,
    /// The snapshot that was handed out last, for as long as somebody sends it: one in memory serves all targets.
    sending: Mutex<Weak<Snapshot<C>>>,
    /// To the state machine's worker.
    pub(crate) snapshot_calls: mpsc::Sender<SnapshotCall<C>>,
}

impl<C: RaftTypeConfig> Shared<C> {
    pub(crate) fn new(
        id: C::NodeId,
        config: Arc<Config>,
        runtime: C::AsyncRuntime,
        metrics: RaftMetrics<C>,
        purged: Option<LogIdOf<C>>,
        snapshot_calls: mpsc::Sender<SnapshotCall<C>>,
    ) -> Self {
        let snapshot = Mutex::new(metrics.snapshot);
        let applied = AtomicU64::new(metrics.last_applied.map_or(0, |id| id.index));
        Self {
            id,
            config: Mutex::new(config),
            runtime,
            notify: NotifyQueue::new(),
            data_metrics: watch::Sender::new(metrics.data()),
            server_metrics: watch::Sender::new(metrics.server()),
            metrics: watch::Sender::new(metrics),
            recorder: Recorder::new(),
            fatal: OnceLock::new(),
            applied,
            purged: Mutex::new(purged),
            many_waiting: AtomicUsize::new(0),
            snapshot,
            sending: Mutex::new(Weak::new()),
            snapshot_calls,
        }
    }

    /// Tells the node to stop. The first reason counts.
    pub(crate) fn stop(&self, why: Fatal) {
        let _ = self.fatal.set(why);
        self.notify.stop();
    }

    /// The settings as they are now.
    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&lock(&self.config))
    }

    pub(crate) fn set_config(&self, config: Config) {
        *lock(&self.config) = Arc::new(config);
    }

    /// Lets `count` writes of one call in, if there is room for so many beside those of others that wait to be taken up.
    pub(crate) fn let_many_in(&self, count: usize) -> bool {
        let max = self.config().api_queue_max;
        let add = |waiting: usize| waiting.checked_add(count).filter(|sum| *sum <= max);
        self.many_waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, add).is_ok()
    }

    /// So many writes of a call wait no more.
    pub(crate) fn many_taken(&self, count: usize) {
        self.many_waiting.fetch_sub(count, Ordering::AcqRel);
    }

    /// Why the node stops, once it does.
    pub(crate) fn fatal(&self) -> Option<&Fatal> {
        self.fatal.get()
    }

    /// Why the node has stopped, for a caller that got no answer.
    pub(crate) fn end(&self) -> Fatal {
        self.fatal.get().cloned().unwrap_or(Fatal::Stopped)
    }

    pub(crate) fn applied(&self) -> LogIndex {
        self.applied.load(Ordering::Acquire)
    }

    /// Called by the state machine's worker alone.
    pub(crate) fn set_applied(&self, applied: LogIdOf<C>) {
        self.applied.store(applied.index, Ordering::Release);
        self.tell(|metrics| metrics.last_applied = Some(applied));
        self.publish_parts();
    }

    /// Changes the metrics. If nobody looks at them, nobody is woken: whoever subscribes later reads what is there then, and
    /// whoever has read before this holds the lock is counted.
    pub(crate) fn tell(&self, change: impl FnOnce(&mut RaftMetrics<C>)) {
        self.metrics.send_if_modified(|metrics| {
            change(metrics);
            self.metrics.receiver_count() > 0
        });
    }

    /// Brings the parts of the metrics up to date, for those who look at them.
    pub(crate) fn publish_parts(&self) {
        if self.data_metrics.receiver_count() == 0 && self.server_metrics.receiver_count() == 0 {
            return;
        }
        // Holding the whole while a part is set keeps an older part from overwriting a newer one.
        let metrics = self.metrics.borrow();
        if self.data_metrics.receiver_count() > 0 {
            self.data_metrics.send_if_modified(|part| set(part, metrics.data()));
        }
        if self.server_metrics.receiver_count() > 0 {
            self.server_metrics.send_if_modified(|part| set(part, metrics.server()));
        }
    }

    pub(crate) fn watch_data(&self) -> watch::Receiver<RaftDataMetrics<C>> {
        let receiver = self.data_metrics.subscribe();
        self.publish_parts();
        receiver
    }

    pub(crate) fn watch_server(&self) -> watch::Receiver<RaftServerMetrics<C>> {
        let receiver = self.server_metrics.subscribe();
        self.publish_parts();
        receiver
    }

    pub(crate) fn purged(&self) -> Option<LogIdOf<C>> {
        *lock(&self.purged)
    }

    pub(crate) fn set_purged(&self, purged: LogIdOf<C>) {
        *lock(&self.purged) = Some(purged);
    }

    /// A snapshot was built or installed. An older one changes nothing.
    pub(crate) fn set_snapshot(&self, last_log_id: LogIdOf<C>) {
        let newest = {
            let mut newest = lock(&self.snapshot);
            *newest = (*newest).max(Some(last_log_id));
            *newest
        };
        self.tell(|metrics| metrics.snapshot = metrics.snapshot.max(newest));
        self.publish_parts();
    }

    /// The snapshot that another task is sending already, if it still leads to entries that are here.
    pub(crate) fn snapshot_being_sent(&self) -> Option<Arc<Snapshot<C>>> {
        lock(&self.sending).upgrade().filter(|snapshot| snapshot.meta.last_log_id >= self.purged())
    }

    /// Lets other tasks know of a snapshot that is being sent.
    pub(crate) fn set_snapshot_being_sent(&self, snapshot: &Arc<Snapshot<C>>) {
        *lock(&self.sending) = Arc::downgrade(snapshot);
    }
}

/// Sets a value; says whether it is another than before.
fn set<V: PartialEq>(place: &mut V, value: V) -> bool {
    let is_new = *place != value;
    *place = value;
    is_new
}

impl<C: RaftTypeConfig> FlushSink for Shared<C> {
    fn flushed(&self, write: WriteId, result: Result<(), StorageError>) {
        self.notify.push(Notify::LogDone { write, result });
    }
}

/// Runs a task of the node: if it panics, the node stops.
pub(crate) async fn guarded<C: RaftTypeConfig>(
    shared: Arc<Shared<C>>,
    name: &'static str,
    task: impl Future<Output = ()>,
) {
    if let Err(panic) = catch_panic(task).await {
        tracing::error!(task = name, %panic, "a task panicked");
        shared.stop(Fatal::Panicked(format!("{name}: {panic}")));
    }
}
