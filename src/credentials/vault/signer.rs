//! `SignedAssertionFromVault`: the key never leaves the vault, which signs the hash of each
//! assertion.

use serde_json::json;

use super::call::VaultCall;
use super::entry::{Entry, item};
use crate::credentials::certificate::Validity;
use crate::credentials::{ClientAuth, Context, Failure, Source, assertion};
use crate::value::{b64, der};

/// A key in a vault, and its certificate as registered in Entra.
pub struct Public {
    /// DER.
    certificate: Vec<u8>,
    /// `/keys/{name}/{version}`.
    key: String,
}

pub type VaultSigner = Entry<Public>;

impl VaultSigner {
    fn read(&self, call: &VaultCall<'_, '_>, now: u64) -> Result<(Public, Validity), Failure> {
        let unusable = |reason: &str| self.unusable(reason);
        let (answer, validity) = self.ask(call, now)?;
        let key = item(&answer["kid"], "keys").ok_or_else(|| unusable("the vault sent no key id for it"))?;
        let certificate = answer["cer"].as_str().and_then(b64::from_standard);
        let certificate = certificate.ok_or_else(|| unusable("the vault sent no certificate"))?;
        let parsed = der::Certificate::parse(&certificate).ok_or_else(|| unusable("not an X.509 certificate"))?;
        if der::rsa_from_spki(&parsed.spki).is_none() {
            return Err(unusable("not an RSA key; Entra requires RSA keys for client assertions"));
        }
        Ok((Public { certificate, key }, validity))
    }
}

impl Source for VaultSigner {
    fn needs_network(&self) -> bool {
        true
    }

    fn authenticate(&self, context: &Context<'_>) -> Result<ClientAuth, Failure> {
        let (call, now) = (VaultCall::new(context), context.clock.unix());
        let public = self.current(now, || self.read(&call, now))?;
        let text = assertion::unsigned(std::slice::from_ref(&public.certificate), context);
        let hash = b64::url_sha256(text.as_bytes());
        let body = json!({ "alg": "PS256", "value": hash });
        let answer = self.vault.post(&call, &format!("{}/sign", public.key), &body)?;
        let signature = answer["value"].as_str().and_then(b64::from_url);
        let signature = signature
            .ok_or_else(|| Failure::Unavailable(format!("{} sent an answer without a signature", self.vault.name())))?;
        Ok(ClientAuth::Assertion(assertion::signed_with(&text, &signature)))
    }

    fn expires_at(&self, _: u64) -> Option<u64> {
        self.kept.known().map(|(_, validity)| validity.not_after)
    }

    fn reload(&self) {
        self.kept.forget();
    }
}
