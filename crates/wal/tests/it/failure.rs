//! The disk fails. The log stops, tells everybody, and trusts nothing afterwards.

use std::path::Path;

use raftwright_wal::testing::{Loss, SimDisk};
use raftwright_wal::{Op, OpenError, SubmitError, WalError, WalOptions};

use crate::harness::{Model, Node, OPTIONS, ROOT, entry};

fn node(disk: &SimDisk) -> Node {
    let mut node = Node::open(disk).unwrap();
    node.done(Op::Vote(vec![1].into()));
    node.done(Op::Append(vec![entry(1, 1, 30)]));
    node
}

/// After the failure every token gets the error, those of the batch, those that waited and those that come later, and
/// nothing touches the disk any more.
fn is_poisoned(node: &mut Node) {
    let acknowledged = node.acknowledged();
    let told = node.told();
    assert!(told[acknowledged..].iter().all(|(_, result)| matches!(result, Err(WalError::Poisoned(_)))));
    let counts = node.disk.counts();
    node.submit(Op::Vote(vec![3].into()));
    assert!(node.writer.run_batch().is_err() && node.writer.close().is_err());
    node.writer.mark();
    assert!(!node.writer.housekeep());
    assert_eq!(node.told().len(), told.len() + 1, "a later write is told at once");
    assert_eq!(node.acknowledged(), acknowledged);
    assert_eq!(node.disk.counts(), counts, "nothing is retried");
}

#[test]
fn a_failed_sync_is_never_retried_and_never_trusted() {
    let disk = SimDisk::new(1);
    let mut node = node(&disk);
    let before = Model::of(&node.log);
    node.submit(Op::Append(vec![entry(1, 2, 700)]));
    node.submit(Op::Vote(vec![2].into()));
    disk.fail_sync(0);
    node.writer.write_batch().unwrap();
    node.submit(Op::Append(vec![entry(1, 3, 10)]));
    assert!(node.writer.sync().is_err());
    assert_eq!(node.writer.complete(), 0);
    assert_eq!(node.told().len(), 5, "also who waited behind the batch is told");
    is_poisoned(&mut node);
    assert_eq!(node.log.read(1..2, 100).unwrap(), [entry(1, 1, 30)], "reading goes on");

    // The process restarts; the operating system still shows what the media never got and counts its pages as clean.
    disk.kill();
    let seen = Model::of(&Node::open(&disk).unwrap().log);
    disk.power_cut(Loss::Everything);
    let left = Model::of(&Node::open(&disk).unwrap().log);
    assert_eq!(seen, left, "what a start reports, the media holds");
    assert!(left.entries.contains_key(&1) && before.vote.is_some());
}

#[test]
fn a_failed_write_poisons() {
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        let mut node = node(&disk);
        let before = Model::of(&node.log);
        node.submit(Op::Append(vec![entry(1, 2, 2000)]));
        disk.fail_write(0);
        let with = Model::of(&node.log);
        assert!(node.writer.run_batch().is_err());
        is_poisoned(&mut node);
        for loss in Loss::ALL {
            let image = disk.fork(seed);
            image.power_cut(loss);
            match Node::open(&image) {
                Ok(node) => {
                    let model = Model::of(&node.log);
                    assert!(model == before || model == with, "all of it or nothing: {model:?}");
                }
                // A write that stopped inside of a sector is not among the assumptions about the media; refusing is safe.
                Err(error) => assert!(matches!(error, OpenError::Damaged(_)), "{error}"),
            }
        }
    }
}

/// A log of the disk's last bytes: entries until the log says that it is full. Returns the index behind the last one.
fn fill(node: &mut Node) -> u64 {
    node.disk.set_capacity(Some(20_000));
    let mut index = 2;
    while !node.log.is_full() {
        node.done(Op::Append(vec![entry(1, index, 400)]));
        node.writer.housekeep();
        index += 1;
    }
    index
}

fn is_refused_as_full(node: &Node, index: u64) -> bool {
    let refused = node.log.submit(Op::Append(vec![entry(1, index, 400)]), silent()).unwrap_err();
    refused.error == SubmitError::Full
}

/// A full disk refuses entries while there is still room for all else, and everything that was acknowledged stays.
#[test]
fn a_full_disk_refuses_entries_and_takes_votes() {
    let disk = SimDisk::new(5);
    let mut node = node(&disk);
    let index = fill(&mut node);
    assert!(is_refused_as_full(&node, index) && node.log.metrics().full && node.log.failure().is_none());
    node.done(Op::Vote(vec![2; 20].into()));
    node.done(Op::Truncate { from: index - 1 });
    node.done(Op::Vote(vec![3; 20].into()));
    assert_eq!(node.acknowledged(), node.told().len(), "nothing has failed");
    let model = Model::of(&node.log);
    assert_eq!(model.next(), index - 1);
    disk.power_cut(Loss::Everything);
    let mut node = Node::open(&disk).unwrap();
    assert_eq!(Model::of(&node.log), model);
    node.done(Op::Vote(vec![4; 20].into()));
}

/// Purging makes room on the disk that is full, and the log goes on without a restart; so does room that somebody else makes.
#[test]
fn a_full_disk_that_has_room_again_takes_entries_again() {
    for purges in [true, false] {
        let disk = SimDisk::new(5);
        let mut node = node(&disk);
        let mut index = fill(&mut node);
        assert!(is_refused_as_full(&node, index));
        match purges {
            true => node.done(Op::Purge { up_to: entry(1, index - 1, 0).log_id }),
            false => disk.set_capacity(None),
        }
        for _ in 0..20 {
            node.writer.housekeep();
        }
        assert!(!node.log.is_full(), "purges: {purges}");
        for _ in 0..8 {
            node.done(Op::Append(vec![entry(1, index, 400)]));
            index += 1;
        }
        let model = Model::of(&node.log);
        disk.power_cut(Loss::Everything);
        assert_eq!(Model::of(&Node::open(&disk).unwrap().log), model);
    }
}

/// Who appends to a full log all the same, because nobody can refuse any more, waits; nothing of it is on the media, nothing
/// is lost, and nothing comes before it.
#[test]
fn what_finds_no_room_waits_for_it() {
    for crashes in [false, true] {
        let disk = SimDisk::new(5);
        let mut node = node(&disk);
        let mut index = fill(&mut node);
        let mut model = Model::of(&node.log);
        while !node.writer.is_held_up() {
            assert_eq!(node.acknowledged(), node.told().len());
            model = Model::of(&node.log);
            node.force(Op::Append(vec![entry(1, index, 400)]));
            node.writer.run_batch().unwrap();
            index += 1;
        }
        node.submit(Op::Vote(vec![9].into()));
        let told = node.told().len();
        assert_eq!(node.writer.run_batch().unwrap(), 0);
        node.writer.housekeep();
        assert_eq!((node.told().len(), node.log.failure().is_none()), (told, true), "they wait");
        assert_eq!(node.log.read(index - 1..index, 1).unwrap().len(), 1, "and can be read");
        if crashes {
            disk.power_cut(Loss::Nothing);
            assert_eq!(Model::of(&Node::open(&disk).unwrap().log), model, "what was acknowledged, and no more");
            continue;
        }
        disk.set_capacity(None);
        while node.writer.run_batch().unwrap() > 0 {}
        assert_eq!((node.told().len(), node.acknowledged()), (told + 2, told + 2));
        while node.writer.housekeep() {}
        assert!(!node.log.is_full());
        let model = Model::of(&node.log);
        disk.power_cut(Loss::Everything);
        assert_eq!(Model::of(&Node::open(&disk).unwrap().log), model);
    }
}

/// A log that is closed while the disk is full tells those who wait.
#[test]
fn closing_a_full_log_tells_who_waits() {
    let disk = SimDisk::new(5);
    let mut node = node(&disk);
    let index = fill(&mut node);
    let mut next = index;
    while !node.writer.is_held_up() {
        node.force(Op::Append(vec![entry(1, next, 400)]));
        node.writer.run_batch().unwrap();
        next += 1;
    }
    let acknowledged = node.acknowledged();
    node.writer.close().unwrap();
    let told = node.told();
    assert_eq!(told.len(), acknowledged + 1);
    assert!(matches!(told[acknowledged].1, Err(WalError::Closed)));
}

/// Every call of an opening fails once: the opening says so, and the next one succeeds.
#[test]
fn an_opening_that_fails_can_be_repeated() {
    let disk = SimDisk::new(9);
    drop(node(&disk));
    disk.power_cut(Loss::Nothing);
    let before = Model::of(&Node::open(&disk.fork(0)).unwrap().log);
    for which in 0..2 {
        let image = disk.fork(1);
        image.fail_sync(which);
        assert!(Node::open(&image).is_err(), "sync {which}");
        assert_eq!(Model::of(&Node::open(&image).unwrap().log), before);
    }
    let image = disk.fork(1);
    image.make_unreadable(&Path::new(ROOT).join("wal/0000000001.seg"));
    assert!(matches!(Node::open(&image), Err(OpenError::Disk(_))), "a file that cannot be read is not an empty one");
}

#[test]
fn the_queue_is_bounded_and_votes_have_a_reserve() {
    let disk = SimDisk::new(2);
    let mut node = Node::open_with(&disk, WalOptions { queue_ops_max: 3, ..OPTIONS }).unwrap();
    node.done(Op::Vote(vec![1].into()));
    for index in 1..=3 {
        node.submit(Op::Append(vec![entry(1, index, 1)]));
    }
    let refused = node.log.submit(Op::Append(vec![entry(1, 4, 1)]), silent()).unwrap_err();
    assert!(refused.error.to_string().contains("full"), "{}", refused.error);
    node.submit(Op::Vote(vec![2].into()));
    node.writer.run_batch().unwrap();
    node.submit(Op::Append(vec![entry(1, 4, 1)]));
    node.writer.run_batch().unwrap();
    assert_eq!(node.acknowledged(), 6);
}

fn silent() -> crate::harness::Ack {
    crate::harness::Ack::silent()
}

#[test]
fn whoever_waits_is_told_when_the_writer_goes() {
    let disk = SimDisk::new(2);
    let mut node = node(&disk);
    node.submit(Op::Append(vec![entry(1, 2, 1)]));
    node.writer.write_batch().unwrap();
    node.submit(Op::Append(vec![entry(1, 3, 1)]));
    let log = node.log.clone();
    let told = {
        let Node { writer, told, .. } = node;
        drop(writer);
        told
    };
    let told = told.lock().unwrap().clone();
    let closed = told.iter().filter(|(_, result)| matches!(result, Err(WalError::Closed))).count();
    assert_eq!((told.len(), closed), (4, 2), "{told:?}");
    assert!(matches!(log.failure(), Some(WalError::Closed)));
}

/// Purging bounds the space: whatever was written, only the segments of live entries and the next one are there.
#[test]
fn the_space_is_bounded_by_what_is_live() {
    let disk = SimDisk::new(3);
    let mut node = node(&disk);
    let mut seen = std::collections::BTreeSet::new();
    for index in 2..3000 {
        node.done(Op::Append(vec![entry(1, index, 300)]));
        if index % 30 == 0 {
            node.done(Op::Purge { up_to: entry(1, index - 5, 0).log_id });
        }
        node.writer.housekeep();
        let files = disk.files();
        let segments = files.iter().filter(|path| path.extension().is_some_and(|end| end == "seg")).count();
        assert!(segments <= 6 && files.len() <= 14, "{index}: {files:?}");
        seen.extend(files);
    }
    assert!(seen.len() > 100, "many segments came and went: {}", seen.len());
    disk.power_cut(Loss::Everything);
    let node = Node::open(&disk).unwrap();
    assert_eq!(Model::of(&node.log).entries.len(), 3000 - 1 - 2965);
}

/// Votes alone bound themselves, before anything was purged and whether there are entries or not: what is not live goes.
#[test]
fn the_space_of_votes_is_bounded_without_a_purge() {
    let disk = SimDisk::new(3);
    let mut node = Node::open(&disk).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for term in 1..2000u64 {
        node.done(Op::Vote(term.to_le_bytes().to_vec().into()));
        if term % 300 == 0 {
            // Entries that a new leader takes away again.
            node.done(Op::Append(vec![entry(1, 1, 700), entry(1, 2, 9)]));
            node.done(Op::Truncate { from: 1 });
        }
        node.writer.housekeep();
        node.writer.housekeep();
        let files = disk.files();
        assert!(files.len() <= 8, "{term}: {files:?}");
        seen.extend(files);
        if term % 97 == 0 {
            let image = disk.fork(term);
            image.power_cut(Loss::Everything);
            assert_eq!(Model::of(&Node::open(&image).unwrap().log), Model::of(&node.log));
        }
    }
    assert!(seen.len() > 100, "many segments came and went: {}", seen.len());
}

/// What is prepared while a log closes would only be removed at the next start.
#[test]
fn nothing_is_prepared_while_the_log_closes() {
    let disk = SimDisk::new(1);
    let mut node = node(&disk);
    node.done(Op::Append(vec![entry(1, 2, 3000)]));
    node.writer.close().unwrap();
    assert!(!node.writer.housekeep());
    assert!(!disk.files().contains(&Path::new(ROOT).join("wal/spare")));
}

/// A segment that cannot be removed, or of which that is not durable, stays the oldest: a gap would look like a loss.
#[test]
fn segments_go_in_order_also_when_one_cannot_go() {
    for (failing, one) in (0..6).flat_map(|failing| [(failing, true), (failing, false)]) {
        let disk = SimDisk::new(failing);
        let mut node = node(&disk);
        for index in 2..40 {
            node.done(Op::Append(vec![entry(1, index, 1500)]));
        }
        let segments = disk.files().len();
        node.done(Op::Purge { up_to: entry(1, 38, 0).log_id });
        match (one, failing) {
            (true, which) => disk.fail_name(which),
            (false, count) => disk.fail_names(count),
        }
        for round in 0..12 {
            node.writer.housekeep();
            for (variant, loss) in Loss::ALL.into_iter().enumerate() {
                let image = disk.fork(failing * 7 + variant as u64);
                image.mend();
                image.power_cut(loss);
                let context = format!("{failing} ({one}), round {round}, {loss:?}");
                let log = Node::open(&image).unwrap_or_else(|error| panic!("{context}: {error}")).log;
                assert_eq!(log.extent(), node.log.extent());
            }
        }
        while node.writer.housekeep() {}
        assert!(disk.files().len() < segments / 2, "in the end they are gone: {:?}", disk.files());
    }
}

/// What a prepared segment takes is there for the start on a disk without a free byte.
#[test]
fn a_node_starts_on_a_full_disk_by_what_it_had_prepared() {
    let disk = SimDisk::new(1);
    let mut node = node(&disk);
    node.done(Op::Append(vec![entry(1, 2, 3000)]));
    while node.writer.housekeep() {}
    let before = Model::of(&node.log);
    let spare = Path::new(ROOT).join("wal/spare");
    assert!(disk.files().contains(&spare));
    disk.kill();
    let used: usize = disk.files().iter().filter_map(|path| disk.content(path)).map(|content| content.len()).sum();
    disk.set_capacity(Some(used as u64));
    assert_eq!(Model::of(&Node::open(&disk).unwrap().log), before);
    assert!(!disk.files().contains(&spare));
}

/// While a truncation waits for room, what it takes is still the log: the segments that hold it stay.
#[test]
fn what_waits_for_room_takes_no_segment_away() {
    let disk = SimDisk::new(5);
    let mut node = node(&disk);
    for index in 2..=12 {
        node.done(Op::Append(vec![entry(1, index, 1500)]));
    }
    let model = Model::of(&node.log);
    let used: usize = disk.files().iter().filter_map(|path| disk.content(path)).map(|content| content.len()).sum();
    disk.set_capacity(Some(used as u64));
    node.force(Op::Truncate { from: 1 });
    node.force(Op::Append(vec![entry(2, 1, 7000)]));
    while !node.writer.is_held_up() {
        node.writer.run_batch().unwrap();
    }
    for _ in 0..10 {
        node.writer.housekeep();
    }
    let image = disk.fork(1);
    image.mend();
    image.power_cut(Loss::Nothing);
    assert_eq!(Model::of(&Node::open(&image).unwrap().log), model, "nothing of it is on the media");
    disk.set_capacity(None);
    while node.writer.run_batch().unwrap() > 0 {}
    while node.writer.housekeep() {}
    let model = Model::of(&node.log);
    disk.power_cut(Loss::Everything);
    assert_eq!((Model::of(&Node::open(&disk).unwrap().log), model.next()), (model, 2));
}
