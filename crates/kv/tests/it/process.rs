//! A server as a process, which dies with the test.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub(crate) fn raftwright() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_raftwright"));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("RAFTWRIGHT_")) {
            command.env_remove(name);
        }
    }
    command.env("NO_COLOR", "1").env("RUST_LOG", "info");
    command
}

/// Runs it to its end.
pub(crate) fn run(args: &[&str]) -> Output {
    raftwright().args(args).stdin(Stdio::null()).output().unwrap()
}

/// The arguments of a server with this data directory and these addresses.
pub(crate) fn serve_args(id: u64, data: &Path, peer: &str, http: &str) -> Vec<String> {
    let data = data.to_str().unwrap();
    let id = id.to_string();
    ["serve", "--id", &id, "--data-dir", data, "--peer-listen", peer, "--http-listen", http].map(str::to_owned).into()
}

/// Runs a server that is expected not to start. Returns its exit code and what it says last.
pub(crate) fn refused(args: &[String]) -> (i32, String) {
    let output = raftwright().args(args).stdin(Stdio::null()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.stdout.is_empty(), "it says that it is ready: {stderr}");
    (output.status.code().unwrap_or(-1), stderr.lines().last().unwrap_or_default().to_owned())
}

/// A bound on waiting for what must happen. Reaching it fails a test; nothing depends on its length.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Looks again until it is so; `Err` says what was seen instead.
pub(crate) fn until(so: &mut dyn FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(seen) = so() {
        assert!(Instant::now() < deadline, "it does not come about within {PATIENCE:?}; last seen: {seen}");
    }
}

/// Runs it, and returns how it ended and what it said: for messages.
pub(crate) fn said(args: &[&str]) -> String {
    let output = run(args);
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{args:?} ended with {:?}: {stdout}{stderr}", output.status.code())
}

/// Gives a command that may be given twice until it succeeds, and returns its output.
pub(crate) fn insist(args: &[&str]) -> String {
    let mut done = String::new();
    until(&mut || {
        let output = run(args);
        done = String::from_utf8_lossy(&output.stdout).into_owned();
        let (code, stderr) = (output.status.code(), String::from_utf8_lossy(&output.stderr));
        if output.status.success() { Ok(()) } else { Err(format!("{args:?} ended with {code:?}: {stderr}")) }
    });
    done
}

/// A running server.
pub(crate) struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    pub(crate) peer: String,
    pub(crate) http: String,
}

impl Process {
    /// Starts one on ports that the system gives.
    pub(crate) fn start(id: u64, data: &Path, more: &[&str]) -> Self {
        let mut command = raftwright();
        command.args(serve_args(id, data, "127.0.0.1:0", "127.0.0.1:0")).arg("--exit-on-stdin-close").args(more);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let field = |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name)).map(str::to_owned);
        match (field("peer="), field("http=")) {
            (Some(peer), Some(http)) => Self { child, stdin, peer, http },
            _ => {
                let mut log = String::new();
                child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
                panic!("not ready: {line:?}\n{log}")
            }
        }
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Waits for the end. Returns the exit code (-1 for a signal) and the log.
    pub(crate) fn wait(mut self) -> (i32, String) {
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap().code().unwrap_or(-1), log)
    }

    /// SIGTERM, and an orderly end.
    pub(crate) fn stop(self) -> String {
        self.signal("-TERM");
        let (code, log) = self.wait();
        assert_eq!(code, 0, "{log}");
        log
    }

    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone already, as most tests want it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
