//! What happened, as a hash of everything and, on demand, as lines for a person.

use crate::world::{NodeId, SimTime, TraceHash};

/// What a line is about, in one short word. Words for what matters are in capitals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind(pub &'static str);

/// The trace of a run.
#[derive(Debug, Default)]
pub struct Trace {
    hash: TraceHash,
    recorded: Option<Vec<String>>,
    events: u64,
}

impl Trace {
    /// A trace that keeps its lines, or only their hash.
    pub fn new(record: bool) -> Self {
        Self { hash: TraceHash::default(), recorded: record.then(Vec::new), events: 0 }
    }

    /// Notes an event. The numbers are hashed; `detail` is asked for its text only if somebody reads it.
    pub fn note(&mut self, now: SimTime, node: NodeId, kind: Kind, numbers: [u64; 2], detail: impl FnOnce() -> String) {
        self.events += 1;
        for word in [now.0, node, numbers[0], numbers[1]] {
            self.hash.word(word);
        }
        self.hash.bytes(kind.0.as_bytes());
        if let Some(lines) = &mut self.recorded {
            let who = if node == 0 { "  ".to_owned() } else { format!("n{node}") };
            lines.push(format!("{now:>12}  {who:<3} {:<12} {}", kind.0, detail()));
        }
    }

    /// The hash of all events so far.
    pub fn hash(&self) -> u64 {
        self.hash.value()
    }

    /// How many events there were.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The lines, if they were kept.
    pub fn lines(&self) -> &[String] {
        self.recorded.as_deref().unwrap_or_default()
    }
}
