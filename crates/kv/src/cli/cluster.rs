//! `init`, `status`, `member`, `snapshot`, `transfer-leader`.

use serde::Serialize;

use crate::api::{ChangeAnswer, Member, Progress, ServerStatus};
use crate::cli::args::{Format, InitArgs, MemberCommand, RemoteArgs};
use crate::cli::keys::{print_json, print_text};
use crate::cli::{Failure, Table};

pub(super) async fn init(remote: &RemoteArgs, args: InitArgs) -> Result<(), Failure> {
    let mut client = remote.client();
    client.init(&args.members).await?;
    done(remote, &format!("{} is the start of a cluster", client.endpoint()))
}

pub(super) async fn transfer_leader(remote: &RemoteArgs, id: u64) -> Result<(), Failure> {
    let position = remote.client().transfer_leader(id).await?;
    match remote.format_or(Format::Simple) {
        Format::Json => print_json(&position),
        Format::Table | Format::Simple => print_text(&format!("server {id} takes over\n")),
    }
}

pub(super) async fn snapshot(remote: &RemoteArgs) -> Result<(), Failure> {
    let mut client = remote.client();
    let answer = client.snapshot().await?;
    match remote.format_or(Format::Simple) {
        Format::Json => print_json(&answer),
        Format::Table | Format::Simple => {
            let (endpoint, index) = (client.endpoint(), answer.snapshot);
            print_text(&format!("{endpoint} has a snapshot of everything up to log entry {index}\n"))
        }
    }
}

pub(super) async fn member(remote: &RemoteArgs, command: MemberCommand) -> Result<(), Failure> {
    let mut client = remote.client();
    match command {
        MemberCommand::List => list(remote, &client.members().await?),
        MemberCommand::Add { id, addr } => {
            let answer = client.add_member(id, &addr).await?;
            changed(
                remote,
                &answer,
                &format!("server {id} is a learner; `raftwright member promote {id}` lets it vote"),
            )
        }
        MemberCommand::Move { id, addr } => {
            let answer = client.move_member(id, &addr).await?;
            changed(remote, &answer, &format!("server {id} is reached at {addr} from now on"))
        }
        MemberCommand::Promote { id } => changed(remote, &client.promote(id).await?, &format!("server {id} votes")),
        MemberCommand::Remove { id } => {
            let answer = client.remove_member(id).await?;
            changed(remote, &answer, &format!("server {id} is out of the cluster and can be stopped"))
        }
    }
}

fn list(remote: &RemoteArgs, members: &[Member]) -> Result<(), Failure> {
    let format = remote.format_or(Format::Table);
    if format == Format::Json {
        return print_json(&members);
    }
    let mut table = Table::new(["ID", "ADDRESS", "VOTES"]);
    for member in members {
        table.row([member.id.to_string(), member.addr.clone(), if member.voter { "yes" } else { "no" }.to_owned()]);
    }
    print_text(&if format == Format::Simple { table.simple() } else { table.to_string() })
}

fn changed(remote: &RemoteArgs, answer: &ChangeAnswer, sentence: &str) -> Result<(), Failure> {
    match remote.format_or(Format::Simple) {
        Format::Json => print_json(answer),
        Format::Table | Format::Simple => print_text(&format!("{sentence}\n")),
    }
}

#[derive(Serialize)]
struct Done<'a> {
    done: &'a str,
}

fn done(remote: &RemoteArgs, sentence: &str) -> Result<(), Failure> {
    match remote.format_or(Format::Simple) {
        Format::Json => print_json(&Done { done: sentence }),
        Format::Table | Format::Simple => print_text(&format!("{sentence}\n")),
    }
}

pub(super) async fn status(remote: &RemoteArgs) -> Result<(), Failure> {
    let servers = remote.client().status().await?;
    match remote.format_or(Format::Table) {
        Format::Json => print_json(&servers),
        Format::Table => print_text(&format!("{}{}", status_table(&servers), troubles(&servers))),
        Format::Simple => print_text(&status_table(&servers).simple()),
    }
}

/// Why servers did not answer, or have stopped, a line each.
fn troubles(servers: &[ServerStatus]) -> String {
    let errors = servers.iter().filter_map(|server| server.error.as_ref().map(|error| (server.id, error)));
    errors.map(|(id, error)| format!("server {id}: {error}\n")).collect()
}

/// LAG is what a server has yet to apply of what the cluster is known to have committed.
pub(crate) fn status_table(servers: &[ServerStatus]) -> Table {
    let mut table = Table::new(["ID", "ADDRESS", "ROLE", "TERM", "LAST LOG", "COMMIT", "APPLIED", "SNAPSHOT", "LAG"]);
    let progress = servers.iter().filter_map(|server| server.progress.as_ref());
    let committed = progress.map(|progress| progress.committed).max().unwrap_or(0);
    for server in servers {
        let (id, addr) = (server.id.to_string(), server.addr.clone());
        let Some(progress) = &server.progress else {
            table.row([[id, addr, "unreachable".to_owned()].as_slice(), &["-"; 6].map(str::to_owned)].concat());
            continue;
        };
        let role = match &server.error {
            Some(_) => "failed".to_owned(),
            None => progress.role.to_string(),
        };
        let lag = committed.saturating_sub(progress.applied);
        let Progress { role: _, term, last_log, committed, applied, snapshot } = *progress;
        let numbers = [term, last_log, committed, applied, snapshot, lag];
        table.row([[id, addr, role].as_slice(), &numbers.map(|number| number.to_string())].concat());
    }
    table
}

#[cfg(test)]
mod tests {
    use super::{status_table, troubles};
    use crate::api::{Progress, Role, ServerStatus};

    #[test]
    fn a_server_that_does_not_answer_has_a_row() {
        let addr = || "h:1".to_owned();
        let progress = Progress { role: Role::Leader, term: 2, last_log: 9, committed: 9, applied: 7, snapshot: 5 };
        let servers = [
            ServerStatus { id: 1, addr: addr(), voter: true, progress: Some(progress), error: None },
            ServerStatus { id: 2, addr: addr(), voter: true, progress: None, error: Some("gone".to_owned()) },
        ];
        assert_eq!(status_table(&servers).simple(), "1 h:1 leader 2 9 9 7 5 2\n2 h:1 unreachable - - - - - -\n");
        assert_eq!(troubles(&servers), "server 2: gone\n");
    }
}
