//! A relative link in a Markdown file leads somewhere.

use super::Complaint;
use super::tree::Tree;

/// Checks every Markdown file.
pub fn check(tree: &Tree) -> Vec<Complaint> {
    tree.files(".md").flat_map(|(path, text)| check_file(tree, path, text)).collect()
}

fn check_file(tree: &Tree, path: &str, text: &str) -> Vec<Complaint> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (i, line) in text.lines().enumerate() {
        fenced ^= line.trim_start().starts_with("```");
        for (at, open) in line.match_indices("](").filter(|_| !fenced) {
            let target = line[at + open.len()..].split([')', '#', ' ']).next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            if !resolved(path, target).is_some_and(|target| tree.exists(&target)) {
                found.push(Complaint::at(path, i + 1, format!("the link leads nowhere: {target}")));
            }
        }
    }
    found
}

/// A link's target from the root; `None` if it leads out of the checkout.
fn resolved(path: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        let with = |link: &str| {
            let text = format!("see [x]({link})");
            check(&Tree::of(&[("docs/a.md", &text), ("docs/b.md", ""), ("README.md", "")])).len()
        };
        for fine in ["b.md", "./b.md#part", "../README.md", "https://example.com/none", "#here", "../docs/"] {
            assert_eq!(with(fine), 0, "{fine}");
        }
        for broken in ["c.md", "../b.md", "../../README.md"] {
            assert_eq!(with(broken), 1, "{broken}");
        }
    }
}
