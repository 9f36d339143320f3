//! Parses the documents that an authority publishes. Pure, so it can be fuzzed.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::errors::errors;
use crate::value::jwk::Key;
use crate::value::url::Url;

/// Entra's documents are below 40 KiB.
pub const MAX_BYTES: usize = 1024 * 1024;
/// Entra publishes about ten keys.
pub const MAX_KEYS: usize = 256;

/// OpenID Connect Discovery 1.0 §3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// May contain `{tenantid}`.
    pub issuer: String,
    pub jwks_uri: Url,
    pub token_endpoint: Option<Url>,
}

errors! {
    #[derive(Copy)]
    DocumentError {
        TooLarge => "it is longer than 1 MiB";
        Malformed => "it does not have the expected form";
        KeyAddress => "its jwks_uri is not an absolute URL";
        TooManyKeys => "it has more than 256 keys";
        NoUsableKey => "it has no usable key";
        NoTokenEndpoint => "its token_endpoint is missing or not an absolute URL";
    }
}

/// Parses the OpenID document; ignores its other members.
pub fn metadata(bytes: &[u8]) -> Result<Metadata, DocumentError> {
    #[derive(Deserialize)]
    struct Document {
        issuer: String,
        jwks_uri: String,
        token_endpoint: Option<String>,
    }
    let Document { issuer, jwks_uri, token_endpoint } = parse(bytes)?;
    if issuer.trim().is_empty() {
        return Err(DocumentError::Malformed);
    }
    let jwks_uri = Url::parse(&jwks_uri).map_err(|_| DocumentError::KeyAddress)?;
    let token_endpoint = token_endpoint.and_then(|text| Url::parse(&text).ok());
    Ok(Metadata { issuer, jwks_uri, token_endpoint })
}

/// Parses the `issuer` of the v1 document; ignores everything else.
pub fn issuer(bytes: &[u8]) -> Result<String, DocumentError> {
    #[derive(Deserialize)]
    struct Document {
        issuer: String,
    }
    let Document { issuer } = parse(bytes)?;
    if issuer.trim().is_empty() { Err(DocumentError::Malformed) } else { Ok(issuer) }
}

/// Parses a JWKS (RFC 7517 §5) into its usable keys and the number of skipped ones. One bad key
/// does not spoil the others.
pub fn keys(bytes: &[u8]) -> Result<(Vec<Key>, usize), DocumentError> {
    #[derive(Deserialize)]
    struct Document<'a> {
        #[serde(borrow)]
        keys: Vec<&'a RawValue>,
    }
    let Document { keys: all } = parse(bytes)?;
    if all.len() > MAX_KEYS {
        return Err(DocumentError::TooManyKeys);
    }
    let keys: Vec<Key> = all.iter().filter_map(|jwk| Key::from_jwk(jwk.get()).ok()).collect();
    if keys.is_empty() {
        return Err(DocumentError::NoUsableKey);
    }
    let skipped = all.len() - keys.len();
    Ok((keys, skipped))
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, DocumentError> {
    if bytes.len() > MAX_BYTES {
        return Err(DocumentError::TooLarge);
    }
    serde_json::from_slice(bytes).map_err(|_| DocumentError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwks::testing::{P256, RSA_A};

    #[test]
    fn the_openid_document_names_issuer_and_keys() {
        let text = br#"{"x":[1],"issuer":"https://i.example/{tenantid}/v2.0","jwks_uri":"https://i.example/keys"}"#;
        let document = metadata(text).unwrap();
        assert_eq!(document.issuer, "https://i.example/{tenantid}/v2.0");
        assert_eq!(document.jwks_uri.to_string(), "https://i.example/keys");
        assert_eq!(issuer(text).unwrap(), document.issuer);
    }

    #[test]
    fn another_document_is_refused() {
        for text in [
            "",
            "[]",
            "<html>",
            r#"{"issuer":"i"}"#,
            r#"{"issuer":"i","issuer":"j","jwks_uri":"https://i.example/"}"#,
            r#"{"issuer":7,"jwks_uri":"https://i.example/"}"#,
            r#"{"issuer":" ","jwks_uri":"https://i.example/"}"#,
            r#"{"issuer":"i","jwks_uri":"https://i.example/"}x"#,
        ] {
            assert_eq!(metadata(text.as_bytes()), Err(DocumentError::Malformed), "{text}");
        }
        for uri in ["/keys", "file:///etc/passwd", "https://user@i.example/", ""] {
            let text = format!(r#"{{"issuer":"i","jwks_uri":"{uri}"}}"#);
            assert_eq!(metadata(text.as_bytes()), Err(DocumentError::KeyAddress), "{uri}");
        }
    }

    #[test]
    fn odd_keys_are_left_out_and_counted() {
        let text = format!(r#"{{"keys":[{},7,null,{{"kty":"oct","kid":"o"}},{}]}}"#, RSA_A.jwk("one"), P256.jwk("two"));
        let (found, skipped) = keys(text.as_bytes()).unwrap();
        assert_eq!((found.len(), skipped), (2, 3));
        assert_eq!(keys(br#"{"keys":[]}"#), Err(DocumentError::NoUsableKey));
        assert_eq!(keys(br#"{"keys":{}}"#), Err(DocumentError::Malformed));
        assert_eq!(keys(b"{}"), Err(DocumentError::Malformed));
    }

    #[test]
    fn documents_have_a_budget() {
        let with = |count| {
            let all = vec![P256.jwk("one"); count].join(",");
            keys(format!(r#"{{"keys":[{all}]}}"#).as_bytes()).map(|(keys, _)| keys.len())
        };
        assert_eq!(with(MAX_KEYS - 1), Ok(MAX_KEYS - 1));
        assert_eq!(with(MAX_KEYS), Ok(MAX_KEYS));
        assert_eq!(with(MAX_KEYS + 1), Err(DocumentError::TooManyKeys));
        let padded = |length: usize| {
            let mut text = br#"{"issuer":"i"}"#.to_vec();
            text.resize(length, b' ');
            issuer(&text)
        };
        assert_eq!(padded(MAX_BYTES - 1), Ok("i".into()));
        assert_eq!(padded(MAX_BYTES), Ok("i".into()));
        assert_eq!(padded(MAX_BYTES + 1), Err(DocumentError::TooLarge));
    }
}
