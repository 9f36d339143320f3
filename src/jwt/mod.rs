//! Inbound validation: from the text of a token to [`Verified`], the proof that it passed every check.
//!
//! The checks come in the contract's order: size, structure, header, signature, issuer, audience, times,
//! then scopes or roles. The first that fails decides.

mod claims;
mod compact;
mod json;
mod memory;
mod policy;
mod rejection;
mod signature;

pub use memory::Memory;
pub use policy::Policy;
pub use rejection::Rejection;

use std::sync::Arc;

use ring::digest;

use crate::jwks::{Key, KeySet};
use crate::secret::Secret;
use claims::Claims;
use compact::Compact;

/// A token that passed. Only [`verify`] makes one.
#[derive(Debug)]
pub struct Verified {
    /// The compact JWS as it came.
    assertion: Secret<String>,
    /// SHA-256 of it.
    digest: [u8; 32],
    key: Arc<Key>,
    payload: String,
    tenant: Option<String>,
    object_id: Option<String>,
    subject: Option<String>,
    expires_at: u64,
    app_only: bool,
}

impl Verified {
    /// The compact JWS: what on-behalf-of presents.
    pub fn assertion(&self) -> &str {
        self.assertion.expose()
    }

    /// SHA-256 of what the caller presented.
    pub const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The payload's JSON, unchanged.
    pub fn claims_json(&self) -> &str {
        &self.payload
    }

    /// `tid`.
    pub fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// `oid`.
    pub fn object_id(&self) -> Option<&str> {
        self.object_id.as_deref()
    }

    /// `sub`.
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// `exp`, unix seconds.
    pub const fn expires_at(&self) -> u64 {
        self.expires_at
    }

    /// Whether it is an application's own token: no scopes, and `idtyp` does not say otherwise.
    pub const fn is_app_only(&self) -> bool {
        self.app_only
    }

    /// The key that signed it.
    pub const fn key(&self) -> &Arc<Key> {
        &self.key
    }
}

/// SHA-256 of a token's text, by which it is remembered.
pub fn digest(token: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
    hash
}

/// Checks a token against the keys and the policy at a moment (unix seconds).
pub fn verify(token: &str, keys: &KeySet, policy: &Policy, now: u64) -> Result<Verified, Rejection> {
    let compact = Compact::parse(token, policy.max_bytes)?;
    let key = keys.get(&compact.header.kid).ok_or_else(|| Rejection::UnknownKey { kid: compact.header.kid.clone() })?;
    signature::verify(compact.header.alg, key, compact.signed, &compact.signature)?;
    let claims = Claims::parse(&compact.payload)?;
    policy.check(&claims, key, keys, now)?;
    Ok(Verified {
        assertion: Secret::new(token.to_owned()),
        digest: digest(token),
        key: Arc::clone(key),
        tenant: claims.text("tid")?,
        object_id: claims.text("oid")?,
        subject: claims.text("sub")?,
        expires_at: claims.time("exp")?.unwrap_or(u64::MAX),
        app_only: claims.is_app_only()?,
        payload: compact.payload,
    })
}

#[cfg(test)]
mod tests;
