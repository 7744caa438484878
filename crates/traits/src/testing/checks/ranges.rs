//! Reading by range.

use std::ops::Bound;

use super::{Check, list};
use crate::testing::builder::StoreBuilder;
use crate::testing::trial::{Checked, Trial, ensure};
use crate::{LogIndex, RaftLogReader, RaftTypeConfig};

pub(super) fn checks<C: RaftTypeConfig, B: StoreBuilder<C>>() -> Vec<Check<C, B>> {
    list![Log:
        a_half_open_range_leaves_its_end_out,
        a_closed_range_includes_its_end,
        a_range_may_have_no_start,
        a_range_may_have_no_end,
        a_range_may_exclude_its_start,
        a_range_that_reaches_beyond_the_log_gives_what_exists,
        an_empty_range_gives_nothing,
        a_range_after_the_end_gives_nothing,
    ]
}

/// A log of entries 3 to 10, 2 being the last one purged.
async fn log_of_3_to_10<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    t.append_mixed(&[1, 1, 1, 2, 2, 2, 5, 5, 6, 6])?;
    t.purge(1, 2)?;
    t.turn().await
}

/// `a..b` gives `a` and not `b`.
async fn a_half_open_range_leaves_its_end_out<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    log_of_3_to_10(t).await?;
    for (start, end) in [(3, 11), (3, 4), (5, 8), (9, 11)] {
        let found = t.log()?.try_get_log_entries(start..end).await?;
        t.are(&found, start..end, &format!("{start}..{end}"))?;
    }
    Ok(())
}

/// `a..=b` gives both.
async fn a_closed_range_includes_its_end<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    log_of_3_to_10(t).await?;
    for (start, end) in [(3, 10), (3, 3), (5, 8), (10, 10)] {
        let found = t.log()?.try_get_log_entries(start..=end).await?;
        t.are(&found, start..=end, &format!("{start}..={end}"))?;
    }
    Ok(())
}

/// `..b` begins where the log does.
async fn a_range_may_have_no_start<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    log_of_3_to_10(t).await?;
    let found = t.log()?.try_get_log_entries(..6).await?;
    t.are(&found, 3..6, "..6")?;
    let found = t.log()?.try_get_log_entries(..=6).await?;
    t.are(&found, 3..=6, "..=6")
}

/// `a..` ends where the log does.
async fn a_range_may_have_no_end<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    log_of_3_to_10(t).await?;
    let found = t.log()?.try_get_log_entries(7..).await?;
    t.are(&found, 7..=10, "7..")?;
    let found = t.log()?.try_get_log_entries(..).await?;
    t.are(&found, 3..=10, "..")
}

/// A bound that excludes the start begins behind it.
async fn a_range_may_exclude_its_start<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    log_of_3_to_10(t).await?;
    let range = (Bound::Excluded(4), Bound::Included(7));
    let found = t.log()?.try_get_log_entries(range).await?;
    t.are(&found, 5..=7, "behind 4, up to 7")
}

/// What lies before the log or behind it does not exist, and is no error.
async fn a_range_that_reaches_beyond_the_log_gives_what_exists<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    log_of_3_to_10(t).await?;
    for (start, end) in [(0, 5), (1, 100), (8, 1000), (0, LogIndex::MAX)] {
        let found = t.log()?.try_get_log_entries(start..end).await?;
        t.are(&found, start.max(3)..end.min(11), &format!("{start}..{end}"))?;
    }
    let found = t.log()?.try_get_log_entries(9..=LogIndex::MAX).await?;
    t.are(&found, 9..=10, "9..=MAX")
}

/// An empty range gives nothing, also when it is written the wrong way round.
async fn an_empty_range_gives_nothing<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    log_of_3_to_10(t).await?;
    for (start, end) in [(5, 5), (7, 4), (3, 0), (LogIndex::MAX, 0)] {
        let found = t.log()?.try_get_log_entries(start..end).await?;
        ensure!(found.is_empty(), "{start}..{end} gives {found:?}");
    }
    Ok(())
}

/// Nothing is behind the end, nor in what was purged.
async fn a_range_after_the_end_gives_nothing<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    log_of_3_to_10(t).await?;
    for (start, end) in [(11, 12), (50, 60), (0, 3), (1, 2)] {
        let found = t.log()?.try_get_log_entries(start..end).await?;
        ensure!(found.is_empty(), "{start}..{end} gives {found:?}");
    }
    Ok(())
}
