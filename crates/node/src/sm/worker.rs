//! The task that owns the state machine.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;

use raftwright_core::{LogIdOption, RaftEntry};
use raftwright_traits::{
    AsyncRuntime, ClientWriteError, LogIdOf, LogIndex, MembershipOf, RaftError, RaftLogReader, RaftStateMachine,
    RaftTypeConfig, Snapshot, StorageError, StorageErrorKind, UnknownReason,
};
use tokio::sync::mpsc;

use crate::limits::{CLOSURES_BATCH_MAX, SNAPSHOT_CALLS_MAX, TURNS_MAX};
use crate::msg::ClientWriteResponse;
use crate::notify::Notify;
use crate::pending::Waiter;
use crate::shared::Shared;
use crate::sm::inbox::{ReadWaiter, Taken};
use crate::sm::snapshots::Builds;
use crate::sm::{Inbox, Install, SnapshotCall};
use crate::sync::pause;

/// Something to do with the state machine, between two batches of entries.
pub(crate) type Closure = Box<dyn FnOnce(&mut dyn Any) + Send>;

/// Reads committed entries, applies them in batches bounded by bytes, and answers whoever waits for them. Between two
/// batches it has snapshots built and installed, and lets closures at the state.
pub(crate) struct Worker<C: RaftTypeConfig, SM, LR> {
    shared: Arc<Shared<C>>,
    inbox: Arc<Inbox<C>>,
    /// `None` once every handle is gone.
    closures: Option<mpsc::Receiver<Closure>>,
    state_machine: SM,
    reader: LR,
    applied: Option<LogIdOf<C>>,
    /// How far to apply.
    upto: Option<LogIdOf<C>>,
    /// Ascending by index.
    writes: VecDeque<Waiter<C>>,
    reads: BTreeMap<LogIndex, Vec<ReadWaiter<C>>>,
    taken: Taken<C>,
    to_run: Vec<Closure>,
    snapshot_calls: mpsc::Receiver<SnapshotCall<C>>,
    to_answer: Vec<SnapshotCall<C>>,
    to_install: Option<Install<C>>,
    builds: Builds<C>,
    facts: Vec<Fact<C>>,
    stopped: bool,
}

/// What an entry's caller is told besides the answer.
type Fact<C> = (LogIdOf<C>, Option<MembershipOf<C>>);

impl<C, SM, LR> Worker<C, SM, LR>
where
    C: RaftTypeConfig,
    SM: RaftStateMachine<C>,
    LR: RaftLogReader<C>,
{
    pub(crate) fn new(
        shared: Arc<Shared<C>>,
        inbox: Arc<Inbox<C>>,
        closures: mpsc::Receiver<Closure>,
        snapshot_calls: mpsc::Receiver<SnapshotCall<C>>,
        state_machine: SM,
        reader: LR,
        applied: Option<LogIdOf<C>>,
    ) -> Self {
        let builds = Builds::new(Arc::clone(&shared));
        Self {
            shared,
            inbox,
            closures: Some(closures),
            state_machine,
            reader,
            applied,
            upto: None,
            writes: VecDeque::new(),
            reads: BTreeMap::new(),
            taken: Taken::new(),
            to_run: Vec::new(),
            snapshot_calls,
            to_answer: Vec::new(),
            to_install: None,
            builds,
            facts: Vec::new(),
            stopped: false,
        }
    }

    /// Works until it is told to stop. What it is applying then, it applies to the end.
    pub(crate) async fn run(&mut self) -> Result<(), StorageError> {
        let mut turns = 0;
        loop {
            let idle = self.wait().await;
            if self.stopped {
                return Ok(());
            }
            turns = if idle { 0 } else { turns + 1 };
            if turns >= TURNS_MAX {
                turns = 0;
                pause().await;
            }
            for closure in self.to_run.drain(..) {
                closure(&mut self.state_machine);
            }
            for call in self.to_answer.drain(..) {
                call.run(&mut self.state_machine).await?;
            }
            if let Some(install) = self.to_install.take() {
                self.install(install).await?;
            }
            if self.applied < self.upto {
                self.apply_batch().await?;
            }
            self.answer_reads();
            self.builds.start_if_due(self.applied, &mut self.state_machine).await;
        }
    }

    /// Waits for what this worker has started, without the worker.
    pub(crate) fn finish(&mut self) -> impl Future<Output = ()> + Send + use<C, SM, LR> {
        self.builds.finish()
    }

    /// Waits until there is something to do, and takes it up. Says whether it had to wait.
    async fn wait(&mut self) -> bool {
        let mut waited = false;
        poll_fn(|cx| {
            let mut ready = self.applied < self.upto;
            if self.inbox.poll_take(cx, &mut self.taken).is_ready() {
                self.upto = self.taken.upto.take().or(self.upto);
                self.writes.append(&mut self.taken.writes);
                for (log_id, tx) in self.taken.reads.drain(..) {
                    self.reads.entry(log_id.index).or_default().push((log_id, tx));
                }
                if let Some(at) = self.taken.build.take() {
                    self.builds.want(at);
                }
                self.to_install = self.taken.install.take().or(self.to_install.take());
                self.stopped |= self.taken.stop;
                ready = true;
            }
            if let Some(closures) = &mut self.closures {
                match closures.poll_recv_many(cx, &mut self.to_run, CLOSURES_BATCH_MAX) {
                    Poll::Ready(0) => self.closures = None,
                    Poll::Ready(_) => ready = true,
                    Poll::Pending => {}
                }
            }
            // The node's own handle of the other end lasts as long as this does: it is never closed.
            ready |= self.snapshot_calls.poll_recv_many(cx, &mut self.to_answer, SNAPSHOT_CALLS_MAX).is_ready();
            if ready {
                return Poll::Ready(());
            }
            waited = true;
            Poll::Pending
        })
        .await;
        waited
    }

    /// Replaces the state by that of a snapshot. The callers of writes that stand in it are told that nobody knows what
    /// became of those.
    async fn install(&mut self, install: Install<C>) -> Result<(), StorageError> {
        let Install { ticket, snapshot } = install;
        let Snapshot { meta, snapshot } = *snapshot;
        let Some(last_log_id) = meta.last_log_id else { return Ok(()) };
        if self.applied < Some(last_log_id) {
            self.state_machine.install_snapshot(&meta, snapshot).await?;
            self.applied = Some(last_log_id);
            self.shared.set_applied(last_log_id);
            self.shared.set_snapshot(last_log_id);
            let mut answered = 0;
            while let Some((_, tx)) = self.writes.pop_front_if(|(asked, _)| asked.index <= last_log_id.index) {
                answered += 1;
                tx.refuse(ClientWriteError::Unknown(UnknownReason::Snapshot));
            }
            self.inbox.writes_answered(answered);
        }
        self.shared.notify.push(Notify::SnapshotInstalled { ticket, last_log_id });
        Ok(())
    }

    async fn apply_batch(&mut self) -> Result<(), StorageError> {
        let start = self.applied.next_index();
        let end = self.upto.next_index();
        let bytes_max = self.shared.config().apply_bytes_max;
        let entries = self.reader.limited_get_log_entries(start, end, bytes_max).await?;
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return Err(StorageError::missing_entry(start));
        };
        if first.log_id().index != start {
            return Err(StorageError::missing_entry(start));
        }
        let last = last.log_id();
        let count = entries.len();
        self.note_facts(&entries, last);

        let began = self.shared.runtime.now();
        let answers = self.state_machine.apply(entries).await?;
        let took = self.shared.runtime.now().since(began);
        self.shared.recorder.tell(|recorder| recorder.record_apply(count, took));
        if answers.len() != count {
            return Err(StorageError::new(
                StorageErrorKind::StateMachine,
                format!(
                    "the state machine gave {} answers to {count} entries; it must give one for each",
                    answers.len()
                ),
            ));
        }
        self.applied = Some(last);
        // Before the callers are answered: who has seen an answer also sees it applied.
        self.shared.set_applied(last);
        self.answer_writes(answers);
        Ok(())
    }

    /// Notes what the waiting callers must know of the entries, which the state machine is about to consume. Nothing, if no
    /// caller waits for any of them, as on a follower.
    fn note_facts(&mut self, entries: &[C::Entry], last: LogIdOf<C>) {
        self.facts.clear();
        if self.writes.front().is_some_and(|(first_waiting, _)| first_waiting.index <= last.index) {
            self.facts.extend(entries.iter().map(|entry| (entry.log_id(), entry.membership().cloned())));
        }
    }

    fn answer_writes(&mut self, answers: Vec<C::R>) {
        let mut answered = 0;
        for ((log_id, membership), data) in self.facts.drain(..).zip(answers) {
            let mut response = Some(ClientWriteResponse { log_id, data, membership });
            while let Some((asked, tx)) = self.writes.pop_front_if(|(asked, _)| asked.index <= log_id.index) {
                answered += 1;
                let answer = if asked.index < log_id.index {
                    // Its index was applied before it came here: nobody compared the entries.
                    Err(ClientWriteError::Unknown(UnknownReason::LeadershipLost))
                } else if asked == log_id {
                    response.take().ok_or(ClientWriteError::Unknown(UnknownReason::LeadershipLost))
                } else {
                    Err(ClientWriteError::Superseded)
                };
                tx.answer(answer.map_err(RaftError::APIError));
            }
        }
        self.inbox.writes_answered(answered);
    }

    fn answer_reads(&mut self) {
        let mut answered = 0;
        let applied = self.applied.index_or_zero();
        while let Some(first) = self.reads.first_entry() {
            if *first.key() > applied {
                break;
            }
            for (log_id, tx) in first.remove() {
                answered += 1;
                let _ = tx.send(Ok(Some(log_id)));
            }
        }
        if answered > 0 {
            self.inbox.reads_answered(answered);
        }
    }
}
