//! All targets behind libFuzzer's one door: the environment variable `FUZZ_TARGET` says which. Started by `fuzz/run`.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use raftwright_fuzz::{Target, target};

static CHOSEN: OnceLock<&'static Target> = OnceLock::new();

fuzz_target!(|data: &[u8]| {
    let chosen = CHOSEN.get_or_init(|| {
        let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names the target");
        target(&name).expect("FUZZ_TARGET is the name of a target")
    });
    (chosen.run)(data);
});
