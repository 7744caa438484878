//! Closed segments are opened by their indexes: without reading them, and never otherwise than by reading them.

use std::path::{Path, PathBuf};

use raftwright_wal::testing::{Loss, SimDisk, reseal_index};
use raftwright_wal::{Op, WalOptions};

use crate::harness::{Dice, Model, Node, OPTIONS, entry, random_history, random_op};

fn indexes(disk: &SimDisk) -> Vec<PathBuf> {
    disk.files().into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "idx")).collect()
}

/// A log of this many entries, stopped cleanly after everything else was done that there was to do.
fn long_log(entries: u64, options: WalOptions) -> (SimDisk, Model) {
    let disk = SimDisk::new(1);
    let mut node = Node::open_with(&disk, options).unwrap();
    node.done(Op::Vote(vec![1].into()));
    for index in 1..=entries {
        node.done(Op::Append(vec![entry(1 + index / 100, index, 700)]));
        while node.writer.housekeep() {}
    }
    while node.writer.housekeep() {}
    node.writer.close().unwrap();
    let model = Model::of(&node.log);
    drop(node);
    disk.power_cut(Loss::Nothing);
    (disk, model)
}

/// Reads and bytes read by an opening.
fn cost_of_opening(disk: &SimDisk) -> (u64, u64) {
    let before = disk.counts();
    Node::open(disk).unwrap();
    let after = disk.counts();
    (after.reads - before.reads, after.read_bytes - before.read_bytes)
}

/// A closed segment costs its header, its index and its seal; the last one is read as a whole.
#[test]
fn opening_reads_the_last_segment_and_little_of_the_others() {
    for entries in [60, 600] {
        let (disk, _) = long_log(entries, OPTIONS);
        let closed = indexes(&disk).len() as u64;
        assert!(closed >= entries / 12, "{closed} segments are closed");
        let (reads, bytes) = cost_of_opening(&disk);
        // Of each closed segment 2 KiB for header and seal, 112 bytes for its index, 16 for each entry and 32 for each
        // leader; the last one and `meta` besides.
        let bound = OPTIONS.segment_bytes + 4096 + closed * (2048 + 112 + 64) + entries * 16;
        assert!(bytes <= bound, "{bytes} bytes for {closed} closed segments, more than {bound}");
        assert!(reads <= 8 + 4 * closed, "{reads} reads for {closed} closed segments");

        let without = disk.fork(2);
        indexes(&disk).iter().for_each(|path| without.lose(path));
        let (_, all) = cost_of_opening(&without);
        assert!(all > closed * OPTIONS.segment_bytes, "{all} bytes where every record is read");
    }
}

/// What the reading of segments found becomes an index: the next opening is cheap again.
#[test]
fn a_lost_index_is_made_again() {
    let (disk, model) = long_log(100, OPTIONS);
    let files = indexes(&disk);
    files[1..].iter().for_each(|path| disk.lose(path));
    let mut node = Node::open(&disk).unwrap();
    assert_eq!(Model::of(&node.log), model);
    for _ in 0..200 {
        node.writer.housekeep();
    }
    drop(node);
    disk.power_cut(Loss::Nothing);
    assert!(indexes(&disk).len() >= files.len().min(8), "{:?}", indexes(&disk));
    assert_eq!(Model::of(&Node::open(&disk).unwrap().log), model);
}

/// Whatever byte of an index is damaged, the log is what it was, by reading the segment.
#[test]
fn a_damaged_index_is_no_index() {
    let (disk, model) = long_log(40, OPTIONS);
    let files = indexes(&disk);
    assert!(files.len() >= 2);
    for path in &files {
        let content = disk.content(path).unwrap();
        for offset in 0..content.len() {
            let image = disk.fork(1);
            image.flip(path, offset as u64, 0x41);
            assert_eq!(Model::of(&Node::open(&image).unwrap().log), model, "{} byte {offset}", path.display());
        }
        for len in (0..content.len()).step_by(13) {
            let image = disk.fork(1);
            image.shorten(path, len as u64);
            assert_eq!(Model::of(&Node::open(&image).unwrap().log), model, "{} cut to {len}", path.display());
        }
    }
    // One for another.
    let (first, second) = (disk.content(&files[0]).unwrap(), disk.content(&files[1]).unwrap());
    let image = disk.fork(1);
    image.shorten(&files[0], 0);
    image.overwrite(&files[1], 0, &first);
    image.overwrite(&files[0], 0, &second);
    assert_eq!(Model::of(&Node::open(&image).unwrap().log), model);
}

/// Random histories: opened by indexes and opened by records, a log is the same.
#[test]
fn an_index_says_what_the_records_say() {
    let mut compared = 0;
    for seed in 0..300 {
        let (steps, states) = random_history(seed, 60);
        let disk = SimDisk::new(seed);
        let mut node = Node::open(&disk).unwrap();
        for step in &steps {
            node.step(step).unwrap();
        }
        while node.writer.run_batch().unwrap() > 0 {}
        while node.writer.housekeep() {}
        drop(node);
        disk.power_cut(Loss::Nothing);
        let by_records = disk.fork(1);
        indexes(&disk).iter().for_each(|path| by_records.lose(path));
        compared += indexes(&disk).len();
        let (by_indexes, by_records) = (Node::open(&disk).unwrap(), Node::open(&by_records).unwrap());
        assert!(Model::of(&by_indexes.log) == states[60], "seed {seed}: {by_indexes:?}", by_indexes = by_indexes.log);
        assert!(Model::of(&by_records.log) == states[60], "seed {seed}: {by_records:?}", by_records = by_records.log);
        assert_eq!(by_indexes.log.committed(), by_records.log.committed(), "seed {seed}");
        assert_eq!(by_indexes.log.leaders(0, 1 << 20), by_records.log.leaders(0, 1 << 20), "seed {seed}");
    }
    assert!(compared > 100, "{compared} indexes were used");
}

/// Whatever is queued, in hand or undone while an index is put together: what is written is, byte for byte, what the segment's
/// records say. A wrong one would often be found out by the next segment, so that comparing logs says little.
#[test]
fn an_index_that_is_made_late_is_that_of_the_records() {
    let (mut compared, mut none) = (0, 0);
    for seed in 1..=400u64 {
        let disk = SimDisk::new(seed);
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let (mut model, mut term) = (Model::default(), 1);
        let mut node = Node::open(&disk).unwrap();
        for _ in 0..80 {
            for _ in 0..dice.roll(3) {
                let op = random_op(&mut dice, &model, &mut term);
                model.apply(&op);
                node.submit(op);
            }
            if dice.roll(4) == 0 {
                node.writer.housekeep();
            }
            if node.writer.write_batch().unwrap() > 0 {
                for _ in 0..dice.roll(3) {
                    let op = random_op(&mut dice, &model, &mut term);
                    model.apply(&op);
                    node.submit(op);
                }
                node.writer.sync().unwrap();
                node.writer.complete();
            }
            for _ in 0..dice.roll(6) {
                node.writer.housekeep();
            }
            if dice.roll(40) == 0 {
                drop(node);
                disk.kill();
                node = Node::open(&disk).unwrap();
                model = Model::of(&node.log);
            }
        }
        while node.writer.run_batch().unwrap() > 0 {}
        while node.writer.housekeep() {}
        none += node.log.metrics().segments - 1 - indexes(&disk).len();
        drop(node);
        disk.power_cut(Loss::Nothing);
        let by_records = disk.fork(1);
        indexes(&disk).iter().for_each(|path| by_records.lose(path));
        let mut again = Node::open(&by_records).unwrap();
        while again.writer.housekeep() {}
        drop(again);
        for path in indexes(&by_records) {
            if let Some(made) = disk.content(&path) {
                assert!(by_records.content(&path).unwrap() == made, "seed {seed}: {}", path.display());
                compared += 1;
            }
        }
    }
    assert!(compared > 100 && none > 10, "{compared} indexes were compared, {none} segments had none");
}

/// Entries of several leaders in one append, the same one again among them, as those of all are that a follower was long without.
#[test]
fn an_index_knows_every_leader_of_an_append() {
    let disk = SimDisk::new(1);
    let mut node = Node::open(&disk).unwrap();
    node.done(Op::Vote(vec![1].into()));
    let term = |index: u64| [5, 5, 6, 5, 7, 7, 7][index as usize % 7];
    for first in (1..=300).step_by(10) {
        node.done(Op::Append((first..first + 10).map(|index| entry(term(index), index, 100)).collect()));
    }
    while node.writer.housekeep() {}
    drop(node);
    disk.power_cut(Loss::Nothing);
    let by_records = disk.fork(1);
    let files = indexes(&disk);
    files.iter().for_each(|path| by_records.lose(path));
    for disk in [&disk, &by_records] {
        let mut node = Node::open(disk).unwrap();
        assert_eq!(Model::of(&node.log).entries.len(), 300);
        for index in 1..=300 {
            assert_eq!(node.log.log_id(index), Some(entry(term(index), index, 0).log_id));
        }
        assert_eq!(node.log.leaders(1, 10).len(), 7);
        while node.writer.housekeep() {}
    }
    assert!(files.len() > 3 && files.iter().all(|path| disk.content(path) == by_records.content(path)));
}

/// What belongs to no segment any more does not stay.
#[test]
fn an_index_goes_before_its_segment_and_not_behind_it() {
    let (disk, model) = long_log(100, OPTIONS);
    let mut node = Node::open(&disk).unwrap();
    node.done(Op::Purge { up_to: model.entries[&99].log_id });
    while node.writer.housekeep() {}
    let segments = disk.files().iter().filter(|path| path.extension().is_some_and(|end| end == "seg")).count();
    assert!(indexes(&disk).len() < segments && segments <= 3, "{:?}", disk.files());
    drop(node);
    disk.power_cut(Loss::Everything);
    let orphan = PathBuf::from(crate::harness::ROOT).join("wal/0000000001.idx");
    raftwright_wal::Disk::create(&disk, &orphan).unwrap();
    Node::open(&disk).unwrap();
    assert!(!disk.files().contains(&orphan));
}

/// So many indexes wait to be made at a time: those of the newest segments. The others are made at later starts.
#[test]
fn indexes_that_wait_to_be_made_are_bounded() {
    let (disk, _) = long_log(250, OPTIONS);
    let files = indexes(&disk);
    assert!(files.len() > 20, "{} segments are closed", files.len());
    files.iter().for_each(|path| disk.lose(path));
    for made in [8, 16] {
        let mut node = Node::open(&disk).unwrap();
        while node.writer.housekeep() {}
        drop(node);
        disk.power_cut(Loss::Nothing);
        assert_eq!(indexes(&disk), files[files.len() - made..]);
    }
}

/// What is taken from a segment between its end and the making of its index is no reason for a wrong index, nor for none of the
/// others.
#[test]
fn a_segment_whose_entries_go_before_its_index_is_made_has_none() {
    for purges in [false, true] {
        let disk = SimDisk::new(1);
        let mut node = Node::open(&disk).unwrap();
        node.done(Op::Vote(vec![1].into()));
        for index in 1..=40 {
            node.done(Op::Append(vec![entry(1, index, 700)]));
        }
        assert!(node.log.metrics().segments > 3);
        // Nothing has been made yet. This is in memory at once, and on the media later.
        let last = Model::of(&node.log).entries[&15].log_id;
        node.submit(if purges { Op::Purge { up_to: last } } else { Op::Truncate { from: 15 } });
        for _ in 0..50 {
            node.writer.housekeep();
        }
        let made = indexes(&disk).len();
        assert!(made >= 1 && made + 2 <= node.log.metrics().segments, "{made} indexes");
        while node.writer.run_batch().unwrap() > 0 {}
        while node.writer.housekeep() {}
        let model = Model::of(&node.log);
        drop(node);
        disk.power_cut(Loss::Nothing);
        assert_eq!(Model::of(&Node::open(&disk).unwrap().log), model, "purged: {purges}");
    }
}

/// Long batches close segments faster than single steps make indexes of them. They are made all the same.
#[test]
fn long_batches_leave_no_segment_without_its_index() {
    let options = WalOptions {
        segment_bytes: 1 << 20,
        first_segment_bytes: 1 << 20,
        batch_bytes_max: 1 << 20,
        prepare_step_bytes: 16 << 10,
        ..OPTIONS
    };
    let disk = SimDisk::new(1);
    let mut node = Node::open_with(&disk, options).unwrap();
    node.done(Op::Vote(vec![1].into()));
    for batch in 0..90 {
        node.done(Op::Append((1..=2000).map(|index| entry(1, batch * 2000 + index, 64)).collect()));
        node.writer.housekeep();
    }
    let closed = node.log.metrics().segments - 1;
    assert!(closed >= 25, "{closed} segments are closed");
    while node.writer.housekeep() {}
    assert_eq!(indexes(&disk).len(), closed);
}

/// Puts another index in the place of one, with checksums that fit.
fn forge(disk: &SimDisk, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> SimDisk {
    let mut bytes = disk.content(path).unwrap();
    change(&mut bytes);
    reseal_index(&mut bytes);
    let forged = disk.fork(1);
    forged.overwrite(path, 0, &bytes);
    forged.shorten(path, bytes.len() as u64);
    forged
}

/// Neither counts beyond the last index nor a cut that was forgotten keep a log from being opened, for an index is never needed.
#[test]
fn an_index_that_contradicts_the_log_is_no_index() {
    let disk = SimDisk::new(1);
    let mut node = Node::open(&disk).unwrap();
    node.done(Op::Vote(vec![1].into()));
    for index in 1..=20 {
        node.done(Op::Append(vec![entry(1, index, 1500)]));
    }
    // All that the first segments hold is written anew, so they go, and what their entries were is known by their headers alone.
    node.done(Op::Truncate { from: 1 });
    for index in 1..=20 {
        node.done(Op::Append(vec![entry(2, index, 10)]));
    }
    node.done(Op::Append(vec![entry(2, 21, 5000)]));
    node.done(Op::Append(vec![entry(2, 22, 5000)]));
    while node.writer.housekeep() {}
    let model = Model::of(&node.log);
    node.writer.close().unwrap();
    drop(node);
    disk.power_cut(Loss::Nothing);
    let files = indexes(&disk);
    assert!(!files.is_empty(), "{:?}", disk.files());
    for path in &files {
        let forgets = forge(&disk, path, |bytes| {
            bytes[64..72].copy_from_slice(&u64::MAX.to_le_bytes());
            bytes[80..96].fill(0);
            bytes.truncate(112);
        });
        assert_eq!(Model::of(&Node::open(&forgets).unwrap().log), model, "{} forgets", path.display());
        let counts = forge(&disk, path, |bytes| {
            bytes[72..80].copy_from_slice(&(u64::MAX - 1).to_le_bytes());
            bytes[112..120].copy_from_slice(&(u64::MAX - 1).to_le_bytes());
        });
        assert_eq!(Model::of(&Node::open(&counts).unwrap().log), model, "{} counts", path.display());
    }
}

/// A log of four closed segments with their indexes, in which every entry has another leader, and of a truncation behind them.
fn log_with_indexes(truncated: u64) -> (SimDisk, Model, Vec<PathBuf>) {
    let disk = SimDisk::new(1);
    let mut node = Node::open(&disk).unwrap();
    node.done(Op::Vote(vec![1].into()));
    for index in 1..=20 {
        node.done(Op::Append(vec![entry(index, index, 1500)]));
    }
    while node.writer.housekeep() {}
    node.done(Op::Truncate { from: truncated });
    node.done(Op::Append(vec![entry(90, truncated, 10)]));
    while node.writer.housekeep() {}
    node.writer.close().unwrap();
    let model = Model::of(&node.log);
    drop(node);
    disk.power_cut(Loss::Nothing);
    let files = indexes(&disk);
    assert!(files.len() >= 4, "{:?}", disk.files());
    (disk, model, files)
}

fn put(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

fn get(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().unwrap())
}

/// Which leader proposed an entry in the middle shows only when a later segment goes back to it: then all is read.
#[test]
fn an_index_with_another_leader_is_found_out_when_the_log_goes_back_to_its_entries() {
    let mut lies = 0;
    for truncated in 9..=14 {
        let (disk, model, files) = log_with_indexes(truncated);
        for path in &files {
            let runs = get(&disk.content(path).unwrap(), 88) as usize;
            for run in 0..runs.saturating_sub(1) {
                let lying = forge(&disk, path, |bytes| {
                    let term = get(bytes, 112 + 32 * run + 8);
                    put(bytes, 112 + 32 * run + 8, term + 50);
                });
                let opened = Node::open(&lying).unwrap_or_else(|error| panic!("{} run {run}: {error}", path.display()));
                lies += u64::from(Model::of(&opened.log) == model);
            }
        }
    }
    assert!(lies > 0, "the truncation goes back to some of them");
}

/// An index says where its entries begin, and the next segment's header knows where the log begins.
#[test]
fn an_index_that_leaves_out_the_first_entries_is_no_index() {
    let (disk, model, files) = log_with_indexes(14);
    let forgets = forge(&disk, &files[0], |bytes| {
        let (first, count, runs) = (get(bytes, 72), get(bytes, 80), get(bytes, 88));
        assert_eq!(count, runs, "each has its leader");
        put(bytes, 72, first + 2);
        put(bytes, 80, count - 2);
        put(bytes, 88, runs - 2);
        let entries = 112 + 32 * runs as usize;
        bytes.drain(entries..entries + 2 * 16);
        bytes.drain(112..112 + 2 * 32);
    });
    assert_eq!(Model::of(&Node::open(&forgets).unwrap().log), model);
}

/// What is said to stand behind the seal, or in another file, is not believed.
#[test]
fn an_index_of_another_file_or_place_is_no_index() {
    let (disk, model, files) = log_with_indexes(14);
    let (_, right) = cost_of_opening(&disk.fork(1));
    let mut changes: Vec<(usize, u64)> = vec![(24, 1), (32, 1), (40, 1), (48, 512), (56, 1)];
    // The offset of the first entry.
    let runs = get(&disk.content(&files[1]).unwrap(), 88) as usize;
    changes.push((112 + 32 * runs, 1 << 20));
    for (at, more) in changes {
        let other = forge(&disk, &files[1], |bytes| {
            let value = get(bytes, at) + more;
            put(bytes, at, value);
        });
        let (_, all) = cost_of_opening(&other.fork(1));
        assert!(
            all > right + OPTIONS.segment_bytes / 2,
            "field {at}: {all} bytes are read, {right} with a right index"
        );
        assert_eq!(Model::of(&Node::open(&other).unwrap().log), model, "field {at}");
    }
}

/// An index longer than its segment is not even read.
#[test]
fn an_index_longer_than_its_segment_is_not_read() {
    let (disk, model, files) = log_with_indexes(14);
    let long = disk.fork(1);
    let file = raftwright_wal::Disk::open(&long, &files[0]).unwrap();
    raftwright_wal::DiskFile::write_at(&file, &vec![1; 1 << 20], 0).unwrap();
    let (_, bytes) = cost_of_opening(&long);
    assert!(bytes < 1 << 20, "{bytes} bytes are read");
    assert_eq!(Model::of(&Node::open(&long).unwrap().log), model);
}

/// A seal that is lost or damaged is written again, whether there is an index or not: it is what shows that what follows is missing.
#[test]
fn a_lost_seal_is_made_up_for() {
    let (disk, model, files) = log_with_indexes(14);
    for (which, with_index) in [(0, true), (0, false), (files.len() - 1, true), (files.len() - 1, false)] {
        let segment = files[which].with_extension("seg");
        let whole = disk.content(&segment).unwrap();
        let seal = whole.chunks(512).rposition(|sector| sector.iter().any(|byte| *byte != 0)).unwrap() * 512;
        for damage in [vec![0; 512], vec![0xEE; 512]] {
            let image = disk.fork(1);
            image.overwrite(&segment, seal as u64, &damage);
            if !with_index {
                files.iter().for_each(|path| image.lose(path));
            }
            assert_eq!(Model::of(&Node::open(&image).unwrap().log), model);
            assert!(image.durable_content(&segment).unwrap() == whole, "segment {which}, index {with_index}");
            let later =
                disk.files().into_iter().filter(|path| path.extension() == segment.extension() && *path > segment);
            later.for_each(|path| image.lose(&path));
            assert!(matches!(Node::open(&image), Err(raftwright_wal::OpenError::DataLoss { .. })));
        }
    }
}

/// Segments of another past of the same node, as a restored copy of the directory has it: the chain of checksums does not lead
/// there, and an index beside the segment before it does not bridge the gap.
#[test]
fn segments_of_another_past_are_refused_with_indexes_too() {
    let disk = SimDisk::new(1);
    let mut node = Node::open(&disk).unwrap();
    node.done(Op::Vote(vec![1].into()));
    node.done(Op::Append(vec![entry(1, 1, 100)]));
    drop(node);
    disk.power_cut(Loss::Everything);
    let life = |disk: &SimDisk, fill: u8| {
        let mut node = Node::open(disk).unwrap();
        // The same entry by its id and its length: only its payload is another one.
        let mut payload = entry(1, 2, 1000);
        payload.payload = vec![fill; 1000].into();
        node.done(Op::Append(vec![payload]));
        for index in 3..=8 {
            node.done(Op::Append(vec![entry(1, index, 1500)]));
        }
        while node.writer.housekeep() {}
        node.writer.close().unwrap();
        drop(node);
        disk.power_cut(Loss::Nothing);
    };
    let other = disk.fork(1);
    life(&disk, 7);
    life(&other, 8);
    for number in 2..=3 {
        let path = indexes(&disk)[0].with_file_name(format!("000000000{number}.seg"));
        disk.overwrite(&path, 0, &other.content(&path).unwrap());
    }
    let error = Node::open(&disk).err().map(|error| error.to_string());
    assert!(error.as_ref().is_some_and(|error| error.contains("does not continue")), "{error:?}");
}
