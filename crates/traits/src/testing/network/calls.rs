//! Single calls: what is asked arrives whole, and what is answered comes back.

use raftwright_core::{PeerRefusal, RaftEntry, Vote, VoteKind};

use super::builder::NetworkBuilder;
use super::check::{AMPLE, Bench, Check, is_append, is_matched, network_checks};
use super::peer::Arrived;
use crate::testing::trial::{Checked, Failure, ensure};
use crate::{AppendOutcome, RPCError, RaftNetworkV2, RaftTypeConfig};

pub(super) fn checks<C: RaftTypeConfig, B: NetworkBuilder<C>>() -> Vec<Check<C, B>> {
    network_checks![false:
        a_vote_arrives_and_its_answer_comes_back,
        a_refused_vote_comes_back_with_what_was_promised,
        a_heartbeat_arrives_and_its_answer_comes_back,
        a_refused_heartbeat_comes_back_with_what_was_promised,
        a_transfer_arrives,
        entries_of_every_kind_arrive_whole,
        an_append_without_entries_arrives,
        an_append_at_the_beginning_of_the_log_arrives,
        a_big_entry_arrives_whole,
        many_entries_arrive_in_order,
        every_outcome_of_an_append_comes_back,
        calls_arrive_in_the_order_in_which_they_are_made,
        clients_of_one_target_get_their_own_answers,
        clients_of_different_targets_reach_their_own,
    ]
}

fn wrong(error: RPCError) -> Failure {
    Failure(format!("a call fails, with nothing wrong around it: {error}"))
}

async fn a_vote_arrives_and_its_answer_comes_back<C: RaftTypeConfig, B: NetworkBuilder<C>>(b: &Bench<C, B>) -> Checked {
    let mut line = b.line().await;
    let asked = [
        b.vote_request(VoteKind::PreVote, None),
        b.vote_request(VoteKind::Vote, Some(b.id(2, 9))),
        b.vote_request(VoteKind::PreVote, Some(b.id(0, 0))),
    ];
    for request in &asked {
        b.note(format!("vote({request:?})"));
        let answer = line.client.vote(request.clone(), AMPLE).await.map_err(wrong)?;
        ensure!(answer.granted, "a granted vote comes back refused");
        let found = (answer.from, answer.kind, answer.asked, answer.vote);
        let expected = (line.peer.identity(), request.kind, request.vote, Some(request.vote));
        ensure!(found == expected, "the answer is {found:?}, not {expected:?}");
    }
    let arrived = line.peer.arrived();
    ensure!(arrived.len() == asked.len(), "{} requests arrived, {} were sent", arrived.len(), asked.len());
    for (arrived, asked) in arrived.iter().zip(&asked) {
        ensure!(
            matches!(arrived, Arrived::Vote(found) if found == asked),
            "what arrived is {arrived:?}, and what was sent is {asked:?}"
        );
    }
    Ok(())
}

async fn a_refused_vote_comes_back_with_what_was_promised<C: RaftTypeConfig, B: NetworkBuilder<C>>(
    b: &Bench<C, B>,
) -> Checked {
    let mut line = b.line().await;
    let promised = Vote::new_committed(7, b.builder.node_id(3));
    line.peer.promise(promised);
    let answer = line.client.vote(b.vote_request(VoteKind::Vote, None), AMPLE).await.map_err(wrong)?;
    ensure!(!answer.granted, "a refused vote comes back granted");
    ensure!(answer.vote == Some(promised), "the promised vote comes back as {:?}, not {promised:?}", answer.vote);
    Ok(())
}

async fn a_heartbeat_arrives_and_its_answer_comes_back<C: RaftTypeConfig, B: NetworkBuilder<C>>(
    b: &Bench<C, B>,
) -> Checked {
    let mut line = b.line().await;
    for round in 40..43 {
        let request = b.heartbeat_request(round);
        let answer = line.client.heartbeat(request.clone(), AMPLE).await.map_err(wrong)?;
        let found = (answer.from, answer.round, answer.asked, answer.accepted, answer.vote);
        let expected = (line.peer.identity(), request.round, request.vote, true, Some(request.vote));
        ensure!(found == expected, "the answer is {found:?}, not {expected:?}");
        // A network may send an append without entries instead, which knows no round.
        match line.peer.arrived().last() {
            Some(Arrived::Heartbeat(found)) if *found == request => {}
            Some(Arrived::Append(found))
                if found.entries.is_empty() && found.committed == request.committed && found.vote == request.vote => {}
            other => return Err(Failure(format!("what arrived is {other:?}, and what was sent is {request:?}"))),
        }
    }
    Ok(())
}

async fn a_refused_heartbeat_comes_back_with_what_was_promised<C: RaftTypeConfig, B: NetworkBuilder<C>>(
    b: &Bench<C, B>,
) -> Checked {
    let mut line = b.line().await;
    let promised = Vote::new_committed(7, b.builder.node_id(3));
    line.peer.promise(promised);
    line.peer.next_outcome(AppendOutcome::<C>::HigherVote(promised));
    let answer = line.client.heartbeat(b.heartbeat_request(1), AMPLE).await.map_err(wrong)?;
    ensure!(!answer.accepted, "a refused heartbeat comes back accepted");
    ensure!(answer.vote == Some(promised), "the promised vote comes back as {:?}, not {promised:?}", answer.vote);
    Ok(())
}

async fn a_transfer_arrives<C: RaftTypeConfig, B: NetworkBuilder<C>>(b: &Bench<C, B>) -> Checked {
    let mut line = b.line().await;
    let request = b.transfer_request();
    line.client.transfer_leader(request.clone(), AMPLE).await.map_err(wrong)?;
    let arrived = line.peer.arrived();
    ensure!(
        matches!(&arrived[..], [Arrived::Transfer(found)] if *found == request),
        "what arrived is {arrived:?}, and what was sent is {request:?}"
    );
    Ok(())
}

async fn entries_of_every_kind_arrive_whole<C: RaftTypeConfig, B: NetworkBuilder<C>>(b: &Bench<C, B>) -> Checked {
    let mut line = b.line().await;
    let entries = vec![
        C::Entry::blank(b.id(2, 8)),
        C::Entry::of_membership(b.id(2, 9), b.members()?),
        b.normal(10, 0),
        b.normal(11, 5000),
        C::Entry::blank(b.id(3, 12)),
    ];
    let request = b.append(7, entries);
    let answer = line.client.append_entries(request.clone(), AMPLE).await.map_err(wrong)?;
    is_append(line.peer.arrived().first(), &request)?;
    is_matched(&answer, b.builder.node_id(2), b.id(3, 12))
}

async fn an_append_without_entries_arrives<C: RaftTypeConfig, B: NetworkBuilder<C>>(b: &Bench<C, B>) -> Checked {
    let mut line = b.line().await;
    let request = b.append(7, Vec::new());
    let answer = line.client.append_entries(request.clone(), AMPLE).await.map_err(wrong)?;
    is_append(line.peer.arrived().first(), &request)?;
    is_matched(&answer, b.builder.node_id(2), b.id(3, 7))
}

async fn an_append_at_the_beginning_of_the_log_arrives<C: RaftTypeConfig, B: NetworkBuilder<C>>(
    b: &Bench<C, B>,
) -> Checked {
    let mut line = b.line().await;
    let mut request = b.append(0, vec![b.normal(1, 10)]);
    request.committed = None;
    let answer = line.client.append_entries(request.clone(), AMPLE).await.map_err(wrong)?;
    is_append(line.peer.arrived().first(), &request)?;
    is_matched(&answer, b.builder.node_id(2), b.id(3, 1))
}

async fn a_big_entry_arrives_whole<C: RaftTypeConfig, B: NetworkBuilder<C>>(b: &Bench<C, B>) -> Checked {
    const BYTES: usize = 1 << 20;
    let mut line = b.line().await;
    let request = b.append(4, vec![b.normal(5, BYTES)]);
    let answer = line.client.append_entries(request.clone(), AMPLE).await.map_err(wrong)?;
    is_append(line.peer.arrived().first(), &request)?;
    is_matched(&answer, b.builder.node_id(2), b.id(3, 5))
}

async fn many_entries_arrive_in_order<C: RaftTypeConfig, B: NetworkBuilder<C>>(b: &Bench<C, B>) -> Checked {
    let mut line = b.line().await;
    let request = b.append(4, (5..2005).map(|index| b.normal(index, 30)).collect());
    let answer = line.client.append_entries(request.clone(), AMPLE).await.map_err(wrong)?;
    is_append(line.peer.arrived().first(), &request)?;
    is_matched(&answer, b.builder.node_id(2), b.id(3, 2004))
}

async fn every_outcome_of_an_append_comes_back<C: RaftTypeConfig, B: NetworkBuilder<C>>(b: &Bench<C, B>) -> Checked {
    let mut line = b.line().await;
    let higher = Vote::new_committed(9, b.builder.node_id(3));
    for outcome in [
        AppendOutcome::<C>::Success { matched: None },
        AppendOutcome::<C>::Success { matched: Some(b.id(3, 6)) },
        AppendOutcome::<C>::Conflict { prev: b.id(3, 4), hint: None },
        AppendOutcome::<C>::Conflict { prev: b.id(3, 4), hint: Some(b.id(2, 2)) },
        AppendOutcome::<C>::HigherVote(higher),
        AppendOutcome::<C>::Refused(PeerRefusal::Busy),
        AppendOutcome::<C>::Refused(PeerRefusal::Malformed),
    ] {
        line.peer.next_outcome(outcome.clone());
        let answer = line.client.append_entries(b.append_one(5), AMPLE).await.map_err(wrong)?;
        ensure!(answer.outcome == outcome, "the outcome {outcome:?} comes back as {:?}", answer.outcome);
    }
    Ok(())
}

async fn calls_arrive_in_the_order_in_which_they_are_made<C: RaftTypeConfig, B: NetworkBuilder<C>>(
    b: &Bench<C, B>,
) -> Checked {
    let mut line = b.line().await;
    for index in 1..20 {
        let answer = line.client.append_entries(b.append_one(index), AMPLE).await.map_err(wrong)?;
        is_matched(&answer, b.builder.node_id(2), b.id(3, index))?;
    }
    let arrived = line.peer.arrived();
    ensure!(arrived.len() == 19, "{} appends arrived, 19 were sent", arrived.len());
    arrived.iter().zip(1..).try_for_each(|(arrived, index)| is_append(Some(arrived), &b.append_one(index)))
}

async fn clients_of_one_target_get_their_own_answers<C: RaftTypeConfig, B: NetworkBuilder<C>>(
    b: &Bench<C, B>,
) -> Checked {
    let mut line = b.line().await;
    let mut other = b.client(2, &line.node).await;
    for index in 1..10 {
        let (one, two) = (b.append_one(index), b.append_one(index + 100));
        let one = line.client.append_entries(one, AMPLE).await.map_err(wrong)?;
        let two = other.append_entries(two, AMPLE).await.map_err(wrong)?;
        is_matched(&one, b.builder.node_id(2), b.id(3, index))?;
        is_matched(&two, b.builder.node_id(2), b.id(3, index + 100))?;
    }
    Ok(())
}

async fn clients_of_different_targets_reach_their_own<C: RaftTypeConfig, B: NetworkBuilder<C>>(
    b: &Bench<C, B>,
) -> Checked {
    let mut line = b.line().await;
    let (third, served) = b.serve(3).await;
    let mut client = b.client(3, &served.node).await;
    let two = line.client.append_entries(b.append_one(5), AMPLE).await.map_err(wrong)?;
    let three = client.append_entries(b.append_one(6), AMPLE).await.map_err(wrong)?;
    is_matched(&two, b.builder.node_id(2), b.id(3, 5))?;
    is_matched(&three, b.builder.node_id(3), b.id(3, 6))?;
    ensure!(line.peer.arrived().len() == 1 && third.arrived().len() == 1, "each gets what is meant for it");
    Ok(())
}
