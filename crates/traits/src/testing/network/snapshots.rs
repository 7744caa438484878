//! Whole snapshots.

use std::sync::Arc;

use raftwright_core::{PeerRefusal, Vote};

use super::builder::NetworkBuilder;
use super::check::{AMPLE, Bench, Check, is_matched, network_checks};
use super::peer::Arrived;
use crate::testing::trial::{Checked, Failure, ensure};
use crate::{
    InstallOutcome, RPCError, RaftNetworkV2, RaftTypeConfig, Snapshot, SnapshotMeta, SnapshotRequest, StoredMembership,
};

pub(super) fn checks<C: RaftTypeConfig, B: NetworkBuilder<C>>() -> Vec<Check<C, B>> {
    network_checks![true:
        a_snapshot_arrives_whole,
        a_snapshot_of_no_bytes_arrives,
        a_big_snapshot_arrives_whole,
        every_outcome_of_a_snapshot_comes_back,
        a_snapshot_to_nobody_fails,
        appends_go_on_beside_snapshots,
    ]
}

fn wrong(error: RPCError) -> Failure {
    Failure(format!("a snapshot is not sent, with nothing wrong around it: {error}"))
}

/// A snapshot up to `index` with this content.
fn request<C: RaftTypeConfig, B: NetworkBuilder<C>>(
    b: &Bench<C, B>,
    index: u64,
    content: &[u8],
) -> Checked<SnapshotRequest<C>> {
    let snapshot = b.builder.snapshot(content).ok_or_else(|| Failure("the builder makes no content".to_owned()))?;
    let last_membership = StoredMembership::<C> { log_id: Some(b.id(2, 3)), membership: b.members()? };
    let meta = SnapshotMeta { last_log_id: Some(b.id(3, index)), last_membership, snapshot_id: format!("of {index}") };
    let snapshot = Arc::new(Snapshot { meta, snapshot });
    Ok(SnapshotRequest { from: b.me(), vote: b.leader(3), snapshot })
}

/// Sends it, and sees that it arrives.
async fn arrives<C: RaftTypeConfig, B: NetworkBuilder<C>>(b: &Bench<C, B>, content: &[u8]) -> Checked {
    let mut line = b.line().await;
    let request = request(b, 20, content)?;
    let answer = line.client.full_snapshot(request.clone(), AMPLE).await.map_err(wrong)?;
    ensure!(answer.outcome == InstallOutcome::<C>::Installed, "an installation comes back as {:?}", answer.outcome);
    ensure!(answer.from.id == b.builder.node_id(2), "the answer is that of {}", answer.from);
    let arrived = line.peer.arrived();
    let [Arrived::Snapshot(head, found)] = &arrived[..] else {
        return Err(Failure(format!("{} requests arrived, not one snapshot", arrived.len())));
    };
    ensure!(Some(head) == request.head().as_ref(), "the snapshot arrived as {head:?}, not {:?}", request.head());
    let same = found.iter().zip(content).take_while(|(found, sent)| found == sent).count();
    ensure!(
        found[..] == *content,
        "{} bytes arrived and {} were sent; they are alike up to byte {same}",
        found.len(),
        content.len()
    );
    Ok(())
}

async fn a_snapshot_arrives_whole<C: RaftTypeConfig, B: NetworkBuilder<C>>(b: &Bench<C, B>) -> Checked {
    arrives(b, b"the state of a machine").await
}

async fn a_snapshot_of_no_bytes_arrives<C: RaftTypeConfig, B: NetworkBuilder<C>>(b: &Bench<C, B>) -> Checked {
    arrives(b, b"").await
}

async fn a_big_snapshot_arrives_whole<C: RaftTypeConfig, B: NetworkBuilder<C>>(b: &Bench<C, B>) -> Checked {
    let content: Vec<u8> = (0u32..1 << 20).flat_map(|number| number.wrapping_mul(0x9E37_79B1).to_le_bytes()).collect();
    arrives(b, &content).await
}

async fn every_outcome_of_a_snapshot_comes_back<C: RaftTypeConfig, B: NetworkBuilder<C>>(b: &Bench<C, B>) -> Checked {
    let mut line = b.line().await;
    let higher = Vote::new_committed(9, b.builder.node_id(3));
    for (outcome, index) in [
        (InstallOutcome::<C>::Installed, 20),
        (InstallOutcome::<C>::HigherVote(higher), 21),
        (InstallOutcome::<C>::Refused(PeerRefusal::Busy), 22),
    ] {
        line.peer.next_install(outcome.clone());
        let answer = line.client.full_snapshot(request(b, index, b"state")?, AMPLE).await.map_err(wrong)?;
        ensure!(answer.outcome == outcome, "the outcome {outcome:?} comes back as {:?}", answer.outcome);
    }
    Ok(())
}

async fn a_snapshot_to_nobody_fails<C: RaftTypeConfig, B: NetworkBuilder<C>>(b: &Bench<C, B>) -> Checked {
    let node = b.builder.nowhere().await;
    let mut client = b.client(2, &node).await;
    let result = client.full_snapshot(request(b, 20, b"state")?, AMPLE).await;
    ensure!(result.is_err(), "nobody is there, and a snapshot is answered with {result:?}");
    Ok(())
}

async fn appends_go_on_beside_snapshots<C: RaftTypeConfig, B: NetworkBuilder<C>>(b: &Bench<C, B>) -> Checked {
    let mut line = b.line().await;
    for index in 20..24 {
        line.client.full_snapshot(request(b, index, &[7; 70_000])?, AMPLE).await.map_err(wrong)?;
        let answer = line.client.append_entries(b.append_one(index + 1), AMPLE).await.map_err(wrong)?;
        is_matched(&answer, b.builder.node_id(2), b.id(3, index + 1))?;
    }
    Ok(())
}
