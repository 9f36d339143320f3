//! Signing keys. They are constants of the source (`scripts/make-keys.sh`), because generating RSA keys
//! would cost every test its start.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{self, EcdsaKeyPair, KeyPair as _, RsaKeyPair};
use rsa::pkcs8::DecodePrivateKey as _;
use rsa::signature::{SignatureEncoding as _, Signer as _};
use rsa::traits::PublicKeyParts as _;
use serde_json::{Value, json};

/// An embedded file of `keys/`.
macro_rules! embedded {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/keys/", $name))
    };
}
pub(crate) use embedded;

/// A private key that can sign tokens.
pub struct SigningKey {
    kid: String,
    material: Material,
}

enum Material {
    Rsa(RsaKeyPair),
    /// Under the 2048 bits that ring accepts.
    WeakRsa(Box<rsa::RsaPrivateKey>),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
}

impl SigningKey {
    /// An RSA key of at least 2048 bits from PKCS#8 PEM.
    pub fn rsa(kid: &str, pem: &str) -> Self {
        let pair = RsaKeyPair::from_pkcs8(&der_of_pem(pem)).expect("an RSA key of 2048 bits or more");
        Self { kid: kid.into(), material: Material::Rsa(pair) }
    }

    /// The 1024-bit RSA key that nobody may accept.
    pub fn weak(kid: &str) -> Self {
        let key = rsa::RsaPrivateKey::from_pkcs8_pem(embedded!("weak.pem")).expect("an embedded key");
        Self { kid: kid.into(), material: Material::WeakRsa(Box::new(key)) }
    }

    /// The embedded P-256 key.
    pub fn p256(kid: &str) -> Self {
        let pkcs8 = der_of_pem(embedded!("signing-p256.pem"));
        let algorithm = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, &pkcs8, &SystemRandom::new()).expect("an embedded key");
        Self { kid: kid.into(), material: Material::P256(pair) }
    }

    /// The embedded P-384 key.
    pub fn p384(kid: &str) -> Self {
        let pkcs8 = der_of_pem(embedded!("signing-p384.pem"));
        let algorithm = &signature::ECDSA_P384_SHA384_FIXED_SIGNING;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, &pkcs8, &SystemRandom::new()).expect("an embedded key");
        Self { kid: kid.into(), material: Material::P384(pair) }
    }

    /// One of the four embedded RSA signing keys, by number.
    pub fn numbered(number: usize) -> Self {
        let pem = match number % 4 {
            1 => embedded!("signing-1.pem"),
            2 => embedded!("signing-2.pem"),
            3 => embedded!("signing-3.pem"),
            _ => embedded!("signing-4.pem"),
        };
        Self::rsa(&format!("local-signing-{number}"), pem)
    }

    /// The key's id.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The algorithm that this key signs with unless told otherwise.
    pub fn algorithm(&self) -> &'static str {
        match self.material {
            Material::Rsa(_) | Material::WeakRsa(_) => "RS256",
            Material::P256(_) => "ES256",
            Material::P384(_) => "ES384",
        }
    }

    /// Signs for this `alg`; an `alg` that does not fit the key is answered with 32 zero bytes, so that a test
    /// can send a token that claims anything.
    pub fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.material {
            Material::Rsa(pair) => {
                let padding: &dyn signature::RsaEncoding = match algorithm {
                    "RS256" => &signature::RSA_PKCS1_SHA256,
                    "RS384" => &signature::RSA_PKCS1_SHA384,
                    "RS512" => &signature::RSA_PKCS1_SHA512,
                    "PS256" => &signature::RSA_PSS_SHA256,
                    "PS384" => &signature::RSA_PSS_SHA384,
                    "PS512" => &signature::RSA_PSS_SHA512,
                    _ => return vec![0; 32],
                };
                let mut signed = vec![0; pair.public().modulus_len()];
                pair.sign(padding, &random, message, &mut signed).expect("RSA signing");
                signed
            }
            Material::WeakRsa(key) => {
                rsa::pkcs1v15::SigningKey::<rsa::sha2::Sha256>::new(key.as_ref().clone()).sign(message).to_vec()
            }
            Material::P256(pair) | Material::P384(pair) if algorithm == self.algorithm() => {
                pair.sign(&random, message).expect("ECDSA signing").as_ref().to_vec()
            }
            Material::P256(_) | Material::P384(_) => vec![0; 32],
        }
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        match &self.material {
            Material::Rsa(pair) => {
                let parts = PublicKeyComponents::<Vec<u8>>::from(pair.public());
                PublicKey::Rsa { n: parts.n, e: parts.e }
            }
            Material::WeakRsa(key) => PublicKey::Rsa { n: key.n().to_bytes_be(), e: key.e().to_bytes_be() },
            Material::P256(pair) => PublicKey::P256(pair.public_key().as_ref().to_vec()),
            Material::P384(pair) => PublicKey::P384(pair.public_key().as_ref().to_vec()),
        }
    }
}

/// A key that verifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// Modulus and exponent, big-endian without leading zeros.
    Rsa {
        /// The modulus.
        n: Vec<u8>,
        /// The exponent.
        e: Vec<u8>,
    },
    /// An uncompressed point.
    P256(Vec<u8>),
    /// An uncompressed point.
    P384(Vec<u8>),
}

impl PublicKey {
    /// Whether `signed` is this key's signature of the message under this `alg`.
    pub fn verifies(&self, algorithm: &str, message: &[u8], signed: &[u8]) -> bool {
        match self {
            Self::Rsa { n, e } => {
                let parameters = match algorithm {
                    "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
                    "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
                    "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
                    "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
                    "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
                    "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
                    _ => return false,
                };
                PublicKeyComponents { n, e }.verify(parameters, message, signed).is_ok()
            }
            Self::P256(point) if algorithm == "ES256" => {
                signature::UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point)
                    .verify(message, signed)
                    .is_ok()
            }
            Self::P384(point) if algorithm == "ES384" => {
                signature::UnparsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, point)
                    .verify(message, signed)
                    .is_ok()
            }
            Self::P256(_) | Self::P384(_) => false,
        }
    }

    /// The members of a JWK that stand for the key itself (RFC 7518 §6).
    pub fn jwk(&self) -> Value {
        let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        // An uncompressed point is 04, x, y (SEC 1 §2.3.3).
        let halves = |point: &[u8]| (b64(&point[1..=point.len() / 2]), b64(&point[1 + point.len() / 2..]));
        match self {
            Self::Rsa { n, e } => json!({"kty": "RSA", "n": b64(n), "e": b64(e)}),
            Self::P256(point) => {
                let (x, y) = halves(point);
                json!({"kty": "EC", "crv": "P-256", "x": x, "y": y})
            }
            Self::P384(point) => {
                let (x, y) = halves(point);
                json!({"kty": "EC", "crv": "P-384", "x": x, "y": y})
            }
        }
    }

    /// The key that a JWK holds.
    pub fn from_jwk(jwk: &Value) -> Option<Self> {
        let bytes = |member: &str| URL_SAFE_NO_PAD.decode(jwk.get(member)?.as_str()?).ok();
        let point = |size: usize| {
            let (x, y) = (bytes("x")?, bytes("y")?);
            (x.len() == size && y.len() == size).then(|| [&[4][..], &x, &y].concat())
        };
        match (jwk.get("kty")?.as_str()?, jwk.get("crv").and_then(Value::as_str)) {
            ("RSA", _) => Some(Self::Rsa { n: bytes("n")?, e: bytes("e")? }),
            ("EC", Some("P-256")) => point(32).map(Self::P256),
            ("EC", Some("P-384")) => point(48).map(Self::P384),
            _ => None,
        }
    }

    /// The JWK thumbprint (RFC 7638): SHA-256 of the required members in lexicographic order.
    pub fn thumbprint(&self) -> String {
        let jwk = self.jwk();
        let text = |member: &str| jwk[member].as_str().unwrap_or_default().to_owned();
        let canonical = match self {
            Self::Rsa { .. } => format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, text("e"), text("n")),
            Self::P256(_) | Self::P384(_) => {
                format!(r#"{{"crv":"{}","kty":"EC","x":"{}","y":"{}"}}"#, text("crv"), text("x"), text("y"))
            }
        };
        URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, canonical.as_bytes()))
    }
}

/// The bytes between the first pair of PEM armour lines.
pub fn der_of_pem(pem: &str) -> Vec<u8> {
    let base64: String =
        pem.lines().skip_while(|l| !l.starts_with("-----BEGIN")).skip(1).take_while(|l| !l.starts_with('-')).collect();
    STANDARD.decode(base64).expect("base64 in PEM")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_verifies_what_it_signed() {
        let keys = [SigningKey::numbered(1), SigningKey::p256("p256"), SigningKey::p384("p384")];
        for key in keys {
            let signed = key.sign(key.algorithm(), b"message");
            assert!(key.public().verifies(key.algorithm(), b"message", &signed), "{}", key.kid());
            assert!(!key.public().verifies(key.algorithm(), b"massage", &signed), "{}", key.kid());
            assert_eq!(PublicKey::from_jwk(&key.public().jwk()), Some(key.public()));
        }
    }

    #[test]
    fn the_thumbprint_of_rfc_7638_is_met() {
        let jwk = json!({"kty": "RSA", "e": "AQAB", "n": concat!(
            "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4",
            "n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0z",
            "gdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csF",
            "Cur-kEgU8awapJzKnqDKgw"
        )});
        let key = PublicKey::from_jwk(&jwk).unwrap();
        assert_eq!(key.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }
}
