//! `/kv`, and the reference's `/write` and `/read`.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use crate::api::{ErrorKind, Pair, PutBody, ReadAnswer, ScanAnswer, WriteAnswer, WriteBody};
use crate::http::input::{
    ConditionParams, Consistency, Key, Params, accepts, body_within, checked_key, checked_value, from_json, is_json,
};
use crate::http::{App, HttpError, base64};
use crate::limits::{JSON_BODY_BYTES_MAX, SCAN_PAIRS_DEFAULT, SCAN_PAIRS_MAX, VALUE_BYTES_MAX};
use crate::node::Node;
use crate::store::{Answer, Command, Condition, KeyValue, Query, Stored};

/// The header with the revision of a value that is answered as it is.
pub(super) const REVISION_HEADER: &str = "raftwright-revision";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadParams {
    #[serde(default)]
    consistency: Consistency,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScanParams {
    #[serde(default)]
    prefix: String,
    after: Option<String>,
    limit: Option<u64>,
    #[serde(default)]
    consistency: Consistency,
}

/// `PUT /kv/{key}`
pub(super) async fn put<N: Node>(
    State(app): State<App<N>>,
    Key(key): Key,
    Params(params): Params<ConditionParams>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, HttpError> {
    let condition = params.condition()?;
    let value = if is_json(&headers) {
        let body = body_within(body, "body", JSON_BODY_BYTES_MAX).await?;
        let body: PutBody = from_json(&body, r#"{"value": "..."}"#)?;
        checked_value(body.value.into())?
    } else {
        body_within(body, "value", VALUE_BYTES_MAX).await?
    };
    write(&app, key.clone(), Command::Put { key, value, condition }).await
}

/// `DELETE /kv/{key}`
pub(super) async fn delete<N: Node>(
    State(app): State<App<N>>,
    Key(key): Key,
    Params(params): Params<ConditionParams>,
) -> Result<Response, HttpError> {
    let condition = params.condition()?;
    write(&app, key.clone(), Command::Delete { key, condition }).await
}

/// `POST /write`
pub(super) async fn post_write<N: Node>(State(app): State<App<N>>, body: Body) -> Result<Response, HttpError> {
    let body = body_within(body, "body", JSON_BODY_BYTES_MAX).await?;
    let condition = Condition::Always;
    let (key, command) = match from_json(&body, r#"{"Set": {"key": "...", "value": "..."}}"#)? {
        WriteBody::Set { key, value } => {
            let (key, value) = (checked_key(key)?, checked_value(value.into())?);
            (key.clone(), Command::Put { key, value, condition })
        }
        WriteBody::Delete { key } => {
            let key = checked_key(key)?;
            (key.clone(), Command::Delete { key, condition })
        }
    };
    write(&app, key, command).await
}

async fn write<N: Node>(app: &App<N>, key: String, command: Command) -> Result<Response, HttpError> {
    match app.node.write(command).await? {
        Answer::Written { revision, previous } => {
            let position = app.node.position();
            Ok(Json(WriteAnswer { key, revision, previous, position }).into_response())
        }
        Answer::Refused { found } => Err(HttpError::conflict(found)),
        Answer::TooLong => Err(HttpError::new(ErrorKind::TooLarge, "the key or the value is too long")),
        Answer::Value(_) | Answer::Pairs { .. } => Err(senseless()),
    }
}

/// `GET /kv/{key}`: JSON, or the value as it is if `Accept: application/octet-stream` asks for it.
pub(super) async fn get<N: Node>(
    State(app): State<App<N>>,
    Key(key): Key,
    Params(params): Params<ReadParams>,
    headers: HeaderMap,
) -> Result<Response, HttpError> {
    let stored = get_stored(&app, &key, params.consistency).await?;
    if accepts(&headers, "application/octet-stream") {
        return Ok((
            [
                (header::CONTENT_TYPE.as_str(), HeaderValue::from_static("application/octet-stream")),
                (REVISION_HEADER, HeaderValue::from(stored.revision)),
            ],
            stored.value,
        )
            .into_response());
    }
    let position = app.node.position();
    Ok(Json(ReadAnswer { pair: pair(KeyValue { key, stored }), position }).into_response())
}

/// `POST /read`: the key as a JSON string; the value comes back as one.
pub(super) async fn post_read<N: Node>(
    State(app): State<App<N>>,
    Params(params): Params<ReadParams>,
    body: Body,
) -> Result<Response, HttpError> {
    let body = body_within(body, "body", JSON_BODY_BYTES_MAX).await?;
    let key = checked_key(from_json(&body, r#""key""#)?)?;
    let stored = get_stored(&app, &key, params.consistency).await?;
    match std::str::from_utf8(&stored.value) {
        Ok(text) => Ok(Json(text).into_response()),
        Err(_) => Err(HttpError::bad_request("the value is not UTF-8: read it with GET /kv/{key}")),
    }
}

async fn get_stored<N: Node>(app: &App<N>, key: &str, consistency: Consistency) -> Result<Stored, HttpError> {
    match read(app, Query::Get { key: key.to_owned() }, consistency).await? {
        Answer::Value(Some(stored)) => Ok(stored),
        Answer::Value(None) => Err(HttpError::new(ErrorKind::NotFound, format!("there is no key {key:?}"))),
        Answer::Written { .. } | Answer::Refused { .. } | Answer::TooLong | Answer::Pairs { .. } => Err(senseless()),
    }
}

/// `GET /kv?prefix=&after=&limit=`
pub(super) async fn scan<N: Node>(
    State(app): State<App<N>>,
    Params(params): Params<ScanParams>,
) -> Result<Response, HttpError> {
    let limit = params.limit.unwrap_or(SCAN_PAIRS_DEFAULT as u64);
    if limit == 0 || limit > SCAN_PAIRS_MAX as u64 {
        return Err(HttpError::bad_request(format!("limit is {limit}: it goes from 1 to {SCAN_PAIRS_MAX}")));
    }
    let query = Query::Scan { prefix: params.prefix, after: params.after, limit };
    match read(&app, query, params.consistency).await? {
        Answer::Pairs { pairs, more } => {
            let position = app.node.position();
            let pairs = pairs.into_iter().map(pair).collect();
            Ok(Json(ScanAnswer { pairs, more, position }).into_response())
        }
        Answer::Written { .. } | Answer::Refused { .. } | Answer::TooLong | Answer::Value(_) => Err(senseless()),
    }
}

async fn read<N: Node>(app: &App<N>, query: Query, consistency: Consistency) -> Result<Answer, HttpError> {
    Ok(match consistency {
        Consistency::Linearizable => app.node.read(query).await?,
        Consistency::Stale => app.node.read_stale(query).await?,
    })
}

/// A pair as it goes over HTTP and stands in JSON.
pub(crate) fn pair(KeyValue { key, stored }: KeyValue) -> Pair {
    let Stored { value, revision } = stored;
    match String::from_utf8(Vec::from(value)) {
        Ok(text) => Pair { key, value: Some(text), value_base64: None, revision },
        Err(error) => {
            let encoded = base64::encode(error.as_bytes());
            Pair { key, value: None, value_base64: Some(encoded), revision }
        }
    }
}

/// A read that answers like a write, or the other way round: a server of another version of this program, or a bug.
fn senseless() -> HttpError {
    HttpError::new(
        ErrorKind::Internal,
        "the cluster's answer does not fit the request: do all servers run this version?",
    )
}
