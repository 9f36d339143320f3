//! The one place where a signature of a token is verified.

use ring::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey};

use super::Rejection;
use crate::jwks::{Algorithm, Material};

/// Verifies with exactly this algorithm. That the key allows it has been asked before; a key of another type fails here too.
pub fn verify(algorithm: Algorithm, key: &Material, message: &[u8], signature: &[u8]) -> Result<(), Rejection> {
    let outcome = match (algorithm, key) {
        (Algorithm::Es256, Material::P256(point)) => {
            UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
        }
        (Algorithm::Es384, Material::P384(point)) => {
            UnparsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, point).verify(message, signature)
        }
        (_, Material::Rsa { modulus, exponent }) => {
            let parameters = rsa(algorithm).ok_or(Rejection::KeyMismatch)?;
            RsaPublicKeyComponents { n: modulus, e: exponent }.verify(parameters, message, signature)
        }
        _ => return Err(Rejection::KeyMismatch),
    };
    outcome.map_err(|_| Rejection::SignatureInvalid)
}

/// PSS with a salt as long as the hash (RFC 7518 §3.5), which is what these demand.
fn rsa(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        Algorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
        Algorithm::Es256 | Algorithm::Es384 => return None,
    })
}
