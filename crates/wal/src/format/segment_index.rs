//! The index of a closed segment: what reading the segment from its beginning to its seal would leave of it.

use raftwright_traits::crc32c;

use super::{FEATURES, FieldWriter, Fields, VERSION, VERSION_MIN, checksum};

const MAGIC: &[u8; 8] = b"RWINDEX\n";
const HEADER_LEN: usize = 112;
const RUN_LEN: usize = 32;
const ENTRY_LEN: usize = 16;

/// Entries from `first` on that one leader proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexRun {
    pub(crate) first: u64,
    pub(crate) term: u64,
    pub(crate) node: Option<u64>,
}

/// Where the payload of an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub(crate) offset: u32,
    pub(crate) len: u32,
    pub(crate) crc: u32,
    pub(crate) kind: u8,
}

/// What a closed segment did to the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentIndex {
    pub(crate) incarnation: u64,
    /// Salt of the segment: an index belongs to one file and no other.
    pub(crate) salt: u64,
    pub(crate) sequence: u64,
    /// Where its seal stands, and what that seal says.
    pub(crate) seal_at: u64,
    pub(crate) next_batch: u64,
    pub(crate) before: u32,
    /// Entries of earlier segments from here on are gone.
    pub(crate) cut: u64,
    /// Index of the first of `entries`.
    pub(crate) first: u64,
    pub(crate) entries: Vec<IndexEntry>,
    /// Who proposed them; the first run begins at `first`.
    pub(crate) runs: Vec<IndexRun>,
}

impl SegmentIndex {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(RUN_LEN * self.runs.len() + ENTRY_LEN * self.entries.len());
        let mut out = FieldWriter(&mut body);
        for run in &self.runs {
            out.u64(run.first).u64(run.term).u64(run.node.unwrap_or(0)).u64(run.node.is_some().into());
        }
        for entry in &self.entries {
            out.u32(entry.offset).u32(entry.len).u32(entry.crc).u32(entry.kind.into());
        }
        let mut file = Vec::with_capacity(HEADER_LEN + body.len());
        let mut out = FieldWriter(&mut file);
        out.bytes(MAGIC).u16(VERSION).u16(VERSION_MIN).u32(0).u64(FEATURES);
        out.u64(self.incarnation).u64(self.salt).u64(self.sequence).u64(self.seal_at).u64(self.next_batch);
        out.u64(self.cut).u64(self.first).u64(self.entries.len() as u64).u64(self.runs.len() as u64);
        out.u32(self.before).u32(crc32c::crc32c(&body)).u32(0);
        let crc = checksum(self.salt, 0, self.before, out.0);
        out.u32(crc).bytes(&body);
        file
    }

    /// `None` for anything but an index of this version that verifies as a whole. An index is never needed, so whatever is
    /// wrong with it is no more than a reason to read the segment itself.
    pub(crate) fn decode(file: &[u8]) -> Option<Self> {
        let (header, body) = file.split_at_checked(HEADER_LEN)?;
        let mut fields = Fields::new(header);
        let magic = fields.bytes(8);
        let (_version, needs, _zero, features) = (fields.u16(), fields.u16(), fields.u32(), fields.u64());
        let (incarnation, salt, sequence) = (fields.u64(), fields.u64(), fields.u64());
        let (seal_at, next_batch, cut, first) = (fields.u64(), fields.u64(), fields.u64(), fields.u64());
        let (entry_count, run_count) = (usize::try_from(fields.u64()).ok()?, usize::try_from(fields.u64()).ok()?);
        let (before, body_crc, _zero, crc) = (fields.u32(), fields.u32(), fields.u32(), fields.u32());
        let body_len = run_count.checked_mul(RUN_LEN)?.checked_add(entry_count.checked_mul(ENTRY_LEN)?)?;
        let sound = magic == MAGIC
            && crc == checksum(salt, 0, before, &header[..HEADER_LEN - 4])
            && needs <= VERSION
            && features & !FEATURES == 0
            && body.len() == body_len
            && body_crc == crc32c::crc32c(body);
        if !sound {
            return None;
        }
        let mut fields = Fields::new(body);
        let mut runs = Vec::with_capacity(run_count);
        for _ in 0..run_count {
            let (first, term, node, with_node) = (fields.u64(), fields.u64(), fields.u64(), fields.u64());
            runs.push(IndexRun { first, term, node: (with_node != 0).then_some(node) });
        }
        let mut entries = Vec::with_capacity(entry_count);
        for _ in 0..entry_count {
            let (offset, len, crc, kind) = (fields.u32(), fields.u32(), fields.u32(), fields.u32());
            entries.push(IndexEntry { offset, len, crc, kind: u8::try_from(kind).ok()? });
        }
        // Every entry has its leader.
        let ascending = runs.windows(2).all(|pair| pair[0].first < pair[1].first);
        let covered = runs.first().map(|run| run.first) == (!entries.is_empty()).then_some(first);
        // As in the segments, no entry has the last index that there is.
        let numbered = first.checked_add(entries.len() as u64).is_some();
        (ascending && covered && numbered).then_some(Self {
            incarnation,
            salt,
            sequence,
            seal_at,
            next_batch,
            before,
            cut,
            first,
            entries,
            runs,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> SegmentIndex {
        SegmentIndex {
            incarnation: 0xFEED,
            salt: 0x0123_4567_89AB_CDEF,
            sequence: 7,
            seal_at: 8192,
            next_batch: 42,
            before: 0xDEAD_BEEF,
            cut: 11,
            first: 11,
            entries: (0..3u8).map(|at| IndexEntry { offset: 4096 + u32::from(at), len: 5, crc: 9, kind: at }).collect(),
            runs: vec![IndexRun { first: 11, term: 5, node: Some(2) }, IndexRun { first: 13, term: 6, node: None }],
        }
    }

    #[test]
    fn an_index_comes_back_and_a_damaged_one_does_not() {
        let file = index().encode();
        assert_eq!(SegmentIndex::decode(&file), Some(index()));
        for at in 0..file.len() {
            let mut bad = file.clone();
            bad[at] ^= 0x10;
            assert_eq!(SegmentIndex::decode(&bad), None, "byte {at}");
            assert_eq!(SegmentIndex::decode(&file[..at]), None, "cut to {at}");
        }
    }

    /// Every entry has one leader, and the last index that there is has none.
    #[test]
    fn entries_and_leaders_that_do_not_fit_are_no_index() {
        let run = |first| IndexRun { first, term: 5, node: None };
        for runs in [vec![], vec![run(12)], vec![run(10)], vec![run(11), run(11)], vec![run(11), run(13), run(12)]] {
            assert_eq!(SegmentIndex::decode(&SegmentIndex { runs, ..index() }.encode()), None);
        }
        let without = SegmentIndex { entries: Vec::new(), ..index() };
        assert_eq!(SegmentIndex::decode(&without.encode()), None, "a leader of nothing");
        let blank = SegmentIndex { runs: Vec::new(), ..without };
        assert_eq!(SegmentIndex::decode(&blank.encode()), Some(blank));
        for (first, fits) in [(u64::MAX - 3, true), (u64::MAX - 2, false), (u64::MAX, false)] {
            let last = SegmentIndex { first, runs: vec![run(first)], ..index() };
            assert_eq!(SegmentIndex::decode(&last.encode()).is_some(), fits, "{first}");
        }
    }

    /// No count in a header, however absurd, makes a reader allocate for it.
    #[test]
    fn absurd_counts_are_refused_before_they_are_believed() {
        let mut file = index().encode();
        for (at, count) in [(80, u64::MAX), (80, u64::MAX / 16), (88, u64::MAX), (88, 1 << 40)] {
            file[at..at + 8].copy_from_slice(&count.to_le_bytes());
            let crc = checksum(index().salt, 0, index().before, &file[..HEADER_LEN - 4]);
            file[HEADER_LEN - 4..HEADER_LEN].copy_from_slice(&crc.to_le_bytes());
            assert_eq!(SegmentIndex::decode(&file), None);
        }
    }

    /// The bytes of version 1, for ever. A change here is a change of the format: it needs a new version.
    #[test]
    fn golden_bytes_of_version_1() {
        let mut text = String::from("# index of a segment\n");
        for line in index().encode().chunks(32) {
            text.extend(line.iter().map(|byte| format!("{byte:02x}")));
            text.push('\n');
        }
        assert_eq!(text, include_str!("golden_index_v1.hex"), "\n{text}");
    }
}
