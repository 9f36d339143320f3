//! The form of a compact JWS (RFC 7515 §7.1): three parts, each in the only base64url that it may have.
//! Nothing in here is trusted yet.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::json;
use super::rejection::Rejection;

/// Signature algorithms (RFC 7518 §3.1) that are accepted; there is no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256, SHA-384, SHA-512.
    Rs256,
    /// See above.
    Rs384,
    /// See above.
    Rs512,
    /// RSASSA-PSS with SHA-256, SHA-384, SHA-512.
    Ps256,
    /// See above.
    Ps384,
    /// See above.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
}

impl Algorithm {
    const ALL: [(&'static str, Self); 8] = [
        ("RS256", Self::Rs256),
        ("RS384", Self::Rs384),
        ("RS512", Self::Rs512),
        ("PS256", Self::Ps256),
        ("PS384", Self::Ps384),
        ("PS512", Self::Ps512),
        ("ES256", Self::Es256),
        ("ES384", Self::Es384),
    ];

    /// By its exact name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(own, _)| *own == name).map(|(_, algorithm)| *algorithm)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, own)| *own == self).map_or("", |(name, _)| name)
    }
}

/// What is used of a header. `jku`, `x5u`, `jwk` and `x5c` are not read: a token does not say what it is verified with.
#[derive(Debug)]
pub struct Header {
    /// `alg`.
    pub alg: Algorithm,
    /// `kid`.
    pub kid: String,
}

/// A token taken apart.
#[derive(Debug)]
pub struct Compact<'a> {
    /// What was signed.
    pub signed: &'a [u8],
    /// The decoded header.
    pub header: Header,
    /// The decoded payload.
    pub payload: String,
    /// The decoded signature.
    pub signature: Vec<u8>,
}

impl<'a> Compact<'a> {
    /// Takes a token apart that is not longer than `max_bytes`.
    pub fn parse(token: &'a str, max_bytes: usize) -> Result<Self, Rejection> {
        if token.len() > max_bytes {
            return Err(Rejection::TooLong);
        }
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Rejection::Malformed);
        };
        let signed = &token.as_bytes()[..header.len() + 1 + payload.len()];
        let header = read_header(&decode_text(header)?)?;
        Ok(Self { signed, header, payload: decode_text(payload)?, signature: decode(signature)? })
    }
}

/// Without padding, white space and bits that mean nothing (RFC 7515 §2): the engine refuses all three.
fn decode(part: &str) -> Result<Vec<u8>, Rejection> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Rejection::Malformed)
}

fn decode_text(part: &str) -> Result<String, Rejection> {
    String::from_utf8(decode(part)?).map_err(|_| Rejection::Malformed)
}

fn read_header(text: &str) -> Result<Header, Rejection> {
    let header = json::object(text).ok_or(Rejection::Malformed)?;
    // No extension is understood, so a token that insists on one is refused (RFC 7515 §4.1.11); the same goes
    // for an unencoded payload (RFC 7797), which `crit` has to announce.
    if header.contains_key("crit") || header.contains_key("b64") {
        return Err(Rejection::Critical);
    }
    let alg = match header.get("alg") {
        Some(Value::String(name)) => Algorithm::parse(name).ok_or(Rejection::Algorithm)?,
        Some(_) | None => return Err(Rejection::Algorithm),
    };
    let kid = match header.get("kid") {
        Some(Value::String(kid)) if !kid.is_empty() => kid.clone(),
        Some(_) | None => return Err(Rejection::KeyNotNamed),
    };
    Ok(Header { alg, kid })
}
