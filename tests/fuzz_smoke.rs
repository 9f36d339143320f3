//! The fuzz targets without a fuzzer: every seed, and some thousand changed ones. The changes follow from a counter, so that what fails
//! once fails again. `scripts/fuzz.sh` looks further.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a target fails by a panic")]

#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

/// Of each target.
const CHANGED: usize = 1_500;
const LONGEST: usize = 4096;

/// Numbers that look random and are not (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        for shift in [(13, true), (7, false), (17, true)] {
            self.0 ^= if shift.1 { self.0 << shift.0 } else { self.0 >> shift.0 };
        }
        usize::try_from(self.0 >> 33).unwrap() % limit.max(1)
    }
}

/// What a parser is sensitive to, beside single bits and bytes.
const TELLING: [&[u8]; 14] = [
    b"\r\n", b"\0", b"\"", b"\\", b"{", b"[", b"../", b"%2e", b"\xff", b"\xc3\xa9", b"=", b".", b",",
    b"99999999999999999999",
];

fn change(seed: &[u8], other: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(bytes.len() + 1);
        let to = at + numbers.below((bytes.len() - at).min(32) + 1);
        match numbers.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << numbers.below(8),
            1 if at < bytes.len() => bytes[at] = u8::try_from(numbers.below(256)).unwrap(),
            2 => drop(bytes.drain(at..to)),
            3 => drop(bytes.splice(at..at, TELLING[numbers.below(TELLING.len())].iter().copied())),
            4 => drop(bytes.splice(at..at, seed[numbers.below(seed.len())..].to_vec())),
            5 => drop(bytes.splice(at.., other[numbers.below(other.len())..].to_vec())),
            _ => bytes.truncate(at),
        }
    }
    bytes.truncate(LONGEST);
    bytes
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut paths: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn run(target: &str, check: targets::Check) {
    let seeds = seeds(target);
    assert!(!seeds.is_empty(), "{target} has no seeds");
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let try_one = |input: &[u8]| {
        assert!(catch_unwind(|| check(input)).is_ok(), "{target} fails with \"{}\"", input.escape_ascii());
    };
    for seed in &seeds {
        try_one(seed);
    }
    for round in 0..CHANGED {
        let other = &seeds[numbers.below(seeds.len())];
        try_one(&change(&seeds[round % seeds.len()], other, &mut numbers));
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            let (_, check) = targets::TARGETS.iter().find(|(own, _)| *own == stringify!($name)).unwrap();
            run(stringify!($name), *check);
        })*

        #[test]
        fn every_target_is_run() {
            for (name, _) in targets::TARGETS {
                assert!([$(stringify!($name)),*, "jwe", "pfx"].contains(name), "{name}");
            }
        }
    };
}

targets! {
    compact_jwt claims signed_request http_head chunked_body overrides pop_public_key jwks metadata www_authenticate redirect
    forwarding downstream_answer configuration pem
}

/// Each try costs an RSA operation, so the seeds alone are tried.
#[cfg(feature = "jwe")]
#[test]
fn jwe() {
    for seed in seeds("jwe") {
        targets::token::jwe(&seed);
    }
}

/// Each try costs thousands of hashes, so the seeds alone are tried, cut off in every tenth place.
#[test]
fn pfx() {
    for seed in seeds("pfx") {
        targets::operator::pfx(&seed);
        for length in (0..seed.len()).step_by(seed.len() / 10 + 1) {
            targets::operator::pfx(&seed[..length]);
        }
    }
}
