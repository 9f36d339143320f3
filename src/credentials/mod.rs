//! How the application proves who it is: an ordered list of credentials, of which the first that
//! yields something is used. A failure moves on to the next and is kept, so that when none is left the
//! operator reads what is wrong with each.

pub mod assertion;
#[cfg(feature = "pfx")]
mod ber;
pub mod certificate;
pub mod cloud;
pub mod federated;
pub mod identity;
pub mod local;
pub mod managed_identity;
pub mod material;
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
pub mod vault;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use source::{ClientAuth, Context, CredentialFailure, Failure, Identities, Source};

use certificate::Certificate;

use crate::config::{CredentialDescription, CredentialSource, Registration};
use crate::secret::Secret;

/// For how long a credential whose upstream is down is passed over where another one works, in seconds: each
/// token would otherwise wait for it first.
const REST: u64 = 60;

/// A credential as configured.
pub struct Credential {
    index: usize,
    source_type: &'static str,
    source: Box<dyn Source>,
    /// Unix seconds until which it is tried last.
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

/// What [`Credentials::inspect`] says of one of them.
#[derive(Debug)]
pub struct Inspection {
    /// Its place in the configuration.
    pub index: usize,
    /// Its `SourceType`.
    pub source_type: &'static str,
    /// Unix seconds at which its certificate expires or expired.
    pub expires_at: Option<u64>,
    /// Why it cannot be used.
    pub result: Result<(), String>,
}

impl Credentials {
    /// From the configuration.
    pub fn new(descriptions: &[CredentialDescription]) -> Self {
        let list = descriptions
            .iter()
            .enumerate()
            .map(|(index, description)| Credential {
                index,
                source_type: description.source.source_type(),
                source: source(&description.source),
                rests_until: AtomicU64::new(0),
            })
            .collect();
        Self { list }
    }

    /// Whether there is none, which is enough to validate tokens.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The first that yields something. What rests is tried after all others.
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

    /// Lets those rest that wait for an upstream, now that another one works.
    fn rest(&self, failures: &[CredentialFailure], now: u64) {
        for failure in failures.iter().filter(|failure| matches!(failure.failure, Failure::Unavailable(_))) {
            self.list[failure.index].rests_until.store(now + REST, Ordering::Relaxed);
        }
    }

    /// The certificates whose keys are at hand, each or why not: what encrypted tokens are decrypted with.
    pub fn certificates(&self, now: u64) -> Vec<Result<Arc<Certificate>, CredentialFailure>> {
        let certificate = |credential: &Credential| {
            let found = credential.source.certificate(now)?;
            Some(found.map_err(|reason| credential.failed(Failure::Unusable(reason))))
        };
        self.list.iter().filter_map(certificate).collect()
    }

    /// Reads those that are elsewhere; what could not be read.
    pub fn fetch(&self, context: &Context<'_>) -> Vec<CredentialFailure> {
        let fetch = |credential: &Credential| {
            let failure = credential.source.fetch(context).err()?;
            Some(credential.failed(failure))
        };
        self.list.iter().filter_map(fetch).collect()
    }

    /// Judges each without the network.
    pub fn inspect(&self, now: u64) -> Vec<Inspection> {
        let inspect = |credential: &Credential| Inspection {
            index: credential.index,
            source_type: credential.source_type,
            expires_at: credential.source.expires_at(now),
            result: credential.source.inspect(now),
        };
        self.list.iter().map(inspect).collect()
    }

    /// Whether at least one can be used as far as this machine can tell; `true` where none is configured.
    pub fn is_usable(&self, now: u64) -> bool {
        self.list.is_empty() || self.list.iter().any(|credential| credential.source.inspect(now).is_ok())
    }

    /// What is wrong with each, where none can be used as far as this machine can tell.
    pub fn unusable(&self, now: u64) -> Option<String> {
        if self.is_usable(now) {
            return None;
        }
        let reason = |own: Inspection| Some(format!("{} ({}): {}", own.index, own.source_type, own.result.err()?));
        let reasons: Vec<_> = self.inspect(now).into_iter().filter_map(reason).collect();
        Some(format!("none can be used: {}", reasons.join("; ")))
    }

    /// Lets all read their files again.
    pub fn reload(&self) {
        for credential in &self.list {
            credential.source.reload();
        }
    }
}

fn source(source: &CredentialSource) -> Box<dyn Source> {
    let stored = |path: &str, wanted| {
        let home = std::env::var_os("HOME").map(Into::into);
        Box::new(local::LocalCertificate::store(store::Store::new(path, home, wanted)))
    };
    let environment = || vault::Environment::new(|name| std::env::var(name).ok());
    match source {
        CredentialSource::ClientSecret(secret) => Box::new(SharedSecret(secret.clone())),
        CredentialSource::Path { certificate, key, password } => {
            Box::new(local::LocalCertificate::file(certificate.clone(), key.clone(), password.clone()))
        }
        CredentialSource::Base64Encoded { value, password } => {
            Box::new(local::LocalCertificate::base64(value.clone(), password.clone()))
        }
        CredentialSource::StoreWithThumbprint { store, thumbprint } => {
            stored(store, store::Wanted::Thumbprint(thumbprint.clone()))
        }
        CredentialSource::StoreWithDistinguishedName { store, name } => {
            stored(store, store::Wanted::DistinguishedName(name.clone()))
        }
        CredentialSource::StoreWithSubjectName { store, name } => {
            stored(store, store::Wanted::SubjectName(name.clone()))
        }
        CredentialSource::SignedAssertionFilePath { path } => Box::new(federated::FederatedToken::new(path.clone())),
        CredentialSource::SignedAssertionFromManagedIdentity { client_id, token_exchange_url } => {
            Box::new(identity::IdentityAssertion::new(client_id.clone(), token_exchange_url.clone()))
        }
        CredentialSource::KeyVault(described) => Box::new(vault::VaultCertificate::new(described, environment())),
        CredentialSource::SignedAssertionFromVault(described) => {
            Box::new(vault::VaultSigner::new(described, environment()))
        }
    }
}

/// A shared secret.
struct SharedSecret(Secret<String>);

impl Source for SharedSecret {
    fn authenticate(&self, _: &Context<'_>) -> Result<ClientAuth, Failure> {
        Ok(ClientAuth::Secret(self.0.clone()))
    }

    fn inspect(&self, _: u64) -> Result<(), String> {
        Ok(())
    }
}

/// The credentials together with the registration that they belong to.
pub struct Client {
    /// As configured.
    pub registration: Arc<Registration>,
    /// Its credentials.
    pub credentials: Credentials,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.registration.section).finish()
    }
}
