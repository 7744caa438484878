//! From text to [`Scenario`].

use core::fmt;

use super::ast::{
    Command, Comparison, Condition, ConfigSetting, ConfigValue, DiskState, Ending, Expected, Failure, LeaderIs,
    LinkChange, MemberKind, Number, Operation, OperationCall, ReadVia, RoleName, Scenario, Statement,
};
use super::cursor::{Cursor, Read};

/// Why a file does not parse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// The line, counted from 1.
    pub line: usize,
    /// What was expected.
    pub expected: String,
    /// What stands there instead.
    pub found: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: expected {}, found {}", self.line, self.expected, self.found)
    }
}

impl std::error::Error for ParseError {}

/// Reads a whole file.
///
/// # Errors
///
/// The first line that does not parse, what was expected there and what was found.
pub fn parse(text: &str) -> Result<Scenario, ParseError> {
    let mut scenario = Scenario::default();
    for (number, line) in text.lines().enumerate() {
        let line_number = number + 1;
        let mut cursor = Cursor::new(line);
        while !cursor.at_end() {
            let command = command(&mut cursor).map_err(|expected| ParseError {
                line: line_number,
                expected,
                found: cursor.here(),
            })?;
            scenario.statements.push(Statement { line: line_number, command });
            // Expectations are short and often come in pairs; everything else has its line for itself.
            if !cursor.at_end() && cursor.peek_word() != "expect" {
                return Err(ParseError {
                    line: line_number,
                    expected: "the end of the line".to_owned(),
                    found: cursor.here(),
                });
            }
        }
    }
    Ok(scenario)
}

const COMMANDS: &str = "a command (seed, config, cluster, start, run, until, partition, cut, heal, delay, loss, \
                        duplicate, reorder, crash, powerloss, restart, wipe, pause, resume, disk, corrupt, clock, \
                        write, read, begin, end, elect, transfer, snapshot, purge, add-learner, members, mark, expect)";

/// The line's first word decides; one arm a command.
fn command(c: &mut Cursor<'_>) -> Read<Command> {
    let start = *c;
    match c.word(COMMANDS)? {
        "seed" => c.number("a seed, a whole number").map(Command::Seed),
        "config" => config(c),
        "cluster" => c.node_ids().map(Command::Cluster),
        "start" => c.node_id().map(Command::Start),
        "run" => c.duration().map(Command::Run),
        "until" => until(c),
        "partition" => partition(c),
        "cut" => c.link().map(Command::Cut),
        "heal" if c.at_end() => Ok(Command::Heal(None)),
        "heal" => c.link().map(|link| Command::Heal(Some(link))),
        "delay" => link_change(c, |c| c.duration().map(LinkChange::Delay)),
        "loss" => link_change(c, |c| c.percent().map(LinkChange::Loss)),
        "duplicate" => link_change(c, |c| c.percent().map(LinkChange::Duplicate)),
        "reorder" => link_change(c, |c| on_or_off(c).map(LinkChange::Reorder)),
        "crash" => c.target().map(Command::Crash),
        "powerloss" => c.target().map(Command::PowerLoss),
        "restart" => c.target().map(Command::Restart),
        "wipe" => c.node().map(Command::Wipe),
        "pause" => c.target().map(Command::Pause),
        "resume" => c.target().map(Command::Resume),
        "disk" => disk(c),
        "corrupt" => corrupt(c),
        "clock" => clock(c),
        "begin" => begin(c),
        "end" => end(c),
        "elect" => c.node().map(Command::Elect),
        "mark" => Ok(Command::Mark),
        "expect" => condition(c, true).map(Command::Expect),
        word if OPERATIONS.contains(&word) => {
            *c = start;
            let (call, ending) = operation(c)?;
            Ok(Command::Do { call, ending: ending.unwrap_or(Ending::Ok) })
        }
        _ => {
            *c = start;
            Err(COMMANDS.to_owned())
        }
    }
}

fn config(c: &mut Cursor<'_>) -> Read<Command> {
    let mut settings = Vec::new();
    while !c.at_end() {
        let name = c.word("a configuration field")?.to_owned();
        if !c.eat("=") {
            return Err("`=`".to_owned());
        }
        settings.push(ConfigSetting { name, value: config_value(c)? });
    }
    if settings.is_empty() { Err("name=value".to_owned()) } else { Ok(Command::Config(settings)) }
}

fn config_value(c: &mut Cursor<'_>) -> Read<ConfigValue> {
    let mut ahead = *c;
    if let Ok(low) = ahead.duration() {
        *c = ahead;
        if !c.eat("..") {
            return Ok(ConfigValue::Time(low));
        }
        let high = c.duration()?;
        return Ok(ConfigValue::Range(low, high));
    }
    let text = c.text("a value")?;
    Ok(match (text, text.parse()) {
        (_, Ok(number)) => ConfigValue::Number(number),
        ("true", _) => ConfigValue::Flag(true),
        ("false", _) => ConfigValue::Flag(false),
        ("never", _) => ConfigValue::Never,
        (word, Err(_)) => ConfigValue::Word(word.to_owned()),
    })
}

fn until(c: &mut Cursor<'_>) -> Read<Command> {
    let condition = condition(c, false)?;
    let within = if c.eat_word("within") { Some(c.duration()?) } else { None };
    Ok(Command::Until { condition, within })
}

fn partition(c: &mut Cursor<'_>) -> Read<Command> {
    let mut groups = vec![c.list(Cursor::node)?];
    while c.eat("|") {
        groups.push(c.list(Cursor::node)?);
    }
    Ok(Command::Partition(groups))
}

fn link_change(c: &mut Cursor<'_>, change: impl Fn(&mut Cursor<'_>) -> Read<LinkChange>) -> Read<Command> {
    let link = c.link()?;
    Ok(Command::LinkChange { link, change: change(c)? })
}

fn on_or_off(c: &mut Cursor<'_>) -> Read<bool> {
    choose(c, &[("on", true), ("off", false)])
}

/// Takes one of a few words.
fn choose<T: Clone>(c: &mut Cursor<'_>, choices: &[(&str, T)]) -> Read<T> {
    for (word, meaning) in choices {
        if c.eat_word(word) {
            return Ok(meaning.clone());
        }
    }
    let words: Vec<String> = choices.iter().map(|(word, _)| format!("`{word}`")).collect();
    Err(words.join(" or "))
}

fn disk(c: &mut Cursor<'_>) -> Read<Command> {
    let node = c.node()?;
    let state = choose(
        c,
        &[("hang", DiskState::Hang), ("ok", DiskState::Ok), ("fail", DiskState::Fail), ("full", DiskState::Full)],
    )?;
    Ok(Command::Disk { node, state })
}

fn corrupt(c: &mut Cursor<'_>) -> Read<Command> {
    let node = c.node()?;
    choose(c, &[("log", ())])?;
    Ok(Command::Corrupt { node, index: c.number("the index of a log entry")? })
}

fn clock(c: &mut Cursor<'_>) -> Read<Command> {
    let node = c.node()?;
    if choose(c, &[("rate", true), ("jump", false)])? {
        match c.millionths("a rate like 1.05")? {
            0 => Err("a rate above 0".to_owned()),
            ppm => Ok(Command::ClockRate { node, ppm }),
        }
    } else {
        Ok(Command::ClockJump { node, ahead: c.duration()? })
    }
}

const OPERATIONS: &[&str] = &["write", "read", "transfer", "snapshot", "purge", "add-learner", "members"];

fn begin(c: &mut Cursor<'_>) -> Read<Command> {
    let name = c.word("a name for the operation")?.to_owned();
    if !OPERATIONS.contains(&c.peek_word()) {
        return Err("an operation (write, read, transfer, snapshot, purge, add-learner, members)".to_owned());
    }
    match operation(c)? {
        (call, None) => Ok(Command::Begin { name, call }),
        (_, Some(_)) => Err("no ending here: `end` says it".to_owned()),
    }
}

fn end(c: &mut Cursor<'_>) -> Read<Command> {
    let name = c.word("the name of a begun operation")?.to_owned();
    let expected = if c.eat_word("ok") {
        Expected::Ended(Ending::Ok)
    } else if c.eat_word("pending") {
        Expected::Pending
    } else if c.eat_word("fails") {
        Expected::Ended(Ending::Fails(failure(c)?))
    } else {
        return Err("`ok`, `fails` or `pending`".to_owned());
    };
    Ok(Command::End { name, expected })
}

fn failure(c: &mut Cursor<'_>) -> Read<Failure> {
    if c.eat_word("forward") {
        let named = *c;
        return Ok(Failure::Forward(c.node_id().ok().or_else(|| {
            *c = named;
            None
        })));
    }
    if c.eat_word("unknown") {
        return Ok(Failure::Unknown);
    }
    if c.eat_word("busy") {
        return Ok(Failure::Busy);
    }
    Ok(Failure::Any)
}

/// An operation with what may follow any: `fails ...`, `within ...`, and the words of its own, in any order.
fn operation(c: &mut Cursor<'_>) -> Read<(OperationCall, Option<Ending>)> {
    let mut operation = match c.word("an operation")? {
        "write" => write(c)?,
        "read" => read(c)?,
        "transfer" => {
            let from = c.node()?;
            choose(c, &[("to", ())])?;
            Operation::Transfer { from, to: c.node()? }
        }
        "snapshot" => Operation::Snapshot(c.node()?),
        "purge" => {
            let node = c.node()?;
            choose(c, &[("to", ())])?;
            Operation::Purge { node, to: c.number("the index of a log entry")? }
        }
        "add-learner" => Operation::AddLearner { node: c.node_id()?, nowait: false },
        "members" => Operation::Members { voters: c.node_ids()?, retain: false },
        _ => return Err("an operation".to_owned()),
    };
    let mut within = None;
    let mut ending = None;
    loop {
        match (&mut operation, c.peek_word()) {
            (_, "fails") if ending.is_none() => {
                c.eat_word("fails");
                ending = Some(Ending::Fails(failure(c)?));
            }
            (_, "within") if within.is_none() => {
                c.eat_word("within");
                within = Some(c.duration()?);
            }
            (Operation::Read { via, .. }, "via") => {
                c.eat_word("via");
                *via = read_via(c)?;
            }
            (Operation::AddLearner { nowait, .. }, "nowait") => *nowait = c.eat_word("nowait"),
            (Operation::Members { retain, .. }, "retain") => *retain = c.eat_word("retain"),
            _ => return Ok((OperationCall { operation, within }, ending)),
        }
    }
}

fn write(c: &mut Cursor<'_>) -> Read<Operation> {
    let node = c.node()?;
    let key = c.key()?.to_owned();
    if !c.eat("=") {
        return Err("`=` and a value".to_owned());
    }
    Ok(Operation::Write { node, key, value: c.text("a value")?.to_owned() })
}

fn read(c: &mut Cursor<'_>) -> Read<Operation> {
    let node = c.node()?;
    let key = c.key()?.to_owned();
    let expected = if c.eat("=") { Some(value_or_none(c)?) } else { None };
    Ok(Operation::Read { node, key, expected, via: ReadVia::default() })
}

fn value_or_none(c: &mut Cursor<'_>) -> Read<Option<String>> {
    match c.text("a value or `none`")? {
        "none" => Ok(None),
        value => Ok(Some(value.to_owned())),
    }
}

fn read_via(c: &mut Cursor<'_>) -> Read<ReadVia> {
    choose(
        c,
        &[
            ("read-index", ReadVia::ReadIndex),
            ("lease", ReadVia::Lease),
            ("follower", ReadVia::Follower),
            ("stale", ReadVia::Stale),
        ],
    )
}

const CONDITIONS: &str = "a condition (leader, no leader, role, same-leader, same-term, term, applied, committed, \
                          last-log, snapshot, purged, value, voters, learners, member, agree, linearizable, up, stopped)";

/// `named` says whether a leader must be named: `expect leader` alone would be true of any.
fn condition(c: &mut Cursor<'_>, named: bool) -> Read<Condition> {
    let start = *c;
    match c.word(CONDITIONS)? {
        "leader" => leader_is(c, named).map(Condition::Leader),
        "no" => choose(c, &[("leader", Condition::NoLeader)]),
        "role" => role(c),
        "same-leader" => Ok(Condition::SameLeader),
        "same-term" => Ok(Condition::SameTerm),
        "term" => number(c, Number::Term),
        "applied" => number(c, Number::Applied),
        "committed" => number(c, Number::Committed),
        "last-log" => number(c, Number::LastLog),
        "snapshot" => number(c, Number::Snapshot),
        "purged" => number(c, Number::Purged),
        "value" => value(c),
        "voters" => voters(c),
        "learners" => learners(c),
        "member" => member(c),
        "agree" => Ok(Condition::Agree),
        "linearizable" => Ok(Condition::Linearizable),
        "up" => c.node().map(Condition::Up),
        "stopped" => c.node().map(Condition::Stopped),
        _ => {
            *c = start;
            Err(CONDITIONS.to_owned())
        }
    }
}

fn leader_is(c: &mut Cursor<'_>, named: bool) -> Read<LeaderIs> {
    if c.eat_word("in") {
        return c.node_ids().map(LeaderIs::OneOf);
    }
    let mut ahead = *c;
    match ahead.node_id() {
        Ok(id) => {
            *c = ahead;
            Ok(LeaderIs::OneOf(vec![id]))
        }
        Err(_) if named && !c.at_end() => Err("a node id or `in` and node ids".to_owned()),
        Err(_) => Ok(LeaderIs::Known),
    }
}

fn role(c: &mut Cursor<'_>) -> Read<Condition> {
    let node = c.node()?;
    let role = choose(
        c,
        &[
            ("learner", RoleName::Learner),
            ("follower", RoleName::Follower),
            ("candidate", RoleName::Candidate),
            ("leader", RoleName::Leader),
            ("stopped", RoleName::Stopped),
        ],
    )?;
    Ok(Condition::Role { node, role })
}

fn number(c: &mut Cursor<'_>, number: Number) -> Read<Condition> {
    let node = c.node()?;
    let comparison = comparison(c)?;
    Ok(Condition::Number { number, node, comparison, to: c.number("a whole number")? })
}

fn comparison(c: &mut Cursor<'_>) -> Read<Comparison> {
    // The longer signs first: `>=` begins with `>`.
    let signs = [
        (">=", Comparison::AtLeast),
        ("<=", Comparison::AtMost),
        ("=", Comparison::Equal),
        (">", Comparison::Above),
        ("<", Comparison::Below),
    ];
    for (sign, comparison) in signs {
        if c.eat(sign) {
            return Ok(comparison);
        }
    }
    Err("`=`, `>=`, `<=`, `>` or `<`".to_owned())
}

fn equals(c: &mut Cursor<'_>) -> Read<()> {
    if c.eat("=") { Ok(()) } else { Err("`=`".to_owned()) }
}

fn value(c: &mut Cursor<'_>) -> Read<Condition> {
    let who = c.target()?;
    let key = c.key()?.to_owned();
    equals(c)?;
    Ok(Condition::Value { who, key, value: value_or_none(c)? })
}

fn voters(c: &mut Cursor<'_>) -> Read<Condition> {
    let node = c.node()?;
    equals(c)?;
    let mut sets = vec![c.node_ids()?];
    while c.eat("&") {
        sets.push(c.node_ids()?);
    }
    Ok(Condition::Voters { node, sets })
}

fn learners(c: &mut Cursor<'_>) -> Read<Condition> {
    let node = c.node()?;
    equals(c)?;
    let ids = if c.eat_word("none") { Vec::new() } else { c.node_ids()? };
    Ok(Condition::Learners { node, ids })
}

fn member(c: &mut Cursor<'_>) -> Read<Condition> {
    let id = c.node_id()?;
    let kind = choose(c, &[("voter", MemberKind::Voter), ("learner", MemberKind::Learner)])?;
    Ok(Condition::Member { id, kind })
}
