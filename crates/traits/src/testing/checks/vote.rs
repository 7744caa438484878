//! The vote (Raft §5.2): lost or changed, two leaders can have one term.

use super::{Check, list};
use crate::testing::builder::StoreBuilder;
use crate::testing::model::Op;
use crate::testing::trial::{Checked, Trial, ensure};
use crate::{RaftLogStorage, RaftTypeConfig};

pub(super) fn checks<C: RaftTypeConfig, B: StoreBuilder<C>>() -> Vec<Check<C, B>> {
    list![Log:
        a_saved_vote_is_read_back,
        a_vote_keeps_whether_it_is_committed,
        a_vote_keeps_its_server,
        a_vote_is_readable_once_submitted,
        the_last_of_many_votes_counts,
        a_vote_stays_when_the_log_is_cut,
        entries_stay_when_votes_are_saved,
    ]
}

/// A vote that was saved is the one that is read.
async fn a_saved_vote_is_read_back<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    t.submit(Op::Vote(t.vote(7, 2)))?;
    t.turn().await?;
    t.agrees().await
}

/// A leader's vote and a candidate's vote of the same term and server are two votes.
async fn a_vote_keeps_whether_it_is_committed<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    for vote in [t.vote(3, 1), t.vote(3, 1).commit(), t.vote(4, 1)] {
        t.submit(Op::Vote(vote))?;
        t.turn().await?;
        let found = t.log()?.read_vote().await?;
        ensure!(found == Some(vote), "the vote {vote:?} is read as {found:?}");
    }
    Ok(())
}

/// A vote for one server is not a vote for another one of the same term.
async fn a_vote_keeps_its_server<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    for (term, node) in [(1, 1), (2, 3), (u64::from(u32::MAX) + 5, 2), (u64::MAX - 1, 9)] {
        t.submit(Op::Vote(t.vote(term, node)))?;
        t.turn().await?;
        t.agrees().await?;
    }
    Ok(())
}

/// A vote can be read as soon as it was submitted: whoever asks next must not be granted another one.
async fn a_vote_is_readable_once_submitted<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    for term in 1..=20 {
        let vote = t.vote(term, 1 + term % 3);
        t.submit(Op::Vote(vote))?;
        let found = t.log()?.read_vote().await?;
        ensure!(found == Some(vote), "the vote {vote} was submitted, and {found:?} is read");
    }
    t.settled().await
}

/// Of votes that are saved without waiting, the last one counts.
async fn the_last_of_many_votes_counts<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    for term in 1..=50 {
        t.submit(Op::Vote(t.vote(term, 1)))?;
        t.submit(Op::Vote(t.vote(term, 1).commit()))?;
    }
    t.turn().await?;
    t.agrees().await
}

/// Neither truncating nor purging touches the vote.
async fn a_vote_stays_when_the_log_is_cut<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    t.append_mixed(&[1, 1, 2, 2, 2])?;
    t.submit(Op::Vote(t.vote(9, 3)))?;
    t.truncate(4)?;
    t.turn().await?;
    t.agrees().await?;
    t.purge(1, 2)?;
    t.turn().await?;
    t.agrees().await?;
    t.purge(2, 30)?;
    t.turn().await?;
    t.agrees().await
}

/// Saving a vote touches no entry.
async fn entries_stay_when_votes_are_saved<C: RaftTypeConfig, B: StoreBuilder<C>>(t: &mut Trial<C, B>) -> Checked {
    t.append_mixed(&[1, 1, 2])?;
    t.submit(Op::Vote(t.vote(8, 2)))?;
    t.append_mixed(&[3])?;
    t.submit(Op::Vote(t.vote(9, 2)))?;
    t.turn().await?;
    t.agrees().await
}
