//! Each bound of the log, and what happens there: `docs/limits.md` lists them. The numbers stand here once more, on purpose:
//! whoever changes a bound changes its page and its test.

use bytes::Bytes;
use raftwright_wal::testing::{Loss, SimDisk};
use raftwright_wal::{Op, OpenError, RawEntry, SubmitError, WalOptions};

use crate::harness::{Ack, Model, Node, OPTIONS, entry, id};

/// A log that has a vote.
fn node(options: WalOptions) -> Node {
    let mut node = Node::open_with(&SimDisk::new(1), options).unwrap();
    node.done(Op::Vote(vec![1].into()));
    node
}

fn refused(node: &Node, op: Op) -> SubmitError {
    node.log.submit(op, Ack::silent()).unwrap_err().error
}

fn append(index: u64) -> Op {
    Op::Append(vec![entry(1, index, 100)])
}

/// What an entry of 100 bytes takes in the queue: its payload, and its head twice.
const QUEUED: usize = 100 + 2 * 44;

/// `SEGMENT_BYTES_MAX`: a log with larger segments is not opened; nor one with batches that would not fit into their numbers.
#[test]
fn larger_segments_and_batches_than_can_be_addressed_are_refused() {
    const MAX: u64 = 1 << 30;
    let refused = |options: WalOptions| match Node::open_with(&SimDisk::new(1), options) {
        Err(OpenError::Options { name, value, max, .. }) => Some((name, value, max)),
        Err(error) => panic!("{error}"),
        Ok(_) => None,
    };
    assert_eq!(refused(WalOptions { segment_bytes: MAX, ..OPTIONS }), None);
    assert_eq!(refused(WalOptions { segment_bytes: MAX + 1, ..OPTIONS }), Some(("segment_bytes", MAX + 1, MAX)));
    let batch = |bytes: u64| WalOptions { batch_bytes_max: bytes as usize, ..OPTIONS };
    assert_eq!(refused(batch(MAX / 4)), None);
    assert_eq!(refused(batch(MAX / 4 + 1)), Some(("batch_bytes_max", MAX / 4 + 1, MAX / 4)));
}

/// `batch_bytes_max`: however much is queued, a batch that holds so much takes no further write. A longer one goes alone.
#[test]
fn a_batch_takes_no_further_write_once_it_is_full() {
    let cases = [(3 * QUEUED, [3, 3, 3, 1].as_slice()), (3 * QUEUED + 1, &[4, 4, 2]), (1, &[1; 10]), (1 << 20, &[10])];
    for (bytes, expected) in cases {
        let mut node = node(WalOptions { batch_bytes_max: bytes, ..OPTIONS });
        (1..=10).for_each(|index| node.submit(append(index)));
        let mut batches = Vec::new();
        while node.log.metrics().queue_writes > 0 {
            batches.push(node.writer.run_batch().unwrap());
        }
        assert_eq!(batches, expected, "{bytes} bytes");
    }
}

/// `queue_bytes_max`: while so much waits, appends are refused as busy, and change nothing. Votes have a reserve as large again.
#[test]
fn the_bytes_of_the_queue_are_bounded_and_votes_have_a_reserve() {
    for (bytes, fit, all) in [(10 * QUEUED, 10, 20), (10 * QUEUED + 1, 11, 21)] {
        let mut node = node(WalOptions { queue_bytes_max: bytes, ..OPTIONS });
        (1..=fit).for_each(|index| node.submit(append(index)));
        let before = Model::of(&node.log);
        let busy = SubmitError::Busy { ops: fit as usize, bytes: fit as usize * QUEUED };
        assert_eq!(refused(&node, append(fit + 1)), busy);
        assert_eq!(Model::of(&node.log), before);
        assert_eq!(node.log.metrics().queue_bytes, fit as usize * QUEUED);
        let mut votes = 0;
        while node.log.submit(Op::Vote(vec![2; 100].into()), Ack::silent()).is_ok() {
            votes += 1;
        }
        assert_eq!(fit + votes, all, "the reserve has an end, too");
        while node.writer.run_batch().unwrap() > 0 {}
        node.submit(append(fit + 1));
    }
}

/// `recent_bytes_max`: so much of what is on the media is in memory; what is older is read from there.
#[test]
fn payloads_in_memory_are_bounded() {
    let bytes = 10_000;
    let mut node = node(WalOptions { recent_bytes_max: bytes, ..OPTIONS });
    for index in 1..=200 {
        node.done(append(index));
        assert!(node.log.metrics().recent_bytes <= bytes, "{index}");
    }
    let in_memory = |first| node.log.read_recent(first..201, usize::MAX).unwrap().is_some();
    let first = (1..=200).find(|first| in_memory(*first)).unwrap();
    let each = node.log.metrics().recent_bytes / (201 - first) as usize;
    assert!(each >= 100 && node.log.metrics().recent_bytes + each > bytes, "as many as fit, from {first} on");
    assert_eq!(node.log.read(1..201, usize::MAX).unwrap().len(), 200);
}

/// `READ_BYTES_MAX`: neighbours are read together up to so much at once; a longer entry is read alone.
#[test]
fn one_read_of_the_media_is_bounded() {
    const MIB: usize = 1 << 20;
    let disk = SimDisk::new(1);
    let mut node = Node::open_with(&disk, WalOptions { segment_bytes: 64 << 20, ..OPTIONS }).unwrap();
    node.done(Op::Vote(vec![1].into()));
    // Their heads stand between them, so that three of a MiB fit into a read of four, and not four of them.
    node.done(Op::Append((1..=12).map(|index| entry(1, index, MIB)).collect()));
    node.done(Op::Append(vec![entry(1, 13, 5 * MIB)]));
    let reads = |range: std::ops::Range<u64>| {
        let (before, count) = (disk.counts().reads, range.end - range.start);
        assert_eq!(node.log.read(range, usize::MAX).unwrap().len() as u64, count);
        disk.counts().reads - before
    };
    assert_eq!((reads(1..4), reads(1..5), reads(1..13), reads(13..14)), (1, 2, 4, 1));
}

/// `VOTE_BYTES_MAX`: a longer vote is refused, and the log goes on. The longest comes back from a batch, and from the head of a
/// segment.
#[test]
fn a_longer_vote_is_refused() {
    const MAX: usize = 64 << 10;
    let mut node = node(OPTIONS);
    let longer = Op::Vote(vec![2; MAX + 1].into());
    assert_eq!(refused(&node, longer), SubmitError::TooLarge { what: "a vote", len: MAX + 1, max: MAX });
    assert_eq!(node.log.vote(), Some(vec![1].into()));
    let longest = Bytes::from(vec![3; MAX]);
    node.done(Op::Vote(longest.clone()));
    for index in 1..=20 {
        node.done(Op::Append(vec![entry(1, index, 2000)]));
        let image = node.disk.fork(index);
        image.power_cut(Loss::Everything);
        assert_eq!(Node::open(&image).unwrap().log.vote(), Some(longest.clone()));
    }
    assert!(node.log.metrics().segments > 2, "segments have begun since");
}

/// `PAYLOAD_BYTES_MAX`: a longer payload is refused, and so are several that are longer together, before any is looked at.
#[test]
fn a_longer_payload_is_refused() {
    const MAX: usize = 256 << 20;
    // Zeros that nobody reads take no memory.
    let zeros = Bytes::from(vec![0; MAX + 1]);
    let of = |index: u64, len: usize| RawEntry { kind: 0, log_id: id(1, index), payload: zeros.slice(..len) };
    let node = node(OPTIONS);
    let too_large = |what, len| SubmitError::TooLarge { what, len, max: MAX };
    assert_eq!(refused(&node, Op::Append(vec![of(1, MAX + 1)])), too_large("a payload", MAX + 1));
    let halves = vec![of(1, MAX / 2), of(2, MAX / 2 + 1)];
    assert_eq!(refused(&node, Op::Append(halves)), too_large("the payloads of an append", MAX + 1));
    assert_eq!(node.log.extent().last, None, "nothing has changed");
    node.log.submit(Op::Append(vec![of(1, MAX / 2), of(2, MAX / 2)]), Ack::silent()).unwrap();
    assert_eq!(node.log.extent().last, Some(id(1, 2)));
}

/// `APPEND_ENTRIES_MAX`: a longer append is refused, before its entries are looked at.
#[test]
fn a_longer_append_is_refused() {
    const MAX: usize = 1 << 20;
    let node = node(OPTIONS);
    let many = |count| Op::Append(vec![entry(1, 1, 0); count]);
    let what = "an append in entries";
    assert_eq!(refused(&node, many(MAX + 1)), SubmitError::TooLarge { what, len: MAX + 1, max: MAX });
    assert_eq!(refused(&node, many(MAX)), SubmitError::Gap { expected: 2, got: 1 }, "its entries are looked at");
}
