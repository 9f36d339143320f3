//! A certificate with its private key: matching the two, ordering the chain, and checking the
//! dates.

use std::sync::atomic::{AtomicU64, Ordering};

use ring::error::KeyRejected;
use ring::signature::{KeyPair, RsaKeyPair};
use zeroize::Zeroizing;

use crate::secret::Secret;
use crate::value::der;

const DAY: u64 = 24 * 60 * 60;

/// A certificate with less time left is warned about.
const NOTICE: u64 = 30 * DAY;

/// Certificates and keys from any kind of file.
#[derive(Default)]
pub struct KeyMaterial {
    /// DER.
    pub certificates: Vec<Vec<u8>>,
    /// DER, PKCS#8 or PKCS#1.
    pub keys: Vec<Zeroizing<Vec<u8>>>,
}

pub struct Certificate {
    /// DER: the certificate itself, then those of its issuers that were given.
    pub chain: Vec<Vec<u8>>,
    pub key: RsaKeyPair,
    /// The key in DER, PKCS#8 or PKCS#1, for decryption, which `ring` does not do.
    pub private_key: Zeroizing<Vec<u8>>,
    pub validity: Validity,
}

impl Certificate {
    /// Reads PEM or PKCS#12 files that belong together, in any order.
    pub fn read<'a>(
        files: impl IntoIterator<Item = &'a [u8]>,
        password: Option<&Secret<String>>,
    ) -> Result<Self, String> {
        let mut material = KeyMaterial::default();
        for file in files {
            material.add(file, password)?;
        }
        Self::new(material)
    }

    /// Pairs the first usable key with its certificate.
    pub fn new(material: KeyMaterial) -> Result<Self, String> {
        let KeyMaterial { certificates, keys } = material;
        if certificates.is_empty() {
            return Err("contains no certificate".into());
        }
        let mut problem = "contains no private key".to_owned();
        for private_key in keys {
            let key = match rsa(&private_key) {
                Ok(key) => key,
                Err(error) => {
                    problem = unusable(error);
                    continue;
                }
            };
            let public = der::rsa_from_pkcs1(key.public_key().as_ref());
            let own = |certificate: &Vec<u8>| {
                let parsed = der::Certificate::parse(certificate)?;
                (public.is_some() && public == der::rsa_from_spki(&parsed.spki)).then_some(parsed)
            };
            let found = certificates.iter().enumerate().find_map(|(at, der)| Some((at, own(der)?)));
            if let Some((at, parsed)) = found {
                return Ok(Self { chain: chain(certificates, at), key, private_key, validity: Validity::of(&parsed) });
            }
            "the private key does not match any of the certificates".clone_into(&mut problem);
        }
        Err(problem)
    }
}

/// Reads PKCS#8, else PKCS#1. If both fail, returns the error of the format that matched.
fn rsa(der: &[u8]) -> Result<RsaKeyPair, KeyRejected> {
    let plain = |first: KeyRejected| {
        RsaKeyPair::from_der(der).map_err(|second| if first.to_string() == "InvalidEncoding" { second } else { first })
    };
    RsaKeyPair::from_pkcs8(der).or_else(plain)
}

fn unusable(error: KeyRejected) -> String {
    match error.to_string().as_str() {
        "WrongAlgorithm" => "not an RSA key; Entra requires RSA keys for client assertions".into(),
        reason => format!("an unusable private key ({reason}); expected an RSA key of 2048 to 4096 bits"),
    }
}

/// The certificate, then the issuer of each (RFC 7515 §4.1.6). Uses each certificate once, so that
/// a cycle ends.
fn chain(mut pool: Vec<Vec<u8>>, at: usize) -> Vec<Vec<u8>> {
    let mut chain = vec![pool.remove(at)];
    while let Some(last) = chain.last().and_then(|der| der::Certificate::parse(der)) {
        let issued = |der: &Vec<u8>| der::Certificate::parse(der).is_some_and(|one| one.subject == last.issuer);
        match pool.iter().position(issued).filter(|_| last.issuer != last.subject) {
            Some(at) => chain.push(pool.remove(at)),
            None => break,
        }
    }
    chain
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Unix seconds.
    pub not_before: u64,
    /// Unix seconds, inclusive.
    pub not_after: u64,
}

impl Validity {
    pub const fn of(certificate: &der::Certificate) -> Self {
        Self { not_before: certificate.not_before, not_after: certificate.not_after }
    }

    pub fn check(&self, now: u64) -> Result<(), String> {
        if now < self.not_before {
            return Err(format!("the certificate becomes valid in {}", span(self.not_before - now)));
        }
        if now > self.not_after {
            return Err(format!("the certificate expired {} ago; renew it", span(now - self.not_after)));
        }
        Ok(())
    }
}

fn span(seconds: u64) -> String {
    if seconds >= 2 * DAY { format!("{} days", seconds / DAY) } else { format!("{seconds} s") }
}

/// Warns once a day about a certificate that expires soon.
#[derive(Default)]
pub struct Notice {
    /// Unix seconds of the last warning; 0 before the first.
    last: AtomicU64,
}

impl Notice {
    /// Checks the dates, and warns if the certificate expires within 30 days.
    pub fn check(&self, what: &str, validity: Validity, now: u64) -> Result<(), String> {
        validity.check(now).map_err(|reason| format!("{what}: {reason}"))?;
        if self.is_due(validity, now) {
            log::warn!("{what}: the certificate expires in {}; renew it", span(validity.not_after - now));
        }
        Ok(())
    }

    fn is_due(&self, validity: Validity, now: u64) -> bool {
        let near = validity.not_after.saturating_sub(now) <= NOTICE;
        let last = self.last.load(Ordering::Relaxed);
        let due = near && (last == 0 || now >= last.saturating_add(DAY));
        // Only one of several threads warns.
        due && self.last.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_hold_to_the_second() {
        let validity = Validity { not_before: 100, not_after: 200 };
        assert!(validity.check(99).unwrap_err().contains("becomes valid in 1 s"));
        assert!(validity.check(100).is_ok());
        assert!(validity.check(200).is_ok());
        assert!(validity.check(201).unwrap_err().contains("expired 1 s ago"));
    }

    #[test]
    fn an_end_within_thirty_days_is_said_once_a_day() {
        let end = 1_000 * DAY;
        let validity = Validity { not_before: 0, not_after: end };
        let notice = Notice::default();
        assert!(!notice.is_due(validity, end - NOTICE - 1));
        let first = end - NOTICE;
        assert!(notice.is_due(validity, first));
        assert!(!notice.is_due(validity, first + DAY - 1));
        assert!(notice.is_due(validity, first + DAY));
        assert!(!notice.is_due(validity, first + DAY));
    }
}
