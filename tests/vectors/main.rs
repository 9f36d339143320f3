//! Vectors of Project Wycheproof. What they call valid must be accepted and what they call invalid refused, unless
//! `exceptions.json` says why not; an exception that is none any more fails too, so that the list only shrinks.

#![expect(clippy::unwrap_used, reason = "a vector that cannot be read is a failed test")]

mod rfc;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use entra_sidecar::internal::jwks::KeySet;
use entra_sidecar::internal::jwt;
use entra_sidecar::internal::value::Key;
use serde_json::Value;

fn read(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/wycheproof").join(name);
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Reasons by the number of the test.
fn exceptions(suite: &str) -> BTreeMap<u64, String> {
    let all = read("exceptions.json");
    let of_suite = all.as_array().unwrap().iter().filter(|entry| entry["suite"] == suite);
    let mut reasons = BTreeMap::new();
    for entry in of_suite {
        for test in entry["tests"].as_array().unwrap() {
            let known = reasons.insert(test.as_u64().unwrap(), entry["reason"].as_str().unwrap().to_owned());
            assert!(known.is_none(), "{test} is listed twice");
        }
    }
    reasons
}

/// Runs every test of a suite: `accepts` says whether ours agrees to a test with its group's keys.
fn run(suite: &str, accepts: impl Fn(&Value, &Value) -> bool) {
    let document = read(suite);
    let mut exceptions = exceptions(suite);
    let (mut ran, mut failures) = (0, Vec::new());
    for group in document["testGroups"].as_array().unwrap() {
        for test in group["tests"].as_array().unwrap() {
            let number = test["tcId"].as_u64().unwrap();
            let agrees = accepts(group, test) == (test["result"] == "valid");
            ran += 1;
            match exceptions.remove(&number) {
                None if !agrees => failures.push(format!("{number} {}: not {}", test["comment"], test["result"])),
                Some(reason) if agrees => failures.push(format!("{number} agrees, yet is listed: {reason}")),
                _ => {}
            }
        }
    }
    failures.extend(exceptions.keys().map(|number| format!("{number} is listed and does not exist")));
    assert!(failures.is_empty(), "{suite}:\n{}", failures.join("\n"));
    assert_eq!(document["numberOfTests"], ran);
}

#[test]
fn signatures() {
    run("json_web_signature_test.json", |group, test| {
        let keys: Vec<Key> = Key::from_jwk(&group["public"].to_string()).into_iter().collect();
        let keys = KeySet::new(keys, "https://issuer.example/", Vec::new());
        jwt::verify_signature(test["jws"].as_str().unwrap_or_default(), &keys).is_ok()
    });
}

#[cfg(feature = "jwe")]
mod encryption {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use entra_sidecar::internal::jwt::jwe::{self, DecryptionKey};
    use rsa::pkcs8::EncodePrivateKey as _;
    use rsa::{BoxedUint, PrivateKey};

    use super::*;

    pub fn key(jwk: &Value) -> Option<DecryptionKey> {
        let number =
            |name| Some(BoxedUint::from_be_slice_vartime(&URL_SAFE_NO_PAD.decode(jwk[name].as_str()?).unwrap()));
        let primes = vec![number("p")?, number("q")?];
        let key = PrivateKey::from_components(number("n")?, number("e")?, number("d")?, primes).unwrap();
        Some(DecryptionKey::new(key.to_pkcs8_der().unwrap().as_bytes(), None).unwrap())
    }

    #[test]
    fn encrypted_tokens() {
        run("json_web_encryption_test.json", |group, test| {
            let keys: Vec<_> = key(&group["private"]).into_iter().collect();
            let opened = jwe::decrypt(test["jwe"].as_str().unwrap_or_default(), &keys);
            if test["result"] == "valid" {
                let text = decode_hex(test["pt"].as_str().unwrap());
                return opened.is_ok_and(|opened| *opened == text);
            }
            opened.is_ok()
        });
    }

    fn decode_hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }
}
