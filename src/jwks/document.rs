//! OpenID metadata and JWKS documents to issuers and keys. A key that cannot be used is left out and
//! counted; it does not take the others with it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use super::key_set::{Key, Material};
use crate::url::Url;

/// No metadata or key document in the field comes near (Entra's JWKS: some 15 KB).
pub const MAX_BYTES: usize = 1024 * 1024;

/// Entra publishes under ten; more than this is no key set.
const MAX_KEYS: usize = 256;

/// Shorter RSA keys are ignored (contract, section 7), in bytes.
const MIN_RSA: usize = 256;

/// Longer ones cost more than a token may cost, in bytes.
const MAX_RSA: usize = 1024;

/// What the metadata is read for.
#[derive(Debug)]
pub struct Metadata {
    /// May hold `{tenantid}`.
    pub issuer: String,
    /// Where the keys are.
    pub jwks_uri: Url,
}

#[derive(Deserialize)]
struct RawMetadata {
    issuer: String,
    jwks_uri: String,
}

/// Reads metadata. The keys must be at an origin that the operator named, or at one of the same cloud.
pub fn metadata(body: &[u8], address: &Url, allow_insecure: bool) -> Result<Metadata, String> {
    let raw: RawMetadata = serde_json::from_slice(body).map_err(|_| "the metadata is no OpenID configuration")?;
    if raw.issuer.is_empty() || raw.issuer.len() > 1024 {
        return Err("the metadata's issuer is no URL".into());
    }
    let jwks_uri = Url::parse(&raw.jwks_uri).map_err(|expected| format!("jwks_uri: expected {expected}"))?;
    if !jwks_uri.origin.https && !jwks_uri.origin.is_loopback() && !allow_insecure {
        return Err(format!("jwks_uri is at {}: expected https", jwks_uri.origin));
    }
    let (own, named) = (&jwks_uri.origin, &address.origin);
    let answers_for = own.https == named.https && own.port == named.port && same_cloud(&own.host, &named.host);
    if own != named && !answers_for {
        return Err(format!("jwks_uri is at {own}, which is not where the metadata is"));
    }
    Ok(Metadata { issuer: raw.issuer, jwks_uri })
}

/// The issuer that the document of version 1 names.
pub fn issuer(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Raw {
        issuer: String,
    }
    let raw: Raw = serde_json::from_slice(body).ok()?;
    (!raw.issuer.is_empty() && raw.issuer.len() <= 1024).then_some(raw.issuer)
}

/// Hosts of one cloud, which answer for each other: protocol page, section 10.
fn same_cloud(one: &str, other: &str) -> bool {
    const CLOUDS: &[&[&str]] = &[
        &["login.microsoftonline.com", "login.windows.net", "login.microsoft.com", "sts.windows.net"],
        &["login.partner.microsoftonline.cn", "login.chinacloudapi.cn"],
        &["login.microsoftonline.us", "login.usgovcloudapi.net"],
    ];
    CLOUDS.iter().any(|cloud| cloud.contains(&one) && cloud.contains(&other))
}

#[derive(Deserialize)]
struct RawKeys {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct RawKey {
    kty: String,
    kid: Option<String>,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    issuer: Option<String>,
    n: Option<String>,
    e: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// Reads a key set (RFC 7517 §5): the keys that can be used, and how many cannot.
pub fn keys(body: &[u8]) -> Result<(Vec<Key>, usize), String> {
    let raw: RawKeys = serde_json::from_slice(body).map_err(|_| "the key document is no JWK set")?;
    if raw.keys.len() > MAX_KEYS {
        return Err(format!("the key document holds more than {MAX_KEYS} keys"));
    }
    let total = raw.keys.len();
    let keys: Vec<Key> = raw.keys.into_iter().filter_map(key).collect();
    let skipped = total - keys.len();
    Ok((keys, skipped))
}

fn key(value: Value) -> Option<Key> {
    let raw: RawKey = serde_json::from_value(value).ok()?;
    let kid = raw.kid.filter(|kid| !kid.is_empty())?;
    // Keys for anything else than signatures are left out (RFC 7517 §4.2, §4.3).
    let for_signing = raw.r#use.is_none_or(|purpose| purpose == "sig")
        && raw.key_ops.is_none_or(|operations| operations.iter().any(|operation| operation == "verify"));
    if !for_signing {
        return None;
    }
    let bytes = |text: Option<String>| URL_SAFE_NO_PAD.decode(text?).ok();
    let material = match (raw.kty.as_str(), raw.crv.as_deref()) {
        ("RSA", _) => {
            let strip = |bytes: Vec<u8>| bytes.into_iter().skip_while(|byte| *byte == 0).collect::<Vec<u8>>();
            let (n, e) = (strip(bytes(raw.n)?), strip(bytes(raw.e)?));
            if !(MIN_RSA..=MAX_RSA).contains(&n.len()) || n[0] < 0x80 && n.len() == MIN_RSA || e.is_empty() {
                return None;
            }
            Material::Rsa { n, e }
        }
        ("EC", Some("P-256")) => Material::P256(point(32, &bytes(raw.x)?, &bytes(raw.y)?)?),
        ("EC", Some("P-384")) => Material::P384(point(48, &bytes(raw.x)?, &bytes(raw.y)?)?),
        _ => return None,
    };
    Some(Key {
        kid,
        material,
        alg: raw.alg.filter(|alg| !alg.is_empty()),
        issuer: raw.issuer.filter(|text| !text.trim().is_empty()),
    })
}

fn point(length: usize, x: &[u8], y: &[u8]) -> Option<Vec<u8>> {
    (x.len() == length && y.len() == length).then(|| [&[4], x, y].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> Url {
        Url::parse("https://login.microsoftonline.com/t/v2.0/.well-known/openid-configuration").unwrap()
    }

    fn meta(jwks_uri: &str, insecure: bool) -> Result<Metadata, String> {
        metadata(format!(r#"{{"issuer":"https://i","jwks_uri":"{jwks_uri}"}}"#).as_bytes(), &address(), insecure)
    }

    #[test]
    fn keys_come_from_where_the_metadata_is_or_from_its_cloud() {
        assert!(meta("https://login.microsoftonline.com/t/discovery/v2.0/keys", false).is_ok());
        assert!(meta("https://login.windows.net/t/keys", false).is_ok());
        for uri in [
            "https://evil.example/keys",
            "https://login.microsoftonline.us/t/keys",
            "https://login.microsoftonline.com:8443/keys",
            "http://login.microsoftonline.com/keys",
            "https://login.microsoftonline.com.evil.example/keys",
            "/keys",
            "file:///etc/passwd",
        ] {
            assert!(meta(uri, false).is_err(), "{uri}");
        }
        assert!(meta("http://login.microsoftonline.com/keys", true).is_err(), "another origin in any case");
    }

    #[test]
    fn what_is_no_metadata_is_refused() {
        for body in
            ["", "{}", "[]", r#"{"issuer":"x"}"#, r#"{"issuer":"","jwks_uri":"https://login.microsoftonline.com/k"}"#]
        {
            assert!(metadata(body.as_bytes(), &address(), false).is_err(), "{body}");
        }
    }

    fn rsa(bytes: usize, first: u8) -> String {
        let mut n = vec![0xff; bytes];
        n[0] = first;
        URL_SAFE_NO_PAD.encode(n)
    }

    fn read(members: &str) -> (usize, usize) {
        let (keys, skipped) = keys(format!(r#"{{"keys":[{{"kid":"k",{members}}}]}}"#).as_bytes()).unwrap();
        (keys.len(), skipped)
    }

    #[test]
    fn only_keys_that_can_verify_are_kept() {
        let good = format!(r#""kty":"RSA","e":"AQAB","n":"{}""#, rsa(256, 0x80));
        for members in [
            good.clone(),
            format!(r#"{good},"use":"sig""#),
            format!(r#"{good},"key_ops":["verify"]"#),
            format!(r#""kty":"RSA","e":"AQAB","n":"{}""#, rsa(1024, 0x80)),
            format!(r#""kty":"EC","crv":"P-256","x":"{0}","y":"{0}""#, URL_SAFE_NO_PAD.encode([1; 32])),
            format!(r#""kty":"EC","crv":"P-384","x":"{0}","y":"{0}""#, URL_SAFE_NO_PAD.encode([1; 48])),
        ] {
            assert_eq!(read(&members), (1, 0), "{members}");
        }
        for members in [
            format!(r#"{good},"use":"enc""#),
            format!(r#"{good},"key_ops":["encrypt"]"#),
            format!(r#""kty":"RSA","e":"AQAB","n":"{}""#, rsa(256, 0x7f)),
            format!(r#""kty":"RSA","e":"AQAB","n":"{}""#, rsa(255, 0xff)),
            format!(r#""kty":"RSA","e":"AQAB","n":"{}""#, rsa(1025, 0x80)),
            format!(r#""kty":"RSA","n":"{}""#, rsa(256, 0x80)),
            r#""kty":"RSA","e":"AQAB","n":"!""#.to_owned(),
            r#""kty":"oct","k":"AA""#.to_owned(),
            format!(r#""kty":"EC","crv":"P-521","x":"{0}","y":"{0}""#, URL_SAFE_NO_PAD.encode([1; 66])),
            format!(r#""kty":"EC","crv":"P-256","x":"{0}","y":"AA""#, URL_SAFE_NO_PAD.encode([1; 32])),
            r#""kty":7"#.to_owned(),
        ] {
            assert_eq!(read(&members), (0, 1), "{members}");
        }
        assert!(keys(b"{}").is_err() && keys(b"[]").is_err() && keys(b"").is_err());
    }

    #[test]
    fn the_number_of_keys_is_bounded_at_and_above_the_limit() {
        let list = |count: usize| format!(r#"{{"keys":[{}]}}"#, vec!["{}"; count].join(","));
        assert!(keys(list(MAX_KEYS).as_bytes()).is_ok());
        assert!(keys(list(MAX_KEYS + 1).as_bytes()).is_err());
    }
}
