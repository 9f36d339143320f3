//! `KeyVault`: a certificate whose private key may leave the vault, through the secret of the same
//! name.

use std::sync::Arc;

use serde_json::Value;
use zeroize::Zeroizing;

use super::Vault;
use super::cached::Cached;
use super::call::VaultCall;
use super::token::Environment;
use crate::config;
use crate::credentials::certificate::{Certificate, Notice, Validity};
use crate::credentials::{ClientAuth, Context, Failure, Source, assertion};
use crate::value::b64;
use crate::value::percent::encode_component;

pub struct VaultCertificate {
    vault: Vault,
    name: String,
    kept: Cached<Certificate>,
    notice: Notice,
}

impl VaultCertificate {
    /// Contacts nothing yet.
    pub fn new(described: &config::VaultCertificate, environment: Environment) -> Self {
        let vault = Vault::new(described.vault.clone(), described.managed_identity_client_id.clone(), environment);
        Self { vault, name: described.name.clone(), kept: Cached::default(), notice: Notice::default() }
    }

    fn current(&self, context: &Context<'_>) -> Result<Arc<Certificate>, Failure> {
        let now = context.clock.unix();
        let certificate = self.kept.get(now, || {
            let certificate = self.read(&VaultCall::new(context), now)?;
            let validity = certificate.validity;
            Ok((certificate, validity))
        })?;
        self.notice.check(&self.name, certificate.validity, now).map_err(Failure::Unusable)?;
        Ok(certificate)
    }

    fn read(&self, call: &VaultCall<'_, '_>, now: u64) -> Result<Certificate, Failure> {
        let unusable = |reason: &str| Failure::Unusable(format!("{}: {}: {reason}", self.vault.name(), self.name));
        let answer = self.vault.get(call, &format!("/certificates/{}", encode_component(&self.name)))?;
        dates(&answer).and_then(|dates| dates.check(now)).map_err(|reason| unusable(&reason))?;
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
        Certificate::read([&content[..]], None).map_err(|reason| unusable(&reason))
    }
}

/// Reads `attributes`: whether and when the vault allows its use.
pub fn dates(answer: &Value) -> Result<Validity, String> {
    let attributes = &answer["attributes"];
    if attributes["enabled"] == false {
        return Err("disabled in the vault".into());
    }
    match (attributes["nbf"].as_u64(), attributes["exp"].as_u64()) {
        (Some(not_before), Some(not_after)) => Ok(Validity { not_before, not_after }),
        _ => Err("the vault sent no dates for it".into()),
    }
}

/// The path of an item's id, `https://{vault}/{kind}/{name}/{version}`. Ignores the host: the token
/// goes only to the configured vault.
pub fn item(id: &Value, kind: &str) -> Option<String> {
    let (_, rest) = id.as_str()?.split_once("://")?;
    let (_, path) = rest.split_once('/')?;
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let parts: Vec<&str> = path.split('/').collect();
    match parts[..] {
        [own, name, version] if own == kind && plain(name) && plain(version) => Some(format!("/{path}")),
        _ => None,
    }
}

impl Source for VaultCertificate {
    fn authenticate(&self, context: &Context<'_>) -> Result<ClientAuth, Failure> {
        let certificate = self.current(context)?;
        assertion::sign(&certificate, context).map(ClientAuth::Assertion).map_err(Failure::Unusable)
    }

    fn expires_at(&self, _: u64) -> Option<u64> {
        self.kept.known().map(|(_, validity)| validity.not_after)
    }

    fn certificate(&self, now: u64) -> Option<Result<Arc<Certificate>, String>> {
        let (certificate, validity) = self.kept.known()?;
        Some(self.notice.check(&self.name, validity, now).map(|()| certificate))
    }

    fn fetch(&self, context: &Context<'_>) -> Result<(), Failure> {
        self.current(context).map(drop)
    }

    fn reload(&self) {
        self.kept.forget();
    }
}
