//! An error as an HTTP answer.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::api::{ErrorBody, ErrorKind, LeaderInfo};
use crate::node::CallError;

/// An error on its way out.
#[derive(Clone, Debug)]
pub struct HttpError {
    kind: ErrorKind,
    message: String,
    found: Option<Option<u64>>,
}

impl HttpError {
    /// An error of that kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), found: None }
    }

    /// A request that makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::BadRequest, message)
    }

    /// A condition that did not hold; `found` is the revision that the key has.
    pub fn conflict(found: Option<u64>) -> Self {
        let message = match found {
            Some(revision) => format!("the key is at revision {revision}, which is not what the request asks for"),
            None => "the key does not exist".to_owned(),
        };
        Self { found: Some(found), ..Self::new(ErrorKind::Conflict, message) }
    }
}

impl From<CallError> for HttpError {
    fn from(error: CallError) -> Self {
        Self::new(error.kind, error.message)
    }
}

impl IntoResponse for HttpError {
    /// The status alone, with the error attached: `HttpError::render` makes the body where the answer leaves the server,
    /// since only there it is known who leads.
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl HttpError {
    /// The whole answer.
    pub(super) fn render(self, status: StatusCode, leader: Option<LeaderInfo>) -> Response {
        let body = ErrorBody { error: self.message, kind: self.kind, leader, found: self.found };
        let mut response = (status, Json(body)).into_response();
        match self.kind {
            ErrorKind::NotApplied | ErrorKind::Unavailable => {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            // What is left of a body that was refused half-way is not worth reading.
            ErrorKind::TooLarge => {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            ErrorKind::BadRequest
            | ErrorKind::NotFound
            | ErrorKind::MethodNotAllowed
            | ErrorKind::Conflict
            | ErrorKind::Unknown
            | ErrorKind::Internal => {}
        }
        response
    }
}
