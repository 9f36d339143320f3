//! Client assertions (RFC 7523 §3), each signed with the certificate's key for one request.

use ring::rand::SystemRandom;
use ring::signature;
use serde_json::json;

use super::Context;
use super::certificate::Certificate;
use crate::secret::Secret;
use crate::value::{b64, guid};

/// Seconds.
const LIFETIME: u64 = 600;

pub fn sign(certificate: &Certificate, context: &Context<'_>) -> Result<Secret<String>, String> {
    let text = unsigned(&certificate.chain, context);
    let mut signed = vec![0; certificate.key.public().modulus_len()];
    certificate
        .key
        .sign(&signature::RSA_PSS_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signed)
        .map_err(|_| "the private key cannot sign")?;
    Ok(signed_with(&text, &signed))
}

/// The JWS to sign with PS256. Its header names the first certificate with `x5t#S256`, and contains
/// the chain if `SendX5C` is set.
/// <https://learn.microsoft.com/entra/identity-platform/certificate-credentials>
pub fn unsigned(chain: &[Vec<u8>], context: &Context<'_>) -> String {
    let own = chain.first().map_or(&[][..], |der| der);
    let mut header = json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": b64::url_sha256(own) });
    if context.registration.send_x5c {
        // Standard base64, not base64url (RFC 7515 §4.1.6).
        header["x5c"] = chain.iter().map(b64::standard).collect();
    }
    let now = context.clock.unix();
    let client_id = &context.registration.client_id;
    let payload = json!({
        "aud": context.audience,
        "iss": client_id,
        "sub": client_id,
        "jti": guid::random().as_str(),
        "nbf": now,
        "iat": now,
        "exp": now + LIFETIME,
    });
    format!("{}.{}", b64::url(header.to_string()), b64::url(payload.to_string()))
}

pub fn signed_with(text: &str, signature: &[u8]) -> Secret<String> {
    Secret::new(format!("{text}.{}", b64::url(signature)))
}
