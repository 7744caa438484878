//! The search for a linearization.
//!
//! Wing and Gong (1993) try every order that respects real time. Lowe (2017) linearizes *just in time*: the events of a
//! history are walked in order; a call only makes its operation a candidate; at a return, the operation must have been
//! linearized, and if it is not yet, some candidates are, ending with it. A configuration is the place in the history,
//! the state of the object and the set of open operations that are already linearized; one that was seen before and led
//! nowhere leads nowhere again, so configurations are remembered by a 128-bit hash.
//!
//! The search keeps its own stack, so that a history of any length does not exhaust the thread's. It ends when every
//! operation with a known outcome has its place: those of unknown outcome that were not needed by then may never have
//! happened.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasherDefault, Hash, Hasher};

use super::history::{History, OpId, Operation, Outcome, Stamp};
use super::model::Model;

/// What the check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order that explains everything.
    Linearizable,
    /// There is none.
    NotLinearizable(Violation),
    /// The search was given up after as many configurations as it was allowed.
    GaveUp {
        /// The key whose part of the history is too hard, as its model prints it.
        key: String,
    },
}

impl Verdict {
    /// Whether an order was found.
    pub fn is_linearizable(&self) -> bool {
        matches!(self, Verdict::Linearizable)
    }
}

/// Where a history cannot be explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The key, as its model prints it.
    pub key: String,
    /// The first operation at whose return no order explains what was seen so far.
    pub operation: OpId,
    /// A few lines for a person: that operation, the ones that overlap it, and the states that were possible before.
    pub explanation: String,
}

/// How much work a check was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CheckStats {
    /// Operations with a known outcome.
    pub operations: usize,
    /// Keys.
    pub keys: usize,
    /// Distinct configurations seen.
    pub configurations: usize,
}

/// Checks histories against a [`Model`].
#[derive(Debug, Clone, Copy)]
pub struct Checker {
    configurations_max: usize,
}

/// How many distinct configurations one key may cost, unless told otherwise.
pub const CONFIGURATIONS_MAX: usize = 5_000_000;

impl Default for Checker {
    fn default() -> Self {
        Self { configurations_max: CONFIGURATIONS_MAX }
    }
}

impl Checker {
    /// A checker that gives up on a key after `configurations_max` distinct configurations.
    pub fn with_limit(configurations_max: usize) -> Self {
        Self { configurations_max }
    }

    /// Checks every key of `history`, in the order of keys, and stops at the first one that fails.
    pub fn check<M: Model>(&self, history: &History<M::Op, M::Ret>) -> (Verdict, CheckStats) {
        let mut by_key: BTreeMap<M::Key, Vec<OpId>> = BTreeMap::new();
        for (place, operation) in history.operations().iter().enumerate() {
            by_key.entry(M::key(&operation.op)).or_default().push(OpId(place));
        }
        let mut stats = CheckStats { keys: by_key.len(), ..CheckStats::default() };
        for (key, ids) in by_key {
            let mut search = Search::<M>::new(history.operations(), &key, &ids);
            stats.operations += search.returns;
            let verdict = search.run(self.configurations_max);
            stats.configurations += search.seen.len();
            match verdict {
                Verdict::Linearizable => {}
                Verdict::NotLinearizable(_) | Verdict::GaveUp { .. } => return (verdict, stats),
            }
        }
        (Verdict::Linearizable, stats)
    }
}

/// An event of one key's history; the number is the operation's place in `Search::operations`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Call(usize),
    Return(usize),
}

/// One configuration on the stack, and which candidates were tried from it.
#[derive(Debug, Clone)]
struct Frame<S> {
    /// The next event to handle.
    event: usize,
    state: S,
    /// Open operations that are not linearized yet, in the order of their calls.
    open: Vec<usize>,
    /// The same, for those that may never have happened and whose effect does not depend on the state.
    idle: Vec<usize>,
    /// Open operations that are linearized and have not returned yet, ascending.
    done: Vec<usize>,
    /// A hash of the operations of unknown outcome that are linearized: they never return.
    used: u128,
    /// If the operation that was linearized last is of unknown outcome: the state before it.
    spared: Option<S>,
    /// How many of the choices at this frame were tried: 0 is the returning operation itself, then `open`, then `idle`.
    tried: usize,
}

/// An operation and its place in the whole history.
type Numbered<'a, M> = (OpId, &'a Operation<<M as Model>::Op, <M as Model>::Ret>);

struct Search<'a, M: Model> {
    key: String,
    operations: Vec<Numbered<'a, M>>,
    events: Vec<Event>,
    returns: usize,
    initial: M::State,
    seen: HashSet<u128, BuildHasherDefault<Folded>>,
    /// The furthest event at which the search was stuck, and the states in which it was.
    furthest: usize,
    furthest_states: Vec<M::State>,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(all: &'a [Operation<M::Op, M::Ret>], key: &M::Key, ids: &[OpId]) -> Self {
        let mut operations: Vec<Numbered<'a, M>> = Vec::with_capacity(ids.len());
        for id in ids {
            let Some(operation) = all.get(id.0) else { continue };
            let idle = matches!(operation.outcome, Outcome::Unknown) && M::is_read_only(&operation.op);
            if !idle {
                operations.push((*id, operation));
            }
        }
        let mut timed: Vec<(Stamp, bool, Event)> = Vec::with_capacity(operations.len() * 2);
        let mut returns = 0;
        for (place, (_, operation)) in operations.iter().enumerate() {
            timed.push((operation.invoked, false, Event::Call(place)));
            match &operation.outcome {
                Outcome::Returned { at, .. } => {
                    returns += 1;
                    timed.push((*at, true, Event::Return(place)));
                }
                Outcome::Unknown => {}
            }
        }
        timed.sort_by_key(|(stamp, is_return, _)| (*stamp, *is_return));
        let events = timed.into_iter().map(|(_, _, event)| event).collect();
        Self {
            key: format!("{key:?}"),
            operations,
            events,
            returns,
            initial: M::initial(key),
            seen: HashSet::default(),
            furthest: 0,
            furthest_states: Vec::new(),
        }
    }

    /// Depth first over configurations; every frame on the stack stands at a return of an operation without a place.
    fn run(&mut self, configurations_max: usize) -> Verdict {
        let start = Frame {
            event: 0,
            state: self.initial.clone(),
            open: Vec::new(),
            idle: Vec::new(),
            done: Vec::new(),
            used: 0,
            spared: None,
            tried: 0,
        };
        let mut stack = Vec::new();
        match self.advance(start) {
            Some(frame) => stack.push(frame),
            None => return Verdict::Linearizable,
        }
        while let Some(frame) = stack.last_mut() {
            let Some(&Event::Return(returning)) = self.events.get(frame.event) else { return Verdict::Linearizable };
            let Some(choice) = next_choice(frame, returning) else {
                stack.pop();
                continue;
            };
            let Some(next) = self.linearize(frame, choice) else { continue };
            let Some(next) = self.advance(next) else { return Verdict::Linearizable };
            if self.remember(&next) {
                stack.push(next);
            }
            if self.seen.len() > configurations_max {
                return Verdict::GaveUp { key: self.key.clone() };
            }
        }
        Verdict::NotLinearizable(self.violation())
    }

    /// The configuration after one more operation; `None` if it is impossible there, or pointless.
    fn linearize(&self, frame: &Frame<M::State>, choice: usize) -> Option<Frame<M::State>> {
        let state = self.apply(&frame.state, choice)?;
        // An operation of unknown outcome is worth its place only if it makes a difference to the state, and to what
        // follows it at once. Otherwise the same state is reached without it, and it can still be used later.
        let wasted = |before: &M::State| self.apply(before, choice).is_some_and(|without| without == state);
        if frame.spared.as_ref().is_some_and(wasted) {
            return None;
        }
        let unknown = self.is_unknown(choice);
        if unknown
            && (state == frame.state || !self.is_useful(frame, choice, &state) || self.has_earlier_twin(frame, choice))
        {
            return None;
        }
        let mut next = Frame {
            event: frame.event,
            state,
            open: frame.open.clone(),
            idle: frame.idle.clone(),
            done: frame.done.clone(),
            used: frame.used,
            spared: None,
            tried: 0,
        };
        next.open.retain(|place| *place != choice);
        if unknown {
            next.idle.retain(|place| *place != choice);
            next.used ^= hash128(|half| choice.hash(half));
            next.spared = Some(frame.state.clone());
        } else {
            next.done.push(choice);
            next.done.sort_unstable();
        }
        Some(next)
    }

    fn apply(&self, state: &M::State, place: usize) -> Option<M::State> {
        let (_, operation) = self.operations[place];
        let ret = match &operation.outcome {
            Outcome::Returned { ret, .. } => Some(ret),
            Outcome::Unknown => None,
        };
        M::apply(state, &operation.op, ret)
    }

    fn is_unknown(&self, place: usize) -> bool {
        matches!(self.operations[place].1.outcome, Outcome::Unknown)
    }

    /// Whether anything open becomes possible, or ends differently, by the step to `state`. The operation that returns now
    /// is linearized last, so whatever follows is open already; and what is idle ends the same in every state.
    fn is_useful(&self, frame: &Frame<M::State>, choice: usize, state: &M::State) -> bool {
        frame.open.iter().filter(|place| **place != choice).any(|place| {
            let Some(after) = self.apply(state, *place) else { return false };
            let idle = self.is_unknown(*place) && after == *state;
            !idle && self.apply(&frame.state, *place) != Some(after)
        })
    }

    /// Whether an open operation of unknown outcome asks for the same and was called earlier. The two can stand for each
    /// other whatever comes, so only the first is tried.
    fn has_earlier_twin(&self, frame: &Frame<M::State>, choice: usize) -> bool {
        let op = &self.operations[choice].1.op;
        let mut all = frame.idle.iter().chain(&frame.open);
        all.any(|place| *place < choice && self.is_unknown(*place) && self.operations[*place].1.op == *op)
    }

    /// Handles events until a return asks for an operation that has no place yet. `None`: the history is explained.
    fn advance(&mut self, mut frame: Frame<M::State>) -> Option<Frame<M::State>> {
        loop {
            match self.events.get(frame.event) {
                None => return None,
                Some(Event::Call(place)) => {
                    let idle = self.is_unknown(*place) && M::is_blind(&self.operations[*place].1.op);
                    if idle { frame.idle.push(*place) } else { frame.open.push(*place) }
                }
                Some(Event::Return(place)) => match frame.done.iter().position(|done| done == place) {
                    Some(at) => {
                        frame.done.remove(at);
                    }
                    None => {
                        self.note_stuck(&frame);
                        return Some(frame);
                    }
                },
            }
            frame.event += 1;
        }
    }

    fn note_stuck(&mut self, frame: &Frame<M::State>) {
        /// More states than this tell a person nothing.
        const STATES_SHOWN_MAX: usize = 8;
        if frame.event > self.furthest {
            self.furthest = frame.event;
            self.furthest_states.clear();
        }
        let shown = self.furthest_states.len();
        if frame.event == self.furthest && shown < STATES_SHOWN_MAX && !self.furthest_states.contains(&frame.state) {
            self.furthest_states.push(frame.state.clone());
        }
    }

    /// Whether the configuration is new. What is open follows from the place and from what is linearized.
    fn remember(&mut self, frame: &Frame<M::State>) -> bool {
        self.seen.insert(hash128(|half| {
            frame.event.hash(half);
            frame.state.hash(half);
            frame.done.hash(half);
            frame.used.hash(half);
        }))
    }

    fn violation(&self) -> Violation {
        let place = match self.events.get(self.furthest) {
            Some(Event::Return(place) | Event::Call(place)) => *place,
            None => 0,
        };
        let (id, culprit) = self.operations[place];
        let mut explanation = format!(
            "key {}: no order explains\n  {}\nin any of the states that were possible before: {:?}\n",
            self.key,
            describe::<M>(culprit),
            self.furthest_states
        );
        let mut open: Vec<usize> = Vec::new();
        for event in &self.events[..self.furthest] {
            match event {
                Event::Call(place) => open.push(*place),
                Event::Return(place) => open.retain(|other| other != place),
            }
        }
        explanation.push_str("operations that overlap it:\n");
        for other in open.into_iter().filter(|other| *other != place) {
            explanation.push_str(&format!("  {}\n", describe::<M>(self.operations[other].1)));
        }
        Violation { key: self.key.clone(), operation: id, explanation }
    }
}

/// The next operation to try at a frame that waits for `returning`: that one first, then the other candidates.
fn next_choice<S>(frame: &mut Frame<S>, returning: usize) -> Option<usize> {
    loop {
        let tried = frame.tried;
        frame.tried += 1;
        match tried.checked_sub(1) {
            None => return Some(returning),
            Some(place) => {
                let idle = || frame.idle.get(place.checked_sub(frame.open.len())?);
                let candidate = *frame.open.get(place).or_else(idle)?;
                if candidate != returning {
                    return Some(candidate);
                }
            }
        }
    }
}

fn describe<M: Model>(operation: &Operation<M::Op, M::Ret>) -> String {
    let Operation { client, invoked, op, outcome } = operation;
    match outcome {
        Outcome::Returned { at, ret } => format!("client {client}: {op:?} -> {ret:?}   [{invoked}, {at}]"),
        Outcome::Unknown => format!("client {client}: {op:?} -> unknown   [{invoked}, "),
    }
}

/// 128 bits of what `feed` writes: a collision would hide a configuration, and needs more of them than there can be.
fn hash128(feed: impl Fn(&mut Folded)) -> u128 {
    let mut halves = [Folded(0x9e37_79b9_7f4a_7c15), Folded(0xc2b2_ae3d_27d4_eb4f)];
    halves.iter_mut().for_each(&feed);
    let [low, high] = halves.map(|half| half.finish());
    (u128::from(high) << 64) | u128::from(low)
}

/// A multiply-and-fold hasher without a random key: the same history is searched the same way in every process.
#[derive(Debug, Clone, Copy, Default)]
struct Folded(u64);

impl Folded {
    fn fold(&mut self, word: u64) {
        let product = (u128::from(self.0 ^ word) * 0xa076_1d64_78bd_642f_u128) ^ u128::from(self.0.rotate_left(23));
        self.0 = (product as u64) ^ ((product >> 64) as u64) ^ word.rotate_left(32);
    }
}

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.fold(u64::from_le_bytes(word));
        }
        self.fold(bytes.len() as u64);
    }
    fn write_u64(&mut self, word: u64) {
        self.fold(word);
    }
    fn write_usize(&mut self, word: usize) {
        self.fold(word as u64);
    }
    fn write_u128(&mut self, word: u128) {
        self.fold(word as u64);
        self.fold((word >> 64) as u64);
    }
    fn finish(&self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed ^ (mixed >> 32)
    }
}
