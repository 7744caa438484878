//! `data inspect` and `data verify`.

use std::path::Path;

use raftwright::wal::{BatchItem, Extent, Finding, Item, OpenError, SegmentItem, Sound};
use serde::Serialize;

use super::snapshots::{SnapshotJson, Verdict};
use super::{FindingJson, LogIdJson, WhoJson, open};
use crate::cli::args::{Format, RemoteArgs};
use crate::cli::keys::{print_json, print_text};
use crate::cli::{Failure, Table};

/// What stands in one segment.
#[derive(Debug, Serialize)]
struct SegmentJson {
    file: String,
    bytes: u64,
    batches: u64,
    records: u64,
    first_index: Option<u64>,
    last_index: Option<u64>,
    damage: u64,
}

/// The log as a whole.
#[derive(Debug, Serialize)]
struct LogJson {
    first_index: Option<u64>,
    last: Option<LogIdJson>,
    purged: Option<LogIdJson>,
    committed: Option<u64>,
}

#[derive(Debug, Serialize)]
struct InspectJson {
    identity: Option<WhoJson>,
    segments: Vec<SegmentJson>,
    snapshots: Vec<SnapshotJson>,
    log: Option<LogJson>,
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct VerifyJson {
    sound: bool,
    log: Option<LogJson>,
    error: Option<String>,
    damage: Vec<FindingJson>,
    lost: Vec<String>,
    snapshots: Vec<SnapshotJson>,
}

/// What a walk has shown.
#[derive(Default)]
struct Seen {
    segments: Vec<SegmentJson>,
    damage: Vec<Finding>,
    lost: Vec<String>,
}

impl Seen {
    fn see(&mut self, item: Item) {
        match item {
            Item::Segment(SegmentItem { path, size, .. }) => self.segments.push(SegmentJson {
                file: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                bytes: size,
                batches: 0,
                records: 0,
                first_index: None,
                last_index: None,
                damage: 0,
            }),
            Item::Batch(BatchItem { records, .. }) => {
                if let Some(segment) = self.segments.last_mut() {
                    segment.batches += 1;
                    segment.records += u64::from(records);
                }
            }
            Item::Record(record) => {
                let index = record.content.and_then(|content| content.entry_index());
                if let (Some(segment), Some(index)) = (self.segments.last_mut(), index) {
                    segment.first_index = Some(segment.first_index.map_or(index, |first| first.min(index)));
                    segment.last_index = segment.last_index.max(Some(index));
                }
            }
            Item::Damage(finding) => {
                if let Some(segment) = self.segments.last_mut() {
                    segment.damage += 1;
                }
                self.damage.push(finding);
            }
            Item::Lost(error) => self.lost.push(cause(&error)),
            Item::Mark(_) | Item::Seal(_) => {}
        }
    }
}

/// The error without the advice that follows it, which is given once.
fn cause(error: &OpenError) -> String {
    match error {
        OpenError::Damaged(finding) => finding.to_string(),
        OpenError::DataLoss { path, what } => format!("{path} has lost data: {what}"),
        OpenError::DataDir(_)
        | OpenError::Disk(_)
        | OpenError::Foreign { .. }
        | OpenError::Version { .. }
        | OpenError::Features { .. }
        | OpenError::Options { .. }
        | OpenError::Thread(_) => error.to_string(),
    }
}

fn log_json(sound: &Sound) -> LogJson {
    let Extent { purged, last } = sound.extent;
    let first_index = last.map(|_| purged.map_or(0, |purged| purged.index + 1));
    LogJson { first_index, last: last.map(Into::into), purged: purged.map(Into::into), committed: sound.committed }
}

/// The log in a sentence.
fn log_text(sound: &Sound) -> String {
    let Extent { purged, last } = sound.extent;
    let mut text = match last {
        None => "the log is empty".to_owned(),
        Some(last) if purged == Some(last) => format!("the log holds no entry behind {}, which is purged", last.index),
        Some(last) => format!("the log ends with entry {} of term {}", last.index, last.term),
    };
    if let Some(purged) = purged.filter(|purged| Some(*purged) != last) {
        text += &format!(", is purged up to {}", purged.index);
    }
    if let Some(committed) = sound.committed {
        text += &format!(", and was committed up to {committed} at least");
    }
    text
}

pub(super) fn inspect(remote: &RemoteArgs, dir: &Path) -> Result<(), Failure> {
    let inspector = open(dir)?;
    let mut seen = Seen::default();
    inspector.walk(&mut |item| seen.see(item)).map_err(|error| Failure::new(error.to_string()))?;
    let verdict = Verdict::of(&inspector);
    let identity = inspector.identity();
    match remote.format_or(Format::Table) {
        Format::Json => print_json(&InspectJson {
            identity: identity.ok().map(Into::into),
            segments: seen.segments,
            snapshots: verdict.json(),
            log: verdict.log.as_ref().ok().map(log_json),
            error: verdict.sound().err(),
        }),
        format @ (Format::Table | Format::Simple) => {
            let mut table = Table::new(["SEGMENT", "BYTES", "BATCHES", "RECORDS", "FIRST", "LAST", "DAMAGE"]);
            let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
            for segment in &seen.segments {
                table.row([
                    segment.file.clone(),
                    segment.bytes.to_string(),
                    segment.batches.to_string(),
                    segment.records.to_string(),
                    number(segment.first_index),
                    number(segment.last_index),
                    segment.damage.to_string(),
                ]);
            }
            let who = identity.map_or_else(|error| error.to_string(), |who| WhoJson::from(who).to_string());
            let text = |table: &Table| if format == Format::Simple { table.simple() } else { table.to_string() };
            let snapshots = verdict.table().map_or_else(String::new, |table| format!("\n{}", text(&table)));
            let log = verdict.log.as_ref().map_or_else(|_| String::new(), |sound| log_text(sound) + "\n");
            let refusal =
                verdict.sound().map_or_else(|why| format!("a server would refuse it: {why}\n"), |_| String::new());
            print_text(&format!("{who}\n\n{}{snapshots}\n{log}{refusal}", text(&table)))
        }
    }
}

pub(super) fn verify(remote: &RemoteArgs, dir: &Path) -> Result<(), Failure> {
    let inspector = open(dir)?;
    let verdict = Verdict::of(&inspector);
    let sound = verdict.sound();
    let mut seen = Seen::default();
    inspector.walk(&mut |item| seen.see(item)).map_err(|error| Failure::new(error.to_string()))?;
    match remote.format_or(Format::Table) {
        Format::Json => print_json(&VerifyJson {
            sound: sound.is_ok(),
            log: verdict.log.as_ref().ok().map(log_json),
            error: sound.as_ref().err().cloned(),
            damage: seen.damage.iter().map(Into::into).collect(),
            lost: seen.lost,
            snapshots: verdict.json(),
        })?,
        Format::Table | Format::Simple => {
            let damage = seen.damage.iter().map(ToString::to_string).chain(seen.lost).chain(verdict.damage());
            let damage: String = damage.map(|line| line + "\n").collect();
            print_text(&damage)?;
            if let Ok(sound) = &sound {
                print_text(&format!("sound: {}{}\n", log_text(sound), verdict.newest_text()))?;
            }
        }
    }
    sound.map(|_| ()).map_err(|why| Failure::damaged(format!("a server would refuse this directory: {why}")))
}
