//! The keys of `TokenDecryptionCredentials`: those in files as they are now, those in a vault as they were read last.
//! A vault is asked by a thread of its own, since neither the start nor a validation waits for an upstream.

use std::convert::Infallible;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use super::{Service, Shared};
use crate::clock::Clock;
use crate::config::{CredentialSource, Registration};
use crate::credentials::certificate::Certificate;
use crate::credentials::{Client, Context, CredentialFailure, Credentials};
use crate::jwt::Validator;
use crate::jwt::jwe::DecryptionKey;
use crate::outbound::Exchange;
use crate::token::Acquirer;
use crate::value::guid;

/// Until a vault is asked again: whoever encrypts takes the new certificate some time after it is there.
const INTERVAL: Duration = Duration::from_hours(1);

/// The same after a failure.
const RETRY: Duration = Duration::from_secs(30);

/// The credentials, and what the validator's keys were made of.
pub struct Decryption {
    client: Arc<Client>,
    seen: Mutex<Vec<Found>>,
    /// What goes with the service wakes the thread that asks the vaults, and ends it.
    in_force: OnceLock<Sender<Infallible>>,
}

type Found = Result<Arc<Certificate>, CredentialFailure>;

impl Decryption {
    /// Nothing is read yet.
    pub fn new(registration: &Arc<Registration>) -> Self {
        let credentials = Credentials::new(&registration.decryption_credentials);
        let client = Arc::new(Client { registration: Arc::clone(registration), credentials });
        Self { client, seen: Mutex::default(), in_force: OnceLock::new() }
    }

    /// Gives the validator the keys of now, where they are others than before, and says which cannot be used.
    pub fn renew(&self, validator: &Validator, now: u64) {
        if self.client.credentials.is_empty() {
            return;
        }
        let found = self.client.credentials.certificates(now);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if found.len() == seen.len() && found.iter().zip(&*seen).all(|(one, other)| is_same(one, other)) {
            return;
        }
        let keys = found.iter().filter_map(|found| {
            let key = found.as_ref().map_err(ToString::to_string).and_then(|certificate| {
                let own = certificate.chain.first().map(Vec::as_slice);
                DecryptionKey::new(&certificate.private_key, own).map_err(|error| error.to_string())
            });
            key.inspect_err(|reason| self.complain(reason)).ok()
        });
        validator.set_decryption_keys(keys.collect());
        *seen = found;
    }

    /// Why none can be used, as far as this machine can tell: what is in a vault may be usable.
    pub fn unusable(&self, now: u64) -> Option<String> {
        let reasons = self.client.credentials.unusable(now)?;
        Some(format!("{}:TokenDecryptionCredentials: {reasons}", self.client.registration.section))
    }

    fn complain(&self, reason: &str) {
        log::error!("{}:TokenDecryptionCredentials: {reason}", self.client.registration.section);
    }

    fn needs_vault(&self) -> bool {
        let described = &self.client.registration.decryption_credentials;
        described.iter().any(|described| matches!(described.source, CredentialSource::KeyVault(_)))
    }
}

/// A failure's words may tell how long ago something was.
fn is_same(one: &Found, other: &Found) -> bool {
    match (one, other) {
        (Ok(one), Ok(other)) => Arc::ptr_eq(one, other),
        (one, other) => one.is_err() && other.is_err(),
    }
}

/// Reads what is on this machine, and starts to ask the vaults for as long as the service is in force.
pub fn start(service: &Arc<Service>, shared: &Shared) {
    service.decryption.renew(&service.validator, shared.clock.unix());
    if !service.decryption.needs_vault() {
        return;
    }
    let (in_force, ended) = channel();
    if service.decryption.in_force.set(in_force).is_err() {
        return;
    }
    let service = Arc::downgrade(service);
    let way = Way {
        acquirer: Arc::clone(&shared.acquirer),
        exchange: Arc::clone(&shared.exchange),
        clock: Arc::clone(&shared.clock),
    };
    let keep = move || {
        while let Some(pause) = service.upgrade().map(|service| way.ask(&service)) {
            if ended.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected) {
                break;
            }
        }
    };
    if let Err(error) = thread::Builder::new().name("decryption-keys".to_owned()).spawn(keep) {
        log::error!("no thread for decryption keys: {error}");
    }
}

/// What it takes to reach a vault.
struct Way {
    acquirer: Arc<Acquirer>,
    exchange: Arc<dyn Exchange>,
    clock: Arc<dyn Clock>,
}

impl Way {
    /// Reads what is in vaults; for how long that is enough.
    fn ask(&self, service: &Service) -> Duration {
        let Decryption { client, .. } = &service.decryption;
        let correlation_id = guid::random();
        let context = Context {
            audience: "",
            registration: &client.registration,
            clock: &*self.clock,
            exchange: &*self.exchange,
            identities: &self.acquirer.identities(client, correlation_id.as_str()),
            correlation_id: correlation_id.as_str(),
        };
        client.credentials.reload();
        let failures = client.credentials.fetch(&context);
        for failure in &failures {
            service.decryption.complain(&failure.to_string());
        }
        service.decryption.renew(&service.validator, self.clock.unix());
        if failures.is_empty() { INTERVAL } else { RETRY }
    }
}
