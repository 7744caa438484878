//! The command line.

mod args;
mod cluster;
mod data;
mod exit;
mod keys;
mod parse;
mod serve;
mod table;

use std::process::ExitCode;

use clap::FromArgMatches;
use clap::error::ErrorKind as ClapKind;

pub use args::{Cli, DemoArgs, Format, RemoteArgs, ServeArgs};
pub use exit::Failure;
pub use table::Table;

pub(crate) use cluster::status_table;

use args::Command;

/// Parses the arguments of the process and does what they say.
pub fn main() -> ExitCode {
    let parsed = args::command_line().try_get_matches().and_then(|matches| {
        let cli = Cli::from_arg_matches(&matches)?;
        match args::given_in_vain(&matches) {
            Some(sentence) => Err(args::command_line().error(ClapKind::UnknownArgument, sentence)),
            None => Ok(cli),
        }
    });
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are asked for, and go to stdout. Nothing can be done about a stdout that is gone.
            let _ = error.print();
            return match error.kind() {
                ClapKind::DisplayHelp | ClapKind::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(exit::USAGE),
            };
        }
    };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("raftwright: {failure}");
            ExitCode::from(failure.code())
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot start the runtime: {error}")))?;
    let Cli { command, remote } = cli;
    let done = runtime.block_on(async {
        match command.unwrap_or_else(|| Command::Demo(DemoArgs::default())) {
            Command::Demo(args) => crate::demo::run(args).await,
            Command::Serve(args) => serve::run(args).await,
            Command::Put(args) => keys::put(&remote, args).await,
            Command::Get(args) => keys::get(&remote, args).await,
            Command::Del(args) => keys::del(&remote, args).await,
            Command::Scan(args) => keys::scan(&remote, args).await,
            Command::Init(args) => cluster::init(&remote, args).await,
            Command::Status => cluster::status(&remote).await,
            Command::Member { command } => cluster::member(&remote, command).await,
            Command::Data { command } => data::run(&remote, command).await,
            Command::Snapshot => cluster::snapshot(&remote).await,
            Command::TransferLeader { id } => cluster::transfer_leader(&remote, id).await,
        }
    });
    // A thread that reads stdin cannot be told to stop, and must not hold the process.
    runtime.shutdown_background();
    done
}
