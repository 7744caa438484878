//! Purging the beginning of the log and truncating its end.

use super::{Check, list};
use crate::RaftTypeConfig;
use crate::testing::builder::StoreBuilder;
use crate::testing::trial::{Checked, Trial};

pub(super) fn checks<C: RaftTypeConfig, B: StoreBuilder<C>>() -> Vec<Check<C, B>> {
    list![Log:
        a_purge_takes_the_beginning,
        a_purge_of_everything_leaves_the_last_log_id,
        an_append_goes_on_behind_a_purge_of_everything,
        a_purge_beyond_the_end_moves_the_log_there,
        a_purge_of_a_new_log_moves_it_there,
        a_purge_of_another_entry_takes_the_whole_log,
        a_purge_beyond_the_end_by_an_older_leader_moves_the_log_there,
        an_older_purge_changes_nothing,
        purges_step_by_step_leave_the_rest,
        a_truncation_takes_the_end,
        a_truncation_takes_the_last_entry_alone,
        a_truncation_of_everything_leaves_an_empty_log,
        a_truncation_of_everything_ends_at_what_was_purged,
        a_truncation_behind_the_end_changes_nothing,
        an_append_replaces_what_was_truncated,
        cuts_and_appends_take_effect_in_their_order,
    ]
}

/// Entries up to and including the purged one are gone, and it is known as purged.
async fn a_purge_takes_the_beginning<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    t.append_mixed(&[1, 1, 2, 2, 3])?;
    t.purge(2, 3)?;
    t.turn().await?;
    t.agrees().await
}

/// After the last entry was purged, it is still the last log id: the next one goes behind it.
async fn a_purge_of_everything_leaves_the_last_log_id<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    t.append_mixed(&[1, 1, 2])?;
    t.purge(2, 3)?;
    t.turn().await?;
    t.agrees().await
}

/// Appending goes on behind what was purged.
async fn an_append_goes_on_behind_a_purge_of_everything<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    t.append_mixed(&[1, 1, 2])?;
    t.purge(2, 3)?;
    t.turn().await?;
    t.append_mixed(&[2, 2, 4])?;
    t.turn().await?;
    t.agrees().await
}

/// A log that ends before an installed snapshot is purged beyond its end, and goes on behind the snapshot.
async fn a_purge_beyond_the_end_moves_the_log_there<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    t.append_mixed(&[1, 1, 2])?;
    t.purge(4, 70)?;
    t.turn().await?;
    t.agrees().await?;
    t.append_mixed(&[4, 5])?;
    t.turn().await?;
    t.agrees().await
}

/// A new server gets a snapshot before any entry.
async fn a_purge_of_a_new_log_moves_it_there<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    t.purge(3, 40)?;
    t.turn().await?;
    t.agrees().await?;
    t.append_mixed(&[3, 3])?;
    t.turn().await?;
    t.agrees().await
}

/// A leader's snapshot covers an entry, and the log has another one in its place: what stands behind that one contradicts
/// the snapshot, and goes with everything else (Raft §7). Also when the entries are no longer in memory.
async fn a_purge_of_another_entry_takes_the_whole_log<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    t.append_mixed(&[1, 1, 1, 1, 1, 2, 2])?;
    t.turn().await?;
    t.purge(3, 5)?;
    t.agrees().await?;
    t.turn().await?;
    t.agrees().await?;
    t.append_mixed(&[3, 3])?;
    t.turn().await?;
    t.agrees().await
}

/// The log ends before the snapshot, with entries of a later leader that were never committed.
async fn a_purge_beyond_the_end_by_an_older_leader_moves_the_log_there<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    t.append_mixed(&[1, 1, 5])?;
    t.purge(4, 6)?;
    t.turn().await?;
    t.agrees().await?;
    t.append_mixed(&[6])?;
    t.turn().await?;
    t.agrees().await
}

/// What is purged stays purged: a purge up to an earlier entry does not move the mark back.
async fn an_older_purge_changes_nothing<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    t.append_mixed(&[1, 1, 2, 2, 3])?;
    t.purge(2, 4)?;
    t.purge(2, 4)?;
    t.purge(1, 2)?;
    t.turn().await?;
    t.agrees().await
}

/// Each of many purges takes its part.
async fn purges_step_by_step_leave_the_rest<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    t.append_mixed(&[1; 12])?;
    for index in [1, 2, 5, 9, 12] {
        t.purge(1, index)?;
        t.turn().await?;
        t.agrees().await?;
    }
    Ok(())
}

/// The entry at `since` and all behind it are gone, the one before it is not.
async fn a_truncation_takes_the_end<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    t.append_mixed(&[1, 1, 2, 2, 3])?;
    t.truncate(3)?;
    t.turn().await?;
    t.agrees().await
}

/// Truncating at the last index takes one entry.
async fn a_truncation_takes_the_last_entry_alone<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    t.append_mixed(&[1, 1, 2])?;
    t.truncate(3)?;
    t.turn().await?;
    t.agrees().await
}

/// A log that was truncated at its first entry is empty, and is appended to like a new one.
async fn a_truncation_of_everything_leaves_an_empty_log<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    t.append_mixed(&[1, 1, 2])?;
    t.truncate(1)?;
    t.turn().await?;
    t.agrees().await?;
    t.append_mixed(&[5])?;
    t.turn().await?;
    t.agrees().await
}

/// When everything behind the purged part is truncated, the last log id is the purged one.
async fn a_truncation_of_everything_ends_at_what_was_purged<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    t.append_mixed(&[1, 1, 2, 2])?;
    t.purge(1, 2)?;
    t.truncate(3)?;
    t.turn().await?;
    t.agrees().await?;
    t.append_mixed(&[4, 4])?;
    t.turn().await?;
    t.agrees().await
}

/// Where there is nothing, nothing is truncated.
async fn a_truncation_behind_the_end_changes_nothing<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    t.append_mixed(&[1, 1, 2])?;
    t.truncate(4)?;
    t.truncate(90)?;
    t.turn().await?;
    t.agrees().await
}

/// A new leader's entries take the place of those that it has cut (Raft §5.3).
async fn an_append_replaces_what_was_truncated<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    t.append_mixed(&[1, 1, 2, 2, 2, 2])?;
    t.turn().await?;
    t.truncate(3)?;
    t.append_mixed(&[3, 3])?;
    t.turn().await?;
    t.agrees().await
}

/// Votes, appends, truncations and purges that nobody waits for take effect in the order in which they were submitted.
async fn cuts_and_appends_take_effect_in_their_order<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    for term in 1..=20 {
        t.append_mixed(&[term; 6])?;
        let last = t.model.last.map_or(0, |last| last.index);
        t.truncate(last - 1)?;
        if term % 4 == 0 {
            t.purge(term, last - 4)?;
        }
        t.append_mixed(&[term])?;
        t.agrees().await?;
    }
    t.turn().await?;
    t.agrees().await
}
