//! The log: its files as anybody's bytes, with and without checksums that fit.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use raftwright_wal::testing::{Loss, SimDisk, reseal_meta, reseal_segment};
use raftwright_wal::{
    Completion, DataDir, DataDirOptions, Disk, DiskFile, Inspector, Log, Op, OpenError, Opened, RawEntry, RawLogId,
    RepairIdentity, SEGMENT_BYTES_MIN, Verdict, WalError, WalOptions, Writer, open,
};

pub(crate) const ROOT: &str = "/node";
const ME: DataDirOptions = DataDirOptions { node_id: 1, random: 99 };
const OPTIONS: WalOptions = WalOptions {
    segment_bytes: SEGMENT_BYTES_MIN,
    first_segment_bytes: 4 << 20,
    batch_bytes_max: 4096,
    queue_bytes_max: 1 << 20,
    queue_ops_max: 1000,
    recent_bytes_max: 0,
    prepare_step_bytes: 2048,
};
/// A file that says of itself that it is longer is not made longer than this.
const FILE_LEN_MAX: u64 = 64 << 10;

pub(crate) struct Silent;

impl Completion for Silent {
    fn complete(self, _: Result<(), WalError>) {}
}

pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(ROOT).join(name)
}

pub(crate) fn segment_path(number: u32) -> PathBuf {
    path(&format!("wal/{number:010}.seg"))
}

/// A data directory that has a log, with this file in it.
fn directory_with(files: &[(PathBuf, &[u8])]) -> SimDisk {
    let disk = SimDisk::new(1);
    let dir = DataDir::open(disk.clone(), Path::new(ROOT), ME).expect("a new directory");
    drop(open::<_, Silent>(dir.into(), OPTIONS).expect("a new log"));
    disk.remove(&segment_path(1)).expect("its first segment");
    for (path, bytes) in files {
        let file = disk.create(path).expect("a new file");
        file.write_at(bytes, 0).expect("room");
        file.sync_data().expect("a disk that works");
    }
    for dir in [path("wal"), PathBuf::from(ROOT)] {
        disk.sync_dir(&dir).expect("a disk that works");
    }
    disk
}

pub(crate) type Node = (Log<SimDisk, Silent>, Writer<SimDisk, Silent>, Vec<Verdict>);

pub(crate) fn start(disk: &SimDisk) -> Result<Node, OpenError> {
    let dir = DataDir::open(disk.clone(), Path::new(ROOT), ME)?;
    let Opened { log, writer, report } = open(Arc::new(dir), OPTIONS)?;
    Ok((log, writer, report.findings.into_iter().map(|finding| finding.verdict).collect()))
}

/// What a log holds: vote, purged, entries.
pub(crate) type Content = (Option<Vec<u8>>, Option<RawLogId>, Vec<RawEntry>);

pub(crate) fn content(log: &Log<SimDisk, Silent>) -> Content {
    let extent = log.extent();
    let last = extent.last.map_or(0, |last| last.index.saturating_add(1));
    let first = match extent.purged {
        Some(purged) => purged.index.saturating_add(1),
        // Such a log may begin anywhere.
        None => log.leaders(0, u64::MAX).first().map_or(0, |first| first.index),
    };
    let entries = log.read(first..last.max(first), usize::MAX).expect("recovery has verified every entry");
    (log.vote().map(|vote| vote.to_vec()), extent.purged, entries)
}

/// What recovery takes it keeps, it goes on, and looking at it agrees; what it refuses can be looked at and cut.
fn judge(disk: &SimDisk) {
    let inspector = Inspector::open(disk.clone(), Path::new(ROOT)).expect("nobody holds it");
    let mut items = 0u64;
    let _ = inspector.walk(&mut |_| items += 1);
    let said = inspector.verify().map(|sound| sound.extent).map_err(|error| error.to_string());
    drop(inspector);
    match start(disk) {
        Ok((log, mut writer, _)) => {
            assert_eq!(said, Ok(log.extent()), "looking says what a node says");
            let before = content(&log);
            let next = log.extent().last.map_or(1, |last| last.index.saturating_add(1));
            let _ = log.submit(Op::Vote(vec![9; 18].into()), Silent);
            let log_id = RawLogId { term: 9, node: None, index: next };
            let entry = RawEntry { kind: 0, log_id, payload: vec![1; 100].into() };
            let taken = log.submit(Op::Append(vec![entry.clone()]), Silent).is_ok();
            let written = writer.run_batch().is_ok();
            drop((log, writer));
            disk.power_cut(Loss::Everything);
            let (log, _, _) = start(disk).expect("what was opened once is opened again");
            let mut expected = before;
            if written {
                expected.0 = Some(vec![9; 18]);
                if taken {
                    expected.2.push(entry);
                }
                assert_eq!(content(&log), expected, "and holds what was acknowledged");
            }
        }
        Err(error) => {
            assert_eq!(said, Err(error.to_string()), "looking says what a node says");
            let mut inspector = Inspector::open(disk.clone(), Path::new(ROOT)).expect("nobody holds it");
            if let Ok(Some((plan, repaired))) = inspector.repair(RepairIdentity::New(7), OPTIONS) {
                drop(inspector);
                assert_eq!(repaired.sound.extent, plan.kept.extent);
                start(disk).expect("a cut log is opened");
            }
        }
    }
}

/// The first byte says whether the checksums are mended.
fn mended(data: &[u8], mend: fn(&mut [u8])) -> Vec<u8> {
    let Some((flags, bytes)) = data.split_first() else { return Vec::new() };
    let mut bytes = bytes.to_vec();
    if flags & 1 == 1 {
        mend(&mut bytes);
    }
    bytes
}

/// As [`mended`], for a segment: as long as it says that it is.
fn segment_file(data: &[u8]) -> Vec<u8> {
    let Some((flags, bytes)) = data.split_first() else { return Vec::new() };
    let mut bytes = bytes.to_vec();
    let size = bytes.get(56..64).and_then(|size| size.try_into().ok()).map_or(0, u64::from_le_bytes);
    if (bytes.len() as u64) < size && size <= FILE_LEN_MAX {
        bytes.resize(size as usize, 0);
    }
    if flags & 1 == 1 {
        reseal_segment(&mut bytes);
    }
    bytes
}

pub(crate) fn meta(data: &[u8]) {
    let file = mended(data, reseal_meta);
    let disk = SimDisk::new(1);
    disk.create_dir(Path::new(ROOT)).expect("a new disk");
    disk.create(&path("meta")).and_then(|meta| meta.write_at(&file, 0)).expect("a new disk");
    match DataDir::open(disk.clone(), Path::new(ROOT), ME) {
        Ok(dir) => {
            let first = dir.identity();
            drop(dir);
            let again =
                DataDir::open(disk, Path::new(ROOT), ME).expect("what was opened once is opened again").identity();
            assert_eq!((again.node_id, again.incarnation, again.cluster_id), (1, first.incarnation, first.cluster_id));
            assert!(again.boot_epoch > first.boot_epoch || again.boot_epoch == u64::MAX);
        }
        Err(error) => assert!(error.to_string().contains(ROOT), "{error}"),
    }
}

pub(crate) fn segment(data: &[u8]) {
    judge(&directory_with(&[(segment_path(1), &segment_file(data))]));
}

/// Two segments, the first as long as its two first bytes say.
pub(crate) fn two_segments(data: &[u8]) {
    let Some((len, rest)) = data.split_first_chunk::<2>() else { return };
    let (first, second) = rest.split_at(usize::from(u16::from_le_bytes(*len)).min(rest.len()));
    let (first, second) = (segment_file(first), segment_file(second));
    judge(&directory_with(&[(segment_path(1), &first), (segment_path(2), &second)]));
}

/// A log of which everything is acknowledged, and its files.
fn sample(stopped: bool) -> (SimDisk, Content) {
    let disk = SimDisk::new(3);
    let (log, mut writer, _) = start(&disk).expect("a new log");
    let entry = |term, index, len: usize| RawEntry {
        kind: (index % 3) as u8,
        log_id: RawLogId { term, node: None, index },
        payload: vec![(index * 31) as u8; len].into(),
    };
    let ops = [
        Op::Vote(vec![1; 18].into()),
        Op::Append(vec![entry(1, 1, 100), entry(1, 2, 1501), entry(1, 3, 7)]),
        Op::Truncate { from: 3 },
        Op::Vote(vec![2; 18].into()),
        Op::Append(vec![entry(2, 3, 99), entry(2, 4, 50)]),
        Op::Purge { up_to: RawLogId { term: 1, node: None, index: 1 } },
        Op::Append(vec![entry(2, 5, 1600)]),
        Op::Append(vec![entry(2, 6, 1500)]),
        Op::Vote(vec![3; 18].into()),
        Op::Append(vec![entry(2, 7, 64), entry(2, 8, 0), entry(2, 9, 600)]),
    ];
    for op in ops {
        assert!(log.submit(op, Silent).is_ok(), "there is room");
        writer.run_batch().expect("the disk works");
    }
    if stopped {
        writer.close().expect("the disk works");
    }
    let content = content(&log);
    drop((log, writer));
    disk.power_cut(Loss::Everything);
    (disk, content)
}

/// Bytes of a whole log are changed: three bytes of the input name a place, the fourth what is done to it. The log comes
/// back whole or is refused; only its last batch may be cut, and then that is said.
pub(crate) fn damage(data: &[u8]) {
    let Some((flags, edits)) = data.split_first() else { return };
    let (disk, whole) = sample(flags & 1 == 1);
    let files: Vec<PathBuf> = disk.files().into_iter().filter(|path| !path.ends_with("LOCK")).collect();
    for edit in edits.chunks_exact(4).take(16) {
        let path = &files[usize::from(edit[0]) % files.len()];
        let at = u64::from(u16::from_le_bytes([edit[1], edit[2]]));
        disk.flip(path, at, edit[3]);
    }
    if let Ok((log, _, findings)) = start(&disk.fork(2)) {
        let found = content(&log);
        assert!(found == whole || findings.contains(&Verdict::Cut), "silently changed: {found:?}");
        assert!(found.2.len() >= whole.2.len() - 3, "more than the last batch is gone: {findings:?}");
    }
    judge(&disk);
}

fn file(disk: &SimDisk, path: &Path) -> Vec<u8> {
    let mut bytes = disk.content(path).expect("it was written");
    // Zeros at the end come back by themselves.
    let len = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(len);
    bytes
}

fn with_flags(bytes: &[u8]) -> Vec<Vec<u8>> {
    [0, 1].iter().map(|flags| [&[*flags], bytes].concat()).collect()
}

pub(crate) fn meta_seeds() -> Vec<Vec<u8>> {
    with_flags(&file(&sample(true).0, &path("meta")))
}

pub(crate) fn segment_seeds() -> Vec<Vec<u8>> {
    let (stopped, _) = sample(true);
    let (cut, _) = sample(false);
    let mut seeds = with_flags(&file(&stopped, &segment_path(1)));
    seeds.extend(with_flags(&file(&cut, &segment_path(2))));
    seeds
}

pub(crate) fn two_segments_seeds() -> Vec<Vec<u8>> {
    let (disk, _) = sample(true);
    let first = [&[1], &file(&disk, &segment_path(1))[..]].concat();
    let second = [&[1], &file(&disk, &segment_path(2))[..]].concat();
    vec![[&(first.len() as u16).to_le_bytes()[..], &first, &second].concat()]
}

pub(crate) fn damage_seeds() -> Vec<Vec<u8>> {
    vec![vec![0], vec![1], vec![1, 1, 0, 4, 1], vec![0, 2, 20, 6, 255, 1, 200, 9, 4]]
}
