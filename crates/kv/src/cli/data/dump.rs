//! `data dump`: every record, in the order of the files.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use raftwright::traits::EntryKind;
use raftwright::wal::{Content, Item, RawEntry, RecordItem};
use raftwright::{Envelope, decode};
use serde::Serialize;
use serde_json::{Value, json};

use super::snapshots::Verdict;
use super::{FindingJson, LogIdJson, open};
use crate::cli::Failure;
use crate::cli::args::{Format, RemoteArgs};
use crate::cli::keys::print_text;
use crate::store::Command;

/// How much is collected before it is printed, in bytes.
const PAGE_BYTES: usize = 64 << 10;
/// Most bytes of a payload that nobody can decode which are printed.
const PAYLOAD_SHOWN_MAX: usize = 64;

/// What `data dump` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct DumpArgs {
    /// The data directory
    dir: PathBuf,
    /// No entries before this index
    #[arg(long, default_value_t = 0, value_name = "INDEX")]
    from: u64,
    /// No entries behind this index
    #[arg(long, default_value_t = u64::MAX, value_name = "INDEX", hide_default_value = true)]
    to: u64,
}

/// One line.
#[derive(Debug, Serialize)]
struct Line {
    file: String,
    offset: u64,
    batch: u64,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_id: Option<LogIdJson>,
    content: Value,
    verdict: String,
}

impl Line {
    /// For people.
    fn text(&self) -> String {
        let at = format!("{}:{}", self.file, self.offset);
        let id = match &self.log_id {
            Some(LogIdJson { term, node: Some(node), index }) => format!("{term}-{node}-{index}"),
            Some(LogIdJson { term, node: None, index }) => format!("{term}-{index}"),
            None => "-".to_owned(),
        };
        let content = match &self.content {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let verdict = if self.verdict == "good" { "" } else { self.verdict.as_str() };
        // A terminal is not steered by what somebody has put into a log.
        let content: String = content.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        format!("{at:<24} {:>8} {:<8} {id:<12} {content} {verdict}", self.batch, self.kind).trim_end().to_owned() + "\n"
    }
}

pub(super) fn dump(remote: &RemoteArgs, args: &DumpArgs) -> Result<(), Failure> {
    if args.from > args.to {
        return Err(Failure::usage(format!("--to {} comes before --from {}: no entry is there", args.to, args.from)));
    }
    let inspector = open(&args.dir)?;
    let json = remote.format_or(Format::Table) == Format::Json;
    let mut page = match json {
        true => String::new(),
        false => format!("{:<24} {:>8} {:<8} {:<12} CONTENT\n", "PLACE", "BATCH", "KIND", "LOG ID"),
    };
    let (mut file, mut batch) = (String::new(), 0);
    let (mut printed, mut damage) = (Ok(()), 0u64);
    let walked = inspector.walk(&mut |item| {
        let line = match item {
            Item::Segment(segment) => {
                file = segment.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                return;
            }
            Item::Batch(item) => {
                batch = item.number;
                return;
            }
            Item::Record(record) if !is_wanted(&record, args) => return,
            Item::Record(record) => {
                let line = line(&file, batch, record);
                if json { in_json(&line) } else { line.text() }
            }
            Item::Mark(_) | Item::Seal(_) => return,
            Item::Damage(finding) => {
                damage += 1;
                if json { in_json(&FindingJson::from(&finding)) } else { format!("!! {finding}\n") }
            }
            Item::Lost(error) => {
                damage += 1;
                if json { in_json(&json!({ "error": error.to_string() })) } else { format!("!! {error}\n") }
            }
        };
        page += &line;
        if page.len() >= PAGE_BYTES && printed.is_ok() {
            printed = print_text(&std::mem::take(&mut page));
        }
    });
    printed?;
    print_text(&page)?;
    walked.map_err(|error| Failure::new(error.to_string()))?;
    match Verdict::of(&inspector).sound() {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::damaged(format!("{damage} damaged places; a server would refuse it: {error}"))),
    }
}

fn in_json(value: &impl Serialize) -> String {
    // Numbers and text can always be written as JSON.
    serde_json::to_string(value).unwrap_or_default() + "\n"
}

fn is_wanted(record: &RecordItem, args: &DumpArgs) -> bool {
    let index = record.content.as_ref().and_then(Content::entry_index);
    index.is_none_or(|index| (args.from..=args.to).contains(&index))
}

fn line(file: &str, batch: u64, record: RecordItem) -> Line {
    let (kind, log_id, content) = match record.content {
        None => ("unknown", None, Value::Null),
        Some(Content::Vote(None)) => ("vote", None, Value::Null),
        Some(Content::Vote(Some(vote))) => ("vote", None, vote_value(&vote)),
        Some(Content::Entry(entry)) => (kind_name(entry.kind), Some(entry.log_id), entry_value(entry)),
        Some(Content::DamagedEntry { kind, log_id, len }) => {
            (kind_name(kind), Some(log_id), Value::String(format!("{len} bytes, damaged")))
        }
        Some(Content::Truncate(from)) => ("truncate", None, json!({ "from": from })),
        Some(Content::Purge(log_id)) => ("purge", Some(log_id), Value::Null),
        Some(Content::Replace(log_id)) => ("replace", Some(log_id), Value::Null),
    };
    let (log_id, verdict) = (log_id.map(Into::into), record.verdict.to_string());
    Line { file: file.to_owned(), offset: record.offset, batch, kind, log_id, content, verdict }
}

fn vote_value(vote: &[u8]) -> Value {
    match Content::vote_of(vote) {
        Some((term, node, elected)) => json!({ "term": term, "candidate": node, "elected": elected }),
        None => Value::String(bytes_text(vote)),
    }
}

fn kind_name(kind: u8) -> &'static str {
    match EntryKind::from_u8(kind) {
        Some(EntryKind::Blank) => "blank",
        Some(EntryKind::Normal) => "command",
        Some(EntryKind::Membership) => "members",
        None => "entry",
    }
}

/// What the entry carries, as far as this program knows its form; another application's log is shown as bytes.
fn entry_value(entry: RawEntry) -> Value {
    match EntryKind::from_u8(entry.kind) {
        Some(EntryKind::Blank) if entry.payload.is_empty() => Value::Null,
        Some(EntryKind::Membership) => {
            serde_json::from_slice(&entry.payload).unwrap_or_else(|_| Value::String(bytes_text(&entry.payload)))
        }
        Some(EntryKind::Normal) => match Envelope::decode(entry.payload.clone()) {
            Some(Envelope::OpenSession { nonce }) => json!({ "open_session": format!("{nonce:016x}") }),
            Some(Envelope::Alone(command)) => command_value(&command),
            Some(Envelope::InSession { session, sequence, settled: _, command }) => {
                let mut value = command_value(&command);
                if let Value::Object(fields) = &mut value {
                    fields.insert("session".into(), format!("{:032x}", session.0).into());
                    fields.insert("sequence".into(), sequence.into());
                }
                value
            }
            None => Value::String(bytes_text(&entry.payload)),
        },
        Some(EntryKind::Blank) | None => Value::String(bytes_text(&entry.payload)),
    }
}

fn command_value(bytes: &[u8]) -> Value {
    match decode::<Command>(bytes) {
        Ok(Command::Put { key, value, condition }) => {
            json!({ "put": key, "value": text_or_bytes(&value), "if": condition_value(&condition) })
        }
        Ok(Command::Delete { key, condition }) => json!({ "delete": key, "if": condition_value(&condition) }),
        Err(_) => json!({ "bytes": bytes_text(bytes) }),
    }
}

fn condition_value(condition: &crate::store::Condition) -> Value {
    match condition {
        crate::store::Condition::Always => Value::Null,
        crate::store::Condition::Revision(revision) => json!({ "revision": revision }),
        crate::store::Condition::Value(value) => json!({ "value": text_or_bytes(value) }),
    }
}

fn text_or_bytes(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if bytes.len() <= PAYLOAD_SHOWN_MAX => text.to_owned(),
        Ok(_) | Err(_) => bytes_text(bytes),
    }
}

/// The length and the first bytes.
fn bytes_text(bytes: &[u8]) -> String {
    let mut text = format!("{} bytes:", bytes.len());
    for byte in bytes.iter().take(PAYLOAD_SHOWN_MAX) {
        // Writing to a string cannot fail.
        let _ = write!(text, " {byte:02x}");
    }
    if bytes.len() > PAYLOAD_SHOWN_MAX {
        text += " ...";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_payload_the_first_bytes_are_shown() {
        let shown = |len: usize| bytes_text(&vec![0xab; len]);
        assert_eq!(shown(2), "2 bytes: ab ab");
        let all = shown(PAYLOAD_SHOWN_MAX);
        assert_eq!((all.matches(" ab").count(), all.ends_with("...")), (PAYLOAD_SHOWN_MAX, false));
        let some = shown(PAYLOAD_SHOWN_MAX + 1);
        assert_eq!((some.matches(" ab").count(), some.ends_with(" ...")), (PAYLOAD_SHOWN_MAX, true));
        // A long text is no payload that a line could hold, though it could be read.
        let text = "a".repeat(PAYLOAD_SHOWN_MAX);
        assert_eq!(text_or_bytes(text.as_bytes()), text);
        assert!(text_or_bytes(format!("{text}a").as_bytes()).starts_with("65 bytes: 61"));
    }
}
