//! What the servers of this process have said in their logs.

use std::io::{self, Write};
use std::sync::{Mutex, Once};

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::tally::PATIENCE;

static LINES: Mutex<String> = Mutex::new(String::new());
static MORE: Notify = Notify::const_new();

struct Capture;

impl Write for Capture {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.lock().unwrap().push_str(&String::from_utf8_lossy(bytes));
        MORE.notify_waiters();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Keeps all warnings from now on.
pub(crate) fn capture() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
            .with_ansi(false)
            .with_writer(|| Capture)
            .init();
    });
}

/// Waits for a line that contains all of these.
pub(crate) async fn line_with(parts: &[&str]) -> String {
    let found = async {
        loop {
            let mut more = std::pin::pin!(MORE.notified());
            more.as_mut().enable();
            let line = LINES.lock().unwrap().lines().find(|l| parts.iter().all(|p| l.contains(p))).map(str::to_owned);
            match line {
                Some(line) => return line,
                None => more.await,
            }
        }
    };
    match timeout(PATIENCE, found).await {
        Ok(line) => line,
        Err(_) => panic!("no line with {parts:?} in:\n{}", LINES.lock().unwrap()),
    }
}
