//! `KeyVault`: a certificate whose private key may leave the vault, through the secret of the same
//! name.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::call::VaultCall;
use super::entry::{Entry, item};
use crate::credentials::certificate::{Certificate, Validity};
use crate::credentials::{ClientAuth, Context, Failure, Source, assertion};
use crate::value::b64;

pub type VaultCertificate = Entry<Certificate>;

impl VaultCertificate {
    fn fetched(&self, context: &Context<'_>) -> Result<Arc<Certificate>, Failure> {
        let now = context.clock.unix();
        self.current(now, || self.read(&VaultCall::new(context), now))
    }

    fn read(&self, call: &VaultCall<'_, '_>, now: u64) -> Result<(Certificate, Validity), Failure> {
        let unusable = |reason: &str| self.unusable(reason);
        let (answer, _) = self.ask(call, now)?;
        if answer["policy"]["key_props"]["exportable"] != true {
            return Err(unusable("its key may not leave the vault; use the SourceType SignedAssertionFromVault"));
        }
        let path = item(&answer["sid"], "secrets").ok_or_else(|| unusable("the vault sent no secret id for it"))?;
        let secret = self.vault.get(call, &path)?;
        let value = secret["value"].as_str().ok_or_else(|| unusable("its secret has no value"))?;
        let content = match secret["contentType"].as_str() {
            Some("application/x-pem-file") => Zeroizing::new(value.as_bytes().to_vec()),
            Some("application/x-pkcs12") => {
                b64::secret(value.as_bytes()).ok_or_else(|| unusable("its secret is not base64"))?
            }
            _ => return Err(unusable("its secret is neither application/x-pkcs12 nor application/x-pem-file")),
        };
        let certificate = Certificate::read([&content[..]], None).map_err(|reason| unusable(&reason))?;
        let validity = certificate.validity;
        Ok((certificate, validity))
    }
}

impl Source for VaultCertificate {
    fn needs_network(&self) -> bool {
        true
    }

    fn authenticate(&self, context: &Context<'_>) -> Result<ClientAuth, Failure> {
        let certificate = self.fetched(context)?;
        assertion::sign(&certificate, context).map(ClientAuth::Assertion).map_err(Failure::Unusable)
    }

    fn expires_at(&self, _: u64) -> Option<u64> {
        self.kept.known().map(|(_, validity)| validity.not_after)
    }

    fn certificate(&self, now: u64) -> Option<Result<Arc<Certificate>, String>> {
        let (certificate, validity) = self.kept.known()?;
        Some(self.check(validity, now).map(|()| certificate))
    }

    fn fetch(&self, context: &Context<'_>) -> Result<(), Failure> {
        self.fetched(context).map(drop)
    }

    fn reload(&self) {
        self.kept.forget();
    }
}
