//! Every way not to start says what is wrong, where, and what to do.

use std::fs;

use raftwright::net::Limits;
use raftwright::wal::WalOptions;
use raftwright::{COMMAND_BYTES_MAX, Config, MEMBER_ADDR_BYTES_MAX, Server, ServerBuilder, StartError};
use tempfile::TempDir;

use crate::tally::Tally;

fn builder(temp: &TempDir) -> ServerBuilder<Tally> {
    crate::logs::capture();
    Server::builder().id(1).data_dir(temp.path().join("d")).listen("127.0.0.1:0")
}

async fn error(builder: ServerBuilder<Tally>) -> StartError {
    match builder.start(Tally::default()).await {
        Ok(_) => panic!("it started"),
        Err(error) => error,
    }
}

/// The sentence names all of these.
fn says(error: &StartError, parts: &[&str]) {
    let text = error.to_string();
    assert!(!text.contains('\n') && parts.iter().all(|part| text.contains(part)), "{text}");
}

#[tokio::test]
async fn a_port_in_use() {
    let temp = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let error = error(builder(&temp).listen(addr.clone())).await;
    assert!(matches!(error, StartError::Listen { .. }));
    says(&error, &[&addr, "in use", "choose another address"]);
}

#[tokio::test]
async fn a_data_directory_in_use() {
    let temp = tempfile::tempdir().unwrap();
    let running = builder(&temp).start(Tally::default()).await.unwrap();
    let error = error(builder(&temp)).await;
    assert!(matches!(error, StartError::DataDir(_)));
    says(&error, &["/d", "locked by a running node", "stop that node"]);
    running.shutdown().await;
    builder(&temp).start(Tally::default()).await.unwrap().shutdown().await;
}

#[tokio::test]
async fn a_directory_of_something_else() {
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir(temp.path().join("d")).unwrap();
    fs::write(temp.path().join("d/holiday.jpg"), "x").unwrap();
    let error = error(builder(&temp)).await;
    says(&error, &["/d", "holiday.jpg", "use an empty"]);
    assert!(temp.path().join("d/holiday.jpg").exists());
}

#[tokio::test]
async fn a_directory_that_cannot_be_made() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("file"), "x").unwrap();
    let error = error(builder(&temp).data_dir(temp.path().join("file/d"))).await;
    assert!(matches!(error, StartError::DataDir(_)));
    says(&error, &["cannot create", "file/d", "check that"]);
}

#[tokio::test]
async fn the_directory_of_another_node() {
    let temp = tempfile::tempdir().unwrap();
    builder(&temp).start(Tally::default()).await.unwrap().shutdown().await;
    says(&error(builder(&temp).id(2)).await, &["/d", "belongs to node 1", "not to node 2"]);
}

#[tokio::test]
async fn a_log_that_has_gone() {
    let temp = tempfile::tempdir().unwrap();
    let addr = "127.0.0.1:1";
    let server = builder(&temp).initial_cluster([(1, addr)]).start(Tally::default()).await.unwrap();
    server.write(("a".to_owned(), 1)).await.ok();
    server.shutdown().await;
    for file in fs::read_dir(temp.path().join("d/wal")).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    let error = error(builder(&temp)).await;
    assert!(matches!(error, StartError::Log(_)));
    says(&error, &["/d/wal", "lost data", "remove this node from the cluster"]);
}

#[tokio::test]
async fn a_segment_that_is_not_one() {
    let temp = tempfile::tempdir().unwrap();
    let server = builder(&temp).initial_cluster([(1, "127.0.0.1:1")]).start(Tally::default()).await.unwrap();
    server.shutdown().await;
    let wal = temp.path().join("d/wal");
    let mut files: Vec<_> = fs::read_dir(&wal).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let mut bytes = fs::read(&files[0]).unwrap();
    // Everything that was written is gone: neither head nor copy of any record can be read.
    bytes.iter_mut().take(64 * 1024).for_each(|byte| *byte ^= 0x5A);
    fs::write(&files[0], bytes).unwrap();
    let error = error(builder(&temp)).await;
    assert!(matches!(error, StartError::Log(_)));
    says(&error, &["/d/wal"]);
}

#[tokio::test]
async fn settings_that_are_missing_or_cannot_work() {
    let temp = tempfile::tempdir().unwrap();
    says(&error(Server::builder()).await, &["id is not set"]);
    says(&error(Server::builder().id(1)).await, &["data_dir is not set"]);
    says(&error(Server::builder().id(1).data_dir(temp.path().join("x"))).await, &["listen is not set"]);
    let config = Config { heartbeat_interval: 0, ..Config::default() };
    says(&error(builder(&temp).config(config)).await, &["heartbeat_interval", "at least 1 ms"]);
    says(&error(builder(&temp).initial_cluster([(2, "a:1")])).await, &["does not name server 1"]);
    says(&error(builder(&temp).initial_cluster([(1, "a:1"), (1, "b:1")])).await, &["names a server twice"]);
    assert!(!temp.path().join("x").exists(), "nothing is made before the settings are checked");
}

/// What the node lets in must fit into the log's queue, or the log would have to stop: it has no way to refuse.
#[tokio::test]
async fn settings_that_the_log_s_queue_has_no_room_for() {
    let temp = tempfile::tempdir().unwrap();
    let wal = WalOptions { queue_bytes_max: 1 << 20, queue_ops_max: 64, ..WalOptions::default() };
    let fitting =
        Config { uncommitted_bytes_max: 1 << 19, inflight_bytes_max: 1 << 19, log_writes_max: 32, ..Config::default() };
    let started = |config: Config| error(builder(&temp).wal(wal).config(config));
    let config = Config { uncommitted_bytes_max: (1 << 19) + 1, ..fitting.clone() };
    says(&started(config).await, &["uncommitted_bytes_max", "524288", "queue_bytes_max"]);
    let config = Config { inflight_bytes_max: (1 << 19) + 1, ..fitting.clone() };
    says(&started(config).await, &["inflight_bytes_max", "524288", "queue_bytes_max"]);
    let config = Config { log_writes_max: 33, ..fitting.clone() };
    says(&started(config).await, &["log_writes_max", "32", "queue_ops_max"]);
    builder(&temp).wal(wal).config(fitting).start(Tally::default()).await.unwrap().shutdown().await;
}

/// What the node lets into the log must fit into a frame, or no follower ever gets it, nor anything behind it.
#[tokio::test]
async fn settings_that_frames_have_no_room_for() {
    let temp = tempfile::tempdir().unwrap();
    let room = 1 << 20;
    let limits = |body_len_max: usize| Limits { body_len_max: body_len_max as u32, ..Limits::default() };
    let least = COMMAND_BYTES_MAX + room;
    says(&error(builder(&temp).limits(limits(least - 1))).await, &["body_len_max", &least.to_string()]);
    let config = Config { append_bytes_max: 2 * COMMAND_BYTES_MAX, ..Config::default() };
    let more = 2 * COMMAND_BYTES_MAX + room;
    let wide = || builder(&temp).config(config.clone());
    says(&error(wide().limits(limits(more - 1))).await, &["body_len_max", &more.to_string(), "append_bytes_max"]);
    builder(&temp).limits(limits(least)).start(Tally::default()).await.unwrap().shutdown().await;
    wide().limits(limits(more)).start(Tally::default()).await.unwrap().shutdown().await;
}

#[tokio::test]
async fn an_address_beyond_the_bound_among_the_first_members() {
    let temp = tempfile::tempdir().unwrap();
    let longest = "x".repeat(MEMBER_ADDR_BYTES_MAX);
    let members = |addr: String| builder(&temp).initial_cluster([(1, "127.0.0.1:1".to_owned()), (2, addr)]);
    says(&error(members(longest.clone() + "x")).await, &["initial cluster", "260 bytes", "259"]);
    members(longest).start(Tally::default()).await.unwrap().shutdown().await;
}
