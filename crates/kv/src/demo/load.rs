//! The clients that write.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::cli::Failure;
use crate::client::{Client, WriteCondition};
use crate::demo::cluster::Endpoints;
use crate::demo::keys::Keys;
use crate::demo::{CLIENTS, PATIENCE, POLL};

/// How long a client waits for an answer before it asks another server.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Clients that write every key once, and again until it is acknowledged.
pub(super) struct Load {
    clients: JoinSet<Result<(), String>>,
    pace: Arc<Pace>,
    keys: Keys,
    bar: ProgressBar,
}

/// When writes were acknowledged.
struct Pace {
    times: Mutex<Times>,
    moved: Notify,
}

struct Times {
    last: Instant,
    longest_gap: Duration,
}

impl Load {
    pub(super) fn start(keys: Keys, endpoints: Endpoints, bar: ProgressBar) -> Self {
        let times = Mutex::new(Times { last: Instant::now(), longest_gap: Duration::ZERO });
        let pace = Arc::new(Pace { times, moved: Notify::new() });
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let writer = Writer {
                number,
                keys: keys.clone(),
                endpoints: endpoints.clone(),
                pace: pace.clone(),
                bar: bar.clone(),
            };
            clients.spawn(writer.run());
        }
        Self { clients, pace, keys, bar }
    }

    /// Waits until so many writes are acknowledged.
    pub(super) async fn acknowledged(&self, count: u64) -> Result<(), Failure> {
        loop {
            // The permit of a notification that comes between the look and the wait is kept: none is missed.
            let waiting = tokio::time::timeout(PATIENCE, self.pace.moved.notified());
            if self.keys.acknowledged() >= count {
                return Ok(());
            }
            if waiting.await.is_err() {
                return Err(Failure::new(format!("no write was acknowledged for {} seconds", PATIENCE.as_secs())));
            }
        }
    }

    /// Waits for the clients. Returns the longest time between two acknowledgements.
    pub(super) async fn finish(mut self) -> Result<Duration, Failure> {
        while let Some(ended) = self.clients.join_next().await {
            ended.map_err(|error| Failure::new(error.to_string()))?.map_err(Failure::new)?;
        }
        self.bar.finish_and_clear();
        Ok(self.pace.times.lock().unwrap_or_else(PoisonError::into_inner).longest_gap)
    }
}

impl Pace {
    fn acknowledged(&self) {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        times.longest_gap = times.longest_gap.max(now - times.last);
        times.last = now;
        drop(times);
        self.moved.notify_one();
    }
}

struct Writer {
    number: u64,
    keys: Keys,
    endpoints: Endpoints,
    pace: Arc<Pace>,
    bar: ProgressBar,
}

impl Writer {
    async fn run(self) -> Result<(), String> {
        let mut client = Client::new(self.endpoints.all(), ANSWER_TIMEOUT);
        for _ in 0..self.number {
            client.next_endpoint();
        }
        let mut key = self.number;
        while key < self.keys.count() {
            self.write(&mut client, key).await?;
            self.keys.acknowledge(key);
            self.pace.acknowledged();
            self.bar.inc(1);
            key += CLIENTS;
        }
        Ok(())
    }

    /// Writes a key until the write is acknowledged. It may thus be written more than once, always with the same value.
    async fn write(&self, client: &mut Client, key: u64) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let written = client.put(&Keys::key(key), self.keys.value(key), WriteCondition::default()).await;
            let error = match written {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if Instant::now() > deadline {
                return Err(format!(
                    "{} was not acknowledged within {} seconds: {error}",
                    Keys::key(key),
                    PATIENCE.as_secs()
                ));
            }
            for (at, endpoint) in self.endpoints.all().iter().enumerate() {
                client.set_endpoint(at, endpoint);
            }
            client.next_endpoint();
            tokio::time::sleep(POLL).await;
        }
    }
}
