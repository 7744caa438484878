//! Readers beside the writer.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use super::{Check, list};
use crate::testing::builder::StoreBuilder;
use crate::testing::executor::{PATIENCE, run};
use crate::testing::trial::{Checked, Failure, Trial, ensure};
use crate::{LogIndex, RaftEntry, RaftLogReader, RaftLogStorage, RaftTypeConfig};

/// Rounds of the writer while readers on other threads go on reading.
const ROUNDS: u64 = 200;
/// Readers on other threads.
const READERS: usize = 2;

pub(super) fn checks<C: RaftTypeConfig, B: StoreBuilder<C>>() -> Vec<Check<C, B>> {
    list![Log:
        a_reader_sees_what_is_submitted_after_it_was_made,
        a_reader_sees_what_was_cut_after_it_was_made,
        readers_do_not_disturb_each_other,
        a_read_that_is_overtaken_by_writes_is_whole,
    ]
}

pub(super) fn beside<C: RaftTypeConfig, B: StoreBuilder<C>>() -> Vec<Check<C, B>> {
    list![Threads: readers_on_other_threads_see_a_log_without_gaps]
}

/// A reader is no copy: it goes on seeing what the log holds.
async fn a_reader_sees_what_is_submitted_after_it_was_made<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    t.append_mixed(&[1, 1])?;
    t.turn().await?;
    let mut reader = t.log()?.get_log_reader().await;
    t.append_mixed(&[1, 2, 2])?;
    let found = reader.try_get_log_entries(..).await?;
    t.are(&found, 1..=5, "to the reader, once submitted")?;
    t.settled().await?;
    let found = reader.limited_get_log_entries(4, 6, usize::MAX).await?;
    t.are(&found, 4..=5, "to the reader, once completed")
}

/// Nor does a reader keep what is gone.
async fn a_reader_sees_what_was_cut_after_it_was_made<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    t.append_mixed(&[1, 1, 2, 2, 2])?;
    t.turn().await?;
    let mut reader = t.log()?.get_log_reader().await;
    t.truncate(4)?;
    t.purge(1, 1)?;
    let found = reader.try_get_log_entries(..).await?;
    t.are(&found, 2..=3, "to the reader, once submitted")?;
    t.append_mixed(&[6])?;
    t.settled().await?;
    let found = reader.try_get_log_entries(0..10).await?;
    t.are(&found, 2..=4, "to the reader, once completed")
}

/// Several readers are each where they are.
async fn readers_do_not_disturb_each_other<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    t.append_mixed(&[1; 20])?;
    t.turn().await?;
    let mut one = t.log()?.get_log_reader().await;
    let mut two = t.log()?.get_log_reader().await;
    for index in 1..=20 {
        let found = one.limited_get_log_entries(index, 21, 0).await?;
        t.are(&found, [index], "to the first reader")?;
        let found = two.limited_get_log_entries(21 - index, 21, 0).await?;
        t.are(&found, [21 - index], "to the second reader")?;
    }
    drop(one);
    let found = two.try_get_log_entries(..).await?;
    t.are(&found, 1..=20, "to the reader that is left")
}

/// A read that has begun and then sees writes pass gives the log as it was at one moment in between.
async fn a_read_that_is_overtaken_by_writes_is_whole<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    t.append_mixed(&[1; 10])?;
    t.turn().await?;
    let mut reader = t.log()?.get_log_reader().await;
    let mut possible = vec![t.model.entries.clone()];
    let mut read = pin!(reader.try_get_log_entries(1..100));
    // Begun, and not waited for: a store that has everything at hand is done already.
    let early = poll_fn(|_| Poll::Ready(read.as_mut().poll(&mut Context::from_waker(Waker::noop())))).await;
    t.truncate(6)?;
    possible.push(t.model.entries.clone());
    t.append_mixed(&[3, 3, 3])?;
    possible.push(t.model.entries.clone());
    t.purge(1, 2)?;
    possible.push(t.model.entries.clone());
    let found = match early {
        Poll::Ready(found) => found?,
        Poll::Pending => read.await?,
    };
    let same = |entries: &Vec<C::Entry>| crate::testing::model::entries_differ::<C>(entries, &found).is_none();
    ensure!(possible.iter().any(same), "a read beside writes gives {found:?}, which was never the log");
    t.settled().await
}

/// What readers on other threads know of the writer.
struct Shared {
    /// Every entry up to here was submitted and stays.
    stays: AtomicU64,
    /// Every entry up to here may be purged.
    purging: AtomicU64,
    done: AtomicBool,
    ended: Mutex<(Vec<Checked>, Option<Waker>)>,
}

/// Readers on other threads see a contiguous part of the log at every moment: no gap, nothing twice, nothing that was
/// replaced, and all that was submitted before they asked.
async fn readers_on_other_threads_see_a_log_without_gaps<C: RaftTypeConfig, B: StoreBuilder<C>>(
    t: &mut Trial<C, B>,
) -> Checked {
    let shared = Arc::new(Shared {
        stays: AtomicU64::new(0),
        purging: AtomicU64::new(0),
        done: AtomicBool::new(false),
        ended: Mutex::default(),
    });
    for _ in 0..READERS {
        let (reader, shared) = (t.log()?.get_log_reader().await, Arc::clone(&shared));
        let work = Box::new(move || {
            let result = run(keep_reading::<C, _>(reader, &shared), PATIENCE)
                .unwrap_or_else(|none| Err(Failure(format!("a read has no result: {none:?}"))));
            let mut ended = shared.ended.lock().unwrap_or_else(PoisonError::into_inner);
            ended.0.push(result);
            if let Some(waker) = ended.1.take() {
                waker.wake();
            }
        });
        t.builder().spawn(work).map_err(|error| Failure(error.to_string()))?;
    }
    let written = keep_writing(t, &shared).await;
    shared.done.store(true, Ordering::SeqCst);
    let results = poll_fn(|cx| {
        let mut ended = shared.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.1 = Some(cx.waker().clone());
        if ended.0.len() == READERS { Poll::Ready(std::mem::take(&mut ended.0)) } else { Poll::Pending }
    })
    .await;
    results.into_iter().collect::<Checked>()?;
    written?;
    t.agrees().await
}

/// Appends, replaces the end again and again, and purges behind.
async fn keep_writing<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>, shared: &Shared) -> Checked {
    for term in 1..=ROUNDS {
        t.append_mixed(&[term; 5])?;
        let last = t.model.last.map_or(0, |last| last.index);
        shared.stays.store(last - 2, Ordering::SeqCst);
        t.truncate(last - 1)?;
        if term % 8 == 0 {
            let upto = last - 12;
            let purged = t.model.entries.iter().map(RaftEntry::log_id).find(|id| id.index == upto);
            shared.purging.store(upto, Ordering::SeqCst);
            if let Some(purged) = purged {
                t.submit(crate::testing::model::Op::Purge(purged))?;
            }
            t.settled().await?;
        }
    }
    t.settled().await
}

async fn keep_reading<C: RaftTypeConfig, R: RaftLogReader<C>>(mut reader: R, shared: &Shared) -> Checked {
    loop {
        let done = shared.done.load(Ordering::SeqCst);
        let stays = shared.stays.load(Ordering::SeqCst);
        let found = reader.try_get_log_entries(1..LogIndex::MAX).await?;
        let purging = shared.purging.load(Ordering::SeqCst);
        for (one, two) in found.iter().zip(found.iter().skip(1)) {
            let (one, two) = (one.log_id(), two.log_id());
            ensure!(
                one.index + 1 == two.index && one.leader_id <= two.leader_id,
                "to a reader on another thread, {two} follows {one}"
            );
        }
        let (first, last) = (found.first().map(RaftEntry::log_id), found.last().map(RaftEntry::log_id));
        let last = last.map_or(0, |last| last.index);
        ensure!(
            last >= stays,
            "{stays} was submitted before a reader on another thread asked, and it sees up to {last}"
        );
        let first = first.map_or(0, |first| first.index);
        ensure!(first <= purging + 1, "the log is purged up to {purging}, and a reader's begins at {first}");
        if done {
            return Ok(());
        }
    }
}
