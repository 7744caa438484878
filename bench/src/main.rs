//! Side-by-side measurements against other systems: `cargo run --release --manifest-path bench/Cargo.toml -- wal`.

mod open;
mod wal;

use std::process::ExitCode;

const USAGE: &str = "usage: bench wal [--rounds N] [--millis N] [--dir PATH] [--only NAME]... [--load COLUMN]\n       \
    bench open [--dir PATH]\n\
    measures durable logs; --dir is on the disk to measure (default: the current directory)";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.split_first() {
        Some((command, rest)) if command == "wal" => wal::run(rest),
        Some((command, rest)) if command == "open" => open::run(rest),
        Some(_) | None => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
