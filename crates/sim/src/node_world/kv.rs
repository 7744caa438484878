//! The application of random runs: a small map with client sessions, so that a command that is sent twice takes effect
//! once (Thesis §6.3).

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use raftwright_core::ReadPolicy;
use raftwright_node::{Raft, ServerState};
use raftwright_traits::{
    AppBytes, AsyncRuntime, BasicNode, ClientWriteError, DecodeError, EntryPayload, LinearizableReadError, LogIdOf,
    RaftError, RaftStateMachine, RaftTypeConfig, Snapshot, SnapshotMeta, StorageError, StorageErrorKind,
    StoredMembership, declare_raft_types,
};

use super::application::Application;
use super::shelf::{Pack, Shelf, ShelfBuilder, Unpack, snapshot_id};
use super::stores::WalStores;
use super::tap::{Act, Reporter};
use super::workload::{Ask, Attempted, NO_SESSION, Told, Workload};
use crate::checkers::Fact;
use crate::core_world::machine::MapModel;
use crate::core_world::types::KvCommand;
use crate::lin::{Checker, History, KvOp, KvRet, Model, Verdict};
use crate::runtime::SimRuntime;
use crate::world::{NodeId, Rng, TraceHash};

declare_raft_types!(
    /// The map of random runs.
    pub KvApp: D = Order, R = KvRet<u64>, NodeId = u64, Node = BasicNode, AsyncRuntime = SimRuntime
);

/// A command, and which one of which client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The client.
    pub client: u64,
    /// Its commands are numbered; a lower number than one that was applied is a late copy.
    pub number: u64,
    /// What it asks.
    pub op: KvCommand,
}

/// How many bytes an order has.
const ORDER_BYTES: usize = 8 + 8 + 1 + 1 + 9 + 9;

fn put_option(bytes: &mut Vec<u8>, value: Option<u64>) {
    bytes.push(u8::from(value.is_some()));
    bytes.extend(value.unwrap_or(0).to_le_bytes());
}

impl AppBytes for Order {
    fn to_bytes(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(ORDER_BYTES);
        bytes.extend(self.client.to_le_bytes());
        bytes.extend(self.number.to_le_bytes());
        let (kind, key, expected, new) = match &self.op {
            KvOp::Put { key, value } => (0, *key, None, Some(*value)),
            KvOp::Get { key } => (1, *key, None, None),
            KvOp::Delete { key } => (2, *key, None, None),
            KvOp::CompareAndSet { key, expected, new } => (3, *key, *expected, *new),
        };
        bytes.extend([kind, key]);
        put_option(&mut bytes, expected);
        put_option(&mut bytes, new);
        Bytes::from(bytes)
    }

    fn from_bytes(bytes: Bytes) -> Result<Self, DecodeError> {
        let wrong = || DecodeError::new("an order", format!("{} bytes", bytes.len()));
        let word = |at: usize| -> Result<u64, DecodeError> {
            let part = bytes.get(at..at + 8).ok_or_else(wrong)?;
            Ok(u64::from_le_bytes(part.try_into().map_err(|_| wrong())?))
        };
        let byte = |at: usize| bytes.get(at).copied().ok_or_else(wrong);
        let option = |at: usize| Ok(if byte(at)? == 1 { Some(word(at + 1)?) } else { None });
        let (kind, key, expected, new) = (byte(16)?, byte(17)?, option(18)?, option(27)?);
        let op = match (kind, new) {
            (0, Some(value)) => KvOp::Put { key, value },
            (1, None) => KvOp::Get { key },
            (2, None) => KvOp::Delete { key },
            (3, new) => KvOp::CompareAndSet { key, expected, new },
            _ => return Err(wrong()),
        };
        Ok(Order { client: word(0)?, number: word(8)?, op })
    }
}

/// What the state machine holds.
#[derive(Debug, Default)]
pub struct KvState {
    values: BTreeMap<u8, u64>,
    /// By client: the number of its last command, and the answer to it.
    sessions: BTreeMap<u64, (u64, KvRet<u64>)>,
    applied: Option<LogIdOf<KvApp>>,
    membership: StoredMembership<KvApp>,
    /// The hashes of all values and sessions, in any order: kept up to date, because it is asked for with every batch.
    hash: u64,
}

/// The hash of one place of the state and what is there.
fn place_hash(kind: u64, place: u64, content: u64) -> u64 {
    let mut hash = TraceHash::default();
    [kind, place, content].into_iter().for_each(|word| hash.word(word));
    hash.value()
}

impl KvState {
    /// The value of a key.
    pub fn get(&self, key: u8) -> Option<u64> {
        self.values.get(&key).copied()
    }

    /// The last entry that was applied.
    pub fn applied(&self) -> Option<LogIdOf<KvApp>> {
        self.applied
    }

    fn obey(&mut self, order: &Order) -> KvRet<u64> {
        match self.sessions.get(&order.client) {
            Some((number, answer)) if *number == order.number => return answer.clone(),
            // Nobody waits for the answer to a late copy.
            Some((number, _)) if *number > order.number => return KvRet::Done,
            Some(_) | None => {}
        }
        let key = MapModel::key(&order.op);
        let before = self.get(key);
        let (after, answer) = match &order.op {
            KvOp::Put { value, .. } => (Some(*value), KvRet::Done),
            KvOp::Delete { .. } => (None, KvRet::Done),
            KvOp::Get { .. } => (before, KvRet::Value(before)),
            KvOp::CompareAndSet { expected, new, .. } if *expected == before => (*new, KvRet::Swapped),
            KvOp::CompareAndSet { .. } => (before, KvRet::Mismatch(before)),
        };
        self.set(key, after);
        if order.client < NO_SESSION {
            self.remember(order.client, order.number, answer.clone());
        }
        answer
    }

    fn set(&mut self, key: u8, value: Option<u64>) {
        let before = match value {
            Some(value) => self.values.insert(key, value),
            None => self.values.remove(&key),
        };
        for value in before.into_iter().chain(value) {
            self.hash ^= place_hash(0, u64::from(key), value);
        }
    }

    fn remember(&mut self, client: u64, number: u64, answer: KvRet<u64>) {
        let before = self.sessions.insert(client, (number, answer));
        for number in before.map(|(number, _)| number).into_iter().chain([number]) {
            self.hash ^= place_hash(1, client, number);
        }
    }
}

/// A state machine in memory. A new process starts with an empty one, gets the newest snapshot, and applies its log from there.
#[derive(Debug, Clone, Default)]
pub struct KvMachine {
    state: Arc<Mutex<KvState>>,
    shelf: Shelf<KvApp>,
}

impl KvMachine {
    /// A look at the state.
    pub fn state(&self) -> MutexGuard<'_, KvState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer in three numbers: its kind, whether there is a value, and the value.
fn pack_answer(answer: &KvRet<u64>) -> [u64; 3] {
    let with = |kind, value: &Option<u64>| [kind, u64::from(value.is_some()), value.unwrap_or(0)];
    match answer {
        KvRet::Done => [0, 0, 0],
        KvRet::Value(value) => with(1, value),
        KvRet::Swapped => [2, 0, 0],
        KvRet::Mismatch(value) => with(3, value),
    }
}

fn unpack_answer([kind, some, value]: [u64; 3]) -> Option<KvRet<u64>> {
    let value = (some == 1).then_some(value);
    match kind {
        0 => Some(KvRet::Done),
        1 => Some(KvRet::Value(value)),
        2 => Some(KvRet::Swapped),
        3 => Some(KvRet::Mismatch(value)),
        _ => None,
    }
}

impl KvState {
    fn pack(&self) -> Vec<u8> {
        let mut pack = Pack::default();
        pack.word(self.values.len() as u64);
        for (key, value) in &self.values {
            pack.word(u64::from(*key));
            pack.word(*value);
        }
        // The sessions are part of the state: without them a late copy would be obeyed once more.
        pack.word(self.sessions.len() as u64);
        for (client, (number, answer)) in &self.sessions {
            pack.word(*client);
            pack.word(*number);
            pack_answer(answer).into_iter().for_each(|word| pack.word(word));
        }
        pack.0
    }

    fn unpack(content: &[u8], meta: &SnapshotMeta<KvApp>) -> Option<Self> {
        let mut from = Unpack(content);
        let membership = meta.last_membership.clone();
        let mut state = Self { applied: meta.last_log_id, membership, ..Self::default() };
        for _ in 0..from.count()? {
            state.set(u8::try_from(from.word()?).ok()?, Some(from.word()?));
        }
        for _ in 0..from.count()? {
            let (client, number) = (from.word()?, from.word()?);
            let answer = unpack_answer([from.word()?, from.word()?, from.word()?])?;
            state.remember(client, number, answer);
        }
        Some(state)
    }
}

impl RaftStateMachine<KvApp> for KvMachine {
    type SnapshotBuilder = ShelfBuilder<KvApp>;

    async fn applied_state(&mut self) -> Result<(Option<LogIdOf<KvApp>>, StoredMembership<KvApp>), StorageError> {
        let state = self.state();
        Ok((state.applied, state.membership.clone()))
    }

    async fn apply(&mut self, entries: Vec<<KvApp as RaftTypeConfig>::Entry>) -> Result<Vec<KvRet<u64>>, StorageError> {
        let mut state = self.state();
        let mut answers = Vec::with_capacity(entries.len());
        for entry in entries {
            state.applied = Some(entry.log_id);
            answers.push(match entry.payload {
                EntryPayload::Blank => KvRet::Done,
                EntryPayload::Membership(membership) => {
                    state.membership = StoredMembership::<KvApp> { log_id: Some(entry.log_id), membership };
                    KvRet::Done
                }
                EntryPayload::Normal(order) => state.obey(&order),
            });
        }
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> ShelfBuilder<KvApp> {
        let state = self.state();
        let snapshot_id = snapshot_id::<KvApp>(&state.applied);
        let meta = SnapshotMeta { last_log_id: state.applied, last_membership: state.membership.clone(), snapshot_id };
        ShelfBuilder::new(&self.shelf, meta, state.pack())
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Cursor<Vec<u8>>, StorageError> {
        Ok(Cursor::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<KvApp>,
        snapshot: Cursor<Vec<u8>>,
    ) -> Result<(), StorageError> {
        let content = snapshot.into_inner();
        let Some(state) = KvState::unpack(&content, meta) else {
            return Err(StorageError::new(StorageErrorKind::Corrupt, "the snapshot is damaged"));
        };
        self.shelf.keep(meta, content);
        *self.state() = state;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<KvApp>>, StorageError> {
        Ok(self.shelf.newest())
    }
}

/// The map as a world's application.
#[derive(Debug, Clone, Default)]
pub struct Kv {
    keys: u64,
    shelves: BTreeMap<NodeId, Shelf<KvApp>>,
}

impl Kv {
    /// A map of which clients use so many keys.
    pub fn new(keys: u64) -> Self {
        Self { keys, shelves: BTreeMap::new() }
    }
}

impl Application for Kv {
    type C = KvApp;
    type Machine = KvMachine;
    type Probe = KvMachine;
    type Stores = WalStores;

    fn machine(&mut self, node: NodeId) -> (KvMachine, KvMachine) {
        let shelf = self.shelves.entry(node).or_default().clone();
        let machine = KvMachine { shelf, ..KvMachine::default() };
        (machine.clone(), machine)
    }

    fn gone(&mut self, node: NodeId, wiped: bool) {
        if wiped {
            self.shelves.remove(&node);
        }
    }

    fn fingerprint(machine: &KvMachine) -> Option<u64> {
        Some(machine.state().hash)
    }

    fn hash(order: &Order) -> u64 {
        let mut hash = TraceHash::default();
        hash.bytes(&order.to_bytes());
        hash.value()
    }
}

/// The key that no client of a history uses.
const NOISE_KEY: u8 = 255;

impl Workload for Kv {
    type Op = KvCommand;
    type Ret = KvRet<u64>;

    const REPEATABLE: bool = true;

    /// Values are never repeated, so that a read tells which write it saw.
    fn next(&self, client: u64, number: u64, rng: &mut Rng) -> KvCommand {
        let value = client << 32 | number;
        let key = rng.below(self.keys) as u8;
        match rng.below(20) {
            0..=8 => KvOp::Put { key, value },
            9..=16 => KvOp::Get { key },
            17 => KvOp::Delete { key },
            18 => KvOp::CompareAndSet { key, expected: None, new: Some(value) },
            _ => KvOp::CompareAndSet { key, expected: Some(value.saturating_sub(1)), new: Some(value) },
        }
    }

    fn is_read(op: &KvCommand) -> bool {
        MapModel::is_read_only(op)
    }

    fn attempt(
        &self,
        ask: Ask,
        op: KvCommand,
        raft: Raft<KvApp>,
        probe: KvMachine,
        reporter: Reporter,
    ) -> Attempted<KvRet<u64>> {
        match op {
            KvOp::Get { key } if ask.by_read => Box::pin(read(raft, probe, key, reporter, ask)),
            op => Box::pin(write(raft, Order { client: ask.client, number: ask.number, op })),
        }
    }

    fn noise(&self, number: u64) -> KvCommand {
        KvOp::Put { key: NOISE_KEY, value: number }
    }

    fn judge(&self, history: &History<KvCommand, KvRet<u64>>) -> Result<usize, String> {
        let (verdict, stats) = Checker::default().check::<MapModel>(history);
        match verdict {
            Verdict::Linearizable => Ok(stats.operations),
            Verdict::NotLinearizable(violation) => Err(violation.explanation),
            Verdict::GaveUp { key } => Err(format!("the history of key {key} is too hard to judge")),
        }
    }
}

async fn write(raft: Raft<KvApp>, order: Order) -> Told<KvRet<u64>> {
    match raft.client_write(order).await {
        Ok(response) => Told::Answer(response.data),
        Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => Told::Elsewhere(forward.leader_id),
        Err(RaftError::APIError(ClientWriteError::Busy | ClientWriteError::DiskFull)) => Told::Busy,
        Err(RaftError::APIError(ClientWriteError::Unknown(_))) => Told::Unknown,
        // Each says that the command is surely not applied.
        Err(
            RaftError::APIError(
                ClientWriteError::Superseded | ClientWriteError::Expired | ClientWriteError::LeaderChanged,
            )
            | RaftError::Fatal(_),
        ) => Told::Elsewhere(None),
    }
}

async fn read(raft: Raft<KvApp>, probe: KvMachine, key: u8, reporter: Reporter, ask: Ask) -> Told<KvRet<u64>> {
    let policy = if ask.by_lease { ReadPolicy::Lease } else { ReadPolicy::ReadIndex };
    let asked_at = SimRuntime::current().map(|runtime| runtime.now());
    match raft.ensure_linearizable(policy).await {
        Ok(log_id) => {
            // No time has passed: nobody else was asked.
            if ask.by_lease && SimRuntime::current().map(|runtime| runtime.now()) == asked_at {
                report_lease(&raft, &reporter);
            }
            let (committed_at_call, read_log_id) = (ask.committed_at_call, log_id.unwrap_or_default());
            reporter.report(Act::Did(Fact::ReadAnswered { committed_at_call, read_log_id }));
            Told::Answer(KvRet::Value(probe.state().get(key)))
        }
        Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => Told::Elsewhere(forward.leader_id),
        Err(RaftError::APIError(LinearizableReadError::Busy)) => Told::Busy,
        Err(RaftError::APIError(LinearizableReadError::NotConfirmed) | RaftError::Fatal(_)) => Told::Elsewhere(None),
    }
}

/// Says that a leader has just answered by its lease.
fn report_lease(raft: &Raft<KvApp>, reporter: &Reporter) {
    let metrics = raft.metrics();
    let metrics = metrics.borrow();
    if let Some(vote) = metrics.vote.filter(|_| metrics.state == ServerState::Leader) {
        reporter.report(Act::Did(Fact::LeaseHeld { vote }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(number: u64, op: KvCommand) -> Order {
        Order { client: 7, number, op }
    }

    #[test]
    fn an_order_survives_its_bytes() {
        for op in [
            KvOp::Put { key: 3, value: u64::MAX },
            KvOp::Get { key: 0 },
            KvOp::Delete { key: 255 },
            KvOp::CompareAndSet { key: 1, expected: None, new: Some(5) },
            KvOp::CompareAndSet { key: 1, expected: Some(0), new: None },
        ] {
            let order = order(1 << 40, op);
            assert_eq!(Order::from_bytes(order.to_bytes()), Ok(order));
        }
        assert!(Order::from_bytes(Bytes::from_static(b"short")).is_err());
    }

    /// However a state came about, its hash is that of what is in it.
    #[test]
    fn a_snapshot_has_the_hash_of_its_state() {
        let mut state = KvState::default();
        let empty = state.hash;
        for (number, value) in [(1, Some(5)), (2, Some(6)), (3, None), (4, Some(7))] {
            let before = state.hash;
            state.obey(&order(number, KvOp::CompareAndSet { key: 1, expected: state.get(1), new: value }));
            assert_ne!(state.hash, before);
        }
        let meta = SnapshotMeta::<KvApp> {
            last_log_id: None,
            last_membership: StoredMembership::<KvApp>::default(),
            snapshot_id: String::new(),
        };
        let copy = KvState::unpack(&state.pack(), &meta).expect("it was just packed");
        assert_eq!((copy.hash, copy.get(1)), (state.hash, Some(7)));
        // Noise leaves a value and no session.
        let mut noisy = KvState::default();
        noisy.obey(&Order { client: NO_SESSION, number: 1, op: KvOp::Put { key: 1, value: 5 } });
        noisy.obey(&Order { client: NO_SESSION, number: 2, op: KvOp::Delete { key: 1 } });
        assert_eq!(noisy.hash, empty);
    }

    /// Thesis §6.3: "the state machine tracks the serial number of the latest command executed for each client".
    #[test]
    fn a_command_that_comes_again_is_answered_and_not_obeyed() {
        let mut state = KvState::default();
        let swap = order(1, KvOp::CompareAndSet { key: 1, expected: None, new: Some(5) });
        assert_eq!(state.obey(&swap), KvRet::Swapped);
        assert_eq!(state.obey(&swap), KvRet::Swapped);
        assert_eq!(state.obey(&order(2, KvOp::Delete { key: 1 })), KvRet::Done);
        state.obey(&swap);
        assert_eq!(state.get(1), None);
    }
}
