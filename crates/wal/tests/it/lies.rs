//! Files whose checksums all fit and which contradict themselves: beyond repair, and said so. And what stands there twice: one copy
//! is enough.

use std::path::PathBuf;

use raftwright_wal::testing::{Loss, SimDisk, reseal_segment};
use raftwright_wal::{Op, OpenError, RawEntry, SECTOR, Verdict};

use crate::harness::{Model, Node, OPTIONS, ROOT, entry, id};

fn segment(number: u32) -> PathBuf {
    PathBuf::from(ROOT).join(format!("wal/{number:010}.seg"))
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(*bytes[at..].first_chunk().unwrap()) as usize
}

fn put(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// Where the first batch with this number begins, and its trailer.
fn batch(bytes: &[u8], number: u64) -> (usize, usize) {
    let header =
        |at: &usize| bytes[*at..].starts_with(b"RWBH\x01") && bytes[at + 16..].starts_with(&number.to_le_bytes());
    let at = (0..bytes.len()).step_by(512).find(header).unwrap();
    (at, at + u32_at(bytes, at + 8) - u32_at(bytes, at + 48))
}

/// The disk with this segment changed, and with checksums that fit.
fn told(disk: &SimDisk, number: u32, change: impl FnOnce(&mut Vec<u8>)) -> SimDisk {
    let mut bytes = disk.content(&segment(number)).unwrap();
    change(&mut bytes);
    reseal_segment(&mut bytes);
    let lying = disk.fork(1);
    lying.overwrite(&segment(number), 0, &bytes);
    lying
}

fn refusal(disk: &SimDisk) -> OpenError {
    Node::open(disk).err().expect("a lie is refused")
}

fn is_beyond_repair(disk: &SimDisk, what: &str) {
    let error = refusal(disk);
    let OpenError::Damaged(finding) = &error else { panic!("{error}") };
    assert_eq!((finding.verdict, finding.what), (Verdict::BeyondRepair, what));
}

/// Batches 1 to 3: a vote, two entries, another vote. No mark.
fn short_log() -> (SimDisk, Model) {
    let disk = SimDisk::new(1);
    let mut node = Node::open(&disk).unwrap();
    node.done(Op::Vote(vec![3; 18].into()));
    node.done(Op::Append(vec![entry(1, 1, 50), entry(1, 2, 60)]));
    node.done(Op::Vote(vec![4; 18].into()));
    let model = Model::of(&node.log);
    drop(node);
    disk.power_cut(Loss::Everything);
    (disk, model)
}

#[test]
fn a_trailer_that_contradicts_its_records_is_beyond_repair() {
    let (disk, model) = short_log();
    let same = told(&disk, 1, |_| {});
    assert_eq!(Model::of(&Node::open(&same).unwrap().log), model);
    let what = "the trailer of a batch contradicts its records";
    for number in 1..=3 {
        // Last log id, purged log id, and the vote.
        for (at, flags) in [(64 + 16, 16), (40 + 16, 4), (88, 0)] {
            let lying = told(&disk, 1, |bytes| {
                let (_, trailer) = batch(bytes, number);
                bytes[trailer + at] ^= 0x40;
                bytes[trailer + 4] |= flags;
            });
            is_beyond_repair(&lying, what);
        }
    }
}

#[test]
fn a_batch_with_another_number_is_beyond_repair() {
    let (disk, _) = short_log();
    for number in 1..=3 {
        let lying = told(&disk, 1, |bytes| {
            let (header, trailer) = batch(bytes, number);
            put(bytes, header + 16, number + 7);
            put(bytes, trailer + 8, number + 7);
        });
        is_beyond_repair(&lying, "a batch of another place or time stands where the log goes on");
    }
}

/// Lengths that no batch has, longer than all that there is or shorter than what must be in them, are refused before they are used.
#[test]
fn a_batch_with_impossible_lengths_is_refused() {
    let (disk, _) = short_log();
    // Length of the batch, number of records, length of the trailer.
    for (at, value) in
        [(8, 0), (8, 100), (8, u32::MAX), (12, 1000), (12, u32::MAX), (48, 0), (48, 5000), (48, u32::MAX)]
    {
        for number in 1..=3 {
            let lying = told(&disk, 1, |bytes| {
                let (header, _) = batch(bytes, number);
                bytes[header + at..header + at + 4].copy_from_slice(&value.to_le_bytes());
            });
            let error = refusal(&lying);
            let OpenError::Damaged(finding) = &error else { panic!("{at} {value}: {error}") };
            assert_eq!(finding.verdict, Verdict::HeadUnknown, "{at} {value}");
        }
    }
}

#[test]
fn an_entry_that_does_not_follow_is_beyond_repair() {
    let (disk, _) = short_log();
    for index in [3, 1, u64::MAX] {
        let lying = told(&disk, 1, |bytes| {
            let (header, trailer) = batch(bytes, 2);
            put(bytes, header + 64 + 44 + 32, index);
            put(bytes, trailer + 64 + 16, index);
        });
        is_beyond_repair(&lying, "an entry does not follow the one before");
    }
}

/// An entry of a term says that somebody voted. A log that does not know the vote has lost it, and might vote again.
#[test]
fn entries_of_a_term_without_a_vote_are_a_loss() {
    let disk = SimDisk::new(1);
    let mut node = Node::open(&disk).unwrap();
    node.done(Op::Append(vec![entry(0, 1, 50)]));
    drop(node);
    disk.power_cut(Loss::Everything);
    assert!(Node::open(&disk.fork(1)).is_ok(), "nobody votes for a term of 0");
    let lying = told(&disk, 1, |bytes| {
        let (header, trailer) = batch(bytes, 1);
        put(bytes, header + 64 + 16, 1);
        put(bytes, trailer + 64, 1);
    });
    let error = refusal(&lying);
    assert!(matches!(error, OpenError::DataLoss { .. }) && error.to_string().contains("no vote"), "{error}");
}

/// The header of a segment says with what the one before ended: its state, the number of its last batch, and the chain.
#[test]
fn a_segment_that_does_not_continue_the_one_before_is_beyond_repair() {
    let disk = SimDisk::new(1);
    let mut node = Node::open(&disk).unwrap();
    node.done(Op::Vote(vec![3; 18].into()));
    for index in 1..=4 {
        node.done(Op::Append(vec![entry(1, index, 1500)]));
    }
    assert_eq!(node.log.metrics().segments, 2);
    drop(node);
    disk.power_cut(Loss::Everything);
    let same = told(&disk, 2, |_| {});
    assert!(Node::open(&same).is_ok());
    // Last log id, the chain, the vote; a batch number that is not the next one is also none of a segment without batches.
    for at in [112 + 16, 136, 164] {
        let lying = told(&disk, 2, |bytes| bytes[at] ^= 0x40);
        is_beyond_repair(&lying, "the segment does not continue the one before");
    }
    // Nor may it count on from a batch that the one before has had, whose seal never arrived.
    let seal = last_sector(&disk, 1);
    let unsealed = disk.fork(1);
    unsealed.overwrite(&segment(1), seal, &[0; SECTOR]);
    assert!(Node::open(&unsealed.fork(1)).is_ok(), "a seal is written again");
    let behind = told(&unsealed, 2, |bytes| put(bytes, 64, 0));
    is_beyond_repair(&behind, "the segment does not continue the one before");
    let ahead = told(&disk, 2, |bytes| bytes[64] += 1);
    assert!(Node::open(&ahead).is_err());
    let renamed = told(&disk, 2, |bytes| bytes[48] += 1);
    is_beyond_repair(&renamed, "the segment has the name of another one");
}

/// Where the last sector of a segment begins in which anything stands.
fn last_sector(disk: &SimDisk, number: u32) -> u64 {
    let content = disk.content(&segment(number)).unwrap();
    let last = content.iter().rposition(|byte| *byte != 0).unwrap();
    (last - last % SECTOR) as u64
}

/// The header of a segment proves that the last batch of the one before was durable, where its seal and its own end are lost: nothing
/// of it is taken for torn.
#[test]
fn the_next_segment_proves_the_last_batch_of_the_one_before() {
    let disk = SimDisk::new(1);
    let mut node = Node::open(&disk).unwrap();
    node.done(Op::Vote(vec![3; 18].into()));
    for index in 1..=4 {
        // The trailer has a sector of its own.
        node.done(Op::Append(vec![entry(1, index, 3 * SECTOR - 64 - 2 * 44)]));
    }
    assert_eq!(node.log.metrics().segments, 2);
    let model = Model::of(&node.log);
    drop(node);
    disk.power_cut(Loss::Everything);
    let seal = last_sector(&disk, 1);
    let (_, trailer) = batch(&disk.content(&segment(1)).unwrap(), 4);
    assert_eq!(trailer + SECTOR, seal as usize);
    disk.overwrite(&segment(1), trailer as u64, &[0; 2 * SECTOR]);
    let node = Node::open(&disk).unwrap();
    assert_eq!(Model::of(&node.log), model);
    let findings: Vec<_> = node.report.findings.iter().map(|finding| (finding.what, finding.verdict)).collect();
    assert_eq!(findings, [("the trailer of a batch is damaged", Verdict::Repaired)]);
}

/// A record ends before the trailer of its batch, whatever its head says.
#[test]
fn a_record_that_reaches_into_the_trailer_is_none() {
    let (disk, _) = short_log();
    let lying = told(&disk, 1, |bytes| {
        let (header, _) = batch(bytes, 2);
        let last = header + 64 + 44;
        bytes[last + 8] += 8;
    });
    let error = refusal(&lying);
    let OpenError::Damaged(finding) = &error else { panic!("{error}") };
    assert_eq!((finding.verdict, finding.what), (Verdict::HeadUnknown, "both copies of a record's head are damaged"));
}

/// A head that stands where another belongs is no copy of that: it says itself where it belongs.
#[test]
fn a_head_in_the_place_of_another_is_no_copy_of_it() {
    let disk = SimDisk::new(1);
    let mut node = Node::open(&disk).unwrap();
    node.done(Op::Vote(vec![3; 18].into()));
    let of = |fill: u8| RawEntry { kind: 0, log_id: id(1, 1), payload: vec![fill; 40].into() };
    // One batch, whose last record is like its first but for the payload.
    node.submit(Op::Append(vec![of(5)]));
    node.submit(Op::Truncate { from: 1 });
    node.done(Op::Append(vec![of(6)]));
    let model = Model::of(&node.log);
    drop(node);
    disk.power_cut(Loss::Everything);
    let content = disk.content(&segment(1)).unwrap();
    let (header, _) = batch(&content, 2);
    let table = |record: usize| header + 64 + 44 * record;
    let own = |record: usize| header + u32_at(&content, table(record) + 4);
    disk.flip(&segment(1), table(2) as u64, 0x10);
    assert_eq!(Model::of(&Node::open(&disk.fork(1)).unwrap().log), model, "one copy is enough");
    disk.overwrite(&segment(1), own(2) as u64, &content[own(0)..own(0) + 44]);
    let error = refusal(&disk);
    let OpenError::Damaged(finding) = &error else { panic!("{error}") };
    assert_eq!(finding.verdict, Verdict::HeadUnknown);
}

/// Segments are numbered without a gap. One that is missing is missed, also when nothing stood in it and those around it fit together.
#[test]
fn a_segment_without_batches_is_missed() {
    let empty = (0..).find_map(|step| {
        let disk = SimDisk::new(1);
        let mut node = Node::open(&disk).unwrap();
        node.done(Op::Vote(vec![3; 18].into()));
        for index in 1..=3 {
            node.done(Op::Append(vec![entry(1, index, 1500)]));
        }
        node.submit(Op::Append(vec![entry(1, 4, 1500)]));
        disk.crash_at(step);
        node.writer.run_batch().expect_err("the machine goes down before the next segment has its first batch");
        drop(node);
        disk.power_cut(Loss::Everything);
        let node = Node::open(&disk).unwrap();
        (node.log.metrics().segments == 2).then_some((disk, node))
    });
    let (disk, mut node) = empty.unwrap();
    // Longer than what is left of the second segment, and than all of it.
    node.done(Op::Append(vec![entry(1, 4, 9000)]));
    assert_eq!(node.log.metrics().segments, 3);
    let model = Model::of(&node.log);
    drop(node);
    disk.power_cut(Loss::Everything);
    assert_eq!(Model::of(&Node::open(&disk.fork(1)).unwrap().log), model);
    disk.lose(&segment(2));
    let error = refusal(&disk);
    assert!(matches!(error, OpenError::DataLoss { .. }), "{error}");
    assert!(error.to_string().contains("0000000002.seg is missing"), "{error}");
}

/// A vote stands in its record and in the trailer of its batch, the head of a record in front of it and in the table.
#[test]
fn one_copy_of_a_vote_and_of_a_head_is_enough() {
    let (disk, model) = short_log();
    let content = disk.content(&segment(1)).unwrap();
    for (number, vote) in [(1, 3u8), (3, 4)] {
        let (header, trailer) = batch(&content, number);
        let own = header + u32_at(&content, header + 64 + 4);
        let in_record = own + 44;
        assert_eq!((content[in_record], content[trailer + 88]), (vote, vote));
        for at in (header + 64..header + 64 + 44).chain(own..own + 44).chain(in_record..in_record + 18) {
            let image = disk.fork(1);
            image.flip(&segment(1), at as u64, 0x21);
            let node = Node::open(&image).unwrap_or_else(|error| panic!("byte {at}: {error}"));
            assert_eq!(Model::of(&node.log), model);
            let verdicts: Vec<Verdict> = node.report.findings.iter().map(|finding| finding.verdict).collect();
            assert_eq!(verdicts, [Verdict::Repaired], "byte {at}");
        }
    }
}

/// A batch whose trailer is damaged has no end that another could be chained to: the log goes on in the next segment, and what was
/// there stays.
#[test]
fn a_log_goes_on_behind_a_damaged_trailer() {
    let (disk, model) = short_log();
    let (_, trailer) = batch(&disk.content(&segment(1)).unwrap(), 3);
    disk.flip(&segment(1), trailer as u64 + 70, 1);
    let mut node = Node::open_with(&disk, OPTIONS).unwrap();
    assert_eq!(Model::of(&node.log), model);
    node.done(Op::Append(vec![entry(1, 3, 30)]));
    assert_eq!(node.log.metrics().segments, 2);
    node.done(Op::Purge { up_to: id(1, 1) });
    let model = Model::of(&node.log);
    drop(node);
    for _ in 0..2 {
        disk.power_cut(Loss::Everything);
        assert_eq!(Model::of(&Node::open(&disk).unwrap().log), model);
    }
}
