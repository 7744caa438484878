//! Every corpus, and mutations of it, on the stable compiler: bounded, and the same each time.

use std::fs;
use std::path::Path;

use raftwright_fuzz::TARGETS;

/// Mutations of each input.
const MUTATIONS: u64 = 40;

/// Numbers for mutations (xorshift, after Marsaglia).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides.max(1) as u64) as usize
    }
}

fn mutated(input: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..1 + dice.roll(4) {
        let at = dice.roll(bytes.len() + 1);
        match dice.roll(6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, dice.roll(256) as u8),
            2 => bytes.extend_from_slice(&input[dice.roll(input.len() + 1)..]),
            kind => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = match kind {
                        3 => *byte ^ 1 << dice.roll(8),
                        4 => [0, 1, 0x7F, 0x80, 0xFF][dice.roll(5)],
                        _ => dice.roll(256) as u8,
                    };
                }
            }
        }
    }
    bytes
}

#[test]
fn every_corpus_runs() {
    for (number, target) in TARGETS.iter().enumerate() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
        let mut names: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        assert!(!names.is_empty(), "{} has a corpus", target.name);
        let mut dice = Dice(number as u64 + 1);
        let mut inputs = 0;
        for name in names {
            let input = fs::read(name).unwrap();
            (target.run)(&input);
            for _ in 0..MUTATIONS {
                (target.run)(&mutated(&input, &mut dice));
            }
            inputs += 1 + MUTATIONS;
        }
        println!("{}: {inputs} inputs", target.name);
    }
}

#[test]
fn nothing_and_much_of_it_is_survived() {
    for target in TARGETS {
        for len in [0, 1, 2, 3, 8, 513, 9000] {
            for byte in [0, 1, 0xFF] {
                (target.run)(&vec![byte; len]);
            }
        }
    }
}
