//! Tokens that somebody made to be let in. Each says why it must not be, and by which check it is stopped; most are truly signed, so
//! that no other check can have done it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a corpus that cannot be made is a failed test")]

mod algorithms;
mod claims;
mod corpus;
mod encoding;
#[cfg(feature = "jwe")]
mod encrypted;
mod introspection;
mod issuers;
mod keys;
mod members;
mod mint;
mod one_bit;

use std::collections::BTreeSet;

use corpus::{corpus, validator};
use mint::{CLIENT, Case, NOW, TENANT, good, jws, key_set, payload, policy, tenants_key, with_claims};

#[test]
fn each_hostile_token_is_refused_by_its_own_check() {
    let (validator, keys, corpus) = (validator(policy(), 10_000), key_set(), corpus());
    let mut wrong = Vec::new();
    for Case { reason, token, code } in &corpus {
        match validator.validate(token, &keys, NOW).map_err(|rejection| rejection.code()) {
            Ok(_) => wrong.push(format!("{reason}: ACCEPTED")),
            Err(other) if other != *code => wrong.push(format!("{reason}: {other}, not {code}")),
            Err(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), corpus.len(), wrong.join("\n"));
}

#[test]
fn the_corpus_is_large_and_says_everything_once() {
    let corpus = corpus();
    let reasons: BTreeSet<_> = corpus.iter().map(|case| &case.reason).collect();
    assert_eq!(reasons.len(), corpus.len());
    assert!(corpus.len() >= 400, "{}", corpus.len());
}

/// The description stands within a quoted string of `WWW-Authenticate`, and in the log.
#[test]
fn no_rejection_can_leave_its_header_or_tell_the_token() {
    let (validator, keys) = (validator(policy(), 10_000), key_set());
    for Case { reason, token, .. } in corpus() {
        let Err(rejection) = validator.validate(&token, &keys, NOW) else { panic!("{reason} was accepted") };
        let text = rejection.description();
        assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\'), "{text}");
        assert!(text.len() < 512, "{text}");
        for part in token.split('.').filter(|part| part.len() > 32) {
            assert!(!text.contains(&part[..16]), "{reason}: {text}");
        }
    }
}

/// The counterpart: a validator that refuses everything would pass all of the above.
#[test]
fn every_good_form_is_accepted() {
    let (validator, keys) = (validator(policy(), 10_000), key_set());
    let accepted = |what: &str, token: &str| {
        let outcome = validator.validate(token, &keys, NOW).map(|_| ());
        assert_eq!(outcome, Ok(()), "{what}");
    };
    for (kid, algorithm) in [
        ("rsa", "RS256"),
        ("rsa", "RS384"),
        ("rsa", "RS512"),
        ("rsa", "PS256"),
        ("rsa", "PS384"),
        ("rsa", "PS512"),
        ("ps-only", "PS256"),
        ("p256", "ES256"),
        ("p384", "ES384"),
    ] {
        let header = format!(r#"{{"alg":"{algorithm}","kid":"{kid}"}}"#);
        let token = jws(&header, payload(&[]), |input| tenants_key(kid).sign(algorithm, input));
        accepted(algorithm, &token);
    }
    accepted("v2", &good());
    let v1 = with_claims(&[
        ("iss", &format!("\"https://sts.windows.net/{TENANT}/\"")),
        ("aud", &format!("\"api://{CLIENT}\"")),
        ("ver", "\"1.0\""),
    ]);
    accepted("v1", &v1);
    accepted("several audiences", &with_claims(&[("aud", &format!("[\"other\",\"{CLIENT}\"]"))]));
    accepted("an application's", &with_claims(&[("scp", ""), ("idtyp", "\"app\""), ("roles", "[\"r\"]")]));
    accepted("an hour with a fraction", &with_claims(&[("exp", "1700003600.5")]));
    accepted("nested as deep as may be", &with_claims(&[("x", &format!("{}{}", "[".repeat(15), "]".repeat(15)))]));
    let own = mint::PERSONAL;
    let personal = payload(&[
        ("iss", &format!("\"https://login.microsoftonline.com/{own}/v2.0\"")),
        ("tid", &format!("\"{own}\"")),
    ]);
    let header = r#"{"alg":"RS256","kid":"personal"}"#;
    accepted("a personal account's", &jws(header, personal, |input| tenants_key("personal").sign("RS256", input)));
    #[cfg(feature = "jwe")]
    for alg in ["RSA-OAEP", "RSA-OAEP-256"] {
        for enc in ["A128CBC-HS256", "A256CBC-HS512", "A128GCM", "A256GCM"] {
            accepted(&format!("{alg} {enc}"), &encrypted::encrypted(&good(), alg, enc));
        }
    }
}
