//! Takes Rust text apart into code and comments, so that a rule about one is not misled by the other, or by a string.

/// The two halves of a Rust file. Both have the lines and columns of the whole: what is not theirs is spaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RustText {
    /// The code, without comments and without the insides of strings and characters.
    pub code: String,
    /// The comments alone.
    pub comments: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    Code,
    Comment,
    Literal,
}

/// Takes a text apart. A text that is no Rust is taken apart somehow; it never fails.
pub fn split(text: &str) -> RustText {
    let chars: Vec<char> = text.chars().collect();
    let mut halves = RustText { code: String::with_capacity(text.len()), comments: String::new() };
    let mut at = 0;
    while at < chars.len() {
        let (length, half) = token(&chars, at);
        for &c in &chars[at..at + length] {
            let blank = if c == '\n' { '\n' } else { ' ' };
            halves.code.push(if half == Half::Code { c } else { blank });
            halves.comments.push(if half == Half::Comment { c } else { blank });
        }
        at += length;
    }
    halves
}

/// How many characters from `at` on belong together, and to which half. Always at least one, never past the end.
fn token(chars: &[char], at: usize) -> (usize, Half) {
    let rest = &chars[at..];
    let (length, half) = match rest {
        ['/', '/', ..] => (rest.iter().position(|&c| c == '\n').unwrap_or(rest.len()), Half::Comment),
        ['/', '*', ..] => (block_comment(rest), Half::Comment),
        ['"', ..] => (1 + quoted(&rest[1..], '"'), Half::Literal),
        ['\'', '\\', ..] => (1 + quoted(&rest[1..], '\''), Half::Literal),
        ['\'', _, '\'', ..] => (3, Half::Literal),
        ['r', '"' | '#', ..] if starts_word(chars, at) => {
            raw_string(rest).map_or((1, Half::Code), |n| (n, Half::Literal))
        }
        [c, ..] if is_word(*c) => (word(chars, at), Half::Code),
        _ => (1, Half::Code),
    };
    (length.clamp(1, rest.len()), half)
}

/// The length of the word at `at`; a prefix of a string (`b`, `c`, `br`) ends before the string.
fn word(chars: &[char], at: usize) -> usize {
    let length = chars[at..].iter().take_while(|c| is_word(**c)).count();
    match (chars[at..at + length].iter().collect::<String>().as_str(), chars.get(at + length)) {
        ("br" | "cr", Some('"' | '#')) => 1,
        _ => length,
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether a word can start at `at`: what is before it does not belong to it, but for the `b` or `c` of a string.
fn starts_word(chars: &[char], at: usize) -> bool {
    at == 0 || !is_word(chars[at - 1]) || matches!(chars[at - 1], 'b' | 'c')
}

/// The length of a string or character behind its opening quote, the closing one included.
fn quoted(rest: &[char], quote: char) -> usize {
    let mut at = 0;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < rest.len() {
        match rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// The length of a raw string that starts with `r`; `None` if it is a raw identifier or something else.
fn raw_string(rest: &[char]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|&&c| c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return None;
    }
    let body = 2 + hashes;
    let ends =
        |i: &usize| rest[*i] == '"' && rest[*i + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes;
    Some((body..rest.len()).find(ends).map_or(rest.len(), |end| end + 1 + hashes))
}

/// The words of a text with the number of their line, from 1.
pub fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().flat_map(|(i, line)| {
        line.split(|c: char| !is_word(c)).filter(|word| !word.is_empty()).map(move |word| (i + 1, word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_comments_and_literals_are_told_apart() {
        let text = "let a = \"dbg! // no\"; // dbg! yes\n/* x /* y */ z */ b 'c' 'static '\\'' end";
        let halves = split(text);
        assert!(!halves.code.contains("dbg!") && halves.comments.contains("dbg! yes"));
        assert!(!halves.code.contains('z') && halves.comments.contains("x /* y */ z"));
        assert!(halves.code.contains("'static") && !halves.code.contains("'c'") && halves.code.ends_with("end"));
        assert_eq!(halves.code.chars().count(), text.chars().count());
        assert_eq!(halves.code.lines().count(), text.lines().count());
    }

    #[test]
    fn raw_strings_end_where_they_say() {
        let text = "r#\"a \" // dbg!\"# x br\"y // z\" r#match b\"p // q\" var\"s // t\" \"\\\\\" tail";
        let halves = split(text);
        assert_eq!(halves.comments.trim(), "");
        for kept in [" x ", "r#match", "tail"] {
            assert!(halves.code.contains(kept), "{kept} in {}", halves.code);
        }
        for gone in ["dbg!", "z", "q", "// t"] {
            assert!(!halves.code.contains(gone), "{gone} in {}", halves.code);
        }
    }

    #[test]
    fn what_does_not_end_does_not_hang() {
        for text in ["\"open", "/* open", "r##\"open\"#", "'\\", "r", "br", "/", "'"] {
            assert_eq!(split(text).code.chars().count(), text.chars().count(), "{text}");
        }
    }
}
