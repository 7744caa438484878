//! The cluster: its first members, its changes, its leader.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use crate::api::{AddBody, ChangeAnswer, ErrorKind, Member, MoveBody, Position, SnapshotAnswer};
use crate::http::input::{Params, body_within, from_json};
use crate::http::{App, HttpError};
use crate::limits::JSON_BODY_BYTES_MAX;
use crate::node::Node;

/// Longest peer address, in bytes: the longest DNS name, a colon and a port.
const ADDR_BYTES_MAX: usize = 253 + 6;

/// How many entries a learner may lack when it is promoted.
const PROMOTE_LAG_MAX: u64 = 10_000;

/// Most members that one request may name.
const MEMBERS_MAX: usize = 64;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeParams {
    #[serde(default)]
    retain: bool,
}

/// `POST /init`: `[[1, "host:port"], ...]`, or nothing (or `[]`) for a cluster of this server alone.
pub(super) async fn init<N: Node>(State(app): State<App<N>>, body: Body) -> Result<Response, HttpError> {
    let body = body_within(body, "body", JSON_BODY_BYTES_MAX).await?;
    let listed: Vec<(u64, String)> = match body.trim_ascii() {
        b"" | b"{}" => Vec::new(),
        body => from_json(body, r#"[[1, "host:port"], ...]"#)?,
    };
    if listed.len() > MEMBERS_MAX {
        return Err(HttpError::bad_request(format!("{} members; the limit is {MEMBERS_MAX}", listed.len())));
    }
    let mut members = BTreeMap::new();
    for (id, addr) in listed {
        if members.insert(checked_id(id)?, checked_addr(addr)?).is_some() {
            return Err(HttpError::bad_request(format!("server {id} is listed twice")));
        }
    }
    app.node.initialize(members).await?;
    Ok(Json(app.node.position()).into_response())
}

/// `POST /add-learner`: `[2, "host:port"]`
pub(super) async fn add_learner<N: Node>(State(app): State<App<N>>, body: Body) -> Result<Response, HttpError> {
    let body = body_within(body, "body", JSON_BODY_BYTES_MAX).await?;
    let (id, addr): (u64, String) = from_json(&body, r#"[2, "host:port"]"#)?;
    let log_index = app.node.add_learner(checked_id(id)?, checked_addr(addr)?).await?;
    Ok(changed(&app, log_index))
}

/// `POST /change-membership`: `[1, 2, 3]`. With `?retain=true` the removed voters stay as learners.
pub(super) async fn change_membership<N: Node>(
    State(app): State<App<N>>,
    Params(params): Params<ChangeParams>,
    body: Body,
) -> Result<Response, HttpError> {
    let body = body_within(body, "body", JSON_BODY_BYTES_MAX).await?;
    let voters: BTreeSet<u64> = from_json(&body, "[1, 2, 3]")?;
    if voters.is_empty() || voters.len() > MEMBERS_MAX {
        return Err(HttpError::bad_request(format!("{} voters; there must be 1 to {MEMBERS_MAX}", voters.len())));
    }
    let log_index = app.node.change_membership(voters, params.retain).await?;
    Ok(changed(&app, log_index))
}

/// `POST /transfer-leader`: `2`
pub(super) async fn transfer_leader<N: Node>(State(app): State<App<N>>, body: Body) -> Result<Response, HttpError> {
    let body = body_within(body, "body", JSON_BODY_BYTES_MAX).await?;
    let to: u64 = from_json(&body, "the id of a server, like 2")?;
    app.node.transfer_leader(to).await?;
    Ok(Json(app.node.position()).into_response())
}

/// `POST /snapshot`: this server builds a snapshot of its own state.
pub(super) async fn snapshot<N: Node>(State(app): State<App<N>>) -> Result<Response, HttpError> {
    let snapshot = app.node.snapshot().await?;
    Ok(Json(SnapshotAnswer { snapshot, position: app.node.position() }).into_response())
}

#[derive(Serialize)]
struct NodeEntry {
    addr: String,
    voter: bool,
}

/// `GET|POST /list-nodes`: the members, by their ids.
pub(super) async fn list_nodes<N: Node>(State(app): State<App<N>>) -> Response {
    let members = app.node.state().members;
    let nodes: BTreeMap<u64, NodeEntry> =
        members.into_iter().map(|m| (m.id, NodeEntry { addr: m.addr, voter: m.voter })).collect();
    Json(nodes).into_response()
}

/// `GET /member`
pub(super) async fn members<N: Node>(State(app): State<App<N>>) -> Response {
    Json(app.node.state().members).into_response()
}

/// `POST /member`: `{"id": 4, "addr": "host:port"}` adds a learner. One that is there already, at that address, may be added
/// again: whoever did not hear that it was done asks a second time.
pub(super) async fn add_member<N: Node>(State(app): State<App<N>>, body: Body) -> Result<Response, HttpError> {
    let body = body_within(body, "body", JSON_BODY_BYTES_MAX).await?;
    let AddBody { id, addr } = from_json(&body, r#"{"id": 4, "addr": "host:port"}"#)?;
    let (id, addr) = (checked_id(id)?, checked_addr(addr)?);
    let members = app.node.state().members;
    match members.iter().find(|member| member.id == id) {
        Some(member) if member.voter => {
            return Err(HttpError::bad_request(format!("server {id} is a member already, and votes")));
        }
        Some(member) if member.addr != addr => {
            return Err(HttpError::bad_request(format!(
                "server {id} is a member already, at {}: if it is reached at {addr} now, say `raftwright member move {id} {addr}`",
                member.addr
            )));
        }
        Some(_) | None => check_nobody_else_is_at(&members, id, &addr)?,
    }
    let log_index = app.node.add_learner(id, addr).await?;
    Ok(changed(&app, log_index))
}

/// `PUT /member/{id}`: `{"addr": "host:port"}` says where a member is reached from now on.
pub(super) async fn move_member<N: Node>(
    State(app): State<App<N>>,
    id: MemberId,
    body: Body,
) -> Result<Response, HttpError> {
    let MemberId(id) = id;
    let body = body_within(body, "body", JSON_BODY_BYTES_MAX).await?;
    let MoveBody { addr } = from_json(&body, r#"{"addr": "host:port"}"#)?;
    let addr = checked_addr(addr)?;
    let members = app.node.state().members;
    if !members.iter().any(|member| member.id == id) {
        return Err(no_member(id));
    }
    check_nobody_else_is_at(&members, id, &addr)?;
    // Whoever is a member stays what it is: only the address changes.
    let log_index = app.node.add_learner(id, addr).await?;
    Ok(changed(&app, log_index))
}

/// Two members at one address are one server that is counted twice.
fn check_nobody_else_is_at(members: &[Member], id: u64, addr: &str) -> Result<(), HttpError> {
    match members.iter().find(|member| member.id != id && member.addr == addr) {
        Some(other) => Err(HttpError::bad_request(format!("{addr} is the address of server {}", other.id))),
        None => Ok(()),
    }
}

/// `POST /member/{id}/promote` makes a learner a voter. One that votes already may be promoted again: whoever did not hear that
/// it was done asks a second time.
///
/// The asked server may have missed the last changes, so the leader is told who is to vote besides, and not who all the voters
/// are: that would undo what this server has not heard of.
pub(super) async fn promote<N: Node>(State(app): State<App<N>>, id: MemberId) -> Result<Response, HttpError> {
    let MemberId(id) = id;
    let (_, member) = voters_and(&app, id);
    match member {
        None => return Err(no_member(id)),
        Some(true) => {}
        Some(false) => check_caught_up(&app, id)?,
    }
    let log_index = app.node.add_voter(id).await?;
    Ok(changed(&app, log_index))
}

/// `DELETE /member/{id}` removes a voter or a learner.
pub(super) async fn remove<N: Node>(State(app): State<App<N>>, id: MemberId) -> Result<Response, HttpError> {
    let MemberId(id) = id;
    let (voters, member) = voters_and(&app, id);
    let log_index = match member {
        None => return Err(no_member(id)),
        Some(false) => app.node.remove_learner(id).await?,
        Some(true) if voters == 1 => {
            return Err(HttpError::bad_request(format!(
                "server {id} is the last voter: add and promote another first"
            )));
        }
        // Who else votes is for the leader to know: see `promote`.
        Some(true) => app.node.remove_voter(id).await?,
    };
    Ok(changed(&app, log_index))
}

/// A voter that lacks much of the log counts in every majority and helps in none: a cluster of one that gave its vote to
/// a server that cannot be reached would stop. Only the leader knows how far a learner is; another server does not judge.
fn check_caught_up<N: Node>(app: &App<N>, id: u64) -> Result<(), HttpError> {
    let state = app.node.state();
    let matched = state.members.iter().find(|member| member.id == id).and_then(|member| member.matched);
    let advice = "let it catch up first (see `raftwright status`), or use /change-membership, which does not ask";
    match matched.map(|matched| (matched, state.last_log.saturating_sub(matched))) {
        Some((0, _)) => {
            let message = format!("server {id} has not been reached yet: {advice}");
            Err(HttpError::new(ErrorKind::NotApplied, message))
        }
        Some((_, lag)) if lag > PROMOTE_LAG_MAX => {
            let message = format!("server {id} is {lag} entries behind: {advice}");
            Err(HttpError::new(ErrorKind::NotApplied, message))
        }
        Some(_) | None => Ok(()),
    }
}

/// The id of a member in the path.
pub(super) struct MemberId(u64);

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for MemberId {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut axum::http::request::Parts, state: &S) -> Result<Self, HttpError> {
        let path = Path::<u64>::from_request_parts(parts, state).await;
        path.map(|Path(id)| Self(id)).map_err(|_| HttpError::bad_request("the id of a member is a number"))
    }
}

/// How many servers vote, and whether that one does; `None` if it is no member. As far as the asked server has heard.
fn voters_and<N: Node>(app: &App<N>, id: u64) -> (usize, Option<bool>) {
    let members = app.node.state().members;
    let member = members.iter().find(|member| member.id == id).map(|member| member.voter);
    (members.iter().filter(|member| member.voter).count(), member)
}

fn no_member(id: u64) -> HttpError {
    HttpError::new(ErrorKind::NotFound, format!("server {id} is not a member of the cluster"))
}

fn checked_id(id: u64) -> Result<u64, HttpError> {
    if id == 0 { Err(HttpError::bad_request("the id of a server is a number from 1 on")) } else { Ok(id) }
}

fn checked_addr(addr: String) -> Result<String, HttpError> {
    let port = addr.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    match port {
        Some(Ok(1..)) if addr.len() <= ADDR_BYTES_MAX => Ok(addr),
        _ => Err(HttpError::bad_request(format!("{addr:?} is not an address: it must be host:port"))),
    }
}

fn changed<N: Node>(app: &App<N>, log_index: u64) -> Response {
    let position: Position = app.node.position();
    Json(ChangeAnswer { log_index, position }).into_response()
}
