//! A configuration and everything built from it. Immutable apart from its caches. A reload builds
//! another one.

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
use crate::shr::RequestSigner;
use crate::token::key::KnownRequests;

fn folded(name: &str) -> impl Iterator<Item = u8> {
    name.bytes().map(|byte| byte.to_ascii_lowercase())
}

pub struct Service {
    pub config: Config,
    pub admission: Admission,
    pub validator: Validator,
    #[cfg(feature = "jwe")]
    pub(super) decryption: Decryption,
    /// Verifies inbound signed requests.
    pub signed_requests: SignedRequests,
    /// The signing keys of Entra.
    pub keys: Arc<Keys>,
    /// Signs requests with the sidecar's own key.
    pub signer: RequestSigner,
    /// Sorted by case-folded name.
    apis: Vec<(Arc<Api>, KnownRequests)>,
    /// The registration in `AzureAd`.
    client: Arc<Client>,
    /// Other registrations, by the lower-case name of their section.
    clients: BTreeMap<String, Arc<Client>>,
}

impl Service {
    /// Builds a service. `keys` may outlive it.
    pub fn new(config: Config, keys: Arc<Keys>) -> Result<Self, String> {
        let signed_requests = SignedRequests::new(config.sidecar.pop_validation.clone());
        Self::build(config, keys, signed_requests)
    }

    /// Builds the successor of a service, which takes over its record of signed requests.
    pub fn replacing(old: &Self, config: Config, keys: Arc<Keys>) -> Result<Self, String> {
        let signed_requests = old.signed_requests.with(config.sidecar.pop_validation.clone());
        Self::build(config, keys, signed_requests)
    }

    fn build(config: Config, keys: Arc<Keys>, signed_requests: SignedRequests) -> Result<Self, String> {
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
            apis: apis.into_iter().map(|api| (api, KnownRequests::default())).collect(),
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

    /// Finds an API by name, ignoring case.
    pub fn api(&self, name: &str) -> Option<&Arc<Api>> {
        self.api_with_requests(name).map(|(api, _)| api)
    }

    /// As [`Self::api`], with what is known of its token requests.
    pub fn api_with_requests(&self, name: &str) -> Option<(&Arc<Api>, &KnownRequests)> {
        let at = self.apis.binary_search_by(|(api, _)| folded(&api.name).cmp(folded(name))).ok()?;
        let (api, known) = &self.apis[at];
        Some((api, known))
    }

    pub fn apis(&self) -> impl Iterator<Item = &Arc<Api>> + Clone {
        self.apis.iter().map(|(api, _)| api)
    }

    /// The registration that acquires tokens for an API.
    pub fn client(&self, api: &Api) -> &Arc<Client> {
        api.registration.as_ref().and_then(|name| self.clients.get(name)).unwrap_or(&self.client)
    }

    /// For each list of credentials of which none is usable, as far as is known without a network:
    /// the reason.
    pub fn unusable_credentials(&self, now: u64) -> impl Iterator<Item = String> {
        let of_clients = self.clients().filter_map(move |client| {
            let reasons = client.credentials.unusable(now)?;
            Some(format!("{}:ClientCredentials: {reasons}", client.registration.section))
        });
        #[cfg(feature = "jwe")]
        let of_clients = of_clients.chain(self.decryption.unusable(now));
        of_clients
    }

    pub fn clients(&self) -> impl Iterator<Item = &Arc<Client>> {
        std::iter::once(&self.client).chain(self.clients.values())
    }
}
