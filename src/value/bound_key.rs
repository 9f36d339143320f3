//! The public key that a caller wants a token bound to, in PEM, DER, JWK or `req_cnf` form, and the
//! `req_cnf` that identifies it to Entra by its thumbprint (RFC 7638, RFC 7800 §3.4).

use super::der::{self, RsaPublicKey};
use super::jwk::{Members, PublicKey, Unusable};
use super::{Expected, b64, ensure, pem};

/// Keys take a few hundred bytes; a certificate chain may take several thousand.
const MAX_BYTES: usize = 16 * 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundKey {
    /// RFC 7638 thumbprint; part of the cache key.
    pub kid: String,
    /// The form field `req_cnf`: base64url of `{"kid":"…"}`.
    pub req_cnf: String,
    /// True if this process has generated the key, so that no other one has it.
    pub generated: bool,
}

const EXPECTED: &str = "a public key as PEM, base64 of PEM or DER, JWK, or a ready req_cnf";
const WEAK: &str = "an RSA public key of 2048 to 8192 bits, or whole coordinates of a curve";
const OTHER_TYPE: &str = "an RSA key, or an elliptic curve key on P-256 or P-384";
const PRIVATE: &str = "a public key; this JWK holds a private one";

impl BoundKey {
    pub fn parse(text: &str) -> Result<Self, Expected> {
        ensure(text.len() <= MAX_BYTES, "a public key of at most 16 KiB")?;
        let text = text.trim();
        if text.starts_with('{') {
            return from_json(text.as_bytes());
        }
        if text.starts_with("-----BEGIN") {
            return from_pem(text);
        }
        let bytes = b64::lenient(text).ok_or(EXPECTED)?;
        match bytes.trim_ascii_start() {
            json @ [b'{', ..] => from_json(json),
            pem if pem.starts_with(b"-----BEGIN") => from_pem(std::str::from_utf8(pem).map_err(|_| EXPECTED)?),
            _ => from_der(&bytes),
        }
    }

    pub fn from_kid(kid: String) -> Self {
        let req_cnf = b64::url(serde_json::json!({ "kid": kid }).to_string());
        Self { kid, req_cnf, generated: false }
    }

    pub fn of(key: &PublicKey) -> Self {
        Self::from_kid(key.thumbprint())
    }
}

fn from_json(json: &[u8]) -> Result<BoundKey, Expected> {
    let jwk: Members = serde_json::from_slice(json).map_err(|_| EXPECTED)?;
    match jwk.kid.as_deref() {
        _ if jwk.kty.is_some() => usable(jwk.public_key()),
        Some(kid) if (1..=256).contains(&kid.len()) => Ok(BoundKey::from_kid(kid.to_owned())),
        _ => Err(EXPECTED),
    }
}

fn usable(key: Result<PublicKey, Unusable>) -> Result<BoundKey, Expected> {
    match key {
        Ok(key) => Ok(BoundKey::of(&key)),
        Err(Unusable::Weak) => Err(WEAK),
        Err(Unusable::OtherType) => Err(OTHER_TYPE),
        Err(Unusable::Private) => Err(PRIVATE),
        Err(_) => Err(EXPECTED),
    }
}

fn from_pem(text: &str) -> Result<BoundKey, Expected> {
    let section = pem::sections(text.as_bytes()).next().and_then(Result::ok).ok_or(EXPECTED)?;
    // Spaces stand for plus signs here, so this module's own rule decodes the body.
    let der = std::str::from_utf8(section.body).ok().and_then(|body| b64::lenient(body.trim())).ok_or(EXPECTED)?;
    match section.label {
        b"PUBLIC KEY" | b"RSA PUBLIC KEY" => from_der(&der),
        b"CERTIFICATE" => usable(PublicKey::from_spki(&der::Certificate::parse(&der).ok_or(EXPECTED)?.spki)),
        label if label.ends_with(b"PRIVATE KEY") => Err("a public key; this is a private one"),
        _ => Err(EXPECTED),
    }
}

fn from_der(der: &[u8]) -> Result<BoundKey, Expected> {
    usable(match der::rsa_from_pkcs1(der) {
        Some(RsaPublicKey { n, e }) => PublicKey::rsa(n, e),
        None => PublicKey::from_spki(der).map_err(|error| match error {
            Unusable::OtherType => Unusable::Malformed,
            other => other,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // The key of RFC 7638 §3.1, and its PEM form.
    const N: &str = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
    const KID: &str = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";
    const REQ_CNF: &str = "eyJraWQiOiJOemJMc1hoOHVEQ2NkLTZNTndYRjRXXzdub1dYRlpBZkhreFpzUkdDOVhzIn0";
    const PEM: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA0vx7agoebGcQSuuPiLJX
ZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tS
oc/BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ/2W+5JsGY4Hc5n9yBXArwl93lqt
7/RN5w6Cf0h4QyQ5v+65YGjQR0/FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0
zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt+bFTWhAI4vMQFh6WeZu0f
M4lFd2NcRwr3XPksINHaQ+G/xBniIqbw0Ls1jF44+csFCur+kEgU8awapJzKnqDK
gwIDAQAB
-----END PUBLIC KEY-----";

    #[test]
    fn one_key_is_the_same_in_every_form() {
        let der = b64::lenient(PEM.split("-----").nth(2).unwrap().trim()).unwrap();
        let jwk = format!(r#"{{"kty":"RSA","e":"AQAB","n":"{N}","alg":"RS256","kid":"own"}}"#);
        let forms = [
            PEM.to_owned(),
            PEM.replace('+', " "),
            PEM.replace('\n', "\r\n"),
            b64::standard(PEM),
            b64::url(PEM),
            b64::standard(&der),
            b64::standard(&der).replace('+', " "),
            b64::standard(&der[24..]),
            jwk.clone(),
            b64::standard(&jwk),
            format!(r#"{{"kid":"{KID}"}}"#),
            REQ_CNF.to_owned(),
            format!("  {REQ_CNF}\n"),
        ];
        for form in forms {
            let key = BoundKey::parse(&form).unwrap_or_else(|expected| panic!("{form}: expected {expected}"));
            assert_eq!((key.kid.as_str(), key.req_cnf.as_str()), (KID, REQ_CNF), "{form}");
        }
    }

    #[test]
    fn elliptic_curve_keys_have_their_thumbprint_too() {
        // The key of RFC 7517 §A.1 in both forms.
        let jwk = r#"{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}"#;
        let mut spki = vec![
            0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
            0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
        ];
        spki.extend(b64::from_url("MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4").unwrap());
        spki.extend(b64::from_url("4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM").unwrap());
        assert_eq!(BoundKey::parse(jwk), BoundKey::parse(&b64::standard(spki)));
    }

    #[test]
    fn what_is_no_public_key_is_refused() {
        let weak = format!(r#"{{"kty":"RSA","e":"AQAB","n":"{}"}}"#, &N[..340]);
        let private = format!(r#"{{"kty":"RSA","e":"AQAB","n":"{N}","d":"AQAB"}}"#);
        let primes = format!(r#"{{"kty":"RSA","e":"AQAB","n":"{N}","p":"AQAB","q":"AQAB"}}"#);
        let huge = "A".repeat(MAX_BYTES + 1);
        for text in [
            "",
            "{}",
            "{",
            "x",
            "AAAA",
            "{\"kid\":\"\"}",
            "{\"kty\":\"oct\",\"k\":\"AA\"}",
            &weak,
            &private,
            &primes,
            &huge,
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
            "-----BEGIN PUBLIC KEY-----",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
            r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#,
        ] {
            assert!(BoundKey::parse(text).is_err(), "{text}");
        }
    }
}
