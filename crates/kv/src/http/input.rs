//! Taking requests apart. Everything that a client can get wrong is found here, and answered with what is wrong.

use std::fmt::Write;

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::api::ErrorKind;
use crate::http::HttpError;
use crate::limits::{HTTP_BODY_TIMEOUT, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::store::Condition;

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Consistency {
    /// It sees every write that was acknowledged before it was asked.
    #[default]
    Linearizable,
    /// It sees what the answering server happens to have applied.
    Stale,
}

/// The parameters of the query string. Unknown ones are errors.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Params<T> {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, HttpError> {
        let Query(params) =
            Query::try_from_uri(&parts.uri).map_err(|error| HttpError::bad_request(error.body_text()))?;
        Ok(Self(params))
    }
}

/// The key in the path, decoded and within its bounds.
pub(super) struct Key(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Key {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, HttpError> {
        let Path(key) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|error| HttpError::bad_request(error.body_text()))?;
        Ok(Self(checked_key(key)?))
    }
}

/// The parameters of a conditional write.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConditionParams {
    if_revision: Option<u64>,
    if_value: Option<String>,
}

impl ConditionParams {
    pub(super) fn condition(self) -> Result<Condition, HttpError> {
        match (self.if_revision, self.if_value) {
            (None, None) => Ok(Condition::Always),
            (Some(revision), None) => Ok(Condition::Revision(revision)),
            (None, Some(value)) => Ok(Condition::Value(value.into())),
            (Some(_), Some(_)) => Err(HttpError::bad_request("give if_revision or if_value, not both")),
        }
    }
}

/// A key, if it is within its bounds.
pub(super) fn checked_key(key: String) -> Result<String, HttpError> {
    match key.len() {
        0 => Err(HttpError::bad_request("the key is empty")),
        1..=KEY_BYTES_MAX => Ok(key),
        len => Err(HttpError::new(
            ErrorKind::TooLarge,
            format!("the key is {len} bytes long, the limit is {KEY_BYTES_MAX}"),
        )),
    }
}

/// A value, if it is within its bounds.
pub(super) fn checked_value(value: Bytes) -> Result<Bytes, HttpError> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(too_large("value", VALUE_BYTES_MAX));
    }
    Ok(value)
}

fn too_large(what: &str, limit: usize) -> HttpError {
    HttpError::new(ErrorKind::TooLarge, format!("the {what} is longer than the limit of {limit} bytes"))
}

/// Whether the body says that it is JSON.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.split(';').next().is_some_and(|kind| kind.trim() == "application/json"))
}

/// Whether the client would take that type of answer. It must be named: `*/*` names nothing.
pub(super) fn accepts(headers: &HeaderMap, kind: &str) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|one| one.split(';').next().is_some_and(|name| name.trim() == kind)))
}

/// The body, if it is within its limit. A length that is announced and too long is refused before a byte is taken in, one
/// that is not announced when it passes the limit; in neither case is more than the limit kept.
pub(super) async fn body_within(body: Body, what: &str, limit: usize) -> Result<Bytes, HttpError> {
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large(what, limit));
    }
    let collected = tokio::time::timeout(HTTP_BODY_TIMEOUT, Limited::new(body, limit).collect());
    match collected.await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(what, limit)),
        Ok(Err(error)) => Err(HttpError::bad_request(format!("the body cannot be read: {error}"))),
        Err(_) => Err(HttpError::bad_request(format!(
            "the body did not arrive within {} seconds",
            HTTP_BODY_TIMEOUT.as_secs()
        ))),
    }
}

/// A JSON body.
pub(super) fn from_json<T: DeserializeOwned>(body: &[u8], expected: &str) -> Result<T, HttpError> {
    serde_json::from_slice(body).map_err(|error| {
        HttpError::bad_request(format!("the body is not the JSON that this path takes ({expected}): {error}"))
    })
}

/// A key as it stands in a path: everything but unreserved characters (RFC 3986, §2.3) is encoded.
pub(crate) fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => {
                // Writing into a string cannot fail.
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}
