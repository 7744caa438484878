//! The power is cut at every step of a history, under every rule of loss, and during the recovery from that.

use raftwright_wal::testing::{Loss, SimDisk};

use crate::harness::{Model, Node, Step, entry, random_history};
use raftwright_wal::Op;

/// Runs the history until it ends or the machine goes down. Returns how many writes were acknowledged, and how many
/// more the batch in hand may have made durable.
fn run(disk: &SimDisk, steps: &[Step]) -> (usize, usize) {
    let Ok(mut node) = Node::open(disk) else { return (0, 0) };
    let mut submitted = 0;
    for step in steps {
        if let Step::Submit(_) = step {
            submitted += 1;
        }
        // Between two flushes the model may take several batches; each is one of the boundaries that may remain.
        if node.step(step).is_err() || disk.is_down() {
            break;
        }
    }
    (node.acknowledged(), submitted)
}

/// Opens the log and checks that it is one that may remain: nothing acknowledged is missing, nothing is there in part.
fn check(disk: &SimDisk, states: &[Model], acknowledged: usize, submitted: usize, context: &str) -> (Model, Node) {
    let node = Node::open(disk).unwrap_or_else(|error| panic!("{context}: {error}"));
    let model = Model::of(&node.log);
    let allowed = &states[acknowledged..=submitted];
    assert!(allowed.contains(&model), "{context}: {acknowledged}..={submitted} of {model:?}");
    (model, node)
}

fn matrix(seed: u64, writes: usize) -> u64 {
    let (steps, states) = random_history(seed, writes);
    let whole = SimDisk::new(seed);
    let (acknowledged, _) = run(&whole, &steps);
    assert_eq!(acknowledged, writes, "without faults everything is acknowledged");
    let mut images = 0;
    for step in 0..whole.counts().steps() {
        let disk = SimDisk::new(seed);
        disk.crash_at(step);
        let (acknowledged, submitted) = run(&disk, &steps);
        assert!(disk.is_down(), "step {step} was reached");
        for (loss, variants) in [(Loss::Everything, 1), (Loss::Nothing, 1), (Loss::Prefix, 3), (Loss::Sectors, 5)] {
            for variant in 0..variants {
                let context = format!("seed {seed}, step {step}, {loss:?} {variant}");
                let image = disk.fork(step * 31 + variant);
                image.power_cut(loss);
                images += 1 + crash_in_recovery(&image, &states, acknowledged, submitted, &context, variant == 0);
                let (model, mut node) = check(&image, &states, acknowledged, submitted, &context);
                go_on(&mut node, &model, &context);
                drop(node);
                image.power_cut(Loss::Everything);
                let again = Model::of(&Node::open(&image).unwrap_or_else(|error| panic!("{context}: {error}")).log);
                let mut expected = model;
                extra(&expected.clone()).iter().for_each(|op| expected.apply(op));
                assert_eq!(again, expected, "{context}: the second recovery");
            }
        }
    }
    images
}

fn extra(model: &Model) -> Vec<Op> {
    vec![Op::Vote(vec![77; 9].into()), Op::Append(vec![entry(99, model.next(), 50)])]
}

/// A recovered log takes writes again.
fn go_on(node: &mut Node, model: &Model, context: &str) {
    for op in extra(model) {
        node.submit(op);
        node.writer.run_batch().unwrap_or_else(|error| panic!("{context}: {error}"));
    }
}

/// Cuts the power at every step of the recovery from an image. What remains must be what would have remained without.
fn crash_in_recovery(
    image: &SimDisk,
    states: &[Model],
    acknowledged: usize,
    submitted: usize,
    context: &str,
    all_rules: bool,
) -> u64 {
    let mut images = 0;
    for step in 0.. {
        let first = image.fork(step);
        first.crash_at(step);
        let opened = Node::open(&first).is_ok();
        if opened && !first.is_down() {
            return images;
        }
        for loss in if all_rules { &Loss::ALL[..] } else { &[Loss::Sectors] } {
            let second = first.fork(step * 7 + 1);
            second.power_cut(*loss);
            check(&second, states, acknowledged, submitted, &format!("{context}, recovery step {step}, {loss:?}"));
            images += 1;
        }
    }
    images
}

fn the_power_may_be_cut_anywhere(seed: u64) {
    let images = matrix(seed, 30);
    println!("crash images of history {seed}: {images}");
    assert!(images > 10_000, "{images} images are too few to mean anything");
}

#[test]
fn the_power_may_be_cut_anywhere_in_history_1() {
    the_power_may_be_cut_anywhere(1);
}

#[test]
fn the_power_may_be_cut_anywhere_in_history_2() {
    the_power_may_be_cut_anywhere(2);
}

#[test]
fn the_power_may_be_cut_anywhere_in_history_3() {
    the_power_may_be_cut_anywhere(3);
}

/// Each write and each sync of a history fails once: it is said so, and whatever was acknowledged before is there when the
/// power goes behind it. An error that was swallowed would leave a hole under something acknowledged.
#[test]
fn no_call_fails_in_silence() {
    let seed = 12;
    let (steps, states) = random_history(seed, 30);
    let whole = SimDisk::new(seed);
    assert_eq!(run(&whole, &steps).0, 30);
    let counts = whole.counts();
    let writes = (0..counts.writes).map(|which| ("write", which));
    let anywhere = (0..counts.writes).flat_map(|which| [("write anywhere", which); 4]);
    let syncs = (0..counts.syncs).map(|which| ("sync", which));
    let (mut reached, mut said) = (0, 0);
    for (variant, (call, which)) in writes.chain(anywhere).chain(syncs).enumerate() {
        let disk = SimDisk::new(variant as u64);
        match call {
            "write" => disk.fail_write(which),
            "write anywhere" => disk.fail_write_anywhere(which),
            _ => disk.fail_sync(which),
        }
        let (acknowledged, submitted) = run(&disk, &steps);
        let context = format!("{call} {which} fails");
        // What makes room is counted with the writes, and does not fail so.
        if disk.counts().faults == 0 {
            continue;
        }
        reached += 1;
        said += u64::from(acknowledged < steps.iter().filter(|step| matches!(step, Step::Submit(_))).count());
        disk.mend();
        for loss in Loss::ALL {
            let image = disk.fork(which);
            image.power_cut(loss);
            check(&image, &states, acknowledged, submitted, &format!("{context}, {loss:?}"));
        }
    }
    // What is not part of the log, an index that is written beside it, may fail and be made again.
    assert!(reached > 50 && said > reached / 2, "{said} of {reached} failures ended the run");
}

/// The end of the process alone loses nothing that was written, but what was not synced may still be lost later. What a
/// start reports must be durable by then.
#[test]
fn what_a_start_reports_is_durable() {
    let (steps, states) = random_history(11, 30);
    let whole = SimDisk::new(11);
    run(&whole, &steps);
    for step in 0..whole.counts().steps() {
        let disk = SimDisk::new(11);
        disk.crash_at(step);
        let (acknowledged, submitted) = run(&disk, &steps);
        disk.kill();
        let (first, node) = check(&disk, &states, acknowledged, submitted, &format!("step {step}, killed"));
        drop(node);
        disk.power_cut(Loss::Everything);
        let (second, _) = check(&disk, &states, acknowledged, submitted, &format!("step {step}, then cut"));
        assert_eq!(first, second, "step {step}: reported at one start, gone at the next");
    }
}

/// The one call that writes a batch and makes it durable takes its time. Whatever ends during it, the process or the power, nothing of
/// the batch was promised, and any part of it may be there; when it has ended, all of the batch stays.
#[test]
fn a_batch_is_promised_when_its_durable_write_has_ended_and_not_before() {
    let (steps, states) = random_history(14, 30);
    let flushes = steps.iter().filter(|step| matches!(step, Step::Flush)).count();
    let mut torn = 0;
    for last in 0..flushes {
        let disk = SimDisk::new(14);
        disk.let_writes_take_time();
        let mut node = Node::open(&disk).unwrap();
        let (mut flushed, mut submitted, mut taken) = (0, 0, 0);
        for step in &steps {
            submitted += usize::from(matches!(step, Step::Submit(_)));
            if !matches!(step, Step::Flush) {
                node.step(step).unwrap();
                continue;
            }
            taken = node.writer.write_batch_durably().unwrap();
            if flushed == last {
                break;
            }
            flushed += 1;
            disk.end_writes();
            node.writer.complete();
        }
        let acknowledged = node.acknowledged();
        for (variant, loss) in (0..20).zip([None].into_iter().chain(Loss::ALL.map(Some)).cycle()) {
            let context = format!("flush {last}, {loss:?} {variant}");
            let image = disk.fork(variant);
            loss.map_or_else(|| image.kill(), |loss| image.power_cut(loss));
            let (seen, node) = check(&image, &states, acknowledged, submitted, &context);
            torn += usize::from(!node.report.findings.is_empty());
            drop(node);
            image.power_cut(Loss::Everything);
            assert_eq!(check(&image, &states, acknowledged, submitted, &context).0, seen, "{context}: and then cut");
        }
        disk.end_writes();
        disk.power_cut(Loss::Everything);
        check(&disk, &states, acknowledged + taken, submitted, &format!("flush {last}, ended"));
    }
    assert!(torn > 50, "{torn} of the images held parts of a batch");
}

/// The same seed gives the same bytes, torn writes included.
#[test]
fn the_same_seed_gives_the_same_bytes() {
    let run_once = |seed| {
        let (steps, _) = random_history(seed, 40);
        let disk = SimDisk::new(seed);
        disk.crash_at(150);
        run(&disk, &steps);
        disk.power_cut(Loss::Sectors);
        let files = disk.files();
        let contents: Vec<_> = files.iter().map(|path| disk.durable_content(path)).collect();
        (files, contents, disk.counts())
    };
    assert!((1..6).all(|seed| run_once(seed) == run_once(seed)));
    assert_ne!(run_once(1).1, run_once(2).1);
}

/// A commit index is true of the log that it was noted for: a batch that is written without a later one must not say it of
/// the entries that the later one replaces.
#[test]
fn a_commit_index_never_speaks_of_entries_that_were_replaced() {
    let old = |index| entry(1, index, 3000);
    let new = |index| entry(2, index, 3000);
    for step in 0.. {
        let disk = SimDisk::new(step);
        let mut node = Node::open(&disk).unwrap();
        node.done(Op::Vote(vec![1].into()));
        // The batches of the queue below have about 3, 9 and 3 thousand bytes: one of them rolls over.
        node.submit(Op::Append(vec![old(1), old(2)]));
        node.submit(Op::Append(vec![old(3), old(4)]));
        node.submit(Op::Vote(vec![2].into()));
        node.submit(Op::Truncate { from: 1 });
        node.submit(Op::Append(vec![new(1), new(2)]));
        node.submit(Op::Append(vec![new(3)]));
        node.log.note_committed(3);
        disk.crash_at(step);
        while !disk.is_down() && node.writer.run_batch().is_ok_and(|taken| taken > 0) {}
        let done = !disk.is_down();
        disk.power_cut(Loss::Nothing);
        let log = Node::open(&disk).unwrap().log;
        let committed = log.committed().unwrap_or(0);
        let replaced: Vec<_> = (1..=committed).filter(|index| log.log_id(*index) != Some(new(*index).log_id)).collect();
        assert!(replaced.is_empty(), "step {step}: committed {committed}, but {replaced:?} are others");
        if done {
            assert_eq!(committed, 3, "in the end it is on the media");
            break;
        }
    }
}

/// Others may have committed more than this log holds. What it says on the media is true of its own entries only: those that
/// come later may be another leader's for a while.
#[test]
fn a_commit_index_speaks_of_no_entry_that_the_log_does_not_hold() {
    let disk = SimDisk::new(1);
    let mut node = Node::open(&disk).unwrap();
    node.log.note_committed(9);
    node.done(Op::Vote(vec![1].into()));
    let committed = |disk: &SimDisk| {
        let image = disk.fork(1);
        image.power_cut(Loss::Everything);
        Node::open(&image).unwrap().log.committed()
    };
    assert_eq!(committed(&disk), None);
    for index in 1..=12 {
        node.done(Op::Append(vec![entry(1, index, 900)]));
        assert_eq!(committed(&disk), Some(index.min(9)), "in trailers and in the heads of segments");
    }
    assert!(node.log.metrics().segments > 1);
}

/// A segment header is written before the batch that it is made for, and says nothing that only that batch makes true.
#[test]
fn a_segment_header_knows_no_commit_index_of_a_batch_that_was_lost() {
    for step in 0..12 {
        let disk = SimDisk::new(step);
        let mut node = Node::open(&disk).unwrap();
        node.done(Op::Vote(vec![1].into()));
        node.done(Op::Append(vec![entry(1, 1, 3000)]));
        // The next one does not fit into the segment. It is lost, and another leader's entries take its place.
        node.submit(Op::Append(vec![entry(2, 2, 5000)]));
        node.log.note_committed(2);
        disk.crash_at(step);
        let lost = node.writer.run_batch().is_err();
        disk.power_cut(Loss::Everything);
        let mut node = Node::open(&disk).unwrap();
        if !lost || node.log.extent().last != Some(entry(1, 1, 0).log_id) {
            continue;
        }
        node.done(Op::Append(vec![entry(1, 2, 3000)]));
        node.done(Op::Purge { up_to: entry(1, 1, 0).log_id });
        while node.writer.housekeep() {}
        drop(node);
        disk.power_cut(Loss::Everything);
        let log = Node::open(&disk).unwrap().log;
        assert!(log.committed() < Some(2), "step {step}: {:?} is not committed", log.log_id(2));
    }
}
