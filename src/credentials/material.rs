//! Certificates and keys as any file yields them.

use zeroize::Zeroizing;

/// What a certificate is made of.
#[derive(Default)]
pub struct Material {
    /// DER.
    pub certificates: Vec<Vec<u8>>,
    /// DER, PKCS#8 or PKCS#1.
    pub keys: Vec<Zeroizing<Vec<u8>>>,
}
