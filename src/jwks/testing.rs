//! The local tenant's keys, for tests of this crate.

use local_tenant::keys::SigningKey;
pub use local_tenant::sample::{TENANT, b64};

use super::{KeySet, V1, accepted_issuers};
use crate::config::Registration;
use crate::value::jwk::{Algorithm, Key};

/// A PKCS#8 private key in PEM, and its signing function.
#[derive(Clone, Copy)]
pub struct TestKey(&'static str, fn() -> SigningKey);

macro_rules! key {
    ($file:literal, $key:expr) => {
        TestKey(include_str!(concat!("../../tests/local-tenant/keys/", $file)), || $key)
    };
}

pub const RSA_A: TestKey = key!("signing-1.pem", SigningKey::numbered(1));
pub const RSA_B: TestKey = key!("signing-2.pem", SigningKey::numbered(2));
pub const P256: TestKey = key!("signing-p256.pem", SigningKey::p256("p256"));
pub const P384: TestKey = key!("signing-p384.pem", SigningKey::p384("p384"));

impl TestKey {
    /// PKCS#8, DER.
    #[cfg_attr(not(feature = "jwe"), expect(dead_code, reason = "keys that decrypt need the feature"))]
    pub fn pk8(self) -> Vec<u8> {
        local_tenant::keys::der_of_pem(self.0)
    }

    /// The members of the public JWK except `kid`.
    pub fn public(self) -> String {
        let jwk = (self.1)().public().jwk().to_string();
        jwk[1..jwk.len() - 1].to_owned()
    }

    pub fn jwk(self, kid: &str) -> String {
        format!(r#"{{"kid":"{kid}",{}}}"#, self.public())
    }

    /// Signs these exact texts as a compact JWS.
    pub fn jws(self, algorithm: Algorithm, header: &str, payload: &str) -> String {
        let algorithm = format!("{algorithm:?}").to_uppercase();
        local_tenant::sample::jws(header, payload, |input| (self.1)().sign(&algorithm, input))
    }
}

/// The set of a multi-tenant authority: `rsa-a`, `rsa-b`, `p256` and `p384`.
pub fn key_set() -> KeySet {
    let keys = [("rsa-a", RSA_A), ("rsa-b", RSA_B), ("p256", P256), ("p384", P384)];
    let keys = keys.iter().map(|(kid, key)| Key::from_jwk(&key.jwk(kid)).unwrap()).collect();
    let issuer = "https://login.microsoftonline.com/{tenantid}/v2.0";
    KeySet::new(keys, issuer, accepted_issuers(issuer, V1::Unknown))
}

/// A registration with a valid client id.
pub fn registration(instance: &str, tenant: &str) -> Registration {
    let client_id = "aaaaaaaa-0000-0000-0000-000000000001".into();
    Registration { client_id, ..crate::config::testing::registration(instance, tenant) }
}
