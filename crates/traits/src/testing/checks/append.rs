//! Appending.

use super::{Check, list};
use crate::testing::builder::StoreBuilder;
use crate::testing::trial::{Checked, Trial, ensure};
use crate::{RaftLogReader, RaftLogStorage, RaftTypeConfig};

/// Entries of a log that is longer than any buffer of a few kilobytes.
const LONG: u64 = 600;

pub(super) fn checks<C: RaftTypeConfig, B: StoreBuilder<C>>() -> Vec<Check<C, B>> {
    list![Log:
        ordinary_entries_come_back_whole,
        blank_entries_come_back,
        membership_entries_come_back_whole,
        the_first_entry_of_a_cluster_comes_back,
        entries_are_readable_once_submitted,
        the_log_state_counts_what_is_submitted,
        appends_join_up,
        an_append_of_nothing_is_completed_and_changes_nothing,
        a_long_log_comes_back_whole,
        indexes_beyond_32_bits_come_back,
        a_committed_hint_is_one_that_was_saved,
    ]
}

/// What clients have asked comes back as it was.
async fn ordinary_entries_come_back_whole<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    t.append(t.normals(1, 1..=10))?;
    t.turn().await?;
    t.agrees().await
}

/// The entries of new leaders come back, with nothing in them.
async fn blank_entries_come_back<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    t.append(vec![t.blank(1, 1), t.blank(1, 2), t.blank(4, 3)])?;
    t.turn().await?;
    t.agrees().await
}

/// Memberships come back with both sets of voters and with their learners.
async fn membership_entries_come_back_whole<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    use raftwright_core::RaftEntry;
    let uniform = C::Entry::of_membership(t.id(1, 1), t.members(&[&[1, 2, 3]], &[])?);
    let joint = C::Entry::of_membership(t.id(1, 2), t.members(&[&[1, 2, 3], &[3, 4, 5]], &[7])?);
    let learners = C::Entry::of_membership(t.id(2, 3), t.members(&[&[4]], &[1, 2, 9])?);
    t.append(vec![uniform, joint, learners])?;
    t.turn().await?;
    t.agrees().await
}

/// A cluster begins with a membership of term 0 at index 1, written before there is any vote.
async fn the_first_entry_of_a_cluster_comes_back<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    use raftwright_core::RaftEntry;
    let first = C::Entry::of_membership(t.id(0, 1), t.members(&[&[1, 2, 3]], &[])?);
    t.submit(crate::testing::model::Op::Append(vec![first]))?;
    t.turn().await?;
    t.agrees().await
}

/// An entry can be read as soon as it was submitted: it is sent to the peers while it is being written here.
async fn entries_are_readable_once_submitted<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    let mut reader = t.log()?.get_log_reader().await;
    for index in 1..=30 {
        t.append(t.normals(1, [index]))?;
        let found = t.log()?.try_get_log_entries(index..=index).await?;
        t.are(&found, [index], "once submitted")?;
        let found = reader.try_get_log_entries(1..index + 1).await?;
        t.are(&found, 1..=index, "once submitted, to a reader")?;
    }
    t.settled().await
}

/// The last log id is that of the last entry submitted.
async fn the_log_state_counts_what_is_submitted<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    for index in 1..=20 {
        t.append(t.normals(index, [index]))?;
        let last = t.log()?.get_log_state().await?.last_log_id;
        ensure!(last == Some(t.id(index, index)), "entry {index} was submitted, and the last log id is {last:?}");
    }
    t.turn().await?;
    t.agrees().await
}

/// Appends of any size join up without a gap.
async fn appends_join_up<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    for (term, size) in (1..).zip([1, 2, 1, 7, 30, 1]) {
        t.append_mixed(&vec![term; size])?;
        t.turn().await?;
        t.agrees().await?;
    }
    Ok(())
}

/// An append without entries has its token completed like any other, and changes nothing.
async fn an_append_of_nothing_is_completed_and_changes_nothing<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    t.append(Vec::new())?;
    t.append_mixed(&[1, 1])?;
    t.append(Vec::new())?;
    t.turn().await?;
    t.agrees().await
}

/// A long log is read whole, from one call.
async fn a_long_log_comes_back_whole<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    for first in (1..=LONG).step_by(50) {
        t.append(t.normals(1 + first / 100, first..first + 50))?;
    }
    t.turn().await?;
    t.agrees().await
}

/// Indexes and terms have 64 bits.
async fn indexes_beyond_32_bits_come_back<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    let far = (1 << 33) - 2;
    t.append_mixed(&[1])?;
    t.purge(1 << 40, far)?;
    t.append_mixed(&[1 << 40, 1 << 40, 1 << 41, 1 << 41])?;
    t.turn().await?;
    t.agrees().await?;
    let found = t.log()?.try_get_log_entries(far + 2..far + 4).await?;
    t.are(&found, [far + 2, far + 3], "a range of large indexes")
}

/// The hint may be old or lost, but it is never one that nobody has saved.
async fn a_committed_hint_is_one_that_was_saved<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    t.append_mixed(&[1, 1, 2, 2, 3])?;
    let mut saved = vec![None];
    for (term, index) in [(1, 2), (2, 3), (2, 4)] {
        let committed = Some(t.id(term, index));
        t.note(format!("save_committed({term}.{index})"));
        t.log()?.save_committed(committed);
        saved.push(committed);
        t.append_mixed(&[3])?;
        t.turn().await?;
        let hint = t.log()?.read_committed().await?;
        ensure!(saved.contains(&hint), "the hint is {hint:?}; saved were {saved:?}");
    }
    t.agrees().await
}
