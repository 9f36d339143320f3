//! The claims that a token needs to be accepted: issuer, audience, times, and permission. Allow
//! lists only.

use super::claims::{Claim, Claims};
use super::rejection::{Rejection, harmless};
use crate::config::Registration;
use crate::jwks::{Issuer, KeySet};
use crate::value::jwk::Key;

/// Claims that may contain the scopes. Entra uses `scp`; .NET renames it to the long name, which
/// gateways pass on; other providers use `scope` (RFC 9068 §2.2.3). Only the first one present
/// counts, so scopes are never combined.
const SCOPE_CLAIMS: [&str; 3] = ["scp", "http://schemas.microsoft.com/identity/claims/scope", "scope"];

/// The validation rules of one registration.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
pub struct Policy {
    /// Accepted `aud`, ignoring one trailing slash. If empty, all tokens are rejected.
    pub audiences: Vec<String>,
    /// Accepted `iss`. If empty, those in the metadata.
    pub issuers: Vec<Issuer>,
    /// Tolerated clock difference, in seconds.
    pub skew: u64,
    /// A user's token needs one of these scopes. If empty, it needs none.
    pub required_scopes: Vec<String>,
    /// Accepts tokens with neither scopes nor roles.
    pub allow_acl: bool,
    pub validate_issuer: bool,
    pub require_expiration: bool,
    pub role_claim: String,
    /// Accepted `tid`. If empty, all that the issuer allows.
    pub allowed_tenants: Vec<String>,
    /// The longest token, in bytes.
    pub max_bytes: usize,
    /// Rejects tokens that are bound to a key but come without proof of it.
    pub reject_bound_as_bearer: bool,
}

impl Policy {
    pub fn of(registration: &Registration, allowed_tenants: &[String], max_bytes: usize) -> Self {
        let client = &registration.client_id;
        let audiences = match registration.audiences.as_slice() {
            [] if client.is_empty() => Vec::new(),
            // Both refer to the same registration, in v2 and v1 tokens.
            [] => vec![client.clone(), format!("api://{client}")],
            configured => configured.to_vec(),
        };
        Self {
            audiences,
            issuers: registration.valid_issuers.iter().map(Issuer::new).collect(),
            skew: registration.clock_skew.as_secs(),
            required_scopes: registration.scopes.clone(),
            allow_acl: registration.allow_acl,
            validate_issuer: registration.validate_issuer,
            require_expiration: registration.require_expiration,
            role_claim: registration.role_claim.clone(),
            allowed_tenants: allowed_tenants.to_vec(),
            max_bytes,
            reject_bound_as_bearer: false,
        }
    }

    /// Checks `iss`, and that `tid` and the signing key agree with it.
    pub(super) fn check_issuer(&self, claims: &Claims<'_>, key: &Key, keys: &KeySet) -> Result<(), Rejection> {
        let iss = optional(claims.text("iss"), "iss")?.ok_or(Rejection::IssuerInvalid(None))?;
        let tid = optional(claims.text("tid"), "tid")?;
        let accepted = if self.issuers.is_empty() { keys.issuers() } else { &self.issuers };
        if self.validate_issuer && !accepted.iter().any(|issuer| issuer.matches(iss, tid)) {
            return Err(Rejection::IssuerInvalid(Some(harmless(iss))));
        }
        if !key_may_sign(key, iss, tid, keys.metadata_issuer()) {
            return Err(Rejection::KeyIssuerInvalid(harmless(iss)));
        }
        let allowed = |tid: &str| self.allowed_tenants.iter().any(|allowed| allowed.eq_ignore_ascii_case(tid));
        if !self.allowed_tenants.is_empty() && !tid.is_some_and(allowed) {
            return Err(Rejection::TenantNotAllowed(tid.map(harmless)));
        }
        Ok(())
    }

    /// Checks `exp` and `nbf` (RFC 7519 §4.1.4, §4.1.5), and returns `exp`.
    pub(super) fn check_lifetime(&self, claims: &Claims<'_>, now: u64) -> Result<u64, Rejection> {
        let exp = match optional(claims.time("exp"), "exp")? {
            Some(exp) => seconds(exp),
            None if self.require_expiration => return Err(Rejection::NoExpiration),
            None => u64::MAX,
        };
        let nbf = optional(claims.time("nbf"), "nbf")?.map(seconds);
        optional(claims.time("iat"), "iat")?;
        if let Some(nbf) = nbf {
            if nbf > exp {
                return Err(Rejection::LifetimeInvalid(nbf, exp));
            }
            if nbf > now.saturating_add(self.skew) {
                return Err(Rejection::NotYetValid(nbf));
            }
        }
        if exp < now.saturating_sub(self.skew) {
            return Err(Rejection::Expired(exp));
        }
        Ok(exp)
    }

    /// A user's token needs scopes; an application's token needs roles, or the access list.
    pub(super) fn check_permission(&self, permission: &Permission<'_>) -> Result<(), Rejection> {
        let Permission { scopes, roles, app_only, .. } = permission;
        let has = |required: &String| scopes.is_some_and(|scopes| scopes.split(' ').any(|scope| scope == required));
        if !app_only && !self.required_scopes.is_empty() {
            if self.required_scopes.iter().any(has) {
                return Ok(());
            }
            return Err(Rejection::ScopeRequired(self.required_scopes.clone()));
        }
        let named =
            scopes.is_some_and(|scopes| !scopes.trim().is_empty()) || roles.iter().any(|role| !role.trim().is_empty());
        if named || self.allow_acl { Ok(()) } else { Err(Rejection::NotAuthorized) }
    }
}

pub(super) struct Permission<'a> {
    /// Space-separated; `None` if there is no such claim.
    pub scopes: Option<&'a str>,
    pub roles: Vec<&'a str>,
    /// True if an application requested the token for itself.
    pub app_only: bool,
    /// True if the token is bound to a key (RFC 7800 §3).
    pub bound: bool,
}

impl<'a> Permission<'a> {
    pub(super) fn read(claims: &'a Claims<'_>, role_claim: &str) -> Result<Self, Rejection> {
        let named = SCOPE_CLAIMS.into_iter().find(|name| claims.has(name)).unwrap_or("scp");
        let scopes = optional(claims.text(named), named)?;
        let roles = optional(claims.texts(role_claim), "roles")?.unwrap_or_default();
        let kind = optional(claims.text("idtyp"), "idtyp")?;
        let app_only = match kind {
            Some(kind) => kind == "app",
            None => scopes.is_none() && is_of_application(claims)?,
        };
        Ok(Self { scopes, roles, app_only, bound: claims.has("cnf") })
    }
}

/// Classifies a token without scopes and without the optional `idtyp`. Absent claims prove nothing:
/// an ID token has no scopes either. It is a user's token if it has a claim that only such tokens
/// have, or an object id other than the subject: for an application, both are the service
/// principal.
/// <https://learn.microsoft.com/entra/identity-platform/id-token-claims-reference>,
/// <https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference>
fn is_of_application(claims: &Claims<'_>) -> Result<bool, Rejection> {
    const OF_USERS: [&str; 9] =
        ["preferred_username", "upn", "unique_name", "name", "nonce", "at_hash", "c_hash", "amr", "email"];
    let (object_id, subject) = (optional(claims.text("oid"), "oid")?, optional(claims.text("sub"), "sub")?);
    let same = object_id.is_none() || object_id == subject;
    Ok(same && !OF_USERS.iter().any(|name| claims.has(name)))
}

/// A claim that may be absent, but must not be malformed.
pub(super) fn optional<T>(claim: Claim<T>, name: &'static str) -> Result<Option<T>, Rejection> {
    match claim {
        Claim::Absent => Ok(None),
        Claim::Malformed => Err(Rejection::ClaimMalformed(name)),
        Claim::Present(value) => Ok(Some(value)),
    }
}

/// Entra's keys may name the issuer that they sign for. Without this check, the keys for personal
/// accounts, which are also in the multi-tenant documents, could sign for every tenant. A key for
/// the metadata's own issuer also signs the v1 form.
fn key_may_sign(key: &Key, iss: &str, tid: Option<&str>, metadata: Option<&Issuer>) -> bool {
    let Some(template) = key.issuer() else { return true };
    let Some(tid) = tid.filter(|tid| !tid.is_empty() && iss.contains(tid)) else { return false };
    let own = Issuer::new(template).of_tenant(tid);
    own == iss || metadata.is_some_and(|metadata| own == metadata.of_tenant(tid))
}

/// `aud`: any one of the accepted ones (RFC 7519 §4.1.3).
pub fn check_audience(claims: &Claims<'_>, accepted: &[String]) -> Result<(), Rejection> {
    let audiences = optional(claims.texts("aud"), "aud")?.ok_or(Rejection::AudienceInvalid(None))?;
    let ours = |aud: &&str| !aud.is_empty() && accepted.iter().any(|own| without_slash(own) == without_slash(aud));
    if audiences.iter().any(ours) {
        return Ok(());
    }
    Err(Rejection::AudienceInvalid(Some(harmless(&audiences.join(", ")))))
}

fn without_slash(audience: &str) -> &str {
    audience.strip_suffix('/').unwrap_or(audience)
}

/// Truncates to whole seconds. Times before 1970 become 0, which is just as expired.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates, which is what is wanted")]
pub(super) const fn seconds(time: f64) -> u64 {
    time as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwks::testing::registration;

    #[test]
    fn without_an_audience_both_names_of_the_app_are_accepted() {
        let mut own = registration("https://login.microsoftonline.com/", "t");
        let audiences = |registration: &Registration| Policy::of(registration, &[], 1).audiences;
        let client = own.client_id.clone();
        assert_eq!(audiences(&own), [client.clone(), format!("api://{client}")]);
        own.audiences = vec!["api://x".into()];
        assert_eq!(audiences(&own), ["api://x"]);
        own.audiences.clear();
        own.client_id.clear();
        assert!(audiences(&own).is_empty(), "no one is meant");
    }
}
