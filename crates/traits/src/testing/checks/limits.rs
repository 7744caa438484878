//! Reading with a limit in bytes.

use raftwright_core::RaftEntry;

use super::{Check, list};
use crate::testing::builder::StoreBuilder;
use crate::testing::trial::{Checked, Trial, ensure};
use crate::{LogIndex, RaftLogReader, RaftTypeConfig};

/// Entries of the log that is read.
const COUNT: u64 = 100;
/// How much more than the limit a read may give: a store may count the bytes as it keeps them.
const SLACK: usize = 2;

pub(super) fn checks<C: RaftTypeConfig, B: StoreBuilder<C>>() -> Vec<Check<C, B>> {
    list![Log:
        a_limit_of_0_bytes_gives_one_entry,
        a_limit_of_1_byte_gives_one_entry,
        an_exact_limit_gives_no_more_than_it_says,
        no_limit_gives_the_whole_range,
        a_limited_read_ends_with_its_range,
        a_limited_read_of_nothing_gives_nothing,
        paging_meets_every_entry_once,
    ]
}

async fn full_log<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    t.append(t.normals(1, 1..=COUNT))?;
    t.turn().await
}

async fn one_entry<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>, bytes_max: usize) -> Checked {
    full_log(t).await?;
    for start in [1, 50, COUNT] {
        let found = t.log()?.limited_get_log_entries(start, COUNT + 1, bytes_max).await?;
        t.are(&found, [start], &format!("from {start} on, {bytes_max} bytes"))?;
    }
    Ok(())
}

/// At least one entry is given, however small the limit, or nobody who reads could go on.
async fn a_limit_of_0_bytes_gives_one_entry<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    one_entry(t, 0).await
}

/// One byte is too little for two entries.
async fn a_limit_of_1_byte_gives_one_entry<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    one_entry(t, 1).await
}

/// A limit that is exactly the size of some entries gives about those: the first ones of the range, without a gap.
async fn an_exact_limit_gives_no_more_than_it_says<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    full_log(t).await?;
    for (start, count) in [(1u64, 2usize), (10, 5), (60, 20)] {
        let sizes = t.model.entries.iter().skip(start as usize - 1).take(count).map(RaftEntry::size);
        let bytes_max: usize = sizes.sum();
        let found = t.log()?.limited_get_log_entries(start, COUNT + 1, bytes_max).await?;
        let bytes: usize = found.iter().map(RaftEntry::size).sum();
        ensure!(!found.is_empty(), "a limit of {bytes_max} bytes gives nothing from {start} on");
        ensure!(
            found.len() == 1 || bytes <= bytes_max.saturating_mul(SLACK),
            "a limit of {bytes_max} bytes gives {} entries of {bytes} bytes",
            found.len()
        );
        t.are(&found, start..start + found.len() as u64, &format!("from {start} on, {bytes_max} bytes"))?;
    }
    Ok(())
}

/// A limit that is never reached leaves nothing out.
async fn no_limit_gives_the_whole_range<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    full_log(t).await?;
    let found = t.log()?.limited_get_log_entries(1, COUNT + 1, usize::MAX).await?;
    t.are(&found, 1..=COUNT, "from 1 on, without a limit")
}

/// What is behind the range is not given, whatever the limit.
async fn a_limited_read_ends_with_its_range<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    full_log(t).await?;
    let found = t.log()?.limited_get_log_entries(20, 30, usize::MAX).await?;
    t.are(&found, 20..30, "20..30 without a limit")?;
    let found = t.log()?.limited_get_log_entries(COUNT - 1, COUNT + 50, usize::MAX).await?;
    t.are(&found, COUNT - 1..=COUNT, "beyond the end, without a limit")
}

/// Nothing is given where nothing is.
async fn a_limited_read_of_nothing_gives_nothing<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    full_log(t).await?;
    for (start, end) in [(30, 30), (40, 20), (COUNT + 1, COUNT + 9)] {
        let found = t.log()?.limited_get_log_entries(start, end, 1000).await?;
        ensure!(found.is_empty(), "{start}..{end} gives {found:?}");
    }
    Ok(())
}

/// Whoever reads on behind what was read meets every entry once, whatever the limit.
async fn paging_meets_every_entry_once<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    full_log(t).await?;
    let size = t.model.entries.first().map_or(0, RaftEntry::size);
    for bytes_max in [0, 1, size, 3 * size + 1, 40 * size, usize::MAX] {
        let mut next: LogIndex = 1;
        while next <= COUNT {
            let found = t.log()?.limited_get_log_entries(next, COUNT + 1, bytes_max).await?;
            ensure!(!found.is_empty(), "a limit of {bytes_max} bytes gives nothing from {next} on");
            let end = next + found.len() as u64;
            t.are(&found, next..end, &format!("from {next} on, {bytes_max} bytes"))?;
            next = end;
        }
        ensure!(next == COUNT + 1, "a limit of {bytes_max} bytes reads beyond the range, up to {next}");
    }
    Ok(())
}
