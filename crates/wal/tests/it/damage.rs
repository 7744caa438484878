//! Bytes, sectors and files are damaged. The log comes back in full or is refused; it never gets silently shorter than
//! what was acknowledged.

use std::path::{Path, PathBuf};

use raftwright_wal::testing::{Loss, SimDisk};
use raftwright_wal::{Disk, DiskFile, Op, OpenError, SECTOR, Verdict};

use crate::harness::{Model, Node, ROOT, entry, id};

/// How the node stopped before the damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    Cleanly,
    ByPowerCut,
    /// After the closed segments got their indexes; cleanly or not.
    Indexed(bool),
}

/// A log of two segments with writes of every kind, everything acknowledged.
pub(crate) fn written(stopped: Stopped) -> (SimDisk, Model) {
    let disk = SimDisk::new(3);
    let mut node = Node::open(&disk).unwrap();
    node.done(Op::Vote(vec![1; 18].into()));
    node.submit(Op::Append(vec![entry(1, 1, 100), entry(1, 2, 1501), entry(1, 3, 7)]));
    node.done(Op::Truncate { from: 3 });
    node.submit(Op::Vote(vec![2; 18].into()));
    node.done(Op::Append(vec![entry(2, 3, 99), entry(2, 4, 50)]));
    node.done(Op::Purge { up_to: id(1, 1) });
    node.log.note_committed(3);
    node.done(Op::Append(vec![entry(2, 5, 1600)]));
    node.done(Op::Append(vec![entry(2, 6, 1500)]));
    node.done(Op::Vote(vec![3; 18].into()));
    node.submit(Op::Append(vec![entry(2, 7, 64), entry(2, 8, 0)]));
    node.done(Op::Append(vec![entry(2, 9, 600)]));
    let model = Model::of(&node.log);
    if let Stopped::Indexed(_) = stopped {
        while node.writer.housekeep() {}
    }
    match stopped {
        Stopped::Cleanly | Stopped::Indexed(true) => node.writer.close().unwrap(),
        Stopped::ByPowerCut | Stopped::Indexed(false) => {}
    }
    disk.power_cut(match stopped {
        Stopped::Cleanly | Stopped::ByPowerCut => Loss::Everything,
        // The name of an index is not synced.
        Stopped::Indexed(_) => Loss::Nothing,
    });
    assert_eq!(segments(&disk).len(), 2, "the history rolls over once");
    (disk, model)
}

fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    disk.files().into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "seg")).collect()
}

/// Whoever is refused can look at what was there. Nothing is mended before all is known to be good: here the first segment lacks
/// its seal, and the second one is damaged.
#[test]
fn a_refused_log_is_left_as_it_is() {
    let (disk, _) = written(Stopped::Cleanly);
    let [first, second] = &segments(&disk)[..] else { panic!("two segments") };
    let content = disk.content(first).unwrap();
    let seal = content.chunks(SECTOR).rposition(|sector| sector.iter().any(|byte| *byte != 0)).unwrap();
    let zeros = disk.fork(1);
    zeros.overwrite(first, (seal * SECTOR) as u64, &[0; SECTOR]);
    assert_eq!(fate(&zeros.fork(1), &written(Stopped::Cleanly).1, "a seal is written again"), Fate::Whole);
    let vote = disk.content(second).unwrap().windows(5).rposition(|bytes| bytes == [3; 5]).unwrap();
    for offset in vote - 600..vote {
        zeros.flip(second, offset as u64, 0xFF);
    }
    let all = |disk: &SimDisk| segments(disk).iter().map(|path| disk.content(path)).collect::<Vec<_>>();
    let before = all(&zeros);
    assert!(Node::open(&zeros).is_err());
    assert!(all(&zeros) == before, "it was written to");
}

/// What became of a damaged log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Whole,
    Refused,
}

/// Opens a damaged log: it is whole or refused with a sentence that names a file or the directory.
fn fate(image: &SimDisk, model: &Model, context: &str) -> Fate {
    match Node::open(image) {
        Ok(node) => {
            assert_eq!(&Model::of(&node.log), model, "{context}: silently changed");
            assert!(
                node.report.findings.iter().all(|finding| finding.verdict != Verdict::BeyondRepair),
                "{context}: {:?}",
                node.report
            );
            Fate::Whole
        }
        Err(error) => {
            assert!(error.to_string().contains(ROOT), "{context}: {error}");
            Fate::Refused
        }
    }
}

#[test]
fn any_flipped_byte_is_repaired_or_refused() {
    let (mut whole, mut refused) = (0, 0);
    for stopped in [Stopped::Cleanly, Stopped::ByPowerCut] {
        let (disk, model) = written(stopped);
        for path in disk.files() {
            let content = disk.content(&path).unwrap();
            let used = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + SECTOR);
            for offset in (0..content.len()).take(used) {
                for mask in [0x01, 0xFF, content[offset]] {
                    let image = disk.fork(1);
                    image.flip(&path, offset as u64, mask);
                    match fate(&image, &model, &format!("{stopped:?}, {} byte {offset}", path.display())) {
                        Fate::Whole => whole += 1,
                        Fate::Refused => refused += 1,
                    }
                }
            }
        }
    }
    println!("flipped bytes: {} images, {whole} repaired or unharmed, {refused} refused", whole + refused);
    assert!(whole > 1000 && refused > 1000, "{whole} {refused}");
}

/// A sector that was lost, or that received what belongs to another place, of this file or another.
#[test]
fn any_misdirected_or_lost_sector_is_repaired_or_refused() {
    let (disk, model) = written(Stopped::Cleanly);
    let mut sectors: Vec<Vec<u8>> = vec![vec![0; SECTOR], vec![0xA5; SECTOR]];
    for path in segments(&disk) {
        sectors.extend(disk.content(&path).unwrap().chunks(SECTOR).map(<[u8]>::to_vec));
    }
    let mut images = 0;
    for path in segments(&disk) {
        let content = disk.content(&path).unwrap();
        for at in (0..content.len()).step_by(SECTOR) {
            for (from, sector) in sectors.iter().enumerate() {
                let image = disk.fork(1);
                image.overwrite(&path, at as u64, sector);
                fate(&image, &model, &format!("{} at {at} from {from}", path.display()));
                images += 1;
            }
        }
    }
    println!("misdirected sectors: {images} images");
}

/// After a power cut the last batch has no mark behind it, and one sector of it that is all zeros cannot be told from
/// one that never arrived. Every other batch is safe even then.
#[test]
fn only_the_last_batch_can_look_torn() {
    let (disk, model) = written(Stopped::ByPowerCut);
    let mut cut = 0;
    for path in segments(&disk) {
        for at in (0..disk.content(&path).unwrap().len()).step_by(SECTOR) {
            let image = disk.fork(1);
            image.overwrite(&path, at as u64, &[0; SECTOR]);
            if let Ok(node) = Node::open(&image)
                && Model::of(&node.log) != model
            {
                assert_eq!(Model::of(&node.log).next(), 7, "only the last batch is gone");
                assert!(node.report.findings.iter().any(|finding| finding.verdict == Verdict::Cut), "and it is said");
                cut += 1;
            }
        }
    }
    assert!((1..=4).contains(&cut), "the sectors of the last batch: {cut}");
}

#[test]
fn any_shortened_file_is_refused() {
    let (disk, model) = written(Stopped::ByPowerCut);
    for path in disk.files() {
        let len = disk.content(&path).unwrap().len() as u64;
        for cut in (0..len).step_by(37) {
            let image = disk.fork(1);
            image.shorten(&path, cut);
            let fate = fate(&image, &model, &format!("{} cut to {cut}", path.display()));
            let is_segment = path.extension().is_some();
            assert!(fate == Fate::Refused || !is_segment, "{} cut to {cut}", path.display());
        }
    }
}

#[test]
fn any_missing_file_is_refused() {
    for stopped in [Stopped::Cleanly, Stopped::ByPowerCut] {
        let (disk, model) = written(stopped);
        for path in disk.files() {
            let image = disk.fork(1);
            image.lose(&path);
            assert_eq!(fate(&image, &model, &path.display().to_string()), Fate::Refused, "{}", path.display());
        }
        let image = disk.fork(1);
        segments(&disk).iter().for_each(|path| image.lose(path));
        let lost = Node::open(&image).err().unwrap();
        assert!(matches!(lost, OpenError::DataLoss { .. }), "{lost}");
    }
}

#[test]
fn segments_of_another_life_are_refused() {
    let (disk, _) = written(Stopped::Cleanly);
    let other = SimDisk::new(8);
    {
        let options = raftwright_wal::DataDirOptions { node_id: 1, random: 12345 };
        let dir = raftwright_wal::DataDir::open(other.clone(), Path::new(ROOT), options).unwrap();
        drop(raftwright_wal::open::<_, crate::harness::Ack>(dir.into(), crate::harness::OPTIONS).unwrap().log);
    }
    let first = &segments(&disk)[0];
    other.overwrite(first, 0, &disk.content(first).unwrap());
    let error = Node::open(&other).err().unwrap();
    assert!(matches!(error, OpenError::Foreign { node_id: 1, incarnation: 99, .. }), "{error}");
}

#[test]
fn swapped_and_stale_segments_are_refused() {
    let (disk, model) = written(Stopped::Cleanly);
    let paths = segments(&disk);
    let (first, second) = (disk.content(&paths[0]).unwrap(), disk.content(&paths[1]).unwrap());
    let image = disk.fork(1);
    image.overwrite(&paths[0], 0, &second);
    image.overwrite(&paths[1], 0, &first);
    assert_eq!(fate(&image, &model, "swapped"), Fate::Refused);

    // The second segment goes back to an older state of itself, as a restored copy would.
    let mut node = Node::open(&disk).unwrap();
    node.done(Op::Append(vec![entry(2, 10, 5)]));
    node.done(Op::Append(vec![entry(2, 11, 7000)]));
    let model = Model::of(&node.log);
    drop(node);
    disk.power_cut(Loss::Everything);
    assert!(segments(&disk).len() > 2);
    let image = disk.fork(1);
    image.overwrite(&paths[1], 0, &second);
    assert_eq!(fate(&image, &model, "stale"), Fate::Refused);
}

/// The sentence says what, where and which entry.
#[test]
fn a_damaged_body_is_refused_with_its_place() {
    let (disk, _) = written(Stopped::Cleanly);
    let path = &segments(&disk)[0];
    let content = disk.content(path).unwrap();
    let payload = entry(1, 2, 1501).payload;
    let at = content.windows(64).position(|bytes| bytes == &payload[..64]).unwrap();
    disk.flip(path, at as u64 + 700, 1);
    let error = Node::open(&disk).err().unwrap();
    let OpenError::Damaged(finding) = &error else { panic!("{error}") };
    assert_eq!((finding.verdict, finding.index), (Verdict::BodyDamaged, Some(2)));
    let text = error.to_string();
    assert!(
        text.contains("0000000001.seg") && text.contains("(entry 2)") && text.contains("remove this node"),
        "{text}"
    );
}

/// Damage that happens while the log is open shows when the entry is read, and nowhere else.
#[test]
fn damage_at_rest_shows_when_it_is_read() {
    let disk = SimDisk::new(4);
    let mut node = Node::open(&disk).unwrap();
    node.done(Op::Vote(vec![1].into()));
    node.done(Op::Append((1..=3).map(|index| entry(1, index, 70)).collect()));
    let path = &segments(&disk)[0];
    let content = disk.content(path).unwrap();
    let payload = entry(1, 2, 70).payload;
    let at = content.windows(70).position(|bytes| bytes == &payload[..]).unwrap();
    disk.flip(path, at as u64, 4);
    assert_eq!(node.log.read(1..2, 1).unwrap(), [entry(1, 1, 70)]);
    let error = node.log.read(1..4, usize::MAX).unwrap_err().to_string();
    assert!(error.contains("entry 2") && error.contains(".seg"), "{error}");
}

/// A log whose last batch was acknowledged and is followed by nothing: a power cut came before its mark. Returns where that
/// batch begins and how long it is without its padding.
fn without_mark(op: Op) -> (SimDisk, Model, PathBuf, usize, usize) {
    let disk = SimDisk::new(6);
    let mut node = Node::open(&disk).unwrap();
    node.done(Op::Vote(vec![1; 18].into()));
    node.done(Op::Append(vec![entry(1, 1, 100)]));
    let path = segments(&disk)[0].clone();
    let end = |disk: &SimDisk| disk.content(&path).unwrap().iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let begin = end(&disk).next_multiple_of(SECTOR);
    node.done(op);
    let model = Model::of(&node.log);
    drop(node);
    disk.power_cut(Loss::Everything);
    let len = end(&disk) - begin;
    (disk, model, path, begin, len)
}

/// Damage of any length, anywhere in the last batch. What a torn write leaves is that whole sectors are missing, or, where a write
/// may stop anywhere, that all is missing from some byte on. Damage that leaves neither is never taken for one.
#[test]
fn a_run_of_damage_in_the_last_batch_is_not_taken_for_a_torn_write() {
    let (mut refused, mut whole) = (0, 0);
    for op in [Op::Vote(vec![7; 18].into()), Op::Append(vec![entry(1, 2, 700)]), Op::Append(vec![entry(1, 2, 3)])] {
        let (disk, model, path, begin, len) = without_mark(op);
        for fill in [0, 0xA5] {
            for run in [1, 2, 4, 8, 9, 12, 13, 44, 56, 64, 100, 256, 511, 700] {
                for at in 0..len {
                    // The padding is zero already; the end mark of the batch takes its last 8 bytes and a checksum those before.
                    let to_the_end = fill == 0 && at + run >= len && at < len - 8;
                    let a_sector =
                        (at.next_multiple_of(SECTOR)..(at + run).saturating_sub(SECTOR - 1)).next().is_some();
                    if to_the_end || fill == 0 && a_sector {
                        continue;
                    }
                    let image = disk.fork(1);
                    image.overwrite(&path, (begin + at) as u64, &vec![fill; run.min(len - at)]);
                    match fate(&image, &model, &format!("{run} bytes {fill} at {at} of {len}")) {
                        Fate::Refused => refused += 1,
                        Fate::Whole => whole += 1,
                    }
                }
            }
        }
    }
    println!("runs of damage: {refused} refused, {whole} repaired or unharmed");
    assert!(refused > 1000 && whole > 1000, "{refused} {whole}");
}

/// A write that stops at any byte, over nothing or over a mark, leaves the log as it was, or with the whole batch where only its
/// padding is missing; the log goes on, and so does it after the next power cut.
#[test]
fn a_batch_that_stops_at_any_byte_is_left_out() {
    for marked in [true, false] {
        for op in [Op::Vote(vec![7; 18].into()), Op::Append(vec![entry(1, 2, 700)]), Op::Append(vec![entry(1, 2, 3)])] {
            let disk = SimDisk::new(6);
            let mut node = Node::open(&disk).unwrap();
            node.done(Op::Vote(vec![1; 18].into()));
            node.done(Op::Append(vec![entry(1, 1, 100)]));
            if marked {
                node.writer.mark();
            }
            let before = Model::of(&node.log);
            let path = segments(&disk)[0].clone();
            let old = disk.content(&path).unwrap();
            node.done(op);
            let after = Model::of(&node.log);
            let new = disk.content(&path).unwrap();
            drop(node);
            disk.kill();
            let begin = (0..new.len()).find(|at| old[*at] != new[*at]).unwrap() / SECTOR * SECTOR;
            let end = new.iter().rposition(|byte| *byte != 0).unwrap() + 1;
            for stop in begin..=end {
                let image = disk.fork(1);
                image.overwrite(&path, stop as u64, &old[stop..]);
                let mut node = Node::open(&image).unwrap_or_else(|error| panic!("{marked} {}: {error}", stop - begin));
                let model = Model::of(&node.log);
                // With its last checksum a batch is whole; its end mark is 8 bytes.
                let expected = if stop < end - 8 { &before } else { &after };
                assert_eq!(&model, expected, "{marked}, {} bytes of {}", stop - begin, end - begin);
                node.done(Op::Append(vec![entry(1, model.next(), 20)]));
                let model = Model::of(&node.log);
                drop(node);
                image.power_cut(Loss::Everything);
                assert_eq!(Model::of(&Node::open(&image).unwrap().log), model);
            }
        }
    }
}

/// A batch that was never flushed and is damaged in one of two copies is reported, and so it is durable by then.
#[test]
fn what_a_start_repairs_and_reports_is_durable() {
    let disk = SimDisk::new(6);
    let mut node = Node::open(&disk).unwrap();
    node.done(Op::Vote(vec![1; 18].into()));
    node.submit(Op::Append(vec![entry(1, 1, 100)]));
    node.writer.write_batch().unwrap();
    let model = Model::of(&node.log);
    drop(node);
    disk.kill();
    let path = &segments(&disk)[0];
    let begin = disk.content(path).unwrap().windows(4).rposition(|bytes| bytes == b"RWBH").unwrap() as u64;
    // The first head in the table; it is there twice.
    disk.open(path).unwrap().write_at(&[0xEE; 8], begin + 64).unwrap();
    let node = Node::open(&disk).unwrap();
    assert_eq!(node.report.findings.iter().map(|finding| finding.verdict).collect::<Vec<_>>(), [Verdict::Repaired]);
    assert_eq!(Model::of(&node.log), model);
    drop(node);
    disk.power_cut(Loss::Everything);
    assert_eq!(Model::of(&Node::open(&disk).unwrap().log), model);
}
