//! Keys to sign with, for the tests of this crate: see `tests/data/keys/README.md`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, KeyPair as _, RsaKeyPair};

use super::{KeySet, V1Issuer, accepted_issuers};
use crate::config::Registration;
use crate::value::jwk::{Algorithm, Key};

/// A private key in PKCS#8.
#[derive(Clone, Copy)]
pub struct TestKey {
    pk8: &'static [u8],
    curve: Option<&'static str>,
}

pub const RSA_A: TestKey = TestKey { pk8: include_bytes!("../../tests/data/keys/rsa-a.pk8"), curve: None };
pub const RSA_B: TestKey = TestKey { pk8: include_bytes!("../../tests/data/keys/rsa-b.pk8"), curve: None };
pub const P256: TestKey = TestKey { pk8: include_bytes!("../../tests/data/keys/p256.pk8"), curve: Some("P-256") };
pub const P384: TestKey = TestKey { pk8: include_bytes!("../../tests/data/keys/p384.pk8"), curve: Some("P-384") };

pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl TestKey {
    fn ecdsa(self) -> EcdsaKeyPair {
        let algorithm = match self.curve {
            Some("P-256") => &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
            _ => &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
        };
        EcdsaKeyPair::from_pkcs8(algorithm, self.pk8, &SystemRandom::new()).unwrap()
    }

    fn rsa(self) -> RsaKeyPair {
        RsaKeyPair::from_pkcs8(self.pk8).unwrap()
    }

    /// The private key itself.
    #[cfg(feature = "jwe")]
    pub const fn pk8(self) -> &'static [u8] {
        self.pk8
    }

    /// The members of the public JWK without `kid`.
    pub fn public(self) -> String {
        if let Some(curve) = self.curve {
            let pair = self.ecdsa();
            let (x, y) = pair.public_key().as_ref()[1..].split_at(pair.public_key().as_ref().len() / 2);
            format!(r#""kty":"EC","crv":"{curve}","x":"{}","y":"{}""#, b64(x), b64(y))
        } else {
            let pair = self.rsa();
            let numbers = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(pair.public());
            format!(r#""kty":"RSA","n":"{}","e":"{}""#, b64(numbers.n), b64(numbers.e))
        }
    }

    pub fn jwk(self, kid: &str) -> String {
        format!(r#"{{"kid":"{kid}",{}}}"#, self.public())
    }

    pub fn sign(self, algorithm: Algorithm, message: &[u8]) -> Vec<u8> {
        let encoding: &'static dyn signature::RsaEncoding = match algorithm {
            Algorithm::Rs256 => &signature::RSA_PKCS1_SHA256,
            Algorithm::Rs384 => &signature::RSA_PKCS1_SHA384,
            Algorithm::Rs512 => &signature::RSA_PKCS1_SHA512,
            Algorithm::Ps256 => &signature::RSA_PSS_SHA256,
            Algorithm::Ps384 => &signature::RSA_PSS_SHA384,
            Algorithm::Ps512 => &signature::RSA_PSS_SHA512,
            Algorithm::Es256 | Algorithm::Es384 => {
                return self.ecdsa().sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec();
            }
        };
        let pair = self.rsa();
        let mut signature = vec![0; pair.public().modulus_len()];
        pair.sign(encoding, &SystemRandom::new(), message, &mut signature).unwrap();
        signature
    }

    /// A compact JWS of these very texts.
    pub fn jws(self, algorithm: Algorithm, header: &str, payload: &str) -> String {
        let input = format!("{}.{}", b64(header), b64(payload));
        let signature = self.sign(algorithm, input.as_bytes());
        format!("{input}.{}", b64(signature))
    }
}

pub const TENANT: &str = "11111111-2222-3333-4444-555555555555";

/// The set of a multi-tenant authority: `rsa-a`, `rsa-b`, `p256` and `p384`, each by its own name.
pub fn key_set() -> KeySet {
    let keys = [("rsa-a", RSA_A), ("rsa-b", RSA_B), ("p256", P256), ("p384", P384)];
    let keys = keys.iter().map(|(kid, key)| Key::from_jwk(&key.jwk(kid)).unwrap()).collect();
    let issuer = "https://login.microsoftonline.com/{tenantid}/v2.0";
    KeySet::new(keys, issuer, accepted_issuers(issuer, V1Issuer::Unavailable), 1_000)
}

/// A registration with a client id that is one.
pub fn registration(instance: &str, tenant: &str) -> Registration {
    let client_id = "aaaaaaaa-0000-0000-0000-000000000001".into();
    Registration { client_id, ..crate::config::testing::registration(instance, tenant) }
}
