//! `GET /metrics`: the metrics of the `Raft` handle as JSON, or what Prometheus reads if it asks for text.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::api::{NodeState, Role};
use crate::http::input::accepts;
use crate::http::{App, HttpError};
use crate::node::Node;

/// What the HTTP interface counts about itself.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Requests taken in.
    requests: AtomicU64,
    /// Answers with a status of 400 to 499.
    client_errors: AtomicU64,
    /// Answers with a status of 500 and more.
    server_errors: AtomicU64,
    /// Requests refused because too many were under way.
    busy: AtomicU64,
}

impl Counters {
    pub(super) fn request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn busy(&self) {
        self.busy.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn answer(&self, status: StatusCode) {
        if status.is_client_error() {
            self.client_errors.fetch_add(1, Ordering::Relaxed);
        } else if status.is_server_error() {
            self.server_errors.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// `GET /metrics`
pub(super) async fn metrics<N: Node>(State(app): State<App<N>>, headers: HeaderMap) -> Result<Response, HttpError> {
    if accepts(&headers, "text/plain") || accepts(&headers, "application/openmetrics-text") {
        let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        return Ok(([(header::CONTENT_TYPE, kind)], prometheus(&app.node.state(), &app.counters)).into_response());
    }
    Ok(Json(app.node.raft_metrics()?).into_response())
}

fn prometheus(state: &NodeState, counters: &Counters) -> String {
    let mut text = String::with_capacity(2048);
    let mut one = |name: &str, kind: &str, help: &str, value: u64| {
        // Writing into a string cannot fail.
        let _ = write!(
            text,
            "# HELP raftwright_{name} {help}\n# TYPE raftwright_{name} {kind}\nraftwright_{name} {value}\n"
        );
    };
    let flag = u64::from;
    one("has_leader", "gauge", "Whether this server knows a leader.", flag(state.leader.is_some()));
    one("is_leader", "gauge", "Whether this server leads.", flag(state.role == Role::Leader));
    one("is_learner", "gauge", "Whether this server does not vote.", flag(state.role == Role::Learner));
    one("term", "gauge", "Term of this server.", state.term);
    one("last_log_index", "gauge", "Index of the last entry in the log.", state.last_log);
    one("committed_index", "gauge", "Index of the last entry known to be committed.", state.committed);
    one("applied_index", "gauge", "Index of the last entry applied.", state.applied);
    one("snapshot_index", "gauge", "Index of the last entry in the newest snapshot.", state.snapshot);
    one("purged_index", "gauge", "Index of the last entry dropped behind a snapshot.", state.purged);
    one("members", "gauge", "Members of the cluster, learners included.", state.members.len() as u64);
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    one("http_requests_total", "counter", "HTTP requests taken in.", count(&counters.requests));
    one("http_client_errors_total", "counter", "Answers 4xx.", count(&counters.client_errors));
    one("http_server_errors_total", "counter", "Answers 5xx.", count(&counters.server_errors));
    one("http_requests_refused_total", "counter", "Requests refused as too many.", count(&counters.busy));
    replication(&mut text, state);
    text
}

fn replication(text: &mut String, state: &NodeState) {
    if state.role != Role::Leader {
        return;
    }
    let name = "raftwright_replication_lag_entries";
    let _ = write!(text, "# HELP {name} Entries of the log that a peer is not known to hold.\n# TYPE {name} gauge\n");
    for member in state.members.iter().filter(|member| member.id != state.id) {
        let lag = state.last_log.saturating_sub(member.matched.unwrap_or(0));
        let _ = writeln!(text, "{name}{{peer=\"{}\"}} {lag}", member.id);
    }
}
