//! What a node says of itself: every line names node, term and role.

use std::cell::RefCell;
use std::io::Write;
use std::sync::{Arc, Mutex, Once};

use tracing::level_filters::{LevelFilter, STATIC_MAX_LEVEL};
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::{Layer, SubscriberExt};

use crate::fixture::{Cluster, Standard, put};

/// Keeps what is printed.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

thread_local! {
    /// Where this thread's lines go; nothing is kept of threads without one.
    static PAPER: RefCell<Option<Paper>> = const { RefCell::new(None) };
}

/// Listens in all threads. A listener of one thread alone is not enough: a place in the code that another test's thread comes to
/// first may find nobody there, and is then silent for everyone until listeners change.
fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let lines = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .without_time()
            .with_span_events(FmtSpan::NEW)
            .with_writer(|| PAPER.with_borrow(|paper| paper.clone().unwrap_or_default()))
            .with_filter(dynamic_filter_fn(|_, _| PAPER.with_borrow(Option::is_some)));
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(lines)).unwrap();
        // For what was come to while it was being set.
        tracing::callsite::rebuild_interest_cache();
    });
}

/// What is said while a cluster elects a leader, writes, loses its leader, and ends.
async fn lines() -> Vec<String> {
    listen();
    let paper = Paper::default();
    // The runtime of this test has this thread alone.
    PAPER.set(Some(paper.clone()));
    let cluster = Cluster::<Standard>::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    cluster.raft(leader).client_write(put("a", 1)).await.unwrap();
    cluster.router.isolate(leader);
    cluster.leader_other_than(&[leader]).await;
    cluster.wait(leader).metrics(|m| m.current_leader.is_none(), "it has given way").await.unwrap();
    PAPER.set(None);
    let said = paper.0.lock().unwrap().clone();
    String::from_utf8(said).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test(start_paused = true)]
async fn spans_say_node_term_and_role() {
    let lines = lines().await;
    if STATIC_MAX_LEVEL < LevelFilter::TRACE {
        return;
    }
    let said = |what: &str| -> Vec<&String> { lines.iter().filter(|line| line.contains(what)).collect() };
    let core = |id: u64, term: u64, role: &str| format!("raft{{id={id}}}:core{{id={id} term={term} role={role}}}");
    let led = said("this server leads vote");
    assert_eq!(led.len(), 2, "{led:?}");
    let ids: Vec<u64> = (1..=3).filter(|id| led[0].contains(&format!("id={id}}}"))).collect();
    let [old] = ids[..] else { panic!("{led:?}") };
    assert!(led[0].contains(&core(old, 1, "leader")), "{led:?}");
    let ended = said("this server leads no more");
    assert!(ended.len() == 1 && ended[0].contains(&core(old, 1, "follower")), "{ended:?}");
    assert!((1..=3).any(|id| led[1].contains(&core(id, 2, "leader"))), "{led:?}");
    // The tasks that talk to a target say for whom, in which term, and to whom.
    let task = format!("replication{{id={old} term=1 role=\"leader\" target={}}}", old % 3 + 1);
    assert!(!said(&task).is_empty(), "{task}");
    // And so does what a client calls.
    assert!(!said(&format!("client_write{{id={old}}}: raftwright_node::raft::write: new")).is_empty());
}

/// Whoever watches the log of a server hears why its clients are refused; once, and not for each of them.
#[tokio::test(start_paused = true)]
async fn a_full_disk_is_told_once_and_so_is_its_end() {
    listen();
    let paper = Paper::default();
    PAPER.set(Some(paper.clone()));
    let cluster = Cluster::<Standard>::of([1]).await;
    let leader = cluster.leader().await;
    cluster.logs[&leader].set_full(true);
    for value in 0..3 {
        cluster.raft(leader).client_write(put("a", value)).await.unwrap_err();
    }
    cluster.logs[&leader].set_full(false);
    cluster.raft(leader).client_write(put("a", 3)).await.unwrap();
    PAPER.set(None);
    let said = String::from_utf8(paper.0.lock().unwrap().clone()).unwrap();
    let told = |what: &str| said.lines().filter(|line| line.contains(what)).count();
    assert_eq!(told("disk of the log is full"), usize::from(STATIC_MAX_LEVEL >= LevelFilter::WARN), "{said}");
    assert_eq!(told("has room again"), usize::from(STATIC_MAX_LEVEL >= LevelFilter::INFO), "{said}");
}

/// With the features that remove levels, nothing below them is said, whoever listens.
#[tokio::test(start_paused = true)]
async fn what_was_removed_at_compile_time_is_not_said() {
    let lines = lines().await;
    for (level, name) in [
        (LevelFilter::ERROR, "ERROR"),
        (LevelFilter::WARN, "WARN"),
        (LevelFilter::INFO, "INFO"),
        (LevelFilter::DEBUG, "DEBUG"),
        (LevelFilter::TRACE, "TRACE"),
    ] {
        let said = lines.iter().any(|line| line.trim_start().starts_with(name));
        assert!(!said || level <= STATIC_MAX_LEVEL, "{name} is said, above {STATIC_MAX_LEVEL}");
    }
    let info = lines.iter().any(|line| line.trim_start().starts_with("INFO"));
    assert_eq!(info, STATIC_MAX_LEVEL >= LevelFilter::INFO, "elections are told as information");
    let trace = lines.iter().any(|line| line.trim_start().starts_with("TRACE"));
    assert_eq!(trace, STATIC_MAX_LEVEL >= LevelFilter::TRACE, "each write has a span");
}
