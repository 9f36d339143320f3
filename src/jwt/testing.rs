//! A token of the local tenant, and a policy that accepts it.

use super::Policy;
pub use local_tenant::sample::{CLIENT, NOW, payload};

pub fn policy() -> Policy {
    Policy {
        audiences: vec![CLIENT.into(), format!("api://{CLIENT}")],
        issuers: Vec::new(),
        skew: 300,
        required_scopes: Vec::new(),
        allow_acl: true,
        validate_issuer: true,
        require_expiration: true,
        role_claim: "roles".into(),
        allowed_tenants: Vec::new(),
        reject_bound_as_bearer: false,
        max_bytes: 64 * 1024,
    }
}
