//! Tokens for the tests of this crate.

use super::{DEFAULT_MAX_BYTES, DEFAULT_SKEW, Policy};
use crate::jwks::testing::TENANT;

pub const NOW: u64 = 1_700_000_000;
pub const CLIENT: &str = "aaaaaaaa-0000-0000-0000-000000000001";

pub fn policy() -> Policy {
    Policy {
        audiences: vec![CLIENT.into(), format!("api://{CLIENT}")],
        issuers: Vec::new(),
        skew: DEFAULT_SKEW,
        required_scopes: Vec::new(),
        allow_acl: true,
        validate_issuer: true,
        require_expiration: true,
        role_claim: "roles".into(),
        allowed_tenants: Vec::new(),
        reject_bound_as_bearer: false,
        max_bytes: DEFAULT_MAX_BYTES,
    }
}

/// A good payload with members replaced, added, or, where the value is empty, left out.
pub fn payload(changes: &[(&str, &str)]) -> String {
    let mut members = vec![
        ("aud", format!("\"{CLIENT}\"")),
        ("iss", format!("\"https://login.microsoftonline.com/{TENANT}/v2.0\"")),
        ("iat", (NOW - 10).to_string()),
        ("nbf", (NOW - 10).to_string()),
        ("exp", (NOW + 3600).to_string()),
        ("tid", format!("\"{TENANT}\"")),
        ("oid", "\"user\"".to_owned()),
        ("scp", "\"access_as_user other\"".to_owned()),
        ("ver", "\"2.0\"".to_owned()),
    ];
    for (name, value) in changes {
        members.retain(|(own, _)| own != name);
        if !value.is_empty() {
            members.push((name, (*value).to_owned()));
        }
    }
    let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}
