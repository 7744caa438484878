//! Citations: `Raft §5.4.2` for a section of the paper, `Thesis §6.4` for one of the dissertation, and no other form, so that
//! all that a section has led to can be searched for; a standard as `RFC 9110 §5.1`. A section that does not exist cannot be cited.

use super::Complaint;
use super::rust_text::split;
use super::tree::Tree;

/// The paper: "In Search of an Understandable Consensus Algorithm", extended version.
const RAFT: &[&str] = &[
    "1", "2", "3", "4", "5", "5.1", "5.2", "5.3", "5.4", "5.4.1", "5.4.2", "5.4.3", "5.5", "5.6", "6", "7", "8", "9",
    "9.1", "9.2", "9.3", "10", "11",
];

/// The dissertation: "Consensus: Bridging Theory and Practice". The chapters that speak about protocol and implementation.
const THESIS: &[&str] = &[
    "3", "3.1", "3.2", "3.3", "3.4", "3.5", "3.6", "3.6.1", "3.6.2", "3.6.3", "3.7", "3.8", "3.9", "3.10", "3.11", "4",
    "4.1", "4.2", "4.2.1", "4.2.2", "4.2.3", "4.2.4", "4.3", "4.4", "4.5", "5", "5.1", "5.1.1", "5.1.2", "5.1.3",
    "5.2", "5.3", "5.3.1", "5.3.2", "5.3.3", "5.4", "5.4.1", "5.4.2", "5.5", "6", "6.1", "6.2", "6.3", "6.4", "6.4.1",
    "6.5", "8", "8.1", "8.2", "8.3", "9", "9.1", "9.2", "9.3", "9.4", "9.5", "9.6", "10", "10.1", "10.1.1", "10.2",
    "10.2.1", "10.2.2", "10.3",
];

/// Checks the comments of Rust files and the whole of Markdown files.
pub fn check(tree: &Tree) -> Vec<Complaint> {
    let comments = tree.rust().map(|(path, text)| (path, split(text).comments));
    let prose = tree.files(".md").map(|(path, text)| (path, text.to_owned()));
    comments.chain(prose).flat_map(|(path, text)| citations(path, &text)).collect()
}

fn citations(path: &str, text: &str) -> Vec<Complaint> {
    let mut found = Vec::new();
    // A citation may be broken over two lines of prose: what stands before the sign is looked for across the break.
    let mut before = String::new();
    for (i, line) in text.lines().enumerate() {
        for (at, _) in line.match_indices('§') {
            let number: String =
                line[at + '§'.len_utf8()..].chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
            let number = number.trim_end_matches('.');
            let head = format!("{before} {}", &line[..at]);
            let head = head.trim_end_matches(|c: char| c.is_whitespace() || "/!*#".contains(c));
            let source = head.rsplit(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
            let what = match source {
                "Raft" if RAFT.contains(&number) => continue,
                "Thesis" if THESIS.contains(&number) => continue,
                _ if ends_with_rfc(head) => continue,
                "Raft" => format!("the paper has no section `{number}`"),
                "Thesis" => format!("the dissertation has no section `{number}` on the protocol"),
                _ => format!("`§{number}`: say of what, as `Raft §5.2` or `Thesis §6.4`"),
            };
            found.push(Complaint::at(path, i + 1, what));
        }
        before = line.to_owned();
    }
    found
}

/// Standards are cited as `RFC 9110 §5.1`; which sections they have is not known here.
fn ends_with_rfc(head: &str) -> bool {
    let name = head.trim_end_matches(',');
    let number = name.trim_end_matches(|c: char| c.is_ascii_digit());
    number.len() < name.len() && number.trim_end().ends_with("RFC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_form_is_accepted() {
        for text in [
            "(Raft §5.4.2)",
            "see Raft §5.1.",
            "// Raft §6, Thesis §4.3",
            "RFC 4648 §4",
            "(RFC 4648, §4)",
            "as the Thesis\n/// §6.4 says",
        ] {
            assert_eq!(citations("x", text), [], "{text}");
        }
    }

    #[test]
    fn any_other_form_is_found() {
        for text in
            ["§5.2", "Raft §5.1, §5.2", "paper §5.2", "raft §5.2", "Raft §12", "Thesis §6.9", "4648 §4", "Thesis §"]
        {
            assert_eq!(citations("x", text).len(), 1, "{text}");
        }
    }

    #[test]
    fn a_string_may_hold_any_sign() {
        assert_eq!(check(&Tree::of(&[("a.rs", "let sentence = \"(§5.1)\";")])), []);
        assert_eq!(check(&Tree::of(&[("a.rs", "// see §5.1\n"), ("b.md", "§5.1")])).len(), 2);
    }
}
