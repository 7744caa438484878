//! Random histories with stops of every kind, against the model.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use raftwright_wal::testing::{Loss, SimDisk};

use raftwright_wal::Op;

use crate::harness::{Dice, Model, Node, entry, random_op};

#[derive(Clone, Copy, Debug)]
enum Stop {
    Clean,
    Killed,
    PowerCut(Loss),
}

fn stops() -> impl Strategy<Value = Stop> {
    prop_oneof![
        Just(Stop::Clean),
        Just(Stop::Killed),
        prop::sample::select(Loss::ALL.to_vec()).prop_map(Stop::PowerCut),
    ]
}

/// The same histories in every run; `WAL_HISTORIES` asks for more of them.
fn config() -> ProptestConfig {
    let cases = std::env::var("WAL_HISTORIES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(300);
    ProptestConfig { cases, failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() }
}

/// A segment goes although later ones cut into what it held: they carry over what they need to know.
#[test]
fn a_log_that_was_truncated_to_nothing_outlives_its_first_segment() {
    let disk = SimDisk::new(1);
    let mut node = Node::open(&disk).unwrap();
    node.done(Op::Vote(vec![1].into()));
    node.done(Op::Append(vec![entry(1, 1, 3000), entry(1, 2, 3000)]));
    node.done(Op::Append(vec![entry(1, 3, 1500)]));
    node.done(Op::Truncate { from: 1 });
    node.done(Op::Append(vec![entry(2, 1, 10), entry(2, 2, 10)]));
    node.done(Op::Purge { up_to: entry(2, 1, 0).log_id });
    let model = Model::of(&node.log);
    while node.writer.housekeep() {}
    drop(node);
    disk.power_cut(Loss::Everything);
    assert!(!disk.files().iter().any(|path| path.ends_with("0000000001.seg")), "the first segment is gone");
    assert_eq!(Model::of(&Node::open(&disk).unwrap().log), model);
}

proptest! {
    #![proptest_config(config())]

    /// Whatever is written and however the node stops: the log comes back as of its last acknowledged write, and reads
    /// show every write at once.
    #[test]
    fn the_log_is_what_was_written(seed in any::<u64>(), lives in prop::collection::vec((0..25usize, stops()), 1..6)) {
        let disk = SimDisk::new(seed);
        let mut dice = Dice(seed | 1);
        let (mut model, mut term) = (Model::default(), 1);
        for (writes, stop) in lives {
            let mut node = Node::open(&disk).unwrap();
            prop_assert_eq!(&Model::of(&node.log), &model);
            for _ in 0..writes {
                let op = random_op(&mut dice, &model, &mut term);
                model.apply(&op);
                node.submit(op);
                prop_assert_eq!(&Model::of(&node.log), &model, "readable once submitted");
                if dice.roll(2) == 0 {
                    node.writer.run_batch().unwrap();
                    node.writer.housekeep();
                    prop_assert_eq!(&Model::of(&node.log), &model, "readable once written");
                }
            }
            while node.writer.run_batch().unwrap() > 0 {}
            prop_assert_eq!(node.acknowledged(), writes);
            match stop {
                Stop::Clean => {
                    node.writer.close().unwrap();
                    drop(node);
                    disk.power_cut(Loss::Everything);
                    let reopened = Node::open(&disk).unwrap();
                    prop_assert_eq!(reopened.report.findings.len(), 0, "a clean stop leaves nothing to find");
                }
                Stop::Killed => disk.kill(),
                Stop::PowerCut(loss) => disk.power_cut(loss),
            }
        }
    }

    /// No token is completed before the media holds its write: at every acknowledgement an image of the media as the
    /// power cut would leave it is opened, and holds it.
    #[test]
    fn no_token_is_completed_before_the_media_holds_its_write(seed in any::<u64>()) {
        let disk = SimDisk::new(seed);
        let mut dice = Dice(seed | 1);
        let (mut model, mut term) = (Model::default(), 1);
        let mut node = Node::open(&disk).unwrap();
        let mut states = vec![model.clone()];
        for _ in 0..12 {
            let op = random_op(&mut dice, &model, &mut term);
            model.apply(&op);
            states.push(model.clone());
            node.submit(op);
            let before = node.acknowledged();
            if dice.roll(2) == 0 && node.writer.write_batch().unwrap() > 0 {
                prop_assert_eq!(node.acknowledged(), before, "written is not durable");
                node.writer.sync().unwrap();
                prop_assert_eq!(node.acknowledged(), before, "the caller says when to complete");
                node.writer.complete();
            }
            let image = disk.fork(seed);
            image.power_cut(Loss::Everything);
            let remains = Model::of(&Node::open(&image).unwrap().log);
            prop_assert_eq!(&remains, &states[node.acknowledged()], "exactly what was acknowledged");
        }
    }
}
