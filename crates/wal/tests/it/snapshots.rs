//! Snapshots as files: whole or not there, every byte checked, and nothing removed that somebody uses.

use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use raftwright_traits::SnapshotContent;
use raftwright_traits::crc32c;
use raftwright_wal::testing::{Loss, SimDisk};
use raftwright_wal::{Disk, SNAPSHOT_BLOCK_BYTES, SnapshotDir, SnapshotError, SnapshotFile};

const DIR: &str = "/node/snapshots";
/// Small blocks, so that small files have many.
const BLOCK: u32 = 16;

fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

fn open(disk: &SimDisk) -> Result<SnapshotDir<SimDisk>, SnapshotError> {
    SnapshotDir::open_on(disk.clone(), DIR, BLOCK)
}

fn sim_disk() -> SimDisk {
    let disk = SimDisk::new(1);
    disk.create_dir(Path::new("/node")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk
}

fn content<D: Disk>(file: &SnapshotFile<D>) -> Vec<u8> {
    let mut all = Vec::new();
    file.reader().read_to_end(&mut all).unwrap();
    all
}

fn commit(dir: &SnapshotDir<SimDisk>, index: u64, content: &[u8]) -> Result<(), SnapshotError> {
    let mut file = dir.create()?;
    for (at, part) in (0..).step_by(7).zip(content.chunks(7)) {
        let written = file.write_at(at, part);
        written.map_err(|_| SnapshotError::Broken { path: PathBuf::new() })?;
    }
    file.commit(index, format!("meta {index}").as_bytes()).map(drop)
}

/// Index and content of the newest.
fn newest(dir: &SnapshotDir<SimDisk>) -> Option<(u64, Vec<u8>)> {
    dir.newest().map(|file| {
        assert_eq!(file.meta(), format!("meta {}", file.index().unwrap()).as_bytes());
        (file.index().unwrap(), content(&file))
    })
}

#[test]
fn a_snapshot_is_read_back_from_the_file_system_at_any_place() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("snapshots");
    let expected = bytes(3 * SNAPSHOT_BLOCK_BYTES as usize + 1234, 1);
    let dir = SnapshotDir::open(&path).unwrap();
    assert!(dir.newest().is_none());
    let mut writer = BufWriter::new(dir.create().unwrap());
    for part in expected.chunks(1000) {
        writer.write_all(part).unwrap();
    }
    let file = writer.into_inner().unwrap();
    assert_eq!((file.index(), file.meta(), file.len()), (None, &[][..], expected.len() as u64));
    assert_eq!(content(&file), expected, "a content is readable while it is written");
    let file = file.commit(77, b"what it is").unwrap();
    assert_eq!(content(&file), expected);
    drop(file);
    drop(dir);

    let dir = SnapshotDir::open(&path).unwrap();
    let file = dir.newest().unwrap();
    assert_eq!(
        (file.index(), file.meta(), file.size().unwrap()),
        (Some(77), &b"what it is"[..], expected.len() as u64)
    );
    file.verify().unwrap();
    let block = u64::from(SNAPSHOT_BLOCK_BYTES);
    let end = expected.len() as u64;
    for offset in [0, 1, block - 1, block, block + 1, 3 * block, end - 1, end, end + 1, u64::MAX] {
        for len in [0, 1, 100, SNAPSHOT_BLOCK_BYTES as usize, 5 * SNAPSHOT_BLOCK_BYTES as usize] {
            let mut buffer = vec![0; len];
            let count = file.read_at(offset, &mut buffer).unwrap();
            let rest = usize::try_from(offset).ok().and_then(|at| expected.get(at..)).unwrap_or_default();
            assert_eq!(buffer[..count], rest[..len.min(rest.len())], "{len} at {offset}");
        }
    }
    let mut file = file;
    assert!(file.write_at(0, b"x").is_err(), "a committed one stays as it is");
    let again = file.commit(1, b"").unwrap();
    assert_eq!((again.index(), again.meta()), (Some(77), &b"what it is"[..]));
    assert_eq!(dir.list().len(), 1);
}

#[test]
fn written_again_means_written_over() {
    let disk = sim_disk();
    let dir = open(&disk).unwrap();
    let mut random = 7_u64;
    let mut below = |bound: usize| {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (random >> 33) as usize % bound
    };
    for round in 0..200 {
        let mut file = dir.create().unwrap();
        let mut model: Vec<u8> = Vec::new();
        for step in 0..below(30) {
            let at = below(model.len() + 1);
            let part = bytes(below(60), (round * 100 + step) as u64);
            file.write_at(at as u64, &part).unwrap();
            model.truncate(at);
            model.extend_from_slice(&part);
            assert_eq!(content(&file), model);
        }
        let error = file.write_at(model.len() as u64 + 1, b"x").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "no gaps");
        file.commit(round as u64, format!("meta {round}").as_bytes()).unwrap();
        assert_eq!(newest(&open(&disk.fork(2)).unwrap()), Some((round as u64, model)));
    }
}

/// What a history did before the machine went down.
#[derive(Debug, Default)]
struct Done {
    acknowledged: Option<(u64, Vec<u8>)>,
    /// A commit that was begun and not acknowledged.
    begun: Option<(u64, Vec<u8>)>,
}

/// Snapshots are committed, given up, pruned. Ends at the first error.
fn history(disk: &SimDisk, done: &mut Done) -> Result<(), SnapshotError> {
    let dir = open(disk)?;
    for index in [10, 20, 30] {
        let content = bytes(index as usize * 3, index);
        done.begun = Some((index, content.clone()));
        commit(&dir, index, &content)?;
        done.acknowledged = done.begun.take();
        let mut given_up = dir.create()?;
        let written = given_up.write_at(0, &content);
        drop(given_up);
        written.map_err(|_| SnapshotError::Broken { path: PathBuf::new() })?;
        dir.prune(1)?;
    }
    let dir = open(disk)?;
    done.begun = Some((30, bytes(5, 5)));
    commit(&dir, 30, &bytes(5, 5))?;
    done.acknowledged = done.begun.take();
    Ok(())
}

/// What must hold after any crash.
fn check(image: &SimDisk, done: &Done, context: &str) {
    let dir = open(image).unwrap();
    let found = newest(&dir);
    assert!(found == done.acknowledged || (done.begun.is_some() && found == done.begun), "{context}: {found:?}");
    assert!(dir.damaged().is_empty(), "{context}: {:?}", dir.damaged());
    for info in dir.list() {
        assert!(info.path.to_string_lossy().ends_with(".snap"), "{context}");
    }
    let files = image.files();
    assert_eq!(files.len(), dir.list().len(), "{context}: {files:?}: nothing is left of what was not committed");
}

#[test]
fn a_crash_at_any_step_leaves_the_old_snapshot_or_the_new() {
    let whole = sim_disk();
    let before = whole.counts().steps();
    let mut done = Done::default();
    history(&whole, &mut done).unwrap();
    let steps = whole.counts().steps() - before;
    let mut images = 0;
    for step in 0..=steps {
        let disk = sim_disk();
        disk.crash_at(step);
        let mut done = Done::default();
        let ended = history(&disk, &mut done);
        assert_eq!(ended.is_err(), step < steps, "step {step}");
        for loss in Loss::ALL {
            for seed in 0..4 {
                let image = disk.fork(seed);
                image.power_cut(loss);
                let context = format!("step {step}, {loss:?}, seed {seed}");
                // And a crash while what the first one left is cleared up.
                for second in 0..4 {
                    let image = image.fork(seed);
                    image.crash_at(second);
                    if open(&image).is_err() {
                        image.power_cut(loss);
                    }
                    image.kill();
                    check(&image, &done, &format!("{context}, then step {second}"));
                    images += 1;
                }
                check(&image, &done, &context);
                check(&image, &done, &format!("{context}, again"));
                images += 1;
            }
        }
    }
    assert!(images > 5000, "{images} images of {steps} steps");
}

#[test]
fn a_failing_disk_fails_the_commit_and_nothing_half_done_is_found() {
    let old = (10, bytes(40, 1));
    let new = (20, bytes(70, 2));
    let committed = || {
        let disk = sim_disk();
        commit(&open(&disk).unwrap(), old.0, &old.1).unwrap();
        disk
    };
    let mut failures = 0;
    for (what, which) in (0..30).flat_map(|which| [("write", which), ("sync", which), ("names", which)]) {
        let disk = committed();
        let dir = open(&disk).unwrap();
        match what {
            "write" => disk.fail_write(which),
            "sync" => disk.fail_sync(which),
            _ => disk.fail_names(which),
        }
        let result = commit(&dir, new.0, &new.1);
        failures += usize::from(result.is_err());
        disk.fail_names(0);
        let expected = if result.is_ok() { &new } else { &old };
        assert_eq!(newest(&dir).as_ref(), Some(expected), "{what} {which}: the running process");
        // Of a file whose sync failed nobody knows what the media has; it was never renamed.
        disk.power_cut(Loss::Everything);
        let found = newest(&open(&disk).unwrap());
        assert!(found.as_ref() == Some(expected), "{what} {which}: {found:?} after a restart");
    }
    assert!(failures > 12, "only {failures} calls failed");
    // A full disk: an error, and room again is enough.
    let disk = committed();
    let dir = open(&disk).unwrap();
    disk.set_capacity(Some(700));
    commit(&dir, new.0, &bytes(1000, 3)).unwrap_err();
    disk.set_capacity(None);
    commit(&dir, new.0, &new.1).unwrap();
    assert_eq!(newest(&dir), Some(new));
}

#[test]
fn any_flipped_byte_and_any_cut_is_found() {
    let disk = sim_disk();
    let dir = open(&disk).unwrap();
    let (old, new) = ((10, bytes(50, 1)), (20, bytes(100, 2)));
    commit(&dir, old.0, &old.1).unwrap();
    commit(&dir, new.0, &new.1).unwrap();
    let path = dir.list().pop().unwrap().path;
    let len = disk.content(&path).unwrap().len() as u64;
    assert_eq!(len, 512 + 100 + 7 * 4 + 7);
    let is_refused = |image: &SimDisk, context: &str| {
        let dir = open(image).unwrap();
        assert_eq!(newest(&dir), Some(old.clone()), "{context}: the one before it takes its place");
        let damaged = dir.damaged();
        assert_eq!(damaged.len(), 1, "{context}");
        assert!(damaged[0].error.to_string().contains(&*path.to_string_lossy()), "{context}: {}", damaged[0].error);
        // A new one takes no harm from it.
        commit(&dir, 30, b"fresh").unwrap();
        assert_eq!(newest(&open(image).unwrap()), Some((30, b"fresh".to_vec())), "{context}");
    };
    for at in 0..len {
        for mask in [1, 0x80, 0xff] {
            let image = disk.fork(3);
            assert!(image.flip(&path, at, mask));
            is_refused(&image, &format!("byte {at} by {mask:#x}"));
        }
        let image = disk.fork(3);
        image.shorten(&path, at);
        is_refused(&image, &format!("cut to {at}"));
    }
    let image = disk.fork(3);
    let longer = image.open(&path).unwrap();
    raftwright_wal::DiskFile::write_at(&longer, &[0], len).unwrap();
    is_refused(&image, "a byte longer");
    // The file of another snapshot under this name.
    let image = disk.fork(3);
    let other = dir.list().remove(0).path;
    image.rename(&other, &path).unwrap();
    let dir = open(&image).unwrap();
    assert!(dir.newest().is_none());
    assert_eq!(dir.damaged().len(), 1);
}

#[test]
fn damage_behind_the_back_of_a_running_process_is_found_when_it_is_read() {
    let disk = sim_disk();
    let dir = open(&disk).unwrap();
    commit(&dir, 10, &bytes(100, 1)).unwrap();
    let file = dir.newest().unwrap();
    let path = dir.list().pop().unwrap().path;
    // In the third block of sixteen bytes.
    assert!(disk.flip(&path, 512 + 35, 4));
    let mut buffer = [0; 100];
    assert_eq!(file.read_at(0, &mut buffer[..32]).unwrap(), 32);
    assert_eq!(file.read_at(48, &mut buffer).unwrap(), 52);
    for (at, len) in [(32, 1), (47, 1), (0, 100), (30, 3)] {
        let error = file.read_at(at, &mut buffer[..len]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{at}");
    }
    assert!(matches!(file.verify(), Err(SnapshotError::Damaged { .. })));
}

#[test]
fn what_somebody_uses_is_not_removed() {
    let disk = sim_disk();
    let dir = open(&disk).unwrap();
    for index in [30, 10, 20, 40, 40] {
        commit(&dir, index, &bytes(50, index)).unwrap();
    }
    let list: Vec<_> = dir.list().into_iter().map(|info| (info.index, info.number, info.size, info.in_use)).collect();
    let expected = [(10, 2, 50, false), (20, 3, 50, false), (30, 1, 50, false), (40, 4, 50, false), (40, 5, 50, false)];
    assert_eq!(list, expected, "by index, and then by number");
    let newest = dir.newest().unwrap();
    assert_eq!(newest.number(), 5);
    assert_eq!(dir.prune(3).unwrap(), 2);
    let draft = dir.create().unwrap();
    commit(&dir, 50, &bytes(50, 50)).unwrap();
    // Being sent, though no longer the newest.
    assert_eq!(dir.prune(0).unwrap(), 2);
    let left: Vec<_> = dir.list().into_iter().map(|info| (info.index, info.in_use)).collect();
    assert_eq!(left, [(40, true), (50, false)]);
    assert_eq!(content(&newest), bytes(50, 40));
    drop(newest);
    assert_eq!(dir.prune(1).unwrap(), 1);
    assert_eq!(dir.prune(1).unwrap(), 0);
    assert_eq!(disk.files().len(), 2, "the newest and what is being written");
    drop(draft);
    assert_eq!(disk.files().len(), 1);
    // A prune is durable.
    disk.power_cut(Loss::Everything);
    assert_eq!(open(&disk).unwrap().list().len(), 1);
}

/// A file of version 1, for ever: a content of two blocks and a bit, committed with index 9.
#[test]
fn version_1_of_a_snapshot_is_these_bytes() {
    let disk = sim_disk();
    let dir = open(&disk).unwrap();
    let mut file = dir.create().unwrap();
    file.write_all(b"0123456789abcdef0123456789abcdef!").unwrap();
    file.commit(9, b"meta").unwrap();
    let path = Path::new(DIR).join("00000000000000000009-0000000001.snap");
    let found = disk.content(&path).unwrap();
    let checksum = |position: u64, bytes: &[u8]| {
        let place = [&1_u64.to_le_bytes()[..], &position.to_le_bytes(), &[0; 4]].concat();
        crc32c::crc32c_append(crc32c::crc32c(&place), bytes).to_le_bytes()
    };
    let tail =
        [&checksum(512, b"0123456789abcdef")[..], &checksum(528, b"0123456789abcdef"), &checksum(544, b"!"), b"meta"]
            .concat();
    let mut golden = [
        &b"RWSNAP\r\n"[..],
        &[1, 0, 1, 0],              // version, version that a reader must know
        &[16, 0, 0, 0],             // bytes in a block
        &[0, 0, 0, 0, 0, 0, 0, 0],  // features
        &[1, 0, 0, 0, 0, 0, 0, 0],  // number
        &[9, 0, 0, 0, 0, 0, 0, 0],  // index
        &[33, 0, 0, 0, 0, 0, 0, 0], // bytes of content
        &[16, 0, 0, 0, 0, 0, 0, 0], // bytes of the tail
        &[4, 0, 0, 0],              // of which the application's are
        &checksum(545, &tail),
    ]
    .concat();
    golden.resize(508, 0);
    let sum = checksum(0, &golden);
    golden.extend_from_slice(&sum);
    golden.extend_from_slice(b"0123456789abcdef0123456789abcdef!");
    golden.extend_from_slice(&tail);
    assert_eq!(found, golden);
    assert_eq!(found[60..64], [0xc7, 0x44, 0x6a, 0xef], "the checksums themselves");

    // What a later release writes is not misread: version, feature bit.
    for (at, value) in [(10, 2), (16, 1)] {
        let image = disk.fork(1);
        let mut header = golden[..508].to_vec();
        header[at] = value;
        let sum = checksum(0, &header);
        image.overwrite(&path, 0, &[&header[..], &sum].concat());
        let error = open(&image).unwrap_err();
        assert!(matches!(error, SnapshotError::Version { needs: 2, .. }), "{error}");
    }
    // Lengths that cannot be, under a good checksum: refused before memory is set aside.
    for (at, value) in [(12, 0_u64), (32 + 8, u64::MAX), (32 + 16, u64::MAX), (40, 32), (48, 0), (56, 13)] {
        let image = disk.fork(1);
        let mut header = golden[..508].to_vec();
        let len = if at == 12 || at == 56 { 4 } else { 8 };
        header[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
        let sum = checksum(0, &header);
        image.overwrite(&path, 0, &[&header[..], &sum].concat());
        let dir = open(&image).unwrap();
        assert!(dir.newest().is_none() && dir.damaged().len() == 1, "{at}: {value}");
    }
}

#[test]
fn what_is_said_about_a_snapshot_has_a_bound() {
    const MAX: usize = 16 << 20;
    let disk = sim_disk();
    let dir = open(&disk).unwrap();
    let error = dir.create().unwrap().commit(1, &vec![0; MAX + 1]).unwrap_err();
    assert!(matches!(error, SnapshotError::MetaTooLong { .. }));
    assert_eq!(disk.files(), Vec::<PathBuf>::new());
    dir.create().unwrap().commit(1, &vec![1; MAX]).unwrap();
    assert_eq!(open(&disk).unwrap().newest().unwrap().meta().len(), MAX);
}

/// A directory that is to have longer blocks has blocks of the longest that there are.
#[test]
fn blocks_have_a_bound() {
    const MAX: u32 = 16 << 20;
    for (asked, is) in [(0, 1), (MAX, MAX), (MAX + 1, MAX), (u32::MAX, MAX)] {
        let disk = sim_disk();
        let dir = SnapshotDir::open_on(disk.clone(), DIR, asked).unwrap();
        commit(&dir, 10, b"content").unwrap();
        let file = disk.content(&dir.list()[0].path).unwrap();
        assert_eq!(u32::from_le_bytes(file[12..16].try_into().unwrap()), is);
        assert_eq!(newest(&SnapshotDir::open_on(disk, DIR, BLOCK).unwrap()), Some((10, b"content".to_vec())));
    }
}

#[test]
fn foreign_files_are_left_alone() {
    let disk = sim_disk();
    let dir = open(&disk).unwrap();
    commit(&dir, 10, b"content").unwrap();
    for name in ["README", "x.tmp", ".tmp", "1-2-3.snap", "-.snap", "99999999999999999999999-1.snap", "1.snap"] {
        disk.create(&Path::new(DIR).join(name)).unwrap();
    }
    let before = disk.files();
    let dir = open(&disk).unwrap();
    assert_eq!(newest(&dir), Some((10, b"content".to_vec())));
    assert_eq!(dir.damaged().len(), 0);
    assert_eq!(disk.files(), before);
}
