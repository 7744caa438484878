//! Snapshots as files: refused, or exactly what was sealed.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use raftwright::traits::SnapshotContent;
use raftwright_wal::testing::{SimDisk, reseal_snapshot};
use raftwright_wal::{Disk, DiskFile, SnapshotDir, SnapshotError, SnapshotFile};

const DIR: &str = "/node/snapshots";
/// Small blocks, so that small files have many.
const BLOCK: u32 = 16;
/// What is said about the snapshots of the sample.
const META: &[u8] = b"what it stands for";
/// The snapshot that lies there besides, older than most.
const OTHER: (u64, &[u8]) = (0, b"the snapshot before");
/// Numbers up to here are counted on.
const NUMBER_MAX: u64 = u64::MAX - 8;

/// Where the content begins.
const CONTENT_AT: usize = 512;

fn number_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|number| number.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// Index and number that a file has in its name.
type Name = (u64, u64);

fn name_of(bytes: &[u8]) -> Name {
    (number_at(bytes, 32), number_at(bytes, 24))
}

fn path_of((index, number): Name) -> PathBuf {
    Path::new(DIR).join(format!("{index:020}-{number:010}.snap"))
}

fn commit(dir: &SnapshotDir<SimDisk>, index: u64, content: &[u8], meta: &[u8]) -> SnapshotFile<SimDisk> {
    let mut file = dir.create().expect("a disk that works");
    file.write_all(content).expect("a disk that works");
    file.commit(index, meta).expect("a disk that works")
}

fn open(disk: &SimDisk) -> Result<SnapshotDir<SimDisk>, SnapshotError> {
    SnapshotDir::open_on(disk.clone(), DIR, BLOCK)
}

fn content(file: &SnapshotFile<SimDisk>) -> Vec<u8> {
    let mut all = Vec::new();
    file.reader().read_to_end(&mut all).expect("the newest has been verified");
    all
}

/// A disk with the other snapshot, and the files of some: of no bytes, of less than a block, of some blocks, and of one that was
/// written again and became shorter.
fn sample() -> (SimDisk, Vec<Vec<u8>>) {
    let disk = SimDisk::new(1);
    disk.create_dir(Path::new("/node")).expect("a new disk");
    let dir = open(&disk).expect("a new directory");
    drop(commit(&dir, OTHER.0, OTHER.1, META));
    let with_other = disk.fork(2);
    for (index, len) in [(20, 100), (30, 0), (40, 7)] {
        let content: Vec<u8> = (0..len).map(|at: u8| at.wrapping_mul(7)).collect();
        drop(commit(&dir, index, &content, META));
    }
    let mut file = dir.create().expect("a disk that works");
    file.write_all(&[9; 200]).expect("a disk that works");
    file.write_at(33, &[8; 20]).expect("a disk that works");
    drop(file.commit(50, META).expect("a disk that works"));
    let sealed = dir.list().iter().skip(1).map(|info| disk.content(&info.path).expect("it is listed")).collect();
    (with_other, sealed)
}

thread_local! {
    static SAMPLE: (SimDisk, Vec<Vec<u8>>) = sample();
}

/// The first byte: 1 mends lengths and checksums. The file has the name that it says itself.
pub(crate) fn file(data: &[u8]) {
    let Some((flags, bytes)) = data.split_first() else { return };
    let mut bytes = bytes.to_vec();
    let mended = flags & 1 != 0;
    if mended {
        reseal_snapshot(&mut bytes);
    }
    SAMPLE.with(|(disk, sealed)| {
        let disk = disk.fork(3);
        let name = name_of(&bytes);
        let path = path_of(name);
        // A file that takes the place of the other one is no case of its own.
        if disk.content(&path).is_some() {
            return;
        }
        let file = disk.create(&path).expect("a new file");
        file.write_at(&bytes, 0).and_then(|()| file.sync_data()).expect("a disk that works");
        disk.sync_dir(Path::new(DIR)).expect("a disk that works");
        match open(&disk) {
            Ok(dir) => judge(&disk, &dir, name, &bytes, mended || sealed.contains(&bytes)),
            Err(SnapshotError::Version { path: of, needs }) => assert!(mended && of == path && needs > 1),
            Err(error) => panic!("neither of another version nor set aside: {error}"),
        }
    });
}

fn judge(disk: &SimDisk, dir: &SnapshotDir<SimDisk>, name: Name, bytes: &[u8], may_be_whole: bool) {
    let (listed, damaged) = (dir.list(), dir.damaged());
    assert_eq!(listed.len() + damaged.len(), 2, "each is kept or set aside");
    assert!(damaged.iter().all(|damaged| damaged.path == path_of(name)), "the other one is whole");
    let newest = dir.newest().expect("the other one is whole");
    if damaged.is_empty() {
        assert!(may_be_whole, "bytes that nobody sealed are taken for a snapshot");
        let last = listed.iter().map(|info| (info.index, info.number)).max();
        assert_eq!(newest.index().map(|index| (index, newest.number())), last);
    }
    if newest.index() == Some(name.0) && newest.number() == name.1 {
        judge_content(&newest, bytes);
    } else {
        assert_eq!((newest.index(), content(&newest), newest.meta()), (Some(OTHER.0), OTHER.1.to_vec(), META));
    }
    drop(newest);
    if name.1 >= NUMBER_MAX {
        return;
    }
    // What was found does not stand in the way of a next one.
    let last = commit(dir, u64::MAX, b"the snapshot behind", b"");
    assert!(last.number() > name.1);
    drop(last);
    let dir = open(&disk.fork(4)).expect("what was opened once is opened again");
    let newest = dir.newest().expect("there is one");
    assert_eq!((newest.index(), content(&newest)), (Some(u64::MAX), b"the snapshot behind".to_vec()));
    // One that is not the newest any more is not read whole, and may be listed again.
    let older = dir.list().len() - 1;
    assert!(older >= listed.len());
    drop(newest);
    assert_eq!((dir.prune(1).expect("a disk that works"), dir.list().len()), (older, 1));
}

/// It is, at every place, what stands in the file.
fn judge_content(file: &SnapshotFile<SimDisk>, bytes: &[u8]) {
    let len = file.size().expect("it is known") as usize;
    assert_eq!(len as u64, number_at(bytes, 40));
    let expected = &bytes[CONTENT_AT..CONTENT_AT + len];
    assert!(content(file) == expected, "another content than was sealed");
    let block = (number_at(bytes, 12) & u64::from(u32::MAX)) as usize;
    let meta_at = CONTENT_AT + len + 4 * len.div_ceil(block);
    let meta_len = (number_at(bytes, 56) & u64::from(u32::MAX)) as usize;
    assert!(file.meta() == &bytes[meta_at..meta_at + meta_len], "something else is said about it");
    for offset in [0, 1, len / 3, len.saturating_sub(1), len, len + 1] {
        for want in [1, 15, 16, 17, 100] {
            let mut buffer = vec![0; want];
            let got = file.read_at(offset as u64, &mut buffer).expect("all of it has been verified");
            let rest = expected.get(offset..).unwrap_or(&[]);
            assert!(buffer[..got] == rest[..want.min(rest.len())], "{want} bytes at {offset}");
        }
    }
}

/// Bytes of a sealed file are changed: two bytes of the input name a place, the third what is done to it. It is refused, or it is
/// what it was.
pub(crate) fn damage(data: &[u8]) {
    let Some((which, edits)) = data.split_first() else { return };
    SAMPLE.with(|(disk, sealed)| {
        let whole = &sealed[usize::from(which >> 2) % sealed.len()];
        let mut bytes = whole.clone();
        let (edits, [cut @ ..]) = edits.split_at(edits.len() / 3 * 3);
        for edit in edits.chunks_exact(3).take(16) {
            let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % whole.len();
            bytes[at] ^= edit[2];
        }
        match (which & 3, cut) {
            (1, [len, ..]) => bytes.truncate(whole.len().saturating_sub(usize::from(*len))),
            (2, more) => bytes.extend_from_slice(more),
            _ => {}
        }
        let disk = disk.fork(5);
        let name = name_of(whole);
        let file = disk.create(&path_of(name)).expect("a new file");
        file.write_at(&bytes, 0).and_then(|()| file.sync_data()).expect("a disk that works");
        disk.sync_dir(Path::new(DIR)).expect("a disk that works");
        let dir = open(&disk).expect("a version that is not under its checksum is damage");
        judge(&disk, &dir, name, &bytes, bytes == *whole);
    });
}

pub(crate) fn file_seeds() -> Vec<Vec<u8>> {
    SAMPLE.with(|(_, sealed)| {
        sealed.iter().flat_map(|bytes| [0, 1].map(|flags| [&[flags], &bytes[..]].concat())).collect()
    })
}

pub(crate) fn damage_seeds() -> Vec<Vec<u8>> {
    vec![vec![0], vec![4], vec![9, 12, 0, 1, 5], vec![2, 7], vec![12, 40, 0, 255, 40, 0, 255]]
}
