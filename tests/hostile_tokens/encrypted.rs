//! Encrypted tokens: one answer to everything that cannot be decrypted, and what is within is trusted no more than
//! what comes in the open.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use local_tenant::jwe;
use local_tenant::jwt::Claims;
use local_tenant::keys::{PublicKey, SigningKey, der_of_pem};
use serde_json::Value;

use crate::mint::{Case, HEADER, attackers_key, b64, case, good, jws, payload, with_claims};

const REFUSED: &str = "decryption_failed";
const PEM: &str = include_str!("../local-tenant/keys/encryption.pem");

/// What the sidecar holds, in PKCS#8.
pub fn private_key() -> Vec<u8> {
    der_of_pem(PEM)
}

fn public_key() -> PublicKey {
    SigningKey::rsa("encryption", PEM).public()
}

/// A token for the sidecar.
pub fn encrypted(inner: &str, alg: &str, enc: &str) -> String {
    jwe::encrypt(inner, &public_key(), alg, enc, &Claims::default())
}

pub fn cases() -> Vec<Case> {
    let mut cases = headers();
    cases.extend(parts());
    cases.extend(contents());
    cases
}

/// The header is covered by the tag, so a member that the encryption itself put there is the only fair test of the member.
fn headers() -> Vec<Case> {
    let with = |name: &str, value: Value| {
        let members: Claims = [(name.to_owned(), value)].into_iter().collect();
        jwe::encrypt(&good(), &public_key(), "RSA-OAEP", "A256GCM", &members)
    };
    let mut cases = vec![
        case("encrypted and compressed", with("zip", "DEF".into()), REFUSED),
        case("encrypted and compressed with nothing", with("zip", Value::Null), REFUSED),
        case("encrypted with a critical member", with("crit", vec!["x"].into()), REFUSED),
        case("encrypted with an empty list of critical members", with("crit", Value::Array(Vec::new())), REFUSED),
    ];
    for alg in [
        "RSA1_5", "dir", "none", "RSA-OAEP-384", "RSA-OAEP-512", "rsa-oaep", "A128KW", "A256GCMKW", "ECDH-ES",
        "ECDH-ES+A256KW", "PBES2-HS256+A128KW", "RS256", "", "RSA-OAEP ",
    ] {
        cases.push(case(format!("encrypted with the algorithm '{alg}'"), with("alg", alg.into()), REFUSED));
    }
    for alg in [Value::Null, vec!["RSA-OAEP"].into(), 1.into()] {
        cases.push(case(format!("encrypted with an algorithm that is no text: {alg}"), with("alg", alg), REFUSED));
    }
    for enc in ["A192GCM", "A192CBC-HS384", "A128CBC", "A256CTR", "a256gcm", "none", "", "A128GCM"] {
        cases.push(case(format!("encrypted with the content cipher '{enc}'"), with("enc", enc.into()), REFUSED));
    }
    cases.push(case("encrypted with RSA-OAEP, called RSA-OAEP-256", with("alg", "RSA-OAEP-256".into()), REFUSED));
    cases
}

fn parts() -> Vec<Case> {
    let token = encrypted(&good(), "RSA-OAEP", "A128CBC-HS256");
    let parts: Vec<&str> = token.split('.').collect();
    let with = |index: usize, text: &str| {
        let mut parts = parts.clone();
        parts[index] = text;
        parts.join(".")
    };
    let bytes = |index: usize| URL_SAFE_NO_PAD.decode(parts[index]).unwrap();
    let names = ["header", "wrapped key", "nonce", "text", "tag"];
    let mut cases = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let shorter = b64(&bytes(index)[1..]);
        let longer = b64([bytes(index), vec![0]].concat());
        for (what, text) in
            [("no", ""), ("a shorter", &shorter), ("a longer", &longer), ("a padded", &format!("{}=", parts[index]))]
        {
            cases.push(case(format!("encrypted with {what} {name}"), with(index, text), REFUSED));
        }
    }
    cases.push(case("encrypted with a tag of 8 bytes", with(4, &b64(&bytes(4)[..8])), REFUSED));
    cases.push(case("encrypted with a wrapped key of zeros", with(1, &b64([0; 256])), REFUSED));
    cases.push(case("encrypted with a wrapped key beyond the modulus", with(1, &b64([0xff; 256])), REFUSED));
    let other = encrypted(&good(), "RSA-OAEP", "A128CBC-HS256");
    let other: Vec<&str> = other.split('.').collect();
    for (index, name) in names.iter().enumerate().skip(1) {
        cases.push(case(format!("encrypted with the {name} of another token"), with(index, other[index]), REFUSED));
    }
    let renamed = String::from_utf8(bytes(0)).unwrap().replace("A128CBC-HS256", "A256GCM");
    cases.push(case("encrypted with CBC, called GCM", with(0, &b64(renamed)), REFUSED));
    let twice = String::from_utf8(bytes(0)).unwrap().replacen('{', r#"{"alg":"dir","#, 1);
    cases.push(case("encrypted with two algorithms", with(0, &b64(twice)), REFUSED));
    let foreign = jwe::encrypt(&good(), &attackers_key().public(), "RSA-OAEP", "A256GCM", &Claims::default());
    cases.push(case("encrypted for another", foreign, REFUSED));
    cases.push(case("four dots", "....", REFUSED));
    cases.push(case("five parts of a signed token", format!("{}.AA.AA", good()), REFUSED));
    cases
}

fn contents() -> Vec<Case> {
    let inner = |token: &str| encrypted(token, "RSA-OAEP", "A256GCM");
    let unsigned = jws(r#"{"alg":"none","kid":"rsa"}"#, payload(&[]), |_| Vec::new());
    let forged = jws(HEADER, payload(&[]), |input| attackers_key().sign("RS256", input));
    vec![
        case("within: nothing", inner(""), "malformed"),
        case("within: claims without a signature", inner(&payload(&[])), "malformed"),
        case("within: an unsigned token", inner(&unsigned), "algorithm_not_allowed"),
        case("within: a token signed by a stranger", inner(&forged), "signature_invalid"),
        case("within: another encrypted token", inner(&inner(&good())), "malformed"),
        case("within: a token and a blank", inner(&format!("{} ", good())), "malformed"),
        case("within: a scheme and a token", inner(&format!("Bearer {}", good())), "malformed"),
        case("within: an expired token", inner(&with_claims(&[("exp", "1"), ("nbf", "")])), "expired"),
        case("within: another's token", inner(&with_claims(&[("aud", "\"other\"")])), "audience_invalid"),
        case(
            "signed around a signed token",
            crate::mint::signed(r#"{"alg":"RS256","kid":"rsa","cty":"JWT"}"#, good()),
            "malformed",
        ),
        case("signed around an encrypted token", crate::mint::signed(HEADER, inner(&good())), "malformed"),
    ]
}
