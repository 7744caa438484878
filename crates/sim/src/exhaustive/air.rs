//! What was said, and sets of it. Both are numbered, so that a state holds one number for all that is in the air.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use raftwright_core::{Canonical, Ticket};

use super::message::{Body, Said};
use crate::checkers::Broken;
use crate::core_world::types::{LogId, SimTypes};
use crate::world::{NodeId, TraceHash};

/// A hash under each of the renamings of a search, at most six.
pub(super) type Hashes = [u64; 6];

/// A map by numbers that are hashes already, or small; looked into, never walked.
pub(super) type Numbered<V> = HashMap<u64, V, BuildHasherDefault<Mix>>;

/// Spreads a number over all 64 bits.
#[derive(Debug, Default)]
pub(super) struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, word: u64) {
        let mixed = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

/// Tickets below this are numbers of messages.
const MESSAGES_MAX: u64 = 1 << 40;

/// All that was ever said in any state, numbered from 1.
#[derive(Debug)]
pub(super) struct Messages {
    symmetries: Vec<[NodeId; 4]>,
    all: Vec<Said>,
    hashes: Vec<Hashes>,
    numbers: Numbered<u32>,
}

impl Messages {
    pub(super) fn new(symmetries: Vec<[NodeId; 4]>) -> Self {
        let nothing = Said::remembered(Body::Committed(LogId::default()));
        Self { symmetries, all: vec![nothing], hashes: vec![Hashes::default()], numbers: Numbered::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len() - 1
    }

    pub(super) fn get(&self, number: u32) -> &Said {
        &self.all[number as usize]
    }

    pub(super) fn by_ticket(&self, ticket: u64) -> Option<Said> {
        if ticket < MESSAGES_MAX { self.all.get(ticket as usize).cloned() } else { None }
    }

    /// The hashes of something's words under each renaming.
    pub(super) fn hashes_of(&self, add: impl Fn(&mut Canonical<'_, SimTypes>)) -> Hashes {
        let mut hashes = Hashes::default();
        for (at, of) in self.symmetries.iter().enumerate() {
            let server = |id: &NodeId| of.get(*id as usize).copied().unwrap_or(*id);
            let ticket = |ticket: Ticket| match usize::try_from(ticket.0) {
                Ok(number) if ticket.0 < MESSAGES_MAX => self.hashes.get(number).map_or(0, |hashes| hashes[at]),
                _ => ticket.0,
            };
            let mut words = Canonical::new(&server, &ticket);
            add(&mut words);
            let mut hash = TraceHash::default();
            words.words().iter().for_each(|word| hash.word(*word));
            hashes[at] = hash.value();
        }
        hashes
    }

    /// The number of something said.
    pub(super) fn number(&mut self, said: Said) -> u32 {
        let hashes = self.hashes_of(|words| said.canonical(words));
        let Self { all, numbers, hashes: known, .. } = self;
        *numbers.entry(hashes[0]).or_insert_with(|| {
            all.push(said);
            known.push(hashes);
            (all.len() - 1) as u32
        })
    }
}

/// A set of messages, ascending.
#[derive(Debug)]
pub(super) struct Air {
    pub(super) numbers: Box<[u32]>,
    /// The sum of the hashes of its messages, under each renaming: it does not depend on their order.
    pub(super) sums: Hashes,
    /// The last entry that was committed.
    pub(super) committed: Option<LogId>,
}

/// All sets of messages of any state, numbered.
#[derive(Debug)]
pub(super) struct Airs {
    all: Vec<Air>,
    numbers: Numbered<u32>,
}

impl Default for Airs {
    fn default() -> Self {
        let empty = Air { numbers: Box::default(), sums: Hashes::default(), committed: None };
        Self { all: vec![empty], numbers: Numbered::from_iter([(0, 0)]) }
    }
}

impl Airs {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn get(&self, number: u32) -> &Air {
        &self.all[number as usize]
    }

    /// The set with these messages added, and without those that mean nothing to their receiver any more: of the new ones,
    /// and of all to `forget`. Also the last entry that is committed then.
    ///
    /// # Errors
    /// The property that is broken by two of them.
    pub(super) fn with(
        &mut self,
        number: u32,
        more: &[u32],
        forget: Option<NodeId>,
        dead: impl Fn(&Said) -> bool,
        messages: &Messages,
    ) -> Result<(u32, Option<LogId>), Broken> {
        let air = self.get(number);
        let (mut sums, mut committed) = (air.sums, air.committed);
        let mut new: Vec<u32> = Vec::new();
        for message in more.iter().filter(|message| air.numbers.binary_search(message).is_err()) {
            let said = messages.get(*message);
            if let Body::Committed(log_id) = &said.body {
                committed = committed.max(Some(*log_id));
            }
            let against = air.numbers.iter().chain(&new).find_map(|before| said.contradicts(messages.get(*before)));
            if let Some((property, source, what)) = against {
                return Err(Broken { property, source, what });
            }
            if !dead(said) {
                new.push(*message);
                add(&mut sums, &messages.hashes[*message as usize]);
            }
        }
        let mut gone: Vec<u32> = Vec::new();
        if let Some(receiver) = forget {
            let to_receiver = |message: &&u32| messages.get(**message).to == receiver;
            for message in air.numbers.iter().filter(to_receiver).filter(|message| dead(messages.get(**message))) {
                gone.push(*message);
                subtract(&mut sums, &messages.hashes[*message as usize]);
            }
        }
        if new.is_empty() && gone.is_empty() {
            return Ok((number, committed));
        }
        if let Some(known) = self.numbers.get(&sums[0]) {
            return Ok((*known, committed));
        }
        let mut all: Vec<u32> = air.numbers.iter().filter(|message| !gone.contains(message)).copied().collect();
        all.extend(new);
        all.sort_unstable();
        let next = self.all.len() as u32;
        self.numbers.insert(sums[0], next);
        self.all.push(Air { numbers: all.into_boxed_slice(), sums, committed });
        Ok((next, committed))
    }
}

fn add(sums: &mut Hashes, hashes: &Hashes) {
    sums.iter_mut().zip(hashes).for_each(|(sum, hash)| *sum = sum.wrapping_add(*hash));
}

fn subtract(sums: &mut Hashes, hashes: &Hashes) {
    sums.iter_mut().zip(hashes).for_each(|(sum, hash)| *sum = sum.wrapping_sub(*hash));
}
