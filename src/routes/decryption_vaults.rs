//! The thread that fetches decryption keys from vaults, so that neither startup nor validation
//! waits for them.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use super::call::Shared;
use super::decryption::Decryption;
use super::service::Service;
use crate::clock::Clock;
use crate::credentials::Context;
use crate::outbound::Exchange;
use crate::token::Acquirer;
use crate::value::guid;

/// Between fetches from a vault. Senders switch to a new certificate some time after it is created.
const INTERVAL: Duration = Duration::from_hours(1);

/// Between attempts after a failure.
const RETRY: Duration = Duration::from_secs(30);

/// Reads local keys, then fetches from vaults for as long as the service is in use.
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
    let client = VaultClient::new(shared);
    let keep = move || {
        while let Some(pause) = service.upgrade().map(|service| client.fetch(&service)) {
            if ended.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected) {
                break;
            }
        }
    };
    if let Err(error) = thread::Builder::new().name("decryption-keys".to_owned()).spawn(keep) {
        log::error!("cannot create the thread for decryption keys: {error}");
    }
}

/// Fetches the keys once and waits for them: for one token outside a server.
pub fn fetch(service: &Service, shared: &Shared) {
    if service.decryption.needs_vault() {
        VaultClient::new(shared).fetch(service);
    }
}

/// The clients needed to reach a vault.
struct VaultClient {
    acquirer: Arc<Acquirer>,
    exchange: Arc<dyn Exchange>,
    clock: Arc<dyn Clock>,
}

impl VaultClient {
    fn new(shared: &Shared) -> Self {
        Self {
            acquirer: Arc::clone(&shared.acquirer),
            exchange: Arc::clone(&shared.exchange),
            clock: Arc::clone(&shared.clock),
        }
    }

    /// Fetches the keys. Returns the time until the next fetch.
    fn fetch(&self, service: &Service) -> Duration {
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
