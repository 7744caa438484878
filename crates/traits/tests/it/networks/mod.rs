//! The network suite over a network in memory, as it should be and with one thing wrong at a time.

mod flaw;
mod memory;
mod streams;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use raftwright_traits::BasicNode;
use raftwright_traits::testing::{NetworkBuilder, NetworkSuite, Served, TestPeer};

use crate::TestConfig;
use flaw::Flaw;
use memory::{Hub, Server};

/// Servers in memory, and clients with this flaw.
struct InMemory {
    hub: Hub,
    flaw: Flaw,
}

impl InMemory {
    fn new(flaw: Flaw) -> Self {
        Self { hub: Hub::default(), flaw }
    }
}

impl NetworkBuilder<TestConfig> for InMemory {
    type Factory = streams::Factory;
    type Server = Server;

    async fn serve(&self, number: u64, peer: TestPeer<TestConfig>) -> Served<TestConfig, Server> {
        let node = self.hub.new_place();
        let server = self.hub.start(number, &node, peer);
        Served { node, server }
    }

    async fn stop(&self, server: Server) {
        drop(server);
    }

    async fn restart(&self, number: u64, node: &BasicNode, peer: TestPeer<TestConfig>) -> Server {
        self.hub.start(number, node, peer)
    }

    async fn nowhere(&self) -> BasicNode {
        self.hub.new_place()
    }

    fn factory(&self, _: u64) -> streams::Factory {
        streams::Factory { hub: self.hub.clone(), flaw: self.flaw }
    }

    fn data(&self, number: u64, bytes: usize) -> Bytes {
        Bytes::from(vec![number as u8; bytes])
    }

    fn node_id(&self, number: u64) -> u64 {
        number
    }

    fn snapshot(&self, content: &[u8]) -> Option<std::io::Cursor<Vec<u8>>> {
        Some(std::io::Cursor::new(content.to_vec()))
    }

    async fn pause(&self) {
        tokio::task::yield_now().await;
    }

    fn patience(&self) -> Duration {
        match self.flaw {
            Flaw::NeverTimesOut | Flaw::HasOneLane | Flaw::GivesLateAnswersToOthers => Duration::from_secs(1),
            _ => raftwright_traits::testing::PATIENCE,
        }
    }
}

fn in_a_runtime<T>(run: impl FnOnce() -> T) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _guard = runtime.enter();
    run()
}

#[test]
fn a_network_in_memory_keeps_the_contract() {
    let report = in_a_runtime(|| NetworkSuite::test_all(InMemory::new(Flaw::None))).unwrap();
    assert_eq!(report.skipped, []);
    println!("{} checks passed", report.passed.len());
}

#[test]
fn every_wrong_network_is_caught_by_the_check_meant_for_it() {
    for (flaw, meant) in Flaw::ALL {
        let report = in_a_runtime(|| NetworkSuite::report(InMemory::new(flaw)));
        let failed: Vec<&str> = report.failed.iter().map(|failed| failed.check).collect();
        assert!(failed.contains(&meant), "{flaw:?} is not caught by {meant}, but by {failed:?}");
        let shown = report.failed[0].to_string();
        assert!(shown.contains(failed[0]), "{shown}");
    }
    let distinct: BTreeSet<String> = Flaw::ALL.iter().map(|(flaw, _)| format!("{flaw:?}")).collect();
    assert_eq!(distinct.len(), Flaw::ALL.len());
}

#[test]
fn every_check_of_a_network_has_a_name_of_its_own() {
    let names = NetworkSuite::<TestConfig>::names::<InMemory>();
    println!("{} checks: {names:#?}", names.len());
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    assert!(names.len() >= 35, "{}", names.len());
}
