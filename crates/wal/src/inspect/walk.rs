//! Reads all of a log, also what stands behind damage. Recovery stops at the first thing that it cannot repair; somebody
//! who wants to know how bad it is needs the rest too.

use bytes::Bytes;
use raftwright_traits::crc32c;

use super::item::{BatchItem, Content, Item, RecordItem};
use crate::disk::DiskFile;
use crate::format::{
    HEAD_LEN, Head, HeaderState, RecordKind, Role, SECTOR, TrailerState, header_state, is_zero, padded,
};
use crate::record::RawEntry;
use crate::recovery::{Batch, Walk, copy_of_vote};
use crate::stopped::{Here, header_seen};
use crate::verdict::{Acknowledged, BatchVerdict, HeaderSeen, Sectors, TrailerSeen, Verdict, batch_verdict};

/// Walks over one segment and hands on what it finds. `expected` is the number of the batch that comes next, if the
/// batches before it could be read.
pub(super) fn walk<F: DiskFile>(walk: &Walk<'_, F>, expected: &mut Option<u64>, visit: &mut dyn FnMut(Item)) {
    let mut at = walk.segment.area;
    let mut before = Some(walk.segment.header.before);
    while let Some(place) = walk.bytes.get(at..).filter(|place| !place.is_empty()) {
        let state = header_state(place, walk.salt(), at as u64);
        let ends = walk.next.is_some_and(|next| Some(next.first_batch) == *expected);
        if ends && !matches!(state, HeaderState::Good(header) if header.role == Role::Seal) {
            // The next segment says that no batch follows here.
            let what = "the seal of the segment is damaged or missing";
            return visit(Item::Damage(walk.finding(at, None, what, Verdict::Repaired)));
        }
        if let HeaderState::Good(header) = state {
            match header.role {
                Role::Seal => return visit(Item::Seal(at as u64)),
                Role::Mark if behind(walk, at).is_none() => return visit(Item::Mark(at as u64)),
                Role::Batch if header.is_plausible(place.len() as u64) => {
                    if expected.is_some_and(|expected| expected != header.number) {
                        let what = "a batch of another place or time stands where the log goes on";
                        visit(Item::Damage(walk.finding(at, None, what, Verdict::BeyondRepair)));
                    }
                    let Some(batch) = walk.batch(at, state) else { return };
                    if !show(walk, &batch, visit) {
                        return;
                    }
                    *expected = Some(header.number.saturating_add(1));
                    before = match &batch.trailer {
                        TrailerState::Good(_, crc) => Some(*crc),
                        TrailerState::Unwritten | TrailerState::Bad => None,
                    };
                    at += padded(header.total_len as usize);
                    continue;
                }
                Role::Mark | Role::Batch => {}
            }
        }
        match behind(walk, at) {
            Some(next) => {
                let what = "the header of a batch is damaged or missing, and batches stand behind it";
                visit(Item::Damage(walk.finding(at, None, what, Verdict::HeadUnknown)));
                (*expected, before, at) = (None, None, next);
            }
            None => return end(walk, at, (*expected, before), visit),
        }
    }
}

/// The next place behind `at` where a header verifies.
fn behind<F: DiskFile>(walk: &Walk<'_, F>, at: usize) -> Option<usize> {
    (at + SECTOR..walk.bytes.len()).step_by(SECTOR).find(|at| {
        let place = walk.bytes.get(*at..).unwrap_or(&[]);
        matches!(header_state(place, walk.salt(), *at as u64), HeaderState::Good(_))
    })
}

/// Nothing that verifies follows: the log ends here, or what stood here is lost.
fn end<F: DiskFile>(walk: &Walk<'_, F>, at: usize, expected: (Option<u64>, Option<u32>), visit: &mut dyn FnMut(Item)) {
    let place = walk.bytes.get(at..).unwrap_or(&[]);
    let (number, before) = expected;
    let here = Here { salt: walk.salt(), position: at as u64, number: number.unwrap_or(0), before };
    let (what, verdict) = match header_seen(place, here) {
        HeaderSeen::Unwritten if number.is_some_and(|number| walk.is_proven(at, number)) => {
            ("a batch that was acknowledged is missing", Verdict::HeadUnknown)
        }
        HeaderSeen::Unwritten if is_zero(place) => return,
        HeaderSeen::Unwritten => ("parts of a batch that never arrived in full", Verdict::Cut),
        HeaderSeen::Good | HeaderSeen::Alien | HeaderSeen::Bad => {
            ("the header of a batch is damaged", Verdict::HeadUnknown)
        }
    };
    visit(Item::Damage(walk.finding(at, None, what, verdict)));
}

/// Hands on a batch and its records. False if the log ends before it, since it never arrived in full.
fn show<F: DiskFile>(walk: &Walk<'_, F>, batch: &Batch<'_>, visit: &mut dyn FnMut(Item)) -> bool {
    let (trailer, extent, committed) = match &batch.trailer {
        TrailerState::Good(trailer, _) => (TrailerSeen::Good, Some(trailer.extent), trailer.committed),
        TrailerState::Unwritten => (TrailerSeen::Unwritten, None, None),
        TrailerState::Bad => (TrailerSeen::Bad, None, None),
    };
    // Without damage there is no need to look for proof: the records are judged alike.
    let whole = trailer == TrailerSeen::Good && batch.sectors == Sectors::All;
    let proven = !whole && walk.is_proven(batch.at, batch.header.number);
    let acknowledged = match batch_verdict(HeaderSeen::Good, trailer, batch.sectors, proven) {
        BatchVerdict::Records(acknowledged) => acknowledged,
        BatchVerdict::End | BatchVerdict::HeadUnknown | BatchVerdict::BeyondRepair => Acknowledged::Never,
    };
    let header = &batch.header;
    visit(Item::Batch(BatchItem {
        offset: batch.at as u64,
        number: header.number,
        len: header.total_len,
        records: header.count,
        durable_through: header.durable_through,
        acknowledged,
        extent,
        committed,
    }));
    if acknowledged == Acknowledged::Never {
        let what = "parts of a batch that never arrived in full";
        visit(Item::Damage(walk.finding(batch.at, None, what, Verdict::Cut)));
        return false;
    }
    if trailer != TrailerSeen::Good {
        let what = "the trailer of a batch is damaged";
        visit(Item::Damage(walk.finding(batch.at, None, what, Verdict::Repaired)));
    }
    records(walk, batch, acknowledged, visit);
    true
}

fn records<F: DiskFile>(
    walk: &Walk<'_, F>,
    batch: &Batch<'_>,
    acknowledged: Acknowledged,
    visit: &mut dyn FnMut(Item),
) {
    let mut expected = Some(crate::format::BATCH_HEADER_LEN + HEAD_LEN * batch.header.count as usize);
    for at in 0..batch.header.count as usize {
        let seen = walk.record(batch, at, expected, acknowledged);
        expected = seen.head.map(|head| head.offset as usize + HEAD_LEN + head.len as usize);
        let content = seen.head.map(|head| content(batch, &head, seen.verdict));
        let offset = batch.at + seen.offset;
        let index = content.as_ref().and_then(Content::entry_index);
        visit(Item::Record(RecordItem { offset: offset as u64, content, verdict: seen.verdict }));
        let what = match seen.verdict {
            Verdict::Good => continue,
            Verdict::Repaired => "one of the two copies of a record is damaged",
            Verdict::BodyDamaged => "the body of a record is damaged",
            Verdict::HeadUnknown | Verdict::Cut | Verdict::BeyondRepair => "both copies of a record's head are damaged",
        };
        visit(Item::Damage(walk.finding(offset, index, what, seen.verdict)));
    }
}

fn content(batch: &Batch<'_>, head: &Head, verdict: Verdict) -> Content {
    let Head { log_id, entry_kind: kind, len, .. } = *head;
    let begin = head.offset as usize + HEAD_LEN;
    let payload = || Bytes::copy_from_slice(batch.bytes.get(begin..begin + len as usize).unwrap_or(&[]));
    let intact = |payload: &Bytes| crc32c::crc32c(payload) == head.payload_crc;
    match head.kind {
        RecordKind::Vote => Content::Vote(Some(payload()).filter(intact).or_else(|| copy_of_vote(batch, head))),
        RecordKind::Entry if verdict == Verdict::BodyDamaged => Content::DamagedEntry { kind, log_id, len },
        RecordKind::Entry => Content::Entry(RawEntry { kind, log_id, payload: payload() }),
        RecordKind::Truncate => Content::Truncate(log_id.index),
        RecordKind::Purge => Content::Purge(log_id),
        RecordKind::Replace => Content::Replace(log_id),
    }
}
