//! A log on a simulated disk, a naive model of what it must hold, and histories to run on both.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use raftwright_wal::testing::SimDisk;
use raftwright_wal::{
    Completion, DataDir, DataDirOptions, Log, Op, OpenError, Opened, RawEntry, RawLogId, RecoveryReport,
    SEGMENT_BYTES_MIN, WalError, WalOptions, Writer, open,
};

/// The number of each write that has ended, and its result, in the order in which they were told.
type Told = Arc<Mutex<Vec<(usize, Result<(), WalError>)>>>;

pub(crate) const ROOT: &str = "/node";

/// Small segments, so that short histories roll over; nothing cached, so that reads come from the media.
pub(crate) const OPTIONS: WalOptions = WalOptions {
    segment_bytes: SEGMENT_BYTES_MIN,
    first_segment_bytes: 4 << 20,
    batch_bytes_max: 4096,
    queue_bytes_max: 1 << 20,
    queue_ops_max: 1000,
    recent_bytes_max: 0,
    prepare_step_bytes: 2048,
};

/// What a log holds, as plainly as possible.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) vote: Option<Bytes>,
    pub(crate) purged: Option<RawLogId>,
    pub(crate) entries: BTreeMap<u64, RawEntry>,
}

impl Model {
    pub(crate) fn apply(&mut self, op: &Op) {
        match op {
            Op::Vote(vote) => self.vote = Some(vote.clone()),
            Op::Append(entries) => {
                self.entries.extend(entries.iter().map(|entry| (entry.log_id.index, entry.clone())));
            }
            Op::Truncate { from } => self.entries.retain(|index, _| index < from),
            Op::Purge { up_to } => {
                if self.purged.is_some_and(|purged| purged.index >= up_to.index) {
                    return;
                }
                if self.entries.get(&up_to.index).is_some_and(|entry| entry.log_id != *up_to) {
                    self.entries.clear();
                }
                self.entries.retain(|index, _| *index > up_to.index);
                self.purged = Some(*up_to);
            }
        }
    }

    pub(crate) fn next(&self) -> u64 {
        let purged = self.purged.map_or(1, |purged| purged.index + 1);
        self.entries.last_key_value().map_or(purged, |(index, _)| index + 1)
    }

    pub(crate) fn of<T: Completion>(log: &Log<SimDisk, T>) -> Self {
        let extent = log.extent();
        let first = extent.purged.map_or(0, |purged| purged.index + 1);
        let first = if extent.purged.is_none() { 1 } else { first };
        let end = extent.last.map_or(0, |last| last.index + 1);
        let entries = log.read(first..end.max(first), usize::MAX).unwrap();
        assert_eq!(entries.len() as u64, end.max(first) - first, "all entries are there");
        let entries = entries.into_iter().map(|entry| (entry.log_id.index, entry)).collect();
        Self { vote: log.vote(), purged: extent.purged, entries }
    }
}

/// A token that writes down what became of it.
#[derive(Debug)]
pub(crate) struct Ack {
    number: usize,
    told: Told,
}

impl Ack {
    /// A token of which nobody wants to know.
    pub(crate) fn silent() -> Self {
        Self { number: 0, told: Arc::default() }
    }
}

impl Completion for Ack {
    fn complete(self, result: Result<(), WalError>) {
        self.told.lock().unwrap().push((self.number, result));
    }
}

/// One step of a history.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Submit(Op),
    Flush,
    Housekeep,
    Mark,
}

/// A log that is being used.
pub(crate) struct Node {
    pub(crate) disk: SimDisk,
    pub(crate) log: Log<SimDisk, Ack>,
    pub(crate) writer: Writer<SimDisk, Ack>,
    pub(crate) report: RecoveryReport,
    pub(crate) told: Told,
    submitted: usize,
}

impl Node {
    pub(crate) fn open(disk: &SimDisk) -> Result<Self, OpenError> {
        Self::open_with(disk, OPTIONS)
    }

    pub(crate) fn open_with(disk: &SimDisk, options: WalOptions) -> Result<Self, OpenError> {
        let dir = DataDir::open(disk.clone(), Path::new(ROOT), DataDirOptions { node_id: 1, random: 99 })?;
        let Opened { log, writer, report } = open(Arc::new(dir), options)?;
        Ok(Self { disk: disk.clone(), log, writer, report, told: Arc::default(), submitted: 0 })
    }

    pub(crate) fn submit(&mut self, op: Op) {
        let token = Ack { number: self.submitted, told: Arc::clone(&self.told) };
        self.submitted += 1;
        self.log.submit(op, token).map_err(|refused| refused.error).unwrap();
    }

    /// Submits as a node does, which cannot be refused.
    pub(crate) fn force(&mut self, op: Op) {
        let token = Ack { number: self.submitted, told: Arc::clone(&self.told) };
        self.submitted += 1;
        self.log.submit_or_stop(op, token);
    }

    pub(crate) fn done(&mut self, op: Op) {
        self.submit(op);
        self.writer.run_batch().unwrap();
    }

    /// Takes the step; an error means that the machine or the disk went down.
    pub(crate) fn step(&mut self, step: &Step) -> Result<(), WalError> {
        match step {
            Step::Submit(op) => self.submit(op.clone()),
            Step::Flush => {
                self.writer.run_batch()?;
            }
            Step::Housekeep => {
                self.writer.housekeep();
            }
            Step::Mark => self.writer.mark(),
        }
        Ok(())
    }

    /// Results so far, in the order in which they were told.
    pub(crate) fn told(&self) -> Vec<(usize, Result<(), WalError>)> {
        self.told.lock().unwrap().clone()
    }

    /// Number of writes that were acknowledged. They are told in the order of their submission.
    pub(crate) fn acknowledged(&self) -> usize {
        let told = self.told();
        assert!(told.iter().enumerate().all(|(at, (number, _))| at == *number), "told in order: {told:?}");
        told.iter().take_while(|(_, result)| result.is_ok()).count()
    }
}

pub(crate) fn id(term: u64, index: u64) -> RawLogId {
    RawLogId { term, node: term.is_multiple_of(2).then_some(term), index }
}

pub(crate) fn entry(term: u64, index: u64, len: usize) -> RawEntry {
    // Some payloads are all zeros: a sector of them must not pass for one that never arrived.
    let fill = if len.is_multiple_of(3) { 0 } else { (term * 31 + index) as u8 };
    RawEntry { kind: (index % 3) as u8, log_id: id(term, index), payload: Bytes::from(vec![fill; len]) }
}

/// Numbers for making histories (xorshift, after Marsaglia).
pub(crate) struct Dice(pub u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// The next write of a random history, given what the log holds.
pub(crate) fn random_op(dice: &mut Dice, model: &Model, term: &mut u64) -> Op {
    let next = model.next();
    let first = model.purged.map_or(1, |purged| purged.index + 1);
    match dice.roll(12) {
        _ if model.vote.is_none() => Op::Vote(Bytes::from(vec![1])),
        0 | 1 => {
            *term += dice.roll(2) + 1;
            Op::Vote(Bytes::from(vec![*term as u8; 1 + dice.roll(40) as usize]))
        }
        2 if next > first => Op::Truncate { from: first + dice.roll(next - first) },
        3 if next > first => {
            let index = first + dice.roll(next - first);
            Op::Purge { up_to: model.entries[&index].log_id }
        }
        4 if dice.roll(3) == 0 => Op::Purge { up_to: id(*term + 1, next + dice.roll(4)) },
        4 if dice.roll(3) == 0 && next > first => Op::Purge { up_to: id(*term + 7, next - 1) },
        _ => {
            let count = 1 + dice.roll(4);
            let len = |dice: &mut Dice| match dice.roll(8) {
                0 => 0,
                1 => 1200 + dice.roll(900) as usize,
                2 if dice.roll(4) == 0 => 12_000,
                _ => dice.roll(120) as usize,
            };
            // What a follower gets in one request may come from several leaders.
            let (before, changed) = (*term, next + 2);
            *term += u64::from(count > 2);
            let leader = |index: u64| if index < changed { before } else { before + 1 };
            Op::Append((next..next + count).map(|index| entry(leader(index), index, len(dice))).collect())
        }
    }
}

/// A random history of this many writes, with flushes and housekeeping between them, and the states of the model before
/// each write and after the last.
pub(crate) fn random_history(seed: u64, writes: usize) -> (Vec<Step>, Vec<Model>) {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let (mut model, mut term) = (Model::default(), 1);
    let (mut steps, mut states) = (Vec::new(), vec![model.clone()]);
    for _ in 0..writes {
        let op = random_op(&mut dice, &model, &mut term);
        model.apply(&op);
        states.push(model.clone());
        steps.push(Step::Submit(op));
        if dice.roll(3) > 0 {
            steps.push(Step::Flush);
            match dice.roll(4) {
                0 => steps.push(Step::Mark),
                1 => steps.extend([Step::Housekeep, Step::Housekeep]),
                _ => steps.push(Step::Housekeep),
            }
        }
    }
    steps.push(Step::Flush);
    (steps, states)
}
