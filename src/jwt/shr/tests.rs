//! Complete signed requests, one fact at a time.

use std::time::Duration;

use super::*;
use crate::jwks::testing::{P256, RSA_A, RSA_B, TestKey, key_set};
use crate::jwt::Policy;
use crate::jwt::testing::{NOW, payload, policy};
use crate::value::jwk::Algorithm;

fn settings() -> PopValidation {
    PopValidation {
        method: true,
        host: true,
        path: true,
        query: false,
        accept_unsigned_query: true,
        present_claims: false,
        claims_when_present: vec!["m".into(), "p".into()],
        lifetime: Duration::from_mins(5),
        reject_replays: false,
        reject_bound_as_bearer: false,
    }
}

/// An application's access token with this `cnf`.
fn access_token(cnf: &str) -> String {
    let claims = payload(&[("scp", ""), ("sub", "\"user\""), ("cnf", cnf)]);
    RSA_A.jws(Algorithm::Rs256, r#"{"alg":"RS256","kid":"rsa-a"}"#, &claims)
}

fn by_jwk(key: TestKey) -> String {
    format!(r#"{{"jwk":{{{}}}}}"#, key.public())
}

fn by_thumbprint(key: TestKey) -> String {
    let thumbprint = crate::value::jwk::Key::from_jwk(&key.jwk("any")).unwrap().public_key().thumbprint();
    format!(r#"{{"kid":"{thumbprint}"}}"#)
}

/// A valid request signed with P256; members are replaced, added or, if the value is empty,
/// removed.
fn signed_by(key: TestKey, algorithm: Algorithm, header: &str, changes: &[(&str, &str)]) -> String {
    let members = [
        ("at", format!("\"{}\"", access_token(&by_jwk(P256)))),
        ("ts", NOW.to_string()),
        ("m", "\"GET\"".to_owned()),
        ("u", "\"api.example\"".to_owned()),
        ("p", "\"/v1/me\"".to_owned()),
        ("nonce", "\"n\"".to_owned()),
    ];
    key.jws(algorithm, header, &local_tenant::sample::object(&members, changes))
}

fn signed(changes: &[(&str, &str)]) -> String {
    signed_by(P256, Algorithm::Es256, r#"{"alg":"ES256","typ":"pop"}"#, changes)
}

fn verify_with(settings: PopValidation, signed: &str, request: (&str, &str)) -> Result<Arc<Verified>, Rejection> {
    let request = OriginalRequest::parse(request.0, request.1).unwrap();
    SignedRequests::new(settings).verify(signed, &request, &Validator::new(policy(), 10), &key_set(), NOW)
}

const REQUEST: (&str, &str) = ("get", "https://api.example/v1/me?x=1");

fn check(changes: &[(&str, &str)]) -> Result<(), &'static str> {
    verify_with(settings(), &signed(changes), REQUEST).map(|_| ()).map_err(|rejection| rejection.code())
}

#[test]
fn a_request_by_the_key_of_its_token_is_accepted() {
    let token = verify_with(settings(), &signed(&[]), REQUEST).unwrap();
    assert_eq!(token.assertion(), access_token(&by_jwk(P256)));
    assert!(token.is_app_only());
}

#[test]
fn a_thumbprint_names_a_key_within_the_request() {
    let at = format!("\"{}\"", access_token(&by_thumbprint(RSA_B)));
    let header = r#"{"alg":"PS256","typ":"pop"}"#;
    let with = |cnf: &str| {
        let signed = signed_by(RSA_B, Algorithm::Ps256, header, &[("at", &at), ("cnf", cnf)]);
        verify_with(settings(), &signed, REQUEST).map(|_| ()).map_err(|rejection| rejection.code())
    };
    assert_eq!(with(&by_jwk(RSA_B)), Ok(()));
    assert_eq!(with(&by_jwk(RSA_A)), Err("request_mismatch"), "another key");
    assert_eq!(with(&by_thumbprint(RSA_B)), Err("request_mismatch"), "no key");
    assert_eq!(with(""), Err("request_mismatch"));
}

#[test]
fn only_the_bound_key_may_sign() {
    let header = r#"{"alg":"PS256","typ":"pop"}"#;
    let by_another = signed_by(RSA_B, Algorithm::Ps256, header, &[]);
    assert_eq!(verify_with(settings(), &by_another, REQUEST).map(|_| ()), Err(Rejection::KeyMismatch));
    let at = format!("\"{}\"", access_token(&by_jwk(RSA_A)));
    let forged = signed_by(RSA_B, Algorithm::Ps256, header, &[("at", &at)]);
    assert_eq!(verify_with(settings(), &forged, REQUEST).map(|_| ()), Err(Rejection::SignatureInvalid));
    let own_key = signed_by(RSA_B, Algorithm::Ps256, header, &[("at", &at), ("cnf", &by_jwk(RSA_B))]);
    assert_eq!(verify_with(settings(), &own_key, REQUEST).map(|_| ()), Err(Rejection::SignatureInvalid));
    for cnf in
        ["", "{}", "7", r#"{"kid":7}"#, r#"{"jwk":{"kty":"oct","k":"AAAA"}}"#, r#"{"jku":"https://evil.example/"}"#]
    {
        let at = format!("\"{}\"", access_token(cnf));
        assert_eq!(check(&[("at", &at)]), Err("request_mismatch"), "{cnf}");
    }
}

#[test]
fn the_access_token_is_verified_by_its_own_rules() {
    let with = |changes: &[(&str, &str)]| {
        let cnf = by_jwk(P256);
        let changes: Vec<_> = changes.iter().copied().chain([("cnf", cnf.as_str())]).collect();
        let token = RSA_A.jws(Algorithm::Rs256, r#"{"alg":"RS256","kid":"rsa-a"}"#, &payload(&changes));
        check(&[("at", &format!("\"{token}\""))])
    };
    assert_eq!(with(&[("scp", ""), ("oid", "")]), Ok(()));
    assert_eq!(with(&[("scp", ""), ("exp", "1"), ("nbf", "")]), Err("expired"));
    assert_eq!(with(&[("scp", ""), ("aud", "\"x\"")]), Err("audience_invalid"));
    assert_eq!(with(&[]), Err("not_app_only"), "a user's");
    assert_eq!(with(&[("scp", ""), ("idtyp", "\"user\"")]), Err("not_app_only"));
    assert_eq!(check(&[("at", "")]), Err("request_mismatch"));
    assert_eq!(check(&[("at", "7")]), Err("claim_malformed"));
    assert_eq!(check(&[("at", "\"x\"")]), Err("malformed"));
}

#[test]
fn no_scope_is_required_and_none_is_granted_by_it() {
    let validator = Validator::new(Policy { required_scopes: vec!["other.scope".into()], ..policy() }, 10);
    let request = OriginalRequest::parse(REQUEST.0, REQUEST.1).unwrap();
    let users = RSA_A.jws(Algorithm::Rs256, r#"{"alg":"RS256","kid":"rsa-a"}"#, &payload(&[("cnf", &by_jwk(P256))]));
    let requests = SignedRequests::new(settings());
    assert!(requests.verify(&signed(&[]), &request, &validator, &key_set(), NOW).is_ok());
    let with_users = signed(&[("at", &format!("\"{users}\""))]);
    let outcome = requests.verify(&with_users, &request, &validator, &key_set(), NOW).map(|_| ());
    assert_eq!(outcome, Err(Rejection::NotAppOnly));
    let as_bearer = validator.validate(&users, &key_set(), NOW).map(|_| ());
    assert_eq!(as_bearer, Err(Rejection::ScopeRequired(vec!["other.scope".into()])));
}

#[test]
fn the_time_may_be_off_by_the_lifetime_either_way() {
    for (ts, good) in [(NOW - 301, false), (NOW - 300, true), (NOW + 300, true), (NOW + 301, false)] {
        let outcome = check(&[("ts", &ts.to_string())]);
        assert_eq!(outcome, if good { Ok(()) } else { Err("request_expired") }, "{ts}");
    }
    for ts in ["", "\"1700000000\"", "null"] {
        assert_eq!(check(&[("ts", ts)]), Err("claim_malformed"), "{ts}");
    }
}

#[test]
fn method_host_and_path_must_be_those_of_the_request() {
    for (name, good) in
        [("u", "\"API.example\""), ("u", "\"api.example:443\""), ("p", "\"/v1/me/\""), ("p", "\"v1/me\"")]
    {
        assert_eq!(check(&[(name, good)]), Ok(()), "{name} {good}");
    }
    for (name, bad) in [
        ("m", "\"POST\""),
        ("m", "\"get\""),
        ("u", "\"api.example:444\""),
        ("u", "\"api.example:\""),
        ("u", "\"api.example.evil\""),
        ("u", "\"\""),
        ("p", "\"/v1\""),
        ("p", "\"/V1/me\""),
        ("m", ""),
        ("u", ""),
        ("p", ""),
    ] {
        assert_eq!(check(&[(name, bad)]), Err("request_mismatch"), "{name} {bad}");
    }
    assert_eq!(check(&[("m", "7")]), Err("claim_malformed"));
    assert_eq!(check(&[("q", "7"), ("h", "7"), ("b", "7")]), Ok(()), "not judged");
}

#[test]
fn what_is_switched_off_is_judged_only_where_listed_and_present() {
    let off = PopValidation { method: false, host: false, path: false, ..settings() };
    let with = |settings: &PopValidation, changes: &[(&str, &str)]| {
        verify_with(settings.clone(), &signed(changes), REQUEST).map(|_| ()).map_err(|rejection| rejection.code())
    };
    let other = [("m", "\"PUT\""), ("u", "\"other\""), ("p", "\"/other\"")];
    assert_eq!(with(&off, &other), Ok(()));
    let present = PopValidation { present_claims: true, ..off };
    assert_eq!(with(&present, &[("u", "\"other\"")]), Ok(()), "not listed");
    assert_eq!(with(&present, &[("p", "\"/other\"")]), Err("request_mismatch"));
    assert_eq!(with(&present, &[("m", ""), ("p", "")]), Ok(()), "not present");
}

#[test]
fn a_signed_query_must_be_unchanged() {
    let strict = PopValidation { query: true, accept_unsigned_query: false, ..settings() };
    let lax = PopValidation { query: true, ..settings() };
    let q = |names: &[&str], text: &str| {
        let hash = b64::url_sha256(text.as_bytes());
        format!(r#"[{names:?},"{hash}"]"#)
    };
    let with = |settings: &PopValidation, q: &str, query: &str| {
        let uri = format!("https://api.example/v1/me{query}");
        let outcome = verify_with(settings.clone(), &signed(&[("q", q)]), ("GET", &uri));
        outcome.map(|_| ()).map_err(|rejection| rejection.code())
    };
    let both = q(&["b", "a"], "b=2&a=1");
    assert_eq!(with(&strict, &both, "?a=1&b=2"), Ok(()), "the order is that of the names");
    assert_eq!(with(&lax, &both, "?a=1&b=2&c=3"), Ok(()));
    assert_eq!(with(&strict, &q(&[], ""), ""), Ok(()));
    for (settings, q, query) in [
        (&strict, &both, "?a=1&b=2&c=3"),
        (&lax, &both, "?a=1&b=3"),
        (&lax, &both, "?a=1"),
        (&lax, &both, "?a=1&b=2&b=2"),
        (&lax, &both, ""),
        (&strict, &String::new(), "?a=1"),
    ] {
        assert_eq!(with(settings, q, query), Err("request_mismatch"), "{query}");
    }
    for q in ["7", "[]", r#"[["a"]]"#, r#"["a","b"]"#, r#"[[7],"x"]"#] {
        assert_eq!(with(&strict, q, "?a=1"), Err("claim_malformed"), "{q}");
    }
}

#[test]
fn a_replay_is_refused_where_that_is_asked_for() {
    let (validator, keys) = (Validator::new(policy(), 10), key_set());
    let request = OriginalRequest::parse(REQUEST.0, REQUEST.1).unwrap();
    let (first, second) = (signed(&[]), signed(&[("nonce", "\"other\"")]));
    let once = SignedRequests::new(PopValidation { reject_replays: true, ..settings() });
    let verify =
        |requests: &SignedRequests, signed: &str| requests.verify(signed, &request, &validator, &keys, NOW).map(|_| ());
    assert_eq!(verify(&once, &first), Ok(()));
    assert_eq!(verify(&once, &second), Ok(()));
    assert_eq!(verify(&once, &first), Err(Rejection::RequestReplayed));
    let same_text = signed(&[]);
    assert_ne!(same_text, first, "an ECDSA signature differs each time");
    assert_eq!(verify(&once, &same_text), Err(Rejection::RequestReplayed));
    let reloaded = once.with(PopValidation { reject_replays: true, ..settings() });
    assert_eq!(verify(&reloaded, &first), Err(Rejection::RequestReplayed), "a reload forgets nothing");
    let any = SignedRequests::new(settings());
    assert_eq!((verify(&any, &first), verify(&any, &first)), (Ok(()), Ok(())));
}

#[test]
fn the_original_request_must_be_one() {
    for (method, uri, header) in [
        ("", "https://a.example/", "original-method"),
        ("GE T", "https://a.example/", "original-method"),
        ("GET", "/v1/me", "original-uri"),
        ("GET", "ftp://a.example/", "original-uri"),
        ("GET", "", "original-uri"),
    ] {
        let error = OriginalRequest::parse(method, uri).map(|_| ()).unwrap_err();
        assert!(error.starts_with(header), "{error}");
    }
}
