//! `cargo xtask <chore>`.

use std::process::ExitCode;

use xtask::{root, rows, steps, tidy};

const USAGE: &str = "\
usage: cargo xtask <chore>

  verify   check everything that can be checked without starting a server; writes nothing but build output
  fix      its twin: format, apply what clippy can mend, redraw
  redraw   rewrite what is drawn from code: the first program in the README, the table of bounds
  tidy     the house rules alone (they also run as a unit test)
  rows     the tests that the tables of docs name: all, or those under a path (`cargo xtask rows crates/node`), or those
           of a section (`cargo xtask rows \"The handle\"`)
  deps     how many crates the libraries bring along, against their budgets";

fn main() -> ExitCode {
    let root = root();
    let chore = std::env::args().nth(1);
    let done = match chore.as_deref() {
        Some("verify") => steps::verify(&root),
        Some("fix") => steps::fix(&root),
        Some("redraw") => steps::redraw(&root),
        Some("tidy") => tidy::report(&root),
        Some("deps") => steps::deps(&root),
        Some("rows") => rows::run(&root, std::env::args().nth(2).as_deref()),
        Some("help" | "--help" | "-h") | None => {
            println!("{USAGE}");
            Ok(())
        }
        Some(other) => Err(format!("no such chore: {other}\n\n{USAGE}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
