//! Inbound signed HTTP requests (draft-ietf-oauth-signed-http-request-03): a JWS with the caller's
//! own key. It contains an access token bound to that key (`at`), the request (`m`, `u`, `p`, `q`)
//! and the time (`ts`).
//!
//! The access token is verified first, by all of its own rules; only then does its `cnf` determine
//! the key of the request. No key is fetched, and the signed headers and body (`h`, `b`) are not
//! checked.

use std::sync::Arc;

use super::claims::{Claim, Claims};
use super::json::Value;
use super::policy::optional;
use super::replay::Replays;
use super::{Rejection, Validator, Verified, compact, signature};
use crate::config::PopValidation;
use crate::jwks::KeySet;
use crate::value::b64;
use crate::value::hash::sha256;
use crate::value::header::is_token;
use crate::value::jwk::PublicKey;
use crate::value::url::Url;

/// Capacity of the replay memory. By default a request is valid for up to ten minutes, so this
/// allows more than 160 per second.
const MAX_REPLAYS: usize = 100_000;

/// The signed request, as the sidecar's caller received it.
#[derive(Clone, Debug)]
pub struct OriginalRequest {
    method: String,
    uri: Url,
}

/// The unverified access token in a signed request.
pub fn access_token(signed: &str) -> Option<String> {
    let jws = compact::parse(signed).ok()?;
    match Claims::parse(&jws.payload)?.text("at") {
        Claim::Present(token) => Some(token.to_owned()),
        Claim::Absent | Claim::Malformed => None,
    }
}

impl OriginalRequest {
    /// From the headers `original-method` and `original-uri`.
    pub fn parse(method: &str, uri: &str) -> Result<Self, String> {
        if !is_token(method) {
            return Err("original-method: expected an HTTP method".to_owned());
        }
        let uri = Url::parse(uri).map_err(|expected| format!("original-uri: expected {expected}"))?;
        Ok(Self { method: method.to_ascii_uppercase(), uri })
    }
}

/// Verifies signed requests by `Sidecar:PopValidation`.
pub struct SignedRequests {
    settings: PopValidation,
    replays: Arc<Replays>,
}

impl SignedRequests {
    pub fn new(settings: PopValidation) -> Self {
        Self { settings, replays: Arc::new(Replays::new(MAX_REPLAYS)) }
    }

    /// Changes the settings and keeps the replay memory.
    #[must_use]
    pub fn with(&self, settings: PopValidation) -> Self {
        Self { settings, replays: Arc::clone(&self.replays) }
    }

    /// Verifies the credentials of a `PoP` header at the moment `now`, in seconds since 1970.
    /// Returns the access token inside, which must be an application's.
    pub fn verify(
        &self,
        signed: &str,
        request: &OriginalRequest,
        validator: &Validator,
        keys: &KeySet,
        now: u64,
    ) -> Result<Arc<Verified>, Rejection> {
        validator.check_size(signed)?;
        let jws = compact::parse(signed)?;
        let claims = Claims::parse(&jws.payload).ok_or(Rejection::Malformed("its payload is not strict JSON"))?;
        let token = required(claims.text("at"), "at", "it contains no access token")?;
        let token = validator.validate_bound(token, keys, now)?;
        let key = bound_key(&token, &claims)?;
        if !key.fits(jws.algorithm) {
            return Err(Rejection::KeyMismatch);
        }
        signature::verify(jws.algorithm, &key, jws.signing_input.as_bytes(), &jws.signature)?;
        let until = self.check_time(&claims, now)?;
        self.check_request(&claims, request)?;
        if self.settings.reject_replays {
            // Excludes the signature: a different ECDSA signature of the same text can be derived
            // without the key.
            self.replays.enter(sha256(jws.signing_input), until, now)?;
        }
        Ok(token)
    }

    /// `ts` may deviate by the lifetime either way. Returns the last second of validity.
    fn check_time(&self, claims: &Claims<'_>, now: u64) -> Result<u64, Rejection> {
        let ts = match claims.time("ts") {
            Claim::Present(ts) => super::policy::seconds(ts),
            Claim::Absent | Claim::Malformed => return Err(Rejection::ClaimMalformed("ts")),
        };
        let lifetime = self.settings.lifetime.as_secs();
        if ts.abs_diff(now) > lifetime {
            return Err(Rejection::RequestExpired);
        }
        Ok(ts.saturating_add(lifetime))
    }

    fn check_request(&self, claims: &Claims<'_>, request: &OriginalRequest) -> Result<(), Rejection> {
        let settings = &self.settings;
        let wanted = |required: bool, name: &str| {
            let listed = settings.claims_when_present.iter().any(|own| own == name);
            required || (settings.present_claims && listed && claims.has(name))
        };
        let path = |text: &str| text.trim_matches('/').to_owned();
        let check = |required, name, is_ours: &dyn Fn(&str) -> bool, otherwise| {
            let good = !wanted(required, name) || optional(claims.text(name), name)?.is_some_and(is_ours);
            if good { Ok(()) } else { Err(Rejection::RequestMismatch(otherwise)) }
        };
        check(settings.method, "m", &|own| own == request.method, "it is for another method")?;
        check(settings.host, "u", &|own| is_host(own, &request.uri), "it is for another host")?;
        check(settings.path, "p", &|own| path(own) == path(&request.uri.path), "it is for another path")?;
        if wanted(settings.query, "q") {
            let signed = required(claims.array("q"), "q", "its query is not signed")?;
            check_query(signed, request.uri.query.as_deref(), settings.accept_unsigned_query)?;
        }
        Ok(())
    }
}

/// The key that the access token is bound to (RFC 7800 §3): in the token or, identified by its
/// thumbprint, in the request.
fn bound_key(token: &Verified, request: &Claims<'_>) -> Result<PublicKey, Rejection> {
    const UNBOUND: Rejection = Rejection::RequestMismatch("its access token is not bound to a key");
    let own = Claims::parse(token.claims_json().as_bytes()).ok_or(UNBOUND)?;
    let confirmation = match own.object("cnf") {
        Claim::Present(confirmation) => Claims::of(confirmation.clone()),
        Claim::Absent | Claim::Malformed => return Err(UNBOUND),
    };
    match (confirmation.has("jwk"), confirmation.text("kid")) {
        (true, _) => jwk_in(&confirmation),
        (false, Claim::Present(thumbprint)) => {
            let Claim::Present(offered) = request.object("cnf") else {
                return Err(Rejection::RequestMismatch(
                    "it does not contain the key that its access token is bound to",
                ));
            };
            let key = jwk_in(&Claims::of(offered.clone()))?;
            if key.thumbprint() == thumbprint {
                Ok(key)
            } else {
                Err(Rejection::RequestMismatch("its key is not the one that its access token is bound to"))
            }
        }
        (false, Claim::Absent | Claim::Malformed) => Err(UNBOUND),
    }
}

fn jwk_in(confirmation: &Claims<'_>) -> Result<PublicKey, Rejection> {
    const UNUSABLE: Rejection = Rejection::RequestMismatch("its key cannot be used");
    let Claim::Present(jwk) = confirmation.object("jwk") else { return Err(UNUSABLE) };
    PublicKey::from_members(|name| jwk.get(name).and_then(Value::as_text)).map_err(|_| UNUSABLE)
}

fn required<T>(claim: Claim<T>, name: &'static str, absent: &'static str) -> Result<T, Rejection> {
    optional(claim, name)?.ok_or(Rejection::RequestMismatch(absent))
}

/// `host` or `host:port`, ignoring case (draft §3).
fn is_host(claim: &str, uri: &Url) -> bool {
    let (own, claim) = (&uri.origin, claim.to_ascii_lowercase());
    claim == own.host() || claim.strip_prefix(own.host()) == Some(&format!(":{}", own.port))
}

/// Checks `[["a","b"], base64url(SHA-256("a=1&b=2"))]` (draft §3.2) against the names and values in
/// the query. A name that occurs more than once cannot be signed.
fn check_query(signed: &[Value<'_>], query: Option<&str>, accept_unsigned: bool) -> Result<(), Rejection> {
    const CHANGED: Rejection = Rejection::RequestMismatch("its query was changed");
    let [Value::Array(names), Value::Text(expected)] = signed else { return Err(Rejection::ClaimMalformed("q")) };
    let parameters: Vec<(&str, &str)> = query
        .unwrap_or_default()
        .split('&')
        .filter(|parameter| !parameter.is_empty())
        .map(|parameter| (parameter.split_once('=').map_or(parameter, |(name, _)| name), parameter))
        .collect();
    let mut covered = Vec::with_capacity(names.len());
    for name in names {
        let Value::Text(name) = name else { return Err(Rejection::ClaimMalformed("q")) };
        let mut found = parameters.iter().filter(|(own, _)| own == name);
        match (found.next(), found.next()) {
            (Some((_, parameter)), None) => covered.push(*parameter),
            _ => return Err(CHANGED),
        }
    }
    if !accept_unsigned && covered.len() != parameters.len() {
        return Err(Rejection::RequestMismatch("its query has unsigned parameters"));
    }
    if b64::url_sha256(covered.join("&").as_bytes()) == *expected { Ok(()) } else { Err(CHANGED) }
}

#[cfg(test)]
mod tests;
