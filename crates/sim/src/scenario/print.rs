//! From [`Scenario`] back to text, in one normal form: what is printed parses to the same commands.

use core::fmt::{Display, Formatter, Result};
use core::time::Duration;

use super::ast::{
    Command, Comparison, Condition, ConfigSetting, ConfigValue, DiskState, Ending, Expected, Failure, LeaderIs, Link,
    LinkChange, MemberKind, NodeRef, Number, Operation, OperationCall, ReadVia, RoleName, Scenario, Target,
};

impl Display for Scenario {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        self.statements.iter().try_for_each(|statement| writeln!(f, "{}", statement.command))
    }
}

/// Things with commas between.
struct Commas<'a, T>(&'a [T]);

impl<T: Display> Display for Commas<'_, T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        joined(f, self.0, ",")
    }
}

fn joined<T: Display>(f: &mut Formatter<'_>, items: &[T], between: &str) -> Result {
    for (place, item) in items.iter().enumerate() {
        let before = if place == 0 { "" } else { between };
        write!(f, "{before}{item}")?;
    }
    Ok(())
}

/// A length of time in the largest unit that shows it without a fraction, or in milliseconds with one.
struct Time(Duration);

impl Display for Time {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let nanos = self.0.as_nanos();
        match (nanos / 1_000_000, nanos % 1_000_000) {
            (millis, 0) if millis % 1_000 == 0 => write!(f, "{}s", millis / 1_000),
            (millis, 0) => write!(f, "{millis}ms"),
            (millis, rest) => write!(f, "{}ms", trimmed(format!("{millis}.{rest:06}"))),
        }
    }
}

fn trimmed(number: String) -> String {
    number.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Parts in `unit` as a decimal number.
fn decimal(parts: u64, unit: u64, digits: usize) -> String {
    trimmed(format!("{}.{:0digits$}", parts / unit, parts % unit))
}

impl Display for NodeRef {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            NodeRef::Id(id) => write!(f, "{id}"),
            NodeRef::Leader => f.write_str("leader"),
        }
    }
}

impl Display for Target {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Target::Node(node) => write!(f, "{node}"),
            Target::All => f.write_str("all"),
        }
    }
}

impl Display for Link {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let sign = if self.both { "-" } else { "->" };
        write!(f, "{} {sign} {}", self.from, self.to)
    }
}

impl Display for Command {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Command::Seed(seed) => write!(f, "seed {seed}"),
            Command::Config(settings) => {
                f.write_str("config ")?;
                joined(f, settings, " ")
            }
            Command::Cluster(ids) => write!(f, "cluster {}", Commas(ids)),
            Command::Start(id) => write!(f, "start {id}"),
            Command::Run(time) => write!(f, "run {}", Time(*time)),
            Command::Until { condition, within } => {
                write!(f, "until {condition}")?;
                within.iter().try_for_each(|within| write!(f, " within {}", Time(*within)))
            }
            Command::Partition(groups) => {
                let groups: Vec<String> = groups.iter().map(|group| Commas(group).to_string()).collect();
                f.write_str("partition ")?;
                joined(f, &groups, " | ")
            }
            Command::Cut(link) => write!(f, "cut {link}"),
            Command::Heal(None) => f.write_str("heal"),
            Command::Heal(Some(link)) => write!(f, "heal {link}"),
            Command::LinkChange { link, change } => link_change(f, link, change),
            Command::Crash(target) => write!(f, "crash {target}"),
            Command::PowerLoss(target) => write!(f, "powerloss {target}"),
            Command::Restart(target) => write!(f, "restart {target}"),
            Command::Wipe(node) => write!(f, "wipe {node}"),
            Command::Pause(target) => write!(f, "pause {target}"),
            Command::Resume(target) => write!(f, "resume {target}"),
            Command::Disk { node, state } => write!(f, "disk {node} {state}"),
            Command::Corrupt { node, index } => write!(f, "corrupt {node} log {index}"),
            Command::ClockRate { node, ppm } => write!(f, "clock {node} rate {}", decimal(*ppm, 1_000_000, 6)),
            Command::ClockJump { node, ahead } => write!(f, "clock {node} jump {}", Time(*ahead)),
            Command::Do { call, ending } => write!(f, "{call}{ending}"),
            Command::Begin { name, call } => write!(f, "begin {name} {call}"),
            Command::End { name, expected } => write!(f, "end {name}{expected}"),
            Command::Elect(node) => write!(f, "elect {node}"),
            Command::Mark => f.write_str("mark"),
            Command::Expect(condition) => write!(f, "expect {condition}"),
        }
    }
}

fn link_change(f: &mut Formatter<'_>, link: &Link, change: &LinkChange) -> Result {
    let percent = |ppm: u32| decimal(u64::from(ppm), 10_000, 4);
    match change {
        LinkChange::Delay(delay) => write!(f, "delay {link} {}", Time(*delay)),
        LinkChange::Loss(ppm) => write!(f, "loss {link} {}%", percent(*ppm)),
        LinkChange::Duplicate(ppm) => write!(f, "duplicate {link} {}%", percent(*ppm)),
        LinkChange::Reorder(true) => write!(f, "reorder {link} on"),
        LinkChange::Reorder(false) => write!(f, "reorder {link} off"),
    }
}

impl Display for ConfigSetting {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{}=", self.name)?;
        match &self.value {
            ConfigValue::Range(low, high) => write!(f, "{}..{}", Time(*low), Time(*high)),
            ConfigValue::Time(time) => write!(f, "{}", Time(*time)),
            ConfigValue::Flag(flag) => write!(f, "{flag}"),
            ConfigValue::Never => f.write_str("never"),
            ConfigValue::Number(number) => write!(f, "{number}"),
            ConfigValue::Word(word) => f.write_str(word),
        }
    }
}

impl Display for DiskState {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            DiskState::Ok => "ok",
            DiskState::Hang => "hang",
            DiskState::Fail => "fail",
            DiskState::Full => "full",
        })
    }
}

impl Display for OperationCall {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match &self.operation {
            Operation::Write { node, key, value } => write!(f, "write {node} {key}={value}")?,
            Operation::Read { node, key, expected, via } => {
                write!(f, "read {node} {key}")?;
                expected.iter().try_for_each(|value| write!(f, " = {}", value.as_deref().unwrap_or("none")))?;
                write!(f, "{via}")?;
            }
            Operation::Transfer { from, to } => write!(f, "transfer {from} to {to}")?,
            Operation::Snapshot(node) => write!(f, "snapshot {node}")?,
            Operation::Purge { node, to } => write!(f, "purge {node} to {to}")?,
            Operation::AddLearner { node, nowait } => {
                write!(f, "add-learner {node}{}", if *nowait { " nowait" } else { "" })?;
            }
            Operation::Members { voters, retain } => {
                write!(f, "members {}{}", Commas(voters), if *retain { " retain" } else { "" })?;
            }
        }
        self.within.iter().try_for_each(|within| write!(f, " within {}", Time(*within)))
    }
}

impl Display for ReadVia {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            ReadVia::ReadIndex => "",
            ReadVia::Lease => " via lease",
            ReadVia::Follower => " via follower",
            ReadVia::Stale => " via stale",
        })
    }
}

/// With a space before it, as it follows an operation; success is not said.
impl Display for Ending {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Ending::Ok => Ok(()),
            Ending::Fails(failure) => write!(f, " {failure}"),
        }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Failure::Any => f.write_str("fails"),
            Failure::Forward(None) => f.write_str("fails forward"),
            Failure::Forward(Some(id)) => write!(f, "fails forward {id}"),
            Failure::Unknown => f.write_str("fails unknown"),
            Failure::Busy => f.write_str("fails busy"),
        }
    }
}

impl Display for Expected {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Expected::Ended(Ending::Ok) => f.write_str(" ok"),
            Expected::Ended(Ending::Fails(failure)) => write!(f, " {failure}"),
            Expected::Pending => f.write_str(" pending"),
        }
    }
}

impl Display for Condition {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Condition::Leader(LeaderIs::Known) => f.write_str("leader"),
            Condition::Leader(LeaderIs::OneOf(ids)) if ids.len() == 1 => write!(f, "leader {}", Commas(ids)),
            Condition::Leader(LeaderIs::OneOf(ids)) => write!(f, "leader in {}", Commas(ids)),
            Condition::NoLeader => f.write_str("no leader"),
            Condition::Role { node, role } => write!(f, "role {node} {role}"),
            Condition::SameLeader => f.write_str("same-leader"),
            Condition::SameTerm => f.write_str("same-term"),
            Condition::Number { number, node, comparison, to } => write!(f, "{number} {node} {comparison} {to}"),
            Condition::Value { who, key, value } => {
                write!(f, "value {who} {key} = {}", value.as_deref().unwrap_or("none"))
            }
            Condition::Voters { node, sets } => {
                let sets: Vec<String> = sets.iter().map(|set| Commas(set).to_string()).collect();
                write!(f, "voters {node} = ")?;
                joined(f, &sets, " & ")
            }
            Condition::Learners { node, ids } if ids.is_empty() => write!(f, "learners {node} = none"),
            Condition::Learners { node, ids } => write!(f, "learners {node} = {}", Commas(ids)),
            Condition::Member { id, kind: MemberKind::Voter } => write!(f, "member {id} voter"),
            Condition::Member { id, kind: MemberKind::Learner } => write!(f, "member {id} learner"),
            Condition::Agree => f.write_str("agree"),
            Condition::Linearizable => f.write_str("linearizable"),
            Condition::Up(node) => write!(f, "up {node}"),
            Condition::Stopped(node) => write!(f, "stopped {node}"),
        }
    }
}

impl Display for RoleName {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            RoleName::Learner => "learner",
            RoleName::Follower => "follower",
            RoleName::Candidate => "candidate",
            RoleName::Leader => "leader",
            RoleName::Stopped => "stopped",
        })
    }
}

impl Display for Number {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Number::Term => "term",
            Number::Applied => "applied",
            Number::Committed => "committed",
            Number::LastLog => "last-log",
            Number::Snapshot => "snapshot",
            Number::Purged => "purged",
        })
    }
}

impl Display for Comparison {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Comparison::Equal => "=",
            Comparison::AtLeast => ">=",
            Comparison::AtMost => "<=",
            Comparison::Above => ">",
            Comparison::Below => "<",
        })
    }
}
