//! An application's own state machine under every fault, in an ordinary test.
//!
//! ```
//! use raftwright_sim::runtime::SimRuntime;
//! # use bytes::Bytes;
//! # use raftwright_sim::check::Chance;
//! # use raftwright_traits::*;
//! # #[derive(Debug, Default)]
//! # struct Counter { sum: u64, applied: Option<LogIdOf<App>>, membership: StoredMembership<App> }
//! # struct Builder(Snapshot<App>);
//! # impl RaftSnapshotBuilder<App> for Builder {
//! #     async fn build_snapshot(&mut self) -> Result<Snapshot<App>, StorageError> {
//! #         Ok(Snapshot { meta: self.0.meta.clone(), snapshot: self.0.snapshot.clone() })
//! #     }
//! # }
//! # impl RaftStateMachine<App> for Counter {
//! #     type SnapshotBuilder = Builder;
//! #     async fn applied_state(&mut self) -> Result<(Option<LogIdOf<App>>, StoredMembership<App>), StorageError> {
//! #         Ok((self.applied, self.membership.clone()))
//! #     }
//! #     async fn apply(&mut self, entries: Vec<Entry<App>>) -> Result<Vec<u64>, StorageError> {
//! #         Ok(entries.into_iter().map(|entry| {
//! #             self.applied = Some(entry.log_id);
//! #             match entry.payload {
//! #                 EntryPayload::Normal(bytes) => self.sum += bytes.len() as u64,
//! #                 EntryPayload::Membership(membership) => {
//! #                     self.membership = StoredMembership::<App> { log_id: Some(entry.log_id), membership };
//! #                 }
//! #                 EntryPayload::Blank => {}
//! #             }
//! #             self.sum
//! #         }).collect())
//! #     }
//! #     async fn get_snapshot_builder(&mut self) -> Builder {
//! #         let meta = SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone(), snapshot_id: String::new() };
//! #         Builder(Snapshot { meta, snapshot: std::io::Cursor::new(self.sum.to_be_bytes().to_vec()) })
//! #     }
//! #     async fn begin_receiving_snapshot(&mut self) -> Result<std::io::Cursor<Vec<u8>>, StorageError> {
//! #         Ok(Default::default())
//! #     }
//! #     async fn install_snapshot(&mut self, meta: &SnapshotMeta<App>, snapshot: std::io::Cursor<Vec<u8>>) -> Result<(), StorageError> {
//! #         self.sum = u64::from_be_bytes(snapshot.into_inner().try_into().unwrap_or_default());
//! #         (self.applied, self.membership) = (meta.last_log_id, meta.last_membership.clone());
//! #         Ok(())
//! #     }
//! #     async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<App>>, StorageError> { Ok(None) }
//! # }
//!
//! // The application's types, with the simulator's runtime. `Counter` is its state machine.
//! raftwright_traits::declare_raft_types!(
//!     App: D = Bytes, R = u64, NodeId = u64, Node = BasicNode, AsyncRuntime = SimRuntime
//! );
//!
//! raftwright_sim::check(Counter::default, |chance: &mut Chance| Bytes::from(vec![0; chance.below(9) as usize]))
//!     .seeds(0..3)
//!     .run();
//! ```

use core::fmt::Debug;
use core::marker::PhantomData;
use core::ops::Range;

use raftwright_core::SnapshotPolicy;
use raftwright_node::Raft;
use raftwright_traits::{AppBytes, ClientWriteError, Entry, EntryCodec, RaftError, RaftStateMachine};
use raftwright_wal::WalOptions;

use crate::core_world::ProfileName;
use crate::lin::{History, Outcome as Told2};
use crate::node_world::application::{Application, SimConfig, Stores};
use crate::node_world::profile::NodeProfile;
use crate::node_world::tap::Reporter;
use crate::node_world::workload::{Ask, Attempted, Told, Workload};
use crate::node_world::{WalStores, run_workload};
use crate::shrink::Omit;
use crate::world::{NodeId, Rng, TraceHash};

/// The chance that a workload draws from.
pub type Chance = Rng;

/// Checks a state machine under every fault: clusters of whole nodes with the real log, whose clients ask what `workload`
/// draws. `machine` makes the state machine of a process that starts, with nothing in it: it gets its log again from the
/// beginning, so no log is purged, and its snapshots are not asked for.
///
/// What is checked: all that the simulator checks of Raft itself; that all nodes answer each command alike, also after a
/// restart; that an acknowledged command keeps its place in the log, and takes it between its call and its answer.
pub fn check<C, M, F, W>(machine: F, workload: W) -> Check<C, M, F, W, WalFactory>
where
    C: SimConfig,
    C::D: AppBytes,
    M: RaftStateMachine<C>,
    F: Fn() -> M + Clone + 'static,
    W: Fn(&mut Chance) -> C::D + Clone + 'static,
{
    Check { machine, workload, stores: WalFactory, seeds: 0..100, profile: ProfileName::Mixed, types: PhantomData }
}

/// Makes the log stores of a run.
pub trait StoresFactory<C: SimConfig>: 'static {
    /// The stores.
    type Stores: Stores<C>;

    /// The stores of all nodes of a run, with nothing in them.
    fn stores(&self, seed: u64) -> Self::Stores;
}

/// The project's own log on simulated disks.
#[derive(Debug, Clone, Copy)]
pub struct WalFactory;

impl<C> StoresFactory<C> for WalFactory
where
    C: SimConfig,
    Entry<C>: EntryCodec<C>,
{
    type Stores = WalStores;

    fn stores(&self, seed: u64) -> WalStores {
        let options = WalOptions { segment_bytes: 256 << 10, prepare_step_bytes: 64 << 10, ..WalOptions::default() };
        WalStores::new(seed, options)
    }
}

impl<C, S, F> StoresFactory<C> for F
where
    C: SimConfig,
    S: Stores<C>,
    F: Fn(u64) -> S + 'static,
{
    type Stores = S;

    fn stores(&self, seed: u64) -> S {
        self(seed)
    }
}

/// A check that is being put together; [`Check::run`] makes it.
#[derive(Debug, Clone)]
pub struct Check<C, M, F, W, S> {
    machine: F,
    workload: W,
    stores: S,
    seeds: Range<u64>,
    profile: ProfileName,
    types: PhantomData<fn() -> (C, M)>,
}

/// A seed that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The seed.
    pub seed: u64,
    /// What was broken, and when.
    pub what: String,
}

impl<C, M, F, W, S> Check<C, M, F, W, S>
where
    C: SimConfig,
    M: RaftStateMachine<C>,
    F: Fn() -> M + Clone + 'static,
    W: Fn(&mut Chance) -> C::D + Clone + 'static,
    S: StoresFactory<C> + Clone,
{
    /// Which seeds to run; the last one is not included. 0 to 99 if nothing is said.
    #[must_use]
    pub fn seeds(self, seeds: Range<u64>) -> Self {
        Self { seeds, ..self }
    }

    /// Which mix of faults. Each seed its own if nothing is said.
    #[must_use]
    pub fn profile(self, profile: ProfileName) -> Self {
        Self { profile, ..self }
    }

    /// On log stores of the application's own: a function from a seed to [`Stores`].
    #[must_use]
    pub fn on<T: StoresFactory<C>>(self, stores: T) -> Check<C, M, F, W, T> {
        let Check { machine, workload, stores: _, seeds, profile, types } = self;
        Check { machine, workload, stores, seeds, profile, types }
    }

    /// Runs one seed.
    ///
    /// # Errors
    ///
    /// What was broken.
    pub fn run_seed(&self, seed: u64) -> Result<(), Failed> {
        let mut profile = NodeProfile::draw(self.profile, &mut Rng::new(seed));
        // A process starts with an empty state machine, so it needs its whole log.
        profile.classes.purges = false;
        profile.config.snapshot_policy = SnapshotPolicy::Never;
        let user = User::<C, M, F, W, S> {
            machine: self.machine.clone(),
            workload: self.workload.clone(),
            types: PhantomData,
        };
        let (outcome, _) = run_workload(seed, profile, user, self.stores.stores(seed), Omit::default(), false);
        match outcome.failure {
            None => Ok(()),
            Some(failure) => Err(Failed { seed, what: failure.to_string() }),
        }
    }

    /// Runs all seeds.
    ///
    /// # Panics
    ///
    /// At the first seed that fails, with what was broken and how to repeat it.
    #[expect(clippy::panic, reason = "a test fails by panicking, and this is called by tests")]
    pub fn run(self) {
        for seed in self.seeds.clone() {
            if let Err(Failed { seed, what }) = self.run_seed(seed) {
                panic!("seed {seed}: {what}\nto repeat it: `.seeds({seed}..{})`", seed + 1);
            }
        }
    }
}

/// What a check is about, without any of it.
type Types<C, M, S> = PhantomData<fn() -> (C, M, S)>;

/// The application under check.
struct User<C, M, F, W, S> {
    machine: F,
    workload: W,
    types: Types<C, M, S>,
}

impl<C, M, F, W, S> Debug for User<C, M, F, W, S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("User")
    }
}

impl<C, M, F, W, S> Application for User<C, M, F, W, S>
where
    C: SimConfig,
    M: RaftStateMachine<C>,
    F: Fn() -> M + 'static,
    W: 'static,
    S: StoresFactory<C>,
{
    type C = C;
    type Machine = M;
    type Probe = ();
    type Stores = S::Stores;

    fn machine(&mut self, _: NodeId) -> (M, ()) {
        ((self.machine)(), ())
    }

    fn fingerprint(_: &M) -> Option<u64> {
        None
    }

    fn hash(data: &C::D) -> u64 {
        hash_of(data)
    }
}

fn hash_of(value: &impl Debug) -> u64 {
    let mut hash = TraceHash::default();
    // Writing to a hash cannot fail.
    let _ = core::fmt::write(&mut hash, format_args!("{value:?}"));
    hash.value()
}

impl<C, M, F, W, S> Workload for User<C, M, F, W, S>
where
    C: SimConfig,
    M: RaftStateMachine<C>,
    F: Fn() -> M + 'static,
    W: Fn(&mut Chance) -> C::D + 'static,
    S: StoresFactory<C>,
{
    type Op = C::D;
    type Ret = u64;

    // Whether the application can tell a copy from a new command is not known here.
    const REPEATABLE: bool = false;

    fn next(&self, _: u64, _: u64, rng: &mut Rng) -> C::D {
        (self.workload)(rng)
    }

    fn is_read(_: &C::D) -> bool {
        false
    }

    fn attempt(&self, _: Ask, op: C::D, raft: Raft<C>, (): (), _: Reporter) -> Attempted<u64> {
        Box::pin(async move {
            match raft.client_write(op).await {
                Ok(response) => Told::Answer(response.log_id.index),
                Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                    Told::Elsewhere(forward.leader_id)
                }
                Err(RaftError::APIError(ClientWriteError::Busy | ClientWriteError::DiskFull)) => Told::Busy,
                Err(RaftError::APIError(ClientWriteError::Unknown(_))) => Told::Unknown,
                Err(
                    RaftError::APIError(
                        ClientWriteError::Superseded | ClientWriteError::Expired | ClientWriteError::LeaderChanged,
                    )
                    | RaftError::Fatal(_),
                ) => Told::Elsewhere(None),
            }
        })
    }

    fn noise(&self, number: u64) -> C::D {
        (self.workload)(&mut Rng::new(number))
    }

    fn judge(&self, history: &History<C::D, u64>) -> Result<usize, String> {
        in_order(history.operations().iter().filter_map(|operation| match operation.outcome {
            Told2::Returned { at, ret } => Some((operation.invoked, at, ret)),
            Told2::Unknown => None,
        }))
    }
}

/// The log is an order of the commands that explains what everybody saw, if no command has the place of another, and one
/// that was answered before another was asked stands before it.
fn in_order(answered: impl Iterator<Item = (u64, u64, u64)>) -> Result<usize, String> {
    let mut by_place: Vec<(u64, u64, u64)> =
        answered.map(|(invoked, returned, place)| (place, invoked, returned)).collect();
    by_place.sort_unstable();
    // Going down from the end: the earliest return of all that stand behind.
    let mut earliest_return = (u64::MAX, 0);
    for pair in by_place.windows(2) {
        if pair[0].0 == pair[1].0 {
            return Err(format!("two commands were answered for the one entry {}", pair[0].0));
        }
    }
    for (place, invoked, returned) in by_place.iter().rev() {
        if earliest_return.0 < *invoked {
            let (_, later) = earliest_return;
            return Err(format!("the command at {place} was asked after the one at {later} was answered"));
        }
        earliest_return = earliest_return.min((*returned, *place));
    }
    Ok(by_place.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_must_explain_what_clients_saw() {
        // Called, answered, place.
        assert_eq!(in_order([(1, 2, 5), (3, 4, 6)].into_iter()), Ok(2));
        assert_eq!(in_order([(1, 4, 6), (2, 3, 5)].into_iter()), Ok(2));
        assert!(in_order([(1, 2, 6), (3, 4, 5)].into_iter()).is_err());
        assert!(in_order([(1, 2, 5), (3, 4, 5)].into_iter()).is_err());
        assert!(in_order([(5, 6, 1), (1, 2, 3), (3, 4, 2)].into_iter()).is_err());
    }
}
