//! A certificate with its private key, from a PEM file or two, which is read again when it changes.

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;
use ring::signature::{KeyPair, RsaKeyPair};
use rustls::pki_types::pem::{self, SectionKind};
use zeroize::Zeroizing;

use super::{ClientAuth, Context, Failure, Source, assertion, der};
use crate::secret::Secret;
use crate::watched::Watched;

/// A certificate and its key.
pub struct Certificate {
    /// DER, the certificate itself first, then what came along.
    pub chain: Vec<Vec<u8>>,
    /// Its private key.
    pub key: RsaKeyPair,
    /// Unix seconds.
    pub not_before: u64,
    /// Unix seconds.
    pub not_after: u64,
}

impl Certificate {
    /// Pairs a key with the certificate among `certificates` that it belongs to.
    pub fn new(mut certificates: Vec<Vec<u8>>, key: RsaKeyPair) -> Result<Self, String> {
        if certificates.is_empty() {
            return Err("holds no certificate".into());
        }
        let own = |certificate: &Vec<u8>| {
            let parsed = der::Certificate::parse(certificate)?;
            (der::rsa_from_pkcs1(key.public_key().as_ref())? == der::rsa_from_spki(&parsed.spki)?).then_some(parsed)
        };
        let found = certificates.iter().enumerate().find_map(|(at, certificate)| Some((at, own(certificate)?)));
        let (at, parsed) = found.ok_or("the private key belongs to none of the certificates")?;
        let leaf = certificates.remove(at);
        certificates.insert(0, leaf);
        Ok(Self { chain: certificates, key, not_before: parsed.not_before, not_after: parsed.not_after })
    }

    /// Reads PEM sections: certificates and one key, in any order.
    pub fn from_pem<'a>(files: impl Iterator<Item = &'a [u8]>) -> Result<Self, String> {
        let mut certificates = Vec::new();
        let mut key = None;
        for file in files {
            for section in pem_sections(file)? {
                match section {
                    (SectionKind::Certificate, der) => certificates.push(der.to_vec()),
                    (SectionKind::PrivateKey, der) => {
                        key = Some(RsaKeyPair::from_pkcs8(&der).map_err(|error| unusable_key(&error))?);
                    }
                    (SectionKind::RsaPrivateKey, der) => {
                        key = Some(RsaKeyPair::from_der(&der).map_err(|error| unusable_key(&error))?);
                    }
                    (SectionKind::EcPrivateKey, _) => {
                        return Err("an elliptic curve key; Entra takes RSA keys for client assertions".into());
                    }
                    _ => {}
                }
            }
        }
        Self::new(certificates, key.ok_or("holds no unencrypted private key")?)
    }

    /// `x5t#S256` (RFC 7515 §4.1.8).
    pub fn thumbprint(&self) -> String {
        // `chain` is never empty: `new` put the own certificate there.
        URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &self.chain[0]))
    }

    /// Whether now is within its dates.
    pub fn check(&self, now: u64) -> Result<(), String> {
        if now < self.not_before {
            return Err(format!("the certificate is not valid before unix time {}", self.not_before));
        }
        if now > self.not_after {
            return Err(format!("the certificate expired at unix time {}", self.not_after));
        }
        Ok(())
    }
}

fn unusable_key(error: &ring::error::KeyRejected) -> String {
    format!("a private key that cannot be used ({error}); an RSA key of 2048 to 4096 bits is needed")
}

/// A PEM block's label and content.
type Section = (SectionKind, Zeroizing<Vec<u8>>);

fn pem_sections(file: &[u8]) -> Result<Vec<Section>, String> {
    use rustls::pki_types::pem::PemObject;
    <(SectionKind, Vec<u8>)>::pem_slice_iter(file)
        .map(|section| {
            section
                .map(|(kind, der)| (kind, Zeroizing::new(der)))
                .map_err(|error: pem::Error| format!("no valid PEM: {error}"))
        })
        .collect()
}

/// `Path`.
pub struct FileCertificate {
    file: Watched<Certificate>,
}

impl FileCertificate {
    /// Nothing is read yet.
    pub fn new(certificate: PathBuf, key: Option<PathBuf>, _password: Option<Secret<String>>) -> Self {
        let paths = std::iter::once(certificate).chain(key).collect();
        let file = Watched::new(paths, |contents| Certificate::from_pem(contents.iter().map(|bytes| &bytes[..])));
        Self { file }
    }

    fn valid(&self, now: u64) -> Result<Arc<Certificate>, String> {
        let certificate = self.file.current()?;
        certificate.check(now)?;
        Ok(certificate)
    }
}

impl Source for FileCertificate {
    fn authenticate(&self, context: &Context<'_>) -> Result<ClientAuth, Failure> {
        let certificate = self.valid(context.clock.unix()).map_err(Failure::Unusable)?;
        assertion::sign(&certificate, context).map(ClientAuth::Assertion).map_err(Failure::Unusable)
    }

    fn inspect(&self, now: u64) -> Result<Option<u64>, String> {
        self.valid(now).map(|certificate| Some(certificate.not_after))
    }

    fn reload(&self) {
        self.file.forget();
    }
}
