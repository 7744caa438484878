//! Makes a failing run smaller: fewer faults, fewer operations, the same failure.

use std::collections::BTreeSet;

/// What a run leaves out, to find out what it needs to fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Omit {
    /// The faults with these numbers, in the order in which they would begin; the first has number 1.
    pub faults: BTreeSet<u64>,
    /// Operations of clients after so many.
    pub operations_after: u64,
}

impl Default for Omit {
    fn default() -> Self {
        Self { faults: BTreeSet::new(), operations_after: u64::MAX }
    }
}

/// What a run came to, as far as shrinking cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// The property that was broken, if one was.
    pub broken: Option<&'static str>,
    /// How many faults had their moment, left out or not.
    pub faults: u64,
    /// How many operations clients began.
    pub operations: u64,
}

/// A smaller run with the same failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shrunk {
    /// What it leaves out.
    pub omit: Omit,
    /// The property that is broken.
    pub broken: &'static str,
    /// The faults that it has, of how many.
    pub faults: (u64, u64),
    /// The operations that it has, of how many.
    pub operations: (u64, u64),
    /// How many runs it took to find it.
    pub runs: u64,
}

/// Shrinks the run that `run` makes, with no more than `runs_max` runs. `None` if it does not fail.
pub fn shrink(runs_max: u64, mut run: impl FnMut(&Omit) -> Tried) -> Option<Shrunk> {
    let whole = run(&Omit::default());
    let broken = whole.broken?;
    let mut runs = 1;
    let mut fails = |omit: &Omit| {
        runs += 1;
        (runs <= runs_max).then(|| run(omit)).is_some_and(|tried| tried.broken == Some(broken))
    };
    let mut omit = Omit::default();
    // Operations first: with fewer of them every further run is faster. The failing count is found by halving, as if
    // a longer run failed whenever a shorter one does; where that is not so, the result is merely not the smallest.
    let (mut low, mut high) = (0, whole.operations);
    while low < high {
        let middle = low + (high - low) / 2;
        let fewer = Omit { operations_after: middle, ..omit.clone() };
        if fails(&fewer) {
            high = middle;
            omit = fewer;
        } else {
            low = middle + 1;
        }
    }
    omit.faults = omit_faults(&omit, whole.faults, &mut fails);
    let kept = whole.faults - omit.faults.len() as u64;
    let operations = (omit.operations_after.min(whole.operations), whole.operations);
    Some(Shrunk { omit, broken, faults: (kept, whole.faults), operations, runs })
}

/// Leaves out as many faults as it can: half of them, then quarters, down to one by one (Zeller's delta debugging).
fn omit_faults(omit: &Omit, faults: u64, fails: &mut impl FnMut(&Omit) -> bool) -> BTreeSet<u64> {
    let mut omitted = BTreeSet::new();
    let mut size = faults.div_ceil(2);
    while size > 0 {
        let kept: Vec<u64> = (1..=faults).filter(|fault| !omitted.contains(fault)).collect();
        for part in kept.chunks(usize::try_from(size).unwrap_or(usize::MAX)) {
            let more: BTreeSet<u64> = omitted.iter().chain(part).copied().collect();
            if fails(&Omit { faults: more.clone(), ..omit.clone() }) {
                omitted = more;
            }
        }
        size /= 2;
    }
    omitted
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails if the faults 3 and 17 of 40 happen and at least 5 of 200 operations.
    fn planted(omit: &Omit) -> Tried {
        let happens = |fault| !omit.faults.contains(&fault);
        let fails = happens(3) && happens(17) && omit.operations_after >= 5;
        Tried { broken: fails.then_some("a planted property"), faults: 40, operations: 200.min(omit.operations_after) }
    }

    #[test]
    fn what_is_not_needed_is_left_out() {
        let shrunk = shrink(1_000, planted).expect("it fails");
        let kept: Vec<u64> = (1..=40).filter(|fault| !shrunk.omit.faults.contains(fault)).collect();
        assert_eq!((kept, shrunk.omit.operations_after), (vec![3, 17], 5));
        assert_eq!((shrunk.faults, shrunk.operations), ((2, 40), (5, 200)));
        assert!(shrunk.runs < 100, "{} runs", shrunk.runs);
    }

    #[test]
    fn a_run_that_passes_is_not_shrunk_and_another_failure_does_not_count() {
        assert_eq!(shrink(10, |_| Tried { broken: None, faults: 1, operations: 1 }), None);
        let other = shrink(100, |omit| {
            let broken = if omit.faults.contains(&2) { "another property" } else { "a planted property" };
            Tried { broken: Some(broken), faults: 4, operations: 0 }
        });
        assert_eq!(other.map(|shrunk| shrunk.faults), Some((1, 4)));
    }

    #[test]
    fn a_budget_of_runs_is_kept() {
        let mut runs = 0;
        let shrunk = shrink(5, |omit| {
            runs += 1;
            planted(omit)
        });
        assert!(shrunk.is_some() && runs <= 5, "{runs} runs");
    }
}
