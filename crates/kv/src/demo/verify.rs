//! Reading everything back.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use tokio::task::JoinSet;

use crate::cli::Failure;
use crate::client::Client;
use crate::demo::cluster::Endpoints;
use crate::demo::keys::Keys;
use crate::demo::story::Story;
use crate::demo::{CLIENTS, PATIENCE, POLL};
use crate::limits::SCAN_PAIRS_MAX;

/// How long a client waits for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads every key, one by one and linearizably, through every server.
pub(super) async fn read_back(endpoints: &Endpoints, keys: &Keys, story: &Story) -> Result<(), Failure> {
    let begun = Instant::now();
    let all = endpoints.all();
    let bar = story.bar(keys.count() * all.len() as u64, "reading");
    for endpoint in &all {
        let mut clients = JoinSet::new();
        for first in 0..CLIENTS {
            clients.spawn(read_share(endpoint.clone(), keys.clone(), first, bar.clone()));
        }
        while let Some(ended) = clients.join_next().await {
            ended.map_err(|error| Failure::new(error.to_string()))?.map_err(Failure::new)?;
        }
    }
    bar.finish_and_clear();
    let reads = keys.count() * all.len() as u64;
    let rate = reads as f64 / begun.elapsed().as_secs_f64();
    story.say("read", &format!("every key through every server, linearizably: {reads} reads, {rate:.0} a second"));
    Ok(())
}

async fn read_share(endpoint: String, keys: Keys, first: u64, bar: ProgressBar) -> Result<(), String> {
    let mut client = Client::new([endpoint], ANSWER_TIMEOUT);
    let mut number = first;
    while number < keys.count() {
        let found = read(&mut client, number).await?;
        keys.judge(number, found.as_deref());
        bar.inc(1);
        number += CLIENTS;
    }
    Ok(())
}

/// A read changes nothing and may be tried again.
async fn read(client: &mut Client, number: u64) -> Result<Option<bytes::Bytes>, String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match client.get(&Keys::key(number), false).await {
            Ok(found) => return Ok(found.map(|(value, _)| value)),
            Err(error) if Instant::now() > deadline => {
                return Err(format!("{} cannot be read: {error}", Keys::key(number)));
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}

/// Compares what each server itself has applied. A linearizable read through a follower may be answered by the leader's
/// copy; this looks at the follower's.
pub(super) async fn own_copies(endpoints: &Endpoints, keys: &Keys) -> Result<(), Failure> {
    for endpoint in endpoints.all() {
        let mut client = Client::new([endpoint], ANSWER_TIMEOUT);
        let (mut next, mut after) = (0, None::<String>);
        loop {
            let page = client.scan(Keys::PREFIX, after.as_deref(), SCAN_PAIRS_MAX, true).await?;
            for pair in &page.pairs {
                let number = pair.key.strip_prefix(Keys::PREFIX).and_then(|digits| digits.parse().ok());
                let Some(number) = number else { continue };
                (next..number).for_each(|missing| keys.judge(missing, None));
                keys.judge(number, Some(pair.value.as_deref().unwrap_or_default().as_bytes()));
                next = number + 1;
            }
            after = page.pairs.last().map(|pair| pair.key.clone());
            if !page.more || after.is_none() {
                break;
            }
        }
        (next..keys.count()).for_each(|missing| keys.judge(missing, None));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::extract::{Path, State};
    use axum::http::StatusCode;
    use axum::response::{IntoResponse, Response};
    use axum::routing::get;
    use axum::{Json, Router};

    use super::*;
    use crate::api::{Pair, Position, ScanAnswer};

    const COUNT: u64 = 200;
    const LOST: u64 = 3;
    const WRONG: u64 = 150;

    fn held(keys: &Keys, number: u64) -> Option<String> {
        let value = |number| String::from_utf8(keys.value(number).to_vec()).unwrap();
        match number {
            LOST => None,
            WRONG => Some(value(0)),
            number => Some(value(number)),
        }
    }

    async fn one(State(keys): State<Keys>, Path(key): Path<String>) -> Response {
        let number = key.strip_prefix(Keys::PREFIX).unwrap().parse().unwrap();
        match held(&keys, number) {
            Some(value) => ([("raftwright-revision", "1")], value).into_response(),
            None => {
                let body = serde_json::json!({ "error": "gone", "kind": "not_found", "leader": null });
                (StatusCode::NOT_FOUND, Json(body)).into_response()
            }
        }
    }

    async fn all(State(keys): State<Keys>) -> Json<ScanAnswer> {
        let pair =
            |number| Some(Pair { key: Keys::key(number), value: held(&keys, number), value_base64: None, revision: 1 });
        let pairs = (0..COUNT).filter(|number| *number != LOST).filter_map(pair).collect();
        Json(ScanAnswer { pairs, more: false, position: Position::default() })
    }

    /// A server that has lost one key and holds another's value under a third, and keys of which every write was
    /// acknowledged.
    async fn bad_server() -> (Endpoints, Keys) {
        let keys = Keys::new(COUNT);
        (0..COUNT).for_each(|number| _ = keys.acknowledge(number));
        let router = Router::new().route("/kv", get(all)).route("/kv/{*key}", get(one)).with_state(keys.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoints = Endpoints::of(vec![listener.local_addr().unwrap().to_string()]);
        tokio::spawn(axum::serve(listener, router).into_future());
        (endpoints, keys)
    }

    #[tokio::test]
    async fn reading_back_finds_what_is_lost_and_what_is_wrong() {
        let (endpoints, keys) = bad_server().await;
        read_back(&endpoints, &keys, &Story::new()).await.unwrap();
        assert_eq!(keys.verdict(), (1, 1));
    }

    #[tokio::test]
    async fn comparing_copies_finds_what_is_lost_and_what_is_wrong() {
        let (endpoints, keys) = bad_server().await;
        own_copies(&endpoints, &keys).await.unwrap();
        assert_eq!(keys.verdict(), (1, 1));
    }
}
