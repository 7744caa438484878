//! The protocol stories of `tests/scripts`. `RAFTWRIGHT_REWRITE=1 cargo test -p raftwright-core scripts` writes what happens
//! now into the files; then read the difference.

use std::path::{Path, PathBuf};

use crate::script;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts")
}

fn check(path: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(path).unwrap();
    let now = script::run(&text);
    if now == text {
        return Ok(());
    }
    if std::env::var_os("RAFTWRIGHT_REWRITE").is_some() {
        std::fs::write(path, &now).unwrap();
        return Ok(());
    }
    let line = text.lines().zip(now.lines()).take_while(|(was, is)| was == is).count();
    let (was, is) = (text.lines().nth(line).unwrap_or("(end)"), now.lines().nth(line).unwrap_or("(end)"));
    Err(format!("{}:{}\n  the story says: {was}\n  what happens:   {is}", path.display(), line + 1))
}

#[test]
fn every_story_happens_as_it_is_told() {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let wrong: Vec<String> = paths.iter().filter_map(|path| check(path).err()).collect();
    assert!(wrong.is_empty(), "{} stories happen otherwise\n{}", wrong.len(), wrong.join("\n"));
    assert!(paths.len() >= 25, "the stories are there");
}
