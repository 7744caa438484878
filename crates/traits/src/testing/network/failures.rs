//! What may go wrong, and what a call then says.

use std::pin::pin;

use raftwright_core::{Span, VoteKind};

use super::builder::NetworkBuilder;
use super::check::{AMPLE, Bench, Check, Line, give_up, is_matched, network_checks};
use crate::testing::trial::{Checked, Failure, ensure};
use crate::{RPCError, RPCOption, RaftNetworkV2, RaftTypeConfig};

/// A time after which an answer that is held back is given up.
const SHORT: RPCOption = RPCOption { timeout: Span::from_millis(100) };

/// Time for a vote beside a held append, in which it arrives unless something holds it up.
const BESIDE: RPCOption = RPCOption { timeout: Span::from_secs(5) };

pub(super) fn checks<C: RaftTypeConfig, B: NetworkBuilder<C>>() -> Vec<Check<C, B>> {
    network_checks![false:
        making_a_client_needs_no_server,
        a_call_to_nobody_fails,
        every_call_without_an_answer_times_out,
        a_late_answer_is_nobody_s,
        a_call_that_was_given_up_leaves_nothing_behind,
        a_broken_connection_fails_the_call,
        a_client_finds_a_server_that_is_back,
        a_client_that_was_made_too_early_finds_its_server,
        a_held_append_delays_no_vote,
        another_server_in_its_place_is_not_taken_for_the_target,
    ]
}

fn shown<T: std::fmt::Debug>(result: &Result<T, RPCError>) -> String {
    format!("{result:?}")
}

async fn making_a_client_needs_no_server<C: RaftTypeConfig, B: NetworkBuilder<C>>(b: &Bench<C, B>) -> Checked {
    let node = b.builder.nowhere().await;
    drop(b.client(2, &node).await);
    let (peer, served) = b.serve(2).await;
    drop(b.client(2, &served.node).await);
    ensure!(peer.arrived().is_empty(), "a client that was not used has sent {:?}", peer.arrived());
    Ok(())
}

async fn a_call_to_nobody_fails<C: RaftTypeConfig, B: NetworkBuilder<C>>(b: &Bench<C, B>) -> Checked {
    let node = b.builder.nowhere().await;
    let mut client = b.client(2, &node).await;
    let vote = client.vote(b.vote_request(VoteKind::Vote, None), AMPLE).await;
    ensure!(vote.is_err(), "nobody is there, and a vote is answered with {}", shown(&vote));
    let append = client.append_entries(b.append_one(1), AMPLE).await;
    let unreachable = matches!(append, Err(RPCError::Unreachable(_) | RPCError::Network(_)));
    ensure!(unreachable, "nobody is there, and an append gives {}", shown(&append));
    Ok(())
}

async fn every_call_without_an_answer_times_out<C: RaftTypeConfig, B: NetworkBuilder<C>>(b: &Bench<C, B>) -> Checked {
    let mut line = b.line().await;
    line.peer.hold();
    let vote = line.client.vote(b.vote_request(VoteKind::Vote, None), SHORT).await.map(drop);
    let heartbeat = line.client.heartbeat(b.heartbeat_request(1), SHORT).await.map(drop);
    let append = line.client.append_entries(b.append_one(1), SHORT).await.map(drop);
    let transfer = line.client.transfer_leader(b.transfer_request(), SHORT).await;
    let results = [("vote", vote), ("heartbeat", heartbeat), ("append", append), ("transfer", transfer)];
    for (call, result) in results {
        // After a first timeout the connection may be given up; then nobody is reached in time, which is said otherwise.
        ensure!(result.is_err(), "nobody answers, and a {call} gives {result:?}");
        ensure!(call != "vote" || result == Err(RPCError::Timeout), "no answer in time is {result:?}, not a timeout");
    }
    Ok(())
}

/// An answer to one request must not be taken for that to another, whatever became of the first.
async fn a_late_answer_is_nobody_s<C: RaftTypeConfig, B: NetworkBuilder<C>>(b: &Bench<C, B>) -> Checked {
    let mut line = b.line().await;
    line.peer.hold();
    let first = line.client.append_entries(b.append_one(1), SHORT).await;
    ensure!(first.is_err(), "nobody answers, and an append gives {}", shown(&first));
    b.note("the server answers after the caller has given up");
    line.peer.let_go();
    for index in 10..15 {
        let call = async || line.client.append_entries(b.append_one(index), AMPLE).await;
        let answer = b.eventually("a call after a timeout", call).await?;
        is_matched(&answer, b.builder.node_id(2), b.id(3, index))?;
    }
    Ok(())
}

async fn a_call_that_was_given_up_leaves_nothing_behind<C: RaftTypeConfig, B: NetworkBuilder<C>>(
    b: &Bench<C, B>,
) -> Checked {
    let mut line = b.line().await;
    line.peer.hold();
    let peer = line.peer.clone();
    let early = give_up(line.client.append_entries(b.append_one(1), AMPLE), peer.has_got(1)).await;
    ensure!(early.is_none(), "there is an answer that the server has not given: {early:?}");
    b.note("the call is dropped before its answer");
    line.peer.let_go();
    for index in 10..15 {
        let call = async || line.client.append_entries(b.append_one(index), AMPLE).await;
        let answer = b.eventually("a call after one that was dropped", call).await?;
        is_matched(&answer, b.builder.node_id(2), b.id(3, index))?;
    }
    Ok(())
}

async fn a_broken_connection_fails_the_call<C: RaftTypeConfig, B: NetworkBuilder<C>>(b: &Bench<C, B>) -> Checked {
    let mut line = b.line().await;
    line.client
        .append_entries(b.append_one(1), AMPLE)
        .await
        .map_err(|error| Failure(format!("a call fails, with nothing wrong around it: {error}")))?;
    b.builder.stop(line.server).await;
    let result = line.client.append_entries(b.append_one(2), AMPLE).await;
    ensure!(result.is_err(), "the server is gone, and an append gives {}", shown(&result));
    Ok(())
}

async fn a_client_finds_a_server_that_is_back<C: RaftTypeConfig, B: NetworkBuilder<C>>(b: &Bench<C, B>) -> Checked {
    let Line { peer, node, server, mut client } = b.line().await;
    let call = async |client: &mut _, index| RaftNetworkV2::append_entries(client, b.append_one(index), AMPLE).await;
    call(&mut client, 1)
        .await
        .map_err(|error| Failure(format!("a call fails, with nothing wrong around it: {error}")))?;
    b.builder.stop(server).await;
    let result = call(&mut client, 2).await;
    ensure!(result.is_err(), "the server is gone, and an append gives {}", shown(&result));
    b.note("the server starts again");
    let _server = b.builder.restart(2, &node, peer).await;
    let answer = b.eventually("a call to a server that is back", async || call(&mut client, 3).await).await?;
    is_matched(&answer, b.builder.node_id(2), b.id(3, 3))
}

async fn a_client_that_was_made_too_early_finds_its_server<C: RaftTypeConfig, B: NetworkBuilder<C>>(
    b: &Bench<C, B>,
) -> Checked {
    let Line { peer, node, server, client } = b.line().await;
    drop(client);
    b.builder.stop(server).await;
    let mut client = b.client(2, &node).await;
    let early = client.vote(b.vote_request(VoteKind::Vote, None), AMPLE).await;
    ensure!(early.is_err(), "the server is gone, and a vote gives {}", shown(&early));
    let _server = b.builder.restart(2, &node, peer).await;
    let call = async || client.vote(b.vote_request(VoteKind::Vote, None), AMPLE).await;
    let answer = b.eventually("a call to a server that is back", call).await?;
    ensure!(answer.from.id == b.builder.node_id(2), "the answer is that of {}", answer.from);
    Ok(())
}

/// Entries on their way, however slowly they are taken, must not hold up an election.
async fn a_held_append_delays_no_vote<C: RaftTypeConfig, B: NetworkBuilder<C>>(b: &Bench<C, B>) -> Checked {
    let mut line = b.line().await;
    let mut control = b.client(2, &line.node).await;
    line.peer.hold();
    let peer = line.peer.clone();
    let mut append = pin!(line.client.append_entries(b.append(0, vec![b.normal(1, 1 << 18)]), AMPLE));
    let held = give_up(append.as_mut(), peer.has_got(1)).await;
    ensure!(held.is_none(), "there is an answer that the server has not given");
    // The append is still under way.
    let vote = control.vote(b.vote_request(VoteKind::Vote, None), BESIDE);
    let vote = give_up(vote, peer.has_got(2)).await;
    ensure!(vote.is_none(), "a vote does not arrive while an append is under way: {vote:?}");
    line.peer.let_go();
    Ok(())
}

/// Addresses are given away again. Who answers in another's place must not be counted for it.
async fn another_server_in_its_place_is_not_taken_for_the_target<C: RaftTypeConfig, B: NetworkBuilder<C>>(
    b: &Bench<C, B>,
) -> Checked {
    let (peer, served) = b.serve(3).await;
    let mut client = b.client(2, &served.node).await;
    let vote = client.vote(b.vote_request(VoteKind::Vote, None), AMPLE).await;
    ensure!(vote.is_err(), "server 3 answers for server 2: {}", shown(&vote));
    let append = client.append_entries(b.append_one(1), AMPLE).await;
    ensure!(append.is_err(), "server 3 answers for server 2: {}", shown(&append));
    drop(peer);
    Ok(())
}
