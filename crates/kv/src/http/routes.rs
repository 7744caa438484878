//! The routes, and what is done around every request.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use tokio::sync::Semaphore;

use crate::api::{ErrorKind, Position};
use crate::http::metrics::Counters;
use crate::http::{HttpError, admin, health, kv, metrics};
use crate::limits::HttpLimits;
use crate::node::Node;

/// What every handler can reach.
pub struct App<N> {
    pub(super) node: Arc<N>,
    pub(super) counters: Arc<Counters>,
    pub(super) limits: HttpLimits,
    under_way: Arc<Semaphore>,
}

impl<N> Clone for App<N> {
    fn clone(&self) -> Self {
        Self {
            node: Arc::clone(&self.node),
            counters: Arc::clone(&self.counters),
            limits: self.limits,
            under_way: Arc::clone(&self.under_way),
        }
    }
}

impl<N: Node> App<N> {
    /// The interface of that server.
    pub fn new(node: Arc<N>) -> Self {
        Self::with_limits(node, HttpLimits::default())
    }

    /// As [`new`](Self::new), within other bounds.
    pub fn with_limits(node: Arc<N>, limits: HttpLimits) -> Self {
        Self { node, counters: Arc::default(), limits, under_way: Arc::new(Semaphore::new(limits.requests_max)) }
    }
}

/// What there is, for whoever asks for something else.
const PATHS: &str = "/kv/{key}, /kv, /write, /read, /state, /status, /metrics, /health, /livez, /readyz, /version, /snapshot, \
                     /member, /member/{id}, /member/{id}/promote, /list-nodes, /add-learner, /change-membership, \
                     /transfer-leader and /init";

/// All routes.
pub fn router<N: Node>(app: App<N>) -> Router {
    Router::new()
        .route("/kv", get(kv::scan::<N>))
        .route("/kv/{*key}", get(kv::get::<N>).put(kv::put::<N>).delete(kv::delete::<N>))
        .route("/write", post(kv::post_write::<N>))
        .route("/read", post(kv::post_read::<N>))
        .route("/init", post(admin::init::<N>))
        .route("/add-learner", post(admin::add_learner::<N>))
        .route("/change-membership", post(admin::change_membership::<N>))
        .route("/transfer-leader", post(admin::transfer_leader::<N>))
        .route("/snapshot", post(admin::snapshot::<N>))
        .route("/list-nodes", get(admin::list_nodes::<N>).post(admin::list_nodes::<N>))
        .route("/member", get(admin::members::<N>).post(admin::add_member::<N>))
        .route("/member/{id}", delete(admin::remove::<N>).put(admin::move_member::<N>))
        .route("/member/{id}/promote", post(admin::promote::<N>))
        .route("/metrics", get(metrics::metrics::<N>))
        .route("/state", get(health::state::<N>))
        .route("/status", get(health::status::<N>))
        .route("/livez", get(health::livez::<N>))
        .route("/readyz", get(health::readyz::<N>))
        .route("/health", get(health::health::<N>))
        .route("/version", get(health::version))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(app.clone(), around::<N>))
        .with_state(app)
}

async fn unknown_path(request: Request) -> HttpError {
    let message = match request.uri().path() {
        "/kv/" => "the key is empty: /kv/{key}, or /kv for all keys".to_owned(),
        path => format!("there is nothing at {path}; the paths are {PATHS}"),
    };
    HttpError::new(ErrorKind::NotFound, message)
}

async fn wrong_method(request: Request) -> HttpError {
    HttpError::new(ErrorKind::MethodNotAllowed, format!("{} does not take {}", request.uri().path(), request.method()))
}

/// Bounds what is under way, counts, gives errors their bodies, and tells where this server stands.
async fn around<N: Node>(State(app): State<App<N>>, request: Request, next: Next) -> Response {
    app.counters.request();
    let mut response = match app.under_way.try_acquire() {
        Ok(_permit) => next.run(request).await,
        Err(_) => {
            app.counters.busy();
            HttpError::new(ErrorKind::NotApplied, "too many requests are under way; try again later").into_response()
        }
    };
    app.counters.answer(response.status());
    let position = app.node.position();
    if let Some(error) = response.extensions_mut().remove::<HttpError>() {
        // The routing says which methods a path takes; that header must outlive the new body.
        let (status, allow) = (response.status(), response.headers_mut().remove("allow"));
        response = error.render(status, position.leader.clone());
        if let Some(allow) = allow {
            response.headers_mut().insert("allow", allow);
        }
    }
    stamp(&mut response, &position);
    response
}

fn stamp(response: &mut Response, position: &Position) {
    let headers = response.headers_mut();
    headers.insert("raftwright-term", HeaderValue::from(position.term));
    headers.insert("raftwright-applied", HeaderValue::from(position.applied));
    if let Some(leader) = &position.leader {
        headers.insert("raftwright-leader", HeaderValue::from(leader.id));
    }
}
