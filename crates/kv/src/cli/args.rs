//! What the command line takes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::cli::data::DataCommand;
use crate::cli::parse;

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no such key, 4 the key is not as asked (nothing was written),
5 unknown whether it was written, 6 a data directory is damaged.";

const ROOT_EXAMPLES: &str = "\
Examples:
  raftwright                                      a demonstration: three servers, one killed, nothing lost
  raftwright serve --id 1 --data-dir d1 --peer-listen 127.0.0.1:21001 --http-listen 127.0.0.1:8001
  raftwright init --endpoints 127.0.0.1:8001
  raftwright put greeting hello
  raftwright get greeting
  raftwright status --endpoints 127.0.0.1:8001,127.0.0.1:8002,127.0.0.1:8003";

const SERVE_EXAMPLES: &str = "\
Examples:
  One of three servers that are known from the start (the same list on each):
    raftwright serve --id 1 --data-dir d1 --peer-listen 127.0.0.1:21001 --http-listen 127.0.0.1:8001 \\
      --initial-cluster 1=127.0.0.1:21001,2=127.0.0.1:21002,3=127.0.0.1:21003

  A blank server, which waits for `raftwright init` or for a leader that adds it:
    raftwright serve --id 4 --data-dir d4 --peer-listen 127.0.0.1:21004 --http-listen 127.0.0.1:8004

When it can be reached it prints one line to stdout: `ready id=1 peer=ADDRESS http=ADDRESS`. Its log goes to stderr;
RUST_LOG sets how much (`RUST_LOG=debug`), NO_COLOR turns colours off.
SIGTERM or SIGINT stops it in order; a second one at once.";

const MEMBER_EXAMPLES: &str = "\
Examples:
  raftwright member list
  raftwright member add 4 127.0.0.1:21004     server 4 gets the log from now on, and does not vote yet
  raftwright member promote 4                 it votes
  raftwright member move 4 10.0.0.4:21004     it was started elsewhere, with the data directory that it had
  raftwright member remove 1                  server 1 is taken out; stop it afterwards";

/// A replicated key-value server on Raft, and its command line. Without a subcommand: `demo`.
#[derive(Debug, Parser)]
#[command(name = "raftwright", version, after_help = format!("{ROOT_EXAMPLES}\n\n{EXIT_CODES}"), max_term_width = 120)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    /// How to reach the cluster.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// How the commands that talk to a cluster reach it, and print.
#[derive(Clone, Debug, Args)]
pub struct RemoteArgs {
    /// HTTP addresses of servers, the first asked first
    #[arg(long, global = true, env = "RAFTWRIGHT_ENDPOINTS", value_delimiter = ',', value_name = "HOST:PORT",
          default_value = "127.0.0.1:8001", value_parser = parse::endpoint)]
    pub endpoints: Vec<String>,
    /// How to print
    #[arg(short = 'o', long, global = true, value_enum)]
    pub output: Option<Format>,
    /// How long to wait for an answer, like 500ms or 5s
    #[arg(long, global = true, default_value = "15s", value_parser = parse::duration)]
    pub timeout: Duration,
}

/// The commands that ask no server, and what of [`RemoteArgs`] means nothing to them.
const WITHOUT_EFFECT: [(&str, &[&str]); 3] = [
    ("demo", &["endpoints", "output", "timeout"]),
    ("serve", &["endpoints", "output", "timeout"]),
    ("data", &["endpoints", "timeout"]),
];

/// The whole command line. What means nothing to a command is not shown in its help.
pub(super) fn command_line() -> clap::Command {
    let root = Cli::command();
    WITHOUT_EFFECT.into_iter().fold(root, |root, (name, ids)| {
        let hidden: Vec<_> = root.get_arguments().filter(|arg| ids.contains(&arg.get_id().as_str())).cloned().collect();
        root.mut_subcommand(name, |command| command.args(hidden.into_iter().map(|arg| arg.hide(true))))
    })
}

/// What was given on the command line and means nothing to the command: a sentence that says so.
pub(super) fn given_in_vain(matches: &ArgMatches) -> Option<String> {
    let name = matches.subcommand_name().unwrap_or("demo");
    let (_, ids) = WITHOUT_EFFECT.into_iter().find(|(command, _)| *command == name)?;
    let given = ids.iter().find(|id| matches.value_source(id) == Some(ValueSource::CommandLine))?;
    Some(format!("--{given} has no effect on `{name}`: leave it out"))
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns, for people
    Table,
    /// JSON, for programs
    Json,
    /// Plain words, for scripts
    Simple,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Start a cluster, write to it, kill its leader in the middle, and show that nothing is lost
    Demo(DemoArgs),
    /// Run one server
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(ServeArgs),
    /// Set a key
    #[command(after_help = EXIT_CODES)]
    Put(PutArgs),
    /// Print the value of a key
    #[command(after_help = EXIT_CODES)]
    Get(GetArgs),
    /// Remove a key
    #[command(after_help = EXIT_CODES)]
    Del(DelArgs),
    /// Print the keys that begin with a prefix
    Scan(ScanArgs),
    /// Make the first endpoint's blank server the start of a cluster
    Init(InitArgs),
    /// Show every server of the cluster
    Status,
    /// Show or change who belongs to the cluster
    #[command(after_help = MEMBER_EXAMPLES)]
    Member {
        /// What to do.
        #[command(subcommand)]
        command: MemberCommand,
    },
    /// Look at the data directory of a stopped server, and repair it
    Data {
        /// What to do.
        #[command(subcommand)]
        command: DataCommand,
    },
    /// Have the first endpoint's server build a snapshot of its state now; the log before it goes
    Snapshot,
    /// Hand the leadership to another server
    TransferLeader {
        /// The server that shall lead
        id: u64,
    },
}

/// The other demonstrations, which have sizes of their own.
const OTHER_DEMOS: [&str; 3] = ["soak", "big_snapshot", "memory_run"];

/// What `demo` takes.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// How many keys to write
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(100..=10_000_000),
          conflicts_with_all = OTHER_DEMOS)]
    pub writes: u64,
    /// How many servers to start
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(3..=9), conflicts_with_all = OTHER_DEMOS)]
    pub nodes: u64,
    /// Leave the cluster running at the end, until Ctrl-C
    #[arg(long, conflicts_with_all = OTHER_DEMOS)]
    pub keep: bool,
    /// Instead: so long of full load, with a follower killed every 20 seconds and another replaced by a new server every
    /// minute; no write may be lost, nobody elected, and no memory grow
    #[arg(long, value_name = "TIME", value_parser = parse::duration)]
    pub soak: Option<Duration>,
    /// Instead: a snapshot of this size is sent to a new server, over a link that is cut, while writes go on; like 256MiB or 1GiB
    #[arg(long, value_name = "BYTES", value_parser = parse::bytes, conflicts_with = "soak")]
    pub big_snapshot: Option<u64>,
    /// Instead: so many small writes, in one process, with a follower behind a slow link; prints how much memory it holds
    #[arg(long, value_name = "WRITES", conflicts_with_all = ["soak", "big_snapshot"])]
    pub memory_run: Option<u64>,
    /// With --big-snapshot: how often the link is cut
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=100), requires = "big_snapshot")]
    pub cuts: u32,
    /// With --big-snapshot: do not fail if writes take more than twice as long meanwhile, for a machine that is busy with
    /// something else
    #[arg(long, requires = "big_snapshot")]
    pub no_latency_bound: bool,
    /// With --big-snapshot: bytes of it that may be sent a second, like 32MiB
    #[arg(long, value_name = "BYTES", value_parser = parse::bytes, requires = "big_snapshot")]
    pub snapshot_rate: Option<u64>,
    /// Have the servers build a snapshot every so many log entries
    #[arg(long, value_name = "ENTRIES", value_parser = clap::value_parser!(u64).range(1..),
          conflicts_with_all = ["big_snapshot", "memory_run"])]
    pub snapshot_every: Option<u64>,
    /// The servers' election timeout, like 150ms, with a heartbeat every fifth of it; without it, --soak and --big-snapshot
    /// take 1s
    #[arg(long, value_name = "TIME", value_parser = parse::duration, conflicts_with = "memory_run")]
    pub election_timeout: Option<Duration>,
}

impl Default for DemoArgs {
    fn default() -> Self {
        Self {
            writes: 20_000,
            nodes: 3,
            keep: false,
            soak: None,
            big_snapshot: None,
            memory_run: None,
            cuts: 5,
            no_latency_bound: false,
            snapshot_rate: None,
            snapshot_every: None,
            election_timeout: None,
        }
    }
}

/// What `serve` takes.
#[derive(Clone, Debug, Args)]
pub struct ServeArgs {
    /// Id of this server: a number that no other server of the cluster has or had
    #[arg(long, env = "RAFTWRIGHT_ID", value_parser = parse::id)]
    pub id: u64,
    /// Where this server keeps its log; made if it is missing
    #[arg(long, env = "RAFTWRIGHT_DATA_DIR", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Where to listen for the other servers; port 0 takes any
    #[arg(long, env = "RAFTWRIGHT_PEER_LISTEN", value_name = "IP:PORT", value_parser = parse::listen)]
    pub peer_listen: SocketAddr,
    /// Where to listen for HTTP; port 0 takes any
    #[arg(long, env = "RAFTWRIGHT_HTTP_LISTEN", value_name = "IP:PORT", value_parser = parse::listen)]
    pub http_listen: SocketAddr,
    /// Where the other servers reach this one, if not at the address that it listens on
    #[arg(long, env = "RAFTWRIGHT_ADVERTISE_PEER", value_name = "HOST:PORT", value_parser = parse::endpoint)]
    pub advertise_peer: Option<String>,
    /// The servers of a new cluster, this one among them: 1=HOST:PORT,2=HOST:PORT,...; the same on each. Once the cluster
    /// exists this is not looked at any more
    #[arg(long, env = "RAFTWRIGHT_INITIAL_CLUSTER", value_delimiter = ',', value_name = "ID=HOST:PORT",
          value_parser = parse::member)]
    pub initial_cluster: Vec<(u64, String)>,
    /// Name of the cluster: servers with different names refuse each other
    #[arg(long, env = "RAFTWRIGHT_CLUSTER_NAME", default_value = "raftwright")]
    pub cluster_name: String,
    /// How often a leader shows that it lives, like 50ms
    #[arg(long, env = "RAFTWRIGHT_HEARTBEAT_INTERVAL", value_parser = parse::duration, value_name = "TIME")]
    pub heartbeat_interval: Option<Duration>,
    /// How long without a leader until an election, like 500ms: at least 5 times the heartbeat interval. The actual time
    /// is drawn between this and twice this
    #[arg(long, env = "RAFTWRIGHT_ELECTION_TIMEOUT", value_parser = parse::duration, value_name = "TIME")]
    pub election_timeout: Option<Duration>,
    /// Build a snapshot every so many log entries; the log before it goes. Without it, every 100000 entries or 256 MiB
    #[arg(long, env = "RAFTWRIGHT_SNAPSHOT_EVERY", value_name = "ENTRIES", value_parser = clap::value_parser!(u64).range(1..))]
    pub snapshot_every: Option<u64>,
    /// How many log entries to keep behind a snapshot, so that a server that lacks a few of them needs no snapshot
    #[arg(long, env = "RAFTWRIGHT_SNAPSHOT_LOG_KEEP", value_name = "ENTRIES")]
    pub snapshot_log_keep: Option<u64>,
    /// Most bytes of snapshots to send a second, to all servers together, like 32MiB; without it, there is no bound
    #[arg(long, env = "RAFTWRIGHT_SNAPSHOT_RATE", value_name = "BYTES", value_parser = parse::bytes)]
    pub snapshot_rate: Option<u64>,
    /// Exit when stdin is closed: a server that is started by a program dies with it
    #[arg(long)]
    pub exit_on_stdin_close: bool,
}

#[derive(Debug, Args)]
pub(super) struct PutArgs {
    /// The key
    #[arg(allow_negative_numbers = true, value_parser = parse::key)]
    pub(super) key: String,
    /// The value; `-` reads it from stdin
    #[arg(allow_negative_numbers = true)]
    pub(super) value: String,
    /// Only if the key is at this revision; 0: only if it does not exist
    #[arg(long, value_name = "REVISION")]
    pub(super) if_revision: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct GetArgs {
    /// The key
    #[arg(allow_negative_numbers = true, value_parser = parse::key)]
    pub(super) key: String,
    /// Take what the asked server has, even if it is old
    #[arg(long)]
    pub(super) stale: bool,
}

#[derive(Debug, Args)]
pub(super) struct DelArgs {
    /// The key
    #[arg(allow_negative_numbers = true, value_parser = parse::key)]
    pub(super) key: String,
    /// Only if the key is at this revision
    #[arg(long, value_name = "REVISION")]
    pub(super) if_revision: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct ScanArgs {
    /// The prefix; without it, all keys
    #[arg(default_value = "")]
    pub(super) prefix: String,
    /// Most keys to print
    #[arg(long, default_value_t = 1_000)]
    pub(super) limit: usize,
    /// Take what the asked server has, even if it is old
    #[arg(long)]
    pub(super) stale: bool,
}

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// The servers of the cluster; without them, the asked one alone
    #[arg(value_name = "ID=HOST:PORT", value_parser = parse::member)]
    pub(super) members: Vec<(u64, String)>,
}

#[derive(Debug, Subcommand)]
pub(super) enum MemberCommand {
    /// Show the members
    List,
    /// Add a server as a learner: it gets the log and does not vote
    Add {
        /// Its id: a number that no other server of the cluster has or had
        #[arg(value_parser = parse::id)]
        id: u64,
        /// Where its peers reach it
        #[arg(value_name = "HOST:PORT", value_parser = parse::endpoint)]
        addr: String,
    },
    /// Make a learner a voter
    Promote {
        /// Its id
        id: u64,
    },
    /// Say where a member is reached from now on: start it there first
    Move {
        /// Its id
        id: u64,
        /// Where its peers reach it
        #[arg(value_name = "HOST:PORT", value_parser = parse::endpoint)]
        addr: String,
    },
    /// Take a server out of the cluster
    Remove {
        /// Its id
        id: u64,
    },
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches;

    use super::*;

    fn matches(line: &str) -> Result<ArgMatches, clap::Error> {
        command_line().try_get_matches_from(std::iter::once("raftwright").chain(line.split_whitespace()))
    }

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::from_arg_matches(&matches(line)?)
    }

    fn refusal(line: &str) -> String {
        parse(line).expect_err("this line must be refused").to_string()
    }

    #[test]
    fn the_definition_is_sound() {
        command_line().debug_assert();
    }

    #[test]
    fn what_has_no_effect_is_neither_shown_nor_taken() {
        for (line, flag) in [
            ("serve", "--timeout 1s"),
            ("serve", "--endpoints a:1"),
            ("demo", "-o json"),
            ("", "--endpoints a:1"),
            ("data inspect d", "--endpoints a:1"),
        ] {
            let needed = if line == "serve" {
                "--id 1 --data-dir d --peer-listen 127.0.0.1:0 --http-listen 127.0.0.1:0"
            } else {
                ""
            };
            let given = |flag: &str| given_in_vain(&matches(&format!("{line} {needed} {flag}")).unwrap());
            assert_eq!((given("").is_none(), given(flag).is_some()), (true, true), "{line} {flag}");
        }
        assert_eq!(given_in_vain(&matches("data inspect d -o json").unwrap()), None);
        assert_eq!(given_in_vain(&matches("get a --endpoints a:1 --timeout 1s").unwrap()), None);
        for (line, shown) in [("serve", false), ("data verify", false), ("demo", false), ("get", true)] {
            let help = refusal(&format!("{line} --help"));
            assert_eq!(help.contains("--endpoints"), shown, "{help}");
        }
    }

    #[test]
    fn without_a_subcommand_it_is_the_demo() {
        assert!(parse("").unwrap().command.is_none());
        let Some(Command::Demo(args)) = parse("demo").unwrap().command else { panic!("not the demo") };
        let default = DemoArgs::default();
        assert_eq!((args.writes, args.nodes, args.keep), (default.writes, default.nodes, default.keep));
    }

    #[test]
    fn a_static_list_is_taken_apart() {
        let line = "serve --id 1 --data-dir d --peer-listen 127.0.0.1:0 --http-listen 127.0.0.1:0 \
                    --initial-cluster 1=a:1,2=[::1]:2 --election-timeout 1s --heartbeat-interval 20";
        let Some(Command::Serve(args)) = parse(line).unwrap().command else { panic!("not serve") };
        assert_eq!(args.initial_cluster, [(1, "a:1".to_owned()), (2, "[::1]:2".to_owned())]);
        assert_eq!(args.election_timeout, Some(Duration::from_secs(1)));
        assert_eq!(args.heartbeat_interval, Some(Duration::from_millis(20)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let serve = "serve --data-dir d --peer-listen 127.0.0.1:0 --http-listen 127.0.0.1:0";
        for (line, named) in [
            (serve.to_owned(), "--id"),
            (format!("{serve} --id 0"), "--id"),
            (format!("{serve} --id one"), "--id"),
            (format!("{serve} --id 1 --initial-cluster 1:a:1"), "ID=HOST:PORT"),
            (format!("{serve} --id 1 --election-timeout fast"), "500ms"),
            (format!("{serve} --id 1 --peer-listen here"), "--peer-listen"),
            ("put key".to_owned(), "<VALUE>"),
            ("get key --endpoints here".to_owned(), "host:port"),
            ("member add 4 nowhere".to_owned(), "host:port"),
            ("demo --nodes 2".to_owned(), "--nodes"),
            ("demo --writes 0".to_owned(), "--writes"),
            ("demo --cuts 3".to_owned(), "--big-snapshot"),
            ("demo --snapshot-rate 1MiB".to_owned(), "--big-snapshot"),
            ("demo --soak 1s --keep".to_owned(), "--keep"),
            ("demo --memory-run 9 --nodes 5".to_owned(), "--nodes"),
            ("demo --big-snapshot 1MiB --snapshot-every 9".to_owned(), "--snapshot-every"),
            ("member add 0 h:1".to_owned(), "from 1 on"),
            ("data new-cluster d --peer-addr h:0".to_owned(), "host:port"),
            ("get key -o xml".to_owned(), "json"),
            ("stats".to_owned(), "status"),
        ] {
            let refusal = refusal(&line);
            assert!(refusal.contains(named), "{line:?} is refused without {named:?}:\n{refusal}");
        }
    }

    #[test]
    fn a_value_may_be_a_negative_number_and_a_key_is_not_empty() {
        let Some(Command::Put(args)) = parse("put temperature -5").unwrap().command else { panic!("not put") };
        assert_eq!(args.value, "-5");
        for args in [&["get", ""][..], &["put", "", "v"], &["del", ""]] {
            let error = command_line().try_get_matches_from([&["raftwright"][..], args].concat()).unwrap_err();
            assert!(error.to_string().contains("one character at least"), "{error}");
        }
    }

    #[test]
    fn endpoints_are_a_list() {
        let cli = parse("--endpoints a:1,b:2 status").unwrap();
        assert_eq!(cli.remote.endpoints, ["a:1", "b:2"]);
        assert_eq!(parse("status --endpoints a:1").unwrap().remote.endpoints, ["a:1"]);
    }
}
