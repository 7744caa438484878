//! How much memory the servers hold, over time.

use std::time::Duration;

use crate::cli::Table;

const MIB: u64 = 1 << 20;

/// How much more a server may hold towards the end than before, beyond a tenth of it: what an allocator keeps, and what is under way.
const SLACK: u64 = 32 * MIB;

/// The memory that a process holds, in bytes, as the system counts it. `None` where it does not say.
pub(super) fn resident(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// What was seen, in time.
#[derive(Default)]
pub(super) struct Curve {
    rows: Vec<Row>,
}

struct Row {
    at: Duration,
    acknowledged: u64,
    /// By the servers' places; `None` for one that does not run, or is not known.
    resident: Vec<Option<u64>>,
}

impl Curve {
    pub(super) fn add(&mut self, at: Duration, acknowledged: u64, places: usize, seen: &[(usize, Option<u64>)]) {
        let mut resident = vec![None; places];
        for (place, bytes) in seen {
            if let Some(entry) = resident.get_mut(*place) {
                *entry = *bytes;
            }
        }
        self.rows.push(Row { at, acknowledged, resident });
    }

    /// Every so many rows, for people.
    pub(super) fn table(&self, rows_max: usize) -> Table {
        let mut table = Table::new(["SECONDS", "WRITES", "MIB OF 1ST", "OF 2ND", "OF 3RD"]);
        let every = self.rows.len().div_ceil(rows_max.max(1)).max(1);
        for row in self.rows.iter().step_by(every) {
            let cell = |bytes: &Option<u64>| bytes.map_or_else(|| "-".to_owned(), |bytes| (bytes / MIB).to_string());
            let head = [row.at.as_secs().to_string(), row.acknowledged.to_string()];
            table.row([head.as_slice(), &row.resident.iter().map(cell).collect::<Vec<_>>()].concat());
        }
        table
    }

    /// `Err` says which server holds more in the last third than it did before, after the time in which it fills its
    /// caches.
    pub(super) fn judge(&self) -> Result<(), String> {
        let (warm, late) = (self.rows.len() / 6, self.rows.len() * 2 / 3);
        let places = self.rows.iter().map(|row| row.resident.len()).max().unwrap_or(0);
        let mut seen = false;
        for place in 0..places {
            let peak = |rows: &[Row]| rows.iter().filter_map(|row| row.resident.get(place).copied().flatten()).max();
            let before = self.rows.get(warm..late).and_then(peak);
            let after = self.rows.get(late..).and_then(peak);
            let Some((before, after)) = before.zip(after) else { continue };
            seen = true;
            if after > before + before / 10 + SLACK {
                return Err(format!(
                    "the {} server held up to {} MiB in the last third of the time, and {} before",
                    ["first", "second", "third"].get(place).unwrap_or(&"last"),
                    after / MIB,
                    before / MIB
                ));
            }
        }
        match seen {
            true => Ok(()),
            false if self.rows.iter().any(|row| row.resident.iter().any(Option::is_some)) => {
                Err("the run was too short to tell: let it go on longer".to_owned())
            }
            false => Err("this system does not say how much memory a process holds".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(bytes: impl Fn(u64) -> u64) -> Curve {
        let mut curve = Curve::default();
        (0..60).for_each(|at| curve.add(Duration::from_secs(at), at, 2, &[(0, Some(bytes(at))), (1, None)]));
        curve
    }

    #[test]
    fn what_grows_is_found_and_what_stays_is_not() {
        assert!(curve(|at| 100 * MIB + at % 7 * MIB).judge().is_ok());
        assert!(curve(|at| at.min(9) * 50 * MIB).judge().is_ok(), "caches fill in the beginning");
        assert!(curve(|at| 100 * MIB + at * 5 * MIB).judge().is_err());
        assert!(Curve::default().judge().is_err(), "nothing seen is nothing shown");
        let mut short = Curve::default();
        short.add(Duration::ZERO, 0, 1, &[(0, Some(MIB))]);
        assert!(short.judge().unwrap_err().contains("too short"), "one look shows no change");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_holds_something() {
        assert!(resident(std::process::id()).unwrap() > MIB);
    }
}
