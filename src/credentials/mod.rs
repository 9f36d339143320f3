//! How the application authenticates: an ordered list of credentials, of which the first that works
//! is used. Failures are collected, so that if none works the operator sees what is wrong with
//! each.

pub mod assertion;
#[cfg(feature = "pfx")]
mod ber;
pub mod certificate;
pub mod federated;
pub mod form;
pub mod identity;
pub mod local;
pub mod managed_identity;
mod name;
#[cfg(feature = "pfx")]
mod pbe;
pub mod pem;
#[cfg(feature = "pfx")]
mod pkcs12;
mod reason;
mod source;
pub mod store;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod token_response;
pub mod vault;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use source::{ClientAuth, Context, CredentialFailure, Failure, Identities, Source};

use certificate::Certificate;

use crate::config::{CredentialDescription, CredentialSource, Registration};
use crate::secret::Secret;

/// How long a credential whose upstream is down is tried last while another one works, in seconds.
/// Otherwise every token request would wait for it first.
const REST: u64 = 60;

pub struct Credential {
    index: usize,
    source_type: &'static str,
    source: Box<dyn Source>,
    /// Unix seconds; until then, it is tried last.
    rests_until: AtomicU64,
}

impl Credential {
    const fn failed(&self, failure: Failure) -> CredentialFailure {
        CredentialFailure { index: self.index, source_type: self.source_type, failure }
    }
}

/// The credentials of one registration, in order.
pub struct Credentials {
    list: Vec<Credential>,
}

#[derive(Debug)]
pub struct Inspection {
    /// Its position in the configuration.
    pub index: usize,
    pub source_type: &'static str,
    /// Unix seconds at which its certificate expires or expired.
    pub expires_at: Option<u64>,
    pub needs_network: bool,
    /// `Err` is why it cannot be used.
    pub result: Result<(), String>,
}

impl Credentials {
    pub fn new(descriptions: &[CredentialDescription]) -> Self {
        let list = descriptions
            .iter()
            .enumerate()
            .map(|(index, description)| Credential {
                index,
                source_type: description.kind,
                source: source(&description.source),
                rests_until: AtomicU64::new(0),
            })
            .collect();
        Self { list }
    }

    /// A registration that only validates tokens needs no credentials.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns the first that works. Resting credentials are tried after all others.
    pub fn authenticate(&self, context: &Context<'_>) -> Result<ClientAuth, Vec<CredentialFailure>> {
        let now = context.clock.unix();
        let rests = |credential: &&Credential| credential.rests_until.load(Ordering::Relaxed) > now;
        let (resting, awake): (Vec<_>, Vec<_>) = self.list.iter().partition(rests);
        let mut failures = Vec::new();
        for credential in awake.into_iter().chain(resting) {
            match credential.source.authenticate(context) {
                Ok(auth) => {
                    self.rest(&failures, now);
                    return Ok(auth);
                }
                Err(failure) => {
                    let failure = credential.failed(failure);
                    log::warn!("{}: {failure}", context.registration.section);
                    failures.push(failure);
                }
            }
        }
        failures.sort_by_key(|failure| failure.index);
        Err(failures)
    }

    /// Rests those with an unavailable upstream, now that another one works.
    fn rest(&self, failures: &[CredentialFailure], now: u64) {
        for failure in failures.iter().filter(|failure| matches!(failure.failure, Failure::Unavailable(_))) {
            self.list[failure.index].rests_until.store(now + REST, Ordering::Relaxed);
        }
    }

    /// The available certificates, or why one is not usable, for decrypting tokens.
    pub fn certificates(&self, now: u64) -> Vec<Result<Arc<Certificate>, CredentialFailure>> {
        let certificate = |credential: &Credential| {
            let found = credential.source.certificate(now)?;
            Some(found.map_err(|reason| credential.failed(Failure::Unusable(reason))))
        };
        self.list.iter().filter_map(certificate).collect()
    }

    pub fn fetch(&self, context: &Context<'_>) -> Vec<CredentialFailure> {
        let fetch = |credential: &Credential| {
            let failure = credential.source.fetch(context).err()?;
            Some(credential.failed(failure))
        };
        self.list.iter().filter_map(fetch).collect()
    }

    /// Checks each without the network.
    pub fn inspect(&self, now: u64) -> Vec<Inspection> {
        let inspect = |credential: &Credential| Inspection {
            index: credential.index,
            source_type: credential.source_type,
            expires_at: credential.source.expires_at(now),
            needs_network: credential.source.needs_network(),
            result: credential.source.inspect(now),
        };
        self.list.iter().map(inspect).collect()
    }

    /// True if at least one looks usable without the network, or if there are none.
    pub fn is_usable(&self, now: u64) -> bool {
        self.list.is_empty() || self.list.iter().any(|credential| credential.source.inspect(now).is_ok())
    }

    /// What is wrong with each, if none looks usable without the network.
    pub fn unusable(&self, now: u64) -> Option<String> {
        if self.is_usable(now) {
            return None;
        }
        let reason = |own: Inspection| Some(format!("{} ({}): {}", own.index, own.source_type, own.result.err()?));
        let reasons: Vec<_> = self.inspect(now).into_iter().filter_map(reason).collect();
        Some(format!("none can be used: {}", reasons.join("; ")))
    }

    /// Makes each read its files again.
    pub fn reload(&self) {
        for credential in &self.list {
            credential.source.reload();
        }
    }
}

fn source(source: &CredentialSource) -> Box<dyn Source> {
    let environment = || vault::Environment::new(|name| std::env::var(name).ok());
    match source {
        CredentialSource::ClientSecret(secret) => Box::new(SharedSecret(secret.clone())),
        CredentialSource::Path { certificate, key, password } => {
            Box::new(local::LocalCertificate::file(certificate.clone(), key.clone(), password.clone()))
        }
        CredentialSource::Base64Encoded { value, password } => {
            Box::new(local::LocalCertificate::base64(value.clone(), password.clone()))
        }
        CredentialSource::Store { store, wanted } => {
            let home = std::env::var_os("HOME").map(Into::into);
            Box::new(local::LocalCertificate::store(store::Store::new(store, home, wanted.clone())))
        }
        CredentialSource::SignedAssertionFilePath { path } => Box::new(federated::FederatedToken::new(path.clone())),
        CredentialSource::SignedAssertionFromManagedIdentity { client_id, token_exchange_url } => {
            let (client_id, token_exchange_url) = (client_id.clone(), token_exchange_url.clone());
            Box::new(identity::IdentityAssertion { client_id, token_exchange_url })
        }
        CredentialSource::KeyVault(described) => Box::new(vault::VaultCertificate::new(described, environment())),
        CredentialSource::SignedAssertionFromVault(described) => {
            Box::new(vault::VaultSigner::new(described, environment()))
        }
    }
}

struct SharedSecret(Secret<String>);

impl Source for SharedSecret {
    fn authenticate(&self, _: &Context<'_>) -> Result<ClientAuth, Failure> {
        Ok(ClientAuth::Secret(self.0.clone()))
    }
}

pub struct Client {
    pub registration: Arc<Registration>,
    pub credentials: Credentials,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.registration.section).finish()
    }
}
