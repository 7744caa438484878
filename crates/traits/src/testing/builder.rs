//! What the suite asks of whoever brings a store.

use std::future::Future;
use std::sync::Arc;

use crate::{RaftLogStorage, RaftStateMachine, RaftTypeConfig, StorageError, WireNodeId};

/// What is still there when a pair of stores was closed and is opened again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Survives {
    /// Nothing: both are in memory.
    Nothing,
    /// The log and the vote. The state machine begins anew and gets the log again.
    Log,
    /// The log, the vote, and the state machine with its snapshots.
    Everything,
}

/// What becomes of writes that no sync has made durable when the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// All of them are lost.
    Everything,
    /// Some of them are, whole or torn, as the seed decides. Media that cannot do this may lose everything instead.
    Part {
        /// Decides which.
        seed: u64,
    },
}

/// The builder does not offer what was asked; the checks that need it are skipped, and the report says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the builder does not offer it")]
pub struct NotOffered;

/// Work for another thread.
pub type Work = Box<dyn FnOnce() + Send>;

/// The power of the media under a store.
pub trait PowerSwitch: Send + Sync {
    /// The power goes, now: what no sync has made durable is lost as `loss` says, and whoever has the media open gets
    /// errors from it until it is opened again.
    ///
    /// The suite calls this from within the completion of a token, on the store's own thread, to see what is durable at
    /// that very moment. A store must not complete a token while it holds what this call needs.
    fn cut(&self, loss: Loss);

    /// The next sync fails, and does not make durable what it should have.
    ///
    /// # Errors
    /// [`NotOffered`] if these media cannot do that.
    fn fail_next_sync(&self) -> Result<(), NotOffered> {
        Err(NotOffered)
    }
}

/// Makes pairs of a log store and a state machine for the suite, and what they live on.
///
/// Every `async fn() -> (LogStore, StateMachine)` is one, of stores that are gone when they are dropped.
pub trait StoreBuilder<C: RaftTypeConfig>: 'static {
    /// The log store.
    type LogStore: RaftLogStorage<C>;
    /// The state machine.
    type StateMachine: RaftStateMachine<C>;
    /// What the stores live on, and what is left of them when they are closed: a directory, a disk, nothing.
    type Media: 'static;

    /// New media with nothing on them.
    ///
    /// # Errors
    /// Fail the check at hand.
    fn media(&self) -> impl Future<Output = Result<Self::Media, StorageError>>;

    /// Opens the stores on these media. Never called while another pair is open on them.
    ///
    /// # Errors
    /// Fail the check at hand.
    fn open(
        &self,
        media: &mut Self::Media,
    ) -> impl Future<Output = Result<(Self::LogStore, Self::StateMachine), StorageError>>;

    /// Closes the stores, so that they can be opened again. The default drops them.
    ///
    /// # Errors
    /// Fail the check at hand, unless the power was cut before.
    fn close(
        &self,
        log: Self::LogStore,
        machine: Self::StateMachine,
    ) -> impl Future<Output = Result<(), StorageError>> {
        drop((log, machine));
        async { Ok(()) }
    }

    /// What is still there after [`close`](Self::close) and [`open`](Self::open).
    fn survives(&self) -> Survives;

    /// What a client could ask. Different numbers should give different data: the suite recognizes an entry by it. The
    /// state machine's answers should depend on what was applied before, or a transferred state cannot be told from none.
    fn data(&self, number: u64) -> C::D;

    /// The id of a server; numbers from 1 to 9 are asked for.
    fn node_id(&self, number: u64) -> C::NodeId;

    /// The power of these media, if it can be cut.
    fn power(&self, media: &Self::Media) -> Option<Arc<dyn PowerSwitch>> {
        let _ = media;
        None
    }

    /// Runs work on another thread, for the check of readers beside the writer: usually `std::thread::spawn`, inside the
    /// runtime that the stores need, if they need one.
    ///
    /// # Errors
    /// [`NotOffered`], which skips that check.
    fn spawn(&self, work: Work) -> Result<(), NotOffered> {
        drop(work);
        Err(NotOffered)
    }
}

/// What clients ask, made up by number: lets an `async fn` be a [`StoreBuilder`].
pub trait TestData {
    /// The data of that number, unlike that of any other.
    fn test_data(number: u64) -> Self;
}

impl TestData for u64 {
    fn test_data(number: u64) -> Self {
        number
    }
}

impl TestData for String {
    fn test_data(number: u64) -> Self {
        // As long as a small record, so that limits in bytes bite.
        format!("{number:0>240}")
    }
}

impl TestData for Vec<u8> {
    fn test_data(number: u64) -> Self {
        String::test_data(number).into_bytes()
    }
}

impl TestData for bytes::Bytes {
    fn test_data(number: u64) -> Self {
        Vec::test_data(number).into()
    }
}

impl<C, F, Stores, LS, SM> StoreBuilder<C> for F
where
    C: RaftTypeConfig<NodeId: WireNodeId, D: TestData>,
    F: Fn() -> Stores + 'static,
    Stores: Future<Output = (LS, SM)>,
    LS: RaftLogStorage<C>,
    SM: RaftStateMachine<C>,
{
    type LogStore = LS;
    type StateMachine = SM;
    type Media = ();

    async fn media(&self) -> Result<(), StorageError> {
        Ok(())
    }

    async fn open(&self, (): &mut ()) -> Result<(LS, SM), StorageError> {
        Ok(self().await)
    }

    fn survives(&self) -> Survives {
        Survives::Nothing
    }

    fn data(&self, number: u64) -> C::D {
        C::D::test_data(number)
    }

    fn node_id(&self, number: u64) -> C::NodeId {
        C::NodeId::from_u64(number).unwrap_or_default()
    }
}
