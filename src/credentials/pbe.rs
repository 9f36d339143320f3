//! Password-based encryption of private keys: the schemes of PKCS#5 (RFC 8018 §6.2) and PKCS#12
//! (RFC 7292 §C). `ring` derives keys and authenticates, but lacks the ciphers of older files.

use std::num::NonZeroU32;

use ring::{digest, pbkdf2};
use zeroize::Zeroizing;

use crate::errors::errors;
use crate::value::cbc;
use crate::value::der::{INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, expect};

/// Tools write 2,000 to 600,000 iterations; more would delay the start by seconds.
pub const MAX_ITERATIONS: u32 = 1_000_000;

/// 1.2.840.113549.1.5.13
const PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 13];
/// 1.2.840.113549.1.5.12
const PBKDF2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 12];
/// 1.2.840.113549.2, HMAC with a hash.
const HMAC: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2];
/// 1.2.840.113549.1.12.1, the PKCS#12 schemes.
const PKCS12_PBE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 1];
/// 1.2.840.113549.3.7
const DES_EDE3_CBC: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 3, 7];
/// 2.16.840.1.101.3.4.1, AES.
const AES: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1];

errors! {
    /// Why an encrypted key stays closed.
    #[derive(Copy)]
    Closed {
        Malformed => "malformed or cut off; export it again";
        /// A scheme, cipher or hash.
        Unsupported => "unsupported encryption; export it again with AES-256";
        /// [`MAX_ITERATIONS`].
        TooSlow => "more than 1000000 iterations of key derivation";
        WrongPassword => "the password (CertificatePassword) is wrong or missing";
    }
}

/// A password in both of its encodings.
pub struct Password<'a> {
    /// For PKCS#5.
    text: &'a str,
    /// For PKCS#12: big-endian UTF-16 with a terminator. No password differs from an empty one.
    wide: Zeroizing<Vec<u8>>,
}

impl<'a> Password<'a> {
    /// An empty password may mean no password; tools differ here.
    pub fn candidates(text: &'a str) -> Vec<Self> {
        let wide = text.encode_utf16().chain([0]).flat_map(u16::to_be_bytes).collect();
        let given = Self { text, wide: Zeroizing::new(wide) };
        let none = text.is_empty().then(|| Self { text, wide: Zeroizing::default() });
        [given].into_iter().chain(none).collect()
    }

    /// RFC 7292 §B.2. `purpose` is 1 for a key, 2 for an IV, 3 for a MAC key.
    pub fn derive(
        &self,
        algorithm: &'static digest::Algorithm,
        purpose: u8,
        salt: &[u8],
        iterations: NonZeroU32,
        length: usize,
    ) -> Zeroizing<Vec<u8>> {
        let block = algorithm.block_len();
        let diversifier = vec![purpose; block];
        let whole = |part: &[u8]| part.len().div_ceil(block) * block;
        let filled = |part: &'_ [u8]| part.iter().copied().cycle().take(whole(part)).collect::<Vec<u8>>();
        let mut input = Zeroizing::new([filled(salt), filled(&self.wide)].concat());
        let mut key = Zeroizing::new(Vec::with_capacity(length + algorithm.output_len()));
        while key.len() < length {
            let mut hash = digest::Context::new(algorithm);
            hash.update(&diversifier);
            hash.update(&input);
            let mut hash = hash.finish();
            for _ in 1..iterations.get() {
                hash = digest::digest(algorithm, hash.as_ref());
            }
            key.extend_from_slice(hash.as_ref());
            let addend: Vec<u8> = hash.as_ref().iter().copied().cycle().take(block).collect();
            for part in input.chunks_mut(block) {
                let mut carry = 1;
                for (byte, added) in part.iter_mut().zip(&addend).rev() {
                    let [high, low] = (u16::from(*byte) + u16::from(*added) + carry).to_be_bytes();
                    *byte = low;
                    carry = u16::from(high);
                }
            }
        }
        key.truncate(length);
        key
    }
}

pub fn iterations(integer: &[u8]) -> Result<NonZeroU32, Closed> {
    let number = integer.iter().try_fold(0u32, |number, byte| number.checked_mul(256)?.checked_add(u32::from(*byte)));
    match number.filter(|number| *number <= MAX_ITERATIONS) {
        Some(number) => NonZeroU32::new(number).ok_or(Closed::Malformed),
        None => Err(Closed::TooSlow),
    }
}

/// Decrypts as the content of an `AlgorithmIdentifier` says.
pub fn decrypt(algorithm: &[u8], sealed: &[u8], password: &Password<'_>) -> Result<Zeroizing<Vec<u8>>, Closed> {
    let (scheme, parameters) = expect(OBJECT_IDENTIFIER, algorithm).ok_or(Closed::Malformed)?;
    let (parameters, _) = expect(SEQUENCE, parameters).ok_or(Closed::Malformed)?;
    if scheme == PBES2 {
        return pbes2(parameters, sealed, password);
    }
    let (salt, rest) = expect(OCTET_STRING, parameters).ok_or(Closed::Malformed)?;
    let rounds = iterations(expect(INTEGER, rest).ok_or(Closed::Malformed)?.0)?;
    let derive = |purpose, length| password.derive(&digest::SHA1_FOR_LEGACY_USE_ONLY, purpose, salt, rounds, length);
    let iv = derive(2, 8);
    Ok(match scheme.strip_prefix(PKCS12_PBE) {
        Some([3]) => cbc::decrypt::<des::TdesEde3>(&derive(1, 24), &iv, sealed)?,
        Some([4]) => cbc::decrypt::<des::TdesEde2>(&derive(1, 16), &iv, sealed)?,
        Some([5]) => cbc::decrypt::<rc2::Rc2>(&derive(1, 16), &iv, sealed)?,
        Some([6]) => cbc::decrypt::<rc2::Rc2>(&derive(1, 5), &iv, sealed)?,
        _ => return Err(Closed::Unsupported),
    })
}

/// RFC 8018 §A.4.
fn pbes2(parameters: &[u8], sealed: &[u8], password: &Password<'_>) -> Result<Zeroizing<Vec<u8>>, Closed> {
    let malformed = Closed::Malformed;
    let (derivation, rest) = expect(SEQUENCE, parameters).ok_or(malformed)?;
    let (cipher, _) = expect(SEQUENCE, rest).ok_or(malformed)?;
    let (function, derivation) = expect(OBJECT_IDENTIFIER, derivation).ok_or(malformed)?;
    if function != PBKDF2 {
        return Err(Closed::Unsupported);
    }
    let (derivation, _) = expect(SEQUENCE, derivation).ok_or(malformed)?;
    let (salt, rest) = expect(OCTET_STRING, derivation).ok_or(malformed)?;
    let (rounds, rest) = expect(INTEGER, rest).ok_or(malformed)?;
    let rounds = iterations(rounds)?;
    // Optional, since the cipher fixes the key length.
    let rest = expect(INTEGER, rest).map_or(rest, |(_, rest)| rest);
    let hash = match expect(SEQUENCE, rest) {
        None => pbkdf2::PBKDF2_HMAC_SHA1,
        Some((function, _)) => {
            let (function, _) = expect(OBJECT_IDENTIFIER, function).ok_or(malformed)?;
            match function.strip_prefix(HMAC) {
                Some([7]) => pbkdf2::PBKDF2_HMAC_SHA1,
                Some([9]) => pbkdf2::PBKDF2_HMAC_SHA256,
                Some([10]) => pbkdf2::PBKDF2_HMAC_SHA384,
                Some([11]) => pbkdf2::PBKDF2_HMAC_SHA512,
                _ => return Err(Closed::Unsupported),
            }
        }
    };
    let (cipher, rest) = expect(OBJECT_IDENTIFIER, cipher).ok_or(malformed)?;
    let (iv, _) = expect(OCTET_STRING, rest).ok_or(Closed::Unsupported)?;
    let derive = |length| {
        let mut key = Zeroizing::new(vec![0; length]);
        pbkdf2::derive(hash, rounds, salt, password.text.as_bytes(), &mut key);
        key
    };
    Ok(match (cipher, cipher.strip_prefix(AES)) {
        (_, Some([2])) => cbc::decrypt::<aes::Aes128>(&derive(16), iv, sealed)?,
        (_, Some([22])) => cbc::decrypt::<aes::Aes192>(&derive(24), iv, sealed)?,
        (_, Some([42])) => cbc::decrypt::<aes::Aes256>(&derive(32), iv, sealed)?,
        (DES_EDE3_CBC, _) => cbc::decrypt::<des::TdesEde3>(&derive(24), iv, sealed)?,
        _ => return Err(Closed::Unsupported),
    })
}

/// The file is the operator's own, so telling a wrong password from a broken file is no padding
/// oracle.
impl From<cbc::Unreadable> for Closed {
    fn from(error: cbc::Unreadable) -> Self {
        match error {
            cbc::Unreadable::Length => Self::Malformed,
            cbc::Unreadable::Padding => Self::WrongPassword,
        }
    }
}
