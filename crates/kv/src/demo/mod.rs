//! The demonstration: a cluster of real processes is written to, its leader is killed with SIGKILL in the middle, it is
//! stopped and started as a whole, and every write that was acknowledged must be there afterwards, on every server.
//!
//! No process outlives it. Each server is told to exit when its stdin closes, and the only other end of that pipe is in
//! this process: however it ends, the servers end too. In the ordinary cases they are killed, or stopped, and waited for.

mod big_snapshot;
mod cluster;
mod keys;
mod load;
mod memory;
mod memory_run;
mod process;
mod proxy;
mod soak;
mod story;
mod verify;
mod versions;

use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::{DemoArgs, Failure};
use cluster::Cluster;
use keys::Keys;
use story::Story;

/// How many clients write, and read, at a time.
const CLIENTS: u64 = 64;

/// How long the demonstration waits for anything that should happen soon.
const PATIENCE: Duration = Duration::from_secs(60);

/// The election timeout where it is to be found out whether the servers themselves cause an election, or hold writes up, and not
/// whether a machine that is busy with other things lets one of them wait for a third of a second.
const CALM: Duration = Duration::from_secs(1);

/// How long between two looks at something that is waited for.
const POLL: Duration = Duration::from_millis(10);

/// What came of it.
struct Outcome {
    acknowledged: u64,
    lost: u64,
    wrong: u64,
    failover: Duration,
}

/// Runs it.
///
/// # Errors
/// A write was lost or is wrong, or the cluster did not do what it should; the sentence says what.
pub async fn run(args: DemoArgs) -> Result<(), Failure> {
    if let Some(bytes) = args.big_snapshot {
        return big_snapshot::run(&args, bytes).await;
    }
    if let Some(writes) = args.memory_run {
        return memory_run::run(writes).await;
    }
    if let Some(length) = args.soak {
        return soak::run(&args, length).await;
    }
    let mut interrupts = Interrupts::new()?;
    let story = Story::new();
    let mut cluster = Cluster::new(args.nodes, flags(&args, None))?;
    let outcome = tokio::select! {
        biased;
        () = interrupts.next() => Err(Failure::interrupted()),
        outcome = play(&args, &mut cluster, &story) => outcome,
    };
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(failure) => {
            story.end();
            cluster.kill_all().await;
            // What the servers wrote says why; after an interruption nobody asks.
            if failure != Failure::interrupted() {
                story.say("kept", &format!("logs and data in {}", cluster.keep_files().display()));
            }
            return Err(failure);
        }
    };
    let good = outcome.lost == 0 && outcome.wrong == 0;
    if args.keep {
        story.plain(&cluster.lines_to_try());
    }
    if !good {
        story.say("kept", &format!("logs and data in {}", cluster.keep_files().display()));
    }
    story.plain(&format!(
        "acknowledged: {}  lost: {}  wrong: {}  failover: {} ms\n",
        outcome.acknowledged,
        outcome.lost,
        outcome.wrong,
        outcome.failover.as_millis()
    ));
    if args.keep {
        eprintln!("The cluster runs until Ctrl-C.");
        interrupts.next().await;
    }
    let stopped = cluster.stop_all().await;
    cluster.kill_all().await;
    if !good {
        return Err(Failure::new("acknowledged writes are lost or wrong: this must never happen"));
    }
    stopped
}

/// What the servers are started with besides what each needs: the election timeout as asked for, or this one.
fn flags(args: &DemoArgs, election_timeout: Option<Duration>) -> Vec<String> {
    let mut flags = Vec::new();
    if let Some(entries) = args.snapshot_every {
        flags.extend([format!("--snapshot-every={entries}"), "--snapshot-log-keep=100".to_owned()]);
    }
    if let Some(timeout) = args.election_timeout.or(election_timeout) {
        let interval = format!("--heartbeat-interval={}ms", (timeout.as_millis() / 5).max(1));
        flags.extend([format!("--election-timeout={}ms", timeout.as_millis()), interval]);
    }
    flags
}

async fn play(args: &DemoArgs, cluster: &mut Cluster, story: &Story) -> Result<Outcome, Failure> {
    let begun = Instant::now();
    story.plain(&format!(
        "A cluster of {} servers on this machine, {} writes from {CLIENTS} clients; its files are in {}\n",
        args.nodes,
        args.writes,
        cluster.directory().display()
    ));
    cluster.start_all().await?;
    cluster.initialize().await?;
    let leader = cluster.leader().await?;
    story.say("started", &format!("{} servers; server {} leads in term {}", args.nodes, leader.id, leader.term));

    let keys = Keys::new(args.writes);
    let failover = write_through_a_crash(args, cluster, &keys, story).await?;

    cluster.caught_up().await?;
    story.say("caught up", "every server has applied all that is committed");
    cluster.stop_all().await?;
    cluster.start_all().await?;
    let leader = cluster.leader().await?;
    story.say(
        "restarted",
        &format!("all servers were stopped and started; server {} leads in term {}", leader.id, leader.term),
    );

    let endpoints = cluster.endpoints();
    verify::read_back(&endpoints, &keys, story).await?;
    cluster.caught_up().await?;
    verify::own_copies(&endpoints, &keys).await?;
    story.say("compared", "and each server's own copy holds the same");
    story.say("done", &format!("in {:.1} s", begun.elapsed().as_secs_f64()));
    story.plain(&format!("\n{}\n", cluster.table().await?));
    let (lost, wrong) = keys.verdict();
    Ok(Outcome { acknowledged: keys.acknowledged(), lost, wrong, failover })
}

/// Writes all keys; kills the leader when half of them are acknowledged and starts it again when three quarters are.
/// Returns the longest time in which no write was acknowledged.
async fn write_through_a_crash(
    args: &DemoArgs,
    cluster: &mut Cluster,
    keys: &Keys,
    story: &Story,
) -> Result<Duration, Failure> {
    let begun = Instant::now();
    let load = load::Load::start(keys.clone(), cluster.endpoints(), story.bar(args.writes, "writing"));
    load.acknowledged(args.writes / 2).await?;
    let leader = cluster.leader().await?;
    cluster.kill(leader.id).await?;
    story.say("killed", &format!("server {}, the leader, with SIGKILL in the middle of it", leader.id));
    let next = cluster.leader().await?;
    story.say("elected", &format!("server {} leads in term {}", next.id, next.term));
    load.acknowledged(args.writes / 4 * 3).await?;
    cluster.start(leader.id).await?;
    story.say("restarted", &format!("server {}, while the clients go on", leader.id));
    let gap = load.finish().await?;
    let rate = keys.acknowledged() as f64 / begun.elapsed().as_secs_f64();
    story.say(
        "written",
        &format!("{} keys, {rate:.0} a second; the longest gap was {} ms", keys.acknowledged(), gap.as_millis()),
    );
    Ok(gap)
}

/// The signals that end a program from outside.
struct Interrupts([Signal; 3]);

impl Interrupts {
    fn new() -> Result<Self, Failure> {
        let on = |kind| signal(kind).map_err(|error| Failure::new(format!("cannot listen for signals: {error}")));
        Ok(Self([on(SignalKind::interrupt())?, on(SignalKind::terminate())?, on(SignalKind::hangup())?]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            biased;
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
