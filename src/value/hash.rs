//! Hashes as arrays: SHA-256 (FIPS 180-4), and SHA-1 where others identify certificates by it.

use ring::digest::{self, Algorithm};

/// A SHA-256.
pub type Digest = [u8; 32];

pub fn sha256(bytes: impl AsRef<[u8]>) -> Digest {
    hash(&digest::SHA256, bytes.as_ref())
}

pub fn sha1(bytes: &[u8]) -> [u8; 20] {
    hash(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes)
}

fn hash<const N: usize>(algorithm: &'static Algorithm, bytes: &[u8]) -> [u8; N] {
    array(digest::digest(algorithm, bytes))
}

/// `N` must be the length of the hash.
pub fn array<const N: usize>(hash: digest::Digest) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(hash.as_ref());
    bytes
}
