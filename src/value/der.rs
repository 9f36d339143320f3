//! The parts of DER (X.690) and X.509 (RFC 5280) needed to read a certificate's dates, names and
//! key.

use super::date;

/// A tag, its content, and the bytes after it.
type Element<'a> = (u8, &'a [u8], &'a [u8]);

pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const OCTET_STRING: u8 = 0x04;
const VERSION: u8 = 0xa0;
const PUBLIC_KEY: u8 = 0xa1;

/// 1.2.840.113549.1.1.1
const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// 1.2.840.10045.2.1
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// 1.2.840.10045.3.1.7
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// 1.3.132.0.34
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];

/// An RSA public key, big-endian without leading zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RsaPublicKey {
    pub n: Vec<u8>,
    pub e: Vec<u8>,
}

/// The parts of a certificate that the program uses.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// Unix seconds.
    pub not_before: u64,
    /// Unix seconds.
    pub not_after: u64,
    /// DER.
    pub issuer: Vec<u8>,
    /// DER.
    pub subject: Vec<u8>,
    /// `SubjectPublicKeyInfo`, DER.
    pub spki: Vec<u8>,
}

/// Splits off one element of definite length (X.690 §10.1).
pub(crate) fn element(input: &[u8]) -> Option<Element<'_>> {
    let (&tag, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 {
            return None;
        }
        let (bytes, rest) = rest.split_at_checked(count)?;
        (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

pub(crate) fn expect(tag: u8, input: &[u8]) -> Option<(&[u8], &[u8])> {
    element(input).filter(|(own, ..)| *own == tag).map(|(_, content, rest)| (content, rest))
}

/// Splits off one element, tag and length included.
pub(crate) fn raw(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_, _, rest) = element(input)?;
    Some((&input[..input.len() - rest.len()], rest))
}

impl Certificate {
    pub fn parse(der: &[u8]) -> Option<Self> {
        let (certificate, _) = expect(SEQUENCE, der)?;
        let (tbs, _) = expect(SEQUENCE, certificate)?;
        let tbs = expect(VERSION, tbs).map_or(tbs, |(_, rest)| rest);
        let (_serial, tbs) = expect(INTEGER, tbs)?;
        let (_algorithm, tbs) = expect(SEQUENCE, tbs)?;
        let (issuer, tbs) = raw(tbs)?;
        let (validity, tbs) = expect(SEQUENCE, tbs)?;
        let (subject, tbs) = raw(tbs)?;
        let (spki, _) = raw(tbs)?;
        let (tag, not_before, rest) = element(validity)?;
        let not_before = time(tag, not_before)?;
        let (tag, not_after, _) = element(rest)?;
        Some(Self {
            not_before,
            not_after: time(tag, not_after)?,
            issuer: issuer.to_vec(),
            subject: subject.to_vec(),
            spki: spki.to_vec(),
        })
    }
}

/// Algorithm, parameters and key of a `SubjectPublicKeyInfo` (RFC 5280 §4.1.2.7).
fn public_key(spki: &[u8]) -> Option<[&[u8]; 3]> {
    let (spki, _) = expect(SEQUENCE, spki)?;
    let (algorithm, rest) = expect(SEQUENCE, spki)?;
    let (oid, parameters) = expect(OBJECT_IDENTIFIER, algorithm)?;
    let (bits, _) = expect(BIT_STRING, rest)?;
    // Whole bytes: no bit is unused.
    Some([oid, parameters, bits.strip_prefix(&[0])?])
}

/// The RSA key in a `SubjectPublicKeyInfo` (RFC 3279 §2.3.1).
pub fn rsa_from_spki(spki: &[u8]) -> Option<RsaPublicKey> {
    public_key(spki).filter(|[oid, ..]| *oid == RSA_ENCRYPTION).and_then(|[_, _, key]| rsa_from_pkcs1(key))
}

/// The curve name and encoded point in a `SubjectPublicKeyInfo` on P-256 or P-384 (RFC 5480 §2).
pub fn ec_point_from_spki(spki: &[u8]) -> Option<(&'static str, &[u8])> {
    let [oid, parameters, point] = public_key(spki)?;
    let (curve, _) = expect(OBJECT_IDENTIFIER, parameters)?;
    let (name, length) = match curve {
        P256 => ("P-256", 65),
        P384 => ("P-384", 97),
        _ => return None,
    };
    (oid == EC_PUBLIC_KEY && point.len() == length).then_some((name, point))
}

/// The private scalar and public point of a SEC1 key that has both (RFC 5915 §3).
pub fn ec_private_key(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (key, _) = expect(SEQUENCE, der)?;
    let (_version, rest) = expect(INTEGER, key)?;
    let (private, mut rest) = expect(OCTET_STRING, rest)?;
    loop {
        let (tag, content, after) = element(rest)?;
        if tag == PUBLIC_KEY {
            let (bits, _) = expect(BIT_STRING, content)?;
            return Some((private, bits.strip_prefix(&[0])?));
        }
        rest = after;
    }
}

/// An `RSAPublicKey` (RFC 8017 §A.1.1).
pub fn rsa_from_pkcs1(key: &[u8]) -> Option<RsaPublicKey> {
    let (key, _) = expect(SEQUENCE, key)?;
    let (n, rest) = expect(INTEGER, key)?;
    let (e, _) = expect(INTEGER, rest)?;
    Some(RsaPublicKey { n: unsigned(n)?, e: unsigned(e)? })
}

fn unsigned(integer: &[u8]) -> Option<Vec<u8>> {
    if integer.first().is_none_or(|first| *first >= 0x80) {
        return None;
    }
    let zeros = integer.iter().take_while(|byte| **byte == 0).count();
    Some(integer[zeros..].to_vec())
}

fn time(tag: u8, text: &[u8]) -> Option<u64> {
    match tag {
        UTC_TIME => date::from_asn1(text, 2),
        GENERALIZED_TIME => date::from_asn1(text, 4),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncated_input_is_nothing_rather_than_a_panic() {
        let der = [SEQUENCE, 0x82, 0xff, 0xff, 1, 2, 3];
        for end in 0..der.len() {
            assert!(Certificate::parse(&der[..end]).is_none());
            assert!(rsa_from_spki(&der[..end]).is_none());
        }
    }
}
