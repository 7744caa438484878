//! What watches over a server asks for.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use crate::http::App;
use crate::http::HttpError;
use crate::http::input::Params;
use crate::node::Node;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadyParams {
    verbose: Option<String>,
}

#[derive(Serialize)]
struct Check {
    name: &'static str,
    ok: bool,
}

#[derive(Serialize)]
struct Health {
    ok: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checks: Vec<Check>,
}

/// `GET /livez`: whether the process should be left running.
pub(super) async fn livez<N: Node>(State(app): State<App<N>>) -> Response {
    let checks = vec![Check { name: "running", ok: app.node.state().stopped.is_none() }];
    answer(checks, false)
}

/// `GET /readyz?verbose`: whether requests should be sent here.
pub(super) async fn readyz<N: Node>(
    State(app): State<App<N>>,
    Params(params): Params<ReadyParams>,
) -> Result<Response, HttpError> {
    let verbose = params.verbose.is_some_and(|value| value != "false");
    Ok(answer(checks(&app), verbose))
}

/// `GET /health`: as `/readyz`, with its checks.
pub(super) async fn health<N: Node>(State(app): State<App<N>>) -> Response {
    answer(checks(&app), true)
}

fn checks<N: Node>(app: &App<N>) -> Vec<Check> {
    let state = app.node.state();
    vec![
        Check { name: "running", ok: state.stopped.is_none() },
        Check { name: "has_leader", ok: state.leader.is_some() },
        Check { name: "applied_what_is_committed", ok: state.applied >= state.committed },
    ]
}

fn answer(checks: Vec<Check>, verbose: bool) -> Response {
    let ok = checks.iter().all(|check| check.ok);
    let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    // What fails is always named: whoever gets a 503 should not have to ask twice.
    let checks = checks.into_iter().filter(|check| verbose || !check.ok).collect();
    (status, Json(Health { ok, checks })).into_response()
}

#[derive(Serialize)]
struct Version {
    name: &'static str,
    version: &'static str,
}

/// `GET /version`
pub(super) async fn version() -> Response {
    Json(Version { name: "raftwright", version: env!("CARGO_PKG_VERSION") }).into_response()
}

/// `GET /state`
pub(super) async fn state<N: Node>(State(app): State<App<N>>) -> Response {
    Json(app.node.state()).into_response()
}

/// `GET /status`
pub(super) async fn status<N: Node>(State(app): State<App<N>>) -> Response {
    Json(app.node.cluster_status().await).into_response()
}
