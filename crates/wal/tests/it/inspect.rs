//! Looking at a log while no node runs, and cutting a damaged one. What a node would say and what is shown agree; a cut log
//! is one that the log once was; and a crash in the middle of a repair leaves nothing that a node takes for a log.

use std::path::{Path, PathBuf};

use raftwright_wal::testing::{Loss, SimDisk, reseal_segment};
use raftwright_wal::{
    Content, DataDir, DataDirError, DataDirOptions, Inspector, Item, Op, OpenError, RepairError, RepairIdentity,
    SECTOR, Verdict,
};

use crate::harness::{Model, Node, OPTIONS, ROOT, Step, entry, random_history};

/// The states that a log goes through, entry by entry.
fn states(steps: &[Step]) -> Vec<Model> {
    let mut model = Model::default();
    let mut states = vec![model.clone()];
    for step in steps {
        let Step::Submit(op) = step else { continue };
        let parts = match op {
            Op::Append(entries) => entries.iter().map(|entry| Op::Append(vec![entry.clone()])).collect(),
            Op::Vote(_) | Op::Truncate { .. } | Op::Purge { .. } => vec![op.clone()],
        };
        for part in parts {
            model.apply(&part);
            states.push(model.clone());
        }
    }
    states
}

/// A log on which a random history has run, stopped in order.
fn written(seed: u64, writes: usize) -> (SimDisk, Vec<Model>) {
    let disk = SimDisk::new(seed);
    let (steps, _) = random_history(seed, writes);
    let mut node = Node::open(&disk).unwrap();
    for step in &steps {
        node.step(step).unwrap();
    }
    node.writer.close().unwrap();
    drop(node);
    disk.power_cut(Loss::Everything);
    (disk, states(&steps))
}

fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    let ours = |path: &PathBuf| path.starts_with(ROOT) && path.extension().is_some_and(|extension| extension == "seg");
    disk.files().into_iter().filter(ours).collect()
}

fn look(disk: &SimDisk) -> Inspector<SimDisk> {
    Inspector::open(disk.clone(), Path::new(ROOT)).unwrap()
}

fn items(disk: &SimDisk) -> Vec<Item> {
    let mut items = Vec::new();
    look(disk).walk(&mut |item| items.push(item)).unwrap();
    items
}

/// Everything on the disk, by name.
fn contents(disk: &SimDisk) -> Vec<(PathBuf, Vec<u8>)> {
    disk.files().into_iter().map(|path| (path.clone(), disk.content(&path).unwrap())).collect()
}

#[test]
fn what_is_shown_makes_the_log_again() {
    for seed in 1..30 {
        let (disk, states) = written(seed, 60);
        let before = contents(&disk);
        let mut model = Model::default();
        let mut first = true;
        for item in items(&disk) {
            match item {
                // What was purged with its segments is carried over in the header of the first one that is left.
                Item::Segment(segment) if first => {
                    first = false;
                    model.vote = segment.vote;
                    model.purged = segment.extent.purged;
                }
                Item::Record(record) => match record.content.unwrap() {
                    Content::Vote(vote) => model.vote = vote,
                    Content::Entry(entry) => model.apply(&Op::Append(vec![entry])),
                    Content::Truncate(from) => model.apply(&Op::Truncate { from }),
                    Content::Purge(up_to) => model.apply(&Op::Purge { up_to }),
                    Content::Replace(up_to) => {
                        model.entries.clear();
                        model.purged = Some(up_to);
                    }
                    Content::DamagedEntry { .. } => panic!("nothing is damaged"),
                },
                Item::Segment(_) | Item::Batch(_) | Item::Mark(_) | Item::Seal(_) => {}
                Item::Damage(finding) => panic!("seed {seed}: {finding}"),
                Item::Lost(error) => panic!("seed {seed}: {error}"),
            }
        }
        assert_eq!(Some(&model), states.last(), "seed {seed}");
        let sound = look(&disk).verify().unwrap();
        assert_eq!(sound.findings, []);
        assert_eq!(sound.extent.last.map(|last| last.index + 1), (model.next() > 1).then(|| model.next()));
        assert!(look(&disk).plan_repair().unwrap().is_none());
        assert_eq!(contents(&disk), before, "looking changes nothing");
    }
}

/// Damages the log in one place after the other. What is shown agrees with what a node says; a refused log is cut to
/// what it was before some write, and a node opens it then.
#[test]
fn a_damaged_log_is_shown_and_cut_to_what_it_once_was() {
    let (mut refused, mut whole) = (0, 0);
    for seed in 1..8 {
        let (disk, states) = written(seed, 40);
        for path in segments(&disk) {
            let len = disk.content(&path).unwrap().len();
            for at in (0..len).step_by(97) {
                let image = disk.fork(1);
                image.flip(&path, at as u64, 0x41);
                let context = format!("seed {seed}, {} at {at}", path.display());
                match check(&image, &states, &context) {
                    true => whole += 1,
                    false => refused += 1,
                }
            }
        }
    }
    println!("{refused} damaged logs cut, {whole} opened as they were");
    assert!(refused > 200 && whole > 200, "{refused} {whole}");
}

/// True when a node opens the log as it is.
fn check(image: &SimDisk, states: &[Model], context: &str) -> bool {
    let before = contents(image);
    let said = look(image).verify();
    let shown = items(image);
    assert_eq!(contents(image), before, "{context}: looking changes nothing");
    let opened = Node::open(&image.fork(2));
    assert_eq!(said.as_ref().err().map(ToString::to_string), opened.as_ref().err().map(ToString::to_string));
    let damage = |item: &Item| match item {
        Item::Damage(finding) => finding.verdict != Verdict::Repaired && finding.verdict != Verdict::Cut,
        Item::Lost(_) => true,
        Item::Segment(_) | Item::Batch(_) | Item::Record(_) | Item::Mark(_) | Item::Seal(_) => false,
    };
    let Err(error) = said else {
        let found: Vec<_> = shown.iter().filter(|item| damage(item)).collect();
        assert!(found.is_empty(), "{context}: {found:?}");
        return true;
    };
    assert!(shown.iter().any(damage), "{context}: {error}");
    assert!(error.to_string().contains("raftwright data repair"), "{context}: {error}");

    let plan = look(image).plan_repair().unwrap().unwrap();
    let (done, repaired) = look(image).repair(RepairIdentity::New(77), OPTIONS).unwrap().unwrap();
    assert_eq!(done.kept, plan.kept, "{context}");
    assert_eq!((repaired.identity.node_id, repaired.identity.incarnation), (1, 77), "{context}");
    for (path, bytes) in before {
        let Ok(inside) = path.strip_prefix(ROOT) else { continue };
        if inside != Path::new("LOCK") {
            assert_eq!(image.content(&repaired.copy.join(inside)), Some(bytes), "{context}: {}", path.display());
        }
    }
    let node = Node::open(image).unwrap();
    assert_eq!(node.report.findings, [], "{context}");
    let model = Model::of(&node.log);
    assert!(
        states.iter().any(|state| begins(state, &model)),
        "{context}: {model:?} was never the beginning of the log"
    );
    let last = states.last().unwrap();
    let gone = last.entries.range(model.next()..).next_back().map(|(index, _)| *index);
    assert!(plan.dropped.entries.map(|(_, last)| last) >= gone || gone.is_none() || unreadable(&shown), "{context}");
    false
}

/// Both have the same vote and begin alike, and the second may be shorter.
fn begins(state: &Model, model: &Model) -> bool {
    let same = (&state.vote, state.purged) == (&model.vote, model.purged);
    same && state.entries.iter().zip(&model.entries).all(|(a, b)| a == b) && state.entries.len() >= model.entries.len()
}

/// Something stood there of which nothing can be read.
fn unreadable(items: &[Item]) -> bool {
    items.iter().any(|item| match item {
        Item::Damage(finding) => finding.verdict == Verdict::HeadUnknown,
        Item::Lost(_) => true,
        Item::Segment(_) | Item::Batch(_) | Item::Record(_) | Item::Mark(_) | Item::Seal(_) => false,
    })
}

/// A log of four segments whose second has a damaged entry.
fn damaged() -> SimDisk {
    let disk = SimDisk::new(9);
    let mut node = Node::open(&disk).unwrap();
    node.done(Op::Vote(vec![1].into()));
    for index in 1..=12 {
        node.done(Op::Append(vec![entry(1, index, 1501)]));
    }
    node.log.note_committed(11);
    node.done(Op::Vote(vec![2].into()));
    node.writer.close().unwrap();
    drop(node);
    let paths = segments(&disk);
    assert_eq!(paths.len(), 4);
    let payload = entry(1, 6, 1501).payload;
    let content = disk.content(&paths[1]).unwrap();
    let at = content.windows(1501).position(|bytes| bytes == &payload[..]).unwrap();
    disk.flip(&paths[1], at as u64, 1);
    disk.power_cut(Loss::Everything);
    disk
}

#[test]
fn the_plan_says_what_stays_and_what_goes() {
    let disk = damaged();
    let plan = look(&disk).plan_repair().unwrap().unwrap();
    let OpenError::Damaged(finding) = &plan.refusal else { panic!("{}", plan.refusal) };
    assert_eq!(finding.index, Some(6));
    assert_eq!((plan.kept.first, plan.kept.extent.last.map(|last| last.index)), (1, Some(5)));
    assert_eq!(plan.kept.vote.as_deref(), Some(&[1][..]));
    assert_eq!((plan.dropped.entries, plan.dropped.votes, plan.dropped.committed), (Some((6, 12)), 1, Some(11)));
}

#[test]
fn a_node_keeps_its_identity_only_when_it_is_told_to() {
    let disk = damaged();
    let before = look(&disk).identity().unwrap();
    let stranger = disk.fork(1);
    let (_, repaired) = look(&stranger).repair(RepairIdentity::New(5), OPTIONS).unwrap().unwrap();
    assert_eq!((repaired.identity.incarnation, repaired.identity.cluster_id), (5, before.cluster_id));
    let (_, repaired) = look(&disk).repair(RepairIdentity::Kept(5), OPTIONS).unwrap().unwrap();
    assert_eq!(repaired.identity.incarnation, before.incarnation);
    assert!(repaired.identity.boot_epoch > before.boot_epoch, "older copies stay older");
    assert_eq!(Model::of(&Node::open(&disk).unwrap().log).next(), 6);
}

/// Each repair has a copy of its own, and there is a last one: then nothing is changed until somebody has cleared up.
#[test]
fn the_copies_of_a_directory_are_bounded() {
    use raftwright_wal::Disk as _;
    const MAX: u32 = 1000;
    let copy = |number: u32| PathBuf::from(format!("{ROOT}.damaged-{number}"));
    let disk = damaged();
    (1..MAX).for_each(|number| disk.create_dir(&copy(number)).unwrap());
    let image = disk.fork(1);
    let (_, repaired) = look(&image).repair(RepairIdentity::New(5), OPTIONS).unwrap().unwrap();
    assert_eq!(repaired.copy, copy(MAX));
    disk.create_dir(&copy(MAX)).unwrap();
    let before = contents(&disk);
    let error = look(&disk).repair(RepairIdentity::New(5), OPTIONS).unwrap_err();
    assert!(matches!(error, RepairError::Copies { .. }) && error.to_string().contains("1000"), "{error}");
    assert_eq!(contents(&disk), before);
}

/// The power goes before each step of a repair, and the disk fails at each. Afterwards the directory is what it was, or
/// refused, or repaired; what was there can be had from the copy.
#[test]
fn a_repair_that_is_cut_short_leaves_nothing_that_passes_for_a_log() {
    for identity in [RepairIdentity::New(5), RepairIdentity::Kept(5)] {
        let disk = damaged();
        let (mut crashes, mut repaired) = (0, 0);
        for step in 0.. {
            let image = disk.fork(step);
            let mut inspector = look(&image);
            image.crash_at(step);
            let done = inspector.repair(identity, OPTIONS);
            drop(inspector);
            if !image.is_down() {
                done.unwrap().unwrap();
                break;
            }
            crashes += 1;
            image.power_cut([Loss::Everything, Loss::Nothing, Loss::Sectors][step as usize % 3]);
            match Node::open(&image) {
                Ok(node) => {
                    repaired += 1;
                    assert_eq!(Model::of(&node.log).next(), 6, "step {step}");
                }
                Err(error) => assert!(!matches!(error, OpenError::Disk(_)), "step {step}: {error}"),
            }
        }
        println!("{crashes} crashes, {repaired} of them when the repair was done");
        assert!(crashes > 20 && repaired < crashes / 2, "{crashes} {repaired}");
    }
}

#[test]
fn a_directory_in_use_is_left_alone() {
    let disk = SimDisk::new(1);
    let _node = Node::open(&disk).unwrap();
    let error = Inspector::open(disk, Path::new(ROOT)).unwrap_err();
    assert!(matches!(error, DataDirError::Locked { .. }), "{error}");
}

#[test]
fn what_is_no_data_directory_is_refused() {
    use raftwright_wal::Disk as _;
    let disk = SimDisk::new(1);
    assert!(matches!(Inspector::open(disk.clone(), Path::new("/no")), Err(DataDirError::Disk(_))));
    disk.create_dir(Path::new("/some")).unwrap();
    assert!(matches!(Inspector::open(disk.clone(), Path::new("/some")), Err(DataDirError::NotOurs { .. })));
    assert_eq!(disk.files(), [] as [PathBuf; 0], "and no lock file is left there");
}

/// Without `meta` nobody knows whose log it is: it can be looked at and not repaired.
#[test]
fn a_log_without_an_identity_is_shown_and_not_cut() {
    let disk = damaged();
    for at in [0, SECTOR] {
        disk.flip(&Path::new(ROOT).join("meta"), at as u64, 1);
    }
    assert!(look(&disk).identity().is_err());
    let entries = items(&disk).into_iter().filter(|item| match item {
        Item::Record(record) => record.content.as_ref().and_then(Content::entry_index).is_some(),
        Item::Segment(_) | Item::Batch(_) | Item::Mark(_) | Item::Seal(_) | Item::Damage(_) | Item::Lost(_) => false,
    });
    assert_eq!(entries.count(), 12);
    let error = look(&disk).plan_repair().unwrap_err();
    assert!(matches!(error, RepairError::Impossible(OpenError::DataDir(DataDirError::MetaDamaged { .. }))), "{error}");
}

/// A segment of another node is no damage that cutting could mend.
#[test]
fn foreign_segments_are_not_cut_away() {
    let disk = damaged();
    let other = SimDisk::new(8);
    let dir = DataDir::open(other.clone(), Path::new(ROOT), DataDirOptions { node_id: 2, random: 3 }).unwrap();
    drop(raftwright_wal::open::<_, crate::harness::Ack>(dir.into(), crate::harness::OPTIONS).unwrap().log);
    let first = &segments(&disk)[0];
    disk.overwrite(first, 0, &other.content(first).unwrap());
    let error = look(&disk).plan_repair().unwrap_err();
    assert!(matches!(error, RepairError::Impossible(OpenError::Foreign { node_id: 2, .. })), "{error}");
}

/// A header whose checksums fit may speak of any number of entries before it. None of them is there, so the log is refused;
/// that takes no memory for each.
#[test]
fn a_header_that_speaks_of_endless_entries_takes_no_memory_for_them() {
    for last in [1 << 45, u64::MAX - 1, u64::MAX] {
        let disk = damaged();
        let path = &segments(&disk)[0];
        let mut content = disk.content(path).unwrap();
        // The flags say that there is a last entry; its index is what it never was.
        content[140] |= 16;
        content[128..136].copy_from_slice(&u64::to_le_bytes(last));
        reseal_segment(&mut content);
        disk.overwrite(path, 0, &content);
        let error = Node::open(&disk).err().unwrap();
        assert!(matches!(error, OpenError::Damaged(_) | OpenError::DataLoss { .. }), "{error}");
        assert!(look(&disk).plan_repair().is_ok());
    }
}

/// A segment that is gone leaves a hole; what stands before it stays.
#[test]
fn a_missing_segment_cuts_the_log_before_it() {
    for (lost, next) in [(0, 1), (1, 4), (2, 7), (3, 10)] {
        let disk = damaged();
        let image = disk.fork(1);
        let path = segments(&image)[lost].clone();
        image.lose(&path);
        let plan = look(&image).plan_repair().unwrap().unwrap();
        let (_, repaired) = look(&image).repair(RepairIdentity::New(6), OPTIONS).unwrap().unwrap();
        let kept = plan.kept.extent.last.map_or(1, |last| last.index + 1);
        assert!(kept <= next, "segment {lost}: {plan:?}");
        assert_eq!(repaired.sound.extent, plan.kept.extent);
        assert_eq!(Model::of(&Node::open(&image).unwrap().log).next(), kept);
    }
}
