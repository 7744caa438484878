//! What waits for one target is no queue of messages but a summary: entries that follow each other go in one request, a newer
//! heartbeat takes the place of an older one, and of what is to be applied or told only the newest remains. Any run with that
//! can be explained as one without it, in which messages were lost; so it can do nothing that a network could not.

use raftwright_core::invariants::Facts;
use raftwright_core::{AppendOutcome, Effect, Input, LogIdOf, Rng, Write};

use crate::solo::{Solo, Start};
use crate::types::{Item, Standard, id, vote};

type Id = LogIdOf<Standard>;

const LEADER: u64 = 2;
const TERM: u64 = 4;

/// What a leader says to one target.
#[derive(Clone, Debug)]
enum Said {
    /// An entry, behind the one before, with the commit index of then.
    Entry {
        prev: Id,
        entry: Id,
        committed: Option<Id>,
    },
    Heartbeat {
        committed: Option<Id>,
    },
}

fn below(rng: &mut Rng, bound: u64) -> u64 {
    rng.next_u64() % bound.max(1)
}

/// A follower with a log of its own, some of which the leader never saw.
fn follower(terms: &[u64]) -> Solo {
    Solo::start(Start { terms: terms.to_vec(), vote: Some(vote::<Standard>(3, 3)), ..Start::default() })
}

/// The log ids of a leader whose terms are these, behind the first entry.
fn log_of(terms: &[u64]) -> Vec<Id> {
    std::iter::once(id::<Standard>(0, 1))
        .chain(terms.iter().zip(2..).map(|(term, at)| id::<Standard>(*term, at)))
        .collect()
}

/// What a leader with that log says, from some entry on that both have, one entry at a time.
fn story(log: &[Id], common: usize, rng: &mut Rng) -> Vec<Said> {
    let mut said = Vec::new();
    let mut committed = None;
    for at in common..log.len() {
        if below(rng, 3) == 0 {
            committed = Some(log[below(rng, at as u64) as usize]).max(committed);
        }
        said.push(Said::Entry { prev: log[at - 1], entry: log[at], committed });
        for _ in 0..below(rng, 3) {
            said.push(Said::Heartbeat { committed });
        }
    }
    said
}

fn tell(server: &mut Solo, said: &[Said]) -> Option<AppendOutcome<Standard>> {
    let (Some(Said::Entry { prev, .. }), Some(Said::Entry { committed, .. })) = (said.first(), said.last()) else {
        let Some(Said::Heartbeat { committed }) = said.last() else { return None };
        server.heartbeat(LEADER, TERM, *committed);
        return None;
    };
    let entries = said.iter().filter_map(|said| match said {
        Said::Entry { entry, .. } => Some(Item::at(*entry, &entry.to_string())),
        Said::Heartbeat { .. } => None,
    });
    server.append_items(LEADER, TERM, Some(*prev), entries.collect(), *committed)
}

/// What a sender makes of all that waits for the target when its lane has room: the entries in one request, the newest
/// heartbeat in another.
fn summaries(said: &[Said]) -> Vec<Vec<Said>> {
    let (entries, beats): (Vec<Said>, Vec<Said>) =
        said.iter().cloned().partition(|said| matches!(said, Said::Entry { .. }));
    [entries, beats.into_iter().next_back().into_iter().collect()].into_iter().filter(|part| !part.is_empty()).collect()
}

#[test]
fn a_run_with_coalescing_is_one_in_which_messages_were_lost() {
    let mut merged = 0;
    for seed in 0..500 {
        let mut rng = Rng::new(seed);
        let shared: Vec<u64> = (0..1 + below(&mut rng, 4)).map(|_| 1).collect();
        let tail = |rng: &mut Rng, term: u64| vec![term; below(rng, 6) as usize];
        let theirs: Vec<u64> = shared
            .iter()
            .copied()
            .chain(tail(&mut rng, 2))
            .chain(vec![TERM; 1 + below(&mut rng, 6) as usize])
            .collect();
        let ours: Vec<u64> = shared.iter().copied().chain(tail(&mut rng, 3)).collect();
        let log = log_of(&theirs);
        let said = story(&log, 1 + below(&mut rng, 1 + shared.len() as u64) as usize, &mut rng);

        let (mut with, mut without) = (follower(&ours), follower(&ours));
        let mut rest = said.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(1 + below(&mut rng, rest.len() as u64) as usize);
            rest = later;
            for summary in summaries(now) {
                let answer = tell(&mut with, &summary);
                // Without coalescing the same gets there one by one; the heartbeats that are not in a summary are lost, and
                // so are all answers but the last.
                let answers: Vec<_> = summary.iter().map(|one| tell(&mut without, std::slice::from_ref(one))).collect();
                assert_eq!(answers.last(), Some(&answer), "seed {seed}");
                merged += summary.len() - 1;
            }
            assert_eq!(Facts::of(&with.replica), Facts::of(&without.replica), "seed {seed}");
            assert_eq!(
                (&with.log, with.replica.membership()),
                (&without.log, without.replica.membership()),
                "seed {seed}"
            );
        }
    }
    assert!(merged > 500, "only {merged} messages were merged");
}

/// The effects of several steps, taken together: appends that follow each other are one write with the same entries, and of
/// tails and applies between two writes only the newest remains. Nothing else is different.
#[test]
fn effects_taken_together_are_the_same_less_what_is_out_of_date() {
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let count = 2 + below(&mut rng, 20);
        let (mut one_by_one, mut together) = (follower(&[1]), follower(&[1]));
        for server in [&mut one_by_one, &mut together] {
            server.lead();
            server.prompt = false;
        }
        let (begin_one, begin_all) = (one_by_one.done.len(), together.done.len());
        let proposals: Vec<Item<Standard>> = (0..count).map(|n| Item::data(&format!("p{n}"))).collect();
        for entry in proposals.clone() {
            let ticket = one_by_one.ticket();
            one_by_one.step(Input::Propose { ticket, entry });
        }
        let inputs: Vec<_> =
            proposals.into_iter().map(|entry| Input::Propose { ticket: together.ticket(), entry }).collect();
        together.step_together(inputs);
        let entries = |server: &Solo, begin: usize| -> Vec<Item<Standard>> {
            server.done[begin..]
                .iter()
                .flat_map(|effect| match effect {
                    Effect::Write { op: Write::Append(items), .. } => items.clone(),
                    _ => Vec::new(),
                })
                .collect()
        };
        assert_eq!(entries(&one_by_one, begin_one), entries(&together, begin_all), "seed {seed}");
        let writes = |server: &Solo, begin: usize| {
            server.done[begin..].iter().filter(|effect| matches!(effect, Effect::Write { .. })).count()
        };
        assert_eq!((writes(&one_by_one, begin_one), writes(&together, begin_all)), (count as usize, 1), "seed {seed}");
        let tails = |server: &Solo, begin: usize| -> Vec<Id> {
            server.done[begin..]
                .iter()
                .filter_map(|effect| match effect {
                    Effect::Tail(tail) => Some(tail.last),
                    _ => None,
                })
                .collect()
        };
        let newest = tails(&one_by_one, begin_one).last().copied();
        assert_eq!(tails(&together, begin_all).last().copied(), newest, "seed {seed}");
        assert_eq!(Facts::of(&one_by_one.replica).last, Facts::of(&together.replica).last, "seed {seed}");
    }
}
