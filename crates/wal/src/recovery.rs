//! Reading a log back: every batch and every record gets a verdict, and what was acknowledged is never cut.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use raftwright_traits::crc32c;

use crate::aligned::AlignedBuffer;
use crate::disk::{Disk, DiskFile};
use crate::error::{DiskError, Finding, OpenError, shown};
use crate::format::{
    BATCH_HEADER_LEN, BatchHeader, HEAD_LEN, Head, HeaderState, RecordKind, Role, SECTOR, SegmentHeader,
    SegmentHeaderError, Trailer, TrailerState, VERSION, header_state, is_zero, padded, zero_sectors,
};
use crate::index::{Index, Place, Slot};
use crate::index_files::read_index;
use crate::ledger::{self, Closed, Ledger};
use crate::log::Segment;
use crate::meta::Meta;
use crate::record::VOTE_BYTES_MAX;
use crate::stopped::{Here, header_seen};
use crate::verdict::{
    Acknowledged, BatchVerdict, Body, HeaderSeen, Heads, Sectors, TrailerSeen, Verdict, batch_verdict, record_verdict,
};

const SUFFIX: &str = ".seg";

/// Name of the segment with this number.
pub(crate) fn segment_name(sequence: u32) -> String {
    format!("{sequence:010}{SUFFIX}")
}

pub(crate) fn segment_number(name: &str) -> Option<u32> {
    let number = name.strip_suffix(SUFFIX)?.parse().ok()?;
    (segment_name(number) == name).then_some(number)
}

/// What was read back.
pub(crate) struct Recovered<F> {
    pub(crate) index: Index,
    pub(crate) vote: Option<Bytes>,
    pub(crate) committed: Option<u64>,
    pub(crate) segments: Vec<(u32, Segment<F>)>,
    /// The segment in which the log goes on: its header, and where the next batch goes.
    pub(crate) active: SegmentHeader,
    pub(crate) position: u64,
    /// The checksum that the next batch is chained to; unknown when the last trailer is damaged.
    pub(crate) before: Option<u32>,
    pub(crate) next_batch: u64,
    /// What the last segment has done.
    pub(crate) ledger: Ledger,
    /// Closed segments that were read, for want of an index.
    pub(crate) unindexed: Vec<Closed>,
    pub(crate) findings: Vec<Finding>,
}

/// A segment file whose header was read.
pub(crate) struct Opened<F> {
    pub(crate) sequence: u32,
    pub(crate) path: PathBuf,
    pub(crate) file: F,
    pub(crate) header: SegmentHeader,
    pub(crate) area: usize,
}

/// Whether closed segments are read by their indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Indexes {
    /// Where there is one that verifies: opening takes as long as the last segment does.
    Used,
    /// Every record of every segment is read and judged.
    Ignored,
}

/// Reads the log in `dir`. `None` means that there are no segments at all.
pub(crate) fn recover<D: Disk>(
    disk: &D,
    dir: &Path,
    meta: &Meta,
    indexes: Indexes,
) -> Result<Option<Recovered<D::File>>, OpenError> {
    let names = disk.list(dir).map_err(|error| DiskError::new("list", dir, &error))?;
    let mut numbers: Vec<u32> = names.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    let Some(first) = numbers.first().copied() else { return Ok(None) };
    // A process that ended between naming a segment and syncing the name leaves one that the next power cut takes away.
    disk.sync_dir(dir).map_err(|error| DiskError::new("sync", dir, &error))?;
    if let Some((expected, _)) = (first..).zip(&numbers).find(|(expected, number)| expected != *number) {
        let what = format!("the segment {} is missing", segment_name(expected)).into();
        return Err(OpenError::DataLoss { path: shown(dir), what });
    }
    let mut opened = Vec::new();
    for sequence in numbers {
        opened.push(open_segment(disk, &dir.join(segment_name(sequence)), sequence, meta)?);
    }
    let replayed = match (indexes, replay_all(disk, dir, &opened, indexes)) {
        // An index that verifies and contradicts the segments is worth no more than none, and no reason to refuse a log. What the
        // media failed to do is not tried again.
        (Indexes::Used, Ok(None) | Err(OpenError::Damaged(_) | OpenError::DataLoss { .. })) => {
            replay_all(disk, dir, &opened, Indexes::Ignored)?
        }
        (Indexes::Used | Indexes::Ignored, replayed) => replayed?,
    };
    Ok(replayed.and_then(|replay| replay.finish(opened)))
}

/// Reads all segments. `None` means that the indexes cannot be trusted. Nothing is written before all of it has been found
/// good.
fn replay_all<D: Disk>(
    disk: &D,
    dir: &Path,
    opened: &[Opened<D::File>],
    indexes: Indexes,
) -> Result<Option<Replay>, OpenError> {
    let Some(head) = opened.first().map(|segment| &segment.header) else { return Ok(None) };
    let mut replay = Replay::from(head);
    let mut seals = Vec::new();
    for (at, segment) in opened.iter().enumerate() {
        let next = opened.get(at + 1).map(|next| &next.header);
        let known = match (indexes, next) {
            (Indexes::Used, Some(next)) => read_index(disk, dir, segment, next),
            (Indexes::Used | Indexes::Ignored, _) => None,
        };
        if let (Some(known), Some(next)) = (known, next) {
            Walk { segment, bytes: &[], next: Some(next) }.enter(&mut replay)?;
            if !ledger::replay(&mut replay.index, &known, next) {
                return Ok(None);
            }
            replay.skip_to(next);
            continue;
        }
        let bytes = read_segment(segment)?;
        let walk = Walk { segment, bytes: &bytes, next };
        let found = replay.findings.len();
        walk.run(&mut replay)?;
        match next {
            Some(next) => {
                seals.extend(walk.missing_seal(&replay).map(|sector| (segment, replay.position as usize, sector)));
                if replay.findings.len() == found {
                    let ledger = std::mem::take(&mut replay.ledger);
                    let mut closed = ledger.close(&segment.header, replay.position, next.first_batch, next.before);
                    // What the segments behind this one take away is still there.
                    if closed.gather(&replay.index, usize::MAX) {
                        replay.unindexed.push(closed);
                    }
                }
            }
            None => {
                replay.check(dir)?;
                for (segment, at, sector) in &seals {
                    write(segment, sector.content(), *at)?;
                }
                walk.clean_tail(&mut replay)?;
            }
        }
    }
    Ok(Some(replay))
}

pub(crate) fn open_segment<D: Disk>(
    disk: &D,
    path: &Path,
    sequence: u32,
    meta: &Meta,
) -> Result<Opened<D::File>, OpenError> {
    let failed = |action, error| OpenError::from(DiskError::new(action, path, &error));
    let file = disk.open_direct(path).map_err(|error| failed("open", error))?;
    let len = file.len().map_err(|error| failed("read", error))?;
    let read_front = |most: usize| {
        let mut front = vec![0; most.min(usize::try_from(len).unwrap_or(usize::MAX))];
        let got = file.read_at(&mut front, 0)?;
        front.truncate(got);
        Ok(front)
    };
    let damaged = |what| {
        let verdict = Verdict::BeyondRepair;
        OpenError::Damaged(Finding { path: path.into(), offset: 0, index: None, what, verdict })
    };
    // The usual vote is short; only where it is not, or something is damaged, all is read that a header may take.
    let mut decoded = Err(SegmentHeaderError::Damaged);
    for most in [SegmentHeader::area_len(0), SegmentHeader::area_len(VOTE_BYTES_MAX)] {
        if decoded == Err(SegmentHeaderError::Damaged) {
            decoded = SegmentHeader::decode(&read_front(most).map_err(|error| failed("read", error))?);
        }
    }
    let (header, area) = decoded.map_err(|error| match error {
        SegmentHeaderError::Damaged => damaged("both copies of the segment header are damaged"),
        SegmentHeaderError::Version { needs } => OpenError::Version { path: shown(path), needs, max: VERSION },
        SegmentHeaderError::Features { unknown } => OpenError::Features { path: shown(path), unknown },
    })?;
    if (header.node_id, header.incarnation) != (meta.node_id, meta.incarnation) {
        let SegmentHeader { node_id, incarnation, .. } = header;
        return Err(OpenError::Foreign { path: shown(path), node_id, incarnation });
    }
    if header.sequence != u64::from(sequence) {
        return Err(damaged("the segment has the name of another one"));
    }
    if len < header.size {
        return Err(damaged("the segment is shorter than its header says"));
    }
    Ok(Opened { sequence, path: path.into(), file, header, area })
}

pub(crate) fn read_segment<F: DiskFile>(segment: &Opened<F>) -> Result<Vec<u8>, OpenError> {
    let size = usize::try_from(segment.header.size).unwrap_or(usize::MAX);
    let mut bytes = vec![0; size];
    let got = segment.file.read_at(&mut bytes, 0).map_err(|error| DiskError::new("read", &segment.path, &error))?;
    bytes.truncate(got);
    bytes.resize(size, 0);
    Ok(bytes)
}

/// The state while batches are read one after the other.
pub(crate) struct Replay {
    pub(crate) index: Index,
    pub(crate) vote: Option<Bytes>,
    pub(crate) committed: Option<u64>,
    before: Option<u32>,
    /// Number of the batch that is expected next.
    number: u64,
    position: u64,
    /// Place of the last batch in the segment read last, if it is there and intact.
    last_batch: Option<(usize, usize)>,
    /// What the segment that is read does, for its index.
    ledger: Ledger,
    /// Closed segments that were read, for want of an index.
    unindexed: Vec<Closed>,
    findings: Vec<Finding>,
}

impl From<&SegmentHeader> for Replay {
    /// The state that the first segment carries over from those before it.
    fn from(head: &SegmentHeader) -> Self {
        Self {
            index: Index::carried(head.extent, head.first_index),
            vote: head.vote.clone(),
            committed: head.committed,
            before: Some(head.before),
            number: head.first_batch,
            position: 0,
            last_batch: None,
            ledger: Ledger::default(),
            unindexed: Vec::new(),
            findings: Vec::new(),
        }
    }
}

impl Replay {
    /// Goes on with what the header of the next segment says, once the index has taken over what this one did.
    fn skip_to(&mut self, next: &SegmentHeader) {
        self.vote.clone_from(&next.vote);
        self.committed = self.committed.max(next.committed);
        self.before = Some(next.before);
        self.number = next.first_batch;
        self.last_batch = None;
    }

    /// What must be true of a whole log.
    fn check(&self, dir: &Path) -> Result<(), OpenError> {
        let lost = |what: String| OpenError::DataLoss { path: shown(dir), what: what.into() };
        if let Some(index) = self.index.first_gone() {
            return Err(lost(format!("entry {index} stood in a segment that is missing")));
        }
        if self.vote.is_none() && self.index.extent().last.is_some_and(|last| last.term > 0) {
            return Err(lost("the log holds entries and no vote".into()));
        }
        Ok(())
    }

    fn finish<F>(self, opened: Vec<Opened<F>>) -> Option<Recovered<F>> {
        let active = opened.last().map(|segment| segment.header.clone())?;
        let segments = opened
            .into_iter()
            .map(|opened| (opened.sequence, Segment { path: opened.path, file: Arc::new(opened.file) }));
        Some(Recovered {
            index: self.index,
            vote: self.vote,
            committed: self.committed,
            segments: segments.collect(),
            active,
            position: self.position,
            before: self.before,
            next_batch: self.number,
            ledger: self.ledger,
            unindexed: self.unindexed,
            findings: self.findings,
        })
    }
}

/// One segment being read.
pub(crate) struct Walk<'a, F> {
    pub(crate) segment: &'a Opened<F>,
    pub(crate) bytes: &'a [u8],
    pub(crate) next: Option<&'a SegmentHeader>,
}

/// A batch whose header is good.
pub(crate) struct Batch<'a> {
    pub(crate) at: usize,
    pub(crate) header: BatchHeader,
    /// From the header's first byte to the trailer's last.
    pub(crate) bytes: &'a [u8],
    pub(crate) trailer: TrailerState,
    pub(crate) sectors: Sectors,
}

/// One record of a batch.
pub(crate) struct Seen {
    pub(crate) head: Option<Head>,
    pub(crate) offset: usize,
    pub(crate) verdict: Verdict,
}

impl<'a, F: DiskFile> Walk<'a, F> {
    pub(crate) fn finding(&self, offset: usize, index: Option<u64>, what: &'static str, verdict: Verdict) -> Finding {
        Finding { path: self.segment.path.clone(), offset: offset as u64, index, what, verdict }
    }

    fn refuse(&self, offset: usize, index: Option<u64>, what: &'static str, verdict: Verdict) -> OpenError {
        OpenError::Damaged(self.finding(offset, index, what, verdict))
    }

    /// Reads all batches of the segment. Afterwards `replay.position` is where they end.
    pub(crate) fn run(&self, replay: &mut Replay) -> Result<(), OpenError> {
        self.enter(replay)?;
        let mut at = self.segment.area;
        loop {
            replay.position = at as u64;
            if self.next.is_some_and(|next| next.first_batch == replay.number) {
                // The next segment says that no batch follows here; whatever stands here is its seal or was one.
                return Ok(());
            }
            let header = self.header(at, replay)?;
            let Some(batch) = self.batch(at, header) else {
                match self.place_verdict(at, replay)? {
                    BatchVerdict::End => return Ok(()),
                    BatchVerdict::HeadUnknown | BatchVerdict::Records(_) | BatchVerdict::BeyondRepair => {
                        let what = "the header of a batch is damaged or missing";
                        return Err(self.refuse(at, None, what, Verdict::HeadUnknown));
                    }
                }
            };
            let Some(acknowledged) = self.acknowledged(&batch, replay)? else { return Ok(()) };
            self.apply(&batch, acknowledged, replay)?;
            at += padded(batch.header.total_len as usize);
        }
    }

    /// The header of a segment must continue what the segment before ended with.
    fn enter(&self, replay: &mut Replay) -> Result<(), OpenError> {
        let header = &self.segment.header;
        replay.last_batch = None;
        replay.ledger = Ledger::default();
        replay.index.assume_last(header.extent.last);
        let chained = replay.before.is_none_or(|before| before == header.before);
        let carried = (&header.vote, header.extent) == (&replay.vote, replay.index.extent());
        if !chained || header.first_batch != replay.number || !carried {
            let what = "the segment does not continue the one before";
            return Err(self.refuse(0, None, what, Verdict::BeyondRepair));
        }
        replay.before = Some(header.before);
        Ok(())
    }

    pub(crate) fn salt(&self) -> u64 {
        self.segment.header.salt
    }

    /// What stands at `at`, without marks: they say that nothing follows yet.
    fn header(&self, at: usize, replay: &Replay) -> Result<HeaderState, OpenError> {
        let state = header_state(self.bytes.get(at..).unwrap_or(&[]), self.salt(), at as u64);
        let HeaderState::Good(header) = state else { return Ok(state) };
        let continues = header.number == replay.number && replay.before.is_none_or(|before| before == header.before);
        if !continues {
            let what = "a batch of another place or time stands where the log goes on";
            return Err(self.refuse(at, None, what, Verdict::BeyondRepair));
        }
        match header.role {
            Role::Batch if !header.is_plausible((self.bytes.len() - at) as u64) => Ok(HeaderState::Bad),
            Role::Batch => Ok(state),
            Role::Mark => Ok(HeaderState::Unwritten),
            Role::Seal => {
                let what = format!("the segment {} is missing", segment_name(self.segment.sequence + 1)).into();
                let path = shown(self.segment.path.parent().unwrap_or(&self.segment.path));
                Err(OpenError::DataLoss { path, what })
            }
        }
    }

    pub(crate) fn batch(&self, at: usize, state: HeaderState) -> Option<Batch<'a>> {
        let HeaderState::Good(header) = state else { return None };
        let bytes = self.bytes.get(at..at + header.total_len as usize)?;
        let behind = self.bytes.get(at + SECTOR..at + padded(bytes.len())).unwrap_or(&[]);
        let sectors = if zero_sectors(behind) > header.zero_sectors { Sectors::Missing } else { Sectors::All };
        let trailer = Trailer::state(bytes, &header, self.salt(), at as u64);
        Some(Batch { at, header, bytes, trailer, sectors })
    }

    /// The verdict on a place without a good header.
    fn place_verdict(&self, at: usize, replay: &Replay) -> Result<BatchVerdict, OpenError> {
        let here = Here { salt: self.salt(), position: at as u64, number: replay.number, before: replay.before };
        let seen = header_seen(self.bytes.get(at..).unwrap_or(&[]), here);
        let proven = self.is_proven(at, replay.number);
        Ok(batch_verdict(seen, TrailerSeen::Unwritten, Sectors::Missing, proven))
    }

    /// True when something behind `at` says that the batch with this number was made durable.
    pub(crate) fn is_proven(&self, at: usize, number: u64) -> bool {
        if let Some(next) = self.next {
            return next.first_batch > number;
        }
        let later = (at + SECTOR..self.bytes.len().saturating_sub(BATCH_HEADER_LEN)).step_by(SECTOR);
        later.into_iter().any(|at| match header_state(&self.bytes[at..], self.salt(), at as u64) {
            HeaderState::Good(header) => header.durable_through >= number,
            HeaderState::Unwritten | HeaderState::Bad => false,
        })
    }

    /// How far the batch may have been acknowledged; `None` when it never was and is left out.
    fn acknowledged(&self, batch: &Batch<'_>, replay: &mut Replay) -> Result<Option<Acknowledged>, OpenError> {
        let trailer = match &batch.trailer {
            TrailerState::Good(..) => TrailerSeen::Good,
            TrailerState::Unwritten => TrailerSeen::Unwritten,
            TrailerState::Bad => TrailerSeen::Bad,
        };
        if trailer == TrailerSeen::Good && batch.sectors == Sectors::All {
            // The usual case needs no look behind the batch; records that do not verify are damage in either case.
            return Ok(Some(Acknowledged::Possible));
        }
        let proven = self.is_proven(batch.at, batch.header.number);
        match batch_verdict(HeaderSeen::Good, trailer, batch.sectors, proven) {
            BatchVerdict::Records(Acknowledged::Never) | BatchVerdict::End => Ok(None),
            BatchVerdict::Records(acknowledged) => Ok(Some(acknowledged)),
            BatchVerdict::HeadUnknown | BatchVerdict::BeyondRepair => {
                let what = "a batch that was acknowledged is missing";
                replay.last_batch = None;
                Err(self.refuse(batch.at, None, what, Verdict::HeadUnknown))
            }
        }
    }

    /// Judges the records of a batch and lets them take effect.
    fn apply(&self, batch: &Batch<'_>, acknowledged: Acknowledged, replay: &mut Replay) -> Result<(), OpenError> {
        let mut intact = true;
        let mut expected = Some(BATCH_HEADER_LEN + HEAD_LEN * batch.header.count as usize);
        for at in 0..batch.header.count as usize {
            let seen = self.record(batch, at, expected, acknowledged);
            let index = seen.head.filter(|head| head.kind == RecordKind::Entry).map(|head| head.log_id.index);
            let offset = batch.at + seen.offset;
            match (seen.verdict, seen.head) {
                (Verdict::Good, Some(_)) => {}
                (Verdict::Repaired, Some(_)) => {
                    intact = false;
                    let what = "one of the two copies of a record is damaged";
                    replay.findings.push(self.finding(offset, index, what, Verdict::Repaired));
                }
                (Verdict::BodyDamaged, _) => {
                    return Err(self.refuse(offset, index, "the body of a record is damaged", Verdict::BodyDamaged));
                }
                (
                    Verdict::Good | Verdict::Repaired | Verdict::HeadUnknown | Verdict::Cut | Verdict::BeyondRepair,
                    _,
                ) => {
                    let what = "both copies of a record's head are damaged";
                    return Err(self.refuse(offset, index, what, Verdict::HeadUnknown));
                }
            }
            let Some(head) = seen.head else { continue };
            self.take(batch, &head, replay)?;
            expected = Some(head.offset as usize + HEAD_LEN + head.len as usize);
        }
        self.close_batch(batch, intact, replay)
    }

    /// Finds the head of a record in its two places and checks its body.
    pub(crate) fn record(
        &self,
        batch: &Batch<'_>,
        at: usize,
        expected: Option<usize>,
        acknowledged: Acknowledged,
    ) -> Seen {
        let (salt, batch_at, before) = (self.salt(), batch.at as u64, batch.header.before);
        let end = batch.bytes.len() - batch.header.trailer_len as usize;
        let decode = |offset: usize| {
            let head = Head::decode(batch.bytes.get(offset..)?, salt, batch_at, before)?;
            let fits = head.offset as usize + HEAD_LEN + head.len as usize <= end;
            fits.then_some(head)
        };
        let in_table = decode(BATCH_HEADER_LEN + HEAD_LEN * at);
        let own_at = in_table.map(|head| head.offset as usize).or(expected);
        let own = own_at.and_then(|offset| decode(offset).filter(|head| head.offset as usize == offset));
        let (heads, head) = match (in_table, own) {
            (Some(table), Some(own)) if table == own => (Heads::Both, Some(table)),
            (Some(table), _) => (Heads::One, Some(table)),
            (None, Some(own)) => (Heads::One, Some(own)),
            (None, None) => (Heads::Neither, None),
        };
        let body = head.map_or(Body::Bad, |head| self.body(batch, &head));
        let verdict = record_verdict(acknowledged, heads, body);
        Seen { head, offset: own_at.unwrap_or(0), verdict }
    }

    fn body(&self, batch: &Batch<'_>, head: &Head) -> Body {
        let begin = head.offset as usize + HEAD_LEN;
        let payload = batch.bytes.get(begin..begin + head.len as usize).unwrap_or(&[]);
        if crc32c::crc32c(payload) == head.payload_crc {
            return Body::Good;
        }
        match (head.kind, copy_of_vote(batch, head)) {
            (RecordKind::Vote, Some(_)) => Body::BadWithCopy,
            (
                RecordKind::Vote | RecordKind::Entry | RecordKind::Truncate | RecordKind::Purge | RecordKind::Replace,
                _,
            ) => Body::Bad,
        }
    }

    /// Lets one record take effect.
    fn take(&self, batch: &Batch<'_>, head: &Head, replay: &mut Replay) -> Result<(), OpenError> {
        let payload_at = head.offset as usize + HEAD_LEN;
        replay.ledger.record(head.kind, head.log_id);
        match head.kind {
            RecordKind::Vote => {
                let payload = batch.bytes.get(payload_at..payload_at + head.len as usize).unwrap_or(&[]);
                let own = (crc32c::crc32c(payload) == head.payload_crc).then(|| Bytes::copy_from_slice(payload));
                replay.vote = own.or_else(|| copy_of_vote(batch, head));
            }
            RecordKind::Entry => {
                let index = head.log_id.index;
                if index == u64::MAX || !replay.index.is_blank() && index != replay.index.next() {
                    let what = "an entry does not follow the one before";
                    return Err(self.refuse(batch.at + payload_at, Some(index), what, Verdict::BeyondRepair));
                }
                let segment = self.segment.sequence;
                let place = Place::Disk { segment, offset: (batch.at + payload_at) as u32 };
                let slot = Slot { place, len: head.len, crc: head.payload_crc, kind: head.entry_kind };
                replay.index.append(head.log_id, slot);
                replay.ledger.append(head.log_id, 1);
            }
            RecordKind::Truncate => replay.index.truncate(head.log_id.index),
            RecordKind::Purge => replay.index.purge(head.log_id, false),
            RecordKind::Replace => replay.index.purge(head.log_id, true),
        }
        Ok(())
    }

    /// The trailer says what must hold now; it is the second witness.
    fn close_batch(&self, batch: &Batch<'_>, intact: bool, replay: &mut Replay) -> Result<(), OpenError> {
        match &batch.trailer {
            TrailerState::Good(trailer, crc) => {
                replay.index.assume_last(trailer.extent.last);
                if trailer.vote != replay.vote || trailer.extent != replay.index.extent() {
                    let what = "the trailer of a batch contradicts its records";
                    return Err(self.refuse(batch.at, None, what, Verdict::BeyondRepair));
                }
                replay.committed = replay.committed.max(trailer.committed);
                replay.before = Some(*crc);
            }
            TrailerState::Unwritten | TrailerState::Bad => {
                let what = "the trailer of a batch is damaged";
                replay.findings.push(self.finding(batch.at, None, what, Verdict::Repaired));
                replay.before = None;
            }
        }
        replay.last_batch = (intact && replay.before.is_some()).then_some((batch.at, padded(batch.bytes.len())));
        replay.number += 1;
        Ok(())
    }

    /// A segment that is not the last one ends with a seal, so that the loss of its successors shows: the one to be written
    /// where there is none.
    fn missing_seal(&self, replay: &Replay) -> Option<AlignedBuffer> {
        let (at, salt) = (replay.position as usize, self.salt());
        let place = self.bytes.get(at..at + SECTOR)?;
        let sealed = match header_state(place, salt, at as u64) {
            HeaderState::Good(header) => header.role == Role::Seal,
            HeaderState::Unwritten | HeaderState::Bad => false,
        };
        let next = self.next.filter(|_| !sealed)?;
        Some(sole_sector(Role::Seal, replay.number, next.before, salt, at as u64))
    }

    /// Readies the end of the last segment for writing. The last batch may never have been flushed, or its flush may
    /// have failed while the operating system still shows what never reached the media: it is written again. Behind it
    /// nothing may be left of a batch that was cut, since every sector must be zero before it is written.
    fn clean_tail(&self, replay: &mut Replay) -> Result<(), OpenError> {
        let end = replay.position as usize;
        match replay.last_batch {
            Some((at, len)) => write(self.segment, &self.bytes[at..at + len], at)?,
            // What is damaged is not written again, since it may only have been misread.
            None => sync(self.segment)?,
        }
        let tail = self.bytes.get(end..).unwrap_or(&[]);
        let Some(last) = tail.chunks(SECTOR).rposition(|sector| !is_zero(sector)) else { return Ok(()) };
        let only_mark = last == 0
            && matches!(header_state(tail, self.salt(), end as u64), HeaderState::Good(header) if header.role == Role::Mark);
        if !only_mark {
            let what = "parts of a batch that never arrived in full";
            replay.findings.push(self.finding(end, None, what, Verdict::Cut));
        }
        write(self.segment, &vec![0; ((last + 1) * SECTOR).min(tail.len())], end)
    }
}

fn write<F: DiskFile>(segment: &Opened<F>, bytes: &[u8], at: usize) -> Result<(), OpenError> {
    let path = &segment.path;
    segment.file.write_at(bytes, at as u64).map_err(|error| DiskError::new("write", path, &error))?;
    sync(segment)
}

fn sync<F: DiskFile>(segment: &Opened<F>) -> Result<(), OpenError> {
    segment.file.sync_data().map_err(|error| DiskError::new("sync", &segment.path, &error).into())
}

/// The vote in the trailer, if it is the one that this record holds.
pub(crate) fn copy_of_vote(batch: &Batch<'_>, head: &Head) -> Option<Bytes> {
    let TrailerState::Good(trailer, _) = &batch.trailer else { return None };
    let vote = trailer.vote.clone()?;
    (vote.len() == head.len as usize && crc32c::crc32c(&vote) == head.payload_crc).then_some(vote)
}

/// A mark or a seal: a header that stands alone in its sector, written after everything up to the batch before `number`
/// was made durable.
pub(crate) fn sole_sector(role: Role, number: u64, before: u32, salt: u64, position: u64) -> AlignedBuffer {
    let header = BatchHeader {
        role,
        total_len: 0,
        count: 0,
        number,
        durable_through: number.saturating_sub(1),
        before,
        zero_sectors: 0,
        trailer_len: 0,
    };
    let mut sector = AlignedBuffer::of(&header.encode(salt, position));
    sector.resize(SECTOR);
    sector
}
