//! The language of scenario files: each form parses to what it means, prints back, and errors say line and expectation.

#![allow(clippy::panic, clippy::expect_used, clippy::unwrap_used)] // a test fails by panicking

use core::time::Duration;

use raftwright_sim::scenario::{Command, Condition, ConfigValue, LeaderIs, Operation, ReadVia, parse};

/// Every form of the language, each on a line.
const EVERYTHING: &str = "
# comment, to the end of the line
seed 7
config election_timeout=150ms..300ms heartbeat_interval=50ms snapshot_every=never pre_vote=true max=64 policy=lan
cluster 1,2,3                 # nodes 1,2,3
start 4
run 500ms
run 1.5s
until leader
until leader within 5s
until leader 2
until leader in 2,3 within 5s
until applied 3 >= 7 within 5s
until member 4 voter within 5s
until no leader
partition 1,2 | 3
partition leader | 1 | 2,3
cut 1 -> 2
cut 1 - 2
cut leader->2
heal
heal 1 - 2
heal 1 -> 2
delay 1 - 2 80ms
loss 1 - 2 20%
loss 1 -> 2 0.5%
duplicate 1 - 2 5%
reorder 1 - 2 on
reorder 1 - 2 off
crash 2
crash leader
powerloss 2
powerloss all
restart 2
restart all
wipe 2
pause 2
resume 2
disk 2 hang
disk 2 ok
disk 2 fail
disk 2 full
corrupt 2 log 12
clock 2 rate 1.05
clock 2 rate 0.9
clock 2 jump 3s
write 1 a=1
write leader a=1
write leader a=x=y,z-3
write 2 a=2 fails forward 1
write 2 a=2 fails forward
write 2 a=2 fails unknown
write 2 a=2 fails busy
write 2 a=2 fails
write 2 a=2 within 1s
write 2 a=2 fails unknown within 1s
begin w1 write 1 b=1
end w1 ok
end w1 fails unknown
end w1 fails forward 3
end w1 pending
read leader a = 1
read leader a = none
read 2 a = 1 via lease
read 2 a = 1 via read-index
read 2 a = 1 via follower
read 2 a = 1 via stale
read 1 a fails
read 1 a via lease fails within 300ms
elect 2
transfer leader to 3
transfer leader to 3 fails
snapshot 1
purge 1 to 10
add-learner 4
add-learner 4 nowait
members 1,2,4
members 1,2,4 retain
members 1,2,4 fails
begin m1 members 1,2,4
end m1 ok
mark
expect leader 1
expect leader in 2,3
expect no leader
expect role 3 learner
expect role 3 follower
expect role leader leader
expect role 3 candidate
expect role 3 stopped
expect same-leader
expect same-term
expect term 1 >= 3
expect term 1 = 3
expect term 1 <= 3
expect term 1 > 3
expect term 1 <3
expect applied 2 >= 5
expect committed 2 = 7
expect last-log 2 = 9
expect snapshot 2 >= 5
expect purged 1 = 10
expect value 3 a = 1
expect value 3 a = none
expect value all a = 1
expect voters 1 = 1,2,3
expect voters 1 = 1,2,3 & 1,2,4
expect learners 1 = 4
expect learners 1 = none
expect agree
expect linearizable
expect up 2                   expect stopped 3
";

#[test]
fn every_form_parses_and_prints_to_the_same_commands() {
    let scenario = parse(EVERYTHING).expect("all of the language parses");
    let commands: Vec<_> = scenario.statements.iter().map(|statement| statement.command.clone()).collect();
    let printed = scenario.to_string();
    let again = parse(&printed).expect("what is printed parses");
    let commands_again: Vec<_> = again.statements.iter().map(|statement| statement.command.clone()).collect();
    assert_eq!(commands, commands_again);
    // The normal form is a fixed point.
    assert_eq!(printed, again.to_string());
    // Nothing was skipped: one command a line, and one line with two.
    let lines = EVERYTHING.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).count();
    assert_eq!(commands.len(), lines + 1);
    assert_eq!(scenario.seed(), Some(7));
}

#[test]
fn details_mean_what_they_say() {
    let one = |line: &str| parse(line).expect(line).statements.remove(0).command;
    let Command::Config(settings) = one("config a=150ms..300ms b=1s c=12 d=never e=false f=word") else { panic!() };
    let values: Vec<_> = settings.into_iter().map(|setting| setting.value).collect();
    assert_eq!(
        values,
        [
            ConfigValue::Range(Duration::from_millis(150), Duration::from_millis(300)),
            ConfigValue::Time(Duration::from_secs(1)),
            ConfigValue::Number(12),
            ConfigValue::Never,
            ConfigValue::Flag(false),
            ConfigValue::Word("word".to_owned()),
        ]
    );
    assert!(matches!(one("clock 2 rate 1.05"), Command::ClockRate { ppm: 1_050_000, .. }));
    let Command::Do { call, .. } = one("read 2 a = none via lease within 2s") else { panic!() };
    assert_eq!(call.within, Some(Duration::from_secs(2)));
    let Operation::Read { expected: Some(None), via: ReadVia::Lease, .. } = call.operation else { panic!() };
    assert_eq!(one("expect leader 2"), Command::Expect(Condition::Leader(LeaderIs::OneOf(vec![2]))));
    assert_eq!(parse("\n\n  run 1s # x").expect("parses").statements[0].line, 3);
}

#[track_caller]
fn refused(text: &str, line: usize, expected: &str, found: &str) {
    let error = parse(text).expect_err(text);
    assert_eq!(error.line, line, "{error}");
    assert!(error.expected.contains(expected), "{error}");
    assert_eq!(error.found, found, "{error}");
}

#[test]
fn an_error_names_the_line_what_was_expected_and_what_stands_there() {
    refused("seed 1\nflush 2", 2, "a command (seed", "`flush`");
    refused("cluster 1,,3", 1, "a node id", "`,3`");
    refused("cluster 1,2,1", 1, "each node id once", "the end of the line");
    refused("run 5", 1, "a time like 80ms or 3s", "`5`");
    refused("run 5 s", 1, "a time like 80ms or 3s", "`5`");
    refused("run 5m", 1, "a time", "`5m`");
    refused("loss 1 - 2 200%", 1, "a percentage from 0% to 100%", "the end of the line");
    refused("cut 1 2", 1, "`->` or `-`", "`2`");
    refused("write 1 a", 1, "`=` and a value", "the end of the line");
    refused("write 1 a=", 1, "a value", "the end of the line");
    refused("write 1 a=1 maybe", 1, "the end of the line", "`maybe`");
    refused("write 1 a=1 run 1s", 1, "the end of the line", "`run`");
    refused("disk 2 slow", 1, "`hang` or `ok` or `fail` or `full`", "`slow`");
    refused("clock 2 rate 0", 1, "a rate above 0", "the end of the line");
    refused("expect applied 2 != 5", 1, "`=`, `>=`", "`!=`");
    refused("expect nothing", 1, "a condition (leader", "`nothing`");
    refused("begin w1 heal", 1, "an operation", "`heal`");
    refused("begin w1 write 1 a=1 fails", 1, "`end` says it", "the end of the line");
    refused("end w1 maybe", 1, "`ok`, `fails` or `pending`", "`maybe`");
    refused("seed 99999999999999999999999", 1, "a whole number", "`99999999999999999999999`");
}

/// Whatever is cut off a line, the parser answers and does not fall over.
#[test]
fn no_prefix_and_no_damaged_line_brings_the_parser_down() {
    for line in EVERYTHING.lines() {
        for (end, _) in line.char_indices() {
            let _ = parse(&line[..end]);
            let _ = parse(&format!("{}ß{}", &line[..end], &line[end..]));
        }
    }
}
