//! What refusing a hostile token costs beside accepting a good one of its kind: no more than twice as much, or whoever sends
//! such tokens has a lever. Run by `scripts/bench.sh`, or by itself:
//!
//!     cargo bench --bench hostile_tokens

#![allow(dead_code, reason = "the corpus has more to offer than what is measured")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_precision_loss,
    reason = "a measurement, no part of the product"
)]

#[path = "../tests/hostile_tokens/algorithms.rs"]
mod algorithms;
#[path = "../tests/hostile_tokens/claims.rs"]
mod claims;
#[path = "../tests/hostile_tokens/corpus.rs"]
mod corpus;
#[path = "../tests/hostile_tokens/encoding.rs"]
mod encoding;
#[cfg(feature = "jwe")]
#[path = "../tests/hostile_tokens/encrypted.rs"]
mod encrypted;
#[path = "../tests/hostile_tokens/keys.rs"]
mod keys;
#[path = "../tests/hostile_tokens/members.rs"]
mod members;
#[path = "../tests/hostile_tokens/mint.rs"]
mod mint;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use entra_sidecar::internal::jwks::KeySet;
use entra_sidecar::internal::jwt::Validator;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};

/// The least of so many runs is what the work costs; the rest is what else the machine did.
const RUNS: usize = 25;
/// Above this, a token is a lever.
const LIMIT: f64 = 2.0;

fn cost(validator: &Validator, keys: &KeySet, token: &str) -> Duration {
    let run = || {
        let started = Instant::now();
        let _ = black_box(validator.validate(black_box(token), keys, mint::NOW));
        started.elapsed()
    };
    (0..RUNS).map(|_| run()).min().unwrap()
}

/// From here on the length of a token counts beside its signature, so the good one has to be as long.
const LONG: usize = 4 * 1024;

/// A good token of about this length.
fn as_long_as(token: &str) -> String {
    let padding = token.len().min(mint::policy().max_bytes).saturating_sub(mint::good().len() + 256) * 3 / 4;
    mint::with_claims(&[("padding", &format!("\"{}\"", "x".repeat(padding)))])
}

/// What a token of good faith would be that is judged by the same operations.
fn kind(token: &str) -> &'static str {
    let header = token.split('.').next().and_then(|part| URL_SAFE_NO_PAD.decode(part).ok()).unwrap_or_default();
    let header = String::from_utf8_lossy(&header);
    match token.split('.').count() {
        3 if token.len() > LONG => "RS256, long",
        5 => "encrypted",
        _ if header.contains("ES384") => "ES384",
        _ if header.contains("ES256") => "ES256",
        _ => "RS256",
    }
}

fn good() -> BTreeMap<&'static str, String> {
    let signed = |kid: &str, algorithm: &str| {
        let header = format!(r#"{{"alg":"{algorithm}","kid":"{kid}"}}"#);
        mint::jws(&header, mint::payload(&[]), |input| mint::tenants_key(kid).sign(algorithm, input))
    };
    BTreeMap::from([
        ("RS256", signed("rsa", "RS256")),
        ("RS256, long", as_long_as(&"x".repeat(54_000))),
        ("ES256", signed("p256", "ES256")),
        ("ES384", signed("p384", "ES384")),
        #[cfg(feature = "jwe")]
        ("encrypted", encrypted::encrypted(&mint::good(), "RSA-OAEP", "A256GCM")),
    ])
}

/// What is left when everything but the signature's arithmetic is taken away.
fn ring_alone() -> Duration {
    let (token, jwk) = (mint::good(), mint::jwk("rsa"));
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
    let (content, signature) = token.rsplit_once('.').unwrap();
    let (n, e) = (decode(jwk["n"].as_str().unwrap()), decode(jwk["e"].as_str().unwrap()));
    let (key, signature) = (RsaPublicKeyComponents { n, e }, decode(signature));
    let run = || {
        let started = Instant::now();
        black_box(key.verify(&RSA_PKCS1_2048_8192_SHA256, black_box(content.as_bytes()), &signature)).unwrap();
        started.elapsed()
    };
    (0..RUNS).map(|_| run()).min().unwrap()
}

fn main() {
    // Nothing is remembered, so a good token is verified each time.
    let (validator, keys) = (corpus::validator(mint::policy(), 0), mint::key_set());
    let good: BTreeMap<_, _> =
        good().into_iter().map(|(kind, token)| (kind, cost(&validator, &keys, &token))).collect();
    let mut rows: Vec<(f64, &str, String, Duration)> = corpus::corpus()
        .into_iter()
        .map(|case| {
            let (kind, cost) = (kind(&case.token), cost(&validator, &keys, &case.token));
            let base = match kind {
                "RS256, long" => self::cost(&validator, &keys, &as_long_as(&case.token)),
                _ => good.get(kind).copied().unwrap_or(good["RS256"]),
            };
            (cost.as_secs_f64() / base.as_secs_f64(), kind, case.reason, cost)
        })
        .collect();
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    println!("| kind | a good one | hostile ones | the dearest of them, as a ratio | which |");
    println!("|---|---|---|---|---|");
    for (kind, cost) in &good {
        let of_kind = || rows.iter().filter(|row| row.1 == *kind);
        if let Some((ratio, _, reason, _)) = of_kind().next() {
            println!("| {kind} | {:.1} µs | {} | {ratio:.2} | {reason} |", cost.as_secs_f64() * 1e6, of_kind().count());
        }
    }
    println!(
        "\n`ring` alone verifies a signature of RS256 (2,048 bits) in {:.1} µs.",
        ring_alone().as_secs_f64() * 1e6
    );
    let levers: Vec<_> = rows.iter().filter(|row| row.0 > LIMIT).collect();
    for (ratio, kind, reason, cost) in &levers {
        eprintln!("{ratio:.2} times a good {kind} token: {reason} ({:.1} µs)", cost.as_secs_f64() * 1e6);
    }
    std::process::exit(i32::from(!levers.is_empty()));
}
