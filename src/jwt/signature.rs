//! The one place that verifies signatures.

use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
};

use super::compact::Algorithm;
use super::rejection::Rejection;
use crate::jwks::{Key, Material};

/// Checks a signature with a key that must be of the algorithm's kind, and be for it if it says what it is for
/// (RFC 8725 §3.1).
pub fn verify(algorithm: Algorithm, key: &Key, signed: &[u8], signature: &[u8]) -> Result<(), Rejection> {
    if key.alg.as_ref().is_some_and(|own| own != algorithm.name()) {
        return Err(Rejection::KeyMismatch);
    }
    let verified = match (&key.material, kind(algorithm)) {
        (Material::Rsa { n, e }, Kind::Rsa(parameters)) => {
            RsaPublicKeyComponents { n, e }.verify(parameters, signed, signature)
        }
        (Material::P256(point), Kind::P256) => {
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed, signature)
        }
        (Material::P384(point), Kind::P384) => {
            UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).verify(signed, signature)
        }
        (Material::Rsa { .. } | Material::P256(_) | Material::P384(_), _) => return Err(Rejection::KeyMismatch),
    };
    verified.map_err(|_| Rejection::Signature)
}

enum Kind {
    Rsa(&'static RsaParameters),
    P256,
    P384,
}

const fn kind(algorithm: Algorithm) -> Kind {
    match algorithm {
        Algorithm::Rs256 => Kind::Rsa(&RSA_PKCS1_2048_8192_SHA256),
        Algorithm::Rs384 => Kind::Rsa(&RSA_PKCS1_2048_8192_SHA384),
        Algorithm::Rs512 => Kind::Rsa(&RSA_PKCS1_2048_8192_SHA512),
        Algorithm::Ps256 => Kind::Rsa(&RSA_PSS_2048_8192_SHA256),
        Algorithm::Ps384 => Kind::Rsa(&RSA_PSS_2048_8192_SHA384),
        Algorithm::Ps512 => Kind::Rsa(&RSA_PSS_2048_8192_SHA512),
        Algorithm::Es256 => Kind::P256,
        Algorithm::Es384 => Kind::P384,
    }
}
