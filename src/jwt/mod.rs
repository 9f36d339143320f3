//! Validation of inbound tokens: text in, [`Verified`] or [`Rejection`] out.
//!
//! The order of the checks is fixed: size, structure, header, signature, issuer, audience, times,
//! permission. Claims are parsed only after the signature check, so that untrusted input reaches
//! little code.

pub mod claims;
pub mod compact;
mod explain;
mod json;
#[cfg_attr(not(feature = "jwe"), path = "no_jwe.rs")]
pub mod jwe;
pub mod memory;
mod policy;
mod rejection;
mod replay;
pub mod shr;
mod signature;
#[cfg(test)]
pub(crate) mod testing;
mod validator;

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::jwks::KeySet;
use crate::value::hash;
use crate::value::jwk::Key;
use claims::Claims;
use policy::{Permission, optional};

pub use explain::Finding;
pub use policy::{Policy, check_audience};
pub use rejection::Rejection;
pub use validator::Validator;

/// A token that passed every check. Only [`verify`] creates one.
pub struct Verified {
    assertion: Zeroizing<String>,
    claims_json: Zeroizing<String>,
    digest: [u8; 32],
    key: Arc<Key>,
    expires_at: u64,
    tenant: Option<String>,
    object_id: Option<String>,
    subject: Option<String>,
    scopes: Option<String>,
    roles: Vec<String>,
    app_only: bool,
    bound: bool,
}

/// Verifies a compact JWS at the moment `now`, in seconds since 1970.
pub fn verify(token: &str, keys: &KeySet, policy: &Policy, now: u64) -> Result<Verified, Rejection> {
    if token.len() > policy.max_bytes {
        return Err(Rejection::TooLarge(policy.max_bytes));
    }
    let (payload, key) = verify_signature(token, keys)?;
    let claims = Claims::parse(&payload).ok_or(Rejection::Malformed("its payload is not strict JSON"))?;
    policy.check_issuer(&claims, &key, keys)?;
    check_audience(&claims, &policy.audiences)?;
    let expires_at = policy.check_lifetime(&claims, now)?;
    let permission = Permission::read(&claims, &policy.role_claim)?;
    policy.check_permission(&permission)?;

    let text = |name| optional(claims.text(name), name).map(|text| text.map(str::to_owned));
    // Not used, but a token whose client is malformed is no good: `azp`, or `appid` in v1 tokens.
    if text("azp")?.is_none() {
        text("appid")?;
    }
    let (tenant, object_id, subject) = (text("tid")?, text("oid")?, text("sub")?);
    let Permission { scopes, roles, app_only, bound } = permission;
    let (scopes, roles) = (scopes.map(str::to_owned), roles.into_iter().map(str::to_owned).collect());
    drop(claims);
    // Strict JSON is valid UTF-8. The copy lives as long as the token is remembered.
    let claims_json = Zeroizing::new(String::from_utf8_lossy(&payload).into_owned());
    let assertion = Zeroizing::new(token.to_owned());
    Ok(Verified {
        assertion,
        digest: hash::sha256(token),
        claims_json,
        key,
        expires_at,
        tenant,
        object_id,
        subject,
        scopes,
        roles,
        app_only,
        bound,
    })
}

/// The first half of [`verify`]: structure, header and signature of a token within the size limit.
/// Returns the payload, unparsed, and the key.
pub fn verify_signature(token: &str, keys: &KeySet) -> Result<(Zeroizing<Vec<u8>>, Arc<Key>), Rejection> {
    let jws = compact::parse(token)?;
    let kid = jws.kid.as_deref().ok_or(Rejection::KeyIdMissing)?;
    let named = keys.find(kid);
    if named.is_empty() {
        return Err(Rejection::KeyNotFound);
    }
    let key = named.iter().find(|key| key.allows(jws.algorithm)).ok_or(Rejection::KeyMismatch)?;
    signature::verify(jws.algorithm, key.public_key(), jws.signing_input.as_bytes(), &jws.signature).map_err(
        |rejection| match rejection {
            Rejection::SignatureInvalid if jws.has_nonce => Rejection::ForMicrosoftGraph,
            other => other,
        },
    )?;
    Ok((jws.payload, Arc::clone(key)))
}

impl Verified {
    /// The compact JWS; for an encrypted token, the inner one.
    pub fn assertion(&self) -> &str {
        &self.assertion
    }

    /// SHA-256 of the assertion.
    pub const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The payload as received.
    pub fn claims_json(&self) -> &str {
        &self.claims_json
    }

    /// `exp`, in seconds since 1970.
    pub const fn expires_at(&self) -> u64 {
        self.expires_at
    }

    pub fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    pub fn object_id(&self) -> Option<&str> {
        self.object_id.as_deref()
    }

    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// `scp` or its substitute, split at spaces.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.scopes.as_deref().unwrap_or_default().split(' ').filter(|scope| !scope.is_empty())
    }

    pub fn roles(&self) -> &[String] {
        &self.roles
    }

    /// True if an application requested the token for itself, so there is no user to act on behalf
    /// of.
    pub const fn is_app_only(&self) -> bool {
        self.app_only
    }

    /// True if the token is bound to a key (RFC 7800 §3).
    pub const fn is_bound(&self) -> bool {
        self.bound
    }

    pub fn kid(&self) -> &str {
        self.key.kid()
    }

    pub(crate) const fn key(&self) -> &Arc<Key> {
        &self.key
    }
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified")
            .field("kid", &self.kid())
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
