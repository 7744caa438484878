//! One file of the simulated disk: what the process sees, what the media holds, and what lies between.

use crate::format::SECTOR;

/// What becomes of writes that were not synced when the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// All of them are lost.
    Everything,
    /// None is lost.
    Nothing,
    /// The first ones arrived, in order, and one of them up to a sector boundary. Names likewise.
    Prefix,
    /// Any sectors of any of them arrived. Of the names, the first ones did: file systems keep them in a journal.
    Sectors,
}

impl Loss {
    /// All rules.
    pub const ALL: [Self; 4] = [Self::Everything, Self::Nothing, Self::Prefix, Self::Sectors];
}

/// Seeded random numbers (SplitMix, after Steele, Lea and Flood).
#[derive(Clone, Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in `0..=max`.
    pub(super) fn up_to(&mut self, max: usize) -> usize {
        (self.next() % (max as u64).saturating_add(1)) as usize
    }
}

/// A change that was not synced.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Pending {
    Write { offset: usize, bytes: Vec<u8> },
    Grow { len: usize },
    Empty,
}

/// The content of a file.
#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Pending>,
    /// A durable write that has begun and not ended, which the process does not see yet.
    begun: Option<(usize, Vec<u8>)>,
}

impl Inode {
    pub(super) fn live(&self) -> &[u8] {
        &self.live
    }

    pub(super) fn durable(&self) -> &[u8] {
        &self.durable
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        put(&mut self.live, offset, bytes);
        self.pending.push(Pending::Write { offset, bytes: bytes.to_vec() });
    }

    pub(super) fn grow(&mut self, len: usize) {
        if self.live.len() < len {
            self.live.resize(len, 0);
            self.pending.push(Pending::Grow { len });
        }
    }

    pub(super) fn empty(&mut self) {
        if !self.live.is_empty() {
            self.live.clear();
            self.pending.push(Pending::Empty);
        }
    }

    pub(super) fn sync(&mut self) {
        for pending in std::mem::take(&mut self.pending) {
            apply(&mut self.durable, pending);
        }
    }

    /// Makes the last write durable, and of what came before only what must be gone where it stands. Other sectors that wait go on
    /// waiting, and so does a length that this write does not need.
    pub(super) fn sync_last(&mut self) {
        if self.pending.contains(&Pending::Empty) {
            return self.sync();
        }
        let Some(Pending::Write { offset, bytes }) = self.pending.pop() else { return };
        let end = offset + bytes.len();
        let mut waiting = Vec::new();
        for pending in std::mem::take(&mut self.pending) {
            match pending {
                Pending::Grow { .. } => waiting.push(pending),
                Pending::Empty => apply(&mut self.durable, pending),
                Pending::Write { offset: at, bytes: mut old } => {
                    // What arrived later is not overwritten by what was meant to be there before.
                    if at + old.len() > end {
                        let behind = old.split_off(end.saturating_sub(at));
                        waiting.push(Pending::Write { offset: at.max(end), bytes: behind });
                    }
                    old.truncate(offset.saturating_sub(at));
                    if !old.is_empty() {
                        waiting.push(Pending::Write { offset: at, bytes: old });
                    }
                }
            }
        }
        self.pending = waiting;
        put(&mut self.durable, offset, &bytes);
    }

    /// A sync of the last write that failed: as [`fail_sync`](Self::fail_sync), for its pages.
    pub(super) fn fail_last(&mut self) {
        self.pending.pop();
    }

    /// Begins a durable write. Until [`end`](Self::end) any part of it may be on its way, and nothing of it is promised.
    pub(super) fn begin(&mut self, offset: usize, bytes: &[u8]) {
        self.begun = Some((offset, bytes.to_vec()));
    }

    /// The durable write that has begun returns.
    pub(super) fn end(&mut self) {
        if let Some((offset, bytes)) = self.begun.take() {
            self.write(offset, &bytes);
            self.sync_last();
        }
    }

    /// The durable write that has begun fails at its sync.
    pub(super) fn fail_begun(&mut self) {
        if let Some((offset, bytes)) = self.begun.take() {
            self.write(offset, &bytes);
            self.fail_last();
        }
    }

    /// The process ends during its durable write: the system has taken the first sectors of it, and goes no further.
    pub(super) fn stop(&mut self, random: &mut Random) {
        if let Some((offset, bytes)) = self.begun.take() {
            let sectors = random.up_to((offset % SECTOR + bytes.len()).div_ceil(SECTOR));
            let arrived = (sectors * SECTOR).saturating_sub(offset % SECTOR).min(bytes.len());
            if arrived > 0 {
                self.write(offset, &bytes[..arrived]);
            }
        }
    }

    /// A sync that failed: the pages count as clean from now on, the process still sees them, the media never will.
    pub(super) fn fail_sync(&mut self) {
        self.pending.clear();
    }

    pub(super) fn is_dirty(&self) -> bool {
        !self.pending.is_empty() || self.begun.is_some()
    }

    pub(super) fn cut(&mut self, loss: Loss, random: &mut Random) {
        if let Some((offset, bytes)) = self.begun.take() {
            self.write(offset, &bytes);
        }
        let pending = std::mem::take(&mut self.pending);
        match loss {
            Loss::Everything => {}
            Loss::Nothing => pending.into_iter().for_each(|pending| apply(&mut self.durable, pending)),
            Loss::Prefix => {
                let keep = random.up_to(pending.len());
                for (at, pending) in pending.into_iter().enumerate() {
                    match pending {
                        pending if at < keep => apply(&mut self.durable, pending),
                        Pending::Write { offset, bytes } if at == keep => {
                            let sectors = random.up_to(bytes.len() / SECTOR);
                            let begin_of_next = SECTOR - offset % SECTOR;
                            let len = (begin_of_next + sectors * SECTOR).min(bytes.len());
                            let len = if random.up_to(3) == 0 { 0 } else { len };
                            put(&mut self.durable, offset, &bytes[..len]);
                        }
                        Pending::Write { .. } | Pending::Grow { .. } | Pending::Empty => {}
                    }
                }
            }
            Loss::Sectors => {
                for pending in pending {
                    match pending {
                        Pending::Grow { len } => apply(&mut self.durable, Pending::Grow { len }),
                        Pending::Empty if random.up_to(1) == 0 => self.durable.clear(),
                        Pending::Empty => {}
                        Pending::Write { offset, bytes } => put_some_sectors(&mut self.durable, offset, &bytes, random),
                    }
                }
            }
        }
        self.live.clone_from(&self.durable);
    }

    /// Changes what is stored, on the media and in the process's view alike.
    pub(super) fn tamper(&mut self, change: impl Fn(&mut Vec<u8>)) {
        change(&mut self.live);
        change(&mut self.durable);
    }
}

fn apply(content: &mut Vec<u8>, pending: Pending) {
    match pending {
        Pending::Write { offset, bytes } => put(content, offset, &bytes),
        Pending::Grow { len } => content.resize(content.len().max(len), 0),
        Pending::Empty => content.clear(),
    }
}

fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

fn put_some_sectors(content: &mut Vec<u8>, offset: usize, bytes: &[u8], random: &mut Random) {
    let mut at = 0;
    while at < bytes.len() {
        let len = (SECTOR - (offset + at) % SECTOR).min(bytes.len() - at);
        if random.up_to(1) == 0 {
            put(content, offset + at, &bytes[at..at + len]);
        }
        at += len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes that wait beside, before, behind and across one that is made durable alone.
    #[test]
    fn a_write_that_is_durable_alone_leaves_the_others_waiting() {
        let mut inode = Inode::default();
        inode.grow(8 * SECTOR);
        inode.sync();
        for (at, len, fill) in [(0, 2, 1), (2, 4, 2), (3, 1, 3), (6, 2, 4)] {
            inode.write(at * SECTOR, &vec![fill; len * SECTOR]);
        }
        inode.write(3 * SECTOR, &[9; 2 * SECTOR]);
        inode.sync_last();
        let sectors = |content: &[u8]| content.chunks(SECTOR).map(|sector| sector[0]).collect::<Vec<_>>();
        assert_eq!(sectors(inode.durable()), [0, 0, 0, 9, 9, 0, 0, 0]);
        assert_eq!(sectors(inode.live()), [1, 1, 2, 9, 9, 2, 4, 4]);
        for (loss, left) in [(Loss::Everything, [0, 0, 0, 9, 9, 0, 0, 0]), (Loss::Nothing, [1, 1, 2, 9, 9, 2, 4, 4])] {
            let mut cut = inode.clone();
            cut.cut(loss, &mut Random(1));
            assert_eq!(sectors(cut.live()), left, "{loss:?}");
        }
        inode.write(0, &[7; SECTOR]);
        inode.fail_last();
        inode.cut(Loss::Nothing, &mut Random(1));
        assert_eq!(sectors(inode.live()), [1, 1, 2, 9, 9, 2, 4, 4], "what failed never arrives");
        inode.grow(10 * SECTOR);
        inode.write(0, &[8; SECTOR]);
        inode.sync_last();
        assert_eq!((inode.durable().len(), inode.live().len()), (8 * SECTOR, 10 * SECTOR), "nor what nobody needs");
    }

    /// Before its end a durable write is as any other that waits for a sync; what the end of the process leaves of it begins at its
    /// beginning; after its end all of it stays, and nothing that was written before it.
    #[test]
    fn a_durable_write_is_durable_when_it_ends_and_not_before() {
        let mut inode = Inode::default();
        inode.grow(4 * SECTOR);
        inode.sync();
        inode.write(0, &[1; SECTOR]);
        inode.begin(SECTOR, &[2; 3 * SECTOR]);
        let sectors = |content: &[u8]| content.chunks(SECTOR).map(|sector| sector[0]).collect::<Vec<_>>();
        assert_eq!(sectors(inode.live()), [1, 0, 0, 0], "nobody sees a part of it");
        assert!(inode.is_dirty());
        let (mut stopped, mut cut) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
        for seed in 0..100 {
            let mut ended = inode.clone();
            ended.stop(&mut Random(seed));
            stopped.insert(sectors(ended.live())[1..].to_vec());
            assert_eq!(sectors(ended.durable()), [0; 4], "it is not synced");
            let mut lost = inode.clone();
            lost.cut(Loss::Everything, &mut Random(seed));
            assert_eq!(sectors(lost.live()), [0; 4]);
            let mut inode = inode.clone();
            inode.cut(Loss::Sectors, &mut Random(seed));
            cut.insert(sectors(inode.live())[1..].to_vec());
        }
        assert!(stopped.into_iter().eq([[0, 0, 0], [2, 0, 0], [2, 2, 0], [2, 2, 2]]));
        assert_eq!(cut.len(), 8, "any of its sectors");
        let mut failed = inode.clone();
        failed.fail_begun();
        assert_eq!((sectors(failed.live()), sectors(failed.durable())), (vec![1, 2, 2, 2], vec![0; 4]));
        inode.end();
        assert_eq!((sectors(inode.live()), sectors(inode.durable())), (vec![1, 2, 2, 2], vec![0, 2, 2, 2]));
    }
}
