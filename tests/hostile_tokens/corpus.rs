//! The whole corpus, and the validator that it is put to.

use entra_sidecar::internal::jwt::{Policy, Validator};

#[cfg(feature = "jwe")]
use crate::encrypted;
use crate::mint::{Case, case, policy, with_claims};
use crate::{algorithms, claims, encoding, keys, members};

/// A validator that remembers so many tokens.
pub fn validator(policy: Policy, remembered: usize) -> Validator {
    let validator = Validator::new(policy, remembered);
    #[cfg(feature = "jwe")]
    validator.set_decryption_keys(vec![
        entra_sidecar::internal::jwt::jwe::DecryptionKey::new(&encrypted::private_key(), None).unwrap(),
    ]);
    validator
}

fn sizes() -> Vec<Case> {
    let long = with_claims(&[("x", &format!("\"{}\"", "x".repeat(50_000)))]);
    assert!(long.len() > policy().max_bytes);
    vec![
        case("a token over its limit", long, "too_large"),
        case("a mebibyte of letters", "A".repeat(1 << 20), "too_large"),
        case("a mebibyte of dots", ".".repeat(1 << 20), "too_large"),
    ]
}

/// Every token that must be refused.
pub fn corpus() -> Vec<Case> {
    let mut cases = [algorithms::cases(), keys::cases(), encoding::cases(), members::cases(), claims::cases(), sizes()];
    #[cfg_attr(not(feature = "jwe"), expect(unused_mut, reason = "encrypted tokens come on top"))]
    let mut cases: Vec<Case> = cases.iter_mut().flat_map(std::mem::take).collect();
    #[cfg(feature = "jwe")]
    cases.extend(encrypted::cases());
    cases
}
