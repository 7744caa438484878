//! The language of protocol stories; `docs/scripts.md` describes it. A script's commands stand behind `> `, what they did is
//! indented below them, everything else is prose.

use std::fmt::Write as _;

use raftwright_core::{
    AppendEntriesRequest, ChangeConditions, ChangeMembers, HeartbeatRequest, Identity, Input, LogIdOf, LogIdOption,
    Membership, Message, ReadPolicy, Round, SnapshotPolicy, Span, VoteKind, VoteOf, VoteRequest, WriteId,
};

use crate::cluster::{Body, Cluster, Packet, Setup};
use crate::disk::Image;
use crate::say;
use crate::types::{Advanced, Item, Kind, Member, Standard, id, items, led, vote};

/// Runs a script and returns it with the outputs that it has now.
pub(crate) fn run(text: &str) -> String {
    let first = text.lines().find_map(|line| line.strip_prefix("> ")).expect("a script has a command");
    if first.split_whitespace().any(|word| word == "advanced") {
        Story::<Advanced>::tell(text)
    } else {
        Story::<Standard>::tell(text)
    }
}

struct Story<T: Kind> {
    cluster: Cluster<T>,
    told: usize,
}

/// How much of what happened is told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Detail {
    Nothing,
    Outline,
    Everything,
}

impl<T: Kind> Story<T> {
    fn tell(text: &str) -> String {
        let mut story = Self { cluster: Cluster::blank(Setup::voters(0), &[]), told: 0 };
        let mut out = String::new();
        for line in text.lines().filter(|line| !line.starts_with("  ")) {
            writeln!(out, "{line}").unwrap();
            if let Some(command) = line.strip_prefix("> ") {
                story.command(command, &mut out);
            }
        }
        out
    }

    fn command(&mut self, line: &str, out: &mut String) {
        let (detail, command) = match line.split_once(' ') {
            Some(("quietly", rest)) => (Some(Detail::Nothing), rest),
            Some(("closely", rest)) => (Some(Detail::Everything), rest),
            _ => (None, line),
        };
        let words: Vec<&str> = command.split_whitespace().collect();
        let outline = matches!(words[0], "settle" | "run" | "cluster");
        let detail = detail.unwrap_or(if outline { Detail::Outline } else { Detail::Everything });
        let answer = self.obey(words[0], &words[1..], line);
        for line in &self.cluster.journal[self.told..] {
            if detail == Detail::Everything || (line.loud && detail == Detail::Outline) {
                writeln!(out, "  {}", line.text).unwrap();
            }
        }
        self.told = self.cluster.journal.len();
        for line in answer {
            writeln!(out, "  {line}").unwrap();
        }
    }

    fn obey(&mut self, verb: &str, words: &[&str], line: &str) -> Vec<String> {
        let cluster = &mut self.cluster;
        match (verb, words) {
            ("cluster", _) => *cluster = set_up(words),
            ("server", [server, rest @ ..]) => install(cluster, number(server), rest),
            ("elect", [server]) => cluster.step(number(server), Input::Elect),
            ("wake", [server]) => cluster.wake(number(server)),
            ("clock", [server, rate]) => {
                assert_eq!(cluster.now, raftwright_core::Time::ZERO, "a clock does not change its rate");
                cluster.clocks.insert(number(server), number(rate.trim_end_matches('%')) * 10);
            }
            ("beat", [server]) => cluster.step(number(server), Input::Beat),
            ("pass", [span]) => cluster.pass(millis(span), false),
            ("run", [span]) => {
                cluster.settle();
                cluster.pass(millis(span), true);
            }
            ("settle", []) => cluster.settle(),
            ("deliver", _) => deliver(cluster, words),
            ("lose", _) => {
                while let Some(at) = cluster.wire.iter().position(|packet| selects(words, packet)) {
                    cluster.lose(at);
                }
            }
            ("reset", [link]) => {
                let (from, to) = ends(link);
                cluster.break_connection(from, to);
            }
            ("cut", links) => cluster.cuts.extend(links.iter().map(|link| ends(link))),
            ("isolate", [server]) => isolate(cluster, number(server)),
            ("heal", []) => cluster.cuts.clear(),
            ("hold", [server]) => cluster.hold_disk(number(server)),
            ("complete", [server, write]) => {
                cluster.complete(number(server), WriteId(number(write.trim_start_matches('w'))));
            }
            ("release", [server]) => cluster.release_disk(number(server)),
            ("crash", [server]) => cluster.crash(number(server), 0),
            ("crash", [server, "keep", count]) => cluster.crash(number(server), number(count) as usize),
            ("start", [server]) => cluster.start(number(server)),
            ("wipe", [server]) => cluster.wipe(number(server)),
            ("wire", []) => return cluster.wire.iter().map(on_the_wire).collect(),
            ("state", _) => return states(cluster, words),
            ("log", [server]) => return vec![log(cluster, number(server))],
            ("forge", [link, kind, rest @ ..]) => forge(cluster, ends(link), kind, rest),
            _ => call(cluster, verb, words, line),
        }
        Vec::new()
    }
}

/// What a client or an operator asks of a server.
fn call<T: Kind>(cluster: &mut Cluster<T>, verb: &str, words: &[&str], line: &str) {
    let name = line.trim_start_matches("quietly ").trim_start_matches("closely ");
    match (verb, words) {
        ("write", [server, texts @ ..]) => {
            for text in texts {
                cluster.propose(number(server), text);
            }
        }
        ("read", [server, rest @ ..]) => {
            let policy = match rest {
                ["lease"] => ReadPolicy::Lease,
                ["within", span] => ReadPolicy::AckedWithin(millis(span)),
                [] => ReadPolicy::ReadIndex,
                _ => panic!("not a way to read: {name}"),
            };
            let name = [&["read"], rest].concat().join(" ");
            cluster.call(number(server), &name, |ticket| Input::Read { ticket, policy });
        }
        ("change", [server, words @ ..]) => {
            let (wanted, given) = match words.iter().position(|word| *word == "if") {
                Some(at) => (&words[..at], &words[at + 1..]),
                None => (words, &words[..0]),
            };
            let (change, conditions) = (change_of(wanted), conditions_of::<T>(given));
            let name = format!("change {}", words.join(" "));
            cluster.call(number(server), &name, |ticket| Input::ChangeMembers { ticket, change, conditions });
        }
        ("cancel", [server]) => {
            cluster.call(number(server), "cancel", |ticket| Input::CancelChange { ticket });
        }
        ("learner", [server, "add", member]) => {
            let node = Member { address: number(member), incarnation: None };
            let id = number(member);
            cluster.call(number(server), &format!("add {member}"), |ticket| Input::AddLearner { ticket, id, node });
        }
        ("learner", [server, "remove", members]) => {
            let ids = numbers(members).into_iter().collect();
            let name = format!("remove {members}");
            cluster.call(number(server), &name, |ticket| Input::RemoveLearners { ticket, ids });
        }
        ("transfer", [server, "to", to]) => {
            let to = number(to);
            let name = format!("transfer to {to}");
            cluster.call(number(server), &name, |ticket| Input::TransferLeader { ticket, to });
        }
        ("initialize", [server, "with", voters]) => {
            let voters = numbers(voters);
            let nodes = voters.iter().map(|id| (*id, Member { address: *id, incarnation: None })).collect();
            let membership = Membership::new(vec![voters.into_iter().collect()], nodes).unwrap();
            cluster.call(number(server), "initialize", |ticket| Input::Initialize { ticket, membership });
        }
        ("purge", [server, "to", index]) => {
            cluster.step(number(server), Input::Purge { upto: number(index) });
        }
        ("snapshot", [server]) => cluster.step(number(server), Input::BuildSnapshot),
        ("snapshot", [server, "done"]) => cluster.build_done(number(server), true),
        ("snapshot", [server, "failed"]) => cluster.build_done(number(server), false),
        ("installed", [server]) => cluster.install_done(number(server)),
        ("builds", [server, "wait"]) => {
            cluster.servers.get_mut(&number(server)).unwrap().machine_held = true;
        }
        _ => panic!("not a command: {name}"),
    }
}

/// `to 1,2,4 retain`, `add 4`, `remove 3 retain`, `promote 4`, `replace 3 by 4`, `update 4`.
fn change_of<T: Kind>(words: &[&str]) -> ChangeMembers<T> {
    let set = |ids: &str| numbers(ids).into_iter().collect();
    let member = |id: &str| Member { address: number(id), incarnation: None };
    match words {
        ["to", voters, rest @ ..] => ChangeMembers::ReplaceVoters { voters: set(voters), retain: rest == ["retain"] },
        ["add", ids] => ChangeMembers::AddVoters(set(ids)),
        ["remove", ids, rest @ ..] => ChangeMembers::RemoveVoters { voters: set(ids), retain: rest == ["retain"] },
        ["promote", ids] => ChangeMembers::Promote(set(ids)),
        ["replace", old, "by", new] => {
            ChangeMembers::ReplaceNode { old: number(old), new: number(new), node: member(new) }
        }
        ["update", id] => ChangeMembers::UpdateNodes([(number(id), member(id))].into()),
        _ => panic!("not a change: {words:?}"),
    }
}

/// `membership 1.3 leader 1-1:leader log 1.4`.
fn conditions_of<T: Kind>(words: &[&str]) -> ChangeConditions<T> {
    let field = |name: &str| words.chunks(2).find(|pair| pair[0] == name).map(|pair| pair[1]);
    ChangeConditions {
        membership: field("membership").map(log_id_of::<T>),
        leader: field("leader").map(vote_of::<T>),
        last_log_id: field("log").map(log_id_of::<T>),
    }
}

fn set_up<T: Kind>(words: &[&str]) -> Cluster<T> {
    let mut setup = Setup::voters(number(words[0]));
    let mut words = words[1..].iter();
    let mut blank = false;
    while let Some(word) = words.next() {
        match *word {
            "advanced" => {}
            "blank" => blank = true,
            "incarnations" => setup.incarnations = true,
            "no-pre-vote" => setup.config.pre_vote = false,
            "learners" => setup.learners = numbers(words.next().unwrap()),
            "one-by-one" => setup.stream.request_entries_max = 1,
            "snapshot-every" => {
                setup.config.snapshot_policy = SnapshotPolicy::LogsSinceLast(number(words.next().unwrap()));
            }
            "keep" => setup.config.log_keep = number(words.next().unwrap()),
            "keep-for-followers" => setup.config.log_keep_for_followers_max = number(words.next().unwrap()),
            "writes" => setup.config.writes_max = number(words.next().unwrap()) as usize,
            "window" => setup.stream.inflight_requests_max = number(words.next().unwrap()) as usize,
            word => panic!("not a property of a cluster: {word}"),
        }
    }
    if blank {
        let ids = setup.voters.clone();
        Cluster::blank(setup, &ids)
    } else {
        Cluster::new(setup)
    }
}

/// `server 2 log 1 1 2 vote 2-3 committed 2`, or `server 4 blank`.
fn install<T: Kind>(cluster: &mut Cluster<T>, server: u64, words: &[&str]) {
    if words == ["blank"] {
        return cluster.add_blank(server);
    }
    let (mut terms, mut stored, mut committed) = (Vec::new(), None, 0);
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        match *word {
            "log" => {
                while let Some(term) = words.next_if(|word| word.parse::<u64>().is_ok()) {
                    terms.push(number(term));
                }
            }
            "vote" => stored = Some(vote_of::<T>(words.next().unwrap())),
            "committed" => committed = number(words.next().unwrap()),
            word => panic!("not a property of a server: {word}"),
        }
    }
    let mut log = vec![cluster.first_entry()];
    log.extend(items(&terms));
    let applied = usize::try_from(committed).unwrap().checked_sub(1).map(|at| log[at].log_id);
    cluster.place(server, Image { vote: stored, purged: None, log }, applied);
}

fn isolate<T: Kind>(cluster: &mut Cluster<T>, server: u64) {
    for other in cluster.servers.keys().filter(|other| **other != server) {
        cluster.cuts.extend([(server, *other), (*other, server)]);
    }
}

/// Delivers what is on the wire now and selected; with `last` only the newest of it, with `copy` it stays on the wire too.
fn deliver<T: Kind>(cluster: &mut Cluster<T>, words: &[&str]) {
    let (last, copy) = (words.contains(&"last"), words.contains(&"copy"));
    let mut chosen: Vec<usize> = (0..cluster.wire.len()).filter(|at| selects(words, &cluster.wire[*at])).collect();
    if last {
        chosen = chosen.split_off(chosen.len().saturating_sub(1));
    }
    let packets: Vec<Packet<T>> = chosen.iter().map(|at| cluster.wire[*at].clone()).collect();
    if !copy {
        for at in chosen.into_iter().rev() {
            cluster.wire.remove(at);
        }
    }
    for packet in packets {
        cluster.receive(packet);
    }
}

fn selects<T: Kind>(words: &[&str], packet: &Packet<T>) -> bool {
    words.iter().filter(|word| !matches!(**word, "last" | "copy")).all(|word| match word.split_once("->") {
        Some((from, to)) => (from == "*" || number(from) == packet.from) && (to == "*" || number(to) == packet.to),
        None => kind_of(packet) == *word || (*word == "answer" && kind_of(packet).ends_with("-answer")),
    })
}

fn kind_of<T: Kind>(packet: &Packet<T>) -> &'static str {
    match &packet.body {
        Body::Control(Message::Vote(_)) => "vote",
        Body::Control(Message::Heartbeat(_)) => "heartbeat",
        Body::Control(Message::TransferLeader(_)) => "transfer",
        Body::Append { .. } => "append",
        Body::VoteAnswer(_) => "vote-answer",
        Body::HeartbeatAnswer(_) => "heartbeat-answer",
        Body::AppendAnswer { .. } => "append-answer",
        Body::Snapshot { .. } => "snapshot",
        Body::SnapshotAnswer { .. } => "snapshot-answer",
    }
}

fn on_the_wire<T: Kind>(packet: &Packet<T>) -> String {
    let detail = match &packet.body {
        Body::Append { request, .. } => format!(" {}", say::append(request)),
        Body::Snapshot { request, .. } => format!(" {}", say::snapshot(request)),
        Body::Control(_)
        | Body::VoteAnswer(_)
        | Body::HeartbeatAnswer(_)
        | Body::AppendAnswer { .. }
        | Body::SnapshotAnswer { .. } => {
            format!(" {}", kind_of(packet))
        }
    };
    format!("{} -> {} {detail}", packet.from, packet.to)
}

fn states<T: Kind>(cluster: &Cluster<T>, words: &[&str]) -> Vec<String> {
    let all: Vec<u64> = cluster.servers.keys().copied().collect();
    let ids = if words.is_empty() { all } else { words.iter().map(|word| number(word)).collect() };
    ids.into_iter().map(|id| if cluster.is_up(id) { state(cluster, id) } else { format!("{id}  is down") }).collect()
}

/// A server in one line.
pub(crate) fn state<T: Kind>(cluster: &Cluster<T>, id: u64) -> String {
    let replica = cluster.replica(id);
    let vote = replica.vote().map_or_else(|| "-".to_owned(), ToString::to_string);
    let (last, committed) = (say::maybe::<T>(replica.last_log_id()), say::maybe::<T>(replica.committed()));
    let applied = cluster.servers[&id].applied.index_or_zero();
    let (durable, members) = (replica.durable_index(), &replica.membership().membership);
    let state = replica.server_state();
    let bound: Vec<String> = members
        .nodes()
        .iter()
        .filter(|(_, member)| member.incarnation.is_some())
        .map(|(id, _)| id.to_string())
        .collect();
    let bound = if bound.is_empty() { String::new() } else { format!(" bound {}", bound.join(",")) };
    format!(
        "{id}  {state}, vote {vote}, last {last}, durable {durable}, committed {committed}, applied {applied}, \
         members {members}{bound}"
    )
}

fn log<T: Kind>(cluster: &Cluster<T>, id: u64) -> String {
    let ids: Vec<String> = cluster.servers[&id].disk.live.log.iter().map(|item| item.log_id.to_string()).collect();
    format!("{id}  {}", ids.join(" "))
}

/// `forge 1->2 append term 1 after 0.1 entries 1.2=x,1.3=y commit 1.2`, `forge 1->2 heartbeat term 1 commit 1.2`,
/// `forge 3->2 vote|pre-vote|transfer-vote term 2 last 1.3`.
fn forge<T: Kind>(cluster: &mut Cluster<T>, (from, to): (u64, u64), kind: &str, words: &[&str]) {
    let field = |name: &str| words.chunks(2).find(|pair| pair[0] == name).map(|pair| pair[1]);
    let log_id = |name: &str| field(name).map(log_id_of::<T>);
    let term = number(field("term").expect("a term"));
    let incarnation = cluster.servers.get(&from).and_then(|server| server.identity.incarnation);
    let from = Identity { id: from, incarnation };
    if kind == "append" {
        let entries = field("entries").into_iter().flat_map(|all| all.split(',')).map(entry_of).collect();
        let (prev_log_id, committed) = (log_id("after"), log_id("commit"));
        let request = AppendEntriesRequest { from, vote: led::<T>(term, from.id), prev_log_id, entries, committed };
        return cluster.forge_append(to, request);
    }
    let message = match kind {
        "heartbeat" => Message::Heartbeat(HeartbeatRequest {
            from,
            vote: led::<T>(term, from.id),
            round: Round(1),
            committed: log_id("commit"),
        }),
        "vote" | "pre-vote" | "transfer-vote" => {
            let permit = field("permit").map(vote_of::<T>);
            let kind = match kind {
                "pre-vote" => VoteKind::PreVote,
                "vote" => VoteKind::Vote,
                _ => VoteKind::Transfer,
            };
            let request =
                VoteRequest { from, vote: vote::<T>(term, from.id), last_log_id: log_id("last"), kind, permit };
            Message::Vote(request)
        }
        kind => panic!("not a message: {kind}"),
    };
    cluster.forge(to, message);
}

// ---- words ----

fn number(word: &str) -> u64 {
    word.parse().unwrap_or_else(|_| panic!("not a number: {word}"))
}

fn numbers(words: &str) -> Vec<u64> {
    words.split(',').map(number).collect()
}

fn ends(link: &str) -> (u64, u64) {
    let (from, to) = link.split_once("->").unwrap_or_else(|| panic!("not a link: {link}"));
    (number(from), number(to))
}

fn millis(word: &str) -> Span {
    Span::from_millis(number(word.strip_suffix("ms").unwrap_or_else(|| panic!("not a span: {word}"))))
}

fn log_id_of<T: Kind>(word: &str) -> LogIdOf<T> {
    let (term, index) = word.split_once('.').unwrap_or_else(|| panic!("not a log id: {word}"));
    id::<T>(number(term), number(index))
}

fn entry_of<T: Kind>(word: &str) -> Item<T> {
    let (log_id, text) = word.split_once('=').unwrap_or_else(|| panic!("not an entry: {word}"));
    Item::at(log_id_of::<T>(log_id), text)
}

fn vote_of<T: Kind>(word: &str) -> VoteOf<T> {
    let (word, leader) = word.strip_suffix(":leader").map_or((word, false), |word| (word, true));
    let (term, node) = word.split_once('-').unwrap_or_else(|| panic!("not a vote: {word}"));
    if leader { led::<T>(number(term), number(node)) } else { vote::<T>(number(term), number(node)) }
}
