//! The public key that a caller wants a token bound to, in any of the forms of the protocol page's
//! section 5.3, and the `req_cnf` that names it to Entra by its thumbprint (RFC 7638, RFC 7800 §3.4).

use std::collections::BTreeMap;

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ring::digest;
use serde::Deserialize;

use crate::jwks::PRIVATE_MEMBERS;
use crate::value::der::{self, RsaPublicKey};

/// Keys are a few hundred bytes; a chain of certificates may be some thousand.
const MAX_BYTES: usize = 16 * 1024;

/// The shortest RSA modulus that is worth binding to, in bytes (NIST SP 800-131A).
const MIN_RSA_BYTES: usize = 256;

/// A public key that a token is to be bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundKey {
    /// The key's thumbprint, which distinguishes cached tokens.
    pub kid: String,
    /// The form field's value.
    pub req_cnf: String,
}

const EXPECTED: &str = "a public key as PEM, base64 of PEM or DER, JWK, or a ready req_cnf";
const WEAK: &str = "an RSA public key of at least 2048 bits";
const PRIVATE: &str = "a public key; this JWK holds a private one";

impl BoundKey {
    /// Reads any of the accepted forms.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > MAX_BYTES {
            return Err("a public key of at most 16 KiB");
        }
        let text = text.trim();
        if text.starts_with('{') {
            return from_json(text.as_bytes());
        }
        if text.starts_with("-----BEGIN") {
            return from_pem(text);
        }
        let bytes = decode(text).ok_or(EXPECTED)?;
        match bytes.trim_ascii_start() {
            json @ [b'{', ..] => from_json(json),
            pem if pem.starts_with(b"-----BEGIN") => from_pem(std::str::from_utf8(pem).map_err(|_| EXPECTED)?),
            _ => from_der(&bytes),
        }
    }

    /// From the thumbprint.
    pub fn from_kid(kid: String) -> Self {
        let req_cnf = URL_SAFE_NO_PAD.encode(serde_json::json!({ "kid": kid }).to_string());
        Self { kid, req_cnf }
    }

    fn from_canonical_jwk(jwk: &str) -> Self {
        Self::from_kid(URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, jwk.as_bytes())))
    }

    fn from_rsa(key: &RsaPublicKey) -> Result<Self, &'static str> {
        if key.n.len() < MIN_RSA_BYTES || key.e.is_empty() {
            return Err(WEAK);
        }
        let (n, e) = (URL_SAFE_NO_PAD.encode(&key.n), URL_SAFE_NO_PAD.encode(&key.e));
        Ok(Self::from_canonical_jwk(&format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#)))
    }
}

/// Base64 of either alphabet, padded or not. A `+` that came unencoded in a query has become a blank.
fn decode(text: &str) -> Option<Vec<u8>> {
    const ENGINE: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let standard: String = text
        .chars()
        .filter(|c| !matches!(c, '\r' | '\n'))
        .map(|c| match c {
            ' ' | '-' => '+',
            '_' => '/',
            other => other,
        })
        .collect();
    ENGINE.decode(standard).ok()
}

#[derive(Deserialize)]
struct Jwk {
    kid: Option<String>,
    kty: Option<String>,
    n: Option<String>,
    e: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    #[serde(flatten)]
    #[expect(clippy::zero_sized_map_values, reason = "the values may be secret, and are not kept")]
    others: BTreeMap<String, serde::de::IgnoredAny>,
}

fn from_json(json: &[u8]) -> Result<BoundKey, &'static str> {
    let jwk: Jwk = serde_json::from_slice(json).map_err(|_| EXPECTED)?;
    if PRIVATE_MEMBERS.iter().any(|name| jwk.others.contains_key(*name)) {
        return Err(PRIVATE);
    }
    let bytes = |member: &Option<String>| member.as_ref().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    match jwk.kty.as_deref() {
        None => match jwk.kid {
            Some(kid) if (1..=256).contains(&kid.len()) => Ok(BoundKey::from_kid(kid)),
            _ => Err(EXPECTED),
        },
        Some("RSA") => {
            let (n, e) = Option::zip(bytes(&jwk.n), bytes(&jwk.e)).ok_or(EXPECTED)?;
            let strip = |bytes: Vec<u8>| bytes.into_iter().skip_while(|byte| *byte == 0).collect();
            BoundKey::from_rsa(&RsaPublicKey { n: strip(n), e: strip(e) })
        }
        Some("EC") => {
            let (curve, length) = match jwk.crv.as_deref() {
                Some("P-256") => ("P-256", 32),
                Some("P-384") => ("P-384", 48),
                _ => return Err("an elliptic curve key on P-256 or P-384"),
            };
            let (x, y) = Option::zip(bytes(&jwk.x), bytes(&jwk.y)).ok_or(EXPECTED)?;
            if x.len() != length || y.len() != length {
                return Err(EXPECTED);
            }
            Ok(from_point(curve, &x, &y))
        }
        Some(_) => Err("an RSA or elliptic curve key"),
    }
}

fn from_point(curve: &str, x: &[u8], y: &[u8]) -> BoundKey {
    let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
    BoundKey::from_canonical_jwk(&format!(r#"{{"crv":"{curve}","kty":"EC","x":"{x}","y":"{y}"}}"#))
}

fn from_pem(text: &str) -> Result<BoundKey, &'static str> {
    let rest = text.strip_prefix("-----BEGIN ").ok_or(EXPECTED)?;
    let (label, rest) = rest.split_once("-----").ok_or(EXPECTED)?;
    let (body, _) = rest.split_once("-----END ").ok_or(EXPECTED)?;
    let der = decode(body.trim()).ok_or(EXPECTED)?;
    match label {
        "PUBLIC KEY" | "RSA PUBLIC KEY" => from_der(&der),
        "CERTIFICATE" => {
            let certificate = der::Certificate::parse(&der).ok_or(EXPECTED)?;
            from_spki(&certificate.spki)
        }
        label if label.ends_with("PRIVATE KEY") => Err("a public key; this is a private one"),
        _ => Err(EXPECTED),
    }
}

fn from_der(der: &[u8]) -> Result<BoundKey, &'static str> {
    match der::rsa_from_pkcs1(der) {
        Some(key) => BoundKey::from_rsa(&key),
        None => from_spki(der),
    }
}

fn from_spki(spki: &[u8]) -> Result<BoundKey, &'static str> {
    if let Some(key) = der::rsa_from_spki(spki) {
        return BoundKey::from_rsa(&key);
    }
    match der::ec_point_from_spki(spki) {
        Some((curve, [4, point @ ..])) => {
            let (x, y) = point.split_at(point.len() / 2);
            Ok(from_point(curve, x, y))
        }
        _ => Err(EXPECTED),
    }
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

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
        let der = decode(PEM.split("-----").nth(2).unwrap().trim()).unwrap();
        let jwk = format!(r#"{{"kty":"RSA","e":"AQAB","n":"{N}","alg":"RS256","kid":"own"}}"#);
        let forms = [
            PEM.to_owned(),
            PEM.replace('+', " "),
            PEM.replace('\n', "\r\n"),
            STANDARD.encode(PEM),
            URL_SAFE_NO_PAD.encode(PEM),
            STANDARD.encode(&der),
            STANDARD.encode(&der).replace('+', " "),
            STANDARD.encode(&der[24..]),
            jwk.clone(),
            STANDARD.encode(&jwk),
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
        spki.extend(URL_SAFE_NO_PAD.decode("MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4").unwrap());
        spki.extend(URL_SAFE_NO_PAD.decode("4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM").unwrap());
        assert_eq!(BoundKey::parse(jwk), BoundKey::parse(&STANDARD.encode(spki)));
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
