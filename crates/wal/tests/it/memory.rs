//! What a log keeps in memory, against a plain row of entries: whatever is appended, taken away and written, and whenever, a reader
//! is given what the log holds; all of it that is not on the media, and no more besides than the log counts and was allowed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use raftwright_wal::testing::{Loss, SimDisk};
use raftwright_wal::{Extent, Log, Op, RawEntry, RawLogId, ReadError, SubmitError, WalOptions};

use crate::harness::{Ack, Dice, Node, OPTIONS, id};

/// A payload that is missed when it is gone.
struct Counted {
    bytes: Vec<u8>,
    alive: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

/// No two entries have the same, even if they have the same id, unless they are shorter than a number.
fn payload(number: u64, len: usize) -> Vec<u8> {
    number.to_le_bytes().into_iter().cycle().take(len).collect()
}

/// An entry, and the write that appended it; `None` if it was there when the log was opened.
type Kept = (Option<usize>, RawEntry);

/// What a log must hold.
#[derive(Clone, Debug, Default)]
struct Row {
    purged: Option<RawLogId>,
    entries: BTreeMap<u64, Kept>,
}

impl Row {
    fn apply(&mut self, write: usize, op: &Op) {
        match op {
            Op::Vote(_) => {}
            Op::Append(entries) => {
                self.entries.extend(entries.iter().map(|entry| (entry.log_id.index, (Some(write), entry.clone()))));
            }
            Op::Truncate { from } => self.entries.retain(|index, _| index < from),
            Op::Purge { up_to } => {
                if self.purged.is_some_and(|purged| purged.index >= up_to.index) {
                    return;
                }
                let same = self.entries.get(&up_to.index).is_some_and(|(_, entry)| entry.log_id == *up_to);
                if !same && self.last().is_some_and(|last| up_to.index <= last.index) {
                    self.entries.clear();
                }
                self.entries.retain(|index, _| *index > up_to.index);
                self.purged = Some(*up_to);
            }
        }
    }

    fn last(&self) -> Option<RawLogId> {
        self.entries.last_key_value().map(|(_, (_, entry))| entry.log_id)
    }

    /// Index of the next entry; `None` if it may have any.
    fn next(&self) -> Option<u64> {
        self.last().or(self.purged).map(|last| last.index + 1)
    }

    fn extent(&self) -> Extent {
        Extent { purged: self.purged, last: self.last().or(self.purged) }
    }

    /// What a read gives.
    fn read(&self, range: Range<u64>, bytes_max: usize) -> Vec<RawEntry> {
        let (mut read, mut bytes) = (Vec::new(), 0);
        for (_, (_, entry)) in self.entries.range(range) {
            if bytes >= bytes_max && !read.is_empty() {
                break;
            }
            bytes += entry.payload.len();
            read.push(entry.clone());
        }
        read
    }

    /// The row that the log holds, all of it by reading it.
    fn of(log: &Log<SimDisk, Ack>) -> Self {
        let all = match log.read(0..u64::MAX, usize::MAX) {
            Err(ReadError::Purged { first, .. }) => log.read(first..u64::MAX, usize::MAX),
            read => read,
        };
        let entries = all.unwrap().into_iter().map(|entry| (entry.log_id.index, (None, entry))).collect();
        let row = Self { purged: log.extent().purged, entries };
        assert_eq!(row.extent(), log.extent());
        row
    }

    fn is_same(&self, other: &Self) -> bool {
        let of = |row: &Self| row.entries.values().map(|(_, entry)| entry.clone()).collect::<Vec<_>>();
        self.purged == other.purged && of(self) == of(other)
    }
}

/// One append, and what it may cost while it is not written.
struct Append {
    write: usize,
    cost_max: usize,
}

/// How often what this is about has happened.
#[derive(Debug, Default)]
struct Seen {
    from_memory: usize,
    from_media: usize,
    held_up: usize,
    reopened: usize,
    taken_back: usize,
}

struct World {
    disk: SimDisk,
    node: Node,
    options: WalOptions,
    dice: Dice,
    alive: Arc<AtomicUsize>,
    row: Row,
    /// The rows before each write since the log was opened, and after the last.
    states: Vec<Row>,
    appends: Vec<Append>,
    payloads: u64,
    term: u64,
    start: u64,
    seen: Seen,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let recent = [0, 1, 700, 5000, 30_000, 64 << 20];
        let start = [0, 1, 1000, u64::from(u32::MAX) - 20, u64::MAX - 20_000];
        let options = WalOptions {
            recent_bytes_max: recent[dice.roll(6) as usize],
            batch_bytes_max: [1, 4096, 30_000][dice.roll(3) as usize],
            ..OPTIONS
        };
        let start = start[dice.roll(5) as usize];
        let disk = SimDisk::new(seed);
        let node = Node::open_with(&disk, options).unwrap();
        let (alive, seen) = (Arc::default(), Seen::default());
        let (row, states) = (Row::default(), vec![Row::default()]);
        Self { disk, node, options, dice, alive, row, states, appends: Vec::new(), payloads: 0, term: 1, start, seen }
    }

    fn acknowledged(&self) -> usize {
        self.node.acknowledged()
    }

    fn submitted(&self) -> usize {
        self.states.len() - 1
    }

    /// Submits a write. `op` is given a payload that is counted and one for the row, which is not.
    fn submit(&mut self, op: Op) {
        let write = self.submitted();
        self.row.apply(write, &op);
        self.states.push(self.row.clone());
        let counted = match op {
            Op::Append(plain) => {
                let bytes: usize = plain.iter().map(|entry| entry.payload.len()).sum();
                // Some callers reserve more than they fill.
                let room = plain.len() + if self.dice.roll(4) == 0 { self.dice.roll(100) as usize } else { 0 };
                let mut entries = Vec::with_capacity(room);
                for entry in plain {
                    self.alive.fetch_add(entry.payload.len(), Ordering::Relaxed);
                    let counted = Counted { bytes: entry.payload.to_vec(), alive: Arc::clone(&self.alive) };
                    entries.push(RawEntry { payload: Bytes::from_owner(counted), ..entry });
                }
                self.appends.push(Append { write, cost_max: bytes + 200 * (1 + entries.capacity()) });
                Op::Append(entries)
            }
            other @ (Op::Vote(_) | Op::Truncate { .. } | Op::Purge { .. }) => other,
        };
        self.node.force(counted);
        assert!(self.node.log.failure().is_none(), "{:?}", self.node.log.failure());
    }

    fn random_append(&mut self) -> Option<Op> {
        let begin = self.row.next().unwrap_or(self.start);
        let count = 1 + self.dice.roll(50);
        let end = begin.checked_add(count).filter(|end| *end < u64::MAX - 10)?;
        let longest = [1, 40, 300, 2000][self.dice.roll(4) as usize];
        let term = self.term;
        let entries = (begin..end).map(|index| {
            self.payloads += 1;
            let payload = payload(self.payloads, self.dice.roll(longest) as usize).into();
            RawEntry { kind: (self.payloads % 3) as u8, log_id: id(term, index), payload }
        });
        Some(Op::Append(entries.collect()))
    }

    /// An index of the row, or one next to it.
    fn random_index(&mut self) -> u64 {
        let next = self.row.next().unwrap_or(self.start);
        let first = self.row.entries.first_key_value().map_or(next, |(first, _)| *first);
        first.saturating_sub(1) + self.dice.roll(next - first + 3)
    }

    fn random_write(&mut self) {
        self.term += u64::from(self.dice.roll(8) == 0);
        let next = self.row.next().unwrap_or(self.start);
        let op = match self.dice.roll(12) {
            _ if self.node.log.vote().is_none() => Some(Op::Vote(vec![1].into())),
            0..6 => self.random_append(),
            6..9 => {
                // Often the last few, as a leader's change has it.
                let from =
                    if self.dice.roll(2) == 0 { next - self.dice.roll(9).min(next) } else { self.random_index() };
                let from = from.max(self.row.purged.map_or(0, |purged| purged.index + 1));
                self.seen.taken_back += usize::from(from < next);
                Some(Op::Truncate { from })
            }
            9 | 10 => {
                let index = self.random_index();
                let kept = self.row.entries.get(&index).map(|(_, entry)| entry.log_id);
                Some(Op::Purge { up_to: kept.unwrap_or(id(self.term, index)) })
            }
            _ if self.dice.roll(4) > 0 => None,
            _ => {
                // Of another leader, or ahead of the log.
                let index = self.random_index() + self.dice.roll(3);
                Some(Op::Purge { up_to: id(self.term + 100, index) })
            }
        };
        if let Some(op) = op {
            self.submit(op);
        }
    }

    /// Index of the first entry that must be in memory since it may be nowhere else; `None` if all are written.
    fn first_unwritten(&self) -> Option<u64> {
        let acknowledged = self.acknowledged();
        let unwritten = |kept: &Kept| kept.0.is_some_and(|write| write >= acknowledged);
        self.row.entries.iter().find(|(_, kept)| unwritten(kept)).map(|(index, _)| *index)
    }

    fn check(&mut self) {
        self.check_memory();
        assert_eq!(self.node.log.extent(), self.row.extent());
        let first = self.row.entries.keys().next().copied();
        for _ in 0..3 {
            let (begin, more) = (self.random_index(), self.dice.roll(80));
            let end = if self.dice.roll(5) == 0 { u64::MAX } else { begin.saturating_add(more) };
            let bytes_max = [0, 1, 100, 3000, usize::MAX][self.dice.roll(5) as usize];
            self.check_read(begin..end, bytes_max, first.or(self.row.next()));
            let known = self.row.entries.get(&begin).map(|(_, entry)| entry.log_id);
            let known = known.or(self.row.purged.filter(|purged| purged.index == begin));
            assert_eq!(self.node.log.log_id(begin), known, "entry {begin}");
        }
        // All that is not written, and where nothing was ever evicted also what was written since the log was opened.
        let kept = self.row.entries.iter().find(|(_, kept)| kept.0.is_some()).map(|(index, _)| *index);
        let all = self.options.recent_bytes_max >= 64 << 20;
        if let Some(from) = if all { kept } else { self.first_unwritten() } {
            let recent = self.node.log.read_recent(from..u64::MAX, usize::MAX).unwrap();
            assert!(recent == Some(self.row.read(from..u64::MAX, usize::MAX)), "what is in memory from {from} on");
        }
    }

    fn check_read(&mut self, range: Range<u64>, bytes_max: usize, first: Option<u64>) {
        let read = self.node.log.read(range.clone(), bytes_max);
        if let Some(first) = first.filter(|first| range.start < *first && range.start < range.end) {
            let purged =
                matches!(read, Err(ReadError::Purged { index, first: at }) if (index, at) == (range.start, first));
            assert!(purged, "{range:?} of a log that begins at {first}: {read:?}");
            return;
        }
        let expected = self.row.read(range.clone(), bytes_max);
        assert!(read.as_ref().ok() == Some(&expected), "{range:?} up to {bytes_max}: {read:?}, not {expected:?}");
        match self.node.log.read_recent(range.clone(), bytes_max).unwrap() {
            Some(recent) => {
                assert!(recent == expected, "{range:?} up to {bytes_max} from memory");
                self.seen.from_memory += usize::from(!recent.is_empty());
            }
            None => {
                assert!(self.first_unwritten().is_none_or(|unwritten| range.start < unwritten), "{range:?}");
                self.seen.from_media += 1;
            }
        }
    }

    fn check_memory(&self) {
        let metrics = self.node.log.metrics();
        let (acknowledged, alive) = (self.acknowledged(), self.alive.load(Ordering::Relaxed));
        let unwritten = self.appends.iter().filter(|append| append.write >= acknowledged);
        let unwritten = unwritten.map(|append| append.cost_max).sum::<usize>();
        let most = self.options.recent_bytes_max.saturating_add(unwritten);
        assert!(metrics.recent_bytes <= most, "{} bytes, no more than {most} allowed", metrics.recent_bytes);
        // Nothing that the media has stays while what it has not takes all the room.
        if metrics.recent_bytes > self.options.recent_bytes_max {
            let first = self.first_unwritten().unwrap();
            let written = self.node.log.read_recent(first.saturating_sub(1)..first, 0);
            assert!(
                !matches!(written, Ok(Some(entries)) if !entries.is_empty()),
                "{first} is not written: {metrics:?}"
            );
        }
        // What was taken from the queue, found no room, and was taken back from the log, is counted by neither.
        let held = if self.node.writer.is_held_up() { unwritten } else { 0 };
        let counted = metrics.recent_bytes + metrics.queue_bytes + held;
        assert!(alive <= counted, "{alive} bytes are alive, {counted} are counted: {metrics:?}");
        if self.row.entries.is_empty() {
            assert_eq!(metrics.recent_bytes, 0, "an empty log has no payloads");
        }
        if self.row.entries.is_empty() && metrics.queue_writes == 0 && held == 0 {
            assert_eq!(alive, 0, "nor is any left");
        }
    }

    /// One batch, with writes and reads between its steps.
    fn batch(&mut self) {
        if self.node.writer.write_batch().unwrap() == 0 {
            self.seen.held_up += usize::from(self.node.writer.is_held_up());
            return;
        }
        self.check();
        (0..self.dice.roll(3)).for_each(|_| self.random_write());
        self.node.writer.sync().unwrap();
        self.check();
        self.node.writer.complete();
        self.check();
    }

    fn reopen(&mut self) {
        self.disk.set_capacity(None);
        let acknowledged = self.acknowledged();
        match self.dice.roll(6) {
            0 => self.disk.kill(),
            1 => {
                while self.node.writer.run_batch().unwrap() > 0 {}
                self.disk.power_cut(Loss::Everything);
                self.states.drain(..self.states.len() - 1);
                self.appends.clear();
            }
            loss => self.disk.power_cut(Loss::ALL[loss as usize - 2]),
        }
        self.node = Node::open_with(&self.disk, self.options).unwrap();
        assert_eq!(self.alive.load(Ordering::Relaxed), 0, "what nobody holds any more takes no memory");
        let row = Row::of(&self.node.log);
        let mut possible = self.states.iter().skip(acknowledged.min(self.states.len() - 1));
        assert!(possible.any(|state| state.is_same(&row)), "{row:?}");
        self.row = row.clone();
        self.states = vec![row];
        self.appends.clear();
        self.seen.reopened += 1;
    }

    fn step(&mut self) {
        match self.dice.roll(40) {
            0 => self.reopen(),
            1 => self.disk.set_capacity(Some(30_000)),
            2..5 => self.disk.set_capacity(None),
            5..16 => self.batch(),
            16..20 => {
                self.node.writer.housekeep();
            }
            _ => self.random_write(),
        }
        self.check();
    }

    /// Everything is written in the end, and memory is within its bound.
    fn end(&mut self) {
        self.disk.set_capacity(None);
        while self.node.writer.run_batch().unwrap() > 0 {
            self.check();
        }
        assert_eq!(self.acknowledged(), self.submitted());
        assert!(self.node.log.metrics().recent_bytes <= self.options.recent_bytes_max);
        self.check();
    }
}

/// `Row` and log agree whatever happens: see [`World`].
#[test]
fn memory_holds_what_is_not_written_and_what_it_counts() {
    let mut all = Seen::default();
    for seed in 1..=seeds() {
        let mut world = World::new(seed);
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..120 {
                world.step();
            }
            world.end();
        }));
        assert!(run.is_ok(), "seed {seed}, {:?}", world.options);
        all.from_memory += world.seen.from_memory;
        all.from_media += world.seen.from_media;
        all.held_up += world.seen.held_up;
        all.reopened += world.seen.reopened;
        all.taken_back += world.seen.taken_back;
    }
    let Seen { from_memory, from_media, held_up, reopened, taken_back } = all;
    assert!(from_memory > 10_000 && from_media > 1000 && held_up > 20 && reopened > 200 && taken_back > 500, "{all:?}");
}

/// `WAL_MEMORY_SEEDS` asks for more of them.
fn seeds() -> u64 {
    std::env::var("WAL_MEMORY_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(150)
}

/// The last index that an entry can have is one below the highest number, and nothing wraps around there.
#[test]
fn the_last_index_of_all_is_kept_like_any_other() {
    let disk = SimDisk::new(1);
    let options = WalOptions { recent_bytes_max: 1 << 20, ..OPTIONS };
    let mut node = Node::open_with(&disk, options).unwrap();
    let entry = |index: u64| RawEntry { kind: 1, log_id: id(1, index), payload: payload(index, 20).into() };
    let last = u64::MAX - 1;
    node.done(Op::Vote(vec![1].into()));
    node.done(Op::Append((last - 9..=last).map(entry).collect()));
    let all: Vec<_> = (last - 9..=last).map(entry).collect();
    assert_eq!(node.log.read_recent(last - 9..u64::MAX, usize::MAX).unwrap(), Some(all.clone()));
    let over = node.log.submit(Op::Append(vec![entry(u64::MAX)]), Ack::silent()).unwrap_err();
    assert!(matches!(over.error, SubmitError::Gap { .. }), "{:?}", over.error);
    node.done(Op::Truncate { from: last });
    node.done(Op::Append(vec![entry(last)]));
    node.done(Op::Purge { up_to: id(1, last - 3) });
    assert_eq!(node.log.read_recent(last - 2..u64::MAX, usize::MAX).unwrap(), Some(all[7..].to_vec()));
    drop(node);
    disk.power_cut(Loss::Everything);
    let mut node = Node::open_with(&disk, options).unwrap();
    assert_eq!(node.log.read(last - 2..u64::MAX, usize::MAX).unwrap(), all[7..]);
    node.done(Op::Purge { up_to: id(1, last) });
    assert_eq!((node.log.extent().last, node.log.metrics().recent_bytes), (Some(id(1, last)), 0));
    node.done(Op::Purge { up_to: id(9, u64::MAX) });
    let over = node.log.submit(Op::Append(vec![entry(u64::MAX)]), Ack::silent()).unwrap_err();
    assert!(matches!(over.error, SubmitError::Gap { .. }), "{:?}", over.error);
    drop(node);
    disk.power_cut(Loss::Everything);
    assert_eq!(Node::open_with(&disk, options).unwrap().log.extent().last, Some(id(9, u64::MAX)));
}
