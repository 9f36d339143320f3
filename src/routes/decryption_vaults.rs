//! The thread that asks vaults for decryption keys: neither the start nor a validation waits for an upstream.

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

/// Until a vault is asked again: whoever encrypts takes the new certificate some time after it is there.
const INTERVAL: Duration = Duration::from_hours(1);

/// The same after a failure.
const RETRY: Duration = Duration::from_secs(30);

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
    let way = Way::of(shared);
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

/// Reads all of them now, those in vaults too, for one token that waits for nothing else.
pub fn wait(service: &Service, shared: &Shared) {
    if service.decryption.needs_vault() {
        Way::of(shared).ask(service);
    }
}

/// What it takes to reach a vault.
struct Way {
    acquirer: Arc<Acquirer>,
    exchange: Arc<dyn Exchange>,
    clock: Arc<dyn Clock>,
}

impl Way {
    fn of(shared: &Shared) -> Self {
        Self {
            acquirer: Arc::clone(&shared.acquirer),
            exchange: Arc::clone(&shared.exchange),
            clock: Arc::clone(&shared.clock),
        }
    }

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
