//! Servers that end in the middle of something, or are given up while they start or end.

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use raftwright::wal::{DataDir, DataDirOptions, RealDisk};
use raftwright::{Server, ServerBuilder, StartError};

use crate::tally::{PATIENCE, Tally, add};

fn alone(dir: &Path) -> ServerBuilder<Tally> {
    crate::logs::capture();
    Server::builder().id(1).data_dir(dir).listen("127.0.0.1:0").initial_cluster([(1, "127.0.0.1:1")])
}

fn is_free(dir: &Path) -> bool {
    DataDir::open(RealDisk, dir, DataDirOptions { node_id: 1, random: 1 }).is_ok()
}

/// Waits until no task of this runtime is left.
async fn quiet() {
    let metrics = tokio::runtime::Handle::current().metrics();
    let quiet = async {
        while metrics.num_alive_tasks() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, quiet).await.unwrap();
}

/// Whoever waits for a shutdown may lose patience. The shutdown goes on, and the next who asks for it waits for its end.
#[test]
fn a_shutdown_that_is_given_up_goes_on() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("d");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let server = alone(&dir).start(Tally::default()).await.unwrap();
        server.client().with_deadline(PATIENCE).write(add("a", 1)).await.unwrap();
        {
            let mut given_up = pin!(server.shutdown());
            let mut cx = Context::from_waker(Waker::noop());
            assert!(given_up.as_mut().poll(&mut cx).is_pending(), "its tasks had no chance to end");
        }
        server.shutdown().await;
        assert!(is_free(&dir), "it has let go of its directory");
        assert!(server.connections().is_none());
        server.shutdown().await;
        quiet().await;
    });
}

/// Nobody asks a second time: dropping the server does not undo the shutdown either.
#[test]
fn a_shutdown_that_is_given_up_ends_a_server_that_is_dropped() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("d");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let server = alone(&dir).start(Tally::default()).await.unwrap();
        let raft = server.raft().clone();
        {
            let mut given_up = pin!(server.shutdown());
            assert!(given_up.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        drop(server);
        // A handle of the full layer does not keep it going.
        quiet().await;
        assert!(is_free(&dir));
        drop(raft);
    });
}

/// A start that is given up, wherever it stands, leaves no task and no lock behind.
#[test]
fn a_start_that_is_given_up_leaves_nothing_running() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("d");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut started = None;
        let mut given_up = 0;
        for wakes in 0.. {
            let mut start = Box::pin(alone(&dir).start(Tally::default()));
            let mut left = wakes;
            let outcome = std::future::poll_fn(|cx| match start.as_mut().poll(cx) {
                Poll::Ready(done) => Poll::Ready(Some(done)),
                Poll::Pending if left == 0 => Poll::Ready(None),
                Poll::Pending => {
                    left -= 1;
                    Poll::Pending
                }
            })
            .await;
            drop(start);
            match outcome {
                // A thread that had been handed the opening of the directory got to it only now.
                Some(Err(StartError::DataDir(_))) => {}
                Some(done) => {
                    started = Some(done.unwrap());
                    break;
                }
                None => {
                    given_up += 1;
                    quiet().await;
                    // What had been handed to another thread comes to its end there, and lets go then.
                    tokio::time::timeout(PATIENCE, async {
                        while !is_free(&dir) {
                            tokio::task::yield_now().await;
                        }
                    })
                    .await
                    .unwrap();
                }
            }
        }
        assert!(given_up >= 3, "{given_up}");
        let server = started.unwrap();
        server.client().with_deadline(PATIENCE).write(add("a", 1)).await.unwrap();
        server.shutdown().await;
        quiet().await;
    });
}
