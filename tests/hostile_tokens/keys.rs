//! Key injection (RFC 8725 §2.2, §3.10): the key comes from the tenant's document and from nowhere else.

use serde_json::{Value, json};

use crate::mint::{Case, PERSONAL, attackers_key, case, jwk, jws, payload, signed, tenants_key};

const FORGED: &str = "signature_invalid";

pub fn cases() -> Vec<Case> {
    let mut cases = brought_along();
    cases.extend(key_ids());
    cases.extend(unusable_keys());
    cases.extend(signatures());
    cases
}

/// Signed by the attacker, and the header offers the key to verify that with.
fn brought_along() -> Vec<Case> {
    let own = attackers_key().public().jwk();
    let named = |kid: &str| {
        let mut jwk = own.clone();
        jwk["kid"] = kid.into();
        jwk
    };
    let mut cases = Vec::new();
    for (what, members) in [
        ("a jwk", json!({ "jwk": own })),
        ("a jwk of the tenant's name", json!({ "jwk": named("rsa") })),
        ("a jwk that is a symmetric key", json!({ "jwk": { "kty": "oct", "k": "AAAA" } })),
        ("a jku", json!({ "jku": "https://evil.example/keys" })),
        ("a jku on loopback", json!({ "jku": "http://127.0.0.1:1/keys" })),
        ("a jku of a file", json!({ "jku": "file:///etc/passwd" })),
        ("a jku with the tenant's host as user", json!({ "jku": "https://login.microsoftonline.com@evil.example/" })),
        ("an x5u", json!({ "x5u": "https://evil.example/certificate.pem" })),
        ("an x5c", json!({ "x5c": ["MIIB"] })),
        ("an x5t", json!({ "x5t": "AAAA", "x5t#S256": "AAAA" })),
        ("everything at once", json!({ "jwk": own, "jku": "https://evil.example/", "x5u": "https://evil.example/" })),
        ("a list of keys", json!({ "keys": [named("rsa")] })),
        ("an issuer", json!({ "iss": "https://login.microsoftonline.com/", "tid": "x" })),
        ("nothing", json!({})),
    ] {
        for (kid, code) in [(json!("rsa"), FORGED), (json!("mine"), "key_not_found"), (Value::Null, "key_id_missing")] {
            let mut header = members.clone();
            header["alg"] = "RS256".into();
            if !kid.is_null() {
                header["kid"] = kid.clone();
            }
            let token = jws(header.to_string(), payload(&[]), |input| attackers_key().sign("RS256", input));
            cases.push(case(format!("a stranger's key with {what} and the key id {kid}"), token, code));
        }
    }
    cases
}

/// Truly signed, under a key id that is not exactly the key's.
fn key_ids() -> Vec<Case> {
    let with = |kid: &str| signed(format!(r#"{{"alg":"RS256","kid":{kid}}}"#), payload(&[]));
    let mut cases = Vec::new();
    for kid in [
        "", "RSA", "Rsa", " rsa", "rsa ", "rsa\\u0000", "rsa\\u0000.pem", "../rsa", "../../../dev/null", "/dev/null",
        "file:///dev/null", "https://evil.example/rsa", "rsa' OR '1'='1", "rsa|cat /etc/passwd", "*", "rs", "rsaa",
        "p256", "for-encryption", "ｒｓａ",
    ] {
        // The curve's key is found and does not fit; the one for encryption was never taken in.
        let code = if kid == "p256" { "key_mismatch" } else { "key_not_found" };
        cases.push(case(format!("the key id '{kid}'"), with(&format!("\"{kid}\"")), code));
    }
    for kid in [r#"["rsa"]"#, r#"["rsa","p256"]"#, "0", "null", "true", r#"{"$ne":""}"#] {
        cases.push(case(format!("a key id that is no text: {kid}"), with(kid), "malformed"));
    }
    cases.push(case("no key id", signed(r#"{"alg":"RS256"}"#, payload(&[])), "key_id_missing"));
    cases.push(case(
        "the key id in capitals",
        signed(r#"{"alg":"RS256","KID":"rsa"}"#, payload(&[])),
        "key_id_missing",
    ));
    let twice = [
        ("the same", r#"{"alg":"RS256","kid":"rsa","kid":"rsa"}"#),
        ("another", r#"{"alg":"RS256","kid":"rsa","kid":"p256"}"#),
        ("escaped", r#"{"alg":"RS256","kid":"rsa","k\u0069d":"p256"}"#),
    ];
    cases.extend(
        twice.map(|(what, header)| case(format!("two key ids: {what}"), signed(header, payload(&[])), "malformed")),
    );
    cases
}

/// Signed by keys of the tenant's document that may not sign this.
fn unusable_keys() -> Vec<Case> {
    let by = |kid: &str, payload: String| {
        let header = json!({ "alg": "RS256", "kid": kid }).to_string();
        jws(header, payload, |input| tenants_key(kid).sign("RS256", input))
    };
    let personal_issuer = format!("\"https://login.microsoftonline.com/{PERSONAL}/v2.0\"");
    vec![
        case("a key of 1024 bits", by("weak", payload(&[])), "key_not_found"),
        case("a key for encryption", by("for-encryption", payload(&[])), "key_not_found"),
        case("the key of personal accounts for a tenant's token", by("personal", payload(&[])), "key_issuer_invalid"),
        case(
            "the issuer of personal accounts with a tenant's id",
            by("personal", payload(&[("iss", &personal_issuer)])),
            "issuer_invalid",
        ),
        case(
            "the key of personal accounts for a tenant's v1 token",
            by("personal", payload(&[("iss", &format!("\"https://sts.windows.net/{}/\"", crate::mint::TENANT))])),
            "key_issuer_invalid",
        ),
    ]
}

/// Under the tenant's key id, what is no signature of that key.
fn signatures() -> Vec<Case> {
    let with = |what: &'static str, header: &str, sign: &dyn Fn(&[u8]) -> Vec<u8>| {
        case(format!("a signature that is {what}"), jws(header, payload(&[]), sign), FORGED)
    };
    let rsa = r#"{"alg":"RS256","kid":"rsa"}"#;
    let curve = r#"{"alg":"ES256","kid":"p256"}"#;
    let by_rsa = |input: &[u8]| tenants_key("rsa").sign("RS256", input);
    let by_curve = |input: &[u8]| tenants_key("p256").sign("ES256", input);
    let modulus = || match tenants_key("rsa").public() {
        local_tenant::keys::PublicKey::Rsa { n, .. } => n,
        _ => unreachable!(),
    };
    assert_eq!(jwk("rsa")["kty"], "RSA");
    vec![
        with("empty", rsa, &|_| Vec::new()),
        with("zero", rsa, &|_| vec![0; 256]),
        with("one", rsa, &|_| [vec![0; 255], vec![1]].concat()),
        with("the modulus", rsa, &|_| modulus()),
        with("all ones", rsa, &|_| vec![0xff; 256]),
        with("of half the length", rsa, &|input| by_rsa(input)[..128].to_vec()),
        with("a zero longer in front", rsa, &|input| [vec![0], by_rsa(input)].concat()),
        with("a zero longer behind", rsa, &|input| [by_rsa(input), vec![0]].concat()),
        with("there twice", rsa, &|input| [by_rsa(input), by_rsa(input)].concat()),
        with("reversed", rsa, &|input| by_rsa(input).into_iter().rev().collect()),
        with("of the payload alone", rsa, &|_| by_rsa(payload(&[]).as_bytes())),
        with("of the input without its dot", rsa, &|input| {
            by_rsa(&input.iter().copied().filter(|byte| *byte != b'.').collect::<Vec<_>>())
        }),
        // CVE-2022-21449: zero passes where nobody asks for 1 <= r, s < n.
        with("zero on a curve", curve, &|_| vec![0; 64]),
        with("a curve's with r of zero", curve, &|input| [vec![0; 32], by_curve(input)[32..].to_vec()].concat()),
        with("a curve's with s of zero", curve, &|input| [by_curve(input)[..32].to_vec(), vec![0; 32]].concat()),
        with("a curve's and all ones", curve, &|_| vec![0xff; 64]),
        with("a curve's and empty", curve, &|_| Vec::new()),
        with("a curve's with r and s swapped", curve, &|input| {
            let signature = by_curve(input);
            [&signature[32..], &signature[..32]].concat()
        }),
        with("a curve's in DER", curve, &|input| {
            let number = |bytes: &[u8]| [&[2, 33, 0], bytes].concat();
            let signature = by_curve(input);
            [vec![0x30, 70], number(&signature[..32]), number(&signature[32..])].concat()
        }),
    ]
}
