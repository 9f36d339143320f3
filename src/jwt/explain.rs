//! The checks that a token goes through, one by one, for people: what each looked at, what it expected, what it found.
//! Nothing is judged here; how far the token came is told by the [`Rejection`] that it got.

use std::fmt;

use zeroize::Zeroizing;

use super::claims::{Claim, Claims};
use super::compact;
use super::json::Object;
use super::policy::{Permission, Policy, seconds};
use super::rejection::{Check, Rejection, harmless};
use crate::jwks::{Issuer, KeySet};
use crate::value::date::to_rfc3339_seconds;
use crate::value::jwk::Algorithm;

/// More keys or issuers than that are counted, not named.
const NAMED: usize = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    Failed,
    /// An earlier one had failed: what was found is what the token says of itself.
    NotReached,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub check: Check,
    pub outcome: Outcome,
    pub looked_at: &'static str,
    pub expected: String,
    /// What is there. Of the token no more than a name, a time or an address.
    pub found: String,
}

impl Outcome {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "FAILED",
            Self::NotReached => "not reached",
        }
    }
}

/// In lower case.
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format!("{self:?}").to_ascii_lowercase())
    }
}

/// What is told: `token` is what was sent, `inner` what it encrypts, where that could be read.
pub(super) fn explain(
    (token, inner): (&str, Option<&str>),
    keys: &KeySet,
    policy: &Policy,
    now: u64,
    rejection: Option<&Rejection>,
) -> Vec<Finding> {
    let failed = rejection.map(Rejection::check);
    let outcome = |check: Check| match failed {
        Some(failed) if check == failed => Outcome::Failed,
        Some(failed) if check > failed => Outcome::NotReached,
        _ => Outcome::Passed,
    };
    let encrypted = token.split('.').count() == 5;
    let parts: Vec<&str> = inner.unwrap_or(token).split('.').collect();
    // What an encrypted token that stays closed says of itself is for others to read.
    let readable = parts.len() == 3 && failed != Some(Check::Size);
    let part = |at: usize| {
        Zeroizing::new(
            parts.get(at).filter(|_| readable).and_then(|part| compact::decode(part).ok()).unwrap_or_default(),
        )
    };
    let (header, payload) = (part(0), part(1));
    let (header, payload) = (Claims::parse(&header), Claims::parse(&payload));
    let legible = header.is_some() && payload.is_some();
    let none = || Claims::of(Object::default());
    let (header, payload) = (header.unwrap_or_else(none), payload.unwrap_or_else(none));
    let name = |claims: &Claims<'_>, name: &str| text(claims.text(name));
    let time = |unix: u64| to_rfc3339_seconds(unix);
    let moment = |name: &str| match payload.time(name) {
        Claim::Present(unix) => time(seconds(unix)),
        other => text(other.map(|_| "")),
    };

    let mut findings = Vec::new();
    let mut tell = |check, looked_at, expected: &str, found: &str| {
        let outcome = outcome(check);
        let found = if legible || outcome != Outcome::NotReached { found } else { "nothing legible" };
        let (expected, found) = (expected.to_owned(), found.to_owned());
        findings.push(Finding { check, outcome, looked_at, expected, found });
    };
    let bytes = |count: usize| format!("{count} bytes");
    tell(Check::Size, "the token's length", &format!("at most {}", bytes(policy.max_bytes)), &bytes(token.len()));
    if encrypted {
        let found = if inner.is_some() { "a token that it decrypts" } else { "none that decrypts it" };
        tell(Check::Decryption, "the encrypted token", "a key of TokenDecryptionCredentials", found);
    }
    let found = match rejection {
        Some(Rejection::Malformed(why)) => (*why).to_owned(),
        _ => format!("{} parts", parts.len()),
    };
    let expected = "three parts in base64url, header and payload of strict JSON";
    tell(Check::Structure, "the parts between the dots", expected, &found);
    let critical = if header.has("crit") || header.has("b64") { ", and crit or b64" } else { "" };
    let expected = format!("one of {}, and no crit", Algorithm::ALL.map(|(name, _)| name).join(", "));
    tell(Check::Header, "alg", &expected, &format!("{}{critical}", name(&header, "alg")));
    tell(Check::Key, "kid", &format!("a key of the authority: {}", several(keys.ids())), &name(&header, "kid"));
    let found = match outcome(Check::Signature) {
        Outcome::Passed => "it is",
        Outcome::Failed => "it is not",
        Outcome::NotReached => "not verified",
    };
    tell(Check::Signature, "the signature", "made with that key", found);

    let accepted = if policy.issuers.is_empty() { keys.issuers() } else { &policy.issuers };
    let issuers = several(accepted.iter().map(Issuer::as_str));
    let expected = match policy.allowed_tenants.as_slice() {
        _ if !policy.validate_issuer => "any, since ValidateIssuer is false".to_owned(),
        [] => issuers,
        tenants => format!("{issuers}, of the tenants {}", tenants.join(", ")),
    };
    let found = format!("{} of tenant {}", name(&payload, "iss"), name(&payload, "tid"));
    tell(Check::Issuer, "iss, tid", &expected, &found);
    let found = text(payload.texts("aud").map(|audiences| audiences.join(", ")));
    tell(Check::Audience, "aud", &several(policy.audiences.iter().map(String::as_str)), &found);
    let (earliest, latest) = (now.saturating_sub(policy.skew), now.saturating_add(policy.skew));
    let expected = format!("nbf up to {}, exp from {}", time(latest), time(earliest));
    tell(Check::Lifetime, "nbf, exp", &expected, &format!("nbf {}, exp {}", moment("nbf"), moment("exp")));
    if let Ok(Permission { scopes, roles, app_only, .. }) = Permission::read(&payload, &policy.role_claim) {
        let expected = match policy.required_scopes.as_slice() {
            [_, ..] if !app_only => &format!("a user's token with the scope {}", policy.required_scopes.join(" or ")),
            _ if policy.allow_acl => "anything, since AllowWebApiToBeAuthorizedByACL is true",
            _ => "scopes or roles, since AllowWebApiToBeAuthorizedByACL is false",
        };
        let whose = if app_only { "an application's token" } else { "a user's token" };
        let scopes = scopes.map_or_else(|| "absent".to_owned(), harmless);
        let found = format!("{whose}, scopes {scopes}, roles {}", several(roles.iter().map(|role| harmless(role))));
        tell(Check::Permission, "scp, roles", expected, &found);
    } else {
        tell(Check::Permission, "scp, roles", "texts", "malformed");
    }
    if policy.reject_bound_as_bearer {
        let found = if payload.has("cnf") { "cnf" } else { "absent" };
        tell(Check::Binding, "cnf", "absent, since RejectBoundAsBearer is true", found);
    }
    findings
}

fn text(claim: Claim<impl AsRef<str>>) -> String {
    match claim {
        Claim::Present(text) => harmless(text.as_ref()),
        Claim::Absent => "absent".to_owned(),
        Claim::Malformed => "malformed".to_owned(),
    }
}

/// The names, or how many there are.
fn several(names: impl Iterator<Item = impl AsRef<str>>) -> String {
    let names: Vec<_> = names.collect();
    match names.len() {
        0 => "none".to_owned(),
        1..=NAMED => names.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" or "),
        more => format!("{more} of them"),
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { check, outcome, looked_at, expected, found } = self;
        write!(f, "{check}: {}: looked at {looked_at}; expected {expected}; found {found}", outcome.name())
    }
}
