//! A server, and a client at the command line.

use std::collections::BTreeSet;
use std::error::Error;
use std::io::Read;
use std::num::ParseIntError;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use raft_kv_rocksdb::{Answer, Call, Client, Server, ServerOptions};
use raftwright::traits::{AsyncRuntime, TokioRuntime};
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "\
raft-kv-rocksdb serve --id N --dir DIR [--listen HOST:PORT] [--cluster NAME] [--snapshot-every ENTRIES]
    [--exit-on-stdin-close]
raft-kv-rocksdb init SERVER                     make a blank server a cluster of itself
raft-kv-rocksdb add SERVER[,SERVER...] ID ADDR  add a server without a vote
raft-kv-rocksdb voters SERVER[,SERVER...] ID... change who votes
raft-kv-rocksdb set SERVER[,SERVER...] KEY VALUE
raft-kv-rocksdb get SERVER[,SERVER...] KEY
raft-kv-rocksdb status SERVER";

/// How long a command waits for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

type AnyError = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &[&str]) -> Result<(), AnyError> {
    match args {
        ["serve", options @ ..] => serve(options).await,
        ["init", servers] => ask(servers, Call::Init).await,
        ["add", servers, id, addr] => {
            ask(servers, Call::AddLearner { id: id.parse()?, addr: (*addr).to_owned() }).await
        }
        ["voters", servers, ids @ ..] => {
            let voters = ids.iter().map(|id| id.parse()).collect::<Result<BTreeSet<u64>, ParseIntError>>()?;
            ask(servers, Call::ChangeMembership(voters)).await
        }
        ["set", servers, key, value] => {
            ask(servers, Call::Set { key: (*key).to_owned(), value: (*value).to_owned() }).await
        }
        ["get", servers, key] => ask(servers, Call::Get((*key).to_owned())).await,
        ["status", server] => ask(server, Call::Status).await,
        _ => Err(USAGE.into()),
    }
}

async fn ask(servers: &str, call: Call) -> Result<(), AnyError> {
    let seed = TokioRuntime::current()?.random_u64();
    let mut client = Client::new(servers.split(',').map(str::to_owned), PATIENCE, seed);
    match client.call(&call).await? {
        Answer::Done => println!("done"),
        Answer::Previous(Some(value)) => println!("done; it was {value}"),
        Answer::Previous(None) => println!("done; it is new"),
        Answer::Value(Some(value)) => println!("{value}"),
        Answer::Value(None) => println!("there is no such key"),
        Answer::Status { id, leader, voters, snapshot, purged } => {
            println!("id={id} leader={leader:?} voters={voters:?} snapshot={snapshot:?} purged={purged:?}");
        }
    }
    Ok(())
}

async fn serve(options: &[&str]) -> Result<(), AnyError> {
    let (mut id, mut dir) = (None, None);
    let (mut listen, mut cluster, mut snapshot_every) = ("127.0.0.1:0", "raft-kv-rocksdb", 5000_u64);
    let mut exit_on_stdin_close = false;
    let mut options = options.iter().copied();
    while let Some(option) = options.next() {
        if option == "--exit-on-stdin-close" {
            exit_on_stdin_close = true;
            continue;
        }
        let value = options.next().ok_or(USAGE)?;
        match option {
            "--id" => id = Some(value.parse::<u64>()?),
            "--dir" => dir = Some(PathBuf::from(value)),
            "--listen" => listen = value,
            "--cluster" => cluster = value,
            "--snapshot-every" => snapshot_every = value.parse::<u64>()?,
            _ => return Err(USAGE.into()),
        }
    }
    let (Some(id), Some(dir)) = (id, dir) else { return Err(USAGE.into()) };
    let options = ServerOptions { id, dir, listen: listen.to_owned(), cluster: cluster.to_owned(), snapshot_every };
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    if exit_on_stdin_close {
        exit_with_stdin()?;
    }
    let server = Server::start(options).await?;
    println!("ready {}", server.addr());
    tokio::select! {
        biased;
        why = server.failed() => return Err(why.into()),
        _ = interrupted.recv() => {}
        _ = terminated.recv() => {}
    }
    server.shutdown().await;
    Ok(())
}

/// Whoever starts this server holds the other end of its stdin: when that closes, nobody is left to stop the server. A thread,
/// since a read from stdin cannot be cancelled.
fn exit_with_stdin() -> std::io::Result<()> {
    let watch = || {
        let mut buffer = [0; 512];
        while std::io::stdin().read(&mut buffer).is_ok_and(|read| read > 0) {}
        eprintln!("stdin is closed; exiting");
        std::process::exit(1);
    };
    std::thread::Builder::new().name("stdin".to_owned()).spawn(watch).map(drop)
}
