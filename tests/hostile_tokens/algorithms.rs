//! Algorithm confusion (RFC 8725 §2.1, §3.1): the token does not choose how it is verified.

use ring::hmac;
use serde_json::json;

use crate::mint::{Case, b64, case, good, jwk, jws, payload, tenants_key};

const REFUSED: &str = "algorithm_not_allowed";

pub fn cases() -> Vec<Case> {
    let mut cases = unsigned();
    cases.extend(public_key_as_secret());
    cases.extend(names());
    cases.extend(swapped());
    cases
}

fn unsigned() -> Vec<Case> {
    let mut cases = Vec::new();
    for name in ["none", "None", "NONE", "nOnE", " none", "none ", "none\\u0000", "\\u006eone", "non\\u0435"] {
        let header = format!(r#"{{"alg":"{name}","kid":"rsa"}}"#);
        cases.push(case(format!("unsigned as '{name}'"), jws(&header, payload(&[]), |_| Vec::new()), REFUSED));
    }
    let bare = jws(r#"{"alg":"none"}"#, payload(&[]), |_| Vec::new());
    cases.push(case("unsigned and without a key id", bare, REFUSED));
    let [header, payload] = [r#"{"alg":"none","kid":"rsa"}"#.to_owned(), payload(&[])].map(b64);
    let signature = good().rsplit_once('.').unwrap().1.to_owned();
    cases.push(case("unsigned with a signature of another token", format!("{header}.{payload}.{signature}"), REFUSED));
    cases.push(case("unsigned with two parts", format!("{header}.{payload}"), "malformed"));
    cases
}

/// HMAC with what everybody knows of the key (CVE-2015-9235 and its kin).
fn public_key_as_secret() -> Vec<Case> {
    let jwk = jwk("rsa");
    let modulus = jwk["n"].as_str().unwrap().to_owned();
    let local_tenant::keys::PublicKey::Rsa { n, .. } = tenants_key("rsa").public() else { unreachable!() };
    let secrets = [
        ("its JWK", jwk.to_string().into_bytes()),
        ("its modulus as text", modulus.into_bytes()),
        ("its modulus", n),
        ("its key id", b"rsa".to_vec()),
        ("nothing", Vec::new()),
    ];
    let algorithms = [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)];
    let mut cases = Vec::new();
    for (name, algorithm) in algorithms {
        for (what, secret) in &secrets {
            let header = format!(r#"{{"alg":"{name}","kid":"rsa"}}"#);
            let key = hmac::Key::new(algorithm, secret);
            let token = jws(&header, payload(&[]), |input| hmac::sign(&key, input).as_ref().to_vec());
            cases.push(case(format!("{name} with {what}"), token, REFUSED));
        }
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, &secrets[0].1);
    let sign = |input: &[u8]| hmac::sign(&key, input).as_ref().to_vec();
    let header = r#"{"alg":"RS256","kid":"rsa"}"#;
    cases.push(case("an HMAC in place of an RSA signature", jws(header, payload(&[]), sign), "signature_invalid"));
    cases
}

/// Truly signed with RS256, under a header that says something else.
fn names() -> Vec<Case> {
    let sign = |alg: &str| {
        let header = format!(r#"{{"alg":{alg},"kid":"rsa"}}"#);
        jws(&header, payload(&[]), |input| tenants_key("rsa").sign("RS256", input))
    };
    let mut cases = Vec::new();
    for alg in [
        "rs256", "Rs256", "RS256 ", " RS256", "RS256\\u0000", "RS256,none", "RS-256", "RS1", "RS2048", "ES256K",
        "ES512", "EdDSA", "Ed25519", "dir", "RSA-OAEP", "A128KW", "SHA256withRSA", "",
    ] {
        cases.push(case(format!("the algorithm '{alg}'"), sign(&format!("\"{alg}\"")), REFUSED));
    }
    for alg in [r#"["RS256"]"#, r#"["none","RS256"]"#, "[]", r#"{"RS256":1}"#, "null", "true", "0", "256"] {
        cases.push(case(format!("an algorithm that is no text: {alg}"), sign(alg), REFUSED));
    }
    let header = |text: &str| jws(text, payload(&[]), |input| tenants_key("rsa").sign("RS256", input));
    cases.push(case("no algorithm", header(r#"{"kid":"rsa"}"#), REFUSED));
    cases.push(case("the algorithm's member in capitals", header(r#"{"ALG":"RS256","kid":"rsa"}"#), REFUSED));
    let twice = [
        ("good, then none", r#"{"alg":"RS256","alg":"none","kid":"rsa"}"#),
        ("none, then good", r#"{"alg":"none","alg":"RS256","kid":"rsa"}"#),
        ("good twice", r#"{"alg":"RS256","alg":"RS256","kid":"rsa"}"#),
        ("one with its name escaped", r#"{"alg":"RS256","\u0061lg":"none","kid":"rsa"}"#),
    ];
    cases.extend(twice.map(|(what, text)| case(format!("two algorithms: {what}"), header(text), "malformed")));
    cases
}

/// A signature of the tenant's own key, under the name of another algorithm or key.
fn swapped() -> Vec<Case> {
    let (forged, mismatch) = ("signature_invalid", "key_mismatch");
    let mut cases = Vec::new();
    for (kid, signed_as, named, code) in [
        ("rsa", "RS256", "RS384", forged),
        ("rsa", "RS256", "RS512", forged),
        ("rsa", "RS256", "PS256", forged),
        ("rsa", "PS256", "RS256", forged),
        ("rsa", "PS256", "PS512", forged),
        ("rsa", "RS256", "ES256", mismatch),
        ("rsa", "RS256", "ES384", mismatch),
        ("p256", "ES256", "ES384", mismatch),
        ("p256", "ES256", "RS256", mismatch),
        ("p256", "ES256", "PS256", mismatch),
        ("p384", "ES384", "ES256", mismatch),
        ("ps-only", "RS256", "RS256", mismatch),
        ("ps-only", "PS512", "PS512", mismatch),
    ] {
        let header = json!({ "alg": named, "kid": kid }).to_string();
        let token = jws(&header, payload(&[]), |input| tenants_key(kid).sign(signed_as, input));
        cases.push(case(format!("{kid}: signed as {signed_as}, called {named}"), token, code));
    }
    cases
}
