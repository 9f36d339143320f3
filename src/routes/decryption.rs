//! The keys of `TokenDecryptionCredentials`: from files as they are now, from vaults as last
//! fetched.

use std::convert::Infallible;
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};

use crate::config::{CredentialSource, Registration};
use crate::credentials::certificate::Certificate;
use crate::credentials::{Client, CredentialFailure, Credentials};
use crate::jwt::Validator;
use crate::jwt::jwe::DecryptionKey;
use crate::sync::Mutex;

/// The credentials, and the keys last given to the validator.
pub struct Decryption {
    pub(super) client: Arc<Client>,
    seen: Mutex<Vec<Found>>,
    /// Dropped with the service, which wakes and ends the thread that asks the vaults.
    pub(super) in_force: OnceLock<Sender<Infallible>>,
}

type Found = Result<Arc<Certificate>, CredentialFailure>;

impl Decryption {
    /// Reads nothing yet.
    pub fn new(registration: &Arc<Registration>) -> Self {
        let credentials = Credentials::new(&registration.decryption_credentials);
        let client = Arc::new(Client { registration: Arc::clone(registration), credentials });
        Self { client, seen: Mutex::default(), in_force: OnceLock::new() }
    }

    /// Gives the validator the current keys if they have changed, and logs those that cannot be
    /// used.
    pub fn renew(&self, validator: &Validator, now: u64) {
        if self.client.credentials.is_empty() {
            return;
        }
        let found = self.client.credentials.certificates(now);
        let mut seen = self.seen.lock();
        if found.len() == seen.len() && found.iter().zip(&*seen).all(|(one, other)| is_same(one, other)) {
            return;
        }
        let keys = found.iter().filter_map(|found| {
            let key = found.as_ref().map_err(ToString::to_string).and_then(|certificate| {
                let own = certificate.chain.first().map(Vec::as_slice);
                Ok(DecryptionKey::new(&certificate.private_key, own)?)
            });
            key.inspect_err(|reason| self.complain(reason)).ok()
        });
        validator.set_decryption_keys(keys.collect());
        *seen = found;
    }

    /// Why no key can be used, as far as is known without a network. One in a vault may be usable.
    pub fn unusable(&self, now: u64) -> Option<String> {
        let reasons = self.client.credentials.unusable(now)?;
        Some(format!("{}:TokenDecryptionCredentials: {reasons}", self.client.registration.section))
    }

    pub(super) fn complain(&self, reason: &str) {
        log::error!("{}:TokenDecryptionCredentials: {reason}", self.client.registration.section);
    }

    pub(super) fn needs_vault(&self) -> bool {
        let described = &self.client.registration.decryption_credentials;
        described.iter().any(|described| matches!(described.source, CredentialSource::KeyVault(_)))
    }
}

/// Ignores the text of failures, which may contain an age.
fn is_same(one: &Found, other: &Found) -> bool {
    match (one, other) {
        (Ok(one), Ok(other)) => Arc::ptr_eq(one, other),
        (one, other) => one.is_err() && other.is_err(),
    }
}
