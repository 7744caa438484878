//! A place in a line of text, and the small things that can be read there.

use core::time::Duration;

use super::ast::{Link, NodeRef, Target};
use crate::world::NodeId;

/// What was expected where something else stands.
pub(super) type Expectation = String;
/// Reading yields a thing or says what was expected.
pub(super) type Read<T> = Result<T, Expectation>;

/// The unread rest of a line. Cheap to copy, so that an alternative can be tried and forgotten.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    /// At the start of a line without its comment.
    pub(super) fn new(line: &'a str) -> Self {
        let text = line.split('#').next().unwrap_or_default();
        Self { rest: text.trim() }
    }

    /// Whether nothing is left.
    pub(super) fn at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// What stands here, for an error.
    pub(super) fn here(&self) -> String {
        match self.rest.split_whitespace().next() {
            Some(word) => format!("`{word}`"),
            None => "the end of the line".to_owned(),
        }
    }

    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.rest = rest.trim_start();
        taken
    }

    /// Takes `text` if it stands here.
    pub(super) fn eat(&mut self, text: &str) -> bool {
        let found = self.rest.starts_with(text);
        if found {
            self.take(text.len());
        }
        found
    }

    /// The letters, digits and `_` that stand here, with `-` between them, without taking them.
    pub(super) fn peek_word(&self) -> &'a str {
        let inside = |at: usize, c: char| {
            let before_a_letter = self.rest[at + c.len_utf8()..].starts_with(char::is_alphanumeric);
            c.is_alphanumeric() || c == '_' || (c == '-' && at > 0 && before_a_letter)
        };
        let end = self.rest.char_indices().find(|(at, c)| !inside(*at, *c)).map_or(self.rest.len(), |(at, _)| at);
        &self.rest[..end]
    }

    /// Takes `word` if exactly it stands here.
    pub(super) fn eat_word(&mut self, word: &str) -> bool {
        let found = self.peek_word() == word;
        if found {
            self.take(word.len());
        }
        found
    }

    /// Takes a word.
    pub(super) fn word(&mut self, expected: &str) -> Read<&'a str> {
        match self.peek_word() {
            "" => Err(expected.to_owned()),
            word => Ok(self.take(word.len())),
        }
    }

    /// Takes everything up to the next white space: a value may contain any other character but `#`.
    pub(super) fn text(&mut self, expected: &str) -> Read<&'a str> {
        match self.rest.find(char::is_whitespace).unwrap_or(self.rest.len()) {
            0 => Err(expected.to_owned()),
            end => Ok(self.take(end)),
        }
    }

    /// Takes a key: everything up to white space or `=`.
    pub(super) fn key(&mut self) -> Read<&'a str> {
        match self.rest.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(self.rest.len()) {
            0 => Err("a key".to_owned()),
            end => Ok(self.take(end)),
        }
    }

    /// Takes a whole number.
    pub(super) fn number(&mut self, expected: &str) -> Read<u64> {
        let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let number = self.rest[..end].parse().map_err(|_| expected.to_owned())?;
        self.take(end);
        Ok(number)
    }

    /// Takes a number with an optional fraction, in millionths: `1.05` is 1,050,000.
    pub(super) fn millionths(&mut self, expected: &str) -> Read<u64> {
        let end = self.rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(self.rest.len());
        let millionths = parse_scaled(&self.rest[..end], 6).ok_or_else(|| expected.to_owned())?;
        self.take(end);
        Ok(millionths)
    }

    /// Takes a length of time.
    pub(super) fn duration(&mut self) -> Read<Duration> {
        let expected = || "a time like 80ms or 3s".to_owned();
        // The unit follows the number at once. `150ms..300ms` has its dots behind the unit, so no number swallows them.
        let end = self.rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(self.rest.len());
        let amount = parse_scaled(&self.rest[..end], 6).ok_or_else(expected)?;
        let (unit, nanos) = match self.rest[end..].find(|c: char| !c.is_alphabetic()) {
            Some(unit_end) => unit_nanos(&self.rest[end..end + unit_end]),
            None => unit_nanos(&self.rest[end..]),
        }
        .ok_or_else(expected)?;
        self.take(end + unit.len());
        u64::try_from(u128::from(amount) * nanos).map(Duration::from_nanos).map_err(|_| "a shorter time".to_owned())
    }

    /// Takes a percentage, as parts in a million.
    pub(super) fn percent(&mut self) -> Read<u32> {
        let expected = "a percentage from 0% to 100%";
        let hundredth_ppm = self.millionths(expected)?;
        if !self.eat("%") || hundredth_ppm > 100_000_000 {
            return Err(expected.to_owned());
        }
        u32::try_from(hundredth_ppm / 100).map_err(|_| expected.to_owned())
    }

    /// Takes the id of a node.
    pub(super) fn node_id(&mut self) -> Read<NodeId> {
        self.number("a node id")
    }

    /// Takes the id of a node, or `leader`.
    pub(super) fn node(&mut self) -> Read<NodeRef> {
        if self.eat_word("leader") {
            return Ok(NodeRef::Leader);
        }
        self.number("a node id or `leader`").map(NodeRef::Id)
    }

    /// Takes a node or `all`.
    pub(super) fn target(&mut self) -> Read<Target> {
        if self.eat_word("all") {
            return Ok(Target::All);
        }
        self.node().map(Target::Node).map_err(|_| "a node id, `leader` or `all`".to_owned())
    }

    /// Takes things with commas between.
    pub(super) fn list<T>(&mut self, item: impl Fn(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        let mut items = vec![item(self)?];
        while self.eat(",") {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// Takes node ids with commas between; each may stand once.
    pub(super) fn node_ids(&mut self) -> Read<Vec<NodeId>> {
        let ids = self.list(Cursor::node_id)?;
        let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
        if distinct.len() == ids.len() { Ok(ids) } else { Err("each node id once".to_owned()) }
    }

    /// Takes `1 -> 2` or `1 - 2`.
    pub(super) fn link(&mut self) -> Read<Link> {
        let from = self.node()?;
        let both = if self.eat("->") {
            false
        } else if self.eat("-") {
            true
        } else {
            return Err("`->` or `-`".to_owned());
        };
        Ok(Link { from, to: self.node()?, both })
    }
}

/// A unit of time, and the nanoseconds in a millionth of it.
fn unit_nanos(unit: &str) -> Option<(&str, u128)> {
    match unit {
        "ms" => Some((unit, 1)),
        "s" => Some((unit, 1_000)),
        _ => None,
    }
}

/// A decimal number times ten to the `digits`; more digits than that behind the point are refused.
fn parse_scaled(text: &str, digits: usize) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() || fraction.len() > digits || text.ends_with('.') {
        return None;
    }
    let scale = 10_u64.pow(u32::try_from(digits).ok()?);
    let missing = 10_u64.pow(u32::try_from(digits - fraction.len()).ok()?);
    let fraction = if fraction.is_empty() { 0 } else { fraction.parse::<u64>().ok()? };
    whole.parse::<u64>().ok()?.checked_mul(scale)?.checked_add(fraction * missing)
}
