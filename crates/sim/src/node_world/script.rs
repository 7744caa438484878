//! A run as a scenario file.

use core::fmt::Write;

use super::drive::Drive;
use super::workload::Workload;
use crate::world::SimTime;

/// What was done to the world of a recorded run, in the language of scenario files, up to its failure. What clients asked
/// stands in comments: a scenario has clients of its own, one command a line.
pub fn script<W: Workload>(seed: u64, drive: &Drive<W>) -> String {
    let mut text = String::new();
    let profile = &drive.profile;
    let config = &profile.config;
    // Writing to a string cannot fail.
    let _ = match &drive.failure {
        Some(failure) => {
            writeln!(text, "# Shrunk from seed {seed}, which fails: {}", failure.to_string().replace('\n', " "))
        }
        None => writeln!(text, "# Seed {seed}, which passes."),
    };
    let voters: Vec<String> = (1..=profile.voters).map(|id| id.to_string()).collect();
    let _ = writeln!(
        text,
        "seed {seed}\nconfig election_timeout={}ms..{}ms heartbeat_interval={}ms pre_vote={}\ncluster {}",
        config.election_timeout_min,
        config.election_timeout_max,
        config.heartbeat_interval,
        config.pre_vote,
        voters.join(",")
    );
    for spare in profile.voters + 1..=profile.voters + profile.spares {
        let _ = writeln!(text, "start {spare}");
    }
    let mut at = SimTime::ZERO;
    let mut pending = 0u128;
    for (moment, line) in drive.script() {
        pending += moment.since(at).as_micros();
        at = *moment;
        // The language counts whole milliseconds.
        if pending >= 1_000 && !line.starts_with('#') {
            let _ = writeln!(text, "run {}ms", pending / 1_000);
            pending %= 1_000;
        }
        let _ = writeln!(text, "{line}");
    }
    let _ = writeln!(text, "heal\nrestart all\nrun 5s\nexpect agree\nexpect linearizable");
    text
}
