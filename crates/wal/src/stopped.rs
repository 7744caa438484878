//! What a write leaves behind that stopped within the head of a batch, told from a head that was damaged.
//!
//! A batch that may have been acknowledged is there up to its end, and its end is not zero; so is the rest of its first sector.
//! Sectors are written whole, so a head of which a part is missing in front of bytes that are there was damaged. But some
//! file systems let a failed write end anywhere: then all that follows is what stood there before, that is to say nothing.

use crate::format::{BATCH_HEADER_LEN, BatchHeader, Fields, HeaderState, Role, SECTOR, header_state, is_zero};
use crate::recovery::sole_sector;
use crate::verdict::HeaderSeen;

/// The last bytes of a header say that it was written to its end.
const HEADER_END_AT: usize = BATCH_HEADER_LEN - 8;
/// A batch header says how long the batch is in the bytes before this one.
const TOTAL_LEN_END: usize = 12;
/// All that is said in a header stands before this byte; its checksum follows.
const FIELDS_END: usize = 52;

/// Where the log goes on: what every header there says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Here {
    pub(crate) salt: u64,
    pub(crate) position: u64,
    /// Number of the next batch.
    pub(crate) number: u64,
    /// The checksum that it is chained to, where it is known.
    pub(crate) before: Option<u32>,
}

/// What stands where no batch header verifies. `rest` is all of the segment from there on.
pub(crate) fn header_seen(rest: &[u8], here: Here) -> HeaderSeen {
    match header_state(rest, here.salt, here.position) {
        HeaderState::Good(BatchHeader { role: Role::Mark, .. }) => HeaderSeen::Unwritten,
        HeaderState::Good(_) => HeaderSeen::Bad,
        HeaderState::Unwritten | HeaderState::Bad if never_arrived(rest, here) => HeaderSeen::Unwritten,
        HeaderState::Unwritten | HeaderState::Bad => HeaderSeen::Bad,
    }
}

fn never_arrived(rest: &[u8], here: Here) -> bool {
    let Some((head, behind)) = rest.split_first_chunk::<BATCH_HEADER_LEN>() else { return true };
    let sector = rest.get(..SECTOR).unwrap_or(rest);
    is_zero(sector) || is_zero(behind) && (is_zero(&head[HEADER_END_AT..]) || stopped_within(head, here))
}

/// True when `head` is the beginning of a header that belongs here, and then what was there before: nothing, or the mark that
/// the batch was to overwrite.
fn stopped_within(head: &[u8; BATCH_HEADER_LEN], here: Here) -> bool {
    let Here { salt, position, number, before: Some(before) } = here else { return false };
    let mark = sole_sector(Role::Mark, number, before, salt, position);
    let mark = &mark.content()[..BATCH_HEADER_LEN];
    (1..BATCH_HEADER_LEN).any(|at| {
        let (written, left) = head.split_at(at);
        let batch = || begins_batch(written, number, before, salt, position);
        left == &mark[at..] && batch() || is_zero(left) && (batch() || written == &mark[..at])
    })
}

/// True when the header of a batch can begin so, at this place of the chain.
fn begins_batch(written: &[u8], number: u64, before: u32, salt: u64, position: u64) -> bool {
    let field = |at: usize| Fields::new(written.get(at..).unwrap_or(&[])).u32();
    let header = BatchHeader {
        role: Role::Batch,
        total_len: field(8),
        count: field(12),
        number,
        durable_through: number.saturating_sub(1),
        before,
        zero_sectors: field(44),
        trailer_len: field(48),
    };
    let mut whole = header.encode(salt, position);
    // Of a field that is there in part, the part counts.
    for (at, byte) in written.iter().enumerate().filter(|(at, _)| matches!(at, 8..16 | 44..52)) {
        whole[at] = *byte;
    }
    let sensible = (written.len() < TOTAL_LEN_END || header.total_len > 0)
        && (written.len() < FIELDS_END || header.is_plausible(u64::from(u32::MAX)));
    sensible && whole.starts_with(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Here = Here { salt: 77, position: 4096, number: 9, before: Some(0xBEEF) };

    fn batch() -> [u8; BATCH_HEADER_LEN] {
        let header = BatchHeader {
            role: Role::Batch,
            total_len: 260,
            count: 1,
            number: 9,
            durable_through: 8,
            before: 0xBEEF,
            zero_sectors: 0,
            trailer_len: 108,
        };
        header.encode(77, 4096)
    }

    fn sole(role: Role) -> [u8; BATCH_HEADER_LEN] {
        *sole_sector(role, 9, 0xBEEF, 77, 4096).content().first_chunk().unwrap()
    }

    /// `new` up to `at`, and `old` behind, in a segment that holds nothing else.
    fn rest(new: &[u8; 64], at: usize, old: &[u8; 64]) -> Vec<u8> {
        let mut rest = vec![0; 4 * SECTOR];
        rest[..64].copy_from_slice(old);
        rest[..at].copy_from_slice(&new[..at]);
        rest
    }

    /// How far a batch header may have come over each thing that may have stood there, and not be whole, nor what was there.
    fn stops() -> impl Iterator<Item = (usize, [u8; BATCH_HEADER_LEN])> {
        let over_nothing = (1..64).map(|at| (at, [0; 64]));
        // The first bytes of the two are the same, and so are the last.
        over_nothing.chain((5..56).map(|at| (at, sole(Role::Mark))))
    }

    #[test]
    fn a_write_that_stopped_at_any_byte_of_a_header_is_seen() {
        for (at, old) in stops() {
            assert_eq!(header_seen(&rest(&batch(), at, &old), HERE), HeaderSeen::Unwritten, "batch up to {at}");
        }
        for at in 0..=64 {
            assert_eq!(header_seen(&rest(&sole(Role::Mark), at, &[0; 64]), HERE), HeaderSeen::Unwritten, "mark");
        }
    }

    /// Bytes behind the stop are written later than those before it: so nothing stopped there.
    #[test]
    fn nothing_stops_in_front_of_bytes_that_arrived() {
        for (at, old) in stops() {
            for behind in [64, 100, SECTOR - 1, SECTOR, 4 * SECTOR - 1] {
                let mut rest = rest(&batch(), at, &old);
                rest[behind] = 1;
                assert_eq!(header_seen(&rest, HERE), HeaderSeen::Bad, "{at} {behind}");
            }
        }
        // But a whole sector may be missing in front of others.
        let mut rest = vec![0; 2 * SECTOR];
        rest[SECTOR] = 1;
        assert_eq!(header_seen(&rest, HERE), HeaderSeen::Unwritten);
    }

    /// No flipped byte makes a head pass for one of which a part was written, neither that of a batch that is there nor a seal.
    #[test]
    fn damage_is_not_a_stopped_write() {
        for (whole, behind) in [(batch(), 1), (sole(Role::Seal), 0)] {
            for (at, mask) in (0..64).flat_map(|at| (1..=255u8).map(move |mask| (at, mask))) {
                let mut head = whole;
                head[at] ^= mask;
                let mut rest = rest(&head, 64, &head);
                rest[64] = behind;
                assert_eq!(header_seen(&rest, HERE), HeaderSeen::Bad, "byte {at} mask {mask}");
            }
        }
    }

    /// What belongs to another place, time or segment did not stop here.
    #[test]
    fn a_header_that_belongs_elsewhere_did_not_stop_here() {
        for at in 57..64 {
            let rest = rest(&batch(), at, &[0; 64]);
            for elsewhere in [
                Here { number: 10, ..HERE },
                Here { before: Some(1), ..HERE },
                Here { before: None, ..HERE },
                Here { salt: 78, ..HERE },
                Here { position: 512, ..HERE },
            ] {
                assert_eq!(header_seen(&rest, elsewhere), HeaderSeen::Bad, "{at} {elsewhere:?}");
            }
        }
    }
}
