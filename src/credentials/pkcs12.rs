//! PKCS#12 (RFC 7292): the container in which Windows, .NET and Key Vault store a certificate with
//! its key. Supports the password modes; the public-key modes are not used in practice.

use ring::{digest, hmac};
use zeroize::Zeroizing;

use super::ber::to_der;
use super::certificate::KeyMaterial;
use super::pbe::{Closed, Password, decrypt, iterations};
use crate::value::der::{INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, element, expect};

/// `[0]`, constructed: the content after a type identifier.
const EXPLICIT_0: u8 = 0xa0;
/// `[0]`, primitive: encrypted content. Constructed if in pieces.
const IMPLICIT_0: u8 = 0x80;

/// 1.2.840.113549.1.7: 1 is data, 6 is encryptedData.
const PKCS7: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7];
/// 1.2.840.113549.1.12.10.1, the bag types.
const BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 10, 1];
/// 1.2.840.113549.1.9.22.1
const X509: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 22, 1];
/// 1.3.14.3.2.26
const SHA1: &[u8] = &[0x2b, 0x0e, 3, 2, 0x1a];
/// 2.16.840.1.101.3.4.2, the SHA-2 family.
const SHA2: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2];

/// Deeper nesting is rejected.
const MAX_DEPTH: usize = 4;

/// Reads DER or BER.
pub fn read(file: &[u8], password: &str) -> Result<KeyMaterial, Closed> {
    let der = &to_der(file).ok_or(Closed::Malformed)?;
    let mut outcome = Err(Closed::Malformed);
    for password in Password::candidates(password) {
        outcome = open(der, &password);
        if outcome.as_ref().err() != Some(&Closed::WrongPassword) {
            break;
        }
    }
    outcome
}

fn open(der: &[u8], password: &Password<'_>) -> Result<KeyMaterial, Closed> {
    let malformed = Closed::Malformed;
    let (pfx, _) = expect(SEQUENCE, der).ok_or(malformed)?;
    let (version, rest) = expect(INTEGER, pfx).ok_or(malformed)?;
    let (safe, rest) = expect(SEQUENCE, rest).ok_or(malformed)?;
    let (kind, safe) = content_info(safe)?;
    if version != [3] || kind != 1 {
        return Err(Closed::Unsupported);
    }
    let (safe, _) = expect(OCTET_STRING, safe).ok_or(malformed)?;
    if let Some((mac, _)) = expect(SEQUENCE, rest) {
        verify(mac, safe, password)?;
    }
    let safe = to_der(safe).ok_or(malformed)?;
    let (mut infos, _) = expect(SEQUENCE, &safe).ok_or(malformed)?;
    let mut material = KeyMaterial::default();
    while !infos.is_empty() {
        let (info, rest) = expect(SEQUENCE, infos).ok_or(malformed)?;
        infos = rest;
        let (kind, content) = content_info(info)?;
        match kind {
            1 => {
                let (content, _) = expect(OCTET_STRING, content).ok_or(malformed)?;
                bags(content, password, &mut material, MAX_DEPTH)?;
            }
            6 => bags(&encrypted(content, password)?, password, &mut material, MAX_DEPTH)?,
            _ => return Err(Closed::Unsupported),
        }
    }
    Ok(material)
}

/// The type and content of a PKCS#7 `ContentInfo` (RFC 2315 §7).
fn content_info(info: &[u8]) -> Result<(u8, &[u8]), Closed> {
    let (kind, rest) = expect(OBJECT_IDENTIFIER, info).ok_or(Closed::Malformed)?;
    let (content, _) = expect(EXPLICIT_0, rest).ok_or(Closed::Malformed)?;
    match kind.strip_prefix(PKCS7) {
        Some(&[kind]) => Ok((kind, content)),
        _ => Err(Closed::Unsupported),
    }
}

/// Checks the `MacData` (RFC 7292 §4), which tells a wrong password from a broken file.
fn verify(mac: &[u8], safe: &[u8], password: &Password<'_>) -> Result<(), Closed> {
    let malformed = Closed::Malformed;
    let (info, rest) = expect(SEQUENCE, mac).ok_or(malformed)?;
    let (salt, rest) = expect(OCTET_STRING, rest).ok_or(malformed)?;
    let rounds = expect(INTEGER, rest).map_or(&[1][..], |(rounds, _)| rounds);
    let (algorithm, value) = expect(SEQUENCE, info).ok_or(malformed)?;
    let (algorithm, _) = expect(OBJECT_IDENTIFIER, algorithm).ok_or(malformed)?;
    let (value, _) = expect(OCTET_STRING, value).ok_or(malformed)?;
    let (hash, hmac): (&'static digest::Algorithm, _) = match (algorithm, algorithm.strip_prefix(SHA2)) {
        (SHA1, _) => (&digest::SHA1_FOR_LEGACY_USE_ONLY, hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
        (_, Some([1])) => (&digest::SHA256, hmac::HMAC_SHA256),
        (_, Some([2])) => (&digest::SHA384, hmac::HMAC_SHA384),
        (_, Some([3])) => (&digest::SHA512, hmac::HMAC_SHA512),
        _ => return Err(Closed::Unsupported),
    };
    let key = password.derive(hash, 3, salt, iterations(rounds)?, hash.output_len());
    hmac::verify(&hmac::Key::new(hmac, &key), safe, value).map_err(|_| Closed::WrongPassword)
}

/// `EncryptedData` (RFC 2315 §13).
fn encrypted(content: &[u8], password: &Password<'_>) -> Result<Zeroizing<Vec<u8>>, Closed> {
    let malformed = Closed::Malformed;
    let (data, _) = expect(SEQUENCE, content).ok_or(malformed)?;
    let (_version, rest) = expect(INTEGER, data).ok_or(malformed)?;
    let (info, _) = expect(SEQUENCE, rest).ok_or(malformed)?;
    let (_kind, rest) = expect(OBJECT_IDENTIFIER, info).ok_or(malformed)?;
    let (algorithm, rest) = expect(SEQUENCE, rest).ok_or(malformed)?;
    match element(rest).ok_or(malformed)? {
        (IMPLICIT_0, sealed, _) => decrypt(algorithm, sealed, password),
        (EXPLICIT_0, mut pieces, _) => {
            let mut sealed = Vec::with_capacity(pieces.len());
            while !pieces.is_empty() {
                let (piece, rest) = expect(OCTET_STRING, pieces).ok_or(malformed)?;
                sealed.extend_from_slice(piece);
                pieces = rest;
            }
            decrypt(algorithm, &sealed, password)
        }
        _ => Err(malformed),
    }
}

/// `EncryptedPrivateKeyInfo` (RFC 5958 §3), also used in PEM.
pub fn private_key(der: &[u8], password: &Password<'_>) -> Result<Zeroizing<Vec<u8>>, Closed> {
    let malformed = Closed::Malformed;
    let (info, _) = expect(SEQUENCE, der).ok_or(malformed)?;
    let (algorithm, rest) = expect(SEQUENCE, info).ok_or(malformed)?;
    let (sealed, _) = expect(OCTET_STRING, rest).ok_or(malformed)?;
    let key = decrypt(algorithm, sealed, password)?;
    // One in 256 wrong passwords yields valid padding.
    if expect(SEQUENCE, &key).is_none_or(|(_, rest)| !rest.is_empty()) {
        return Err(Closed::WrongPassword);
    }
    Ok(key)
}

/// Keys and certificates (RFC 7292 §4.2). Skips revocation lists and other secrets.
fn bags(contents: &[u8], password: &Password<'_>, material: &mut KeyMaterial, depth: usize) -> Result<(), Closed> {
    let malformed = Closed::Malformed;
    // Without a MAC, a wrong password may still yield valid padding.
    let contents = to_der(contents).ok_or(Closed::WrongPassword)?;
    let (mut contents, _) = expect(SEQUENCE, &contents).ok_or(Closed::WrongPassword)?;
    while !contents.is_empty() {
        let (bag, rest) = expect(SEQUENCE, contents).ok_or(malformed)?;
        contents = rest;
        let (kind, value) = expect(OBJECT_IDENTIFIER, bag).ok_or(malformed)?;
        let (value, _) = expect(EXPLICIT_0, value).ok_or(malformed)?;
        match kind.strip_prefix(BAG) {
            Some([1]) => material.keys.push(Zeroizing::new(value.to_vec())),
            Some([2]) => material.keys.push(private_key(value, password)?),
            Some([3]) => {
                let (certificate, _) = expect(SEQUENCE, value).ok_or(malformed)?;
                let (kind, certificate) = expect(OBJECT_IDENTIFIER, certificate).ok_or(malformed)?;
                let (_, certificate, _) = element(certificate).ok_or(malformed)?;
                if kind == X509 {
                    let (certificate, _) = expect(OCTET_STRING, certificate).ok_or(malformed)?;
                    material.certificates.push(certificate.to_vec());
                }
            }
            Some([6]) => {
                let depth = depth.checked_sub(1).ok_or(Closed::Unsupported)?;
                bags(value, password, material, depth)?;
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::testing::data;

    fn file(name: &str) -> Vec<u8> {
        std::fs::read(data(name)).unwrap()
    }

    /// The file with a new MAC.
    fn authenticated(mut der: Vec<u8>, password: &Password<'_>) -> Vec<u8> {
        let safe = expect(INTEGER, expect(SEQUENCE, &der).unwrap().0).unwrap().1;
        let (safe, mac) = expect(SEQUENCE, safe).unwrap();
        let (safe, _) = expect(OCTET_STRING, content_info(safe).unwrap().1).unwrap();
        let (info, rest) = expect(SEQUENCE, expect(SEQUENCE, mac).unwrap().0).unwrap();
        let (salt, rest) = expect(OCTET_STRING, rest).unwrap();
        let rounds = iterations(expect(INTEGER, rest).unwrap().0).unwrap();
        let value = expect(OCTET_STRING, expect(SEQUENCE, info).unwrap().1).unwrap().0.to_vec();
        let key = password.derive(&digest::SHA256, 3, salt, rounds, 32);
        let own = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), safe);
        let at = der.windows(value.len()).rposition(|window| window == value).unwrap();
        der[at..at + value.len()].copy_from_slice(own.as_ref());
        der
    }

    #[test]
    fn no_password_and_an_empty_one_are_both_tried() {
        for password in Password::candidates("") {
            assert!(read(&authenticated(file("open-key.pfx"), &password), "").is_ok());
        }
        assert_eq!(read(&file("open-key.pfx"), "").err(), Some(Closed::WrongPassword));
    }

    #[test]
    fn damage_and_truncation_are_no_panic() {
        for name in ["3des.pfx", "nss.pfx", "ber-pieces.pfx"] {
            let der = file(name);
            for at in (0..der.len()).step_by(if name == "3des.pfx" { 7 } else { 97 }) {
                let mut damaged = der.clone();
                damaged[at] ^= 0x55;
                // Damage to names and identifiers may go unnoticed.
                let _ = read(&damaged, "pass word");
                assert!(read(&der[..at], "pass word").is_err(), "{name} {at}");
            }
            assert_eq!(read(&der[..der.len() - 1], "pass word").err(), Some(Closed::Malformed), "{name}");
        }
    }

    #[test]
    fn iterations_have_a_limit() {
        let count = |number: u32| iterations(&number.to_be_bytes());
        assert!(count(crate::credentials::pbe::MAX_ITERATIONS).is_ok());
        assert_eq!(count(crate::credentials::pbe::MAX_ITERATIONS + 1), Err(Closed::TooSlow));
        assert_eq!(count(0), Err(Closed::Malformed));
        assert_eq!(iterations(&[1, 0, 0, 0, 0]), Err(Closed::TooSlow));
    }
}
