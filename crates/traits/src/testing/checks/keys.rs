//! Log ids without their entries.

use super::{Check, list};
use crate::testing::builder::StoreBuilder;
use crate::testing::trial::{Checked, Trial, ensure};
use crate::{LogIdOf, LogIndex, RaftEntry, RaftLogReader, RaftTypeConfig};

pub(super) fn checks<C: RaftTypeConfig, B: StoreBuilder<C>>() -> Vec<Check<C, B>> {
    list![Log:
        key_log_ids_name_the_first_entry_of_every_leader,
        key_log_ids_of_a_part_begin_with_it,
        key_log_ids_after_a_purge_begin_behind_it,
        key_log_ids_after_a_truncation_forget_what_is_cut,
        a_log_id_is_found_by_index,
    ]
}

/// The key log ids of a part of the log, found by looking at every entry.
fn keys<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &Trial<C, B>, first: LogIndex, last: LogIndex) -> Vec<LogIdOf<C>> {
    let mut keys: Vec<LogIdOf<C>> = Vec::new();
    for id in t.model.entries.iter().map(RaftEntry::log_id).filter(|id| (first..=last).contains(&id.index)) {
        if keys.last().is_none_or(|key| key.leader_id != id.leader_id) {
            keys.push(id);
        }
    }
    keys
}

/// Asks for the key log ids of every part of the log.
async fn every_part<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    let ids: Vec<LogIdOf<C>> = t.model.entries.iter().map(RaftEntry::log_id).collect();
    for first in &ids {
        for last in ids.iter().filter(|last| last.index >= first.index) {
            let expected = keys(t, first.index, last.index);
            let found = t.log()?.get_key_log_ids(first.index, *last).await?;
            ensure!(found == expected, "the key log ids from {first} to {last} are {found:?}, not {expected:?}");
        }
    }
    Ok(())
}

/// The first entry of every leader, whatever the lengths of their terms.
async fn key_log_ids_name_the_first_entry_of_every_leader<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    for shape in [&[1; 8][..], &[1, 2, 3, 4, 9], &[1, 1, 1, 1, 1, 1, 7], &[2, 5, 5, 5, 5, 5, 5, 5], &[1, 1, 4, 4, 4, 8]]
    {
        let mut one = t.another().await?;
        one.append_mixed(shape)?;
        one.turn().await?;
        let Some(last) = one.model.last else { continue };
        let expected = keys(&one, 1, last.index);
        let found = one.log()?.get_key_log_ids(1, last).await?;
        ensure!(found == expected, "the key log ids of a log of terms {shape:?} are {found:?}, not {expected:?}");
    }
    Ok(())
}

/// A part that begins in the middle of a leader's entries begins with the entry there.
async fn key_log_ids_of_a_part_begin_with_it<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    t.append_mixed(&[1, 1, 1, 2, 3, 3, 3, 3, 7, 7])?;
    t.turn().await?;
    every_part(t).await
}

/// Purged entries are in no part of the log.
async fn key_log_ids_after_a_purge_begin_behind_it<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    t.append_mixed(&[1, 1, 1, 2, 3, 3, 3, 3, 7, 7])?;
    t.purge(3, 6)?;
    t.turn().await?;
    every_part(t).await
}

/// A leader whose entries were all cut is in no part of the log.
async fn key_log_ids_after_a_truncation_forget_what_is_cut<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    t.append_mixed(&[1, 1, 2, 2, 3, 3])?;
    t.truncate(4)?;
    t.append_mixed(&[5, 5])?;
    t.turn().await?;
    every_part(t).await
}

/// The log id of an entry that is there is found; of one that is not, there is an error and no guess.
async fn a_log_id_is_found_by_index<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    t.append_mixed(&[1, 1, 2, 2, 3])?;
    t.purge(1, 1)?;
    t.turn().await?;
    for (term, index) in [(1, 2), (2, 3), (2, 4), (3, 5)] {
        let found = t.log()?.log_id_at(index).await?;
        ensure!(found == t.id(term, index), "entry {index} has the log id {found}");
    }
    let missing = t.log()?.log_id_at(6).await;
    ensure!(missing.is_err(), "the missing entry 6 has the log id {missing:?}");
    Ok(())
}
