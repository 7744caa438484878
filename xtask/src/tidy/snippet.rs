//! The first program of the README is the file that runs: `cargo xtask fix` copies it, this rule compares.

use super::Complaint;
use super::tree::Tree;

/// Where the program is shown.
pub const README: &str = "README.md";
/// The program.
pub const PROGRAM: &str = "examples/hello-cluster/src/main.rs";

const OPEN: &str = "<!-- hello-cluster -->\n";
const CLOSE: &str = "<!-- /hello-cluster -->";

/// Checks that the README shows the program as it is.
pub fn check(tree: &Tree) -> Vec<Complaint> {
    let (Some(readme), Some(program)) = (tree.text(README), tree.text(PROGRAM)) else {
        return vec![Complaint::about(README, format!("{README} and {PROGRAM} must both exist"))];
    };
    match replaced(readme, program) {
        Ok(fresh) if fresh == readme => Vec::new(),
        Ok(_) => vec![Complaint::about(README, format!("does not show {PROGRAM} as it is: run `cargo xtask fix`"))],
        Err(why) => vec![Complaint::about(README, why)],
    }
}

/// The README with the program between its two marks.
///
/// # Errors
/// A mark is missing.
pub fn replaced(readme: &str, program: &str) -> Result<String, String> {
    let missing = || format!("the marks `{}` and `{CLOSE}` are missing", OPEN.trim_end());
    let (before, rest) = readme.split_once(OPEN).ok_or_else(missing)?;
    let (_, after) = rest.split_once(CLOSE).ok_or_else(missing)?;
    Ok(format!("{before}{OPEN}```rust\n{}\n```\n{CLOSE}{after}", program.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_put_between_the_marks_and_nothing_else_changes() {
        let readme = format!("# A\n{OPEN}old\n{CLOSE}\nend\n");
        let fresh = replaced(&readme, "fn main() {}\n").unwrap();
        assert_eq!(fresh, format!("# A\n{OPEN}```rust\nfn main() {{}}\n```\n{CLOSE}\nend\n"));
        assert_eq!(replaced(&fresh, "fn main() {}\n").unwrap(), fresh);
        assert!(replaced("no marks", "").is_err());
    }

    #[test]
    fn a_stale_copy_is_found() {
        let tree = |shown: &str| {
            let readme = format!("{OPEN}```rust\n{shown}\n```\n{CLOSE}\n");
            check(&Tree::of(&[(README, &readme), (PROGRAM, "fn main() {}\n")])).len()
        };
        assert_eq!(tree("fn main() {}"), 0);
        assert_eq!(tree("fn main() { old() }"), 1);
    }
}
