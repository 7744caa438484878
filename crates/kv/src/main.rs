//! The binary `raftwright`: see [`raftwright_kv::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    raftwright_kv::cli::main()
}
