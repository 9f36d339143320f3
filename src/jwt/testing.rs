//! A token of the local tenant, and a policy that accepts it.

use super::{DEFAULT_MAX_BYTES, DEFAULT_SKEW, Policy};
pub use local_tenant::sample::{CLIENT, NOW, payload};

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
