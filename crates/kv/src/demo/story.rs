//! What the demonstration tells on its way: the story on stdout, progress bars on stderr if that is a terminal.

use std::io::Write;

use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};

pub(super) struct Story {
    bars: MultiProgress,
}

impl Story {
    pub(super) fn new() -> Self {
        Self { bars: MultiProgress::new() }
    }

    /// A line of the story.
    pub(super) fn say(&self, what: &str, sentence: &str) {
        self.plain(&format!("  {what:<10} {sentence}\n"));
    }

    /// Text as it is.
    pub(super) fn plain(&self, text: &str) {
        self.bars.suspend(|| {
            let mut stdout = std::io::stdout().lock();
            // Nobody reads; the exit code still tells.
            let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        });
    }

    /// A bar. Without a terminal it is not drawn.
    pub(super) fn bar(&self, length: u64, what: &'static str) -> ProgressBar {
        let bar = ProgressBar::new(length).with_message(what);
        let rate = |state: &ProgressState, to: &mut dyn std::fmt::Write| {
            // A bar that cannot be written is one that nobody sees.
            let _ = write!(to, "{:.0} a second", state.per_sec());
        };
        // A template that is wrong is a bug, and costs no more than its looks.
        if let Ok(style) = ProgressStyle::with_template("  {msg:<10} [{bar:40}] {pos}/{len}  {rate}") {
            bar.set_style(style.with_key("rate", rate).progress_chars("=> "));
        }
        self.bars.add(bar)
    }

    /// Removes the bars.
    pub(super) fn end(&self) {
        // The terminal is gone; so are the bars.
        let _ = self.bars.clear();
    }
}
