//! `serve`: one server, until a signal ends it.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use raftwright::net::Limits;
use raftwright::{Config, Server, SnapshotPolicy, StartError};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

use crate::cli::keys::print_text;
use crate::cli::{Failure, ServeArgs};
use crate::http::{self, App, Stop};
use crate::server::KvServer;
use crate::store::KvStateMachine;

/// How many times the heartbeat interval an election timeout must be at least: fewer, and a few delayed heartbeats cause an
/// election.
const HEARTBEATS_IN_ELECTION_TIMEOUT: u64 = 5;

pub(super) async fn run(args: ServeArgs) -> Result<(), Failure> {
    log_to_stderr();
    let config = config(&args)?;
    check_initial_cluster(&args)?;
    let mut signals = Signals::new()?;
    // The HTTP address first: whoever gives a wrong one should not find a data directory made.
    let listener = listen(args.http_listen).await?;
    let http = listener.local_addr().map_err(|error| Failure::new(format!("cannot listen for HTTP: {error}")))?;
    let server = Arc::new(start(&args, config).await?);
    if args.exit_on_stdin_close {
        exit_with_stdin();
    }
    let (stop, watch) = Stop::new();
    let serving = tokio::spawn(http::serve(listener, App::new(Arc::clone(&server)), watch));
    let peer = server.peer_addr();
    info!(id = args.id, %peer, %http, data_dir = %args.data_dir.display(), "ready");
    print_text(&format!("ready id={} peer={peer} http={http}\n", args.id))?;

    let failed = tokio::select! {
        biased;
        () = signals.next() => None,
        why = server.failed() => Some(why),
    };
    let stopping = async {
        if failed.is_none() {
            server.hand_over().await;
        }
        stop.stop();
        if serving.await.is_err() {
            error!("the HTTP interface has panicked");
        }
        server.shutdown().await;
    };
    tokio::select! {
        biased;
        () = stopping => {}
        () = signals.next() => return Err(Failure::new("stopped at once by a second signal; the log is as it is after a crash")),
    }
    match failed {
        None => {
            info!("stopped");
            Ok(())
        }
        Some(why) => Err(Failure::new(format!("server {} has stopped: {why}", args.id))),
    }
}

fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::io::IsTerminal::is_terminal(&std::io::stderr());
    // A second one is not set: there is one already, which serves as well.
    let _ =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).try_init();
}

fn config(args: &ServeArgs) -> Result<Config, Failure> {
    let mut config = Config { cluster_name: args.cluster_name.clone(), ..Config::default() };
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    if let Some(interval) = args.heartbeat_interval {
        config.heartbeat_interval = millis(interval);
    }
    if let Some(timeout) = args.election_timeout {
        config.election_timeout_min = millis(timeout);
        config.election_timeout_max = millis(timeout).saturating_mul(2);
    } else if args.heartbeat_interval.is_some() {
        let least = config.heartbeat_interval.saturating_mul(HEARTBEATS_IN_ELECTION_TIMEOUT);
        config.election_timeout_min = config.election_timeout_min.max(least);
        config.election_timeout_max = config.election_timeout_min.saturating_mul(2);
    }
    if args.election_timeout.is_some()
        && config.election_timeout_min < config.heartbeat_interval.saturating_mul(HEARTBEATS_IN_ELECTION_TIMEOUT)
    {
        return Err(Failure::usage(format!(
            "--election-timeout is {} ms, less than {HEARTBEATS_IN_ELECTION_TIMEOUT} times the heartbeat interval of {} ms: \
             make it longer, or --heartbeat-interval shorter",
            config.election_timeout_min, config.heartbeat_interval
        )));
    }
    if let Some(entries) = args.snapshot_every {
        config.snapshot_policy = SnapshotPolicy::LogsSinceLast(entries);
    }
    if let Some(entries) = args.snapshot_log_keep {
        config.max_in_snapshot_log_to_keep = entries;
    }
    config.validate().map_err(|error| Failure::usage(error.to_string()))
}

fn check_initial_cluster(args: &ServeArgs) -> Result<(), Failure> {
    let listed = &args.initial_cluster;
    let mut ids = BTreeSet::new();
    if let Some((id, _)) = listed.iter().find(|(id, _)| !ids.insert(*id)) {
        return Err(Failure::usage(format!(
            "--initial-cluster names server {id} twice: give each server an id of its own"
        )));
    }
    if !listed.is_empty() && !ids.contains(&args.id) {
        return Err(Failure::usage(format!(
            "--initial-cluster does not name this server: add {}=HOST:PORT to it, or leave it out to wait for a leader",
            args.id
        )));
    }
    Ok(())
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address)
        .await
        .map_err(|error| Failure::new(format!("{} (--http-listen)", StartError::listen(address.to_string(), &error))))
}

async fn start(args: &ServeArgs, config: Config) -> Result<KvServer, Failure> {
    if args.data_dir.is_file() {
        let path = args.data_dir.display();
        return Err(Failure::new(format!("cannot start: {path} is a file: name a directory with --data-dir")));
    }
    let mut builder = Server::<KvStateMachine>::builder()
        .id(args.id)
        .data_dir(&args.data_dir)
        .listen(args.peer_listen.to_string())
        .cluster_name(&args.cluster_name)
        .config(config);
    if let Some(rate) = args.snapshot_rate {
        builder = builder.limits(Limits { snapshot_bytes_per_second: rate, ..Limits::default() });
    }
    if let Some(advertised) = &args.advertise_peer {
        builder = builder.advertise(advertised);
    }
    if !args.initial_cluster.is_empty() {
        builder = builder.initial_cluster(args.initial_cluster.clone());
    }
    let server = builder.start(KvStateMachine::new()).await;
    server.map(KvServer::new).map_err(|error| Failure::new(format!("cannot start: {error}")))
}

/// A thread, since a read from stdin cannot be cancelled. Whatever stdin says is thrown away.
fn exit_with_stdin() {
    let watching = std::thread::Builder::new().name("stdin".to_owned()).spawn(|| {
        let mut buffer = [0; 512];
        while std::io::stdin().read(&mut buffer).is_ok_and(|read| read > 0) {}
        // Whoever started this server is gone: nobody is left to stop it in order.
        eprintln!("raftwright: stdin is closed; exiting");
        std::process::exit(1);
    });
    if let Err(error) = watching {
        warn!(%error, "cannot watch stdin");
    }
}

/// SIGTERM and SIGINT.
struct Signals([Signal; 2]);

impl Signals {
    fn new() -> Result<Self, Failure> {
        let on = |kind| signal(kind).map_err(|error| Failure::new(format!("cannot listen for signals: {error}")));
        Ok(Self([on(SignalKind::terminate())?, on(SignalKind::interrupt())?]))
    }

    async fn next(&mut self) {
        let [terminate, interrupt] = &mut self.0;
        tokio::select! {
            biased;
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}
