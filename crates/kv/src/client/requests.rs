//! Requests by name, asked of one endpoint after the other until one answers.

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::{
    AddBody, ChangeAnswer, ErrorBody, ErrorKind, Member, MoveBody, NodeState, Position, ScanAnswer, ServerStatus,
    SnapshotAnswer, WriteAnswer,
};
use crate::client::connection::Outgoing;
use crate::client::{Connection, Response, TransportError};
use crate::http::percent_encode;

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
const RAW: &[(&str, &str)] = &[("content-type", "application/octet-stream"), ("accept", "application/octet-stream")];

/// Why a request did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server answered with an error.
    #[error("{}", .0.error)]
    Answered(ErrorBody),
    /// No server answered a change. It may have been applied, unless [`TransportError::never_sent`].
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// No server answered a question, which changes nothing whether it was heard or not.
    #[error(transparent)]
    Unanswered(TransportError),
    /// The answer is not what this program understands.
    #[error(
        "{endpoint} answered what this program does not understand ({what}): is it a raftwright server of this version?"
    )]
    Senseless {
        /// Who answered.
        endpoint: String,
        /// What is wrong with it.
        what: String,
    },
}

impl ClientError {
    /// What the error means for whoever asked.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ClientError::Answered(body) => body.kind,
            ClientError::Transport(error) if error.never_sent() => ErrorKind::NotApplied,
            ClientError::Transport(_) => ErrorKind::Unknown,
            ClientError::Unanswered(_) => ErrorKind::Unavailable,
            ClientError::Senseless { .. } => ErrorKind::Internal,
        }
    }
}

/// When a write happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteCondition {
    /// Only if the key is at this revision; 0: only if it does not exist.
    pub if_revision: Option<u64>,
}

/// A client of some servers of one cluster. It stays with the one that answered last.
#[derive(Debug)]
pub struct Client {
    connections: Vec<Connection>,
    current: usize,
    timeout: Duration,
}

impl Client {
    /// A client that asks these endpoints, the first one first. There must be one at least, or every request fails.
    pub fn new(endpoints: impl IntoIterator<Item = String>, timeout: Duration) -> Self {
        Self { connections: endpoints.into_iter().map(Connection::new).collect(), current: 0, timeout }
    }

    /// The endpoint that is asked first now.
    pub fn endpoint(&self) -> &str {
        self.connections.get(self.current).map_or("", Connection::endpoint)
    }

    /// Asks another endpoint first from now on.
    pub fn next_endpoint(&mut self) {
        self.current = (self.current + 1) % self.connections.len().max(1);
    }

    /// Changes where an endpoint is: a server that was started again may listen elsewhere.
    pub fn set_endpoint(&mut self, at: usize, endpoint: &str) {
        if let Some(connection) = self.connections.get_mut(at).filter(|connection| connection.endpoint() != endpoint) {
            *connection = Connection::new(endpoint);
        }
    }

    /// `GET /kv/{key}`: the value and its revision, or `None`.
    ///
    /// # Errors
    /// When nobody can answer.
    pub async fn get(&mut self, key: &str, stale: bool) -> Result<Option<(Bytes, u64)>, ClientError> {
        let path = format!("/kv/{}{}", percent_encode(key), if stale { "?consistency=stale" } else { "" });
        match self.ask((Method::GET, &path, RAW, Bytes::new())).await {
            Ok(response) => {
                let revision = response.headers.get("raftwright-revision").and_then(|v| v.to_str().ok()?.parse().ok());
                match revision {
                    Some(revision) => Ok(Some((response.body, revision))),
                    None => Err(self.senseless("no revision")),
                }
            }
            Err(ClientError::Answered(body)) if body.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// `PUT /kv/{key}`
    ///
    /// # Errors
    /// See [`ClientError::kind`] for what may have happened.
    pub async fn put(
        &mut self,
        key: &str,
        value: Bytes,
        condition: WriteCondition,
    ) -> Result<WriteAnswer, ClientError> {
        let path = kv_path(key, condition);
        let response = self.ask((Method::PUT, &path, RAW, value)).await?;
        self.parsed(&response)
    }

    /// `DELETE /kv/{key}`
    ///
    /// # Errors
    /// See [`ClientError::kind`] for what may have happened.
    pub async fn delete(&mut self, key: &str, condition: WriteCondition) -> Result<WriteAnswer, ClientError> {
        let path = kv_path(key, condition);
        let response = self.ask((Method::DELETE, &path, &[], Bytes::new())).await?;
        self.parsed(&response)
    }

    /// `GET /kv?prefix=`: one page.
    ///
    /// # Errors
    /// When nobody can answer.
    pub async fn scan(
        &mut self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        stale: bool,
    ) -> Result<ScanAnswer, ClientError> {
        let mut path = format!("/kv?prefix={}&limit={limit}", percent_encode(prefix));
        if let Some(after) = after {
            path.push_str("&after=");
            path.push_str(&percent_encode(after));
        }
        if stale {
            path.push_str("&consistency=stale");
        }
        self.get_json(&path).await
    }

    /// `GET /state`
    ///
    /// # Errors
    /// When nobody can answer.
    pub async fn state(&mut self) -> Result<NodeState, ClientError> {
        self.get_json("/state").await
    }

    /// `GET /status`
    ///
    /// # Errors
    /// When nobody can answer.
    pub async fn status(&mut self) -> Result<Vec<ServerStatus>, ClientError> {
        self.get_json("/status").await
    }

    /// `GET /member`
    ///
    /// # Errors
    /// When nobody can answer.
    pub async fn members(&mut self) -> Result<Vec<Member>, ClientError> {
        self.get_json("/member").await
    }

    /// `POST /init`
    ///
    /// # Errors
    /// When the server belongs to a cluster already, or the list makes no sense.
    pub async fn init(&mut self, members: &[(u64, String)]) -> Result<Position, ClientError> {
        self.post_json("/init", &members).await
    }

    /// `POST /member`
    ///
    /// # Errors
    /// See [`ClientError::kind`] for what may have happened.
    pub async fn add_member(&mut self, id: u64, addr: &str) -> Result<ChangeAnswer, ClientError> {
        self.post_json("/member", &AddBody { id, addr: addr.to_owned() }).await
    }

    /// `POST /member/{id}/promote`
    ///
    /// # Errors
    /// See [`ClientError::kind`] for what may have happened.
    pub async fn promote(&mut self, id: u64) -> Result<ChangeAnswer, ClientError> {
        let response = self.ask((Method::POST, &format!("/member/{id}/promote"), &[], Bytes::new())).await?;
        self.parsed(&response)
    }

    /// `PUT /member/{id}`
    ///
    /// # Errors
    /// See [`ClientError::kind`] for what may have happened.
    pub async fn move_member(&mut self, id: u64, addr: &str) -> Result<ChangeAnswer, ClientError> {
        let body = serde_json::to_vec(&MoveBody { addr: addr.to_owned() });
        let body = body.map_err(|error| self.senseless(&error.to_string()))?;
        let response = self.ask((Method::PUT, &format!("/member/{id}"), JSON, body.into())).await?;
        self.parsed(&response)
    }

    /// `DELETE /member/{id}`
    ///
    /// # Errors
    /// See [`ClientError::kind`] for what may have happened.
    pub async fn remove_member(&mut self, id: u64) -> Result<ChangeAnswer, ClientError> {
        let response = self.ask((Method::DELETE, &format!("/member/{id}"), &[], Bytes::new())).await?;
        self.parsed(&response)
    }

    /// `POST /snapshot`: the asked server builds a snapshot of its own state.
    ///
    /// # Errors
    /// When it cannot be built.
    pub async fn snapshot(&mut self) -> Result<SnapshotAnswer, ClientError> {
        let response = self.ask((Method::POST, "/snapshot", &[], Bytes::new())).await?;
        self.parsed(&response)
    }

    /// `POST /transfer-leader`
    ///
    /// # Errors
    /// When the server cannot take over.
    pub async fn transfer_leader(&mut self, to: u64) -> Result<Position, ClientError> {
        self.post_json("/transfer-leader", &to).await
    }

    async fn get_json<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, ClientError> {
        let response = self.ask((Method::GET, path, &[], Bytes::new())).await?;
        self.parsed(&response)
    }

    async fn post_json<T: DeserializeOwned>(&mut self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| self.senseless(&error.to_string()))?;
        let response = self.ask((Method::POST, path, JSON, body.into())).await?;
        self.parsed(&response)
    }

    /// Goes on to the next endpoint only when this one has surely not acted: a request is never done twice behind the
    /// caller's back.
    async fn ask(&mut self, outgoing: Outgoing<'_>) -> Result<Response, ClientError> {
        let mut last = None;
        for _ in 0..self.connections.len() {
            let Some(connection) = self.connections.get_mut(self.current) else { break };
            match connection.send(outgoing.clone(), self.timeout).await {
                Ok(response) if response.status.is_success() => return Ok(response),
                Ok(response) => return Err(self.refused(&response)),
                Err(error) if error.never_sent() => {
                    last = Some(error);
                    self.next_endpoint();
                }
                Err(error) if outgoing.0 == Method::GET => return Err(ClientError::Unanswered(error)),
                Err(error) => return Err(error.into()),
            }
        }
        Err(match last {
            Some(error) => error.into(),
            None => self.senseless("there is no endpoint to ask"),
        })
    }

    fn refused(&self, response: &Response) -> ClientError {
        match serde_json::from_slice(&response.body) {
            Ok(body) => ClientError::Answered(body),
            Err(_) => self.senseless(&format!("status {} without a reason", response.status)),
        }
    }

    fn parsed<T: DeserializeOwned>(&self, response: &Response) -> Result<T, ClientError> {
        serde_json::from_slice(&response.body).map_err(|error| self.senseless(&error.to_string()))
    }

    fn senseless(&self, what: &str) -> ClientError {
        ClientError::Senseless { endpoint: self.endpoint().to_owned(), what: what.to_owned() }
    }
}

fn kv_path(key: &str, condition: WriteCondition) -> String {
    let query = condition.if_revision.map(|revision| format!("?if_revision={revision}"));
    format!("/kv/{}{}", percent_encode(key), query.unwrap_or_default())
}
