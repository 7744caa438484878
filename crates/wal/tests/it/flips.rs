//! Every byte of every kind of file is changed in turn, in many ways. Whatever was acknowledged is there, or somebody says
//! that it is not: the opening, or the read of the entry.
//!
//! `RAFTWRIGHT_FLIPS=1000000 cargo test -p raftwright-wal --test it flips -- --nocapture` makes a million images and prints what
//! became of them; without the variable it is a sample.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use raftwright_wal::ReadError;
use raftwright_wal::testing::SimDisk;

use crate::damage::{Stopped, written};
use crate::harness::{Model, Node, ROOT};

/// Images of an ordinary run.
const SAMPLE: u64 = 30_000;
/// Ways to change a byte.
const MASKS: u64 = 255;

/// What became of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// Opened, and everything is there.
    Whole,
    /// The opening refused.
    NotOpened,
    /// Opened, and the read of what is damaged refused.
    NotRead,
}

/// A log to be damaged, and what it holds.
struct Subject {
    disk: SimDisk,
    model: Model,
    committed: Option<u64>,
}

fn subjects() -> Vec<Subject> {
    let mut subjects = Vec::new();
    for stopped in [Stopped::Cleanly, Stopped::ByPowerCut] {
        let (disk, model) = written(stopped);
        let (indexed, same) = written(Stopped::Indexed(matches!(stopped, Stopped::Cleanly)));
        assert!(model == same, "only the indexes are more");
        for disk in [disk, indexed] {
            let committed = Node::open(&disk.fork(0)).unwrap().log.committed();
            subjects.push(Subject { disk, model: model.clone(), committed });
        }
    }
    subjects
}

fn kind(path: &Path) -> String {
    let name = path.extension().or_else(|| path.file_name());
    name.map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn fate(subject: &Subject, path: &Path, offset: u64, mask: u8) -> Fate {
    let context = || format!("{} byte {offset} mask {mask:#04x}", path.display());
    let image = subject.disk.fork(1);
    assert!(image.flip(path, offset, mask), "{}", context());
    let node = match Node::open(&image) {
        Ok(node) => node,
        Err(error) => {
            assert!(error.to_string().contains(ROOT), "{}: {error}", context());
            return Fate::NotOpened;
        }
    };
    let model = &subject.model;
    let extent = node.log.extent();
    let last = model.entries.last_key_value().map(|(_, entry)| entry.log_id).or(model.purged);
    assert!(node.log.vote() == model.vote, "{}: the vote is another one", context());
    assert!((extent.purged, extent.last) == (model.purged, last), "{}: the log ends elsewhere", context());
    assert!(node.log.committed() == subject.committed, "{}: another commit index", context());
    let mut fate = Fate::Whole;
    for (index, entry) in &model.entries {
        match node.log.read(*index..index + 1, 1) {
            Ok(read) => assert!(read == [entry.clone()], "{}: entry {index} is another one", context()),
            Err(ReadError::Damaged { index: named, .. }) if named == *index => fate = Fate::NotRead,
            Err(error) => panic!("{}: {error}", context()),
        }
    }
    fate
}

#[test]
fn no_flip_changes_what_was_acknowledged_without_a_word() {
    let images = std::env::var("RAFTWRIGHT_FLIPS").map_or(SAMPLE, |images| images.parse().unwrap());
    let subjects = subjects();
    // All places, one behind the other: subject, file, length.
    let places: Vec<(usize, PathBuf, u64)> = subjects
        .iter()
        .enumerate()
        .flat_map(|(at, subject)| subject.disk.files().into_iter().map(move |path| (at, path)))
        .map(|(at, path)| (at, path.clone(), subjects[at].disk.content(&path).unwrap().len() as u64))
        .collect();
    let all = places.iter().map(|(_, _, len)| len * MASKS).sum::<u64>();
    let images = images.min(all);
    let mut counts: BTreeMap<(String, Fate), u64> = BTreeMap::new();
    let (mut place, mut begin) = (0, 0);
    for image in 0..images {
        // Spread evenly over all of them, so that a million touch every byte of every file.
        let number = (u128::from(image) * u128::from(all) / u128::from(images)) as u64;
        while number >= begin + places[place].2 * MASKS {
            begin += places[place].2 * MASKS;
            place += 1;
        }
        let (subject, path, _) = &places[place];
        let (offset, mask) = ((number - begin) / MASKS, (number - begin) % MASKS + 1);
        let fate = fate(&subjects[*subject], path, offset, mask as u8);
        *counts.entry((kind(path), fate)).or_default() += 1;
    }
    println!("flips: {images} images of {all} possible ones, over {} bytes in {} files", all / MASKS, places.len());
    for ((kind, fate), count) in &counts {
        println!("  {kind}: {fate:?} {count}");
    }
    for (kind, fate) in [
        ("meta", Fate::Whole),
        ("seg", Fate::Whole),
        ("seg", Fate::NotOpened),
        ("seg", Fate::NotRead),
        ("idx", Fate::Whole),
    ] {
        assert!(counts.contains_key(&(kind.to_owned(), fate)), "{kind} {fate:?}: {counts:?}");
    }
}
