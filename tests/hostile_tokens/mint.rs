//! A tenant's keys and its good token. Both are the local tenant's, whose signing and encrypting is code of its own, so that the
//! sidecar does not judge its own hand.

use entra_sidecar::internal::jwks::{KeySet, V1, accepted_issuers, document};
use entra_sidecar::internal::jwt::Policy;
use local_tenant::keys::SigningKey;
pub use local_tenant::sample::{CLIENT, NOW, TENANT, b64, jws, payload};
use serde_json::{Value, json};

pub const OTHER_TENANT: &str = "99999999-2222-3333-4444-555555555555";
/// The tenant of personal accounts, whose keys stand in the documents of multi-tenant authorities.
pub const PERSONAL: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";
pub const HEADER: &str = r#"{"typ":"JWT","alg":"RS256","kid":"rsa"}"#;

/// A token that must be refused.
pub struct Case {
    /// Why it is hostile: unique.
    pub reason: String,
    pub token: String,
    /// The code of its rejection.
    pub code: &'static str,
}

pub fn case(reason: impl Into<String>, token: impl Into<String>, code: &'static str) -> Case {
    Case { reason: reason.into(), token: token.into(), code }
}

/// The tenant's keys.
pub fn tenants_key(kid: &str) -> SigningKey {
    match kid {
        "rsa" => SigningKey::numbered(1),
        "ps-only" => SigningKey::numbered(2),
        "for-encryption" => SigningKey::numbered(4),
        "personal" => SigningKey::rsa(kid, include_str!("../local-tenant/keys/client-2.pem")),
        "weak" => SigningKey::weak(kid),
        "p256" => SigningKey::p256(kid),
        "p384" => SigningKey::p384(kid),
        other => panic!("the tenant has no key {other}"),
    }
}

/// A key that the tenant does not publish.
pub fn attackers_key() -> SigningKey {
    SigningKey::numbered(3)
}

/// The JWK that the tenant publishes of a key.
pub fn jwk(kid: &str) -> Value {
    let mut jwk = tenants_key(kid).public().jwk();
    jwk["kid"] = kid.into();
    match kid {
        "ps-only" => jwk["alg"] = "PS256".into(),
        "for-encryption" => jwk["use"] = "enc".into(),
        "personal" => jwk["issuer"] = format!("https://login.microsoftonline.com/{PERSONAL}/v2.0").into(),
        _ => {}
    }
    jwk
}

/// The tenant's keys as its documents say them.
pub fn key_set() -> KeySet {
    let all = ["rsa", "ps-only", "for-encryption", "personal", "weak", "p256", "p384"].map(jwk);
    let (keys, skipped) = document::keys(json!({ "keys": all }).to_string().as_bytes()).unwrap();
    assert_eq!((keys.len(), skipped), (5, 2), "the key for encryption and the weak one are left out");
    let issuer = "https://login.microsoftonline.com/{tenantid}/v2.0";
    KeySet::new(keys, issuer, accepted_issuers(issuer, V1::Unknown)).skipping(skipped)
}

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

/// A good payload with a text in front of its last brace.
pub fn payload_and(more: &str) -> String {
    payload(&[]).strip_suffix('}').map(|members| format!("{members}{more}}}")).unwrap()
}

/// Truly signed by the tenant's RSA key, so that only what is in it can be wrong.
pub fn signed(header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
    jws(header, payload, |input| tenants_key("rsa").sign("RS256", input))
}

/// A good token.
pub fn good() -> String {
    signed(HEADER, payload(&[]))
}

/// Good but for these members of the payload.
pub fn with_claims(changes: &[(&str, &str)]) -> String {
    signed(HEADER, payload(changes))
}

/// The three parts of a good token.
pub fn parts() -> [String; 3] {
    let good = good();
    let mut parts = good.split('.').map(str::to_owned);
    std::array::from_fn(|_| parts.next().unwrap())
}
