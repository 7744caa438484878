//! `put`, `get`, `del`, `scan`.

use std::io::{Read, Write};

use bytes::Bytes;
use serde::Serialize;

use crate::api::Pair;
use crate::cli::args::{DelArgs, Format, GetArgs, PutArgs, RemoteArgs, ScanArgs};
use crate::cli::{Failure, Table};
use crate::client::{Client, WriteCondition};
use crate::http::pair;
use crate::limits::{SCAN_PAIRS_MAX, VALUE_BYTES_MAX};
use crate::store::{KeyValue, Stored};

impl RemoteArgs {
    pub(super) fn client(&self) -> Client {
        Client::new(self.endpoints.iter().cloned(), self.timeout)
    }

    pub(super) fn format_or(&self, default: Format) -> Format {
        self.output.unwrap_or(default)
    }
}

pub(super) async fn put(remote: &RemoteArgs, args: PutArgs) -> Result<(), Failure> {
    let value = match args.value.as_str() {
        "-" => from_stdin()?,
        value => Bytes::copy_from_slice(value.as_bytes()),
    };
    let condition = WriteCondition { if_revision: args.if_revision };
    let answer = remote.client().put(&args.key, value, condition).await?;
    match remote.format_or(Format::Simple) {
        Format::Json => print_json(&answer),
        Format::Table | Format::Simple => print_text(&format!("revision {}\n", answer.revision)),
    }
}

fn from_stdin() -> Result<Bytes, Failure> {
    let mut value = Vec::new();
    // One byte more than fits, so that the server can say that it is too long.
    std::io::stdin()
        .take(VALUE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut value)
        .map_err(|error| Failure::new(format!("cannot read the value from stdin: {error}")))?;
    Ok(value.into())
}

pub(super) async fn get(remote: &RemoteArgs, args: GetArgs) -> Result<(), Failure> {
    let found = remote.client().get(&args.key, args.stale).await?;
    let Some((value, revision)) = found else { return Err(Failure::no_such_key(&args.key)) };
    let pair = |value| pair(KeyValue { key: args.key, stored: Stored { value, revision } });
    match remote.format_or(Format::Simple) {
        Format::Json => print_json(&pair(value)),
        Format::Table => print_text(&table([pair(value)]).to_string()),
        // The bytes as they are, and a line end for people only if they lack one.
        Format::Simple => {
            print_bytes(&value)?;
            if value.ends_with(b"\n") { Ok(()) } else { print_text("\n") }
        }
    }
}

pub(super) async fn del(remote: &RemoteArgs, args: DelArgs) -> Result<(), Failure> {
    let answer = remote.client().delete(&args.key, WriteCondition { if_revision: args.if_revision }).await?;
    if answer.previous.is_none() {
        return Err(Failure::no_such_key(&args.key));
    }
    match remote.format_or(Format::Simple) {
        Format::Json => print_json(&answer),
        Format::Table | Format::Simple => print_text(&format!("revision {}\n", answer.revision)),
    }
}

pub(super) async fn scan(remote: &RemoteArgs, args: ScanArgs) -> Result<(), Failure> {
    let mut client = remote.client();
    let (mut pairs, mut after) = (Vec::new(), None);
    while pairs.len() < args.limit {
        let limit = (args.limit - pairs.len()).min(SCAN_PAIRS_MAX);
        let page = client.scan(&args.prefix, after.as_deref(), limit, args.stale).await?;
        after = page.pairs.last().map(|pair| pair.key.clone());
        pairs.extend(page.pairs);
        if !page.more || after.is_none() {
            break;
        }
    }
    let format = remote.format_or(Format::Table);
    if format == Format::Json {
        return print_json(&pairs);
    }
    let table = table(pairs);
    print_text(&if format == Format::Simple { table.simple() } else { table.to_string() })
}

/// A value that is no text is shown in base64, and said to be.
fn table(pairs: impl IntoIterator<Item = Pair>) -> Table {
    let mut table = Table::new(["KEY", "VALUE", "REVISION"]);
    for pair in pairs {
        let value = pair.value.or(pair.value_base64.map(|text| format!("base64:{text}"))).unwrap_or_default();
        table.row([pair.key, value, pair.revision.to_string()]);
    }
    table
}

pub(super) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::new(format!("cannot print: {error}")))?;
    print_text(&(text + "\n"))
}

pub(super) fn print_text(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    match written {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| Failure::new(format!("cannot write to stdout: {error}"))),
    }
}
