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
