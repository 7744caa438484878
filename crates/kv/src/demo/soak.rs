//! A long run: full load, snapshots all the time, followers that are killed, and followers that are replaced by new servers.
//!
//! It must end with nothing lost, nobody elected (only followers are killed, and a follower that dies costs no election),
//! no panic, and with no more memory held at the end than in the middle.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::{Instant as TokioInstant, sleep_until};

use crate::api::{ErrorKind, NodeState, Role};
use crate::cli::{DemoArgs, Failure};
use crate::client::{Client, ClientError, WriteCondition};
use crate::demo::cluster::{Cluster, Endpoints};
use crate::demo::memory::Curve;
use crate::demo::story::Story;
use crate::demo::versions::{Versions, Wrong};
use crate::demo::{CALM, CLIENTS, Interrupts, PATIENCE, POLL, flags};
use crate::limits::SCAN_PAIRS_MAX;

/// How many keys are written over and over.
const KEYS: u64 = 6_400;

/// How often a follower is killed.
const KILL_EVERY: Duration = Duration::from_secs(20);

/// How long it is away.
const AWAY: Duration = Duration::from_secs(2);

/// Every so many kills, the other follower is replaced by a new server before the next.
const REPLACE_EVERY: u64 = 3;

/// How often the servers are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Most rows of the table.
const ROWS_SHOWN: usize = 30;

/// How long a client waits for an answer before it asks another server.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// What came of it.
struct Outcome {
    lost: u64,
    wrong: u64,
    elections: u64,
    panics: Vec<String>,
    memory: Result<(), String>,
}

/// Runs it for so long.
///
/// # Errors
/// Something that must not happen has happened; the sentence says what.
pub(super) async fn run(args: &DemoArgs, length: Duration) -> Result<(), Failure> {
    let mut interrupts = Interrupts::new()?;
    let story = Story::new();
    let mut cluster = Cluster::new(3, flags(args, Some(CALM)))?;
    let outcome = tokio::select! {
        biased;
        () = interrupts.next() => Err(Failure::interrupted()),
        outcome = play(args, length, &mut cluster, &story) => outcome,
    };
    let stopped = match &outcome {
        Ok(_) => cluster.stop_all().await,
        Err(_) => Ok(()),
    };
    cluster.kill_all().await;
    let verdict = outcome.and_then(|outcome| judge(&outcome, &story));
    if let Err(failure) = &verdict
        && *failure != Failure::interrupted()
    {
        story.say("kept", &format!("logs and data in {}", cluster.keep_files().display()));
    }
    story.end();
    verdict.and(stopped)
}

fn judge(outcome: &Outcome, story: &Story) -> Result<(), Failure> {
    let Outcome { lost, wrong, elections, panics, memory } = outcome;
    let memory_word = if memory.is_ok() { "flat" } else { "growing" };
    let panicked = panics.len();
    story.plain(&format!(
        "lost: {lost}  wrong: {wrong}  elections: {elections}  panics: {panicked}  memory: {memory_word}\n"
    ));
    let complaint = match (panics.first(), memory) {
        _ if *lost + *wrong > 0 => "acknowledged writes are lost or wrong: this must never happen".to_owned(),
        (Some(panic), _) => format!("a server has panicked: {panic}"),
        _ if *elections > 0 => "somebody was elected, although only followers were killed".to_owned(),
        (None, Err(why)) => format!("memory is not flat: {why}"),
        (None, Ok(())) => return Ok(()),
    };
    Err(Failure::new(complaint))
}

async fn play(args: &DemoArgs, length: Duration, cluster: &mut Cluster, story: &Story) -> Result<Outcome, Failure> {
    let every = args.snapshot_every.map_or_else(|| "as by default".to_owned(), |n| format!("every {n} entries"));
    story.plain(&format!(
        "3 servers on this machine, {CLIENTS} clients for {} s, a snapshot {every}; {}; files in {}\n",
        length.as_secs(),
        flags(args, Some(CALM)).join(" "),
        cluster.directory().display()
    ));
    cluster.start_all().await?;
    cluster.initialize().await?;
    let first = cluster.leader().await?;
    story.say("started", &format!("server {} leads in term {}", first.id, first.term));

    let versions = Versions::new(KEYS);
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let mut writers = JoinSet::new();
    for number in 0..CLIENTS {
        let writer = Writer { number, versions: versions.clone(), endpoints: cluster.endpoints() };
        writers.spawn(writer.run(stopping.clone()));
    }
    let begun = Instant::now();
    let mut watch = Watch { begun, curve: Curve::default(), versions: versions.clone(), leader: first, elections: 0 };
    watch.disturb(length, cluster, story).await?;
    // Whoever does not listen any more has failed, which its result says.
    let _ = stop.send(true);
    while let Some(ended) = writers.join_next().await {
        ended.map_err(|error| Failure::new(error.to_string()))?.map_err(Failure::new)?;
    }
    let rate = versions.acknowledged() as f64 / begun.elapsed().as_secs_f64();
    story.say("written", &format!("{} writes acknowledged, {rate:.0} a second", versions.acknowledged()));
    cluster.caught_up().await?;
    watch.look(cluster).await?;
    let (lost, wrong) = own_copies(&cluster.endpoints(), &versions).await?;
    story.say("compared", "each server's own copy was read, key by key");
    story.plain(&format!("\n{}\n{}\n", watch.curve.table(ROWS_SHOWN), cluster.table().await?));
    Ok(Outcome { lost, wrong, elections: watch.elections, panics: cluster.panics(), memory: watch.curve.judge() })
}

/// What is seen on the way.
struct Watch {
    begun: Instant,
    curve: Curve,
    versions: Versions,
    /// Who led at the last look.
    leader: NodeState,
    elections: u64,
}

impl Watch {
    /// Kills and replaces followers until the time is over.
    async fn disturb(&mut self, length: Duration, cluster: &mut Cluster, story: &Story) -> Result<(), Failure> {
        let mut kills = 0;
        let mut next = KILL_EVERY / 2;
        while next + AWAY < length {
            self.watch_until(next, cluster).await?;
            let followers = self.followers(cluster).await;
            if kills % REPLACE_EVERY == REPLACE_EVERY - 1 {
                if let Some(old) = followers.first() {
                    self.replace(*old, cluster, story).await?;
                }
            } else if let Some(id) = followers.get(usize::try_from(kills).unwrap_or(0) % followers.len().max(1)) {
                cluster.kill(*id).await?;
                self.watch_until(self.begun.elapsed() + AWAY, cluster).await?;
                cluster.start(*id).await?;
                story.say("killed", &format!("server {id} after {} s, and started it again", next.as_secs()));
            }
            kills += 1;
            next += KILL_EVERY;
        }
        self.watch_until(length, cluster).await
    }

    async fn watch_until(&mut self, until: Duration, cluster: &mut Cluster) -> Result<(), Failure> {
        loop {
            self.look(cluster).await?;
            let now = self.begun.elapsed();
            if now >= until {
                return Ok(());
            }
            sleep_until(TokioInstant::now() + LOOK_EVERY.min(until - now)).await;
        }
    }

    /// Looks at the servers: memory, leader, term, and whether all that should run do.
    async fn look(&mut self, cluster: &mut Cluster) -> Result<(), Failure> {
        if let Some(id) = cluster.fallen() {
            return Err(Failure::new(format!("server {id} has ended by itself")));
        }
        let states = cluster.states().await;
        if let Some(leader) = states.into_iter().filter(|state| state.role == Role::Leader).max_by_key(|s| s.term)
            && leader.term > self.leader.term
        {
            self.elections += leader.term - self.leader.term;
            self.leader = leader;
        }
        self.curve.add(self.begun.elapsed(), self.versions.acknowledged(), 3, &cluster.resident());
        Ok(())
    }

    async fn followers(&self, cluster: &Cluster) -> Vec<u64> {
        let states = cluster.states().await;
        states.into_iter().filter(|state| state.role == Role::Follower).map(|state| state.id).collect()
    }

    /// Takes a follower out of the cluster, removes all that it has stored, and puts a new server in its place.
    async fn replace(&mut self, old: u64, cluster: &mut Cluster, story: &Story) -> Result<(), Failure> {
        let begun = Instant::now();
        let mut leader = cluster.client_of(self.leader.id);
        leader.remove_member(old).await?;
        let place = cluster.wipe(old).await?;
        let new = cluster.add(place)?;
        cluster.start(new).await?;
        let addr = cluster.reached_at(new).unwrap_or_default();
        leader.add_member(new, &addr).await?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match leader.promote(new).await {
                Ok(_) => break,
                // It is not near enough yet.
                Err(ClientError::Answered(body)) if body.kind == ErrorKind::NotApplied && Instant::now() < deadline => {
                }
                Err(error) => return Err(error.into()),
            }
            self.watch_until(self.begun.elapsed() + LOOK_EVERY / 4, cluster).await?;
        }
        story.say(
            "replaced",
            &format!(
                "server {old} after {} s by the new server {new}, in {} ms",
                self.begun.elapsed().as_secs(),
                begun.elapsed().as_millis()
            ),
        );
        Ok(())
    }
}

struct Writer {
    number: u64,
    versions: Versions,
    endpoints: Endpoints,
}

impl Writer {
    /// Writes its keys, one after the other and over and over.
    async fn run(self, stopping: tokio::sync::watch::Receiver<bool>) -> Result<(), String> {
        let mut client = Client::new(self.endpoints.all(), ANSWER_TIMEOUT);
        let mut key = self.number;
        while !*stopping.borrow() {
            self.write(&mut client, key).await?;
            key = if key + CLIENTS < self.versions.count() { key + CLIENTS } else { self.number };
        }
        Ok(())
    }

    /// Writes the next version of a key until it is acknowledged. Whatever is repeated is the same.
    async fn write(&self, client: &mut Client, key: u64) -> Result<(), String> {
        let version = self.versions.begin(key);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let value = self.versions.value(key, version);
            match client.put(&key_of(key), value, WriteCondition::default()).await {
                Ok(_) => {
                    self.versions.acknowledge(key, version);
                    return Ok(());
                }
                Err(error) if Instant::now() > deadline => {
                    return Err(format!("{} was not acknowledged within {PATIENCE:?}: {error}", key_of(key)));
                }
                Err(_) => {}
            }
            for (at, endpoint) in self.endpoints.all().iter().enumerate() {
                client.set_endpoint(at, endpoint);
            }
            client.next_endpoint();
            tokio::time::sleep(POLL).await;
        }
    }
}

const PREFIX: &str = "soak/";

fn key_of(number: u64) -> String {
    format!("{PREFIX}{number:08}")
}

/// Compares what each server itself has applied. Returns how many keys are lost and how many wrong, over all servers.
async fn own_copies(endpoints: &Endpoints, versions: &Versions) -> Result<(u64, u64), Failure> {
    let (mut lost, mut wrong) = (0, 0);
    let mut count = |judged: Option<Wrong>| match judged {
        Some(Wrong::Lost) => lost += 1,
        Some(Wrong::Foreign) => wrong += 1,
        None => {}
    };
    for endpoint in endpoints.all() {
        let mut client = Client::new([endpoint], PATIENCE);
        let (mut next, mut after) = (0, None::<String>);
        loop {
            let page = client.scan(PREFIX, after.as_deref(), SCAN_PAIRS_MAX, true).await?;
            for pair in &page.pairs {
                let number = pair.key.strip_prefix(PREFIX).and_then(|digits| digits.parse().ok());
                let Some(number) = number else { continue };
                (next..number).for_each(|missing| count(versions.judge(missing, None)));
                count(versions.judge(number, Some(pair.value.as_deref().unwrap_or_default().as_bytes())));
                next = number + 1;
            }
            after = page.pairs.last().map(|pair| pair.key.clone());
            if !page.more || after.is_none() {
                break;
            }
        }
        (next..versions.count()).for_each(|missing| count(versions.judge(missing, None)));
    }
    Ok((lost, wrong))
}
