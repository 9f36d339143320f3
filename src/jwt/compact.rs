//! The compact form of a JWS (RFC 7515 §3.1): three parts in canonical base64url. Nothing here is
//! trusted yet.

use zeroize::Zeroizing;

use super::Rejection;
use super::claims::{Claim, Claims};
use crate::value::b64;
use crate::value::jwk::Algorithm;

/// A decoded but unverified token.
#[derive(Debug)]
pub struct Jws<'a> {
    pub algorithm: Algorithm,
    pub kid: Option<String>,
    /// True if the header has a `nonce`, as in tokens for Microsoft Graph, whose signature covers
    /// the nonce's hash instead.
    pub has_nonce: bool,
    /// The first two parts as received (RFC 7515 §5.2).
    pub signing_input: &'a str,
    pub payload: Zeroizing<Vec<u8>>,
    pub signature: Vec<u8>,
}

/// The caller has checked the length.
pub fn parse(token: &str) -> Result<Jws<'_>, Rejection> {
    let mut parts = token.split('.');
    let (Some(header), Some(payload), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Rejection::Malformed("it does not have the three parts of a JWS"));
    };
    let signing_input = &token[..header.len() + 1 + payload.len()];
    let header = decode(header)?;
    let payload = Zeroizing::new(decode(payload)?);
    let signature = decode(signature)?;
    let header = Claims::parse(&header).ok_or(Rejection::Malformed("its header is not strict JSON"))?;
    let (algorithm, kid) = read_header(&header)?;
    let has_nonce = header.has("nonce");
    Ok(Jws { algorithm, kid, has_nonce, signing_input, payload, signature })
}

pub fn decode(part: &str) -> Result<Vec<u8>, Rejection> {
    b64::from_url(part).ok_or(Rejection::Malformed("it is not canonical base64url"))
}

/// Ignores `typ`, which Entra and others use inconsistently. Never reads `jku`, `jwk`, `x5u` and
/// `x5c`: a token must not choose its own key (RFC 8725 §3.10).
fn read_header(header: &Claims<'_>) -> Result<(Algorithm, Option<String>), Rejection> {
    if header.has("crit") {
        // Critical headers must be understood (RFC 7515 §4.1.11), and no extension is.
        return Err(Rejection::CriticalHeader);
    }
    if header.has("b64") {
        // `b64` must be listed in `crit` (RFC 7797 §6); without it, it is a trap.
        return Err(Rejection::CriticalHeader);
    }
    let algorithm = match header.text("alg") {
        Claim::Present(name) => Algorithm::parse(name).ok_or(Rejection::AlgorithmNotAllowed)?,
        Claim::Absent | Claim::Malformed => return Err(Rejection::AlgorithmNotAllowed),
    };
    match header.text("kid") {
        Claim::Present(kid) => Ok((algorithm, Some(kid.to_owned()))),
        Claim::Absent => Ok((algorithm, None)),
        Claim::Malformed => Err(Rejection::Malformed("its key id is not a string")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwks::testing::b64;

    fn with_header(header: &str) -> Result<(Algorithm, Option<String>), Rejection> {
        let token = format!("{}.{}.{}", b64(header), b64("{}"), b64("s"));
        parse(&token).map(|jws| (jws.algorithm, jws.kid))
    }

    #[test]
    fn a_header_names_algorithm_and_key() {
        let header =
            r#"{"typ":"at+jwt","alg":"RS256","kid":"k","jku":"https://evil.example/","jwk":{"kty":"oct"},"x5c":[1]}"#;
        assert_eq!(with_header(header), Ok((Algorithm::Rs256, Some("k".into()))));
        assert_eq!(with_header(r#"{"alg":"ES384"}"#), Ok((Algorithm::Es384, None)));
    }

    #[test]
    fn a_header_that_asks_for_anything_else_is_refused() {
        for alg in ["none", "NONE", "HS256", "rs256", "RS1", "ES512", "ES256K", "EdDSA", "RSA-OAEP", "dir", ""] {
            assert_eq!(
                with_header(&format!(r#"{{"alg":"{alg}","kid":"k"}}"#)),
                Err(Rejection::AlgorithmNotAllowed),
                "{alg}"
            );
        }
        for header in [r#"{"kid":"k"}"#, r#"{"alg":null}"#, r#"{"alg":["RS256"]}"#, r#"{"ALG":"RS256"}"#] {
            assert_eq!(with_header(header), Err(Rejection::AlgorithmNotAllowed), "{header}");
        }
        for header in [
            r#"{"alg":"RS256","kid":"k","crit":["exp"]}"#,
            r#"{"alg":"RS256","kid":"k","crit":[]}"#,
            r#"{"alg":"RS256","kid":"k","b64":true}"#,
        ] {
            assert_eq!(with_header(header), Err(Rejection::CriticalHeader), "{header}");
        }
        for header in [r#"{"alg":"RS256","kid":7}"#, r#"{"alg":"RS256","alg":"none"}"#, "[]", "{}x", ""] {
            assert!(matches!(with_header(header), Err(Rejection::Malformed(_))), "{header}");
        }
    }

    #[test]
    fn there_are_exactly_three_parts() {
        let header = b64(r#"{"alg":"RS256","kid":"k"}"#);
        for token in [
            "",
            ".",
            "..",
            "...",
            &header,
            &format!("{header}.e30"),
            &format!("{header}.e30.AA."),
            &format!("{header}.e30.AA.AA.AA"),
        ] {
            assert!(matches!(parse(token), Err(Rejection::Malformed(_))), "{token}");
        }
    }

    #[test]
    fn only_canonical_base64url_is_decoded() {
        assert_eq!(decode("-_8").unwrap(), [0xfb, 0xff]);
        for part in ["-_9", "-_8=", "+/8", "-_8 ", " -_8", "-\n_8", "A", "-_8\u{e9}"] {
            assert!(decode(part).is_err(), "{part:?}");
        }
    }
}
