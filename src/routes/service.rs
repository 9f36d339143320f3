//! One configuration, made ready to answer with. Immutable but for what it remembers; a reload makes another.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::admit::Admission;
#[cfg(feature = "jwe")]
use super::decryption::Decryption;
use crate::config::{Api, Config};
use crate::credentials::{Client, Credentials};
use crate::jwks::Keys;
use crate::jwt::shr::SignedRequests;
use crate::jwt::{Policy, Validator};
use crate::shr::{RequestSigner, SignerError};

fn folded(name: &str) -> impl Iterator<Item = u8> {
    name.bytes().map(|byte| byte.to_ascii_lowercase())
}

/// A configuration and what was built from it.
pub struct Service {
    /// As loaded.
    pub config: Config,
    /// Who may call.
    pub admission: Admission,
    /// Which tokens are accepted.
    pub validator: Validator,
    /// What it decrypts with.
    #[cfg(feature = "jwe")]
    pub(super) decryption: Decryption,
    /// Which signed requests are.
    pub signed_requests: SignedRequests,
    /// What they are verified with.
    pub keys: Arc<Keys>,
    /// Holds the key that tokens are bound to where the caller has none.
    pub signer: RequestSigner,
    /// In the order of their folded names.
    apis: Vec<Arc<Api>>,
    /// `AzureAd`.
    client: Arc<Client>,
    /// Other registrations by their sections' names in lower case.
    clients: BTreeMap<String, Arc<Client>>,
}

impl Service {
    /// From the configuration. `keys` may outlive it.
    pub fn new(config: Config, keys: Arc<Keys>) -> Result<Self, SignerError> {
        let signed_requests = SignedRequests::new(config.sidecar.pop_validation.clone());
        Self::build(config, keys, signed_requests)
    }

    /// In place of an old one, whose memory of signed requests it takes over.
    pub fn replacing(old: &Self, config: Config, keys: Arc<Keys>) -> Result<Self, SignerError> {
        let signed_requests = old.signed_requests.with(config.sidecar.pop_validation.clone());
        Self::build(config, keys, signed_requests)
    }

    fn build(config: Config, keys: Arc<Keys>, signed_requests: SignedRequests) -> Result<Self, SignerError> {
        let client = |registration: &Arc<_>| -> Arc<Client> {
            let registration: &Arc<crate::config::Registration> = registration;
            let credentials = Credentials::new(&registration.credentials);
            Arc::new(Client { registration: Arc::clone(registration), credentials })
        };
        let admission = Admission::new(
            config.sidecar.allowed_callers.clone(),
            config.allowed_hosts.clone(),
            config.sidecar.caller_token_file.clone(),
        );
        let signer = match &config.sidecar.signed_http_request_key {
            Some(path) => RequestSigner::from_file(path)?,
            None => RequestSigner::generate()?,
        };
        let mut apis = config.apis.clone();
        apis.sort_by(|a, b| folded(&a.name).cmp(folded(&b.name)));
        let policy = Policy {
            reject_bound_as_bearer: config.sidecar.pop_validation.reject_bound_as_bearer,
            ..Policy::of(&config.azure_ad, &config.sidecar.allowed_tenants, config.limits.token_bytes)
        };
        Ok(Self {
            admission,
            signer,
            apis,
            signed_requests,
            validator: Validator::new(policy, config.limits.validated_tokens),
            #[cfg(feature = "jwe")]
            decryption: Decryption::new(&config.azure_ad),
            keys,
            client: client(&config.azure_ad),
            clients: config.registrations.iter().map(|(name, own)| (name.clone(), client(own))).collect(),
            config,
        })
    }

    /// The API of this name, without regard to case.
    pub fn api(&self, name: &str) -> Option<&Arc<Api>> {
        self.apis.binary_search_by(|api| folded(&api.name).cmp(folded(name))).ok().map(|at| &self.apis[at])
    }

    /// Every API, in the order of the names.
    pub fn apis(&self) -> &[Arc<Api>] {
        &self.apis
    }

    /// The registration that acquires for an API.
    pub fn client(&self, api: &Api) -> &Arc<Client> {
        api.registration.as_ref().and_then(|name| self.clients.get(name)).unwrap_or(&self.client)
    }

    /// Each list of credentials of which none can be used, as far as this machine can tell, and why.
    pub fn unusable_credentials(&self, now: u64) -> impl Iterator<Item = String> {
        let of_clients = self.clients().filter_map(move |client| {
            let reasons = client.credentials.unusable(now)?;
            Some(format!("{}:ClientCredentials: {reasons}", client.registration.section))
        });
        #[cfg(feature = "jwe")]
        let of_clients = of_clients.chain(self.decryption.unusable(now));
        of_clients
    }

    /// Every registration.
    pub fn clients(&self) -> impl Iterator<Item = &Arc<Client>> {
        std::iter::once(&self.client).chain(self.clients.values())
    }
}
