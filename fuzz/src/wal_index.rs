//! The indexes of closed segments: whatever their bytes, the log is what its segments say.

use std::path::PathBuf;

use raftwright_wal::testing::{Loss, SimDisk, reseal_index};
use raftwright_wal::{Disk, DiskFile, Inspector, Op, RawEntry, RawLogId};

use crate::wal::{Content, ROOT, Silent, content, path, start};

/// Where an index says which segment it is of, and where and how that ends.
const IDENTITY: [std::ops::Range<usize>; 2] = [24..64, 96..100];

/// A log of some closed segments.
struct Sample {
    disk: SimDisk,
    /// What it holds.
    whole: Content,
    committed: Option<u64>,
    leaders: Vec<RawLogId>,
    /// The indexes, as they were written.
    indexes: Vec<(PathBuf, Vec<u8>)>,
}

impl Sample {
    fn new() -> Self {
        let disk = SimDisk::new(5);
        let (log, mut writer, _) = start(&disk).expect("a new log");
        let mut next = 1;
        let mut entries = |term, lens: &[usize]| {
            let entry = |(at, len): (u64, &usize)| RawEntry {
                kind: (at % 3) as u8,
                log_id: RawLogId { term, node: (term == 2).then_some(4), index: at },
                payload: vec![(at * 31) as u8; *len].into(),
            };
            let entries: Vec<RawEntry> = (next..).zip(lens).map(entry).collect();
            next += lens.len() as u64;
            Op::Append(entries)
        };
        let mut ops = vec![
            Op::Vote(vec![1; 18].into()),
            entries(1, &[700, 0, 7, 1500]),
            entries(1, &[1300, 1300]),
            entries(2, &[300, 300]),
        ];
        ops.push(Op::Vote(vec![2; 18].into()));
        ops.push(Op::Purge { up_to: RawLogId { term: 1, node: None, index: 2 } });
        ops.push(Op::Truncate { from: 9 });
        ops.push(entries(3, &[1400, 1400]));
        ops.push(entries(3, &[1400, 50, 60, 1400]));
        ops.push(entries(4, &[10; 12]));
        ops.push(entries(4, &[2000, 1000]));
        ops.push(entries(5, &[1900, 1900]));
        ops.push(entries(5, &[30]));
        for op in ops {
            assert!(log.submit(op, Silent).is_ok(), "there is room");
            log.note_committed(3);
            writer.run_batch().expect("the disk works");
            while writer.housekeep() {}
        }
        writer.close().expect("the disk works");
        drop((log, writer));
        disk.power_cut(Loss::Nothing);
        let names = disk.files().into_iter().filter(|path| path.extension().is_some_and(|end| end == "idx"));
        let indexes: Vec<_> = names.map(|path| (path.clone(), disk.content(&path).expect("it is listed"))).collect();
        assert!(indexes.len() >= 2, "some segments are closed: {:?}", disk.files());
        // By its segments alone.
        let plain = disk.fork(6);
        indexes.iter().for_each(|(path, _)| plain.lose(path));
        let (log, _, _) = start(&plain).expect("a sound log");
        let (whole, committed, leaders) = (content(&log), log.committed(), log.leaders(0, u64::MAX));
        Self { disk, whole, committed, leaders, indexes }
    }
}

thread_local! {
    static SAMPLE: Sample = Sample::new();
}

/// The first byte: 1 mends the checksums, 2 makes it the index of this segment, whatever segment it speaks of; the rest is a
/// number of the segment.
pub(crate) fn index(data: &[u8]) {
    let Some((flags, bytes)) = data.split_first() else { return };
    SAMPLE.with(|sample| {
        let (path, own) = &sample.indexes[usize::from(flags >> 2) % sample.indexes.len()];
        let mut bytes = bytes.to_vec();
        if flags & 2 != 0 {
            for part in IDENTITY {
                if let Some(place) = bytes.get_mut(part.clone()) {
                    place.copy_from_slice(&own[part]);
                }
            }
        }
        if flags & 1 != 0 {
            reseal_index(&mut bytes);
        }
        let disk = sample.disk.fork(7);
        disk.lose(path);
        let file = disk.create(path).expect("a new file");
        file.write_at(&bytes, 0).and_then(|()| file.sync_data()).expect("a disk that works");
        disk.sync_dir(&self::path("wal")).expect("a disk that works");
        judge(&disk, sample, flags & 1 != 0);
    });
}

/// What an index says is under checksums; a `liar` has mended them. Nobody is promised that such a one is found out before
/// the entries that it lies about are read, but where the log begins and ends, who was voted for, and that the log is opened
/// and goes on does not depend on it.
fn judge(disk: &SimDisk, sample: &Sample, liar: bool) {
    let said = Inspector::open(disk.clone(), ROOT.as_ref()).expect("nobody holds it").verify();
    let (log, mut writer, findings) = start(disk).expect("an index is never needed");
    assert_eq!(said.map(|sound| sound.extent).ok(), Some(log.extent()), "looking reads the segments");
    assert!(findings.is_empty(), "the segments are sound: {findings:?}");
    assert_eq!(log.committed(), sample.committed);
    let (vote, purged, entries) = &sample.whole;
    assert_eq!((log.vote().map(|vote| vote.to_vec()), log.extent().purged), (vote.clone(), *purged));
    let last = entries.last().expect("the sample has entries").log_id;
    assert_eq!(log.extent().last, Some(last));
    if liar {
        for entry in entries {
            let index = entry.log_id.index;
            assert_eq!(log.log_id(index).map(|log_id| log_id.index), Some(index), "it is still there");
            // It is read, or found not to be what it shall be.
            let _ = log.read(index..index + 1, usize::MAX);
        }
    } else {
        assert!(content(&log) == sample.whole, "an index changed what the log holds");
        assert_eq!(log.leaders(0, u64::MAX), sample.leaders);
    }
    let log_id = RawLogId { term: 9, node: None, index: last.index + 1 };
    let entry = RawEntry { kind: 0, log_id, payload: vec![1; 100].into() };
    assert!(log.submit(Op::Append(vec![entry]), Silent).is_ok(), "there is room");
    writer.run_batch().expect("the disk works");
    drop((log, writer));
    disk.power_cut(Loss::Everything);
    let (log, _, _) = start(disk).expect("what was opened once is opened again");
    assert_eq!((log.extent().purged, log.extent().last), (*purged, Some(log_id)));
}

pub(crate) fn index_seeds() -> Vec<Vec<u8>> {
    SAMPLE.with(|sample| {
        let seeds = (0u8..)
            .zip(&sample.indexes)
            .flat_map(|(number, (_, bytes))| [0, 1, 3].map(|flags| [&[number << 2 | flags], &bytes[..]].concat()));
        seeds.collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Were one of them never looked at, its bytes would change nothing, and the target would say nothing.
    #[test]
    fn the_sample_is_opened_by_its_indexes() {
        SAMPLE.with(|sample| {
            let reads = |disk: &SimDisk| {
                let before = disk.counts().read_bytes;
                drop(start(disk).expect("a sound log"));
                disk.counts().read_bytes - before
            };
            let all = reads(&sample.disk.fork(1));
            for (path, _) in &sample.indexes {
                let without = sample.disk.fork(1);
                without.lose(path);
                assert!(reads(&without) > all, "{} is read", path.display());
            }
        });
    }
}
