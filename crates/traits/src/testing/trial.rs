//! One run of one check: a pair of stores, what was done to them, and what they must hold.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use raftwright_core::{CommittedLeaderId, RaftEntry, WriteId};

use super::builder::{Loss, PowerSwitch, StoreBuilder};
use super::model::{Model, Op, entries_differ, shown, span};
use super::recorder::Recorder;
use super::suite::Mode;
use crate::type_config::FromAppData;
use crate::{
    CommittedLeaderIdOf, IOFlushed, LogIdOf, LogIndex, Membership, MembershipOf, RaftLogReader, RaftLogStorage,
    RaftSnapshotBuilder, RaftStateMachine, RaftTypeConfig, Snapshot, StorageError, StoredMembership, VoteOf,
};

/// What a store did that it must not do.
#[derive(Debug)]
pub(super) struct Failure(pub(super) String);

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self(format!("the store failed, with nothing wrong around it: {error}"))
    }
}

/// The result of a check or of a step of it.
pub(super) type Checked<T = ()> = Result<T, Failure>;

/// Fails the check with a text unless the condition holds.
macro_rules! ensure {
    ($holds:expr, $($text:tt)+) => {
        if !$holds {
            return Err($crate::testing::trial::Failure(format!($($text)+)));
        }
    };
}
pub(super) use ensure;

/// What was done, in words, shared by all trials of a check.
pub(super) type Notes = Rc<RefCell<Vec<String>>>;

/// A pair of stores under test.
pub(super) struct Trial<C: RaftTypeConfig, B: StoreBuilder<C>> {
    builder: Rc<B>,
    mode: Mode,
    media: B::Media,
    stores: Option<(B::LogStore, B::StateMachine)>,
    recorder: Arc<Recorder>,
    /// Every write so far, in order; the `WriteId` is its number.
    pub(super) history: Vec<Op<C>>,
    /// What the log must hold.
    pub(super) model: Model<C>,
    /// Where the state machine stands without what was applied since: at the installed snapshot.
    base: Option<(Option<LogIdOf<C>>, StoredMembership<C>)>,
    applied: Vec<C::Entry>,
    /// The power was cut, or may be: closing need not succeed.
    dark: bool,
    notes: Notes,
}

/// Making stores, and closing and opening them.
impl<C: RaftTypeConfig, B: StoreBuilder<C>> Trial<C, B> {
    /// New stores on new media.
    pub(super) async fn start(builder: Rc<B>, mode: Mode, notes: Notes) -> Checked<Self> {
        let mut media = builder.media().await?;
        let stores = Some(builder.open(&mut media).await?);
        let recorder = Arc::default();
        Ok(Self {
            builder,
            mode,
            media,
            stores,
            recorder,
            history: Vec::new(),
            model: Model::default(),
            base: None,
            applied: Vec::new(),
            dark: false,
            notes,
        })
    }

    /// Another pair, on media of its own.
    pub(super) async fn another(&self) -> Checked<Self> {
        self.note("another pair of stores");
        Self::start(Rc::clone(&self.builder), self.mode, Rc::clone(&self.notes)).await
    }

    pub(super) fn builder(&self) -> &B {
        &self.builder
    }

    pub(super) fn note(&self, what: impl Into<String>) {
        self.notes.borrow_mut().push(what.into());
    }

    pub(super) fn log(&mut self) -> Checked<&mut B::LogStore> {
        self.stores.as_mut().map(|(log, _)| log).ok_or_else(|| Failure("the stores could not be opened".to_owned()))
    }

    pub(super) fn machine(&mut self) -> Checked<&mut B::StateMachine> {
        self.stores
            .as_mut()
            .map(|(_, machine)| machine)
            .ok_or_else(|| Failure("the stores could not be opened".to_owned()))
    }

    /// Between doing and looking: waits until every write is completed, and then, as the mode says, closes the stores and
    /// opens them again, or cuts the power in between.
    pub(super) async fn turn(&mut self) -> Checked {
        self.settled().await?;
        match self.mode {
            Mode::Straight => Ok(()),
            Mode::Reopened => self.reopen().await,
            Mode::PowerLoss => {
                self.cut_power(Loss::Everything);
                self.reopen().await
            }
        }
    }

    /// Closes the stores and opens them again.
    pub(super) async fn reopen(&mut self) -> Checked {
        self.note("close and open");
        if let Some((log, machine)) = self.stores.take() {
            let closed = self.builder.close(log, machine).await;
            if !std::mem::take(&mut self.dark) {
                closed?;
            }
        }
        self.stores = Some(self.builder.open(&mut self.media).await?);
        self.catch_up().await
    }

    pub(super) fn power(&self) -> Option<Arc<dyn PowerSwitch>> {
        self.builder.power(&self.media)
    }

    /// The power goes.
    pub(super) fn cut_power(&mut self, loss: Loss) {
        self.note(format!("power loss ({loss:?})"));
        self.dark = true;
        if let Some(power) = self.power() {
            power.cut(loss);
        }
    }

    /// Cuts the power at the moment at which this write, counted from 0, is completed.
    pub(super) fn cut_power_at(&mut self, write: usize, loss: Loss) {
        self.note(format!("power loss ({loss:?}) when write {write} is completed"));
        self.dark = true;
        if let Some(power) = self.power() {
            self.recorder.cut_at(WriteId(write as u64), power, loss);
        }
    }

    /// Goes on from what a power loss has left: earlier writes are done with, whatever became of them.
    pub(super) fn go_on_from(&mut self, found: Model<C>) {
        self.recorder = Arc::default();
        self.history.clear();
        self.model = found;
    }

    /// A reopened state machine is brought up to where it was, as the node would do it.
    async fn catch_up(&mut self) -> Checked {
        let (applied, membership) = self.machine()?.applied_state().await?;
        let Some(count) = (0..=self.applied.len()).find(|count| self.state_after(*count).0 == applied) else {
            let (from, upto) = (shown(self.state_after(0).0), shown(self.state_after(self.applied.len()).0));
            return Err(Failure(format!(
                "a reopened state machine says that it has applied up to {}; {from} to {upto} are possible",
                shown(applied)
            )));
        };
        let expected = self.state_after(count).1;
        ensure!(
            membership == expected,
            "a reopened state machine has applied up to {} with the membership {membership:?}, not {expected:?}",
            shown(applied)
        );
        let rest = self.applied.split_off(count);
        if !rest.is_empty() {
            self.apply(rest).await?;
        }
        Ok(())
    }

    /// The last log id and the membership of the state machine after this many of the applied entries.
    fn state_after(&self, count: usize) -> (Option<LogIdOf<C>>, StoredMembership<C>) {
        let (mut last, mut membership) = self.base.clone().unwrap_or_default();
        for entry in self.applied.iter().take(count) {
            last = Some(entry.log_id());
            if let Some(new) = entry.membership() {
                membership = StoredMembership::<C> { log_id: last, membership: new.clone() };
            }
        }
        (last, membership)
    }
}

/// What is written.
impl<C: RaftTypeConfig, B: StoreBuilder<C>> Trial<C, B> {
    pub(super) fn id(&self, term: u64, index: LogIndex) -> LogIdOf<C> {
        LogIdOf::<C>::new(CommittedLeaderIdOf::<C>::new(term, Some(self.builder.node_id(1))), index)
    }

    /// A candidate's vote.
    pub(super) fn vote(&self, term: u64, node: u64) -> VoteOf<C> {
        VoteOf::<C>::new(term, self.builder.node_id(node))
    }

    pub(super) fn blank(&self, term: u64, index: LogIndex) -> C::Entry {
        C::Entry::blank(self.id(term, index))
    }

    pub(super) fn normal(&self, term: u64, index: LogIndex) -> C::Entry {
        let mut entry = C::Entry::from_app_data(self.builder.data(term.wrapping_mul(100_000).wrapping_add(index)));
        entry.set_log_id(self.id(term, index));
        entry
    }

    /// A membership of these sets of voters and these learners.
    pub(super) fn members(&self, configs: &[&[u64]], learners: &[u64]) -> Checked<MembershipOf<C>> {
        let id = |number: &u64| self.builder.node_id(*number);
        let sets: Vec<BTreeSet<_>> = configs.iter().map(|voters| voters.iter().map(id).collect()).collect();
        let all = configs.iter().copied().flatten().chain(learners);
        let nodes: BTreeMap<_, _> = all.map(|number| (id(number), C::Node::default())).collect();
        Membership::new(sets, nodes).map_err(|error| Failure(format!("node_id() must tell numbers apart: {error}")))
    }

    pub(super) fn membership_entry(&self, term: u64, index: LogIndex, voters: &[u64]) -> Checked<C::Entry> {
        Ok(C::Entry::of_membership(self.id(term, index), self.members(&[voters], &[])?))
    }

    /// Normal entries of one term.
    pub(super) fn normals(&self, term: u64, indexes: impl IntoIterator<Item = LogIndex>) -> Vec<C::Entry> {
        indexes.into_iter().map(|index| self.normal(term, index)).collect()
    }

    /// Entries of these terms behind the end of the log, of every kind.
    pub(super) fn mixed(&self, terms: &[u64]) -> Checked<Vec<C::Entry>> {
        let first = self.model.last.map_or(1, |last| last.index.saturating_add(1));
        let kinds = terms.iter().zip(first..).map(|(term, index)| match index % 5 {
            1 => Ok(self.blank(*term, index)),
            3 => self.membership_entry(*term, index, &[1, 2, 1 + index % 7]),
            _ => Ok(self.normal(*term, index)),
        });
        kinds.collect()
    }

    /// Submits a write and does not wait for it.
    pub(super) fn submit(&mut self, op: Op<C>) -> Checked {
        let number = self.history.len();
        self.note(format!("write {number}: {op}"));
        let flushed = IOFlushed::new(WriteId(number as u64), Arc::clone(&self.recorder) as Arc<_>);
        self.history.push(op.clone());
        self.model.apply(&op);
        let log = self.log()?;
        match op {
            Op::Vote(vote) => log.save_vote(&vote, flushed),
            Op::Append(entries) => log.append(entries, flushed),
            Op::Truncate(since) => log.truncate(since, flushed),
            Op::Purge(upto) => log.purge(upto, flushed),
        }
        Ok(())
    }

    /// Saves the vote of the leader of that term if it is not yet saved: nobody has anything of a term that it has not seen.
    fn see_term(&mut self, term: u64) -> Checked {
        if term == 0 || self.model.vote.is_some_and(|vote| vote.term() >= term) {
            return Ok(());
        }
        self.submit(Op::Vote(self.vote(term, 1).commit()))
    }

    /// Appends, after saving the vote of the entries' leader.
    pub(super) fn append(&mut self, entries: Vec<C::Entry>) -> Checked {
        self.see_term(entries.iter().map(|entry| entry.log_id().leader_id.term()).max().unwrap_or_default())?;
        self.submit(Op::Append(entries))
    }

    /// Appends entries of these terms, of every kind.
    pub(super) fn append_mixed(&mut self, terms: &[u64]) -> Checked {
        self.append(self.mixed(terms)?)
    }

    pub(super) fn truncate(&mut self, since: LogIndex) -> Checked {
        self.submit(Op::Truncate(since))
    }

    /// Purges, after saving the vote of that term's leader.
    pub(super) fn purge(&mut self, term: u64, index: LogIndex) -> Checked {
        self.see_term(term)?;
        self.submit(Op::Purge(self.id(term, index)))
    }

    pub(super) fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Waits until every write is completed. All must have succeeded.
    pub(super) async fn settled(&self) -> Checked {
        self.recorder.told_of(self.history.len()).await;
        for (write, result) in self.recorder.told() {
            if let Err(error) = result {
                return Err(Failure(format!("write {} failed, with nothing wrong around it: {error}", write.0)));
            }
        }
        Ok(())
    }

    /// Applies entries; there must be an answer to each. Returns the answers as text.
    pub(super) async fn apply(&mut self, entries: Vec<C::Entry>) -> Checked<Vec<String>> {
        self.note(format!("apply({})", span(entries.iter().map(RaftEntry::log_id))));
        self.applied.extend(entries.iter().cloned());
        let count = entries.len();
        let answers = self.machine()?.apply(entries).await?;
        ensure!(answers.len() == count, "{count} entries were applied and {} answered", answers.len());
        Ok(answers.iter().map(|answer| format!("{answer:?}")).collect())
    }

    pub(super) async fn build_snapshot(&mut self) -> Checked<Snapshot<C>> {
        self.note("build a snapshot");
        let mut builder = self.machine()?.get_snapshot_builder().await;
        Ok(builder.build_snapshot().await?)
    }

    pub(super) async fn install(&mut self, snapshot: Snapshot<C>) -> Checked {
        self.note(format!("install_snapshot({})", shown(snapshot.meta.last_log_id)));
        let Snapshot { meta, snapshot } = snapshot;
        self.machine()?.install_snapshot(&meta, snapshot).await?;
        self.base = Some((meta.last_log_id, meta.last_membership));
        self.applied.clear();
        Ok(())
    }
}

/// What is looked at.
impl<C: RaftTypeConfig, B: StoreBuilder<C>> Trial<C, B> {
    /// The store holds what it must: log state, vote, and every entry, also for a new reader.
    pub(super) async fn agrees(&mut self) -> Checked {
        let found = Model::of(self.log()?).await?;
        if let Some(difference) = self.model.difference(&found) {
            return Err(Failure(difference));
        }
        let entries = self.log()?.get_log_reader().await.try_get_log_entries(..).await?;
        match entries_differ::<C>(&self.model.entries, &entries) {
            Some(difference) => Err(Failure(format!("to a new reader, {difference}"))),
            None => Ok(()),
        }
    }

    /// These are the entries at `indexes`, which must all be in the log.
    pub(super) fn are(&self, found: &[C::Entry], indexes: impl IntoIterator<Item = LogIndex>, call: &str) -> Checked {
        let wanted: BTreeSet<LogIndex> = indexes.into_iter().collect();
        let expected: Vec<C::Entry> =
            self.model.entries.iter().filter(|entry| wanted.contains(&entry.log_id().index)).cloned().collect();
        match entries_differ::<C>(&expected, found) {
            Some(difference) => Err(Failure(format!("{call}: {difference}"))),
            None => Ok(()),
        }
    }

    /// The state machine says that it has applied what it has.
    pub(super) async fn machine_agrees(&mut self) -> Checked {
        let expected = self.state_after(self.applied.len());
        let (applied, membership) = self.machine()?.applied_state().await?;
        ensure!(
            applied == expected.0,
            "the state machine says it has applied up to {}, not {}",
            shown(applied),
            shown(expected.0)
        );
        ensure!(membership == expected.1, "the state machine's membership is {membership:?}, not {:?}", expected.1);
        Ok(())
    }
}
