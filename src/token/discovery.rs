//! Discovers the token endpoints of authorities other than Entra, customer directories and B2C.
//! Their metadata names it (OpenID Connect Discovery 1.0 §3); it is fetched once and cached.

use std::collections::BTreeMap;
use std::time::Duration;

use super::error::Error;
use crate::config::Registration;
use crate::jwks;
use crate::outbound::Exchange;
use crate::sync::Mutex;
use crate::value::url::Url;

/// By authority.
#[derive(Debug, Default)]
pub struct Discovery(Mutex<BTreeMap<String, Url>>);

/// The authority to query; `None` if the endpoint follows from the configuration.
fn authority_to_query(registration: &Registration) -> Option<&Url> {
    let follows = |authority: &&Url| registration.policy.is_some() || authority.origin.ciam_tenant().is_some();
    registration.authority.as_ref().filter(|authority| !follows(authority))
}

impl Discovery {
    pub fn known(&self, registration: &Registration) -> Option<Url> {
        let authority = authority_to_query(registration)?;
        self.0.lock().get(&authority.to_string()).cloned()
    }

    /// Returns the endpoint in the metadata, which is fetched if necessary. `None` if it follows
    /// from the configuration.
    pub fn ask(
        &self,
        registration: &Registration,
        exchange: &dyn Exchange,
        timeout: Duration,
    ) -> Result<Option<Url>, Error> {
        let Some(authority) = authority_to_query(registration) else { return Ok(None) };
        if let Some(known) = self.known(registration) {
            return Ok(Some(known));
        }
        let found = jwks::token_endpoint(registration, exchange, timeout).map_err(|error| {
            Error::unavailable(format!(
                "failed to read the token endpoint in the metadata of {}: {error}",
                authority.origin
            ))
        })?;
        let mut known = self.0.lock();
        known.insert(authority.to_string(), found.clone());
        Ok(Some(found))
    }

    pub fn clear(&self) {
        self.0.lock().clear();
    }
}
