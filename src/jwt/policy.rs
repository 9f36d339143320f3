//! Which tokens are accepted: allow-lists only.

use super::claims::Claims;
use super::rejection::Rejection;
use crate::config::Config;
use crate::jwks::{Key, KeySet};

/// Stands for the token's `tid` in issuers.
const TENANT: &str = "{tenantid}";

/// The rules of one registration.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Compared exactly but for one slash at the end.
    pub audiences: Vec<String>,
    /// Instead of the metadata's, where not empty; may hold `{tenantid}`.
    pub issuers: Vec<String>,
    /// Whether the issuer is checked at all.
    pub validate_issuer: bool,
    /// Tenants. Empty: every one that the issuers allow.
    pub tenants: Vec<String>,
    /// Seconds that clocks may differ by.
    pub skew: u64,
    /// Whether `exp` must be there.
    pub require_expiration: bool,
    /// One of them is required, where there are any.
    pub scopes: Vec<String>,
    /// Whether a token without scopes and roles is accepted.
    pub allow_acl: bool,
    /// The claim that holds roles.
    pub role_claim: String,
    /// Of a token.
    pub max_bytes: usize,
}

impl Policy {
    /// The policy of the section `AzureAd`.
    pub fn new(config: &Config) -> Self {
        let registration = &config.azure_ad;
        let audiences = if registration.audiences.is_empty() {
            vec![registration.client_id.clone(), format!("api://{}", registration.client_id)]
        } else {
            registration.audiences.clone()
        };
        Self {
            audiences,
            issuers: registration.valid_issuers.clone(),
            validate_issuer: registration.validate_issuer,
            tenants: config.sidecar.allowed_tenants.clone(),
            skew: registration.clock_skew.as_secs(),
            require_expiration: registration.require_expiration,
            scopes: registration.scopes.clone(),
            allow_acl: registration.allow_acl,
            role_claim: registration.role_claim.clone(),
            max_bytes: config.limits.token_bytes,
        }
    }

    /// Judges the claims of a token that `key` signed.
    pub fn check(&self, claims: &Claims, key: &Key, keys: &KeySet, now: u64) -> Result<(), Rejection> {
        self.check_issuer(claims, key, keys)?;
        self.check_audience(claims)?;
        self.check_times(claims, now)?;
        self.check_permissions(claims)
    }

    /// The issuer is one of the templates with the token's own tenant in it, and the key is for that issuer:
    /// protocol page, sections 6.4 and 6.5.
    fn check_issuer(&self, claims: &Claims, key: &Key, keys: &KeySet) -> Result<(), Rejection> {
        let issuer = claims.text("iss")?;
        let tenant = claims.text("tid")?.or_else(|| issuer.as_deref().and_then(tenant_of).map(str::to_owned));
        let invalid = || Rejection::Issuer { issuer: issuer.clone() };
        let Some(issuer) = issuer.as_deref() else { return Err(invalid()) };
        let matches = |template: &str| match (template.contains(TENANT), tenant.as_deref()) {
            (true, Some(tenant)) => is_tenant(tenant) && template.replace(TENANT, tenant) == *issuer,
            (true, None) => false,
            (false, _) => template == issuer,
        };
        let accepted = if self.issuers.is_empty() { keys.issuers() } else { &self.issuers };
        if self.validate_issuer && !accepted.iter().any(|template| matches(template)) {
            return Err(invalid());
        }
        if let Some(own) = &key.issuer {
            // A token of version 1 has another issuer than its key, which belongs to the same tenant.
            let of_set = keys.issuers().first().zip(tenant.as_deref());
            let same_tenant = of_set
                .is_some_and(|(template, tenant)| own.replace(TENANT, tenant) == template.replace(TENANT, tenant));
            if !matches(own) && !same_tenant {
                return Err(invalid());
            }
        }
        let allowed = |own: &String| tenant.as_deref().is_some_and(|tenant| own.eq_ignore_ascii_case(tenant));
        if !self.tenants.is_empty() && !self.tenants.iter().any(allowed) {
            return Err(Rejection::Tenant);
        }
        Ok(())
    }

    fn check_audience(&self, claims: &Claims) -> Result<(), Rejection> {
        let presented = claims.texts("aud")?;
        let bare = |text: &str| text.strip_suffix('/').unwrap_or(text).to_owned();
        let matches = |audience: &String| self.audiences.iter().any(|own| bare(own) == bare(audience));
        if presented.iter().any(matches) {
            return Ok(());
        }
        let audience = (!presented.is_empty()).then(|| presented.join(", "));
        Err(Rejection::Audience { audience })
    }

    fn check_times(&self, claims: &Claims, now: u64) -> Result<(), Rejection> {
        let (expires, not_before) = (claims.time("exp")?, claims.time("nbf")?);
        if expires.is_none() && self.require_expiration {
            return Err(Rejection::NoExpiration);
        }
        if let (Some(not_before), Some(expires)) = (not_before, expires)
            && not_before > expires
        {
            return Err(Rejection::Lifetime { not_before, expires });
        }
        if let Some(not_before) = not_before.filter(|at| *at > now.saturating_add(self.skew)) {
            return Err(Rejection::NotYetValid { not_before });
        }
        match expires {
            Some(expires) if expires.saturating_add(self.skew) <= now => Err(Rejection::Expired { expires }),
            _ => Ok(()),
        }
    }

    fn check_permissions(&self, claims: &Claims) -> Result<(), Rejection> {
        let scopes = claims.scopes()?;
        if !self.scopes.is_empty() && !scopes.iter().any(|own| self.scopes.contains(own)) {
            // An app token has no scopes; its roles are what it is allowed to do.
            if !(claims.is_app_only()? && (claims.has_role(&self.role_claim) || self.allow_acl)) {
                return Err(Rejection::ScopeMissing { required: self.scopes.clone() });
            }
        }
        if scopes.is_empty() && !self.allow_acl && !claims.has_role(&self.role_claim) {
            return Err(Rejection::NoScopeNorRole);
        }
        Ok(())
    }
}

/// The tenant in an issuer's path: the last segment but `v2.0`.
fn tenant_of(issuer: &str) -> Option<&str> {
    let issuer = issuer.trim_end_matches('/');
    let issuer = issuer.strip_suffix("/v2.0").unwrap_or(issuer);
    issuer.rsplit('/').next().filter(|tenant| is_tenant(tenant))
}

/// What may stand in a template's place without changing its meaning.
fn is_tenant(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}
