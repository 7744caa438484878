//! One server in a process of its own.

use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpSocket;
use tokio::process::{Child, ChildStdin, Command};

use crate::cli::Failure;
use crate::demo::PATIENCE;
use crate::demo::memory::resident;
use crate::limits::DRAIN_TIMEOUT;

/// How long a server may take to stop in order, beyond the time that it gives its requests.
const STOP_MARGIN: Duration = Duration::from_secs(10);

/// What a server is started with.
pub(super) struct Spec {
    pub(super) id: u64,
    pub(super) directory: PathBuf,
    pub(super) cluster_name: String,
    /// Where it listens for its peers: always where the membership knows it.
    pub(super) peer: String,
    /// Where its peers are told to reach it, if not there.
    pub(super) advertise: Option<String>,
    /// What else `serve` is given.
    pub(super) flags: Vec<String>,
    /// Keeps that port while the server does not run.
    _kept: Option<TcpSocket>,
}

impl Spec {
    /// A server that is yet to be started, with a port of its own.
    ///
    /// A port that nobody holds may be lent to any outgoing connection, for as long as that lives, and a server that was
    /// killed could not be started again. So on Linux this process binds it and never listens on it: the system lends out no
    /// port that is bound, and lets another process bind and listen as long as all of them say SO_REUSEADDR and none of
    /// the others listens. Other systems do not let it; there the server takes any port the first time.
    pub(super) fn new(id: u64, directory: &Path, cluster_name: &str) -> std::io::Result<Self> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (peer, kept) = if cfg!(target_os = "linux") {
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            socket.bind(any)?;
            (socket.local_addr()?, Some(socket))
        } else {
            (any, None)
        };
        let (directory, cluster_name) = (directory.to_owned(), cluster_name.to_owned());
        let peer = peer.to_string();
        Ok(Self { id, directory, cluster_name, peer, advertise: None, flags: Vec::new(), _kept: kept })
    }

    pub(super) fn log(&self) -> PathBuf {
        self.directory.join(format!("server-{}.log", self.id))
    }

    /// Where its peers reach it.
    pub(super) fn reached_at(&self) -> &str {
        self.advertise.as_deref().unwrap_or(&self.peer)
    }

    pub(super) fn data(&self) -> PathBuf {
        self.directory.join(format!("data-{}", self.id))
    }
}

/// A running server. Dropping it kills it.
pub(super) struct Process {
    child: Child,
    /// Nothing is ever written to it: that it closes when this process ends, however it ends, is what ends the server.
    _stdin: Option<ChildStdin>,
    pub(super) peer: String,
    pub(super) http: String,
}

impl Process {
    /// Starts it and waits until it says where it can be reached.
    pub(super) async fn start(spec: &Spec) -> Result<Self, Failure> {
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            Failure::new(format!("cannot start server {}: {what}: {error}", spec.id))
        };
        let program = std::env::current_exe().map_err(|error| failed("this program's file", &error))?;
        let log = open_log(&spec.log()).map_err(|error| failed("its log", &error))?;
        let mut command = Command::new(program);
        command.arg("serve").arg("--exit-on-stdin-close");
        command.arg("--id").arg(spec.id.to_string()).arg("--data-dir").arg(spec.data());
        command.arg("--peer-listen").arg(&spec.peer).arg("--http-listen").arg("127.0.0.1:0");
        command.arg("--cluster-name").arg(&spec.cluster_name);
        if let Some(advertise) = &spec.advertise {
            command.arg("--advertise-peer").arg(advertise);
        }
        command.args(&spec.flags);
        // The user's settings are meant for the user's servers.
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("RAFTWRIGHT_")) {
                command.env_remove(name);
            }
        }
        // In a process group of its own, so that Ctrl-C reaches this process alone, which then ends the servers.
        command.process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).env("NO_COLOR", "1");
        let mut child = command.spawn().map_err(|error| failed("the process", &error))?;
        let stdin = child.stdin.take();
        match tokio::time::timeout(PATIENCE, ready_line(&mut child)).await {
            Ok(Some((peer, http))) => Ok(Self { child, _stdin: stdin, peer, http }),
            Ok(None) => Err(failed("it ended", &last_line(&spec.log()))),
            Err(_) => Err(failed("it does not become ready", &last_line(&spec.log()))),
        }
    }

    /// How many bytes of memory it holds, as the system counts them; `None` where that is not known.
    pub(super) fn resident(&self) -> Option<u64> {
        resident(self.child.id()?)
    }

    /// Whether it still runs.
    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// SIGKILL, and waits for the end.
    pub(super) async fn kill(mut self) {
        // It fails if the process has ended already, which is what is wanted.
        let _ = self.child.kill().await;
    }

    /// SIGTERM, and waits for an orderly end.
    pub(super) async fn stop(mut self) -> Result<(), String> {
        if let Some(pid) = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) {
            kill_process(pid, Signal::TERM).map_err(|error| format!("cannot be told to stop: {error}"))?;
        }
        match tokio::time::timeout(DRAIN_TIMEOUT + STOP_MARGIN, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(format!("did not stop in order: {status}")),
            Ok(Err(error)) => Err(format!("cannot be waited for: {error}")),
            Err(_) => Err("did not stop when it was told to".to_owned()),
        }
    }
}

fn open_log(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// `ready id=1 peer=127.0.0.1:4000 http=127.0.0.1:4001`; `None` if the process ends without it.
async fn ready_line(child: &mut Child) -> Option<(String, String)> {
    let mut lines = BufReader::new(child.stdout.take()?).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let field = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name)).map(str::to_owned);
        if line.starts_with("ready ") {
            return field("peer=").zip(field("http="));
        }
    }
    None
}

fn last_line(path: &Path) -> String {
    let log = std::fs::read_to_string(path).unwrap_or_default();
    log.lines().next_back().unwrap_or("it said nothing").to_owned()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_kept_port_is_there_for_the_server_alone() {
        let spec = Spec::new(1, Path::new("nowhere"), "test").unwrap();
        for _ in 0..2 {
            // The standard library says SO_REUSEADDR too, as the server does.
            let listener = TcpListener::bind(&spec.peer).unwrap();
            let refused = TcpListener::bind(&spec.peer).unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::AddrInUse, "one server listens, not two");
            drop(listener);
        }
    }
}
