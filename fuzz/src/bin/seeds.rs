//! Writes the first inputs of every corpus: `cargo run --bin seeds`, in `fuzz/`.

use std::fs;
use std::path::Path;

fn main() -> std::io::Result<()> {
    for target in raftwright_fuzz::TARGETS {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
        fs::create_dir_all(&dir)?;
        for (number, seed) in (target.seeds)().into_iter().enumerate() {
            fs::write(dir.join(format!("seed-{number}")), seed)?;
        }
    }
    Ok(())
}
