//! `init`, `status`, `member`, `transfer-leader`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::api::{ChangeAnswer, Member, NodeState};
use crate::cli::args::{Format, InitArgs, MemberCommand, RemoteArgs};
use crate::cli::keys::{print_json, print_text};
use crate::cli::{Failure, Table};
use crate::client::Client;

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

/// A server that was asked, or that another one told of.
#[derive(Serialize)]
struct Seen {
    endpoint: Option<String>,
    #[serde(flatten)]
    state: Option<NodeState>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub(super) async fn status(remote: &RemoteArgs) -> Result<(), Failure> {
    let mut asked = Vec::new();
    for endpoint in &remote.endpoints {
        let mut client = Client::new([endpoint.clone()], remote.timeout);
        asked.push(match client.state().await {
            Ok(state) => Seen { endpoint: Some(endpoint.clone()), state: Some(state), error: None },
            Err(error) => Seen { endpoint: Some(endpoint.clone()), state: None, error: Some(error.to_string()) },
        });
    }
    match remote.format_or(Format::Table) {
        Format::Json => print_json(&asked)?,
        Format::Table => print_text(&status_table(&states(&asked)).to_string())?,
        Format::Simple => print_text(&status_table(&states(&asked)).simple())?,
    }
    let silent: Vec<&str> = asked.iter().filter_map(|seen| seen.error.as_deref()).collect();
    if silent.is_empty() { Ok(()) } else { Err(Failure::new(silent.join("; "))) }
}

fn states(asked: &[Seen]) -> Vec<NodeState> {
    asked.iter().filter_map(|seen| seen.state.clone()).collect()
}

/// The servers that answered, and below them those that they know of: the leader knows how much of the log each holds.
pub(crate) fn status_table(states: &[NodeState]) -> Table {
    let mut table = Table::new(["ID", "ADDRESS", "ROLE", "TERM", "LAST LOG", "COMMIT", "APPLIED", "LAG"]);
    let committed = states.iter().map(|state| state.committed).max().unwrap_or(0);
    let by_id: BTreeMap<u64, &NodeState> = states.iter().map(|state| (state.id, state)).collect();
    for state in by_id.values() {
        table.row([
            state.id.to_string(),
            state.peer_addr.clone(),
            state.role.to_string(),
            state.term.to_string(),
            state.last_log.to_string(),
            state.committed.to_string(),
            state.applied.to_string(),
            committed.saturating_sub(state.applied).to_string(),
        ]);
    }
    let newest = states.iter().max_by_key(|state| (state.term, state.role == crate::api::Role::Leader));
    for member in newest.into_iter().flat_map(|state| &state.members).filter(|m| !by_id.contains_key(&m.id)) {
        let role = if member.voter { "voter, not asked" } else { "learner, not asked" };
        let matched = member.matched.map_or("-".to_owned(), |index| index.to_string());
        let unknown = || "-".to_owned();
        table.row([
            member.id.to_string(),
            member.addr.clone(),
            role.to_owned(),
            unknown(),
            matched,
            unknown(),
            unknown(),
            unknown(),
        ]);
    }
    table
}
