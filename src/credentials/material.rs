//! Certificates and keys from any kind of file.

use zeroize::Zeroizing;

#[derive(Default)]
pub struct KeyMaterial {
    /// DER.
    pub certificates: Vec<Vec<u8>>,
    /// DER, PKCS#8 or PKCS#1.
    pub keys: Vec<Zeroizing<Vec<u8>>>,
}
