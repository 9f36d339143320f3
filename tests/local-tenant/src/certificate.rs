//! Client certificates: the embedded ones, and as much of X.509 as it takes to read a key and a validity.

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};

use crate::keys::{PublicKey, SigningKey, der_of_pem, embedded};

/// A certificate that an app registration trusts.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The DER bytes.
    pub der: Vec<u8>,
    /// The key that it certifies.
    pub key: PublicKey,
    /// The last moment of its validity, as its ASN.1 time in digits, with a four-digit year.
    pub not_after: String,
}

/// A certificate with its private key, in the forms in which a sidecar may be given it.
#[derive(Clone, Copy, Debug)]
pub struct ClientCertificate {
    /// The private key, PKCS#8 PEM.
    pub key_pem: &'static str,
    /// The certificate, PEM.
    pub certificate_pem: &'static str,
}

/// The certificate that the ready-made registration trusts.
pub const CLIENT_1: ClientCertificate =
    ClientCertificate { key_pem: embedded!("client-1.pem"), certificate_pem: embedded!("client-1.crt.pem") };
/// Another one, trusted as well: the one to rotate to.
pub const CLIENT_2: ClientCertificate =
    ClientCertificate { key_pem: embedded!("client-2.pem"), certificate_pem: embedded!("client-2.crt.pem") };
/// Valid during 2020 only.
pub const CLIENT_EXPIRED: ClientCertificate = ClientCertificate {
    key_pem: embedded!("client-expired.pem"),
    certificate_pem: embedded!("client-expired.crt.pem"),
};
/// On P-256, which client assertions cannot use.
pub const CLIENT_EC: ClientCertificate =
    ClientCertificate { key_pem: embedded!("client-ec.pem"), certificate_pem: embedded!("client-ec.crt.pem") };
/// [`CLIENT_1`] as PKCS#12 without a password, as Key Vault hands it out.
pub const CLIENT_1_PFX: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/keys/client-1.pfx"));
/// [`CLIENT_1`] as PKCS#12 under [`PFX_PASSWORD`].
pub const CLIENT_1_PFX_PASSWORD: &[u8] =
    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/keys/client-1-password.pfx"));
/// The same in the old encryption (RC2 and triple DES).
pub const CLIENT_1_PFX_LEGACY: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/keys/client-1-legacy.pfx"));
/// The password of the two protected PKCS#12 files.
pub const PFX_PASSWORD: &str = "pass word";

impl ClientCertificate {
    /// The certificate alone.
    pub fn certificate(&self) -> Certificate {
        Certificate::of_der(&der_of_pem(self.certificate_pem)).expect("an embedded certificate")
    }

    /// Key and certificate in one PEM text.
    pub fn pem(&self) -> String {
        [self.key_pem, self.certificate_pem].concat()
    }

    /// The RSA private key.
    pub fn signing_key(&self) -> SigningKey {
        SigningKey::rsa("client", self.key_pem)
    }
}

impl Certificate {
    /// Reads key and validity out of a certificate (RFC 5280 §4.1).
    pub fn of_der(der: &[u8]) -> Option<Self> {
        let (_, certificate, _) = element(der)?;
        let (_, mut rest, _) = element(certificate)?;
        // [0] version is absent in version 1 certificates.
        if let (0xa0, _, after) = element(rest)? {
            rest = after;
        }
        let mut fields = [&rest[..0]; 6];
        for field in &mut fields {
            let (_, content, after) = element(rest)?;
            (*field, rest) = (content, after);
        }
        let [_serial, _algorithm, _issuer, validity, _subject, key_info] = fields;
        let (_, _, not_after) = element(validity)?;
        let (form, time, _) = element(not_after)?;
        let time = std::str::from_utf8(time).ok()?.trim_end_matches('Z');
        // UTCTime has a two-digit year of 1950 to 2049.
        let century = if form == 0x18 {
            ""
        } else if time < "50" {
            "20"
        } else {
            "19"
        };
        let (_, algorithm, bits) = element(key_info)?;
        let (_, bits, _) = element(bits)?;
        Some(Self {
            der: der.to_vec(),
            key: public_key(algorithm, bits.get(1..)?)?,
            not_after: format!("{century}{time}"),
        })
    }

    /// SHA-256 of the DER: what `x5t#S256` holds.
    pub fn sha256(&self) -> Vec<u8> {
        digest(&SHA256, &self.der).as_ref().to_vec()
    }

    /// SHA-1 of the DER: what `x5t` holds.
    pub fn sha1(&self) -> Vec<u8> {
        digest(&SHA1_FOR_LEGACY_USE_ONLY, &self.der).as_ref().to_vec()
    }

    /// Whether its validity has ended.
    pub fn is_expired(&self) -> bool {
        let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
        digits(&self.not_after) < digits(&crate::time::timestamp(crate::time::now()))
    }
}

/// One DER element: tag, content, and what follows it.
pub(crate) fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn public_key(algorithm: &[u8], bits: &[u8]) -> Option<PublicKey> {
    let (_, oid, _) = element(algorithm)?;
    match oid {
        // 1.2.840.113549.1.1.1, rsaEncryption
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01] => {
            let (_, numbers, _) = element(bits)?;
            let (_, n, rest) = element(numbers)?;
            let (_, e, _) = element(rest)?;
            let unsigned = |number: &[u8]| number.iter().skip_while(|byte| **byte == 0).copied().collect();
            Some(PublicKey::Rsa { n: unsigned(n), e: unsigned(e) })
        }
        // 1.2.840.10045.2.1, id-ecPublicKey; the curve follows from the length of the point.
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01] => match bits.len() {
            65 => Some(PublicKey::P256(bits.to_vec())),
            97 => Some(PublicKey::P384(bits.to_vec())),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_holds_its_private_key_s_other_half() {
        assert_eq!(CLIENT_1.certificate().key, CLIENT_1.signing_key().public());
        assert!(matches!(CLIENT_EC.certificate().key, PublicKey::P256(_)));
    }

    #[test]
    fn only_the_expired_one_is_expired() {
        assert_eq!(CLIENT_EXPIRED.certificate().not_after, "20210101000000");
        assert!(CLIENT_EXPIRED.certificate().is_expired());
        assert!(!CLIENT_1.certificate().is_expired());
    }
}
