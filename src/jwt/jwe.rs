//! Encrypted tokens (RFC 7516, compact form): an AES key wrapped with RSA-OAEP, around a signed
//! token.
//!
//! All failures are the same error and take the same work: if OAEP fails, a random key takes the
//! place of the real one, so that the authentication tag fails (RFC 7516 §11.5). The content is not
//! trusted: it is a JWS, verified like any other.

use ring::rand::{SecureRandom as _, SystemRandom};
use ring::{aead, hmac};
use rsa::PrivateKey;
use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::pkcs8::DecodePrivateKey;
use rsa::rand_core::{TryCryptoRng, TryRng};
use rsa::traits::PublicKeyParts;
use sha1::Sha1;
use sha2::Sha256;
use std::io;
use zeroize::Zeroizing;

use super::Rejection;
use super::claims::{Claim, Claims};
use crate::secret::Secret;
use crate::value::b64::{self, from_url};
use crate::value::{cbc, hash, hex};

/// RSA keys have at least 2048 bits (RFC 7518 §4.3).
const MIN_RSA_BYTES: usize = 256;

pub struct DecryptionKey {
    private: PrivateKey,
    /// Lower-case hexadecimal SHA-1 of the certificate: Entra's `kid`.
    thumbprint: Option<String>,
    /// Base64url SHA-1 of the certificate: `x5t` (RFC 7515 §4.1.7).
    x5t: Option<String>,
}

impl DecryptionKey {
    /// `key` is DER (PKCS#8 or PKCS#1); tokens may refer to it by the certificate's hash. An error
    /// says why the key cannot decrypt.
    pub fn new(key: &[u8], certificate: Option<&[u8]>) -> Result<Self, &'static str> {
        let private = PrivateKey::from_pkcs8_der(key)
            .ok()
            .or_else(|| PrivateKey::from_pkcs1_der(key).ok())
            .ok_or("the key is not an RSA private key")?;
        if private.size() < MIN_RSA_BYTES {
            return Err("the RSA key is shorter than 2048 bits");
        }
        let sha1 = certificate.map(hash::sha1);
        Ok(Self { private, thumbprint: sha1.map(|sha1| hex::encode(&sha1)), x5t: sha1.map(b64::url) })
    }

    /// True if a header's `kid` or `x5t` refers to this key. Both forms occur in both members.
    fn is_named(&self, name: &str) -> bool {
        self.thumbprint.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(name)) || self.x5t.as_deref() == Some(name)
    }
}

/// True for the compact form of a JWE: five parts.
pub fn is_encrypted(token: &str) -> bool {
    token.split('.').take(6).count() == 5
}

/// Decrypts with the key that the header names, or else tries each key. The caller has checked the
/// length.
pub fn decrypt(token: &str, keys: &[DecryptionKey]) -> Result<Zeroizing<Vec<u8>>, Rejection> {
    Jwe::parse(token).and_then(|jwe| jwe.open(keys)).ok_or(Rejection::DecryptionFailed)
}

/// The system's random numbers, for blinding private operations.
pub(super) struct Random;

impl TryRng for Random {
    type Error = io::Error;

    fn try_next_u32(&mut self) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes).map(|()| u32::from_ne_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes).map(|()| u64::from_ne_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        SystemRandom::new().fill(bytes).map_err(|_| io::Error::other("random numbers are not available"))
    }
}

impl TryCryptoRng for Random {}

/// A decoded but unverified JWE.
struct Jwe<'a> {
    /// The encoded header, which the tag also covers.
    associated: &'a [u8],
    wrap: Wrap,
    content: &'static Content,
    names: Vec<String>,
    encrypted_key: Vec<u8>,
    iv: Vec<u8>,
    ciphertext: Vec<u8>,
    tag: Vec<u8>,
}

/// `alg` (RFC 7518 §4.3). `RSA1_5` is unsupported for good: its padding is an oracle by design.
#[derive(Clone, Copy)]
enum Wrap {
    Oaep,
    Oaep256,
}

/// `enc` (RFC 7518 §5.1), with the lengths that it fixes, in bytes.
struct Content {
    name: &'static str,
    cipher: Cipher,
    key: usize,
    iv: usize,
    tag: usize,
}

enum Cipher {
    Gcm(&'static aead::Algorithm),
    Cbc(hmac::Algorithm),
}

#[rustfmt::skip]
static CONTENTS: [Content; 4] = [
    Content { name: "A128CBC-HS256", cipher: Cipher::Cbc(hmac::HMAC_SHA256), key: 32, iv: 16, tag: 16 },
    Content { name: "A256CBC-HS512", cipher: Cipher::Cbc(hmac::HMAC_SHA512), key: 64, iv: 16, tag: 32 },
    Content { name: "A128GCM", cipher: Cipher::Gcm(&aead::AES_128_GCM), key: 16, iv: 12, tag: 16 },
    Content { name: "A256GCM", cipher: Cipher::Gcm(&aead::AES_256_GCM), key: 32, iv: 12, tag: 16 },
];

impl<'a> Jwe<'a> {
    fn parse(token: &'a str) -> Option<Self> {
        let mut parts = token.split('.');
        let header = parts.next()?;
        let [encrypted_key, iv, ciphertext, tag] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
        if parts.next().is_some() {
            return None;
        }
        let decoded = from_url(header)?;
        let claims = Claims::parse(&decoded)?;
        // Compression before encryption leaks lengths, and a small token may unpack to a huge one.
        if claims.has("zip") || claims.has("crit") {
            return None;
        }
        let wrap = match claims.text("alg") {
            Claim::Present("RSA-OAEP") => Wrap::Oaep,
            Claim::Present("RSA-OAEP-256") => Wrap::Oaep256,
            _ => return None,
        };
        let Claim::Present(encryption) = claims.text("enc") else { return None };
        let content = CONTENTS.iter().find(|content| content.name == encryption)?;
        let name = |name: &str| if let Claim::Present(text) = claims.text(name) { Some(text.to_owned()) } else { None };
        let names = ["kid", "x5t"].into_iter().filter_map(name).collect();
        let jwe = Self {
            associated: header.as_bytes(),
            wrap,
            content,
            names,
            encrypted_key: from_url(encrypted_key)?,
            iv: from_url(iv)?,
            ciphertext: from_url(ciphertext)?,
            tag: from_url(tag)?,
        };
        // Lengths are fixed (RFC 7518 §5.2, §5.3); a shorter tag would be easier to forge.
        (jwe.iv.len() == content.iv && jwe.tag.len() == content.tag).then_some(jwe)
    }

    fn open(&self, keys: &[DecryptionKey]) -> Option<Zeroizing<Vec<u8>>> {
        let named = keys.iter().find(|key| self.names.iter().any(|name| key.is_named(name)));
        match named {
            Some(key) => self.open_with(key),
            None => keys.iter().find_map(|key| self.open_with(key)),
        }
    }

    fn open_with(&self, key: &DecryptionKey) -> Option<Zeroizing<Vec<u8>>> {
        let content_key = self.content_key(key)?;
        match self.content.cipher {
            Cipher::Gcm(algorithm) => self.open_gcm(algorithm, &content_key),
            Cipher::Cbc(algorithm) => self.open_cbc(algorithm, &content_key),
        }
    }

    /// Always returns a key of the right length, so that later steps do not reveal whether it was
    /// valid. The private operation is blinded.
    fn content_key(&self, key: &DecryptionKey) -> Option<Zeroizing<Vec<u8>>> {
        let length = self.content.key;
        let mut random = Zeroizing::new(vec![0; length]);
        Random.try_fill_bytes(&mut random).ok()?;
        let unwrapped = match self.wrap {
            Wrap::Oaep => key.private.oaep_decrypt_with_rng::<Sha1, _>(&mut Random, &self.encrypted_key),
            Wrap::Oaep256 => key.private.oaep_decrypt_with_rng::<Sha256, _>(&mut Random, &self.encrypted_key),
        };
        Some(match unwrapped.map(Zeroizing::new) {
            Ok(unwrapped) if unwrapped.len() == length => unwrapped,
            _ => random,
        })
    }

    fn open_gcm(&self, algorithm: &'static aead::Algorithm, key: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let key = aead::LessSafeKey::new(aead::UnboundKey::new(algorithm, key).ok()?);
        let nonce = aead::Nonce::try_assume_unique_for_key(&self.iv).ok()?;
        let mut sealed = Zeroizing::new([self.ciphertext.as_slice(), &self.tag].concat());
        let length = key.open_in_place(nonce, aead::Aad::from(self.associated), &mut sealed).ok()?.len();
        sealed.truncate(length);
        Some(sealed)
    }

    /// Checks the tag before decrypting (RFC 7518 §5.2.2.2).
    fn open_cbc(&self, algorithm: hmac::Algorithm, key: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (mac_key, cipher_key) = key.split_at(key.len() / 2);
        let mut mac = hmac::Context::with_key(&hmac::Key::new(algorithm, mac_key));
        let bits = u64::try_from(self.associated.len()).ok()?.checked_mul(8)?;
        for part in [self.associated, &self.iv, &self.ciphertext, &bits.to_be_bytes()] {
            mac.update(part);
        }
        let expected = mac.sign().as_ref().get(..self.content.tag)?.to_vec();
        if !Secret::new(expected).matches(&self.tag) {
            return None;
        }
        match cipher_key.len() {
            32 => cbc::decrypt::<aes::Aes256>(cipher_key, &self.iv, &self.ciphertext).ok(),
            _ => cbc::decrypt::<aes::Aes128>(cipher_key, &self.iv, &self.ciphertext).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thumbprint_is_written_in_lower_case() {
        assert_eq!(hex::encode(&[0x00, 0x9f, 0xab]), "009fab");
    }
}
